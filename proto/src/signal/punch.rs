//! What a peer is told about the other one, so that both open a path at the same moment.

use std::time::{Duration, Instant};

use super::{Fingerprint, Hint, NatSummary, SessionId, SessionSecret};
use crate::candidate::Candidate;
use crate::secrecy::PublicKey;
use crate::uri::{PeerName, TransportChoice};

/// Which of the two picks the winning path (RFC 8445 section 6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The caller.
    Controlling,
    /// The callee.
    Controlled,
}

/// How many times this pair has met for the same call, from 1.
///
/// The first round uses what both had registered and costs no round trip to the callee; later ones
/// make both gather fresh candidates from fresh ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u8);

impl Round {
    /// The fast one, with what is registered.
    pub const FIRST: Self = Self(1);

    /// Whether both sides have to gather candidates anew.
    pub fn is_fresh(self) -> bool {
        self.0 > 1
    }
}

/// The order to open a path to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Punch {
    /// Names the meeting; equal on both sides.
    pub session: SessionId,
    /// Authenticates the checks between the two; equal on both sides.
    pub secret: SessionSecret,
    /// Whether this side picks the winner.
    pub role: Role,
    /// The round; equal on both sides.
    pub round: Round,
    /// Which transports to use; the caller's choice.
    pub transport: TransportChoice,
    /// The other peer's name; `None` for a caller that registered without one.
    pub peer: Option<PeerName>,
    /// Where the other peer may be reached.
    pub candidates: Vec<Candidate>,
    /// What the other peer's NAT does.
    pub nat: NatSummary,
    /// The other peer's certificate.
    pub fingerprint: Fingerprint,
    /// The other peer's key; `None` for one that registered in the clear.
    pub identity: Option<PublicKey>,
    /// How long to wait from the receipt of this order.
    pub start_after: Duration,
    /// The other peer's round-trip time to the broker; half of it plus half of ours is an upper
    /// bound for most paths between the two.
    pub peer_rtt: Option<Duration>,
    /// Whether the other peer's TCP paths are to be the kernel's bare socket.
    pub bare: bool,
    /// How strategies have fared of late between NATs like these, most promising first.
    pub hints: Vec<Hint>,
}

/// A [`Punch`] with the instant that its `start_after` means on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedPunch {
    /// The order.
    pub punch: Punch,
    /// When to send the first packet; may have passed.
    pub start_at: Instant,
}
