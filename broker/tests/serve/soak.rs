//! Thousands of peers come and go, brokers are restarted beside: memory and descriptors of the one that stays are flat.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ntcp_proto::signal::message::Body;

use crate::cluster::{Database, until};
use crate::peer::{Manner, Peer, Socket, connect};
use crate::program::{Program, get, sample};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ntcp-broker");
/// How long crowds come before the first measurement, and before the second.
const WARM_UP: Duration = Duration::from_secs(4);
const SOAK: Duration = Duration::from_secs(10);
/// Peers that come together.
const CROWD: usize = 150;
/// The shortest lease that a broker grants.
const LEASE: Duration = Duration::from_secs(5);

struct Broker {
    program: Program,
    udp: SocketAddr,
    tcp: SocketAddr,
    metrics: SocketAddr,
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    memory: u64,
    descriptors: usize,
}

impl Broker {
    fn start(database: &Database) -> Self {
        let any = "127.0.0.1:0";
        let key = database.folder.0.join("broker.key");
        let environment = [
            ("NTCP_SECURITY__PLAIN", "true"),
            ("NTCP_SECURITY__KEY", key.to_str().unwrap()),
            ("NTCP_REGISTRY__URL", &database.url()),
            ("NTCP_LOG__LEVEL", "info"),
        ];
        let arguments = ["--udp", any, "--tcp", any, "--metrics", any];
        let mut program = Program::start(PROGRAM, &arguments, &environment);
        let metrics = program.address_after("status on http://");
        let udp = program.address_after("listening on UDP address=");
        let tcp = program.address_after("listening on TCP address=");
        Self { program, udp, tcp, metrics }
    }

    fn peers(&self) -> u64 {
        sample(&get(self.metrics, "/metrics").2, "ntcp_broker_peers")
    }

    /// What it holds once everybody has left.
    fn held_when_empty(&self) -> Held {
        until("everybody has left", || (self.peers() == 0).then_some(()));
        let of = |what: &str| format!("/proc/{}/{what}", self.program.pid());
        let pages = std::fs::read_to_string(of("statm")).unwrap();
        let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
        let descriptors = std::fs::read_dir(of("fd")).unwrap().count();
        Held { memory: pages * 4096, descriptors }
    }
}

/// One of a crowd: from an address of its own, over UDP or TCP, in the clear or sealed.
fn comes(broker: &Broker, number: usize) -> Peer {
    let [.., high, low] = number.to_be_bytes();
    let own = Ipv4Addr::new(127, 1, high, low.max(1));
    let socket = match number % 5 {
        0 => Socket::tcp(broker.tcp),
        _ => Socket::udp_from(own, broker.udp),
    };
    let manner = if number % 10 == 3 { Manner::sealed(low) } else { Manner::CLEAR };
    let manner = Manner { lease: LEASE, ..manner };
    Peer::register_as(socket, &format!("peer-{number}"), &manner).unwrap()
}

/// A crowd at both brokers: some call each other, and then a third leaves, a third falls silent, a third is cut off.
fn crowd(brokers: [&Broker; 2], first: usize) {
    let mut peers: Vec<Peer> = (0..CROWD)
        .map(|place| comes(brokers[usize::from(place % 3 == 2)], first + place))
        .collect();
    for (place, caller) in peers.iter_mut().take(CROWD / 10).enumerate() {
        let callee = format!("peer-{}", first + CROWD - 1 - place);
        caller.send(connect(&callee));
    }
    for peer in peers.iter_mut().step_by(3) {
        peer.send(Body::Unregister);
    }
}

#[test]
fn a_broker_through_which_thousands_pass_holds_no_more_than_before() {
    let database = Database::start();
    let stays = Broker::start(&database);
    let mut came = 0;
    let mut pass_for = |time: Duration| {
        let began = Instant::now();
        let mut other = Broker::start(&database);
        while began.elapsed() < time {
            for _ in 0..4 {
                crowd([&stays, &other], came);
                came += CROWD;
            }
            other.program.signal(Signal::SIGTERM);
            let ended = std::mem::replace(&mut other, Broker::start(&database));
            assert_eq!(ended.program.end().0, Some(0));
        }
        stays.held_when_empty()
    };
    let before = pass_for(WARM_UP);
    let after = pass_for(SOAK);
    assert!(came >= 2000, "only {came} have come");
    // A connection to the status page, or to the database, may just be ending.
    until("no more is open than before", || {
        (stays.held_when_empty().descriptors <= before.descriptors).then_some(())
    });
    assert!(after.memory <= before.memory + before.memory / 8, "{before:?} {after:?} of {came}");
    // What it counted is what came to it.
    let metrics = get(stays.metrics, "/metrics").2;
    assert_eq!(sample(&metrics, "ntcp_broker_registrations_total"), (came / 3 * 2) as u64);
}
