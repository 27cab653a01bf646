//! Rounds: fresh ports on both sides, one SYN each, and again with others if nothing came of it.
//!
//! ```text
//!  A                        NA              broker, STUN               NB                  B
//!  |--fresh port a1: whose?-->|---------------->| |<-------------------|<--fresh port b1---|
//!  |<-"a1 is A*:p"------------|<----------------| |------------------->|---"b1 is B*:q"--->|
//!  |== "round 1, meet me at A*:p" =============>| |<===== "round 1, meet me at B*:q" ======|
//!  |--SYN a1 to B*:q, TTL 2-->|----->x                                 |                   |
//!  |== "round 1: opened" =======================================================>==========|
//!  |<-------------------------|<---------------------------------------|<--SYN b1 to A*:p--|
//!  |--SYN+ACK---------------->|--------------------------------------->|------------------>|
//! ```
//!
//! What an earlier SYN has done to a pair of ends cannot always be undone: a NAT may have given the
//! port up over an RST or an ICMP error, or remember the sequence number of a socket that is gone.
//! Ends that nobody has used have no past. Where each one's fresh port is met says a server just
//! before, or, if ports follow one another, the forecast from its samples.
//!
//! - *Recovery*, when both ports are steady or one of them is sequential: begins after a refusal, or
//!   when nothing has come for a while, next to all that goes on already. One side opens first and
//!   says so, so that nothing provokes an answer, however late the peer hears of it. In the second round
//!   the parts change, should the opener's NAT give its port up over the end of its SYN's TTL. Should both
//!   do so, the third is a [staggered crossing](super::crossing), with which they begin at once where
//!   that is known. Then all of it comes again, with an
//!   opener that goes one router further.
//! - *Two sequential sides* have no other way, so the rounds begin at once. In odd ones both dial as
//!   soon as they know of each other's forecast, which saves the opener's word; in even ones one opens.
//!
//! A round that has brought nothing ends after a while, and who hears of a later round joins it.
//!
//! Preconditions: a STUN server over TCP; ports that are steady or sequential. No privilege.

use std::time::{Duration, Instant};

use super::plan::Part;
use super::shielded_opener::{HIGHEST_TTL, OPENER_TTL};

/// Most rounds.
pub const MAX_ROUNDS: u8 = 6;
/// How long a round waits for its connection beyond three round trips to the broker.
const MARGIN: Duration = Duration::from_millis(500);
/// The same for a dialer that knows that the other side has opened.
const DIALERS_MARGIN: Duration = Duration::from_millis(100);
/// And for the opener, which hears late of the dialer's failure.
const OPENERS_MARGIN: Duration = Duration::from_secs(2);

/// What rounds are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Both sides' ports are sequential.
    Foretold,
    /// What went before has come to nothing.
    Recovery,
}

/// What a round is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A fresh survey is under way.
    Surveying,
    /// Where we can be met was told; where the peer can be is awaited.
    Told,
    /// Our SYN is out.
    Fired {
        /// Until then its connection is waited for.
        until: Instant,
    },
}

/// The rounds of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    /// What they are for.
    pub purpose: Purpose,
    /// The present one, from 1.
    pub round: u8,
    /// What it is at.
    pub stage: Stage,
    /// The one that came first.
    pub first: u8,
    /// That one went on beside the announced ports from the start: it is part of the first try.
    pub beside: bool,
}

impl Rounds {
    /// The first round, or the peer's if that is later; it begins with a survey.
    pub fn first(purpose: Purpose, peers: u8) -> Self {
        let round = peers.clamp(1, MAX_ROUNDS);
        Self { purpose, round, stage: Stage::Surveying, first: round, beside: false }
    }

    /// The round after this one, or the peer's if that is later; `None` after the last. A peer that
    /// claims to be beyond the last is taken to be in it.
    pub fn next(self, peers: u8) -> Option<Self> {
        let round = (self.round + 1).max(peers.min(MAX_ROUNDS));
        (round <= MAX_ROUNDS).then_some(Self { round, stage: Stage::Surveying, ..self })
    }

    /// This round, or the next one in which SYNs cross, if there is one; else this one.
    pub fn crossing(self) -> Self {
        let next = self.round.next_multiple_of(Self::FIRST_CROSSING);
        match self.purpose {
            Purpose::Recovery if next <= MAX_ROUNDS => Self { round: next, ..self },
            Purpose::Recovery | Purpose::Foretold => self,
        }
    }

    /// How many tries came before this round: a recovery follows the first one, unless it is part of that.
    pub fn earlier(self) -> u8 {
        let rounds = self.round.saturating_sub(self.first);
        match self.purpose {
            Purpose::Recovery if !self.beside => rounds + 1,
            Purpose::Foretold | Purpose::Recovery => rounds,
        }
    }

    /// The first round that is worth it where both NATs are known to give a port up over a TTL that
    /// ended.
    pub const FIRST_CROSSING: u8 = 3;

    /// Our part, if it would be `part` by rights.
    pub fn part(self, part: Part) -> Part {
        match (self.purpose, self.round % 2, self.round % Self::FIRST_CROSSING, part) {
            (Purpose::Foretold, 1, _, _) | (Purpose::Recovery, _, 0, _) => Part::Both,
            (Purpose::Recovery, _, 2, Part::Opener) => Part::Dialer,
            (Purpose::Recovery, _, 2, Part::Dialer) => Part::Opener,
            (_, _, _, part) => part,
        }
    }

    /// The opener's TTL, which begins with `measured`, if it was, and goes further when they begin anew.
    pub fn ttl(self, measured: Option<u8>) -> u8 {
        let first = measured.unwrap_or(OPENER_TTL);
        let further = match self.purpose {
            Purpose::Foretold => (self.round / 2).saturating_sub(1) % 3,
            Purpose::Recovery => (self.round - 1) / Self::FIRST_CROSSING,
        };
        first.saturating_add(further).min(first.max(HIGHEST_TTL))
    }

    /// How long a round lasts after the SYN of this `part`.
    pub fn patience(self, part: Part, rtt: Duration) -> Duration {
        let margin = match (self.purpose, part) {
            (Purpose::Foretold, _) => MARGIN,
            (Purpose::Recovery, Part::Opener | Part::Both) => OPENERS_MARGIN,
            (Purpose::Recovery, _) => DIALERS_MARGIN,
        };
        3 * rtt + margin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(purpose: Purpose) -> Vec<Rounds> {
        std::iter::successors(Some(Rounds::first(purpose, 0)), |rounds| rounds.next(0)).collect()
    }

    fn opens(rounds: &Rounds) -> Option<u8> {
        (rounds.part(Part::Opener) == Part::Opener).then(|| rounds.ttl(None))
    }

    #[test]
    fn two_sequential_sides_dial_both_and_open_in_turns_and_go_further_and_end() {
        let openers: Vec<_> = all(Purpose::Foretold).iter().map(opens).collect();
        assert_eq!(openers, [None, Some(2), None, Some(3), None, Some(4)]);
    }

    #[test]
    fn a_recovery_follows_a_try_and_a_forecast_is_one() {
        let earlier = |purpose| all(purpose).iter().map(|it| it.earlier()).collect::<Vec<_>>();
        assert_eq!(earlier(Purpose::Foretold), [0, 1, 2, 3, 4, 5]);
        assert_eq!(earlier(Purpose::Recovery), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn recovery_changes_the_parts_lets_syns_cross_and_goes_further_then() {
        let rounds = all(Purpose::Recovery);
        let openers: Vec<_> = rounds.iter().map(opens).collect();
        assert_eq!(openers, [Some(2), None, None, Some(3), None, None]);
        let other = |it: &Rounds| it.part(Part::Dialer);
        let others: Vec<_> = rounds.iter().map(other).collect();
        let once = [Part::Dialer, Part::Opener, Part::Both];
        assert_eq!(others, [once, once].concat());
    }

    #[test]
    fn where_no_opener_helps_only_crossings_are_left() {
        let rounds = all(Purpose::Recovery);
        let left: Vec<_> = rounds.iter().map(|it| it.crossing().round).collect();
        assert_eq!(left, [3, 3, 3, 6, 6, 6]);
        assert!(rounds.iter().all(|it| it.crossing().part(Part::Opener) == Part::Both));
        let foretold = all(Purpose::Foretold);
        assert!(foretold.iter().all(|it| it.crossing() == *it));
    }

    #[test]
    fn a_measured_ttl_comes_first_and_may_be_higher_than_those_that_are_tried_blindly() {
        let ttls = |measured| {
            all(Purpose::Recovery).iter().map(|it| it.ttl(Some(measured))).collect::<Vec<_>>()
        };
        assert_eq!(ttls(3), [3, 3, 3, 4, 4, 4]);
        assert_eq!(ttls(6), [6; 6]);
    }

    #[test]
    fn who_is_behind_joins_the_peers_round() {
        let first = Rounds::first(Purpose::Foretold, 0);
        assert_eq!(first.next(4).unwrap().round, 4);
        assert_eq!(first.next(1).unwrap().round, 2);
        assert_eq!(first.next(u8::MAX).unwrap().round, MAX_ROUNDS, "no later than the last");
        assert_eq!(first.next(MAX_ROUNDS).unwrap().next(0), None);
        assert_eq!(Rounds::first(Purpose::Recovery, 3).round, 3);
        assert_eq!(Rounds::first(Purpose::Recovery, u8::MAX).round, MAX_ROUNDS);
    }
}
