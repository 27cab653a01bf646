//! Pairs that no direct path joins: the report says so, and why.

use ntcp_lab::kernel::{Lab, User};
use ntcp_lab::trial::{Call, Stage};

use super::{homes, on_stage, refused};

/// The reason and the advice of a call that cannot succeed.
fn refuse(lab: &Lab, transport: &str) {
    // That it ends in time is the call's own check.
    let outcome = Call { user: User::Root, ..Call::bob("a", transport) }.run(lab).unwrap();
    refused(&outcome);
    let advice = outcome.report["advice"].as_array().cloned().unwrap_or_default();
    assert!(!advice.is_empty(), "{:#}", outcome.report);
    let attempts = outcome.report["attempts"].as_array().cloned().unwrap_or_default();
    assert!(!attempts.is_empty(), "{:#}", outcome.report);
}

#[test]
fn two_random_symmetric_nats_are_told_apart_from_a_slow_network() {
    on_stage(homes("linux-random", "linux-random"), |lab, _| refuse(lab, "any"));
}

#[test]
fn two_sides_that_drop_crossing_syns_cannot_use_tcp_without_privileges() {
    let lab = homes("masq,syn=strict", "masq,syn=strict").start().unwrap();
    let stage = Stage::set(&lab, "b", User::Nobody).unwrap();
    let ordinary = |transport| Call { user: User::Nobody, ..Call::bob("a", transport) };
    let outcome = ordinary("tcp").run(&lab).unwrap();
    refused(&outcome);
    let report = outcome.report.to_string();
    assert!(report.contains("CAP_NET_ADMIN"), "what would help is named: {report}");
    assert_eq!(ordinary("udp").run(&lab).unwrap().report["outcome"], "connected");
    drop(stage);
}
