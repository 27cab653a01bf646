//! Segments of a connection on their way in and out: numbers, clocks and repetitions put right.

use std::time::Instant;

use ntcp_proto::IoFailure;
use smoltcp::socket::tcp;

use super::{Connection, Phase, Repetition, SYN_SCHEDULE, SYN_TIMEOUT};
use crate::host::clock::{Clock, Verdict};
use crate::packet::{self, IcmpError, Packet, Segment, TcpFields, flag};

impl Connection {
    /// A segment for this connection arrived.
    pub(in crate::host) fn handle_segment(&mut self, mut packet: Packet, now: Instant) {
        let Some(fields) = packet.tcp() else { return };
        if packet.ttl() < self.least_ttl {
            return;
        }
        if fields.has(flag::SYN) {
            self.peer_scale = packet.window_scale().unwrap_or_default();
        }
        match self.judge_time(&packet, &fields, now) {
            Verdict::Take => {}
            Verdict::Drop => return,
            Verdict::Refuse => {
                let offset = self.offset.unwrap_or_default();
                let refusal = packet::refuse(&packet).and_then(|bytes| Packet::parse(&bytes).ok());
                self.queues.outgoing.extend(refusal.map(|mut packet| {
                    packet.shift_sequence(offset.wrapping_neg());
                    packet.seal()
                }));
                return;
            }
        }
        if let Some(offset) = self.offset {
            packet.shift_acknowledgment(offset.wrapping_neg());
        }
        let simultaneous = self.state() == tcp::State::SynReceived
            && fields.has(flag::SYN | flag::ACK)
            && fields.acknowledgment == self.initial.wrapping_add(1);
        if simultaneous {
            // The ACK with which Linux answers a SYN-ACK in SYN-RECEIVED.
            let answer = self.ack(self.initial.wrapping_add(1), fields.sequence.wrapping_add(1));
            packet.make_plain_ack(self.peer_scale);
            self.queues.outgoing.extend(answer);
        }
        let was = self.state();
        self.queues.incoming.push_back(packet.seal());
        self.poll(now);
        if fields.has(flag::RST) && self.state() == tcp::State::Closed {
            let refused = was == tcp::State::SynSent;
            self.end(if refused { IoFailure::Refused } else { IoFailure::Reset });
        }
    }

    /// What the peer's clock says about a segment.
    fn judge_time(&mut self, packet: &Packet, fields: &TcpFields, now: Instant) -> Verdict {
        let greeting = fields.has(flag::SYN) && self.phase == Phase::Opening;
        let answers = self.state() == tcp::State::SynSent && fields.has(flag::ACK);
        let told = packet.segment().and_then(|segment| segment.options.timestamps);
        match &mut self.clock {
            _ if fields.has(flag::RST) => Verdict::Take,
            Some(clock) if greeting => clock.greet(told, answers, now),
            Some(clock) => clock.hear(told),
            None => Verdict::Take,
        }
    }

    /// An ACK without data, as if smoltcp had sent it.
    pub(super) fn ack(&self, sequence: u32, acknowledgment: u32) -> Option<Vec<u8>> {
        let offset = self.offset?;
        Some(packet::tcp(&Segment {
            source: self.ends.local,
            destination: self.ends.remote,
            ttl: self.sockets.get::<tcp::Socket<'_>>(self.handle).hop_limit().unwrap_or(64),
            flags: flag::ACK,
            sequence: sequence.wrapping_sub(offset),
            acknowledgment,
            payload: Vec::new(),
        }))
    }

    /// An ICMP error about one of this connection's segments: it ends the handshake if it quotes
    /// the SYN (`tcp_v4_err` in Linux), and means nothing later. `ttl` is what Linux compares with
    /// `IP_MINTTL`: of the quoted packet in IPv4, of the error itself in IPv6.
    pub(in crate::host) fn handle_icmp(&mut self, error: IcmpError, quoted_sequence: u32, ttl: u8) {
        let about_the_syn = self.phase == Phase::Opening && quoted_sequence == self.initial;
        if !about_the_syn || ttl < self.least_ttl {
            return;
        }
        let failure = match error {
            IcmpError::PortUnreachable => IoFailure::Refused,
            IcmpError::TimeExceeded | IcmpError::HostUnreachable | IcmpError::AdminProhibited => {
                IoFailure::HostUnreachable
            }
            IcmpError::Other { .. } => return,
        };
        self.give_up(failure);
    }

    /// A segment of smoltcp as it leaves the host.
    pub(super) fn on_the_wire(&mut self, bytes: &[u8], now: Instant) -> Option<Vec<u8>> {
        let mut packet = Packet::parse(bytes).ok()?;
        let fields = packet.tcp()?;
        let initial = self.initial;
        if fields.has(flag::SYN) && self.offset.is_none() {
            self.offset = Some(initial.wrapping_sub(fields.sequence));
        }
        packet.shift_sequence(self.offset.unwrap_or_default());
        packet.scale_window(self.own_scale);
        let stamp = |clock: &Clock| clock.stamp(fields.is_syn(), now);
        if let Some(stamp) = self.clock.as_ref().and_then(stamp) {
            packet.add_timestamps(stamp);
        }
        if fields.is_syn() {
            if self.repetition.is_some() {
                return None;
            }
            let syn = packet.clone().seal();
            self.repetition = Some(Repetition { syn, first: now, sent: 0 });
        }
        Some(packet.seal())
    }

    pub(super) fn repeat_syn(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.state() != tcp::State::SynSent {
            self.repetition = None;
        }
        let due = self.repetition.as_ref()?.due();
        if now < due {
            return None;
        }
        let (ttl, is_mute) = (self.socket().hop_limit(), self.is_mute);
        let repetition = self.repetition.as_mut()?;
        if repetition.sent == SYN_SCHEDULE.len() {
            self.give_up(IoFailure::TimedOut);
            return None;
        }
        repetition.sent += 1;
        let mut packet = Packet::parse(&repetition.syn).ok()?;
        packet.set_ttl(ttl.unwrap_or(64));
        (!is_mute).then(|| packet.seal())
    }
}

impl Repetition {
    pub(super) fn due(&self) -> Instant {
        self.first + SYN_SCHEDULE.get(self.sent).copied().unwrap_or(SYN_TIMEOUT)
    }
}
