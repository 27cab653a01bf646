//! Timestamps of one connection (RFC 7323), which smoltcp does not keep by a clock of ours.
//!
//! Every SYN offers them. A SYN-ACK must echo a value that was sent, or nothing: Linux answers any
//! other with a RST. Whatever the peer's first value was is taken for its clock, and a segment whose
//! value lies before the last one is dropped (PAWS, section 5): a value that was invented for the peer
//! therefore silences it.

use std::time::Instant;

use ntcp_proto::segment::Timestamps;

/// What becomes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    /// It is old.
    Drop,
    /// It echoes what was never sent.
    Refuse,
}

/// The clocks of both ends.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    first: u32,
    epoch: Instant,
    /// The peer's, as last heard; none if it has not offered any.
    peer: Option<u32>,
    negotiated: bool,
}

impl Clock {
    /// A clock that starts anywhere.
    pub(super) fn new(first: u32, epoch: Instant) -> Self {
        Self { first, epoch, peer: None, negotiated: false }
    }

    /// What a segment carries: a SYN offers, the others only what both have offered.
    pub(super) fn stamp(&self, is_syn: bool, now: Instant) -> Option<Timestamps> {
        let echo = self.peer.unwrap_or_default();
        (is_syn || self.negotiated).then(|| Timestamps { value: self.read(now), echo })
    }

    fn read(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.epoch).as_millis();
        self.first.wrapping_add(elapsed as u32)
    }

    /// A SYN or SYN-ACK of the peer, which `answers` our own SYN or not.
    pub(super) fn greet(
        &mut self,
        told: Option<Timestamps>,
        answers: bool,
        now: Instant,
    ) -> Verdict {
        let echo = told.map_or(0, |it| it.echo);
        let sent = self.read(now).wrapping_sub(self.first);
        if answers && echo != 0 && echo.wrapping_sub(self.first) > sent {
            return Verdict::Refuse;
        }
        self.negotiated = told.is_some();
        self.peer = told.map(|it| it.value);
        Verdict::Take
    }

    /// Any later segment.
    pub(super) fn hear(&mut self, told: Option<Timestamps>) -> Verdict {
        let Some((told, peer)) = told.zip(self.peer).filter(|_| self.negotiated) else {
            return Verdict::Take;
        };
        if told.value.wrapping_sub(peer).cast_signed() < 0 {
            return Verdict::Drop;
        }
        self.peer = Some(told.value);
        Verdict::Take
    }
}
