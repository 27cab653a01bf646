//! Every axis of a NAT, one packet after the other.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ntcp_proto::entropy::Seed;
use proptest::prelude::*;

use super::behaviour::*;
use super::*;
use crate::packet::{IcmpError, Segment, TcpFields, flag, icmp_error, tcp, udp};
use crate::presets::{SITES, Site};

mod anything;
mod errors;
mod keys;
mod permits;
mod port_choice;
mod strangers;
mod tracking;
mod turning_around;

const INSIDE: &str = "192.168.1.2:5000";
const OTHER: &str = "192.168.1.3:5000";
const SERVER: &str = "203.0.113.1:3478";
const SERVER_PORT: &str = "203.0.113.1:3479";
const PEER: &str = "203.0.113.9:7000";
const SYN: u8 = flag::SYN;
const ACK: u8 = flag::ACK;
const RST: u8 = flag::RST;
const FIN: u8 = flag::FIN;
const SYN_ACK: u8 = flag::SYN | flag::ACK;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn behaviour(site: &str) -> Behaviour {
    site.parse::<Site>().unwrap().boxes[0].behaviour
}

/// A NAT under test and its clock.
struct Bench {
    nat: Nat,
    now: Instant,
}

/// What came out, taken apart.
#[derive(Debug)]
struct Seen {
    packet: Packet,
}

impl Seen {
    fn source(&self) -> SocketAddr {
        self.packet.source().unwrap()
    }
    fn destination(&self) -> SocketAddr {
        self.packet.destination().unwrap()
    }
    fn tcp(&self) -> TcpFields {
        self.packet.tcp().unwrap()
    }
}

fn open(bytes: &[u8]) -> Seen {
    let packet = Packet::parse(bytes).unwrap();
    assert_eq!(packet.clone().seal(), bytes, "checksums are right");
    Seen { packet }
}

fn outside(verdict: Verdict) -> Seen {
    match verdict {
        Verdict::Outside(bytes) => open(&bytes),
        other => panic!("not sent to the outside: {other:?}"),
    }
}

fn inside(verdict: Verdict) -> Seen {
    match verdict {
        Verdict::Inside(bytes) => open(&bytes),
        other => panic!("not sent to the inside: {other:?}"),
    }
}

fn dropped(verdict: Verdict) -> DropReason {
    match verdict {
        Verdict::Dropped(reason) => reason,
        other => panic!("not dropped: {other:?}"),
    }
}

impl Bench {
    fn new(site: &str) -> Self {
        Self::of(behaviour(site))
    }

    fn of(behaviour: Behaviour) -> Self {
        let addresses = Addresses::new(ip("192.168.1.1"), ip("198.51.100.1"));
        Self { nat: Nat::new(behaviour, addresses, Seed::from_number(7)), now: Instant::now() }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn out(&mut self, bytes: &[u8]) -> Verdict {
        self.nat.process_outbound(bytes, self.now)
    }

    fn back(&mut self, bytes: &[u8]) -> Verdict {
        self.nat.process_inbound(bytes, self.now)
    }

    fn udp_out(&mut self, from: &str, to: &str) -> SocketAddr {
        outside(self.out(&udp(at(from), at(to), 64, b"ping"))).source()
    }

    fn udp_in(&mut self, from: &str, to: SocketAddr) -> Verdict {
        self.back(&udp(at(from), to, 64, b"pong"))
    }

    fn syn_out(&mut self, from: &str, to: &str, sequence: u32) -> SocketAddr {
        outside(self.out(&tcp(&Segment::syn(at(from), at(to), sequence)))).source()
    }

    fn segment_out(&mut self, to: &str, flags: u8, sequence: u32, ack: u32) -> Verdict {
        self.out(&segment(at(INSIDE), at(to), flags, sequence, ack))
    }

    fn segment_in(&mut self, from: &str, to: SocketAddr, flags: u8, seq: u32, ack: u32) -> Verdict {
        self.back(&segment(at(from), to, flags, seq, ack))
    }
}

fn segment(
    source: SocketAddr,
    destination: SocketAddr,
    flags: u8,
    sequence: u32,
    acknowledgment: u32,
) -> Vec<u8> {
    let (ttl, payload) = (64, Vec::new());
    tcp(&Segment { source, destination, ttl, flags, sequence, acknowledgment, payload })
}
