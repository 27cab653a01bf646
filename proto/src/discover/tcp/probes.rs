//! What only a server that connects back can tell: filtering, the answer to a SYN nobody asked for,
//! and the fate of a SYN that crosses another.
//!
//! ```text
//!  a fresh port for each test, and each test twice
//!
//!  filtering   client ══════════ connected ═════════▶ server:p
//!              client listens on that port
//!              client ◀── SYN ──┤ NAT ├── from another port, or another address
//!  unsolicited client ══════════ connected ═════════▶ server:p
//!                        ◀ SYN ─┤ NAT ├── to a port that nobody uses
//!  crossing    client ══════════ connected ═════════▶ server:p
//!              client ── SYN ────────────────────────▶ server:q, which neither answers nor refuses
//!              client ◀── SYN ──┤ NAT ├── from q
//! ```
//!
//! [`ntcp_stun::probe`] has the messages. Nothing here is taken for a measurement but what both ends
//! agree on: a connection counts as let in when its token arrived here, and as kept out when the
//! server met with something else. What a lost packet hides stays untold. A test that needs no longer
//! than a SYN and its answer ends before the system would send a lost SYN again, so that it is known
//! whose SYN was answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::probe::{self, Interval, Met, Offer, Outcome, Reply, Test, Wish};
use ntcp_stun::{Message, TransactionId};

use super::super::outbox::Outbox;
use super::super::udp::any;
use crate::address::{Family, canonical};
use crate::command::{CommandId, Ends, IoFailure, SocketId};
use crate::entropy::Entropy;
use crate::machine::Deadline;
use crate::nat::{Filtering, InboundSynAfterSyn, Mapping, UnsolicitedSyn};

/// How often each test is made: a lost SYN would cost a second.
const COPIES: usize = 2;
/// What is probed, in this order.
const GOALS: [Test; 4] = [Test::OtherAddress, Test::OtherPort, Test::Unused, Test::Cross];
/// What a busy host or a queue may add to two round trips before silence is believed.
const SLACK: Duration = Duration::from_millis(200);
/// The longest that silence is waited for: a lost SYN is sent again after a second.
const MAX_PATIENCE: Duration = Duration::from_millis(800);
/// What the client's SYN is ahead of the request for the one that crosses it: packets may overtake
/// each other, and a SYN that meets the client's own at the server proves nothing about the NAT.
const LEAD: Duration = Duration::from_millis(20);
/// Connections that are taken on one probing port.
const MAX_ACCEPTED: usize = 4;

/// The tests at one server.
#[derive(Debug)]
pub(super) struct Probes {
    probes: Vec<Probe>,
    patience: Duration,
    end: Instant,
    is_over: bool,
}

/// One test on one connection.
#[derive(Debug)]
struct Probe {
    test: Test,
    connect: CommandId,
    socket: SocketId,
    remote: SocketAddr,
    stage: Stage,
    /// The port of the connection, listening.
    listener: Option<SocketId>,
    accepted: Vec<SocketId>,
    /// The request whose token has been, or is to be, seen here.
    token: TransactionId,
    is_token_seen: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Connecting,
    /// A listener is being opened by this command.
    Opening(CommandId),
    /// A quiet port was asked for, from this end.
    Reserving(SocketAddr),
    /// This connect to the quiet port has begun; a SYN from there is asked for later.
    Crossing(CommandId, Instant),
    /// The outcome was asked for; a connect to the quiet port is perhaps under way.
    Asked(Option<CommandId>),
    Told(Outcome),
    Failed,
}

impl Probe {
    fn is_finished(&self) -> bool {
        match self.stage {
            // The token may come after the outcome: both travel on connections of their own.
            Stage::Told(outcome) => outcome.result != Met::Connected || self.is_proven(),
            Stage::Failed => true,
            Stage::Connecting
            | Stage::Opening(_)
            | Stage::Reserving(_)
            | Stage::Crossing(..)
            | Stage::Asked(_) => false,
        }
    }

    /// Whether a connection of the server needs no further proof.
    fn is_proven(&self) -> bool {
        self.is_token_seen || self.test == Test::Unused
    }

    /// Sends a SYN to the quiet port; the server's is asked for a little later, so that it cannot
    /// overtake.
    fn cross(&mut self, local: SocketAddr, quiet: SocketAddr, outbox: &mut Outbox, now: Instant) {
        if quiet.ip() != self.remote.ip() || quiet.port() == 0 {
            // A SYN goes to nobody but the server.
            self.stage = Stage::Failed;
            return;
        }
        let (connect, stream) = outbox.connect_tcp(everywhere(local), quiet);
        self.accepted.push(stream);
        self.stage = Stage::Crossing(connect, now + LEAD);
    }

    fn ask(&self, test: Test, patience: Duration, outbox: &mut Outbox) {
        let wish = Wish { test, patience: Interval::of(patience) };
        outbox.send_tcp(self.socket, probe::order(self.token, wish));
    }

    /// The name of the connect to the quiet port, while it matters.
    fn crossing(&self) -> Option<CommandId> {
        match self.stage {
            Stage::Crossing(connect, _) | Stage::Asked(Some(connect)) => Some(connect),
            Stage::Connecting
            | Stage::Opening(_)
            | Stage::Reserving(_)
            | Stage::Asked(None)
            | Stage::Told(_)
            | Stage::Failed => None,
        }
    }

    fn outcome(&self) -> Option<Met> {
        match self.stage {
            Stage::Told(outcome) if outcome.result != Met::NotTried => Some(outcome.result),
            _ => None,
        }
    }
}

impl Probes {
    /// Begins the tests that `server`, a round trip away, offers.
    pub(super) fn new(
        family: Family,
        (server, offer, rtt): (SocketAddr, Offer, Duration),
        entropy: &mut Entropy,
        outbox: &mut Outbox,
        now: Instant,
    ) -> Self {
        let goals = GOALS.into_iter().filter(|goal| match goal {
            Test::Cross => offer.includes(Test::Cross) && offer.includes(Test::Reserve),
            other => offer.includes(*other),
        });
        let copies = goals.flat_map(|goal| [goal; COPIES]);
        let probes = copies.map(|test| {
            let (connect, socket) = outbox.connect_tcp(any(family), server);
            Probe {
                test,
                connect,
                socket,
                remote: server,
                stage: Stage::Connecting,
                listener: None,
                accepted: Vec::new(),
                token: entropy.transaction_id(),
                is_token_seen: false,
            }
        });
        let patience = (rtt * 2 + SLACK).min(MAX_PATIENCE);
        // To connect, to reserve, to ask, and for the last answer to come back.
        let end = now + rtt * 4 + LEAD + patience + SLACK;
        Self { probes: probes.collect(), patience, end, is_over: false }
    }

    pub(super) fn on_connected(
        &mut self,
        id: CommandId,
        result: &Result<Ends, IoFailure>,
        outbox: &mut Outbox,
    ) {
        let crossing = |it: &&mut Probe| it.crossing() == Some(id);
        if let Some(probe) = self.probes.iter_mut().find(crossing) {
            if result.is_err() {
                // Somebody refused it, and what that does to the NAT is another test.
                probe.stage = Stage::Failed;
            }
            return;
        }
        let Some(probe) = self.probes.iter_mut().find(|it| it.connect == id) else { return };
        let Stage::Connecting = probe.stage else { return };
        let Ok(ends) = result else {
            outbox.forget(probe.socket);
            probe.stage = Stage::Failed;
            return;
        };
        let local = canonical(ends.local);
        match probe.test {
            Test::OtherAddress | Test::OtherPort => {
                let (open, listener) = outbox.listen_tcp(everywhere(local));
                probe.listener = Some(listener);
                probe.stage = Stage::Opening(open);
            }
            Test::Unused => {
                probe.stage = Stage::Asked(None);
                probe.ask(Test::Unused, self.patience, outbox);
            }
            Test::Reserve | Test::Cross => {
                probe.stage = Stage::Reserving(local);
                probe.ask(Test::Reserve, self.patience, outbox);
            }
        }
    }

    pub(super) fn on_bound(
        &mut self,
        id: CommandId,
        result: &Result<SocketAddr, IoFailure>,
        outbox: &mut Outbox,
    ) {
        let opening = |it: &&mut Probe| matches!(it.stage, Stage::Opening(it) if it == id);
        let Some(probe) = self.probes.iter_mut().find(opening) else { return };
        if result.is_err() {
            outbox.forget(probe.listener.take().unwrap_or(probe.socket));
            probe.stage = Stage::Failed;
            return;
        }
        probe.stage = Stage::Asked(None);
        probe.ask(probe.test, self.patience, outbox);
    }

    pub(super) fn on_accepted(&mut self, listener: SocketId, socket: SocketId) {
        let Some(probe) = self.probes.iter_mut().find(|it| it.listener == Some(listener)) else {
            return;
        };
        if probe.accepted.len() < MAX_ACCEPTED && !probe.accepted.contains(&socket) {
            probe.accepted.push(socket);
        }
    }

    /// A whole message arrived.
    pub(super) fn on_message(
        &mut self,
        socket: SocketId,
        payload: &[u8],
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let message = Message::parse(payload).ok();
        if let Some(probe) = self.probes.iter_mut().find(|it| it.accepted.contains(&socket)) {
            probe.is_token_seen |=
                message.and_then(|it| probe::read_token(&it)) == Some(probe.token);
            return;
        }
        let Some(probe) = self.probes.iter_mut().find(|it| it.socket == socket) else { return };
        let reply = message.filter(|it| it.transaction_id() == probe.token);
        let Some(reply) = reply.and_then(|it| Reply::read(&it)) else { return };
        match (probe.stage, reply) {
            (Stage::Reserving(local), Reply::Reserved(quiet)) => {
                probe.cross(local, canonical(quiet), outbox, now);
            }
            (Stage::Asked(_), Reply::Ended { outcome, .. }) => probe.stage = Stage::Told(outcome),
            (Stage::Reserving(_) | Stage::Asked(_), _) => probe.stage = Stage::Failed,
            (Stage::Connecting | Stage::Opening(_) | Stage::Crossing(..), _)
            | (Stage::Told(_) | Stage::Failed, _) => {}
        }
    }

    /// A stream ended.
    pub(super) fn on_closed(&mut self, socket: SocketId) {
        let Some(probe) = self.probes.iter_mut().find(|it| it.socket == socket) else { return };
        if !matches!(probe.stage, Stage::Told(_)) {
            probe.stage = Stage::Failed;
        }
    }

    pub(super) fn handle_timeout(&mut self, outbox: &mut Outbox, now: Instant) {
        for probe in &mut self.probes {
            if let Stage::Crossing(connect, at) = probe.stage
                && at <= now
            {
                probe.stage = Stage::Asked(Some(connect));
                probe.ask(Test::Cross, self.patience, outbox);
            }
        }
        self.is_over |= now >= self.end;
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        if self.is_settled() {
            return None;
        }
        let crossing = self.probes.iter().filter_map(|it| match it.stage {
            Stage::Crossing(_, at) => Some(Deadline::new(at, "ask for a SYN that crosses")),
            _ => None,
        });
        let end = Deadline::new(self.end, "end the tests that connect back");
        crossing.chain([end]).min_by_key(|it| it.at)
    }

    /// Whether nothing more is to come: each test has ended as often as it was begun, but for copies
    /// that did not even connect.
    pub(super) fn is_settled(&self) -> bool {
        let has_ended = |goal: &Test| {
            let mut copies = self.probes.iter().filter(|it| it.test == *goal);
            copies.clone().all(Probe::is_finished)
                || (copies.clone().any(|it| it.outcome().is_some())
                    && copies.all(|it| it.is_finished() || matches!(it.stage, Stage::Connecting)))
        };
        self.is_over || GOALS.iter().all(has_ended)
    }

    fn copies(&self, test: Test) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(move |it| it.test == test)
    }

    /// Whether the NAT let a connection of this kind in; `None` if that is not known.
    fn passage(&self, test: Test) -> Option<bool> {
        if self.copies(test).any(|it| it.is_token_seen) {
            return Some(true);
        }
        let met = || self.copies(test).filter_map(Probe::outcome);
        let is_doubtful = met().any(|it| it == Met::Connected);
        (met().next().is_some() && !is_doubtful).then_some(false)
    }

    /// Whose SYNs come in.
    pub(super) fn filtering(&self) -> Option<Filtering> {
        match (self.passage(Test::OtherAddress), self.passage(Test::OtherPort)) {
            (Some(true), _) => Some(Filtering::EndpointIndependent),
            (Some(false), Some(true)) => Some(Filtering::AddressDependent),
            // Who lets no other port in lets no other address in.
            (Some(false) | None, Some(false)) => Some(Filtering::AddressAndPortDependent),
            (Some(false), None) | (None, Some(true) | None) => None,
        }
    }

    /// What a SYN to a port that nobody uses meets with; a word counts more than silence.
    pub(super) fn unsolicited_syn(&self) -> Option<UnsolicitedSyn> {
        match self.copies(Test::Unused).filter_map(Probe::outcome).min()? {
            Met::Reset => Some(UnsolicitedSyn::Rst),
            Met::Icmp { .. } => Some(UnsolicitedSyn::Icmp),
            Met::Silence => Some(UnsolicitedSyn::Silent),
            // Somebody listens there: that port is used.
            Met::Connected | Met::NotTried => None,
        }
    }

    /// What becomes of a SYN that comes in after one went out. Only where towards one address all
    /// ports are the same does the server's SYN go where the client's came from.
    pub(super) fn inbound_syn_after_syn(
        &self,
        mapping: Option<Mapping>,
    ) -> Option<InboundSynAfterSyn> {
        if self.copies(Test::Cross).any(|it| it.is_token_seen) {
            return Some(InboundSynAfterSyn::Accepted);
        }
        let is_aimed = match mapping? {
            Mapping::EndpointIndependent | Mapping::AddressDependent => true,
            Mapping::AddressAndPortDependent | Mapping::ConnectionDependent => false,
        };
        match self.copies(Test::Cross).filter_map(Probe::outcome).min().filter(|_| is_aimed)? {
            Met::Reset => Some(InboundSynAfterSyn::Rst),
            // An ICMP error comes of a SYN that did not come in, too.
            Met::Silence | Met::Icmp { .. } => Some(InboundSynAfterSyn::Dropped),
            Met::Connected | Met::NotTried => Some(InboundSynAfterSyn::Unknown),
        }
    }
}

/// The same port on all addresses of this host.
fn everywhere(local: SocketAddr) -> SocketAddr {
    SocketAddr::new(any(Family::of(local.ip())).ip(), local.port())
}
