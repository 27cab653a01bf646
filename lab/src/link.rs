//! What a wire does to packets: delay, jitter, loss, duplication and reordering, all seeded.

use std::time::{Duration, Instant};

use ntcp_proto::entropy::{Entropy, Seed};

/// The quality of one direction of a link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Every packet takes this long.
    pub delay: Duration,
    /// And up to this much longer.
    pub jitter: Duration,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// Share of packets that arrive twice, 0 to 1.
    pub duplication: f64,
    /// Share of packets held back by [`Quality::hold`], so that later ones overtake them, 0 to 1.
    /// All others arrive in order.
    pub reordering: f64,
    /// How long a reordered packet is held back.
    pub hold: Duration,
}

impl Default for Quality {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            hold: Duration::ZERO,
        }
    }
}

impl Quality {
    /// A clean link of that delay.
    pub fn delay(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// The same link, losing this share of packets.
    pub fn with_loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }
}

/// One direction of a link.
#[derive(Debug, Clone)]
pub struct Link {
    quality: Quality,
    entropy: Entropy,
    /// When the last packet that keeps the order arrives.
    last: Option<Instant>,
}

impl Link {
    /// A link of that quality.
    pub fn new(quality: Quality, seed: Seed) -> Self {
        Self { quality, entropy: Entropy::new(seed), last: None }
    }

    /// Changes the quality of packets sent from now on.
    pub fn set_quality(&mut self, quality: Quality) {
        self.quality = quality;
    }

    /// When a packet sent at `now` arrives: never, once, or twice.
    pub fn transmit(&mut self, now: Instant) -> Vec<Instant> {
        if self.happens(self.quality.loss) {
            return Vec::new();
        }
        let mut arrivals = vec![self.arrival(now)];
        if self.happens(self.quality.duplication) {
            arrivals.push(self.arrival(now));
        }
        arrivals
    }

    fn arrival(&mut self, now: Instant) -> Instant {
        let at = now + self.quality.delay + self.entropy.jitter(self.quality.jitter);
        if self.happens(self.quality.reordering) {
            return at + self.quality.hold;
        }
        let at = self.last.map_or(at, |last| at.max(last));
        self.last = Some(at);
        at
    }

    /// Draws only where something is at stake, so that a clean link leaves the generator alone.
    fn happens(&mut self, share: f64) -> bool {
        /// Parts into which the interval from 0 to 1 is cut.
        const PARTS: u64 = 1 << 32;
        share > 0.0 && (self.entropy.below(PARTS) as f64) < share * PARTS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(quality: Quality, count: usize) -> Vec<Vec<Duration>> {
        let start = Instant::now();
        let mut link = Link::new(quality, Seed::from_number(3));
        let after = |at: Instant| at.duration_since(start);
        (0..count)
            .map(|i| start + Duration::from_millis(i as u64))
            .map(|now| link.transmit(now).into_iter().map(after).collect())
            .collect()
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_clean_link_only_delays() {
        assert_eq!(arrivals(Quality::delay(ms(10)), 2), [[ms(10)], [ms(11)]]);
    }

    #[test]
    fn loss_and_duplication_come_at_their_rates() {
        let lossy = arrivals(Quality::delay(ms(10)).with_loss(0.3), 2000);
        let lost = lossy.iter().filter(|at| at.is_empty()).count();
        assert!((500..700).contains(&lost), "{lost}");
        let doubled = arrivals(Quality { duplication: 0.1, ..Quality::delay(ms(1)) }, 2000);
        let twice = doubled.iter().filter(|at| at.len() == 2).count();
        assert!((150..250).contains(&twice), "{twice}");
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let flat = |quality| arrivals(quality, 500).concat();
        let jittery = flat(Quality { jitter: ms(20), ..Quality::delay(ms(10)) });
        assert!(jittery.is_sorted());
        assert!(jittery.iter().zip(0..).all(|(at, i)| *at >= ms(10 + i) && *at <= ms(30 + i)));
        let held = Quality { reordering: 0.1, hold: ms(5), ..Quality::delay(ms(10)) };
        assert!(!flat(held).is_sorted());
    }
}
