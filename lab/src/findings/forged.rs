//! Forged SYN-ACKs and connections without a handshake: T14 to T17d, T24, T25, and what the additions
//! to the measured matrix say about two strict NATs.

use std::time::Duration;

use ntcp_proto::segment::{Options, Segment, flag};
use ntcp_proto::{Hops, SocketId};

use super::LOW_TTL;
use crate::presets::Site;
use crate::technique::Technique;
use crate::technique::forged::{arm, ghost_between, ghost_with};
use crate::town::{LOCAL_A, LOCAL_B, Town, ms};

/// Nothing from outside that was not asked for, no SYN ever, nothing invalid.
const STRICT: &str = "masq,syn=strict";

fn works(technique: Technique, a: &str, b: &str, skew: Duration) -> bool {
    let [a, b]: [Site; 2] = [a, b].map(|text| text.parse().unwrap());
    technique.attempt(&a, &b, skew).is_some()
}

#[test]
fn a_forged_syn_ack_of_a_third_party_passes_where_no_syn_does() {
    // T15 and T15b.
    for (a, b) in [(STRICT, STRICT), ("masq,in=reset", "masq,in=reset"), ("masq", STRICT)] {
        for skew in [0, 30, 100, 300].map(ms) {
            assert!(works(Technique::SpoofedSynAck, a, b, skew), "{a} × {b} at {skew:?}");
        }
    }
    // Whoever rewrites numbers cannot be spoken for.
    assert!(!works(Technique::SpoofedSynAck, "masq,isn=rewrite", "masq", ms(0)));
}

#[test]
fn a_full_syn_against_a_box_that_resets_is_gone_before_its_forged_answer() {
    for (hops, expected) in
        [(Hops::USUAL, false), (Hops { ttl: Some(LOW_TTL), least: Some(2) }, true)]
    {
        let mut town = Town::named("masq,in=reset", "masq,in=reset");
        let start = town.world.clock();
        let [a, b] = arm(&mut town, [hops; 2], ms(100)).unwrap();
        town.world.advance(ms(60));
        town.forge(&b.syn_ack(&a, b.seen, a.seen));
        town.forge(&a.syn_ack(&b, a.seen, b.seen));
        let verdict = town.raised_verdict(start, [a.socket, b.socket]);
        assert_eq!(verdict.is_some(), expected, "{hops:?}");
    }
}

/// Both SYN-ACKs forged, with options changed so; what came of it.
fn forged_with(change: impl Fn(&mut Options)) -> (Town, Option<Duration>) {
    let mut town = Town::named("masq", "masq");
    let start = town.world.clock();
    let low = Hops { ttl: Some(LOW_TTL), least: Some(2) };
    let [a, b] = arm(&mut town, [low; 2], ms(0)).unwrap();
    assert!(a.syn.options.timestamps.is_some(), "Linux offers timestamps");
    town.world.advance(ms(60));
    for (own, peer) in [(&a, &b), (&b, &a)] {
        let mut segment = own.syn_ack(peer, own.seen, peer.seen);
        change(&mut segment.options);
        town.forge(&segment);
    }
    let verdict = town.raised_verdict(start, [a.socket, b.socket]);
    (town, verdict)
}

fn resets(town: &Town) -> usize {
    let journeys = town.world.trace().journeys().iter();
    let reset = journeys.filter(|journey| {
        let packet = crate::packet::Packet::parse(&journey.stations[0].packet);
        packet.is_ok_and(|packet| {
            packet.tcp().is_some_and(|fields| fields.has(crate::packet::flag::RST))
        })
    });
    reset.count()
}

#[test]
fn a_forged_syn_ack_echoes_the_clock_of_its_receiver_or_no_clock_at_all() {
    let (town, verdict) = forged_with(|_| {});
    assert!(verdict.is_some());
    assert_eq!(resets(&town), 0);
    // T15c, T25: no timestamps, or no options whatever.
    assert!(forged_with(|options| options.timestamps = None).1.is_some());
    assert!(forged_with(|options| *options = Options::default()).1.is_some());
    // T15d: the kernel answers a RST.
    let (town, verdict) = forged_with(|options| {
        let timestamps = options.timestamps.as_mut().unwrap();
        timestamps.echo = timestamps.echo.wrapping_add(1_000_000);
    });
    assert_eq!(verdict, None);
    assert_eq!(resets(&town), 2);
}

#[test]
fn a_clock_that_was_invented_for_the_peer_silences_it() {
    // Both come up, and no word arrives: what the peer really sends is older than the invention.
    let (town, verdict) = forged_with(|options| {
        let timestamps = options.timestamps.as_mut().unwrap();
        timestamps.value = timestamps.value.wrapping_add(1_000_000);
    });
    assert_eq!(verdict, None);
    assert_eq!(resets(&town), 0, "nobody was refused");
}

#[test]
fn a_provider_that_looks_at_sources_lets_nothing_forged_out() {
    // BCP 38: the forger is a host of a site, whose provider knows its addresses.
    for (allowed, expected) in [(false, false), (true, true)] {
        let mut town = Town::named("masq", "masq");
        let site = "public".parse().unwrap();
        let site = town.world.site("forger", &site, crate::link::Quality::delay(ms(10)));
        let forger = town.world.host(site, "forger");
        if allowed {
            town.world.allow_spoofing(site);
        }
        let start = town.world.clock();
        let low = Hops { ttl: Some(LOW_TTL), least: Some(2) };
        let [a, b] = arm(&mut town, [low; 2], ms(0)).unwrap();
        town.world.advance(ms(60));
        town.world.forge(forger, &b.syn_ack(&a, b.seen, a.seen), 64);
        town.world.forge(forger, &a.syn_ack(&b, a.seen, b.seen), 64);
        let verdict = town.raised_verdict(start, [a.socket, b.socket]);
        assert_eq!(verdict.is_some(), expected, "spoofing allowed: {allowed}");
    }
}

/// Both dial with these numbers, unheard; nobody captures anything.
fn dial_numbered(town: &mut Town, numbers: [u32; 2]) -> ([SocketId; 2], [Segment; 2]) {
    let (a, b) = (town.tcp_mapping(town.a, LOCAL_A), town.tcp_mapping(town.b, LOCAL_B));
    let low = Hops { ttl: Some(LOW_TTL), least: Some(2) };
    let sockets = [
        town.a.connect_numbered(&mut town.world, LOCAL_A, b, low, numbers[0]),
        town.b.connect_numbered(&mut town.world, LOCAL_B, a, low, numbers[1]),
    ];
    let options = Options {
        max_segment_size: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: None,
    };
    let answer = |source, destination, sequence, other: u32| Segment {
        source,
        destination,
        flags: flag::SYN | flag::ACK,
        sequence,
        acknowledgment: other.wrapping_add(1),
        window: 64_240,
        options,
    };
    let forged = [answer(b, a, numbers[1], numbers[0]), answer(a, b, numbers[0], numbers[1])];
    (sockets, forged)
}

#[test]
fn agreed_numbers_spare_the_capture() {
    // T14 and T25.
    for site in [STRICT, "masq,in=reset"] {
        let mut town = Town::named(site, site);
        let start = town.world.clock();
        let (sockets, forged) = dial_numbered(&mut town, [u32::MAX, 4711]);
        town.world.advance(ms(60));
        forged.iter().for_each(|segment| town.forge(segment));
        assert!(town.raised_verdict(start, sockets).is_some(), "{site}");
    }
}

#[test]
fn a_number_wrong_by_one_is_refused_by_connection_tracking() {
    let mut town = Town::named(STRICT, STRICT);
    let start = town.world.clock();
    let (sockets, forged) = dial_numbered(&mut town, [1000, 2000]);
    town.world.advance(ms(60));
    for segment in forged {
        let acknowledgment = segment.acknowledgment.wrapping_add(1);
        town.forge(&Segment { acknowledgment, ..segment });
    }
    assert_eq!(town.raised_verdict(start, sockets), None);
}

#[test]
fn a_redial_with_the_same_number_is_translated_but_the_gap_has_cost_the_peer() {
    // T24: without a socket a's kernel answers b's SYN with a RST. It is a valid segment of no known
    // window, so whether it reaches b is up to the tracking; the redialled SYN does reach it.
    let mut town = Town::named("masq", "masq");
    let (seen, peer) = (town.tcp_mapping(town.a, LOCAL_A), town.tcp_mapping(town.b, LOCAL_B));
    let opener = town.a.connect_numbered(&mut town.world, LOCAL_A, peer, Hops::USUAL, 7000);
    town.world.advance(ms(30));
    town.a.close(&mut town.world, opener);
    town.b.connect(&mut town.world, LOCAL_B, seen);
    town.world.advance(ms(21));
    town.world.record();
    town.a.connect_numbered(&mut town.world, LOCAL_A, peer, Hops::USUAL, 7000);
    town.world.advance(ms(15));
    let outside = town.world.trace().journeys().iter().filter(|journey| {
        journey.stations.len() > 2
            && journey.stations.iter().any(|station| {
                crate::packet::Packet::parse(&station.packet)
                    .is_ok_and(|packet| packet.source() == Some(seen) && is_syn(&packet, 7000))
            })
    });
    assert!(outside.count() >= 2, "the first SYN and the redialled one");
}

fn is_syn(packet: &crate::packet::Packet, number: u32) -> bool {
    packet.tcp().is_some_and(|fields| fields.is_syn() && fields.sequence == number)
}

#[test]
fn an_own_syn_ack_is_invalid_until_the_syns_have_crossed() {
    // T16: also where the invalid leaves, since nobody translates it.
    for site in ["masq", STRICT, "masq,invalid=leak", "full-cone"] {
        assert!(!works(Technique::OwnSynAck, site, site, ms(0)), "{site}");
    }
    // T16c: SYNs that were dropped have moved connection tracking on.
    assert!(works(Technique::OwnSynAckAfterCrossing, STRICT, STRICT, ms(0)));
    // Without any box, or behind a firewall that lets the invalid pass, the classic works.
    assert!(works(Technique::OwnSynAck, "public", "firewall,invalid=leak", ms(0)));
    assert!(!works(Technique::OwnSynAck, "public", "firewall", ms(0)));
}

#[test]
fn connections_without_a_handshake_pass_where_flows_are_picked_up() {
    // T17, T17b and the first byte after one delay.
    for skew in [0, 30, 100, 300].map(ms) {
        assert!(works(Technique::GhostHandshake, STRICT, STRICT, skew), "{skew:?}");
    }
    assert!(!works(Technique::GhostHandshake, "masq,loose=no", "masq", ms(0)));
    assert!(!works(Technique::GhostHandshake, "masq,isn=rewrite", "masq", ms(0)));
}

#[test]
fn a_ghost_handshake_needs_an_opener_where_boxes_reset() {
    // T17c and T17d, b being 200 ms late.
    let reset = "masq,in=reset";
    let mut town = Town::named(reset, reset);
    assert!(ghost_with(&mut town, [Some(LOW_TTL); 2], ms(200)).is_some());
    let mut town = Town::named(reset, reset);
    assert_eq!(ghost_with(&mut town, [None; 2], ms(200)), None);
}

#[test]
fn a_bare_ack_after_a_syn_is_invalid() {
    // Connection tracking that has seen a SYN does not take an ACK for the middle of a flow.
    let mut town = Town::named("masq", "masq");
    let seen = [town.tcp_mapping(town.a, LOCAL_A), town.tcp_mapping(town.b, LOCAL_B)];
    let low = Some(LOW_TTL);
    let opener = town.a.connect_ttl(&mut town.world, LOCAL_A, seen[1], low);
    town.a.close(&mut town.world, opener);
    town.world.advance(ms(60));
    assert_eq!(ghost_between(&mut town, seen, [low; 2], ms(0)), None);
}
