//! ICMP errors and the TTL.

use super::*;

fn error_about(packet: &Seen, error: IcmpError) -> Vec<u8> {
    icmp_error(ip("203.0.113.77"), &packet.packet, error).unwrap()
}

#[test]
fn an_icmp_error_comes_in_translated_with_what_it_quotes() {
    let mut bench = Bench::new("port-restricted");
    let sent = outside(bench.out(&tcp(&Segment::syn(at(INSIDE), at(PEER), 100))));
    let error = inside(bench.back(&error_about(&sent, IcmpError::TimeExceeded)));
    assert_eq!(error.packet.destination_ip(), at(INSIDE).ip());
    assert_eq!(error.packet.source_ip(), ip("203.0.113.77"));
    let (told, quoted) = error.packet.icmp().unwrap();
    assert_eq!(told, IcmpError::TimeExceeded);
    assert_eq!((quoted.source, quoted.destination), (at(INSIDE), at(PEER)));
    assert_eq!(quoted.sequence, Some(100));
}

#[test]
fn a_quoted_sequence_number_is_rewritten_back() {
    let mut bench = Bench::new("port-restricted,isn=rewrite");
    let sent = outside(bench.out(&tcp(&Segment::syn(at(INSIDE), at(PEER), 100))));
    let error = inside(bench.back(&error_about(&sent, IcmpError::HostUnreachable)));
    assert_eq!(error.packet.icmp().unwrap().1.sequence, Some(100));
}

#[test]
fn a_quoted_datagram_keeps_a_right_checksum() {
    let mut bench = Bench::new("port-restricted");
    let original = udp(at(INSIDE), at(PEER), 64, b"ping");
    let sent = outside(bench.out(&original));
    let error = inside(bench.back(&error_about(&sent, IcmpError::PortUnreachable)));
    let quoted = open_quoted(&error);
    assert_eq!(quoted.body(), Packet::parse(&original).unwrap().body());
}

fn open_quoted(error: &Seen) -> Packet {
    Packet::parse(&error.packet.body()[8..]).unwrap()
}

#[test]
fn an_icmp_error_about_nothing_known_is_dropped() {
    let mut bench = Bench::new("port-restricted");
    let stray = open(&udp(at("198.51.100.1:4444"), at(PEER), 64, b""));
    let verdict = bench.back(&error_about(&stray, IcmpError::PortUnreachable));
    assert_eq!(dropped(verdict), DropReason::UnknownQuotation);
}

#[test]
fn the_effect_of_icmp_errors_is_an_axis() {
    for (site, error, arrives, survives) in [
        ("port-restricted", IcmpError::TimeExceeded, true, true),
        ("port-restricted,ttlx=kill", IcmpError::TimeExceeded, true, false),
        ("port-restricted,ttlx=kill", IcmpError::HostUnreachable, true, true),
        ("port-restricted,ttlx=block", IcmpError::TimeExceeded, false, true),
        ("port-restricted,unreach=kill", IcmpError::PortUnreachable, true, false),
    ] {
        let mut bench = Bench::new(site);
        let sent = outside(bench.out(&tcp(&Segment::syn(at(INSIDE), at(PEER), 100))));
        let verdict = bench.back(&error_about(&sent, error));
        assert_eq!(matches!(verdict, Verdict::Inside(_)), arrives, "{site}");
        let syn_ack = bench.segment_in(PEER, sent.source(), SYN_ACK, 900, 101);
        assert_eq!(matches!(syn_ack, Verdict::Inside(_)), survives, "{site}");
    }
}

#[test]
fn an_error_from_inside_leaves_under_the_external_end() {
    let mut bench = Bench::new("port-restricted");
    let external = bench.udp_out(INSIDE, PEER);
    let arrived = inside(bench.udp_in(PEER, external));
    let complaint =
        icmp_error(at(INSIDE).ip(), &arrived.packet, IcmpError::PortUnreachable).unwrap();
    let left = outside(bench.out(&complaint));
    assert_eq!(left.packet.source_ip(), external.ip());
    assert_eq!(left.packet.icmp().unwrap().1.destination, external);
}

#[test]
fn the_ttl_is_spent_kept_or_reset() {
    for (site, left) in [("masq", 63), ("masq,ttl=keep", 64), ("masq,ttl=reset", 64)] {
        let mut bench = Bench::new(site);
        let sent = outside(bench.out(&udp(at(INSIDE), at(SERVER), 64, b"")));
        assert_eq!(sent.packet.ttl(), left, "{site}");
        assert_eq!(inside(bench.udp_in(SERVER, sent.source())).packet.ttl(), left, "{site}");
    }
}

#[test]
fn an_expired_ttl_is_reported_to_the_inside_and_leaves_no_mapping() {
    let mut bench = Bench::new("masq");
    let error = inside(bench.out(&udp(at(INSIDE), at(SERVER), 1, b"")));
    assert_eq!(error.packet.source_ip(), ip("192.168.1.1"));
    assert_eq!(error.packet.icmp().unwrap().0, IcmpError::TimeExceeded);
    assert_eq!(bench.nat.mappings(bench.now).count(), 0);
    let mut silent = Bench::new("masq,ttl=silent");
    let verdict = silent.out(&udp(at(INSIDE), at(SERVER), 1, b""));
    assert_eq!(dropped(verdict), DropReason::TtlExpired);
}

#[test]
fn an_expired_ttl_from_outside_is_reported_only_where_the_packet_would_have_passed() {
    let mut bench = Bench::new("masq");
    let external = bench.udp_out(INSIDE, SERVER);
    let error = outside(bench.back(&udp(at(SERVER), external, 1, b"")));
    assert_eq!(error.packet.source_ip(), external.ip());
    let verdict = bench.back(&udp(at(PEER), external, 1, b""));
    assert_eq!(dropped(verdict), DropReason::Filtered);
}
