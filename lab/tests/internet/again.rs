//! One peer behind or before random ports that is called again and again, each time by a program that has just
//! been started: what the budget of the called one is good for, and what it says when it is spent.

use std::time::Duration;

use ntcp_lab::link::Quality;
use ntcp_lab::meeting::{self, Meeting, Setup};
use ntcp_lab::packet::{Packet, flag};
use ntcp_lab::trace::{Fate, Journey};
use ntcp_lab::world::{HostId, ProcessId, World};
use ntcp_proto::node::{Event, Node};
use ntcp_proto::puncher::Report;
use ntcp_proto::puncher::report::{Evidence, Outcome, Strategy};
use ntcp_proto::uri::TransportChoice;

const PATIENCE: Duration = Duration::from_secs(6);

/// A host that calls, and a peer that is called.
struct Street {
    world: World,
    caller: HostId,
    callee: HostId,
}

impl Street {
    fn new(a: &str, b: &str) -> Self {
        let access = Quality::delay(Duration::from_millis(10));
        let mut world = World::new(1);
        meeting::serve(&mut world, access);
        let [caller, callee] = [("a", a), ("b", b)].map(|(name, nat)| {
            let site = world.site(name, &nat.parse().unwrap(), access);
            world.host(site, name)
        });
        meeting::start_node(&mut world, callee, "b");
        world.advance(Duration::from_secs(5));
        Self { world, caller, callee }
    }

    /// A fresh program calls over TCP.
    fn call(&mut self) -> Report {
        let world = &mut self.world;
        let node = meeting::start_node(world, self.caller, "a");
        let ready = |world: &mut World| {
            world.events(node).iter().any(|(_, it)| matches!(it, Event::Ready { .. }))
        };
        world.advance_until(Duration::from_secs(8), ready);
        let peer = "b".parse().unwrap();
        world.command(node, |node, now| node.call(peer, TransportChoice::Tcp, PATIENCE, now));
        world.advance_until(PATIENCE * 2, |world| report(world, node).is_some());
        let report = report(world, node).expect("a call ends in time");
        world.command(node, Node::stop);
        world.advance(Duration::from_millis(300));
        report
    }
}

fn report(world: &mut World, node: ProcessId<Node>) -> Option<Report> {
    world.events(node).iter().find_map(|(_, event)| match event {
        Event::Connected(connected) => Some(connected.report.clone()),
        Event::CallFailed { report, .. } => Some(report.as_ref().clone()),
        _ => None,
    })
}

fn connected(report: &Report) -> bool {
    report.outcome == Outcome::Connected
}

#[test]
fn who_covers_for_the_same_peer_again_opens_few_new_holes() {
    let mut street = Street::new("linux-random", "port-restricted");
    let count = (0..60).filter(|_| connected(&street.call())).count();
    assert!(count >= 57, "{count} of 60");
}

#[test]
fn who_has_spent_its_budget_says_so_to_the_caller_and_when_it_is_worth_calling_again() {
    let mut street = Street::new("port-restricted", "linux-random");
    let mut reports = (0..20).map(|_| street.call());
    let before = reports.by_ref().take_while(connected).count();
    assert!(before >= 4, "{before} calls before the budget was spent");
    let failed = street.call();
    assert!(!connected(&failed), "the minute is not over");
    let spent = |it: &Evidence| matches!(it, Evidence::PeerBudgetSpent(_));
    let coverage = failed.attempts.iter().find(|it| it.strategy == Strategy::PortCoverage);
    assert!(coverage.is_some_and(|it| it.evidence.iter().any(spent)), "{coverage:#?}");
    assert!(failed.reason.as_ref().is_some_and(|it| it.contains("budget")), "{failed:#?}");
    let after = failed.retry_after_ms.expect("it says when");
    assert!(after < 61_000.0, "{after}");
    street.world.advance(Duration::from_secs_f64(after / 1e3));
    let second = street.call();
    assert!(connected(&second), "{second:#?}");
}

#[test]
fn the_first_call_meets_a_random_side_nearly_always_and_soon() {
    for (a, b) in [
        ("port-restricted", "linux-random"),
        ("linux-random", "port-restricted"),
        ("masq,in=reset", "linux-random"),
        ("linux-random", "masq,in=reset"),
    ] {
        let mut times: Vec<Duration> = Vec::new();
        for seed in 1..=40 {
            let sites = [a, b].map(|text| text.parse().unwrap());
            let transport = TransportChoice::Tcp;
            let setup = Setup::new(&sites[0], &sites[1]);
            let setup = Setup { transport, patience: PATIENCE, seed, ..setup };
            let report = Meeting::new(&setup).call().report.expect("a report");
            times.extend(report.elapsed_ms.map(|it| Duration::from_secs_f64(it / 1e3)));
        }
        times.sort();
        assert!(times.len() >= 39, "{a} calls {b}: {} of 40", times.len());
        let (half, most) = (times[20], times[37]);
        let soon = half < Duration::from_millis(1800) && most < Duration::from_millis(4000);
        println!("{a} calls {b}: {} of 40, {half:?} {most:?}", times.len());
        assert!(soon, "{a} calls {b}: p50 {half:?}, p95 {most:?}");
    }
}

/// The SYNs of a host since this journey that did not die on the way, and all of them.
fn far_syns(world: &World, host: HostId, since: usize) -> [usize; 2] {
    let place = world.place(host);
    let syn = |journey: &&Journey| {
        let fields = Packet::parse(&journey.stations[0].packet).ok().and_then(|it| it.tcp());
        journey.stations[0].place == place && fields.is_some_and(|it| it.flags == flag::SYN)
    };
    let syns: Vec<_> = world.trace().journeys()[since..].iter().filter(syn).collect();
    let died = |it: &&&Journey| matches!(&it.fate, Fate::Dropped(why) if why.contains("TTL"));
    let far = syns.iter().filter(|it| !died(it));
    [far.count(), syns.len()]
}

#[test]
fn holes_that_stay_open_sleep_until_the_same_peer_calls_again() {
    let mut street = Street::new("linux-random,in=reset", "port-restricted");
    street.world.record();
    assert!(connected(&street.call()));
    let (callee, before) = (street.callee, street.world.trace().journeys().len());
    street.world.advance(Duration::from_secs(20));
    let [far, all] = far_syns(&street.world, callee, before);
    assert!(all > 100, "they are there: {all}");
    assert_eq!(far, 0, "and nobody hears of them");
    assert!(connected(&street.call()), "and they wake");
}
