//! Shielded opener: one side opens its own NAT with a SYN that never reaches the other's.
//!
//! ```text
//!  opener A               NA        a router                  NB              dialer B
//!  |--SYN isnA, TTL 2---->|----------->x                      |                  |   A's hole is open
//!  |<--ICMP time exceeded-|<-----------|                      |                  |   not heard: shield
//!  | TTL back to usual    |                                   |                  |
//!  |<---------------------|<----------------------------------|<---SYN isnB------|   finds the hole
//!  |--SYN+ACK isnA------->|---------------------------------->|----------------->|   ESTABLISHED
//!  |<---------------------|<----------------------------------|<---ACK-----------|   ESTABLISHED
//! ```
//!
//! A NAT that answers strangers with RST or ICMP never hears of the opener, and the dialer's SYN, if
//! it is early, is only refused and sent again at once. So nobody destroys what the other has
//! opened, however far apart the two start, and however short the path is: simultaneous open loses
//! pairs below a millisecond, where no two SYNs cross.
//!
//! - *Shield*: `IP_MINTTL` is compared with the TTL of the packet that an ICMP error quotes, which is
//!   1 or 0 where the TTL ended. With [`LEAST_TTL`] the socket does not hear of its SYN's death. No
//!   privilege is needed. In IPv6 the kernel compares the error's own hop limit instead, which tells
//!   nothing: there the opener's socket dies, and the dialler of simultaneous open takes over.
//! - *No shield against RST* for the dialer: a NAT that has answered with RST has made the dialer's
//!   own NAT forget its hole (Linux deletes the entry), so that not to hear of it would only mean to
//!   wait for the kernel's repeat after a second. An instant retry opens the hole again.
//! - *All the way*: an opener whose NAT forgets a SYN that dies, and minds no RST, sends one that does not
//!   die, and hears nothing but what left with a TTL of 255 ([`DEAF`]): `IP_TTL` and `IP_MINTTL` alone then keep
//!   the far NAT's RST from it. Only in [rounds](super::rounds), where the peer knows by then that it has
//!   to be [`LOUD`].
//! - *Flip*: the kernel repeats the opener's SYN after a second, all the way this time, which makes the
//!   opener a dialer; its peer is pending by then or retries.
//!
//! Preconditions: the opener's NAT lets a SYN in after one went out. Which side is the opener says
//! the [`plan`](super::plan). When it does not go first, simultaneous open turns into it after
//! [`REFUSALS`] refusals.

use crate::Hops;

/// TTL of the opener: past the own NAT, not to the peer's, which is one router further between two
/// customers of one provider.
pub const OPENER_TTL: u8 = 2;
/// The highest that is tried, for those behind a carrier's NAT, when lower ones did not help.
pub const HIGHEST_TTL: u8 = 4;
/// A quoted packet with a lower TTL is not heard of: a router quotes what it received, with 1, or
/// what is left of it, with 0.
pub const LEAST_TTL: u8 = 2;
/// Refusals after which simultaneous open yields: by then two SYNs would have crossed, had the two
/// sides started within one one-way delay of each other.
pub const REFUSALS: u32 = 3;

/// How an opener's SYN leaves.
pub fn opening(ttl: u8) -> Hops {
    Hops { ttl: Some(ttl), least: Some(LEAST_TTL) }
}

/// How everything travels that comes after it.
pub const OPENED: Hops = Hops { ttl: None, least: Some(LEAST_TTL) };

/// How the opener's SYN, and all that follows, leaves where it must not die on the way, as its own NAT would forget
/// it, and what refuses it does no harm there: neither is heard what left with a TTL of 128 or less, as an RST
/// of a router does, so that the peer has to be [`LOUD`].
pub const DEAF: Hops = Hops { ttl: Some(u8::MAX), least: Some(FAR_TTL) };

/// How everything of a peer of such an opener leaves.
pub const LOUD: Hops = Hops { ttl: Some(u8::MAX), least: None };

/// What arrives with less was not sent with a TTL of 255.
pub const FAR_TTL: u8 = ntcp_stun::probe::LOUD;

/// The TTL to try after `ttl` did not keep the far NAT from answering, or did not open the own one.
pub fn next_ttl(ttl: u8) -> u8 {
    if ttl >= HIGHEST_TTL { OPENER_TTL } else { ttl + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ttl_goes_one_router_further_each_time_and_begins_anew() {
        let ttls: Vec<u8> =
            std::iter::successors(Some(OPENER_TTL), |ttl| Some(next_ttl(*ttl))).take(5).collect();
        assert_eq!(ttls, [2, 3, 4, 2, 3]);
    }

    #[test]
    fn the_shield_is_above_what_a_router_can_quote_and_below_what_a_peer_can_send() {
        const { assert!(LEAST_TTL > 1 && LEAST_TTL <= OPENER_TTL) };
        assert_eq!(OPENED.ttl, None, "what follows the opener goes all the way");
    }
}
