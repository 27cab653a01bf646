//! Another public node forges in the broker's place.

use std::net::SocketAddr;

use super::forging::{ask, mapped, met, told};
use super::probing::{consenting, peer_config};
use super::*;
use crate::address::Family;
use crate::command::SocketId;
use crate::rendezvous::forging::FORGED_AT;
use crate::segment::flag;
use crate::signal::{Capabilities, NatSummary, Spoofing};

const FORGER: &str = "frank";

/// A broker that takes forgers, and forges nothing itself.
fn world(seed: u64, forging: Forging) -> World {
    let forgers = Some(ForgeLimits::default());
    World::with_config(seed, Config { forging, forgers, ..Config::default() })
}

/// A peer that offers to forge.
fn offering(world: &mut World, name: &str, nat: bool) -> usize {
    let mut config = peer_config(name);
    config.offers_to_forge = true;
    let peer = world.peer_with(config, ms(25));
    world.start_with(peer, NatSummary { nat: Some(nat), ..NatSummary::default() });
    world.run_until_event(peer, is_registered);
    peer
}

fn capabilities(world: &World) -> Capabilities {
    world.broker.as_ref().unwrap().capabilities(world.now).unwrap()
}

/// Two peers that consent to probes, and time for one.
fn with_two_others(world: &mut World) {
    for name in ["alice", "bob"] {
        consenting(world, name, true);
    }
    world.run_for(Duration::from_secs(30));
}

fn streams(world: &mut World) -> [SocketId; 2] {
    [0, 1].map(|peer| world.borrow_stream(peer, mapped(peer)))
}

/// Both peers ask.
fn both_ask(world: &mut World) {
    let (session, streams) = (met(world), streams(world));
    for peer in [0, 1] {
        ask(world, session, peer, streams[peer], 1000 + peer as u32);
    }
    world.run_for(Duration::from_secs(2));
}

#[test]
fn a_proven_forger_answers_both_syns_where_the_broker_may_not() {
    let mut world = world(1, Forging::Off);
    with_two_others(&mut world);
    assert!(!capabilities(&world).forges);
    offering(&mut world, FORGER, false);
    world.run_for(Duration::from_secs(30));
    let found = capabilities(&world);
    assert!(found.forges && matches!(found.v4, Spoofing::Possible { .. }), "{found:?}");
    assert!(world.peers[0].client.capabilities().may_forge(Family::V4), "peers are told");
    let probes = world.errands;
    assert!((1..=3).contains(&probes), "{probes}");
    both_ask(&mut world);
    assert_eq!(world.forged.len(), 2 * FORGED_AT.len());
    assert_eq!(world.errands - probes, world.forged.len(), "the forger sent them all");
    for (_, segment, _) in &world.forged {
        assert_eq!(segment.flags, flag::SYN | flag::ACK);
        let ends = [segment.source, segment.destination];
        assert!(ends == [mapped(0), mapped(1)] || ends == [mapped(1), mapped(0)]);
    }
    assert_eq!([told(&world, 0), told(&world, 1)], [[Ok(())], [Ok(())]]);
}

#[test]
fn nobody_is_sent_who_has_not_been_seen_to_be_able_to() {
    let mut world = world(2, Forging::Off);
    for name in ["alice", "bob"] {
        world.registered(Some(name), ms(20));
    }
    offering(&mut world, FORGER, false);
    world.run_for(Duration::from_secs(60));
    both_ask(&mut world);
    assert_eq!((world.errands, world.forged.len()), (0, 0), "nobody consented to a probe");
    assert_eq!(told(&world, 0), [Err(ErrorCode::DoesNotForge)]);
}

#[test]
fn an_offer_from_behind_a_nat_is_not_taken_up() {
    let mut world = world(3, Forging::Off);
    with_two_others(&mut world);
    offering(&mut world, FORGER, true);
    world.run_for(Duration::from_secs(120));
    assert_eq!(world.errands, 0);
    assert!(!capabilities(&world).forges);
}

#[test]
fn a_broker_that_was_not_told_to_takes_no_offer() {
    let mut world = World::new(4);
    with_two_others(&mut world);
    offering(&mut world, FORGER, false);
    world.run_for(Duration::from_secs(120));
    both_ask(&mut world);
    assert_eq!((world.errands, world.forged.len()), (0, 0));
    assert_eq!(world.broker.as_ref().unwrap().capabilities(world.now), None);
}

#[test]
fn a_forger_takes_no_part_in_a_meeting_of_its_own() {
    let mut world = world(5, Forging::Off);
    let forger = offering(&mut world, "alice", false);
    assert_eq!(forger, 0);
    for name in ["bob", "carol"] {
        consenting(&mut world, name, true);
    }
    world.run_for(Duration::from_secs(60));
    assert!(capabilities(&world).forges);
    let before = world.errands;
    both_ask(&mut world);
    assert_eq!((world.errands - before, world.forged.len()), (0, 0));
    assert_eq!(told(&world, 0), [Err(ErrorCode::DoesNotForge)]);
}

#[test]
fn a_forger_that_has_left_is_sent_nowhere() {
    let mut world = world(6, Forging::Off);
    with_two_others(&mut world);
    let forger = offering(&mut world, FORGER, false);
    world.run_for(Duration::from_secs(30));
    world.with(forger, client::Client::unregister);
    world.run_for(Duration::from_secs(1));
    let before = world.errands;
    both_ask(&mut world);
    assert_eq!((world.errands - before, world.forged.len()), (0, 0));
    assert!(!capabilities(&world).forges);
}

#[test]
fn one_side_alone_sends_nobody_on_an_errand() {
    let mut world = world(7, Forging::Off);
    with_two_others(&mut world);
    offering(&mut world, FORGER, false);
    world.run_for(Duration::from_secs(30));
    let before = world.errands;
    let (session, streams) = (met(&mut world), streams(&mut world));
    for sequence in 0..20 {
        ask(&mut world, session, 0, streams[0], sequence);
        world.run_for(ms(300));
    }
    assert_eq!((world.errands - before, world.forged.len()), (0, 0));
}

#[test]
fn who_closes_its_stream_calls_the_forger_off() {
    let mut world = world(8, Forging::Off);
    with_two_others(&mut world);
    offering(&mut world, FORGER, false);
    world.run_for(Duration::from_secs(30));
    let (session, streams) = (met(&mut world), streams(&mut world));
    for peer in [0, 1] {
        ask(&mut world, session, peer, streams[peer], 7);
    }
    // Both are 20 ms away and ask twice; the forger is 25 ms away.
    world.run_for(ms(120));
    let sent = world.forged.len();
    assert!((2..=4).contains(&sent), "{sent}");
    world.end_stream(1, streams[1]);
    world.run_for(Duration::from_secs(1));
    assert!(world.forged.len() <= 4, "{}", world.forged.len());
}

#[test]
fn a_broker_that_can_forge_sends_nobody() {
    let mut world = world(9, Forging::Within(ForgeLimits::default()));
    with_two_others(&mut world);
    offering(&mut world, FORGER, false);
    world.run_for(Duration::from_secs(60));
    let before = world.errands;
    both_ask(&mut world);
    assert_eq!((world.errands - before, world.forged.len()), (0, 2 * FORGED_AT.len()));
}

#[test]
fn a_broker_whose_network_filters_sends_a_forger() {
    let mut world = world(10, Forging::Within(ForgeLimits::default()));
    world.spoofable = false;
    for name in ["alice", "bob", "carol"] {
        consenting(&mut world, name, true);
    }
    world.run_for(Duration::from_secs(300));
    assert!(matches!(capabilities(&world).v4, Spoofing::Filtered { .. }));
    offering(&mut world, FORGER, false);
    world.run_for(Duration::from_secs(60));
    assert!(matches!(capabilities(&world).v4, Spoofing::Possible { .. }));
    let before = world.errands;
    both_ask(&mut world);
    assert_eq!((world.errands - before, world.forged.len()), (6, 6));
}

#[test]
fn sixteen_offers_are_remembered_one_of_each_site() {
    let mut world = world(11, Forging::Off);
    for number in 0..40 {
        offering(&mut world, &format!("forger{number}"), false);
    }
    let forgers = |world: &World| world.broker.as_ref().unwrap().prober.forgers().iter().count();
    assert_eq!(forgers(&world), 16);
    let mut world = self::world(12, Forging::Off);
    for name in ["one", "two"] {
        let peer =
            world.peer_with(client::Config { offers_to_forge: true, ..peer_config(name) }, ms(5));
        world.peers[peer].address = SocketAddr::from(([192, 0, 2, 77], 7000 + peer as u16));
        world.start_with(peer, NatSummary { nat: Some(false), ..NatSummary::default() });
        world.run_until_event(peer, is_registered);
    }
    assert_eq!(forgers(&world), 1, "the later of the two");
}

#[test]
fn what_is_learned_of_a_nat_later_lets_the_probe_begin() {
    let mut world = world(13, Forging::Off);
    with_two_others(&mut world);
    let mut config = peer_config(FORGER);
    config.offers_to_forge = true;
    let forger = world.peer_with(config, ms(25));
    world.start(forger);
    world.run_until_event(forger, is_registered);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.errands, 0, "perhaps it has one");
    let nat = NatSummary { nat: Some(false), ..NatSummary::default() };
    world.with(forger, |client, now| client.update_candidates(Vec::new(), nat, now));
    world.run_for(Duration::from_secs(60));
    assert!(capabilities(&world).forges);
}
