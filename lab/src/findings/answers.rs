//! What boxes do with packets of strangers, and what a listener is good for.

use std::net::SocketAddr;
use std::time::Duration;

use ntcp_proto::IoFailure;

use crate::probe::Told;
use crate::town::{LOCAL_A, LOCAL_B, Town, ms};

use super::LOW_TTL;

#[test]
fn two_open_input_chains_poison_udp_above_one_delay_of_skew_unless_an_opener_went_first() {
    let kind = "masq,in=open";
    assert!(Town::named(kind, kind).udp_punch(ms(0), None).is_some());
    assert!(Town::named(kind, kind).udp_punch(ms(10), None).is_some());
    for skew in [30, 100, 300] {
        assert_eq!(Town::named(kind, kind).udp_punch(ms(skew), None), None, "{skew} ms");
        assert!(Town::named(kind, kind).udp_punch(ms(skew), Some(LOW_TTL)).is_some(), "{skew} ms");
        // One such NAT alone is met by the peer that answers the source it sees.
        assert!(Town::named(kind, "full-cone").udp_punch(ms(skew), None).is_some(), "{skew} ms");
    }
    for other in ["masq,in=reset", "masq,in=admin", "masq"] {
        assert!(Town::named(other, other).udp_punch(ms(100), None).is_some(), "{other}");
    }
}

#[test]
fn where_a_rst_costs_the_port_only_a_small_skew_works() {
    let kind = "port-restricted,in=reset,rst=kill";
    let near = Town::named(kind, kind).simultaneous_open(ms(10), 200);
    assert!(near.iter().all(Option::is_some));
    let far = Town::named(kind, kind).simultaneous_open(ms(100), 200);
    assert!(far.iter().any(Option::is_none), "{far:?}");
}

#[test]
fn a_listener_on_the_punching_port_lets_a_random_nat_in_over_tcp() {
    for open in ["full-cone", "restricted", "public"] {
        let mut town = Town::named("linux-random", open);
        let a = town.tcp_mapping(town.a, LOCAL_A);
        let b = town.tcp_mapping(town.b, LOCAL_B);
        town.b.listen(&mut town.world, LOCAL_B);
        let start = town.world.clock();
        town.a.retry(&mut town.world, 200);
        town.b.retry(&mut town.world, 200);
        let dial = town.a.connect(&mut town.world, LOCAL_A, b);
        town.b.connect(&mut town.world, LOCAL_B, a);
        town.world.advance(ms(200));
        let (when, result) = town.a.outcome(&mut town.world, dial).unwrap();
        assert!(result.is_ok(), "{open}");
        assert!(when - start <= ms(60), "{open}");
        let told = town.b.told(&mut town.world);
        assert!(told.iter().any(|told| matches!(told, Told::Accepted { .. })), "{open}");
    }
}

#[test]
fn a_changed_source_is_answered_by_open_filters_only() {
    // Address-dependent mapping, an arbitrary pool, a random port for each destination.
    for (kind, partner, works) in [
        ("address-dependent", "full-cone", true),
        ("address-dependent", "restricted", true),
        ("address-dependent", "port-restricted", false),
        ("pool-arbitrary", "full-cone", true),
        ("linux-random", "restricted", true),
        ("linux-random", "port-restricted", false),
    ] {
        let punched = Town::named(kind, partner).udp_punch(ms(0), None);
        assert_eq!(punched.is_some(), works, "{kind} × {partner}");
        if let Some(time) = punched {
            assert!(time <= ms(60), "{kind} × {partner}: {time:?}");
        }
    }
}

#[test]
fn a_late_answer_comes_after_six_seconds_and_only_if_nobody_opened_meanwhile() {
    // RFC 5382 REQ-4.
    let mut town = Town::named("public", "masq,in=late");
    let seen = town.tcp_mapping(town.b, LOCAL_B);
    let stranger = SocketAddr::new(seen.ip(), seen.port() + 1);
    let start = town.world.clock();
    let socket = town.a.connect(&mut town.world, LOCAL_A, stranger);
    town.world.advance(Duration::from_secs(10));
    let (when, result) = town.a.outcome(&mut town.world, socket).unwrap();
    assert_eq!(result, Err(IoFailure::Refused));
    assert_eq!(when - start, Duration::from_secs(6) + ms(40));

    for skew in [0, 30, 300].map(ms) {
        let mut town = Town::named("masq,in=late", "masq,in=late");
        let ends = town.simultaneous_open(skew, 0);
        assert!(ends.iter().all(Option::is_some), "{skew:?}: {ends:?}");
        town.world.advance(Duration::from_secs(10));
        let icmp = town.world.trace().journeys().iter().filter(|journey| {
            let packet = crate::packet::Packet::parse(&journey.stations[0].packet);
            packet.is_ok_and(|packet| packet.protocol() == crate::packet::Protocol::Icmp)
        });
        assert_eq!(icmp.count(), 0, "{skew:?}");
    }
}

#[test]
fn ports_keep_their_parity_or_stay_in_their_band_if_the_box_says_so() {
    for local in ["0.0.0.0:5000", "0.0.0.0:5001", "0.0.0.0:5002", "0.0.0.0:5003"] {
        let mut town = Town::named("masq,share=no,ports=parity", "masq,share=no,ports=band");
        let own: SocketAddr = local.parse().unwrap();
        let seen = town.tcp_mapping(town.a, local).port();
        assert_eq!(seen % 2, own.port() % 2, "{seen}");
        let seen = town.tcp_mapping(town.b, local).port();
        assert!((40_000..=40_250).contains(&seen), "{seen}");
    }
}

#[test]
fn a_hole_closes_when_its_time_is_over() {
    for (hole, late, expected) in [(56, 50, true), (56, 60, false)] {
        let site = format!("masq,hole={hole}");
        let mut town = Town::named(&site, "masq");
        let (a, b) = (town.tcp_mapping(town.a, LOCAL_A), town.tcp_mapping(town.b, LOCAL_B));
        // A SYN that dies on the way, and is never repeated the whole way: only its hole is left.
        let shield = ntcp_proto::Hops { ttl: Some(LOW_TTL), least: Some(2) };
        let opener = town.a.connect_with(&mut town.world, LOCAL_A, b, shield);
        town.world.advance(ms(100));
        town.a.close(&mut town.world, opener);
        town.a.listen(&mut town.world, LOCAL_A);
        town.world.advance(Duration::from_secs(late));
        town.b.connect(&mut town.world, LOCAL_B, a);
        town.world.advance(ms(30));
        let passed = town.world.trace().journeys().iter().any(|journey| {
            let last = journey.stations.last();
            let packet = last.and_then(|it| crate::packet::Packet::parse(&it.packet).ok());
            let ends = packet.and_then(|packet| packet.source().zip(packet.destination()));
            ends.is_some_and(|(from, to)| from == b && is_private(to))
        });
        assert_eq!(passed, expected, "{late} s");
    }
}

/// The SYN of the other side has come through.
fn is_private(to: SocketAddr) -> bool {
    matches!(to.ip(), std::net::IpAddr::V4(ip) if ip.is_private())
}
