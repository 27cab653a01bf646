//! A UDP datagram as the bytes of a packet, for those who send it raw: with a source of their
//! choice, or a TTL of its own.

use std::net::SocketAddr;

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::udp::{self, MutableUdpPacket};

use crate::segment::ip::Addresses;

/// Bytes of a UDP header (RFC 768).
const HEADER: usize = 8;

/// The whole IP packet, with its checksums; `None` if the two ends are of different families or the
/// payload does not fit into one packet.
pub fn emit(
    source: SocketAddr,
    destination: SocketAddr,
    ttl: u8,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let addresses = Addresses::new(source.ip(), destination.ip())?;
    let mut bytes = vec![0; HEADER + payload.len()];
    let length = u16::try_from(bytes.len()).ok()?;
    let mut packet = MutableUdpPacket::new(&mut bytes)?;
    packet.set_source(source.port());
    packet.set_destination(destination.port());
    packet.set_length(length);
    packet.set_payload(payload);
    let sum = match addresses {
        Addresses::V4(source, destination) => {
            udp::ipv4_checksum(&packet.to_immutable(), &source, &destination)
        }
        Addresses::V6(source, destination) => {
            udp::ipv6_checksum(&packet.to_immutable(), &source, &destination)
        }
    };
    // A sum of zero is sent as all ones: zero says that there is none (RFC 768).
    packet.set_checksum(if sum == 0 { u16::MAX } else { sum });
    addresses.packet(ttl, IpNextHeaderProtocols::Udp, &bytes)
}

#[cfg(test)]
mod tests {
    use etherparse::{SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;

    fn seen(packet: &[u8]) -> (u16, u16, Vec<u8>, bool) {
        let sliced = SlicedPacket::from_ip(packet).unwrap();
        let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("not UDP") };
        let header = udp.to_header();
        let sum = match sliced.net.as_ref().unwrap() {
            etherparse::NetSlice::Ipv4(ip) => {
                let header_v4 = ip.header().to_header();
                assert_eq!(header_v4.header_checksum, header_v4.calc_header_checksum());
                header.calc_checksum_ipv4(&header_v4, udp.payload())
            }
            etherparse::NetSlice::Ipv6(ip) => {
                header.calc_checksum_ipv6(&ip.header().to_header(), udp.payload())
            }
            etherparse::NetSlice::Arp(_) => panic!("not IP"),
        };
        let verified = sum.unwrap() == header.checksum;
        (udp.source_port(), udp.destination_port(), udp.payload().to_vec(), verified)
    }

    proptest! {
        #[test]
        fn another_parser_reads_what_was_emitted(
            ends in any::<(([u8; 4], u16), ([u8; 4], u16))>(),
            ends6 in any::<(([u8; 16], u16), ([u8; 16], u16))>(),
            payload in prop::collection::vec(any::<u8>(), 0..1200),
        ) {
            let packet = emit(ends.0.into(), ends.1.into(), 9, &payload).unwrap();
            prop_assert_eq!(packet[8], 9);
            prop_assert_eq!(seen(&packet), (ends.0.1, ends.1.1, payload.clone(), true));
            let packet = emit(ends6.0.into(), ends6.1.into(), 9, &payload).unwrap();
            prop_assert_eq!(packet[7], 9);
            prop_assert_eq!(seen(&packet), (ends6.0.1, ends6.1.1, payload, true));
        }
    }

    #[test]
    fn what_fits_into_no_packet_is_refused() {
        let (v4, v6) = ("192.0.2.1:1".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap());
        assert_eq!(emit(v4, v6, 64, b""), None);
        assert_eq!(emit(v4, v4, 64, &vec![0; 65_535 - 20 - 8 + 1]), None);
        assert!(emit(v4, v4, 64, &vec![0; 65_535 - 20 - 8]).is_some());
    }
}
