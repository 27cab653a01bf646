//! [`networks`]: the networks that this host is on, read from the kernel's routes.
//!
//! Only what is reached without a router, and nothing larger than a /16 or an IPv6 /48: a route for the whole internet
//! over a line without a router makes nobody a neighbour. Where `/proc` is not to be read there are none.

use ntcp_stun::server::Network;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The largest networks that count.
const LEAST_PREFIX: (u32, u32) = (16, 48);
/// The route leads to a router (`RTF_GATEWAY` of route(8)).
const GATEWAY: u32 = 2;

/// The networks that this host is on.
pub(crate) fn networks() -> Vec<Network> {
    let read = |name| std::fs::read_to_string(name).unwrap_or_default();
    let (v4, v6) = (read("/proc/thread-self/net/route"), read("/proc/thread-self/net/ipv6_route"));
    v4.lines().filter_map(of_ipv4).chain(v6.lines().filter_map(of_ipv6)).collect()
}

/// A line such as `eth0 00026FC6 00000000 0001 0 0 0 00FFFFFF 0 0 0`: interface, destination, router, flags, three numbers,
/// mask; addresses are words of this machine.
fn of_ipv4(line: &str) -> Option<Network> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let mut number = || u32::from_str_radix(fields.next()?, 16).ok();
    let (destination, router, flags) = (number()?, number()?, number()?);
    let mask = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    let prefix = mask.count_ones();
    let is_near = router == 0 && flags & GATEWAY == 0 && prefix >= LEAST_PREFIX.0;
    let ip = Ipv4Addr::from(destination.to_ne_bytes()).into();
    is_near.then_some(Network { ip, prefix: prefix as u8 })
}

/// A line of destination, prefix, source, its prefix, next hop, metric, two counts, flags and interface, in hexadecimal.
fn of_ipv6(line: &str) -> Option<Network> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let &[destination, prefix, _, _, router, _, _, _, flags, interface] = &fields[..] else {
        return None;
    };
    let prefix = u32::from_str_radix(prefix, 16).ok()?;
    let flags = u32::from_str_radix(flags, 16).ok()?;
    let is_near = u128::from_str_radix(router, 16).ok()? == 0
        && flags & GATEWAY == 0
        && interface != "lo"
        && prefix >= LEAST_PREFIX.1;
    let ip = Ipv6Addr::from(u128::from_str_radix(destination, 16).ok()?).into();
    is_near.then_some(Network { ip, prefix: prefix as u8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(ip: &str, prefix: u8) -> Option<Network> {
        Some(Network { ip: ip.parse().expect(ip), prefix })
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn what_is_reached_without_a_router_is_near() {
        let of = |line| of_ipv4(line);
        let near = "eth0\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0  ";
        assert_eq!(of(near), network("198.51.100.0", 24));
        for far in [
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT",
            "eth0\t00000000\t016433C6\t0003\t0\t0\t0\t00000000\t0\t0\t0",
            "ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0",
            "tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0",
            "eth0\t006433C6",
            "",
        ] {
            assert_eq!(of(far), None, "{far}");
        }
    }

    #[test]
    fn the_same_over_ipv6() {
        let line = |destination: &str, prefix, router: &str, flags, interface| {
            let none = "0".repeat(32);
            format!(
                "{destination:0<32} {prefix} {none} 00 {router:0>32} 00000100 1 0 {flags} {interface}"
            )
        };
        let own = line("20010db8", "40", "", "00000001", "eth0");
        assert_eq!(of_ipv6(&own), network("2001:db8::", 64));
        for far in [
            line("", "00", "fe80", "00000003", "eth0"),
            line("20010db8", "40", "1", "00000003", "eth0"),
            line("20010db8", "20", "", "00000001", "eth0"),
            line("20010db8", "80", "", "80200001", "lo"),
            "2001".to_owned(),
        ] {
            assert_eq!(of_ipv6(&far), None, "{far}");
        }
    }
}
