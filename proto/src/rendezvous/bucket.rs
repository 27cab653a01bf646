//! How many requests one peer may send.

use std::time::{Duration, Instant};

/// A token bucket: holds some tokens, gains some each second.
///
/// It is known by when it will be full, since it gains evenly: what is missing until then is what was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// When it will be full.
    pub(super) fn full_at(&self) -> Instant {
        self.full_at
    }

    /// Whether it is full by now: nothing is lost if it is forgotten.
    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, capacity: u32, per_second: u32, now: Instant) -> bool {
        // One that gains nothing is empty for good.
        let gain = Duration::from_secs(1).checked_div(per_second).unwrap_or(Duration::MAX);
        let full_at = self.full_at.max(now).checked_add(gain);
        match full_at {
            Some(at) if at.saturating_duration_since(now) <= gain.saturating_mul(capacity) => {
                self.full_at = at;
                true
            }
            Some(_) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::machine::any_instant;

    #[test]
    fn a_burst_passes_and_then_only_what_is_gained() {
        let start = any_instant();
        let mut bucket = Bucket::full(start);
        let mut take = |millis| bucket.take(3, 10, start + Duration::from_millis(millis));
        assert_eq!([take(0), take(0), take(0), take(0)], [true, true, true, false]);
        assert_eq!([take(99), take(100), take(100)], [false, true, false]);
        assert_eq!([take(9000), take(9000), take(9000), take(9000)], [true, true, true, false]);
    }
}
