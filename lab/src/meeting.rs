//! Two nodes, a broker and STUN servers: the call whose success and time everything is about.
//!
//! ```text
//!   a ─ site a ═══ internet ═══ site b ─ b
//!                     ║
//!              broker, two STUN servers
//! ```
//!
//! All access lines have one delay, so that every one-way delay *d* between two hosts is twice that,
//! and the limit for a verified path is 4 *d* after the call: max(2a, a + b) until both know of each
//! other, and 2 *d* for a round trip between them.

use std::net::SocketAddr;
use std::time::Duration;

use ntcp_proto::entropy::Seed;
use ntcp_proto::node::{Config, Connected, Event, Node};
use ntcp_proto::puncher::Report;
use ntcp_proto::rendezvous::{self, Broker};
use ntcp_proto::secrecy::SecretKey;
use ntcp_proto::signal::client::{self, Secrecy, Trust};
use ntcp_proto::tcp_traversal::budget::Limits;
use ntcp_proto::tcp_traversal::plan::Privileges as TcpPrivileges;
use ntcp_proto::uri::{HostPort, PeerName, TransportChoice};

use crate::host::Privileges;
use crate::link::Quality;
use crate::presets::Site;
use crate::server::broker::BrokerServer;
use crate::server::stun::StunServer;
use crate::world::{HostId, ProcessId, ServerId, World};

/// The broker's host.
const BROKER: &str = "203.0.113.1";
/// The STUN servers' hosts, with two addresses each.
const STUN: [[&str; 2]; 2] = [["203.0.113.2", "203.0.113.3"], ["203.0.113.4", "203.0.113.5"]];
/// How long registration and gathering may take before the call.
const PREPARATION: Duration = Duration::from_secs(8);
/// How long a call may take: the default of the commands.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// What the nodes have learned is known to the broker by then.
const SETTLING: Duration = Duration::from_secs(1);

/// What is to be tried.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The caller's site.
    pub a: Site,
    /// The callee's site.
    pub b: Site,
    /// Quality of every access line, each way.
    pub access: Quality,
    /// Which transports may be used.
    pub transport: TransportChoice,
    /// How long the caller tries; [`PATIENCE`] by default.
    pub patience: Duration,
    /// Decides all randomness.
    pub seed: u64,
    /// Keep a trace.
    pub record: bool,
    /// How much later than from the caller what the servers say arrives at the callee, from the call
    /// on.
    pub skew: Duration,
    /// What both nodes may do beyond what everybody may.
    pub privileges: Privileges,
    /// Whether both nodes know, and tell, what their NATs do.
    pub informed: bool,
    /// What the broker may do.
    pub broker: rendezvous::Config,
}

impl Setup {
    /// Clean lines of 10 ms, both transports.
    pub fn new(a: &Site, b: &Site) -> Self {
        Self {
            a: a.clone(),
            b: b.clone(),
            access: Quality::delay(Duration::from_millis(10)),
            transport: TransportChoice::Any,
            patience: PATIENCE,
            seed: 1,
            record: false,
            skew: Duration::ZERO,
            privileges: Privileges::NONE,
            informed: false,
            broker: rendezvous::Config::default(),
        }
    }

    /// The earliest moment after the call at which a path can be known to stand at both ends.
    pub fn limit(&self) -> Duration {
        8 * self.access.delay
    }
}

/// Two nodes in a world.
pub struct Meeting {
    /// The world.
    pub world: World,
    /// The caller.
    pub a: ProcessId<Node>,
    /// The callee.
    pub b: ProcessId<Node>,
    /// Their hosts, the caller's first.
    pub hosts: [HostId; 2],
    /// Which transports a call may use.
    pub transport: TransportChoice,
    /// How long the caller tries.
    pub patience: Duration,
}

/// How a call ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Until both sides had a path, after the call; `None` if one of them got none.
    pub elapsed: Option<Duration>,
    /// What the caller got.
    pub caller: Option<Connected>,
    /// What the callee got.
    pub callee: Option<Connected>,
    /// The caller's report.
    pub report: Option<Report>,
}

impl Meeting {
    /// The world of `setup`, its nodes registered and ready to call, or as far as they came.
    pub fn new(setup: &Setup) -> Self {
        let mut world = World::new(setup.seed);
        if setup.record {
            world.record();
        }
        serve_with(&mut world, setup.access, setup.broker.clone());
        let hosts = [("a", &setup.a), ("b", &setup.b)].map(|(name, site)| {
            let site = world.site(name, site, setup.access);
            (world.host(site, name), site)
        });
        let callee = hosts[1].1;
        let hosts = hosts.map(|(host, _)| host);
        hosts.iter().for_each(|host| world.grant(*host, setup.privileges));
        let mut meeting = Self::between(world, hosts);
        let held = setup.privileges;
        let privileges = TcpPrivileges { assume: held.admin, capture: held.raw, inject: held.raw };
        for node in [meeting.a, meeting.b] {
            meeting.world.command(node, |node, _| node.set_privileges(privileges));
        }
        if setup.informed {
            for (node, site) in [(meeting.a, &setup.a), (meeting.b, &setup.b)] {
                let known = site.declared();
                meeting.world.command(node, |node, now| node.set_nat(known, now));
            }
            meeting.world.advance(SETTLING);
        }
        if !setup.skew.is_zero() {
            meeting.world.set_lag(callee, setup.access, setup.skew);
        }
        Self { transport: setup.transport, patience: setup.patience, ..meeting }
    }

    /// A meeting of these two hosts of a world that is [served](serve).
    pub fn between(mut world: World, hosts: [HostId; 2]) -> Self {
        let [a, b] = [(hosts[0], "a"), (hosts[1], "b")]
            .map(|(host, name)| start_node(&mut world, host, name));
        world.advance_until(PREPARATION, |world| {
            [a, b].into_iter().all(|node| is_ready(world, node))
        });
        world.advance(SETTLING);
        Self { world, a, b, hosts, transport: TransportChoice::Any, patience: PATIENCE }
    }

    /// `a` calls `b`; ends when both have a path, or the caller's patience is over.
    pub fn call(&mut self) -> Outcome {
        let (start, transport, patience) = (self.world.clock(), self.transport, self.patience);
        let peer: PeerName = "b".parse().expect("a name");
        self.world.command(self.a, |node, now| node.call(peer, transport, patience, now));
        let (a, b) = (self.a, self.b);
        self.world.advance_until(patience + Duration::from_secs(1), |world| {
            let both = path(world, a, start).is_some() && path(world, b, start).is_some();
            both || failed(world, a, start).is_some()
        });
        let (caller, callee) = (path(&mut self.world, a, start), path(&mut self.world, b, start));
        let elapsed = caller.as_ref().zip(callee.as_ref()).map(|(a, b)| a.0.max(b.0) - start);
        let (caller, callee) = (caller.map(|it| it.1), callee.map(|it| it.1));
        let report = caller.as_ref().map(|it| it.report.clone());
        let report = report.or_else(|| failed(&mut self.world, a, start));
        Outcome { elapsed, caller, callee, report }
    }
}

/// The broker of a world, so that something can happen to it.
#[derive(Debug, Clone, Copy)]
pub struct Services {
    /// The broker's host.
    pub broker_host: HostId,
    /// The broker itself.
    pub broker: ServerId,
    /// The STUN servers' hosts.
    pub stun_hosts: [HostId; 2],
}

/// Starts the broker and two STUN servers.
pub fn serve(world: &mut World, access: Quality) -> Services {
    serve_with(world, access, rendezvous::Config::default())
}

/// The same, with a broker of these limits.
pub fn serve_with(world: &mut World, access: Quality, config: rendezvous::Config) -> Services {
    let broker_host = world.public_host("broker", &[BROKER], access);
    let broker = start_broker_with(world, broker_host, config);
    let stun_hosts =
        [("stun1", STUN[0]), ("stun2", STUN[1])].map(|(name, [primary, alternate])| {
            let host = world.public_host(name, &[primary, alternate], access);
            let (server, addresses) = StunServer::new(end(primary, 3478), end(alternate, 3479))
                .expect("two addresses with two ports");
            world.serve(host, Box::new(server), &addresses, &addresses);
            host
        });
    Services { broker_host, broker, stun_hosts }
}

/// Starts a broker with an empty memory on its host.
pub fn start_broker(world: &mut World, host: HostId) -> ServerId {
    start_broker_with(world, host, rendezvous::Config::default())
}

fn start_broker_with(world: &mut World, host: HostId, config: rendezvous::Config) -> ServerId {
    let (udp, tcp) = (end(BROKER, client::DEFAULT_UDP_PORT), end(BROKER, client::DEFAULT_TCP_PORT));
    // The same one when it is started again, or its peers would take it for another broker.
    let keys = vec![SecretKey::from_bytes([0xB0; 32])];
    let broker = Broker::new(rendezvous::Config { keys, ..config }, world.draw_seed(), world.now());
    world.serve(host, Box::new(BrokerServer::new(broker, udp)), &[udp], &[tcp])
}

fn end(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), port)
}

/// Starts a node that registers as `name`.
pub fn start_node(world: &mut World, host: HostId, name: &str) -> ProcessId<Node> {
    let server = |host: &str| HostPort { host: host.into(), port: None };
    let fingerprint = fingerprint(world.draw_seed());
    let identity = SecretKey::from_bytes(fingerprint.0);
    let secrecy = Secrecy::Sealed { identity, trust: Trust::FirstUse };
    let mut signal = client::Config::new(fingerprint, secrecy);
    signal.name = Some(name.parse().expect("a name"));
    signal.udp_broker = Some(server("broker"));
    signal.tcp_broker = Some(server("broker"));
    let stun = vec![server("stun1"), server("stun2")];
    let seed = world.draw_seed();
    let node = Node::new(
        Config { signal, stun, udp_port: 0, budget: Limits::default() },
        seed,
        world.now(),
    );
    world.run(host, node)
}

fn fingerprint(seed: Seed) -> ntcp_proto::signal::Fingerprint {
    ntcp_proto::signal::Fingerprint(seed.0)
}

fn is_ready(world: &mut World, node: ProcessId<Node>) -> bool {
    world.events(node).iter().any(|(_, event)| matches!(event, Event::Ready { .. }))
}

fn path(
    world: &mut World,
    node: ProcessId<Node>,
    since: Duration,
) -> Option<(Duration, Connected)> {
    let mut later = world.events(node).iter().filter(|(at, _)| *at > since);
    later.find_map(|(at, event)| match event {
        Event::Connected(connected) => Some((*at, connected.as_ref().clone())),
        _ => None,
    })
}

fn failed(world: &mut World, node: ProcessId<Node>, since: Duration) -> Option<Report> {
    let mut later = world.events(node).iter().filter(|(at, _)| *at > since);
    later.find_map(|(_, event)| match event {
        Event::CallFailed { report, .. } => Some(report.as_ref().clone()),
        _ => None,
    })
}
