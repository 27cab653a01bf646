//! What the broker finds out about its own network.

use super::forging::forging_world;
use super::*;
use crate::address::Family;
use crate::signal::{Capabilities, Fingerprint, NatSummary, Spoofing, UdpSummary};

pub(super) fn peer_config(name: &str) -> client::Config {
    let mut config = client::Config::new(Fingerprint([9; 32]), client::Secrecy::Plain);
    config.name = Some(name.parse().unwrap());
    config.udp_broker = Some("broker.example".parse().unwrap());
    config
}

/// A peer behind a NAT whose mapping does not depend on the destination.
pub(super) fn consenting(world: &mut World, name: &str, consents: bool) -> usize {
    let mut config = peer_config(name);
    config.consents = consents;
    let peer = world.peer_with(config, ms(20));
    let mapping = Some(crate::nat::Mapping::EndpointIndependent);
    let udp = UdpSummary { mapping, ..UdpSummary::default() };
    let nat = NatSummary { nat: Some(true), udp, ..NatSummary::default() };
    world.start_with(peer, nat);
    world.run_until_event(peer, is_registered);
    peer
}

fn capabilities(world: &World) -> Capabilities {
    world.broker.as_ref().unwrap().capabilities(world.now).unwrap()
}

#[test]
fn one_echo_shows_that_forged_sources_get_out_and_peers_are_told() {
    let mut world = forging_world(1);
    for name in ["alice", "bob"] {
        consenting(&mut world, name, true);
    }
    assert_eq!(capabilities(&world).v4, Spoofing::Unknown);
    world.run_for(Duration::from_secs(5));
    assert!(matches!(capabilities(&world).v4, Spoofing::Possible { .. }));
    assert_eq!(capabilities(&world).v6, Spoofing::Unknown);
    world.run_for(Duration::from_secs(30));
    let told = world.peers[0].client.capabilities();
    assert!(told.forges && told.may_forge(Family::V4));
    assert!(matches!(told.v4, Spoofing::Possible { age } if age >= Duration::from_secs(1)));
    let counters = world.broker.as_ref().unwrap().counters();
    assert!((1..=3).contains(&counters.probes) && counters.probes_heard == 1, "{counters:?}");
}

#[test]
fn it_is_asked_again_from_time_to_time_and_not_more_often() {
    let mut world = forging_world(2);
    for name in ["alice", "bob"] {
        consenting(&mut world, name, true);
    }
    world.run_for(Duration::from_secs(3600));
    let heard = world.broker.as_ref().unwrap().counters().probes_heard;
    assert!((3..=5).contains(&heard), "{heard}");
}

#[test]
fn silence_counts_only_from_several_addresses() {
    let mut world = forging_world(3);
    world.spoofable = false;
    for name in ["alice", "bob"] {
        consenting(&mut world, name, true);
    }
    world.run_for(Duration::from_secs(600));
    assert_eq!(capabilities(&world).v4, Spoofing::Unknown, "two may lie, or lose it");
    consenting(&mut world, "carol", true);
    world.run_for(Duration::from_secs(120));
    assert!(matches!(capabilities(&world).v4, Spoofing::Filtered { .. }));
    world.spoofable = true;
    world.run_for(Duration::from_secs(1200));
    assert!(matches!(capabilities(&world).v4, Spoofing::Possible { .. }), "networks change");
}

#[test]
fn nobody_is_probed_who_has_not_agreed() {
    let mut world = forging_world(4);
    consenting(&mut world, "alice", true);
    consenting(&mut world, "bob", false);
    world.run_for(Duration::from_secs(600));
    assert_eq!(capabilities(&world).v4, Spoofing::Unknown);
    assert_eq!(world.broker.as_ref().unwrap().counters().probes, 0);
    assert!(world.opened.is_empty());
}

#[test]
fn nobody_is_probed_whose_nat_may_not_let_the_probe_in() {
    let mut world = forging_world(5);
    for name in ["alice", "bob"] {
        let mut config = peer_config(name);
        config.consents = true;
        let peer = world.peer_with(config, ms(20));
        world.start(peer);
    }
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.broker.as_ref().unwrap().counters().probes, 0);
}

#[test]
fn a_broker_that_forges_nothing_probes_nobody() {
    let mut world = World::new(6);
    for name in ["alice", "bob"] {
        consenting(&mut world, name, true);
    }
    world.run_for(Duration::from_secs(600));
    assert!(world.opened.is_empty());
    assert_eq!(world.broker.as_ref().unwrap().capabilities(world.now), None);
}
