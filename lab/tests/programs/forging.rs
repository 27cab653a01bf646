//! What the programs make by hand, with raw sockets and nothing else.

use std::time::Duration;

use ntcp_lab::kernel::{Access, User};

use super::{LINE, connected, homes, on_stage_as};

#[test]
fn two_strict_nats_are_passed_with_raw_sockets_alone() {
    for (a, b) in [
        ("masq,syn=strict", "masq,syn=strict"),
        ("masq,syn=strict,in=reset", "port-restricted,syn=strict"),
    ] {
        on_stage_as(User::Raw, homes(a, b), |_, stage| {
            let report = connected(stage, "tcp", &format!("{a} x {b}"));
            let strategy = report["strategy"].as_str().unwrap();
            // Where the answers have not crossed, the peer's SYN completes them.
            let by_hand = ["syn_ack_injection", "syn_injection"];
            assert!(by_hand.contains(&strategy), "{report:#}");
        });
    }
}

#[test]
fn a_rst_that_takes_the_mapping_away_is_avoided_at_every_skew() {
    let access = Access { delay: LINE, ..Access::default() };
    let lab = homes("port-restricted,rst=kill", "masq,in=reset");
    on_stage_as(User::Raw, lab, |_, stage| {
        for skew in [0, 100, 300] {
            stage.skew("b", access, Duration::from_millis(skew)).unwrap();
            let report = connected(stage, "tcp", "rst=kill x in=reset");
            if skew > 0 {
                assert_eq!(report["strategy"], "syn_replay", "{skew} ms late: {report:#}");
            }
        }
    });
}
