//! How many segments may be sent.

use std::time::{Duration, Instant};

/// A token bucket.
#[derive(Debug)]
pub struct Allowance {
    left: u32,
    /// When `left` was right.
    as_of: Instant,
}

impl Allowance {
    /// Segments at once: the SYNs of one attempt.
    pub const BURST: u32 = 256;
    /// Segments each second after that: 1,200 a minute.
    pub const PER_SECOND: u32 = 20;

    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: Self::BURST, as_of: now }
    }

    /// Takes one; `false` if none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let interval = Duration::from_secs(1) / Self::PER_SECOND;
        let earned = now.saturating_duration_since(self.as_of).as_nanos() / interval.as_nanos();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned >= Self::BURST - self.left {
            (self.left, self.as_of) = (Self::BURST, now);
        } else {
            self.left += earned;
            self.as_of += interval * earned;
        }
        let some = self.left > 0;
        self.left -= u32::from(some);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert!((0..Allowance::BURST).all(|_| allowance.take(start)));
        assert!(!allowance.take(start));
        assert!(!allowance.take(start + Duration::from_millis(49)));
        let later = start + Duration::from_millis(100);
        assert!(allowance.take(later) && allowance.take(later) && !allowance.take(later));
        let much_later = later + Duration::from_secs(1_000_000_000);
        let all = (0..=Allowance::BURST).filter(|_| allowance.take(much_later)).count();
        assert_eq!(all, 256, "no more than a burst is saved up");
    }
}
