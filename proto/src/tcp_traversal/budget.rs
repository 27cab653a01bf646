//! How many TCP connections a node may begin.
//!
//! A NAT pays for each with an entry, and carriers give a subscriber only so many. Every connect of
//! every session passes here before it leaves the node; what is refused is answered as
//! [`IoFailure::OverBudget`](crate::IoFailure::OverBudget) and counted in the report.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::signal::SessionId;

/// The time over which new sessions are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// The steps in which that time moves on.
const STEP: Duration = Duration::from_secs(1);

/// Most connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// SYNs of one attempt, the system's repeats not counted; 256 by default.
    pub per_attempt: u32,
    /// New sessions of the node in any minute; 1,200 by default.
    pub per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_attempt: 256, per_minute: 1200 }
    }
}

/// Counts the connects of a node.
#[derive(Debug, Default)]
pub struct Budget {
    limits: Limits,
    /// Connects of the last minute, second by second.
    recent: VecDeque<(Instant, u32)>,
    /// The attempt each session is at, and its connects so far.
    attempts: BTreeMap<SessionId, (u32, u32)>,
}

impl Budget {
    /// A budget of which nothing has been spent.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Whether one more connect of `session`, in its attempt number `attempt`, may leave.
    pub fn admit(&mut self, session: SessionId, attempt: u32, now: Instant) -> bool {
        self.recent.retain(|(at, _)| *at + WINDOW > now);
        let (current, spent) = self.attempts.entry(session).or_insert((attempt, 0));
        if *current < attempt {
            (*current, *spent) = (attempt, 0);
        }
        let minute: u32 = self.recent.iter().map(|(_, count)| count).sum();
        if *spent >= self.limits.per_attempt || minute >= self.limits.per_minute {
            return false;
        }
        *spent += 1;
        match self.recent.back_mut().filter(|(at, _)| *at + STEP > now) {
            Some((_, count)) => *count += 1,
            None => self.recent.push_back((now, 1)),
        }
        true
    }

    /// The session is over.
    pub fn forget(&mut self, session: SessionId) {
        self.attempts.remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::any_instant;

    const ONE: SessionId = SessionId([1; 16]);
    const OTHER: SessionId = SessionId([2; 16]);

    fn spend(budget: &mut Budget, session: SessionId, attempt: u32, now: Instant) -> usize {
        (0..2000).take_while(|_| budget.admit(session, attempt, now)).count()
    }

    #[test]
    fn an_attempt_has_256_connects_and_a_minute_1200() {
        let start = any_instant();
        let mut budget = Budget::default();
        assert_eq!(spend(&mut budget, ONE, 1, start), 256);
        assert_eq!(spend(&mut budget, ONE, 2, start), 256);
        assert_eq!(spend(&mut budget, ONE, 1, start), 0, "a past attempt does not come back");
        assert_eq!(spend(&mut budget, OTHER, 1, start), 256);
        assert_eq!(spend(&mut budget, OTHER, 2, start), 256);
        assert_eq!(spend(&mut budget, ONE, 3, start), 1200 - 4 * 256);
        assert_eq!(spend(&mut budget, ONE, 3, start + Duration::from_secs(59)), 0);
        assert_eq!(spend(&mut budget, ONE, 4, start + Duration::from_secs(60)), 256);
    }

    #[test]
    fn limits_can_be_set() {
        let mut budget = Budget::new(Limits { per_attempt: 3, per_minute: 5 });
        let now = any_instant();
        assert_eq!(spend(&mut budget, ONE, 1, now), 3);
        assert_eq!(spend(&mut budget, OTHER, 1, now), 2);
    }
}
