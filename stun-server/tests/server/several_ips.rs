//! Hosts with several IPs, made in a network namespace, since a host's own IPs are not ours to choose.

use std::process::Command;

use crate::client::{Udp, at, binding, change, serve, skip, start};
use ntcp_stun::attribute::ChangeRequest::{Ip, IpAndPort, Nothing, Port};
use ntcp_stun_server::Config;

/// Set inside the namespace.
const INSIDE: &str = "NTCP_TEST_INSIDE";
const NAMESPACE: [&str; 4] = ["--user", "--map-root-user", "--net", "--"];
/// A link to itself, and two addresses of each family that the host's routes treat differently.
const SETUP: &str = "ip link set lo up \
    && ip address add 192.0.2.10/32 dev lo && ip address add 192.0.2.11/32 dev lo \
    && ip address add 2001:db8::10/128 dev lo nodad && ip address add 2001:db8::11/128 dev lo nodad \
    && exec \"$0\" --exact \"$1\" --nocapture";

/// Runs the test of this name again inside a namespace with the addresses above; `false` when already there.
fn moved_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let is_allowed = Command::new("unshare").args(NAMESPACE).args(["ip", "link"]).output();
    if !is_allowed.is_ok_and(|it| it.status.success()) {
        skip(test, "`unshare --user --net` and `ip` do not work here");
        return true;
    }
    let own = std::env::current_exe().expect("this test's file");
    let inside = Command::new("unshare")
        .args(NAMESPACE)
        .args(["sh", "-c", SETUP])
        .arg(own)
        .arg(format!("several_ips::{test}"))
        .env(INSIDE, "1")
        .output()
        .expect("a namespace");
    let output = String::from_utf8_lossy(&inside.stdout);
    let error = String::from_utf8_lossy(&inside.stderr);
    assert!(inside.status.success() && output.contains("1 passed"), "{output}\n{error}");
    true
}

#[test]
fn change_requests_are_served_over_both_families() {
    if moved_inside("change_requests_are_served_over_both_families") {
        return;
    }
    let config = Config::new([at("192.0.2.10:3478"), at("[2001:db8::10]:3478")])
        .with_alternate([at("192.0.2.11:3479"), at("[2001:db8::11]:3479")]);
    let _server = start(&config);
    for (own, ips) in [
        ("0.0.0.0:0", ["192.0.2.10", "192.0.2.11"]),
        ("[::]:0", ["[2001:db8::10]", "[2001:db8::11]"]),
    ] {
        let client = Udp::new(own);
        let to = at(&format!("{}:3478", ips[0]));
        for (number, (wish, ip, port)) in
            [(Nothing, 0, 3478), (Port, 0, 3479), (Ip, 1, 3478), (IpAndPort, 1, 3479)]
                .into_iter()
                .enumerate()
        {
            let (reply, from) = client.ask_again(&change(number as u8, wish), to);
            assert_eq!(from, at(&format!("{}:{port}", ips[ip])), "{wish:?}");
            assert_eq!(reply.other(), Some(at(&format!("{}:3479", ips[1]))));
        }
    }
}

#[test]
fn on_an_unspecified_address_replies_leave_from_the_ip_that_was_asked() {
    if moved_inside("on_an_unspecified_address_replies_leave_from_the_ip_that_was_asked") {
        return;
    }
    for (listen, ips) in [
        ("0.0.0.0:3478", ["192.0.2.10:3478", "192.0.2.11:3478", "127.0.0.1:3478"]),
        ("[::]:3478", ["[2001:db8::10]:3478", "[2001:db8::11]:3478", "[::1]:3478"]),
    ] {
        let _server = serve(listen);
        for (number, to) in ips.into_iter().enumerate() {
            // From another address than the one that is asked: the route would choose the client's own.
            let own = ips[(number + 1) % 2].replace("3478", "0");
            let client = Udp::new(&own);
            let (reply, from) = client.ask_again(&binding(number as u8), at(to));
            assert_eq!((from, reply.mapped()), (at(to), client.address()));
        }
    }
}

#[test]
fn a_link_local_address_is_answered_over_its_interface() {
    if moved_inside("a_link_local_address_is_answered_over_its_interface") {
        return;
    }
    let add = ["address", "add", "fe80::1/64", "dev", "lo", "nodad"];
    assert!(Command::new("ip").args(add).status().is_ok_and(|it| it.success()));
    let _server = serve("[::]:3478");
    let client = Udp::new("[fe80::1%1]:0");
    let (reply, from) = client.ask_again(&binding(7), at("[fe80::1%1]:3478"));
    assert_eq!((reply.number(), from), (7, at("[fe80::1%1]:3478")));
    assert_eq!(reply.mapped().port(), client.address().port());
}

#[test]
fn a_datagram_to_a_broadcast_address_is_not_answered() {
    if moved_inside("a_datagram_to_a_broadcast_address_is_not_answered") {
        return;
    }
    let add = ["address", "add", "198.51.100.1/24", "broadcast", "198.51.100.255", "dev", "lo"];
    assert!(Command::new("ip").args(add).status().is_ok_and(|it| it.success()));
    let server = serve("0.0.0.0:3478");
    let client = Udp::new("198.51.100.1:0");
    client.0.set_broadcast(true).expect("broadcast");
    client.send(&binding(1), at("198.51.100.255:3478"));
    let (reply, _) = client.ask(&binding(2), at("198.51.100.1:3478"));
    assert_eq!(reply.number(), 2);
    assert_eq!(server.stop().expect("stopped").messages.udp, 1);
}
