//! What a verdict means for connecting, and what would help.

use std::fmt;

use super::evidence::name;
use crate::candidate::Transport;
use crate::nat::{Filtering, Mapping, NatReport};

/// Which peers a host can get a direct connection to, by what its NAT does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// Every peer, at once and without its help.
    Everyone,
    /// Every peer that sends at the same time, whatever its NAT does.
    EveryPuncher,
    /// Peers whose external port stays the same; with others it takes many tries.
    StablePorts,
    /// Peers whose external port stays the same, by predicting the next port here.
    ByPrediction,
    /// Peers that let in packets from any port: public ones and those behind lenient NATs.
    LenientOnly,
}

/// One sentence of advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// No server answered at all.
    Offline,
    /// UDP does not pass; TCP does.
    UdpBlocked,
    /// No server answered over TCP; nothing is known about it.
    TcpUnknown,
    /// Which peers are reached directly.
    Reach {
        /// Over what.
        transport: Transport,
        /// Which.
        reach: Reach,
    },
    /// The mapping could not be told: one more server would help.
    AddServer,
    /// Filtering could not be told: a server with two addresses would help.
    AddTwoAddressServer,
    /// Two hosts behind this NAT cannot use its external address for each other.
    NoHairpin,
    /// A port mapped explicitly would make this host reachable for everybody.
    MapPort,
    /// Addresses inside packets are rewritten: switch the router's helper off.
    SwitchAlgOff,
}

impl Advice {
    /// The advice that follows from a report, most important first.
    pub fn of(report: &NatReport) -> Vec<Self> {
        let mut advice = Vec::new();
        match (report.udp.reachable, report.tcp.reachable) {
            (false, false) => return vec![Self::Offline],
            (false, true) => advice.push(Self::UdpBlocked),
            (true, _) => {}
        }
        let nat = report.nat.unwrap_or(true);
        let udp = report.udp.mapping.map(|mapping| {
            let ports = report.udp.port_allocation;
            reach(nat, mapping, report.udp.filtering, ports.is_some_and(is_predictable))
        });
        let tcp = report.tcp.mapping.map(|mapping| {
            let predictable = report.tcp.port_allocation.is_some_and(is_predictable);
            reach(nat, mapping, report.tcp.filtering, predictable)
        });
        let reached = |(transport, reach)| Some(Self::Reach { transport, reach: reach? });
        advice
            .extend([(Transport::Udp, udp), (Transport::Tcp, tcp)].into_iter().filter_map(reached));
        advice.extend(Self::what_would_help(report, [udp, tcp]));
        advice
    }

    fn what_would_help(report: &NatReport, reach: [Option<Reach>; 2]) -> Vec<Self> {
        let weak = |it: Reach| matches!(it, Reach::ByPrediction | Reach::LenientOnly);
        let untold = report.udp.reachable && report.udp.mapping.is_none();
        let unfiltered =
            report.udp.reachable && matches!(report.udp.filtering, None | Some(Filtering::Unknown));
        let natted = report.nat == Some(true);
        let every = [
            (untold, Self::AddServer),
            (unfiltered, Self::AddTwoAddressServer),
            (natted && reach.into_iter().flatten().any(weak), Self::MapPort),
            (natted && report.udp.hairpin == Some(false), Self::NoHairpin),
            (report.udp.reachable && !report.tcp.reachable, Self::TcpUnknown),
        ];
        every.into_iter().filter_map(|(holds, advice)| holds.then_some(advice)).collect()
    }
}

/// Whether the next port can be told from those before.
fn is_predictable(allocation: crate::nat::PortAllocation) -> bool {
    use crate::nat::PortAllocation as P;
    match allocation {
        P::Preserved | P::Offset | P::Sequential => true,
        P::Block | P::Random => false,
    }
}

/// The table behind [`Reach`]; unknown filtering is taken to be the strictest.
fn reach(nat: bool, mapping: Mapping, filtering: Option<Filtering>, is_predictable: bool) -> Reach {
    match (mapping, filtering) {
        (Mapping::EndpointIndependent, Some(Filtering::EndpointIndependent)) if !nat => {
            Reach::Everyone
        }
        (
            Mapping::EndpointIndependent,
            Some(Filtering::EndpointIndependent | Filtering::AddressDependent),
        ) => Reach::EveryPuncher,
        (
            Mapping::EndpointIndependent,
            Some(Filtering::AddressAndPortDependent | Filtering::Unknown) | None,
        ) => Reach::StablePorts,
        (
            Mapping::AddressDependent
            | Mapping::AddressAndPortDependent
            | Mapping::ConnectionDependent,
            _,
        ) => {
            if is_predictable {
                Reach::ByPrediction
            } else {
                Reach::LenientOnly
            }
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Everyone => "every peer connects directly",
            Self::EveryPuncher => "a direct path to every peer, whatever its NAT does",
            Self::StablePorts => {
                "a direct path to peers whose NAT keeps one port for all destinations; with one \
                 that changes it, only by many tries"
            }
            Self::ByPrediction => {
                "a direct path to peers whose NAT keeps one port for all destinations, by \
                 predicting the next port of this one"
            }
            Self::LenientOnly => {
                "a direct path only to peers that are public or let in packets from any port, and \
                 to others by many tries; never to a peer like this one"
            }
        })
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => f.write_str(
                "No STUN server answered, neither over UDP nor over TCP: check the network, and the \
                 names of the servers (--stun HOST:PORT).",
            ),
            Self::UdpBlocked => f.write_str(
                "UDP does not pass here: peers are reached over TCP only. Allowing outgoing UDP in \
                 the firewall would add the second way.",
            ),
            Self::TcpUnknown => f.write_str(
                "No STUN server answered over TCP, so nothing is known about it; TCP is tried all \
                 the same.",
            ),
            Self::Reach { transport, reach } => write!(f, "{}: {reach}.", name(*transport)),
            Self::AddServer => f.write_str(
                "One server with one address cannot tell what the external port depends on: name a \
                 second one (--stun HOST:PORT).",
            ),
            Self::AddTwoAddressServer => f.write_str(
                "No server could tell whose packets come in: name one with two addresses \
                 (RFC 5780) with --stun HOST:PORT.",
            ),
            Self::NoHairpin => f.write_str(
                "The NAT does not turn packets back inside: two hosts behind it reach each other \
                 by their local addresses only.",
            ),
            Self::MapPort => f.write_str(
                "A port mapping on the router (PCP, NAT-PMP, UPnP or by hand), or IPv6, would make \
                 this host reachable for every peer.",
            ),
            Self::SwitchAlgOff => f.write_str(
                "The router rewrites addresses inside packets: switch its application-level \
                 gateway (SIP or STUN helper) off.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::{PortAllocation, TcpReport, UdpReport};

    #[test]
    fn every_behaviour_has_its_reach() {
        use Filtering as F;
        use Mapping as M;
        let eim = M::EndpointIndependent;
        let cases = [
            ((false, eim, Some(F::EndpointIndependent), true), Reach::Everyone),
            ((false, eim, Some(F::AddressAndPortDependent), true), Reach::StablePorts),
            ((true, eim, Some(F::EndpointIndependent), false), Reach::EveryPuncher),
            ((true, eim, Some(F::AddressDependent), false), Reach::EveryPuncher),
            ((true, eim, Some(F::AddressAndPortDependent), false), Reach::StablePorts),
            ((true, eim, Some(F::Unknown), false), Reach::StablePorts),
            ((true, eim, None, false), Reach::StablePorts),
            ((true, M::AddressDependent, None, true), Reach::ByPrediction),
            ((true, M::AddressAndPortDependent, None, true), Reach::ByPrediction),
            ((true, M::ConnectionDependent, None, true), Reach::ByPrediction),
            ((true, M::AddressAndPortDependent, None, false), Reach::LenientOnly),
        ];
        for ((nat, mapping, filtering, predictable), expected) in cases {
            let reach = reach(nat, mapping, filtering, predictable);
            assert_eq!(reach, expected, "{nat} {mapping:?} {filtering:?} {predictable}");
        }
    }

    fn udp(mapping: Mapping, allocation: PortAllocation) -> NatReport {
        let udp = UdpReport {
            reachable: true,
            mapping: Some(mapping),
            filtering: Some(Filtering::AddressAndPortDependent),
            port_allocation: Some(allocation),
            hairpin: Some(false),
            ..UdpReport::default()
        };
        NatReport { nat: Some(true), udp, tcp: TcpReport::default() }
    }

    #[test]
    fn who_is_hard_to_reach_is_told_to_map_a_port() {
        let hard = udp(Mapping::AddressAndPortDependent, PortAllocation::Random);
        let reach = Advice::Reach { transport: Transport::Udp, reach: Reach::LenientOnly };
        let expected = [reach, Advice::MapPort, Advice::NoHairpin, Advice::TcpUnknown];
        assert_eq!(Advice::of(&hard), expected);
        let easy = udp(Mapping::EndpointIndependent, PortAllocation::Preserved);
        assert!(!Advice::of(&easy).contains(&Advice::MapPort));
    }

    #[test]
    fn what_could_not_be_told_asks_for_another_server() {
        let mut report = udp(Mapping::EndpointIndependent, PortAllocation::Preserved);
        report.udp.mapping = None;
        report.udp.filtering = Some(Filtering::Unknown);
        let advice = Advice::of(&report);
        assert!(advice.contains(&Advice::AddServer));
        assert!(advice.contains(&Advice::AddTwoAddressServer));
    }

    #[test]
    fn a_host_that_is_cut_off_gets_one_piece_of_advice() {
        assert_eq!(Advice::of(&NatReport::default()), [Advice::Offline]);
        let mut tcp_only = NatReport::default();
        tcp_only.tcp.reachable = true;
        assert_eq!(Advice::of(&tcp_only)[0], Advice::UdpBlocked);
    }

    #[test]
    fn advice_is_made_of_sentences() {
        let transport = Transport::Udp;
        let reach = [
            Reach::Everyone,
            Reach::EveryPuncher,
            Reach::StablePorts,
            Reach::ByPrediction,
            Reach::LenientOnly,
        ];
        let reach = reach.map(|reach| Advice::Reach { transport, reach });
        let others = [
            Advice::Offline,
            Advice::UdpBlocked,
            Advice::TcpUnknown,
            Advice::AddServer,
            Advice::AddTwoAddressServer,
            Advice::NoHairpin,
            Advice::MapPort,
            Advice::SwitchAlgOff,
        ];
        for advice in reach.into_iter().chain(others) {
            let text = advice.to_string();
            assert!(text.ends_with('.') && !text.contains("  "), "{text}");
        }
    }
}
