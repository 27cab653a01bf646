//! How many forged packets may leave.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::ForgeLimits;
use crate::address::site;
use crate::rendezvous::bucket::Bucket;

/// Addresses whose packets are counted at once; beyond it nothing is forged to a new one.
const MAX_ADDRESSES: usize = 1024;

/// Counts forged packets, in all and to each address. Buckets hold what a second brings.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    all: Option<Bucket>,
    each: BTreeMap<IpAddr, Bucket>,
}

impl Meters {
    /// Takes a token for each packet, or none at all.
    pub(crate) fn take(
        &mut self,
        limits: &ForgeLimits,
        packets: &[(IpAddr, usize)],
        now: Instant,
    ) -> bool {
        let ForgeLimits { packets_per_second, packets_per_second_per_address: per_address, .. } =
            *limits;
        if self.each.len() + packets.len() > MAX_ADDRESSES {
            self.each.retain(|_, bucket| !bucket.is_full(now));
        }
        if self.each.len() + packets.len() > MAX_ADDRESSES {
            return false;
        }
        // Both sides may sit behind one address.
        let (mut all, mut each) = (self.all, self.each.clone());
        let in_all = all.get_or_insert(Bucket::full(now));
        for (ip, count) in packets {
            let bucket = each.entry(site(*ip)).or_insert(Bucket::full(now));
            for _ in 0..*count {
                if !in_all.take(packets_per_second, packets_per_second, now)
                    || !bucket.take(per_address, per_address, now)
                {
                    return false;
                }
            }
        }
        (self.all, self.each) = (all, each);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::machine::any_instant;

    const LIMITS: ForgeLimits =
        ForgeLimits { packets_per_second: 12, packets_per_second_per_address: 3, max_sessions: 1 };

    fn packets(one: u8, other: u8) -> [(IpAddr, usize); 2] {
        [one, other].map(|last| (IpAddr::from([192, 0, 2, last]), 3))
    }

    #[test]
    fn an_address_gets_no_more_than_its_share_however_many_ask() {
        let start = any_instant();
        let mut meters = Meters::default();
        assert!(meters.take(&LIMITS, &packets(1, 2), start));
        assert!(!meters.take(&LIMITS, &packets(1, 3), start), "1 has had its share");
        assert!(meters.take(&LIMITS, &packets(3, 4), start), "the refusal cost 3 nothing");
        assert!(!meters.take(&LIMITS, &packets(5, 6), start), "all together have had theirs");
        assert!(meters.take(&LIMITS, &packets(1, 2), start + Duration::from_secs(1)));
        assert!(!meters.take(&LIMITS, &packets(7, 7), start + Duration::from_secs(2)));
    }

    #[test]
    fn addresses_that_were_quiet_make_room() {
        let limits = ForgeLimits { packets_per_second: 100_000, ..LIMITS };
        let start = any_instant();
        let mut meters = Meters::default();
        let ip = |number: u16| IpAddr::from([10, 0, number.to_be_bytes()[0], number as u8]);
        for number in 0..MAX_ADDRESSES as u16 {
            assert!(meters.take(&limits, &[(ip(number), 3)], start));
        }
        assert!(!meters.take(&limits, &[(ip(5000), 3)], start));
        assert!(meters.take(&limits, &[(ip(5000), 3)], start + Duration::from_secs(1)));
    }
}
