//! How many TCP connections a node may begin.
//!
//! A NAT pays for each with an entry, and carriers give a subscriber only so many. Every connect and
//! every segment made by hand of every session passes here before it leaves the node; what is refused
//! is answered as [`IoFailure::OverBudget`](crate::IoFailure::OverBudget) and counted in the report.
//!
//! A SYN that is sent anew between the same ends ([`Command::RenewTcp`](crate::Command::RenewTcp)) is not counted: it
//! comes in place of the kernel's repeat, and no NAT has an entry more for it.
//!
//! What is guessed over UDP, a draw's port or a probed one, is counted likewise and apart: a NAT forgets it
//! within a fraction of the time.
//!
//! Checks over UDP towards addresses of which nothing has been heard are bounded as well: a caller says where its
//! peer is to send, and that may be somebody else's address.
//!
//! Guesses, of which a single call may need hundreds, leave a sixth of each minute to connects whose
//! end is known: however many guesses were made, an ordinary call still finds its way.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::signal::SessionId;

/// The time over which new sessions are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// The steps in which that time moves on: what began within one ends with it.
const STEP: Duration = Duration::from_millis(100);
/// Of a minute's sessions, one in so many is not for guesses.
const KEPT_BACK: u32 = 6;
/// Checks of a call: seven ends of a silent peer for the ten seconds that it lasts. Whoever allows fewer
/// connections does not want UDP to suffer from it, so the [`Limits`] are others.
const CHECKS_OF_CALL: u32 = 1024;
/// Checks of a minute.
const CHECKS_OF_MINUTE: u32 = 6000;

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

impl Limits {
    fn of_a_minute(self, purpose: Purpose) -> u32 {
        match purpose {
            Purpose::Aimed => self.per_minute,
            Purpose::Guess | Purpose::Datagram => self.per_minute - self.per_minute / KEPT_BACK,
            Purpose::Check => CHECKS_OF_MINUTE,
        }
    }

    fn of_an_attempt(self, purpose: Purpose) -> u32 {
        match purpose {
            Purpose::Aimed | Purpose::Guess | Purpose::Datagram => self.per_attempt,
            Purpose::Check => CHECKS_OF_CALL,
        }
    }
}

/// What a connect is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It goes to an end that is known.
    Aimed,
    /// It is one of many that try their luck.
    Guess,
    /// The same over UDP.
    Datagram,
    /// It asks an address over UDP of which nothing has been heard.
    Check,
}

impl Purpose {
    /// Which count it belongs to.
    fn ledger(self) -> usize {
        match self {
            Self::Aimed | Self::Guess => 0,
            Self::Datagram => 1,
            Self::Check => 2,
        }
    }
}

/// Why something may not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The attempt has had its share; the next one has its own.
    Attempt,
    /// The minute has.
    Minute(Spent),
}

/// When there is more of a minute's sessions again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// One of the kind that was refused may leave then.
    pub next: Instant,
    /// As many as one attempt may have may leave then.
    pub full: Instant,
}

/// Counts the connects of a node.
#[derive(Debug, Default)]
pub struct Budget {
    limits: Limits,
    /// Those over TCP, what is guessed over UDP, and checks.
    ledgers: [Ledger; 3],
}

#[derive(Debug, Default)]
struct Ledger {
    /// Connects of the last minute, step by step.
    recent: VecDeque<(Instant, u32)>,
    /// The attempt each session is at, and its connects so far.
    attempts: BTreeMap<SessionId, (u32, u32)>,
}

impl Ledger {
    /// Sessions of the last minute.
    fn spent(&self) -> u32 {
        self.recent.iter().map(|(_, count)| count).sum()
    }

    /// When so many may begin of at most `limit`, if nothing else does until then; a minute's worth at most.
    fn free_at(&self, count: u32, limit: u32, now: Instant) -> Instant {
        if limit == 0 {
            return now + WINDOW;
        }
        let (mut at, mut spent) = (now, self.spent());
        for (began, begun) in &self.recent {
            if spent + count.min(limit) <= limit {
                break;
            }
            at = *began + WINDOW + STEP;
            spent -= begun;
        }
        at
    }
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

    /// One more connect of `session`, in its attempt number `attempt`, wants to leave.
    ///
    /// # Errors
    ///
    /// Why it may not.
    pub fn admit(
        &mut self,
        session: SessionId,
        attempt: u32,
        purpose: Purpose,
        now: Instant,
    ) -> Result<(), Refusal> {
        let (limits, limit) = (self.limits, self.limits.of_a_minute(purpose));
        let ledger = &mut self.ledgers[purpose.ledger()];
        ledger.recent.retain(|(at, _)| *at + WINDOW + STEP > now);
        let (current, spent) = ledger.attempts.entry(session).or_insert((attempt, 0));
        if *current < attempt {
            (*current, *spent) = (attempt, 0);
        }
        if *spent >= limits.of_an_attempt(purpose) {
            return Err(Refusal::Attempt);
        }
        if ledger.spent() >= limit {
            let next = ledger.free_at(1, limit, now);
            let full = ledger.free_at(limits.per_attempt, limit, now);
            return Err(Refusal::Minute(Spent { next, full }));
        }
        if let Some((_, spent)) = ledger.attempts.get_mut(&session) {
            *spent += 1;
        }
        match ledger.recent.back_mut().filter(|(at, _)| *at + STEP > now) {
            Some((_, count)) => *count += 1,
            None => ledger.recent.push_back((now, 1)),
        }
        Ok(())
    }

    /// How many sessions of this kind may still begin, by what was known at the last question.
    pub fn left(&self, purpose: Purpose) -> u32 {
        self.limits.of_a_minute(purpose).saturating_sub(self.ledgers[purpose.ledger()].spent())
    }

    /// The session is over.
    pub fn forget(&mut self, session: SessionId) {
        for ledger in &mut self.ledgers {
            ledger.attempts.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::any_instant;

    const ONE: SessionId = SessionId([1; 16]);
    const OTHER: SessionId = SessionId([2; 16]);

    #[test]
    fn checks_of_addresses_that_say_nothing_are_bounded_apart() {
        let limits = Limits { per_attempt: 2, per_minute: 3 };
        let (mut budget, now) = (Budget::new(limits), any_instant());
        let mut check = |session| budget.admit(session, 1, Purpose::Check, now).is_ok();
        let of_one = (0..2000).filter(|_| check(ONE)).count();
        assert_eq!(of_one, 1024, "of one call");
        let others = (0..10).map(|it| SessionId([10 + it; 16]));
        let of_all: usize = others.map(|it| (0..2000).filter(|_| check(it)).count()).sum();
        assert_eq!(of_one + of_all, 6000, "of a minute");
        assert_eq!(spend(&mut budget, OTHER, 1, now), 2, "connects are counted by themselves");
    }

    fn spend(budget: &mut Budget, session: SessionId, attempt: u32, now: Instant) -> usize {
        let admitted = |_: &i32| budget.admit(session, attempt, Purpose::Aimed, now).is_ok();
        (0..2000).take_while(admitted).count()
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
        assert_eq!(spend(&mut budget, ONE, 3, start + WINDOW), 0);
        assert_eq!(spend(&mut budget, ONE, 4, start + WINDOW + STEP), 256);
    }

    #[test]
    fn limits_can_be_set() {
        let mut budget = Budget::new(Limits { per_attempt: 3, per_minute: 5 });
        let now = any_instant();
        assert_eq!(spend(&mut budget, ONE, 1, now), 3);
        assert_eq!(spend(&mut budget, OTHER, 1, now), 2);
    }

    #[test]
    fn guesses_leave_something_of_each_minute_to_others() {
        let mut budget = Budget::new(Limits { per_attempt: 2000, ..Limits::default() });
        let now = any_instant();
        let guesses = (0..2000).filter(|_| budget.admit(ONE, 1, Purpose::Guess, now).is_ok());
        assert_eq!(guesses.count(), 1000);
        assert_eq!(spend(&mut budget, OTHER, 1, now), 200);
    }

    #[test]
    fn what_is_guessed_over_udp_takes_nothing_from_tcp() {
        let mut budget = Budget::new(Limits { per_attempt: 2000, ..Limits::default() });
        let now = any_instant();
        let guesses = (0..2000).filter(|_| budget.admit(ONE, 0, Purpose::Datagram, now).is_ok());
        assert_eq!(guesses.count(), 1000);
        assert_eq!((budget.left(Purpose::Datagram), budget.left(Purpose::Guess)), (0, 1000));
        assert_eq!(spend(&mut budget, ONE, 1, now), 1200);
    }

    #[test]
    fn a_refusal_says_when_there_is_more() {
        let start = any_instant();
        let mut budget = Budget::new(Limits { per_attempt: 4, per_minute: 6 });
        let later = start + Duration::from_secs(10);
        assert_eq!(spend(&mut budget, ONE, 1, start), 4);
        assert_eq!(budget.admit(ONE, 1, Purpose::Aimed, later), Err(Refusal::Attempt));
        assert_eq!(spend(&mut budget, ONE, 2, later), 2);
        let minute = WINDOW + STEP;
        let spent = Spent { next: start + minute, full: start + minute };
        assert_eq!(budget.admit(ONE, 2, Purpose::Aimed, later), Err(Refusal::Minute(spent)));
        let guess = budget.admit(ONE, 2, Purpose::Guess, later);
        let later_minute = Spent { full: later + minute, ..spent };
        assert_eq!(guess, Err(Refusal::Minute(later_minute)), "a guess has less");
        assert_eq!(spend(&mut budget, OTHER, 1, start + minute), 4);
        let spent = Spent { next: later + minute, full: start + 2 * minute };
        let refused = budget.admit(ONE, 3, Purpose::Aimed, start + minute);
        assert_eq!(refused, Err(Refusal::Minute(spent)));
    }

    #[test]
    fn a_budget_of_nothing_refuses_and_ends() {
        let now = any_instant();
        let mut budget = Budget::new(Limits { per_attempt: 1, per_minute: 0 });
        let spent = Spent { next: now + WINDOW, full: now + WINDOW };
        let refused = budget.admit(ONE, 1, Purpose::Aimed, now);
        assert_eq!(refused, Err(Refusal::Minute(spent)));
    }
}
