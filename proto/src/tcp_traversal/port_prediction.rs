//! Port prediction: a NAT whose ports follow one another gives its next one away.
//!
//! ```text
//!  A (sequential)           NA: 20007, 20008, 20009 ...           broker              B
//!  |--survey: fresh ports-->|--> servers see 20007, 20008          |                  |
//!  |== "my next ports are 20009, 20010, ..." =====================>|=================>|
//!  |--SYN to B*------------>| from 20009 -----------------------------------. ,-------|
//!  |                        |                                               X         |
//!  |<-----------------------|<------------- SYN to A*:20009 ---------------' '------->|
//! ```
//!
//! *One side sequential*: its ordinary connects to the peer's steady end already have the ports that
//! follow the survey's; the peer dials a few of them from its own punching port, since a neighbour or
//! an own earlier connect may have taken the first.
//!
//! *Both sequential*: each may begin one connection only, since the second has another port. So
//! nothing else leaves, and both go round by round: a fresh survey, an exact forecast, one SYN each.
//! In odd rounds both dial as soon as they know of each other's forecast; in even ones the opener
//! goes first with a low TTL, says so, and the dialer follows, which no answering NAT can disturb.
//! A round that has brought nothing ends after a while, and who hears of a later round joins it.
//!
//! Preconditions: a constant step, and no crowd behind the same NAT. No privilege.

use std::time::{Duration, Instant};

use super::note::{Forecast, MAX_FORECAST};
use super::shielded_opener::OPENER_TTL;

/// Ports beyond the ones we know we have used: neighbours take some.
const SPARE: u32 = 3;
/// Most rounds.
pub const MAX_ROUNDS: u8 = 6;
/// How long a round waits for its connection beyond three round trips to the broker.
const ROUND_MARGIN: Duration = Duration::from_millis(500);

/// The ports that the connections begun after the last sample have, `begun` of them by now.
pub fn forecast(last: u16, step: i16, begun: u32) -> Forecast {
    let count = u8::try_from(begun + SPARE).unwrap_or(MAX_FORECAST).min(MAX_FORECAST);
    Forecast { first: last.wrapping_add_signed(step), step, count }
}

/// The one port of the next connection.
pub fn exact(last: u16, step: i16, begun: u32) -> Forecast {
    let steps = i32::from(step) * i32::try_from(begun + 1).unwrap_or(1);
    let first = (i32::from(last) + steps).rem_euclid(1 << 16);
    Forecast { first: u16::try_from(first).unwrap_or(last), step, count: 1 }
}

/// What a round of two sequential sides is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A fresh survey is under way.
    Surveying,
    /// Our forecast was told; the peer's is awaited.
    Told,
    /// Our SYN is out.
    Fired {
        /// Until then its connection is waited for.
        until: Instant,
    },
}

/// The rounds of two sequential sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    /// The present one, from 1.
    pub round: u8,
    /// What it is at.
    pub stage: Stage,
}

impl Rounds {
    /// The first round, which begins with a survey.
    pub const FIRST: Self = Self { round: 1, stage: Stage::Surveying };

    /// The round after this one, or the peer's if that is later; `None` after the last.
    pub fn next(self, peers: u8) -> Option<Self> {
        let round = (self.round + 1).max(peers);
        (round <= MAX_ROUNDS).then_some(Self { round, stage: Stage::Surveying })
    }

    /// Whether one side opens before the other dials.
    pub fn has_opener(self) -> bool {
        self.round.is_multiple_of(2)
    }

    /// The opener's TTL: one router further in every other round with an opener.
    pub fn ttl(self) -> u8 {
        OPENER_TTL + (self.round / 2).saturating_sub(1) % 3
    }

    /// How long a round lasts after its SYN.
    pub fn patience(rtt: Duration) -> Duration {
        3 * rtt + ROUND_MARGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(forecast: Forecast) -> Vec<u16> {
        forecast.ports().collect()
    }

    #[test]
    fn a_forecast_begins_after_the_last_sample_and_allows_for_what_has_left_since() {
        assert_eq!(ports(forecast(20_008, 1, 2)), [20_009, 20_010, 20_011, 20_012, 20_013]);
        assert_eq!(ports(forecast(20_008, -4, 0)), [20_004, 20_000, 19_996]);
        assert_eq!(ports(forecast(20_008, 1, 1000)).len(), usize::from(MAX_FORECAST));
    }

    #[test]
    fn an_exact_forecast_is_one_port() {
        assert_eq!(ports(exact(20_008, 4, 0)), [20_012]);
        assert_eq!(ports(exact(20_008, 4, 2)), [20_020]);
        assert_eq!(ports(exact(65_535, 4, 0)), [3]);
    }

    #[test]
    fn rounds_alternate_and_go_further_and_end() {
        let rounds: Vec<Rounds> =
            std::iter::successors(Some(Rounds::FIRST), |rounds| rounds.next(0)).collect();
        let openers: Vec<_> = rounds.iter().map(|it| it.has_opener().then(|| it.ttl())).collect();
        assert_eq!(openers, [None, Some(2), None, Some(3), None, Some(4)]);
    }

    #[test]
    fn who_is_behind_joins_the_peers_round() {
        assert_eq!(Rounds::FIRST.next(4).unwrap().round, 4);
        assert_eq!(Rounds::FIRST.next(1).unwrap().round, 2);
        assert_eq!(Rounds::FIRST.next(MAX_ROUNDS + 1), None);
    }
}
