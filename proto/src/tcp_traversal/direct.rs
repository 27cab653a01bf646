//! Direct: an ordinary connect to an address of the peer's own host, and reversal.
//!
//! ```text
//!  A                          (no NAT, or the same network)                       B
//!  |--SYN isnA--------------------------------------------------------------------->|  listens
//!  |<--------------------------------------------------------SYN+ACK isnB, isnA+1--|
//!  |--ACK-------------------------------------------------------------------------->|  ESTABLISHED
//! ```
//!
//! Both sides do this at once, so that *reversal* needs no strategy of its own: where only one of the
//! two can be reached, the other one's SYN is the one that arrives, whoever has called. Every port that
//! connects listens as well. An address of a private network may be somebody else's here, so such a
//! stream is chosen only when the peer has proved itself on it.
//!
//! Preconditions: one side has an address that the other one reaches: on the same network, public, in
//! IPv6, or by a mapping that its NAT was asked for. No privilege; the
//! [dialer](super::simultaneous_open::Dialer) of such an address paces its tries, since a refusal comes
//! from a host and not from a NAT.

use crate::candidate::CandidateKind;

/// Whether an address of the peer is dialled directly.
pub fn applies(kind: CandidateKind) -> bool {
    match kind {
        CandidateKind::Host => true,
        CandidateKind::Mapped
        | CandidateKind::ServerReflexive
        | CandidateKind::PeerReflexive
        | CandidateKind::Reserve => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::any_instant;
    use crate::puncher::report::Strategy;
    use crate::tcp_traversal::simultaneous_open::Dialer;

    #[test]
    fn only_addresses_of_the_peers_own_host_are_dialled_directly() {
        use CandidateKind::{Host, Mapped, PeerReflexive, ServerReflexive};
        for kind in [Host, Mapped, ServerReflexive, PeerReflexive] {
            let dialer = Dialer::new("192.0.2.1:9".parse().unwrap(), kind, any_instant());
            assert_eq!(dialer.strategy() == Strategy::Direct, applies(kind), "{kind:?}");
        }
    }
}
