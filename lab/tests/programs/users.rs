//! As ordinary users, who may neither open raw sockets nor bend the firewall.

use ntcp_lab::kernel::User;
use ntcp_lab::trial::{Call, Stage};

use super::homes;

/// One caller of each kind calls a listener of this kind.
fn call(listener: User) {
    let lab = homes("linux-masq", "port-restricted").start().unwrap();
    let _stage = Stage::set(&lab, "b", listener).unwrap();
    for user in [User::Root, User::Nobody] {
        for transport in ["tcp", "udp"] {
            let outcome = Call { user, ..Call::bob("a", transport) }.run(&lab).unwrap();
            let what = format!("{user:?} calls {listener:?}: {:#}", outcome.report);
            assert_eq!(outcome.status.code(), Some(0), "{what} {}", outcome.errors);
            assert_eq!(outcome.report["transport"], transport, "{what}");
        }
    }
}

#[test]
fn an_ordinary_user_listens() {
    call(User::Nobody);
}

#[test]
fn an_ordinary_user_calls() {
    call(User::Root);
}
