//! Who wants packets forged that nobody agreed to.

use super::*;
use crate::rendezvous::forging::FORGED_AT;
use crate::rendezvous::tests::forging::{forging_world, mapped, syn};
use crate::signal::Handshake;
use crate::signal::message::Forge;

/// Three peers made of raw messages; the first has called the second.
struct Scene {
    world: World,
    session: SessionId,
    peers: [Raw; 3],
    streams: u64,
}

fn scene(seed: u64) -> Scene {
    scene_in(forging_world(seed))
}

fn scene_in(mut world: World) -> Scene {
    let mut peers = ["alice", "bob", "eve"].map(|name| {
        let last = name.len() as u8 + name.as_bytes()[0];
        let address = SocketAddr::from(([198, 51, 100, last], 40_000));
        Raw::register(&mut world, name, address).ok().unwrap()
    });
    let session = match &peers[0].ask(&mut world, connect("bob", Duration::ZERO))[0] {
        Body::Connected(punch) => punch.session,
        other => panic!("{other:?}"),
    };
    Scene { world, session, peers, streams: 1000 }
}

fn stream_from(remote: SocketAddr, number: u64) -> Link {
    Link::Tcp { stream: StreamId(number), remote }
}

fn forge(session: SessionId, remote: SocketAddr, sequence: u32) -> Body {
    Body::Forge(Forge { session, handshake: Some(Handshake { remote, syn: syn(sequence) }) })
}

impl Scene {
    /// The bytes of a request of `peer`.
    fn request(
        &mut self,
        peer: usize,
        body: Body,
        nonce: Option<crate::signal::message::Nonce>,
    ) -> Vec<u8> {
        let raw = &mut self.peers[peer];
        let message = Message { nonce, ..raw.request(body) };
        message.emit(Some(&raw.key))
    }

    fn send(&mut self, link: Link, bytes: &[u8]) -> Option<Message> {
        let answers = self.world.ask_broker_on(link, bytes);
        answers.first().map(|it| Message::parse(it).unwrap().message)
    }

    /// `peer` fetches a nonce on a stream from `from`, asks there, and is answered.
    fn ask(&mut self, peer: usize, from: SocketAddr, body: Body) -> Message {
        self.streams += 1;
        let link = stream_from(from, self.streams);
        let first = self.request(peer, body.clone(), None);
        let challenge = self.send(link, &first).unwrap();
        let Some(nonce) = challenge.nonce else { return challenge };
        let second = self.request(peer, body, Some(nonce));
        self.send(link, &second).unwrap()
    }

    fn forged(&mut self) -> usize {
        self.world.run_for(Duration::from_secs(1));
        self.world.forged.len()
    }
}

const SENT: usize = 2 * FORGED_AT.len();

#[test]
fn two_peers_who_agree_are_served() {
    let mut scene = scene(1);
    let session = scene.session;
    let first = scene.ask(0, mapped(0), forge(session, mapped(1), 1));
    assert_eq!(first.body, Body::Forging);
    let second = scene.ask(1, mapped(1), forge(session, mapped(0), 2));
    assert_eq!(second.body, Body::Forging);
    assert_eq!(scene.forged(), SENT);
}

#[test]
fn a_third_peer_gets_nothing_forged_for_the_meeting_of_others() {
    let mut scene = scene(2);
    let session = scene.session;
    scene.ask(0, mapped(0), forge(session, mapped(1), 1));
    let answer = scene.ask(2, mapped(1), forge(session, mapped(0), 2));
    assert_eq!(code_of(&answer), Some(ErrorCode::Forbidden));
    assert_eq!(scene.forged(), 0);
}

#[test]
fn a_meeting_that_never_was_gets_nothing_forged() {
    let mut scene = scene(3);
    for peer in [0, 1] {
        let answer = scene.ask(peer, mapped(peer), forge(SessionId([7; 16]), mapped(1 - peer), 1));
        assert_eq!(code_of(&answer), Some(ErrorCode::Forbidden));
    }
    assert_eq!(scene.forged(), 0);
}

#[test]
fn one_side_alone_gets_nothing_forged_however_often_it_asks() {
    let mut scene = scene(4);
    let session = scene.session;
    for sequence in 0..50 {
        scene.ask(0, mapped(0), forge(session, mapped(1), sequence));
        // Nor by asking from the other's place in the play: it is still the same peer.
        scene.ask(0, mapped(1), forge(session, mapped(0), sequence));
    }
    assert_eq!(scene.forged(), 0);
}

#[test]
fn a_request_replayed_from_another_address_proves_nothing() {
    let mut scene = scene(5);
    let session = scene.session;
    let body = forge(session, mapped(1), 1);
    let alice = stream_from(mapped(0), 1);
    let first = scene.request(0, body.clone(), None);
    let nonce = scene.send(alice, &first).unwrap().nonce;
    let bytes = scene.request(0, body, nonce);
    // Eve has read it and is quicker.
    let eve = stream_from("203.0.113.66:1".parse().unwrap(), 2);
    let answer = scene.send(eve, &bytes).unwrap();
    assert_eq!(code_of(&answer), Some(ErrorCode::StaleNonce));
    scene.ask(1, mapped(1), forge(session, "203.0.113.66:1".parse().unwrap(), 2));
    assert_eq!(scene.forged(), 0);
}

#[test]
fn a_nonce_of_the_past_proves_nothing() {
    let mut scene = scene(6);
    let session = scene.session;
    let link = stream_from(mapped(0), 1);
    let first = scene.request(0, forge(session, mapped(1), 1), None);
    let nonce = scene.send(link, &first).unwrap().nonce;
    // Long enough for the nonce, and kept registered; the meeting is over by then as well.
    scene.world.run_for(Duration::from_secs(55));
    scene.peers[0].ask(
        &mut scene.world,
        Body::Refresh(Refresh {
            lease: Duration::from_secs(60),
            candidates: None,
            nat: None,
            rtt: None,
        }),
    );
    scene.world.run_for(Duration::from_secs(8));
    let late = scene.request(0, forge(session, mapped(1), 1), nonce);
    assert!(code_of(&scene.send(link, &late).unwrap()).is_some());
    assert_eq!(scene.forged(), 0);
}

#[test]
fn a_datagram_or_a_stranger_gets_nothing_forged() {
    let mut scene = scene(7);
    let session = scene.session;
    let body = forge(session, mapped(1), 1);
    let over_udp = scene.request(0, body.clone(), None);
    let udp = Link::Udp { local: None, remote: scene.peers[0].address };
    assert_eq!(code_of(&scene.send(udp, &over_udp).unwrap()), Some(ErrorCode::BadRequest));
    let unsigned = Message::new(transaction(9), body).emit(None);
    let answer = scene.send(stream_from(mapped(0), 1), &unsigned).unwrap();
    assert_eq!(code_of(&answer), Some(ErrorCode::UnknownRegistration));
    assert_eq!(scene.forged(), 0);
}

#[test]
fn no_packet_goes_to_an_address_that_only_one_of_the_two_named() {
    let victim: SocketAddr = "203.0.113.99:80".parse().unwrap();
    let mut scene = scene(8);
    let session = scene.session;
    // Alice's SYN went elsewhere than where Bob has proved to be.
    scene.ask(0, mapped(0), forge(session, victim, 1));
    let answer = scene.ask(1, mapped(1), forge(session, mapped(0), 2));
    assert_eq!(code_of(&answer), Some(ErrorCode::Forbidden));
    // Bob's went elsewhere.
    scene.ask(0, mapped(0), forge(session, mapped(1), 1));
    let answer = scene.ask(1, mapped(1), forge(session, victim, 2));
    assert_eq!(code_of(&answer), Some(ErrorCode::Forbidden));
    // Both name themselves.
    scene.ask(0, mapped(0), forge(session, mapped(0), 1));
    let answer = scene.ask(1, mapped(0), forge(session, mapped(0), 2));
    assert_eq!(code_of(&answer), Some(ErrorCode::Forbidden));
    assert_eq!(scene.forged(), 0);
}

#[test]
fn a_callee_that_has_declined_gets_nothing() {
    let mut scene = scene(9);
    let body = Body::Connect(Connect {
        round: Round(2),
        ..match connect("bob", Duration::ZERO) {
            Body::Connect(connect) => connect,
            other => panic!("{other:?}"),
        }
    });
    scene.peers[0].ask(&mut scene.world, body);
    let broker = scene.world.broker.as_ref().unwrap();
    let gathering = *broker.sessions.keys().find(|id| **id != scene.session).unwrap();
    let answer = scene.ask(0, mapped(0), forge(gathering, mapped(1), 1));
    assert_eq!(code_of(&answer), Some(ErrorCode::Forbidden));
}

#[test]
fn two_conspirators_get_no_more_forged_than_the_limits_allow() {
    let limits = ForgeLimits { packets_per_second_per_address: 6, ..ForgeLimits::default() };
    let config = Config {
        forging: Forging::Within(limits),
        max_pending_calls_per_peer: 1000,
        max_pending_invitations_per_peer: 1000,
        burst: 10_000,
        requests_per_second: 10_000,
        ..Config::default()
    };
    let mut scene = scene_in(World::with_config(10, config));
    let mut refused = 0;
    for sequence in 0..40 {
        let session = match &scene.peers[0].ask(&mut scene.world, connect("bob", Duration::ZERO))[0]
        {
            Body::Connected(punch) => punch.session,
            other => panic!("{other:?}"),
        };
        scene.ask(0, mapped(0), forge(session, mapped(1), sequence));
        let answer = scene.ask(1, mapped(1), forge(session, mapped(0), sequence));
        refused += usize::from(code_of(&answer) == Some(ErrorCode::TooManyRequests));
    }
    assert_eq!(refused, 38, "two pairs of three packets are six to each address");
    assert_eq!(scene.forged(), 2 * SENT);
}

#[test]
fn a_crowd_of_half_asked_forgeries_is_bounded() {
    let limits = ForgeLimits { max_sessions: 1, ..ForgeLimits::default() };
    let config = Config { forging: Forging::Within(limits), ..Config::default() };
    let mut scene = scene_in(World::with_config(11, config));
    let first = scene.session;
    assert_eq!(scene.ask(0, mapped(0), forge(first, mapped(1), 1)).body, Body::Forging);
    let second = match &scene.peers[0].ask(&mut scene.world, connect("eve", Duration::ZERO))[0] {
        Body::Connected(punch) => punch.session,
        other => panic!("{other:?}"),
    };
    let answer = scene.ask(0, mapped(0), forge(second, mapped(2), 1));
    assert_eq!(code_of(&answer), Some(ErrorCode::TableFull));
}

#[test]
fn an_echo_that_nobody_was_sent_makes_no_capability() {
    let mut scene = scene(12);
    let echo = Message {
        nonce: crate::signal::message::Nonce::new(&[1; 16]),
        ..scene.peers[0].request(Body::Probed)
    };
    let (address, key) = (scene.peers[0].address, scene.peers[0].key);
    scene.world.ask_broker(address, &echo.emit(Some(&key)));
    let broker = scene.world.broker.as_ref().unwrap();
    let capabilities = broker.capabilities(scene.world.now).unwrap();
    assert_eq!(capabilities.v4, crate::signal::Spoofing::Unknown);
}
