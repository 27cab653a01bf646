//! ICMP errors on their way through: found by the packet they quote, translated with it
//! (RFC 5508 section 4).

use std::time::Instant;

use super::behaviour::{Flow, IcmpEffect, Transport};
use super::{DropReason, Dropped, Nat};
use crate::packet::{IcmpError, Packet, Protocol};

impl Nat {
    /// An error from outside about a packet of the inside.
    pub(super) fn inbound_icmp(&mut self, packet: &Packet, now: Instant) -> Dropped<Packet> {
        let (error, quoted) = packet.icmp().ok_or(DropReason::Protocol)?;
        let transport = transport_of(quoted.protocol)?;
        let flow = self
            .mappings
            .on_external(transport, quoted.source)
            .map(|(id, entry)| {
                (id, Flow { transport, inside: entry.key.inside(), remote: quoted.destination })
            })
            .find(|(id, flow)| self.flow(*flow, now).is_some_and(|state| state.mapping == *id))
            .map(|(_, flow)| flow)
            .ok_or(DropReason::UnknownQuotation)?;
        let effect = self.icmp_effect(transport, error);
        if effect == IcmpEffect::Block {
            return Err(DropReason::IcmpBlocked);
        }
        let offset = self.flows.get(&flow).map_or(0, |state| state.sequence_offset);
        let mut translated = packet.clone();
        translated.set_destination_ip(flow.inside.ip());
        translated.set_quoted_source(flow.inside, offset.wrapping_neg());
        if effect == IcmpEffect::DeleteMapping {
            self.end_mapping(flow);
        }
        Ok(translated)
    }

    fn icmp_effect(&self, transport: Transport, error: IcmpError) -> IcmpEffect {
        match (transport, error) {
            (Transport::Udp, _) => self.behaviour.udp.icmp,
            (Transport::Tcp, IcmpError::TimeExceeded) => self.behaviour.tcp.time_exceeded,
            (Transport::Tcp, _) => self.behaviour.tcp.unreachable,
        }
    }

    /// An error from inside about a packet that came from outside.
    pub(super) fn outbound_icmp(&mut self, packet: &Packet, now: Instant) -> Dropped<Packet> {
        let (_, quoted) = packet.icmp().ok_or(DropReason::Protocol)?;
        let transport = transport_of(quoted.protocol)?;
        let flow = Flow { transport, inside: quoted.destination, remote: quoted.source };
        let state = self.flow(flow, now).ok_or(DropReason::UnknownQuotation)?;
        let entry = self.mappings.get(state.mapping).ok_or(DropReason::UnknownQuotation)?;
        let external = entry.external;
        let mut translated = packet.clone();
        translated.set_source_ip(external.ip());
        translated.set_quoted_destination(external);
        Ok(translated)
    }
}

fn transport_of(protocol: Protocol) -> Dropped<Transport> {
    match protocol {
        Protocol::Tcp => Ok(Transport::Tcp),
        Protocol::Udp => Ok(Transport::Udp),
        Protocol::Icmp | Protocol::Other(_) => Err(DropReason::Protocol),
    }
}
