//! How strategies fared between two NATs: what peers tell after a meeting, and what the broker tells
//! the next pair behind the like.
//!
//! OUTCOMES is a list of entries of 8 bytes, HINTS one of entries of 4. An entry of an unknown
//! strategy or result is passed over.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |   strategy    |    result     |               0               |   OUTCOMES
//! +---------------+---------------+-------------------------------+
//! |                  microseconds that it took                    |
//! +---------------------------------------------------------------+
//!
//! +---------------+---------------+-------------------------------+
//! |   strategy    |    percent    |         milliseconds          |   HINTS
//! +---------------+---------------+-------------------------------+
//! ```

use std::time::Duration;

use ntcp_stun::attribute::Problem;

use crate::puncher::report::Strategy;

/// Most entries of OUTCOMES and of HINTS.
pub const MAX_ENTRIES: usize = 16;

/// Every strategy with its number in messages; a number is never given to another one.
const NUMBERS: [(Strategy, u8); 13] = [
    (Strategy::Direct, 1),
    (Strategy::SimultaneousOpen, 2),
    (Strategy::ConnectListen, 3),
    (Strategy::ShieldedOpener, 4),
    (Strategy::PortPrediction, 5),
    (Strategy::PortCoverage, 6),
    (Strategy::GhostHandshake, 7),
    (Strategy::SpoofedSynAck, 8),
    (Strategy::ConnectCloseListen, 9),
    (Strategy::UdpHolePunch, 10),
    (Strategy::SynReplay, 11),
    (Strategy::SynAckInjection, 12),
    (Strategy::SynInjection, 13),
];

/// How one strategy fared in one meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrategyOutcome {
    /// Which.
    pub strategy: Strategy,
    /// How long it took; `None` if no path came of it.
    pub took: Option<Duration>,
}

/// How one strategy has fared of late between NATs like these two. It may reorder a plan and never
/// keeps a strategy out of it: who told the broker may have lied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// Which.
    pub strategy: Strategy,
    /// Of a hundred tries, this many came through; young ones count more.
    pub percent: u8,
    /// How long those took.
    pub took: Duration,
}

fn number(strategy: Strategy) -> Option<u8> {
    NUMBERS.iter().find(|(it, _)| *it == strategy).map(|(_, number)| *number)
}

fn strategy(number: u8) -> Option<Strategy> {
    NUMBERS.iter().find(|(_, it)| *it == number).map(|(strategy, _)| *strategy)
}

/// The value of OUTCOMES.
pub(super) fn outcomes(value: &[u8]) -> Result<Vec<StrategyOutcome>, Problem> {
    let (entries, rest) = value.as_chunks::<8>();
    if !rest.is_empty() || entries.len() > MAX_ENTRIES {
        return Err(Problem::Length(value.len()));
    }
    let entry = |&[kind, result, _, _, t0, t1, t2, t3]: &[u8; 8]| {
        let micros = u32::from_be_bytes([t0, t1, t2, t3]);
        let took = match result {
            0 => None,
            1 => Some(Duration::from_micros(micros.into())),
            _ => return None,
        };
        Some(StrategyOutcome { strategy: strategy(kind)?, took })
    };
    Ok(entries.iter().filter_map(entry).collect())
}

/// The value for [`outcomes`]; what is beyond [`MAX_ENTRIES`] is cut off.
pub(super) fn outcomes_bytes(outcomes: &[StrategyOutcome]) -> Vec<u8> {
    let entry = |outcome: &StrategyOutcome| {
        let number = number(outcome.strategy)?;
        let micros = outcome.took.unwrap_or_default().as_micros();
        let [t0, t1, t2, t3] = u32::try_from(micros).unwrap_or(u32::MAX).to_be_bytes();
        Some([number, u8::from(outcome.took.is_some()), 0, 0, t0, t1, t2, t3])
    };
    outcomes.iter().filter_map(entry).take(MAX_ENTRIES).flatten().collect()
}

/// The value of HINTS.
pub(super) fn hints(value: &[u8]) -> Result<Vec<Hint>, Problem> {
    let (entries, rest) = value.as_chunks::<4>();
    if !rest.is_empty() || entries.len() > MAX_ENTRIES {
        return Err(Problem::Length(value.len()));
    }
    let entry = |&[kind, percent, t0, t1]: &[u8; 4]| {
        let took = Duration::from_millis(u16::from_be_bytes([t0, t1]).into());
        Some(Hint { strategy: strategy(kind)?, percent: percent.min(100), took })
    };
    Ok(entries.iter().filter_map(entry).collect())
}

/// The value for [`hints`]; what is beyond [`MAX_ENTRIES`] is cut off.
pub(super) fn hints_bytes(hints: &[Hint]) -> Vec<u8> {
    let entry = |hint: &Hint| {
        let millis = u16::try_from(hint.took.as_millis()).unwrap_or(u16::MAX);
        let [t0, t1] = millis.to_be_bytes();
        Some([number(hint.strategy)?, hint.percent, t0, t1])
    };
    hints.iter().filter_map(entry).take(MAX_ENTRIES).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_survives_its_number_and_no_number_serves_two() {
        for (one, number) in NUMBERS {
            assert_eq!(strategy(number), Some(one));
            assert_eq!(NUMBERS.iter().filter(|(_, it)| *it == number).count(), 1);
        }
    }

    #[test]
    fn entries_of_unknown_strategies_and_results_are_passed_over() {
        let known = [2, 1, 0, 0, 0, 0, 0, 9];
        let value = [[99, 1, 0, 0, 0, 0, 0, 9], known, [2, 7, 0, 0, 0, 0, 0, 9]].concat();
        let read = outcomes(&value).unwrap();
        let took = Some(Duration::from_micros(9));
        assert_eq!(read, [StrategyOutcome { strategy: Strategy::SimultaneousOpen, took }]);
        assert!(outcomes(&value[..23]).is_err());
        assert!(hints(&[1, 2, 3]).is_err());
        assert_eq!(hints(&[2, 200, 0, 9]).unwrap()[0].percent, 100);
    }
}
