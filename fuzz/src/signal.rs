//! Any bytes as a signalling message, and as a datagram to a broker.

use std::time::Instant;

use ntcp_proto::Machine;
use ntcp_proto::entropy::Seed;
use ntcp_proto::rendezvous::{Broker, Command, Config, Input, Link};
use ntcp_proto::signal::codec::ParseError;
use ntcp_proto::signal::message::Message;

/// How much longer than the request the response to a plain Binding request may be: an IPv6
/// XOR-MAPPED-ADDRESS (RFC 8489 section 14.2).
const BINDING_SURPLUS: usize = 24;

/// Hands `bytes` to the codec and to a broker, as they are and with a right FINGERPRINT behind
/// them, without which they would not get far.
///
/// # Panics
///
/// If anything that must hold does not.
pub fn check(bytes: &[u8], now: Instant) {
    check_one(bytes, now);
    if let Some(message) = with_fingerprint(bytes) {
        check_one(&message, now);
    }
}

fn check_one(bytes: &[u8], now: Instant) {
    let parsed = Message::parse(bytes);
    if let Ok(received) = &parsed {
        let again = received.message.emit(None);
        let again = Message::parse(&again).expect("what we write is well-formed");
        assert_eq!(again.message, received.message);
    }
    let is_binding = matches!(parsed, Err(ParseError::Method(ntcp_stun::Method::BINDING)));
    let surplus = if is_binding { BINDING_SURPLUS } else { 0 };
    let mut broker = Broker::new(Config::default(), Seed::from_number(1), now);
    let link = Link::Udp { local: None, remote: ([192, 0, 2, 1], 1).into() };
    broker.handle_input(Input::Received { link, payload: bytes }, now);
    let mut answered = 0;
    while let Some(command) = broker.poll_command() {
        let Command::Send { link: to, payload } = command else { panic!("{command:?}") };
        assert_eq!(to, link, "nobody else is written to");
        answered += payload.len();
    }
    assert!(answered <= bytes.len() + surplus, "{answered} bytes for {}", bytes.len());
    assert_eq!((broker.registered(), broker.sessions()), (0, 0), "nothing is kept");
    assert_eq!(broker.poll_timeout(), None);
}

/// `bytes` as all but the last attribute of a message.
fn with_fingerprint(bytes: &[u8]) -> Option<Vec<u8>> {
    let body = bytes.len().checked_sub(20)? & !3;
    let mut message = bytes[..20 + body].to_vec();
    message[2..4].copy_from_slice(&u16::try_from(body + 8).ok()?.to_be_bytes());
    // RFC 8489 section 14.7.
    let crc = crc32fast::hash(&message) ^ 0x5354_554E;
    message.extend([0x80, 0x28, 0x00, 0x04]);
    message.extend(crc.to_be_bytes());
    Some(message)
}
