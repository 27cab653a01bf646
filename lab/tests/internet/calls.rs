//! Calls between real nodes: how long they take, what they survive, and in which networks.

use std::time::Duration;

use ntcp_lab::link::Quality;
use ntcp_lab::meeting::{self, Meeting, Outcome, Setup};
use ntcp_lab::presets::Site;
use ntcp_lab::world::{HostId, World};
use ntcp_proto::candidate::Transport;
use ntcp_proto::node::{CallError, Event, MAX_SESSIONS, Node};
use ntcp_proto::puncher::report::Strategy;
use ntcp_proto::puncher::session::Path;
use ntcp_proto::uri::TransportChoice;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn site(text: &str) -> Site {
    text.parse().unwrap()
}

fn access() -> Quality {
    Quality::delay(ms(10))
}

fn reported(outcome: &Outcome) -> Duration {
    let elapsed = outcome.caller.as_ref().and_then(|it| it.report.elapsed_ms);
    Duration::from_secs_f64(elapsed.expect("a path") / 1000.0)
}

// --- time ----------------------------------------------------------------------------------------

#[test]
fn a_path_stands_exactly_at_the_limit_whatever_the_delay() {
    for (a, b) in [("masq", "port-restricted"), ("masq,in=reset", "masq,in=reset")] {
        for delay in [1, 5, 25, 50, 150] {
            for transport in [TransportChoice::Udp, TransportChoice::Tcp, TransportChoice::Any] {
                let access = Quality::delay(ms(delay));
                let setup = Setup { access, transport, ..Setup::new(&site(a), &site(b)) };
                let outcome = Meeting::new(&setup).call();
                let over = reported(&outcome).saturating_sub(setup.limit());
                // On short paths the openers get a head start.
                let lead = if delay < 5 { ms(5) } else { ms(0) };
                assert!(over <= lead, "{a} × {b}, {delay} ms, {transport}: {over:?} over");
            }
        }
    }
}

#[test]
fn a_callee_that_hears_of_the_call_late_costs_no_more_than_its_lateness() {
    for transport in [TransportChoice::Udp, TransportChoice::Tcp] {
        for skew in [30, 100, 300].map(ms) {
            let setup = Setup { skew, transport, ..Setup::new(&site("masq"), &site("masq")) };
            let took = reported(&Meeting::new(&setup).call());
            // The callee opens its NAT 2 d and the skew after the call, and may answer at once.
            assert!(took >= ms(60) + skew, "{transport} at {skew:?}: {took:?}");
            // TCP: the caller's SYN is gone by then, and the callee's is answered.
            assert!(took <= setup.limit() + skew + ms(40), "{transport} at {skew:?}: {took:?}");
        }
    }
}

#[test]
fn both_sides_hold_the_path_one_round_trip_after_the_limit() {
    let setup = Setup::new(&site("masq"), &site("masq"));
    for transport in [TransportChoice::Udp, TransportChoice::Tcp] {
        let outcome = Meeting::new(&Setup { transport, ..setup.clone() }).call();
        assert!(outcome.elapsed.unwrap() <= setup.limit() + ms(40), "{:?}", outcome.elapsed);
    }
}

#[test]
fn jitter_does_not_keep_two_nodes_apart() {
    for seed in 0..20 {
        let access = Quality { jitter: ms(4), ..access() };
        let setup = Setup { access, seed, ..Setup::new(&site("masq,in=open"), &site("masq")) };
        let outcome = Meeting::new(&setup).call();
        assert!(reported(&outcome) <= setup.limit() + ms(8 * 4 + 25), "seed {seed}");
    }
}

// --- loss ----------------------------------------------------------------------------------------

/// The seeds of 100 calls over lines that lose this share of all packets, of those that did not come
/// through.
fn lost_over_lossy_lines(loss: f64, (a, b): (&str, &str), transport: TransportChoice) -> Vec<u64> {
    let is_lost = |seed: &u64| {
        let (access, seed) = (access().with_loss(loss), *seed);
        let setup = Setup { access, seed, transport, ..Setup::new(&site(a), &site(b)) };
        Meeting::new(&setup).call().elapsed.is_none()
    };
    (0..100).filter(is_lost).collect()
}

#[test]
fn five_percent_loss_on_every_line_slows_but_never_prevents() {
    for transport in [TransportChoice::Udp, TransportChoice::Any, TransportChoice::Tcp] {
        let lost = lost_over_lossy_lines(0.05, ("port-restricted", "masq"), transport);
        assert_eq!(lost, Vec::<u64>::new(), "{transport:?}");
    }
}

/// A forecast needs samples, all of which may be lost or late, and a rule that comes out of those that
/// are left.
#[test]
fn two_percent_loss_on_every_line_never_prevents_where_ports_follow_one_another() {
    for pair in
        [("symmetric-seq", "symmetric-seq"), ("symmetric-step", "masq"), ("masq", "address-seq")]
    {
        let lost = lost_over_lossy_lines(0.02, pair, TransportChoice::Tcp);
        assert_eq!(lost, Vec::<u64>::new(), "{pair:?}");
    }
}

/// The seeds of 100 calls past a broker and STUN servers that lose this share of all packets, of those
/// that did not come through.
fn lost_past_lossy_servers(
    loss: f64,
    (a, b): (&str, &str),
    transport: TransportChoice,
) -> Vec<u64> {
    let is_lost = |seed: &u64| {
        let mut world = World::new(*seed);
        let services = meeting::serve(&mut world, access());
        for server in [services.broker_host].into_iter().chain(services.stun_hosts) {
            world.set_cable(server, access().with_loss(loss));
        }
        let hosts = [("a", a), ("b", b)].map(|(name, nat)| {
            let site = world.site(name, &site(nat), access());
            world.host(site, name)
        });
        let mut meeting = Meeting { transport, ..Meeting::between(world, hosts) };
        meeting.call().elapsed.is_none()
    };
    (0..100).filter(is_lost).collect()
}

#[test]
fn thirty_percent_loss_at_the_servers_slows_but_never_prevents() {
    for (a, b) in [("masq", "masq"), ("masq", "port-restricted"), ("port-restricted", "full-cone")]
    {
        for transport in [TransportChoice::Udp, TransportChoice::Any, TransportChoice::Tcp] {
            let lost = lost_past_lossy_servers(0.3, (a, b), transport);
            assert_eq!(lost, Vec::<u64>::new(), "{a} x {b} {transport:?}");
        }
    }
}

/// Everything goes over streams then, in which nothing passes what was lost.
#[test]
fn ten_percent_loss_at_the_servers_does_not_prevent_where_udp_is_blocked() {
    for pair in [("masq,udp=block", "masq"), ("masq", "masq,udp=block")] {
        let lost = lost_past_lossy_servers(0.1, pair, TransportChoice::Any);
        assert_eq!(lost, Vec::<u64>::new(), "{pair:?}");
    }
}

// --- networks ------------------------------------------------------------------------------------

/// A world of one carrier or home with two hosts in it.
fn one_home(nat: &str) -> (World, [HostId; 2]) {
    let mut world = World::new(1);
    meeting::serve(&mut world, access());
    let home = world.site("home", &site(nat), access());
    let hosts = ["a", "b"].map(|name| world.host(home, name));
    (world, hosts)
}

#[test]
fn two_hosts_of_one_home_meet_inside_it() {
    for transport in [TransportChoice::Udp, TransportChoice::Tcp] {
        let (world, hosts) = one_home("linux-random");
        let inner = world.addresses(hosts[1])[0];
        let mut meeting = Meeting::between(world, hosts);
        meeting.transport = transport;
        let outcome = meeting.call();
        let caller = outcome.caller.unwrap();
        let remote = match caller.path {
            Path::Tcp { ends, .. } => ends.remote,
            Path::Udp { remote, .. } => remote,
        };
        assert_eq!(remote.ip(), inner, "{transport}");
        assert_eq!(caller.report.strategy, Some(Strategy::Direct));
        // The broker is 20 ms away; the rest takes no time.
        let elapsed = caller.report.elapsed_ms.unwrap();
        assert!(elapsed <= 45.0, "{transport}: {elapsed}");
    }
}

#[test]
fn two_homes_with_the_same_private_range_do_not_take_themselves_for_the_peer() {
    for transport in [TransportChoice::Udp, TransportChoice::Tcp] {
        let mut world = World::new(1);
        meeting::serve(&mut world, access());
        let network = "192.168.0.0".parse().unwrap();
        let hosts = ["a", "b"].map(|name| {
            let home = world.site_on_lan(name, &site("masq"), access(), network);
            world.host(home, name)
        });
        assert_eq!(world.addresses(hosts[0]), world.addresses(hosts[1]));
        let mut meeting = Meeting::between(world, hosts);
        meeting.transport = transport;
        assert_eq!(reported(&meeting.call()), ms(80), "{transport}");
    }
}

#[test]
fn two_homes_of_one_carrier_need_its_hairpin() {
    for (carrier, works) in [("hairpin-cone", true), ("port-restricted", false)] {
        let mut world = World::new(1);
        meeting::serve(&mut world, access());
        let carrier = world.site("carrier", &site(carrier), access());
        let hosts = ["a", "b"].map(|name| {
            let home = world.site_behind(carrier, name, &site("masq"));
            world.host(home, name)
        });
        let mut meeting = Meeting::between(world, hosts);
        meeting.patience = ms(3000);
        assert_eq!(meeting.call().elapsed.is_some(), works);
    }
}

#[test]
fn ipv6_connects_where_ipv4_cannot() {
    for transport in [TransportChoice::Udp, TransportChoice::Tcp] {
        let mut world = World::new(1);
        meeting::serve(&mut world, access());
        let hosts = ["a", "b"].map(|name| {
            let home = world.site(name, &site("linux-random"), access());
            world.dual_stack_host(home, name)
        });
        let mut meeting = Meeting::between(world, hosts);
        meeting.transport = transport;
        let caller = meeting.call().caller.unwrap_or_else(|| panic!("{transport}: no path"));
        let remote = match caller.path {
            Path::Tcp { ends, .. } => ends.remote,
            Path::Udp { remote, .. } => remote,
        };
        assert!(remote.is_ipv6(), "{transport}: {remote}");
    }
}

#[test]
fn a_host_without_udp_is_reached_over_tcp() {
    let setup = Setup::new(&site("masq,udp=block"), &site("port-restricted"));
    let outcome = Meeting::new(&setup).call();
    assert_eq!(outcome.caller.unwrap().report.transport, Some(Transport::Tcp));
}

// --- what comes after ----------------------------------------------------------------------------

#[test]
fn a_tcp_path_is_a_stream_that_carries_the_applications_bytes_both_ways() {
    let transport = TransportChoice::Tcp;
    let setup = Setup { transport, ..Setup::new(&site("masq"), &site("port-restricted")) };
    let mut meeting = Meeting::new(&setup);
    let outcome = meeting.call();
    let socket = |path: &Path| match path {
        Path::Tcp { socket, .. } => *socket,
        Path::Udp { .. } => panic!("not a stream"),
    };
    let (a, b) = (meeting.a, meeting.b);
    let near = socket(&outcome.caller.unwrap().path);
    let near = meeting.world.take_stream(a, near).unwrap();
    let far = meeting.world.take_stream(b, socket(&outcome.callee.unwrap().path)).unwrap();
    let bytes: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
    meeting.world.send(near, &bytes);
    meeting.world.send(far, &bytes);
    meeting.world.advance(ms(5000));
    assert!(meeting.world.receive(far) == bytes);
    assert!(meeting.world.receive(near) == bytes);
}

#[test]
fn a_node_that_stops_leaves_nothing_behind() {
    let mut meeting = Meeting::new(&Setup::new(&site("masq"), &site("masq")));
    assert!(meeting.call().elapsed.is_some());
    meeting.world.advance(Duration::from_secs(5));
    for node in [meeting.a, meeting.b] {
        meeting.world.command(node, Node::stop);
        meeting.world.advance(Duration::from_secs(5));
        let events = meeting.world.events(node);
        assert!(matches!(events.last(), Some((_, Event::Stopped))), "{events:?}");
        meeting.world.assert_finished(node);
    }
}

#[test]
fn a_stopped_node_refuses_calls_and_opens_nothing_for_them() {
    let mut meeting = Meeting::new(&Setup::new(&site("masq"), &site("masq")));
    let node = meeting.a;
    meeting.world.command(node, Node::stop);
    meeting.world.advance(Duration::from_secs(5));
    meeting.world.command(node, |node, now| {
        let peer = "bob".parse().unwrap();
        node.call(peer, TransportChoice::Any, Duration::MAX, now);
    });
    meeting.world.advance(Duration::from_secs(5));
    let events = meeting.world.events(node);
    let refused =
        matches!(events.last(), Some((_, Event::CallFailed { error: CallError::Stopped, .. })));
    assert!(refused, "{events:?}");
    meeting.world.assert_finished(node);
}

#[test]
fn a_name_nobody_has_and_a_silent_broker_end_within_the_callers_patience() {
    let setup = Setup { patience: ms(4000), ..Setup::new(&site("masq"), &site("masq")) };
    let mut meeting = Meeting::new(&setup);
    let (a, b) = (meeting.a, meeting.b);
    meeting.world.command(b, Node::stop);
    meeting.world.advance(Duration::from_secs(1));
    let start = meeting.world.clock();
    let outcome = meeting.call();
    assert!(outcome.caller.is_none());
    let failed = meeting
        .world
        .events(a)
        .iter()
        .find_map(|(at, event)| matches!(event, Event::CallFailed { .. }).then_some(*at));
    assert!(failed.expect("the call fails") - start <= ms(4000));
}

#[test]
fn a_broker_that_restarts_is_found_again_and_established_paths_do_not_notice() {
    let mut world = World::new(1);
    let services = meeting::serve(&mut world, access());
    let hosts = ["a", "b"].map(|name| {
        let site = world.site(name, &site("port-restricted"), access());
        world.host(site, name)
    });
    let mut meeting = Meeting::between(world, hosts);
    meeting.transport = TransportChoice::Tcp;
    let first = meeting.call();
    let Path::Tcp { socket, .. } = first.caller.unwrap().path else { panic!("no stream") };
    let near = meeting.world.take_stream(meeting.a, socket).unwrap();
    let Path::Tcp { socket, .. } = first.callee.unwrap().path else { panic!("no stream") };
    let far = meeting.world.take_stream(meeting.b, socket).unwrap();

    meeting.world.kill_server(services.broker);
    meeting.world.advance(Duration::from_secs(5));
    meeting.world.send(near, b"still there?");
    meeting.world.advance(ms(100));
    assert_eq!(meeting.world.receive(far), b"still there?");
    meeting::start_broker(&mut meeting.world, services.broker_host);
    // A refresh finds out within 20 s that nobody knows us any more.
    meeting.world.advance(Duration::from_secs(30));
    let before = meeting.world.events(meeting.b).len();
    let peer = "b".parse().unwrap();
    let choice = TransportChoice::Any;
    meeting.world.command(meeting.a, |node, now| node.call(peer, choice, ms(5000), now));
    meeting.world.advance(Duration::from_secs(5));
    let news = &meeting.world.events(meeting.b)[before..];
    assert!(news.iter().any(|(_, event)| matches!(event, Event::Connected(_))), "{news:?}");
}

#[test]
fn a_nat_that_reboots_costs_the_registration_only_for_a_while() {
    let mut world = World::new(1);
    meeting::serve(&mut world, access());
    let sites = ["a", "b"].map(|name| world.site(name, &site("port-restricted"), access()));
    let hosts = [(sites[0], "a"), (sites[1], "b")].map(|(site, name)| world.host(site, name));
    let mut meeting = Meeting::between(world, hosts);
    for site in sites {
        meeting.world.reboot(site);
    }
    meeting.world.advance(Duration::from_secs(30));
    for transport in [TransportChoice::Udp, TransportChoice::Any] {
        meeting.transport = transport;
        let outcome = meeting.call();
        assert!(outcome.elapsed.is_some(), "{transport}: {:?}", outcome.report);
    }
}

#[test]
fn a_peer_that_was_killed_is_a_failed_call_and_no_hang() {
    let mut meeting = Meeting::new(&Setup::new(&site("masq"), &site("masq")));
    meeting.world.kill(meeting.b);
    let start = meeting.world.clock();
    assert!(meeting.call().caller.is_none());
    assert!(meeting.world.clock() - start <= meeting::PATIENCE);
}

#[test]
fn nodes_that_are_told_everything_twice_connect_once() {
    for transport in [TransportChoice::Udp, TransportChoice::Tcp, TransportChoice::Any] {
        let setup = Setup { transport, ..Setup::new(&site("port-restricted"), &site("masq")) };
        let mut meeting = Meeting::new(&setup);
        for node in [meeting.a, meeting.b] {
            meeting.world.tell_twice(node);
        }
        assert!(reported(&meeting.call()) <= setup.limit(), "{transport}");
        meeting.world.advance(Duration::from_secs(5));
        for node in [meeting.a, meeting.b] {
            let events = meeting.world.events(node);
            let connected = |(_, event): &&(Duration, Event)| matches!(event, Event::Connected(_));
            assert_eq!(events.iter().filter(connected).count(), 1, "{transport}: {events:?}");
        }
    }
}

#[test]
fn equal_seeds_give_equal_calls_packet_by_packet() {
    let run = |seed| {
        let access = Quality { jitter: ms(3), ..access().with_loss(0.03) };
        let sites = [site("linux-random"), site("full-cone")];
        let setup = Setup { seed, access, record: true, ..Setup::new(&sites[0], &sites[1]) };
        let mut meeting = Meeting::new(&setup);
        meeting.call();
        meeting.world.trace().fingerprint()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_node_that_opens_as_many_paths_as_it_may_says_so() {
    let site = site("linux-random");
    let mut meeting = Meeting::new(&Setup::new(&site, &site));
    let (a, patience) = (meeting.a, Duration::from_secs(60));
    for _ in 0..MAX_SESSIONS + 6 {
        let peer = "b".parse().unwrap();
        meeting.world.command(a, |node, now| {
            node.call(peer, TransportChoice::Udp, patience, now);
        });
        meeting.world.advance(ms(140));
    }
    let events = meeting.world.events(a);
    let errors = events.iter().filter_map(|(_, event)| match event {
        Event::CallFailed { error, .. } => Some(error.to_string()),
        _ => None,
    });
    let errors: Vec<_> = errors.collect();
    let named = |text: &str| errors.iter().filter(|error| error.contains(text)).count();
    let told = named("64 paths are being opened") + named("does not want to be called");
    assert!(told > 0 && told == errors.len(), "{errors:?}");
}
