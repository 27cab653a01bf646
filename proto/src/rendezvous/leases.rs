//! When leases end.
//!
//! A lease is lengthened far more often than it ends. So what is kept here is when to look at a peer: first in a bucket
//! of a quarter of a second, of which a look can come too early, and from the beginning of that quarter at the exact
//! instant. Lengthening a lease changes nothing here; the look that comes too early puts the next one where the lease
//! ends by then. A peer that has left is found to be gone when its look comes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::signal::RegistrationId;

/// Milliseconds of a bucket: leases of five minutes lie in 1200 of them.
const BUCKET: u32 = 250;

/// When a peer came, when its lease ends, and where that is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    /// Nanoseconds since the broker started.
    ends: u64,
    noted: Noted,
    came: Tenths,
}

/// Tenths of a second since the broker started: enough for 13 years, and to tell who came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tenths(u32);

/// Where the next look at a peer is noted: there are very many of these, so it is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Noted(u32);

impl Noted {
    /// At its instant.
    const EXACTLY: Self = Self(0);
    const NOWHERE: Self = Self(u32::MAX);

    /// In this bucket; the last ones are 34 years away.
    fn in_bucket(bucket: u32) -> Self {
        Self(bucket.saturating_add(1).min(u32::MAX - 1))
    }
}

impl Lease {
    /// Of a peer whose lease has not been set yet.
    pub(super) const UNSET: Self =
        Self { ends: u64::MAX, noted: Noted::NOWHERE, came: Tenths(u32::MAX) };

    /// When its peer came.
    pub(super) fn came(&self) -> Tenths {
        self.came
    }

    /// Says when its peer came.
    pub(super) fn set_came(&mut self, came: Tenths) {
        self.came = came;
    }
}

/// All looks.
#[derive(Debug)]
pub(super) struct Leases {
    start: Instant,
    buckets: BTreeMap<u32, Vec<RegistrationId>>,
    exact: BTreeSet<(Instant, RegistrationId)>,
}

/// A look that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) id: RegistrationId,
    from: Noted,
}

impl Leases {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, buckets: BTreeMap::new(), exact: BTreeSet::new() }
    }

    /// When the broker started.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// `at`, as it is kept.
    pub(super) fn tenths(&self, at: Instant) -> Tenths {
        let tenths = at.saturating_duration_since(self.start).as_millis() / 100;
        Tenths(u32::try_from(tenths).unwrap_or(u32::MAX))
    }

    /// For how long a peer has been here; `None` if its lease has ended.
    pub(super) fn stay(&self, lease: &Lease, now: Instant) -> Option<Duration> {
        let came = Duration::from_millis(u64::from(lease.came.0) * 100);
        let here = now.saturating_duration_since(self.start).saturating_sub(came);
        (lease.ends > self.nanos(now)).then_some(here)
    }

    /// Has a lease end at `ends`.
    pub(super) fn set(&mut self, id: RegistrationId, lease: &mut Lease, ends: Instant) {
        lease.ends = self.nanos(ends);
        let bucket = self.bucket(ends);
        if Noted::in_bucket(bucket) < lease.noted {
            self.note_bucket(id, lease, bucket);
        }
    }

    /// Whether a lease has ended at `now`; if not, the look at it that was just taken comes again.
    pub(super) fn has_ended(&mut self, look: Look, lease: &mut Lease, now: Instant) -> bool {
        if lease.noted != look.from {
            return false;
        }
        if lease.ends <= self.nanos(now) {
            return true;
        }
        let ends = self.start + Duration::from_nanos(lease.ends);
        let bucket = self.bucket(ends);
        if bucket <= self.bucket(now) {
            lease.noted = Noted::EXACTLY;
            self.exact.insert((ends, look.id));
        } else {
            self.note_bucket(look.id, lease, bucket);
        }
        false
    }

    fn note_bucket(&mut self, id: RegistrationId, lease: &mut Lease, bucket: u32) {
        lease.noted = Noted::in_bucket(bucket);
        let bucket = self.buckets.entry(bucket).or_default();
        if bucket.len() == bucket.capacity() {
            // By a quarter instead of twice: together they are as long as there are peers.
            bucket.reserve_exact(bucket.len() / 4 + 4);
        }
        bucket.push(id);
    }

    /// The next look that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Look> {
        if self.exact.first().is_some_and(|(at, _)| *at <= now) {
            let (_, id) = self.exact.pop_first()?;
            return Some(Look { id, from: Noted::EXACTLY });
        }
        let current = self.bucket(now);
        let mut first = self.buckets.first_entry().filter(|it| *it.key() <= current)?;
        let from = Noted::in_bucket(*first.key());
        let id = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        id.map(|id| Look { id, from })
    }

    /// When the next look is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let millis = |bucket: u32| Duration::from_millis(u64::from(bucket) * u64::from(BUCKET));
        let bucket = self.buckets.keys().next().map(|it| self.start + millis(*it));
        let exact = self.exact.first().map(|(at, _)| *at);
        bucket.into_iter().chain(exact).min()
    }

    fn nanos(&self, at: Instant) -> u64 {
        // 584 years of running are enough.
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    fn bucket(&self, at: Instant) -> u32 {
        let millis = at.saturating_duration_since(self.start).as_millis();
        // 34 years.
        u32::try_from(millis / u128::from(BUCKET)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::any_instant;

    fn id(number: u8) -> RegistrationId {
        RegistrationId([number; 8])
    }

    /// Looks at each peer when it is due, and tells which lease ended when.
    fn ended(
        leases: &mut Leases,
        peers: &mut BTreeMap<RegistrationId, Lease>,
    ) -> Vec<(u8, Duration)> {
        let mut all = Vec::new();
        while let Some(now) = leases.next() {
            while let Some(look) = leases.take_due(now) {
                let Some(lease) = peers.get_mut(&look.id) else { continue };
                if leases.has_ended(look, lease, now) {
                    peers.remove(&look.id);
                    all.push((look.id.0[0], now - leases.start));
                }
            }
        }
        all
    }

    #[test]
    fn leases_end_at_their_instant_and_once() {
        let start = any_instant();
        let (mut leases, mut peers) = (Leases::new(start), BTreeMap::new());
        let millis = [3, 1009, 1001, 999, 60_000, 1000];
        for (number, millis) in (0..).zip(millis) {
            let mut lease = Lease::UNSET;
            leases.set(id(number), &mut lease, start + Duration::from_millis(millis));
            peers.insert(id(number), lease);
        }
        let all = ended(&mut leases, &mut peers);
        let expected = [(0, 3), (3, 999), (5, 1000), (2, 1001), (1, 1009), (4, 60_000)];
        assert_eq!(all, expected.map(|(it, millis)| (it, Duration::from_millis(millis))));
        assert_eq!(leases.next(), None);
    }

    #[test]
    fn a_lease_that_was_lengthened_or_shortened_ends_when_it_was_last_told_to() {
        let start = any_instant();
        let at = |millis| start + Duration::from_millis(millis);
        let (mut leases, mut peers) = (Leases::new(start), BTreeMap::new());
        for (number, ends) in [(1, [5000, 9001]), (2, [9000, 4002])] {
            let mut lease = Lease::UNSET;
            for millis in ends {
                leases.set(id(number), &mut lease, at(millis));
            }
            peers.insert(id(number), lease);
        }
        let millis = Duration::from_millis;
        assert_eq!(ended(&mut leases, &mut peers), [(2, millis(4002)), (1, millis(9001))]);
    }

    #[test]
    fn refreshing_all_the_time_leaves_no_more_than_one_look_behind() {
        let start = any_instant();
        let (mut leases, mut lease) = (Leases::new(start), Lease::UNSET);
        for second in 0..1000_u64 {
            let lasts = if second % 2 == 0 { 300 } else { 5 };
            let now = start + Duration::from_secs(second);
            while let Some(look) = leases.take_due(now) {
                assert!(!leases.has_ended(look, &mut lease, now));
            }
            leases.set(id(1), &mut lease, now + Duration::from_secs(lasts));
            let looks: usize = leases.buckets.values().map(Vec::len).sum();
            assert!(looks + leases.exact.len() <= 300 / 5 + 1);
        }
    }

    #[test]
    fn a_stay_counts_from_when_a_peer_came_until_its_lease_ends() {
        let start = any_instant();
        let at = |millis| start + Duration::from_millis(millis);
        let (mut leases, mut lease) = (Leases::new(start), Lease::UNSET);
        lease.set_came(leases.tenths(at(70_250)));
        leases.set(id(1), &mut lease, at(80_000));
        assert_eq!(leases.stay(&lease, at(70_250)), Some(Duration::from_millis(50)), "in tenths");
        leases.set(id(1), &mut lease, at(90_000));
        assert_eq!(leases.stay(&lease, at(89_999)), Some(Duration::from_millis(19_799)));
        assert_eq!(leases.stay(&lease, at(90_000)), None);
    }

    #[test]
    fn who_has_left_is_not_missed() {
        let start = any_instant();
        let (mut leases, mut lease) = (Leases::new(start), Lease::UNSET);
        leases.set(id(1), &mut lease, start + Duration::from_secs(5));
        assert_eq!(ended(&mut leases, &mut BTreeMap::new()), []);
    }
}
