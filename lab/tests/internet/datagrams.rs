//! UDP where checks between the announced ends do not meet: fresh ports, forecasts, coverage.

use std::time::Duration;

use ntcp_lab::meeting::{Meeting, Outcome, Setup};
use ntcp_proto::puncher::report::{Attempt, Strategy};
use ntcp_proto::uri::TransportChoice;

use super::scene::{self, met};

fn setup(a: &str, b: &str) -> Setup {
    Setup { transport: TransportChoice::Udp, ..scene::setup(a, b) }
}

/// The attempt that won.
fn won(outcome: &Outcome) -> &Attempt {
    let report = &outcome.caller.as_ref().expect("a path").report;
    let remote = report.remote;
    let won = |it: &&Attempt| Some(it.remote) == remote && Some(it.strategy) == report.strategy;
    report.attempts.iter().find(won).expect("the path is one of the attempts")
}

/// What was seen in an attempt.
fn evidence(attempt: &Attempt) -> Vec<String> {
    attempt.evidence.iter().map(ToString::to_string).collect()
}

#[test]
fn two_nats_with_open_input_chains_meet_from_fresh_ports_however_late_one_is() {
    for (a, b) in [
        ("masq,in=open", "masq,in=open"),
        ("masq@masq,in=open", "masq,in=open"),
        ("masq,in=open", "port-restricted,in=open"),
    ] {
        for skew in [100, 300].map(Duration::from_millis) {
            let outcome = Meeting::new(&Setup { skew, ..setup(a, b) }).call();
            let (strategy, elapsed) =
                met(&outcome).unwrap_or_else(|| panic!("{a} calls {b}, {skew:?} late: no path"));
            assert_eq!(strategy, Strategy::UdpHolePunch);
            let limit = Duration::from_millis(1000) + 3 * skew;
            assert!(elapsed < limit, "{a} calls {b}, {skew:?} late: {elapsed:?}");
        }
    }
}

#[test]
fn a_random_side_meets_a_steady_one_within_two_seconds_nearly_always() {
    for (a, b) in [
        ("linux-random", "port-restricted"),
        ("port-restricted", "linux-random"),
        ("linux-random", "masq,in=open"),
        ("masq@linux-random", "masq"),
        ("symmetric-block", "masq"),
    ] {
        for skew in [0, 300].map(Duration::from_millis) {
            let came = |seed: &u64| {
                let outcome = Meeting::new(&Setup { seed: *seed, skew, ..setup(a, b) }).call();
                let Some((strategy, took)) = met(&outcome) else { return false };
                if strategy == Strategy::PortCoverage {
                    let spent = &evidence(won(&outcome))[0];
                    assert!(spent.starts_with("drew") || spent.starts_with("opened"), "{spent}");
                } else {
                    // A few ports of a small block may look like a sequence, and may be met as one.
                    assert_eq!((a, strategy), ("symmetric-block", Strategy::PortPrediction));
                }
                took <= Duration::from_secs(2) + 2 * skew
            };
            let count = (1..=25).filter(came).count();
            assert!(count >= 23, "{a} calls {b}, {skew:?} late: {count} of 25");
        }
    }
}

#[test]
fn ports_that_follow_one_another_are_foretold_at_every_skew() {
    for (a, b) in [
        ("symmetric-seq", "masq"),
        ("symmetric-seq", "port-restricted,in=open"),
        ("symmetric-seq", "symmetric-step"),
        ("address-seq", "address-seq"),
        ("masq@symmetric-seq", "masq@symmetric-seq"),
    ] {
        for (a, b) in [(a, b), (b, a)] {
            for skew in [0, 100, 300].map(Duration::from_millis) {
                let (strategy, elapsed) = met(&Meeting::new(&Setup { skew, ..setup(a, b) }).call())
                    .unwrap_or_else(|| panic!("{a} calls {b}, {skew:?} late: no path"));
                assert_eq!(strategy, Strategy::PortPrediction);
                let limit = Duration::from_millis(600) + 3 * skew;
                assert!(elapsed < limit, "{a} calls {b}, {skew:?} late: {elapsed:?}");
            }
        }
    }
}

#[test]
fn where_the_first_checks_get_through_nothing_else_leaves() {
    for (a, b) in
        [("masq", "port-restricted"), ("masq,in=open", "masq"), ("full-cone", "linux-random")]
    {
        for skew in [0, 300].map(Duration::from_millis) {
            let outcome = Meeting::new(&Setup { skew, ..setup(a, b) }).call();
            let (strategy, _) = met(&outcome).unwrap_or_else(|| panic!("{a} calls {b}: no path"));
            assert_eq!(strategy, Strategy::UdpHolePunch);
            let report = outcome.report.unwrap();
            let other = report.attempts.iter().flat_map(evidence);
            let other: Vec<_> = other
                .filter(|it| {
                    !it.starts_with("sent") && !it.starts_with("the peer") && it != "heard the peer"
                })
                .collect();
            assert_eq!(other, Vec::<String>::new(), "{a} calls {b}, {skew:?} late");
        }
    }
}

#[test]
fn nothing_stays_open_after_a_path_over_a_fresh_port() {
    for (a, b) in
        [("linux-random", "masq"), ("masq,in=open", "masq,in=open"), ("symmetric-seq", "masq")]
    {
        let skew = Duration::from_millis(100);
        let mut meeting = Meeting::new(&Setup { skew, ..setup(a, b) });
        let before = [meeting.a, meeting.b].map(|node| meeting.world.open_sockets(node));
        met(&meeting.call()).unwrap_or_else(|| panic!("{a} calls {b}: no path"));
        meeting.world.advance(Duration::from_secs(5));
        let after = [meeting.a, meeting.b].map(|node| meeting.world.open_sockets(node));
        assert_eq!(after, before, "{a} calls {b}");
        for node in [meeting.a, meeting.b] {
            meeting.world.command(node, ntcp_proto::node::Node::stop);
            meeting.world.advance(Duration::from_secs(70));
            meeting.world.assert_finished(node);
        }
    }
}
