//! Connections by the hundred leave nothing behind. The benchmark `endurance` makes ten thousand.

use ntcp_lab::endurance::Endurance;
use ntcp_lab::kernel::{Lab, User};

use super::homes;

fn endure(lab: &Lab, transport: &str, user: User, times: usize) {
    let endurance = Endurance::start(lab, transport, user).unwrap();
    endurance.connect(times / 4).unwrap();
    let before = endurance.holdings().unwrap();
    endurance.connect(times).unwrap();
    let after = endurance.settle(&before).unwrap();
    for (side, (before, after)) in ["caller", "callee"].iter().zip(before.iter().zip(&after)) {
        let more = after.beyond(before);
        assert!(more.is_empty(), "the {side} over {transport} holds more: {more:?}");
    }
}

#[test]
fn a_hundred_connections_leave_nothing_behind() {
    for transport in ["tcp", "udp"] {
        let lab = Lab::builder().home("a", "linux-masq").home("b", "port-restricted");
        endure(&lab.start().unwrap(), transport, User::Nobody, 100);
    }
}

#[test]
fn connections_made_by_hand_leave_neither_captures_nor_raw_sockets_nor_rules_behind() {
    let strict = "masq,syn=strict,loose=no";
    for user in [User::Raw, User::Root] {
        endure(&homes(strict, strict).start().unwrap(), "tcp", user, 8);
    }
}
