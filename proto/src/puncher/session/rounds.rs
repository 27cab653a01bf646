//! Rounds, carried out: a survey from fresh ports, a word to the peer, and one SYN.

use super::*;
use crate::IoFailure;
use crate::tcp_traversal::crossing::{self, PAIRS};
use crate::tcp_traversal::note::Crowd;
use crate::tcp_traversal::plan::{Part, Verdict};
use crate::tcp_traversal::rounds::{Purpose, Rounds, Stage};
use crate::tcp_traversal::simultaneous_open::Stance;
use crate::tcp_traversal::survey::{Ports, SAMPLES, Sample};

/// How long the dialer waits for the opener's word before it dials all the same.
const OPENER_PATIENCE: Duration = Duration::from_millis(1500);
/// How long after the first refusal the recovery begins: a refusal that does no harm is followed by
/// a connection where the path is short.
const AFTER_REFUSAL: Duration = Duration::from_millis(50);
/// How long nothing may come at all.
const AFTER_SILENCE: Duration = Duration::from_secs(1);
/// The same if the peer has not told what its ports are like.
const AFTER_MUTENESS: Duration = Duration::from_secs(2);
/// The same where one side's ports are sequential: refusals belong to that, and a forecast has to be
/// told, dialled and answered first.
const AFTER_FORECAST: Duration = Duration::from_millis(2500);
/// How long beyond three round trips a foretold end is waited for.
const FORETOLD_MARGIN: Duration = Duration::from_millis(300);
/// Rounds of a recovery in which the parts follow from what is known of the NATs. Later ones follow
/// from the roles, on which both sides agree whatever they know.
const BY_KNOWLEDGE: u8 = 2;

impl Session {
    /// Begins the rounds, or takes their next step.
    pub(super) fn go_round(&mut self, now: Instant) {
        let purpose = self.purpose(now);
        self.engine.may_recover = purpose == Some(Purpose::Recovery);
        let Some(purpose) = purpose else {
            self.engine.rounds = None;
            return;
        };
        let theirs = self.engine.theirs.map_or(0, |standing| standing.round);
        let Some(rounds) = self.engine.rounds.filter(|it| it.purpose == purpose) else {
            let surveys = self.engine.survey.is_some() && !self.engine.judged;
            if surveys && self.engine.rounds.is_none() {
                return;
            }
            if theirs > 0 || self.rounds_start(purpose).is_some_and(|start| start <= now) {
                let first = Rounds::first(purpose, theirs);
                let beside = self.no_opener_helps();
                let first = if beside { first.crossing() } else { first };
                self.begin_round(Rounds { first: first.round, beside, ..first }, now);
            }
            return;
        };
        match rounds.stage {
            Stage::Surveying if !self.engine.judged => {}
            Stage::Surveying if self.engine.spare.is_none() => self.next_round(theirs, now),
            Stage::Surveying => {
                self.engine.rounds = Some(Rounds { stage: Stage::Told, ..rounds });
                self.engine.told_at = now;
                self.fire(now);
            }
            Stage::Told | Stage::Fired { .. } if theirs > rounds.round => {
                self.next_round(theirs, now);
            }
            Stage::Told => self.fire(now),
            Stage::Fired { until } if until <= now => self.next_round(theirs, now),
            Stage::Fired { .. } => {}
        }
    }

    /// What rounds are good for by now, if for anything.
    fn purpose(&self, now: Instant) -> Option<Purpose> {
        let sequential = |ports| matches!(ports, Ports::Sequential { .. });
        let random = |ports| matches!(ports, Ports::Random { .. });
        if sequential(self.engine.ports) && sequential(self.engine.their_ports()) {
            return Some(Purpose::Foretold);
        }
        let [ours, theirs] = [self.our_facts(now), self.their_facts(now)].map(|it| it.ports);
        let hopeless = random(ours) || random(theirs);
        let asks = self.announced_end().is_some() && !self.resources.stun.is_empty();
        (asks && !hopeless).then_some(Purpose::Recovery)
    }

    /// When rounds begin by themselves.
    fn rounds_start(&self, purpose: Purpose) -> Option<Instant> {
        if purpose == Purpose::Foretold {
            return Some(self.called);
        }
        if self.streams.are_hopeful() {
            return None;
        }
        let start = self.introduction.start;
        if self.no_opener_helps() {
            // It has to be prepared, and that costs no NAT a port.
            return Some(start);
        }
        let foretold = |it: &&Dialer| it.strategy == Strategy::PortPrediction;
        let dialled = self.dialers.iter().find(foretold).map(|dialer| dialer.started);
        let (sign, silence) = if self.is_counting() {
            (dialled.map(|at| at + 3 * self.engine.rtt + FORETOLD_MARGIN), AFTER_FORECAST)
        } else if self.engine.their_ports() == Ports::Unknown {
            (None, AFTER_MUTENESS)
        } else {
            (self.engine.refused_at.map(|at| at + AFTER_REFUSAL), AFTER_SILENCE)
        };
        Some(sign.map_or(start + silence, |at| at.min(start + silence)))
    }

    /// Whether one side's ports follow one another.
    fn is_counting(&self) -> bool {
        let surveys = self.engine.survey.is_some() && self.engine.ports == Ports::Unknown;
        surveys || self.engine.ports.is_unsteady() || self.engine.their_ports().is_unsteady()
    }

    pub(super) fn begin_round(&mut self, rounds: Rounds, now: Instant) {
        self.engine.rounds = Some(rounds);
        self.engine.judged = false;
        self.engine.spare = None;
        let unsteady = self.engine.ports.is_unsteady();
        if unsteady {
            // Nothing else may take a port from now on.
            self.dialers.iter_mut().for_each(Dialer::hold);
        }
        let count = match (unsteady, self.round_part(rounds)) {
            // The rule is known: what is asked is how far it has come.
            (true, _) if matches!(self.engine.ports, Ports::Sequential { .. }) => 1,
            (true, _) => SAMPLES,
            (false, Part::Both) => PAIRS,
            (false, Part::Opener | Part::Dialer | Part::Cover | Part::Draw) => 1,
        };
        self.begin_survey(count, Some(now));
        self.tell();
    }

    fn next_round(&mut self, theirs: u8, now: Instant) {
        let next = self.engine.rounds.and_then(|rounds| rounds.next(theirs));
        let next = if self.no_opener_helps() { next.map(Rounds::crossing) } else { next };
        let alone = !self.streams.are_hopeful();
        if let Some(next) = next.filter(|_| alone) {
            self.begin_round(next, now);
        }
    }

    /// Where the peer can be met in this round, if it has told.
    fn meeting_point(&self, rounds: Rounds) -> Option<SocketAddr> {
        let theirs = self.engine.theirs.filter(|it| it.round == rounds.round)?;
        let point = match theirs.ports {
            Ports::Sequential { .. } => {
                SocketAddr::new(self.announced_end()?.ip(), theirs.forecast?.first)
            }
            Ports::Unknown | Ports::Steady | Ports::Random { .. } => theirs.spare?,
        };
        let same = |local: SocketAddr| Family::of(local.ip()) == Family::of(point.ip());
        let ours = self.engine.spare.is_some_and(|spare| same(spare.local));
        (ours && self.is_worth_trying(point)).then_some(point)
    }

    fn round_part(&self, rounds: Rounds) -> Part {
        let by_role = match self.introduction.role {
            Role::Controlling => Part::Dialer,
            Role::Controlled => Part::Opener,
        };
        let known = rounds.purpose == Purpose::Recovery && rounds.round <= BY_KNOWLEDGE;
        let planned = match self.engine.plan.verdict(Strategy::ShieldedOpener) {
            Some(
                Verdict::Run(part) | Verdict::AfterRefusals(part) | Verdict::AfterSilence(part),
            ) if known => part,
            _ => by_role,
        };
        let part = rounds.part(planned);
        let now = self.introduction.start;
        let opener = match part {
            Part::Opener => self.our_facts(now),
            Part::Dialer => self.their_facts(now),
            Part::Both | Part::Cover | Part::Draw => return part,
        };
        // To change the parts is of no use where it is known what becomes of the other's hole.
        if known && opener.can_open() == Some(false) { planned } else { part }
    }

    /// Whether an opener of the peer sends its SYN all the way, and hears only what is loud.
    pub(super) fn their_opener_is_deaf(&self) -> bool {
        let theirs = self.their_facts(self.introduction.start);
        theirs.hole_outlives_ttl == Some(false)
    }

    /// Whether both NATs are known to forget a SYN that dies on the way, and what is refused as well.
    pub(super) fn no_opener_helps(&self) -> bool {
        let now = self.introduction.start;
        let facts = [self.our_facts(now), self.their_facts(now)];
        facts.iter().all(|it| it.can_open() == Some(false))
    }

    /// The fresh ports of a staggered crossing, if it is time for one.
    pub(super) fn our_crowd(&self) -> Option<Crowd> {
        let rounds = self.engine.rounds.filter(|it| it.stage != Stage::Surveying)?;
        let crosses = rounds.purpose == Purpose::Recovery && self.round_part(rounds) == Part::Both;
        let ip = self.engine.spare?.mapped.ip();
        let same = |sample: &&Sample| sample.mapped.ip() == ip;
        let ports: Vec<u16> =
            self.engine.crowd.iter().filter(same).map(|it| it.mapped.port()).collect();
        (crosses && ports.len() > 1).then(|| Crowd::new(&ports, self.engine.rtt))
    }

    /// Many pairs of ports: the caller's SYNs leave when it hears of the callee's, which leave one after the
    /// other around the times at which that may be. Whether there are any.
    fn cross(&mut self, rounds: Rounds, opened: bool, now: Instant) -> bool {
        let Some((ours, theirs)) =
            self.our_crowd().zip(self.engine.theirs.and_then(|standing| standing.crowd))
        else {
            return false;
        };
        let Some(remote) = self.meeting_point(rounds) else { return false };
        let caller = self.introduction.role == Role::Controlling;
        if caller && !opened && self.engine.told_at + OPENER_PATIENCE > now {
            return true;
        }
        let path = self.engine.path.unwrap_or(ours.rtt().min(theirs.rtt()));
        let times = crossing::times(ours.rtt(), theirs.rtt(), path);
        let ip = self.engine.spare.map(|spare| spare.mapped.ip());
        let locals = self.engine.crowd.iter().filter(|it| Some(it.mapped.ip()) == ip);
        let locals: Vec<SocketAddr> = locals.map(|it| it.local).collect();
        let mut last = now;
        for ((local, port), at) in locals.into_iter().zip(theirs.ports()).zip(times) {
            let at = if caller { now } else { now + at };
            let remote = SocketAddr::new(remote.ip(), *port);
            let mut dialer = Dialer::new(remote, CandidateKind::ServerReflexive, at);
            dialer.earlier = rounds.earlier();
            // One SYN: what is refused has lost its port.
            (dialer.local, dialer.suspended) = (Some(local), true);
            self.dialers.push(dialer);
            last = last.max(at);
        }
        self.race(now);
        self.engine.opened = rounds.round;
        let until = last + rounds.patience(Part::Both, self.engine.rtt);
        self.engine.rounds = Some(Rounds { stage: Stage::Fired { until }, ..rounds });
        true
    }

    /// Our fresh port is told: its SYN leaves as soon as the peer's is, and its opener has opened.
    fn fire(&mut self, now: Instant) {
        let Some(rounds) = self.engine.rounds else { return };
        let opened = self.engine.theirs.is_some_and(|it| it.opened == rounds.round);
        if self.cross(rounds, opened, now) {
            return;
        }
        let Some(remote) = self.meeting_point(rounds) else { return };
        let part = self.round_part(rounds);
        let waited = self.engine.told_at + OPENER_PATIENCE <= now;
        let stance = match part {
            // In IPv6 the shield does not hold.
            Part::Opener if remote.is_ipv4() => {
                self.opening_stance(rounds.ttl(self.resources.opener_ttl))
            }
            Part::Dialer if !opened && !waited => return,
            Part::Dialer if remote.is_ipv4() && self.their_opener_is_deaf() => Stance::DialLoud,
            Part::Both | Part::Opener | Part::Dialer | Part::Cover | Part::Draw => Stance::Dial,
        };
        let mut dialer = Dialer::new(remote, CandidateKind::ServerReflexive, now);
        dialer.local = self.engine.spare.map(|spare| spare.local);
        dialer.stance = stance;
        dialer.earlier = rounds.earlier();
        let steady = !self.engine.ports.is_unsteady() && !self.engine.their_ports().is_unsteady();
        if !steady {
            dialer.strategy = Strategy::PortPrediction;
        }
        self.dialers.push(dialer);
        self.race(now);
        // One SYN: another one might have another port.
        if let Some(fired) = self.dialers.last_mut() {
            fired.hold();
        }
        if part == Part::Opener {
            self.engine.opened = rounds.round;
        }
        let until = now + rounds.patience(part, self.engine.rtt);
        self.engine.rounds = Some(Rounds { stage: Stage::Fired { until }, ..rounds });
    }

    /// The one SYN of this round was refused, so that nothing more will come of it.
    pub(super) fn hasten(&mut self, local: Option<SocketAddr>, now: Instant) {
        let Some(rounds) = self.engine.rounds else { return };
        let fired = matches!(rounds.stage, Stage::Fired { .. });
        let ours = local.is_some() && local == self.engine.spare.map(|spare| spare.local);
        let recovers = rounds.purpose == Purpose::Recovery;
        if fired && ours && recovers && self.round_part(rounds) == Part::Dialer {
            self.engine.rounds = Some(Rounds { stage: Stage::Fired { until: now }, ..rounds });
        }
    }

    /// A NAT on the way to the peer has refused a SYN.
    pub(super) fn note_refusal(
        &mut self,
        kind: CandidateKind,
        failure: IoFailure,
        (began, now): (Instant, Instant),
    ) {
        let by_nat =
            matches!(failure, IoFailure::Refused | IoFailure::Reset | IoFailure::HostUnreachable);
        if by_nat && kind != CandidateKind::Host {
            self.engine.refused_at.get_or_insert(now);
            let took = now.saturating_duration_since(began);
            self.engine.path = Some(self.engine.path.map_or(took, |path| path.min(took)));
        }
    }

    /// When a round has to go on by itself.
    pub(super) fn round_due(&self) -> Option<Instant> {
        let Some(rounds) = self.engine.rounds else {
            let surveys = self.engine.survey.is_some() && !self.engine.judged;
            let begins = self.engine.may_recover && !surveys;
            return self.rounds_start(Purpose::Recovery).filter(|_| begins);
        };
        match rounds.stage {
            Stage::Fired { until } => {
                let alone = !self.streams.are_hopeful();
                (alone && rounds.next(0).is_some()).then_some(until)
            }
            Stage::Told => {
                let caller = self.introduction.role == Role::Controlling;
                let crosses = caller && self.our_crowd().is_some();
                let waits = crosses || self.round_part(rounds) == Part::Dialer;
                let known = self.meeting_point(rounds).is_some();
                (waits && known).then_some(self.engine.told_at + OPENER_PATIENCE)
            }
            Stage::Surveying => None,
        }
    }
}
