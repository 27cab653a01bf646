//! How many requests one peer may send.

use std::time::Instant;

/// A token bucket: holds some tokens, gains some each second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// Millionths of a token.
    level: u64,
    filled_at: Instant,
}

const TOKEN: u64 = 1_000_000;

impl Bucket {
    /// A full one.
    pub(super) fn full(capacity: u32, now: Instant) -> Self {
        Self { level: u64::from(capacity) * TOKEN, filled_at: now }
    }

    /// Whether it is full by now: nothing is lost if it is forgotten.
    pub(super) fn is_full(&self, capacity: u32, per_second: u32, now: Instant) -> bool {
        self.filled(capacity, per_second, now) == u64::from(capacity) * TOKEN
    }

    fn filled(&self, capacity: u32, per_second: u32, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.filled_at).as_micros();
        // One token a second is one millionth of a token a microsecond.
        let gained = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_mul(per_second.into());
        self.level.saturating_add(gained).min(u64::from(capacity) * TOKEN)
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, capacity: u32, per_second: u32, now: Instant) -> bool {
        self.level = self.filled(capacity, per_second, now);
        self.filled_at = now;
        match self.level.checked_sub(TOKEN) {
            Some(level) => {
                self.level = level;
                true
            }
            None => false,
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
        let mut bucket = Bucket::full(3, start);
        let mut take = |millis| bucket.take(3, 10, start + Duration::from_millis(millis));
        assert_eq!([take(0), take(0), take(0), take(0)], [true, true, true, false]);
        assert_eq!([take(99), take(100), take(100)], [false, true, false]);
        assert_eq!([take(9000), take(9000), take(9000), take(9000)], [true, true, true, false]);
    }
}
