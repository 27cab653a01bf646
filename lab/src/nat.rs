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

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ntcp_proto::entropy::{Entropy, Seed};

use crate::packet::{self, IcmpError, Packet, ParseError, Protocol, TcpFields};

mod allocation;
pub mod behaviour;
pub mod filtering;
mod icmp;
mod mapping;
mod reply;
mod tcp_tracking;
#[cfg(test)]
mod tests;

use allocation::Allocator;
use behaviour::{
    Addresses, Allocation, Behaviour, Flow, InboundSyn, Invalid, Mapping, Passage, Pooling,
    RstEffect, SequenceNumbers, Sharing, TimeExceeded, Translation, Transport, Ttl,
};
use filtering::Permit;
pub use mapping::Key;
use mapping::{Entry, MappingId, Table};
pub use tcp_tracking::State;
use tcp_tracking::{Judgement, Kind, Sender, Tracker};

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

    // --- outbound ----------------------------------------------------------------------------

    /// The packet as it leaves on the outer side, but for its TTL.
    fn outbound(&mut self, packet: &Packet, now: Instant) -> Dropped<Packet> {
        if packet.protocol() == Protocol::Icmp {
            return self.outbound_icmp(packet, now);
        }
        let (flow, fields) = self.outbound_flow(packet)?;
        if let Some(fields) = &fields {
            self.renew_connection(flow, fields);
        }
        if self.flow(flow, now).is_some() {
            self.observe(flow, Side::Inside, packet, fields.as_ref(), now)?;
        } else {
            self.begin_outbound(flow, packet, fields.as_ref(), now)?;
        }
        let state = self.flows.get(&flow).ok_or(DropReason::Invalid)?;
        let external = self.mappings.get(state.mapping).ok_or(DropReason::NoPort)?.external;
        let mut translated = packet.clone();
        translated.set_source(external);
        translated.shift_sequence(state.sequence_offset);
        self.after_segment(flow, Side::Inside, fields.as_ref());
        Ok(translated)
    }

    fn outbound_flow(&self, packet: &Packet) -> Dropped<(Flow, Option<TcpFields>)> {
        let ends = packet.source().zip(packet.destination());
        let (inside, remote) = ends.ok_or(DropReason::Protocol)?;
        let (transport, fields) = match packet.tcp() {
            Some(fields) => (Transport::Tcp, Some(fields)),
            None => (Transport::Udp, None),
        };
        Ok((Flow { transport, inside, remote }, fields))
    }

    /// Connection-dependent mapping: another connection between the same ends is another flow.
    fn renew_connection(&mut self, flow: Flow, fields: &TcpFields) {
        if self.translation(flow).mapping != Mapping::ConnectionDependent {
            return;
        }
        let another = self.flows.get(&flow).is_some_and(|state| {
            let tracker = state.tcp.as_ref();
            state.originator == Side::Inside
                && tracker.is_some_and(|tracker| {
                    tracker.state() == State::SynSent && tracker.is_another_connection(fields)
                        || tracker.state() == State::Closed && fields.is_syn()
                })
        });
        if another {
            self.end_flow(flow);
        }
    }

    fn begin_outbound(
        &mut self,
        flow: Flow,
        packet: &Packet,
        fields: Option<&TcpFields>,
        now: Instant,
    ) -> Dropped<()> {
        let tcp = self.begin_tracking(packet, fields)?;
        self.check_pace(flow.inside.ip(), now)?;
        let mapping = self.mapping_for(flow, now)?;
        self.insert_flow(flow, mapping, Side::Inside, tcp, now);
        Ok(())
    }

    fn begin_tracking(
        &self,
        packet: &Packet,
        fields: Option<&TcpFields>,
    ) -> Dropped<Option<Tracker>> {
        let Some(fields) = fields else { return Ok(None) };
        let tcp = &self.behaviour.tcp;
        Tracker::begin(packet, fields, tcp.tracking, tcp.mid_stream)
            .map(Some)
            .ok_or(DropReason::Invalid)
    }

    fn insert_flow(
        &mut self,
        flow: Flow,
        mapping: MappingId,
        originator: Side,
        tcp: Option<Tracker>,
        now: Instant,
    ) {
        let rewrites = self.behaviour.tcp.sequence_numbers == SequenceNumbers::Rewritten;
        let sequence_offset = match tcp {
            Some(_) if rewrites => self.entropy.below(u64::from(u32::MAX)) as u32 + 1,
            Some(_) | None => 0,
        };
        let state =
            FlowState { mapping, originator, answered: false, tcp, sequence_offset, expires: now };
        self.flows.insert(flow, state);
        self.refresh(flow, now);
    }

    /// The mapping of `flow`: the one its key has, or a new one.
    fn mapping_for(&mut self, flow: Flow, now: Instant) -> Dropped<MappingId> {
        let key = Key::of(self.translation(flow).mapping, flow);
        let known = self
            .mappings
            .find(&key)
            .filter(|(id, entry)| self.is_alive(*id, entry, now))
            .map(|(id, entry)| (id, entry.external));
        match known {
            Some((id, external)) if !self.is_haunted(flow, external, now) => Ok(id),
            // The port belongs to the box itself towards this one remote end.
            Some(_) => self.allocate(flow, Key::exact(flow), now),
            None => {
                if let Some((dead, _)) = self.mappings.find(&key) {
                    self.mappings.remove(dead);
                }
                self.allocate(flow, key, now)
            }
        }
    }

    /// Whether the box's own stack has this flow on that external end.
    fn is_haunted(&self, flow: Flow, external: SocketAddr, now: Instant) -> bool {
        let ghost = self.ghosts.get(&(external, flow.remote));
        flow.transport == Transport::Udp && ghost.is_some_and(|expires| *expires > now)
    }

    fn allocate(&mut self, flow: Flow, key: Key, now: Instant) -> Dropped<MappingId> {
        let translation = self.translation(flow);
        let host = flow.inside.ip();
        if self.mappings.held_by(host) >= self.behaviour.limits.mappings_per_host {
            return Err(DropReason::NoPort);
        }
        let external = if translation.mapping == Mapping::Identity {
            flow.inside
        } else {
            let ip = self.external_ip(host).ok_or(DropReason::NoPort)?;
            let (mappings, ghosts) = (&self.mappings, &self.ghosts);
            let taken = |port: u16| {
                let external = SocketAddr::new(ip, port);
                let haunted = flow.transport == Transport::Udp
                    && ghosts.get(&(external, flow.remote)).is_some_and(|expires| *expires > now);
                haunted || mappings.is_taken(&key, external, translation.sharing)
            };
            let inside = (host, flow.inside.port());
            let port = self.allocator.port(
                translation.allocation,
                flow.transport,
                inside,
                &mut self.entropy,
                taken,
            );
            SocketAddr::new(ip, port.ok_or(DropReason::NoPort)?)
        };
        Ok(self.mappings.insert(Entry { key, external, expires: now }))
    }

    fn external_ip(&mut self, host: IpAddr) -> Option<IpAddr> {
        let pool: Vec<IpAddr> = self.addresses.outer(host).collect();
        let index = match self.behaviour.pooling {
            // Hosts take turns by the last bits of their address.
            Pooling::Paired => match host {
                IpAddr::V4(ip) => usize::from(ip.octets()[3]),
                IpAddr::V6(ip) => usize::from(ip.octets()[15]),
            },
            Pooling::Arbitrary => {
                self.next_address += 1;
                self.next_address
            }
        };
        let count = pool.len();
        pool.get(index.checked_rem(count)?).copied()
    }

    /// How this flow is translated: a family without outer addresses is not.
    fn translation(&self, flow: Flow) -> Translation {
        let translation = match flow.transport {
            Transport::Tcp => self.behaviour.tcp.translation,
            Transport::Udp => self.behaviour.udp.translation,
        };
        if self.addresses.outer(flow.inside.ip()).next().is_some() {
            return translation;
        }
        Translation {
            mapping: Mapping::Identity,
            allocation: Allocation::Preserved,
            sharing: Sharing::PerDestination,
            ..translation
        }
    }

    fn check_pace(&mut self, host: IpAddr, now: Instant) -> Dropped<()> {
        let pace = self.paces.entry(host).or_insert(Pace { second: now, flows: 0 });
        if now.duration_since(pace.second) >= Duration::from_secs(1) {
            *pace = Pace { second: now, flows: 0 };
        }
        pace.flows += 1;
        if pace.flows > self.behaviour.limits.new_flows_per_second {
            return Err(DropReason::TooFast);
        }
        Ok(())
    }

    // --- inbound -----------------------------------------------------------------------------

    /// The packet as it leaves on the inner side, but for its TTL.
    fn inbound(&mut self, packet: &Packet, now: Instant) -> Dropped<Packet> {
        if packet.protocol() == Protocol::Icmp {
            return self.inbound_icmp(packet, now);
        }
        let ends = packet.source().zip(packet.destination());
        let (remote, external) = ends.ok_or(DropReason::Protocol)?;
        let fields = packet.tcp();
        let transport = if fields.is_some() { Transport::Tcp } else { Transport::Udp };
        let translates = self.addresses.outer(external.ip()).next().is_some();
        if translates && !self.is_outer_address(external.ip()) && !self.is_identity(transport) {
            return Err(DropReason::NotOurs);
        }
        let flow = self.inbound_flow(transport, external, remote, packet, now)?;
        let offset = self.flows.get(&flow).map_or(0, |state| state.sequence_offset);
        let mut translated = packet.clone();
        translated.set_destination(flow.inside);
        translated.shift_acknowledgment(offset.wrapping_neg());
        // Connection tracking keeps everything in the inside's own numbers.
        let fields = translated.tcp();
        self.observe(flow, Side::Outside, &translated, fields.as_ref(), now)?;
        if self.refuses_syn(packet) {
            return Err(DropReason::InboundSyn);
        }
        self.after_segment(flow, Side::Outside, fields.as_ref());
        Ok(translated)
    }

    fn refuses_syn(&self, packet: &Packet) -> bool {
        packet.tcp().is_some_and(|fields| fields.is_syn())
            && self.behaviour.tcp.inbound_syn != InboundSyn::Accept
    }

    fn is_identity(&self, transport: Transport) -> bool {
        let translation = match transport {
            Transport::Tcp => self.behaviour.tcp.translation,
            Transport::Udp => self.behaviour.udp.translation,
        };
        translation.mapping == Mapping::Identity
    }

    /// The flow an inbound packet belongs to, begun by it if the filter lets it.
    fn inbound_flow(
        &mut self,
        transport: Transport,
        external: SocketAddr,
        remote: SocketAddr,
        packet: &Packet,
        now: Instant,
    ) -> Dropped<Flow> {
        let mut reason = DropReason::NoMapping;
        let mut admitted = None;
        for (id, entry) in self.mappings.on_external(transport, external) {
            if !self.is_alive(id, entry, now) {
                continue;
            }
            let flow = Flow { transport, inside: entry.key.inside(), remote };
            let known = self.flow(flow, now).is_some_and(|state| state.mapping == id);
            if known {
                return Ok(flow);
            }
            reason = DropReason::Filtered;
            if admitted.is_none() && self.admits(id, flow, now) {
                admitted = Some((id, flow));
            }
        }
        let (id, flow) = admitted.ok_or(reason)?;
        if self.refuses_syn(packet) {
            return Err(DropReason::InboundSyn);
        }
        let tcp = self.begin_tracking(packet, packet.tcp().as_ref())?;
        self.insert_flow(flow, id, Side::Outside, tcp, now);
        Ok(flow)
    }

    /// Whether the filter lets the remote end of `flow` in through the mapping.
    fn admits(&self, id: MappingId, flow: Flow, now: Instant) -> bool {
        if self.flow(flow, now).is_some() {
            // The inside already talks to that end through another mapping.
            return false;
        }
        let filtering = self.translation(flow).filtering;
        let permit = Permit::of(filtering, flow.remote);
        permit.is_universal()
            || self.flows_of(flow.inside, flow.transport).any(|(other, state)| {
                state.mapping == id
                    && state.expires > now
                    && state.originator == Side::Inside
                    && Permit::of(filtering, other.remote) == permit
            })
    }

    fn flows_of(
        &self,
        inside: SocketAddr,
        transport: Transport,
    ) -> impl Iterator<Item = (&Flow, &FlowState)> {
        let lowest = SocketAddr::from(([0, 0, 0, 0], 0));
        let first = Flow { transport, inside, remote: lowest };
        self.flows
            .range(first..)
            .take_while(move |(flow, _)| flow.inside == inside && flow.transport == transport)
    }

    // --- flows -------------------------------------------------------------------------------

    fn flow(&self, flow: Flow, now: Instant) -> Option<&FlowState> {
        self.flows.get(&flow).filter(|state| state.expires > now)
    }

    /// Connection tracking of one packet that belongs to a known flow.
    fn observe(
        &mut self,
        flow: Flow,
        from: Side,
        packet: &Packet,
        fields: Option<&TcpFields>,
        now: Instant,
    ) -> Dropped<()> {
        let tracking = self.behaviour.tcp.tracking;
        let Some(state) = self.flows.get_mut(&flow) else { return Err(DropReason::Invalid) };
        if let (Some(tracker), Some(fields)) = (&mut state.tcp, fields) {
            let sender =
                if from == state.originator { Sender::Originator } else { Sender::Responder };
            let reset = Kind::of(fields) == Kind::Rst;
            if reset && from == Side::Outside && self.behaviour.tcp.rst == RstEffect::Ignore {
                return Ok(());
            }
            // A RST ends a flow that nothing answered before it: the RST itself does not count.
            state.answered = tracker.is_answered();
            if tracker.observe(sender, packet, fields, tracking) == Judgement::Invalid {
                return Err(DropReason::Invalid);
            }
        } else {
            state.answered |= from != state.originator;
        }
        self.refresh(flow, now);
        Ok(())
    }

    /// What a segment that was let through does to its flow: an inbound RST may end it.
    fn after_segment(&mut self, flow: Flow, from: Side, fields: Option<&TcpFields>) {
        let Some(fields) = fields else { return };
        let Some(state) = self.flows.get(&flow) else { return };
        if Kind::of(fields) != Kind::Rst {
            return;
        }
        let unanswered = !state.answered;
        match (self.behaviour.tcp.rst, from) {
            (RstEffect::Ignore | RstEffect::Shorten, _) => {}
            (RstEffect::Delete, _) if unanswered => self.end_flow(flow),
            (RstEffect::Delete, _) | (RstEffect::DeleteMapping, Side::Inside) => {}
            (RstEffect::DeleteMapping, Side::Outside) => self.end_mapping(flow),
        }
    }

    fn refresh(&mut self, flow: Flow, now: Instant) {
        let behaviour = &self.behaviour;
        let Some(state) = self.flows.get_mut(&flow) else { return };
        let lifetime = match &state.tcp {
            Some(tracker) => tracker.lifetime(&behaviour.tcp.timers),
            None if state.answered => behaviour.udp.answered,
            None => behaviour.udp.unanswered,
        };
        state.expires = now + lifetime;
        self.mappings.extend(state.mapping, state.expires);
    }

    fn end_flow(&mut self, flow: Flow) {
        let Some(state) = self.flows.remove(&flow) else { return };
        if self.mappings.get(state.mapping).is_some_and(|entry| entry.key.flow() == Some(flow)) {
            self.mappings.remove(state.mapping);
        }
    }

    /// Ends `flow`, its mapping, and with it all other flows of that mapping.
    fn end_mapping(&mut self, flow: Flow) {
        let Some(id) = self.flows.get(&flow).map(|state| state.mapping) else { return };
        self.flows.retain(|_, state| state.mapping != id);
        self.mappings.remove(id);
    }

    /// A mapping of one flow ends with it; others end by the clock.
    fn is_alive(&self, id: MappingId, entry: &Entry, now: Instant) -> bool {
        match entry.key.flow() {
            Some(flow) => self.flow(flow, now).is_some_and(|state| state.mapping == id),
            None => entry.expires > now,
        }
    }

    /// Forgets what has expired, at most once a second.
    fn sweep(&mut self, now: Instant) {
        let due = self.swept.is_none_or(|swept| now >= swept + Duration::from_secs(1));
        if !due {
            return;
        }
        self.swept = Some(now);
        self.flows.retain(|_, state| state.expires > now);
        self.ghosts.retain(|_, expires| *expires > now);
        self.paces.retain(|_, pace| now.duration_since(pace.second) < Duration::from_secs(1));
        let dead: Vec<MappingId> = self
            .mappings
            .iter()
            .filter(|(id, entry)| !self.is_alive(*id, entry, now))
            .map(|(id, _)| id)
            .collect();
        for id in dead {
            self.mappings.remove(id);
        }
    }
}
