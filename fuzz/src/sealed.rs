//! Any bytes as an envelope, and as what a registered peer and its broker say to each other inside: errands too.

use std::net::SocketAddr;
use std::time::Instant;

use ntcp_proto::address::Family;
use ntcp_proto::command::{Names, Owner};
use ntcp_proto::entropy::Seed;
use ntcp_proto::rendezvous::{self, Broker, Link};
use ntcp_proto::secrecy::SecretKey;
use ntcp_proto::signal::client::{self, Client, Secrecy, Trust};
use ntcp_proto::signal::codec::MAX_MESSAGE_BYTES;
use ntcp_proto::signal::envelope::Envelope;
use ntcp_proto::signal::message::{Body, Message, Registered};
use ntcp_proto::signal::{Fingerprint, NatSummary, RegistrationId, RegistrationKey};
use ntcp_proto::{Answer, Command, Input, Machine, SocketId};

const PEER: ([u8; 4], u16) = ([192, 0, 2, 1], 40_000);
const BROKER: ([u8; 4], u16) = ([198, 51, 100, 1], 6060);
const SOCKET: SocketId = SocketId { owner: Owner(9), serial: 1 };

/// Hands `bytes` to a broker and to a peer that are registered with each other, as they are, and as a message that the other
/// end has signed and sealed.
///
/// # Panics
///
/// If anything that must hold does not.
pub fn check(bytes: &[u8], now: Instant) {
    if let Some(envelope) = Envelope::parse(bytes) {
        assert!(bytes.len() > 20 && bytes.len() <= MAX_MESSAGE_BYTES, "{envelope:?}");
    }
    say_to_broker(bytes, now);
    say_to_peer(bytes, now);
}

/// A broker and a sealed peer that has just registered.
fn say_to_broker(bytes: &[u8], now: Instant) {
    let mut broker = Broker::new(rendezvous::Config::default(), Seed::from_number(1), now);
    let identity = SecretKey::from_bytes([3; 32]);
    let secrecy = Secrecy::Sealed { identity, trust: Trust::FirstUse };
    let mut peer = peer(secrecy, now);
    let link = Link::Udp { local: None, remote: PEER.into() };
    let is_registered = |event: &client::Event| matches!(event, client::Event::Registered { .. });
    for _ in 0..4 {
        for payload in drain(&mut peer, now) {
            broker.handle_input(rendezvous::Input::Received { link, payload: &payload }, now);
        }
        while let Some(command) = broker.poll_command() {
            if let rendezvous::Command::Send { payload, .. } = command {
                hear(&mut peer, &payload, now);
            }
        }
    }
    assert!(std::iter::from_fn(|| peer.poll_event()).any(|it| is_registered(&it)));
    assert_eq!(broker.registered(), 1);
    // What an outsider says changes nothing, whoever it pretends to be.
    broker.handle_input(rendezvous::Input::Received { link, payload: bytes }, now);
    while let Some(command) = broker.poll_command() {
        let rendezvous::Command::Send { link: to, payload } = command else {
            panic!("{command:?}")
        };
        assert_eq!(to, link);
        assert!(payload.len() <= bytes.len().max(64), "{} for {}", payload.len(), bytes.len());
    }
    assert_eq!(broker.registered(), 1);
}

/// A peer in the clear that runs errands, and a broker that says what it likes.
fn say_to_peer(bytes: &[u8], now: Instant) {
    let mut peer = peer(Secrecy::Plain, now);
    let key = RegistrationKey([7; 32]);
    let Some(first) = drain(&mut peer, now).pop() else { panic!("it asks") };
    let asked = Message::parse(&first).expect("it is well-formed").message;
    let registered = Registered {
        registration: RegistrationId([8; 8]),
        key,
        observed: PEER.into(),
        lease: std::time::Duration::from_secs(60),
        capabilities: None,
        identity: None,
    };
    hear(&mut peer, &challenge(&asked), now);
    let Some(second) = drain(&mut peer, now).pop() else { panic!("it asks again") };
    let asked = Message::parse(&second).expect("it is well-formed").message;
    hear(&mut peer, &asked.answer(Body::Registered(registered)).emit(None), now);
    drain(&mut peer, now);
    let Ok(received) = Message::parse(bytes) else { return hear(&mut peer, bytes, now) };
    for _ in 0..2 {
        hear(&mut peer, &received.message.emit(Some(&key)), now);
    }
    let mut packets = 0;
    while let Some(command) = peer.poll_command() {
        match command {
            Command::InjectPacket { packet, .. } => {
                assert!(packet.len() < 256, "nothing long leaves in others' names");
                packets += 1;
            }
            Command::SendUdp { remote, .. } => assert!(remote == BROKER.into() || is_probe(bytes)),
            _ => {}
        }
    }
    assert!(packets <= 1, "an errand is run once");
}

/// Whether a broker asks a peer to open its NAT for somebody, who then gets a datagram of twenty bytes.
fn is_probe(bytes: &[u8]) -> bool {
    matches!(Message::parse(bytes).map(|it| it.message.body), Ok(Body::Probe(_)))
}

fn challenge(asked: &Message) -> Vec<u8> {
    use ntcp_proto::signal::message::{Nonce, Refused};
    use ntcp_proto::signal::{ErrorCode, SignalMethod};
    let refused = Refused::new(SignalMethod::Register, ErrorCode::Unauthenticated);
    let nonce = Nonce::new(&[b'0'; 40]).expect("it is short");
    asked.answer(Body::Refused(refused)).with_nonce(nonce).emit(None)
}

fn peer(secrecy: Secrecy, now: Instant) -> Client {
    let mut config = client::Config::new(Fingerprint([1; 32]), secrecy);
    config.name = "bob".parse().ok();
    config.udp_broker = "broker.example".parse().ok();
    config.offers_to_forge = true;
    config.consents = true;
    let mut peer = Client::new(config, Names::new(Owner(1)), Seed::from_number(2));
    peer.set_udp_socket(Family::V4, SOCKET);
    peer.start(Vec::new(), NatSummary::default(), now);
    peer
}

/// Carries out what a peer wants; what it sends to the broker.
fn drain(peer: &mut Client, now: Instant) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    while let Some(command) = peer.poll_command() {
        let (id, answer) = match command {
            Command::Resolve { id, .. } => (id, Answer::Resolved(Ok(vec![BROKER.into()]))),
            Command::SendUdp { id, payload, .. } => {
                sent.push(payload);
                (id, Answer::Sent(Ok(())))
            }
            _ => continue,
        };
        peer.handle_input(Input::Answer { id, answer }, now);
    }
    sent
}

fn hear(peer: &mut Client, payload: &[u8], now: Instant) {
    let source: SocketAddr = BROKER.into();
    peer.handle_input(Input::UdpReceived { socket: SOCKET, source, payload }, now);
}
