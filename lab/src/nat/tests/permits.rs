//! Whose packets come in.

use super::*;

#[test]
fn filtering_lets_in_whom_it_should() {
    let same_address = "203.0.113.1:9";
    for (site, from_other_port, from_other_address) in [
        ("full-cone", true, true),
        ("restricted", true, false),
        ("port-restricted", false, false),
        ("masq", false, false),
        ("symmetric-open", true, true),
    ] {
        let mut bench = Bench::new(site);
        let external = bench.udp_out(INSIDE, SERVER);
        let arrives = |verdict: Verdict| matches!(verdict, Verdict::Inside(_));
        assert!(arrives(bench.udp_in(SERVER, external)), "{site}");
        assert_eq!(arrives(bench.udp_in(same_address, external)), from_other_port, "{site}");
        assert_eq!(arrives(bench.udp_in(PEER, external)), from_other_address, "{site}");
    }
}

#[test]
fn an_inbound_packet_that_was_let_in_opens_the_filter_to_nobody_else() {
    let mut bench = Bench::new("restricted");
    let external = bench.udp_out(INSIDE, SERVER);
    inside(bench.udp_in("203.0.113.1:9", external));
    assert_eq!(dropped(bench.udp_in(PEER, external)), DropReason::Filtered);
}

#[test]
fn an_answer_to_an_uninvited_packet_leaves_from_where_it_came_in() {
    let mut bench = Bench::new("symmetric-open");
    let external = bench.udp_out(INSIDE, SERVER);
    inside(bench.udp_in(PEER, external));
    assert_eq!(bench.udp_out(INSIDE, PEER), external);
}

#[test]
fn packets_to_addresses_of_others_and_to_unmapped_ports_are_dropped() {
    let mut bench = Bench::new("full-cone");
    assert_eq!(dropped(bench.udp_in(PEER, at("198.51.100.1:9"))), DropReason::NoMapping);
    assert_eq!(dropped(bench.udp_in(PEER, at("192.168.1.2:5000"))), DropReason::NotOurs);
}

#[test]
fn blocked_udp_passes_in_no_direction_while_tcp_does() {
    let mut bench = Bench::new("masq,udp=block");
    let verdict = bench.out(&udp(at(INSIDE), at(SERVER), 64, b""));
    assert_eq!(dropped(verdict), DropReason::UdpBlocked);
    assert_eq!(dropped(bench.udp_in(SERVER, at("198.51.100.1:5000"))), DropReason::UdpBlocked);
    bench.syn_out(INSIDE, SERVER, 1);
}
