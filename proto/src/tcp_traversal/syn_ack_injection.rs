//! SYN-ACK injection (NATBLASTER after crossing): each side answers the SYN that its NAT kept from it.
//!
//! ```text
//!  A                        NA                          NB                        B
//!  |--SYN isnA------------->|-----------.   .-----------|<--SYN isnB--------------|   all the way
//!  |                        | x<---------'   '-------->x|                         |   noted, and dropped
//!  |== isnA and options ========== broker ====================== isnB, likewise ==|
//!  |--SYN+ACK isnA, isnB+1->|-----------.   .-----------|<--SYN+ACK isnB, isnA+1--|   made by hand
//!  |<-----------------------|<-----------'   '--------->|------------------------>|
//!  |--ACK------------------>|    ESTABLISHED on both    |<-------------------ACK--|
//! ```
//!
//! A NAT that lets no SYN in still lets the answer to its own host's SYN in, so each side gives the
//! other one that answer. Right after a SYN connection tracking takes an outbound SYN-ACK for
//! invalid; once the peer's SYN has reached the NAT it does not, even if a rule drops that SYN behind
//! it. Hence the order: SYNs all the way first, as [`syn_replay`](super::syn_replay) sends them, and
//! the answers when those have crossed.
//!
//! The answer is the one that the host itself would have given: its own options as far as the peer
//! offers them, and the peer's clock **exactly** in the echo, since a Linux host refuses any other;
//! without both clocks there are no timestamps.
//!
//! Alone, the answers would have to cross as well: a kernel that gets one acknowledges it at once, and
//! a NAT that has seen the acknowledgment takes the answer of that same side for invalid, so that
//! with a skew above the time of the path one side is left (seen in virtual time at 30 ms). So each
//! answer goes together with a [`syn_injection`](super::syn_injection) of the peer's SYN: the own socket
//! has left SYN-SENT then, and takes the peer's acknowledgment for the rest of the handshake.
//!
//! Preconditions: steady ports, NATs that leave sequence numbers alone, and `CAP_NET_RAW` on both
//! sides (or `CAP_NET_ADMIN` to fix the number instead of seeing it).

use std::time::Duration;

use crate::command::Ends;
use crate::rendezvous::forging::syn_ack;
use crate::segment::Segment;
use crate::signal::Syn;

/// When the answers leave, in milliseconds after the [crossing](CROSSING).
pub const AT_MS: [u64; 3] = [0, 250, 600];
/// The margin, beyond a round trip to a server, by which SYNs have reached the far NAT.
pub const CROSSING: Duration = Duration::from_millis(100);

/// Our answer to the SYN of the peer, between these ends.
pub fn answer(own: &Syn, theirs: &Syn, ends: Ends) -> Segment {
    syn_ack(ends.local, own, ends.remote, theirs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Timestamps, flag};
    use crate::tcp_traversal::forgery::Volley;
    use crate::tcp_traversal::forgery::tests::{ends, full};

    #[test]
    fn the_answer_leaves_from_the_own_end_and_echoes_the_peers_clock() {
        let segment = answer(&full(77, 1234), &full(u32::MAX, 99), ends());
        assert_eq!((segment.source, segment.destination), (ends().local, ends().remote));
        assert_eq!(segment.flags, flag::SYN | flag::ACK);
        assert_eq!((segment.sequence, segment.acknowledgment), (77, 0));
        assert_eq!(segment.options.timestamps, Some(Timestamps { value: 1234, echo: 99 }));
    }

    #[test]
    fn it_is_given_three_times() {
        let start = crate::machine::any_instant();
        let mut volley = Volley::new(start, &AT_MS);
        let times = (0..1000).filter(|ms| volley.fire(start + Duration::from_millis(*ms)));
        assert_eq!(times.collect::<Vec<u64>>(), [0, 250, 600]);
    }
}
