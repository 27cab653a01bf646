//! What others' luck changes about a [`Plan`].
//!
//! The broker remembers how strategies fared between NATs like these two and tells both sides. That reorders
//! the plan: what mostly came through goes first, quickest first, and does not wait for what mostly did not.
//! Who told the broker may have lied, so nothing is left out for it, and nothing is tried that the NATs'
//! own facts rule out.
//!
//! | came through | where simultaneous open mostly did not |
//! |---|---|
//! | shielded opener | one side opens from the start instead of after refusals |
//! | ghost handshake, spoofed SYN-ACK, what is made by hand | begins at the start instead of after SYNs had their time |
//!
//! Where a listener was mostly reached, port coverage waits until that had its time.

use super::plan::{Part, Plan, Verdict};
use crate::puncher::report::Strategy;
use crate::signal::Hint;

/// Of a hundred tries, so many make a strategy likely to work.
const LIKELY: u8 = 50;

/// Whether `strategy` mostly came through, and crossing SYNs did not.
pub fn comes_first(hints: &[Hint], strategy: Strategy) -> bool {
    is_likely(hints, strategy) && !is_likely(hints, Strategy::SimultaneousOpen)
}

fn of(hints: &[Hint], strategy: Strategy) -> Option<&Hint> {
    hints.iter().find(|hint| hint.strategy == strategy)
}

fn is_likely(hints: &[Hint], strategy: Strategy) -> bool {
    of(hints, strategy).is_some_and(|hint| hint.percent >= LIKELY)
}

impl Plan {
    /// The same strategies in the order that the hints suggest.
    pub fn reordered(mut self, hints: &[Hint]) -> Self {
        let opens = comes_first(hints, Strategy::ShieldedOpener);
        let listens = is_likely(hints, Strategy::ConnectListen);
        for entry in &mut self.entries {
            entry.hint = of(hints, entry.strategy).map(|hint| hint.percent);
            entry.verdict = match (entry.strategy, entry.verdict) {
                (Strategy::ShieldedOpener, Verdict::AfterRefusals(part)) if opens => {
                    Verdict::Run(part)
                }
                (Strategy::SimultaneousOpen, Verdict::Run(Part::Both)) if opens => {
                    Verdict::AfterRefusals(Part::Both)
                }
                (Strategy::PortCoverage, Verdict::Run(part)) if listens => {
                    Verdict::AfterSilence(part)
                }
                (_, verdict) => verdict,
            };
        }
        let rank = |strategy| match of(hints, strategy) {
            Some(hint) if hint.percent >= LIKELY => (0, Some(hint.took)),
            Some(_) => (2, None),
            None => (1, None),
        };
        self.entries.sort_by_key(|entry| rank(entry.strategy));
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::signal::Role;
    use crate::tcp_traversal::plan::Facts;
    use crate::tcp_traversal::survey::Ports;

    fn hint(strategy: Strategy, percent: u8, millis: u64) -> Hint {
        Hint { strategy, percent, took: Duration::from_millis(millis) }
    }

    fn plan(ours: Ports, theirs: Ports, hints: &[Hint]) -> Plan {
        let [ours, theirs] = [ours, theirs].map(|ports| Facts { ports, ..Facts::default() });
        Plan::of(Role::Controlling, &ours, &theirs).reordered(hints)
    }

    #[test]
    fn what_came_through_goes_first_and_what_did_not_last() {
        let hints = [
            hint(Strategy::SimultaneousOpen, 3, 80),
            hint(Strategy::ShieldedOpener, 90, 120),
            hint(Strategy::PortPrediction, 70, 100),
        ];
        let plan = plan(Ports::Steady, Ports::Steady, &hints);
        let order: Vec<Strategy> = plan.entries.iter().map(|entry| entry.strategy).collect();
        assert_eq!(order[..2], [Strategy::PortPrediction, Strategy::ShieldedOpener]);
        assert_eq!(order.last(), Some(&Strategy::SimultaneousOpen));
        assert_eq!(plan.part(Strategy::ShieldedOpener), Some(Part::Dialer), "from the start");
        assert_eq!(plan.part(Strategy::SimultaneousOpen), None);
    }

    #[test]
    fn where_crossing_syns_do_nothing_needs_to_go_before_them() {
        let hints =
            [hint(Strategy::SimultaneousOpen, 90, 80), hint(Strategy::ShieldedOpener, 95, 120)];
        let plan = plan(Ports::Steady, Ports::Steady, &hints);
        assert_eq!(plan.part(Strategy::SimultaneousOpen), Some(Part::Both));
        assert_eq!(plan.part(Strategy::ShieldedOpener), None);
    }

    #[test]
    fn a_listener_that_was_reached_comes_before_coverage() {
        let hints = [hint(Strategy::ConnectListen, 90, 80)];
        let plan = plan(Ports::ANYWHERE, Ports::Steady, &hints);
        let verdict = plan.verdict(Strategy::PortCoverage);
        assert_eq!(verdict, Some(Verdict::AfterSilence(Part::Draw)));
    }

    #[test]
    fn nothing_is_left_out_or_let_in_by_a_hint() {
        let all: Vec<Hint> = [0, 100]
            .into_iter()
            .flat_map(|percent| {
                let entries = Plan::of(Role::Controlling, &Facts::default(), &Facts::default());
                entries.entries.into_iter().map(move |it| hint(it.strategy, percent, 1))
            })
            .collect();
        for hints in [&all[..all.len() / 2], &all[all.len() / 2..]] {
            for (ours, theirs) in [(Ports::Steady, Ports::Steady), (Ports::ANYWHERE, Ports::Steady)]
            {
                let skipped = |plan: Plan| {
                    let mut skipped: Vec<_> = plan.skipped().collect();
                    skipped.sort_by_key(|(strategy, _)| *strategy);
                    skipped
                };
                assert_eq!(skipped(plan(ours, theirs, hints)), skipped(plan(ours, theirs, &[])));
            }
        }
    }
}
