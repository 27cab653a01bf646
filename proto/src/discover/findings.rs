//! From what the surveys saw to the report, the evidence and the advice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ntcp_stun::behavior::{
    self, ClassicType, MappingTest, Observation, Passage, ServerState, mapping,
};
use ntcp_stun::probe::Seen;

use super::advice::Advice;
use super::evidence::Evidence;
use super::port_control::PortControl;
use super::ports::PortPattern;
use super::tcp::{Contact, TcpSurvey};
use super::udp::{FilteringFinding, UdpSurvey};
use crate::candidate::Transport;
use crate::nat::{Filtering, Mapping, NatReport, SynSeen, TcpReport, UdpReport};

/// Everything a discovery found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The verdict.
    pub report: NatReport,
    /// How the NAT chooses UDP ports, with what a prediction needs.
    pub udp_ports: Option<PortPattern>,
    /// How the NAT chooses TCP ports, with what a prediction needs.
    pub tcp_ports: Option<PortPattern>,
    /// Whether a listening port is reached over TCP from an end that has just refused a connection of
    /// it with an RST, as connect, close and listen needs; `None` if no server could tell. An RST may
    /// shut the NAT, and a NAT that watches sequence numbers drops the listener's answer.
    pub reached_after_rst: Option<bool>,
    /// Whether over TCP a second connection between the same ends comes from another external port,
    /// after an RST has ended the first; asked where a port belongs to one destination anyway. A
    /// mapping that depends on the connection does so, but so does one that its NAT forgets with the
    /// connection, as netfilter does: from here the two look alike, so that the verdict on the mapping
    /// does not rest on it.
    pub new_port_each_connection: Option<bool>,
    /// The least IP TTL with which a SYN of this host opens the outermost of its NATs, so one more than
    /// the hops to it; `None` if that could not be told, as where a NAT filters less than by port.
    pub opener_ttl: Option<u8>,
    /// How a SYN of this host arrived at a server, if one told.
    pub syn: Option<Seen>,
    /// Whether the router takes orders about its ports, if it was to be asked.
    pub port_control: Option<PortControl>,
    /// The UDP verdict in the words of RFC 3489.
    pub classic: Option<ClassicType>,
    /// What was seen.
    pub evidence: Vec<Evidence>,
    /// What it means for connecting, and what would help.
    pub advice: Vec<Advice>,
}

impl Findings {
    /// Draws the conclusions; `interfaces` are this host's own addresses.
    pub(super) fn conclude(
        udp: Option<&UdpSurvey>,
        tcp: Option<&TcpSurvey>,
        interfaces: &[IpAddr],
    ) -> Self {
        let mut evidence = Vec::new();
        let udp_seen = udp
            .and_then(UdpSurvey::mapping_test)
            .map(MappingTest::observations)
            .unwrap_or_default();
        let tcp_seen = tcp.map(TcpSurvey::observations).unwrap_or_default();
        let nat =
            is_translated(&udp_seen, interfaces).or_else(|| is_translated(&tcp_seen, interfaces));
        let report = NatReport {
            nat,
            udp: udp.map(|survey| udp_report(survey, &udp_seen)).unwrap_or_default(),
            tcp: tcp.map(|survey| tcp_report(survey, &tcp_seen)).unwrap_or_default(),
        };
        if let Some(survey) = udp {
            evidence.extend(udp_evidence(survey, &udp_seen));
        }
        if let Some(survey) = tcp {
            evidence.extend(tcp_evidence(survey, &tcp_seen));
        }
        let udp_ports = udp.and_then(UdpSurvey::pattern);
        let mut advice = Advice::of(&report);
        if evidence.contains(&Evidence::PayloadRewritten) {
            advice.push(Advice::SwitchAlgOff);
        }
        Self {
            classic: udp.and_then(|survey| classic(survey, &report)),
            report,
            udp_ports,
            tcp_ports: tcp.and_then(TcpSurvey::pattern),
            opener_ttl: tcp.and_then(TcpSurvey::opener_ttl),
            syn: tcp.and_then(TcpSurvey::seen),
            new_port_each_connection: tcp.and_then(TcpSurvey::new_port_each_time),
            reached_after_rst: tcp.and_then(TcpSurvey::reached_after_rst),
            evidence,
            advice,
            port_control: None,
        }
    }
}

impl From<behavior::Mapping> for Mapping {
    fn from(mapping: behavior::Mapping) -> Self {
        match mapping {
            behavior::Mapping::EndpointIndependent => Self::EndpointIndependent,
            behavior::Mapping::AddressDependent => Self::AddressDependent,
            behavior::Mapping::AddressAndPortDependent => Self::AddressAndPortDependent,
        }
    }
}

impl From<behavior::Filtering> for Filtering {
    fn from(filtering: behavior::Filtering) -> Self {
        match filtering {
            behavior::Filtering::EndpointIndependent => Self::EndpointIndependent,
            behavior::Filtering::AddressDependent => Self::AddressDependent,
            behavior::Filtering::AddressAndPortDependent => Self::AddressAndPortDependent,
        }
    }
}

fn udp_report(survey: &UdpSurvey, seen: &[Observation]) -> UdpReport {
    let reachable = !seen.is_empty();
    // Told by the servers, or by none of them.
    let filtering = filtering(survey).map_or(Filtering::Unknown, Filtering::from);
    UdpReport {
        reachable,
        public_address: most_seen(seen),
        mapping: mapping::classify(seen).map(Mapping::from),
        filtering: reachable.then_some(filtering),
        port_allocation: survey.pattern().map(PortPattern::allocation),
        hairpin: survey.hairpin(),
        lifetime_s: None,
    }
}

fn tcp_report(survey: &TcpSurvey, seen: &[Observation]) -> TcpReport {
    TcpReport {
        reachable: !seen.is_empty(),
        public_address: most_seen(seen),
        mapping: survey.mapping(),
        filtering: survey.filtering(),
        port_allocation: survey.pattern().map(PortPattern::allocation),
        hairpin: survey.hairpin(),
        unsolicited_syn: survey.unsolicited_syn(),
        inbound_syn_after_syn: survey.inbound_syn_after_syn(),
        isn: survey.initial_sequence(),
        isn_follows_clock: survey.follows_clock(),
        lifetime_s: survey.lifetime().map(seconds),
        new_port_each_connection: survey.new_port_each_time(),
        inbound_syn_after_rst: survey.inbound_syn_after_rst(),
        inbound_syn_after_icmp: survey.inbound_syn_after_icmp(),
        mid_stream: survey.mid_stream(),
        syn_ack_after_syn: survey.syn_ack_after_syn(),
        opener_ttl: survey.opener_ttl(),
        hole_s: survey.hole().map(seconds),
        syn: survey.seen().map(syn_seen),
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn syn_seen(seen: Seen) -> SynSeen {
    let Seen { ttl, window, mss, window_scale, selective, timestamp, .. } = seen;
    SynSeen { ttl, window, mss, window_scale, sack: selective, timestamps: timestamp.is_some() }
}

/// The verdict on filtering: a packet that came in is proof, whatever other servers' silence says,
/// so the most open verdict counts.
fn filtering(survey: &UdpSurvey) -> Option<behavior::Filtering> {
    let mapping = survey.mapping_test().and_then(MappingTest::verdict);
    survey.filtering().filter_map(|it| it.verdict(mapping)).min()
}

fn classic(survey: &UdpSurvey, report: &NatReport) -> Option<ClassicType> {
    let mapping = survey.mapping_test().and_then(MappingTest::verdict);
    match report.udp.reachable {
        true => ClassicType::of(report.nat?, mapping, filtering(survey)),
        false => report.tcp.reachable.then_some(ClassicType::UdpBlocked),
    }
}

/// What most destination addresses saw; the first of them if none was seen more often.
fn most_seen(seen: &[Observation]) -> Option<SocketAddr> {
    let mut voters: BTreeMap<SocketAddr, BTreeSet<IpAddr>> = BTreeMap::new();
    for Observation { destination, mapped } in seen {
        voters.entry(*mapped).or_default().insert(destination.ip());
    }
    let most = voters.values().map(BTreeSet::len).max()?;
    seen.iter().map(|it| it.mapped).find(|mapped| voters[mapped].len() == most)
}

/// Whether most destination addresses saw an address that is none of this host's. Loopback addresses
/// are, though no list of interfaces has them: the server then runs on this host.
fn is_translated(seen: &[Observation], interfaces: &[IpAddr]) -> Option<bool> {
    if seen.is_empty() || interfaces.is_empty() {
        return None;
    }
    let (own, foreign): (Vec<_>, Vec<_>) =
        seen.iter().partition(|it| is_own(it.mapped.ip(), interfaces));
    let count = |seen: Vec<&Observation>| {
        seen.iter().map(|it| it.destination.ip()).collect::<BTreeSet<_>>().len()
    };
    Some(count(foreign) >= count(own))
}

fn is_own(ip: IpAddr, interfaces: &[IpAddr]) -> bool {
    ip.is_loopback() || interfaces.contains(&ip)
}

fn udp_evidence(survey: &UdpSurvey, seen: &[Observation]) -> Vec<Evidence> {
    let transport = Transport::Udp;
    let mut evidence: Vec<Evidence> =
        survey.failure().map(|failure| Evidence::NoSocket { failure }).into_iter().collect();
    let Some(test) = survey.mapping_test() else { return evidence };
    for (server, state, rtt) in test.servers() {
        evidence.extend(rtt.map(|rtt| Evidence::Answered { server, transport, rtt }));
        evidence.extend(match state {
            ServerState::Silent => Some(Evidence::Silent { server, transport }),
            ServerState::Refused(code) => Some(Evidence::Refused { server, code }),
            ServerState::SingleAddress => Some(Evidence::SingleAddress { server }),
            ServerState::Incredible { other, refusal } => {
                Some(Evidence::IncredibleAlternate { server, other, refusal })
            }
            ServerState::Announced(alternate) => {
                Some(Evidence::SilentAlternate { server, other: alternate.other_both() })
            }
            ServerState::TwoAddresses(_) => None,
        });
    }
    evidence.extend(survey.filtering().flat_map(|it| filtering_evidence(it, test.verdict())));
    evidence.extend(outvoted(seen, transport));
    evidence.extend(test.is_rewritten().then_some(Evidence::PayloadRewritten));
    evidence
}

/// Why a server could not tell about filtering, if so.
fn filtering_evidence(
    finding: FilteringFinding,
    mapping: Option<behavior::Mapping>,
) -> Option<Evidence> {
    let server = finding.alternate.primary();
    let (Some(ip_and_port), Some(port)) = (finding.ip_and_port, finding.port) else { return None };
    // What the server did wrong says more than what it did not do: the variants stand in this order.
    let seen_open = finding.open_ip_and_port.max(finding.open_port);
    match ip_and_port.max(port).max(seen_open.unwrap_or(port)) {
        _ if finding.verdict(mapping).is_some() => None,
        Passage::Elsewhere(source) => Some(Evidence::AnsweredFromElsewhere { server, source }),
        Passage::Refused(code) => Some(Evidence::ChangeRefused { server, code }),
        Passage::ServerSilent => Some(Evidence::FellSilent { server }),
        Passage::Passed | Passage::Blocked => Some(Evidence::ChangeIgnored { server }),
    }
}

fn tcp_evidence(survey: &TcpSurvey, seen: &[Observation]) -> Vec<Evidence> {
    let transport = Transport::Tcp;
    let contact = |(server, contact)| match contact {
        Contact::Answered(rtt) => Evidence::Answered { server, transport, rtt },
        Contact::Failed(failure) => Evidence::Failed { server, transport, failure },
        Contact::Silent => Evidence::Silent { server, transport },
    };
    survey.contacts().map(contact).chain(outvoted(seen, transport)).collect()
}

fn outvoted(seen: &[Observation], transport: Transport) -> impl Iterator<Item = Evidence> {
    mapping::outvoted(seen).into_iter().map(move |it| Evidence::Outvoted {
        transport,
        server: it.destination,
        mapped: it.mapped,
    })
}
