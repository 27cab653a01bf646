//! Which flows share an outside port.

use super::*;

#[test]
fn an_endpoint_independent_mapping_is_the_same_towards_everybody() {
    let mut bench = Bench::new("port-restricted");
    let first = bench.udp_out(INSIDE, SERVER);
    assert_eq!(bench.udp_out(INSIDE, SERVER_PORT), first);
    assert_eq!(bench.udp_out(INSIDE, PEER), first);
    assert_ne!(first.port(), at(INSIDE).port());
    assert_eq!(first.ip(), ip("198.51.100.1"));
    assert_ne!(bench.udp_out(OTHER, SERVER), first);
}

#[test]
fn an_address_dependent_mapping_changes_with_the_remote_address_only() {
    let mut bench = Bench::new("address-dependent");
    let first = bench.udp_out(INSIDE, SERVER);
    assert_eq!(bench.udp_out(INSIDE, SERVER_PORT), first);
    assert_ne!(bench.udp_out(INSIDE, PEER), first);
}

#[test]
fn an_address_and_port_dependent_mapping_changes_with_either() {
    let mut bench = Bench::new("symmetric-seq");
    let first = bench.udp_out(INSIDE, SERVER);
    assert_eq!(bench.udp_out(INSIDE, SERVER), first);
    assert_ne!(bench.udp_out(INSIDE, SERVER_PORT), first);
}

#[test]
fn a_connection_dependent_mapping_changes_with_each_connection() {
    let mut bench = Bench::new("connection-dependent");
    let first = bench.syn_out(INSIDE, SERVER, 1000);
    assert_eq!(bench.syn_out(INSIDE, SERVER, 1000), first, "a retransmission is no new connection");
    assert_ne!(bench.syn_out(INSIDE, SERVER, 5000), first);
}

#[test]
fn a_firewall_translates_nothing_and_lets_in_what_was_asked_for() {
    let mut bench = Bench::new("firewall");
    assert_eq!(bench.udp_out("198.51.100.7:5000", SERVER), at("198.51.100.7:5000"));
    let to = at("198.51.100.7:5000");
    assert_eq!(inside(bench.udp_in(SERVER, to)).destination(), to);
    assert_eq!(dropped(bench.udp_in(PEER, to)), DropReason::Filtered);
}

#[test]
fn ipv6_without_an_outer_address_is_only_filtered() {
    let mut bench = Bench::new("port-restricted");
    let host = "[2001:db8:1::2]:5000";
    assert_eq!(bench.udp_out(host, "[2001:db8:2::1]:3478"), at(host));
    let answer = bench.udp_in("[2001:db8:2::1]:3478", at(host));
    assert_eq!(inside(answer).destination(), at(host));
    assert_eq!(dropped(bench.udp_in("[2001:db8:2::9]:1", at(host))), DropReason::Filtered);
}
