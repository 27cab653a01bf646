//! The pairs that have to connect, whatever else does.

use super::{Pair, Place};
use crate::kernel::User;

/// Both sides may do everything.
const ROOT: [User; 2] = [User::Root; 2];
/// Both sides may capture and send packets.
const RAW: [User; 2] = [User::Raw; 2];
/// It does not pick connections up in the middle either, so that no ghost passes.
const STRICT: &str = "masq,syn=strict,loose=no";

fn over(transport: &'static str, pair: Pair) -> Pair {
    Pair { transports: vec![transport], ..pair }
}

/// Over TCP, as these users.
fn privileged(users: [User; 2], a: &str, b: &str) -> Pair {
    over("tcp", Pair { users, ..Pair::new(a, b) })
}

/// All of them: what needs no privileges first.
pub fn listed() -> Vec<Pair> {
    let mut all = Vec::new();
    all.extend(well_behaved());
    all.extend(answering());
    all.extend(moving_ports());
    all.extend(places());
    all.extend(strict());
    all.extend(users());
    all
}

/// One port for everybody, and silence for strangers.
fn well_behaved() -> Vec<Pair> {
    let pairs = [
        ("linux-masq", "linux-masq"),
        ("linux-masq", "port-restricted"),
        ("port-restricted", "port-restricted"),
        ("restricted", "full-cone"),
        ("firewall", "firewall"),
        ("public", "linux-masq"),
        ("offset-cone", "linux-masq"),
        ("offset-cone", "offset-cone"),
        ("sip-router", "port-restricted"),
        ("masq,syn=strict", "linux-masq"),
        ("linux-masq", "masq,syn=strict"),
        ("masq@linux-masq", "masq@port-restricted"),
        ("masq@port-restricted", "linux-masq"),
    ];
    // The address that answers is not the one that the servers told.
    let pool = over("udp", Pair::new("full-cone", "pool-arbitrary"));
    let blocked = ["linux-masq", "port-restricted", "masq,in=reset", "firewall", "masq,udp=block"];
    let mut all: Vec<_> = pairs.map(|(a, b)| Pair::new(a, b)).into();
    all.extend(
        blocked.map(|b| Pair { transports: vec!["tcp", "any"], ..Pair::new("masq,udp=block", b) }),
    );
    all.push(pool);
    all
}

/// NATs that answer strangers, and those that forget a mapping over it.
fn answering() -> Vec<Pair> {
    let pairs = [
        ("masq,in=reset", "masq,in=reset"),
        ("port-restricted,in=reset", "port-restricted,in=reset"),
        ("masq,in=admin", "masq,in=admin"),
        ("masq,in=reset", "masq,in=admin"),
        ("masq,in=open", "masq,in=open"),
        ("masq,in=open", "masq,in=reset"),
        ("masq,in=reset", "linux-masq"),
        ("masq,in=reset", "masq,syn=strict"),
        ("masq@masq,in=reset", "masq@masq,in=reset"),
    ];
    let forgetting = [
        ("port-restricted,rst=kill", "masq,in=reset"),
        ("port-restricted,rst=kill", "port-restricted,rst=kill,in=reset"),
        ("port-restricted,rst=kill,in=reset", "port-restricted,rst=kill,in=reset"),
        ("port-restricted,unreach=kill", "masq,in=admin"),
        ("port-restricted,ttlx=kill", "linux-masq"),
        ("port-restricted,ttlx=kill", "masq,in=reset"),
        ("masq,ttlx=kill,in=reset", "masq,in=reset"),
    ];
    let mut all: Vec<_> = pairs.map(|(a, b)| Pair::new(a, b)).into();
    all.extend(forgetting.map(|(a, b)| over("tcp", Pair::new(a, b))));
    all
}

/// Ports that change with the destination.
fn moving_ports() -> Vec<Pair> {
    let open = [("full-cone", "linux-random"), ("linux-random", "full-cone")];
    let knowing = [("restricted", "linux-random"), ("linux-random", "restricted")];
    let mut all: Vec<_> = open.into_iter().chain(knowing).map(|(a, b)| Pair::new(a, b)).collect();
    all.extend(
        [("public", "linux-random"), ("public", "masq@linux-random")].map(|(a, b)| Pair::new(a, b)),
    );
    let sequential = [
        ("symmetric-seq", "symmetric-seq"),
        ("symmetric-seq", "linux-masq"),
        ("port-restricted", "symmetric-seq"),
        ("symmetric-seq", "masq,in=reset"),
        ("masq@symmetric-seq", "port-restricted"),
        ("symmetric-step", "linux-masq"),
        ("address-seq", "address-seq"),
    ];
    all.extend(sequential.map(|(a, b)| over("tcp", Pair::new(a, b))));
    let random = [
        ("linux-random", "port-restricted"),
        ("port-restricted", "linux-random"),
        ("linux-random", "linux-masq"),
        ("linux-random", "masq,in=reset"),
        ("linux-random", "masq,udp=block"),
        ("linux-random", "masq,syn=strict"),
        ("linux-random", "firewall"),
        ("masq@linux-random", "linux-masq"),
        ("symmetric-block", "port-restricted"),
    ];
    all.extend(random.map(|(a, b)| Pair { least: 0.95, ..over("tcp", Pair::new(a, b)) }));
    all
}

/// Hosts that lie close together, and what only looks so.
fn places() -> Vec<Pair> {
    let at = |place, a, b| Pair { place, ..Pair::new(a, b) };
    vec![
        at(Place::OneHome, "linux-masq", "linux-masq"),
        at(Place::OneHome, "linux-random", "linux-random"),
        at(Place::OneRange, "linux-masq", "linux-masq"),
        at(Place::OneRange, "masq,in=reset", "port-restricted"),
        at(Place::OneCarrier, "linux-masq", "linux-masq"),
        at(Place::OneCarrier, "masq,in=reset", "port-restricted"),
        at(Place::Ipv6, "linux-random", "linux-random"),
        at(Place::Ipv6, "linux-masq", "linux-masq"),
    ]
}

/// NATs that let no SYN in: by what each privilege adds.
fn strict() -> Vec<Pair> {
    let syn = "masq,syn=strict";
    let [answering, restricted] = ["masq,syn=strict,in=reset", "port-restricted,syn=strict"];
    let spoof = |users, a: &str, b: &str| Pair { spoof: true, ..privileged(users, a, b) };
    vec![
        over("udp", Pair::new(syn, syn)),
        privileged(ROOT, syn, syn),
        privileged(ROOT, syn, restricted),
        privileged(ROOT, answering, answering),
        privileged(ROOT, STRICT, STRICT),
        privileged(RAW, syn, syn),
        privileged(RAW, answering, restricted),
        privileged(RAW, STRICT, STRICT),
        spoof(ROOT, STRICT, STRICT),
        spoof(RAW, syn, syn),
        privileged(RAW, "port-restricted,rst=kill", "masq,in=reset"),
        privileged(ROOT, "port-restricted,rst=kill", "masq,in=reset"),
    ]
}

/// One side may more than the other.
fn users() -> Vec<Pair> {
    let mixed = [[User::Root, User::Nobody], [User::Nobody, User::Root], ROOT];
    let pairs = [("linux-masq", "port-restricted"), ("masq,in=reset", "masq,in=reset")];
    let each = |(a, b)| mixed.map(|users| Pair { users, ..Pair::new(a, b) });
    pairs.into_iter().flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::Site;

    #[test]
    fn every_pair_can_be_built_and_stands_here_once() {
        let all = listed();
        for (at, pair) in all.iter().enumerate() {
            for site in [&pair.a, &pair.b] {
                assert!(site.parse::<Site>().is_ok(), "{site}");
            }
            assert!(all[..at].iter().all(|other| other != pair), "{pair:?}");
        }
    }
}
