use std::net::SocketAddr;

use etherparse::{NetSlice, SlicedPacket, TcpOptionElement, TransportSlice};
use proptest::prelude::*;

use super::{Options, Segment, Timestamps, flag};

fn options() -> impl Strategy<Value = Options> {
    let timestamps = any::<Option<(u32, u32)>>();
    (any::<Option<u16>>(), prop::option::of(0..=14u8), any::<bool>(), timestamps).prop_map(
        |(max_segment_size, window_scale, sack_permitted, timestamps)| Options {
            max_segment_size,
            window_scale,
            sack_permitted,
            timestamps: timestamps.map(|(value, echo)| Timestamps { value, echo }),
        },
    )
}

fn ends() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    prop_oneof![
        any::<(([u8; 4], u16), ([u8; 4], u16))>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<(([u8; 16], u16), ([u8; 16], u16))>().prop_map(|(a, b)| (a.into(), b.into())),
    ]
}

fn segments() -> impl Strategy<Value = Segment> {
    (ends(), any::<(u8, u32, u32, u16)>(), options()).prop_map(
        |((source, destination), (flags, sequence, acknowledgment, window), options)| Segment {
            source,
            destination,
            flags,
            sequence,
            acknowledgment: if flags & flag::ACK == 0 { 0 } else { acknowledgment },
            window,
            options,
        },
    )
}

/// The segment and TTL that `etherparse` reads, if both checksums are right.
fn independently(packet: &[u8]) -> (Segment, u8) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("not TCP") };
    let (source, destination, ttl, sum) = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert!(header.dont_fragment);
            assert_eq!(usize::from(header.total_len), packet.len());
            let sum = tcp.calc_checksum_ipv4(header.source, header.destination).unwrap();
            (header.source.into(), header.destination.into(), header.time_to_live, sum)
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            let sum = tcp.calc_checksum_ipv6(header.source, header.destination).unwrap();
            (header.source.into(), header.destination.into(), header.hop_limit, sum)
        }
        NetSlice::Arp(_) => panic!("not IP"),
    };
    assert_eq!(sum, tcp.checksum());
    assert!(tcp.payload().is_empty());
    let mut options = Options::default();
    for option in tcp.options_iterator() {
        match option.unwrap() {
            TcpOptionElement::MaximumSegmentSize(size) => options.max_segment_size = Some(size),
            TcpOptionElement::WindowScale(shift) => options.window_scale = Some(shift),
            TcpOptionElement::SelectiveAcknowledgementPermitted => options.sack_permitted = true,
            TcpOptionElement::Timestamp(value, echo) => {
                options.timestamps = Some(Timestamps { value, echo });
            }
            TcpOptionElement::Noop => {}
            other => panic!("{other:?}"),
        }
    }
    let segment = Segment {
        source: SocketAddr::new(source, tcp.source_port()),
        destination: SocketAddr::new(destination, tcp.destination_port()),
        flags: tcp.slice()[13],
        sequence: tcp.sequence_number(),
        acknowledgment: tcp.acknowledgment_number(),
        window: tcp.window_size(),
        options,
    };
    (segment, ttl)
}

proptest! {
    #[test]
    fn what_was_emitted_is_parsed(segment in segments(), ttl: u8) {
        let packet = segment.emit(ttl).unwrap();
        prop_assert_eq!(Segment::parse(&packet), Some((segment, ttl)));
        prop_assert_eq!(independently(&packet), (segment, ttl));
    }

    #[test]
    fn data_padding_and_checksums_do_not_matter(
        segment in segments(),
        data in prop::collection::vec(any::<u8>(), 0..40),
        sum: [u8; 2],
    ) {
        let mut packet = segment.emit(64).unwrap();
        let tcp = if segment.source.is_ipv4() { 20 } else { 40 };
        packet[tcp + 16..][..2].copy_from_slice(&sum);
        packet.extend(data);
        prop_assert_eq!(Segment::parse(&packet), Some((segment, 64)));
    }

    #[test]
    fn a_truncated_packet_is_nothing(segment in segments()) {
        let packet = segment.emit(64).unwrap();
        for length in 0..packet.len() {
            prop_assert_eq!(Segment::parse(&packet[..length]), None);
        }
    }

    #[test]
    fn no_bytes_panic(mut packet in prop::collection::vec(any::<u8>(), 0..120), version: bool) {
        let _ = Segment::parse(&packet);
        // With a plausible start the options are reached as well.
        if packet.len() >= 60 {
            let tcp = if version { 20 } else { 40 };
            packet[0] = if version { 0x45 } else { 0x60 };
            packet[if version { 9 } else { 6 }] = 6;
            packet[2..8].fill(0);
            packet[if version { 9 } else { 6 }] = 6;
            packet[tcp + 12] |= 0xf0;
            let parsed = Segment::parse(&packet);
            prop_assert_eq!(parsed.is_some(), packet.len() >= tcp + 60);
        }
    }
}

/// A SYN of Linux 6.18 as a capture saw it, with its checksum still to be filled in by the card.
#[test]
fn a_syn_of_linux_is_emitted_byte_for_byte() {
    #[rustfmt::skip]
    let tcp = [
        0x9c, 0x40, 0x23, 0x28, // ports 40000 and 9000
        0x12, 0x34, 0x56, 0x78, // sequence
        0x00, 0x00, 0x00, 0x00, // acknowledgment
        0xa0, 0x02, 0xfa, 0xf0, // 10 words of header, SYN, window 64240
        0x00, 0x00, 0x00, 0x00, // checksum, urgent pointer
        0x02, 0x04, 0x05, 0xb4, // maximum segment size 1460
        0x04, 0x02, 0x08, 0x0a, // SACK permitted, timestamps
        0x01, 0x02, 0x03, 0x04,
        0x00, 0x00, 0x00, 0x00,
        0x01, 0x03, 0x03, 0x07, // no operation, window scale 7
    ];
    let syn = Segment {
        source: "10.0.0.1:40000".parse().unwrap(),
        destination: "10.0.0.2:9000".parse().unwrap(),
        flags: flag::SYN,
        sequence: 0x1234_5678,
        acknowledgment: 0,
        window: 64_240,
        options: Options {
            max_segment_size: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { value: 0x0102_0304, echo: 0 }),
        },
    };
    let mut packet = syn.emit(64).unwrap();
    packet[20 + 16..20 + 18].fill(0);
    assert_eq!(packet[20..], tcp);
}

#[test]
fn options_of_a_wrong_size_are_skipped_and_impossible_sizes_end_the_list() {
    for (field, expected) in [
        (&[2, 4, 1, 2, 2][..], Some(0x0102)),
        (&[2, 4, 1, 2, 8, 0, 0, 0], Some(0x0102)),
        (&[8, 1, 2, 4, 1, 2], None),
        (&[0, 2, 4, 1, 2], None),
        (&[30, 4, 9, 9, 2, 4, 1, 2], Some(0x0102)),
        (&[2, 3, 1, 2, 4, 1, 2], Some(0x0102)),
    ] {
        assert_eq!(Options::parse(field).max_segment_size, expected, "{field:?}");
    }
    let scaled = Options::parse(&[3, 3, 200]);
    assert_eq!(scaled.window_scale, Some(14), "RFC 7323 section 2.3");
}

#[test]
fn ends_of_two_families_make_no_packet() {
    let syn = Segment {
        source: "10.0.0.1:1".parse().unwrap(),
        destination: "[::1]:1".parse().unwrap(),
        flags: flag::SYN,
        sequence: 0,
        acknowledgment: 0,
        window: 0,
        options: Options::default(),
    };
    assert_eq!(syn.emit(64), None);
}
