//! Who reaches whom.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};

use ntcp_lab::kernel::{
    Form, Lab, QUIET_ADDRESS, SERVER_ADDRESSES, SERVER_ADDRESSES_V6, SocketKind, Tap, User,
};
use ntcp_lab::packet::{self, Packet};

use super::{PATIENCE, address, carry, server, udp};

fn target() -> SocketAddr {
    (SERVER_ADDRESSES[0], 9000).into()
}

/// With what address a host is seen by the server.
fn seen(lab: &Lab, host: &str) -> SocketAddr {
    carry(&udp(lab, host, address(lab, host), 0), &server(lab, 9000), target())
}

#[test]
fn a_program_in_a_host_behind_a_nat_reaches_the_server_by_name() {
    let lab = Lab::builder().home("a", "linux-masq").start().unwrap();
    let listener = lab.tcp_listener("server", target()).unwrap();
    let script = "exec 3<>/dev/tcp/server.lab/9000 && echo hello >&3 && cat <&3";
    let child = lab
        .command("a", "bash")
        .args(["-c", script])
        .stdout(ntcp_lab::kernel::Stream::Piped)
        .user(User::Nobody)
        .spawn()
        .unwrap();
    let (mut stream, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), lab.host("a").unwrap().public);
    let mut said = [0; 6];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello\n");
    stream.write_all(b"welcome").unwrap();
    drop(stream);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"welcome");
}

#[test]
fn hosts_of_one_network_reach_each_other_and_share_an_address() {
    for form in [Form::Netfilter, Form::User] {
        let lab =
            Lab::builder().home("a", "linux-masq").form(form).neighbour("a2").start().unwrap();
        let (one, other) =
            (udp(&lab, "a", address(&lab, "a"), 0), udp(&lab, "a2", address(&lab, "a2"), 5000));
        let source = carry(&one, &other, other.local_addr().unwrap());
        assert_eq!(source, one.local_addr().unwrap());
        assert_eq!(seen(&lab, "a").ip(), seen(&lab, "a2").ip());
    }
}

#[test]
fn two_homes_may_have_the_same_private_network() {
    let network = Ipv4Addr::new(10, 0, 0, 0);
    let lab = Lab::builder()
        .home("a", "linux-masq")
        .lan(network)
        .home("b", "linux-masq")
        .lan(network)
        .start()
        .unwrap();
    assert_eq!(address(&lab, "a"), address(&lab, "b"));
    let (one, other) = (seen(&lab, "a").ip(), seen(&lab, "b").ip());
    assert_ne!(one, other);
    assert_eq!(one, lab.host("a").unwrap().public);
}

#[test]
fn homes_behind_one_carrier_share_its_address() {
    let lab = Lab::builder()
        .carrier("cgn", "linux-random")
        .home("a", "linux-masq")
        .behind("cgn")
        .home("b", "port-restricted")
        .behind("cgn")
        .start()
        .unwrap();
    let shared = seen(&lab, "a").ip();
    assert_eq!(shared, seen(&lab, "b").ip());
    assert_eq!(shared, lab.host("b").unwrap().public);
    assert!(lab.layout().boxes.iter().any(|nat| nat.name == "cgn" && nat.outside == shared));
}

#[test]
fn a_carrier_with_hairpinning_connects_its_homes() {
    for form in [Form::Netfilter, Form::User] {
        let lab = Lab::builder()
            .carrier("cgn", "full-cone,hairpin=yes")
            .home("a", "full-cone")
            .form(form)
            .behind("cgn")
            .home("b", "full-cone")
            .form(form)
            .behind("cgn")
            .start()
            .unwrap();
        let inside = udp(&lab, "b", address(&lab, "b"), 0);
        let public = carry(&inside, &server(&lab, 9000), target());
        let other = udp(&lab, "a", address(&lab, "a"), 0);
        let source = carry(&other, &inside, public);
        assert_eq!(source.ip(), public.ip(), "from outside address to outside address");
    }
}

#[test]
fn ipv6_is_not_translated_and_lets_in_only_what_was_asked_for() {
    let lab = Lab::builder().home("a", "linux-masq").ipv6().home("b", "public").ipv6().start();
    let lab = lab.unwrap();
    let v6 = |host| lab.host(host).unwrap().address_v6.unwrap();
    let outside = udp(&lab, "server", SERVER_ADDRESSES_V6[0], 9000);
    let inside = udp(&lab, "a", v6("a"), 0);
    let stranger = udp(&lab, "b", v6("b"), 0);
    let own = inside.local_addr().unwrap();
    assert_eq!(carry(&inside, &outside, outside.local_addr().unwrap()), own);
    // The stranger's packet goes first, and does not arrive.
    stranger.send_to(b"stranger", own).unwrap();
    assert_eq!(carry(&outside, &inside, own), outside.local_addr().unwrap());
}

#[test]
fn a_host_without_ipv6_has_none() {
    let lab = Lab::builder().home("a", "public").start().unwrap();
    let refused = lab.udp_socket("a", (std::net::Ipv6Addr::LOCALHOST, 0));
    assert!(refused.is_err());
}

/// Watches one interface while something happens, up to the arrival of a packet that ends it.
fn watched(lab: &Lab, space: &str, during: impl FnOnce()) -> Vec<Packet> {
    let tap = Tap { space: space.into(), interface: "eth0".into() };
    let capture = lab.capture(&[tap]).unwrap();
    during();
    let end = (QUIET_ADDRESS, 1).into();
    let mut seen = Vec::new();
    while let Some(frame) = capture.next(PATIENCE) {
        let Ok(packet) = Packet::parse(&frame.packet) else { continue };
        if packet.destination() == Some(end) {
            return seen;
        }
        seen.push(packet);
    }
    panic!("the packet that ends the watch did not come");
}

#[test]
fn homes_cannot_forge_their_address_and_the_server_can() {
    let lab = Lab::builder().home("a", "public").home("b", "public").start().unwrap();
    let forged: SocketAddr = "203.0.113.200:7".parse().unwrap();
    let throw = |from: &str, to: SocketAddr| {
        let socket = lab.socket(from, SocketKind::Packets).unwrap();
        let packet = packet::udp(forged, to, 64, b"forged");
        socket.send_to(&packet, &to.into()).unwrap();
    };
    let sight = watched(&lab, "server", || {
        throw("a", target());
        let honest = udp(&lab, "a", address(&lab, "a"), 0);
        honest.send_to(b"end", (QUIET_ADDRESS, 1)).unwrap();
    });
    assert!(sight.iter().all(|packet| packet.source() != Some(forged)));
    let inside = udp(&lab, "a", address(&lab, "a"), 5000);
    throw("server", inside.local_addr().unwrap());
    let mut bytes = [0; 16];
    let (_, source) = inside.recv_from(&mut bytes).unwrap();
    assert_eq!(source, forged);
}

#[test]
fn three_routers_lie_between_two_nats() {
    let lab = Lab::builder().home("a", "linux-masq").home("b", "full-cone").start().unwrap();
    let inside = udp(&lab, "b", address(&lab, "b"), 0);
    let public = carry(&inside, &server(&lab, 9000), target());
    let sender = udp(&lab, "a", address(&lab, "a"), 0);
    for ttl in 1..6u8 {
        sender.set_ttl(ttl.into()).unwrap();
        sender.send_to(&[ttl], public).unwrap();
    }
    sender.set_ttl(64).unwrap();
    let mut bytes = [0; 16];
    // a, its NAT, three routers, b's NAT: a packet needs six hops to b.
    sender.send_to(&[64], public).unwrap();
    let (length, _) = inside.recv_from(&mut bytes).unwrap();
    assert_eq!(bytes[..length], [64]);
    sender.set_ttl(6).unwrap();
    sender.send_to(&[6], public).unwrap();
    let (length, _) = inside.recv_from(&mut bytes).unwrap();
    assert_eq!(bytes[..length], [6]);
}
