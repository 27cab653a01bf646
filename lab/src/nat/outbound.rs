//! From inside to outside: a flow, its mapping, its new source.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::behaviour::{
    Allocation, Flow, Mapping, Pooling, SequenceNumbers, Sharing, Translation, Transport,
};
use super::mapping::{Entry, MappingId};
use super::tcp_tracking::{State, Tracker};
use super::{DropReason, Dropped, FlowState, Key, Nat, Pace, Side};
use crate::packet::{Packet, Protocol, TcpFields};

impl Nat {
    /// The packet as it leaves on the outer side, but for its TTL.
    pub(super) fn outbound(&mut self, packet: &Packet, now: Instant) -> Dropped<Packet> {
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

    pub(super) fn outbound_flow(&self, packet: &Packet) -> Dropped<(Flow, Option<TcpFields>)> {
        let ends = packet.source().zip(packet.destination());
        let (inside, remote) = ends.ok_or(DropReason::Protocol)?;
        let (transport, fields) = match packet.tcp() {
            Some(fields) => (Transport::Tcp, Some(fields)),
            None => (Transport::Udp, None),
        };
        Ok((Flow { transport, inside, remote }, fields))
    }

    /// Connection-dependent mapping: another connection between the same ends is another flow.
    pub(super) fn renew_connection(&mut self, flow: Flow, fields: &TcpFields) {
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

    pub(super) fn begin_outbound(
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

    pub(super) fn begin_tracking(
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

    pub(super) fn insert_flow(
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
    pub(super) fn mapping_for(&mut self, flow: Flow, now: Instant) -> Dropped<MappingId> {
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
    pub(super) fn is_haunted(&self, flow: Flow, external: SocketAddr, now: Instant) -> bool {
        let ghost = self.ghosts.get(&(external, flow.remote));
        flow.transport == Transport::Udp && ghost.is_some_and(|expires| *expires > now)
    }

    pub(super) fn allocate(&mut self, flow: Flow, key: Key, now: Instant) -> Dropped<MappingId> {
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

    pub(super) fn external_ip(&mut self, host: IpAddr) -> Option<IpAddr> {
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
    pub(super) fn translation(&self, flow: Flow) -> Translation {
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

    pub(super) fn check_pace(&mut self, host: IpAddr, now: Instant) -> Dropped<()> {
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
}
