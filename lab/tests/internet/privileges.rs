//! Whoever may do more is never slower: what takes privileges goes on beside everything else.

use std::time::Duration;

use ntcp_lab::host::Privileges;
use ntcp_lab::link::Quality;
use ntcp_lab::meeting::{Meeting, Setup};

use super::scene::{met, setup};

const NONE: Privileges = Privileges::NONE;
const RAW: Privileges = Privileges { raw: true, admin: false };
const ADMIN: Privileges = Privileges { raw: false, admin: true };

/// What a NAT does to whom: each axis that a strategy with privileges looks at.
const SITES: [&str; 10] = [
    "masq",
    "full-cone",
    "masq,in=reset",
    "masq,in=admin",
    "masq,syn=strict",
    "masq,syn=strict,in=reset,loose=no",
    "port-restricted,rst=kill",
    "port-restricted,rst=kill,in=reset",
    "port-restricted,ttlx=kill,in=reset",
    "port-restricted,unreach=kill,in=port",
];
/// What may be lost to chance: which of two packets is first at a router.
const SLACK: Duration = Duration::from_millis(45);

fn time(a: &str, b: &str, privileges: Privileges, skew: Duration) -> Option<Duration> {
    // Not a divisor of the skews: nothing arrives at the very instant at which something else ends.
    let access = Quality::delay(Duration::from_micros(9_700));
    let patience = Duration::from_secs(8);
    let setup = Setup { privileges, skew, access, patience, ..setup(a, b) };
    met(&Meeting::new(&setup).call()).map(|(_, elapsed)| elapsed)
}

#[test]
fn who_may_do_more_is_never_slower() {
    let mut slower = Vec::new();
    for (a, b) in SITES.iter().flat_map(|a| SITES.iter().map(move |b| (a, b))) {
        for skew in [0, 100, 300].map(Duration::from_millis) {
            let without = time(a, b, NONE, skew);
            for privileges in [RAW, ADMIN, Privileges::ALL] {
                let with = time(a, b, privileges, skew);
                let is_slower = match (without, with) {
                    (Some(without), Some(with)) => with > without + SLACK,
                    (Some(_), None) => true,
                    (None, _) => false,
                };
                if is_slower {
                    slower.push(format!(
                        "{a} calls {b}, {skew:?} late: {with:?} with {privileges:?}, {without:?} without"
                    ));
                }
            }
        }
    }
    assert!(slower.is_empty(), "{}: {slower:#?}", slower.len());
}

#[test]
fn who_may_do_all_is_not_slower_than_who_may_do_one_thing() {
    let strict = SITES.iter().filter(|it| it.contains("strict"));
    let pairs = strict.clone().flat_map(|a| strict.clone().map(move |b| (a, b)));
    for (a, b) in pairs {
        for skew in [0, 300].map(Duration::from_millis) {
            let one = [RAW, ADMIN].map(|held| time(a, b, held, skew));
            let all = time(a, b, Privileges::ALL, skew).expect("a path");
            let best = one.into_iter().flatten().min().expect("a path");
            assert!(all <= best + SLACK, "{a} calls {b}, {skew:?} late: {all:?}, {best:?}");
        }
    }
}
