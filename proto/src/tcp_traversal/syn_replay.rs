//! SYN replay: both sides send the very SYN again with which they have opened their NATs.
//!
//! ```text
//!  A                        NA                          NB                        B
//!  |--SYN isnA, TTL 2------>|---x                   x---|<------SYN isnB, TTL 2---|
//!  |== isnA and options ========== broker ====================== isnB, likewise ==|   both are armed
//!  |--SYN isnA, a copy----->|-----------.   .-----------|<--SYN isnB, a copy------|   every 250 ms
//!  |<-----------------------|<-----------'   '--------->|------------------------>|   each finds the hole
//!  |--SYN+ACK isnA--------->|-----------.   .-----------|<--SYN+ACK isnB----------|   by the kernels
//!  |                     ESTABLISHED                                  ESTABLISHED |
//! ```
//!
//! The numbers are those that the NATs have seen and the sockets wait with, so a copy is to both
//! what the kernel's own repeat would be, only sooner. No SYN meets a closed NAT, so that none is
//! answered with RST or ICMP, at any skew: that matters where a RST takes the mapping away, and the
//! next one would have a port that nobody knows.
//!
//! Preconditions: steady ports, one NAT that lets a SYN in after one went out, and `CAP_NET_RAW` on
//! both sides (to send the copy; the SYN is seen, or its number fixed with `CAP_NET_ADMIN`). NATs may
//! rewrite sequence numbers: they do to the copy what they did to the original.

use super::forgery;
use crate::command::Ends;
use crate::segment::Segment;
use crate::signal::Syn;

/// When the copies leave, in milliseconds after both are armed: the peer may hear of it a good
/// deal later, and any of them may be lost.
pub const AT_MS: [u64; 12] = [0, 250, 500, 750, 1000, 1250, 1500, 1750, 2000, 2250, 2500, 2750];

/// The copy of `own`, which left between these ends, for a peer whose SYN is `theirs`.
pub fn copy(own: &Syn, theirs: &Syn, ends: Ends) -> Segment {
    forgery::syn(own, theirs, ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Options, flag};
    use crate::tcp_traversal::forgery::tests::{ends, full};

    #[test]
    fn a_copy_is_the_syn_that_was_seen() {
        let own = full(77, 1234);
        let segment = copy(&own, &full(1, 2), ends());
        assert_eq!(Syn::of(&segment), own);
        assert_eq!(segment.flags, flag::SYN);
        assert_eq!((segment.source, segment.destination), (ends().local, ends().remote));
    }

    #[test]
    fn what_the_peer_does_not_offer_is_left_out_of_the_copy() {
        let bare = Syn { options: Options::default(), ..full(1, 2) };
        let options = copy(&full(77, 1234), &bare, ends()).options;
        assert_eq!(options, Options { max_segment_size: Some(1460), ..Options::default() });
    }

    #[test]
    fn copies_leave_every_quarter_of_a_second_for_less_than_three() {
        assert!(AT_MS.windows(2).all(|pair| pair[1] - pair[0] == 250));
        assert_eq!((AT_MS[0], AT_MS[11]), (0, 2750));
    }
}
