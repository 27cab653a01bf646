//! The verdicts in words for people, and the whole of the findings as a page of them.

use std::fmt;

use super::findings::Findings;
use super::ports::PortPattern;
use crate::nat::{Filtering, InboundSynAfterSyn, Mapping, TcpReport, UnsolicitedSyn};

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
        if self.new_port_each_connection == Some(true) {
            line(f, "", "a new connection to the same end comes from another port")?;
        }
        if let Some(ttl) = self.opener_ttl {
            line(f, "", format_args!("a packet with a TTL of {ttl} opens the outermost NAT"))?;
        }
        match self.reached_after_rst {
            Some(true) => line(f, "", "who refused a connection can still connect back")?,
            Some(false) => line(f, "", "who refused a connection cannot connect back")?,
            None => {}
        }
        write_inbound(f, report)
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
