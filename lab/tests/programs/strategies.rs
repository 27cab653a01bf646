//! Each strategy where it is what connects: over IPv6, and between hosts that lack what others rely on.

use ntcp_lab::kernel::{Lab, Stream, User};
use ntcp_lab::trial::{Call, Listener, Servers, server_flags, server_flags_v6};
use std::io::Write as _;

use super::{LINE, homes};

/// Rules of netfilter in a host or router.
fn rules(lab: &Lab, space: &str, text: &str) {
    let mut nft = lab.command(space, "nft").args(["-f", "-"]).stdin(Stream::Piped).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{text}");
}

/// What brings a connection about between homes that know of each other over IPv6 only.
fn over_ipv6(site: &str, user: User, broker: &[(&str, &str)]) -> String {
    let lab = Lab::builder().delay(LINE).home("a", site).ipv6().home("b", site).ipv6();
    let lab = lab.start().unwrap();
    let _servers = Servers::start_with(&lab, broker).unwrap();
    let flags = server_flags_v6();
    let _listener = Listener::start_with(&lab, "b", user, &flags, &[]).unwrap();
    let call = Call { user, flags: flags.into(), ..Call::bob("a", "tcp") };
    let report = call.run(&lab).unwrap().report;
    assert_eq!(report["outcome"], "connected", "{site} as {user:?}: {report:#}");
    assert!(report["remote"].as_str().unwrap().starts_with('['), "{report:#}");
    report["strategy"].as_str().unwrap().to_owned()
}

#[test]
fn firewalls_that_let_no_syn_in_are_passed_over_ipv6() {
    let strict = "masq,syn=strict,loose=no";
    let spoof = [("NTCP_SPOOF__ENABLED", "true")];
    assert_eq!(over_ipv6("masq,syn=strict", User::Root, &[]), "ghost_handshake");
    // Where answers and copies of SYNs cross, any of them may be what completes the handshake.
    let by_hand = ["syn_ack_injection", "syn_injection", "syn_replay"];
    let strategy = over_ipv6(strict, User::Raw, &[]);
    assert!(by_hand.contains(&strategy.as_str()), "{strategy}");
    assert_eq!(over_ipv6(strict, User::Raw, &spoof), "spoofed_syn_ack");
}

/// Nothing of the other home arrives over IPv4.
fn cut_ipv4(lab: &Lab, home: &str, other: &str) {
    let from = lab.host(other).unwrap().public;
    let chain = format!("type filter hook input priority 0\nip saddr {from} drop\n");
    rules(lab, home, &format!("table ip cut {{\nchain input {{\n{chain}}}\n}}\n"));
}

/// What brings a connection about between homes of which each has both families, that reach each other over
/// IPv6 only, with STUN servers over both or over IPv4 alone.
fn dual_stack(site: &str, user: User, stun: &[String]) -> String {
    let lab = Lab::builder().delay(LINE).home("a", site).ipv6().home("b", site).ipv6();
    let lab = lab.start().unwrap();
    cut_ipv4(&lab, "a", "b");
    cut_ipv4(&lab, "b", "a");
    let _servers = Servers::start(&lab).unwrap();
    let flags = [&server_flags()[..], stun].concat();
    let _listener = Listener::start_with(&lab, "b", user, &flags, &[]).unwrap();
    let report = Call { user, flags, ..Call::bob("a", "tcp") }.run(&lab).unwrap().report;
    assert_eq!(report["outcome"], "connected", "{site} as {user:?}: {report:#}");
    assert!(report["remote"].as_str().unwrap().starts_with('['), "{report:#}");
    report["strategy"].as_str().unwrap().to_owned()
}

#[test]
fn where_only_ipv6_gets_through_what_takes_privileges_goes_there() {
    let over_both = server_flags_v6()[2..].to_vec();
    for stun in [&over_both[..], &[]] {
        assert_eq!(dual_stack("masq,syn=strict", User::Root, stun), "ghost_handshake");
        let strategy = dual_stack("masq,syn=strict,loose=no", User::Raw, stun);
        let by_hand = ["syn_ack_injection", "syn_injection", "syn_replay"];
        assert!(by_hand.contains(&strategy.as_str()), "{strategy}");
    }
}

#[test]
fn firewalls_that_answer_strangers_are_passed_over_ipv6_without_privileges() {
    for site in ["masq,in=reset", "masq,in=admin"] {
        let strategy = over_ipv6(site, User::Nobody, &[]);
        assert!(["direct", "simultaneous_open"].contains(&strategy.as_str()), "{site}: {strategy}");
    }
}

/// What a call between programs of these users is brought about by.
fn strategy(lab: &Lab, [caller, callee]: [User; 2]) -> String {
    let _servers = Servers::start(lab).unwrap();
    let _listener = Listener::start(lab, "b", callee).unwrap();
    let call = Call { user: caller, ..Call::bob("a", "tcp") };
    let report = call.run(lab).unwrap().report;
    assert_eq!(report["outcome"], "connected", "{caller:?} and {callee:?}: {report:#}");
    report["strategy"].as_str().unwrap().to_owned()
}

#[test]
fn one_side_with_raw_sockets_is_enough_to_inject_a_syn() {
    let strict = "masq,syn=strict,loose=no";
    // Who cannot inject tells its own SYN by fixing its number.
    for users in [[User::Raw, User::Admin], [User::Admin, User::Raw]] {
        let lab = homes(strict, strict).start().unwrap();
        assert_eq!(strategy(&lab, users), "syn_injection", "{users:?}");
    }
}

/// A provider who lets no customer's SYN out to another one, unless the very same was seen shortly before,
/// and answers it with an RST. So a SYN that would have died anyway is no more than noted.
const ONLY_COPIES: &str = "table ip sieve {
    set seen { typeof ip saddr . tcp sport . tcp sequence; flags dynamic, timeout;
        timeout 800ms; size 1024; }
    chain customers { type filter hook prerouting priority raw;
        iifname customer ip daddr 203.0.113.0/24 tcp flags & (syn | ack) == syn jump syns
    }
    chain syns {
        ip saddr . tcp sport . tcp sequence @seen accept
        add @seen { ip saddr . tcp sport . tcp sequence }
        ip ttl > 1 reject with tcp reset
    }
}";

#[test]
fn copies_of_the_same_syn_pass_where_no_new_one_does() {
    let lab = homes("masq,in=reset", "masq,in=reset").start().unwrap();
    ["isp-a", "isp-b"].iter().for_each(|router| rules(&lab, router, ONLY_COPIES));
    assert_eq!(strategy(&lab, [User::Raw; 2]), "syn_replay");
}

/// Hosts that know no simultaneous open: no SYN-ACK leaves with the number of an own SYN.
const NO_SIMULTANEOUS_OPEN: &str = "table ip old {
    set syns { typeof ip daddr . tcp sport . tcp sequence; flags dynamic; size 1024; }
    chain output { type filter hook output priority filter;
        tcp flags & (syn | ack) == syn update @syns { ip daddr . tcp sport . tcp sequence }
        tcp flags & (syn | ack) == syn | ack ip daddr . tcp sport . tcp sequence @syns drop
    }
}";

#[test]
fn connect_close_and_listen_connects_hosts_that_know_no_simultaneous_open() {
    let asks = ("NTCP_TCP__CONNECT_CLOSE_LISTEN", "true");
    let liberal = "masq,window=liberal";
    let lab = homes(liberal, liberal).start().unwrap();
    ["a", "b"].iter().for_each(|host| rules(&lab, host, NO_SIMULTANEOUS_OPEN));
    let _servers = Servers::start(&lab).unwrap();
    let _listener =
        Listener::start_with(&lab, "b", User::Nobody, &server_flags(), &[asks]).unwrap();
    let call = Call { user: User::Nobody, environment: vec![asks], ..Call::bob("a", "tcp") };
    let report = call.run(&lab).unwrap().report;
    assert_eq!(report["outcome"], "connected", "{report:#}");
    assert_eq!(report["strategy"], "connect_close_listen", "{report:#}");
}
