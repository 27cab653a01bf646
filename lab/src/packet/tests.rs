//! The packet view against smoltcp's, and against arbitrary bytes.

use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire;

use super::*;

fn ends(v4: bool) -> (SocketAddr, SocketAddr) {
    let texts = if v4 {
        ["192.0.2.1:1000", "198.51.100.2:2000"]
    } else {
        ["[2001:db8::1]:1", "[2001:db8::2]:2"]
    };
    let [one, other] = texts.map(|text| text.parse().unwrap());
    (one, other)
}

/// Lengths and checksums as smoltcp judges them.
fn smoltcp_accepts(bytes: &[u8]) -> bool {
    let (source, destination, protocol, body) = if bytes[0] >> 4 == 4 {
        let packet = wire::Ipv4Packet::new_checked(bytes).unwrap();
        assert!(packet.verify_checksum());
        let header = usize::from(packet.header_len());
        let ends = (packet.src_addr().into(), packet.dst_addr().into());
        (ends.0, ends.1, packet.next_header(), &bytes[header..])
    } else {
        let packet = wire::Ipv6Packet::new_checked(bytes).unwrap();
        let ends = (packet.src_addr().into(), packet.dst_addr().into());
        (ends.0, ends.1, packet.next_header(), &bytes[40..])
    };
    let all = ChecksumCapabilities::default();
    match (protocol, source, destination) {
        (wire::IpProtocol::Tcp, source, destination) => {
            wire::TcpPacket::new_checked(body).unwrap().verify_checksum(&source, &destination)
        }
        (wire::IpProtocol::Udp, source, destination) => {
            wire::UdpPacket::new_checked(body).unwrap().verify_checksum(&source, &destination)
        }
        (wire::IpProtocol::Icmp, _, _) => {
            wire::Icmpv4Repr::parse(&wire::Icmpv4Packet::new_checked(body).unwrap(), &all).is_ok()
        }
        (
            wire::IpProtocol::Icmpv6,
            wire::IpAddress::Ipv6(source),
            wire::IpAddress::Ipv6(destination),
        ) => {
            let packet = wire::Icmpv6Packet::new_checked(body).unwrap();
            packet.verify_checksum(&source, &destination)
        }
        (other, ..) => panic!("{other}"),
    }
}

#[test]
fn what_is_built_is_right_by_another_implementation() {
    for v4 in [true, false] {
        let (source, destination) = ends(v4);
        let syn = tcp(&Segment::syn(source, destination, 0xffff_fff0));
        let datagram = udp(source, destination, 64, b"odd length");
        for bytes in [syn, datagram] {
            assert!(smoltcp_accepts(&bytes));
            let cause = Packet::parse(&bytes).unwrap();
            for error in [
                IcmpError::TimeExceeded,
                IcmpError::HostUnreachable,
                IcmpError::PortUnreachable,
                IcmpError::AdminProhibited,
            ] {
                let icmp = icmp_error(destination.ip(), &cause, error).unwrap();
                assert!(smoltcp_accepts(&icmp), "{error:?}");
                let parsed = Packet::parse(&icmp).unwrap();
                let (told, quoted) = parsed.icmp().unwrap();
                assert_eq!((told, quoted.source, quoted.ttl), (error, source, 64));
            }
        }
    }
}

#[test]
fn an_error_is_not_complained_about() {
    let (source, destination) = ends(true);
    let datagram = Packet::parse(&udp(source, destination, 1, b"")).unwrap();
    let error = icmp_error(destination.ip(), &datagram, IcmpError::TimeExceeded).unwrap();
    let error = Packet::parse(&error).unwrap();
    assert_eq!(icmp_error(source.ip(), &error, IcmpError::TimeExceeded), None);
    let (other_family, _) = ends(false);
    assert_eq!(icmp_error(other_family.ip(), &datagram, IcmpError::TimeExceeded), None);
}

#[test]
fn sequence_numbers_and_the_edges_of_sack_blocks_move_together() {
    let (source, destination) = ends(true);
    let flags = flag::ACK;
    let (sequence, acknowledgment, ttl) = (5, 100, 64);
    let plain = tcp(&Segment {
        source,
        destination,
        ttl,
        flags,
        sequence,
        acknowledgment,
        payload: vec![1, 1, 5, 10, 0, 0, 0, 200, 0, 0, 1, 44],
    });
    // The first twelve bytes of data become options: no-operation twice, then one SACK block.
    let mut bytes = plain;
    bytes[20 + 12] = 8 << 4;
    let mut packet = Packet::parse(&bytes).unwrap();
    packet.shift_acknowledgment(1000);
    packet.shift_sequence(7);
    let fields = packet.tcp().unwrap();
    assert_eq!((fields.sequence, fields.acknowledgment, fields.payload), (12, 1100, 0));
    assert_eq!(packet.body()[24..32], [0, 0, 4, 176, 0, 0, 5, 20]);
    assert!(smoltcp_accepts(&packet.seal()));
}

#[test]
fn a_datagram_shorter_than_its_packet_keeps_its_own_length() {
    let (source, destination) = ends(true);
    let mut bytes = udp(source, destination, 64, b"four");
    bytes[24..26].copy_from_slice(&10u16.to_be_bytes());
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.payload(), b"fo");
    assert!(smoltcp_accepts(&packet.seal()));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_or_every_accessor_works(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        version in prop_oneof![Just(0x45u8), Just(0x46), Just(0x60)],
        protocol in prop_oneof![Just(1u8), Just(6), Just(17), Just(58)],
    ) {
        let mut bytes = bytes;
        if bytes.len() > 40 {
            bytes[0] = version;
            let total = bytes.len() as u16;
            if version == 0x60 {
                bytes[4..6].copy_from_slice(&(total - 40).to_be_bytes());
                bytes[6] = protocol;
            } else {
                bytes[2..4].copy_from_slice(&total.to_be_bytes());
                bytes[6..8].fill(0);
                bytes[9] = protocol;
            }
        }
        if let Ok(mut packet) = Packet::parse(&bytes) {
            let (_, _, _) = (packet.tcp(), packet.icmp(), packet.payload().len());
            let (_, _) = (packet.window_scale(), packet.source());
            packet.shift_acknowledgment(1);
            packet.make_plain_ack(3);
            packet.set_quoted_source("192.0.2.7:7".parse().unwrap(), 9);
            packet.set_quoted_destination("[2001:db8::7]:7".parse().unwrap());
            packet.set_source("192.0.2.7:7".parse().unwrap());
            packet.set_destination("[2001:db8::7]:7".parse().unwrap());
            let _ = (refuse(&packet), icmp_error(packet.source_ip(), &packet, IcmpError::TimeExceeded));
            let sealed = packet.seal();
            prop_assert!(Packet::parse(&sealed).is_ok());
        }
    }
}
