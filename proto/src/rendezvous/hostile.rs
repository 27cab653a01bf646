//! What strangers, thieves and crowds cannot do. Tests.

mod access;
mod floods;
mod forging;
mod secrecy;

use std::net::SocketAddr;
use std::time::Duration;

use super::world::{Sent, Weather, World};
use super::*;
use crate::candidate::Transport;
use crate::signal::client;
use crate::signal::message::{Connect, Note, Refresh, Register, Relay, TransmitCount};
use crate::signal::{Fingerprint, NatSummary, RegistrationKey, Round};
use crate::uri::{PeerName, TransportChoice};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn stranger(port: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 66], port))
}

fn name(text: &str) -> PeerName {
    text.parse().unwrap()
}

fn register(wanted: &str) -> Body {
    Body::Register(Register {
        name: Some(name(wanted)),
        candidates: Vec::new(),
        nat: NatSummary::default(),
        fingerprint: Fingerprint([0; 32]),
        lease: Duration::from_secs(60),
        rtt: Some(ms(40)),
        consents: false,
        bare: false,
        offers_to_forge: false,
        account: None,
        meant_for: None,
    })
}

fn connect(callee: &str, wait: Duration) -> Body {
    Body::Connect(Connect {
        callee: name(callee),
        transport: TransportChoice::Any,
        round: Round::FIRST,
        candidates: Vec::new(),
        nat: NatSummary::default(),
        fingerprint: Fingerprint([0; 32]),
        rtt: None,
        wait,
        bare: false,
    })
}

/// A peer made of raw messages.
struct Raw {
    address: SocketAddr,
    serial: u8,
    registration: RegistrationId,
    key: RegistrationKey,
}

impl Raw {
    /// Registers by hand.
    fn register(world: &mut World, wanted: &str, address: SocketAddr) -> Result<Self, ErrorCode> {
        let request = Message::new(transaction(0), register(wanted));
        let challenge = answer_to(world, address, &request, None);
        let nonce = challenge.nonce.unwrap();
        let request = Message::new(transaction(1), register(wanted)).with_nonce(nonce);
        match answer_to(world, address, &request, None).body {
            Body::Registered(it) => {
                Ok(Self { address, serial: 1, registration: it.registration, key: it.key })
            }
            Body::Refused(refused) => Err(refused.code),
            other => panic!("{other:?}"),
        }
    }

    fn request(&mut self, body: Body) -> Message {
        self.serial += 1;
        let registration = Some(self.registration);
        Message { registration, ..Message::new(transaction(self.serial), body) }
    }

    /// All answers to a request of this peer.
    fn ask(&mut self, world: &mut World, body: Body) -> Vec<Body> {
        let bytes = self.request(body).emit(Some(&self.key));
        let answers = world.ask_broker(self.address, &bytes);
        answers.iter().map(|bytes| Message::parse(bytes).unwrap().message.body).collect()
    }

    fn code(&mut self, world: &mut World, body: Body) -> Option<ErrorCode> {
        match self.ask(world, body).first() {
            Some(Body::Refused(refused)) => Some(refused.code),
            Some(_) | None => None,
        }
    }
}

fn transaction(serial: u8) -> TransactionId {
    TransactionId::new([serial; 12])
}

/// The one answer to `request`.
fn answer_to(
    world: &mut World,
    source: SocketAddr,
    request: &Message,
    key: Option<&RegistrationKey>,
) -> Message {
    let answers = world.ask_broker(source, &request.emit(key));
    assert_eq!(answers.len(), 1, "to {request:?}");
    let received = Message::parse(&answers[0]).unwrap();
    assert_eq!(received.message.transaction, request.transaction);
    received.message
}

fn code_of(message: &Message) -> Option<ErrorCode> {
    match &message.body {
        Body::Refused(refused) => Some(refused.code),
        _ => None,
    }
}

/// The messages sent in a world in which everything happens.
fn everything(world: &mut World) -> Vec<Sent> {
    world.registered(Some("alice"), ms(20));
    world.registered(Some("bob"), ms(20));
    world.call(0, "bob");
    world.run_for(Duration::from_secs(1));
    world.call_round(0, "bob", Round(2));
    world.run_for(Duration::from_secs(1));
    let session = match &world.peers[1].events.last().unwrap().1 {
        client::Event::Gather { session, .. } => *session,
        other => panic!("{other:?}"),
    };
    world.with(1, |client, now| client.answer(session, Vec::new(), now));
    world.run_for(Duration::from_secs(30));
    let kinds: std::collections::BTreeSet<_> = world
        .sent
        .iter()
        .map(|it| Message::parse(&it.payload).unwrap().message.body.kind().1)
        .collect();
    assert!(kinds.len() >= 5, "{kinds:?}");
    world.sent.clone()
}

/// What a broker knows, without what it has counted.
fn known(world: &World) -> String {
    let broker = world.broker.as_ref().unwrap();
    format!("{:?} {:?} {:?} {:?}", broker.registry, broker.sessions, broker.parked, broker.asked)
}

#[test]
fn a_stranger_leaves_nothing_behind_and_gets_no_more_bytes_than_it_sends() {
    let mut world = World::new(1);
    let sent = everything(&mut world);
    let before = known(&world);
    for Sent { payload, .. } in &sent {
        let answers = world.ask_broker(stranger(1), payload);
        let answered: usize = answers.iter().map(Vec::len).sum();
        assert!(answered <= payload.len(), "{answered} for {}", payload.len());
    }
    assert_eq!(known(&world), before);
}

#[test]
fn no_flipped_bit_and_no_truncation_changes_what_a_broker_knows() {
    let mut world = World::new(2);
    let sent = everything(&mut world);
    let before = known(&world);
    for Sent { payload, peer, .. } in &sent {
        let source = world.peers[*peer].address;
        for bit in 0..payload.len() * 8 {
            let mut flipped = payload.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            world.ask_broker(source, &flipped);
        }
        for length in 0..payload.len() {
            world.ask_broker(source, &payload[..length]);
        }
    }
    assert_eq!(known(&world), before);
}

#[test]
fn no_flipped_bit_and_no_truncation_changes_what_a_client_does() {
    let mut world = World::new(3);
    let sent = everything(&mut world);
    let events: Vec<usize> = world.peers.iter().map(|it| it.events.len()).collect();
    world.sent.clear();
    for Sent { payload, peer, to_broker, .. } in &sent {
        if *to_broker {
            continue;
        }
        for bit in 0..payload.len() * 8 {
            let mut flipped = payload.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            world.tell_peer(*peer, &flipped);
        }
        for length in 0..payload.len() {
            world.tell_peer(*peer, &payload[..length]);
        }
    }
    assert_eq!(world.peers.iter().map(|it| it.events.len()).collect::<Vec<_>>(), events);
    assert!(world.sent.is_empty(), "nothing was answered");
}

#[test]
fn everything_said_again_later_tells_nobody_anything_new() {
    let mut world = World::new(4);
    let sent = everything(&mut world);
    let events: Vec<usize> = world.peers.iter().map(|it| it.events.len()).collect();
    let sessions = world.broker.as_ref().unwrap().counters().ordered;
    for Sent { payload, peer, to_broker, .. } in sent {
        if to_broker {
            let source = world.peers[peer].address;
            world.ask_broker(source, &payload);
        } else {
            world.tell_peer(peer, &payload);
        }
        world.run_for(ms(100));
    }
    let told = |world: &World| {
        let peers = world.peers.iter().zip(&events);
        let new = peers.flat_map(|(peer, before)| peer.events[*before..].to_vec());
        new.filter(|(_, event)| matches!(event, client::Event::Punch { .. })).count()
    };
    assert_eq!(told(&world), 0);
    assert_eq!(world.broker.as_ref().unwrap().counters().ordered, sessions);
}

#[test]
fn a_stolen_nonce_is_worth_nothing_elsewhere() {
    let mut world = World::new(5);
    let request = Message::new(transaction(0), register("mallory"));
    let nonce = answer_to(&mut world, stranger(1), &request, None).nonce.unwrap();
    let again = Message::new(transaction(1), register("mallory")).with_nonce(nonce);
    let refused = answer_to(&mut world, stranger(2), &again, None);
    assert_eq!(code_of(&refused), Some(ErrorCode::StaleNonce));
    assert_eq!(world.broker.as_ref().unwrap().registered(), 0);
    let good = answer_to(&mut world, stranger(1), &again, None);
    assert!(matches!(good.body, Body::Registered(_)));
}

#[test]
fn a_captured_request_does_not_move_a_registration() {
    let mut world = World::new(6);
    let mut raw = Raw::register(&mut world, "alice", stranger(1)).unwrap();
    let refresh =
        Body::Refresh(Refresh { lease: ms(60_000), candidates: None, nat: None, rtt: None });
    let captured = raw.request(refresh).emit(Some(&raw.key));
    let answers = world.ask_broker(stranger(2), &captured);
    let refused = Message::parse(&answers[0]).unwrap().message;
    assert_eq!(code_of(&refused), Some(ErrorCode::StaleNonce));
    let id = raw.registration;
    let link = world.broker.as_ref().unwrap().registry().get(id).unwrap().link();
    assert_eq!(link.remote(), stranger(1));
}

#[test]
fn a_late_copy_of_a_refresh_does_not_undo_a_younger_one() {
    let mut world = World::new(22);
    let mut raw = Raw::register(&mut world, "alice", stranger(1)).unwrap();
    let refresh = |rtt| {
        let candidates = Some(Vec::new());
        Body::Refresh(Refresh { lease: ms(60_000), candidates, nat: None, rtt: Some(ms(rtt)) })
    };
    let old = raw.request(refresh(1)).emit(Some(&raw.key));
    world.ask_broker(stranger(1), &old);
    raw.ask(&mut world, refresh(2));
    assert_eq!(world.ask_broker(stranger(1), &old).len(), 1, "it is answered all the same");
    let broker = world.broker.as_ref().unwrap();
    assert_eq!(broker.registry().get(raw.registration).unwrap().rtt(), Some(ms(2)));
}

#[test]
fn a_wrong_key_is_answered_like_an_unknown_registration() {
    let mut world = World::new(7);
    let mut raw = Raw::register(&mut world, "alice", stranger(1)).unwrap();
    raw.key = RegistrationKey([0; 32]);
    assert_eq!(raw.code(&mut world, Body::Unregister), Some(ErrorCode::UnknownRegistration));
    assert_eq!(world.broker.as_ref().unwrap().registered(), 1);
}

#[test]
fn nobody_calls_itself() {
    let mut world = World::new(8);
    let mut raw = Raw::register(&mut world, "alice", stranger(1)).unwrap();
    let refused = raw.code(&mut world, connect("alice", ms(0)));
    assert_eq!(refused, Some(ErrorCode::BadRequest));
}

#[test]
fn a_full_table_refuses_the_next_peer_and_takes_it_when_one_leaves() {
    let config = Config { max_registrations: 2, ..Config::default() };
    let mut world = World::with_config(9, config);
    Raw::register(&mut world, "a", stranger(1)).unwrap();
    let mut second = Raw::register(&mut world, "b", stranger(2)).unwrap();
    let refused = Raw::register(&mut world, "c", stranger(3)).err();
    assert_eq!(refused, Some(ErrorCode::TableFull));
    assert_eq!(second.ask(&mut world, Body::Unregister), [Body::Unregistered]);
    Raw::register(&mut world, "c", stranger(3)).unwrap();
}

#[test]
fn one_address_cannot_fill_the_table() {
    let config = Config { max_registrations_per_address: 2, ..Config::default() };
    let mut world = World::with_config(10, config);
    Raw::register(&mut world, "a", stranger(1)).unwrap();
    Raw::register(&mut world, "b", stranger(2)).unwrap();
    let refused = Raw::register(&mut world, "c", stranger(3)).err();
    assert_eq!(refused, Some(ErrorCode::TooManyRequests));
    let v6 = |text: &str| text.parse().unwrap();
    Raw::register(&mut world, "d", v6("[2001:db8::1]:1")).unwrap();
    Raw::register(&mut world, "e", v6("[2001:db8::2]:1")).unwrap();
    let refused = Raw::register(&mut world, "f", v6("[2001:db8::3]:1")).err();
    assert_eq!(refused, Some(ErrorCode::TooManyRequests), "a /64 is one address");
    Raw::register(&mut world, "g", v6("[2001:db8:0:1::1]:1")).unwrap();
}

#[test]
fn a_peer_that_asks_too_much_is_slowed_down_and_recovers() {
    let config = Config { burst: 3, requests_per_second: 10, ..Config::default() };
    let mut world = World::with_config(11, config);
    let mut raw = Raw::register(&mut world, "alice", stranger(1)).unwrap();
    let codes: Vec<_> = (0..4).map(|_| raw.code(&mut world, Body::Ping)).collect();
    assert_eq!(codes, [None, None, None, Some(ErrorCode::TooManyRequests)]);
    world.run_for(ms(100));
    assert_eq!(raw.code(&mut world, Body::Ping), None);
}

#[test]
fn calls_that_wait_are_bounded_for_each_peer_and_for_all() {
    let config = Config { max_pending_calls_per_peer: 2, max_parked: 3, ..Config::default() };
    let mut world = World::with_config(12, config);
    let mut one = Raw::register(&mut world, "one", stranger(1)).unwrap();
    let mut two = Raw::register(&mut world, "two", stranger(2)).unwrap();
    let wait = || connect("nobody", ms(2000));
    assert_eq!(one.ask(&mut world, wait()), []);
    assert_eq!(one.ask(&mut world, wait()), []);
    assert_eq!(one.code(&mut world, wait()), Some(ErrorCode::TooManyRequests));
    assert_eq!(two.ask(&mut world, wait()), []);
    assert_eq!(two.code(&mut world, wait()), Some(ErrorCode::UnknownPeer), "the lot is full");
    world.run_for(ms(2000));
    assert_eq!(one.ask(&mut world, wait()), [], "there is room again");
}

#[test]
fn a_callee_is_not_buried_in_invitations() {
    let config = Config { max_pending_invitations_per_peer: 2, ..Config::default() };
    let mut world = World::with_config(13, config);
    Raw::register(&mut world, "victim", stranger(9)).unwrap();
    let mut raw = Raw::register(&mut world, "caller", stranger(1)).unwrap();
    let call = || connect("victim", ms(0));
    assert_eq!(raw.code(&mut world, call()), None);
    assert_eq!(raw.code(&mut world, call()), None);
    assert_eq!(raw.code(&mut world, call()), Some(ErrorCode::TooManyRequests));
    world.run_for(Duration::from_secs(5));
    assert_eq!(raw.code(&mut world, call()), None, "unanswered ones end");
}

#[test]
fn remembered_meetings_are_bounded_and_forgotten() {
    let config = Config { max_sessions: 1, ..Config::default() };
    let mut world = World::with_config(14, config);
    Raw::register(&mut world, "callee", stranger(9)).unwrap();
    let mut raw = Raw::register(&mut world, "caller", stranger(1)).unwrap();
    let call = || connect("callee", ms(0));
    assert_eq!(raw.code(&mut world, call()), None);
    assert_eq!(raw.code(&mut world, call()), Some(ErrorCode::TableFull));
    world.run_for(Duration::from_secs(16));
    assert_eq!(world.broker.as_ref().unwrap().sessions(), 0);
    assert_eq!(raw.code(&mut world, call()), None);
}

#[test]
fn a_broker_that_everybody_has_left_waits_for_nothing() {
    let mut world = World::new(15);
    everything(&mut world);
    for peer in 0..2 {
        world.with(peer, client::Client::unregister);
    }
    world.run_for(Duration::from_secs(30));
    let broker = world.broker.as_ref().unwrap();
    assert_eq!((broker.registered(), broker.sessions()), (0, 0));
    assert!(broker.asked.is_empty(), "{:?}", broker.asked);
    assert_eq!(broker.poll_timeout(), None);
}

#[test]
fn a_broker_forgets_crowds_that_fell_silent_under_any_weather() {
    let mut world = World::new(16);
    world.weather = Weather { lost: 300, doubled: 100, jitter: ms(50) };
    for peer in 0..10 {
        let name = format!("peer{peer}");
        world.registered(Some(&name), ms(5 * peer));
    }
    for peer in 0..10 {
        let callee = format!("peer{}", (peer + 1) % 10);
        world.call(peer, &callee);
    }
    world.run_for(ms(500));
    for peer in &mut world.peers {
        peer.alive = false;
    }
    world.run_for(Duration::from_secs(120));
    let broker = world.broker.as_ref().unwrap();
    assert_eq!((broker.registered(), broker.sessions()), (0, 0));
    assert!(broker.asked.is_empty(), "{:?}", broker.asked);
    assert_eq!(broker.poll_timeout(), None);
}

#[test]
fn a_repeated_connect_gets_the_same_order_with_what_is_left_to_wait() {
    let mut world = World::new(17);
    Raw::register(&mut world, "callee", stranger(9)).unwrap();
    let mut raw = Raw::register(&mut world, "caller", stranger(1)).unwrap();
    let request = raw.request(connect("callee", ms(0)));
    let bytes = request.emit(Some(&raw.key));
    let order = |answers: &[Vec<u8>]| match Message::parse(&answers[0]).unwrap().message.body {
        Body::Connected(punch) => punch,
        other => panic!("{other:?}"),
    };
    let first = order(&world.ask_broker(stranger(1), &bytes));
    world.run_for(ms(5));
    let second = order(&world.ask_broker(stranger(1), &bytes));
    assert_eq!(first.start_after.saturating_sub(ms(5)), second.start_after);
    let same = crate::signal::Punch { start_after: first.start_after, ..second };
    assert_eq!(same, first);
    assert_eq!(world.broker.as_ref().unwrap().sessions(), 1);
}

#[test]
fn a_binding_request_is_answered_with_the_mapping() {
    let mut world = World::new(18);
    let mut buffer = [0; 64];
    let id = TransactionId::new([9; 12]);
    let mut writer =
        ntcp_stun::Writer::new(&mut buffer, Class::Request, ntcp_stun::Method::BINDING, id)
            .unwrap();
    writer.fingerprint().unwrap();
    let length = writer.finish();
    let answers = world.ask_broker(stranger(7), &buffer[..length]);
    let answer = ntcp_stun::Message::parse(&answers[0]).unwrap();
    let mapped = answer.attribute::<ntcp_stun::attribute::XorMappedAddress>().unwrap();
    assert_eq!(mapped.map(|it| it.0), Some(stranger(7)));
    assert_eq!(answer.fingerprint(), ntcp_stun::Check::Valid);
    assert_eq!(answer.transaction_id(), id);
}

#[test]
fn a_binding_request_that_is_refused_gets_12_bytes_more_at_most() {
    let mut world = World::new(18);
    let id = TransactionId::new([9; 12]);
    let mut longest = 0;
    for unknown in 1..=60 {
        for with_fingerprint in [false, true] {
            let mut buffer = [0; 512];
            let method = ntcp_stun::Method::BINDING;
            let mut writer =
                ntcp_stun::Writer::new(&mut buffer, Class::Request, method, id).unwrap();
            for number in 0..unknown {
                let attribute = ntcp_stun::AttributeType::new(0x4EFF - number);
                writer.raw_attribute(attribute, &[]).unwrap();
            }
            if with_fingerprint {
                writer.fingerprint().unwrap();
            }
            let length = writer.finish();
            let answers = world.ask_broker(stranger(7), &buffer[..length]);
            let answer = ntcp_stun::Message::parse(&answers[0]).unwrap();
            assert_eq!((answers.len(), answer.class()), (1, Class::Error));
            longest = longest.max(answers[0].len().saturating_sub(length));
        }
    }
    assert_eq!(longest, 12);
}

#[test]
fn a_lookup_tells_who_is_there() {
    let mut world = World::new(19);
    let mut raw = Raw::register(&mut world, "alice", stranger(1)).unwrap();
    Raw::register(&mut world, "bob", stranger(2)).unwrap();
    let found = raw.ask(&mut world, Body::Lookup(name("bob")));
    assert!(matches!(found[..], [Body::Found(_)]), "{found:?}");
    let absent = raw.code(&mut world, Body::Lookup(name("carol")));
    assert_eq!(absent, Some(ErrorCode::UnknownPeer));
}

#[test]
fn the_counters_add_up() {
    let mut world = World::new(20);
    let sent = everything(&mut world);
    let counters = world.broker.as_ref().unwrap().counters();
    let to_broker = sent.iter().filter(|it| it.to_broker).count() as u64;
    assert_eq!(counters.received, to_broker);
    assert_eq!((counters.registered, counters.ordered, counters.challenged), (2, 2, 2));
    assert_eq!(sent.iter().filter(|it| it.over == Transport::Tcp).count(), 0);
    let silent = counters.damaged + counters.not_stun + counters.unsigned + counters.malformed;
    assert_eq!(silent, 0);
}

#[test]
fn a_request_is_answered_with_its_own_transmit_count() {
    let mut world = World::new(21);
    let mut raw = Raw::register(&mut world, "alice", stranger(1)).unwrap();
    let request = raw.request(Body::Ping);
    let transmit = Some(TransmitCount { request: 3, response: 0 });
    let request = Message { transmit, ..request };
    let key = raw.key;
    let answer = answer_to(&mut world, stranger(1), &request, Some(&key));
    assert_eq!(answer.transmit, Some(TransmitCount { request: 3, response: 1 }));
}

#[test]
fn only_the_two_of_a_meeting_may_relay_and_only_from_where_they_are_known() {
    let mut world = World::new(22);
    let mut callee = Raw::register(&mut world, "callee", stranger(9)).unwrap();
    let mut caller = Raw::register(&mut world, "caller", stranger(1)).unwrap();
    let mut third = Raw::register(&mut world, "third", stranger(5)).unwrap();
    let order = caller.ask(&mut world, connect("callee", ms(0)));
    let [Body::Connected(punch), ..] = &order[..] else { panic!("{order:?}") };
    let relay = |session| {
        let note = Note::new(b"opened").unwrap();
        let (serial, heard, wants_answer, candidates) = (1, 0, true, Vec::new());
        Body::Relay(Relay { session, serial, heard, wants_answer, candidates, note })
    };
    let relayed = |world: &World| world.broker.as_ref().unwrap().counters().relayed;
    assert!(third.ask(&mut world, relay(punch.session)).is_empty());
    assert!(caller.ask(&mut world, relay(SessionId([7; 16]))).is_empty());
    let unsigned = caller.request(relay(punch.session)).emit(None);
    assert!(world.ask_broker(stranger(1), &unsigned).is_empty());
    let good = caller.request(relay(punch.session)).emit(Some(&caller.key));
    assert!(world.ask_broker(stranger(2), &good).is_empty(), "from elsewhere");
    assert_eq!(relayed(&world), 0);
    for raw in [&mut caller, &mut callee] {
        assert!(
            raw.ask(&mut world, relay(punch.session)).is_empty(),
            "answered by nobody but the peer"
        );
    }
    assert_eq!(relayed(&world), 2);
    for _ in 0..200 {
        caller.ask(&mut world, relay(punch.session));
    }
    assert!(relayed(&world) <= 2 + 100, "no faster than requests: {}", relayed(&world));
}
