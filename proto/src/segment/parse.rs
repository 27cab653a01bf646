//! A segment from the bytes of a packet.

use std::net::SocketAddr;

use pnet_packet::tcp::TcpPacket;

use super::ip::TcpInIp;
use super::{Options, Segment, flag};

/// Bytes of a TCP header without options (RFC 9293 section 3.1).
const HEADER: usize = 20;

impl Segment {
    /// The segment in an IP packet, and the TTL or hop limit that the packet carries.
    ///
    /// `None` if it is not IP with a whole TCP header directly behind. Data behind the header is
    /// ignored, checksums are not verified.
    pub fn parse(packet: &[u8]) -> Option<(Self, u8)> {
        let TcpInIp { addresses, ttl, body } = TcpInIp::parse(packet)?;
        let header = TcpPacket::new(body)?;
        let length = usize::from(header.get_data_offset()) * 4;
        let options = Options::parse(body.get(HEADER..length)?);
        let flags = header.get_flags();
        let acknowledged = flags & flag::ACK != 0;
        let segment = Self {
            source: SocketAddr::new(addresses.source(), header.get_source()),
            destination: SocketAddr::new(addresses.destination(), header.get_destination()),
            flags,
            sequence: header.get_sequence(),
            acknowledgment: if acknowledged { header.get_acknowledgement() } else { 0 },
            window: header.get_window(),
            options,
        };
        Some((segment, ttl))
    }
}
