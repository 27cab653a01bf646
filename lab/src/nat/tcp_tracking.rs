//! What a NAT knows about one TCP flow.
//!
//! The state table is netfilter's, seen from who began the flow:
//!
//! ```text
//!            originator SYN           responder SYN-ACK          originator ACK
//!   (none) ────────────────▶ SynSent ──────────────────▶ SynReceived ────────▶ Established
//!                               │ responder SYN              ▲
//!                               ▼                            │ SYN-ACK of either side
//!                            SynSentBoth ────────────────────┘   (simultaneous open)
//! ```
//!
//! Two of its rules decide about hole punching. A SYN-ACK by the originator is invalid until the
//! responder's SYN has passed. And once it has passed, the originator's initial sequence number may
//! not change any more: [`Window`] then refuses a SYN or SYN-ACK with another one.

use super::behaviour::{MidStream, TcpTimers, Tracking};
use crate::packet::{Packet, TcpFields, flag};

/// Who sent a segment, relative to the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// The side that began the flow.
    Originator,
    /// The other.
    Responder,
}

/// The kinds of segment the table tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
    /// No sensible combination of control bits.
    Nonsense,
}

impl Kind {
    pub(super) fn of(fields: &TcpFields) -> Self {
        if fields.has(flag::RST) {
            Self::Rst
        } else if fields.has(flag::SYN | flag::ACK) {
            Self::SynAck
        } else if fields.has(flag::SYN) {
            Self::Syn
        } else if fields.has(flag::FIN) {
            Self::Fin
        } else if fields.has(flag::ACK) {
            Self::Ack
        } else {
            Self::Nonsense
        }
    }
}

/// How far a flow has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The originator's SYN was seen.
    SynSent,
    /// Both sides' SYNs were seen (netfilter's SYN_SENT2).
    SynSentBoth,
    /// A SYN-ACK was seen.
    SynReceived,
    /// The handshake is over.
    Established,
    /// The originator or the responder has sent a FIN.
    FinWait,
    /// That FIN was acknowledged.
    CloseWait,
    /// Both have sent a FIN.
    LastAck,
    /// The last FIN was acknowledged.
    TimeWait,
    /// Reset.
    Closed,
}

/// What the table says about a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    To(State),
    /// It passes; the state stays.
    Ignore,
    Invalid,
}

fn next(state: State, sender: Sender, kind: Kind) -> Next {
    use State::{
        CloseWait, Closed, Established, FinWait, LastAck, SynReceived, SynSent, SynSentBoth,
        TimeWait,
    };
    match (kind, sender, state) {
        (Kind::Syn, Sender::Originator, SynSent | TimeWait | Closed) => Next::To(SynSent),
        (Kind::Syn, Sender::Originator, SynSentBoth) => Next::To(SynSentBoth),
        (Kind::Syn, Sender::Originator, _) => Next::Ignore,
        (Kind::Syn, Sender::Responder, SynSent | SynSentBoth) => Next::To(SynSentBoth),
        (Kind::Syn, Sender::Responder, TimeWait) => Next::To(SynSent),
        (Kind::Syn, Sender::Responder, _) => Next::Invalid,
        (Kind::SynAck, Sender::Originator, SynSentBoth | SynReceived) => Next::To(SynReceived),
        (Kind::SynAck, Sender::Originator, _) => Next::Invalid,
        (Kind::SynAck, Sender::Responder, SynSent | SynSentBoth) => Next::To(SynReceived),
        (Kind::SynAck, Sender::Responder, _) => Next::Ignore,
        (Kind::Fin, _, SynReceived | Established) => Next::To(FinWait),
        (Kind::Fin, _, FinWait | CloseWait | LastAck) => Next::To(LastAck),
        (Kind::Ack | Kind::Fin, _, TimeWait) => Next::To(TimeWait),
        (Kind::Ack | Kind::Fin, _, Closed) => Next::To(Closed),
        (Kind::Fin, _, SynSent | SynSentBoth) => Next::Invalid,
        (Kind::Ack, Sender::Originator, SynSent | SynSentBoth) => Next::Invalid,
        (Kind::Ack, Sender::Responder, SynSent | SynSentBoth) => Next::Ignore,
        (Kind::Ack, Sender::Originator, SynReceived) => Next::To(Established),
        (Kind::Ack, Sender::Responder, SynReceived) => Next::To(SynReceived),
        (Kind::Ack, _, Established) => Next::To(Established),
        (Kind::Ack, _, FinWait | CloseWait) => Next::To(CloseWait),
        (Kind::Ack, _, LastAck) => Next::To(TimeWait),
        (Kind::Rst, _, _) => Next::To(Closed),
        (Kind::Nonsense, _, _) => Next::Invalid,
    }
}

/// Sequence space seen from one side, as netfilter keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Side {
    /// Highest sequence number sent, plus one.
    end: u32,
    /// Highest one the other side allows.
    most: u32,
    /// Largest window offered; 0 until something was seen.
    window: u32,
    scale: u8,
}

/// `one` comes after `other` in sequence space (RFC 9293 section 3.4).
fn after(one: u32, other: u32) -> bool {
    other.wrapping_sub(one) > u32::MAX / 2
}

/// A segment as the window check sees it.
struct Sight {
    sequence: u32,
    end: u32,
    acknowledgment: u32,
    window: u32,
}

/// One flow's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tracker {
    state: State,
    sides: [Side; 2],
    /// Both sides' SYNs were seen.
    simultaneous: bool,
    /// The responder has sent something.
    answered: bool,
    /// Picked up in the middle: its windows are not known.
    liberal: bool,
    /// The originator's initial sequence number, if it began with a SYN.
    initial: Option<u32>,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Valid,
    Invalid,
}

impl Tracker {
    /// The record of a flow that begins with `packet`; `None` if none may begin so.
    pub(super) fn begin(
        packet: &Packet,
        fields: &TcpFields,
        tracking: Tracking,
        mid_stream: MidStream,
    ) -> Option<Self> {
        let kind = Kind::of(fields);
        let (state, liberal) = match (kind, mid_stream) {
            (Kind::Syn, _) => (State::SynSent, false),
            (Kind::Ack, MidStream::PickUp) => (State::Established, true),
            (Kind::SynAck | Kind::Fin, _) if tracking == Tracking::None => {
                (State::Established, true)
            }
            (Kind::Ack | Kind::SynAck | Kind::Fin | Kind::Rst | Kind::Nonsense, _) => return None,
        };
        let initial = (kind == Kind::Syn).then_some(fields.sequence);
        let sides = [Side::default(); 2];
        let mut tracker =
            Self { state, sides, simultaneous: false, answered: false, liberal, initial };
        tracker.in_window(Sender::Originator, packet, fields);
        Some(tracker)
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    /// A SYN of the originator that begins another connection rather than repeating this one.
    pub(super) fn is_another_connection(&self, fields: &TcpFields) -> bool {
        fields.is_syn() && self.initial != Some(fields.sequence)
    }

    /// Judges a segment and moves on.
    pub(super) fn observe(
        &mut self,
        sender: Sender,
        packet: &Packet,
        fields: &TcpFields,
        tracking: Tracking,
    ) -> Judgement {
        let kind = Kind::of(fields);
        let step = match next(self.state, sender, kind) {
            Next::Invalid if tracking != Tracking::None => return Judgement::Invalid,
            Next::Invalid => self.rough_step(sender, kind),
            step @ (Next::To(_) | Next::Ignore) => step,
        };
        if step == Next::To(State::SynSent) && self.state != State::SynSent {
            // A new connection between the same ends: nothing known is true any more.
            let liberal = self.liberal;
            let fresh = Self::begin(packet, fields, tracking, MidStream::Refuse);
            *self = fresh.unwrap_or_else(|| self.clone());
            self.liberal = liberal;
            return Judgement::Valid;
        }
        if step != Next::Ignore && !self.in_window(sender, packet, fields) {
            let strict = tracking == Tracking::StrictWindow && !self.liberal;
            if strict {
                return Judgement::Invalid;
            }
        }
        self.enter(step, sender, kind);
        if sender == Sender::Originator && fields.is_syn() {
            self.initial = Some(fields.sequence);
        }
        self.answered |= sender == Sender::Responder;
        Judgement::Valid
    }

    fn enter(&mut self, step: Next, sender: Sender, kind: Kind) {
        let Next::To(state) = step else { return };
        self.simultaneous |= state == State::SynSentBoth;
        let finishes = self.state == State::SynReceived
            && self.simultaneous
            && sender == Sender::Responder
            && kind == Kind::Ack;
        self.state = if finishes { State::Established } else { state };
    }

    /// How a box that tracks only roughly takes what netfilter would refuse.
    fn rough_step(&self, sender: Sender, kind: Kind) -> Next {
        match (kind, sender) {
            (Kind::SynAck, _) if self.state < State::SynReceived => Next::To(State::SynReceived),
            (Kind::Ack, _) if self.state < State::Established => Next::To(State::Established),
            (Kind::SynAck | Kind::Ack | Kind::Syn | Kind::Fin | Kind::Rst | Kind::Nonsense, _) => {
                Next::Ignore
            }
        }
    }

    /// Whether the segment lies where both sides allow it; learns from it if so.
    fn in_window(&mut self, sender: Sender, packet: &Packet, fields: &TcpFields) -> bool {
        let [originator, responder] = &mut self.sides;
        let (own, peer) = match sender {
            Sender::Originator => (originator, responder),
            Sender::Responder => (responder, originator),
        };
        let mut sight = Sight {
            sequence: fields.sequence,
            end: fields.sequence.wrapping_add(fields.length()),
            acknowledgment: fields.acknowledgment,
            window: u32::from(fields.window),
        };
        if own.window == 0 && fields.has(flag::RST) {
            // A RST tells nothing about the side it came from.
            return true;
        }
        let syn = fields.has(flag::SYN);
        let reopened = self.state == State::SynSent
            && sender == Sender::Originator
            && syn
            && after(sight.end, own.end);
        if own.window == 0 || reopened {
            own.first_sight(peer, &sight, fields, packet);
            if syn && !fields.has(flag::ACK) {
                return true;
            }
        }
        if !fields.has(flag::ACK) {
            sight.acknowledgment = peer.end;
        }
        let reset = fields.has(flag::RST);
        let unnumbered = sight.sequence == 0 && self.state == State::SynSent;
        if sight.sequence == sight.end && (!reset || unnumbered) {
            // Without data only the acknowledgment is judged; a RST by its sequence number, unless it
            // answers a SYN and so has none.
            (sight.sequence, sight.end) = (own.end, own.end);
        }
        let inside = own.admits(peer, &sight);
        if inside {
            if !syn {
                sight.window <<= own.scale;
            }
            own.learn(peer, &sight, fields.has(flag::ACK));
        }
        inside
    }

    /// How long the flow may be idle from now on.
    pub(super) fn lifetime(&self, timers: &TcpTimers) -> std::time::Duration {
        match self.state {
            State::SynSent | State::SynSentBoth => timers.syn_sent,
            State::SynReceived => timers.syn_received,
            State::Established => timers.established,
            State::FinWait | State::CloseWait | State::LastAck | State::TimeWait => timers.closing,
            State::Closed => timers.closed,
        }
    }
}

impl Side {
    /// The first segment of this side.
    fn first_sight(&mut self, peer: &mut Self, sight: &Sight, fields: &TcpFields, packet: &Packet) {
        self.end = sight.end;
        if fields.has(flag::SYN) {
            self.most = sight.end;
            self.window = sight.window.max(1);
            self.scale = packet.window_scale().unwrap_or_default();
        } else {
            self.window = sight.window.max(1);
            self.most = sight.end.wrapping_add(self.window);
        }
        if fields.has(flag::ACK) && peer.window == 0 {
            (peer.end, peer.most) = (sight.acknowledgment, sight.acknowledgment);
        }
    }

    /// Netfilter's four bounds: the peer's window above and below for the sequence number, what the
    /// peer sent above and below for the acknowledgment.
    fn admits(&self, peer: &Self, sight: &Sight) -> bool {
        /// Least distance an acknowledgment may lag behind.
        const LEAST_LAG: u32 = 66_000;
        let lag = self.window.max(LEAST_LAG);
        let lowest = self.end.wrapping_sub(peer.window).wrapping_sub(1);
        after(self.most.wrapping_add(1), sight.sequence)
            && after(sight.end, lowest)
            && !after(sight.acknowledgment, peer.end)
            && after(sight.acknowledgment, peer.end.wrapping_sub(lag).wrapping_sub(1))
    }

    fn learn(&mut self, peer: &mut Self, sight: &Sight, acknowledges: bool) {
        self.window = self.window.max(sight.window);
        if after(sight.end, self.end) {
            self.end = sight.end;
        }
        if after(sight.end, self.most) {
            peer.window = peer.window.wrapping_add(sight.end.wrapping_sub(self.most));
            self.most = sight.end;
        }
        if acknowledges {
            let allowed = sight.acknowledgment.wrapping_add(sight.window.max(1));
            if after(allowed, peer.most) {
                peer.most = allowed;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 9] = [
        State::SynSent,
        State::SynSentBoth,
        State::SynReceived,
        State::Established,
        State::FinWait,
        State::CloseWait,
        State::LastAck,
        State::TimeWait,
        State::Closed,
    ];

    /// Two letters for each state in the order above, `ig` for ignored and `iv` for invalid.
    fn letters(next: Next) -> &'static str {
        match next {
            Next::Ignore => "ig",
            Next::Invalid => "iv",
            Next::To(State::SynSent) => "ss",
            Next::To(State::SynSentBoth) => "s2",
            Next::To(State::SynReceived) => "sr",
            Next::To(State::Established) => "es",
            Next::To(State::FinWait) => "fw",
            Next::To(State::CloseWait) => "cw",
            Next::To(State::LastAck) => "la",
            Next::To(State::TimeWait) => "tw",
            Next::To(State::Closed) => "cl",
        }
    }

    #[test]
    fn the_table_is_netfilters() {
        let table = [
            (Sender::Originator, Kind::Syn, "ss s2 ig ig ig ig ig ss ss"),
            (Sender::Originator, Kind::SynAck, "iv sr sr iv iv iv iv iv iv"),
            (Sender::Originator, Kind::Fin, "iv iv fw fw la la la tw cl"),
            (Sender::Originator, Kind::Ack, "iv iv es es cw cw tw tw cl"),
            (Sender::Originator, Kind::Rst, "cl cl cl cl cl cl cl cl cl"),
            (Sender::Originator, Kind::Nonsense, "iv iv iv iv iv iv iv iv iv"),
            (Sender::Responder, Kind::Syn, "s2 s2 iv iv iv iv iv ss iv"),
            (Sender::Responder, Kind::SynAck, "sr sr ig ig ig ig ig ig ig"),
            (Sender::Responder, Kind::Fin, "iv iv fw fw la la la tw cl"),
            (Sender::Responder, Kind::Ack, "ig ig sr es cw cw tw tw cl"),
            (Sender::Responder, Kind::Rst, "cl cl cl cl cl cl cl cl cl"),
            (Sender::Responder, Kind::Nonsense, "iv iv iv iv iv iv iv iv iv"),
        ];
        for (sender, kind, row) in table {
            let got = STATES.map(|state| letters(next(state, sender, kind))).join(" ");
            assert_eq!(got, row, "{sender:?} {kind:?}");
        }
    }
}
