//! What hosts make by hand in the simulated internet: where simultaneous open fails for good.

use std::time::Duration;

use ntcp_lab::host::Privileges;
use ntcp_lab::link::Quality;
use ntcp_lab::meeting::{Meeting, Setup};
use ntcp_lab::packet::{Packet, flag};
use ntcp_proto::nat::OutboundSynAck;
use ntcp_proto::puncher::report::{AttemptResult, Strategy};
use ntcp_proto::tcp_traversal::plan::Privileges as Held;

use super::scene::{self, met};

const RAW: Privileges = Privileges { raw: true, admin: false };
const ADMIN: Privileges = Privileges { raw: false, admin: true };
const STRICT: &str = "masq,syn=strict";

fn setup(a: &str, b: &str, privileges: Privileges, skew: Duration) -> Setup {
    // Not a divisor of the skews: nothing arrives at the very instant at which something else ends.
    let access = Quality::delay(Duration::from_micros(9_700));
    Setup { privileges, skew, access, ..scene::setup(a, b) }
}

/// Gives the two nodes of a meeting privileges of their own.
fn grant(meeting: &mut Meeting, privileges: [Privileges; 2]) {
    let (nodes, hosts) = ([meeting.a, meeting.b], meeting.hosts);
    for ((node, host), held) in nodes.into_iter().zip(hosts).zip(privileges) {
        meeting.world.grant(host, held);
        let held = Held { assume: held.admin, capture: held.raw, inject: held.raw };
        meeting.world.command(node, |node, _| node.set_privileges(held));
    }
}

#[test]
fn two_strict_nats_are_passed_by_raw_sockets_alone() {
    for nat in [STRICT, "port-restricted,syn=strict", "masq,syn=strict,in=reset,loose=no"] {
        for skew in [0, 30, 100, 300].map(Duration::from_millis) {
            let outcome = Meeting::new(&setup(nat, STRICT, RAW, skew)).call();
            let (strategy, elapsed) = met(&outcome)
                .unwrap_or_else(|| panic!("{nat}, {skew:?} late: {:#?}", outcome.report));
            assert_eq!(strategy, Strategy::SynAckInjection, "{nat}, {skew:?} late");
            assert!(elapsed < Duration::from_secs(2) + skew, "{nat}, {skew:?} late: {elapsed:?}");
        }
    }
}

#[test]
fn a_fixed_sequence_number_does_where_nothing_may_be_captured() {
    let pinned = Held { assume: true, capture: false, inject: true };
    // Here no flow is picked up in the middle, as a ghost needs it.
    let loose = setup("masq,syn=strict,loose=no", STRICT, Privileges::ALL, Duration::ZERO);
    let mut meeting = Meeting::new(&loose);
    for node in [meeting.a, meeting.b] {
        meeting.world.command(node, |node, _| node.set_privileges(pinned));
    }
    let outcome = meeting.call();
    let strategy = met(&outcome).map(|it| it.0);
    assert_eq!(strategy, Some(Strategy::SynAckInjection), "{:#?}", outcome.report);
}

#[test]
fn a_rst_that_takes_the_mapping_away_is_avoided_at_every_skew() {
    let (kill, reset) = ("port-restricted,rst=kill", "masq,in=reset");
    for (a, b) in [(kill, reset), (reset, kill)] {
        for skew in [0, 30, 100, 300].map(Duration::from_millis) {
            let outcome = Meeting::new(&setup(a, b, RAW, skew)).call();
            let (_, elapsed) = met(&outcome)
                .unwrap_or_else(|| panic!("{a} calls {b}, {skew:?} late: {:#?}", outcome.report));
            assert!(elapsed < Duration::from_secs(2) + skew, "{a}, {b}, {skew:?}: {elapsed:?}");
        }
    }
    let both = "port-restricted,rst=kill,in=reset";
    for skew in [0, 30, 100, 300].map(Duration::from_millis) {
        let outcome = Meeting::new(&setup(both, both, RAW, skew)).call();
        let (strategy, _) =
            met(&outcome).unwrap_or_else(|| panic!("{skew:?} late: {:#?}", outcome.report));
        // A round of shielded openers from fresh ports is as good, and comes first.
        let crosses = skew.is_zero();
        let either = [Strategy::ShieldedOpener, Strategy::SynReplay].contains(&strategy);
        assert!(crosses || either, "{skew:?} late: {strategy}");
    }
}

#[test]
fn where_both_nats_let_answers_out_none_waits_for_the_syns_to_have_crossed() {
    let nat = "port-restricted,window=off,syn=strict";
    let call = |known: Option<OutboundSynAck>| {
        let setup = Setup { informed: true, ..setup(nat, nat, RAW, Duration::ZERO) };
        let mut meeting = Meeting::new(&setup);
        for (node, site) in [(meeting.a, &setup.a), (meeting.b, &setup.b)] {
            let mut report = site.declared();
            assert_eq!(report.tcp.syn_ack_after_syn, Some(OutboundSynAck::Passed));
            report.tcp.syn_ack_after_syn = known;
            meeting.world.command(node, |node, now| node.set_nat(report, now));
        }
        met(&meeting.call()).expect("a path")
    };
    let (strategy, known) = call(Some(OutboundSynAck::Passed));
    assert_eq!(strategy, Strategy::SynAckInjection);
    let (_, unknown) = call(None);
    assert!(known + Duration::from_millis(100) < unknown, "{known:?}, {unknown:?}");
}

#[test]
fn one_side_with_raw_sockets_is_enough_to_inject_a_syn() {
    for privileges in [[RAW, ADMIN], [ADMIN, RAW]] {
        let none = setup(STRICT, STRICT, Privileges::NONE, Duration::ZERO);
        let mut meeting = Meeting::new(&none);
        grant(&mut meeting, privileges);
        let outcome = meeting.call();
        let strategy = met(&outcome).map(|it| it.0);
        assert!(strategy.is_some(), "{privileges:?}: {:#?}", outcome.report);
        // Who does not inject only sees the handshake end.
        if privileges[0] == RAW {
            assert_eq!(strategy, Some(Strategy::SynInjection), "{privileges:?}");
        }
    }
}

#[test]
fn what_it_takes_is_said_where_it_is_missing() {
    let none = setup(STRICT, STRICT, Privileges::NONE, Duration::ZERO);
    let none = Setup { patience: Duration::from_secs(3), ..none };
    let report = Meeting::new(&none).call().report.unwrap();
    for strategy in [Strategy::SynAckInjection, Strategy::SynInjection] {
        let skipped = |it: &&ntcp_proto::puncher::report::Attempt| {
            it.result == AttemptResult::Skipped && it.strategy == strategy
        };
        let attempt = report.attempts.iter().find(skipped).expect("it says so");
        assert_eq!(attempt.evidence[0].to_string(), "skipped: needs CAP_NET_RAW here");
    }
}

#[test]
fn nothing_is_left_behind_when_a_path_stands_or_none_does() {
    // What is made by hand has the wrong numbers where a NAT rewrites them.
    for (nat, comes) in [(STRICT, true), ("masq,syn=strict,isn=rewrite", false)] {
        let setup = Setup { record: true, ..setup(nat, nat, RAW, Duration::from_millis(100)) };
        let mut meeting = Meeting::new(&setup);
        let outcome = meeting.call();
        assert_eq!(met(&outcome).is_some(), comes, "{nat}: {:#?}", outcome.report);
        meeting.world.advance(Duration::from_secs(40));
        let ended = meeting.world.clock();
        let before = meeting.world.trace().journeys().len();
        meeting.world.advance(Duration::from_secs(60));
        let syns = meeting.world.trace().journeys()[before..].iter().filter(|journey| {
            let Ok(packet) = Packet::parse(&journey.stations[0].packet) else { return false };
            let to_server = packet.destination_ip().to_string().starts_with("203.0.113.");
            !to_server && packet.tcp().is_some_and(|fields| fields.has(flag::SYN))
        });
        assert_eq!(syns.count(), 0, "{nat}: SYNs after {ended:?}");
        for host in meeting.hosts {
            assert_eq!(meeting.world.captures(host), 0, "{nat}: a capture is left");
        }
    }
}

#[test]
fn where_syns_pass_nothing_is_made_by_hand() {
    for (a, b) in [("masq", "masq"), ("masq,in=reset", "masq,in=reset"), (STRICT, "masq")] {
        let setup = setup(a, b, RAW, Duration::ZERO);
        let outcome = Meeting::new(&setup).call();
        let report = outcome.report.unwrap();
        let by_hand = [Strategy::SynReplay, Strategy::SynAckInjection, Strategy::SynInjection];
        let tried = |it: &&ntcp_proto::puncher::report::Attempt| {
            by_hand.contains(&it.strategy) && it.result != AttemptResult::Skipped
        };
        assert!(report.strategy.is_some_and(|it| !by_hand.contains(&it)), "{report:#?}");
        assert_eq!(report.attempts.iter().find(tried), None, "{a} calls {b}");
    }
}
