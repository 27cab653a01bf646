//! Calls that cannot come through, and what their reports say.

use ntcp_lab::host::Privileges;
use ntcp_lab::meeting::{Meeting, Setup};
use ntcp_proto::puncher::Report;
use ntcp_proto::uri::TransportChoice;

use super::scene::{setup, site};

fn report(setup: &Setup) -> Report {
    let outcome = Meeting::new(setup).call();
    assert!(outcome.caller.is_none(), "{setup:?}: a path");
    outcome.report.expect("the caller's report")
}

fn says(report: &Report, what: &str) -> bool {
    let advice = report.advice.iter().map(String::as_str);
    report.reason.as_deref().into_iter().chain(advice).any(|it| it.contains(what))
}

#[test]
fn two_strict_nats_are_said_to_need_privileges() {
    for informed in [false, true] {
        let setup = Setup { informed, ..setup("masq,syn=strict", "masq,syn=strict") };
        let report = report(&setup);
        // Who has measured nothing cannot know.
        assert_eq!(says(&report, "lets a SYN in"), informed, "{:?}", report.reason);
        assert_eq!(says(&report, "CAP_NET_RAW and CAP_NET_ADMIN"), informed, "{:?}", report.advice);
        assert!(says(&report, "only tcp was allowed: try transport any"), "{:?}", report.advice);
    }
}

#[test]
fn where_udp_is_blocked_it_is_not_advised() {
    let setup = Setup { informed: true, ..setup("masq,syn=strict", "masq,syn=strict,udp=block") };
    let report = report(&setup);
    assert!(says(&report, "neither NAT lets a SYN in"), "{:?}", report.reason);
    assert!(!says(&report, "try transport any"), "{:?}", report.advice);
}

#[test]
fn privileges_that_are_there_are_not_advised() {
    let privileges = Privileges::ALL;
    let sites = setup("symmetric-open,syn=strict,isn=rewrite", "linux-random,syn=strict");
    let report = report(&Setup { informed: true, privileges, ..sites });
    assert!(!says(&report, "ntcp-helper"), "{:?}", report.advice);
}

#[test]
fn udp_that_is_blocked_is_said_to_be_so_on_its_side() {
    let blocked = "masq,udp=block";
    for (a, b, side) in [
        (blocked, "masq", "this host's"),
        ("masq", blocked, "the peer's"),
        (blocked, blocked, "either host's"),
    ] {
        let transport = TransportChoice::Udp;
        let report = report(&Setup { transport, ..Setup::new(&site(a), &site(b)) });
        let reason = format!("UDP does not get out of {side} network");
        assert!(says(&report, &reason), "{a} calls {b}: {:?}", report.reason);
        assert!(says(&report, "only udp was allowed: try transport any"), "{:?}", report.advice);
    }
}
