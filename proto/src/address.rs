//! What kind of network an address belongs to.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `ip`.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// `address` with an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2) written as IPv4, so that
/// what a dual-stack socket reports compares equal to what was configured.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// What counts as one address where somebody's share is bounded: an IPv4 address, or the first 64 bits of an IPv6 one, all of
/// which one host may have (RFC 4291 section 2.5.1).
pub fn site(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
        ip => ip,
    }
}

/// Whether a peer elsewhere could ever send to this address: not unspecified, loopback, multicast,
/// broadcast or link-local, and with a port.
///
/// Private, shared and documentation ranges pass: a peer may sit in the same one, and laboratories
/// use documentation addresses as their public internet.
pub fn is_usable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let family_ok = match ip {
        IpAddr::V4(ip) => !ip.is_broadcast() && !ip.is_link_local() && ip.octets()[0] != 0,
        IpAddr::V6(ip) => !ip.is_unicast_link_local() && ip.to_ipv4_mapped().is_none(),
    };
    address.port() != 0
        && !ip.is_unspecified()
        && !ip.is_loopback()
        && !ip.is_multicast()
        && family_ok
}

/// Whether this address means something else in every network: RFC 1918, RFC 6598 and RFC 4193.
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] >> 6 == 1),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable(text: &str) -> bool {
        is_usable(text.parse().unwrap())
    }

    #[test]
    fn private_shared_and_documentation_addresses_are_usable() {
        for text in ["192.168.1.2:1", "100.64.0.1:1", "203.0.113.9:1", "[2001:db8::1]:1"] {
            assert!(usable(text), "{text}");
        }
    }

    #[test]
    fn ranges_that_everybody_has_are_private() {
        let private = |text: &str| is_private(text.parse().unwrap());
        for text in ["10.1.2.3", "172.16.0.1", "192.168.0.1", "100.64.0.1", "fd00::1"] {
            assert!(private(text), "{text}");
        }
        for text in ["203.0.113.1", "100.128.0.1", "172.32.0.1", "2001:db8::1"] {
            assert!(!private(text), "{text}");
        }
    }

    #[test]
    fn addresses_nobody_else_can_reach_are_not_usable() {
        let texts = ["127.0.0.1:1", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "10.0.0.1:0"];
        let more =
            ["169.254.1.1:1", "[::1]:1", "[fe80::1]:1", "[ff02::1]:1", "[::ffff:10.0.0.1]:1"];
        for text in texts.into_iter().chain(more) {
            assert!(!usable(text), "{text}");
        }
    }
}
