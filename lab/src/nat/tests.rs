//! Every axis of a NAT, one packet after the other.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ntcp_proto::entropy::Seed;
use proptest::prelude::*;

use super::behaviour::*;
use super::*;
use crate::packet::{IcmpError, Segment, TcpFields, flag, icmp_error, tcp, udp};
use crate::presets::{SITES, Site};

const INSIDE: &str = "192.168.1.2:5000";
const OTHER: &str = "192.168.1.3:5000";
const SERVER: &str = "203.0.113.1:3478";
const SERVER_PORT: &str = "203.0.113.1:3479";
const PEER: &str = "203.0.113.9:7000";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn behaviour(site: &str) -> Behaviour {
    site.parse::<Site>().unwrap().boxes[0].behaviour
}

/// A NAT under test and its clock.
struct Bench {
    nat: Nat,
    now: Instant,
}

/// What came out, taken apart.
#[derive(Debug)]
struct Seen {
    packet: Packet,
}

impl Seen {
    fn source(&self) -> SocketAddr {
        self.packet.source().unwrap()
    }
    fn destination(&self) -> SocketAddr {
        self.packet.destination().unwrap()
    }
    fn tcp(&self) -> TcpFields {
        self.packet.tcp().unwrap()
    }
}

fn open(bytes: &[u8]) -> Seen {
    let packet = Packet::parse(bytes).unwrap();
    assert_eq!(packet.clone().seal(), bytes, "checksums are right");
    Seen { packet }
}

fn outside(verdict: Verdict) -> Seen {
    match verdict {
        Verdict::Outside(bytes) => open(&bytes),
        other => panic!("not sent to the outside: {other:?}"),
    }
}

fn inside(verdict: Verdict) -> Seen {
    match verdict {
        Verdict::Inside(bytes) => open(&bytes),
        other => panic!("not sent to the inside: {other:?}"),
    }
}

fn dropped(verdict: Verdict) -> DropReason {
    match verdict {
        Verdict::Dropped(reason) => reason,
        other => panic!("not dropped: {other:?}"),
    }
}

impl Bench {
    fn new(site: &str) -> Self {
        Self::of(behaviour(site))
    }

    fn of(behaviour: Behaviour) -> Self {
        let addresses = Addresses::new(ip("192.168.1.1"), ip("198.51.100.1"));
        Self { nat: Nat::new(behaviour, addresses, Seed::from_number(7)), now: Instant::now() }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn out(&mut self, bytes: &[u8]) -> Verdict {
        self.nat.process_outbound(bytes, self.now)
    }

    fn back(&mut self, bytes: &[u8]) -> Verdict {
        self.nat.process_inbound(bytes, self.now)
    }

    fn udp_out(&mut self, from: &str, to: &str) -> SocketAddr {
        outside(self.out(&udp(at(from), at(to), 64, b"ping"))).source()
    }

    fn udp_in(&mut self, from: &str, to: SocketAddr) -> Verdict {
        self.back(&udp(at(from), to, 64, b"pong"))
    }

    fn syn_out(&mut self, from: &str, to: &str, sequence: u32) -> SocketAddr {
        outside(self.out(&tcp(&Segment::syn(at(from), at(to), sequence)))).source()
    }

    fn segment_out(&mut self, to: &str, flags: u8, sequence: u32, ack: u32) -> Verdict {
        self.out(&segment(at(INSIDE), at(to), flags, sequence, ack))
    }

    fn segment_in(&mut self, from: &str, to: SocketAddr, flags: u8, seq: u32, ack: u32) -> Verdict {
        self.back(&segment(at(from), to, flags, seq, ack))
    }
}

fn segment(
    source: SocketAddr,
    destination: SocketAddr,
    flags: u8,
    sequence: u32,
    acknowledgment: u32,
) -> Vec<u8> {
    let (ttl, payload) = (64, Vec::new());
    tcp(&Segment { source, destination, ttl, flags, sequence, acknowledgment, payload })
}

// --- mapping -------------------------------------------------------------------------------------

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

// --- allocation ----------------------------------------------------------------------------------

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

// --- filtering -----------------------------------------------------------------------------------

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

// --- unsolicited packets ------------------------------------------------------------------------

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

// --- TCP tracking --------------------------------------------------------------------------------

const SYN: u8 = flag::SYN;
const ACK: u8 = flag::ACK;
const RST: u8 = flag::RST;
const FIN: u8 = flag::FIN;
const SYN_ACK: u8 = flag::SYN | flag::ACK;

#[test]
fn a_plain_handshake_data_and_close_pass_both_ways() {
    let mut bench = Bench::new("masq");
    let external = bench.syn_out(INSIDE, PEER, 100);
    inside(bench.segment_in(PEER, external, SYN_ACK, 900, 101));
    outside(bench.segment_out(PEER, ACK, 101, 901));
    let data = Segment {
        source: at(INSIDE),
        destination: at(PEER),
        ttl: 64,
        flags: ACK | flag::PSH,
        sequence: 101,
        acknowledgment: 901,
        payload: vec![7; 1400],
    };
    assert_eq!(outside(bench.out(&tcp(&data))).packet.payload(), [7; 1400]);
    inside(bench.segment_in(PEER, external, ACK, 901, 1501));
    outside(bench.segment_out(PEER, FIN | ACK, 1501, 901));
    inside(bench.segment_in(PEER, external, FIN | ACK, 901, 1502));
    outside(bench.segment_out(PEER, ACK, 1502, 902));
}

#[test]
fn crossing_syns_are_a_handshake() {
    let mut bench = Bench::new("masq");
    let external = bench.syn_out(INSIDE, PEER, 100);
    inside(bench.segment_in(PEER, external, SYN, 900, 0));
    outside(bench.segment_out(PEER, SYN_ACK, 100, 901));
    inside(bench.segment_in(PEER, external, SYN_ACK, 900, 101));
    outside(bench.segment_out(PEER, ACK, 101, 901));
    inside(bench.segment_in(PEER, external, ACK, 901, 101));
}

#[test]
fn a_syn_ack_from_inside_is_invalid_until_the_peers_syn_has_passed() {
    let mut bench = Bench::new("masq");
    let external = bench.syn_out(INSIDE, PEER, 100);
    assert_eq!(dropped(bench.segment_out(PEER, SYN_ACK, 100, 901)), DropReason::Invalid);
    inside(bench.segment_in(PEER, external, SYN, 900, 0));
    outside(bench.segment_out(PEER, SYN_ACK, 100, 901));
}

#[test]
fn another_initial_sequence_number_is_learnt_before_the_peers_syn_and_refused_after_it() {
    let mut bench = Bench::new("masq");
    let external = bench.syn_out(INSIDE, PEER, 100);
    bench.syn_out(INSIDE, PEER, 70_100);
    inside(bench.segment_in(PEER, external, SYN, 900, 0));
    for (flags, ack) in [(SYN_ACK, 901), (SYN, 0)] {
        let verdict = bench.segment_out(PEER, flags, 170_100, ack);
        assert_eq!(dropped(verdict), DropReason::Invalid, "the listener of connect-close-listen");
    }
    outside(bench.segment_out(PEER, SYN_ACK, 70_100, 901));
}

#[test]
fn a_liberal_window_lets_another_initial_sequence_number_pass() {
    for site in ["masq,window=liberal", "masq,window=off"] {
        let mut bench = Bench::new(site);
        let external = bench.syn_out(INSIDE, PEER, 100);
        inside(bench.segment_in(PEER, external, SYN, 900, 0));
        outside(bench.segment_out(PEER, SYN_ACK, 170_100, 901));
    }
}

#[test]
fn without_tracking_a_syn_ack_may_leave_at_once() {
    let mut bench = Bench::new("masq,window=off");
    bench.syn_out(INSIDE, PEER, 100);
    outside(bench.segment_out(PEER, SYN_ACK, 100, 901));
}

#[test]
fn an_invalid_packet_leaks_with_its_private_source_if_nothing_drops_it() {
    let mut bench = Bench::new("masq,invalid=leak");
    bench.syn_out(INSIDE, PEER, 100);
    let leaked = outside(bench.segment_out(PEER, SYN_ACK, 100, 901));
    assert_eq!(leaked.source(), at(INSIDE));
}

#[test]
fn an_inbound_syn_after_a_syn_is_refused_by_strict_boxes_yet_noticed() {
    for site in ["masq,syn=strict", "masq,syn=reset"] {
        let mut bench = Bench::new(site);
        let external = bench.syn_out(INSIDE, PEER, 100);
        match bench.segment_in(PEER, external, SYN, 900, 0) {
            Verdict::Dropped(DropReason::InboundSyn) => assert_eq!(site, "masq,syn=strict"),
            other => assert!(outside(other).tcp().has(RST), "{site}"),
        }
        // Connection tracking has seen it: the SYN-ACK to it may leave, the peer's may come in.
        outside(bench.segment_out(PEER, SYN_ACK, 100, 901));
        inside(bench.segment_in(PEER, external, SYN_ACK, 900, 101));
    }
}

#[test]
fn a_strict_full_cone_lets_no_connection_in_and_remembers_none() {
    let mut bench = Bench::new("full-cone,syn=strict");
    let external = bench.syn_out(INSIDE, SERVER, 100);
    let verdict = bench.segment_in(PEER, external, SYN, 900, 0);
    assert_eq!(dropped(verdict), DropReason::InboundSyn);
    let mut open = Bench::new("full-cone");
    let external = open.syn_out(INSIDE, SERVER, 100);
    inside(open.segment_in(PEER, external, SYN, 900, 0));
    outside(open.segment_out(PEER, SYN_ACK, 300, 901));
    inside(open.segment_in(PEER, external, ACK, 901, 301));
}

#[test]
fn a_rst_deletes_an_unanswered_flow_and_the_retry_gets_what_the_allocation_gives() {
    for (site, same) in [("masq", true), ("port-restricted", true), ("symmetric-seq", false)] {
        let mut bench = Bench::new(site);
        let external = bench.syn_out(INSIDE, PEER, 100);
        inside(bench.segment_in(PEER, external, RST | ACK, 0, 101));
        let after = bench.segment_in(PEER, external, SYN, 900, 0);
        assert!(!matches!(after, Verdict::Inside(_)), "{site}: the hole is closed");
        assert_eq!(bench.syn_out(INSIDE, PEER, 200) == external, same, "{site}");
    }
}

#[test]
fn the_effect_of_a_rst_is_an_axis() {
    for (site, open, port_kept) in [
        ("port-restricted,rst=ignore", true, true),
        ("port-restricted,rst=shorten", true, true),
        ("port-restricted,rst=delete", false, true),
        ("port-restricted,rst=kill", false, false),
    ] {
        let mut bench = Bench::new(site);
        let external = bench.syn_out(INSIDE, PEER, 100);
        inside(bench.segment_in(PEER, external, RST | ACK, 0, 101));
        let mut later = Bench { nat: bench.nat.clone(), now: bench.now + Duration::from_secs(11) };
        let syn_ack = bench.segment_in(PEER, external, SYN_ACK, 900, 101);
        assert_eq!(matches!(syn_ack, Verdict::Inside(_)), open, "{site}");
        assert_eq!(later.syn_out(INSIDE, PEER, 900) == external, port_kept, "{site}");
    }
}

#[test]
fn a_shortened_flow_ends_with_the_closing_timer() {
    let mut bench = Bench::new("port-restricted,rst=shorten");
    let external = bench.syn_out(INSIDE, PEER, 100);
    inside(bench.segment_in(PEER, external, RST | ACK, 0, 101));
    bench.wait(11);
    let verdict = bench.segment_in(PEER, external, SYN_ACK, 900, 101);
    assert_eq!(dropped(verdict), DropReason::Filtered);
}

#[test]
fn an_established_flow_survives_the_deletion_rule_for_ten_seconds() {
    let mut bench = Bench::new("masq");
    let external = bench.syn_out(INSIDE, PEER, 100);
    inside(bench.segment_in(PEER, external, SYN_ACK, 900, 101));
    outside(bench.segment_out(PEER, ACK, 101, 901));
    inside(bench.segment_in(PEER, external, RST, 901, 0));
    bench.wait(9);
    outside(bench.segment_out(PEER, ACK, 101, 901));
    bench.wait(11);
    let verdict = bench.segment_in(PEER, external, ACK, 901, 101);
    assert_eq!(dropped(verdict), DropReason::NoMapping);
}

#[test]
fn a_flow_is_picked_up_in_the_middle_where_the_box_is_loose() {
    for (site, passes) in [("masq", true), ("masq,loose=no", false)] {
        let mut bench = Bench::new(site);
        let verdict = bench.segment_out(PEER, ACK, 101, 901);
        assert_eq!(matches!(verdict, Verdict::Outside(_)), passes, "{site}");
        if passes {
            inside(bench.segment_in(PEER, at("198.51.100.1:5000"), ACK, 500_901, 101));
        }
    }
    let mut bench = Bench::new("masq");
    bench.syn_out(INSIDE, PEER, 100);
    let verdict = bench.segment_out(PEER, ACK, 101, 901);
    assert_eq!(dropped(verdict), DropReason::Invalid, "not after a real SYN");
}

#[test]
fn data_outside_every_window_is_invalid() {
    let mut bench = Bench::new("masq");
    let external = bench.syn_out(INSIDE, PEER, 100);
    inside(bench.segment_in(PEER, external, SYN_ACK, 900, 101));
    outside(bench.segment_out(PEER, ACK, 101, 901));
    let late = bench.segment_in(PEER, external, ACK, 901, 101 + 200_000);
    assert_eq!(dropped(late), DropReason::Invalid, "acknowledges what was never sent");
    let far = Segment {
        source: at(PEER),
        destination: external,
        ttl: 64,
        flags: ACK,
        sequence: 901 + 200_000,
        acknowledgment: 101,
        payload: vec![1],
    };
    assert_eq!(dropped(bench.back(&tcp(&far))), DropReason::Invalid);
    let blind = bench.segment_in(PEER, external, RST, 901 + 200_000, 0);
    assert_eq!(dropped(blind), DropReason::Invalid, "a RST is judged by its sequence number");
    inside(bench.segment_in(PEER, external, ACK, 901, 101));
}

#[test]
fn sequence_numbers_are_rewritten_both_ways() {
    let mut bench = Bench::new("port-restricted,isn=rewrite");
    let syn = outside(bench.out(&tcp(&Segment::syn(at(INSIDE), at(PEER), 100))));
    let offset = syn.tcp().sequence.wrapping_sub(100);
    assert_ne!(offset, 0);
    let acknowledgment = syn.tcp().sequence.wrapping_add(1);
    let answer = inside(bench.segment_in(PEER, syn.source(), SYN_ACK, 900, acknowledgment));
    assert_eq!((answer.tcp().sequence, answer.tcp().acknowledgment), (900, 101));
    let ack = outside(bench.segment_out(PEER, ACK, 101, 901));
    assert_eq!(ack.tcp().sequence, acknowledgment);
    assert_eq!(ack.tcp().acknowledgment, 901);
}

#[test]
fn tcp_timers_follow_the_state() {
    let timers = TcpTimers::default();
    let mut bench = Bench::new("masq");
    let external = bench.syn_out(INSIDE, PEER, 100);
    bench.now += timers.syn_sent;
    let verdict = bench.segment_in(PEER, external, SYN_ACK, 900, 101);
    assert_eq!(dropped(verdict), DropReason::NoMapping);
    bench.syn_out(INSIDE, PEER, 100);
    inside(bench.segment_in(PEER, external, SYN_ACK, 900, 101));
    outside(bench.segment_out(PEER, ACK, 101, 901));
    bench.now += timers.established - Duration::from_secs(1);
    inside(bench.segment_in(PEER, external, ACK, 901, 101));
    bench.now += timers.established;
    let verdict = bench.segment_in(PEER, external, ACK, 901, 101);
    assert_eq!(dropped(verdict), DropReason::NoMapping);
}

#[test]
fn udp_lives_thirty_seconds_unanswered_and_two_minutes_answered() {
    let mut bench = Bench::new("port-restricted");
    let external = bench.udp_out(INSIDE, SERVER);
    bench.wait(29);
    inside(bench.udp_in(SERVER, external));
    bench.wait(119);
    inside(bench.udp_in(SERVER, external));
    bench.wait(120);
    assert_eq!(dropped(bench.udp_in(SERVER, external)), DropReason::NoMapping);
    let fresh = bench.udp_out(INSIDE, SERVER);
    assert_ne!(fresh, external, "a random port is drawn anew");
    bench.wait(30);
    assert_eq!(dropped(bench.udp_in(SERVER, fresh)), DropReason::NoMapping);
}

// --- ICMP and TTL --------------------------------------------------------------------------------

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

// --- hairpin -------------------------------------------------------------------------------------

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

// --- whatever arrives ----------------------------------------------------------------------------

#[test]
fn fragments_and_strange_protocols_are_dropped_by_name() {
    let mut bench = Bench::new("masq");
    let mut fragment = udp(at(INSIDE), at(SERVER), 64, b"x");
    fragment[6] = 0x20;
    assert_eq!(dropped(bench.out(&fragment)), DropReason::Fragment);
    let mut strange = udp(at(INSIDE), at(SERVER), 64, b"x");
    strange[9] = 47;
    assert_eq!(dropped(bench.out(&strange)), DropReason::Protocol);
    assert_eq!(dropped(bench.out(&[])), DropReason::Malformed);
}

fn some_packet() -> impl Strategy<Value = Vec<u8>> {
    let ends = (0u8..4, 0u16..4, 0u8..4, 0u16..4, 0u8..5, any::<u8>());
    let body = (any::<u8>(), 0u32..4, 0u32..4, proptest::collection::vec(any::<u8>(), 0..40));
    (ends, body).prop_map(|((host, port, remote, to, ttl, kind), (flags, seq, ack, payload))| {
        let inside = SocketAddr::new([192, 168, 1, host].into(), 5000 + port);
        let outside = SocketAddr::new([198, 51, 100, remote].into(), 5000 + to);
        let (source, destination) =
            if kind & 1 == 0 { (inside, outside) } else { (outside, inside) };
        match kind & 6 {
            0 => udp(source, destination, ttl, &payload),
            2 => tcp(&Segment {
                source,
                destination,
                ttl,
                flags,
                sequence: seq.wrapping_sub(2),
                acknowledgment: ack.wrapping_sub(2),
                payload,
            }),
            _ => {
                let cause = Packet::parse(&udp(destination, source, ttl, &payload)).unwrap();
                icmp_error(source.ip(), &cause, IcmpError::TimeExceeded).unwrap()
            }
        }
    })
}

/// A packet, perhaps with some bytes replaced and its end cut off.
fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let cut = any::<prop::sample::Index>();
    let damaged =
        (some_packet(), damage, cut, any::<bool>()).prop_map(|(mut bytes, damage, cut, whole)| {
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let length = if whole { bytes.len() } else { cut.index(bytes.len()) };
            bytes.truncate(length);
            bytes
        });
    prop_oneof![damaged, proptest::collection::vec(any::<u8>(), 0..120)]
}

fn some_behaviour() -> impl Strategy<Value = Behaviour> {
    let settings = prop::sample::subsequence(
        vec![
            "in=open",
            "in=reset",
            "in=admin",
            "syn=strict",
            "syn=reset",
            "rst=kill",
            "rst=ignore",
            "ttlx=kill",
            "hairpin=yes",
            "hairpin=raw",
            "isn=rewrite",
            "window=off",
            "window=liberal",
            "invalid=leak",
            "loose=no",
            "ttl=reset",
            "filter=ei",
        ],
        0..6,
    );
    let site = prop::sample::select(SITES.to_vec());
    (site, settings).prop_filter_map("public has no box", |(site, settings)| {
        let base = site.split('@').next().unwrap();
        let text = [&[base][..], &settings[..]].concat().join(",");
        text.parse::<Site>().ok()?.boxes.first().map(|nat| nat.behaviour)
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        behaviour in some_behaviour(),
        packets in proptest::collection::vec((some_bytes(), any::<bool>(), 0u64..40), 1..40),
    ) {
        let mut bench = Bench::of(behaviour);
        for (bytes, outwards, seconds) in packets {
            bench.wait(seconds);
            let verdict = if outwards { bench.out(&bytes) } else { bench.back(&bytes) };
            if let Verdict::Outside(bytes) | Verdict::Inside(bytes) = verdict {
                prop_assert!(Packet::parse(&bytes).is_ok());
            }
        }
    }

    #[test]
    fn equal_keys_share_an_external_end_and_exclusive_ends_have_one_key(
        behaviour in some_behaviour(),
        packets in proptest::collection::vec((some_packet(), any::<bool>(), 0u64..40), 1..60),
    ) {
        let mut bench = Bench::of(behaviour);
        for (bytes, outwards, seconds) in packets {
            bench.wait(seconds);
            let _ = if outwards { bench.out(&bytes) } else { bench.back(&bytes) };
            let alive: Vec<MappingView> = bench.nat.mappings(bench.now).collect();
            for (at, one) in alive.iter().enumerate() {
                for other in &alive[at + 1..] {
                    prop_assert_ne!(one.key, other.key);
                    let shared = one.external == other.external
                        && one.key.transport() == other.key.transport();
                    prop_assert!(!shared || !one.key.meets(&other.key));
                }
            }
        }
    }

    #[test]
    fn equal_seeds_give_equal_packets(
        behaviour in some_behaviour(),
        packets in proptest::collection::vec((some_packet(), any::<bool>()), 1..30),
    ) {
        let (mut one, mut other) = (Bench::of(behaviour), Bench::of(behaviour));
        for (bytes, outwards) in packets {
            let verdicts = [&mut one, &mut other].map(|bench| {
                if outwards { bench.out(&bytes) } else { bench.back(&bytes) }
            });
            prop_assert_eq!(&verdicts[0], &verdicts[1]);
        }
    }
}
