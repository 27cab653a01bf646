//! UDP, when checks between the announced ends come to nothing: what each side's ports are like decides
//! what is tried next.
//!
//! | our ports | the peer's | what | when |
//! |---|---|---|---|
//! | steady | steady | [rounds](rounds) from fresh ports | after three ways to the peer and a margin |
//! | sequential | steady or sequential | [rounds](rounds) with a forecast | after one way and a margin |
//! | random | steady | [draws](coverage) | the same |
//! | steady | random | [probes](coverage) | when the peer draws |
//! | neither steady nor known | | the same as the first round, which tells | the same |
//! | random | random or sequential | nothing | |
//!
//! As soon as anything of the peer is heard none of it begins: an answer goes back to where that came
//! from. Where the first checks get through nothing of this file leaves the host.

mod coverage;
mod rounds;
mod sampling;

use super::*;
use crate::nat::{Mapping, NatReport, PortAllocation};
use crate::puncher::checklist::Pair;
use crate::tcp_traversal::note::Datagrams;
use crate::tcp_traversal::shielded_opener::OPENER_TTL;
use crate::tcp_traversal::survey::Ports;

/// What is waited for beyond one way to the peer, where a NAT is known to keep announced ends from meeting.
const AFTER_ONE_WAY: Duration = Duration::from_millis(60);
/// What is waited for beyond three, where nothing is known to do so: a peer that begins 300 ms late is
/// still heard first.
const AFTER_THREE_WAYS: Duration = Duration::from_millis(300);
/// After this time a peer whose ports are not steady is taken for a random one that draws, whatever it has told.
const GUESS_AFTER: Duration = Duration::from_millis(1500);
/// One way to the peer, as long as nobody has measured it.
const LIKELY_WAY: Duration = Duration::from_millis(100);

/// What is known, and under way.
#[derive(Debug, Default)]
pub(super) struct Udp {
    /// What the outside sees of our ports, as a round has found out.
    ports: Ports,
    round: Option<rounds::Round>,
    opened: u8,
    covering: Option<coverage::Covering>,
    /// Sockets of this session's own, rounds' and draws', with what the system has said of them.
    sockets: Vec<Fresh>,
}

impl Udp {
    /// Whether a round asks for ports, or relies on what it has been told of them.
    pub(super) fn counts_ports(&self) -> bool {
        self.round.is_some() && matches!(self.ports, Ports::Unknown | Ports::Sequential { .. })
    }
}

/// A socket that this session has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fresh {
    command: CommandId,
    socket: SocketId,
    local: Option<SocketAddr>,
    purpose: Purpose,
}

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Of that round.
    Round(u8),
    /// A draw, whose first check travels as far as that.
    Draw(Option<u8>),
}

/// What to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    Round,
    Draws,
    Probes(Ports),
}

/// What a report tells of UDP ports; `None` if it tells nothing.
fn reported(report: Option<&NatReport>) -> Option<Rule> {
    let NatReport { nat, udp, .. } = report?;
    match (nat, udp.mapping, udp.port_allocation) {
        (Some(false), _, _) | (_, Some(Mapping::EndpointIndependent), _) => Some(Rule::Steady),
        (_, Some(_), Some(PortAllocation::Preserved | PortAllocation::Offset)) => {
            Some(Rule::Steady)
        }
        (_, Some(_), Some(PortAllocation::Random)) => Some(Rule::Known(Ports::ANYWHERE)),
        (_, Some(_), _) => Some(Rule::Other),
        (_, None, _) => None,
    }
}

/// What is known of one side's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Everybody sees the same.
    Steady,
    /// Everybody sees another one, by this rule.
    Known(Ports),
    /// Everybody sees another one.
    Other,
}

impl Rule {
    fn of(ports: Ports) -> Option<Self> {
        match ports {
            Ports::Unknown => None,
            Ports::Steady => Some(Self::Steady),
            Ports::Sequential { .. } | Ports::Random { .. } => Some(Self::Known(ports)),
        }
    }

    /// Of a socket that has been called these names.
    fn told(mut names: impl Iterator<Item = SocketAddr>) -> Self {
        let Some(first) = names.next() else { return Self::Steady };
        if names.all(|it| it == first) { Self::Steady } else { Self::Other }
    }

    fn is_random(self) -> bool {
        matches!(self, Self::Known(Ports::Random { .. }))
    }
}

impl Session {
    /// Takes the next step, if one is due.
    pub(super) fn pursue_udp(&mut self, now: Instant) {
        if !self.introduction.transport.allows_udp() || !self.is_unheard() {
            return;
        }
        let theirs = self.their_datagrams().map_or(0, |it| it.round);
        let random = self.our_rule().is_random() || self.their_rule().is_random();
        if random {
            // It was to find that out.
            self.udp.round = None;
        }
        let joins = theirs > 0 && !random && self.udp.round.is_none();
        match self.udp_beginning() {
            _ if joins && self.udp_end().is_some() => self.begin_udp_round(theirs, now),
            Some((what, at)) if at <= now => self.begin_udp(what, now),
            Some(_) | None => {}
        }
        self.go_udp_round(now);
        self.cover_udp(now);
    }

    /// When [`pursue_udp`](Self::pursue_udp) has something to do.
    pub(super) fn udp_due(&self) -> Option<Deadline> {
        if !self.introduction.transport.allows_udp() || !self.is_unheard() {
            return None;
        }
        let begins = self.udp_beginning().map(|(_, at)| at);
        let begins = begins.map(|at| Deadline::new(at, "other ways over UDP"));
        let round = self.udp_round_due().map(|at| Deadline::new(at, "a round over UDP"));
        let covers = self.udp_coverage_due().map(|at| Deadline::new(at, "more datagrams"));
        [round, covers].into_iter().fold(begins, Deadline::earlier)
    }

    /// Whether nothing of the peer has been heard.
    fn is_unheard(&self) -> bool {
        let heard = |pair: &Pair| pair.heard || pair.verified.is_some();
        !self.checklist.pairs.iter().any(heard) && !self.streams.are_hopeful()
    }

    fn begin_udp(&mut self, what: Beginning, now: Instant) {
        match what {
            Beginning::Round => self.begin_udp_round(1, now),
            Beginning::Draws => self.begin_draws(now),
            Beginning::Probes(ports) => self.begin_probes(ports, now),
        }
    }

    /// What comes next, and when, if nothing of it is under way.
    fn udp_beginning(&self) -> Option<(Beginning, Instant)> {
        if self.udp.round.is_some() || self.udp.covering.is_some() {
            return None;
        }
        self.udp_end()?;
        let way = self.introduction.path.unwrap_or(LIKELY_WAY);
        let start = self.introduction.start;
        let (soon, late) = (start + way + AFTER_ONE_WAY, start + 3 * way + AFTER_THREE_WAYS);
        let asks = !self.udp_servers().is_empty();
        let round = |at| asks.then_some((Beginning::Round, at));
        match (self.our_rule(), self.their_rule()) {
            (Rule::Known(Ports::Random { .. }), Rule::Steady) => Some((Beginning::Draws, soon)),
            (Rule::Known(Ports::Random { .. }), Rule::Known(_) | Rule::Other) => None,
            (Rule::Steady, Rule::Known(ports @ Ports::Random { .. })) => {
                let draws = self.their_datagrams().is_some_and(|it| it.opened > 0);
                Some((Beginning::Probes(ports), if draws { soon } else { start + GUESS_AFTER }))
            }
            (Rule::Steady, Rule::Other) => {
                Some((Beginning::Probes(Ports::ANYWHERE), start + GUESS_AFTER))
            }
            (Rule::Other | Rule::Known(_), Rule::Known(Ports::Random { .. })) => None,
            (Rule::Steady, Rule::Steady) => round(late),
            (Rule::Steady | Rule::Known(_) | Rule::Other, _) => round(soon),
        }
    }

    /// What is known of our ports.
    fn our_rule(&self) -> Rule {
        let told = Rule::told(self.resources.udp_told.iter().copied());
        let report = reported(self.resources.nat.as_ref());
        let report = report.filter(|it| *it != Rule::Steady || told == Rule::Steady);
        Rule::of(self.udp.ports).or(report).unwrap_or(told)
    }

    /// What is known of the peer's.
    fn their_rule(&self) -> Rule {
        let noted = self.their_datagrams().and_then(|it| Rule::of(it.ports));
        let Some(end) = self.udp_end() else { return Rule::Steady };
        let names = self.introduction.candidates.iter().filter(|it| {
            let seen = it.kind == CandidateKind::ServerReflexive && it.transport == Transport::Udp;
            seen && it.address.is_ipv4() == end.is_ipv4()
        });
        let announced = Rule::told(names.map(|it| it.address));
        let report = reported(self.introduction.nat.as_ref());
        let report = report.filter(|it| *it != Rule::Steady || announced == Rule::Steady);
        noted.or(report).unwrap_or(announced)
    }

    fn their_datagrams(&self) -> Option<Datagrams> {
        self.engine.theirs.and_then(|standing| standing.datagrams)
    }

    /// What the peer is told, if there is anything to tell.
    pub(super) fn our_datagrams(&self) -> Option<Datagrams> {
        let round = self.udp.round.as_ref();
        let tells = round.is_some() || self.udp.ports != Ports::Unknown;
        let spare = round.and_then(rounds::Round::spare);
        let told = Datagrams {
            ports: self.udp.ports,
            round: round.map_or(0, |it| it.number),
            opened: self.udp.opened,
            mapped: spare.map(|it| it.mapped),
            next: match (self.udp.ports, spare) {
                (Ports::Sequential { step }, Some(spare)) => {
                    spare.mapped.port().wrapping_add_signed(step)
                }
                _ => 0,
            },
        };
        tells.then_some(told)
    }

    /// Where the peer was announced to be seen from outside.
    fn udp_end(&self) -> Option<SocketAddr> {
        let seen = |pair: &&Pair| {
            matches!(pair.kind, CandidateKind::ServerReflexive | CandidateKind::Mapped)
        };
        let mapped = self.checklist.pairs.iter().find(seen);
        // Without a NAT of its own it is known by its own address, and may still be behind a firewall.
        let public = |pair: &&Pair| {
            let ip = pair.remote.ip();
            pair.kind == CandidateKind::Host && !address::is_private(ip) && !ip.is_loopback()
        };
        let own =
            || self.checklist.pairs.iter().filter(public).min_by_key(|it| it.remote.is_ipv6());
        mapped.or_else(own).map(|pair| pair.remote)
    }

    /// The servers that see what the peer would.
    fn udp_servers(&self) -> Vec<SocketAddr> {
        let Some(end) = self.udp_end() else { return Vec::new() };
        let same = |server: &&SocketAddr| server.is_ipv4() == end.is_ipv4();
        self.resources.udp_stun.iter().filter(same).copied().collect()
    }

    /// Asks for a socket on a port that nobody has used.
    fn open_fresh(&mut self, purpose: Purpose) -> Option<SocketId> {
        let family = Family::of(self.udp_end()?.ip());
        let of_family = |(_, it): &&(SocketId, SocketAddr)| Family::of(it.ip()) == family;
        let (_, usual) = self.resources.udp.iter().find(of_family)?;
        let local = SocketAddr::new(usual.ip(), 0);
        let (id, socket) = (self.names.command(), self.names.socket());
        self.udp.sockets.push(Fresh { command: id, socket, local: None, purpose });
        self.commands.push_back(Command::BindUdp { id, socket, local });
        Some(socket)
    }

    /// A socket of ours is there, or is not to be had.
    pub(super) fn on_udp_bound(
        &mut self,
        id: CommandId,
        bound: Result<SocketAddr, IoFailure>,
        now: Instant,
    ) {
        let Some(at) = self.udp.sockets.iter().position(|it| it.command == id) else { return };
        let Fresh { socket, purpose, local, .. } = self.udp.sockets[at];
        if local.is_some() {
            return;
        }
        match bound {
            Ok(local) => self.udp.sockets[at].local = Some(local),
            Err(_) => drop(self.udp.sockets.swap_remove(at)),
        }
        if !matches!(self.state, State::Racing) {
            return;
        }
        match purpose {
            Purpose::Round(_) => self.on_sample_bound(socket, bound, now),
            Purpose::Draw(ttl) => self.on_draw_bound(socket, ttl, bound),
        }
    }

    /// What came to a socket of ours that is no check of the peer's. Whether it was for one.
    pub(super) fn on_udp_answer(&mut self, socket: SocketId, payload: &[u8], now: Instant) -> bool {
        let ours = self.udp.sockets.iter().any(|it| it.socket == socket);
        if ours && matches!(self.state, State::Racing) {
            self.on_sample_told(socket, payload, now);
        }
        ours
    }

    /// The local end of a socket of ours.
    pub(super) fn udp_local(&self, socket: SocketId) -> Option<SocketAddr> {
        self.udp.sockets.iter().find(|it| it.socket == socket)?.local
    }

    /// Our own sockets.
    pub(super) fn udp_sockets(&self) -> impl Iterator<Item = SocketId> {
        self.udp.sockets.iter().map(|it| it.socket)
    }

    /// Closes the socket of the path, if it is ours: whoever was given the path has one by now.
    pub(super) fn leave_udp_path(&mut self) {
        let ours = self.settled_on.map(|(socket, _)| socket);
        let ours = ours.filter(|it| self.udp_sockets().any(|socket| socket == *it));
        ours.into_iter().for_each(|socket| self.close(socket));
    }

    /// What has brought a pair about, and how many rounds came before.
    pub(super) fn udp_strategy(&self, pair: &Pair) -> (Strategy, u8) {
        if pair.kind == CandidateKind::Host {
            return (Strategy::Direct, 0);
        }
        let fresh = self.udp.sockets.iter().find(|it| it.socket == pair.socket);
        match fresh.map(|it| it.purpose) {
            Some(Purpose::Draw(_)) => (Strategy::PortCoverage, 0),
            Some(Purpose::Round(round)) if self.is_counted() => (Strategy::PortPrediction, round),
            Some(Purpose::Round(round)) => (Strategy::UdpHolePunch, round),
            None if self.is_probed(pair) => (Strategy::PortCoverage, 0),
            None => (Strategy::UdpHolePunch, 0),
        }
    }

    /// Whether one side's ports follow one another.
    fn is_counted(&self) -> bool {
        let counts = |rule| matches!(rule, Rule::Known(Ports::Sequential { .. }));
        counts(self.our_rule()) || counts(self.their_rule())
    }
}
