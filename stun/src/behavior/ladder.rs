//! When a request is repeated, and when silence is believed.
//!
//! The ladder of RFC 8489 section 6.2.1 (500 ms doubling, seven transmissions, 39.5 s) suits a
//! client that has nothing else to ask. Here silence is itself a finding, so the pace follows the
//! round-trip time as soon as one is known, with as many transmissions. All of them together stay
//! below what the RFC's section 6.2.1 allows a client to one server in flight.

use std::time::{Duration, Instant};

/// Transmissions of a request: as many as RFC 8489 section 6.2.1 has (Rc = 7).
///
/// At 5 % loss on each access link a round trip is lost in 19 % of all cases, and all seven in one
/// of 100,000.
const TRANSMISSIONS: u8 = 7;

/// The pace of one request: gaps between transmissions, and the wait after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    /// Between the first and the second transmission.
    first_gap: Duration,
    /// By how much each gap is longer than the one before.
    growth: Duration,
    /// No gap is longer.
    longest_gap: Duration,
    /// After the last transmission, until silence is believed.
    patience: Duration,
}

impl Ladder {
    /// Towards a server whose round-trip time nobody knows yet.
    ///
    /// | transmission | 1 | 2 | 3 | 4 | 5 | 6 | 7 | silent |
    /// |---|---|---|---|---|---|---|---|---|
    /// | at ms | 0 | 150 | 350 | 600 | 900 | 1250 | 1650 | 2150 |
    pub fn contact() -> Self {
        Self {
            first_gap: Duration::from_millis(150),
            growth: Duration::from_millis(50),
            longest_gap: Duration::from_millis(400),
            // The RTO of RFC 8489 section 6.2.1 before a measurement.
            patience: Duration::from_millis(500),
        }
    }

    /// Where an answer is expected: slow enough that one on its way is not asked for again.
    ///
    /// | rtt 40 ms, transmission | 1 | 2 | 3 | 4 | 5 | 6 | 7 | silent |
    /// |---|---|---|---|---|---|---|---|---|
    /// | at ms | 0 | 90 | 180 | 270 | 360 | 450 | 540 | 730 |
    pub fn answer(rtt: Duration) -> Self {
        let gap = rtt + (rtt / 2).max(Duration::from_millis(50));
        Self::even(gap, rtt)
    }

    /// Where silence is as good an answer as any: a new transmission each half round trip.
    ///
    /// | rtt 40 ms, transmission | 1 | 2 | 3 | 4 | 5 | 6 | 7 | silent |
    /// |---|---|---|---|---|---|---|---|---|
    /// | at ms | 0 | 40 | 80 | 120 | 160 | 200 | 240 | 430 |
    pub fn silence(rtt: Duration) -> Self {
        let gap = (rtt / 2).clamp(Duration::from_millis(40), Duration::from_millis(200));
        Self::even(gap, rtt)
    }

    fn even(gap: Duration, rtt: Duration) -> Self {
        // Twice the round trip, or for short ones as much beyond it as a busy host or a queue adds.
        let patience = rtt + rtt.max(Duration::from_millis(150));
        Self { first_gap: gap, growth: Duration::ZERO, longest_gap: gap, patience }
    }

    /// How often the request is sent at most.
    pub fn transmissions(&self) -> u8 {
        TRANSMISSIONS
    }

    /// How long to wait after transmission number `count`, counted from 1, before the next or,
    /// after the last one, before silence is believed.
    pub fn wait_after(&self, count: u8) -> Duration {
        if count >= TRANSMISSIONS {
            return self.patience;
        }
        let gap = self.first_gap + self.growth * u32::from(count.saturating_sub(1));
        gap.min(self.longest_gap)
    }

    /// The instants of all transmissions from `start` on, and last that of believed silence.
    pub fn instants(&self, start: Instant) -> Vec<Instant> {
        let mut at = start;
        let mut instants = vec![at];
        for count in 1..=TRANSMISSIONS {
            at += self.wait_after(count);
            instants.push(at);
        }
        instants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some origin of its instants")]
    fn in_ms(ladder: Ladder) -> Vec<u128> {
        let start = Instant::now();
        ladder.instants(start).into_iter().map(|at| (at - start).as_millis()).collect()
    }

    #[test]
    fn the_ladder_towards_an_unknown_server() {
        assert_eq!(in_ms(Ladder::contact()), [0, 150, 350, 600, 900, 1250, 1650, 2150]);
    }

    #[test]
    fn the_ladder_of_an_expected_answer_leaves_it_time_to_arrive() {
        let rtt = Duration::from_millis;
        let ladder = |ms| in_ms(Ladder::answer(rtt(ms)));
        assert_eq!(ladder(0), [0, 50, 100, 150, 200, 250, 300, 450]);
        assert_eq!(ladder(40), [0, 90, 180, 270, 360, 450, 540, 730]);
        assert_eq!(ladder(200), [0, 300, 600, 900, 1200, 1500, 1800, 2200]);
    }

    #[test]
    fn the_ladder_of_silence_ends_within_a_second_on_a_path_of_100_ms() {
        let rtt = Duration::from_millis;
        let ladder = |ms| in_ms(Ladder::silence(rtt(ms)));
        assert_eq!(ladder(0), [0, 40, 80, 120, 160, 200, 240, 390]);
        assert_eq!(ladder(40), [0, 40, 80, 120, 160, 200, 240, 430]);
        assert_eq!(ladder(200), [0, 100, 200, 300, 400, 500, 600, 1000]);
        assert_eq!(ladder(600), [0, 200, 400, 600, 800, 1000, 1200, 2400]);
    }
}
