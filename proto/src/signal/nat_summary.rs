//! A [`NatReport`](crate::nat::NatReport) in the few bytes that a message can spare.

use crate::nat::{
    Filtering, InboundSynAfterSyn, InitialSequence, Mapping, MidStream, NatReport, PortAllocation,
    UnsolicitedSyn,
};

/// What a peer's NAT does, as the other peer needs it to choose strategies. `None` was not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NatSummary {
    /// Whether there is a NAT at all.
    pub nat: Option<bool>,
    /// What it does with UDP.
    pub udp: UdpSummary,
    /// What it does with TCP.
    pub tcp: TcpSummary,
}

/// What a NAT does with UDP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UdpSummary {
    /// Whether UDP reaches the internet.
    pub reachable: Option<bool>,
    /// What the external port depends on.
    pub mapping: Option<Mapping>,
    /// Whose packets come in.
    pub filtering: Option<Filtering>,
    /// How external ports are chosen.
    pub port_allocation: Option<PortAllocation>,
    /// Whether a host can reach itself through its own external address.
    pub hairpin: Option<bool>,
}

/// What a NAT does with TCP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpSummary {
    /// Whether TCP reaches the internet.
    pub reachable: Option<bool>,
    /// What the external port depends on.
    pub mapping: Option<Mapping>,
    /// Whose SYNs come in.
    pub filtering: Option<Filtering>,
    /// How external ports are chosen.
    pub port_allocation: Option<PortAllocation>,
    /// Whether a host can reach itself through its own external address.
    pub hairpin: Option<bool>,
    /// The answer to a SYN nobody asked for.
    pub unsolicited_syn: Option<UnsolicitedSyn>,
    /// The fate of a SYN that comes in after one went out.
    pub inbound_syn_after_syn: Option<InboundSynAfterSyn>,
    /// Whether sequence numbers pass unchanged.
    pub isn: Option<InitialSequence>,
    /// The fate of a connection that begins in the middle.
    pub mid_stream: Option<MidStream>,
    /// The fate of a SYN that comes in after an RST did.
    pub inbound_syn_after_rst: Option<InboundSynAfterSyn>,
    /// The fate of a SYN that comes in after the one that went out has died on the way.
    pub inbound_syn_after_icmp: Option<InboundSynAfterSyn>,
}

impl From<&NatReport> for NatSummary {
    /// An unreachable transport is told as blocked only if the other one was answered: a report in
    /// which nobody answered at all says nothing about the NAT.
    fn from(report: &NatReport) -> Self {
        let reachable = |answered: bool| (answered || report.nat.is_some()).then_some(answered);
        let NatReport { nat, udp, tcp } = report;
        Self {
            nat: *nat,
            udp: UdpSummary {
                reachable: reachable(udp.reachable),
                mapping: udp.mapping,
                filtering: udp.filtering,
                port_allocation: udp.port_allocation,
                hairpin: udp.hairpin,
            },
            tcp: TcpSummary {
                reachable: reachable(tcp.reachable),
                mapping: tcp.mapping,
                filtering: tcp.filtering,
                port_allocation: tcp.port_allocation,
                hairpin: tcp.hairpin,
                unsolicited_syn: tcp.unsolicited_syn,
                inbound_syn_after_syn: tcp.inbound_syn_after_syn,
                isn: tcp.isn,
                mid_stream: tcp.mid_stream,
                inbound_syn_after_rst: tcp.inbound_syn_after_rst,
                inbound_syn_after_icmp: tcp.inbound_syn_after_icmp,
            },
        }
    }
}

/// Length of the value of NAT-SUMMARY.
pub(super) const ENCODED_LENGTH: usize = 8;

/// Half a byte for each property, in the order of the fields, and for the last two together; 0 was not
/// measured.
impl NatSummary {
    /// ```text
    ///  0                   1                   2                   3
    ///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    /// +-------+-------+-------+-------+-------+-------+-------+-------+
    /// |  NAT  | UDP   | UDP   | UDP   | UDP   | UDP   | TCP   | TCP   |
    /// |       | reach.| mapp. | filt. | alloc.| hairp.| reach.| mapp. |
    /// +-------+-------+-------+-------+-------+-------+-------+-------+
    /// | TCP   | TCP   | TCP   | unsol.|inbound|  ISN  |  mid- |aft|aft|
    /// | filt. | alloc.| hairp.|  SYN  |  SYN  |       |stream |RST|ICM|
    /// +-------+-------+-------+-------+-------+-------+-------+---+---+
    /// ```
    pub(crate) fn to_bytes(self) -> [u8; ENCODED_LENGTH] {
        let Self { nat, udp, tcp } = self;
        let halves = [
            yes_no(nat),
            yes_no(udp.reachable),
            number(&MAPPINGS, udp.mapping),
            number(&FILTERINGS, udp.filtering),
            number(&ALLOCATIONS, udp.port_allocation),
            yes_no(udp.hairpin),
            yes_no(tcp.reachable),
            number(&MAPPINGS, tcp.mapping),
            number(&FILTERINGS, tcp.filtering),
            number(&ALLOCATIONS, tcp.port_allocation),
            yes_no(tcp.hairpin),
            number(&UNSOLICITED, tcp.unsolicited_syn),
            number(&INBOUND, tcp.inbound_syn_after_syn),
            number(&SEQUENCES, tcp.isn),
            number(&MID_STREAMS, tcp.mid_stream),
            number(&FATES, tcp.inbound_syn_after_rst) << 2
                | number(&FATES, tcp.inbound_syn_after_icmp),
        ];
        let mut bytes = [0; ENCODED_LENGTH];
        for (byte, pair) in bytes.iter_mut().zip(halves.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        bytes
    }

    /// The reverse of `to_bytes`; a number that no property has counts as not measured.
    pub(crate) fn from_bytes(bytes: [u8; ENCODED_LENGTH]) -> Self {
        let half = |index: usize| {
            let byte = bytes[index / 2];
            if index.is_multiple_of(2) { byte >> 4 } else { byte & 0x0F }
        };
        Self {
            nat: boolean(half(0)),
            udp: UdpSummary {
                reachable: boolean(half(1)),
                mapping: value(&MAPPINGS, half(2)),
                filtering: value(&FILTERINGS, half(3)),
                port_allocation: value(&ALLOCATIONS, half(4)),
                hairpin: boolean(half(5)),
            },
            tcp: TcpSummary {
                reachable: boolean(half(6)),
                mapping: value(&MAPPINGS, half(7)),
                filtering: value(&FILTERINGS, half(8)),
                port_allocation: value(&ALLOCATIONS, half(9)),
                hairpin: boolean(half(10)),
                unsolicited_syn: value(&UNSOLICITED, half(11)),
                inbound_syn_after_syn: value(&INBOUND, half(12)),
                isn: value(&SEQUENCES, half(13)),
                mid_stream: value(&MID_STREAMS, half(14)),
                inbound_syn_after_rst: value(&FATES, half(15) >> 2),
                inbound_syn_after_icmp: value(&FATES, half(15) & 3),
            },
        }
    }
}

/// The values of each property, numbered from 1.
const MAPPINGS: [Mapping; 4] = [
    Mapping::EndpointIndependent,
    Mapping::AddressDependent,
    Mapping::AddressAndPortDependent,
    Mapping::ConnectionDependent,
];
const FILTERINGS: [Filtering; 4] = [
    Filtering::EndpointIndependent,
    Filtering::AddressDependent,
    Filtering::AddressAndPortDependent,
    Filtering::Unknown,
];
const ALLOCATIONS: [PortAllocation; 5] = [
    PortAllocation::Preserved,
    PortAllocation::Offset,
    PortAllocation::Sequential,
    PortAllocation::Block,
    PortAllocation::Random,
];
const UNSOLICITED: [UnsolicitedSyn; 3] =
    [UnsolicitedSyn::Silent, UnsolicitedSyn::Rst, UnsolicitedSyn::Icmp];
const INBOUND: [InboundSynAfterSyn; 4] = [
    InboundSynAfterSyn::Accepted,
    InboundSynAfterSyn::Dropped,
    InboundSynAfterSyn::Rst,
    InboundSynAfterSyn::Unknown,
];
/// Those of them that a quarter of a byte has room for; what could not be told is as good as not measured.
const FATES: [InboundSynAfterSyn; 3] =
    [InboundSynAfterSyn::Accepted, InboundSynAfterSyn::Dropped, InboundSynAfterSyn::Rst];
const SEQUENCES: [InitialSequence; 2] = [InitialSequence::Preserved, InitialSequence::Rewritten];
const MID_STREAMS: [MidStream; 2] = [MidStream::PickedUp, MidStream::Dropped];
/// No is 1, yes is 2.
const BOOLEANS: [bool; 2] = [false, true];

/// The number of a property's value in its table; every value is there.
fn number<T: PartialEq>(table: &[T], value: Option<T>) -> u8 {
    let place = value.and_then(|value| table.iter().position(|it| *it == value));
    place.and_then(|place| u8::try_from(place + 1).ok()).unwrap_or(0)
}

fn value<T: Copy>(table: &[T], number: u8) -> Option<T> {
    usize::from(number).checked_sub(1).and_then(|place| table.get(place)).copied()
}

fn yes_no(value: Option<bool>) -> u8 {
    number(&BOOLEANS, value)
}

fn boolean(number: u8) -> Option<bool> {
    value(&BOOLEANS, number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::{TcpReport, UdpReport};

    #[test]
    fn every_value_of_every_property_survives_its_half_byte() {
        for half in 0..=15u8 {
            let summary = NatSummary::from_bytes([half << 4 | half; ENCODED_LENGTH]);
            assert_eq!(NatSummary::from_bytes(summary.to_bytes()), summary, "{half}");
        }
        assert_eq!(NatSummary::from_bytes([0; ENCODED_LENGTH]), NatSummary::default());
        let unknown = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xF0];
        assert_eq!(NatSummary::from_bytes(unknown), NatSummary::default());
    }

    #[test]
    fn what_an_rst_and_an_icmp_error_do_share_half_a_byte() {
        let fates = || FATES.into_iter().map(Some).chain([None]);
        for (after_rst, after_icmp) in fates().flat_map(|it| fates().map(move |other| (it, other)))
        {
            let tcp = TcpSummary {
                inbound_syn_after_rst: after_rst,
                inbound_syn_after_icmp: after_icmp,
                ..TcpSummary::default()
            };
            let summary = NatSummary { tcp, ..NatSummary::default() };
            let bytes = summary.to_bytes();
            assert_eq!(bytes[..ENCODED_LENGTH - 1], [0; ENCODED_LENGTH - 1]);
            assert_eq!(NatSummary::from_bytes(bytes), summary);
        }
    }

    #[test]
    fn a_report_in_which_nobody_answered_does_not_say_that_udp_is_blocked() {
        assert_eq!(NatSummary::from(&NatReport::default()), NatSummary::default());
    }

    #[test]
    fn udp_is_told_as_blocked_when_only_tcp_was_answered() {
        let tcp = TcpReport { reachable: true, ..TcpReport::default() };
        let report = NatReport { nat: Some(true), udp: UdpReport::default(), tcp };
        let summary = NatSummary::from(&report);
        assert_eq!(summary.udp.reachable, Some(false));
        assert_eq!(summary.tcp.reachable, Some(true));
    }
}
