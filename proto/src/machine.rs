//! The one interface between protocols and the world.

use std::time::Instant;

/// When a machine wants [`Machine::handle_timeout`], and what for.
///
/// The reason is part of the value so that a busy loop names its culprit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// The moment to call `handle_timeout`; a moment in the past means at once.
    pub at: Instant,
    /// What will be done then, in a few words for the log.
    pub reason: &'static str,
}

impl Deadline {
    /// A deadline at `at`, for `reason`.
    pub fn new(at: Instant, reason: &'static str) -> Self {
        Self { at, reason }
    }

    /// The earlier of two deadlines that may not exist.
    pub fn earlier(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

/// A protocol that performs no I/O. Tell it what happened, then drain it.
///
/// The crate documentation states the contract between a machine and its shell.
pub trait Machine {
    /// What can happen to it.
    type Input<'a>;
    /// What it can want done.
    type Command;
    /// What it tells its user.
    type Event;

    /// Something happened at `now`. Never fails: bad input is ignored and counted.
    fn handle_input(&mut self, input: Self::Input<'_>, now: Instant);

    /// The deadline of [`Machine::poll_timeout`] has passed.
    fn handle_timeout(&mut self, now: Instant);

    /// What the machine wants done next. Each command carries an id; each id is answered once.
    fn poll_command(&mut self) -> Option<Self::Command>;

    /// What the machine has to tell its user.
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// When to call [`Machine::handle_timeout`], and why; `None` once it waits for nothing.
    fn poll_timeout(&self) -> Option<Deadline>;
}

/// A moment for tests to count from.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "there is no other way to make an Instant")]
pub(crate) fn any_instant() -> Instant {
    Instant::now()
}
