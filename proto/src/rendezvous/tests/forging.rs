//! Two peers ask the broker to answer their SYNs.

use std::net::SocketAddr;

use super::*;
use crate::command::SocketId;
use crate::rendezvous::forging::FORGED_TTL;
use crate::segment::{Options, Segment, Timestamps, flag};
use crate::signal::{Handshake, Syn};

/// The mapping of each peer's punching port.
pub(crate) fn mapped(peer: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, peer as u8 + 1], 45_000))
}

pub(crate) fn syn(sequence: u32) -> Syn {
    let options = Options {
        max_segment_size: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: sequence / 2, echo: 0 }),
    };
    Syn { sequence, window: 64_240, options }
}

pub(crate) fn forging_world(seed: u64) -> World {
    let forging = Forging::Within(ForgeLimits::default());
    World::with_config(seed, Config { forging, ..Config::default() })
}

/// Two peers of one meeting at a broker that forges, each with a stream from its punching port.
fn meeting(seed: u64) -> (World, SessionId, [SocketId; 2]) {
    let mut world = forging_world(seed);
    world.registered(Some("alice"), ms(20));
    world.registered(Some("bob"), ms(30));
    let session = met(&mut world);
    let streams = [0, 1].map(|peer| world.borrow_stream(peer, mapped(peer)));
    (world, session, streams)
}

pub(super) fn met(world: &mut World) -> SessionId {
    world.call(0, "bob");
    world.run_for(ms(500));
    world.punches(0).last().unwrap().1.session
}

pub(super) fn ask(
    world: &mut World,
    session: SessionId,
    peer: usize,
    stream: SocketId,
    sequence: u32,
) {
    let handshake = Handshake { remote: mapped(1 - peer), syn: syn(sequence) };
    world.with(peer, |client, now| client.forge(session, stream, Some(handshake), now));
}

pub(super) fn told(world: &World, peer: usize) -> Vec<Result<(), ErrorCode>> {
    let events = world.peers[peer].events.iter();
    events
        .filter_map(|(_, event)| match event {
            client::Event::Forged { result, .. } => Some(*result),
            _ => None,
        })
        .collect()
}

fn towards(world: &World, peer: usize) -> Vec<(Duration, Segment, u8)> {
    let to_peer = world.forged.iter().filter(|(_, it, _)| it.destination == mapped(peer));
    to_peer.copied().collect()
}

#[test]
fn peers_are_told_what_the_broker_can_do() {
    let (world, ..) = meeting(1);
    let capabilities = world.peers[0].client.capabilities();
    assert!(capabilities.forges);
    assert!(!pair(1, ms(1), ms(1)).peers[0].client.capabilities().forges);
}

#[test]
fn when_both_have_asked_each_is_answered_in_the_others_name_three_times() {
    let (mut world, session, streams) = meeting(2);
    ask(&mut world, session, 0, streams[0], 1000);
    world.run_for(ms(300));
    assert!(world.forged.is_empty(), "one has not asked");
    let asked = world.elapsed();
    ask(&mut world, session, 1, streams[1], 2000);
    world.run_for(Duration::from_secs(2));
    // Bob is 30 ms away, and asks twice: for the nonce, and with it.
    let second = asked + ms(90);
    for (peer, own, other) in [(0, 1000, 2000), (1, 2000, 1000)] {
        let packets = towards(&world, peer);
        let instants: Vec<_> = packets.iter().map(|(at, ..)| *at).collect();
        assert_eq!(instants, [second, second + ms(100), second + ms(250)]);
        let segment = Segment {
            source: mapped(1 - peer),
            destination: mapped(peer),
            flags: flag::SYN | flag::ACK,
            sequence: other,
            acknowledgment: own + 1,
            window: 64_240,
            options: Options {
                timestamps: Some(Timestamps { value: other / 2, echo: own / 2 }),
                ..syn(0).options
            },
        };
        assert!(packets.iter().all(|(_, it, ttl)| (*it, *ttl) == (segment, FORGED_TTL)));
        assert_eq!(told(&world, peer), [Ok(())]);
    }
    let counters = world.broker.as_ref().unwrap().counters();
    assert_eq!((counters.forge_requests, counters.forged, counters.forge_refused), (4, 6, 0));
}

#[test]
fn a_nonce_fetched_before_saves_a_round_trip() {
    let (mut world, session, streams) = meeting(3);
    for peer in [0, 1] {
        world.with(peer, |client, now| client.forge(session, streams[peer], None, now));
    }
    world.run_for(ms(100));
    let asked = world.elapsed();
    ask(&mut world, session, 0, streams[0], 1);
    ask(&mut world, session, 1, streams[1], 2);
    world.run_for(ms(200));
    assert_eq!(world.forged[0].0, asked + ms(30));
}

#[test]
fn over_ipv6_it_is_the_same() {
    let (mut world, session, _) = meeting(4);
    let v6 = |peer: usize| SocketAddr::from(([0x2001, 0xDB8, 0, peer as u16, 0, 0, 0, 7], 45_000));
    for peer in [0, 1] {
        let stream = world.borrow_stream(peer, v6(peer));
        let handshake = Handshake { remote: v6(1 - peer), syn: syn(9) };
        world.with(peer, |client, now| client.forge(session, stream, Some(handshake), now));
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.forged.len(), 6);
    assert!(
        world.forged.iter().all(|(_, it, _)| it.emit(FORGED_TTL).is_some_and(|p| p[0] >> 4 == 6))
    );
}

#[test]
fn who_asks_alone_is_told_after_a_while_and_may_ask_again() {
    let (mut world, session, streams) = meeting(5);
    ask(&mut world, session, 0, streams[0], 1);
    world.run_for(Duration::from_secs(6));
    assert_eq!(told(&world, 0), [Err(ErrorCode::NoAnswer)]);
    ask(&mut world, session, 0, streams[0], 1);
    ask(&mut world, session, 1, streams[1], 2);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.forged.len(), 6);
}

#[test]
fn new_sockets_are_answered_too_but_not_for_ever() {
    let (mut world, session, streams) = meeting(6);
    for round in 0..8 {
        ask(&mut world, session, 0, streams[0], 10 + round);
        ask(&mut world, session, 1, streams[1], 20 + round);
        world.run_for(Duration::from_secs(1));
    }
    assert_eq!(world.forged.len(), 4 * 6);
    assert_eq!(told(&world, 0).last(), Some(&Err(ErrorCode::TooManyRequests)));
}

#[test]
fn who_closes_its_stream_takes_its_consent_back() {
    let (mut world, session, streams) = meeting(7);
    ask(&mut world, session, 0, streams[0], 1);
    world.run_for(ms(200));
    world.end_stream(0, streams[0]);
    world.run_for(ms(100));
    ask(&mut world, session, 1, streams[1], 2);
    world.run_for(Duration::from_secs(1));
    assert!(world.forged.is_empty());
    // And in the middle of it the rest is not sent.
    let stream = world.borrow_stream(0, mapped(0));
    ask(&mut world, session, 0, stream, 1);
    world.run_for(ms(100));
    assert_eq!(world.forged.len(), 2);
    world.end_stream(1, streams[1]);
    world.run_for(Duration::from_secs(1));
    assert!((2..=4).contains(&world.forged.len()), "{}", world.forged.len());
}

#[test]
fn who_unregisters_takes_its_consent_back() {
    let (mut world, session, streams) = meeting(8);
    ask(&mut world, session, 0, streams[0], 1);
    ask(&mut world, session, 1, streams[1], 2);
    world.run_for(ms(95));
    assert_eq!(world.forged.len(), 2);
    world.with(1, client::Client::unregister);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.forged.len(), 2);
}

#[test]
fn a_broker_that_does_not_forge_says_so() {
    let mut world = pair(9, ms(20), ms(20));
    let session = met(&mut world);
    let stream = world.borrow_stream(0, mapped(0));
    ask(&mut world, session, 0, stream, 1);
    world.run_for(ms(200));
    assert_eq!(told(&world, 0), [Err(ErrorCode::DoesNotForge)]);
    assert!(world.forged.is_empty());
}

#[test]
fn nothing_is_kept_when_the_meeting_is_forgotten() {
    let (mut world, session, streams) = meeting(10);
    ask(&mut world, session, 0, streams[0], 1);
    ask(&mut world, session, 1, streams[1], 2);
    world.run_for(Duration::from_secs(20));
    assert!(world.broker.as_ref().unwrap().forgeries.is_empty());
}
