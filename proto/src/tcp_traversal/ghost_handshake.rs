//! Ghost handshake: both sides assume an established connection, and no SYN is ever sent.
//!
//! ```text
//!  A: sequence numbers agreed       NA                   NB       B: the same, mirrored
//!  ESTABLISHED by TCP_REPAIR        |                    |        ESTABLISHED by TCP_REPAIR
//!  |--data, TTL 2------------------>| picks the flow up  |                  |  dies on the way
//!  |                                | in the middle      |<-----data, TTL 2-|  dies on the way
//!  |== "open" ==========================================================>== |  both have opened
//!  |--data, all the way------------>|------------------->|----------------->|  a reply, for NB
//!  |<-------------------------------|<-------------------|<------------ACK--|
//! ```
//!
//! A Linux NAT takes a segment of a flow it does not know for the middle of an old connection
//! (`nf_conntrack_tcp_loose`, on by default), and so lets two such flows in opposite directions meet,
//! even where no inbound SYN ever passes.
//!
//! - The sequence numbers follow from the session's secret, so that nobody else can guess them.
//! - The ends must be ones between which no SYN has gone: a NAT that waits for the answer to a SYN
//!   takes a bare ACK for invalid. So a ghost has a port of its own, about which a server is asked.
//! - A segment that comes where no socket is yet would be answered with RST and ruin the flow, so
//!   both sides first make their socket and open their NAT with a low TTL, then say so, and only
//!   then send all the way.
//!
//! Preconditions: steady ports, NATs that pick flows up and leave sequence numbers alone, and
//! `CAP_NET_ADMIN` on both sides.

use super::note::hmac;
use crate::command::Agreed;
use crate::segment::Options;
use crate::signal::{Role, SessionSecret};

/// Largest segment that passes every path worth using: 1280 bytes of IPv6's least MTU less 60 of
/// headers (RFC 8200 section 5).
const SEGMENT_SIZE: u16 = 1220;
/// Shift of the window: 64 KiB become 8 MiB.
const WINDOW_SCALE: u8 = 7;

/// What both sides assume.
pub fn agreed(secret: &SessionSecret, role: Role) -> Agreed {
    let [caller, callee] = [Role::Controlling, Role::Controlled].map(|it| initial(secret, it));
    let (sequence, peer_sequence) = match role {
        Role::Controlling => (caller, callee),
        Role::Controlled => (callee, caller),
    };
    let options = Options {
        max_segment_size: Some(SEGMENT_SIZE),
        window_scale: Some(WINDOW_SCALE),
        sack_permitted: true,
        timestamps: None,
    };
    Agreed { sequence, peer_sequence, options, peer_options: options }
}

/// The initial sequence number of one side.
pub fn initial(secret: &SessionSecret, role: Role) -> u32 {
    let label: &[u8] = match role {
        Role::Controlling => b"ntcp sequence controlling",
        Role::Controlled => b"ntcp sequence controlled",
    };
    let bytes = hmac(&secret.0, label);
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_sides_assume_the_same_connection_seen_from_both_ends() {
        let secret = SessionSecret([9; 32]);
        let caller = agreed(&secret, Role::Controlling);
        let callee = agreed(&secret, Role::Controlled);
        assert_eq!(caller.sequence, callee.peer_sequence);
        assert_eq!(caller.peer_sequence, callee.sequence);
        assert_eq!(caller.options, callee.peer_options);
        assert_ne!(caller.sequence, caller.peer_sequence);
    }

    #[test]
    fn another_session_has_other_numbers() {
        let one = initial(&SessionSecret([1; 32]), Role::Controlling);
        assert_ne!(one, initial(&SessionSecret([2; 32]), Role::Controlling));
    }
}
