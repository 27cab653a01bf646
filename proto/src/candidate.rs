//! Addresses at which a peer may be reached.

use std::net::SocketAddr;

use serde::Serialize;

/// How a path's bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How a candidate was learned (RFC 8445 section 5.1.1), best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateKind {
    /// An address of one of the host's own interfaces.
    Host,
    /// An explicit port mapping (PCP, NAT-PMP, UPnP).
    Mapped,
    /// What a STUN server or the broker saw.
    ServerReflexive,
    /// What a peer's check arrived from, and nobody had announced.
    PeerReflexive,
    /// What a STUN server saw of a second port, to which nothing goes before the two sides have told each other of
    /// such ports: the [reserve](crate::tcp_traversal::reserve).
    Reserve,
}

/// One address at which a peer may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Candidate {
    /// How it was learned.
    pub kind: CandidateKind,
    /// TCP or UDP.
    pub transport: Transport,
    /// Where to send.
    pub address: SocketAddr,
}

/// Most candidates that one message carries; more are cut off, worst kind first.
pub const MAX_CANDIDATES: usize = 16;
