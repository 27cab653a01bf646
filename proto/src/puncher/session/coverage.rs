//! Port coverage, carried out: who covers and who draws, and what comes of each SYN.

use super::*;
use crate::puncher::report::{Attempt, AttemptResult, Evidence, milliseconds_since};
use crate::puncher::streams::Stream;
use crate::tcp_traversal::plan::{Part, Verdict};
use crate::tcp_traversal::port_coverage::{Coverage, Opener, Target};
use crate::tcp_traversal::shielded_opener::OPENED;
use crate::tcp_traversal::simultaneous_open::Stance;
use crate::tcp_traversal::survey::Ports;
use crate::{Hops, IoFailure};

/// How long a listener behind a filter that should let the peer in is given.
const LISTENERS_FIRST: Duration = Duration::from_millis(700);

/// A SYN that opens the own NAT for one end of the peer, and is still pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The connect, which has not been answered.
    pub command: CommandId,
    /// Its socket.
    pub socket: SocketId,
    /// The peer's end.
    pub remote: SocketAddr,
    /// How its SYN left.
    pub hops: Hops,
}

impl Session {
    /// The holes that are still open, once the session is over: whoever keeps the punching port may
    /// keep them for the next session with that peer, which then needs fewer of its own.
    pub fn leave_holes(&mut self) -> Vec<Hole> {
        let holes = self.kept_holes();
        self.engine.coverage = None;
        holes
    }

    /// The holes that are not closed when the session ends.
    pub(super) fn kept_holes(&self) -> Vec<Hole> {
        let coverage = self.engine.coverage.as_ref();
        let covers = coverage.filter(|it| self.resources.keeps_holes && it.part() == Part::Cover);
        let Some(coverage) = covers else { return Vec::new() };
        let pending = |&(command, socket): &(CommandId, SocketId)| {
            let (remote, hops) = coverage.pending_hole(socket)?;
            Some(Hole { command, socket, remote, hops })
        };
        self.connecting.iter().filter_map(pending).collect()
    }

    /// Gives the session a stream that came through a hole of an earlier one.
    pub fn adopt_hole(&mut self, socket: SocketId, ends: Ends, now: Instant) {
        self.unshield(socket);
        self.adopt_as(Some(Strategy::PortCoverage), socket, ends, now);
    }

    /// The address whose ports this session covers, and since when.
    pub fn covered(&self) -> Option<(IpAddr, Instant)> {
        let coverage = self.engine.coverage.as_ref().filter(|_| !self.is_finished())?;
        (coverage.part() == Part::Cover).then(|| (coverage.remote().ip(), coverage.started))
    }

    /// Begins, if that is planned, and sends what is due.
    pub(super) fn cover(&mut self, now: Instant) {
        let due = self.coverage_start().is_some_and(|start| start <= now);
        if self.engine.coverage.is_none() && due {
            let target = self.coverage_target();
            let (role, share) = (self.introduction.role, self.resources.per_attempt);
            let standing = self.resources.holes.clone();
            let begun = |target| Coverage::new(target, role, share, now).beside(&standing);
            self.engine.coverage = target.map(begun);
        }
        self.learn_coverage(now);
        self.renew_holes(now);
        let left = self.engine.spending.left();
        let Some(coverage) = &mut self.engine.coverage else { return };
        let part = coverage.part();
        for remote in coverage.group(left, &mut self.entropy, now) {
            let Some(local) = self.tcp_local(Family::of(remote.ip())) else { return };
            let fresh = SocketAddr::new(local.ip(), 0);
            let local = if part == Part::Draw { fresh } else { local };
            let Some(hops) = self.engine.coverage.as_ref().map(Coverage::hops) else { return };
            let socket = self.connect(local, remote, hops);
            if let Some(coverage) = &mut self.engine.coverage {
                coverage.connecting(socket, remote, now);
            }
        }
    }

    /// How SYNs leave that die on the way, by what is known now.
    fn learn_coverage(&mut self, now: Instant) {
        let Some(part) = self.engine.coverage.as_ref().map(Coverage::part) else { return };
        let (ours, theirs) = (self.our_facts(now), self.their_facts(now));
        let opens = part == Part::Cover || theirs.admits_syn == Some(false);
        let opener = match self.usual_opening() {
            Stance::Open(ttl) if opens => Some(Opener {
                ttl,
                is_measured: self.resources.opener_ttl.is_some(),
                answered: theirs.answers,
                admits_syn: ours.admits_syn,
            }),
            _ => None,
        };
        if let Some(coverage) = &mut self.engine.coverage {
            coverage.learn(opener);
        }
    }

    fn renew_holes(&mut self, now: Instant) {
        let Some(coverage) = &mut self.engine.coverage else { return };
        let due: Vec<_> = std::iter::from_fn(|| coverage.renew(now)).collect();
        for (socket, hops) in due {
            let id = self.names.command();
            self.commands.push_back(Command::RenewTcp { id, socket, hops });
            let id = self.names.command();
            self.commands.push_back(Command::AdjustTcp { id, socket, hops: OPENED });
        }
    }

    /// When it begins, if that is planned.
    fn coverage_start(&self) -> Option<Instant> {
        match self.engine.plan.verdict(Strategy::PortCoverage)? {
            Verdict::Run(_) | Verdict::AfterRefusals(_) => Some(self.introduction.start),
            Verdict::AfterSilence(_) if !self.streams.are_hopeful() => {
                Some(self.introduction.start + LISTENERS_FIRST)
            }
            Verdict::AfterSilence(_) | Verdict::Skip(_) => None,
        }
    }

    /// When there is something to do.
    pub(super) fn coverage_due(&self) -> Option<Deadline> {
        let at = match &self.engine.coverage {
            Some(coverage) => coverage.due(),
            None => self.coverage_start().filter(|_| self.coverage_target().is_some()),
        };
        at.map(|at| Deadline::new(at, "more holes or draws"))
    }

    fn coverage_target(&self) -> Option<Target> {
        let remote = self.announced_end()?;
        let part = self.verdict(Strategy::PortCoverage)?;
        match (part, self.engine.their_ports()) {
            (Part::Draw, _) => Some(Target::Draws { remote }),
            (Part::Cover, Ports::Random { low, high }) => {
                Some(Target::Holes { ip: remote.ip(), low, high })
            }
            (Part::Cover, Ports::Unknown | Ports::Steady | Ports::Sequential { .. }) => {
                let Ports::Random { low, high } = Ports::ANYWHERE else { return None };
                Some(Target::Holes { ip: remote.ip(), low, high })
            }
            (Part::Both | Part::Opener | Part::Dialer, _) => None,
        }
    }

    /// The TCP end at which a server has seen the peer.
    pub(super) fn announced_end(&self) -> Option<SocketAddr> {
        self.end_among(|_| true)
    }

    /// The same in one family of addresses.
    pub(super) fn end_in(&self, family: Family) -> Option<SocketAddr> {
        self.end_among(|it| Family::of(it.ip()) == family)
    }

    fn end_among(&self, wanted: impl Fn(SocketAddr) -> bool) -> Option<SocketAddr> {
        let dialers = || self.dialers.iter().filter(|it| wanted(it.remote));
        let seen = |it: &&Dialer| {
            it.kind != CandidateKind::Host && it.strategy == Strategy::SimultaneousOpen
        };
        let announced = dialers().find(seen).map(|dialer| dialer.remote);
        // Without a NAT of its own it is known by its own address.
        announced.or_else(|| {
            let public = |it: &&Dialer| !address::is_private(it.remote.ip());
            dialers().find(public).map(|dialer| dialer.remote)
        })
    }

    /// Whether this was a hole or a draw.
    pub(super) fn on_covered(
        &mut self,
        socket: SocketId,
        connected: Result<Ends, IoFailure>,
        now: Instant,
    ) -> bool {
        let Some(coverage) = &mut self.engine.coverage else { return false };
        if !coverage.settle(socket) {
            return false;
        }
        match connected {
            Ok(ends) => {
                self.unshield(socket);
                let kind = self.kind_of(Transport::Tcp, ends.remote);
                self.established(socket, ends, (kind, Strategy::PortCoverage), now);
            }
            Err(IoFailure::OverBudget) => coverage.refused(self.engine.spending.again()),
            Err(failure) => coverage.failed(failure),
        }
        true
    }

    /// What became of all holes or draws together.
    pub(super) fn coverage_attempt(
        &self,
        winner: Option<(Transport, SocketAddr)>,
        now: Instant,
    ) -> Option<Attempt> {
        let coverage = self.engine.coverage.as_ref()?;
        let stream = self.streams.all.iter().find(|it| it.strategy == Strategy::PortCoverage);
        let mut evidence = vec![match coverage.part() {
            Part::Cover => Evidence::Holes(coverage.sent),
            Part::Draw | Part::Both | Part::Opener | Part::Dialer => Evidence::Draws(coverage.sent),
        }];
        if coverage.standing > 0 {
            evidence.push(Evidence::StandingHoles(coverage.standing));
        }
        let failures = coverage.failures.each();
        evidence.extend(failures.map(|(it, count)| Evidence::ConnectFailed(it, count)));
        if coverage.refused > 0 {
            evidence.push(Evidence::OverBudget(coverage.refused));
        }
        evidence.extend(self.engine.spending.evidence(now));
        evidence.extend(stream.into_iter().flat_map(account::stream_evidence));
        let remote = stream.map_or(coverage.remote(), |stream| stream.ends.remote);
        let won = winner == Some((Transport::Tcp, remote)) && stream.is_some();
        let result = match (won, stream.is_some_and(Stream::is_open)) {
            (true, _) => AttemptResult::Won,
            (false, true) => AttemptResult::Verified,
            (false, false) => account::unfinished(winner.is_some(), coverage.sent),
        };
        Some(Attempt {
            strategy: Strategy::PortCoverage,
            transport: Transport::Tcp,
            role: self.introduction.role,
            remote,
            candidate: self.kind_of(Transport::Tcp, remote),
            started_ms: milliseconds_since(self.called, coverage.started),
            ended_ms: milliseconds_since(self.called, stream.map_or(now, |it| it.established)),
            result,
            evidence,
        })
    }
}
