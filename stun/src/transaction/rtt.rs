//! The retransmission time-out that follows from measured round trips (RFC 8489, section 6.2.1; RFC 6298).

use std::time::Duration;

/// The RTO is never below this, however short the round trip: a busy host or a queue adds as much.
/// RFC 6298 has 1 s here, which RFC 8489, section 6.2.1 waives.
const MIN_RTO: Duration = Duration::from_millis(50);
/// The RTO is never above this, the upper bound of RFC 6298, section 2.5.
const MAX_RTO: Duration = Duration::from_secs(60);

/// A smoothed round-trip time and its variation towards one server.
///
/// Feed it only round trips of requests that were sent once ([`Event::Answered`](super::Event::Answered) yields no
/// others), and forget it after 10 minutes without a transaction (RFC 8489, section 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RttEstimator {
    smoothed: Duration,
    variation: Duration,
}

impl RttEstimator {
    /// Starts with a first measurement (RFC 6298, section 2.2).
    pub fn new(rtt: Duration) -> Self {
        let rtt = rtt.min(MAX_RTO);
        Self { smoothed: rtt, variation: rtt / 2 }
    }

    /// Takes in a further measurement (RFC 6298, section 2.3: weights of 1/4 and 1/8).
    pub fn handle_sample(&mut self, rtt: Duration) {
        let rtt = rtt.min(MAX_RTO);
        self.variation = self.variation * 3 / 4 + self.smoothed.abs_diff(rtt) / 4;
        self.smoothed = self.smoothed * 7 / 8 + rtt / 8;
    }

    /// The smoothed round-trip time.
    pub fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// The time-out for [`Schedule::with_rto`](super::Schedule::with_rto): smoothed time plus four variations, within
    /// 50 ms and 60 s.
    pub fn rto(&self) -> Duration {
        (self.smoothed + self.variation * 4).clamp(MIN_RTO, MAX_RTO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn the_first_sample_triples() {
        assert_eq!(RttEstimator::new(ms(100)).rto(), ms(300));
    }

    #[test]
    fn steady_samples_bring_the_rto_down_to_the_round_trip() {
        let mut estimator = RttEstimator::new(ms(100));
        let mut rtos = Vec::new();
        for _ in 0..30 {
            estimator.handle_sample(ms(100));
            rtos.push(estimator.rto());
        }
        assert!(rtos.is_sorted_by(|one, next| one >= next), "{rtos:?}");
        assert_eq!(rtos[0], ms(250));
        assert!(rtos[29] < ms(101), "{rtos:?}");
        assert_eq!(estimator.smoothed(), ms(100));
    }

    #[test]
    fn a_slow_sample_raises_the_rto_by_its_deviation() {
        let mut estimator = RttEstimator::new(ms(80));
        estimator.handle_sample(ms(240));
        // variation 3/4 * 40 + 1/4 * 160 = 70, smoothed 7/8 * 80 + 1/8 * 240 = 100
        assert_eq!((estimator.smoothed(), estimator.rto()), (ms(100), ms(380)));
    }

    #[test]
    fn the_rto_stays_within_its_bounds() {
        assert_eq!(RttEstimator::new(Duration::ZERO).rto(), ms(50));
        let mut endless = RttEstimator::new(Duration::MAX);
        endless.handle_sample(Duration::MAX);
        assert_eq!(endless.rto(), Duration::from_secs(60));
    }
}
