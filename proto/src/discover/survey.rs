//! Both surveys of one address family, and what each learns from the other.

use std::net::SocketAddr;
use std::time::Instant;

use ntcp_stun::behavior::{MappingTest, ServerState};

use super::Event;
use super::outbox::Outbox;
use super::tcp::{Contact, TcpSurvey, Wishes};
use super::udp::UdpSurvey;
use crate::address::{Family, canonical};
use crate::candidate::Transport;
use crate::command::Input;
use crate::entropy::Entropy;
use crate::machine::Deadline;
use crate::uri::TransportChoice;

/// Both surveys, of one family.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) family: Family,
    pub(super) udp: Option<UdpSurvey>,
    pub(super) tcp: Option<TcpSurvey>,
    pub(super) contacted: Vec<SocketAddr>,
    reported: Vec<Transport>,
}

impl Survey {
    /// Starts both, as far as `transport` allows.
    pub(super) fn new(
        (family, transport, wishes): (Family, TransportChoice, Wishes),
        entropy: &mut Entropy,
        outbox: &mut Outbox,
        now: Instant,
    ) -> Self {
        let (udp, tcp) = (Entropy::new(entropy.seed()), Entropy::new(entropy.seed()));
        let udp = transport.allows_udp().then(|| UdpSurvey::new(family, udp, outbox));
        let tcp = transport.allows_tcp().then(|| TcpSurvey::new(family, wishes, tcp, now));
        Self { family, udp, tcp, contacted: Vec::new(), reported: Vec::new() }
    }

    pub(super) fn contact(&mut self, server: SocketAddr, outbox: &mut Outbox, now: Instant) {
        self.contacted.push(server);
        if let Some(udp) = &mut self.udp {
            udp.contact(server, outbox, now);
        }
        if let Some(tcp) = &mut self.tcp {
            tcp.contact(server, outbox, now);
        }
    }

    /// Each survey learns from the other how far the servers are and which have two addresses.
    pub(super) fn share_knowledge(&mut self, outbox: &mut Outbox, now: Instant) {
        let (Some(udp), Some(tcp)) = (&mut self.udp, &mut self.tcp) else { return };
        if let Some(rtt) = tcp.rtt() {
            udp.hint(rtt, outbox, now);
        }
        let Some(test) = udp.mapping_test() else { return };
        for (_, state, rtt) in test.servers() {
            match (state, rtt) {
                (ServerState::TwoAddresses(alternate), Some(rtt)) => {
                    tcp.announce(alternate, rtt, outbox, now);
                }
                (_, Some(rtt)) => tcp.hint(rtt),
                (_, None) => {}
            }
        }
    }

    /// The transports on which the first answer has come in.
    pub(super) fn news(&mut self) -> Vec<Event> {
        let first = |survey: Option<Vec<_>>| survey.and_then(|seen| seen.into_iter().next());
        let udp = self.udp.as_ref().and_then(UdpSurvey::mapping_test);
        let udp = first(udp.map(MappingTest::observations));
        let tcp = first(self.tcp.as_ref().map(TcpSurvey::observations));
        let mut news = Vec::new();
        for (transport, seen) in [(Transport::Udp, udp), (Transport::Tcp, tcp)] {
            let Some(seen) = seen.filter(|_| !self.reported.contains(&transport)) else { continue };
            let (server, public_address) = (seen.destination, seen.mapped);
            self.reported.push(transport);
            news.push(Event::Reachable { transport, server, public_address });
        }
        news
    }

    pub(super) fn has_answer(&self) -> bool {
        let udp = self.udp.as_ref().and_then(UdpSurvey::mapping_test);
        let tcp = self.tcp.as_ref().map(TcpSurvey::contacts);
        udp.is_some_and(|it| !it.observations().is_empty())
            || tcp.into_iter().flatten().any(|(_, it)| matches!(it, Contact::Answered(_)))
    }

    pub(super) fn is_settled(&self) -> bool {
        self.udp.as_ref().is_none_or(UdpSurvey::is_settled)
            && self.tcp.as_ref().is_none_or(TcpSurvey::is_settled)
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let udp = self.udp.as_ref().and_then(UdpSurvey::poll_timeout);
        let tcp = self.tcp.as_ref().and_then(TcpSurvey::poll_timeout);
        Deadline::earlier(udp, tcp)
    }

    pub(super) fn handle_timeout(&mut self, outbox: &mut Outbox, now: Instant) {
        if let Some(udp) = &mut self.udp {
            udp.handle_timeout(outbox, now);
        }
        if let Some(tcp) = &mut self.tcp {
            tcp.handle_timeout(outbox, now);
        }
    }

    pub(super) fn handle_input(&mut self, input: Input<'_>, outbox: &mut Outbox, now: Instant) {
        match (input, &mut self.udp, &mut self.tcp) {
            (Input::UdpReceived { socket, source, payload }, Some(udp), _) => {
                udp.on_datagram(socket, (canonical(source), payload), outbox, now);
            }
            (Input::TcpReceived { socket, payload }, _, Some(tcp)) => {
                tcp.on_message(socket, payload, outbox, now);
            }
            (Input::TcpAccepted { listener, socket, .. }, _, Some(tcp)) => {
                tcp.on_accepted((listener, socket), outbox);
            }
            (Input::Captured { socket, segment }, _, Some(tcp)) => {
                tcp.on_captured(socket, segment.sequence);
            }
            (Input::TcpClosed { socket, reason }, _, Some(tcp)) => {
                tcp.on_closed(socket, reason, outbox, now);
            }
            (input, _, _) => tracing::trace!(?input, "not for a discovery"),
        }
    }
}
