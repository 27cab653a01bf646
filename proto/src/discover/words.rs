//! The verdicts in words for people, and the whole of the findings as a page of them.

use std::fmt;

use super::findings::Findings;
use super::port_control::PortControl;
use super::ports::PortPattern;
use crate::nat::{
    Filtering, InboundSynAfterSyn, InitialSequence, Mapping, MidStream, OutboundSynAck, TcpReport,
    UnsolicitedSyn,
};

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndpointIndependent => "one external port for all destinations",
            Self::AddressDependent => "another external port for each destination address",
            Self::AddressAndPortDependent => {
                "another external port for each destination address and port"
            }
            Self::ConnectionDependent => "another external port for each connection",
        })
    }
}

impl fmt::Display for Filtering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EndpointIndependent => "everybody's packets come in",
            Self::AddressDependent => "packets of addresses sent to come in",
            Self::AddressAndPortDependent => "packets of addresses and ports sent to come in",
            Self::Unknown => "no server could tell whose packets come in",
        })
    }
}

impl fmt::Display for UnsolicitedSyn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "a connection nobody asked for is met with silence",
            Self::Rst => "a connection nobody asked for is refused with an RST",
            Self::Icmp => "a connection nobody asked for is refused with an ICMP error",
        })
    }
}

impl fmt::Display for InboundSynAfterSyn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "two connections that cross become one (simultaneous open)",
            Self::Dropped => "the second of two connections that cross is dropped",
            Self::Rst => "the second of two connections that cross is refused with an RST",
            Self::Unknown => "what becomes of connections that cross could not be told",
        })
    }
}

impl fmt::Display for PortPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preserved => f.write_str("external port numbers are the internal ones"),
            Self::Offset(offset) => {
                write!(f, "external port numbers are the internal ones plus {offset}")
            }
            Self::Sequential { step, last } => {
                write!(f, "external ports follow one another in steps of {step}, last {last}")
            }
            Self::Block { lowest, highest } => {
                write!(f, "external ports lie within one block, seen from {lowest} to {highest}")
            }
            Self::Random => f.write_str("external ports are random"),
        }
    }
}

/// One line of the page: a label, and what is to say about it.
fn line(f: &mut fmt::Formatter<'_>, label: &str, text: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{label:<5} {text}")
}

impl Findings {
    fn write_nat(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.report.nat {
            Some(true) => line(f, "NAT", "yes"),
            Some(false) => line(f, "NAT", "no: the outside sees this host's own address"),
            None => line(f, "NAT", "unknown"),
        }
    }

    fn write_port_control(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(PortControl { pcp, nat_pmp, upnp, external_address }) = self.port_control else {
            return Ok(());
        };
        let spoken = [("PCP", pcp), ("NAT-PMP", nat_pmp), ("UPnP", upnp)];
        let spoken: Vec<_> =
            spoken.into_iter().filter_map(|(name, is)| is.then_some(name)).collect();
        if spoken.is_empty() {
            line(f, "Ports", "the router takes no orders: neither PCP, NAT-PMP nor UPnP")?;
        } else {
            line(f, "Ports", format_args!("the router takes orders: {}", spoken.join(", ")))?;
        }
        match external_address {
            Some(address) => line(f, "", format_args!("it says that its own address is {address}")),
            None => Ok(()),
        }
    }

    fn write_udp(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report.udp;
        if !report.reachable {
            return line(f, "UDP", "no STUN server answered");
        }
        if let Some(address) = report.public_address {
            line(f, "UDP", format_args!("the outside sees {address}"))?;
        }
        match report.mapping {
            Some(mapping) => line(f, "", mapping)?,
            None => line(f, "", "no server could tell what the external port depends on")?,
        }
        match (report.filtering, self.classic) {
            (Some(filtering), Some(classic)) => {
                line(f, "", format_args!("{filtering} (RFC 3489: {classic})"))?;
            }
            (Some(filtering), None) => line(f, "", filtering)?,
            (None, _) => {}
        }
        if let Some(ports) = self.udp_ports {
            line(f, "", ports)?;
        }
        match report.hairpin {
            Some(true) => line(f, "", "this host reaches itself through its external address"),
            Some(false) => {
                line(f, "", "this host does not reach itself through its external address")
            }
            None => Ok(()),
        }
    }

    fn write_tcp(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report.tcp;
        if !report.reachable {
            return line(f, "TCP", "no STUN server answered");
        }
        if let Some(address) = report.public_address {
            line(f, "TCP", format_args!("the outside sees {address}"))?;
        }
        match report.mapping {
            Some(mapping) => line(f, "", mapping)?,
            None => line(f, "", "no server could tell what the external port depends on")?,
        }
        if let Some(ports) = self.tcp_ports {
            line(f, "", ports)?;
        }
        match report.new_port_each_connection {
            Some(true) => line(
                f,
                "",
                "and another one for a second connection between the same ends, once an RST has ended the first",
            )?,
            Some(false) => {
                line(f, "", "the same one again for a second connection between the same ends")?;
            }
            None => {}
        }
        if let Some(ttl) = self.opener_ttl {
            line(f, "", format_args!("a packet with a TTL of {ttl} opens the outermost NAT"))?;
        }
        match self.reached_after_rst {
            Some(true) => line(f, "", "who refused a connection can still connect back")?,
            Some(false) => line(f, "", "who refused a connection cannot connect back")?,
            None => {}
        }
        write_inbound(f, report)?;
        write_after(f, report)?;
        write_numbers(f, report)?;
        write_timers(f, report)
    }
}

/// What becomes of a SYN that comes in after something else did.
fn write_after(f: &mut fmt::Formatter<'_>, report: &TcpReport) -> fmt::Result {
    use InboundSynAfterSyn as Fate;
    let cases = [
        (report.inbound_syn_after_rst, "an RST came in"),
        (report.inbound_syn_after_icmp, "the first died on the way"),
    ];
    for (fate, after) in cases {
        match fate {
            Some(Fate::Accepted) => line(f, "", format_args!("likewise after {after}"))?,
            Some(Fate::Dropped | Fate::Rst) => line(f, "", format_args!("but not after {after}"))?,
            Some(Fate::Unknown) | None => {}
        }
    }
    match report.mid_stream {
        Some(MidStream::PickedUp) => {
            line(f, "", "a connection may begin in the middle, without a SYN")?;
        }
        Some(MidStream::Dropped) => line(f, "", "a connection may not begin without a SYN")?,
        None => {}
    }
    match report.syn_ack_after_syn {
        Some(OutboundSynAck::Passed) => line(f, "", "a SYN-ACK may go out after a SYN"),
        Some(OutboundSynAck::Dropped) => line(f, "", "a SYN-ACK does not go out after a SYN"),
        None => Ok(()),
    }
}

/// What the outside sees of a SYN.
fn write_numbers(f: &mut fmt::Formatter<'_>, report: &TcpReport) -> fmt::Result {
    match report.isn {
        Some(InitialSequence::Preserved) => line(f, "", "sequence numbers pass unchanged")?,
        Some(InitialSequence::Rewritten) => line(f, "", "sequence numbers are rewritten")?,
        None if report.isn_follows_clock == Some(true) => {
            line(f, "", "sequence numbers are not rewritten anew for each connection")?;
        }
        None => {}
    }
    let Some(syn) = report.syn else { return Ok(()) };
    let options = [("SACK", syn.sack), ("timestamps", syn.timestamps)];
    let options = options.into_iter().filter(|(_, is_there)| *is_there);
    let options = options.map(|(name, _)| name.to_owned());
    let mss = syn.mss.map(|size| format!("segments of {size} bytes"));
    let scale = syn.window_scale.map(|scale| format!("window scale {scale}"));
    let seen: Vec<String> = mss.into_iter().chain(scale).chain(options).collect();
    line(f, "", format_args!("a SYN arrives with TTL {}: {}", syn.ttl, seen.join(", ")))
}

/// How long things live, as far as it was measured.
fn write_timers(f: &mut fmt::Formatter<'_>, report: &TcpReport) -> fmt::Result {
    if let Some(seconds) = report.hole_s {
        line(f, "", format_args!("a hole that a SYN made stays open for {seconds} s or more"))?;
    }
    match report.lifetime_s {
        Some(seconds) => {
            line(f, "", format_args!("an idle connection lives for {seconds} s or more"))
        }
        None => Ok(()),
    }
}

/// What becomes of TCP connections that come in.
fn write_inbound(f: &mut fmt::Formatter<'_>, report: &TcpReport) -> fmt::Result {
    if let Some(filtering) = report.filtering {
        line(f, "", filtering)?;
    }
    if let Some(unsolicited) = report.unsolicited_syn {
        line(f, "", unsolicited)?;
    }
    if let Some(crossing) = report.inbound_syn_after_syn {
        line(f, "", crossing)?;
    }
    match report.hairpin {
        Some(true) => line(f, "", "this host reaches itself through its external address"),
        Some(false) => line(f, "", "this host does not reach itself through its external address"),
        None => Ok(()),
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_nat(f)?;
        self.write_udp(f)?;
        self.write_tcp(f)?;
        self.write_port_control(f)?;
        writeln!(f, "\nWhat it means")?;
        for advice in &self.advice {
            writeln!(f, "  {advice}")?;
        }
        writeln!(f, "\nWhat was seen")?;
        for evidence in &self.evidence {
            writeln!(f, "  {evidence}")?;
        }
        Ok(())
    }
}
