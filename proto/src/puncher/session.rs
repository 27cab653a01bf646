//! One session: from the broker's introduction to a path or a failure.
//!
//! ```text
//!             introduction            start                     winner chosen
//!   (created) ───────────▶ Opening ─────────▶ Racing ─────────────────────────▶ Settled ──▶ (finished)
//!                                               │ deadline, or the peer has refused
//!                                               └────────────────────────────▶ Failed ──▶ (finished)
//! ```
//!
//! *Opening*: a check with a low TTL leaves for each mapped address of the peer, which opens our own
//! NAT and dies before the peer's. A Linux NAT whose input chain is open takes an early packet of
//! the peer for its own and never forwards from that port again; with this opener it never meets
//! one. *Racing*: UDP checks and TCP connects run side by side from the agreed instant. *Settled*:
//! the caller has chosen. It prefers a TCP connection, since that is the kernel's own socket, but
//! waits for one only a fraction of the measured round trip.
//!
//! The callee follows the caller's nomination. Should all nominations be lost, the first foreign
//! datagram on a verified path counts as one: it can only be the caller's next layer.

mod account;
mod answered;
mod coverage;
mod decide;
mod engine;
mod forging;
mod ghost;
mod hands;
mod inquiry;
mod obstacle;
mod prediction;
mod race;
mod reserve;
mod rounds;
mod spending;
mod survey;
mod udp;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub use coverage::Hole;
use engine::{Engine, SYNS_FIRST};

use super::check::Authenticator;
use super::checklist::Checklist;
use super::report::{Report, Strategy};
use super::streams::{MAX_STREAMS, Streams};
use crate::address::{self, Family};
use crate::candidate::{Candidate, CandidateKind, MAX_CANDIDATES, Transport};
use crate::command::{Ends, Names};
use crate::entropy::{Entropy, Seed};
use crate::machine::{Deadline, Machine};
use crate::segment::Segment;
use crate::signal::{ErrorCode, Handshake, Hint, Role, SessionId, SessionSecret};
use crate::tcp_traversal::connect_listen;
use crate::tcp_traversal::plan::Privileges;
use crate::tcp_traversal::simultaneous_open::Dialer;
use crate::tcp_traversal::survey::Ports;
use crate::uri::{PeerName, TransportChoice};
use crate::{Command, CommandId, Input, IoFailure, SocketId};

/// TTL of the opener: past the own NAT, not to the peer's, which is one router further between two
/// customers of one provider. (Behind a carrier NAT it opens the home's only, as if there were none.)
const OPENER_TTL: u8 = 2;
/// Addresses that a peer may announce in all: those of its registration and as many news.
const MAX_ANNOUNCED: usize = 2 * MAX_CANDIDATES;
/// Ports of one IP address that are tried over one transport, unless the peer shows up on more: who
/// lies about its addresses shall not turn this host against somebody else's.
const MAX_PER_IP: usize = 4;
/// The first of the ports that belong to nobody, and their number (RFC 6335 section 6).
const DYNAMIC: u16 = 49_152;
const DYNAMIC_PORTS: u64 = 16_384;
/// Copies of the caller's nomination: it is not answered on the winning path, which the next layer
/// owns by then.
const NOMINATIONS: u32 = 3;
/// Time between them.
const NOMINATION_PAUSE: Duration = Duration::from_millis(20);
/// How long an unproved stream is waited for beyond two round trips before another path is taken.
///
/// Longer than the kernel takes to repeat a lost segment (200 ms at least): the callee may have
/// settled on that stream, and to leave it for another path would part the two.
const PROOF_MARGIN: Duration = Duration::from_millis(400);
/// How long the callee goes on answering checks after it was told the winner.
const LINGER: Duration = Duration::from_secs(1);

/// What both peers are told of each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Introduction {
    /// The session.
    pub session: SessionId,
    /// Known to the two peers and the broker only.
    pub secret: SessionSecret,
    /// Our part.
    pub role: Role,
    /// The other peer; `None` for a caller without a name.
    pub peer: Option<PeerName>,
    /// Where it may be reached.
    pub candidates: Vec<Candidate>,
    /// What it told of its NATs.
    pub nat: Option<crate::nat::NatReport>,
    /// Which transports may be used.
    pub transport: TransportChoice,
    /// The agreed instant.
    pub start: Instant,
    /// One way to the peer through the broker, as both have measured it: the direct one is hardly longer.
    pub path: Option<Duration>,
    /// How strategies have fared between NATs like these two.
    pub hints: Vec<Hint>,
}

/// What this host brings into a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Resources {
    /// The node's UDP sockets, one for each family, with their local addresses.
    pub udp: Vec<(SocketId, SocketAddr)>,
    /// What the servers call our IPv4 socket, or else the IPv6 one, an answer each.
    pub udp_told: Vec<SocketAddr>,
    /// STUN servers over UDP, those that have answered first.
    pub udp_stun: Vec<SocketAddr>,
    /// The local addresses that TCP connects from, one for each family.
    pub tcp: Vec<SocketAddr>,
    /// Our own candidates: an address of the peer that equals one of these is ourselves.
    pub own: Vec<Candidate>,
    /// What is known of our NATs.
    pub nat: Option<crate::nat::NatReport>,
    /// What the servers call our TCP port, an answer each.
    pub told: Vec<SocketAddr>,
    /// STUN servers over TCP, for fresh samples.
    pub stun: Vec<SocketAddr>,
    /// What this host may do; `None` if nobody has said.
    pub privileges: Option<Privileges>,
    /// Whether connect, close and listen is asked for.
    pub classic: bool,
    /// SYNs of one attempt.
    pub per_attempt: u32,
    /// Whether holes that are open when the session ends are taken over by somebody.
    pub keeps_holes: bool,
    /// Ends of peers that earlier sessions have opened holes for, from the same port.
    pub holes: Vec<SocketAddr>,
    /// Whether a listener of this host is reached from an end that has refused it with an RST.
    pub listener_reached: Option<bool>,
    /// The TTL with which a SYN opens the outermost of our NATs, if it was measured.
    pub opener_ttl: Option<u8>,
    /// In which families the broker may answer our SYNs in the peer's name: it offers to, is not
    /// known to do so in vain, and there is a connection to it from our TCP port.
    pub forges: Vec<Family>,
}

/// The winning path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// A TCP stream; the next byte on it is the application's.
    Tcp {
        /// The stream.
        socket: SocketId,
        /// Its ends.
        ends: Ends,
    },
    /// A pair of UDP addresses.
    Udp {
        /// Our socket, which other sessions use as well.
        socket: SocketId,
        /// The peer's address.
        remote: SocketAddr,
        /// Measured round-trip time; the callee may not know it.
        rtt: Option<Duration>,
    },
}

/// What a session tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The caller's greeting has gone out that chooses this stream, unless it turns out to lead elsewhere: what follows it there is
    /// the next layer's, which may begin.
    Chosen {
        /// The stream.
        socket: SocketId,
    },
    /// A path was chosen.
    Established {
        /// Which.
        path: Path,
        /// Everything that was tried. `secured_ms` is left to the shell.
        report: Report,
    },
    /// No path came about.
    Failed {
        /// Why.
        report: Report,
    },
}

#[derive(Debug)]
enum State {
    Racing,
    /// The caller repeats its nomination, the callee its answers.
    Settled {
        nomination: Option<Nomination>,
        until: Instant,
    },
    Finished,
}

#[derive(Debug, Clone, Copy)]
struct Nomination {
    socket: SocketId,
    remote: SocketAddr,
    left: u32,
    next: Instant,
}

/// One attempt to reach one peer.
#[derive(Debug)]
pub struct Session {
    introduction: Introduction,
    resources: Resources,
    authenticator: Authenticator,
    entropy: Entropy,
    names: Names,
    called: Instant,
    deadline: Instant,
    state: State,
    checklist: Checklist,
    dialers: Vec<Dialer>,
    streams: Streams,
    /// The stream the caller has chosen, or was about to.
    selected: Option<SocketId>,
    /// The UDP path that won.
    settled_on: Option<(SocketId, SocketAddr)>,
    engine: Engine,
    udp: udp::Udp,
    /// Datagrams whose fate is not known yet.
    sends: Vec<(CommandId, SocketId, SocketAddr)>,
    /// Connects that are pending.
    connecting: Vec<(CommandId, SocketId)>,
    /// What the peer, or the broker for it, answered instead of coming.
    refusal: Option<ErrorCode>,
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
}

impl Session {
    /// Whether its path is still to be found.
    pub fn is_racing(&self) -> bool {
        matches!(self.state, State::Racing)
    }

    /// Whether it depends on which ports our NAT gives out next, or may yet find out that it does: each
    /// connection of anybody else behind that NAT takes one.
    pub fn counts_ports(&self) -> bool {
        let counted = |ports| matches!(ports, Ports::Unknown | Ports::Sequential { .. });
        let tcp = self.introduction.transport.allows_tcp() && counted(self.engine.ports);
        self.is_racing() && (tcp || self.udp.counts_ports())
    }

    /// A session that both sides enter at `introduction.start`; `called` is when the call began and
    /// `deadline` when it gives up.
    pub fn new(
        introduction: Introduction,
        resources: Resources,
        names: Names,
        seed: Seed,
        called: Instant,
        deadline: Instant,
    ) -> Self {
        let secret = &introduction.secret;
        let authenticator = Authenticator::new(introduction.session, secret, introduction.role);
        let mut session = Self {
            authenticator,
            engine: Engine::new(&introduction, &resources),
            udp: udp::Udp::default(),
            introduction,
            resources,
            entropy: Entropy::new(seed),
            names,
            called,
            deadline,
            state: State::Racing,
            checklist: Checklist::default(),
            dialers: Vec::new(),
            streams: Streams::default(),
            selected: None,
            settled_on: None,
            sends: Vec::new(),
            connecting: Vec::new(),
            refusal: None,
            commands: VecDeque::new(),
            events: VecDeque::new(),
        };
        session.line_up(session.introduction.start);
        session.open_own_nat();
        session.begin_engine();
        session
    }

    /// Which session this is.
    pub fn id(&self) -> SessionId {
        self.introduction.session
    }

    /// The other peer.
    pub fn peer(&self) -> Option<&PeerName> {
        self.introduction.peer.as_ref()
    }

    /// Whether nothing more will come of it.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// Whether the peer announced this IP address: a stream from there is likely of this session.
    pub fn expects(&self, ip: IpAddr) -> bool {
        matches!(self.state, State::Racing)
            && self.introduction.candidates.iter().any(|it| it.address.ip() == ip)
    }

    /// Gives the session a stream that a listener of ours accepted.
    pub fn adopt(&mut self, socket: SocketId, ends: Ends, now: Instant) {
        self.adopt_as(None, socket, ends, now);
    }

    fn adopt_as(&mut self, strategy: Option<Strategy>, socket: SocketId, ends: Ends, now: Instant) {
        if !matches!(self.state, State::Racing) || self.streams.all.len() >= MAX_STREAMS {
            self.close(socket);
            return;
        }
        let kind = self.kind_of(Transport::Tcp, ends.remote);
        let strategy = strategy.or_else(|| self.strategy_at(ends));
        let strategy = strategy.unwrap_or(connect_listen::strategy_of(kind));
        self.established(socket, ends, (kind, strategy), now);
    }

    /// A datagram that is no check of ours came from `source`. If it came over a path that already
    /// stands, the caller has chosen it and gone on. Whether it belongs to this session's path.
    pub fn foreign_datagram(&mut self, socket: SocketId, source: SocketAddr, now: Instant) -> bool {
        if self.settled_on == Some((socket, source)) {
            return true;
        }
        let verified = self
            .checklist
            .position(socket, source)
            .is_some_and(|index| self.checklist.pairs[index].verified.is_some());
        let takes = verified
            && matches!(self.state, State::Racing)
            && self.introduction.role == Role::Controlled;
        if takes {
            self.settle_udp(socket, source, now);
        }
        takes
    }

    /// Gives up. The session ends without an event.
    pub fn cancel(&mut self) {
        match self.state {
            State::Racing => {
                self.close_all_but(None);
                self.tell_the_end();
            }
            State::Settled { .. } => self.leave_udp_path(),
            State::Finished => {}
        }
        self.state = State::Finished;
    }

    /// The peer will not take part: there is nothing left to wait for.
    pub fn refused(&mut self, code: ErrorCode, now: Instant) {
        if matches!(self.state, State::Racing) {
            self.refusal = Some(code);
            self.fail(now);
        }
    }

    /// The peer has learned of more addresses of its own.
    pub fn add_candidates(&mut self, candidates: &[Candidate], now: Instant) {
        if !matches!(self.state, State::Racing) {
            return;
        }
        let known = &mut self.introduction.candidates;
        for candidate in candidates {
            if known.len() < MAX_ANNOUNCED && !known.contains(candidate) {
                known.push(*candidate);
            }
        }
        self.line_up(self.introduction.start.max(now));
        if self.introduction.start <= now {
            self.race(now);
        }
    }

    /// The peer's addresses become pairs and dialers that begin at `start`; known ones stay.
    fn line_up(&mut self, start: Instant) {
        let choice = self.introduction.transport;
        for candidate in self.introduction.candidates.clone() {
            let ours = self.resources.own.iter().any(|own| {
                own.transport == candidate.transport
                    && own.address == candidate.address
                    && own.kind == CandidateKind::Host
            });
            let later = candidate.kind == CandidateKind::Reserve;
            if ours || later || !self.is_worth_trying(candidate.address) {
                continue;
            }
            let family = Family::of(candidate.address.ip());
            match candidate.transport {
                Transport::Udp if choice.allows_udp() => {
                    let ip = candidate.address.ip();
                    let same = self.checklist.pairs.iter().filter(|it| it.remote.ip() == ip);
                    if same.count() >= MAX_PER_IP {
                        continue;
                    }
                    if let Some(socket) = self.udp_socket(family) {
                        self.checklist.add(socket, candidate.address, candidate.kind, start);
                    }
                }
                Transport::Tcp if choice.allows_tcp() => {
                    let ip = candidate.address.ip();
                    let same = self.dialers.iter().filter(|it| it.remote.ip() == ip);
                    let full = same.count() >= MAX_PER_IP;
                    let known = self.dialers.iter().any(|it| it.remote == candidate.address);
                    if self.tcp_local(family).is_some() && !known && !full {
                        let mut dialer = Dialer::new(candidate.address, candidate.kind, start);
                        dialer.local = self.aside_from(&candidate);
                        self.assign(&mut dialer);
                        self.dialers.push(dialer);
                    }
                }
                Transport::Udp | Transport::Tcp => {}
            }
        }
    }

    /// A loopback address counts only between two peers that the broker sees on one host: nobody
    /// elsewhere shall make us talk to our own services.
    fn is_worth_trying(&self, address: SocketAddr) -> bool {
        let own_loopback = || self.resources.own.iter().any(|own| own.address.ip().is_loopback());
        let loopback = address.ip().is_loopback() && address.port() != 0;
        address::is_usable(address) || (loopback && own_loopback())
    }

    /// The own end for a private address of some other network than ours, which is hardly the peer's:
    /// a router that refuses it may make our NAT give up the port that it came from, and that shall
    /// not be the punching port.
    fn aside_from(&mut self, candidate: &Candidate) -> Option<SocketAddr> {
        let IpAddr::V4(remote) = candidate.address.ip() else { return None };
        let elsewhere = |own: &Candidate| match own.address.ip() {
            IpAddr::V4(own) => own.octets()[..3] != remote.octets()[..3],
            IpAddr::V6(_) => true,
        };
        let strange = candidate.kind == CandidateKind::Host
            && address::is_private(candidate.address.ip())
            && self.resources.own.iter().all(elsewhere);
        let local = self.tcp_local(Family::V4).filter(|_| strange)?;
        let known = self.dialers.iter().find_map(|dialer| dialer.local);
        known.or_else(|| {
            let port = self.dynamic_port();
            Some(SocketAddr::new(local.ip(), port))
        })
    }

    /// Any of the ports that belong to nobody.
    fn dynamic_port(&mut self) -> u16 {
        DYNAMIC + u16::try_from(self.entropy.below(DYNAMIC_PORTS)).unwrap_or_default()
    }

    fn open_own_nat(&mut self) {
        let mapped = |kind| kind != CandidateKind::Host;
        let pairs: Vec<_> = self.checklist.pairs.iter().filter(|it| mapped(it.kind)).collect();
        let openers: Vec<_> = pairs.iter().map(|pair| (pair.socket, pair.remote)).collect();
        for (socket, remote) in openers {
            let id = self.entropy.transaction_id();
            let payload = self.authenticator.request(id, false);
            self.send_udp(socket, remote, Some(OPENER_TTL), payload);
        }
    }

    fn udp_socket(&self, family: Family) -> Option<SocketId> {
        let of_family = |(_, local): &&(SocketId, SocketAddr)| Family::of(local.ip()) == family;
        self.resources.udp.iter().find(of_family).map(|(socket, _)| *socket)
    }

    fn tcp_local(&self, family: Family) -> Option<SocketAddr> {
        self.resources.tcp.iter().find(|local| Family::of(local.ip()) == family).copied()
    }

    fn kind_of(&self, transport: Transport, remote: SocketAddr) -> CandidateKind {
        let same = |it: &&Candidate| it.transport == transport && it.address == remote;
        let known = self.introduction.candidates.iter().find(same);
        known.map_or(CandidateKind::PeerReflexive, |candidate| candidate.kind)
    }

    fn send_udp(
        &mut self,
        socket: SocketId,
        remote: SocketAddr,
        ttl: Option<u8>,
        payload: Vec<u8>,
    ) {
        let id = self.names.command();
        self.sends.push((id, socket, remote));
        self.commands.push_back(Command::SendUdp { id, socket, remote, ttl, payload });
    }

    fn send_tcp(&mut self, socket: SocketId, payload: Vec<u8>) {
        let id = self.names.command();
        self.commands.push_back(Command::SendTcp { id, socket, payload });
    }

    fn close(&mut self, socket: SocketId) {
        self.connecting.retain(|(_, it)| *it != socket);
        let id = self.names.command();
        self.commands.push_back(Command::Close { id, socket });
    }

    fn close_all_but(&mut self, winner: Option<SocketId>) {
        let kept = self.kept_holes();
        let is_kept = |socket: &SocketId| kept.iter().any(|hole| hole.socket == *socket);
        let pending = self.connecting.iter().map(|(_, socket)| *socket).filter(|it| !is_kept(it));
        let open = self.streams.open().map(|stream| stream.socket);
        let engine = self.engine.sockets(&kept).into_iter().chain(self.ghost_socket());
        let engine = engine.chain(self.udp_sockets());
        // A survey's connects are its own and among the pending ones.
        let losers: BTreeSet<_> =
            pending.chain(open).chain(engine).filter(|it| Some(*it) != winner).collect();
        for socket in losers {
            if self.is_unheard_ghost(socket) {
                self.abort(socket);
            } else {
                self.close(socket);
            }
        }
    }

    /// Ends a stream with an RST.
    fn abort(&mut self, socket: SocketId) {
        self.connecting.retain(|(_, it)| *it != socket);
        let id = self.names.command();
        self.commands.push_back(Command::Abort { id, socket });
    }
}

impl Machine for Session {
    type Input<'a> = Input<'a>;
    type Command = Command;
    type Event = Event;

    fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Answer { id, answer } => self.on_answer(id, &answer, now),
            Input::UdpReceived { socket, source, payload } => {
                self.on_datagram(socket, source, payload, now);
            }
            Input::TcpAccepted { socket, ends, .. } => self.adopt(socket, ends, now),
            Input::TcpReceived { socket, payload } => {
                if !self.on_sample(socket, payload, now)
                    && !self.on_inquiry_answered(socket, payload, now)
                {
                    self.on_greeting(socket, payload, now);
                }
            }
            Input::TcpClosed { socket, reason } => {
                if !self.on_sample_lost(socket, now) && !self.on_inquiry_lost(socket, now) {
                    self.on_stream_closed(socket, reason, now);
                }
            }
            Input::Captured { socket, segment } => {
                if !self.on_stand_captured(socket, &segment, now) {
                    self.on_captured(socket, &segment, now);
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Racing if now >= self.ends_at() => self.end(now),
            State::Racing => {
                self.pursue(now);
                self.race(now);
                self.decide(now);
            }
            State::Settled { until, .. } if now >= until => {
                self.leave_udp_path();
                self.state = State::Finished;
            }
            State::Settled { .. } => self.nominate(now),
            State::Finished => {}
        }
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        match self.state {
            State::Racing => {
                let check = self.checklist.next().map(|at| Deadline::new(at, "UDP check"));
                let dials = self.dialers.iter().filter_map(Dialer::due).min();
                let dial = dials.map(|at| Deadline::new(at, "TCP connect"));
                let choice = self.decision_due().map(|at| Deadline::new(at, "choice of a path"));
                let end = Some(Deadline::new(self.ends_at(), "end of the attempt"));
                let engine = self.engine_due();
                [check, dial, choice, engine].into_iter().fold(end, Deadline::earlier)
            }
            State::Settled { nomination, until } => {
                let next = nomination.map(|it| Deadline::new(it.next, "nomination"));
                Deadline::earlier(next, Some(Deadline::new(until, "end of a settled session")))
            }
            State::Finished => None,
        }
    }
}

#[cfg(test)]
mod lies;
#[cfg(test)]
mod tests;
