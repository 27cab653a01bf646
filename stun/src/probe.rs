//! Discovery of TCP: what a client asks a server to try towards it, and what the server tells.
//!
//! Behaviour discovery of RFC 5780 asks nothing about TCP but the mapping: whose SYNs come in, what
//! becomes of a SYN that crosses another, what is answered to one that nobody asked for, all that
//! takes a server that connects to its client. This protocol asks for it, in a method of its own
//! ([`METHOD`]) on a TCP connection that the client opened. The handshake proved the client's
//! address, and to that address alone the server ever connects.
//!
//! ```text
//!  client                         NAT                          server
//!    │ ══ TCP connection, from a fresh port ═══════════════════▶ │ p
//!    │ ── PROBE request: test, patience ───────────────────────▶ │
//!    │ ◀────────────┤◀───────────────── SYN from another port ── │ q, or another address
//!    │   if the NAT lets it in                                   │
//!    │ ◀══ token: PROBE indication with the request's id ═══════ │ q
//!    │ ◀─ PROBE success: outcome ─────────────────────────────── │ p
//! ```
//!
//! The test of a SYN that comes in after one went out needs a port of the server that neither
//! answers nor refuses. [`Test::Reserve`] asks for one; the client connects to it, tells so with
//! [`Test::Cross`], and the server connects from that very port:
//!
//! ```text
//!    │ ── PROBE request: reserve ──────────────────────────────▶ │
//!    │ ◀─ PROBE success: address q ───────────────────────────── │ q keeps quiet
//!    │ ── SYN to q ────────────────┬────────────────────────────▶ x
//!    │ ── PROBE request: cross ────┼───────────────────────────▶ │
//!    │ ◀───────────────────────────┤◀─────────────────── SYN ─── │ q
//!    │ ◀─ PROBE success: outcome ─────────────────────────────── │
//! ```
//!
//! What an RST does to the NAT's memory of a SYN is the same test with a port that refuses
//! ([`Test::Refuse`]), towards a client that listens, or one that is deaf to the RST because it hears
//! only what left with a TTL of 255 ([`Test::CrossFar`]). A port that refuses also answers an ACK out
//! of the blue, which shows a client whether its NAT lets one out and the RST in. A port that hears only
//! what left with a high TTL ([`Test::Deaf`]) shows likewise whether a SYN-ACK gets out after a SYN. How long a hole
//! stays open shows [`Test::Hold`], a port that is kept for up to minutes, and how long an idle
//! connection lives [`Test::Wait`], an answer that comes as late as asked. What the NAT makes of a SYN's header shows
//! [`Test::Look`], which needs no packet at all.
//!
//! A server that serves this says so in each answer to a Binding request over TCP ([`Offer`], an
//! attribute that others ignore), so that nobody else's server is ever asked.
//!
//! Numbers: the method 0x0E0 lies, as those of the signalling (0x0F0 to 0x0F7), in the upper part of
//! the range that leaves room for DTLS and QUIC on one port (RFC 8489 section 18.2, RFC 9443), and
//! the attributes from 0x4D00 and 0xCD00 in the parts given out by expert review (section 18.3),
//! where nothing near is assigned.

mod attributes;
mod messages;

pub use attributes::{
    Interval, Met, OFFER, OUTCOME, Offer, Outcome, PROBE, PROBE_ADDRESS, ProbeAddress, SEEN, Seen,
    Wish,
};
pub use messages::{Reply, order, read_token, token};

use crate::Method;

/// The method of all messages here: 0x0E0.
pub const METHOD: Method = match Method::new(0x0E0) {
    Some(method) => method,
    None => unreachable!(),
};

/// What the server is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// 1: connect to the client's end from another port of the same address.
    OtherPort,
    /// 2: connect to the client's end from the server's other address.
    OtherAddress,
    /// 3: connect to a port of the client's address that nobody has used, of the server's choice.
    Unused,
    /// 4: reserve a port that neither answers nor refuses.
    Reserve,
    /// 5: connect to the client's end from the reserved port.
    Cross,
    /// 6: tell how the SYN of this connection arrived.
    Look,
    /// 7: reserve a port that refuses with an RST, for [`Test::Cross`] likewise.
    Refuse,
    /// 8: as [`Test::Cross`], with a TTL of 255: a client that shields itself hears it.
    CrossFar,
    /// 9: as [`Test::Reserve`], for as many seconds as the patience says.
    Hold,
    /// 10: answer after as many seconds as the patience says, and be silent until then.
    Wait,
    /// 11: as [`Test::Reserve`], but a port that is deaf only to what arrives with a TTL or hop limit below
    /// [`LOUD`], and listens to the rest.
    Deaf,
}

/// The least TTL or hop limit that [`Test::Deaf`] hears: above 128, with which no system's packets begin that
/// does not mean to be heard, and below what is left of 255 on any path.
pub const LOUD: u8 = 150;

impl Test {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::OtherPort,
        Self::OtherAddress,
        Self::Unused,
        Self::Reserve,
        Self::Cross,
        Self::Look,
        Self::Refuse,
        Self::CrossFar,
        Self::Hold,
        Self::Wait,
        Self::Deaf,
    ];

    /// The number in a request.
    pub const fn number(self) -> u8 {
        match self {
            Self::OtherPort => 1,
            Self::OtherAddress => 2,
            Self::Unused => 3,
            Self::Reserve => 4,
            Self::Cross => 5,
            Self::Look => 6,
            Self::Refuse => 7,
            Self::CrossFar => 8,
            Self::Hold => 9,
            Self::Wait => 10,
            Self::Deaf => 11,
        }
    }

    /// The test with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.number() == number)
    }
}
