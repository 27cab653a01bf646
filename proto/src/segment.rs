//! TCP segments as values: what a strategy forges, and what a capture saw.
//!
//! A [`Segment`] is one TCP segment without data, with the addresses it travels between. Only the
//! options that a handshake negotiates are kept (RFC 9293 section 3.2, RFC 7323, RFC 2018).
//!
//! [`Segment::emit`] makes a whole IP packet of it, ready for a raw socket; [`Segment::parse`] reads
//! one. A packet may come from anywhere, so parsing never panics; it verifies no checksum, since a
//! capture on the sending host sees the packet before the network card has filled it in.

mod emit;
pub(crate) mod ip;
mod options;
mod parse;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

/// TCP control bits (RFC 9293 section 3.1).
pub mod flag {
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
}

/// One TCP segment without data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port; of the same family.
    pub destination: SocketAddr,
    /// Control bits, see [`flag`].
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number; 0 without [`flag::ACK`].
    pub acknowledgment: u32,
    /// Window field, unscaled.
    pub window: u16,
    /// What the handshake negotiates.
    pub options: Options,
}

/// The options of a SYN or SYN-ACK.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Largest segment the sender takes, in bytes (RFC 9293 section 3.7.1); without it peers fall
    /// back to 536 (IPv4) or 1220 (IPv6).
    pub max_segment_size: Option<u16>,
    /// Shift of the sender's window, 0 to 14 (RFC 7323 section 2); without it nothing is scaled.
    pub window_scale: Option<u8>,
    /// Selective acknowledgments are welcome (RFC 2018 section 2).
    pub sack_permitted: bool,
    /// Timestamps (RFC 7323 section 3).
    pub timestamps: Option<Timestamps>,
}

/// The timestamps option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the receiver's clock as last seen; 0 in a SYN.
    pub echo: u32,
}
