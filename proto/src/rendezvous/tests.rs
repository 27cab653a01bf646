//! Peers and broker together, in virtual time.

mod forgers;
pub(crate) mod forging;
mod hints;
mod probing;

use std::time::Duration;

use super::world::{Sent, Weather, World};
use super::*;
use crate::candidate::Transport;
use crate::signal::client::{self, ConnectError, LossReason, RegistrationError};
use crate::signal::message::Note;
use crate::signal::{Punch, Role};
use crate::uri::PeerName;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn is_registered(event: &client::Event) -> bool {
    matches!(event, client::Event::Registered { .. })
}

fn is_punch(event: &client::Event) -> bool {
    matches!(event, client::Event::Punch { .. })
}

fn is_failed(event: &client::Event) -> bool {
    matches!(event, client::Event::ConnectFailed { .. })
}

/// Two registered peers, `a` and `b` away.
fn pair(seed: u64, a: Duration, b: Duration) -> World {
    let mut world = World::new(seed);
    world.registered(Some("alice"), a);
    world.registered(Some("bob"), b);
    world
}

#[test]
fn a_registration_takes_two_round_trips_and_measures_one() {
    let mut world = World::new(1);
    let peer = world.peer(Some("alice"), ms(20));
    world.start(peer);
    let at = world.run_until_event(peer, is_registered);
    assert_eq!(at, ms(80));
    let registered = world.peers[peer].events[0].1.clone();
    assert_eq!(
        registered,
        client::Event::Registered {
            observed: world.peers[peer].address,
            link: client::Link::Udp,
            broker: "198.51.100.1:6060".parse().unwrap(),
            rtt: ms(40),
            lease: Duration::from_secs(60),
            identity: client::BrokerIdentity::Unknown,
        }
    );
}

#[test]
fn both_peers_start_at_the_earliest_moment_possible() {
    for (a, b) in [(20, 20), (10, 80), (80, 10), (1, 250), (250, 1), (0, 0)] {
        let (a, b) = (ms(a), ms(b));
        let mut world = pair(2, a, b);
        let called = world.elapsed();
        world.call(0, "bob");
        world.run_for(Duration::from_secs(1));
        let (caller, callee) = (world.punches(0), world.punches(1));
        assert_eq!((caller.len(), callee.len()), (1, 1));
        let earliest = called + (a * 2).max(a + b);
        assert_eq!(caller[0].0, earliest, "caller at {a:?}, {b:?}");
        assert_eq!(callee[0].0, earliest, "callee at {a:?}, {b:?}");
    }
}

#[test]
fn the_two_orders_mirror_each_other() {
    let mut world = pair(3, ms(20), ms(30));
    world.call(0, "bob");
    world.run_for(ms(200));
    let (_, caller) = world.punches(0).remove(0);
    let (_, callee) = world.punches(1).remove(0);
    assert_eq!((caller.session, caller.secret), (callee.session, callee.secret));
    assert_eq!((caller.role, callee.role), (Role::Controlling, Role::Controlled));
    assert_eq!(caller.peer.as_ref().map(PeerName::as_str), Some("bob"));
    assert_eq!(callee.peer.as_ref().map(PeerName::as_str), Some("alice"));
    assert_eq!(caller.candidates, world.candidates(1));
    assert_eq!(callee.candidates, world.candidates(0));
    assert_eq!((caller.fingerprint.0[0], callee.fingerprint.0[0]), (1, 0));
    assert_eq!((caller.peer_rtt, callee.peer_rtt), (Some(ms(60)), Some(ms(40))));
    let answered = world.has_told(0, |it| matches!(it, client::Event::PeerAnswered { .. }));
    assert_eq!(answered, 1);
}

#[test]
fn the_broker_gives_no_peer_the_same_secret_twice() {
    let mut world = pair(4, ms(5), ms(5));
    world.call(0, "bob");
    world.call(0, "bob");
    world.run_for(ms(100));
    let orders = world.punches(0);
    assert_eq!(orders.len(), 2);
    assert_ne!(orders[0].1.session, orders[1].1.session);
    assert_ne!(orders[0].1.secret, orders[1].1.secret);
}

/// Calls under bad weather: how long each took from the call to the later start, and the skew.
fn calls_in(weather: Weather, calls: u64) -> Vec<(Duration, Duration)> {
    let mut results = Vec::new();
    for seed in 0..calls {
        let mut world = World::new(seed);
        world.weather = weather;
        world.registered(Some("alice"), ms(20));
        world.registered(Some("bob"), ms(20));
        let called = world.elapsed();
        world.call(0, "bob");
        world.run_until_event(0, |it| is_punch(it) || is_failed(it));
        world.run_for(Duration::from_secs(8));
        let (caller, callee) = (world.punches(0), world.punches(1));
        assert_eq!((caller.len(), callee.len()), (1, 1), "seed {seed}: told once each");
        let (one, other) = (caller[0].0, callee[0].0);
        results.push((one.max(other) - called, one.abs_diff(other)));
    }
    results.sort();
    results
}

#[test]
fn without_loss_every_call_is_as_fast_as_light_allows() {
    let results = calls_in(Weather::default(), 20);
    assert!(results.iter().all(|it| *it == (ms(40), ms(0))), "{results:?}");
}

#[test]
fn at_5_percent_loss_most_calls_are_as_fast_as_without() {
    let results = calls_in(Weather { lost: 50, ..Weather::default() }, 200);
    let untouched = results.iter().filter(|it| it.0 == ms(40)).count();
    assert!(untouched >= 190, "{untouched} of 200: {results:?}");
    assert!(results[199].0 < Duration::from_secs(1), "{results:?}");
}

#[test]
fn at_30_percent_loss_every_call_comes_about() {
    let results = calls_in(Weather { lost: 300, ..Weather::default() }, 200);
    assert!(results[100].0 <= ms(40), "half are not touched: {results:?}");
    assert!(results[199].0 < Duration::from_secs(4), "{results:?}");
}

#[test]
fn doubled_and_reordered_datagrams_are_told_once() {
    let weather = Weather { doubled: 500, jitter: ms(60), lost: 100 };
    assert_eq!(calls_in(weather, 100).len(), 100);
}

#[test]
fn equal_seeds_give_equal_runs() {
    let run = |seed| {
        let mut world = World::new(seed);
        world.weather = Weather { lost: 200, doubled: 200, jitter: ms(30) };
        world.registered(Some("alice"), ms(20));
        world.registered(Some("bob"), ms(35));
        world.call(0, "bob");
        world.run_for(Duration::from_secs(30));
        (world.sent, world.peers.into_iter().map(|it| it.events).collect::<Vec<_>>())
    };
    let (one, other) = (run(7), run(7));
    assert!(one.0 == other.0 && one.1 == other.1);
    assert!(run(8).0 != one.0);
}

#[test]
fn a_silent_udp_broker_is_asked_at_these_instants_and_tcp_after_300_ms() {
    let mut world = World::new(5);
    world.stop_broker();
    let peer = world.peer(Some("alice"), ms(20));
    world.peers[peer].udp = false;
    world.start(peer);
    let at =
        world.run_until_event(peer, |it| matches!(it, client::Event::RegistrationFailed { .. }));
    assert_eq!(at, Duration::from_secs(5));
    let udp = world.sent.iter().filter(|it| it.over == Transport::Udp && it.at < at);
    let asked: Vec<u128> = udp.map(|it| it.at.as_millis()).collect();
    assert_eq!(asked, [0, 100, 300, 700, 1200, 1700, 2200, 2700, 3200, 3700, 4200, 4700]);
    let (_, event) = &world.peers[peer].events[0];
    let client::Event::RegistrationFailed { error, .. } = event else { panic!("{event:?}") };
    let text = error.to_string();
    assert!(
        text.contains("UDP broker broker.example at 198.51.100.1:6060 did not answer"),
        "{text}"
    );
    assert!(text.contains("TCP broker broker.example at 198.51.100.1:9999: refused"), "{text}");
}

#[test]
fn with_udp_blocked_the_tcp_link_registers_one_connect_and_one_trip_after_300_ms() {
    let mut world = World::new(6);
    let peer = world.peer(Some("alice"), ms(20));
    world.peers[peer].udp = false;
    world.start(peer);
    let at = world.run_until_event(peer, is_registered);
    assert_eq!(at, ms(300 + 40 + 40));
    assert_eq!(world.peers[peer].client.broker().unwrap().1, client::Link::Tcp);
    assert_eq!(world.peers[peer].client.rtt(), Some(ms(40)));
}

#[test]
fn a_peer_on_tcp_and_a_peer_on_udp_call_each_other() {
    let mut world = World::new(7);
    let alice = world.peer(Some("alice"), ms(20));
    world.peers[alice].udp = false;
    world.start(alice);
    world.run_until_event(alice, is_registered);
    let bob = world.registered(Some("bob"), ms(30));
    for (caller, callee, name) in [(alice, bob, "bob"), (bob, alice, "alice")] {
        let (before, called) = (world.punches(callee).len(), world.elapsed());
        world.call(caller, name);
        world.run_for(ms(500));
        let (a, b) = (world.peers[caller].delay, world.peers[callee].delay);
        let earliest = called + (a * 2).max(a + b);
        assert_eq!(world.punches(caller).last().unwrap().0, earliest);
        assert_eq!(world.punches(callee)[before].0, earliest);
    }
}

#[test]
fn a_peer_whose_move_to_udp_nobody_confirmed_shows_a_nonce_on_its_stream_and_stays_there() {
    for sealed in [true, false] {
        let mut world = if sealed { World::sealed(33) } else { World::new(33) };
        let alice = world.peer(Some("alice"), ms(20));
        world.peers[alice].udp = false;
        world.start(alice);
        world.run_until_event(alice, is_registered);
        let remote = world.peers[alice].address;
        let broker = world.broker.as_mut().unwrap();
        let on = |broker: &Broker, link| broker.registry().on_link(link);
        let known = broker.registry().find(&"alice".parse().unwrap()).unwrap();
        let stream = broker.registry().get(known).unwrap().link();
        broker.relink(known, Link::Udp { local: None, remote });
        world.run_for(Duration::from_secs(25));
        let broker = world.broker.as_ref().unwrap();
        assert_eq!(on(broker, stream), Some(known));
        assert_eq!(broker.counters().stale_nonce, 1);
        let lost = |it: &client::Event| matches!(it, client::Event::RegistrationLost { .. });
        assert_eq!(world.has_told(alice, lost), 0);
    }
}

#[test]
fn a_peer_on_tcp_moves_to_udp_as_soon_as_that_passes() {
    let mut world = World::new(30);
    let alice = world.peer(Some("alice"), ms(20));
    world.peers[alice].udp = false;
    world.start(alice);
    world.run_until_event(alice, is_registered);
    world.registered(Some("bob"), ms(20));
    world.run_for(Duration::from_secs(5));
    world.peers[alice].udp = true;
    let at = world.run_until_event(alice, is_registered);
    assert!(at < Duration::from_secs(22), "with the next refresh, not at {at:?}");
    assert_eq!(world.peers[alice].client.broker().unwrap().1, client::Link::Udp);
    world.sent.clear();
    world.call(1, "alice");
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.punches(alice).len(), 1);
    assert!(world.sent.iter().all(|it| it.over == Transport::Udp));
    assert_eq!(world.broker.as_ref().unwrap().registered(), 2);
    let lost = |it: &client::Event| matches!(it, client::Event::RegistrationLost { .. });
    assert_eq!(world.has_told(alice, lost), 0);
}

#[test]
fn a_move_to_udp_survives_loss() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        let alice = world.peer(Some("alice"), ms(20));
        world.peers[alice].udp = false;
        world.start(alice);
        world.run_until_event(alice, is_registered);
        world.peers[alice].udp = true;
        world.weather = Weather { lost: 300, doubled: 100, jitter: ms(30) };
        world.run_for(Duration::from_secs(300));
        assert_eq!(world.peers[alice].client.broker().unwrap().1, client::Link::Udp, "{seed}");
    }
}

#[test]
fn a_registration_is_refreshed_every_20_seconds() {
    let mut world = World::new(8);
    world.registered(Some("alice"), ms(20));
    let registered = world.elapsed();
    world.sent.clear();
    world.run_for(Duration::from_secs(70));
    let mine = world.sent.iter().filter(|it| it.to_broker);
    let at: Vec<u128> = mine.map(|it| (it.at - registered).as_millis()).collect();
    assert_eq!(at, [20_000, 40_040, 60_080]);
    assert_eq!(world.broker.as_ref().unwrap().registered(), 1);
}

#[test]
fn a_peer_that_falls_silent_is_forgotten_when_its_lease_ends() {
    let mut world = pair(9, ms(20), ms(20));
    world.peers[1].alive = false;
    world.run_for(Duration::from_secs(59));
    assert_eq!(world.broker.as_ref().unwrap().registered(), 2);
    world.run_for(Duration::from_secs(2));
    let broker = world.broker.as_ref().unwrap();
    assert_eq!((broker.registered(), broker.counters().expired), (1, 1));
    world.call(0, "bob");
    world.run_until_event(0, is_failed);
    let (_, event) = world.peers[0].events.last().unwrap();
    let client::Event::ConnectFailed { error, .. } = event else { panic!("{event:?}") };
    assert!(matches!(error, ConnectError::UnknownPeer { .. }), "{error}");
}

#[test]
fn a_callee_that_registers_within_the_grace_is_met_at_once() {
    let mut world = World::new(10);
    let alice = world.registered(Some("alice"), ms(20));
    world.call(alice, "bob");
    world.run_for(ms(300));
    let bob = world.peer(Some("bob"), ms(30));
    world.start(bob);
    world.run_until_event(alice, is_punch);
    world.run_for(ms(500));
    // The broker learns of bob three of bob's trips after its start, and dispatches at once.
    let registered = world.peers[bob].events[0].0;
    let dispatched = registered - ms(30);
    assert_eq!(world.punches(alice)[0].0, dispatched + ms(30));
    assert_eq!(world.punches(bob)[0].0, dispatched + ms(30));
}

#[test]
fn a_callee_that_never_registers_fails_the_call_after_the_grace() {
    let mut world = World::new(11);
    let alice = world.registered(Some("alice"), ms(20));
    let called = world.elapsed();
    world.call(alice, "nobody");
    let at = world.run_until_event(alice, is_failed);
    assert_eq!(at - called, ms(2000 + 40));
    let (_, event) = world.peers[alice].events.last().unwrap();
    let client::Event::ConnectFailed { error, .. } = event else { panic!("{event:?}") };
    let text = error.to_string();
    assert!(text.contains("`nobody`") && text.contains("198.51.100.1:6060"), "{text}");
}

#[test]
fn a_call_made_before_the_registration_waits_for_it() {
    let mut world = World::new(12);
    world.registered(Some("bob"), ms(20));
    let alice = world.peer(None, ms(20));
    world.start(alice);
    world.call(alice, "bob");
    world.run_until_event(alice, is_punch);
    world.run_for(ms(100));
    assert_eq!(world.punches(0)[0].1.peer, None);
}

#[test]
fn a_dead_callee_is_told_to_the_caller() {
    let mut world = pair(13, ms(20), ms(20));
    world.peers[1].alive = false;
    world.call(0, "bob");
    world.run_until_event(0, is_punch);
    let refused = |it: &client::Event| {
        matches!(it, client::Event::PeerRefused { code: ErrorCode::NoAnswer, .. })
    };
    let at = world.run_until_event(0, refused);
    assert!(at < Duration::from_secs(6), "{at:?}");
    assert_eq!(world.broker.as_ref().unwrap().counters().unanswered, 1);
}

#[test]
fn a_callee_that_does_not_want_to_be_called_is_told_to_the_caller() {
    let mut world = pair(14, ms(20), ms(20));
    world.peers[1].client.set_availability(client::Availability::Declining);
    world.call(0, "bob");
    world.run_until_event(0, |it| {
        matches!(it, client::Event::PeerRefused { code: ErrorCode::Declined, .. })
    });
    assert!(world.punches(1).is_empty());
}

#[test]
fn the_name_of_a_living_peer_cannot_be_taken() {
    let mut world = World::new(15);
    world.registered(Some("alice"), ms(20));
    let thief = world.peer(Some("alice"), ms(20));
    let started = world.elapsed();
    world.start(thief);
    let at =
        world.run_until_event(thief, |it| matches!(it, client::Event::RegistrationFailed { .. }));
    let waited = at - started;
    assert!(waited >= Duration::from_secs(3) && waited < ms(3500), "{waited:?}");
    let (_, event) = world.peers[thief].events.last().unwrap();
    let client::Event::RegistrationFailed { error, .. } = event else { panic!("{event:?}") };
    assert!(matches!(error, RegistrationError::NameTaken { .. }) && error.is_final(), "{error}");
    assert_eq!(world.has_told(0, |_| true), 1, "the holder notices nothing");
}

#[test]
fn the_name_of_a_dead_peer_is_free_within_two_seconds() {
    let mut world = World::new(16);
    world.registered(Some("alice"), ms(20));
    world.peers[0].alive = false;
    let heir = world.peer(Some("alice"), ms(20));
    let started = world.elapsed();
    world.start(heir);
    let at = world.run_until_event(heir, is_registered);
    assert!(at - started < Duration::from_secs(2), "{:?}", at - started);
}

#[test]
fn a_peer_restarted_on_the_same_port_takes_its_place_at_once() {
    let mut world = World::new(17);
    world.registered(Some("alice"), ms(20));
    world.peers[0].alive = false;
    let again = world.peer(Some("alice"), ms(20));
    world.peers[again].address = world.peers[0].address;
    world.peers[0].address = "192.0.2.99:1".parse().unwrap();
    let started = world.elapsed();
    world.start(again);
    let at = world.run_until_event(again, is_registered);
    assert_eq!(at - started, ms(80));
}

#[test]
fn a_restarted_broker_is_noticed_and_the_next_call_works() {
    let mut world = pair(18, ms(20), ms(20));
    world.restart_broker(99);
    world.run_for(Duration::from_secs(25));
    for peer in 0..2 {
        let lost = |it: &client::Event| {
            *it == client::Event::RegistrationLost { reason: LossReason::Unknown }
        };
        assert_eq!(world.has_told(peer, lost), 1);
        assert_eq!(world.has_told(peer, is_registered), 2);
    }
    world.call(0, "bob");
    world.run_until_event(0, is_punch);
}

#[test]
fn a_call_right_after_a_broker_restart_registers_anew_and_waits_for_the_callee() {
    let mut world = pair(19, ms(20), ms(20));
    world.run_for(Duration::from_secs(19));
    world.restart_broker(98);
    let called = world.elapsed();
    world.call(0, "bob");
    let at = world.run_until_event(0, is_punch);
    assert!(at - called < Duration::from_secs(2), "{:?}", at - called);
    world.run_for(ms(200));
    assert_eq!(world.punches(1).len(), 1);
}

#[test]
fn streams_that_break_with_the_broker_are_made_anew() {
    let mut world = World::new(20);
    let alice = world.peer(Some("alice"), ms(20));
    world.peers[alice].udp = false;
    world.start(alice);
    world.run_until_event(alice, is_registered);
    world.restart_broker(97);
    let lost = world.run_until_event(alice, |it| {
        matches!(it, client::Event::RegistrationLost { reason: LossReason::LinkBroke(_) })
    });
    let at = world.run_until_event(alice, is_registered);
    assert!(at - lost < Duration::from_secs(2), "{:?}", at - lost);
}

#[test]
fn a_broker_that_stops_lets_its_peers_go_and_they_are_back_within_a_second() {
    let mut world = pair(23, ms(20), ms(20));
    let carol = world.peer(Some("carol"), ms(20));
    world.peers[carol].udp = false;
    world.start(carol);
    world.run_until_event(carol, is_registered);
    let now = world.now;
    let broker = world.broker.as_mut().unwrap();
    broker.dismiss_all(now);
    world.ask_broker("198.51.100.77:1".parse().unwrap(), b"");
    let broker = world.broker.as_ref().unwrap();
    assert!(broker.is_deserted());
    assert_eq!(broker.counters().dismissed, 3);
    let stopped = world.elapsed();
    world.run_for(ms(100));
    world.restart_broker(95);
    world.run_for(ms(900));
    for peer in [0, 1, carol] {
        let lost = |it: &client::Event| {
            *it == client::Event::RegistrationLost { reason: LossReason::Dismissed }
        };
        assert_eq!(world.has_told(peer, lost), 1, "{peer}: {:?}", world.peers[peer].events);
        assert_eq!(world.has_told(peer, is_registered), 2, "{peer}");
    }
    assert!(world.elapsed() - stopped <= Duration::from_secs(1));
    world.call(0, "bob");
    world.run_until_event(0, is_punch);
}

#[test]
fn a_broker_that_stops_settles_its_calls_first_and_takes_nobody_new() {
    let mut world = pair(24, ms(20), ms(20));
    world.call(0, "bob");
    while world.broker.as_ref().unwrap().counters().ordered == 0 {
        world.run_for(ms(1));
    }
    let now = world.now;
    world.broker.as_mut().unwrap().dismiss_all(now);
    let dave = world.peer(Some("dave"), ms(20));
    world.start(dave);
    assert_eq!(world.broker.as_ref().unwrap().registered(), 2);
    world.run_for(ms(200));
    assert_eq!((world.punches(0).len(), world.punches(1).len()), (1, 1));
    let broker = world.broker.as_ref().unwrap();
    assert!(broker.is_deserted());
    assert_eq!((broker.counters().accepted, broker.counters().dismissed), (1, 2));
    assert_eq!(world.has_told(dave, is_registered), 0);
}

#[test]
fn a_broker_that_is_away_for_minutes_is_found_again() {
    let mut world = World::new(21);
    let alice = world.registered(Some("alice"), ms(20));
    world.stop_broker();
    world.run_for(Duration::from_secs(180));
    assert_eq!(world.has_told(alice, |it| matches!(it, client::Event::RegistrationLost { .. })), 1);
    let attempts =
        world.has_told(alice, |it| matches!(it, client::Event::RegistrationFailed { .. }));
    assert!((5..15).contains(&attempts), "{attempts}");
    world.restart_broker(96);
    let back = world.elapsed();
    let at = world.run_until_event(alice, is_registered);
    assert!(at - back < Duration::from_secs(36), "{:?}", at - back);
}

#[test]
fn a_new_mapping_is_told_and_taken_over() {
    let mut world = pair(22, ms(20), ms(20));
    let before = world.peers[1].address;
    let after = "192.0.2.2:41000".parse().unwrap();
    world.peers[1].address = after;
    let changed = client::Event::ObservedAddressChanged { before, after };
    world.run_until_event(1, |it| *it == changed);
    world.call(0, "bob");
    world.run_until_event(1, is_punch);
    assert_eq!(world.has_told(1, is_registered), 1, "the registration stood all the time");
}

#[test]
fn new_candidates_are_shown_to_the_next_caller() {
    let mut world = pair(23, ms(20), ms(20));
    let mut candidates = world.candidates(1);
    candidates[0].address.set_port(7);
    let told = candidates.clone();
    world.with(1, |client, now| client.update_candidates(told, Default::default(), now));
    world.run_for(ms(100));
    world.call(0, "bob");
    world.run_until_event(0, is_punch);
    assert_eq!(world.punches(0)[0].1.candidates, candidates);
}

#[test]
fn the_last_of_many_changes_is_shown_under_any_weather() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        world.weather = Weather { lost: 300, doubled: 300, jitter: ms(100) };
        let alice = world.peer(Some("alice"), ms(20));
        world.start(alice);
        let mut candidates = world.candidates(alice);
        for port in 1..=8 {
            world.run_for(ms(60));
            candidates[0].address.set_port(port);
            let told = candidates.clone();
            world.with(alice, |client, now| {
                client.update_candidates(told, Default::default(), now);
            });
        }
        world.run_for(Duration::from_secs(15));
        let broker = world.broker.as_ref().unwrap();
        let id = broker.registry().find(&"alice".parse().unwrap()).unwrap();
        assert_eq!(broker.registry().get(id).unwrap().candidates(), candidates, "seed {seed}");
    }
}

#[test]
fn candidates_found_while_the_registration_travels_are_shown_too() {
    let mut world = World::new(24);
    world.registered(Some("alice"), ms(20));
    let bob = world.peer(Some("bob"), ms(20));
    world.start(bob);
    // The Register that will be answered has left, its answer has not come yet.
    world.run_for(ms(70));
    assert_eq!(world.has_told(bob, is_registered), 0);
    let mut candidates = world.candidates(bob);
    candidates[0].address.set_port(7);
    let told = candidates.clone();
    world.with(bob, |client, now| client.update_candidates(told, Default::default(), now));
    world.run_for(ms(100));
    world.call(0, "bob");
    world.run_until_event(0, is_punch);
    assert_eq!(world.punches(0)[0].1.candidates, candidates);
}

/// The callee gathers for `gathers`; returns the orders of both.
fn fresh_round(world: &mut World, gathers: Duration) -> ((Duration, Punch), (Duration, Punch)) {
    world.call_round(0, "bob", crate::signal::Round(2));
    world.run_until_event(1, |it| matches!(it, client::Event::Gather { .. }));
    world.run_for(gathers);
    let asked = |(_, event): &(Duration, client::Event)| match event {
        client::Event::Gather { session, .. } => Some(*session),
        _ => None,
    };
    let session = world.peers[1].events.iter().find_map(asked).unwrap();
    let mut fresh = world.candidates(1);
    fresh[0].address.set_port(8);
    world.with(1, |client, now| client.answer(session, fresh, now));
    world.run_for(Duration::from_secs(5));
    let (mut caller, mut callee) = (world.punches(0), world.punches(1));
    assert_eq!((caller.len(), callee.len()), (1, 1));
    (caller.remove(0), callee.remove(0))
}

#[test]
fn a_later_round_gathers_anew_and_both_start_together() {
    let mut world = pair(24, ms(20), ms(50));
    let (caller, callee) = fresh_round(&mut world, ms(300));
    assert_eq!(caller.0, callee.0);
    assert_eq!(caller.1.candidates[0].address.port(), 8);
    assert_eq!(caller.1.session, callee.1.session);
    assert!(caller.1.round.is_fresh() && callee.1.round.is_fresh());
}

#[test]
fn a_later_round_survives_loss() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        world.weather = Weather { lost: 300, ..Weather::default() };
        world.registered(Some("alice"), ms(20));
        world.registered(Some("bob"), ms(20));
        fresh_round(&mut world, ms(100));
    }
}

#[test]
fn a_callee_that_gathers_for_ever_fails_the_call() {
    let mut world = pair(25, ms(20), ms(20));
    world.call_round(0, "bob", crate::signal::Round(2));
    world.run_until_event(0, is_failed);
    let (_, event) = world.peers[0].events.last().unwrap();
    let client::Event::ConnectFailed { error, .. } = event else { panic!("{event:?}") };
    assert!(matches!(error, ConnectError::NoAnswer { .. }), "{error}");
}

#[test]
fn a_peer_that_leaves_is_gone_at_once_and_its_client_is_finished() {
    let mut world = pair(26, ms(20), ms(20));
    world.with(1, client::Client::unregister);
    world.run_until_event(1, |it| *it == client::Event::Unregistered);
    assert_eq!(world.broker.as_ref().unwrap().registered(), 1);
    assert_eq!(world.peers[1].client.poll_timeout(), None);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.peers[1].events.last().unwrap().1, client::Event::Unregistered);
}

#[test]
fn a_client_that_leaves_a_dead_broker_is_finished_within_a_second() {
    let mut world = World::new(27);
    let alice = world.registered(Some("alice"), ms(20));
    world.stop_broker();
    world.with(alice, client::Client::unregister);
    let left = world.elapsed();
    let at = world.run_until_event(alice, |it| *it == client::Event::Unregistered);
    assert_eq!(at - left, Duration::from_secs(1));
}

#[test]
fn a_broker_without_an_address_is_named() {
    let mut world = World::new(28);
    world.resolves = false;
    let alice = world.peer(Some("alice"), ms(20));
    world.start(alice);
    world.call(alice, "bob");
    world.run_until_event(alice, is_failed);
    let (_, event) = &world.peers[alice].events[0];
    let client::Event::ConnectFailed { error, .. } = event else { panic!("{event:?}") };
    let text = error.to_string();
    assert!(text.contains("broker.example has no address (unknown host name)"), "{text}");
}

#[test]
fn a_canceled_call_tells_nothing_more() {
    let mut world = pair(29, ms(20), ms(20));
    let request = world.call(0, "bob");
    world.with(0, |client, now| client.cancel(request, now));
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.peers[0].events.len(), 1);
}

/// What a peer has heard from the other one of a meeting, as (time, serial of the note).
fn news(world: &World, peer: usize) -> Vec<(Duration, u8)> {
    let of_event = |(at, event): &(Duration, client::Event)| match event {
        client::Event::PeerNews { note, .. } => Some((*at, note.as_bytes()[0])),
        _ => None,
    };
    world.peers[peer].events.iter().filter_map(of_event).collect()
}

fn publish(world: &mut World, peer: usize, session: SessionId, serial: u8) {
    let note = Note::new(&[serial]).unwrap();
    world.with(peer, |client, now| client.publish(session, Vec::new(), note, now));
}

/// Two peers that have their orders and follow their meeting.
fn meeting(seed: u64, weather: Weather) -> (World, SessionId) {
    let mut world = pair(seed, ms(20), ms(20));
    world.call(0, "bob");
    world.run_for(ms(200));
    let (_, punch) = world.punches(0).remove(0);
    for peer in [0, 1] {
        world.with(peer, |client, _| client.follow(punch.session, Some(ms(40))));
    }
    world.weather = weather;
    (world, punch.session)
}

#[test]
fn news_reach_the_other_peer_at_once_and_are_not_repeated_once_heard() {
    let (mut world, session) = meeting(30, Weather::default());
    let told = world.elapsed();
    publish(&mut world, 0, session, 1);
    world.run_for(Duration::from_secs(20));
    assert_eq!(news(&world, 1), [(told + ms(40), 1)]);
    let relayed = world.broker.as_ref().unwrap().counters().relayed;
    assert_eq!(relayed, 2, "there, and that it was heard");
}

#[test]
fn the_last_news_of_both_are_heard_though_half_of_all_datagrams_are_lost() {
    for seed in 31..51 {
        let (mut world, session) = meeting(seed, Weather { lost: 500, ..Weather::default() });
        for serial in 1..=3 {
            publish(&mut world, 0, session, serial);
            publish(&mut world, 1, session, 10 + serial);
            world.run_for(ms(30));
        }
        world.run_for(Duration::from_secs(10));
        let last = |peer| news(&world, peer).last().map(|it| it.1);
        assert_eq!((last(0), last(1)), (Some(13), Some(3)), "seed {seed}");
        let ascending = |peer| news(&world, peer).windows(2).all(|it| it[0].1 < it[1].1);
        assert!(ascending(0) && ascending(1), "nothing twice, nothing old after something new");
    }
}

#[test]
fn news_to_a_peer_that_is_gone_end() {
    let (mut world, session) = meeting(52, Weather::default());
    world.peers[1].alive = false;
    publish(&mut world, 0, session, 1);
    world.run_for(Duration::from_secs(14));
    let relays = |it: &&Sent| it.peer == 0 && it.to_broker && it.payload[..2] == [0x02, 0xF8];
    let sent = world.sent.iter().filter(relays).count();
    assert!((8..=32).contains(&sent), "{sent}");
}
