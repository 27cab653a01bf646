//! Forwarding by the longest prefix; routers spend TTL, switches do not.

use std::net::IpAddr;

use crate::packet::{self, IcmpError, Packet};

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    ip: IpAddr,
    length: u8,
}

impl Prefix {
    /// The addresses that begin with the first `length` bits of `ip`.
    pub fn new(ip: IpAddr, length: u8) -> Self {
        Self { ip, length }
    }

    /// One address.
    pub fn host(ip: IpAddr) -> Self {
        Self { ip, length: if ip.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether `ip` is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let cut = |bits: u128, width: u8| {
            bits.checked_shr(u32::from(width.saturating_sub(self.length))).unwrap_or_default()
        };
        match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                cut(u32::from(own).into(), 32) == cut(u32::from(ip).into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => cut(own.into(), 128) == cut(ip.into(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// What a forwarder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A switch: invisible on the path.
    Switch,
    /// A router; the address its ICMP errors come from.
    Router(Vec<IpAddr>),
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Forwarding {
    /// It leaves through this port.
    To(usize, Vec<u8>),
    /// It is dropped, and this goes back to where it came from.
    Answer(Vec<u8>, &'static str),
    /// It is dropped.
    Drop(&'static str),
}

/// A router or a switch.
#[derive(Debug, Clone)]
pub(super) struct Forwarder {
    pub(super) kind: Kind,
    routes: Vec<(Prefix, usize)>,
    default: Option<usize>,
    /// Sources that may come in through a port; any, where nothing is said.
    sources: Vec<(usize, Prefix)>,
}

impl Forwarder {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, routes: Vec::new(), default: None, sources: Vec::new() }
    }

    pub(super) fn add_route(&mut self, prefix: Prefix, port: usize) {
        self.routes.push((prefix, port));
    }

    pub(super) fn set_default(&mut self, port: usize) {
        self.default = Some(port);
    }

    /// Drops what comes in through `port` from any other source than the prefixes named so (BCP 38).
    pub(super) fn restrict_sources(&mut self, port: usize, prefix: Prefix) {
        self.sources.push((port, prefix));
    }

    /// Lets any source in again.
    pub(super) fn allow_all_sources(&mut self, port: usize) {
        self.sources.retain(|(other, _)| *other != port);
    }

    pub(super) fn forward(&self, bytes: &[u8], from: usize) -> Forwarding {
        let Ok(mut packet) = Packet::parse(bytes) else {
            return Forwarding::Drop("malformed");
        };
        let mut allowed = self.sources.iter().filter(|(port, _)| *port == from).peekable();
        let source = packet.source_ip();
        if allowed.peek().is_some() && !allowed.any(|(_, prefix)| prefix.contains(source)) {
            return Forwarding::Drop("foreign source address");
        }
        let destination = packet.destination_ip();
        let Some(port) = self.route(destination).filter(|port| *port != from) else {
            return self.refuse(&packet, IcmpError::HostUnreachable, "no route");
        };
        if matches!(self.kind, Kind::Router(_)) {
            if packet.ttl() <= 1 {
                return self.refuse(&packet, IcmpError::TimeExceeded, "TTL expired");
            }
            packet.set_ttl(packet.ttl() - 1);
        }
        Forwarding::To(port, packet.seal())
    }

    fn route(&self, destination: IpAddr) -> Option<usize> {
        self.routes
            .iter()
            .filter(|(prefix, _)| prefix.contains(destination))
            .max_by_key(|(prefix, _)| prefix.length)
            .map(|(_, port)| *port)
            .or(self.default)
    }

    fn refuse(&self, packet: &Packet, error: IcmpError, why: &'static str) -> Forwarding {
        let Kind::Router(addresses) = &self.kind else { return Forwarding::Drop(why) };
        addresses
            .iter()
            .find_map(|ip| packet::icmp_error(*ip, packet, error))
            .map_or(Forwarding::Drop(why), |answer| Forwarding::Answer(answer, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_hold_what_they_should() {
        let net = |text: &str, length| Prefix::new(text.parse().unwrap(), length);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(net("198.51.100.16", 28).contains(ip("198.51.100.31")));
        assert!(!net("198.51.100.16", 28).contains(ip("198.51.100.32")));
        assert!(net("0.0.0.0", 0).contains(ip("1.2.3.4")));
        assert!(!net("0.0.0.0", 0).contains(ip("::1")));
        assert!(net("2001:db8:1::", 48).contains(ip("2001:db8:1:2::3")));
        assert!(!Prefix::host(ip("2001:db8::1")).contains(ip("2001:db8::2")));
    }
}
