//! What is answered to packets nobody asked for.

use super::*;

#[test]
fn an_unsolicited_syn_is_answered_as_the_nat_is_told() {
    let to = at("198.51.100.1:5000");
    let syn = tcp(&Segment::syn(at(PEER), to, 41));
    assert_eq!(dropped(Bench::new("masq").back(&syn)), DropReason::NoMapping);
    for site in ["masq,in=reset", "masq,in=open"] {
        let reset = outside(Bench::new(site).back(&syn));
        assert!(reset.tcp().has(flag::RST | flag::ACK), "{site}");
        assert_eq!(reset.tcp().acknowledgment, 42);
        assert_eq!((reset.source(), reset.destination()), (to, at(PEER)));
    }
    for (site, error) in [
        ("masq,in=admin", IcmpError::AdminProhibited),
        ("masq,in=port", IcmpError::PortUnreachable),
    ] {
        let icmp = outside(Bench::new(site).back(&syn));
        let (told, quoted) = icmp.packet.icmp().unwrap();
        assert_eq!((told, quoted.source, quoted.destination), (error, at(PEER), to), "{site}");
        assert_eq!(quoted.sequence, Some(41));
    }
}

#[test]
fn an_unsolicited_rst_is_never_answered() {
    for site in ["masq,in=reset", "masq,in=open", "masq,in=admin"] {
        let rst = segment(at(PEER), at("198.51.100.1:5000"), flag::RST, 1, 0);
        assert_eq!(dropped(Bench::new(site).back(&rst)), DropReason::NoMapping, "{site}");
    }
}

#[test]
fn unsolicited_udp_is_answered_with_silence_or_icmp() {
    let to = at("198.51.100.1:5000");
    for (site, answer) in [
        ("masq", None),
        ("masq,in=reset", Some(IcmpError::PortUnreachable)),
        ("masq,in=open", Some(IcmpError::PortUnreachable)),
        ("masq,in=admin", Some(IcmpError::AdminProhibited)),
    ] {
        let told = match Bench::new(site).udp_in(PEER, to) {
            Verdict::Outside(bytes) => Some(open(&bytes).packet.icmp().unwrap().0),
            Verdict::Dropped(DropReason::NoMapping) => None,
            other => panic!("{site}: {other:?}"),
        };
        assert_eq!(told, answer, "{site}");
    }
}

#[test]
fn a_packet_to_an_open_input_chain_leaves_a_ghost_that_poisons_the_later_mapping() {
    let mut bench = Bench::new("masq,in=open");
    assert_eq!(bench.udp_out(INSIDE, SERVER).port(), 5000);
    outside(bench.udp_in(PEER, at("198.51.100.1:5000")));
    let poisoned = bench.udp_out(INSIDE, PEER);
    assert_ne!(poisoned.port(), 5000, "the port is the box's own towards that peer");
    assert_eq!(bench.udp_out(INSIDE, SERVER).port(), 5000, "and only towards that peer");
    // The peer goes on sending to where it was told: the ghost lives on, and so does the harm.
    for _ in 0..10 {
        bench.wait(20);
        outside(bench.udp_in(PEER, at("198.51.100.1:5000")));
        assert_ne!(bench.udp_out(INSIDE, PEER).port(), 5000);
    }
    bench.wait(200);
    assert_eq!(bench.udp_out(INSIDE, PEER).port(), 5000, "it dies of silence alone");
}

#[test]
fn the_own_packet_first_leaves_no_room_for_a_ghost() {
    let mut bench = Bench::new("masq,in=open");
    let external = bench.udp_out(INSIDE, PEER);
    assert_eq!(inside(bench.udp_in(PEER, external)).destination(), at(INSIDE));
}

#[test]
fn rejecting_and_dropping_leave_no_ghost_and_tcp_never_does() {
    for site in ["masq", "masq,in=reset", "masq,in=admin"] {
        let mut bench = Bench::new(site);
        let _ = bench.udp_in(PEER, at("198.51.100.1:5000"));
        assert_eq!(bench.udp_out(INSIDE, PEER).port(), 5000, "{site}");
    }
    let mut bench = Bench::new("masq,in=open");
    outside(bench.back(&tcp(&Segment::syn(at(PEER), at("198.51.100.1:5000"), 1))));
    assert_eq!(bench.syn_out(INSIDE, PEER, 1).port(), 5000);
}

#[test]
fn a_ghost_takes_a_flow_away_from_an_endpoint_independent_mapping_too() {
    let mut bench = Bench::new("port-restricted,in=open");
    let external = bench.udp_out(INSIDE, SERVER);
    outside(bench.udp_in(PEER, external));
    assert_ne!(bench.udp_out(INSIDE, PEER), external);
    assert_eq!(bench.udp_out(INSIDE, SERVER_PORT), external);
}
