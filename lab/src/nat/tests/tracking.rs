//! TCP flows, as connection tracking sees them.

use super::*;

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
