//! What came of a load.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Latencies kept; a further one is counted, but not among the percentiles.
const MOST: usize = 4_000_000;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Echo,
    Register,
    Refresh,
    Lookup,
    /// From the call until the invitation is at the callee.
    Invite,
    /// From the call until the caller has its order.
    Connect,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Echo => "echo",
            Self::Register => "Register",
            Self::Refresh => "Refresh",
            Self::Lookup => "Lookup",
            Self::Invite => "Connect to Invite",
            Self::Connect => "Connect to order",
        })
    }
}

/// What came of a load.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Good answers in the measured time, in units of a tenth of a microsecond.
    answers: BTreeMap<Kind, Vec<u32>>,
    /// Good answers that came twice, as orders do over UDP.
    pub(crate) again: u64,
    /// Nothing came within the time-out.
    pub(crate) lost: u64,
    /// Refusals that say "later": a limit of the broker.
    pub(crate) refused: u64,
    /// The first of them.
    pub(crate) first_refused: Option<String>,
    /// Names that somebody is known to have and that were not found.
    pub(crate) missing: u64,
    /// Answers that are not what they should be.
    pub(crate) wrong: u64,
    /// The first of them.
    pub(crate) first_wrong: Option<String>,
    pub(crate) took: Duration,
    /// Processor time of the servers.
    pub(crate) cpu: Duration,
    /// Likewise of the database.
    pub(crate) database: Duration,
}

impl Tally {
    pub(crate) fn note(&mut self, kind: Kind, took: Duration) {
        let all = self.answers.entry(kind).or_default();
        if all.len() < MOST {
            all.push(u32::try_from(took.as_nanos() / 100).unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn complain(&mut self, about: impl FnOnce() -> String) {
        self.wrong += 1;
        self.first_wrong.get_or_insert_with(about);
    }

    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.answers.get(&kind).map_or(0, Vec::len)
    }

    /// All of them but that an invitation and its order are one call.
    pub(crate) fn requests(&self) -> usize {
        self.answers.iter().filter(|(kind, _)| **kind != Kind::Invite).map(|(_, it)| it.len()).sum()
    }

    /// Microseconds of the server for each request.
    pub(crate) fn micros(&self) -> f64 {
        per(self.cpu, self.requests())
    }

    pub(crate) fn a_second(&self) -> f64 {
        self.requests() as f64 / self.took.as_secs_f64()
    }

    /// Of a core.
    pub(crate) fn share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.took.as_secs_f64()
    }

    /// Milliseconds within which so many of a thousand came.
    pub(crate) fn within(&mut self, kind: Kind, permille: usize) -> f64 {
        let Some(all) = self.answers.get_mut(&kind).filter(|it| !it.is_empty()) else {
            return f64::NAN;
        };
        let place = (all.len() * permille / 1000).min(all.len() - 1);
        f64::from(*all.select_nth_unstable(place).1) / 10_000.0
    }
}

/// Microseconds for each of `count`.
pub(crate) fn per(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// The middle one.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
