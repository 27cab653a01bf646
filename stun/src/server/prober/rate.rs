//! How many tests each source, and all of them, may ask for.

use super::{INSUFFICIENT, Limits, QUOTA};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Sources remembered at once. When there are more, those with all their tests left are forgotten,
/// and if there is none such the newcomer is refused.
const MAX_SOURCES: usize = 4096;

/// Tests left to one source, or to all.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u32,
    /// Since when the next one fills.
    since: Instant,
}

impl Bucket {
    fn full(capacity: u32, now: Instant) -> Self {
        Self { left: capacity, since: now }
    }

    fn refill(&mut self, capacity: u32, refill: Duration, now: Instant) {
        let waited = now.saturating_duration_since(self.since);
        let gained = waited.as_nanos() / refill.as_nanos().max(1);
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        if gained >= capacity.saturating_sub(self.left) {
            *self = Self::full(capacity, now);
        } else {
            self.left += gained;
            self.since += refill * gained;
        }
    }

    fn take(&mut self) -> bool {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or_default();
        left.is_some()
    }
}

/// The buckets.
#[derive(Clone, Debug)]
pub(super) struct Rates {
    limits: Limits,
    sources: BTreeMap<IpAddr, Bucket>,
    all: Option<Bucket>,
}

impl Rates {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, sources: BTreeMap::new(), all: None }
    }

    /// Takes one test, or says with which error code it is refused.
    pub(super) fn admit(&mut self, source: IpAddr, now: Instant) -> Result<(), u16> {
        let Limits { burst, refill, per_second, .. } = self.limits;
        let source = network(source);
        if !self.sources.contains_key(&source) && self.sources.len() >= MAX_SOURCES {
            self.forget_the_rested(now);
            if self.sources.len() >= MAX_SOURCES {
                return Err(INSUFFICIENT);
            }
        }
        let own = self.sources.entry(source).or_insert_with(|| Bucket::full(burst, now));
        own.refill(burst, refill, now);
        if !own.take() {
            return Err(QUOTA);
        }
        let all = self.all.get_or_insert_with(|| Bucket::full(per_second, now));
        all.refill(per_second, Duration::from_secs(1) / per_second.max(1), now);
        if all.take() { Ok(()) } else { Err(INSUFFICIENT) }
    }

    fn forget_the_rested(&mut self, now: Instant) {
        let Limits { burst, refill, .. } = self.limits;
        self.sources.retain(|_, bucket| {
            bucket.refill(burst, refill, now);
            bucket.left < burst
        });
    }
}

/// What counts as one source: an IPv4 address, or the first 64 bits of an IPv6 one, all of which one
/// host may have (RFC 4291 section 2.5.1).
pub(super) fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_source_has_a_burst_and_then_its_pace() {
        let now = start();
        let limits = Limits {
            concurrent: 1,
            burst: 3,
            refill: Duration::from_secs(1),
            per_second: 100,
            ..Limits::default()
        };
        let mut rates = Rates::new(limits);
        let (one, other): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for _ in 0..3 {
            assert_eq!(rates.admit(one, now), Ok(()));
        }
        assert_eq!(rates.admit(one, now), Err(QUOTA));
        assert_eq!(rates.admit(other, now), Ok(()));
        let later = now + Duration::from_millis(1500);
        assert_eq!(rates.admit(one, later), Ok(()));
        assert_eq!(rates.admit(one, later), Err(QUOTA));
        assert_eq!(rates.admit(one, later + Duration::from_millis(500)), Ok(()));
    }

    #[test]
    fn all_sources_together_have_a_pace_and_neighbours_of_ipv6_count_as_one() {
        let now = start();
        let limits = Limits {
            concurrent: 1,
            burst: 2,
            refill: Duration::from_secs(1),
            per_second: 4,
            ..Limits::default()
        };
        let mut rates = Rates::new(limits);
        let host = |low: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, low));
        assert_eq!([1, 2, 3].map(|it| rates.admit(host(it), now)), [Ok(()), Ok(()), Err(QUOTA)]);
        let lines = [1, 2, 3].map(|it| rates.admit(IpAddr::from([192, 0, 2, it]), now));
        assert_eq!(lines, [Ok(()), Ok(()), Err(INSUFFICIENT)]);
    }

    #[test]
    fn more_sources_than_fit_are_refused_until_others_have_rested() {
        let now = start();
        let limits = Limits { per_second: 1_000_000, ..Limits::default() };
        let mut rates = Rates::new(limits);
        let source = |it: usize| IpAddr::from(u32::try_from(it).unwrap().to_be_bytes());
        for it in 0..MAX_SOURCES {
            assert_eq!(rates.admit(source(it), now), Ok(()));
        }
        assert_eq!(rates.admit(source(MAX_SOURCES), now), Err(INSUFFICIENT));
        let later = now + limits.refill;
        assert_eq!(rates.admit(source(MAX_SOURCES), later), Ok(()));
    }
}
