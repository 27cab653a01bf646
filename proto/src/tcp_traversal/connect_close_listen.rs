//! Connect, close and listen (STUNT #2): a SYN that dies on the way, a listener, and a peer that dials.
//!
//! ```text
//!  A (callee)               NA        a router          NB                 B (caller)
//!  |--SYN isnA, TTL 2------>|-------->x                 |                      |
//!  | close, listen          |                           |                      |
//!  |== "listening" ============== broker ====================================== |
//!  |<-----------------------|<--------------------------|<---------SYN isnB----|   finds the hole
//!  |--SYN+ACK, a new number>|  (invalid at every NAT    |--------------------->|   ESTABLISHED
//!  |<-----------------------|   that follows numbers)   |<--------------ACK----|
//! ```
//!
//! The classic procedure, for hosts whose connecting sockets take no SYN. It fails at every NAT that
//! follows sequence numbers, as Linux does: the listener's answer has another one than the SYN that has
//! opened the NAT. Where both hosts know simultaneous open the
//! [shielded opener](super::shielded_opener) does the same without that fault. So it is **not tried
//! unless both sides ask for it** (`[tcp] connect_close_listen`), and then last.
//!
//! Preconditions: steady ports, a NAT of the callee that lets a SYN in after one went out and does not
//! follow numbers. No privilege.

use std::time::Duration;

use super::shielded_opener::OPENER_TTL;
use crate::Hops;

/// How long everything else is given first.
pub const OTHERS_FIRST: Duration = Duration::from_millis(1500);
/// From the SYN that opens the NAT to the listener, if no router reports its end.
pub const HOLE_TIME: Duration = Duration::from_millis(100);

/// How the SYN that opens the NAT leaves. Its socket is closed anyway, so it needs no shield.
pub const OPENING: Hops = Hops { ttl: Some(OPENER_TTL), least: None };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_hears_of_the_death_of_its_syn() {
        assert_eq!(OPENING, Hops { ttl: Some(2), least: None });
        const { assert!(HOLE_TIME.as_millis() < OTHERS_FIRST.as_millis()) };
    }
}
