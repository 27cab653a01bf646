//! ICMP errors: building one, and opening one to find whose packet it complains about.
//!
//! An error quotes the IP header and at least the first eight bytes of the packet that caused it
//! (RFC 792; RFC 4443 section 2.4), which hold the ports and, for TCP, the sequence number. NATs
//! translate that quotation as well (RFC 5508 section 4).

use std::net::{IpAddr, SocketAddr};

use super::build::{adjust, checksum, ip};
use super::{Packet, Protocol, number, read_u32, read_v4, read_v6, shift};

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IcmpError {
    /// The TTL ran out on the way (type 11 code 0; ICMPv6 type 3 code 0).
    TimeExceeded,
    /// No such host or network (type 3 code 1; ICMPv6 type 1 code 3).
    HostUnreachable,
    /// Nobody listens there (type 3 code 3; ICMPv6 type 1 code 4).
    PortUnreachable,
    /// A firewall forbids it (type 3 code 13; ICMPv6 type 1 code 1).
    AdminProhibited,
    /// Any other error.
    Other {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
    },
}

impl IcmpError {
    fn type_and_code(self, v4: bool) -> (u8, u8) {
        match (self, v4) {
            (Self::TimeExceeded, true) => (11, 0),
            (Self::HostUnreachable, true) => (3, 1),
            (Self::PortUnreachable, true) => (3, 3),
            (Self::AdminProhibited, true) => (3, 13),
            (Self::TimeExceeded, false) => (3, 0),
            (Self::HostUnreachable, false) => (1, 3),
            (Self::PortUnreachable, false) => (1, 4),
            (Self::AdminProhibited, false) => (1, 1),
            (Self::Other { kind, code }, _) => (kind, code),
        }
    }

    /// The error of an ICMP type and code; `None` for messages that are not errors.
    fn of(kind: u8, code: u8, v4: bool) -> Option<Self> {
        let is_error = if v4 { matches!(kind, 3 | 4 | 5 | 11 | 12) } else { kind < 128 };
        let known = [
            Self::TimeExceeded,
            Self::HostUnreachable,
            Self::PortUnreachable,
            Self::AdminProhibited,
        ];
        let same = |error: &Self| error.type_and_code(v4) == (kind, code);
        is_error.then(|| known.into_iter().find(same).unwrap_or(Self::Other { kind, code }))
    }
}

/// The packet an ICMP error quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotation {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Who sent the quoted packet.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// The TTL it had left.
    pub ttl: u8,
    /// Its sequence number, if it was TCP.
    pub sequence: Option<u32>,
}

/// Where the parts of a quotation lie in the body of the ICMP packet.
struct Layout {
    protocol: Protocol,
    v4: bool,
    transport: usize,
}

/// Bytes of ICMP header before the quotation.
const HEADER: usize = 8;

impl Packet {
    /// What this ICMP error says, and of which TCP or UDP packet; `None` for everything else.
    pub fn icmp(&self) -> Option<(IcmpError, Quotation)> {
        let layout = self.quotation_layout()?;
        let error = IcmpError::of(self.body()[0], self.body()[1], self.is_v4())?;
        let quoted = &self.body()[HEADER..];
        let transport = &self.body()[layout.transport..];
        let (source, destination): (IpAddr, IpAddr) = if layout.v4 {
            (read_v4(&quoted[12..16]), read_v4(&quoted[16..20]))
        } else {
            (read_v6(&quoted[8..24]), read_v6(&quoted[24..40]))
        };
        let port = |at: usize| u16::from_be_bytes([transport[at], transport[at + 1]]);
        let quotation = Quotation {
            protocol: layout.protocol,
            source: SocketAddr::new(source, port(0)),
            destination: SocketAddr::new(destination, port(2)),
            ttl: if layout.v4 { quoted[8] } else { quoted[7] },
            sequence: (layout.protocol == Protocol::Tcp).then(|| read_u32(&transport[4..8])),
        };
        Some((error, quotation))
    }

    fn quotation_layout(&self) -> Option<Layout> {
        if self.protocol() != Protocol::Icmp {
            return None;
        }
        let quoted = self.body().get(HEADER..)?;
        let v4 = quoted.first()? >> 4 == 4;
        let (header, next) = if v4 {
            (usize::from(quoted[0] & 0x0f) * 4, *quoted.get(9)?)
        } else {
            (40, *quoted.get(6)?)
        };
        let protocol = match next {
            number::TCP => Protocol::Tcp,
            number::UDP => Protocol::Udp,
            _ => return None,
        };
        let fits = v4 == self.is_v4() && header >= 20 && quoted.len() >= header + 8;
        fits.then_some(Layout { protocol, v4, transport: HEADER + header })
    }

    /// Replaces the quoted packet's source, and moves its sequence number by `sequence_offset`.
    pub(crate) fn set_quoted_source(&mut self, source: SocketAddr, sequence_offset: u32) {
        if let Some(layout) = self.quotation_layout() {
            let (ip_at, length) = if layout.v4 { (12, 4) } else { (8, 16) };
            self.replace_quoted(&layout, ip_at, length, layout.transport, source);
            if layout.protocol == Protocol::Tcp {
                let at = layout.transport + 4;
                shift(&mut self.body_mut()[at..at + 4], sequence_offset);
            }
        }
    }

    /// Replaces the quoted packet's destination.
    pub(crate) fn set_quoted_destination(&mut self, destination: SocketAddr) {
        if let Some(layout) = self.quotation_layout() {
            let (ip_at, length) = if layout.v4 { (16, 4) } else { (24, 16) };
            self.replace_quoted(&layout, ip_at, length, layout.transport + 2, destination);
        }
    }

    fn replace_quoted(
        &mut self,
        layout: &Layout,
        ip_at: usize,
        length: usize,
        port_at: usize,
        end: SocketAddr,
    ) {
        let address: Vec<u8> = match end.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        if address.len() != length {
            return;
        }
        let ip_at = HEADER + ip_at;
        let body = self.body_mut();
        let mut old = body[ip_at..ip_at + length].to_vec();
        old.extend_from_slice(&body[port_at..port_at + 2]);
        body[ip_at..ip_at + length].copy_from_slice(&address);
        body[port_at..port_at + 2].copy_from_slice(&end.port().to_be_bytes());
        let new = [&address[..], &end.port().to_be_bytes()].concat();
        if layout.v4 {
            body[HEADER + 10..HEADER + 12].fill(0);
            let sum = checksum(0, &body[HEADER..layout.transport]);
            body[HEADER + 10..HEADER + 12].copy_from_slice(&sum.to_be_bytes());
        }
        // A quoted datagram's checksum is within the eight bytes, a segment's is not.
        if layout.protocol == Protocol::Udp {
            let at = layout.transport + 6;
            let field = u16::from_be_bytes([body[at], body[at + 1]]);
            if field != 0 {
                body[at..at + 2].copy_from_slice(&adjust(field, &old, &new).to_be_bytes());
            }
        }
    }
}

/// The packet with which a box at `from` complains about `cause` to its sender.
///
/// Nothing for a cause that is itself an ICMP error (RFC 1122 section 3.2.2) or of another family
/// than `from`.
pub fn icmp_error(from: IpAddr, cause: &Packet, error: IcmpError) -> Option<Vec<u8>> {
    /// A quotation never makes the error longer than this: RFC 1812 section 4.3.2.3.
    const LONGEST: usize = 548;
    let v4 = cause.is_v4();
    let about_error = cause.protocol() == Protocol::Icmp
        && IcmpError::of(cause.body()[0], cause.body()[1], v4).is_some();
    if from.is_ipv4() != v4 || about_error {
        return None;
    }
    let (kind, code) = error.type_and_code(v4);
    let mut body = vec![kind, code, 0, 0, 0, 0, 0, 0];
    let quoted = cause.as_bytes();
    body.extend_from_slice(&quoted[..quoted.len().min(LONGEST)]);
    Some(ip(from, cause.source_ip(), 64, Protocol::Icmp, &body))
}
