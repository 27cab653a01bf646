//! Calls in which something goes wrong: lost, doubled and overtaking packets, forged RSTs in the middle of a
//! handshake, and programs that are killed at any moment. They end in a report, and leave nothing behind.

use std::time::Duration;

use ntcp_lab::host::Privileges;
use ntcp_lab::link::Quality;
use ntcp_lab::meeting::{Meeting, Setup};
use ntcp_lab::packet::{Packet, flag};
use ntcp_lab::presets::SITES;
use ntcp_lab::world::{HostId, ProcessId, World};
use ntcp_proto::node::{Event, Node};
use ntcp_proto::puncher::session::Path;
use ntcp_proto::segment::{Options, Segment};
use ntcp_proto::uri::TransportChoice;
use proptest::prelude::*;

const PATIENCE: Duration = Duration::from_secs(6);
/// NATs beside those of the matrix.
const FORGETFUL: [&str; 3] = [
    "port-restricted,rst=kill,ttlx=kill,unreach=kill,in=reset",
    "masq,syn=strict,in=reset",
    "masq,rst=kill,in=admin",
];

/// What happens to one call.
#[derive(Debug, Clone)]
struct Mishap {
    sites: [usize; 2],
    seed: u64,
    loss: f64,
    transport: TransportChoice,
    privileges: Privileges,
    /// When which side is killed, in milliseconds after the call.
    kill: Option<(u64, bool)>,
    /// When a segment is forged that resets whatever is being opened, likewise.
    resets: Vec<u64>,
}

fn site(index: usize) -> &'static str {
    SITES.iter().chain(&FORGETFUL).nth(index).copied().unwrap_or("masq")
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let sites = SITES.len() + FORGETFUL.len();
    let transport = prop_oneof![Just(TransportChoice::Tcp), Just(TransportChoice::Any)];
    let privileges = any::<(bool, bool)>().prop_map(|(raw, admin)| Privileges { raw, admin });
    let kill = proptest::option::of((0..5000u64, any::<bool>()));
    let resets = proptest::collection::vec(0..2000u64, 0..6);
    let loss = prop_oneof![Just(0.0), Just(0.05), Just(0.3)];
    ([0..sites, 0..sites], any::<u64>(), loss, transport, privileges, kill, resets).prop_map(
        |(sites, seed, loss, transport, privileges, kill, mut resets)| {
            resets.sort_unstable();
            Mishap { sites, seed, loss, transport, privileges, kill, resets }
        },
    )
}

/// Resets, in the name of the other end, the SYN that a host has sent last to anybody but a server.
fn reset_last(world: &mut World, forger: HostId) {
    let journeys = world.trace().journeys().iter().rev();
    let syn = journeys.take(200).find_map(|journey| {
        let packet = Packet::parse(&journey.stations.last()?.packet).ok()?;
        let fields = packet.tcp().filter(|it| it.has(flag::SYN) && !it.has(flag::ACK))?;
        let (source, destination) = (packet.source()?, packet.destination()?);
        let to_server = destination.ip().to_string().starts_with("203.0.113.");
        (!to_server).then_some((source, destination, fields.sequence))
    });
    let Some((source, destination, sequence)) = syn else { return };
    let segment = Segment {
        source: destination,
        destination: source,
        flags: flag::RST | flag::ACK,
        sequence: 0,
        acknowledgment: sequence.wrapping_add(1),
        window: 0,
        options: Options::default(),
    };
    world.forge(forger, &segment, 64);
}

fn has_ended(world: &mut World, caller: ProcessId<Node>, since: Duration) -> bool {
    let mut later = world.events(caller).iter().filter(|(at, _)| *at >= since);
    later.any(|(_, it)| matches!(it, Event::Connected(_) | Event::CallFailed { .. }))
}

fn suffer(mishap: &Mishap) {
    let [a, b] = mishap.sites.map(|index| site(index).parse().unwrap());
    let hold = Duration::from_millis(15);
    let access = Quality { duplication: 0.05, reordering: 0.05, hold, ..Quality::delay(hold) };
    let Mishap { seed, transport, privileges, .. } = *mishap;
    let setup = Setup { seed, transport, privileges, record: true, ..Setup::new(&a, &b) };
    let mut meeting = Meeting::new(&Setup { access, ..setup });
    let (world, nodes) = (&mut meeting.world, [meeting.a, meeting.b]);
    let forger = world.public_host("forger", &["203.0.113.66"], Quality::delay(hold));
    for host in meeting.hosts {
        world.set_cable(host, access.with_loss(mishap.loss));
    }
    let start = world.clock();
    let peer = "b".parse().unwrap();
    world.command(nodes[0], |node, now| node.call(peer, transport, PATIENCE, now));
    let mut alive = [true; 2];
    for at in 0..(PATIENCE.as_millis() as u64 + 1000) / 10 {
        if mishap.resets.iter().any(|it| it / 10 == at) {
            reset_last(world, forger);
        }
        if let Some((_, caller)) = mishap.kill.filter(|(when, _)| when / 10 == at) {
            let which = usize::from(!caller);
            world.kill(nodes[which]);
            alive[which] = false;
        }
        world.advance(Duration::from_millis(10));
    }
    let ended = has_ended(world, nodes[0], start);
    assert!(ended || !alive[0], "the call neither came through nor failed");
    for node in nodes.into_iter().zip(alive).filter(|(_, alive)| *alive).map(|(node, _)| node) {
        world.command(node, Node::stop);
        world.advance(Duration::from_secs(70));
        world.assert_finished(node);
        let streams = world.events(node).iter().filter(|(_, event)| {
            let tcp = |it: &Path| matches!(it, Path::Tcp { .. });
            matches!(event, Event::Connected(connected) if tcp(&connected.path))
        });
        let streams = streams.count();
        let open = world.open_sockets(node);
        assert!(open <= streams, "{open} sockets are open, {streams} of them handed out");
    }
}

#[test]
fn a_socket_that_is_pending_beside_a_stream_to_the_same_end_is_closed_with_the_rest() {
    suffer(&Mishap {
        sites: [23, 15],
        seed: 15_327_504_486_909_068_959,
        loss: 0.05,
        transport: TransportChoice::Any,
        privileges: Privileges::NONE,
        kill: Some((4959, true)),
        resets: vec![993, 1369],
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 16,
        ..ProptestConfig::with_cases(40)
    })]

    #[test]
    fn whatever_goes_wrong_a_call_ends_in_time_and_leaves_nothing_behind(mishap in mishap()) {
        suffer(&mishap);
    }
}
