//! What the outside sees of our TCP ports, told from a few fresh connections.
//!
//! ```text
//!  punching port ──▶ server it has not talked to      sample 1: another port than before? not steady
//!  fresh port    ──▶ server                           sample 2 ┐ one after the other: sequential,
//!  fresh port    ──▶ server                           sample 3 ┘ and the counter stands here now
//! ```
//!
//! The three SYNs leave back to back and are compared in the order in which they left. A counter is
//! only as good as it is fresh, so a survey belongs right before the connects that depend on it.

use std::net::SocketAddr;

/// Connections of one survey.
pub const SAMPLES: usize = 3;
/// Longest step that counts as sequential; what is farther apart has no pattern that a few SYNs
/// could follow.
const LONGEST_STEP: i32 = 64;
/// How often other hosts behind the same NAT may have been in between two of our samples.
const MOST_IN_BETWEEN: i32 = 4;
/// Size assumed of a block of ports in which all samples lie: carriers give 512 and more to each
/// subscriber (RFC 7422 section 3 has examples of a few hundred to a few thousand).
const BLOCK: u16 = 512;
/// Lowest port that a NAT gives without being asked for it (RFC 6335 section 6).
const LOWEST: u16 = 1024;

/// One answered question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Our end of the connection.
    pub local: SocketAddr,
    /// What the server saw.
    pub mapped: SocketAddr,
    /// Asked from the punching port rather than from a fresh one.
    pub punching: bool,
}

/// What the outside sees of the ports of one host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ports {
    /// Nobody knows yet.
    #[default]
    Unknown,
    /// A port looks the same to everybody.
    Steady,
    /// Each destination sees another one, this far from the one before.
    Sequential {
        /// From one new mapping to the next; not 0.
        step: i16,
    },
    /// Each destination sees another one, somewhere between these two.
    Random {
        /// The lowest.
        low: u16,
        /// The highest.
        high: u16,
    },
}

impl Ports {
    /// Random without any known bounds.
    pub const ANYWHERE: Self = Self::Random { low: LOWEST, high: u16::MAX };

    /// Whether the peer's announced address is the one that it sends from.
    pub fn is_steady(self) -> bool {
        self == Self::Steady
    }

    /// Whether somebody has found out that it is not.
    pub fn is_unsteady(self) -> bool {
        matches!(self, Self::Sequential { .. } | Self::Random { .. })
    }
}

/// Judges `samples`, in the order in which their SYNs left; `known` is what another server saw of
/// the punching port.
pub fn judge(known: Option<SocketAddr>, samples: &[Sample]) -> Ports {
    if samples.is_empty() {
        return Ports::Unknown;
    }
    if samples.iter().all(|sample| sample.mapped.port() == sample.local.port()) {
        return Ports::Steady;
    }
    let punching = samples.iter().find(|sample| sample.punching);
    match (known, punching) {
        (Some(known), Some(sample)) if known == sample.mapped => Ports::Steady,
        (Some(_), Some(_)) => pattern(known, samples),
        // One destination only: nothing to compare.
        (None, _) | (_, None) => Ports::Unknown,
    }
}

/// The rule behind ports that differ.
pub fn pattern(known: Option<SocketAddr>, samples: &[Sample]) -> Ports {
    let ports: Vec<u16> = samples.iter().map(|sample| sample.mapped.port()).collect();
    if let Some(step) = common_step(&ports) {
        return Ports::Sequential { step };
    }
    let all = ports.iter().copied().chain(known.map(|it| it.port()));
    let low = all.clone().min().unwrap_or(LOWEST);
    let high = all.max().unwrap_or(u16::MAX);
    if samples.len() >= 2 && high - low < BLOCK {
        let low_end = high.saturating_sub(BLOCK - 1).max(LOWEST);
        return Ports::Random { low: low_end, high: low.saturating_add(BLOCK - 1) };
    }
    Ports::ANYWHERE
}

/// The distance of successive ports, allowing for ports that others took in between.
fn common_step(ports: &[u16]) -> Option<i16> {
    let steps: Vec<i32> =
        ports.windows(2).map(|pair| i32::from(pair[1]) - i32::from(pair[0])).collect();
    let least = steps.iter().copied().min_by_key(|step| step.abs())?;
    let fits = |step: &i32| step % least == 0 && (1..=MOST_IN_BETWEEN).contains(&(step / least));
    let regular = least != 0 && least.abs() <= LONGEST_STEP && steps.iter().all(fits);
    // A single distance may be chance.
    (regular && steps.len() >= 2).then(|| i16::try_from(least).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(port: u16) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 1], port))
    }

    fn samples(mapped: [u16; 3]) -> Vec<Sample> {
        let locals = [40_000, 50_001, 50_002];
        let pairs = locals.into_iter().zip(mapped).enumerate();
        let sample = |(index, (local, mapped))| Sample {
            local: end(local),
            mapped: end(mapped),
            punching: index == 0,
        };
        pairs.map(sample).collect()
    }

    fn judged(known: u16, mapped: [u16; 3]) -> Ports {
        judge(Some(end(known)), &samples(mapped))
    }

    #[test]
    fn each_kind_of_nat_is_recognised() {
        assert_eq!(judged(1111, [1111, 2222, 3333]), Ports::Steady);
        assert_eq!(judged(40_000, [40_000, 50_001, 50_002]), Ports::Steady);
        assert_eq!(judged(20_000, [20_007, 20_008, 20_009]), Ports::Sequential { step: 1 });
        assert_eq!(judged(20_000, [20_028, 20_032, 20_036]), Ports::Sequential { step: 4 });
        assert_eq!(judged(20_000, [19_999, 19_998, 19_997]), Ports::Sequential { step: -1 });
        assert_eq!(judged(9_000, [61_234, 2_034, 33_333]), Ports::ANYWHERE);
        let block = Ports::Random { low: 30_400 - 511, high: 30_010 + 511 };
        assert_eq!(judged(30_400, [30_010, 30_333, 30_123]), block);
    }

    #[test]
    fn a_neighbour_that_took_a_port_in_between_does_not_hide_the_sequence() {
        assert_eq!(judged(20_000, [20_028, 20_032, 20_040]), Ports::Sequential { step: 4 });
        assert_eq!(judged(20_000, [20_001, 20_003, 20_004]), Ports::Sequential { step: 1 });
    }

    #[test]
    fn what_cannot_be_compared_is_not_judged() {
        assert_eq!(judge(Some(end(1)), &[]), Ports::Unknown);
        assert_eq!(judge(None, &samples([1, 2, 3])), Ports::Unknown);
        assert_eq!(judge(Some(end(7)), &samples([1, 2, 3])[1..]), Ports::Unknown);
    }
}
