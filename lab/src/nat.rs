//! A NAT as a value: packets in, packets out, on all axes of [`Behaviour`].
//!
//! It is told the time and seeded, holds no socket and reads no clock, so that the same value runs in
//! the simulated internet and as a user-space router between real kernels.
//!
//! A packet from inside belongs to a [`Flow`]. Its [`Key`] blanks out what the mapping ignores and
//! decides the external end; the flow itself is remembered with its TCP state. A packet from outside
//! is let in if it belongs to a flow, or if some flow of the mapping looks the same to the filter
//! ([`filtering::Permit`]). What is not let in is answered as [`Unsolicited`](behaviour::Unsolicited) says.
//!
//! It is not a router: it forwards between two sides and knows no routes. It keeps no queue, and it
//! drops fragments.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ntcp_proto::entropy::{Entropy, Seed};

use crate::packet::{self, IcmpError, Packet, ParseError, Protocol};

mod allocation;
pub mod behaviour;
pub mod filtering;
mod flows;
mod icmp;
mod inbound;
mod late;
mod mapping;
mod outbound;
mod reply;
mod tcp_tracking;
#[cfg(test)]
mod tests;

use allocation::Allocator;
use behaviour::{Addresses, Behaviour, Flow, Invalid, Passage, TimeExceeded, Ttl};
pub use mapping::Key;
use mapping::{MappingId, Table};
pub use tcp_tracking::State;
use tcp_tracking::Tracker;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This packet leaves on the outer side.
    Outside(Vec<u8>),
    /// This packet leaves on the inner side.
    Inside(Vec<u8>),
    /// None leaves.
    Dropped(DropReason),
}

/// Why a packet got no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Not an IP packet, or lengths that contradict each other.
    Malformed,
    /// A fragment.
    Fragment,
    /// Neither TCP nor UDP nor an ICMP error about them.
    Protocol,
    /// UDP does not pass here.
    UdpBlocked,
    /// From outside, to an address that is not this box's.
    NotOurs,
    /// From outside, and no mapping has that external end.
    NoMapping,
    /// From outside, and the mapping does not let that sender in.
    Filtered,
    /// An inbound SYN after an outbound one.
    InboundSyn,
    /// Connection tracking calls it invalid.
    Invalid,
    /// From inside, to this box's own outside address.
    NoHairpin,
    /// No port left, or the host has too many.
    NoPort,
    /// Too many new flows in this second.
    TooFast,
    /// Its TTL ran out.
    TtlExpired,
    /// An ICMP error about a flow that is not known.
    UnknownQuotation,
    /// An ICMP error that is not let in.
    IcmpBlocked,
}

/// One flow through the box.
#[derive(Debug, Clone)]
struct FlowState {
    mapping: MappingId,
    originator: Side,
    answered: bool,
    tcp: Option<Tracker>,
    /// Added to sequence numbers on the way out.
    sequence_offset: u32,
    expires: Instant,
}

/// The two sides of the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Inside,
    Outside,
}

/// A mapping, for those who look at a NAT from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappingView {
    /// What it is for.
    pub key: Key,
    /// The external end.
    pub external: SocketAddr,
}

/// A flow of the box's own stack: its end, and the remote one whose packet made it (see
/// [`behaviour::Unsolicited::OwnStack`]).
type Ghost = (SocketAddr, SocketAddr);

/// New flows of one host within one second.
#[derive(Debug, Clone, Copy)]
struct Pace {
    second: Instant,
    flows: u32,
}

/// The NAT.
#[derive(Debug, Clone)]
pub struct Nat {
    behaviour: Behaviour,
    addresses: Addresses,
    entropy: Entropy,
    mappings: Table,
    flows: BTreeMap<Flow, FlowState>,
    ghosts: BTreeMap<Ghost, Instant>,
    allocator: Allocator,
    next_address: usize,
    paces: BTreeMap<IpAddr, Pace>,
    /// In the order in which they are due.
    waiting: VecDeque<late::Waiting>,
    swept: Option<Instant>,
}

type Dropped<T> = Result<T, DropReason>;

impl Nat {
    /// A NAT without any mapping.
    pub fn new(behaviour: Behaviour, addresses: Addresses, seed: Seed) -> Self {
        Self {
            behaviour,
            addresses,
            entropy: Entropy::new(seed),
            mappings: Table::default(),
            flows: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            allocator: Allocator::default(),
            next_address: 0,
            paces: BTreeMap::new(),
            waiting: VecDeque::new(),
            swept: None,
        }
    }

    /// What it does.
    pub fn behaviour(&self) -> &Behaviour {
        &self.behaviour
    }

    /// Its own addresses.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The mappings alive at `now`, oldest first.
    pub fn mappings(&self, now: Instant) -> impl Iterator<Item = MappingView> + '_ {
        self.mappings
            .iter()
            .filter(move |(id, entry)| self.is_alive(*id, entry, now))
            .map(|(_, entry)| MappingView { key: entry.key, external: entry.external })
    }

    /// A packet arrived on the inner side.
    pub fn process_outbound(&mut self, bytes: &[u8], now: Instant) -> Verdict {
        self.sweep(now);
        let packet = match self.open(bytes) {
            Ok(packet) => packet,
            Err(reason) => return Verdict::Dropped(reason),
        };
        if self.addresses.inside.contains(&packet.destination_ip()) {
            let answer = reply::own_stack(&packet);
            return answer.map_or(Verdict::Dropped(DropReason::NoMapping), Verdict::Inside);
        }
        if let Err(verdict) = self.check_ttl(&packet, Side::Inside) {
            return verdict;
        }
        if self.is_outer_address(packet.destination_ip()) {
            return self.hairpin(&packet, now);
        }
        match self.outbound(&packet, now) {
            Ok(packet) => Verdict::Outside(self.spend_ttl(packet).seal()),
            Err(DropReason::Invalid) if self.leaks(&packet) => {
                Verdict::Outside(self.spend_ttl(packet).seal())
            }
            Err(reason) => Verdict::Dropped(reason),
        }
    }

    /// A packet arrived on the outer side.
    pub fn process_inbound(&mut self, bytes: &[u8], now: Instant) -> Verdict {
        self.sweep(now);
        let packet = match self.open(bytes) {
            Ok(packet) => packet,
            Err(reason) => return Verdict::Dropped(reason),
        };
        match self.inbound(&packet, now) {
            Ok(translated) => match self.check_ttl(&packet, Side::Outside) {
                Ok(()) => Verdict::Inside(self.spend_ttl(translated).seal()),
                Err(verdict) => verdict,
            },
            Err(reason) => match self.unsolicited(&packet, reason, now) {
                Some(answer) => Verdict::Outside(answer),
                None => Verdict::Dropped(reason),
            },
        }
    }

    fn open(&self, bytes: &[u8]) -> Dropped<Packet> {
        let packet = Packet::parse(bytes).map_err(|error| match error {
            ParseError::Malformed => DropReason::Malformed,
            ParseError::Fragment => DropReason::Fragment,
        })?;
        match packet.protocol() {
            Protocol::Tcp | Protocol::Icmp => Ok(packet),
            Protocol::Udp => match self.behaviour.udp.passage {
                Passage::Open => Ok(packet),
                Passage::Blocked => Err(DropReason::UdpBlocked),
            },
            Protocol::Other(_) => Err(DropReason::Protocol),
        }
    }

    fn is_outer_address(&self, ip: IpAddr) -> bool {
        self.addresses.outside.contains(&ip)
    }

    fn leaks(&self, packet: &Packet) -> bool {
        packet.protocol() == Protocol::Tcp && self.behaviour.tcp.invalid == Invalid::Leak
    }

    // --- TTL ---------------------------------------------------------------------------------

    /// Refuses a packet whose TTL ends here; `from` is the side it came from.
    fn check_ttl(&self, packet: &Packet, from: Side) -> Result<(), Verdict> {
        if self.behaviour.ttl != Ttl::Decrement || packet.ttl() > 1 {
            return Ok(());
        }
        let report = match (self.behaviour.time_exceeded, from) {
            (TimeExceeded::Silent, _) => None,
            (TimeExceeded::Report, Side::Inside) => self.addresses.inner(packet.source_ip()),
            (TimeExceeded::Report, Side::Outside) => {
                self.addresses.outer(packet.source_ip()).next()
            }
        };
        let report = report.and_then(|ip| packet::icmp_error(ip, packet, IcmpError::TimeExceeded));
        Err(match (report, from) {
            (None, _) => Verdict::Dropped(DropReason::TtlExpired),
            (Some(report), Side::Inside) => Verdict::Inside(report),
            (Some(report), Side::Outside) => Verdict::Outside(report),
        })
    }

    fn spend_ttl(&self, mut packet: Packet) -> Packet {
        match self.behaviour.ttl {
            Ttl::Decrement => packet.set_ttl(packet.ttl().saturating_sub(1)),
            Ttl::Keep => {}
            Ttl::Reset(ttl) => packet.set_ttl(ttl),
        }
        packet
    }
}
