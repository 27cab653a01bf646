//! How holes are opened, and kept open where the far NAT answers strangers.
//!
//! ```text
//!  cover side B           NB      a router                 NA (answers strangers)
//!  |--- SYN, TTL 2 ------->|---------->x                    |    a hole
//!  |                       |                                |
//!  |--- SYN, TTL 64 ------>|------------------------------->|    the kernel's repeat, after a second
//!  |<-- RST ---------------|<-------------------------------|    and the hole is gone
//! ```
//!
//! So a connect to which no SYN has come is begun anew before that, with a low TTL again. Where the far NAT
//! drops strangers the repeats are welcome instead: one that goes all the way finds what a draw has opened, which
//! is what a side needs whose own NAT lets no SYN in. What the far NAT does is not always known, nor
//! how far away the own outermost one is. A few scouts find out, a moment before the others: at
//! first they go one router further, and then all the way. As long as nobody knows whether the own NAT lets
//! SYNs in, the repeats of every third hole go all the way. What is measured meanwhile is taken over.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::shielded_opener::{HIGHEST_TTL, LEAST_TTL, OPENER_TTL};
use crate::{Hops, SocketId};

/// When a hole's SYN is sent anew: the kernel would repeat it after a second (RFC 6298 section 2).
/// A busy host may be late.
pub const RENEWAL: Duration = Duration::from_millis(800);
/// How long holes are kept open so where nobody knows whether our NAT lets a SYN in. Who has not been met by then has
/// perhaps one that does not, and SYNs that go all the way are the last that can help.
const RENEWED_FOR: Duration = Duration::from_secs(5);
/// One hole of so many is left to the kernel where nobody knows whether our NAT lets a SYN in.
const LEFT_ALONE: u32 = 3;
/// Holes whose SYNs go first where nobody knows how far.
const SCOUTS: u32 = 4;
/// So much earlier than the others': an answer of the far NAT is there by then.
const AHEAD: Duration = Duration::from_millis(400);
/// Holes that an answer has closed, from which on the far NAT counts as one that answers.
const REFUSALS: u32 = 2;

/// What is known of the NATs at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opener {
    /// The TTL of a SYN that dies on the way.
    pub ttl: u8,
    /// It has been seen to open our NAT. If not, a carrier's may stand behind it, and SYNs go further in time.
    pub is_measured: bool,
    /// Whether the far NAT answers what comes all the way.
    pub answered: Option<bool>,
    /// Whether our own NAT lets a SYN in after one went out.
    pub admits_syn: Option<bool>,
}

impl Default for Opener {
    fn default() -> Self {
        Self { ttl: OPENER_TTL, is_measured: false, answered: None, admits_syn: None }
    }
}

/// A hole that nobody has come through yet.
#[derive(Debug, Clone, Copy)]
struct Hole {
    socket: SocketId,
    /// How many routers further its SYN went; `None` for all the way.
    further: Option<u8>,
    is_scout: bool,
    /// It is one of those that the kernel may repeat.
    may_repeat: bool,
    due: Instant,
}

/// The holes of one side.
#[derive(Debug)]
pub(super) struct Upkeep {
    /// `None` for SYNs that go all the way, and are left alone.
    opener: Option<Opener>,
    started: Instant,
    opened: u32,
    /// The one that is due first is the first.
    holes: VecDeque<Hole>,
    /// Scouts have gone all the way.
    is_loud: bool,
    /// The hole that was closed last.
    closed: Option<Hole>,
    /// Scouts that were answered before they went all the way, and all holes that were.
    refused_near: u32,
    refused: u32,
}

impl Upkeep {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            opener: None,
            started,
            opened: 0,
            holes: VecDeque::new(),
            is_loud: false,
            closed: None,
            refused_near: 0,
            refused: 0,
        }
    }

    /// More is known by now.
    pub(super) fn learn(&mut self, opener: Option<Opener>) {
        self.opener = opener;
    }

    /// SYNs die on the way.
    pub(super) fn opens(&self) -> bool {
        self.opener.is_some()
    }

    /// Nobody knows that our NAT lets SYNs in, nor that what goes all the way is never answered and stays.
    pub(super) fn may_be_strict(&self) -> bool {
        let may = |it: Opener| it.admits_syn != Some(true) && it.answered != Some(false);
        self.opener.is_some_and(may)
    }

    /// Our NAT lets no SYN in: what goes all the way finds a draw, or nobody is met.
    pub(super) fn is_strict(&self) -> bool {
        self.opener.is_some_and(|it| it.admits_syn == Some(false))
    }

    /// Our NAT is known to let a SYN in.
    fn admits_syn(&self) -> bool {
        self.opener.is_some_and(|it| it.admits_syn == Some(true))
    }

    /// How the SYN of the next hole leaves; in some attempts one router further.
    pub(super) fn next(&self, attempt_goes_further: bool) -> Hops {
        let further = self.further(attempt_goes_further);
        self.hops((!self.is_strict()).then_some(further))
    }

    fn further(&self, attempt_goes_further: bool) -> u8 {
        u8::from((attempt_goes_further || self.opened < SCOUTS) && self.may_go_further())
    }

    /// It leaves.
    pub(super) fn opened(&mut self, socket: SocketId, attempt_goes_further: bool, now: Instant) {
        let further = Some(self.further(attempt_goes_further));
        let is_scout = self.opened < SCOUTS && self.needs_scouts();
        self.opened += 1;
        let may_repeat = !is_scout && self.opened.is_multiple_of(LEFT_ALONE);
        self.insert(Hole { socket, further, is_scout, may_repeat, due: now }, now);
    }

    fn insert(&mut self, hole: Hole, now: Instant) {
        let due = now + if hole.is_scout { RENEWAL - AHEAD } else { RENEWAL };
        let at = self.holes.partition_point(|it| it.due <= due);
        self.holes.insert(at, Hole { due, ..hole });
    }

    /// It is no hole any more; whether it was one.
    pub(super) fn closed(&mut self, socket: SocketId) -> bool {
        let at = self.holes.iter().position(|it| it.socket == socket);
        self.closed = at.and_then(|at| self.holes.remove(at));
        self.closed.is_some()
    }

    /// The one that was closed last was answered with RST or ICMP. Only of a scout is it certain how far it
    /// went: the others may have been repeated.
    pub(super) fn refused(&mut self) {
        self.refused += 1;
        self.refused_near += u32::from(self.closed.is_some_and(|it| it.is_scout));
    }

    fn needs_scouts(&self) -> bool {
        let unsure = |it: Opener| it.answered != Some(false) && !self.is_strict();
        self.opener.is_some_and(|it| unsure(it) && !(it.is_measured && it.answered.is_some()))
    }

    fn may_go_further(&self) -> bool {
        self.opener.is_some_and(|it| !it.is_measured) && self.refused_near < REFUSALS
    }

    /// Whether SYNs that go all the way do harm.
    fn is_answered(&self) -> bool {
        let answered = |it: Opener| it.answered.unwrap_or(self.refused >= REFUSALS);
        self.opener.is_some_and(|it| answered(it) && !self.is_strict())
    }

    /// The first whose SYN is sent anew.
    fn first(&self) -> Option<usize> {
        let renews = self.is_answered();
        let all = self.admits_syn();
        let is_due = |it: &Hole| it.is_scout || renews && (all || !it.may_repeat);
        self.holes.iter().position(is_due)
    }

    /// When the next SYN is due anew.
    pub(super) fn due(&self) -> Option<Instant> {
        let next = self.first()?;
        let is_late = |due: &Instant| *due >= self.started + RENEWED_FOR;
        Some(self.holes[next].due).filter(|due| self.admits_syn() || !is_late(due))
    }

    /// The next hole that is due, and how its SYN leaves anew.
    pub(super) fn renew(&mut self, now: Instant) -> Option<(SocketId, Hops)> {
        self.due().filter(|due| *due <= now)?;
        let mut hole = self.holes.remove(self.first()?)?;
        if !self.is_answered() {
            // Who has gone all the way has nothing more to find out.
            (hole.is_scout, hole.further, self.is_loud) = (false, None, true);
        } else if self.may_go_further() {
            // As far as scouts have been.
            let most = if self.is_loud { 1 } else { HIGHEST_TTL };
            hole.further = hole.further.map(|it| (it + 1).min(most));
        }
        self.insert(hole, now);
        Some((hole.socket, self.hops(hole.further)))
    }

    /// How the last SYN of a hole left, or would leave if it were to die on the way.
    pub(super) fn of(&self, socket: SocketId) -> Option<Hops> {
        let hole = self.holes.iter().find(|it| it.socket == socket)?;
        Some(self.hops(hole.further.or(Some(0))))
    }

    fn hops(&self, further: Option<u8>) -> Hops {
        let low = |opener: Opener, further| {
            opener.ttl.saturating_add(further).min(HIGHEST_TTL.max(opener.ttl))
        };
        let ttl = self.opener.zip(further).map(|(opener, further)| low(opener, further));
        Hops { ttl, least: Some(LEAST_TTL) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Names, Owner};
    use crate::machine::any_instant;

    const OTHERS: usize = 2;
    const OPEN: Opener =
        Opener { ttl: OPENER_TTL, is_measured: false, answered: None, admits_syn: Some(true) };

    /// Four scouts and two others: when which is opened anew, and its TTL; `refused` scouts are answered when
    /// they have gone so far.
    fn run(
        opener: Opener,
        refused: Option<Option<u8>>,
        until: u64,
    ) -> Vec<(u128, usize, Option<u8>)> {
        let start = any_instant();
        let mut names = Names::new(Owner(1));
        let mut upkeep = Upkeep::new(start);
        upkeep.learn(Some(opener));
        let sockets: Vec<_> = (0..SCOUTS as usize + OTHERS).map(|_| names.socket()).collect();
        let mut sent = Vec::new();
        for (at, socket) in sockets.iter().enumerate() {
            sent.push((0, at, upkeep.next(false).ttl));
            upkeep.opened(*socket, false, start);
        }
        let end = start + Duration::from_millis(until);
        let mut told = 0;
        loop {
            let next = upkeep.due().map(|due| (due - start).as_millis());
            // The answers to what left at one instant come before the next.
            while told < sent.len() && next != Some(sent[told].0) {
                let (_, at, ttl) = sent[told];
                told += 1;
                if refused == Some(ttl) && at < SCOUTS as usize {
                    upkeep.closed(sockets[at]);
                    upkeep.refused();
                }
            }
            let Some(now) = upkeep.due().filter(|due| *due < end) else { return sent };
            let (socket, hops) = upkeep.renew(now).expect("it is due");
            let at = sockets.iter().position(|it| *it == socket).unwrap();
            sent.push(((now - start).as_millis(), at, hops.ttl));
        }
    }

    /// What left after the beginning.
    fn renewed(
        opener: Opener,
        refused: Option<Option<u8>>,
        until: u64,
    ) -> Vec<(u128, usize, Option<u8>)> {
        run(opener, refused, until).split_off(SCOUTS as usize + OTHERS)
    }

    fn scouts(at: u128, ttl: Option<u8>) -> Vec<(u128, usize, Option<u8>)> {
        (0..SCOUTS as usize).map(|it| (at, it, ttl)).collect()
    }

    fn others(at: u128, ttl: u8) -> Vec<(u128, usize, Option<u8>)> {
        (0..OTHERS).map(|it| (at, SCOUTS as usize + it, Some(ttl))).collect()
    }

    #[test]
    fn scouts_go_further_and_then_all_the_way_and_where_nobody_answers_the_others_are_left_alone() {
        let opener = OPEN;
        let first: Vec<_> = run(opener, None, 1).iter().map(|it| it.2).collect();
        assert_eq!(first, [3, 3, 3, 3, 2, 2].map(Some));
        assert_eq!(renewed(opener, None, 10_000), scouts(400, None));
    }

    #[test]
    fn where_the_far_nat_answers_what_goes_all_the_way_holes_are_opened_anew_as_far_as_scouts_came()
    {
        let sent = renewed(OPEN, Some(None), 2_000);
        assert_eq!(sent, [scouts(400, None), others(800, 3), others(1_600, 3)].concat());
    }

    #[test]
    fn where_the_far_nat_is_near_no_syn_goes_further() {
        let sent = renewed(OPEN, Some(Some(3)), 2_000);
        assert_eq!(sent, [others(800, 2), others(1_600, 2)].concat());
    }

    #[test]
    fn where_the_far_nat_is_known_to_answer_none_goes_all_the_way() {
        let opener = Opener { answered: Some(true), ..OPEN };
        let sent = renewed(opener, None, 1_100);
        assert_eq!(sent, [scouts(400, Some(4)), others(800, 3), scouts(800, Some(4))].concat());
        let opener = Opener { is_measured: true, ..opener };
        let first: Vec<_> = run(opener, None, 1).iter().map(|it| it.2).collect();
        assert_eq!(first, [Some(2); 6]);
        assert_eq!(renewed(opener, None, 1_100), [scouts(800, Some(2)), others(800, 2)].concat());
    }

    #[test]
    fn where_nobody_knows_whether_syns_come_in_the_system_repeats_every_third() {
        let unknown = Opener { admits_syn: None, answered: Some(true), ..OPEN };
        let renewed: Vec<_> = renewed(unknown, None, 801).iter().map(|it| it.1).collect();
        assert_eq!(renewed, [0, 1, 2, 3, 4, 0, 1, 2, 3], "the sixth is left alone");
    }

    #[test]
    fn an_answer_to_what_the_system_has_repeated_does_not_say_how_near_the_far_nat_is() {
        let (mut names, start) = (Names::new(Owner(1)), any_instant());
        let opener = Opener { answered: Some(true), admits_syn: None, ..OPEN };
        let mut upkeep = Upkeep::new(start);
        upkeep.learn(Some(opener));
        let sockets: Vec<_> = (0..12).map(|_| names.socket()).collect();
        sockets.iter().for_each(|it| upkeep.opened(*it, false, start));
        for left_alone in [5, 8] {
            assert!(upkeep.closed(sockets[left_alone]));
            upkeep.refused();
        }
        let later = start + RENEWAL;
        let hops = std::iter::from_fn(|| upkeep.renew(later)).find(|it| it.0 == sockets[4]);
        assert_eq!(
            hops.and_then(|it| it.1.ttl),
            Some(3),
            "one router further, as scouts have been"
        );
    }

    #[test]
    fn in_the_end_and_where_our_nat_is_strict_or_theirs_silent_the_system_repeats_what_it_likes() {
        let answered = Opener { answered: Some(true), ..OPEN };
        let unknown = Opener { admits_syn: None, ..answered };
        let last = |opener, until| renewed(opener, None, until).last().map_or(0, |it| it.0);
        assert!((4_000..5_000).contains(&last(unknown, 60_000)));
        assert!((29_000..30_000).contains(&last(answered, 30_000)), "as long as SYNs come in");
        for alone in [
            Opener { admits_syn: Some(false), ..answered },
            Opener { answered: Some(false), ..OPEN },
        ] {
            assert_eq!(renewed(alone, None, 60_000), []);
        }
    }
}
