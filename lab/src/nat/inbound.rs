//! From outside to inside: the mapping, the filter, the flow.

use std::net::SocketAddr;
use std::time::Instant;

use super::behaviour::{Flow, InboundSyn, Mapping, Transport};
use super::filtering::Permit;
use super::mapping::MappingId;
use super::{DropReason, Dropped, FlowState, Nat, Side};
use crate::packet::{Packet, Protocol};

impl Nat {
    /// The packet as it leaves on the inner side, but for its TTL.
    pub(super) fn inbound(&mut self, packet: &Packet, now: Instant) -> Dropped<Packet> {
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

    pub(super) fn refuses_syn(&self, packet: &Packet) -> bool {
        packet.tcp().is_some_and(|fields| fields.is_syn())
            && self.behaviour.tcp.inbound_syn != InboundSyn::Accept
    }

    pub(super) fn is_identity(&self, transport: Transport) -> bool {
        let translation = match transport {
            Transport::Tcp => self.behaviour.tcp.translation,
            Transport::Udp => self.behaviour.udp.translation,
        };
        translation.mapping == Mapping::Identity
    }

    /// The flow an inbound packet belongs to, begun by it if the filter lets it.
    pub(super) fn inbound_flow(
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
    pub(super) fn admits(&self, id: MappingId, flow: Flow, now: Instant) -> bool {
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

    pub(super) fn flows_of(
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
}
