//! What the box itself says: to what nobody asked for, and through its own stack.

use std::time::Instant;

use super::behaviour::{Hairpin, InboundSyn, Transport, Unsolicited};
use super::{DropReason, Nat, Verdict};
use crate::packet::{self, IcmpError, Packet, Protocol, flag};

impl Nat {
    /// The answer to a packet from outside that was dropped for `reason`.
    pub(super) fn unsolicited(
        &mut self,
        packet: &Packet,
        reason: DropReason,
        now: Instant,
    ) -> Option<Vec<u8>> {
        match reason {
            DropReason::InboundSyn if self.behaviour.tcp.inbound_syn == InboundSyn::Reset => {
                return packet::refuse(packet);
            }
            DropReason::NoMapping | DropReason::Filtered => {}
            _ => return None,
        }
        let (transport, answer) = match packet.protocol() {
            Protocol::Tcp => (Transport::Tcp, self.behaviour.tcp.unsolicited),
            Protocol::Udp => (Transport::Udp, self.behaviour.udp.unsolicited),
            Protocol::Icmp | Protocol::Other(_) => return None,
        };
        match (answer, transport) {
            (Unsolicited::Silent, _) => None,
            (Unsolicited::Reset, Transport::Tcp) => packet::refuse(packet),
            (Unsolicited::Reset, Transport::Udp) => {
                self.complain(packet, IcmpError::PortUnreachable)
            }
            (Unsolicited::Late, Transport::Udp) => None,
            (Unsolicited::Late, Transport::Tcp) => {
                if packet.tcp().is_some_and(|fields| fields.is_syn()) {
                    self.hold_back(packet, now);
                }
                None
            }
            (Unsolicited::Icmp(error), _) => self.complain(packet, error),
            (Unsolicited::OwnStack, _) if !self.is_outer_address(packet.destination_ip()) => None,
            (Unsolicited::OwnStack, Transport::Tcp) => packet::refuse(packet),
            (Unsolicited::OwnStack, Transport::Udp) => {
                self.haunt(packet, now);
                own_stack(packet)
            }
        }
    }

    /// A SYN never gets two kinds of answer, a RST none at all.
    pub(super) fn complain(&self, packet: &Packet, error: IcmpError) -> Option<Vec<u8>> {
        if packet.tcp().is_some_and(|fields| fields.has(flag::RST)) {
            return None;
        }
        let cause = packet.source_ip();
        let from = self.addresses.outer(cause).next().or_else(|| self.addresses.inner(cause))?;
        packet::icmp_error(from, packet, error)
    }

    /// Remembers that the box's own stack has this flow.
    fn haunt(&mut self, packet: &Packet, now: Instant) {
        if let Some((remote, external)) = packet.source().zip(packet.destination()) {
            self.ghosts.insert((external, remote), now + self.behaviour.udp.unanswered);
        }
    }

    /// A packet from inside to one of the box's outer addresses.
    pub(super) fn hairpin(&mut self, packet: &Packet, now: Instant) -> Verdict {
        match self.behaviour.hairpin {
            Hairpin::Drop => Verdict::Dropped(DropReason::NoHairpin),
            Hairpin::Refuse => {
                own_stack(packet).map_or(Verdict::Dropped(DropReason::NoHairpin), Verdict::Inside)
            }
            Hairpin::Translated | Hairpin::Untranslated => match self.turn_around(packet, now) {
                Ok(turned) => Verdict::Inside(self.spend_ttl(turned).seal()),
                Err(verdict) => verdict,
            },
        }
    }

    /// Out and in again.
    fn turn_around(&mut self, packet: &Packet, now: Instant) -> Result<Packet, Verdict> {
        let outside = self.outbound(packet, now).map_err(Verdict::Dropped)?;
        match self.inbound(&outside, now) {
            Ok(mut inside) => {
                let source = packet.source();
                if let (Hairpin::Untranslated, Some(source)) = (self.behaviour.hairpin, source) {
                    inside.set_source(source);
                }
                Ok(inside)
            }
            Err(reason) => {
                let answer = self.unsolicited(&outside, reason, now);
                let answer = answer.and_then(|bytes| Packet::parse(&bytes).ok());
                let answer = answer.ok_or(Verdict::Dropped(reason))?;
                self.inbound(&answer, now).map_err(Verdict::Dropped)
            }
        }
    }
}

/// What a host without any socket answers (RFC 9293 section 3.10.7.1, RFC 1122 section 3.2.2.1).
pub(super) fn own_stack(packet: &Packet) -> Option<Vec<u8>> {
    match packet.protocol() {
        Protocol::Tcp => packet::refuse(packet),
        Protocol::Udp => {
            packet::icmp_error(packet.destination_ip(), packet, IcmpError::PortUnreachable)
        }
        Protocol::Icmp | Protocol::Other(_) => None,
    }
}
