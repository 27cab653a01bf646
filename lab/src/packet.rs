//! One IP packet as bytes, with the fields that routers, NATs and traces look at.
//!
//! [`Packet::parse`] checks every length once; all getters and setters after it are total. A packet
//! is edited in place and then [`Packet::seal`]ed: checksums are computed anew rather than adjusted,
//! because a kernel with checksum offload hands out packets whose checksums were never filled in.
//!
//! IPv4 (RFC 791) and IPv6 without extension headers (RFC 8200); TCP (RFC 9293), UDP (RFC 768),
//! ICMP (RFC 792) and ICMPv6 (RFC 4443). Fragments and other protocols are recognised, not opened.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ntcp_proto::segment::Timestamps;

mod build;
mod icmp;
mod segment;
#[cfg(test)]
mod tests;

pub use build::{Segment, refuse, tcp, udp};
pub use icmp::{IcmpError, icmp_error};

/// IP protocol numbers (IANA).
mod number {
    pub(super) const ICMP: u8 = 1;
    pub(super) const TCP: u8 = 6;
    pub(super) const UDP: u8 = 17;
    pub(super) const ICMPV6: u8 = 58;
}

/// TCP control bits, RFC 9293 section 3.1.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push function.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field is significant.
    pub const ACK: u8 = 0x10;
}

/// Why bytes are not a packet that anybody here can handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// Lengths that contradict each other, or an unknown IP version.
    Malformed,
    /// A fragment of a larger packet.
    Fragment,
}

/// What follows the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6, by the packet's family.
    Icmp,
    /// Anything else.
    Other(u8),
}

/// The fixed fields of a TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFields {
    /// Control bits, see [`flag`].
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number; meaningful with [`flag::ACK`].
    pub acknowledgment: u32,
    /// Window, unscaled.
    pub window: u16,
    /// Bytes of data.
    pub payload: usize,
}

impl TcpFields {
    /// All of these control bits are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// SYN without ACK: the first segment of a connection.
    pub fn is_syn(&self) -> bool {
        self.flags & (flag::SYN | flag::ACK | flag::RST | flag::FIN) == flag::SYN
    }

    /// How much of the sequence space the segment takes.
    pub fn length(&self) -> u32 {
        // A segment is shorter than 64 KiB, so that the conversion cannot fail.
        let data = u32::try_from(self.payload).unwrap_or(u32::MAX);
        data + u32::from(self.has(flag::SYN)) + u32::from(self.has(flag::FIN))
    }
}

/// An IP packet whose lengths have been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    bytes: Vec<u8>,
    header: usize,
    protocol: Protocol,
}

impl Packet {
    /// Checks `bytes`; what follows the IP length is cut off.
    ///
    /// # Errors
    ///
    /// Lengths that do not fit, unknown versions and fragments.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let (header, total, number) = match bytes.first().map(|byte| byte >> 4) {
            Some(4) => Self::measure_v4(bytes)?,
            Some(6) => Self::measure_v6(bytes)?,
            _ => return Err(ParseError::Malformed),
        };
        let v4 = bytes[0] >> 4 == 4;
        let protocol = match number {
            number::TCP => Protocol::Tcp,
            number::UDP => Protocol::Udp,
            number::ICMP if v4 => Protocol::Icmp,
            number::ICMPV6 if !v4 => Protocol::Icmp,
            other => Protocol::Other(other),
        };
        let packet = Self { bytes: bytes[..total].to_vec(), header, protocol };
        packet.check_transport()?;
        Ok(packet)
    }

    fn measure_v4(bytes: &[u8]) -> Result<(usize, usize, u8), ParseError> {
        if bytes.len() < 20 {
            return Err(ParseError::Malformed);
        }
        let header = usize::from(bytes[0] & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        if header < 20 || total < header || bytes.len() < total {
            return Err(ParseError::Malformed);
        }
        // More-fragments bit or an offset, RFC 791 section 3.1.
        if u16::from_be_bytes([bytes[6], bytes[7]]) & 0x3fff != 0 {
            return Err(ParseError::Fragment);
        }
        Ok((header, total, bytes[9]))
    }

    fn measure_v6(bytes: &[u8]) -> Result<(usize, usize, u8), ParseError> {
        /// Next-header value of a fragment, RFC 8200 section 4.5.
        const FRAGMENT: u8 = 44;
        if bytes.len() < 40 {
            return Err(ParseError::Malformed);
        }
        let total = 40 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        if bytes.len() < total {
            return Err(ParseError::Malformed);
        }
        if bytes[6] == FRAGMENT {
            return Err(ParseError::Fragment);
        }
        Ok((40, total, bytes[6]))
    }

    fn check_transport(&self) -> Result<(), ParseError> {
        let body = self.body();
        let fits = match self.protocol {
            Protocol::Tcp => {
                body.len() >= 20 && {
                    let offset = usize::from(body[12] >> 4) * 4;
                    offset >= 20 && offset <= body.len()
                }
            }
            Protocol::Udp => {
                body.len() >= 8 && {
                    let length = usize::from(u16::from_be_bytes([body[4], body[5]]));
                    length >= 8 && length <= body.len()
                }
            }
            Protocol::Icmp => body.len() >= 8,
            Protocol::Other(_) => true,
        };
        if fits { Ok(()) } else { Err(ParseError::Malformed) }
    }

    /// The packet's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The packet's bytes with every checksum computed anew.
    pub fn seal(mut self) -> Vec<u8> {
        build::fill_checksums(&mut self.bytes, self.header, self.protocol);
        self.bytes
    }

    /// The protocol it carries.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether it is an IPv4 packet.
    pub fn is_v4(&self) -> bool {
        self.bytes[0] >> 4 == 4
    }

    /// Everything after the IP header.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.header..]
    }

    fn body_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.header..]
    }

    /// Source address.
    pub fn source_ip(&self) -> IpAddr {
        if self.is_v4() { read_v4(&self.bytes[12..16]) } else { read_v6(&self.bytes[8..24]) }
    }

    /// Destination address.
    pub fn destination_ip(&self) -> IpAddr {
        if self.is_v4() { read_v4(&self.bytes[16..20]) } else { read_v6(&self.bytes[24..40]) }
    }

    /// Source address and port, of TCP and UDP.
    pub fn source(&self) -> Option<SocketAddr> {
        self.ports().map(|(source, _)| SocketAddr::new(self.source_ip(), source))
    }

    /// Destination address and port, of TCP and UDP.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.ports().map(|(_, destination)| SocketAddr::new(self.destination_ip(), destination))
    }

    fn ports(&self) -> Option<(u16, u16)> {
        match self.protocol {
            Protocol::Tcp | Protocol::Udp => {
                let body = self.body();
                Some((
                    u16::from_be_bytes([body[0], body[1]]),
                    u16::from_be_bytes([body[2], body[3]]),
                ))
            }
            Protocol::Icmp | Protocol::Other(_) => None,
        }
    }

    /// Replaces the source address; an address of the other family is ignored.
    pub fn set_source_ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) if self.is_v4() => self.bytes[12..16].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) if !self.is_v4() => self.bytes[8..24].copy_from_slice(&ip.octets()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
    }

    /// Replaces the destination address; an address of the other family is ignored.
    pub fn set_destination_ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) if self.is_v4() => self.bytes[16..20].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) if !self.is_v4() => self.bytes[24..40].copy_from_slice(&ip.octets()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
    }

    /// Replaces source address and port.
    pub fn set_source(&mut self, source: SocketAddr) {
        self.set_source_ip(source.ip());
        if self.ports().is_some() {
            self.body_mut()[0..2].copy_from_slice(&source.port().to_be_bytes());
        }
    }

    /// Replaces destination address and port.
    pub fn set_destination(&mut self, destination: SocketAddr) {
        self.set_destination_ip(destination.ip());
        if self.ports().is_some() {
            self.body_mut()[2..4].copy_from_slice(&destination.port().to_be_bytes());
        }
    }

    /// TTL or hop limit.
    pub fn ttl(&self) -> u8 {
        if self.is_v4() { self.bytes[8] } else { self.bytes[7] }
    }

    /// Replaces TTL or hop limit.
    pub fn set_ttl(&mut self, ttl: u8) {
        let at = if self.is_v4() { 8 } else { 7 };
        self.bytes[at] = ttl;
    }

    /// The fields of a TCP segment.
    pub fn tcp(&self) -> Option<TcpFields> {
        if self.protocol != Protocol::Tcp {
            return None;
        }
        let body = self.body();
        Some(TcpFields {
            flags: body[13],
            sequence: read_u32(&body[4..8]),
            acknowledgment: read_u32(&body[8..12]),
            window: u16::from_be_bytes([body[14], body[15]]),
            payload: body.len() - self.tcp_header(),
        })
    }

    fn tcp_header(&self) -> usize {
        usize::from(self.body()[12] >> 4) * 4
    }

    /// The window scale a SYN offers (RFC 7323 section 2.2).
    pub fn window_scale(&self) -> Option<u8> {
        const WINDOW_SCALE: u8 = 3;
        self.option_range(WINDOW_SCALE, 3).map(|range| self.body()[range.start + 2].min(14))
    }

    /// Moves the sequence number by `offset`.
    pub(crate) fn shift_sequence(&mut self, offset: u32) {
        if self.protocol == Protocol::Tcp {
            shift(&mut self.body_mut()[4..8], offset);
        }
    }

    /// Moves the acknowledgment number and the edges of SACK blocks (RFC 2018 section 3) by
    /// `offset`.
    pub(crate) fn shift_acknowledgment(&mut self, offset: u32) {
        const SACK: u8 = 5;
        let Some(fields) = self.tcp() else { return };
        if !fields.has(flag::ACK) {
            return;
        }
        shift(&mut self.body_mut()[8..12], offset);
        if let Some(range) = self.option_range(SACK, 2) {
            for edge in self.body_mut()[range.start + 2..range.end].chunks_exact_mut(4) {
                shift(edge, offset);
            }
        }
    }

    /// Tells the window in units of `scale`; a SYN's is never scaled (RFC 7323 section 2.2).
    pub(crate) fn scale_window(&mut self, scale: u8) {
        let Some(fields) = self.tcp().filter(|fields| !fields.has(flag::SYN)) else { return };
        self.body_mut()[14..16].copy_from_slice(&(fields.window >> scale).to_be_bytes());
    }

    /// Adds the timestamps option (RFC 7323 section 3) to the others, if there is room.
    pub(crate) fn add_timestamps(&mut self, timestamps: Timestamps) {
        const NO_OPERATION: u8 = 1;
        const KIND: u8 = 8;
        /// With two bytes that fill the words.
        const LENGTH: u8 = 12;
        /// What a header may be long (RFC 9293 section 3.1).
        const LONGEST: usize = 60;
        let header = self.tcp_header();
        if self.protocol != Protocol::Tcp || header + usize::from(LENGTH) > LONGEST {
            return;
        }
        // Before the others: what follows the end of the list is not read.
        let at = self.header + 20;
        let mut option = vec![NO_OPERATION, NO_OPERATION, KIND, LENGTH - 2];
        option.extend(timestamps.value.to_be_bytes());
        option.extend(timestamps.echo.to_be_bytes());
        self.bytes.splice(at..at, option);
        self.body_mut()[12] += (LENGTH / 4) << 4;
        // Total length in IPv4, payload length in IPv6.
        let field = if self.is_v4() { 2 } else { 4 };
        let old = u16::from_be_bytes([self.bytes[field], self.bytes[field + 1]]);
        let length = old.saturating_add(LENGTH.into());
        self.bytes[field..field + 2].copy_from_slice(&length.to_be_bytes());
    }

    /// Turns a SYN-ACK into the ACK it contains: the SYN's number is spent, and the window is told
    /// in units of `scale`.
    pub(crate) fn make_plain_ack(&mut self, scale: u8) {
        let Some(fields) = self.tcp() else { return };
        self.shift_sequence(1);
        let body = self.body_mut();
        body[13] = flag::ACK;
        body[14..16].copy_from_slice(&(fields.window >> scale).to_be_bytes());
    }

    /// Where the TCP option `kind` of at least `least` bytes lies in the body.
    fn option_range(&self, kind: u8, least: usize) -> Option<std::ops::Range<usize>> {
        const END: u8 = 0;
        const NO_OPERATION: u8 = 1;
        if self.protocol != Protocol::Tcp {
            return None;
        }
        let (body, end) = (self.body(), self.tcp_header());
        let mut at = 20;
        while at < end {
            match body[at] {
                END => return None,
                NO_OPERATION => at += 1,
                found => {
                    let length = usize::from(*body.get(at + 1)?);
                    if length < 2 || at + length > end {
                        return None;
                    }
                    if found == kind && length >= least {
                        return Some(at..at + length);
                    }
                    at += length;
                }
            }
        }
        None
    }

    /// The data of a UDP datagram or of a TCP segment.
    pub fn payload(&self) -> &[u8] {
        let body = self.body();
        match self.protocol {
            Protocol::Tcp => &body[self.tcp_header()..],
            Protocol::Udp => &body[8..usize::from(u16::from_be_bytes([body[4], body[5]]))],
            Protocol::Icmp | Protocol::Other(_) => body,
        }
    }
}

fn read_v4(bytes: &[u8]) -> IpAddr {
    let mut octets = [0; 4];
    octets.copy_from_slice(bytes);
    Ipv4Addr::from(octets).into()
}

fn read_v6(bytes: &[u8]) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(bytes);
    Ipv6Addr::from(octets).into()
}

fn read_u32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn shift(bytes: &mut [u8], offset: u32) {
    let moved = read_u32(bytes).wrapping_add(offset);
    bytes.copy_from_slice(&moved.to_be_bytes());
}
