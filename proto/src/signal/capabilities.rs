//! What a broker can do for TCP beyond bringing peers together.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+---------------+---------------+
//! |     offers    |  IPv4 sources |  IPv6 sources |       0       |
//! +---------------+---------------+---------------+---------------+
//! |            seconds since the IPv4 measurement                 |
//! +---------------------------------------------------------------+
//! |            seconds since the IPv6 measurement                 |
//! +---------------------------------------------------------------+
//! ```
//!
//! `offers`: bit 0 the broker forges SYN-ACKs for two peers that ask for it. Sources: 0 not measured,
//! 1 the broker's network lets forged ones out, 2 it does not.

use std::time::Duration;

use crate::address::Family;

/// Bytes of the CAPABILITIES attribute.
pub(super) const ENCODED_LENGTH: usize = 12;

const FORGES: u8 = 1;

/// Whether a network lets packets with other hosts' sources out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spoofing {
    /// Not measured, or not conclusively.
    #[default]
    Unknown,
    /// One of them has arrived.
    Possible {
        /// How long ago, in whole seconds.
        age: Duration,
    },
    /// None arrived at several peers that would have let them in.
    Filtered {
        /// How long ago, in whole seconds.
        age: Duration,
    },
}

/// What a broker can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It forges SYN-ACKs for peers that both ask for it.
    pub forges: bool,
    /// Whether its network lets them out over IPv4.
    pub v4: Spoofing,
    /// Likewise over IPv6.
    pub v6: Spoofing,
}

impl Capabilities {
    /// Whether asking for a forged SYN-ACK in `family` is worth the packet: it is offered, and not
    /// known to be in vain.
    pub fn may_forge(&self, family: Family) -> bool {
        let spoofing = match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        };
        self.forges && !matches!(spoofing, Spoofing::Filtered { .. })
    }

    /// As the value of the CAPABILITIES attribute.
    pub(super) fn to_bytes(self) -> [u8; ENCODED_LENGTH] {
        let mut bytes = [0; ENCODED_LENGTH];
        bytes[0] = if self.forges { FORGES } else { 0 };
        for (at, spoofing) in [(0, self.v4), (1, self.v6)] {
            let (number, age) = match spoofing {
                Spoofing::Unknown => (0, Duration::ZERO),
                Spoofing::Possible { age } => (1, age),
                Spoofing::Filtered { age } => (2, age),
            };
            bytes[1 + at] = number;
            let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
            bytes[4 + 4 * at..8 + 4 * at].copy_from_slice(&seconds.to_be_bytes());
        }
        bytes
    }

    /// The reverse; an unknown number was not measured.
    pub(super) fn from_bytes(bytes: [u8; ENCODED_LENGTH]) -> Self {
        let [offers, v4, v6, _, a0, a1, a2, a3, b0, b1, b2, b3] = bytes;
        let spoofing = |number, age: [u8; 4]| {
            let age = Duration::from_secs(u32::from_be_bytes(age).into());
            match number {
                1 => Spoofing::Possible { age },
                2 => Spoofing::Filtered { age },
                _ => Spoofing::Unknown,
            }
        };
        Self {
            forges: offers & FORGES != 0,
            v4: spoofing(v4, [a0, a1, a2, a3]),
            v6: spoofing(v6, [b0, b1, b2, b3]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_known_to_filter_is_not_asked() {
        let age = Duration::from_secs(9);
        let filtered = Spoofing::Filtered { age };
        let capabilities = Capabilities { forges: true, v4: Spoofing::Unknown, v6: filtered };
        assert!(capabilities.may_forge(Family::V4));
        assert!(!capabilities.may_forge(Family::V6));
        assert!(!Capabilities { forges: false, ..capabilities }.may_forge(Family::V4));
        assert_eq!(Capabilities::from_bytes(capabilities.to_bytes()), capabilities);
    }
}
