//! A server's second address, once it may be believed.

use std::net::SocketAddr;

/// A server that says it can answer from another address: its own and the other one, of the same
/// family, with another IP address and another port (RFC 5780 section 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alternate {
    primary: SocketAddr,
    other: SocketAddr,
}

/// Why an OTHER-ADDRESS or CHANGED-ADDRESS is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum AlternateRefusal {
    /// A changed reply from there would prove nothing. Servers that listen on one IPv4 and one
    /// IPv6 address announce this.
    #[error("it is the server's own IP address")]
    SameIp,
    /// A change of the port could not be told.
    #[error("it has the server's own port")]
    SamePort,
    /// IPv4 for an IPv6 server, or the reverse.
    #[error("it is of the other address family")]
    OtherFamily,
    /// Unspecified, multicast or without a port.
    #[error("nobody can be reached there")]
    Unusable,
}

impl Alternate {
    /// Believes that the server at `primary` also answers at `other`, if that can be.
    ///
    /// # Errors
    ///
    /// An [`AlternateRefusal`] if it cannot.
    pub fn accept(primary: SocketAddr, other: SocketAddr) -> Result<Self, AlternateRefusal> {
        let ip = other.ip();
        if primary.is_ipv4() != other.is_ipv4() {
            Err(AlternateRefusal::OtherFamily)
        } else if ip.is_unspecified() || ip.is_multicast() || other.port() == 0 {
            Err(AlternateRefusal::Unusable)
        } else if primary.ip() == ip {
            Err(AlternateRefusal::SameIp)
        } else if primary.port() == other.port() {
            Err(AlternateRefusal::SamePort)
        } else {
            Ok(Self { primary, other })
        }
    }

    /// Where the server was asked.
    pub fn primary(&self) -> SocketAddr {
        self.primary
    }

    /// The other IP address, the same port.
    pub fn other_ip(&self) -> SocketAddr {
        SocketAddr::new(self.other.ip(), self.primary.port())
    }

    /// The same IP address, the other port.
    pub fn other_port(&self) -> SocketAddr {
        SocketAddr::new(self.primary.ip(), self.other.port())
    }

    /// The other IP address, the other port.
    pub fn other_both(&self) -> SocketAddr {
        self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(primary: &str, other: &str) -> Result<Alternate, AlternateRefusal> {
        Alternate::accept(primary.parse().unwrap(), other.parse().unwrap())
    }

    #[test]
    fn another_ip_and_port_span_four_addresses() {
        let alternate = accept("203.0.113.10:3478", "203.0.113.11:3479").unwrap();
        assert_eq!(alternate.other_ip().to_string(), "203.0.113.11:3478");
        assert_eq!(alternate.other_port().to_string(), "203.0.113.10:3479");
        assert_eq!(alternate.other_both().to_string(), "203.0.113.11:3479");
    }

    #[test]
    fn addresses_that_would_prove_nothing_are_refused() {
        let cases = [
            ("203.0.113.10:3478", "203.0.113.10:3479", AlternateRefusal::SameIp),
            ("203.0.113.10:3478", "203.0.113.11:3478", AlternateRefusal::SamePort),
            ("203.0.113.10:3478", "[2001:db8::1]:3479", AlternateRefusal::OtherFamily),
            ("203.0.113.10:3478", "0.0.0.0:3479", AlternateRefusal::Unusable),
            ("203.0.113.10:3478", "224.0.0.1:3479", AlternateRefusal::Unusable),
            ("203.0.113.10:3478", "203.0.113.11:0", AlternateRefusal::Unusable),
        ];
        for (primary, other, refusal) in cases {
            assert_eq!(accept(primary, other), Err(refusal), "{other}");
        }
    }
}
