//! `LOCAL=PUBLIC`: under which address the internet knows one of this machine's.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use thiserror::Error;

/// An address of this machine, and the one that a NAT with one public address for it puts in its place.
///
/// ```
/// use ntcp_settings::PublicAddress;
/// let pair: PublicAddress = "10.0.0.5=203.0.113.5".parse()?;
/// assert_eq!(pair.public.to_string(), "203.0.113.5");
/// # Ok::<(), ntcp_settings::PublicAddressError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicAddress {
    /// This machine's own, which its sockets are bound to.
    pub local: IpAddr,
    /// What everybody else calls it.
    pub public: IpAddr,
}

/// Why a text is not `LOCAL=PUBLIC`. Each message ends with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublicAddressError {
    /// It has no equals sign.
    #[error("\"{0}\" is not LOCAL=PUBLIC; write for example \"10.0.0.5=203.0.113.5\"")]
    NotAPair(String),
    /// What stands on one side is no address.
    #[error(
        "\"{0}\" is not an IP address; write one without a port, for example \"10.0.0.5=203.0.113.5\""
    )]
    NotAnAddress(String),
    /// One is IPv4, the other IPv6.
    #[error("\"{0}\" has an IPv4 and an IPv6 address; write two of one family")]
    Families(PublicAddress),
    /// Nobody can be reached there.
    #[error("{0} is nobody's address; write the one that the NAT has for this machine")]
    NotConcrete(IpAddr),
}

impl FromStr for PublicAddress {
    type Err = PublicAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (local, public) =
            text.split_once('=').ok_or_else(|| PublicAddressError::NotAPair(text.to_owned()))?;
        let address = |text: &str| {
            let text = text.trim();
            text.parse().map_err(|_| PublicAddressError::NotAnAddress(text.to_owned()))
        };
        let pair = Self { local: address(local)?, public: address(public)? };
        if pair.local.is_ipv4() != pair.public.is_ipv4() {
            return Err(PublicAddressError::Families(pair));
        }
        let is_nobodys = |it: &IpAddr| it.is_unspecified() || it.is_multicast();
        match [pair.local, pair.public].into_iter().find(is_nobodys) {
            Some(address) => Err(PublicAddressError::NotConcrete(address)),
            None => Ok(pair),
        }
    }
}

impl fmt::Display for PublicAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.local, self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_read_as_it_is_written() {
        for text in ["10.0.0.5=203.0.113.5", "fd00::5=2001:db8::5"] {
            assert_eq!(text.parse::<PublicAddress>().map(|it| it.to_string()).as_deref(), Ok(text));
        }
        let spaced = " 10.0.0.5 = 203.0.113.5 ".parse::<PublicAddress>();
        assert_eq!(spaced.map(|it| it.to_string()).as_deref(), Ok("10.0.0.5=203.0.113.5"));
    }

    #[test]
    fn what_is_no_pair_is_refused_with_what_to_write() {
        for (text, complaint) in [
            ("203.0.113.5", "is not LOCAL=PUBLIC"),
            ("10.0.0.5:3478=203.0.113.5", "\"10.0.0.5:3478\" is not an IP address"),
            ("10.0.0.5=", "\"\" is not an IP address"),
            ("10.0.0.5=2001:db8::5", "write two of one family"),
            ("0.0.0.0=203.0.113.5", "0.0.0.0 is nobody's address"),
            ("10.0.0.5=224.0.0.1", "224.0.0.1 is nobody's address"),
        ] {
            let error = text.parse::<PublicAddress>().expect_err(text).to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
