//! Sockets that are deaf to news from nearby: T12, T21 to T23b, and the four pairs they were confirmed
//! on.

use std::time::Duration;

use ntcp_proto::{Hops, IoFailure};

use super::LOW_TTL;
use crate::technique::Technique;
use crate::town::{LOCAL_A, LOCAL_B, Town, ms};

/// The whole TTL, deaf to boxes that start with 64.
const SHIELD: Hops = Hops { ttl: Some(255), least: Some(100) };

/// How each side ended, and when after the start.
type Ends = [Option<Result<Duration, IoFailure>>; 2];

/// Both connect so, `b` by `skew` later, and nobody tries again.
fn once(a: &str, b: &str, hops: [Hops; 2], skew: Duration) -> Ends {
    let mut town = Town::named(a, b);
    let (seen_a, seen_b) = (town.tcp_mapping(town.a, LOCAL_A), town.tcp_mapping(town.b, LOCAL_B));
    let start = town.world.clock();
    let one = town.a.connect_with(&mut town.world, LOCAL_A, seen_b, hops[0]);
    town.world.advance(ms(60));
    if hops[0].ttl == Some(LOW_TTL) {
        let hops = Hops { ttl: Some(255), ..hops[0] };
        town.a.adjust(&mut town.world, one, hops);
    }
    town.world.advance(skew - ms(60));
    let other = town.b.connect_with(&mut town.world, LOCAL_B, seen_a, hops[1]);
    town.world.advance(Duration::from_secs(12));
    [(town.a, one), (town.b, other)].map(|(handle, socket)| {
        let (when, result) = handle.outcome(&mut town.world, socket)?;
        Some(result.map(|_| when - start))
    })
}

fn connected(ends: Ends) -> bool {
    ends.iter().all(|end| matches!(end, Some(Ok(_))))
}

#[test]
fn the_least_ttl_of_2_is_a_whole_shield_against_the_death_of_the_own_syn() {
    // T12: nobody needs to be told "64 again" for the retransmission to go the whole way.
    let opener = Hops { ttl: Some(LOW_TTL), least: Some(2) };
    let ends = once("masq", "masq", [opener, Hops::USUAL], ms(100));
    assert_eq!(ends, [Some(Ok(ms(160))), Some(Ok(ms(140)))]);
    // T7 is the same without the shield.
    let bare = Hops { ttl: Some(LOW_TTL), least: None };
    let ends = once("masq", "masq", [bare, Hops::USUAL], ms(100));
    assert_eq!(ends[0], Some(Err(IoFailure::HostUnreachable)));
}

#[test]
fn a_shield_against_near_answers_outlives_one_box_that_resets_and_not_two() {
    // T21: a's retransmission after 1 s meets the hole that b's SYN has made in the meantime.
    let ends = once("masq", "masq,in=reset", [SHIELD, SHIELD], ms(100));
    assert!(connected(ends), "{ends:?}");
    let first = ends[0].unwrap().unwrap();
    assert!(first >= ms(1000) && first <= ms(1200), "{first:?}");
    // T21b: each SYN ends the other side's mapping, and nobody ever hears of it.
    let ends = once("masq,in=reset", "masq,in=reset", [SHIELD, SHIELD], ms(100));
    assert_eq!(ends, [None, None]);
    // T22b, the control.
    let plain = [Hops::USUAL; 2];
    let ends = once("masq,in=reset", "masq,in=reset", plain, ms(100));
    assert_eq!(ends, [Some(Err(IoFailure::Refused)); 2]);
}

#[test]
fn a_shielded_opener_meets_every_pair_that_plain_sockets_lose() {
    // T22, T23b, and what was confirmed as an ordinary user on four pairs: with the opener the dialer
    // needs one round trip; without the shield or without the opener nobody gets anywhere.
    let opener = Hops { ttl: Some(LOW_TTL), least: Some(100) };
    let bare = Hops { ttl: Some(LOW_TTL), least: None };
    for (a, b, dialer, plain) in [
        ("masq,in=reset", "masq,in=reset", 40, false),
        ("masq,in=admin", "masq,in=reset", 40, false),
        ("masq,in=admin", "masq,in=admin", 40, false),
        ("masq", "masq,syn=strict", 40, true),
    ] {
        let ends = once(a, b, [opener, SHIELD], ms(100));
        assert_eq!(ends[1], Some(Ok(ms(100 + dialer))), "{a} × {b}: {ends:?}");
        assert!(connected(ends), "{a} × {b}: {ends:?}");
        assert!(!connected(once(a, b, [bare, Hops::USUAL], ms(100))), "{a} × {b} unshielded");
        assert_eq!(connected(once(a, b, [Hops::USUAL; 2], ms(100))), plain, "{a} × {b} plain");
    }
    // Where the news of the death costs the mapping, the retransmission makes another: 977 ms.
    let ends = once("masq,ttlx=kill", "masq,in=reset", [opener, SHIELD], ms(100));
    let late = ends[1].unwrap().unwrap();
    assert!(late >= ms(1000) && late <= ms(1140), "{late:?}");
}

#[test]
fn only_one_of_two_strict_sides_has_to_let_a_syn_in() {
    let time = |a: &str, b: &str| {
        let sites = [a, b].map(|text| text.parse().unwrap());
        Technique::ShieldedOpener.attempt(&sites[0], &sites[1], ms(0))
    };
    assert_eq!(time("masq", "masq,syn=strict"), Some(ms(120)));
    let flipped = time("masq,syn=strict", "masq").unwrap();
    assert!(flipped > ms(1000), "only the retransmission gets through: {flipped:?}");
    assert_eq!(time("masq,syn=strict", "masq,syn=strict"), None);
}
