//! Pairs that no direct path joins: the report says so, and why.

use ntcp_lab::kernel::{Lab, User};
use ntcp_lab::trial::Call;

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
    on_stage(homes("masq,syn=strict", "masq,syn=strict"), |lab, stage| {
        refuse(lab, "tcp");
        super::connected(stage, "udp", "masq,syn=strict x masq,syn=strict");
    });
}
