//! Port prediction, carried out: what we foretell, and what we dial of the peer's forecast.

use super::*;
use crate::tcp_traversal::note::Forecast;
use crate::tcp_traversal::plan::Part;
use crate::tcp_traversal::port_prediction::{self, Rounds, Stage};
use crate::tcp_traversal::simultaneous_open::Stance;
use crate::tcp_traversal::survey::{Ports, SAMPLES};

/// Foretold ends of the peer that one session dials at most.
const MAX_FORETOLD: usize = 24;
/// How long the dialer waits for the opener's word before it dials all the same.
const OPENER_PATIENCE: Duration = Duration::from_millis(1500);

impl Session {
    /// What the peer is told of our next ports.
    pub(super) fn our_forecast(&self) -> Option<Forecast> {
        let (Ports::Sequential { step }, Some((last, after))) =
            (self.engine.ports, self.engine.last)
        else {
            return None;
        };
        match self.engine.rounds {
            Some(Rounds { stage: Stage::Surveying, .. }) => None,
            // Our SYN has used that port, but the peer may still need to know which it was.
            Some(_) => Some(port_prediction::exact(last, step, 0)),
            None => {
                let begun = self.engine.connects.saturating_sub(after);
                Some(port_prediction::forecast(last, step, begun))
            }
        }
    }

    /// Dials what the peer foretold, or goes on with the rounds of two sequential sides.
    pub(super) fn predict(&mut self, now: Instant) {
        let Some(part) = self.engine.plan.part(Strategy::PortPrediction) else { return };
        let both = matches!(self.engine.ports, Ports::Sequential { .. })
            && matches!(self.engine.their_ports(), Ports::Sequential { .. });
        if both {
            return self.go_round(part, now);
        }
        if self.engine.survey.is_some() && !self.engine.judged {
            // Should our own ports turn out to follow one another, each of these would be lost.
            return;
        }
        let forecast = self.engine.theirs.and_then(|standing| standing.forecast);
        let (Part::Dialer, Some(forecast)) = (part, forecast) else { return };
        let Some(ip) = self.announced_end().map(|end| end.ip()) else { return };
        for port in forecast.ports() {
            self.dial_foretold(SocketAddr::new(ip, port), Stance::Dial, now);
        }
        self.race(now);
    }

    /// Whether that end is dialled from now on.
    fn dial_foretold(&mut self, remote: SocketAddr, stance: Stance, now: Instant) -> bool {
        let foretold = |it: &&Dialer| it.strategy == Strategy::PortPrediction;
        let known = self.dialers.iter().any(|it| it.remote == remote);
        if known || self.dialers.iter().filter(foretold).count() >= MAX_FORETOLD {
            return known;
        }
        let mut dialer = Dialer::new(remote, CandidateKind::ServerReflexive, now);
        dialer.strategy = Strategy::PortPrediction;
        dialer.stance = stance;
        self.dialers.push(dialer);
        true
    }

    fn go_round(&mut self, part: Part, now: Instant) {
        let Some(rounds) = self.engine.rounds else {
            // Nothing else may take a port from now on.
            self.dialers.iter_mut().for_each(Dialer::hold);
            return self.begin_round(Rounds::FIRST, now);
        };
        let theirs = self.engine.theirs.map_or(0, |standing| standing.round);
        match rounds.stage {
            Stage::Surveying if self.engine.judged => {
                let told = matches!(self.engine.ports, Ports::Sequential { .. });
                let stage = if told { Stage::Told } else { Stage::Surveying };
                self.engine.rounds = Some(Rounds { stage, ..rounds });
                self.engine.told_at = now;
                self.go_round_on(part, now);
            }
            Stage::Surveying => {}
            Stage::Told | Stage::Fired { .. } if theirs > rounds.round => {
                self.next_round(rounds, theirs, now);
            }
            Stage::Told => self.go_round_on(part, now),
            Stage::Fired { until } if until <= now => self.next_round(rounds, theirs, now),
            Stage::Fired { .. } => {}
        }
    }

    fn begin_round(&mut self, rounds: Rounds, now: Instant) {
        self.engine.rounds = Some(rounds);
        self.engine.judged = false;
        self.begin_survey(SAMPLES, Some(now));
        self.tell();
    }

    fn next_round(&mut self, rounds: Rounds, theirs: u8, now: Instant) {
        if let Some(next) = rounds.next(theirs) {
            self.begin_round(next, now);
        }
    }

    /// Our forecast is told: fires as soon as the peer's is there, and its opener has opened.
    fn go_round_on(&mut self, part: Part, now: Instant) {
        let (Some(rounds), Some(theirs)) = (self.engine.rounds, self.engine.theirs) else { return };
        let Some(forecast) = theirs.forecast.filter(|_| theirs.round == rounds.round) else {
            return;
        };
        let stance = match (rounds.has_opener(), part) {
            (true, Part::Opener) => Stance::Open(rounds.ttl()),
            (true, _) => {
                let waited = self.engine.told_at + OPENER_PATIENCE <= now;
                if theirs.opened != rounds.round && !waited {
                    return;
                }
                Stance::Dial
            }
            (false, _) => Stance::Dial,
        };
        let Some(ip) = self.announced_end().map(|end| end.ip()) else { return };
        let remote = SocketAddr::new(ip, forecast.first);
        if self.dial_foretold(remote, stance, now) {
            self.race(now);
            // One SYN: another one would have another port.
            let fired = self.dialers.iter_mut().find(|it| it.remote == remote);
            fired.into_iter().for_each(Dialer::hold);
        }
        if stance != Stance::Dial {
            self.engine.opened = rounds.round;
        }
        let until = now + Rounds::patience(self.engine.rtt);
        self.engine.rounds = Some(Rounds { stage: Stage::Fired { until }, ..rounds });
    }

    /// When a round has to go on by itself.
    pub(super) fn round_due(&self) -> Option<Instant> {
        match self.engine.rounds?.stage {
            Stage::Fired { until } => {
                let more = self.engine.rounds.and_then(|it| it.next(0)).is_some();
                more.then_some(until)
            }
            Stage::Told => {
                let at = self.engine.told_at + OPENER_PATIENCE;
                let rounds = self.engine.rounds?;
                let here = self.engine.theirs.is_some_and(|it| it.round == rounds.round);
                (here && rounds.has_opener()).then_some(at)
            }
            Stage::Surveying => None,
        }
    }
}
