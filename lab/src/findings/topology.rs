//! Several boxes, several hosts, leaks, loss, and equal seeds.

use std::net::SocketAddr;
use std::time::Duration;

use crate::link::Quality;
use crate::probe::Handle;
use crate::town::{LOCAL_A, LOCAL_B, SERVER, Town, ms};
use crate::world::World;

#[test]
fn two_levels_of_endpoint_independent_nats_are_like_one() {
    let udp = Town::named("masq@port-restricted", "port-restricted").udp_punch(ms(0), None);
    assert_eq!(udp, Some(ms(40)));
    let ends = Town::named("masq@port-restricted", "masq").simultaneous_open(ms(0), 0);
    assert!(ends.iter().all(Option::is_some));
}

#[test]
fn two_homes_of_one_carrier_meet_at_its_outer_address_only_if_it_hairpins() {
    for (carrier, works) in [("port-restricted", false), ("hairpin-cone", true)] {
        let mut town = Town::named("public", "public");
        let access = Quality::delay(ms(10));
        let carrier = town.world.site("carrier", &carrier.parse().unwrap(), access);
        let homes = ["left", "right"].map(|name| {
            let home = town.world.site_behind(carrier, name, &"masq".parse().unwrap());
            let host = town.world.host(home, name);
            Handle::start(&mut town.world, host)
        });
        [town.a, town.b] = homes;
        assert_eq!(town.udp_punch(ms(0), None).is_some(), works);
        let ends = town.simultaneous_open(ms(0), 20);
        assert_eq!(ends.iter().all(Option::is_some), works);
    }
}

#[test]
fn hosts_of_one_home_reach_each_other_without_its_nat() {
    let mut town = Town::named("masq", "masq");
    let host = town.world.host(town.sites[0], "a2");
    let address = town.world.addresses(host)[0];
    let neighbour = Handle::start(&mut town.world, host);
    neighbour.listen(&mut town.world, LOCAL_B);
    let start = town.world.clock();
    let dial = town.a.connect(&mut town.world, LOCAL_A, SocketAddr::new(address, 6000));
    town.world.advance(ms(1));
    let (when, result) = town.a.outcome(&mut town.world, dial).unwrap();
    assert!(result.is_ok());
    assert_eq!(when, start);
}

#[test]
fn a_private_source_that_leaks_dies_at_the_provider() {
    let mut town = Town::named("masq,invalid=leak", "public");
    let peer = town.tcp_mapping(town.b, LOCAL_B);
    let seen = town.tcp_mapping(town.a, LOCAL_A);
    let opener = town.a.connect(&mut town.world, LOCAL_A, peer);
    town.a.close(&mut town.world, opener);
    town.a.listen(&mut town.world, LOCAL_A);
    town.b.connect(&mut town.world, LOCAL_B, seen);
    town.world.advance(ms(900));
    let dropped = |journey: &&crate::trace::Journey| {
        journey.fate == crate::trace::Fate::Dropped("foreign source address".into())
    };
    assert!(town.world.trace().journeys().iter().any(|journey| dropped(&journey)));
}

#[test]
fn loss_is_survived_by_repetition() {
    let mut connected = 0;
    for _ in 0..20 {
        let mut town = Town::named("masq", "port-restricted");
        for site in town.sites {
            town.world.set_access(site, Quality::delay(ms(10)).with_loss(0.05));
        }
        connected += usize::from(town.udp_punch(ms(0), None).is_some());
    }
    assert_eq!(connected, 20);
}

#[test]
fn equal_seeds_give_equal_traces_and_others_do_not() {
    let run = |seed: u64| {
        let mut world = World::new(seed);
        world.record();
        let quality = Quality {
            jitter: ms(5),
            loss: 0.1,
            duplication: 0.05,
            reordering: 0.1,
            hold: ms(3),
            ..Quality::delay(ms(10))
        };
        let site = world.site("a", &"port-restricted".parse().unwrap(), quality);
        let [a, b] = [("a", site), ("b", site)].map(|(name, site)| {
            let host = world.host(site, name);
            Handle::start(&mut world, host)
        });
        let server = world.public_host("s1", &[SERVER], quality);
        let server = Handle::start(&mut world, server);
        server.listen(&mut world, "0.0.0.0:3478");
        let to = SocketAddr::new(SERVER.parse().unwrap(), 3478);
        for handle in [a, b] {
            handle.connect(&mut world, LOCAL_A, to);
            let socket = handle.bind(&mut world, "0.0.0.0:0");
            (0..20).for_each(|_| handle.send(&mut world, socket, to, b"ping"));
        }
        world.advance(Duration::from_secs(20));
        world.trace().fingerprint()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
