//! What a perfect classifier says about a site, in the words of [`ntcp_proto::nat`].

use ntcp_proto::nat as report;
use ntcp_proto::nat::{NatReport, TcpReport, UdpReport};

use super::Site;
use crate::nat::behaviour::{
    Allocation, Behaviour, Filtering, Hairpin, InboundSyn, Mapping, MidStream, Passage,
    SequenceNumbers, Sharing, TcpBehaviour, Translation, Unsolicited,
};

impl Site {
    /// What a perfect classifier says about this site, as far as it can be told from a single host
    /// behind it. Addresses and lifetimes are left out.
    pub fn declared(&self) -> NatReport {
        let mut told = NatReport { nat: Some(self.translates()), ..NatReport::default() };
        told.udp = self.declared_udp();
        told.tcp = self.declared_tcp();
        told
    }

    fn translates(&self) -> bool {
        self.boxes.iter().any(|nat| nat.behaviour.udp.translation.mapping != Mapping::Identity)
    }

    fn declared_udp(&self) -> UdpReport {
        let blocked = self.boxes.iter().any(|nat| nat.behaviour.udp.passage == Passage::Blocked);
        if blocked {
            return UdpReport::default();
        }
        let sight = self.sight(|behaviour| behaviour.udp.translation);
        UdpReport {
            reachable: true,
            // UDP knows no connections.
            mapping: Some(sight.mapping.min(report::Mapping::AddressAndPortDependent)),
            filtering: Some(sight.filtering),
            port_allocation: Some(sight.allocation),
            hairpin: Some(self.hairpins()),
            ..UdpReport::default()
        }
    }

    fn declared_tcp(&self) -> TcpReport {
        let sight = self.sight(|behaviour| behaviour.tcp.translation);
        let boxes = || self.boxes.iter().map(|nat| &nat.behaviour.tcp);
        let rewritten = boxes().any(|tcp| tcp.sequence_numbers == SequenceNumbers::Rewritten);
        // A port that nobody uses has no mapping, whatever a box lets in through those it has.
        let guard = boxes().rev().find(|tcp| {
            tcp.translation.mapping != Mapping::Identity
                || tcp.translation.filtering != Filtering::EndpointIndependent
        });
        let inbound = boxes().rev().map(|tcp| tcp.inbound_syn).find(|it| *it != InboundSyn::Accept);
        TcpReport {
            reachable: true,
            mapping: Some(sight.mapping),
            filtering: Some(sight.filtering),
            port_allocation: Some(sight.allocation),
            hairpin: Some(self.hairpins()),
            // Where nothing is in the way, it is the host itself that refuses.
            unsolicited_syn: Some(match guard.map(|tcp| tcp.unsolicited) {
                Some(Unsolicited::Silent | Unsolicited::Late) => report::UnsolicitedSyn::Silent,
                Some(Unsolicited::Icmp(_)) => report::UnsolicitedSyn::Icmp,
                Some(Unsolicited::Reset | Unsolicited::OwnStack) | None => {
                    report::UnsolicitedSyn::Rst
                }
            }),
            inbound_syn_after_syn: Some(match inbound {
                None | Some(InboundSyn::Accept) => report::InboundSynAfterSyn::Accepted,
                Some(InboundSyn::Drop) => report::InboundSynAfterSyn::Dropped,
                Some(InboundSyn::Reset) => report::InboundSynAfterSyn::Rst,
            }),
            isn: Some(match rewritten {
                true => report::InitialSequence::Rewritten,
                false => report::InitialSequence::Preserved,
            }),
            mid_stream: Some(match boxes().any(|tcp| tcp.mid_stream == MidStream::Refuse) {
                true => report::MidStream::Dropped,
                false => report::MidStream::PickedUp,
            }),
            syn_ack_after_syn: Some(match boxes().all(TcpBehaviour::answers_early) {
                true => report::OutboundSynAck::Passed,
                false => report::OutboundSynAck::Dropped,
            }),
            ..TcpReport::default()
        }
    }

    /// A host reaches itself through the outermost box, or needs none.
    fn hairpins(&self) -> bool {
        self.boxes.last().is_none_or(|nat| match nat.behaviour.hairpin {
            Hairpin::Translated | Hairpin::Untranslated => true,
            Hairpin::Drop | Hairpin::Refuse => {
                nat.behaviour.udp.translation.mapping == Mapping::Identity
            }
        })
    }

    /// The boxes as one: each axis as its worst box has it.
    fn sight(&self, of: impl Fn(&Behaviour) -> Translation) -> Sight {
        let boxes = || self.boxes.iter().map(|nat| seen(&of(&nat.behaviour)));
        Sight {
            mapping: boxes()
                .map(|sight| sight.mapping)
                .max()
                .unwrap_or(report::Mapping::EndpointIndependent),
            filtering: boxes()
                .map(|sight| sight.filtering)
                .max()
                .unwrap_or(report::Filtering::EndpointIndependent),
            allocation: boxes()
                .map(|sight| sight.allocation)
                .max()
                .unwrap_or(report::PortAllocation::Preserved),
        }
    }
}

/// What a single host can tell about a translation.
struct Sight {
    mapping: report::Mapping,
    filtering: report::Filtering,
    allocation: report::PortAllocation,
}

fn seen(translation: &Translation) -> Sight {
    use report::{Filtering as Told, PortAllocation};
    let allocation = match (translation.mapping, translation.allocation) {
        (Mapping::Identity, _) | (_, Allocation::Preserved) => PortAllocation::Preserved,
        (_, Allocation::Offset(_)) => PortAllocation::Offset,
        (_, Allocation::Sequential { .. }) => PortAllocation::Sequential,
        (_, Allocation::Block { .. }) => PortAllocation::Block,
        (_, Allocation::Random { .. } | Allocation::Parity) => PortAllocation::Random,
    };
    // A port that is kept, or moved by a constant, towards every destination looks like one mapping,
    // whatever the box's tables say.
    let constant = match translation.allocation {
        Allocation::Preserved => true,
        Allocation::Offset(_) => translation.sharing == Sharing::PerDestination,
        Allocation::Sequential { .. }
        | Allocation::Block { .. }
        | Allocation::Parity
        | Allocation::Random { .. } => false,
    };
    let mapping = match translation.mapping {
        Mapping::Identity | Mapping::EndpointIndependent => report::Mapping::EndpointIndependent,
        _ if constant && translation.sharing == Sharing::PerDestination => {
            report::Mapping::EndpointIndependent
        }
        Mapping::AddressDependent => report::Mapping::AddressDependent,
        Mapping::AddressAndPortDependent => report::Mapping::AddressAndPortDependent,
        Mapping::ConnectionDependent => report::Mapping::ConnectionDependent,
    };
    let filtering = match translation.filtering {
        Filtering::EndpointIndependent => Told::EndpointIndependent,
        Filtering::AddressDependent => Told::AddressDependent,
        Filtering::AddressAndPortDependent => Told::AddressAndPortDependent,
    };
    Sight { mapping, filtering, allocation }
}
