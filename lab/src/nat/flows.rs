//! Flows: what each packet does to one, and when they and their mappings end.

use std::time::{Duration, Instant};

use super::behaviour::{Flow, RstEffect};
use super::mapping::{Entry, MappingId};
use super::tcp_tracking::{Judgement, Kind, Sender};
use super::{DropReason, Dropped, FlowState, Nat, Side};
use crate::packet::{Packet, TcpFields};

impl Nat {
    pub(super) fn flow(&self, flow: Flow, now: Instant) -> Option<&FlowState> {
        self.flows.get(&flow).filter(|state| state.expires > now)
    }

    /// Connection tracking of one packet that belongs to a known flow.
    pub(super) fn observe(
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
    pub(super) fn after_segment(&mut self, flow: Flow, from: Side, fields: Option<&TcpFields>) {
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

    pub(super) fn refresh(&mut self, flow: Flow, now: Instant) {
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

    pub(super) fn end_flow(&mut self, flow: Flow) {
        let Some(state) = self.flows.remove(&flow) else { return };
        if self.mappings.get(state.mapping).is_some_and(|entry| entry.key.flow() == Some(flow)) {
            self.mappings.remove(state.mapping);
        }
    }

    /// Ends `flow`, its mapping, and with it all other flows of that mapping.
    pub(super) fn end_mapping(&mut self, flow: Flow) {
        let Some(id) = self.flows.get(&flow).map(|state| state.mapping) else { return };
        self.flows.retain(|_, state| state.mapping != id);
        self.mappings.remove(id);
    }

    /// A mapping of one flow ends with it; others end by the clock.
    pub(super) fn is_alive(&self, id: MappingId, entry: &Entry, now: Instant) -> bool {
        match entry.key.flow() {
            Some(flow) => self.flow(flow, now).is_some_and(|state| state.mapping == id),
            None => entry.expires > now,
        }
    }

    /// Forgets what has expired, at most once a second.
    pub(super) fn sweep(&mut self, now: Instant) {
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
