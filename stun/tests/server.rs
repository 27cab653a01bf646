//! What the server answers: a table of well-formed and ill-formed datagrams, and each rule by itself.

use ntcp_stun::attribute::{
    ChangeRequest, ChangedAddress, ErrorCode, MappedAddress, OtherAddress, Padding, ResponseOrigin,
    ResponsePort, SourceAddress, UnknownAttributes, XorMappedAddress,
};
use ntcp_stun::server::{Quartet, Reply, Request, Server, Silence, Transport};
use ntcp_stun::{
    Attribute, AttributeType, Check, Class, MAGIC_COOKIE, Message, Method, TransactionId, Writer,
};
use std::net::SocketAddr;

const CLIENT: &str = "198.51.100.7:40000";
const PRIMARY: &str = "192.0.2.1:3478";
const ALTERNATE: &str = "192.0.2.2:3479";

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn two_addresses() -> Server {
    let mut server = Server::new();
    server.add_quartet(Quartet::new(at(PRIMARY), at(ALTERNATE)).expect("valid"));
    server
}

/// A message of any type with these attributes, written without asking anybody.
fn message(message_type: u16, cookie: [u8; 4], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (attribute_type, value) in attributes {
        body.extend(attribute_type.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut bytes = message_type.to_be_bytes().to_vec();
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(cookie);
    bytes.extend(b"transaction!");
    bytes.extend(body);
    bytes
}

fn binding(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    message(0x0001, MAGIC_COOKIE, attributes)
}

fn classic(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    message(0x0001, *b"3489", attributes)
}

/// A Binding request with a FINGERPRINT, right or with its last bit flipped.
fn fingerprinted(flip: u8) -> Vec<u8> {
    let mut buffer = vec![0; 28];
    let id = TransactionId::new([5; 12]);
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
    writer.fingerprint().expect("room");
    buffer[27] ^= flip;
    buffer
}

fn send_to(
    server: &mut Server,
    bytes: &[u8],
    local: &str,
    transport: Transport,
) -> Result<(Reply, Vec<u8>), Silence> {
    let mut buffer = vec![0xEE; 2048];
    let request = Request { bytes, source: at(CLIENT), local: at(local), transport };
    let reply = server.handle_request(request, &mut buffer)?;
    buffer.truncate(reply.length);
    let message = Message::parse_classic(&buffer).expect("replies are well-formed");
    let question = Message::parse_classic(bytes).expect("only such are answered");
    assert_eq!(buffer[4..20], bytes[4..20], "the transaction id comes back");
    assert_eq!(message.method(), Method::BINDING);
    assert_eq!(message.fingerprint(), question.fingerprint());
    Ok((reply, buffer))
}

fn send(server: &mut Server, bytes: &[u8]) -> Result<(Reply, Vec<u8>), Silence> {
    send_to(server, bytes, PRIMARY, Transport::Udp)
}

/// What an answer amounts to, in a word as short as in a table.
fn verdict(server: &mut Server, bytes: &[u8]) -> String {
    let Ok((reply, bytes)) = send(server, bytes) else { return "n".into() };
    let message = Message::parse_classic(&bytes).expect("checked before");
    let code = message.attribute::<ErrorCode<'_>>().expect("well-formed");
    match (message.class(), code) {
        (Class::Success, None) => {
            let from = if reply.from == at(PRIMARY) {
                String::new()
            } else {
                format!(" from {}", reply.from)
            };
            let to =
                if reply.to == at(CLIENT) { String::new() } else { format!(" to {}", reply.to) };
            format!("S{from}{to}")
        }
        (Class::Error, Some(code)) => {
            assert_eq!(
                (reply.from, reply.to),
                (at(PRIMARY), at(CLIENT)),
                "errors go straight back"
            );
            let unknown = message.attribute::<UnknownAttributes>().expect("well-formed");
            let list = unknown.map(|it| format!(" {:?}", it.as_slice())).unwrap_or_default();
            format!("{}{list}", code.code())
        }
        other => panic!("neither success nor error: {other:?}"),
    }
}

#[test]
fn every_row_of_the_conformance_table() {
    let unknown_7fff = "420 [AttributeType(0x7fff)]";
    let unknown_change = "420 [AttributeType(CHANGE-REQUEST)]";
    let mut overrun = binding(&[(0x8022, b"abcd")]);
    overrun[23] = 8;
    let mut unaligned = binding(&[]);
    unaligned[3] = 2;
    unaligned.extend([0; 2]);
    let mut beyond = binding(&[]);
    beyond[3] = 4;
    let trailing = [binding(&[]), vec![0; 4]].concat();
    let signed: &[(u16, &[u8])] = &[(0x0006, b"nobody"), (0x0008, &[7; 20])];
    let rows: &[(&str, Vec<u8>, &str, &str)] = &[
        // name, datagram, with two addresses, with one
        ("plain", binding(&[]), "S", "S"),
        ("right FINGERPRINT", fingerprinted(0), "S", "S"),
        ("wrong FINGERPRINT", fingerprinted(1), "n", "n"),
        ("unknown required attribute", binding(&[(0x7FFF, b"")]), unknown_7fff, unknown_7fff),
        ("unknown optional attribute", binding(&[(0x8FFF, b"x")]), "S", "S"),
        ("no cookie", classic(&[]), "S", "S"),
        ("no cookie, unknown", classic(&[(0x7FFF, b"")]), unknown_7fff, unknown_7fff),
        ("no cookie, empty change", classic(&[(3, &[0, 0, 0, 0])]), "S", "S"),
        (
            "no cookie, change",
            classic(&[(3, &[0, 0, 0, 6])]),
            "S from 192.0.2.2:3479",
            unknown_change,
        ),
        ("change both", binding(&[(3, &[0, 0, 0, 6])]), "S from 192.0.2.2:3479", unknown_change),
        ("change IP", binding(&[(3, &[0, 0, 0, 4])]), "S from 192.0.2.2:3478", unknown_change),
        ("change port", binding(&[(3, &[0, 0, 0, 2])]), "S from 192.0.2.1:3479", unknown_change),
        ("change nothing", binding(&[(3, &[0, 0, 0, 0])]), "S", unknown_change),
        ("CHANGE-REQUEST of 2 bytes", binding(&[(3, &[0, 6])]), "400", "400"),
        ("PADDING", binding(&[(0x26, &[0; 900])]), "S", "S"),
        ("empty PADDING", binding(&[(0x26, &[])]), "S", "S"),
        (
            "RESPONSE-PORT of 2 bytes",
            binding(&[(0x27, &[0x30, 0x39])]),
            "S to 198.51.100.7:12345",
            "S to 198.51.100.7:12345",
        ),
        (
            "RESPONSE-PORT of 4 bytes",
            binding(&[(0x27, &[0x30, 0x39, 0, 0])]),
            "S to 198.51.100.7:12345",
            "S to 198.51.100.7:12345",
        ),
        ("RESPONSE-PORT of 3 bytes", binding(&[(0x27, &[0x30, 0x39, 0])]), "400", "400"),
        ("RESPONSE-PORT 0", binding(&[(0x27, &[0, 0])]), "400", "400"),
        (
            "RESPONSE-PORT and PADDING",
            binding(&[(0x27, &[0x30, 0x39]), (0x26, &[0; 8])]),
            "400",
            "400",
        ),
        ("Binding indication", message(0x0011, MAGIC_COOKIE, &[]), "n", "n"),
        ("Binding success", message(0x0101, MAGIC_COOKIE, &[]), "n", "n"),
        ("Binding error", message(0x0111, MAGIC_COOKIE, &[]), "n", "n"),
        ("unknown method", message(0x0003, MAGIC_COOKIE, &[]), "n", "n"),
        ("length not a multiple of 4", unaligned, "n", "n"),
        ("bytes after the message", trailing, "n", "n"),
        ("attribute overruns the message", overrun, "n", "n"),
        ("length field beyond the datagram", beyond, "n", "n"),
        ("top bits 01", message(0x4001, MAGIC_COOKIE, &[]), "n", "n"),
        ("top bits 10", message(0x8001, MAGIC_COOKIE, &[]), "n", "n"),
        ("19 bytes", binding(&[])[..19].to_vec(), "n", "n"),
        ("empty", vec![], "n", "n"),
        ("Shared Secret request", message(0x0002, *b"3489", &[]), "n", "n"),
        ("signed by nobody known", binding(signed), "S", "S"),
        (
            "RESPONSE-ADDRESS",
            classic(&[(2, &[0, 1, 0, 80, 203, 0, 113, 9])]),
            "420 [AttributeType(RESPONSE-ADDRESS)]",
            "420 [AttributeType(RESPONSE-ADDRESS)]",
        ),
    ];
    for (name, datagram, with_two, with_one) in rows {
        assert_eq!(verdict(&mut two_addresses(), datagram), *with_two, "{name}, two addresses");
        assert_eq!(verdict(&mut Server::new(), datagram), *with_one, "{name}, one address");
    }
}

#[test]
fn with_one_address_the_reply_has_32_bytes_and_claims_nothing() {
    let (reply, bytes) = send(&mut Server::new(), &binding(&[])).expect("answered");
    let message = Message::parse(&bytes).expect("well-formed");
    assert_eq!(reply.length, 32);
    assert_eq!(message.attribute(), Ok(Some(XorMappedAddress(at(CLIENT)))));
    assert_eq!(message.attributes().count(), 1);
}

#[test]
fn a_v4_and_a_v6_address_are_no_quartet_for_each_other() {
    let mut server = Server::new();
    let v6 = Quartet::new(at("[2001:db8::1]:3478"), at("[2001:db8::2]:3479")).expect("valid");
    server.add_quartet(v6);
    let (_, bytes) = send(&mut server, &binding(&[])).expect("answered");
    let message = Message::parse(&bytes).expect("well-formed");
    assert_eq!(message.attribute::<OtherAddress>(), Ok(None));
}

#[test]
fn with_two_addresses_the_reply_tells_origin_and_other_from_each_of_the_four() {
    for (local, change, origin, other) in [
        (PRIMARY, ChangeRequest::Nothing, PRIMARY, ALTERNATE),
        (PRIMARY, ChangeRequest::IpAndPort, ALTERNATE, ALTERNATE),
        (PRIMARY, ChangeRequest::Port, "192.0.2.1:3479", ALTERNATE),
        (ALTERNATE, ChangeRequest::Nothing, ALTERNATE, PRIMARY),
        (ALTERNATE, ChangeRequest::Ip, "192.0.2.1:3479", PRIMARY),
        ("192.0.2.2:3478", ChangeRequest::IpAndPort, "192.0.2.1:3479", "192.0.2.1:3479"),
    ] {
        let mut flags = [0; 4];
        change.encode(&mut flags, TransactionId::new([0; 12]));
        let request = binding(&[(3, &flags)]);
        let (reply, bytes) =
            send_to(&mut two_addresses(), &request, local, Transport::Udp).expect("answered");
        let message = Message::parse(&bytes).expect("well-formed");
        assert_eq!((reply.from, reply.to), (at(origin), at(CLIENT)));
        assert_eq!(message.attribute(), Ok(Some(XorMappedAddress(at(CLIENT)))));
        assert_eq!(message.attribute(), Ok(Some(MappedAddress(at(CLIENT)))));
        assert_eq!(message.attribute(), Ok(Some(ResponseOrigin(at(origin)))));
        assert_eq!(message.attribute(), Ok(Some(OtherAddress(at(other)))));
    }
}

#[test]
fn an_ipv6_client_is_served_alike() {
    let mut server = Server::new();
    let (primary, alternate) = (at("[2001:db8::1]:3478"), at("[2001:db8::2]:3479"));
    server.add_quartet(Quartet::new(primary, alternate).expect("valid"));
    let source = at("[2001:db8:ffff::9]:50000");
    let bytes = binding(&[(3, &[0, 0, 0, 6])]);
    let request = Request { bytes: &bytes, source, local: primary, transport: Transport::Udp };
    let mut buffer = [0; 116];
    let reply = server.handle_request(request, &mut buffer).expect("answered");
    assert_eq!((reply.length, reply.from, reply.to), (116, alternate, source));
    let message = Message::parse(&buffer).expect("well-formed");
    assert_eq!(message.attribute(), Ok(Some(XorMappedAddress(source))));
    assert_eq!(message.attribute(), Ok(Some(OtherAddress(alternate))));
}

#[test]
fn a_client_behind_a_dual_stack_socket_sees_its_ipv4_address() {
    let source = at("[::ffff:198.51.100.7]:40000");
    let request =
        Request { bytes: &binding(&[]), source, local: at("[::]:3478"), transport: Transport::Udp };
    let mut buffer = [0; 64];
    let reply = Server::new().handle_request(request, &mut buffer).expect("answered");
    assert_eq!(reply.to, source, "sent on the same socket");
    let message = Message::parse(&buffer[..reply.length]).expect("well-formed");
    assert_eq!(message.attribute(), Ok(Some(XorMappedAddress(at(CLIENT)))));
}

#[test]
fn a_classic_client_is_answered_in_its_own_words() {
    let (reply, bytes) = send(&mut two_addresses(), &classic(&[])).expect("answered");
    let message = Message::parse_classic(&bytes).expect("well-formed");
    assert!(message.is_classic());
    let types: Vec<_> = message.attributes().map(|it| it.attribute_type).collect();
    let expected = [
        AttributeType::MAPPED_ADDRESS,
        AttributeType::SOURCE_ADDRESS,
        AttributeType::CHANGED_ADDRESS,
    ];
    assert_eq!(types, expected, "and no XOR-MAPPED-ADDRESS");
    assert_eq!(message.attribute(), Ok(Some(MappedAddress(at(CLIENT)))));
    assert_eq!(message.attribute(), Ok(Some(SourceAddress(reply.from))));
    assert_eq!(message.attribute(), Ok(Some(ChangedAddress(at(ALTERNATE)))));

    let (_, bytes) = send(&mut Server::new(), &classic(&[])).expect("answered");
    let message = Message::parse_classic(&bytes).expect("well-formed");
    assert_eq!(message.attribute::<ChangedAddress>(), Ok(None), "there is none");
}

#[test]
fn a_classic_list_of_unknown_attributes_has_an_even_length() {
    for (count, expected) in [(1, 4), (2, 4), (3, 8)] {
        let unknown: Vec<_> = (0..count).map(|it| (0x7F00 + it, &b""[..])).collect();
        let (_, bytes) = send(&mut Server::new(), &classic(&unknown)).expect("answered");
        let message = Message::parse_classic(&bytes).expect("well-formed");
        let list = message.raw_attribute(AttributeType::UNKNOWN_ATTRIBUTES).expect("there");
        assert_eq!(list.len(), expected, "{count} unknown");
        assert_ne!(list[expected - 2..], [0, 0]);
    }
}

#[test]
fn padding_is_never_longer_than_the_requests_own() {
    for length in [0, 1, 4, 5, 823, 824, 1400] {
        for server in [&mut Server::new(), &mut two_addresses()] {
            let request = binding(&[(0x26, &vec![0; length])]);
            let (_, bytes) = send(server, &request).expect("answered");
            let message = Message::parse(&bytes).expect("well-formed");
            let padding = Padding { length: length as u16 };
            assert_eq!(message.attribute(), Ok(Some(padding)));
        }
    }
}

#[test]
fn no_error_is_much_longer_than_its_request() {
    for attributes in [
        &[(0x7FFF, &b""[..])][..],
        &[(3, &b""[..])],
        &[(3, &[0, 0, 0, 6])],
        &[(0x27, &[0, 0])],
        &[(0x7F01, b""), (0x7F02, b""), (0x7F03, b"")],
    ] {
        let request = binding(attributes);
        let (reply, _) = send(&mut Server::new(), &request).expect("answered");
        assert!(reply.length * 10 <= request.len() * 16, "{} for {}", reply.length, request.len());
    }
}

#[test]
fn over_tcp_nothing_can_come_from_elsewhere() {
    for (attributes, expected) in [
        (&[][..], None),
        (&[(0x26, &[0; 16][..])], None),
        (&[(3, &[0, 0, 0, 6])], Some(AttributeType::CHANGE_REQUEST)),
        (&[(0x27, &[0x30, 0x39])], Some(AttributeType::RESPONSE_PORT)),
    ] {
        let (reply, bytes) =
            send_to(&mut two_addresses(), &binding(attributes), PRIMARY, Transport::Tcp)
                .expect("answered");
        assert_eq!((reply.from, reply.to), (at(PRIMARY), at(CLIENT)));
        let message = Message::parse(&bytes).expect("well-formed");
        let unknown = message.attribute::<UnknownAttributes>().expect("well-formed");
        assert_eq!(unknown.and_then(|it| it.as_slice().first().copied()), expected);
    }
}

#[test]
fn all_faults_of_one_request_are_listed() {
    let request = binding(&[(0x7FFF, b""), (3, &[0, 0, 0, 2]), (0x7FFE, b"")]);
    let (_, bytes) = send(&mut Server::new(), &request).expect("answered");
    let message = Message::parse(&bytes).expect("well-formed");
    let list = message.attribute::<UnknownAttributes>().expect("well-formed").expect("there");
    assert_eq!(list.as_slice(), [0x7FFF, 0x0003, 0x7FFE].map(AttributeType::new));
}

#[test]
fn response_port_and_a_change_of_address_go_together() {
    let request = binding(&[(3, &[0, 0, 0, 6]), (0x27, &[0x30, 0x39])]);
    let (reply, bytes) = send(&mut two_addresses(), &request).expect("answered");
    assert_eq!((reply.from, reply.to), (at(ALTERNATE), at("198.51.100.7:12345")));
    let message = Message::parse(&bytes).expect("well-formed");
    assert_eq!(message.attribute(), Ok(Some(XorMappedAddress(at(CLIENT)))));
    assert_eq!(message.attribute::<ResponsePort>(), Ok(None));
}

#[test]
fn a_server_that_does_not_know_its_address_does_not_tell_one() {
    for request in [classic(&[]), binding(&[(0x26, b"")])] {
        let (_, bytes) = send_to(&mut Server::new(), &request, "0.0.0.0:3478", Transport::Udp)
            .expect("answered");
        let message = Message::parse_classic(&bytes).expect("well-formed");
        assert_eq!(message.attribute::<SourceAddress>(), Ok(None));
        assert_eq!(message.attribute::<ResponseOrigin>(), Ok(None));
    }
}

#[test]
fn nothing_is_sent_to_port_0_or_without_room() {
    let bytes = binding(&[]);
    let (local, transport) = (at(PRIMARY), Transport::Udp);
    let mut server = Server::new();
    let from_nowhere = Request { bytes: &bytes, source: at("198.51.100.7:0"), local, transport };
    assert_eq!(server.handle_request(from_nowhere, &mut [0; 64]), Err(Silence::Unanswerable));
    let request = Request { source: at(CLIENT), ..from_nowhere };
    let no_room = server.handle_request(request, &mut [0; 27]);
    assert!(matches!(no_room, Err(Silence::NoRoom(_))), "{no_room:?}");
    let mut little = [0; 31];
    let reply = server.handle_request(request, &mut little).expect("an error has room");
    let message = Message::parse(&little[..reply.length]).expect("well-formed");
    let code = message.attribute::<ErrorCode<'_>>().expect("well-formed").map(|it| it.code());
    assert_eq!((code, server.counters().server_errors), (Some(500), 1));
    assert_eq!(server.handle_request(request, &mut [0; 32]).map(|it| it.length), Ok(32));
    assert_eq!(server.counters().unanswerable, 2);
}

#[test]
fn a_second_quartet_on_the_same_address_replaces_the_first() {
    let mut server = two_addresses();
    server.add_quartet(Quartet::new(at(PRIMARY), at("192.0.2.3:3480")).expect("valid"));
    let (_, bytes) = send(&mut server, &binding(&[])).expect("answered");
    let message = Message::parse(&bytes).expect("well-formed");
    assert_eq!(message.attribute(), Ok(Some(OtherAddress(at("192.0.2.3:3480")))));
}

#[test]
fn everything_is_counted() {
    let mut server = two_addresses();
    let mut send = |bytes: &[u8]| drop(send(&mut server, bytes));
    send(&binding(&[]));
    send(&classic(&[(3, &[0, 0, 0, 6])]));
    send(&binding(&[(3, &[0])]));
    send(&binding(&[(0x7FFF, b"")]));
    send(b"GET /");
    send(&fingerprinted(1));
    send(&message(0x0011, MAGIC_COOKIE, &[]));
    send(&message(0x0003, MAGIC_COOKIE, &[]));
    let once = *server.counters();
    assert_eq!((once.udp, once.tcp), (8, 0));
    assert_eq!((once.successes, once.changed, once.classic), (2, 1, 1));
    assert_eq!((once.bad_requests, once.unknown_attributes), (1, 1));
    assert_eq!((once.malformed, once.wrong_fingerprints), (1, 1));
    assert_eq!((once.not_requests, once.unknown_methods, once.unanswerable), (1, 1, 0));
    let mut twice = once;
    twice += once;
    assert_eq!((twice.udp, twice.successes, twice.malformed), (16, 4, 2));
    drop(send_to(&mut server, &binding(&[]), PRIMARY, Transport::Tcp));
    assert_eq!((server.counters().udp, server.counters().tcp), (8, 1));
}

#[test]
fn a_fingerprint_is_answered_with_a_fingerprint() {
    let (reply, bytes) = send(&mut Server::new(), &fingerprinted(0)).expect("answered");
    let message = Message::parse(&bytes).expect("well-formed");
    assert_eq!((reply.length, message.fingerprint()), (40, Check::Valid));
}
