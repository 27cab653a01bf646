//! UDP on loopback: which address a reply leaves from, and what it says about it.

use crate::client::{Udp, at, binding, change, message, request, serve, serve_four, start};
use ntcp_stun::attribute::ChangeRequest::{Ip, IpAndPort, Nothing, Port};
use ntcp_stun::attribute::{ChangedAddress, MappedAddress, ResponsePort, SourceAddress};
use ntcp_stun::attribute::{UnknownAttributes, XorMappedAddress};
use ntcp_stun::{AttributeType, Class};
use ntcp_stun_server::Config;

#[test]
fn replies_leave_from_the_address_that_was_asked_for_at_each_of_the_four() {
    let server = serve_four();
    let [primary, alternate, ..] = server.local_addresses() else { panic!("four addresses") };
    let ips = [primary.ip(), alternate.ip()];
    let ports = [primary.port(), alternate.port()];
    let client = Udp::new("127.0.0.1:0");
    let mut number = 0;
    for (ip, port) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let to = (ips[ip], ports[port]).into();
        let other = (ips[1 - ip], ports[1 - port]).into();
        for (wish, from) in [
            (Nothing, (ips[ip], ports[port])),
            (Port, (ips[ip], ports[1 - port])),
            (Ip, (ips[1 - ip], ports[port])),
            (IpAndPort, (ips[1 - ip], ports[1 - port])),
        ] {
            number += 1;
            let (reply, came_from) = client.ask(&change(number, wish), to);
            assert_eq!(came_from, from.into(), "{to} {wish:?}");
            assert_eq!(reply.number(), number);
            assert_eq!(reply.origin(), Some(came_from));
            assert_eq!(reply.other(), Some(other));
            assert_eq!(reply.mapped(), client.address());
        }
    }
    let served = server.stop().expect("stopped");
    assert_eq!((served.messages.udp, served.messages.changed), (16, 12));
}

#[test]
fn a_request_of_rfc_3489_is_answered_in_its_words() {
    let server = serve_four();
    let [primary, alternate, ..] = server.local_addresses() else { panic!("four addresses") };
    let client = Udp::new("127.0.0.1:0");
    // CHANGE-REQUEST with "change IP" and "change port"; no magic cookie.
    let request = *b"\x00\x01\x00\x08sixteen bytes id\x00\x03\x00\x04\x00\x00\x00\x06";
    let (reply, from) = client.ask(&request, *primary);
    assert_eq!(from, *alternate);
    assert!(reply.is_success() && reply.message().is_classic());
    assert_eq!(reply.attribute(), Some(MappedAddress(client.address())));
    assert_eq!(reply.attribute(), Some(SourceAddress(from)));
    assert_eq!(reply.attribute(), Some(ChangedAddress(*alternate)));
    assert_eq!(reply.attribute::<XorMappedAddress>(), None);
}

#[test]
fn without_a_second_address_no_other_is_announced_and_change_is_refused() {
    for listen in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
        let server = serve(listen);
        let mut to = server.local_addresses()[0];
        let loopback = if to.is_ipv4() { at("127.0.0.1:0") } else { at("[::1]:0") };
        to.set_ip(loopback.ip());
        let client = Udp::new(&loopback.to_string());
        let (reply, from) = client.ask(&binding(1), to);
        assert_eq!((reply.mapped(), from), (client.address(), to), "{listen}");
        assert_eq!(reply.other(), None, "{listen}");
        for wish in [Port, Ip, IpAndPort] {
            let (reply, from) = client.ask(&change(2, wish), to);
            assert_eq!((reply.error(), from), (Some(420), to), "{listen} {wish:?}");
            let unknown = reply.attribute::<UnknownAttributes>().expect("the list");
            assert_eq!(unknown.as_slice(), [AttributeType::CHANGE_REQUEST]);
        }
    }
}

#[test]
fn on_an_unspecified_address_replies_leave_from_the_ip_that_was_asked() {
    let server = serve("0.0.0.0:0");
    let port = server.local_addresses()[0].port();
    let client = Udp::new("127.0.0.1:0");
    for ip in [[127, 0, 0, 1], [127, 0, 0, 2], [127, 1, 2, 3], [127, 255, 255, 254]] {
        let to = (ip, port).into();
        let (reply, from) = client.ask(&binding(ip[3]), to);
        assert_eq!((reply.number(), from), (ip[3], to));
    }
}

#[test]
fn an_unspecified_address_of_each_family_tells_its_clients_their_own() {
    let server = start(&Config::new([at("0.0.0.0:0"), at("[::]:0")]));
    for (own, to) in [("127.0.0.1:0", 0), ("[::1]:0", 1)] {
        let client = Udp::new(own);
        let to = (client.address().ip(), server.local_addresses()[to].port()).into();
        let (reply, from) = client.ask(&binding(1), to);
        assert_eq!((reply.mapped(), from), (client.address(), to));
    }
}

#[test]
fn response_port_sends_the_reply_to_another_port_of_the_same_client() {
    let server = serve_four();
    let (asking, waiting) = (Udp::new("127.0.0.1:0"), Udp::new("127.0.0.1:0"));
    let to = server.local_addresses()[0];
    let port = ResponsePort(waiting.address().port());
    asking.send(&request(1, |it| it.attribute(&port).expect("room")), to);
    let (reply, from) = waiting.receive();
    assert_eq!((reply.mapped(), from), (asking.address(), to));
}

#[test]
fn what_is_not_a_request_is_passed_over_and_the_next_request_is_answered() {
    let server = serve_four();
    let to = server.local_addresses()[0];
    let client = Udp::new("127.0.0.1:0");
    let good = change(1, Nothing);
    let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
    bad.push(vec![0xFF; 65_000]);
    bad.push(message(Class::Indication, 2, |_| {}));
    bad.push(message(Class::Success, 2, |_| {}));
    bad.push([&binding(3)[..], b"after"].concat());
    // Looks like a TURN channel's data.
    bad.push([&[0x40, 0, 0, 4][..], &[0; 16]].concat());
    for (number, bytes) in bad.iter().enumerate() {
        client.send(bytes, to);
        let number = number as u8;
        // Nothing came for the bad one, or this would be it: one thread answers in the order of arrival.
        let (reply, _) = client.ask(&binding(number), to);
        assert_eq!(reply.number(), number, "{bytes:?}");
        assert!(reply.is_success());
    }
    let served = server.stop().expect("stopped");
    assert_eq!(served.messages.udp, 2 * bad.len() as u64);
    assert_eq!(served.messages.successes, bad.len() as u64);
}
