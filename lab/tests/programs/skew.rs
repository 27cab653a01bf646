//! Peers that do not start at the same moment.
//!
//! The caller is there first and the callee up to 300 ms later: it finds the caller's call waiting at
//! the broker. Neither the pause before the callee starts nor what it takes to start is exact, which
//! is the point. The other case are lines of unlike length, over which the orders to start travel.

use std::time::{Duration, Instant};

use ntcp_lab::kernel::{Access, Lab, User};
use ntcp_lab::trial::{Call, Listener, Servers};

use super::{LINE, connected, homes, on_stage};

/// How much later the callee starts.
const SKEWS: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(300)];

/// Every skew over both transports, with the caller before the callee.
fn connect_skewed(a: &str, b: &str) {
    let lab = homes(a, b).start().unwrap();
    let _servers = Servers::start(&lab).unwrap();
    for skew in SKEWS {
        for transport in ["udp", "tcp"] {
            let report = call_first(&lab, transport, skew);
            let what = format!("{a} x {b}, {skew:?} later, over {transport}: {report:#}");
            assert_eq!(report["outcome"], "connected", "{what}");
            assert_eq!(report["transport"], transport, "{what}");
        }
    }
}

/// The report of a caller that is `skew` earlier than its callee.
fn call_first(lab: &Lab, transport: &str, skew: Duration) -> serde_json::Value {
    std::thread::scope(|scope| {
        let call = Call::bob("a", transport);
        let started = Instant::now();
        let outcome = scope.spawn(move || call.run(lab));
        std::thread::sleep(skew.saturating_sub(started.elapsed()));
        let listener = Listener::start(lab, "b", User::Root).unwrap();
        let report = outcome.join().unwrap().unwrap().report;
        listener.end().unwrap();
        report
    })
}

#[test]
fn a_callee_that_is_late_is_met_behind_silent_nats() {
    connect_skewed("linux-masq", "port-restricted");
}

#[test]
fn a_callee_that_is_late_is_met_behind_nats_that_answer_strangers() {
    connect_skewed("masq,in=reset", "masq,in=admin");
    connect_skewed("masq,in=open", "masq,in=open");
}

#[test]
fn a_callee_that_is_late_is_met_behind_nats_that_reset_strangers_on_both_sides() {
    connect_skewed("masq,in=reset", "masq,in=reset");
}

#[test]
fn lines_of_unlike_length_do_not_keep_two_peers_apart() {
    let far = Access { delay: Duration::from_millis(160), ..Access::default() };
    for (a, b) in [("masq,in=reset", "masq,in=reset"), ("masq,in=open", "linux-masq")] {
        let lab = Lab::builder().delay(LINE).home("a", a).home("b", b).access(far);
        on_stage(lab, |_, stage| {
            for transport in ["udp", "tcp"] {
                connected(stage, transport, &format!("{a} x far {b}"));
            }
        });
    }
}
