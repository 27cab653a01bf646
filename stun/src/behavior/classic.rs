//! The verdicts in the words of RFC 3489 section 10.1, which many people still use.
//!
//! The RFC walks a tree of tests on one socket. On that way a NAT that accepts packets for itself
//! looks symmetric, because the changed reply of test II changes the mapping that test I on the
//! other address sees. So here the tree is walked over findings that were made on separate sockets,
//! and only the order of its questions remains.
//!
//! ```text
//! answered? ── no ──► UdpBlocked
//!   │ yes
//! NAT? ── no ──► everybody's packets come in? ── yes ──► OpenInternet, no ──► SymmetricFirewall
//!   │ yes
//! one mapping for all? ── no ──► Symmetric
//!   │ yes
//! whose packets come in? ──► FullCone, RestrictedCone, PortRestrictedCone
//! ```
//!
//! A server of RFC 3489 needs no tests of its own: CHANGED-ADDRESS stands in for OTHER-ADDRESS.

use std::fmt;

use super::{Filtering, Mapping};

/// What RFC 3489 section 5 calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClassicType {
    /// Nothing came back.
    UdpBlocked,
    /// Neither NAT nor firewall.
    OpenInternet,
    /// No NAT, but only packets of those who were sent to come in.
    SymmetricFirewall,
    /// One mapping, everybody's packets.
    FullCone,
    /// One mapping, packets of addresses that were sent to.
    RestrictedCone,
    /// One mapping, packets of addresses and ports that were sent to.
    PortRestrictedCone,
    /// A mapping for each destination.
    Symmetric,
}

impl ClassicType {
    /// The type of a path on which a server answered; `None` if what is known does not tell.
    pub fn of(nat: bool, mapping: Option<Mapping>, filtering: Option<Filtering>) -> Option<Self> {
        match (nat, mapping, filtering) {
            (false, _, Some(Filtering::EndpointIndependent)) => Some(Self::OpenInternet),
            (false, _, Some(_)) => Some(Self::SymmetricFirewall),
            (true, Some(Mapping::AddressDependent | Mapping::AddressAndPortDependent), _) => {
                Some(Self::Symmetric)
            }
            (true, Some(Mapping::EndpointIndependent), Some(filtering)) => Some(match filtering {
                Filtering::EndpointIndependent => Self::FullCone,
                Filtering::AddressDependent => Self::RestrictedCone,
                Filtering::AddressAndPortDependent => Self::PortRestrictedCone,
            }),
            (true, None, _) | (_, _, None) => None,
        }
    }
}

impl fmt::Display for ClassicType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UdpBlocked => "UDP blocked",
            Self::OpenInternet => "open internet",
            Self::SymmetricFirewall => "symmetric UDP firewall",
            Self::FullCone => "full cone",
            Self::RestrictedCone => "restricted cone",
            Self::PortRestrictedCone => "port restricted cone",
            Self::Symmetric => "symmetric",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_of_the_tree_is_reached() {
        use Filtering as F;
        use Mapping as M;
        let eim = Some(M::EndpointIndependent);
        let cases = [
            ((false, eim, Some(F::EndpointIndependent)), Some(ClassicType::OpenInternet)),
            ((false, eim, Some(F::AddressDependent)), Some(ClassicType::SymmetricFirewall)),
            ((false, eim, Some(F::AddressAndPortDependent)), Some(ClassicType::SymmetricFirewall)),
            ((false, eim, None), None),
            ((true, eim, Some(F::EndpointIndependent)), Some(ClassicType::FullCone)),
            ((true, eim, Some(F::AddressDependent)), Some(ClassicType::RestrictedCone)),
            ((true, eim, Some(F::AddressAndPortDependent)), Some(ClassicType::PortRestrictedCone)),
            ((true, eim, None), None),
            ((true, None, Some(F::EndpointIndependent)), None),
            ((true, Some(M::AddressDependent), None), Some(ClassicType::Symmetric)),
            ((true, Some(M::AddressAndPortDependent), None), Some(ClassicType::Symmetric)),
        ];
        for ((nat, mapping, filtering), expected) in cases {
            assert_eq!(ClassicType::of(nat, mapping, filtering), expected, "{mapping:?}");
        }
    }
}
