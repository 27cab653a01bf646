//! What a running server does with each kind of datagram, row by row: the ways in which STUN servers are found to differ.
//! Then every truncation and every flipped bit of every message.

use crate::support::{PATIENCE, Running, client, request};
use ntcp_stun::attribute::{
    ChangedAddress, ErrorCode, MappedAddress, OtherAddress, Padding, UnknownAttributes,
    XorMappedAddress,
};
use ntcp_stun::{Check, Class, Key, Message};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const CHANGE_REQUEST: u16 = 0x0003;
const PADDING: u16 = 0x0026;
const RESPONSE_PORT: u16 = 0x0027;

/// A message of this type with these attributes and a cookie, whatever they hold.
fn message(kind: u16, cookie: [u8; 4], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (attribute, value) in attributes {
        body.extend(attribute.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let length = (body.len() as u16).to_be_bytes();
    [&kind.to_be_bytes()[..], &length, &cookie, &[0x5A; 12], &body].concat()
}

fn binding(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    message(0x0001, COOKIE, attributes)
}

/// What came back: an error's code, or success.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Nothing,
    Success,
    Error(u16),
}
use Answer::{Error, Nothing, Success};

/// Sends a datagram, and after it a request that is always answered, so that silence is seen as soon as it is there.
fn ask(server: SocketAddr, datagram: &[u8]) -> (Answer, Vec<u8>, SocketAddr) {
    let asking = client("127.0.0.1");
    asking.send_to(datagram, server).expect("sent");
    // The same socket, thus the same shard, which answers in order.
    asking.send_to(&request(0xEE, None), server).expect("sent");
    let mut buffer = [0; 4096];
    let (length, from) = asking.recv_from(&mut buffer).expect("an answer");
    let bytes = buffer[..length].to_vec();
    let message = Message::parse_classic(&bytes).expect("well-formed");
    if bytes[8..20] == [0xEE; 12] {
        return (Nothing, Vec::new(), from);
    }
    assert_eq!(bytes[4..20], datagram[4..20], "the transaction id");
    let answer = match message.class() {
        Class::Success => Success,
        Class::Error => {
            let code = message.attribute::<ErrorCode<'_>>().expect("well-formed");
            Error(code.expect("an error has a code").code())
        }
        class => panic!("a {class:?}"),
    };
    (answer, bytes, from)
}

/// The answer to a request that may be answered from elsewhere, which need not come in order.
fn ask_from_elsewhere(server: SocketAddr, datagram: &[u8]) -> (bool, Vec<u8>, SocketAddr) {
    let asking = client("127.0.0.1");
    asking.send_to(datagram, server).expect("sent");
    let (bytes, from) = crate::support::receive(&asking);
    let message = Message::parse(&bytes).expect("well-formed");
    (message.class() == Class::Success, bytes.clone(), from)
}

fn attribute_of<'a, A: ntcp_stun::Attribute<'a>>(message: &Message<'a>) -> Option<A> {
    message.attribute().expect("well-formed")
}

fn unknown(bytes: &[u8]) -> Vec<u16> {
    let message = Message::parse_classic(bytes).expect("well-formed");
    let list: UnknownAttributes = attribute_of(&message).expect("420 has the list");
    list.as_slice().iter().map(|it| it.number()).collect()
}

/// Rows that are alike for one address and for two.
#[test]
fn each_datagram_gets_what_the_standards_say() {
    let good = binding(&[]);
    let mut fingerprint = binding(&[(0x8028, &[1, 2, 3, 4])]);
    let odd = |byte: usize, value: u8| {
        let mut bytes = binding(&[(0x8022, b"abcd")]);
        bytes[byte] = value;
        bytes
    };
    let rows: Vec<(&str, Vec<u8>, Answer)> = vec![
        ("a bare request", good.clone(), Success),
        ("wrong FINGERPRINT", std::mem::take(&mut fingerprint), Nothing),
        ("an unknown required attribute", binding(&[(0x7FFF, b"")]), Error(420)),
        ("an unknown optional attribute", binding(&[(0xFFFF, b"abc")]), Success),
        ("no cookie (RFC 3489)", message(1, [1, 2, 3, 4], &[]), Success),
        ("CHANGE-REQUEST of 2 bytes", binding(&[(CHANGE_REQUEST, &[0, 0])]), Error(400)),
        (
            "RESPONSE-PORT and PADDING",
            binding(&[(RESPONSE_PORT, &[0, 9]), (PADDING, b"")]),
            Error(400),
        ),
        ("RESPONSE-PORT of 1 byte", binding(&[(RESPONSE_PORT, &[9])]), Error(400)),
        ("RESPONSE-PORT 0", binding(&[(RESPONSE_PORT, &[0, 0])]), Error(400)),
        ("PADDING of nothing", binding(&[(PADDING, b"")]), Success),
        ("PADDING of 1,000 bytes", binding(&[(PADDING, &[0; 1_000])]), Success),
        (
            "RESPONSE-ADDRESS (RFC 3489)",
            binding(&[(0x0002, &[0, 1, 0, 9, 192, 0, 2, 1])]),
            Error(420),
        ),
        ("a Binding indication", message(0x0011, COOKIE, &[]), Nothing),
        ("a success", message(0x0101, COOKIE, &[]), Nothing),
        ("an error", message(0x0111, COOKIE, &[]), Nothing),
        ("an unknown method", message(0x0003, COOKIE, &[]), Nothing),
        ("a Shared Secret request (RFC 3489)", message(0x0002, [1, 2, 3, 4], &[]), Nothing),
        ("a length that is no multiple of 4", odd(3, 7), Nothing),
        ("bytes after the message", [&good[..], &[0; 4]].concat(), Nothing),
        ("an attribute that overruns the message", odd(23, 5), Nothing),
        ("an attribute of 65,535 bytes", odd(22, 0xFF), Nothing),
        ("a length beyond the datagram", odd(3, 12), Nothing),
        ("a length of 65,532", odd(2, 0xFF), Nothing),
        ("top bits 01, as ChannelData has", odd(0, 0x40), Nothing),
        ("top bits 10", odd(0, 0x80), Nothing),
        ("19 bytes", good[..19].to_vec(), Nothing),
        ("nothing", Vec::new(), Nothing),
        (
            "USERNAME and MESSAGE-INTEGRITY of nobody",
            binding(&[(6, b"who"), (8, &[7; 20])]),
            Success,
        ),
        ("attributes after FINGERPRINT", binding(&[(0x8028, &[0; 4]), (0x8022, b"x")]), Nothing),
        ("the same attribute twice", binding(&[(0x8022, b"one"), (0x8022, b"two")]), Success),
        (
            "MAPPED-ADDRESS of an unknown family",
            binding(&[(1, &[0, 9, 0, 1, 1, 2, 3, 4])]),
            Success,
        ),
    ];
    for server in [Running::single(), Running::quartet()] {
        for (what, datagram, expected) in &rows {
            let (answer, bytes, from) = ask(server.primary(), datagram);
            assert_eq!(answer, *expected, "{what}");
            assert_eq!(from, server.primary(), "{what}");
            // RFC 5780 has a server with two addresses tell four of them.
            let told = match (server.addresses.len(), datagram.get(4..8) == Some(&COOKIE)) {
                (1, true) => 0,
                // RFC 3489 has any server tell one.
                (1, false) => 12,
                _ => 36,
            };
            let longest = (datagram.len() * 16).div_ceil(10) + told;
            assert!(bytes.len() <= longest, "{what}: {} bytes", bytes.len());
        }
        let counters = server.stop();
        // Nobody waits for the very last of them.
        assert!(counters.udp + 1 >= 2 * rows.len() as u64, "{counters:?}");
    }
}

#[test]
fn each_answer_carries_what_belongs_into_it() {
    for server in [Running::single(), Running::quartet()] {
        let (primary, is_single) = (server.primary(), server.addresses.len() == 1);
        let read = |datagram: &[u8]| ask(primary, datagram).1;
        // 420 names what it did not understand, in order.
        assert_eq!(
            unknown(&read(&binding(&[(0x7FFF, b""), (0x0015, b""), (0x7FFE, b"")]))),
            [0x7FFF, 0x7FFE]
        );
        // PADDING comes back as it went.
        let padded = read(&binding(&[(PADDING, &[0; 1_000])]));
        let message_padded = Message::parse(&padded).expect("well-formed");
        assert_eq!(attribute_of(&message_padded), Some(Padding { length: 1_000 }));
        // FINGERPRINT is answered by FINGERPRINT.
        assert_eq!(
            Message::parse(&read(&binding(&[]))).expect("well-formed").fingerprint(),
            Check::Absent
        );
        let mut signed = vec![0; 28];
        let id = ntcp_stun::TransactionId::new([0x5A; 12]);
        let writer =
            ntcp_stun::Writer::new(&mut signed, Class::Request, ntcp_stun::Method::BINDING, id);
        writer.expect("room").fingerprint().expect("room");
        assert_eq!(
            Message::parse(&read(&signed)).expect("well-formed").fingerprint(),
            Check::Valid
        );
        // Nothing is signed that nobody was asked to sign.
        let stranger = read(&binding(&[(6, b"who"), (8, &[7; 20])]));
        let stranger = Message::parse(&stranger).expect("well-formed");
        assert_eq!(stranger.integrity(&Key::short_term(b"who")), Check::Absent);
        // A classic client gets MAPPED-ADDRESS and no attribute of later standards.
        let classic = read(&message(1, [1, 2, 3, 4], &[(CHANGE_REQUEST, &[0; 4])]));
        let classic = Message::parse_classic(&classic).expect("well-formed");
        assert!(attribute_of::<MappedAddress>(&classic).is_some());
        assert_eq!(attribute_of::<XorMappedAddress>(&classic), None);
        assert_eq!(attribute_of::<ChangedAddress>(&classic).is_none(), is_single);
        // Where there is no other address none is told, and none is answered from.
        let plain = read(&binding(&[]));
        let plain = Message::parse(&plain).expect("well-formed");
        assert_eq!(attribute_of::<OtherAddress>(&plain).is_none(), is_single);
        for flags in [2, 4, 6] {
            let datagram = binding(&[(CHANGE_REQUEST, &[0, 0, 0, flags])]);
            let (is_success, bytes, from) = ask_from_elsewhere(primary, &datagram);
            if is_single {
                assert_eq!((is_success, from), (false, primary), "never from a wrong place");
                assert_eq!(unknown(&bytes), [CHANGE_REQUEST]);
            } else {
                // The flag of the port is 2, that of the IP 4 (RFC 5780, section 7.2).
                let expected = server.addresses[usize::from(flags / 2)];
                assert_eq!((is_success, from), (true, expected));
            }
        }
    }
}

#[test]
fn with_an_ipv4_and_an_ipv6_listener_no_other_address_is_told() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this host has no IPv6");
        return;
    }
    let server = Running::start(&crate::support::options(&["127.0.0.1:0", "[::1]:0"], &[]));
    for (ip, address) in ["127.0.0.1", "::1"].iter().zip(&server.addresses) {
        let socket = client(ip);
        socket.send_to(&binding(&[]), address).expect("sent");
        let (bytes, _) = crate::support::receive(&socket);
        let message = Message::parse(&bytes).expect("well-formed");
        assert_eq!(attribute_of::<OtherAddress>(&message), None);
    }
}

#[test]
fn response_port_is_believed_in_both_its_lengths() {
    let policy = ntcp_stun_server::Policy { trusts_response_port: true, ..Default::default() };
    let options = crate::support::options(&["127.0.0.1:0"], &["127.0.0.2:0"]);
    let server = Running::start(&ntcp_stun_server::Options { policy, ..options });
    for padded in [false, true] {
        let (asking, hearing) = (client("127.0.0.1"), client("127.0.0.1"));
        let [high, low] = hearing.local_addr().expect("bound").port().to_be_bytes();
        let value: &[u8] = if padded { &[high, low, 0, 0] } else { &[high, low] };
        asking.send_to(&binding(&[(RESPONSE_PORT, value)]), server.primary()).expect("sent");
        let (bytes, from) = crate::support::receive(&hearing);
        assert_eq!((bytes[0..2].to_vec(), from), (vec![1, 1], server.primary()));
    }
}

/// Every message that the fuzz targets begin with, and those of the table above.
fn messages() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/message");
    let files = std::fs::read_dir(&folder).expect("the corpus");
    let read = |it: std::io::Result<std::fs::DirEntry>| std::fs::read(it.expect("a file").path());
    let mut messages: Vec<_> = files.map(|it| read(it).expect("a seed")).collect();
    messages.push(binding(&[(CHANGE_REQUEST, &[0, 0, 0, 6])]));
    messages.push(binding(&[(PADDING, &[0; 8])]));
    messages.push(binding(&[(6, b"who"), (8, &[7; 20]), (0x001C, &[7; 32])]));
    messages.retain(|it| it.len() <= 200);
    messages.sort();
    assert!(messages.len() > 20, "the corpus is there");
    messages
}

/// The message cut at each length, and with each bit flipped.
fn variants(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..message.len()).map(|length| message[..length].to_vec());
    let flipped = (0..message.len() * 8).map(|bit| {
        let mut flipped = message.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    });
    cut.chain(flipped)
}

#[test]
fn no_truncation_and_no_flipped_bit_of_any_message_does_harm() {
    /// Datagrams between two answers that are waited for, far fewer than a socket's buffer holds.
    const AT_ONCE: usize = 100;
    let server = Running::quartet();
    let (primary, socket) = (server.primary(), client("127.0.0.1"));
    let (mut sent, mut replies, mut lengths) = (0_u64, 0_u64, BTreeMap::new());
    let mut settle = |lengths: &mut BTreeMap<Vec<u8>, usize>, sent: &mut u64| {
        let last = [&0xD0FE_u32.to_be_bytes()[..], &sent.to_be_bytes()].concat();
        let mut bytes = request(0, None);
        bytes[8..20].copy_from_slice(&last);
        socket.send_to(&bytes, primary).expect("sent");
        *sent += 1;
        loop {
            let mut buffer = [0; 4096];
            let (length, from) = socket.recv_from(&mut buffer).expect("it goes on");
            Message::parse_classic(&buffer[..length]).expect("well-formed");
            replies += 1;
            if buffer[8..20] == last[..] {
                return;
            }
            assert!(server.addresses.contains(&from));
            let asked = lengths.get(&buffer[4..20]).expect("an answer to what was asked");
            assert!(length <= asked + 48, "{length} bytes for {asked}");
        }
    };
    for variant in messages().iter().flat_map(|it| variants(it)) {
        socket.send_to(&variant, primary).expect("sent");
        sent += 1;
        if let Some(id) = variant.get(4..20) {
            let longest = lengths.entry(id.to_vec()).or_insert(0);
            *longest = variant.len().max(*longest);
        }
        if sent.is_multiple_of(AT_ONCE as u64) {
            settle(&mut lengths, &mut sent);
        }
    }
    settle(&mut lengths, &mut sent);
    let counters = server.stop();
    assert!(sent > 10_000, "{sent} were sent");
    assert_eq!(counters.udp, sent, "all arrived");
    assert!(counters.malformed > sent / 10, "{counters:?}");
    // RESPONSE-PORT sends some elsewhere.
    assert!(replies <= counters.udp);
}

#[test]
fn no_truncation_and_no_flipped_bit_over_tcp_does_harm() {
    let server = Running::single();
    let asked = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(server.primary()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // It may have been closed at the first bytes that cannot be STUN.
        if stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write)).is_err() {
            return Vec::new();
        }
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => answer,
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it ends");
                answer
            }
        }
    };
    // A stream ends; what came whole before is answered.
    for message in messages().iter().filter(|it| it.len() < 64) {
        for variant in variants(message) {
            let answer = asked(&variant);
            assert!(answer.is_empty() || Message::parse(&answer).is_ok(), "{variant:?}");
        }
    }
    assert!(!asked(&request(1, None)).is_empty(), "it goes on");
}
