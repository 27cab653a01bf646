//! Which outside port a mapping gets.

use super::*;

#[test]
fn a_masquerade_keeps_the_port_for_two_hosts_towards_different_servers() {
    let mut bench = Bench::new("masq");
    assert_eq!(bench.udp_out(INSIDE, SERVER).port(), 5000);
    assert_eq!(bench.udp_out(OTHER, PEER).port(), 5000);
    assert_ne!(bench.udp_out(OTHER, SERVER).port(), 5000, "taken towards that server");
}

#[test]
fn an_exclusive_preserving_nat_gives_a_port_to_one_host_only() {
    let mut bench = Bench::new("preserving-cone");
    assert_eq!(bench.udp_out(INSIDE, SERVER).port(), 5000);
    assert_ne!(bench.udp_out(OTHER, PEER).port(), 5000);
}

#[test]
fn sequential_ports_follow_each_other_across_hosts() {
    let mut bench = Bench::new("symmetric-step");
    let ports = [(INSIDE, SERVER), (INSIDE, PEER), (OTHER, SERVER)]
        .map(|(from, to)| bench.udp_out(from, to).port());
    assert_eq!(ports, [20_000, 20_004, 20_008]);
}

#[test]
fn an_offset_is_added_to_the_inside_port() {
    let mut bench = Bench::new("offset-cone");
    assert_eq!(bench.udp_out(INSIDE, SERVER).port(), 15_000);
    assert_eq!(bench.udp_out("192.168.1.2:60000", SERVER).port(), 5_488, "wraps around");
}

#[test]
fn each_host_has_a_block_of_its_own() {
    let mut bench = Bench::new("symmetric-block");
    for port in 1..200 {
        let to = format!("203.0.113.1:{port}");
        assert!((30_000..30_512).contains(&bench.udp_out(INSIDE, &to).port()));
        assert!((30_512..31_024).contains(&bench.udp_out(OTHER, &to).port()));
    }
}

#[test]
fn a_full_block_refuses_the_next_mapping() {
    let mut behaviour = behaviour("symmetric-block");
    behaviour.udp.translation.allocation = Allocation::Block { first: 40_000, size: 2 };
    let mut bench = Bench::of(behaviour);
    bench.udp_out(INSIDE, "203.0.113.1:1");
    bench.udp_out(INSIDE, "203.0.113.1:2");
    let third = bench.out(&udp(at(INSIDE), at("203.0.113.1:3"), 64, b""));
    assert_eq!(dropped(third), DropReason::NoPort);
}

#[test]
fn random_ports_stay_in_their_band_and_never_collide() {
    let mut behaviour = behaviour("symmetric-block");
    behaviour.udp.translation.allocation = Allocation::Random { low: 50_000, high: 50_099 };
    let mut bench = Bench::of(behaviour);
    let ports: std::collections::BTreeSet<u16> =
        (1..=100).map(|to| bench.udp_out(INSIDE, &format!("203.0.113.1:{to}")).port()).collect();
    assert_eq!(ports, (50_000..=50_099).collect());
}

#[test]
fn a_paired_pool_keeps_a_host_on_one_address_and_an_arbitrary_one_does_not() {
    let addresses = Addresses {
        inside: vec![ip("192.168.1.1")],
        outside: vec![ip("198.51.100.1"), ip("198.51.100.2")],
    };
    for (site, count) in [("symmetric-seq", 1), ("pool-arbitrary", 2)] {
        let nat = Nat::new(behaviour(site), addresses.clone(), Seed::from_number(1));
        let mut bench = Bench { nat, now: Instant::now() };
        let ips: std::collections::BTreeSet<IpAddr> =
            (1..9).map(|to| bench.udp_out(INSIDE, &format!("203.0.113.1:{to}")).ip()).collect();
        assert_eq!(ips.len(), count, "{site}");
    }
}

#[test]
fn a_host_may_not_have_more_mappings_than_its_limit() {
    let mut behaviour = behaviour("symmetric-seq");
    behaviour.limits.mappings_per_host = 3;
    let mut bench = Bench::of(behaviour);
    for port in 1..=3 {
        bench.udp_out(INSIDE, &format!("203.0.113.1:{port}"));
    }
    let fourth = udp(at(INSIDE), at("203.0.113.1:4"), 64, b"");
    assert_eq!(dropped(bench.out(&fourth)), DropReason::NoPort);
    bench.udp_out(OTHER, SERVER);
    bench.wait(31);
    outside(bench.out(&fourth));
}

#[test]
fn a_host_may_not_begin_more_flows_in_a_second_than_its_limit() {
    let mut behaviour = behaviour("masq");
    behaviour.limits.new_flows_per_second = 2;
    let mut bench = Bench::of(behaviour);
    bench.syn_out(INSIDE, "203.0.113.1:1", 1);
    bench.syn_out(INSIDE, "203.0.113.1:2", 1);
    let third = tcp(&Segment::syn(at(INSIDE), at("203.0.113.1:3"), 1));
    assert_eq!(dropped(bench.out(&third)), DropReason::TooFast);
    bench.syn_out(INSIDE, "203.0.113.1:2", 1);
    bench.wait(1);
    outside(bench.out(&third));
}
