//! What a peer tells of its own SYN, so that the broker can answer the peer's in its name.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------------------------------------------------------+
//! |                    initial sequence number                    |
//! +-------------------------------+-------------------------------+
//! |            window             |     maximum segment size      |
//! +---------------+---------------+-------------------------------+
//! |    options    |  window scale |               0               |
//! +---------------+---------------+-------------------------------+
//! |                             TSval                             |
//! +---------------------------------------------------------------+
//! ```
//!
//! `options`: bit 0 selective acknowledgments are welcome, bit 1 there is a window scale, bit 2 there
//! are timestamps. A maximum segment size of 0 is none.

use std::net::SocketAddr;

use ntcp_stun::attribute::Problem;

use crate::segment::{Options, Segment, Timestamps};

/// Bytes of the SYN attribute.
pub(crate) const ENCODED_LENGTH: usize = 16;
/// Largest shift of a window (RFC 7323 section 2.3).
const MAX_WINDOW_SCALE: u8 = 14;

const SACK: u8 = 1;
const SCALED: u8 = 1 << 1;
const STAMPED: u8 = 1 << 2;

/// A SYN, without the ends it travels between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syn {
    /// Its sequence number, as the outside sees it.
    pub sequence: u32,
    /// Its window field, unscaled.
    pub window: u16,
    /// Its options. A SYN echoes no timestamp, so `echo` is 0.
    pub options: Options,
}

impl Syn {
    /// The SYN that a capture saw.
    pub fn of(segment: &Segment) -> Self {
        let timestamps = segment.options.timestamps.map(|it| Timestamps { echo: 0, ..it });
        let options = Options { timestamps, ..segment.options };
        Self { sequence: segment.sequence, window: segment.window, options }
    }

    /// As the value of the SYN attribute.
    pub(crate) fn to_bytes(self) -> [u8; ENCODED_LENGTH] {
        let Options { max_segment_size, window_scale, sack_permitted, timestamps } = self.options;
        let mut bytes = [0; ENCODED_LENGTH];
        bytes[..4].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.window.to_be_bytes());
        bytes[6..8].copy_from_slice(&max_segment_size.unwrap_or(0).to_be_bytes());
        let bit = |held: bool, bit: u8| if held { bit } else { 0 };
        bytes[8] = bit(sack_permitted, SACK)
            | bit(window_scale.is_some(), SCALED)
            | bit(timestamps.is_some(), STAMPED);
        bytes[9] = window_scale.unwrap_or(0);
        let value = timestamps.map_or(0, |it| it.value);
        bytes[12..].copy_from_slice(&value.to_be_bytes());
        bytes
    }

    /// The reverse; other bits are ignored.
    pub(crate) fn from_bytes(bytes: [u8; ENCODED_LENGTH]) -> Result<Self, Problem> {
        let [s0, s1, s2, s3, w0, w1, m0, m1, bits, scale, _, _, t0, t1, t2, t3] = bytes;
        let max_segment_size = Some(u16::from_be_bytes([m0, m1])).filter(|size| *size != 0);
        let window_scale = (bits & SCALED != 0).then_some(scale);
        if window_scale.is_some_and(|scale| scale > MAX_WINDOW_SCALE) {
            return Err(Problem::Value(scale.into()));
        }
        let value = u32::from_be_bytes([t0, t1, t2, t3]);
        let timestamps = (bits & STAMPED != 0).then_some(Timestamps { value, echo: 0 });
        let sack_permitted = bits & SACK != 0;
        let options = Options { max_segment_size, window_scale, sack_permitted, timestamps };
        let sequence = u32::from_be_bytes([s0, s1, s2, s3]);
        Ok(Self { sequence, window: u16::from_be_bytes([w0, w1]), options })
    }
}

/// One side of a handshake that the broker is asked to complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// Where the SYN went.
    pub remote: SocketAddr,
    /// The SYN.
    pub syn: Syn,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_scale_beyond_fourteen_is_refused() {
        let options = Options { window_scale: Some(14), ..Options::default() };
        let mut bytes = Syn { sequence: 1, window: 2, options }.to_bytes();
        assert!(Syn::from_bytes(bytes).is_ok());
        bytes[9] = 15;
        assert_eq!(Syn::from_bytes(bytes), Err(Problem::Value(15)));
    }
}
