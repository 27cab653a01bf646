//! The TCP strategies in the simulated internet: what each pair needs, at which skews, how surely.

use std::time::Duration;

use ntcp_lab::host::Privileges;
use ntcp_lab::link::Quality;
use ntcp_lab::meeting::{Meeting, Setup};
use ntcp_proto::nat::InboundSynAfterSyn;
use ntcp_proto::puncher::report::{AttemptResult, Strategy};

use super::scene::{met, setup};

/// Calls both ways with callees that are late by each of these; each path within `slack` of the skew.
fn meets_at_every_skew(a: &str, b: &str, line: Duration, slack: Duration) {
    for (a, b) in [(a, b), (b, a)] {
        for skew in [0, 30, 100, 300].map(Duration::from_millis) {
            let access = Quality::delay(line);
            let setup = Setup { access, skew, ..setup(a, b) };
            let (_, elapsed) = met(&Meeting::new(&setup).call())
                .unwrap_or_else(|| panic!("{a} calls {b}, {skew:?} late: no path"));
            assert!(elapsed <= skew + slack, "{a} calls {b}, {skew:?} late: {elapsed:?}");
        }
    }
}

/// The delay of an access line in most tests.
const TEN: Duration = Duration::from_millis(10);
/// What a forecast or a round of recovery may take beyond the skew.
const ANSWERED: Duration = Duration::from_secs(4);

/// The same for each of these pairs.
fn all_meet(pairs: &[(&str, &str)], line: Duration, slack: Duration) {
    for (a, b) in pairs {
        meets_at_every_skew(a, b, line, slack);
    }
}

/// Two NATs that answer strangers, with RST and with ICMP errors.
const ANSWER: [(&str, &str); 2] =
    [("masq,in=reset", "masq,in=reset"), ("masq,in=reset", "masq,in=admin")];

#[test]
fn a_stream_that_is_there_before_its_session_waits_for_it() {
    for (a, b) in [("restricted", "full-cone"), ("linux-masq", "public")] {
        for skew in [100, 300].map(Duration::from_millis) {
            let outcome = Meeting::new(&Setup { skew, ..setup(a, b) }).call();
            let (_, elapsed) = met(&outcome).unwrap_or_else(|| panic!("{a} calls {b}: no path"));
            // The callee's listener has taken the caller's first SYN, long before the callee knew why.
            assert!(elapsed < skew, "{a} calls {b}, {skew:?} late: {elapsed:?}");
        }
    }
}

#[test]
fn nats_that_answer_strangers_are_passed_at_every_skew() {
    // Not a divisor of the skews: nothing arrives at the very instant at which something else ends.
    let line = Duration::from_micros(9_700);
    let slack = Duration::from_millis(160);
    all_meet(&ANSWER, line, slack);
    let others = [
        ("port-restricted,in=reset", "masq,in=open"),
        ("masq,in=reset@port-restricted", "masq,in=reset"),
    ];
    all_meet(&others, line, slack);
}

#[test]
fn nats_that_answer_strangers_are_passed_on_paths_below_a_millisecond() {
    all_meet(&ANSWER, Duration::from_micros(200), Duration::from_millis(30));
}

/// One-way delays of 10 to 100 ms, of which the skews are multiples: things happen at one instant.
fn meets_over_every_line(a: &str, b: &str) {
    for line in [5, 10, 25, 50].map(Duration::from_millis) {
        meets_at_every_skew(a, b, line, Duration::from_secs(4));
    }
}

#[test]
fn a_port_that_a_nat_gave_up_over_a_refusal_is_replaced() {
    for (a, b) in [
        ("port-restricted,rst=kill", "masq,in=reset"),
        ("full-cone,rst=kill", "port-restricted,in=reset"),
        ("preserving-cone,rst=kill", "masq,in=open"),
        ("port-restricted,rst=kill,in=reset", "port-restricted,rst=kill,in=reset"),
        ("port-restricted,unreach=kill", "masq,in=admin"),
        ("restricted,unreach=kill,in=admin", "port-restricted,unreach=kill,in=port"),
        ("port-restricted,ttlx=kill", "masq,in=reset"),
        ("port-restricted,ttlx=kill", "masq,in=admin"),
        ("port-restricted,rst=kill", "port-restricted,ttlx=kill"),
    ] {
        meets_over_every_line(a, b);
    }
}

#[test]
fn the_side_whose_port_survives_the_end_of_a_ttl_opens_in_one_of_two_rounds() {
    let (a, b) = ("port-restricted,rst=kill", "port-restricted,ttlx=kill,in=reset");
    meets_at_every_skew(a, b, Duration::from_millis(10), Duration::from_secs(4));
}

#[test]
fn a_flow_ruined_between_a_refusal_and_the_retry_is_left_for_another() {
    for (a, b) in [
        ("masq,in=admin", "masq,in=admin"),
        ("masq,in=admin", "masq,in=reset"),
        ("masq,in=open", "masq,in=admin"),
        ("masq,in=open", "masq,in=open"),
        ("port-restricted,in=port", "masq,in=admin"),
        ("masq,syn=strict,in=reset", "masq,in=reset"),
    ] {
        meets_over_every_line(a, b);
    }
}

#[test]
fn two_nats_that_take_back_whatever_opens_them_are_met_by_syns_that_cross() {
    let forgets =
        |nat: &str, answers: &str| format!("{nat},rst=kill,ttlx=kill,unreach=kill,in={answers}");
    for (nat, one, other) in [
        ("port-restricted", "reset", "reset"),
        ("port-restricted", "open", "admin"),
        ("masq", "reset", "admin"),
        ("preserving-cone", "admin", "admin"),
    ] {
        let (a, b) = (forgets(nat, one), forgets(nat, other));
        for line in [2500, 10_000, 25_000, 50_000].map(Duration::from_micros) {
            meets_at_every_skew(&a, &b, line, Duration::from_secs(7));
        }
    }
}

/// A call between nodes that know, and have told, what an RST and the end of a TTL do to holes of their NATs.
pub(crate) fn knowing(setup: &Setup, [a, b]: [[InboundSynAfterSyn; 2]; 2]) -> Meeting {
    let mut meeting = Meeting::new(&Setup { informed: true, ..setup.clone() });
    let nodes = [(meeting.a, &setup.a, a), (meeting.b, &setup.b, b)];
    for (node, site, [after_rst, after_icmp]) in nodes {
        let mut known = site.declared();
        known.tcp.inbound_syn_after_rst = Some(after_rst);
        known.tcp.inbound_syn_after_icmp = Some(after_icmp);
        meeting.world.command(node, |node, now| node.set_nat(known, now));
    }
    meeting.world.advance(Duration::from_secs(1));
    meeting
}

#[test]
fn what_is_known_of_holes_says_who_opens_and_how_and_whether_syns_must_cross() {
    use InboundSynAfterSyn::{Accepted, Dropped};
    const SHUTS: &str = "port-restricted,rst=kill,ttlx=kill,unreach=kill,in=reset";
    const OPENS: &str = "port-restricted,rst=kill,in=reset";
    const LASTS: &str = "port-restricted,rst=ignore,ttlx=kill,in=reset";
    let shuts = [Dropped, Dropped];
    for (a, b, knows) in [
        (SHUTS, SHUTS, [shuts, shuts]),
        (SHUTS, OPENS, [shuts, [Dropped, Accepted]]),
        (LASTS, SHUTS, [[Accepted, Dropped], shuts]),
    ] {
        for skew in [100, 300].map(Duration::from_millis) {
            for (a, b, knows) in [(a, b, knows), (b, a, [knows[1], knows[0]])] {
                let setup = Setup { skew, ..setup(a, b) };
                let time = |meeting: &mut Meeting| met(&meeting.call()).map(|(_, elapsed)| elapsed);
                let blind = Setup { informed: true, ..setup.clone() };
                let blind = time(&mut Meeting::new(&blind)).expect("a path in the end");
                let known = time(&mut knowing(&setup, knows)).expect("a path");
                println!("{a} calls {b}, {skew:?} late: {known:?} instead of {blind:?}");
                assert!(known <= blind, "{a} calls {b}, {skew:?} late: {known:?}, {blind:?}");
            }
        }
    }
}

#[test]
fn an_unreachable_private_address_does_not_cost_the_punching_port() {
    let outcome = Meeting::new(&setup("port-restricted,unreach=kill", "masq")).call();
    let (strategy, elapsed) = met(&outcome).expect("a path");
    let limit = Duration::from_millis(80);
    assert_eq!((strategy, elapsed), (Strategy::SimultaneousOpen, limit), "at the limit");
}

#[test]
fn a_sequential_port_for_each_address_is_foretold_as_well() {
    let pairs = [
        ("address-seq", "address-seq"),
        ("address-seq", "symmetric-step"),
        ("address-seq", "masq,in=reset"),
        ("symmetric-seq", "masq,in=admin"),
    ];
    all_meet(&pairs, TEN, ANSWERED);
}

#[test]
fn a_carrier_before_a_home_and_a_missing_udp_make_no_difference() {
    let pairs = [
        ("masq@symmetric-seq", "masq@symmetric-seq"),
        ("masq@symmetric-seq", "symmetric-step,udp=block"),
        ("masq,in=reset@symmetric-seq", "masq,in=reset"),
        ("masq,udp=block@port-restricted", "masq@symmetric-seq,udp=block"),
        ("masq@masq", "masq@masq,in=reset"),
        ("port-restricted@masq,in=reset", "masq@port-restricted,udp=block"),
    ];
    all_meet(&pairs, TEN, ANSWERED);
}

#[test]
fn ports_that_follow_one_another_are_foretold() {
    let pairs = [
        ("symmetric-seq", "masq"),
        ("symmetric-step", "port-restricted,in=reset"),
        ("symmetric-seq", "symmetric-step"),
        ("symmetric-seq,in=reset", "symmetric-seq,in=reset"),
        ("masq@symmetric-seq", "masq"),
    ];
    all_meet(&pairs, TEN, ANSWERED);
}

#[test]
fn a_random_side_meets_a_steady_one_within_six_seconds_nearly_always() {
    for (a, b, least) in [
        ("linux-random", "port-restricted", 25),
        ("port-restricted", "linux-random", 25),
        ("linux-random", "masq,in=reset", 24),
        ("masq@linux-random", "masq", 24),
    ] {
        let came = |seed: &u64| {
            let patience = Duration::from_secs(6);
            let setup = Setup { seed: *seed, patience, ..setup(a, b) };
            let met = met(&Meeting::new(&setup).call());
            met.is_some_and(|(strategy, _)| strategy == Strategy::PortCoverage)
        };
        let count = (1..=25).filter(came).count();
        assert!(count >= least, "{a} calls {b}: {count} of 25");
    }
}

#[test]
fn two_strict_nats_are_passed_by_a_ghost_and_by_nothing_else() {
    for (a, b) in [
        ("masq,syn=strict", "masq,syn=strict"),
        ("masq,syn=strict,in=reset", "port-restricted,syn=strict,in=reset"),
    ] {
        for skew in [0, 300].map(Duration::from_millis) {
            let privileges = Privileges { raw: false, admin: true };
            let privileged = Setup { privileges, skew, ..setup(a, b) };
            let (strategy, _) = met(&Meeting::new(&privileged).call()).expect("a ghost passes");
            assert_eq!(strategy, Strategy::GhostHandshake);
        }
        let outcome =
            Meeting::new(&Setup { patience: Duration::from_secs(3), ..setup(a, b) }).call();
        let report = outcome.report.unwrap();
        let skipped = |it: &&ntcp_proto::puncher::report::Attempt| {
            it.result == AttemptResult::Skipped && it.strategy == Strategy::GhostHandshake
        };
        let ghost = report.attempts.iter().find(skipped).expect("it says so");
        assert_eq!(ghost.evidence[0].to_string(), "skipped: needs CAP_NET_ADMIN here");
    }
}

#[test]
fn ordinary_pairs_need_no_more_connects_than_before() {
    for (a, b) in [("masq", "masq"), ("port-restricted", "masq,in=reset")] {
        let outcome = Meeting::new(&setup(a, b)).call();
        let report = outcome.report.unwrap();
        assert_eq!(report.strategy, Some(Strategy::SimultaneousOpen));
        assert_eq!(report.elapsed_ms, Some(80.0), "{a} calls {b}: at the limit");
    }
}
