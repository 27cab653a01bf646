//! The IP header in front of a segment or datagram (RFC 791, RFC 8200).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet_packet::ipv4::{self, Ipv4Flags, Ipv4Packet, MutableIpv4Packet};
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};

/// Bytes of an IPv4 header without options (RFC 791 section 3.1).
pub(crate) const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header (RFC 8200 section 3).
pub(crate) const IPV6_HEADER: usize = 40;

/// Source and destination of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// IPv4.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6.
    V6(Ipv6Addr, Ipv6Addr),
}

impl Addresses {
    /// `None` if they are not of one family.
    pub(crate) fn new(source: IpAddr, destination: IpAddr) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Self::V4(source, destination)),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Self::V6(source, destination)),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// Where it came from.
    pub(crate) fn source(self) -> IpAddr {
        match self {
            Self::V4(source, _) => source.into(),
            Self::V6(source, _) => source.into(),
        }
    }

    /// Where it goes.
    pub(crate) fn destination(self) -> IpAddr {
        match self {
            Self::V4(_, destination) => destination.into(),
            Self::V6(_, destination) => destination.into(),
        }
    }

    /// The packet around `body`; `None` if the body is too long for one.
    pub(crate) fn packet(
        self,
        ttl: u8,
        protocol: IpNextHeaderProtocol,
        body: &[u8],
    ) -> Option<Vec<u8>> {
        match self {
            Self::V4(source, destination) => {
                let total = u16::try_from(IPV4_HEADER + body.len()).ok()?;
                let mut bytes = vec![0; IPV4_HEADER];
                let mut header = MutableIpv4Packet::new(&mut bytes)?;
                header.set_version(4);
                header.set_header_length((IPV4_HEADER / 4) as u8);
                header.set_total_length(total);
                // As Linux does for TCP; the identification may then be anything (RFC 6864 4.1).
                header.set_flags(Ipv4Flags::DontFragment);
                header.set_ttl(ttl);
                header.set_next_level_protocol(protocol);
                header.set_source(source);
                header.set_destination(destination);
                header.set_checksum(ipv4::checksum(&header.to_immutable()));
                bytes.extend_from_slice(body);
                Some(bytes)
            }
            Self::V6(source, destination) => {
                let mut bytes = vec![0; IPV6_HEADER];
                let mut header = MutableIpv6Packet::new(&mut bytes)?;
                header.set_version(6);
                header.set_payload_length(u16::try_from(body.len()).ok()?);
                header.set_next_header(protocol);
                header.set_hop_limit(ttl);
                header.set_source(source);
                header.set_destination(destination);
                bytes.extend_from_slice(body);
                Some(bytes)
            }
        }
    }
}

/// What stands behind an IP header that carries TCP.
pub(crate) struct TcpInIp<'a> {
    /// Source and destination.
    pub(crate) addresses: Addresses,
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// From the first byte of the TCP header on, without padding of the link below.
    pub(crate) body: &'a [u8],
}

impl<'a> TcpInIp<'a> {
    /// `None` unless `packet` starts with an IP header directly before a TCP header. Fragments
    /// other than the first and IPv6 extension headers count as something else.
    pub(crate) fn parse(packet: &'a [u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            _ => None,
        }
    }

    fn parse_v4(packet: &'a [u8]) -> Option<Self> {
        let header = Ipv4Packet::new(packet)?;
        let length = usize::from(header.get_header_length()) * 4;
        if header.get_next_level_protocol() != IpNextHeaderProtocols::Tcp
            || header.get_fragment_offset() != 0
            || length < IPV4_HEADER
        {
            return None;
        }
        // A captured packet that the card has yet to cut into segments may state no length.
        let total = match usize::from(header.get_total_length()) {
            0 => packet.len(),
            total => total.min(packet.len()),
        };
        Some(Self {
            addresses: Addresses::V4(header.get_source(), header.get_destination()),
            ttl: header.get_ttl(),
            body: packet.get(length..total)?,
        })
    }

    fn parse_v6(packet: &'a [u8]) -> Option<Self> {
        let header = Ipv6Packet::new(packet)?;
        if header.get_next_header() != IpNextHeaderProtocols::Tcp {
            return None;
        }
        let end = match usize::from(header.get_payload_length()) {
            0 => packet.len(),
            length => packet.len().min(IPV6_HEADER + length),
        };
        Some(Self {
            addresses: Addresses::V6(header.get_source(), header.get_destination()),
            ttl: header.get_hop_limit(),
            body: packet.get(IPV6_HEADER..end)?,
        })
    }
}
