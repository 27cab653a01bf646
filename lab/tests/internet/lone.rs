//! Two punchers behind NATs that tell each other their candidates without a broker.

use std::time::Duration;

use ntcp_lab::link::Quality;
use ntcp_lab::meeting;
use ntcp_lab::world::{HostId, ProcessId, World};
use ntcp_proto::puncher::{Agreement, Event, Puncher};
use ntcp_proto::signal::{Role, SessionSecret};
use ntcp_proto::uri::{HostPort, TransportChoice};

const LINE: Duration = Duration::from_millis(10);

fn start(world: &mut World, host: HostId) -> ProcessId<Puncher> {
    let stun = ["stun1", "stun2"].map(|host| HostPort { host: host.into(), port: None });
    let puncher = Puncher::new(&stun, 0, world.draw_seed(), world.now());
    world.run(host, puncher)
}

fn established(world: &mut World, puncher: ProcessId<Puncher>) -> Option<Duration> {
    let events = world.events(puncher).iter();
    events.clone().find(|(_, it)| matches!(it, Event::Established { .. })).map(|(at, _)| *at)
}

/// The time from the agreed start until both have a path; `skew` is how much later the callee is.
fn met(a: &str, b: &str, transport: TransportChoice, skew: Duration) -> Option<Duration> {
    let access = Quality::delay(LINE);
    let mut world = World::new(1);
    meeting::serve(&mut world, access);
    let sides = [("a", a), ("b", b)].map(|(name, nat)| {
        let site = world.site(name, &nat.parse().unwrap(), access);
        let host = world.host(site, name);
        start(&mut world, host)
    });
    world.advance(Duration::from_secs(3));
    let candidates = sides.map(|side| world.machine(side).candidates());
    let start = world.now();
    for (side, role) in [(0, Role::Controlling), (1, Role::Controlled)] {
        let late = if role == Role::Controlled { skew } else { Duration::ZERO };
        let agreement = Agreement {
            secret: SessionSecret([3; 32]),
            role,
            candidates: candidates[1 - side].clone(),
            transport,
            start: start + late,
            deadline: start + Duration::from_secs(6),
        };
        world.command(sides[side], |puncher, now| puncher.meet(agreement, now));
    }
    let began = world.clock();
    world.advance(Duration::from_secs(7));
    let [one, other] = sides.map(|side| established(&mut world, side));
    Some(one?.max(other?) - began)
}

#[test]
fn two_homes_meet_within_a_round_trip_and_a_little_by_hand_too() {
    for transport in [TransportChoice::Udp, TransportChoice::Tcp] {
        let took = met("masq", "port-restricted", transport, Duration::ZERO).unwrap();
        assert!(took <= 4 * LINE + Duration::from_millis(25), "{transport:?}: {took:?}");
    }
}

#[test]
fn a_difference_between_the_two_starts_delays_but_does_not_prevent() {
    for (a, b) in [("masq", "masq"), ("masq,in=reset", "masq,in=reset"), ("masq,in=open", "masq")] {
        for skew in [0, 30, 100, 300].map(Duration::from_millis) {
            for transport in [TransportChoice::Udp, TransportChoice::Tcp] {
                let took = met(a, b, transport, skew);
                let limit = skew + Duration::from_secs(1);
                assert!(
                    took.is_some_and(|it| it <= limit),
                    "{a} x {b} {transport:?} {skew:?}: {took:?}"
                );
            }
        }
    }
}
