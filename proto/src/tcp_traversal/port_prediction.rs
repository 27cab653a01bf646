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
//! follow the survey's, or precede them if they left first; the peer dials a few of them from its own
//! punching port, since a neighbour or an own earlier connect may have taken the first.
//!
//! *Both sequential*: each may begin one connection only, since the second has another port. So
//! nothing else leaves, and both go [round by round](super::rounds): a fresh survey, an exact
//! forecast, one SYN each.
//!
//! Preconditions: a constant step, and no crowd behind the same NAT. No privilege.

use super::note::{Forecast, MAX_FORECAST};
use super::survey::SAMPLES;

/// Ports beyond the ones we know we have used: neighbours take some.
const SPARE: u32 = 3;
/// Most connections before the samples that a forecast goes back for.
const MAX_BEFORE: u32 = 6;

/// The ports that the connections begun after the last sample have, `begun` of them by now.
pub fn forecast(last: u16, step: i16, begun: u32) -> Forecast {
    let count = u8::try_from(begun + SPARE).unwrap_or(MAX_FORECAST).min(MAX_FORECAST);
    Forecast { first: last.wrapping_add_signed(step), step, count }
}

/// The same if `before` connections have left, and are pending, that the samples came after: theirs are the
/// ports before the first of these.
pub fn forecast_around(last: u16, step: i16, before: u32) -> Forecast {
    let samples = u32::try_from(SAMPLES).unwrap_or(0);
    let back = i16::try_from(before.min(MAX_BEFORE) + samples).unwrap_or(0);
    let from = last.wrapping_add_signed(step.wrapping_mul(-back));
    forecast(from, step, before.min(MAX_BEFORE) + samples)
}

/// The one port of the next connection.
pub fn exact(last: u16, step: i16, begun: u32) -> Forecast {
    let steps = i32::from(step) * i32::try_from(begun + 1).unwrap_or(1);
    let first = (i32::from(last) + steps).rem_euclid(1 << 16);
    Forecast { first: u16::try_from(first).unwrap_or(last), step, count: 1 }
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
    fn a_forecast_goes_back_for_what_left_before_the_samples() {
        // Two connections, then the samples 20_006 to 20_008.
        let around = forecast_around(20_008, 1, 2);
        assert_eq!(ports(around), (20_004..=20_011).collect::<Vec<_>>());
        assert!(ports(forecast_around(20_008, 4, 1000)).contains(&20_000));
    }

    #[test]
    fn an_exact_forecast_is_one_port() {
        assert_eq!(ports(exact(20_008, 4, 0)), [20_012]);
        assert_eq!(ports(exact(20_008, 4, 2)), [20_020]);
        assert_eq!(ports(exact(65_535, 4, 0)), [3]);
    }
}
