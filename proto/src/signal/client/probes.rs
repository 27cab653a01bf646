//! Lets the broker find out what its network lets out, if the owner of this peer agreed: opens our
//! NAT for another consenting peer, and says when a datagram in that peer's name has arrived.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::{Class, Method, Writer};

use super::core::{Core, Standing};
use super::error::Link;
use crate::Command;
use crate::address::{canonical, is_usable};
use crate::signal::SignalMethod;
use crate::signal::message::{Body, Message};

/// TTL of the datagram that opens our NAT: past a home's and a carrier's, hardly to the peer's,
/// which may take it amiss.
const OPENER_TTL: u8 = 5;
/// How long a probe may take to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a Binding indication without attributes (RFC 8489 section 5).
const OPENER_BYTES: usize = 20;

/// The probe that is expected.
#[derive(Debug, Default)]
pub(super) struct Probes {
    expected: Option<(SocketAddr, Instant)>,
}

impl Probes {
    /// The broker asks us to expect a datagram from `peer`. One at a time: a broker shall not make
    /// us send to many.
    pub(super) fn handle_probe(
        &mut self,
        core: &mut Core,
        standing: &Standing,
        (message, peer): (&Message, SocketAddr),
        now: Instant,
    ) {
        let peer = canonical(peer);
        let repeated = matches!(self.expected, Some((expected, _)) if expected == peer);
        let busy = self.expected.is_some_and(|(_, until)| until > now) && !repeated;
        let suits = is_usable(peer) && peer.is_ipv4() == standing.way.remote.is_ipv4();
        if !core.config.consents || standing.way.link != Link::Udp || busy || !suits {
            return;
        }
        self.expected = Some((peer, now + PATIENCE));
        let mut payload = [0; OPENER_BYTES];
        let transaction = core.transaction();
        let written = Writer::new(&mut payload, Class::Indication, Method::BINDING, transaction);
        if written.map(Writer::finish).is_ok() {
            let (id, socket) = (core.names.command(), standing.way.socket);
            let (ttl, payload) = (Some(OPENER_TTL), payload.to_vec());
            core.commands.push_back(Command::SendUdp { id, socket, remote: peer, ttl, payload });
        }
        core.send(standing, &message.answer(Body::Probing));
    }

    /// Whether a datagram from `source` may be the probe.
    pub(super) fn expects(&self, source: SocketAddr, payload: &[u8]) -> bool {
        self.expected.is_some_and(|(expected, _)| expected == source)
            && super::receive::method_of(payload) == Some(SignalMethod::Probe)
    }

    /// It may be: if the broker has signed it, it is told that it arrived.
    pub(super) fn handle_arrival(&self, core: &mut Core, standing: &Standing, payload: &[u8]) {
        let Ok(received) = Message::parse(payload) else { return };
        let Message { transaction, nonce, body, .. } = &received.message;
        if *body == Body::Probed && nonce.is_some() && received.is_signed_by(&standing.key) {
            let echo = Message::new(*transaction, Body::Probed);
            let registration = Some(standing.registration);
            core.send(standing, &Message { nonce: nonce.clone(), registration, ..echo });
        }
    }
}
