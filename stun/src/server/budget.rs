//! [`Budget`]: how many replies a source may have, so that a forged source is nobody's flood.
//!
//! A server that answers datagrams cannot know whether their source is true. Replies are therefore counted by where they
//! go: each *address* (an IPv4 address, an IPv6 /64) has a small allowance that nobody else can use up, and each *network*
//! (an IPv4 /24, an IPv6 /48) a large one that its addresses share. A reply is paid from the address's allowance, or
//! else from the network's; when both are used up there is silence until they have grown again. Nobody is banned: what
//! is left for a source after a flood in its name is the same as before it, a moment later.
//!
//! ```text
//!   reply to 192.0.2.7 ──▶ allowance of 192.0.2.7 ──empty──▶ allowance of 192.0.2.0/24 ──empty──▶ silence
//!                           20 a second, 200 at once          10,000 a second, 20,000 at once
//! ```
//!
//! Who is on a network that this host is on itself ([`Budget::name_neighbours`]) may have many more at once: a request
//! in a neighbour's name comes from a neighbour, or past a router that should have dropped it (BCP 38), and load tests and
//! hosts next door are not to be held up. What goes on and on is bounded for neighbours as for everybody.
//!
//! Replies for which [`is_long`] holds, which RFC 5780 demands for short requests, have smaller allowances of their own.
//!
//! Memory is fixed: four tables of 8-byte cells, chosen by a keyed hash. Two sources that meet in one cell share it, in
//! one table; meeting in two at once is unlikely, and the key is secret, so nobody can arrange it. Each cell is a leaky
//! bucket in one number: the instant at which it will be empty again (the generic cell rate algorithm of ITU-T I.371).

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Cells of each table: 128 KiB.
const CELLS: usize = 1 << 14;
/// Cells of the table for neighbours, of whom there are few networks.
const NEIGHBOURS: usize = 1 << 8;

/// How many replies, how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Replies a second, on and on. 0 allows none.
    pub per_second: u32,
    /// Replies at once, after a silence of `burst / per_second` seconds or more.
    pub burst: u32,
}

/// The allowances of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Of each IPv4 address and each IPv6 /64, whatever the others do. Default: 20 a second, 200 at once.
    pub address: Allowance,
    /// Of each IPv4 /24 and each IPv6 /48. Default: 10,000 a second, 20,000 at once, which a thousand clients behind one
    /// address do not reach.
    pub network: Allowance,
    /// Of each network, for replies that are longer than 1.6 times their request. Default: 200 a second, 500 at once.
    pub long: Allowance,
    /// Beside the others, of each network that this host is on. Default: 10,000 a second, 4,000,000 at once.
    pub neighbours: Allowance,
}

/// A network: the addresses that have the first `prefix` bits in common with `ip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// An address in it.
    pub ip: IpAddr,
    /// How many of its bits count.
    pub prefix: u8,
}

impl Network {
    /// Whether `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let differ = |bits: u32, first: u128, second: u128| {
            let ignored = bits.saturating_sub(u32::from(self.prefix));
            (first ^ second).checked_shr(ignored).unwrap_or(0) != 0
        };
        match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                !differ(32, u32::from(own).into(), u32::from(ip).into())
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => !differ(128, own.into(), ip.into()),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl Default for BudgetLimits {
    fn default() -> Self {
        Self {
            address: Allowance { per_second: 20, burst: 200 },
            network: Allowance { per_second: 10_000, burst: 20_000 },
            long: Allowance { per_second: 200, burst: 500 },
            neighbours: Allowance { per_second: 10_000, burst: 4_000_000 },
        }
    }
}

impl BudgetLimits {
    /// The default with `per_second` replies a second for each network, and twice as many at once; for neighbours 400 times
    /// as many.
    pub fn of_network(per_second: u32) -> Self {
        let at_once = |times| Allowance { per_second, burst: per_second.saturating_mul(times) };
        Self { network: at_once(2), neighbours: at_once(400), ..Self::default() }
    }
}

/// How much longer than its request a reply over UDP may be. Over TCP a source is true, so nothing is bounded there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Amplification {
    /// As long as RFC 5780 has it, within the budget for long replies.
    #[default]
    Standard,
    /// Not more than 1.6 times, or the shortest success there is.
    Low,
    /// Not longer at all: who wants an answer must ask with more than a header.
    None,
}

impl Amplification {
    /// Whether a reply of this length may answer a request of this length.
    pub(super) fn admits(self, reply: usize, request: usize, to: IpAddr) -> bool {
        match self {
            Self::Standard => true,
            Self::Low => !is_long(reply, request, to),
            Self::None => reply <= request,
        }
    }
}

/// Whether a reply is longer than 1.6 times its request, and longer than a success with nothing but the mapped address, 32
/// bytes for an IPv4 client and 44 for an IPv6 one.
pub fn is_long(reply: usize, request: usize, to: IpAddr) -> bool {
    let bare = if to.is_ipv4() { 32 } else { 44 };
    reply * 10 > request * 16 && reply > bare
}

/// What sources may still have.
#[derive(Clone, Debug)]
pub struct Budget {
    keys: [u64; 2],
    addresses: Table,
    networks: Table,
    long: Table,
    neighbours: Table,
    /// The networks that this host is on.
    near: Vec<Network>,
    origin: Option<Instant>,
    /// Since `origin`.
    now: Duration,
}

impl Budget {
    /// All allowances are whole. `keys` are drawn from a cryptographic source by the caller; who knows them can choose
    /// sources that share an allowance.
    pub fn new(limits: BudgetLimits, keys: [u64; 2]) -> Self {
        Self {
            keys,
            addresses: Table::new(limits.address, CELLS),
            networks: Table::new(limits.network, CELLS),
            long: Table::new(limits.long, CELLS),
            neighbours: Table::new(limits.neighbours, NEIGHBOURS),
            near: Vec::new(),
            origin: None,
            now: Duration::ZERO,
        }
    }

    /// Says which networks this host is on.
    pub fn name_neighbours(&mut self, near: Vec<Network>) {
        self.near = near;
    }

    /// Says what time it is.
    pub fn advance(&mut self, now: Instant) {
        let origin = *self.origin.get_or_insert(now);
        self.now = self.now.max(now.saturating_duration_since(origin));
    }

    /// Whether one more reply may go to `to`, which it is charged for. This host's own loopback addresses are charged but
    /// never refused: nobody else can be behind them.
    pub fn admits(&mut self, to: IpAddr) -> bool {
        let (address, network) = self.cells(to);
        let now = nanoseconds(self.now);
        self.addresses.take(address, now)
            || self.networks.take(network, now)
            || self.admits_neighbour(to, network)
    }

    /// The same for a reply that [`is_long`]; it is charged beside [`Budget::admits`].
    pub fn admits_long(&mut self, to: IpAddr) -> bool {
        let (_, network) = self.cells(to);
        self.long.take(network, nanoseconds(self.now)) || self.admits_neighbour(to, network)
    }

    fn admits_neighbour(&mut self, to: IpAddr, network: usize) -> bool {
        let is_near = self.near.iter().any(|it| it.contains(to));
        to.is_loopback()
            || (is_near && self.neighbours.take(network % NEIGHBOURS, nanoseconds(self.now)))
    }

    /// The cells of an address and of its network.
    fn cells(&self, ip: IpAddr) -> (usize, usize) {
        let (address, network) = match ip {
            IpAddr::V4(ip) => {
                let bits = u64::from(u32::from(ip));
                // A bit that keeps them apart from IPv6.
                (bits | 1 << 63, bits >> 8 | 1 << 62)
            }
            IpAddr::V6(ip) => {
                let bits = (u128::from(ip) >> 64) as u64;
                (bits, bits >> 16)
            }
        };
        (self.cell(address), self.cell(!network))
    }

    /// A keyed hash: the two halves of a 128-bit product, folded.
    fn cell(&self, value: u64) -> usize {
        let product = u128::from(value ^ self.keys[0]) * u128::from(self.keys[1] | 1);
        let folded = (product >> 64) as u64 ^ product as u64;
        (folded >> 32) as usize % CELLS
    }
}

/// Leaky buckets, each the instant in nanoseconds at which it will be empty.
#[derive(Clone, Debug)]
struct Table {
    cells: Box<[u64]>,
    /// Between two replies.
    interval: u64,
    /// How far ahead of the present a bucket may be.
    tolerance: u64,
}

impl Table {
    fn new(allowance: Allowance, cells: usize) -> Self {
        let interval = 1_000_000_000 / u64::from(allowance.per_second.max(1));
        let replies = if allowance.per_second == 0 { 0 } else { u64::from(allowance.burst) };
        Self { cells: vec![0; cells].into(), interval, tolerance: interval * replies }
    }

    fn take(&mut self, cell: usize, now: u64) -> bool {
        let Some(empty_at) = self.cells.get_mut(cell) else { return false };
        let after = (*empty_at).max(now) + self.interval;
        let is_admitted = after <= now + self.tolerance;
        if is_admitted {
            *empty_at = after;
        }
        is_admitted
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [u64; 2] = [0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3211];

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn budget(limits: BudgetLimits) -> (Budget, Instant) {
        let (mut budget, start) = (Budget::new(limits, KEYS), Instant::now());
        budget.advance(start);
        (budget, start)
    }

    fn small() -> BudgetLimits {
        BudgetLimits {
            address: Allowance { per_second: 2, burst: 3 },
            network: Allowance { per_second: 10, burst: 20 },
            long: Allowance { per_second: 1, burst: 2 },
            neighbours: Allowance { per_second: 10, burst: 100 },
        }
    }

    fn admitted(budget: &mut Budget, to: &str, times: usize) -> usize {
        (0..times).filter(|_| budget.admits(ip(to))).count()
    }

    #[test]
    fn an_address_has_its_own_allowance_and_a_share_of_its_network() {
        let (mut budget, start) = budget(small());
        assert_eq!(admitted(&mut budget, "192.0.2.1", 100), 3 + 20);
        assert_eq!(admitted(&mut budget, "192.0.2.2", 100), 3, "its neighbour's own is untouched");
        assert_eq!(admitted(&mut budget, "198.51.100.1", 100), 23, "another network's too");
        budget.advance(start + Duration::from_secs(1));
        assert_eq!(admitted(&mut budget, "192.0.2.1", 100), 2 + 10, "what a second gives");
        budget.advance(start + Duration::from_secs(3600));
        assert_eq!(admitted(&mut budget, "192.0.2.1", 100), 23, "no more than the burst");
    }

    #[test]
    fn ipv6_counts_by_64_and_48() {
        let (mut budget, _) = budget(small());
        assert_eq!(admitted(&mut budget, "2001:db8:1:2::1", 100), 23);
        assert_eq!(admitted(&mut budget, "2001:db8:1:2:ffff::1", 100), 0, "the same /64");
        assert_eq!(admitted(&mut budget, "2001:db8:1:3::1", 100), 3, "the same /48");
        assert_eq!(admitted(&mut budget, "2001:db8:2:2::1", 100), 23, "another one");
    }

    #[test]
    fn sixty_forged_requests_do_not_silence_a_victim() {
        let (mut budget, _) = budget(BudgetLimits::default());
        assert_eq!(admitted(&mut budget, "192.0.2.1", 60), 60);
        assert_eq!(admitted(&mut budget, "192.0.2.1", 60), 60);
    }

    #[test]
    fn a_thousand_clients_behind_one_address_get_on() {
        let (mut budget, start) = budget(BudgetLimits::default());
        // Each asks twenty times within two seconds, which is what a diagnosis needs.
        for tick in 0..20_u32 {
            budget.advance(start + Duration::from_millis(100) * tick);
            assert_eq!(admitted(&mut budget, "192.0.2.1", 1000), 1000);
        }
    }

    #[test]
    fn a_flood_from_many_networks_leaves_others_their_answers() {
        let (mut budget, _) = budget(BudgetLimits::default());
        for network in 0..=u16::MAX {
            let [high, low] = network.to_be_bytes();
            for host in 0..16 {
                budget.admits(IpAddr::from([10, high, low, host]));
            }
        }
        let mut hosts = (0..=u8::MAX).map(|host| IpAddr::from([192, 0, host, 7]));
        assert!(hosts.all(|it| budget.admits(it)), "a million replies in no time");
    }

    #[test]
    fn long_replies_have_an_allowance_of_their_own() {
        let (mut budget, start) = budget(small());
        let mut long = |to: &str| (0..9).filter(|_| budget.admits_long(ip(to))).count();
        assert_eq!(long("192.0.2.1"), 2);
        assert_eq!(long("192.0.2.200"), 0, "shared by the network");
        assert_eq!(long("198.51.100.1"), 2);
        budget.advance(start + Duration::from_secs(1));
        assert!(budget.admits_long(ip("192.0.2.1")) && !budget.admits_long(ip("192.0.2.1")));
        let (v4, v6) = (ip("192.0.2.1"), ip("2001:db8::1"));
        assert!(!is_long(32, 20, v4) && is_long(33, 20, v4) && is_long(68, 28, v4));
        assert!(!is_long(44, 28, v4) && !is_long(44, 20, v6) && is_long(48, 20, v6));
    }

    #[test]
    fn a_neighbour_may_have_more_at_once_but_not_on_and_on() {
        let (mut budget, start) = budget(small());
        budget.name_neighbours(vec![Network { ip: ip("192.0.2.130"), prefix: 25 }]);
        assert_eq!(admitted(&mut budget, "192.0.2.200", 1000), 23 + 100);
        assert_eq!(admitted(&mut budget, "192.0.2.7", 1000), 3, "in the other half");
        budget.advance(start + Duration::from_secs(1));
        assert_eq!(admitted(&mut budget, "192.0.2.200", 1000), 2 + 10 + 10);
    }

    #[test]
    fn a_network_contains_what_has_its_first_bits() {
        for (own, prefix, inside, outside) in [
            ("192.0.2.1", 24, "192.0.2.255", "192.0.3.1"),
            ("192.0.2.1", 32, "192.0.2.1", "192.0.2.0"),
            ("192.0.2.1", 0, "255.0.0.1", "::1"),
            ("2001:db8::1", 64, "2001:db8::ffff:0:0:1", "2001:db8:0:1::1"),
            ("2001:db8::1", 0, "ff::", "192.0.2.1"),
        ] {
            let network = Network { ip: ip(own), prefix };
            assert!(network.contains(ip(inside)) && !network.contains(ip(outside)), "{network:?}");
        }
    }

    #[test]
    fn the_loopback_is_never_refused() {
        let (mut budget, _) = budget(small());
        assert_eq!(admitted(&mut budget, "127.0.0.1", 1000), 1000);
        assert_eq!(admitted(&mut budget, "::1", 1000), 1000);
    }

    #[test]
    fn nothing_is_allowed_where_nothing_is_to_be() {
        let none = Allowance { per_second: 0, burst: 9 };
        let limits = BudgetLimits { address: none, network: none, long: none, neighbours: none };
        let (mut budget, _) = budget(limits);
        assert_eq!(admitted(&mut budget, "192.0.2.1", 9), 0);
    }

    #[test]
    fn time_that_stands_or_goes_back_is_the_same_time() {
        let (mut budget, start) = budget(small());
        assert_eq!(admitted(&mut budget, "192.0.2.1", 99), 23);
        budget.advance(start);
        assert_eq!(admitted(&mut budget, "192.0.2.1", 99), 0);
    }
}
