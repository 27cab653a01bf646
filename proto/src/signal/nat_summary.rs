//! A [`NatReport`](crate::nat::NatReport) in the few bytes that a message can spare.

use crate::nat::{
    Filtering, InboundSynAfterSyn, InitialSequence, Mapping, NatReport, PortAllocation,
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
            },
        }
    }
}
