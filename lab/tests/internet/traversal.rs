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
