//! What only a server that connects back can tell: filtering, the answer to a SYN nobody asked for,
//! and the fate of a SYN that crosses another.
//!
//! ```text
//!  a fresh port for each test, and each test a few times
//!
//!  filtering   client ══════════ connected ═════════▶ server:p
//!              client listens on that port
//!              client ◀── SYN ──┤ NAT ├── from another port, or another address
//!  unsolicited client ══════════ connected ═════════▶ server:p
//!                        ◀ SYN ─┤ NAT ├── to a port that nobody uses
//!  crossing    client ══════════ connected ═════════▶ server:p
//!              client ── SYN ────────────────────────▶ server:q, which neither answers nor refuses
//!              client ◀── SYN ──┤ NAT ├── from q
//!  after RST   the same with a q that refuses, while the client listens
//!  shielded    the same with a q that refuses, while the client's connect is deaf to the RST: it hears
//!              only what arrives with a high TTL, and the server's SYN left with 255
//!  after ICMP  crossing once more, the client's SYN with the TTL that dies one hop before the server
//!  reach       crossing once more, the client's SYN with a TTL of 1, 2, 3 …: the least that opens the
//!              NAT is what an opener needs; asked only where nothing else lets the server's SYN in
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
use crate::command::{CommandId, Ends, Hops, IoFailure, SocketId};
use crate::entropy::Entropy;
use crate::machine::Deadline;
use crate::nat::{Filtering, InboundSynAfterSyn, Mapping, UnsolicitedSyn};

/// How often each test is made: a lost SYN would cost a second. The crossing one needs four packets to
/// get through where the others need two, of which the server sends each twice.
const COPIES: [usize; 6] = [3, 3, 3, 6, 2, 4];
/// How many copies must agree before silence is taken for the NAT's: where one packet in sixteen is
/// lost, fewer than one verdict in a hundred is wrong.
const WITNESSES: [usize; 6] = [2, 2, 2, 4, 2, 3];
/// What is probed, in this order: a box may send few ICMP errors and then none for a while (Linux six
/// to each destination, and one a second), so the test that waits for one comes first.
const GOALS: [Test; 6] =
    [Test::Unused, Test::OtherAddress, Test::OtherPort, Test::Cross, Test::Refuse, Test::CrossFar];
/// The TTLs that are tried: a home NAT is one or two hops away, a carrier's rarely more than four.
const TTLS: std::ops::RangeInclusive<u8> = 1..=5;
/// How often each is tried, for a lost packet looks like one that did not get far enough.
const TTL_COPIES: usize = 2;
/// The least TTL heard on such a connection: an ICMP time exceeded quotes a packet that had 1 left.
const SHIELD: u8 = 2;
/// The least TTL heard where the server sends with 255: an RST leaves with 64, seldom with 128.
const FAR_SHIELD: u8 = 150;
/// How often a SYN that dies on the way is tried, and how many silent copies count.
const DYING_COPIES: usize = 4;
const DYING_WITNESSES: usize = 3;
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
    family: Family,
    probes: Vec<Probe>,
    /// The crossing tests with a TTL, once they have begun.
    reach: Vec<Probe>,
    /// The crossing tests whose SYN dies on the way, once they have begun.
    dying: Vec<Probe>,
    rtt: Duration,
    patience: Duration,
    end: Instant,
    is_over: bool,
}

/// One test on one connection.
#[derive(Debug)]
struct Probe {
    test: Test,
    /// Of the SYN to the reserved port.
    ttl: Option<u8>,
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
    /// A listener is being opened by this command, at this end.
    Opening(CommandId, SocketAddr),
    /// A port was asked for, to connect to from this end.
    Reserving(SocketAddr),
    /// This connect to the quiet port has begun; a SYN from there is asked for later.
    Crossing(CommandId, Instant),
    /// This connect to the refusing port has begun; a SYN from there is asked for when it is refused.
    Refusing(CommandId),
    /// The outcome was asked for; a connect to the quiet port is perhaps under way.
    Asked(Option<CommandId>),
    Told(Outcome),
    /// The connection over which the outcome was asked for has ended.
    Cut,
    Failed,
}

impl Probe {
    fn begin(
        test: Test,
        ttl: Option<u8>,
        (family, remote): (Family, SocketAddr),
        entropy: &mut Entropy,
        outbox: &mut Outbox,
    ) -> Self {
        let (connect, socket) = outbox.connect_tcp(any(family), remote);
        Self {
            test,
            ttl,
            connect,
            socket,
            remote,
            stage: Stage::Connecting,
            listener: None,
            accepted: Vec::new(),
            token: entropy.transaction_id(),
            is_token_seen: false,
        }
    }

    fn is_finished(&self) -> bool {
        match self.stage {
            // The token may come after the outcome: both travel on connections of their own.
            Stage::Told(outcome) => outcome.result != Met::Connected || self.is_proven(),
            Stage::Cut | Stage::Failed => true,
            Stage::Connecting
            | Stage::Opening(..)
            | Stage::Reserving(_)
            | Stage::Crossing(..)
            | Stage::Refusing(_)
            | Stage::Asked(_) => false,
        }
    }

    /// Whether a connection of the server needs no further proof: on filtering its word is not taken,
    /// since a box on the way may accept connections in this host's place.
    fn is_proven(&self) -> bool {
        self.is_token_seen || !matches!(self.test, Test::OtherAddress | Test::OtherPort)
    }

    /// Sends a SYN to the port that was reserved; the server's is asked for a little later, so that it cannot
    /// overtake.
    fn cross(&mut self, local: SocketAddr, quiet: SocketAddr, outbox: &mut Outbox, now: Instant) {
        if quiet.ip() != self.remote.ip() || quiet.port() == 0 {
            // A SYN goes to nobody but the server.
            self.stage = Stage::Failed;
            return;
        }
        let hops = match self.ttl {
            None if self.test == Test::CrossFar => Hops { ttl: None, least: Some(FAR_SHIELD) },
            None => Hops::USUAL,
            Some(ttl) => Hops { ttl: Some(ttl), least: Some(SHIELD) },
        };
        let (connect, stream) = outbox.connect_tcp_with(everywhere(local), quiet, hops);
        self.stage = if self.test == Test::Refuse {
            Stage::Refusing(connect)
        } else {
            self.accepted.push(stream);
            Stage::Crossing(connect, now + LEAD)
        };
    }

    /// The refusing port has refused, and the RST has passed the NAT.
    fn on_refused(
        &mut self,
        result: &Result<Ends, IoFailure>,
        patience: Duration,
        outbox: &mut Outbox,
    ) {
        if *result == Err(IoFailure::Refused) {
            self.stage = Stage::Asked(None);
            self.ask(Test::Cross, patience, outbox);
        } else {
            self.stage = Stage::Failed;
        }
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
            | Stage::Opening(..)
            | Stage::Reserving(_)
            | Stage::Refusing(_)
            | Stage::Asked(None)
            | Stage::Told(_)
            | Stage::Cut
            | Stage::Failed => None,
        }
    }

    /// Whether the outcome was asked for in vain: the connection for it comes from the very port that was tested, and
    /// is lost if a NAT gives that up.
    fn is_mute(&self, is_over: bool) -> bool {
        matches!(self.stage, Stage::Cut) || is_over && matches!(self.stage, Stage::Asked(_))
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
            Test::Refuse => offer.includes(Test::Cross) && offer.includes(Test::Refuse),
            Test::CrossFar => offer.includes(Test::CrossFar) && offer.includes(Test::Refuse),
            other => offer.includes(*other),
        });
        let copies = goals.flat_map(|goal| std::iter::repeat_n(goal, of(goal, COPIES)));
        let probes = copies.map(|test| Probe::begin(test, None, (family, server), entropy, outbox));
        let patience = (rtt * 2 + SLACK).min(MAX_PATIENCE);
        // To connect, to reserve, to ask, and for the last answer to come back.
        let end = now + rtt * 4 + LEAD + patience + SLACK;
        Self {
            family,
            probes: probes.collect(),
            reach: Vec::new(),
            dying: Vec::new(),
            rtt,
            patience,
            end,
            is_over: false,
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Probe> {
        self.probes.iter_mut().chain(&mut self.reach).chain(&mut self.dying)
    }

    pub(super) fn on_connected(
        &mut self,
        id: CommandId,
        result: &Result<Ends, IoFailure>,
        outbox: &mut Outbox,
    ) {
        let patience = self.patience;
        let crossing = |it: &&mut Probe| it.crossing() == Some(id);
        if let Some(probe) = self.all().find(crossing) {
            if result.is_err() {
                // Somebody refused it, and what that does to the NAT is another test.
                probe.stage = Stage::Failed;
            }
            return;
        }
        let refusing = |it: &&mut Probe| matches!(it.stage, Stage::Refusing(it) if it == id);
        if let Some(probe) = self.all().find(refusing) {
            return probe.on_refused(result, patience, outbox);
        }
        let Some(probe) = self.all().find(|it| it.connect == id) else { return };
        let Stage::Connecting = probe.stage else { return };
        let Ok(ends) = result else {
            outbox.forget(probe.socket);
            probe.stage = Stage::Failed;
            return;
        };
        let local = canonical(ends.local);
        match probe.test {
            Test::OtherAddress | Test::OtherPort | Test::Refuse => {
                let (open, listener) = outbox.listen_tcp(everywhere(local));
                probe.listener = Some(listener);
                probe.stage = Stage::Opening(open, local);
            }
            Test::Unused => {
                probe.stage = Stage::Asked(None);
                probe.ask(Test::Unused, patience, outbox);
            }
            Test::CrossFar => {
                probe.stage = Stage::Reserving(local);
                probe.ask(Test::Refuse, patience, outbox);
            }
            Test::Reserve | Test::Cross | Test::Look | Test::Hold | Test::Wait | Test::Deaf => {
                probe.stage = Stage::Reserving(local);
                probe.ask(Test::Reserve, patience, outbox);
            }
        }
    }

    pub(super) fn on_bound(
        &mut self,
        id: CommandId,
        result: &Result<SocketAddr, IoFailure>,
        outbox: &mut Outbox,
    ) {
        let patience = self.patience;
        let opening = |it: &mut Probe| match it.stage {
            Stage::Opening(open, local) if open == id => Some(local),
            _ => None,
        };
        let found = self.all().find_map(|it| Some((opening(it)?, it)));
        let Some((local, probe)) = found else { return };
        if result.is_err() {
            outbox.forget(probe.listener.take().unwrap_or(probe.socket));
            probe.stage = Stage::Failed;
            return;
        }
        probe.stage = match probe.test {
            Test::Refuse => Stage::Reserving(local),
            _ => Stage::Asked(None),
        };
        probe.ask(probe.test, patience, outbox);
    }

    pub(super) fn on_accepted(&mut self, listener: SocketId, socket: SocketId) {
        let Some(probe) = self.all().find(|it| it.listener == Some(listener)) else {
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
        if let Some(probe) = self.all().find(|it| it.accepted.contains(&socket)) {
            probe.is_token_seen |=
                message.and_then(|it| probe::read_token(&it)) == Some(probe.token);
            return;
        }
        let Some(probe) = self.all().find(|it| it.socket == socket) else { return };
        let reply = message.filter(|it| it.transaction_id() == probe.token);
        let Some(reply) = reply.and_then(|it| Reply::read(&it)) else { return };
        match (probe.stage, reply) {
            (Stage::Reserving(local), Reply::Reserved(reserved)) => {
                probe.cross(local, canonical(reserved), outbox, now);
            }
            (Stage::Asked(_), Reply::Ended { outcome, .. }) => probe.stage = Stage::Told(outcome),
            (Stage::Reserving(_) | Stage::Asked(_), _) => probe.stage = Stage::Failed,
            (
                Stage::Connecting | Stage::Opening(..) | Stage::Crossing(..) | Stage::Refusing(_),
                _,
            )
            | (Stage::Told(_) | Stage::Cut | Stage::Failed, _) => {}
        }
    }

    /// A stream ended.
    pub(super) fn on_closed(&mut self, socket: SocketId) {
        let Some(probe) = self.all().find(|it| it.socket == socket) else { return };
        probe.stage = match probe.stage {
            Stage::Told(outcome) => Stage::Told(outcome),
            Stage::Asked(_) => Stage::Cut,
            Stage::Connecting
            | Stage::Opening(..)
            | Stage::Reserving(_)
            | Stage::Crossing(..)
            | Stage::Refusing(_)
            | Stage::Cut
            | Stage::Failed => Stage::Failed,
        };
    }

    pub(super) fn handle_timeout(&mut self, outbox: &mut Outbox, now: Instant) {
        let patience = self.patience;
        for probe in self.all() {
            if let Stage::Crossing(connect, at) = probe.stage
                && at <= now
            {
                if let (Some(_), Some(stream)) = (probe.ttl, probe.accepted.first()) {
                    // The SYN has gone; what answers the server's must get there.
                    outbox.adjust_tcp(*stream, Hops { ttl: None, least: Some(SHIELD) });
                }
                probe.stage = Stage::Asked(Some(connect));
                let test = if probe.test == Test::CrossFar { Test::CrossFar } else { Test::Cross };
                probe.ask(test, patience, outbox);
            }
        }
        self.is_over |= now >= self.end;
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        if self.is_settled() {
            return None;
        }
        let all = self.probes.iter().chain(&self.reach).chain(&self.dying);
        let crossing = all.filter_map(|it| match it.stage {
            Stage::Crossing(_, at) => Some(Deadline::new(at, "ask for a SYN that crosses")),
            _ => None,
        });
        let end = Deadline::new(self.end, "end the tests that connect back");
        crossing.chain([end]).min_by_key(|it| it.at)
    }

    /// Whether nothing more is to come: each test has ended as often as it was begun, or often enough
    /// but for copies that did not even connect.
    pub(super) fn is_settled(&self) -> bool {
        let has_ended = |goal: &Test| {
            let is_gone = |it: &Probe| it.is_finished() || matches!(it.stage, Stage::Connecting);
            self.copies(*goal).all(Probe::is_finished)
                || (self.is_witnessed(*goal) && self.copies(*goal).all(is_gone))
        };
        let is_reached = self.reach.iter().all(Probe::is_finished) || self.opener_ttl().is_some();
        let has_died = self.dying.iter().all(Probe::is_finished);
        self.is_over || (GOALS.iter().all(has_ended) && is_reached && has_died)
    }

    fn copies(&self, test: Test) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(move |it| it.test == test)
    }

    /// What the copies of a test met with, the most telling first.
    fn met(&self, test: Test) -> Option<Met> {
        let met = self.copies(test).filter_map(Probe::outcome).min()?;
        // A lost packet is silence as well.
        (met != Met::Silence || self.is_witnessed(test)).then_some(met)
    }

    fn is_witnessed(&self, test: Test) -> bool {
        self.copies(test).filter_map(Probe::outcome).count() >= of(test, WITNESSES)
    }

    /// Tries with which TTL a SYN opens the NAT, once it is known that it takes one.
    pub(super) fn begin_reach(
        &mut self,
        mapping: Option<Mapping>,
        entropy: &mut Entropy,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let is_shut = self.filtering() == Some(Filtering::AddressAndPortDependent);
        let opens = self.inbound_syn_after_syn(mapping) == Some(InboundSynAfterSyn::Accepted);
        // The shield works on what an ICMP error quotes in IPv4 only.
        let is_possible = is_shut && opens && self.family == Family::V4 && !self.is_over;
        let Some(remote) = self.probes.first().map(|it| it.remote) else { return };
        if !is_possible || !self.reach.is_empty() {
            return;
        }
        let ends = (self.family, remote);
        let begin = |ttl| Probe::begin(Test::Cross, Some(ttl), ends, entropy, outbox);
        self.reach = TTLS.flat_map(|ttl| [ttl; TTL_COPIES]).map(begin).collect();
        self.end = self.end.max(now + self.rtt * 3 + LEAD + self.patience + SLACK);
    }

    /// Tries what becomes of a SYN that comes in where the one that went out died on the way: with a TTL of
    /// `hops`, the routers between here and the server.
    pub(super) fn begin_dying(
        &mut self,
        mapping: Option<Mapping>,
        hops: u8,
        entropy: &mut Entropy,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let opens = self.inbound_syn_after_syn(mapping) == Some(InboundSynAfterSyn::Accepted);
        // With a single router it would die at the NAT. The shield works in IPv4 only.
        let is_possible = opens && hops > 1 && self.family == Family::V4 && !self.is_over;
        let Some(remote) = self.probes.first().map(|it| it.remote) else { return };
        if !is_possible || !self.dying.is_empty() {
            return;
        }
        let ends = (self.family, remote);
        let begin = |_| Probe::begin(Test::Cross, Some(hops), ends, entropy, outbox);
        self.dying = (0..DYING_COPIES).map(begin).collect();
        self.end = self.end.max(now + self.rtt * 3 + LEAD + self.patience + SLACK);
    }

    /// What becomes of a SYN that comes in after an RST did; only told where one comes in otherwise.
    pub(super) fn inbound_syn_after_rst(
        &self,
        mapping: Option<Mapping>,
    ) -> Option<InboundSynAfterSyn> {
        let opens = self.inbound_syn_after_syn(mapping) == Some(InboundSynAfterSyn::Accepted);
        let is_let_in = self.copies(Test::CrossFar).any(|it| it.is_token_seen);
        let met = if is_let_in { Some(Met::Connected) } else { self.met(Test::CrossFar) };
        let mute = self.copies(Test::CrossFar).filter(|it| it.is_mute(self.is_over)).count();
        let met = met.or((mute >= of(Test::CrossFar, WITNESSES)).then_some(Met::Silence));
        fate(met.filter(|_| opens)?)
    }

    /// Likewise after the SYN that went out has died on the way.
    pub(super) fn inbound_syn_after_icmp(&self) -> Option<InboundSynAfterSyn> {
        let met: Vec<Met> = self.dying.iter().filter_map(Probe::outcome).collect();
        let mute = self.dying.iter().filter(|it| it.is_mute(self.is_over)).count();
        let Some(best) = met.iter().copied().min() else {
            return (mute >= DYING_WITNESSES).then_some(InboundSynAfterSyn::Dropped);
        };
        let is_sure = best != Met::Silence || met.len() >= DYING_WITNESSES;
        fate(Some(best).filter(|_| is_sure)?)
    }

    /// The least TTL with which a SYN opens the NAT; `None` if a smaller one might.
    pub(super) fn opener_ttl(&self) -> Option<u8> {
        for ttl in TTLS {
            let copies = self.reach.iter().filter(|it| it.ttl == Some(ttl));
            let met: Vec<Met> = copies.filter_map(Probe::outcome).collect();
            if met.contains(&Met::Connected) {
                // A TTL of 1 passes no box that counts hops.
                return (ttl > *TTLS.start()).then_some(ttl);
            }
            if met.len() < TTL_COPIES {
                return None;
            }
        }
        None
    }

    /// Whether the NAT let a connection of this kind in; `None` if that is not known.
    fn passage(&self, test: Test) -> Option<bool> {
        if self.copies(test).any(|it| it.is_token_seen) {
            return Some(true);
        }
        // The server's word alone may be about another host.
        self.met(test).filter(|it| *it != Met::Connected).map(|_| false)
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
        match self.met(Test::Unused)? {
            Met::Reset => Some(UnsolicitedSyn::Rst),
            Met::Icmp { .. } => Some(UnsolicitedSyn::Icmp),
            Met::Silence => Some(UnsolicitedSyn::Silent),
            // Somebody listens there: that port is used.
            Met::Connected | Met::NotTried => None,
        }
    }

    /// Whether a listening port is reached from an end that has just refused it with an RST. Only told
    /// where a SYN that crosses comes in otherwise.
    pub(super) fn reached_after_rst(&self, mapping: Option<Mapping>) -> Option<bool> {
        let is_open = self.inbound_syn_after_syn(mapping) == Some(InboundSynAfterSyn::Accepted);
        if self.copies(Test::Refuse).any(|it| it.is_token_seen) {
            return Some(true);
        }
        self.met(Test::Refuse).filter(|_| is_open).map(|met| met == Met::Connected)
    }

    /// What becomes of a SYN that comes in after one went out. Only where towards one address all
    /// ports are the same does the server's SYN go where the client's came from.
    pub(super) fn inbound_syn_after_syn(
        &self,
        mapping: Option<Mapping>,
    ) -> Option<InboundSynAfterSyn> {
        let met = self.met(Test::Cross);
        if met == Some(Met::Connected) || self.copies(Test::Cross).any(|it| it.is_token_seen) {
            return Some(InboundSynAfterSyn::Accepted);
        }
        let is_aimed = match mapping? {
            Mapping::EndpointIndependent | Mapping::AddressDependent => true,
            Mapping::AddressAndPortDependent | Mapping::ConnectionDependent => false,
        };
        fate(met.filter(|it| is_aimed && *it != Met::Connected)?)
    }
}

/// What became of a SYN that met with this.
fn fate(met: Met) -> Option<InboundSynAfterSyn> {
    match met {
        Met::Connected => Some(InboundSynAfterSyn::Accepted),
        Met::Reset => Some(InboundSynAfterSyn::Rst),
        // An ICMP error comes of a SYN that did not come in, too.
        Met::Silence | Met::Icmp { .. } => Some(InboundSynAfterSyn::Dropped),
        Met::NotTried => None,
    }
}

/// What a table over [`GOALS`] says of a test.
fn of(test: Test, table: [usize; 6]) -> usize {
    let row = GOALS.iter().position(|it| *it == test);
    row.map_or(1, |row| table[row])
}

/// The same port on all addresses of this host.
fn everywhere(local: SocketAddr) -> SocketAddr {
    SocketAddr::new(any(Family::of(local.ip())).ip(), local.port())
}

#[cfg(test)]
mod tests;
