//! Two hosts behind their NATs and a server, driven by hand: what techniques are tried in before any
//! machine of ours takes part.
//!
//! All lines take 10 ms each way, so that every one-way delay between two hosts is 20 ms.

use std::net::SocketAddr;
use std::time::Duration;

use ntcp_proto::segment::Segment;
use ntcp_proto::{Hops, SocketId};

use crate::host::Privileges;
use crate::link::Quality;
use crate::presets::Site;
use crate::probe::{Handle, Told};
use crate::world::{HostId, SiteId, World};

pub(crate) const SERVER: &str = "203.0.113.1";
pub(crate) const LOCAL_A: &str = "0.0.0.0:5000";
pub(crate) const LOCAL_B: &str = "0.0.0.0:6000";
/// A binding request without attributes: a word that streams carry.
const WORD: &[u8] = b"\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes";
/// Nothing that works takes longer.
const PATIENCE: Duration = Duration::from_secs(4);
/// From one host to another.
pub(crate) const ONE_WAY: Duration = Duration::from_millis(20);

pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Two hosts behind their NATs, and a server that tells them what it sees.
pub(crate) struct Town {
    pub(crate) world: World,
    pub(crate) a: Handle,
    pub(crate) b: Handle,
    pub(crate) server: Handle,
    server_host: HostId,
    pub(crate) sites: [SiteId; 2],
}

impl Town {
    /// The two sites on lines of 10 ms each way. Both hosts have every privilege.
    pub(crate) fn new(a: &Site, b: &Site) -> Self {
        let mut world = World::new(11);
        world.record();
        let access = Quality::delay(ms(10));
        let server_host = world.public_host("s1", &[SERVER], access);
        let server = Handle::start(&mut world, server_host);
        server.listen(&mut world, "0.0.0.0:3478");
        server.bind(&mut world, "0.0.0.0:3478");
        let sites = [("a", a), ("b", b)].map(|(name, site)| world.site(name, site, access));
        let [a, b] = [(sites[0], "a"), (sites[1], "b")].map(|(site, name)| {
            let host = world.host(site, name);
            world.grant(host, Privileges::ALL);
            Handle::start(&mut world, host)
        });
        Self { world, a, b, server, server_host, sites }
    }

    #[cfg(test)]
    /// The two sites by their names.
    pub(crate) fn named(a: &str, b: &str) -> Self {
        let [a, b] = [a, b].map(|text| text.parse().expect("a site"));
        Self::new(&a, &b)
    }

    /// The server sends a segment whatever its source: it has no provider that looks.
    pub(crate) fn forge(&mut self, segment: &Segment) {
        self.world.forge(self.server_host, segment, 64);
    }

    /// A TTL that ends behind the own boxes and before the other side's.
    pub(crate) fn low_ttl(&self, side: usize) -> u8 {
        let own = u8::try_from(self.world.nats(self.sites[side]).count()).unwrap_or(u8::MAX);
        own.saturating_add(2)
    }

    /// What the server sees of a TCP port; the connection stays open.
    pub(crate) fn tcp_mapping(&mut self, handle: Handle, local: &str) -> SocketAddr {
        let before = self.server.told(&mut self.world).len();
        handle.connect(&mut self.world, local, SocketAddr::new(SERVER.parse().unwrap(), 3478));
        self.world.advance(ms(100));
        let told = self.server.told(&mut self.world).split_off(before);
        let seen = told.into_iter().find_map(|told| match told {
            Told::Accepted { ends, .. } => Some(ends.remote),
            _ => None,
        });
        seen.expect("the server accepts")
    }

    /// What the server sees of a UDP socket; nothing if UDP does not pass.
    pub(crate) fn udp_mapping(&mut self, handle: Handle, socket: SocketId) -> Option<SocketAddr> {
        let to = SocketAddr::new(SERVER.parse().unwrap(), 3478);
        let before = self.server.datagrams(&mut self.world).len();
        handle.send(&mut self.world, socket, to, b"who am I?");
        self.world.advance(ms(100));
        self.server.datagrams(&mut self.world).get(before).map(|(source, _)| *source)
    }

    #[cfg(test)]
    /// Both connect to the other's mapped port, `b` by `skew` later, each again at once after a
    /// refusal; how long after the start each side was connected.
    pub(crate) fn simultaneous_open(
        &mut self,
        skew: Duration,
        retries: u32,
    ) -> [Option<Duration>; 2] {
        let a = self.tcp_mapping(self.a, LOCAL_A);
        let b = self.tcp_mapping(self.b, LOCAL_B);
        let start = self.world.clock();
        self.a.retry(&mut self.world, retries);
        self.b.retry(&mut self.world, retries);
        let from_a = self.a.connect(&mut self.world, LOCAL_A, b);
        self.world.advance(skew);
        let from_b = self.b.connect(&mut self.world, LOCAL_B, a);
        self.world.advance(Duration::from_secs(4));
        [(self.a, from_a), (self.b, from_b)].map(|(handle, socket)| {
            let (when, result) = handle.outcome(&mut self.world, socket)?;
            result.ok().map(|_| when - start)
        })
    }

    /// Both send a datagram every 20 ms to the other's mapped port and to whatever source they hear
    /// from, `b` beginning `skew` later; how long after the start both know that they hear each other.
    pub(crate) fn udp_punch(&mut self, skew: Duration, opener: Option<u8>) -> Option<Duration> {
        let sockets =
            [self.a.bind(&mut self.world, LOCAL_A), self.b.bind(&mut self.world, LOCAL_B)];
        let a = self.udp_mapping(self.a, sockets[0])?;
        let b = self.udp_mapping(self.b, sockets[1])?;
        let start = self.world.clock();
        let mut sides = [
            Side { handle: self.a, socket: sockets[0], targets: vec![b], from: ms(0) },
            Side { handle: self.b, socket: sockets[1], targets: vec![a], from: skew },
        ];
        if let Some(ttl) = opener {
            for side in &sides {
                let to = side.targets[0];
                side.handle.send_ttl(&mut self.world, side.socket, to, b"open", Some(ttl));
            }
        }
        for step in 0..150 {
            let elapsed = ms(10 * step);
            let done: Vec<bool> =
                sides.iter_mut().map(|side| side.work(&mut self.world, elapsed)).collect();
            if done == [true, true] {
                return Some(self.world.clock() - start);
            }
            self.world.advance(ms(10));
        }
        None
    }

    /// When the later of two connecting sockets, `a`'s first, was connected after `start`; nothing
    /// unless both were and hear each other.
    pub(crate) fn verdict(&mut self, start: Duration, sockets: [SocketId; 2]) -> Option<Duration> {
        let connected = self.both_connected(sockets)?;
        self.hear_each_other(sockets).then(|| connected - start)
    }

    /// The same for sockets whose segments are to go the whole way only once they are connected.
    pub(crate) fn raised_verdict(
        &mut self,
        start: Duration,
        sockets: [SocketId; 2],
    ) -> Option<Duration> {
        let connected = self.both_connected(sockets)?;
        for (handle, socket) in [self.a, self.b].into_iter().zip(sockets) {
            handle.adjust(&mut self.world, socket, Hops::USUAL);
        }
        self.hear_each_other(sockets).then(|| connected - start)
    }

    fn both_connected(&mut self, sockets: [SocketId; 2]) -> Option<Duration> {
        let ends = [(self.a, sockets[0]), (self.b, sockets[1])];
        self.world.advance_until(PATIENCE, |world| {
            ends.iter().all(|(handle, socket)| handle.outcome(world, *socket).is_some())
        });
        let mut last = Duration::ZERO;
        for (handle, socket) in ends {
            let (when, result) = handle.outcome(&mut self.world, socket)?;
            result.ok()?;
            last = last.max(when);
        }
        Some(last)
    }

    /// Whether a word on each of two streams, `a`'s first, arrives at the other side.
    pub(crate) fn hear_each_other(&mut self, sockets: [SocketId; 2]) -> bool {
        let ends = [(self.a, sockets[0]), (self.b, sockets[1])];
        let arrived = |handle: Handle, world: &mut World| {
            let told = handle.told(world);
            told.iter().any(|told| matches!(told, Told::Message { payload, .. } if payload == WORD))
        };
        for (handle, socket) in ends {
            handle.message(&mut self.world, socket, WORD.to_vec());
        }
        self.world
            .advance_until(PATIENCE, |world| ends.iter().all(|(handle, _)| arrived(*handle, world)))
    }
}

struct Side {
    handle: Handle,
    socket: SocketId,
    targets: Vec<SocketAddr>,
    from: Duration,
}

impl Side {
    /// Adopts sources, sends what is due; says whether the peer has told that it hears us.
    fn work(&mut self, world: &mut World, elapsed: Duration) -> bool {
        let heard: Vec<(SocketAddr, Vec<u8>)> = self
            .handle
            .datagrams(world)
            .into_iter()
            .filter(|(_, payload)| payload != b"who am I?")
            .collect();
        for (source, _) in &heard {
            if !self.targets.contains(source) {
                self.targets.push(*source);
            }
        }
        let since = elapsed.checked_sub(self.from).map(|since| since.as_millis());
        if since.is_some_and(|since| since % 20 == 0) {
            let word: &[u8] = if heard.is_empty() { b"hello" } else { b"I hear you" };
            for target in self.targets.clone() {
                self.handle.send(world, self.socket, target, word);
            }
        }
        heard.iter().any(|(_, payload)| payload == b"I hear you")
    }
}
