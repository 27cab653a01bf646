//! The forged SYN-ACK, field by field.
//!
//! | field | value |
//! |---|---|
//! | source, destination | the sender's and the receiver's mapped address |
//! | TTL or hop limit | 255: a socket may hear only what has come far with it, and so shield itself from answers of NATs |
//! | sequence number | that of the sender's SYN |
//! | acknowledgment number | one more than that of the receiver's SYN |
//! | window | that of the sender's SYN |
//! | maximum segment size | the sender's |
//! | window scale, SACK permitted | the sender's, if both SYNs had it |
//! | timestamps | if both SYNs had them: the sender's clock, and the receiver's **exactly**; a Linux host answers any other echo with RST |

use std::net::SocketAddr;

use crate::segment::{Options, Segment, Timestamps, flag};
use crate::signal::Syn;

/// TTL or hop limit of a forged packet.
pub const FORGED_TTL: u8 = 255;

/// The answer to the SYN of `receiver`, as `sender` would give it.
pub fn syn_ack(
    sender: SocketAddr,
    sender_syn: &Syn,
    receiver: SocketAddr,
    receiver_syn: &Syn,
) -> Segment {
    let (ours, theirs) = (sender_syn.options, receiver_syn.options);
    let timestamps = ours.timestamps.zip(theirs.timestamps);
    Segment {
        source: sender,
        destination: receiver,
        flags: flag::SYN | flag::ACK,
        sequence: sender_syn.sequence,
        acknowledgment: receiver_syn.sequence.wrapping_add(1),
        window: sender_syn.window,
        options: Options {
            max_segment_size: ours.max_segment_size,
            window_scale: ours.window_scale.filter(|_| theirs.window_scale.is_some()),
            sack_permitted: ours.sack_permitted && theirs.sack_permitted,
            timestamps: timestamps
                .map(|(ours, theirs)| Timestamps { value: ours.value, echo: theirs.value }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn(sequence: u32, clock: u32) -> Syn {
        let options = Options {
            max_segment_size: Some(1400 + (sequence & 1) as u16),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { value: clock, echo: 0 }),
        };
        Syn { sequence, window: 64_240, options }
    }

    fn answer(sender: &Syn, receiver: &Syn) -> Segment {
        let [a, b] = ["192.0.2.1:4000", "192.0.2.2:5000"].map(|it| it.parse().unwrap());
        syn_ack(a, sender, b, receiver)
    }

    #[test]
    fn it_is_what_the_sender_would_have_answered() {
        let segment = answer(&syn(1001, 77), &syn(u32::MAX, 99));
        assert_eq!(segment.source.port(), 4000);
        assert_eq!(segment.destination.port(), 5000);
        assert_eq!(segment.flags, 0x12);
        assert_eq!((segment.sequence, segment.acknowledgment), (1001, 0));
        assert_eq!(segment.window, 64_240);
        let options = Options {
            max_segment_size: Some(1401),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { value: 77, echo: 99 }),
        };
        assert_eq!(segment.options, options);
    }

    #[test]
    fn what_only_one_side_offered_is_left_out() {
        let full = syn(1, 2);
        let bare = Syn { options: Options::default(), ..full };
        assert_eq!(answer(&bare, &full).options, Options::default());
        let options =
            Options { max_segment_size: full.options.max_segment_size, ..Options::default() };
        assert_eq!(answer(&full, &bare).options, options);
    }
}
