//! The TCP strategies in the simulated internet: what each pair needs, at which skews, how surely.

use std::time::Duration;

use ntcp_lab::host::Privileges;
use ntcp_lab::link::Quality;
use ntcp_lab::meeting::{Meeting, Outcome, Setup};
use ntcp_lab::presets::Site;
use ntcp_proto::puncher::report::{AttemptResult, Strategy};
use ntcp_proto::uri::TransportChoice;

fn site(text: &str) -> Site {
    text.parse().unwrap()
}

fn setup(a: &str, b: &str) -> Setup {
    Setup { transport: TransportChoice::Tcp, ..Setup::new(&site(a), &site(b)) }
}

/// The caller's strategy and time, if both sides have the path.
fn met(outcome: &Outcome) -> Option<(Strategy, Duration)> {
    outcome.callee.as_ref()?;
    let report = &outcome.caller.as_ref()?.report;
    Some((report.strategy?, Duration::from_secs_f64(report.elapsed_ms? / 1e3)))
}

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
    meets_at_every_skew("masq,in=reset", "masq,in=reset", line, slack);
    meets_at_every_skew("masq,in=reset", "masq,in=admin", line, slack);
    meets_at_every_skew("port-restricted,in=reset", "masq,in=open", line, slack);
    meets_at_every_skew("masq,in=reset@port-restricted", "masq,in=reset", line, slack);
}

#[test]
fn nats_that_answer_strangers_are_passed_on_paths_below_a_millisecond() {
    let (line, slack) = (Duration::from_micros(200), Duration::from_millis(30));
    meets_at_every_skew("masq,in=reset", "masq,in=reset", line, slack);
    meets_at_every_skew("masq,in=reset", "masq,in=admin", line, slack);
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

#[test]
fn an_unreachable_private_address_does_not_cost_the_punching_port() {
    let outcome = Meeting::new(&setup("port-restricted,unreach=kill", "masq")).call();
    let (strategy, elapsed) = met(&outcome).expect("a path");
    let limit = Duration::from_millis(80);
    assert_eq!((strategy, elapsed), (Strategy::SimultaneousOpen, limit), "at the limit");
}

#[test]
fn a_sequential_port_for_each_address_is_foretold_as_well() {
    let (line, slack) = (Duration::from_millis(10), Duration::from_secs(4));
    meets_at_every_skew("address-seq", "address-seq", line, slack);
    meets_at_every_skew("address-seq", "symmetric-step", line, slack);
    meets_at_every_skew("address-seq", "masq,in=reset", line, slack);
    meets_at_every_skew("symmetric-seq", "masq,in=admin", line, slack);
}

#[test]
fn a_carrier_before_a_home_and_a_missing_udp_make_no_difference() {
    let (line, slack) = (Duration::from_millis(10), Duration::from_secs(4));
    for (a, b) in [
        ("masq@symmetric-seq", "masq@symmetric-seq"),
        ("masq@symmetric-seq", "symmetric-step,udp=block"),
        ("masq,in=reset@symmetric-seq", "masq,in=reset"),
        ("masq,udp=block@port-restricted", "masq@symmetric-seq,udp=block"),
        ("masq@masq", "masq@masq,in=reset"),
        ("port-restricted@masq,in=reset", "masq@port-restricted,udp=block"),
    ] {
        meets_at_every_skew(a, b, line, slack);
    }
}

#[test]
fn ports_that_follow_one_another_are_foretold() {
    let line = Duration::from_millis(10);
    let answered = Duration::from_secs(4);
    meets_at_every_skew("symmetric-seq", "masq", line, answered);
    meets_at_every_skew("symmetric-step", "port-restricted,in=reset", line, answered);
    meets_at_every_skew("symmetric-seq", "symmetric-step", line, answered);
    meets_at_every_skew("symmetric-seq,in=reset", "symmetric-seq,in=reset", line, answered);
    meets_at_every_skew("masq@symmetric-seq", "masq", line, answered);
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
            let privileges = Privileges::ALL;
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
