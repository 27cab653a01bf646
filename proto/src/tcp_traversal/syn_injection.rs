//! SYN injection (SYNI): a side puts the peer's SYN, which its NAT kept from it, into its own stack.
//!
//! ```text
//!  A                        NA                          NB                        B
//!  |--SYN isnA------------->|-------------------------->|x                        |
//!  |                       x|<--------------------------|<--SYN isnB--------------|
//!  |== isnA and options ========== broker ====================== isnB, likewise ==|
//!  |<-SYN isnB, "from B"    |                           |                         |   into the own stack
//!  |--SYN+ACK isnA, isnB+1->|-------------------------->|------------------------>|   by A's kernel
//!  |<-----------------------|<--------------------------|<------------------ACK---|   ESTABLISHED
//! ```
//!
//! A socket in SYN-SENT that is given the peer's SYN answers it as in a simultaneous open, with its
//! own options and timers. It has left SYN-SENT then, and takes the peer's ACK, or its SYN-ACK, for the
//! rest of the handshake. So **one** side is enough: where a [SYN-ACK
//! injection](super::syn_ack_injection) needs both NATs to let a SYN-ACK out and both hosts to send
//! one, here it is one NAT and one host. Where both can send, both
//! do this together with their answers.
//!
//! Preconditions: steady ports, NATs that leave sequence numbers alone, `CAP_NET_RAW` on one side, and
//! on the other what it takes to tell its SYN (`CAP_NET_RAW` or `CAP_NET_ADMIN`).

use super::forgery;
use crate::command::Ends;
use crate::segment::{Options, Segment};
use crate::signal::Syn;

/// When the SYN is put there, in milliseconds after the SYNs have crossed, and the answer sent once more by
/// hand where our SYN is known. That of a peer that cannot copy it crosses after a second, when its kernel
/// repeats it; that is also when ours repeats its SYN-ACK, which may be a moment too early, and then
/// waits for two seconds.
pub const AT_MS: [u64; 6] = [0, 400, 1000, 1150, 1400, 2000];

/// The SYN of a peer that has fixed its number and not seen the rest, as it most likely was. A kernel's
/// answer to a SYN offers what its own SYN did, so that the peer scales its windows: a socket that was not
/// told so would take them for a thousandth of what they are. By how much is taken to be as here.
pub fn supposed(theirs: &Syn, own: &Syn) -> Syn {
    let options = Options { window_scale: own.options.window_scale, ..theirs.options };
    Syn { options, ..*theirs }
}

/// The SYN of the peer as it would arrive at our end, for a socket of ours whose SYN is `own`.
pub fn arrival(own: &Syn, theirs: &Syn, ends: Ends) -> Segment {
    forgery::syn(theirs, own, Ends { local: ends.remote, remote: ends.local })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::flag;
    use crate::tcp_traversal::forgery::tests::{ends, full};

    #[test]
    fn the_peers_syn_arrives_at_the_own_end() {
        let theirs = full(u32::MAX, 99);
        let segment = arrival(&full(77, 1234), &theirs, ends());
        assert_eq!((segment.source, segment.destination), (ends().remote, ends().local));
        assert_eq!((segment.flags, segment.acknowledgment), (flag::SYN, 0));
        assert_eq!(Syn::of(&segment), theirs);
    }

    #[test]
    fn a_peer_that_only_knows_its_number_is_supposed_to_scale_its_windows_as_we_do() {
        let own = full(77, 1234);
        let pinned = Syn { options: Options::default(), ..full(5, 6) };
        let arrival = arrival(&own, &supposed(&pinned, &own), ends());
        assert_eq!(arrival.options.window_scale, own.options.window_scale);
        assert_eq!((arrival.sequence, arrival.options.timestamps), (5, None));
    }

    #[test]
    fn it_is_put_there_until_well_after_a_kernels_first_repeat() {
        assert!(AT_MS.is_sorted());
        assert_eq!((AT_MS[0], AT_MS[5]), (0, 2000));
    }
}
