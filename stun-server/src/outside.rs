//! [`Outside`]: what the internet calls this host's addresses.
//!
//! Where a NAT with a public address for each of this host's own stands before it, as clouds have it, sockets are bound to
//! private addresses and clients know public ones:
//!
//! ```text
//!  client ── to 203.0.113.5 ──▶ NAT ── to 10.0.0.5 ──▶ socket
//! ```
//!
//! Everything that is told to a client, agreed with a partner or compared with what they say is a public address, so
//! the protocol's server works with those alone. They become private ones where a socket is bound, and only there.

use ntcp_settings::PublicAddress;
use std::net::SocketAddr;

/// What the internet calls this host's addresses; an address that is not among them is its own name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outside(Vec<PublicAddress>);

impl Outside {
    pub(crate) fn new(public: &[PublicAddress]) -> Self {
        Self(public.to_vec())
    }

    /// What clients call this address of this host.
    pub(crate) fn of(&self, local: SocketAddr) -> SocketAddr {
        let known = self.0.iter().find(|it| it.local == local.ip());
        known.map_or(local, |it| SocketAddr::new(it.public, local.port()))
    }

    /// This host's address that clients call so.
    pub(crate) fn local(&self, public: SocketAddr) -> SocketAddr {
        let known = self.0.iter().find(|it| it.public == public.ip());
        known.map_or(public, |it| SocketAddr::new(it.local, public.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_and_found_again_and_others_are_as_they_are() {
        let pairs = ["10.0.0.5=203.0.113.5", "fd00::5=2001:db8::5"].map(|it| it.parse().expect(it));
        let outside = Outside::new(&pairs);
        let at = |text: &str| text.parse::<SocketAddr>().expect(text);
        for (local, public) in [
            ("10.0.0.5:3478", "203.0.113.5:3478"),
            ("[fd00::5]:0", "[2001:db8::5]:0"),
            ("10.0.0.6:3479", "10.0.0.6:3479"),
        ] {
            assert_eq!(outside.of(at(local)), at(public));
            assert_eq!(outside.local(at(public)), at(local));
        }
    }
}
