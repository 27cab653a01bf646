//! What the strategies that make segments by hand have in common.
//!
//! ```text
//!  A                        NA                          NB                        B
//!  |--SYN isnA, TTL 2------>|---x                   x---|<------SYN isnB, TTL 2---|   both NATs are open
//!  |  seen as it leaves     |                           |      seen as it leaves  |
//!  |== isnA and options ========== broker ====================== isnB, likewise ==|   both are armed
//! ```
//!
//! Both sides have a fresh port each, the *stand*, that no segment has left from towards the peer; a
//! server has told its mapping. A shielded socket opens the own NAT (see
//! [`shielded_opener`](super::shielded_opener)), so that nobody is refused and no mapping is lost, and
//! what it has sent is told to the peer. Who knows both SYNs is *armed*, and sends what its strategies
//! want, each its [`Volley`]:
//!
//! | strategy | segment | first |
//! |---|---|---|
//! | [`syn_replay`](super::syn_replay) | the own SYN once more, all the way | at once |
//! | [`syn_ack_injection`](super::syn_ack_injection) | the answer to the peer's SYN, and that SYN into the own stack | once the copies have crossed |
//! | [`syn_injection`](super::syn_injection) | the peer's SYN, into the own stack | likewise, where only one side can send |
//!
//! In IPv6 the shield does not hold, so that the first SYN goes all the way.
//!
//! A SYN whose number was fixed instead of seen is told without window scale and timestamps (see
//! [`pinned`](super::spoofed_syn_ack::pinned)). What one side does not offer the other one's segments
//! leave out, so that both ends agree on what the connection has.

use std::time::{Duration, Instant};

use super::plan::Privileges;
use super::spoofed_syn_ack::Knowledge;
use crate::command::Ends;
use crate::segment::{Options, Segment, flag};
use crate::signal::Syn;

/// TTL of what is sent all the way: that of any host.
pub const TTL: u8 = 64;

/// What a side can contribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Means {
    /// It can tell its own SYN.
    pub knows: bool,
    /// It can send segments.
    pub injects: bool,
}

impl Means {
    /// What these privileges allow.
    pub fn of(privileges: Option<Privileges>) -> Self {
        let held = privileges.unwrap_or(Privileges::NONE);
        Self { knows: Knowledge::with(held).is_some(), injects: held.inject }
    }

    /// Whether it can do all of it.
    pub fn are_full(self) -> bool {
        self.knows && self.injects
    }
}

/// Equal segments at given times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volley {
    from: Instant,
    left_ms: &'static [u64],
}

impl Volley {
    /// One segment at each of these times after `from`, in milliseconds; they ascend.
    pub fn new(from: Instant, at_ms: &'static [u64]) -> Self {
        Self { from, left_ms: at_ms }
    }

    /// When the next one leaves.
    pub fn due(&self) -> Option<Instant> {
        self.left_ms.first().map(|after| self.from + Duration::from_millis(*after))
    }

    /// Whether one leaves now. Those that were missed are left out: one does as well as several.
    pub fn fire(&mut self, now: Instant) -> bool {
        let fires = self.due().is_some_and(|due| due <= now);
        while self.due().is_some_and(|due| due <= now) {
            self.left_ms = &self.left_ms[1..];
        }
        fires
    }
}

/// A bare SYN with what both sides offer.
pub(super) fn syn(of: &Syn, other: &Syn, ends: Ends) -> Segment {
    let (ours, theirs) = (of.options, other.options);
    Segment {
        source: ends.local,
        destination: ends.remote,
        flags: flag::SYN,
        sequence: of.sequence,
        acknowledgment: 0,
        window: of.window,
        options: Options {
            max_segment_size: ours.max_segment_size,
            window_scale: ours.window_scale.filter(|_| theirs.window_scale.is_some()),
            sack_permitted: ours.sack_permitted && theirs.sack_permitted,
            timestamps: ours.timestamps.filter(|_| theirs.timestamps.is_some()),
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::machine::any_instant;
    use crate::segment::Timestamps;

    pub(in crate::tcp_traversal) fn full(sequence: u32, clock: u32) -> Syn {
        let options = Options {
            max_segment_size: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { value: clock, echo: 0 }),
        };
        Syn { sequence, window: 64_240, options }
    }

    pub(in crate::tcp_traversal) fn ends() -> Ends {
        let [local, remote] =
            ["192.168.1.2:4000", "198.51.100.7:5000"].map(|it| it.parse().expect("an address"));
        Ends { local, remote }
    }

    #[test]
    fn each_segment_of_a_volley_leaves_once_and_late_ones_not_in_a_burst() {
        let start = any_instant();
        let mut volley = Volley::new(start, &[0, 100, 200, 300]);
        let fires =
            [0, 0, 99, 100, 350, 900].map(|ms| volley.fire(start + Duration::from_millis(ms)));
        assert_eq!(fires, [true, false, false, true, true, false]);
        assert_eq!(volley.due(), None);
    }

    #[test]
    fn who_may_capture_and_send_has_all_means() {
        let raw = Privileges { capture: true, inject: true, assume: false };
        assert!(Means::of(Some(raw)).are_full());
        let pinned = Privileges { capture: false, inject: true, assume: true };
        assert!(Means::of(Some(pinned)).are_full());
        let only = Privileges { assume: true, ..Privileges::NONE };
        assert_eq!(Means::of(Some(only)), Means { knows: true, injects: false });
        assert_eq!(Means::of(None), Means { knows: false, injects: false });
    }
}
