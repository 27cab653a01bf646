//! Hosts with several IPs, made in a network namespace, since a host's own IPs are not ours to choose.

use crate::support::{PATIENCE, Running, options, request};
use ntcp_stun::attribute::ChangeRequest::{self, Ip, IpAndPort, Nothing, Port};
use ntcp_stun::attribute::{OtherAddress, XorMappedAddress};
use ntcp_stun::{Message, TransactionId};
use ntcp_stun_server::{
    Allowance, AlternateHost, BudgetLimits, Forged, Options, sources_beside, spoof_check,
};
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

/// Set inside the namespace.
const INSIDE: &str = "NTCP_TEST_INSIDE";
const NAMESPACE: [&str; 4] = ["--user", "--map-root-user", "--net", "--"];
/// A link to itself with several addresses, and then the test again.
const SETUP: &str = "ip link set lo up \
    && ip address add 192.0.2.10/32 dev lo && ip address add 192.0.2.11/32 dev lo \
    && ip address add 198.51.100.1/24 broadcast 198.51.100.255 dev lo \
    && ip address add 2001:db8::10/128 dev lo nodad && ip address add 2001:db8::11/128 dev lo nodad \
    && ip address add fe80::1/64 dev lo nodad \
    && exec \"$0\" --exact \"several_ips::$1\" --nocapture";

/// Runs the test of this name again inside a namespace with the addresses above; `false` when already there.
fn moved_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let tried = Command::new("unshare").args(NAMESPACE).args(["ip", "link"]).output();
    if !tried.is_ok_and(|it| it.status.success()) {
        // Not by a macro, whose output is hidden as long as tests pass.
        let why = "`unshare --user --net` and `ip` do not work here";
        let _ = writeln!(std::io::stderr(), "SKIPPED several_ips::{test}: {why}");
        return true;
    }
    let own = std::env::current_exe().expect("this test's file");
    let mut inside = Command::new("unshare");
    inside.args(NAMESPACE).args(["sh", "-c", SETUP]).arg(own).arg(test).env(INSIDE, "1");
    let output = inside.output().expect("a namespace");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
    true
}

/// Asks until this request is answered: a kernel may lose what is sent to an IPv6 address that it has had for an
/// instant only.
fn ask(
    socket: &UdpSocket,
    id: u8,
    change: Option<ChangeRequest>,
    to: SocketAddr,
) -> (Vec<u8>, SocketAddr) {
    let often = Duration::from_millis(100);
    socket.set_read_timeout(Some(often)).expect("a timeout");
    let mut buffer = vec![0; 2048];
    for _ in 0..PATIENCE.as_millis() / often.as_millis() {
        socket.send_to(&request(id, change), to).expect("sent");
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let bytes = &buffer[..length];
            let message = Message::parse(bytes).expect("well-formed");
            if message.transaction_id() == TransactionId::new([id; 12]) {
                return (bytes.to_vec(), from);
            }
        }
    }
    panic!("no reply from {to}");
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

#[test]
fn change_requests_are_served_over_both_families() {
    if moved_inside("change_requests_are_served_over_both_families") {
        return;
    }
    let listen = ["192.0.2.10:3478", "[2001:db8::10]:3478"];
    let alternate = ["192.0.2.11:3479", "[2001:db8::11]:3479"];
    let _server = Running::start(&options(&listen, &alternate));
    for (own, primary, alternate) in
        [("0.0.0.0:0", "192.0.2.10", "192.0.2.11"), ("[::]:0", "[2001:db8::10]", "[2001:db8::11]")]
    {
        let socket = UdpSocket::bind(own).expect("a socket");
        for (id, change, ip, port) in [
            (0, Nothing, primary, 3478),
            (1, Port, primary, 3479),
            (2, Ip, alternate, 3478),
            (3, IpAndPort, alternate, 3479),
        ] {
            let (bytes, from) = ask(&socket, id, Some(change), at(&format!("{primary}:3478")));
            assert_eq!(from, at(&format!("{ip}:{port}")), "{change:?}");
            let other = OtherAddress(at(&format!("{alternate}:3479")));
            let message = Message::parse(&bytes).expect("well-formed");
            assert_eq!(message.attribute(), Ok(Some(other)));
        }
    }
}

#[test]
fn listening_everywhere_answers_from_the_address_asked_against_the_route() {
    if moved_inside("listening_everywhere_answers_from_the_address_asked_against_the_route") {
        return;
    }
    let _server = Running::start(&options(&["0.0.0.0:3478", "[::]:3478"], &[]));
    for (id, own, to) in [
        (0, "192.0.2.10:0", "192.0.2.11:3478"),
        (1, "192.0.2.11:0", "192.0.2.10:3478"),
        (2, "192.0.2.11:0", "127.0.0.1:3478"),
        (3, "[2001:db8::10]:0", "[2001:db8::11]:3478"),
        (4, "[2001:db8::11]:0", "[2001:db8::10]:3478"),
        (5, "[2001:db8::11]:0", "[::1]:3478"),
        // A link-local address is one only together with its interface.
        (6, "[fe80::1%1]:0", "[fe80::1%1]:3478"),
    ] {
        let socket = UdpSocket::bind(own).expect("a socket");
        let (bytes, from) = ask(&socket, id, None, at(to));
        assert_eq!(from, at(to));
        let client = socket.local_addr().expect("bound");
        let mapped = XorMappedAddress(SocketAddr::new(client.ip(), client.port()));
        let message = Message::parse(&bytes).expect("well-formed");
        assert_eq!(message.attribute(), Ok(Some(mapped)));
    }
}

#[test]
fn an_address_that_vanishes_and_comes_back_is_served_again() {
    if moved_inside("an_address_that_vanishes_and_comes_back_is_served_again") {
        return;
    }
    let server = Running::start(&options(&["192.0.2.10:3478"], &["192.0.2.11:3479"]));
    let address = |verb: &str| {
        let change = ["address", verb, "192.0.2.11/32", "dev", "lo"];
        let changed = Command::new("ip").args(change).status();
        assert!(changed.is_ok_and(|it| it.success()), "{verb}");
    };
    let client = || UdpSocket::bind("198.51.100.1:0").expect("a socket");
    for round in 0..2 {
        let (_, from) = ask(&client(), 1, Some(IpAndPort), at("192.0.2.10:3478"));
        assert_eq!(from, at("192.0.2.11:3479"), "round {round}");
        address("delete");
        // From the address that is gone nothing can be sent; the other one goes on.
        client().send_to(&request(2, Some(IpAndPort)), "192.0.2.10:3478").expect("sent");
        assert_eq!(ask(&client(), 3, None, at("192.0.2.10:3478")).1, at("192.0.2.10:3478"));
        address("add");
    }
    assert_eq!(ask(&client(), 4, None, at("192.0.2.11:3478")).1, at("192.0.2.11:3478"));
    let counters = server.stop();
    assert!(counters.successes >= 7, "{counters:?}");
}

#[test]
fn a_request_to_a_broadcast_address_is_not_answered() {
    if moved_inside("a_request_to_a_broadcast_address_is_not_answered") {
        return;
    }
    let server = Running::start(&options(&["0.0.0.0:3478"], &[]));
    let socket = UdpSocket::bind("198.51.100.1:0").expect("a socket");
    socket.set_broadcast(true).expect("broadcast");
    socket.send_to(&request(1, None), at("198.51.100.255:3478")).expect("sent");
    ask(&socket, 2, None, at("198.51.100.1:3478"));
    assert_eq!(server.stop().udp, 1, "the second one alone");
}

#[test]
fn one_address_answers_in_the_name_of_another_host_without_claiming_to_be_it() {
    if moved_inside("one_address_answers_in_the_name_of_another_host_without_claiming_to_be_it") {
        return;
    }
    let listen = ["192.0.2.10:3478", "[2001:db8::10]:3478"];
    // Nobody here has these.
    let alternate = ["203.0.113.99:3479", "[2001:db8:9::99]:3479"];
    let server = Running::start(&Options {
        alternate_host: AlternateHost::Forged,
        ..options(&listen, &alternate)
    });
    assert_eq!(server.addresses.len(), 4, "its own addresses alone: {:?}", server.addresses);
    for (own, primary, alternate) in [
        ("192.0.2.11:0", "192.0.2.10", "203.0.113.99"),
        ("[2001:db8::11]:0", "[2001:db8::10]", "[2001:db8:9::99]"),
    ] {
        let socket = UdpSocket::bind(own).expect("a socket");
        for (id, change, port, expected) in [
            (0, Nothing, 3478, format!("{primary}:3478")),
            (1, Port, 3478, format!("{primary}:3479")),
            (2, Ip, 3478, format!("{alternate}:3478")),
            (3, IpAndPort, 3478, format!("{alternate}:3479")),
            (4, IpAndPort, 3479, format!("{alternate}:3478")),
        ] {
            let (bytes, from) = ask(&socket, id, Some(change), at(&format!("{primary}:{port}")));
            assert_eq!(from, at(&expected), "{change:?} at {port}");
            let message = Message::parse(&bytes).expect("well-formed");
            let other = message.attribute::<OtherAddress>();
            assert_eq!(other, Ok(None), "nobody answers there, so nobody is sent there");
        }
    }
}

#[test]
fn what_is_refused_to_many_is_granted_to_a_neighbour() {
    if moved_inside("what_is_refused_to_many_is_granted_to_a_neighbour") {
        return;
    }
    let server = Running::start(&options(&["192.0.2.10:3478"], &[]));
    // 60 requests that the victim never made, which on this link cannot be told from forged ones.
    let victim = UdpSocket::bind("192.0.2.11:0").expect("a socket");
    for _ in 0..60 {
        victim.send_to(&request(1, None), at("192.0.2.10:3478")).expect("sent");
    }
    ask(&victim, 2, None, at("192.0.2.10:3478"));
    assert_eq!(server.stop().over_budget, 0);

    let small = Allowance { per_second: 1, burst: 5 };
    let limits = BudgetLimits { address: small, network: small, long: small, neighbours: small };
    let strict = Options { budget: Some(limits), shards: 1, ..options(&["192.0.2.10:3478"], &[]) };
    let server = Running::start(&strict);
    for _ in 0..100 {
        victim.send_to(&request(3, None), at("192.0.2.10:3478")).expect("sent");
    }
    let neighbour = UdpSocket::bind("192.0.2.10:0").expect("a socket");
    ask(&neighbour, 4, None, at("192.0.2.10:3478"));
    let counters = server.stop();
    assert!(counters.over_budget >= 80, "{counters:?}");
    assert!(counters.successes <= 20, "{counters:?}");
}

#[test]
fn a_network_that_lets_forged_sources_out_is_found_out() {
    if moved_inside("a_network_that_lets_forged_sources_out_is_found_out") {
        return;
    }
    let listen = ["192.0.2.10:3478", "[2001:db8::10]:3478"];
    let server = Running::start(&options(&listen, &[]));
    // The neighbours are nobody's here, and a link to oneself filters nothing.
    for (address, own) in listen.iter().zip(["192.0.2.11", "2001:db8::11"]) {
        // A kernel may lose what is sent to an IPv6 address that it has had for an instant only.
        ask(&UdpSocket::bind((at(address).ip(), 0)).expect("a socket"), 1, None, at(address));
        let sources: Vec<_> = sources_beside(own.parse().expect("an IP address"))
            .into_iter()
            .filter(|it| *it != at(address).ip())
            .collect();
        assert!(sources.len() >= 2);
        for (source, outcome) in spoof_check(at(address), &sources).expect("the server answers") {
            assert!(
                matches!(outcome, Forged::Arrived(seen) if seen.ip() == source),
                "{source}: {outcome:?}"
            );
        }
    }
    assert!(server.stop().spoof_checks > 4);
}
