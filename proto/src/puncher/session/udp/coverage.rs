//! Port coverage over UDP: one side's port is steady, the other's is anybody's guess.
//!
//! ```text
//!  A (random)                 NA                            NB      B (steady, port b)
//!  |--a1 to B*, TTL 2 ------->| q1 opens --->x               |                |
//!  |--a2 to B*, TTL 2 ------->| q2 opens --->x               |                |
//!  |====== "I draw" ==================================================broker=>|
//!  |                          |x<----------------------------|<-- b to A*:p1 -|
//!  |<------- a2 --------------|<----------- p2 = q2 ---------|<-- b to A*:p2 -|
//!  |--------- answer -------->| from q2 -------------------->| b let p2 in -->|
//! ```
//!
//! A draw opens a port of A's NAT for B's one end and dies on the way, so that it comes too early for nobody
//! (see [rounds](super::rounds)). B probes ports of A at random; one that is open lets the probe in, and the
//! answer comes back through the hole that the probe has made. With k draws and m probes among
//! N = 64,512 ports nothing is hit with a probability of exp(-k·m / N): 256 draws and 768 probes, which
//! leave within a second, meet in 95 cases of 100, after a third of a second on average. The probes' holes
//! outlive them, so that draws of a second and third time, all the way now, meet in as many of the rest.
//!
//! Preconditions: one side steady, the other random. No privilege. Draws and probes are within the
//! [budget](crate::tcp_traversal::budget), as those over TCP are.

use super::*;
use crate::IoFailure;
use crate::puncher::report::{Attempt, AttemptResult, Evidence, milliseconds_since};
use crate::tcp_traversal::plan::Part;
use crate::tcp_traversal::port_coverage::{Coverage, Target};
use ntcp_stun::TransactionId;

/// Draws that leave together, or probes: a thousand, or 800, in a second.
const DRAWS: u32 = 16;
const PROBES: u32 = 13;
/// From one attempt's draws to the next one's: the probes have left by then, even of a peer that is late.
const BETWEEN_DRAWS: Duration = Duration::from_millis(1000);

/// What is under way.
#[derive(Debug)]
pub(super) struct Covering {
    coverage: Coverage,
    probes: Vec<Probe>,
    /// The attempt of the last draw.
    attempt: u32,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    command: CommandId,
    port: u16,
    id: TransactionId,
    at: Instant,
}

impl Session {
    pub(super) fn begin_draws(&mut self, now: Instant) {
        let Some(remote) = self.udp_end() else { return };
        if let Rule::Known(ports) = self.our_rule() {
            self.udp.ports = ports;
        }
        // A probe that comes before the first draw hits nothing: the peer waits for this word.
        self.udp.opened = 1;
        self.begin_covering(Target::Draws { remote }, (DRAWS, BETWEEN_DRAWS), now);
    }

    pub(super) fn begin_probes(&mut self, ports: Ports, now: Instant) {
        let Some(ip) = self.udp_end().map(|end| end.ip()) else { return };
        let Ports::Random { low, high } = ports else { return };
        self.begin_covering(Target::Holes { ip, low, high }, (PROBES, Duration::ZERO), now);
    }

    fn begin_covering(&mut self, target: Target, pace: (u32, Duration), now: Instant) {
        let (role, share) = (self.introduction.role, self.resources.per_attempt);
        let coverage = Coverage::new(target, role, share, now).paced(pace.0, pace.1);
        self.udp.covering = Some(Covering { coverage, probes: Vec::new(), attempt: 0 });
    }

    /// Sends what is due.
    pub(super) fn cover_udp(&mut self, now: Instant) {
        let left = self.engine.spending.left_datagrams();
        let Some(covering) = &mut self.udp.covering else { return };
        let group = covering.coverage.group(left, &mut self.entropy, now);
        let part = covering.coverage.part();
        for remote in group {
            match part {
                Part::Cover => self.probe(remote, now),
                Part::Draw | Part::Both | Part::Opener | Part::Dialer => {
                    self.draw(remote, now);
                }
            }
        }
    }

    fn draw(&mut self, remote: SocketAddr, now: Instant) {
        let Some(covering) = &mut self.udp.covering else { return };
        let attempt = covering.coverage.upcoming();
        let further = u8::from(covering.coverage.sent % 4 == 3);
        if attempt != covering.attempt {
            covering.attempt = attempt;
            self.close_draws();
        }
        // Where nobody knows how far away our outermost NAT is, some go one router further. Not all: where the
        // peer's is near and has an open input chain, a draw that it hears of can be met by no probe.
        let first = self.resources.opener_ttl.unwrap_or(OPENER_TTL + further);
        let ttl = (attempt == 0).then_some(first);
        let socket = self.open_fresh(Purpose::Draw(ttl));
        if let (Some(socket), Some(covering)) = (socket, &mut self.udp.covering) {
            covering.coverage.connecting(socket, remote, now);
        }
    }

    /// Nobody has met them.
    fn close_draws(&mut self) {
        let is_draw = |it: &Fresh| matches!(it.purpose, Purpose::Draw(_));
        let draws: Vec<_> = self.udp.sockets.extract_if(.., |it| is_draw(it)).collect();
        draws.into_iter().for_each(|it| self.close(it.socket));
    }

    /// A draw's socket is there, or is not to be had.
    pub(super) fn on_draw_bound(
        &mut self,
        socket: SocketId,
        ttl: Option<u8>,
        bound: Result<SocketAddr, IoFailure>,
    ) {
        let Some(covering) = &mut self.udp.covering else { return };
        let remote = covering.coverage.pending_remote(socket);
        match (bound, remote) {
            (Ok(_), Some(remote)) => {
                let payload = self.authenticator.request(self.entropy.transaction_id(), false);
                self.send_udp(socket, remote, ttl, payload);
            }
            (Ok(_), None) => {}
            (Err(failure), _) => {
                covering.coverage.settle(socket);
                match failure {
                    IoFailure::OverBudget => {
                        covering.coverage.refused(self.engine.spending.again());
                    }
                    _ => covering.coverage.stop(failure),
                }
            }
        }
    }

    fn probe(&mut self, remote: SocketAddr, now: Instant) {
        let Some(socket) = self.udp_socket(Family::of(remote.ip())) else { return };
        let id = self.entropy.transaction_id();
        let payload = self.authenticator.request(id, false);
        let command = self.names.command();
        if let Some(covering) = &mut self.udp.covering {
            covering.coverage.connecting(socket, remote, now);
            covering.probes.push(Probe { command, port: remote.port(), id, at: now });
        }
        self.commands.push_back(Command::SendUdp {
            id: command,
            socket,
            remote,
            ttl: None,
            payload,
        });
    }

    /// Whether this command is a draw or a probe: each costs a NAT an entry.
    pub(in super::super) fn is_udp_guess(&self, command: &Command) -> bool {
        let probes = || self.udp.covering.iter().flat_map(|it| it.probes.iter().rev());
        match command {
            Command::BindUdp { id, .. } => self
                .udp
                .sockets
                .iter()
                .rev()
                .any(|it| it.command == *id && matches!(it.purpose, Purpose::Draw(_))),
            Command::SendUdp { id, .. } => probes().any(|it| it.command == *id),
            _ => false,
        }
    }

    /// The attempt that the next guess belongs to.
    pub(in super::super) fn udp_attempt_number(&self) -> u32 {
        self.udp.covering.as_ref().map_or(0, |it| it.coverage.attempt())
    }

    /// Whether this was the fate of a probe.
    pub(in super::super) fn on_probe_sent(
        &mut self,
        id: CommandId,
        sent: Result<(), IoFailure>,
    ) -> bool {
        let Some(covering) = &mut self.udp.covering else { return false };
        if !covering.probes.iter().rev().any(|it| it.command == id) {
            return false;
        }
        match sent {
            Ok(()) => {}
            Err(IoFailure::OverBudget) => covering.coverage.refused(self.engine.spending.again()),
            Err(failure) => covering.coverage.failed(failure),
        }
        true
    }

    /// An answer to a probe makes a pair of it.
    pub(in super::super) fn on_probe_answered(
        &mut self,
        (socket, source): (SocketId, SocketAddr),
        id: TransactionId,
        now: Instant,
    ) {
        let Some(covering) = &self.udp.covering else { return };
        let ours = |it: &&Probe| it.port == source.port() && it.id == id;
        let Some(probe) = covering.probes.iter().find(ours).copied() else { return };
        self.checklist.heard(socket, source, now);
        if let Some(index) = self.checklist.position(socket, source) {
            self.checklist.pairs[index].sending(id, probe.at);
        }
    }

    /// Whether the pair came about by probes: ours have hit its remote end, or the peer's have hit the port that
    /// it leaves from, which may be the usual one.
    pub(super) fn is_probed(&self, pair: &Pair) -> bool {
        let Some(covering) = &self.udp.covering else { return false };
        match covering.coverage.part() {
            Part::Draw => true,
            Part::Cover | Part::Both | Part::Opener | Part::Dialer => {
                let hit = covering.probes.iter().any(|it| it.port == pair.remote.port());
                pair.kind == CandidateKind::PeerReflexive && hit
            }
        }
    }

    pub(super) fn udp_coverage_due(&self) -> Option<Instant> {
        self.udp.covering.as_ref().and_then(|it| it.coverage.due())
    }

    /// What became of all draws or probes together.
    pub(in super::super) fn udp_coverage_attempt(
        &self,
        winner: Option<(Transport, SocketAddr)>,
        now: Instant,
    ) -> Option<Attempt> {
        let coverage = &self.udp.covering.as_ref()?.coverage;
        let mut evidence = vec![match coverage.part() {
            Part::Cover => Evidence::Holes(coverage.sent),
            Part::Draw | Part::Both | Part::Opener | Part::Dialer => Evidence::Draws(coverage.sent),
        }];
        let failures = coverage.failures.each();
        evidence.extend(failures.map(|(it, count)| Evidence::SendFailed(it, count)));
        if coverage.refused > 0 {
            evidence.push(Evidence::OverBudget(coverage.refused));
        }
        let covered = |it: &&Pair| self.udp_strategy(it).0 == Strategy::PortCoverage;
        let pairs = || self.checklist.pairs.iter().filter(covered);
        let won = pairs().find(|it| winner == Some((Transport::Udp, it.remote)));
        let pair = won.or_else(|| pairs().next());
        evidence.extend(pair.filter(|it| it.heard).map(|_| Evidence::Heard));
        let verified = pair.and_then(|it| it.verified);
        evidence.extend(verified.map(|_| Evidence::Answered));
        Some(Attempt {
            strategy: Strategy::PortCoverage,
            transport: Transport::Udp,
            role: self.introduction.role,
            remote: pair.map_or(coverage.remote(), |pair| pair.remote),
            candidate: pair.map_or(CandidateKind::ServerReflexive, |pair| pair.kind),
            started_ms: milliseconds_since(self.called, coverage.started),
            ended_ms: milliseconds_since(self.called, verified.map_or(now, |it| it.at)),
            result: match (won, verified) {
                (Some(_), _) => AttemptResult::Won,
                (None, Some(_)) => AttemptResult::Verified,
                (None, None) => account::unfinished(winner.is_some(), coverage.sent),
            },
            evidence,
        })
    }
}
