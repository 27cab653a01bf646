//! The server over UDP, on loopback addresses.

use crate::support::{Running, client, options, receive, request};
use ntcp_stun::attribute::{
    ChangeRequest, ChangedAddress, ErrorCode, MappedAddress, Nonce, OtherAddress, Padding,
    ResponseOrigin, ResponsePort, XorMappedAddress,
};
use ntcp_stun::{Class, Message, Method, TransactionId, Writer};
use ntcp_stun_server::{BindError, Options, Policy, Server, SocketError, Transport};
use std::net::{SocketAddr, UdpSocket};

#[test]
fn a_client_learns_its_address_in_32_bytes() {
    let server = Running::single();
    let socket = client("127.0.0.1");
    socket.send_to(&request(1, None), server.primary()).expect("sent");
    let (bytes, from) = receive(&socket);
    let message = Message::parse(&bytes).expect("well-formed");
    let mapped = XorMappedAddress(socket.local_addr().expect("bound"));
    assert_eq!((from, bytes.len()), (server.primary(), 32));
    assert_eq!(message.attribute(), Ok(Some(mapped)));
    assert_eq!(message.transaction_id(), TransactionId::new([1; 12]));
    assert_eq!(server.stop().successes, 1);
}

#[test]
fn each_of_four_addresses_answers_from_where_it_is_asked_to() {
    check_four_addresses(Running::quartet(), |address| address);
}

#[test]
fn clients_are_told_public_addresses_where_a_nat_hides_the_servers_own() {
    check_four_addresses(Running::hidden_quartet(), outside);
}

/// What clients of [`Running::hidden_quartet`] are told of an address of its own.
pub(crate) fn outside(local: SocketAddr) -> SocketAddr {
    let ip = if local.ip().to_string() == "127.0.0.1" { "192.0.2.1" } else { "192.0.2.2" };
    SocketAddr::new(ip.parse().expect("an address"), local.port())
}

fn check_four_addresses(server: Running, outside: impl Fn(SocketAddr) -> SocketAddr) {
    let [first, second, third, last] = server.addresses[..] else { panic!("four addresses") };
    assert_eq!((first.ip(), third.ip()), (second.ip(), last.ip()));
    assert_eq!((first.port(), second.port()), (third.port(), last.port()));
    use ChangeRequest::{Ip, IpAndPort, Nothing, Port};
    for (asked, by_port, by_ip, by_both) in [
        (first, second, third, last),
        (second, first, last, third),
        (third, last, first, second),
        (last, third, second, first),
    ] {
        for (change, expected) in
            [(Nothing, asked), (Port, by_port), (Ip, by_ip), (IpAndPort, by_both)]
        {
            // A socket for each question, so that no answer can be another's.
            let socket = client("127.0.0.1");
            socket.send_to(&request(2, Some(change)), asked).expect("sent");
            let (bytes, from) = receive(&socket);
            let message = Message::parse(&bytes).expect("well-formed");
            assert_eq!(from, expected, "{asked} {change:?}");
            assert_eq!(message.attribute(), Ok(Some(ResponseOrigin(outside(expected)))));
            assert_eq!(message.attribute(), Ok(Some(OtherAddress(outside(by_both)))));
        }
    }
    let counters = server.stop();
    assert_eq!((counters.udp, counters.successes, counters.changed), (16, 16, 12));
}

/// A request for an answer from elsewhere at this port, with this proof.
fn aimed_at(port: u16, proof: Option<Nonce<'_>>) -> Vec<u8> {
    let mut buffer = vec![0; 64];
    let id = TransactionId::new([3; 12]);
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
    writer.attribute(&ResponsePort(port)).expect("room");
    writer.attribute(&ChangeRequest::IpAndPort).expect("room");
    if let Some(proof) = proof {
        writer.attribute(&proof).expect("room");
    }
    let length = writer.finish();
    buffer.truncate(length);
    buffer
}

#[test]
fn a_reply_goes_to_the_port_asked_for_by_who_is_there() {
    let server = Running::quartet();
    let (asking, receiving) = (client("127.0.0.1"), client("127.0.0.1"));
    let port = receiving.local_addr().expect("bound").port();
    asking.send_to(&aimed_at(port, None), server.primary()).expect("sent");
    let (bytes, from) = receive(&asking);
    let message = Message::parse(&bytes).expect("well-formed");
    let code = message.attribute::<ErrorCode<'_>>().expect("well-formed").expect("an error");
    assert_eq!((code.code(), from), (438, server.primary()), "back to where it came from");
    let proof = message.attribute::<Nonce<'_>>().expect("well-formed");
    // Each shard knows the tokens of the others: a source's datagrams may come to any when sockets come and go.
    asking.send_to(&aimed_at(port, proof), server.primary()).expect("sent");
    let (bytes, from) = receive(&receiving);
    let message = Message::parse(&bytes).expect("well-formed");
    let mapped = XorMappedAddress(asking.local_addr().expect("bound"));
    assert_eq!(message.attribute(), Ok(Some(mapped)));
    assert_eq!(from, server.addresses[3]);
    let counters = server.stop();
    assert_eq!((counters.stale_nonces, counters.successes), (1, 1));
}

#[test]
fn a_reply_goes_anywhere_behind_the_source_where_that_is_configured() {
    let policy = Policy { trusts_response_port: true, ..Policy::default() };
    let two = options(&["127.0.0.1:0"], &["127.0.0.2:0"]);
    let server = Running::start(&Options { policy, ..two });
    let (asking, receiving) = (client("127.0.0.1"), client("127.0.0.1"));
    let port = receiving.local_addr().expect("bound").port();
    asking.send_to(&aimed_at(port, None), server.primary()).expect("sent");
    assert_eq!(receive(&receiving).1, server.addresses[3]);
}

#[test]
fn a_padded_request_longer_than_any_packet_is_answered_in_kind() {
    let server = Running::single();
    let socket = client("127.0.0.1");
    for length in [1_400, 9_000, 60_000] {
        let padding = Padding { length };
        let mut buffer = vec![0; 65_000];
        let id = TransactionId::new([4; 12]);
        let mut writer =
            Writer::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
        writer.attribute(&padding).expect("room");
        let end = writer.finish();
        socket.send_to(&buffer[..end], server.primary()).expect("sent");
        let (bytes, _) = receive(&socket);
        let message = Message::parse(&bytes).expect("well-formed");
        assert_eq!(message.attribute(), Ok(Some(padding)));
        assert!(bytes.len() <= end + 48);
    }
}

#[test]
fn a_classic_client_is_told_the_changed_address() {
    let server = Running::quartet();
    let socket = client("127.0.0.1");
    let mut bytes = request(5, Some(ChangeRequest::Port));
    bytes[4..8].copy_from_slice(b"3489");
    socket.send_to(&bytes, server.primary()).expect("sent");
    let (bytes, from) = receive(&socket);
    let message = Message::parse_classic(&bytes).expect("well-formed");
    assert!(message.is_classic());
    assert_eq!(from, server.addresses[1]);
    let mapped = MappedAddress(socket.local_addr().expect("bound"));
    assert_eq!(message.attribute(), Ok(Some(mapped)));
    assert_eq!(message.attribute(), Ok(Some(ChangedAddress(server.addresses[3]))));
    assert_eq!(server.stop().classic, 1);
}

#[test]
fn hostile_datagrams_are_survived() {
    let server = Running::quartet();
    let socket = client("127.0.0.1");
    let good = request(6, None);
    for address in &server.addresses {
        socket.send_to(&[], address).expect("sent");
        socket.send_to(&good[..19], address).expect("sent");
        socket.send_to(&[&good[..], &[0; 4]].concat(), address).expect("sent");
        socket.send_to(&[0x40, 1, 0, 4, 1, 2, 3, 4], address).expect("sent");
        socket.send_to(&[0xFF; 1400], address).expect("sent");
        socket.send_to(&good, address).expect("sent");
        let (bytes, from) = receive(&socket);
        assert_eq!((bytes.len(), from), (68, *address), "the one good one is answered");
    }
    let counters = server.stop();
    assert_eq!((counters.successes, counters.malformed), (4, 20));
}

#[test]
fn ipv6_is_served_beside_ipv4() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this host has no IPv6");
        return;
    }
    let server = Running::start(&options(&["127.0.0.1:0", "[::1]:0"], &[]));
    for (ip, address) in ["127.0.0.1", "::1"].iter().zip(&server.addresses) {
        let socket = client(ip);
        socket.send_to(&request(7, None), address).expect("sent");
        let (bytes, from) = receive(&socket);
        let message = Message::parse(&bytes).expect("well-formed");
        assert_eq!(from, *address);
        let mapped = XorMappedAddress(socket.local_addr().expect("bound"));
        assert_eq!(message.attribute(), Ok(Some(mapped)));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn listening_everywhere_still_answers_from_the_address_asked() {
    let server = Running::start(&options(&["0.0.0.0:0", "[::]:0"], &[]));
    let port = server.primary().port();
    for ip in ["127.0.0.1", "127.0.0.5", "127.255.0.9"] {
        let asked: SocketAddr = format!("{ip}:{port}").parse().expect("an address");
        let socket = client("127.0.0.1");
        let mut bytes = request(8, None);
        bytes[4..8].copy_from_slice(b"3489");
        socket.send_to(&bytes, asked).expect("sent");
        let (bytes, from) = receive(&socket);
        let message = Message::parse_classic(&bytes).expect("well-formed");
        assert_eq!(from, asked);
        let origin = ntcp_stun::attribute::SourceAddress(asked);
        assert_eq!(message.attribute(), Ok(Some(origin)), "and it knows which that is");
    }
    let Some(v6) = server.addresses.get(1) else {
        eprintln!("SKIPPED in part: this host has no IPv6");
        return;
    };
    let asked: SocketAddr = format!("[::1]:{}", v6.port()).parse().expect("an address");
    let socket = client("::1");
    socket.send_to(&request(9, None), asked).expect("sent");
    assert_eq!(receive(&socket).1, asked);
}

#[test]
fn a_stopped_server_frees_its_ports() {
    let server = Running::quartet();
    let addresses = server.addresses.clone();
    let options = options(&[&addresses[0].to_string()], &[&addresses[3].to_string()]);
    let taken = Server::bind(&options).err();
    let transport = Transport::Udp;
    assert!(
        matches!(taken, Some(BindError::Socket(SocketError::InUse { transport: t, address, .. })) if t == transport && address == addresses[0]),
        "{taken:?}"
    );
    server.stop();
    let again = Running::start(&options);
    assert_eq!(again.addresses, addresses);
}

#[test]
fn addresses_that_would_make_a_liar_are_refused() {
    for (listen, alternate) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("0.0.0.0:0", "127.0.0.2:0"),
        ("127.0.0.1:13478", "127.0.0.2:13478"),
    ] {
        let refused = Server::bind(&options(&[listen], &[alternate])).err();
        assert!(matches!(refused, Some(BindError::Alternate(_))), "{listen}: {refused:?}");
    }
    let alone = Server::bind(&options(&["[::1]:0"], &["127.0.0.2:0"])).err();
    assert!(matches!(
        alone,
        Some(BindError::AlternateAlone { .. })
            | Some(BindError::Socket(SocketError::NotOurs { .. }))
    ));
    let nothing = Server::bind(&options(&[], &[])).err();
    assert!(matches!(nothing, Some(BindError::Nothing)));
    let not_ours = Server::bind(&options(&["192.0.2.77:0"], &[])).err();
    assert!(
        matches!(not_ours, Some(BindError::Socket(SocketError::NotOurs { .. }))),
        "{not_ours:?}"
    );
}
