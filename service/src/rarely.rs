//! A warning that cannot flood the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets something be said once in a while, and counts how often it was not.
///
/// ```
/// use ntcp_service::Rarely;
/// use std::time::{Duration, Instant};
///
/// let full = Rarely::new(Duration::from_secs(60));
/// let now = Instant::now();
/// assert_eq!(full.may_say(now), Some(0));
/// assert_eq!(full.may_say(now + Duration::from_secs(59)), None);
/// assert_eq!(full.may_say(now + Duration::from_secs(60)), Some(1));
/// ```
#[derive(Debug)]
pub struct Rarely {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    said: Option<Instant>,
    unsaid: u64,
}

impl Rarely {
    /// At most once in `every`.
    #[must_use]
    pub const fn new(every: Duration) -> Self {
        Self { every, state: Mutex::new(State { said: None, unsaid: 0 }) }
    }

    /// Whether it may be said now: how often it was not since the last time.
    pub fn may_say(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let too_soon = state.said.is_some_and(|at| now.saturating_duration_since(at) < self.every);
        if too_soon {
            state.unsaid += 1;
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }
}
