//! What a broker has another public node send: one packet in a third host's name.
//!
//! ```text
//!   A, B ═ consent ═▶ broker ── Errand, signed, numbered ──▶ forger ── B*→A* SYN-ACK ──▶ A
//! ```
//!
//! An errand says as little as it can. Of a SYN-ACK it names the two SYNs, and the forger makes the
//! segment; of a datagram it brings the bytes, which must be a forged Probe. So whoever sends errands,
//! nothing else can leave.

use std::net::SocketAddr;

use super::Syn;

/// Longest datagram of an errand in bytes; a forged Probe has 116.
pub const MAX_DATAGRAM_BYTES: usize = 192;

/// One packet that a forger is asked to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// Counts the errands of one registration, from 1: a repeated or replayed one is not run.
    pub serial: u32,
    /// In whose name.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// What.
    pub packet: Packet,
}

/// What a forger is asked to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// The answer to a SYN.
    SynAck {
        /// The SYN of the host in whose name it is.
        syn: Syn,
        /// The SYN that it answers.
        answered: Syn,
    },
    /// A Probe, over UDP.
    Datagram(Vec<u8>),
}
