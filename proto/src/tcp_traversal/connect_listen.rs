//! Connect and listen: who knows where the peer is dials, and who does not listens on the same port.
//!
//! ```text
//!  A                  NA: a new port for everybody            NB: open, or none   B
//!  |--SYN isnA------->|--from a port nobody has announced---->|------------------>|  its listener
//!  |         x--------|<--------------------------------------|<------SYN isnB----|  a port of the past
//!  |<-----------------|<--------------------------------------|<---SYN+ACK isnB---|
//!  |--ACK------------>|-------------------------------------->|------------------>|  ESTABLISHED
//! ```
//!
//! Simultaneous open fails where one side's port is another one towards each destination: its SYN
//! then belongs to no connection that the peer has begun. If the peer's filter lets it in all the same,
//! it is enough that somebody listens. Linux prefers a connecting socket of that very pair of ends, so
//! the listener on the punching port is in nobody's way.
//!
//! Such a stream comes from an address that was never announced, so it belongs to a session only once
//! the peer has proved itself on it.
//!
//! Preconditions: the listening side is public, or its NAT lets in whom it has written to (addresses,
//! or everybody). No privilege.

use crate::candidate::CandidateKind;
use crate::puncher::report::Strategy;

/// What brought an accepted stream about, by what is known of where it came from.
pub fn strategy_of(kind: CandidateKind) -> Strategy {
    match kind {
        CandidateKind::Host => Strategy::Direct,
        CandidateKind::PeerReflexive => Strategy::ConnectListen,
        CandidateKind::Mapped | CandidateKind::ServerReflexive => Strategy::SimultaneousOpen,
        CandidateKind::Reserve => Strategy::ShieldedOpener,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unannounced_end_makes_a_stream_of_the_listeners_own() {
        assert_eq!(strategy_of(CandidateKind::PeerReflexive), Strategy::ConnectListen);
        assert_eq!(strategy_of(CandidateKind::ServerReflexive), Strategy::SimultaneousOpen);
        assert_eq!(strategy_of(CandidateKind::Host), Strategy::Direct);
    }
}
