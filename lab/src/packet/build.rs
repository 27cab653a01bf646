//! Packets from their fields, and checksums (RFC 1071).

use std::net::{IpAddr, SocketAddr};

use super::{Packet, Protocol, flag, number};

/// A TCP segment to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Sender.
    pub source: SocketAddr,
    /// Receiver, of the same family.
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Control bits, see [`flag`].
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// Data.
    pub payload: Vec<u8>,
}

impl Segment {
    /// A SYN with TTL 64.
    pub fn syn(source: SocketAddr, destination: SocketAddr, sequence: u32) -> Self {
        let (ttl, payload) = (64, Vec::new());
        Self { source, destination, ttl, flags: flag::SYN, sequence, acknowledgment: 0, payload }
    }
}

/// The packet of a TCP segment without options.
///
/// # Panics
///
/// If the two ends are of different families.
pub fn tcp(segment: &Segment) -> Vec<u8> {
    /// Enough for anything a test sends.
    const WINDOW: u16 = 64_240;
    let mut body = Vec::with_capacity(20 + segment.payload.len());
    body.extend_from_slice(&segment.source.port().to_be_bytes());
    body.extend_from_slice(&segment.destination.port().to_be_bytes());
    body.extend_from_slice(&segment.sequence.to_be_bytes());
    body.extend_from_slice(&segment.acknowledgment.to_be_bytes());
    body.extend_from_slice(&[5 << 4, segment.flags]);
    body.extend_from_slice(&WINDOW.to_be_bytes());
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(&segment.payload);
    ip(segment.source.ip(), segment.destination.ip(), segment.ttl, Protocol::Tcp, &body)
}

/// The RST that refuses a segment (RFC 9293 section 3.10.7.1); none refuses a RST.
pub fn refuse(segment: &Packet) -> Option<Vec<u8>> {
    let fields = segment.tcp().filter(|fields| !fields.has(flag::RST))?;
    let (flags, sequence, acknowledgment) = if fields.has(flag::ACK) {
        (flag::RST, fields.acknowledgment, 0)
    } else {
        (flag::RST | flag::ACK, 0, fields.sequence.wrapping_add(fields.length()))
    };
    Some(tcp(&Segment {
        source: segment.destination()?,
        destination: segment.source()?,
        ttl: 64,
        flags,
        sequence,
        acknowledgment,
        payload: Vec::new(),
    }))
}

/// The packet of a UDP datagram.
///
/// # Panics
///
/// If the two ends are of different families, or the payload does not fit into a packet.
pub fn udp(source: SocketAddr, destination: SocketAddr, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("a datagram is shorter than 64 KiB");
    let mut body = Vec::with_capacity(usize::from(length));
    body.extend_from_slice(&source.port().to_be_bytes());
    body.extend_from_slice(&destination.port().to_be_bytes());
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(&[0; 2]);
    body.extend_from_slice(payload);
    ip(source.ip(), destination.ip(), ttl, Protocol::Udp, &body)
}

/// An IP packet around `body`, sealed.
pub(super) fn ip(
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    protocol: Protocol,
    body: &[u8],
) -> Vec<u8> {
    let v4 = source.is_ipv4();
    let next = match protocol {
        Protocol::Tcp => number::TCP,
        Protocol::Udp => number::UDP,
        Protocol::Icmp if v4 => number::ICMP,
        Protocol::Icmp => number::ICMPV6,
        Protocol::Other(number) => number,
    };
    let too_long = "a packet is shorter than 64 KiB";
    let mut bytes = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = u16::try_from(20 + body.len()).expect(too_long).to_be_bytes();
            // Don't-fragment set, as Linux does.
            let mut bytes = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, ttl, next, 0, 0];
            bytes.extend_from_slice(&source.octets());
            bytes.extend_from_slice(&destination.octets());
            bytes
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = u16::try_from(body.len()).expect(too_long).to_be_bytes();
            let mut bytes = vec![0x60, 0, 0, 0, length[0], length[1], next, ttl];
            bytes.extend_from_slice(&source.octets());
            bytes.extend_from_slice(&destination.octets());
            bytes
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("both ends of a packet are of one family")
        }
    };
    let header = bytes.len();
    bytes.extend_from_slice(body);
    fill_checksums(&mut bytes, header, protocol);
    bytes
}

/// Computes the checksums of a packet whose lengths were checked.
pub(super) fn fill_checksums(bytes: &mut [u8], header: usize, protocol: Protocol) {
    let v4 = bytes[0] >> 4 == 4;
    if v4 {
        bytes[10..12].fill(0);
        let sum = checksum(0, &bytes[..header]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let (at, number) = match protocol {
        Protocol::Tcp => (16, number::TCP),
        Protocol::Udp => (6, number::UDP),
        Protocol::Icmp => (2, number::ICMPV6),
        Protocol::Other(_) => return,
    };
    let addresses = if v4 { &bytes[12..20] } else { &bytes[8..40] };
    // A datagram may be shorter than its packet; its own length counts (RFC 768).
    let length = match protocol {
        Protocol::Udp => usize::from(u16::from_be_bytes([bytes[header + 4], bytes[header + 5]])),
        Protocol::Tcp | Protocol::Icmp | Protocol::Other(_) => bytes.len() - header,
    };
    let plain_icmp = v4 && protocol == Protocol::Icmp;
    let pseudo_header =
        if plain_icmp { 0 } else { sum(length as u32 + u32::from(number), addresses) };
    let field = header + at;
    bytes[field..field + 2].fill(0);
    let mut value = checksum(pseudo_header, &bytes[header..header + length]);
    // A UDP checksum of zero means "none" and is sent as all ones (RFC 768).
    if protocol == Protocol::Udp && value == 0 {
        value = 0xffff;
    }
    bytes[field..field + 2].copy_from_slice(&value.to_be_bytes());
}

/// `initial` plus the 16-bit words of `bytes`.
fn sum(initial: u32, bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
    });
    // 64 KiB of words of 16 bits cannot overflow 32 bits.
    initial + words.sum::<u32>()
}

/// The internet checksum, RFC 1071 section 1.
pub(super) fn checksum(initial: u32, bytes: &[u8]) -> u16 {
    let mut total = sum(initial, bytes);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// A checksum adjusted for a changed word (RFC 1624 section 3).
pub(super) fn adjust(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let mut total = u32::from(!checksum);
    for (old, new) in old.chunks_exact(2).zip(new.chunks_exact(2)) {
        total += u32::from(!u16::from_be_bytes([old[0], old[1]]));
        total += u32::from(u16::from_be_bytes([new[0], new[1]]));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}
