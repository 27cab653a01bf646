//! Asking for the broker over UDP.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::MAX_ADDRESSES;
use crate::address::{Family, canonical};
use crate::command::{CommandId, IoFailure};
use crate::signal::client::core::{Core, Way};
use crate::signal::client::{Link, LinkError};
use crate::signal::message::Message;
use crate::signal::{Ladder, Pace};
use crate::uri::HostPort;

/// Asking over UDP.
#[derive(Debug)]
pub(super) enum UdpSide {
    Unused,
    Resolving { command: CommandId, broker: HostPort },
    Probing(Probe),
    Failed(LinkError),
}

/// A Register without a nonce on its way to every address.
#[derive(Debug)]
pub(super) struct Probe {
    broker: HostPort,
    pub(super) ways: Vec<Way>,
    pub(super) transaction: TransactionId,
    pub(super) ladder: Ladder,
    /// Sendings that the system has not confirmed yet.
    sending: BTreeSet<CommandId>,
    /// Whether the system took any datagram at all.
    taken: bool,
}

impl UdpSide {
    /// The broker's name was looked up.
    pub(super) fn on_resolved(
        &mut self,
        core: &mut Core,
        id: CommandId,
        result: Result<Vec<SocketAddr>, IoFailure>,
        now: Instant,
    ) {
        if let Self::Resolving { command, broker } = self
            && *command == id
        {
            *self = Probe::start(core, broker.clone(), result, now);
        }
    }

    /// The system took a datagram, or did not.
    pub(super) fn on_sent(&mut self, id: CommandId, result: Result<(), IoFailure>) {
        let Self::Probing(probe) = self else { return };
        if !probe.sending.remove(&id) {
            return;
        }
        match result {
            Ok(()) => probe.taken = true,
            // The system took nothing, on no address: there is no use in waiting.
            Err(reason) if probe.sending.is_empty() && !probe.taken => {
                let (broker, remote) = (probe.broker.clone(), probe.ways[0].remote);
                *self = Self::Failed(LinkError::Failed { link: Link::Udp, broker, remote, reason });
            }
            Err(_) => {}
        }
    }

    /// What happened until now, if nothing more will; `None` if UDP was not asked for.
    pub(super) fn error(&self, waited: Duration) -> Option<LinkError> {
        let link = Link::Udp;
        match self {
            Self::Unused => None,
            Self::Resolving { broker, .. } => {
                let (broker, reason) = (broker.clone(), IoFailure::TimedOut);
                Some(LinkError::Unresolved { link, broker, reason })
            }
            Self::Probing(probe) => {
                let (broker, remote) = (probe.broker.clone(), probe.ways[0].remote);
                Some(LinkError::Silent { link, broker, remote, waited })
            }
            Self::Failed(error) => Some(error.clone()),
        }
    }
}

impl Probe {
    /// Asks every address that a lent socket can reach.
    fn start(
        core: &mut Core,
        broker: HostPort,
        result: Result<Vec<SocketAddr>, IoFailure>,
        now: Instant,
    ) -> UdpSide {
        let addresses = match result {
            Ok(addresses) => addresses,
            Err(reason) => {
                return UdpSide::Failed(LinkError::Unresolved { link: Link::Udp, broker, reason });
            }
        };
        let way = |remote: SocketAddr| {
            let socket = core.sockets.get(&Family::of(remote.ip()))?;
            Some(Way { link: Link::Udp, socket: *socket, remote })
        };
        let ways: Vec<Way> =
            addresses.into_iter().map(canonical).filter_map(way).take(MAX_ADDRESSES).collect();
        if ways.is_empty() {
            return UdpSide::Failed(LinkError::NoCommonFamily { link: Link::Udp, broker });
        }
        let mut probe = Self {
            broker,
            ways,
            transaction: core.transaction(),
            ladder: Ladder::repeating(Pace::of(None)),
            sending: BTreeSet::new(),
            taken: false,
        };
        probe.send(core, now);
        UdpSide::Probing(probe)
    }

    pub(super) fn send(&mut self, core: &mut Core, now: Instant) {
        let transmit = self.ladder.sent(now);
        let message = Message::new(self.transaction, core.first_register());
        let message = Message { transmit: Some(transmit), ..message };
        for way in &self.ways {
            self.sending.insert(core.send_unsigned(*way, &message));
        }
    }
}
