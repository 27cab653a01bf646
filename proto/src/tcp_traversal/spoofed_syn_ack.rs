//! Spoofed SYN-ACK (STUNT #1): both sides dial, and the broker answers each in the other's name.
//!
//! ```text
//!  A            NA                 broker                NB            B
//!  |--SYN isnA-->|------------------- | ------------x     |             |   NB lets no SYN in
//!  |             |     x------------- | ------------------|<--SYN isnB--|   NA neither
//!  |== isnA, from the port of the SYN |  isnB, likewise =================|
//!  |<------------|<-B*: SYN-ACK-------|-----A*: SYN-ACK-->|------------>|   forged, three times
//!  |--ACK------->|--------------------|------------------>|------------>|   ESTABLISHED
//! ```
//!
//! Each NAT waits for the answer to the SYN that went out through it, and every NAT lets that one in.
//! What the broker must know of a SYN is seen as it leaves (`CAP_NET_RAW`), or fixed before it leaves
//! (`CAP_NET_ADMIN`): then the sequence number follows from the session's secret, and the options
//! are those that no host minds. `rendezvous::forging` has the broker's half, and what it takes to be
//! answered.
//!
//! Preconditions: a broker that forges, in a network that lets forged sources out; steady ports; NATs
//! that leave sequence numbers alone; a privilege on both sides. It is tried once SYNs are known, or
//! seem, not to pass.

use super::note::hmac;
use super::plan::Privileges;
use crate::segment::Options;
use crate::signal::{Role, SessionSecret, Syn};

/// Largest segment that passes every path worth using, as in the
/// [ghost handshake](super::ghost_handshake).
const SEGMENT_SIZE: u16 = 1220;
/// A window that every host opens with (RFC 6928 section 1: ten segments).
const WINDOW: u16 = 14_600;

/// How a side gets to know its own SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// It is seen as it leaves: exact, with all options.
    Captured,
    /// Its sequence number is fixed before it leaves.
    Pinned,
}

impl Knowledge {
    /// The better way that these privileges allow.
    pub fn with(privileges: Privileges) -> Option<Self> {
        match privileges {
            Privileges { capture: true, .. } => Some(Self::Captured),
            Privileges { assume: true, .. } => Some(Self::Pinned),
            Privileges { capture: false, assume: false, .. } => None,
        }
    }
}

/// The sequence number that a side's SYN is given, never 0.
pub fn pinned_sequence(secret: &SessionSecret, role: Role) -> u32 {
    let label: &[u8] = match role {
        Role::Controlling => b"ntcp answered controlling",
        Role::Controlled => b"ntcp answered controlled",
    };
    let bytes = hmac(&secret.0, label);
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).max(1)
}

/// What is told of a SYN whose sequence number was fixed: no window scale and no timestamps, since
/// those of the kernel are not known. Both ends then do without, which always works.
pub fn pinned(secret: &SessionSecret, role: Role) -> Syn {
    let options = Options {
        max_segment_size: Some(SEGMENT_SIZE),
        sack_permitted: true,
        ..Options::default()
    };
    Syn { sequence: pinned_sequence(secret, role), window: WINDOW, options }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_sides_have_different_numbers_and_so_do_two_sessions() {
        let number = |secret, role| pinned_sequence(&SessionSecret([secret; 32]), role);
        assert_ne!(number(1, Role::Controlling), number(1, Role::Controlled));
        assert_ne!(number(1, Role::Controlling), number(2, Role::Controlling));
        assert_eq!(
            pinned(&SessionSecret([1; 32]), Role::Controlled).sequence,
            number(1, Role::Controlled)
        );
    }

    #[test]
    fn to_see_the_syn_is_better_than_to_fix_its_number() {
        let both = Privileges { assume: true, capture: true, inject: false };
        assert_eq!(Knowledge::with(both), Some(Knowledge::Captured));
        assert_eq!(Knowledge::with(Privileges { capture: false, ..both }), Some(Knowledge::Pinned));
        assert_eq!(Knowledge::with(Privileges::NONE), None);
    }
}
