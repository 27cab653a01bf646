//! Port prediction, carried out: what we foretell, and what we dial of the peer's forecast.

use super::*;
use crate::tcp_traversal::note::Forecast;
use crate::tcp_traversal::plan::Part;
use crate::tcp_traversal::port_prediction;
use crate::tcp_traversal::rounds::{Rounds, Stage};
use crate::tcp_traversal::survey::Ports;

/// Foretold ends of the peer that one session dials at most.
const MAX_FORETOLD: usize = 24;

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
                Some(match (begun, self.engine.before) {
                    (0, before @ 1..) => port_prediction::forecast_around(last, step, before),
                    _ => port_prediction::forecast(last, step, begun),
                })
            }
        }
    }

    /// Dials what the peer foretold. Where both foretell there are [rounds](super::rounds).
    pub(super) fn predict(&mut self, now: Instant) {
        let Some(part) = self.engine.plan.part(Strategy::PortPrediction) else { return };
        if self.engine.rounds.is_some() {
            return;
        }
        if self.engine.survey.is_some() && !self.engine.judged {
            // Should our own ports turn out to follow one another, each of these would be lost.
            return;
        }
        let forecast = self.engine.theirs.and_then(|standing| standing.forecast);
        let (Part::Dialer, Some(forecast)) = (part, forecast) else { return };
        let Some(ip) = self.announced_end().map(|end| end.ip()) else { return };
        for port in forecast.ports() {
            self.dial_foretold(SocketAddr::new(ip, port), now);
        }
        self.race(now);
    }

    fn dial_foretold(&mut self, remote: SocketAddr, now: Instant) {
        let foretold = |it: &&Dialer| it.strategy == Strategy::PortPrediction;
        let known = self.dialers.iter().any(|it| it.remote == remote);
        if known || self.dialers.iter().filter(foretold).count() >= MAX_FORETOLD {
            return;
        }
        let mut dialer = Dialer::new(remote, CandidateKind::ServerReflexive, now);
        dialer.strategy = Strategy::PortPrediction;
        self.dialers.push(dialer);
    }
}
