//! What is due when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::machine::Deadline;
use crate::signal::{RegistrationId, SessionId};

/// What can become due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The holder of a name is asked again, or is dead.
    Challenge(RegistrationId),
    /// An invitation is repeated or given up, or a meeting is forgotten.
    Session(SessionId),
    /// A call has waited long enough for its callee.
    Parked(u64),
    /// A peer has waited for the other one's SYN, or a SYN-ACK is to be forged.
    Forge(SessionId),
    /// What the network lets out is probed.
    Probe,
    /// The next peers are let go.
    Dismissal,
    /// The next names are entered in the directory anew.
    Reclaim,
    /// A meeting that another broker arranges is forgotten.
    Away(SessionId),
}

impl Timer {
    fn reason(self) -> &'static str {
        match self {
            Self::Challenge(_) => "ask the holder of a name",
            Self::Session(_) => "repeat an invitation, or forget a meeting",
            Self::Parked(_) => "give up waiting for a callee",
            Self::Forge(_) => "forge a SYN-ACK, or give up waiting for a SYN",
            Self::Probe => "probe what the network lets out",
            Self::Dismissal => "let the next peers go",
            Self::Reclaim => "enter the next names in the directory",
            Self::Away(_) => "forget a meeting that another broker arranges",
        }
    }
}

/// All timers; each is set once at most.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_timer: BTreeMap<Timer, Instant>,
    by_time: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// Sets `timer`, or moves it; `None` clears it.
    pub(super) fn set(&mut self, timer: Timer, at: impl Into<Option<Instant>>) {
        let at = at.into();
        let before = match at {
            Some(at) => self.by_timer.insert(timer, at),
            None => self.by_timer.remove(&timer),
        };
        if let Some(before) = before {
            self.by_time.remove(&(before, timer));
        }
        if let Some(at) = at {
            self.by_time.insert((at, timer));
        }
    }

    /// The first timer that is due, no longer set.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.set(timer, None);
        Some(timer)
    }

    pub(super) fn next(&self) -> Option<Deadline> {
        self.by_time.first().map(|(at, timer)| Deadline::new(*at, timer.reason()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::machine::any_instant;

    #[test]
    fn timers_come_due_in_the_order_of_time_and_once() {
        let start = any_instant();
        let at = |millis| start + Duration::from_millis(millis);
        let mut timers = Timers::default();
        timers.set(Timer::Parked(1), at(30));
        timers.set(Timer::Parked(2), at(10));
        timers.set(Timer::Parked(3), at(20));
        timers.set(Timer::Parked(1), at(5));
        timers.set(Timer::Parked(3), None);
        assert_eq!(timers.next().map(|it| it.at), Some(at(5)));
        assert_eq!(timers.take_due(at(4)), None);
        assert_eq!(timers.take_due(at(50)), Some(Timer::Parked(1)));
        assert_eq!(timers.take_due(at(50)), Some(Timer::Parked(2)));
        assert_eq!(timers.take_due(at(50)), None);
        assert_eq!(timers.next(), None);
    }
}
