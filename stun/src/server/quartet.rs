//! [`Quartet`]: two IP addresses with two ports each.

use crate::attribute::ChangeRequest;
use std::net::SocketAddr;

/// The four addresses of a server that can answer from elsewhere (RFC 5780, section 6; RFC 3489, section 8.1).
///
/// ```text
///                   port of primary   port of alternate
///  IP of primary       primary             ·
///  IP of alternate        ·             alternate
/// ```
///
/// A socket must be bound to each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quartet {
    primary: SocketAddr,
    alternate: SocketAddr,
}

/// Why two addresses make no quartet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuartetError {
    /// One is IPv4, the other IPv6: nobody can be answered from both.
    #[error("{primary} and {alternate} are of different address families")]
    Families {
        /// The primary address.
        primary: SocketAddr,
        /// The alternate address.
        alternate: SocketAddr,
    },
    /// Both have the same IP, which would make clients believe that every NAT filters nothing.
    #[error("{alternate} needs another IP than {primary}")]
    SameIp {
        /// The primary address.
        primary: SocketAddr,
        /// The alternate address.
        alternate: SocketAddr,
    },
    /// Both have the same port.
    #[error("{alternate} needs another port than {primary}")]
    SamePort {
        /// The primary address.
        primary: SocketAddr,
        /// The alternate address.
        alternate: SocketAddr,
    },
    /// An unspecified IP or port 0 cannot be told to a client.
    #[error("{address} is not a concrete address and port")]
    NotConcrete {
        /// The address.
        address: SocketAddr,
    },
}

impl Quartet {
    /// The quartet of these two corners.
    ///
    /// # Errors
    ///
    /// A [`QuartetError`] unless IP and port differ, within one family.
    pub fn new(primary: SocketAddr, alternate: SocketAddr) -> Result<Self, QuartetError> {
        for address in [primary, alternate] {
            if address.ip().is_unspecified() || address.port() == 0 {
                return Err(QuartetError::NotConcrete { address });
            }
        }
        if primary.is_ipv4() != alternate.is_ipv4() {
            return Err(QuartetError::Families { primary, alternate });
        }
        if primary.ip() == alternate.ip() {
            return Err(QuartetError::SameIp { primary, alternate });
        }
        if primary.port() == alternate.port() {
            return Err(QuartetError::SamePort { primary, alternate });
        }
        Ok(Self { primary, alternate })
    }

    /// All four: primary, same IP and other port, other IP and same port, alternate.
    pub fn addresses(&self) -> [SocketAddr; 4] {
        let Self { primary, alternate } = self;
        let at = SocketAddr::new;
        [
            *primary,
            at(primary.ip(), alternate.port()),
            at(alternate.ip(), primary.port()),
            *alternate,
        ]
    }

    /// Whether `address` is one of the four.
    pub fn contains(&self, address: SocketAddr) -> bool {
        let Self { primary, alternate } = self;
        (address.ip() == primary.ip() || address.ip() == alternate.ip())
            && (address.port() == primary.port() || address.port() == alternate.port())
    }

    /// The address to answer from when a request came to `local` (RFC 5780, section 6.1, table 1); `None` if `local`
    /// is not one of the four.
    pub fn changed(&self, local: SocketAddr, change: ChangeRequest) -> Option<SocketAddr> {
        if !self.contains(local) {
            return None;
        }
        let Self { primary, alternate } = self;
        let ip = match (change.changes_ip(), local.ip() == primary.ip()) {
            (false, _) => local.ip(),
            (true, true) => alternate.ip(),
            (true, false) => primary.ip(),
        };
        let port = match (change.changes_port(), local.port() == primary.port()) {
            (false, _) => local.port(),
            (true, true) => alternate.port(),
            (true, false) => primary.port(),
        };
        Some(SocketAddr::new(ip, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ChangeRequest::{Ip, IpAndPort, Nothing, Port};

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn table_1_of_rfc_5780() {
        let quartet = Quartet::new(at("192.0.2.1:3478"), at("192.0.2.2:3479")).expect("valid");
        // Came to; answered from, by flags.
        for (local, nothing, port, ip, both) in [
            ("1:3478", "1:3478", "1:3479", "2:3478", "2:3479"),
            ("1:3479", "1:3479", "1:3478", "2:3479", "2:3478"),
            ("2:3478", "2:3478", "2:3479", "1:3478", "1:3479"),
            ("2:3479", "2:3479", "2:3478", "1:3479", "1:3478"),
        ] {
            let local = at(&format!("192.0.2.{local}"));
            assert!(quartet.contains(local) && quartet.addresses().contains(&local));
            for (change, expected) in
                [(Nothing, nothing), (Port, port), (Ip, ip), (IpAndPort, both)]
            {
                let expected = at(&format!("192.0.2.{expected}"));
                assert_eq!(quartet.changed(local, change), Some(expected), "{local} {change:?}");
            }
        }
        for stranger in ["192.0.2.3:3478", "192.0.2.1:3480", "[::1]:3478"] {
            assert!(!quartet.contains(at(stranger)));
            assert_eq!(quartet.changed(at(stranger), Nothing), None);
        }
    }

    #[test]
    fn what_would_make_a_liar_is_refused() {
        let new = |primary, alternate| Quartet::new(at(primary), at(alternate)).err();
        let (primary, alternate) = (at("192.0.2.1:3478"), at("192.0.2.1:3479"));
        let same_ip = QuartetError::SameIp { primary, alternate };
        assert_eq!(new("192.0.2.1:3478", "192.0.2.1:3479"), Some(same_ip));
        let alternate = at("192.0.2.2:3478");
        let same_port = QuartetError::SamePort { primary, alternate };
        assert_eq!(new("192.0.2.1:3478", "192.0.2.2:3478"), Some(same_port));
        let alternate = at("[2001:db8::1]:3479");
        let families = QuartetError::Families { primary, alternate };
        assert_eq!(new("192.0.2.1:3478", "[2001:db8::1]:3479"), Some(families));
        for address in ["0.0.0.0:3478", "192.0.2.9:0"] {
            let not_concrete = Some(QuartetError::NotConcrete { address: at(address) });
            assert_eq!(new(address, "192.0.2.2:3479"), not_concrete);
            assert_eq!(new("192.0.2.2:3479", address), not_concrete);
        }
        assert_eq!(new("[2001:db8::1]:1", "[2001:db8::2]:2"), None);
    }
}
