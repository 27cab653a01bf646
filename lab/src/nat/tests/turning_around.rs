//! Packets from inside to the outside address.

use super::*;

#[test]
fn two_inside_hosts_meet_at_the_outer_address_if_it_hairpins() {
    for (site, source_is_external) in
        [("full-cone,hairpin=yes", true), ("full-cone,hairpin=raw", false)]
    {
        let mut bench = Bench::new(site);
        let target = bench.udp_out(OTHER, SERVER);
        let own = bench.udp_out(INSIDE, SERVER);
        let arrived = inside(bench.out(&udp(at(INSIDE), target, 64, b"hello")));
        assert_eq!(arrived.destination(), at(OTHER));
        assert_eq!(arrived.source(), if source_is_external { own } else { at(INSIDE) });
        assert_eq!(arrived.packet.ttl(), 63);
    }
}

#[test]
fn a_hairpinned_packet_is_filtered_like_any_other() {
    let mut bench = Bench::new("hairpin-cone");
    let target = bench.udp_out(OTHER, SERVER);
    let own = bench.udp_out(INSIDE, SERVER);
    let verdict = bench.out(&udp(at(INSIDE), target, 64, b""));
    assert_eq!(dropped(verdict), DropReason::Filtered);
    let arrived = inside(bench.out(&udp(at(OTHER), own, 64, b"")));
    assert_eq!((arrived.source(), arrived.destination()), (target, at(INSIDE)));
}

#[test]
fn a_hairpinned_syn_that_is_refused_is_refused_to_its_sender() {
    let mut bench = Bench::new("hairpin-cone,in=reset");
    let target = bench.syn_out(OTHER, SERVER, 5);
    let reset = inside(bench.out(&tcp(&Segment::syn(at(INSIDE), target, 100))));
    assert_eq!((reset.source(), reset.destination()), (target, at(INSIDE)));
    assert!(reset.tcp().has(RST));
}

#[test]
fn without_hairpin_the_own_stack_refuses_or_nothing_answers() {
    let to = at("198.51.100.1:9");
    let refused = inside(Bench::new("masq").out(&tcp(&Segment::syn(at(INSIDE), to, 1))));
    assert!(refused.tcp().has(RST));
    let verdict = Bench::new("masq,hairpin=drop").out(&tcp(&Segment::syn(at(INSIDE), to, 1)));
    assert_eq!(dropped(verdict), DropReason::NoHairpin);
}
