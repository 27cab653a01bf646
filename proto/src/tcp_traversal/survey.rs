//! What the outside sees of our TCP ports, told from the answers of servers and a few fresh
//! connections.
//!
//! ```text
//!  punching port ──▶ server 1 ┐ the same answer: steady; two answers: not
//!  punching port ──▶ server 2 ┘
//!  fresh port    ──▶ server   ┐
//!  fresh port    ──▶ server   ├ one after the other: sequential, and the counter stands here now
//!  fresh port    ──▶ server   ┘
//! ```
//!
//! The SYNs from fresh ports leave back to back and are compared in the order in which they left. A
//! counter is only as good as it is fresh, so this belongs right before the connects that depend on
//! it. A steady port needs none of it.

use std::net::SocketAddr;

/// Connections of one survey.
pub const SAMPLES: usize = 3;
/// Longest step that counts as sequential; what is farther apart has no pattern that a few SYNs
/// could follow.
const LONGEST_STEP: i32 = 64;
/// The same of ports that are out of order, as those of a small block often are by chance.
const LONGEST_DISORDERED: i16 = 8;
/// How far along a sequence one sample may be after another.
const FARTHEST: i16 = 64;
/// How many steps from a sample another port may be to count as one of the same sequence.
const STEPS_TO_TOLD: i32 = 16;
/// How often other hosts behind the same NAT may have been in between two of our samples.
const MOST_IN_BETWEEN: i32 = 4;
/// Size assumed of a block of ports in which all samples lie: carriers give 512 and more to each
/// subscriber (RFC 7422 section 3 has examples of a few hundred to a few thousand).
const BLOCK: u16 = 512;
/// Lowest port that a NAT gives without being asked for it (RFC 6335 section 6).
const LOWEST: u16 = 1024;

/// What a server saw of a connection from a fresh port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Our end of the connection.
    pub local: SocketAddr,
    /// What the server saw.
    pub mapped: SocketAddr,
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

/// Whether the punching port, `local` here, is steady: judged from what servers `told`, an answer
/// each. `None` if they have not told enough.
pub fn is_steady(local: SocketAddr, told: &[SocketAddr]) -> Option<bool> {
    let first = told.first()?;
    let same_address = told.iter().all(|other| other == first);
    match told.len() {
        // A NAT that keeps the number does so towards everybody, as long as it is free.
        1 => (first.port() == local.port()).then_some(true),
        _ => Some(same_address),
    }
}

/// The rule behind the ports of `samples`, in the order in which their SYNs left; `told` are other
/// ports that the same NAT has given. Unknown, if they are too few to tell.
pub fn pattern(told: &[SocketAddr], samples: &[Sample]) -> Ports {
    let ports: Vec<u16> = samples.iter().map(|sample| sample.mapped.port()).collect();
    if ports.is_empty() {
        return Ports::Unknown;
    }
    // A SYN that was lost before the NAT comes later than those that left after it.
    let mut sorted = ports.clone();
    sorted.sort_unstable();
    let disordered = || common_step(&sorted).filter(|step| *step <= LONGEST_DISORDERED);
    if let Some(step) = common_step(&ports).or_else(disordered) {
        let step = if samples.len() < SAMPLES { finer(step, ports[0], told) } else { step };
        return Ports::Sequential { step };
    }
    if samples.len() < SAMPLES {
        return Ports::Unknown;
    }
    let all = ports.iter().copied().chain(told.iter().map(SocketAddr::port));
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
    regular.then(|| i16::try_from(least).ok()).flatten()
}

/// The step, if one of `told` lies on the way between two: a sample that is missing may have been
/// between those that are there.
fn finer(step: i16, first: u16, told: &[SocketAddr]) -> i16 {
    let near = i32::from(step.abs()) * STEPS_TO_TOLD;
    let distances = told.iter().map(|it| (i32::from(it.port()) - i32::from(first)).abs());
    let finest = distances.filter(|it| *it <= near).fold(i32::from(step.abs()), divisor);
    i16::try_from(finest).map_or(step, |finest| finest * step.signum())
}

/// The greatest common divisor.
fn divisor(a: i32, b: i32) -> i32 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// Whether a sequence of this step that was at `last` may be at `port` by now.
pub fn follows(last: u16, port: u16, step: i16) -> bool {
    let distance = port.wrapping_sub(last).cast_signed();
    step != 0 && distance % step == 0 && (1..=FARTHEST).contains(&(distance / step))
}

/// The sample that is farthest along a sequence of this step: the next port is one step on.
pub fn farthest(samples: &[Sample], step: i16) -> Option<&Sample> {
    let from_first = |sample: &&Sample| {
        let first = samples.first().map_or(0, |first| first.mapped.port());
        sample.mapped.port().wrapping_sub(first).cast_signed().saturating_mul(step.signum())
    };
    samples.iter().max_by_key(from_first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(port: u16) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 1], port))
    }

    fn ruled(told: &[u16], mapped: &[u16]) -> Ports {
        let told: Vec<SocketAddr> = told.iter().copied().map(end).collect();
        let sample = |mapped: &u16| Sample { local: end(50_000), mapped: end(*mapped) };
        pattern(&told, &mapped.iter().map(sample).collect::<Vec<_>>())
    }

    #[test]
    fn a_port_is_steady_if_all_servers_say_the_same_or_its_number_is_kept() {
        let steady =
            |told: &[u16]| is_steady(end(4000), &told.iter().copied().map(end).collect::<Vec<_>>());
        assert_eq!(steady(&[]), None);
        assert_eq!(steady(&[4000]), Some(true));
        assert_eq!(steady(&[5000]), None);
        assert_eq!(steady(&[5000, 5000]), Some(true));
        assert_eq!(steady(&[5000, 5001]), Some(false));
        assert_eq!(steady(&[4000, 5001]), Some(false));
    }

    #[test]
    fn each_kind_of_nat_is_recognised() {
        assert_eq!(ruled(&[9], &[20_007, 20_008, 20_009]), Ports::Sequential { step: 1 });
        assert_eq!(ruled(&[9], &[20_028, 20_032, 20_036]), Ports::Sequential { step: 4 });
        assert_eq!(ruled(&[9], &[19_999, 19_998, 19_997]), Ports::Sequential { step: -1 });
        assert_eq!(ruled(&[9], &[61_234, 2_034, 33_333]), Ports::ANYWHERE);
        let block = Ports::Random { low: 30_400 - 511, high: 30_010 + 511 };
        assert_eq!(ruled(&[30_400], &[30_010, 30_333, 30_123]), block);
    }

    #[test]
    fn a_neighbour_that_took_a_port_in_between_does_not_hide_the_sequence() {
        assert_eq!(ruled(&[], &[20_028, 20_032, 20_040]), Ports::Sequential { step: 4 });
        assert_eq!(ruled(&[], &[20_001, 20_003, 20_004]), Ports::Sequential { step: 1 });
    }

    #[test]
    fn too_few_samples_tell_nothing_unless_they_are_neighbours() {
        assert_eq!(ruled(&[7], &[]), Ports::Unknown);
        assert_eq!(ruled(&[7], &[8]), Ports::Unknown);
        assert_eq!(ruled(&[9], &[20_007, 31_008]), Ports::Unknown);
        assert_eq!(ruled(&[9], &[20_007, 20_008]), Ports::Sequential { step: 1 });
    }

    #[test]
    fn a_sample_that_is_missing_does_not_double_the_step_if_anything_tells() {
        assert_eq!(ruled(&[20_003], &[20_006, 20_008]), Ports::Sequential { step: 1 });
        assert_eq!(ruled(&[20_016], &[20_024, 20_032]), Ports::Sequential { step: 8 });
        assert_eq!(ruled(&[20_020], &[20_024, 20_032]), Ports::Sequential { step: 4 });
        assert_eq!(ruled(&[20_007, 20_009], &[20_002, 19_998]), Ports::Sequential { step: -1 });
        assert_eq!(ruled(&[40_001], &[20_006, 20_008]), Ports::Sequential { step: 2 }, "far away");
        assert_eq!(ruled(&[20_001], &[20_006, 20_008, 20_010]), Ports::Sequential { step: 2 });
    }

    #[test]
    fn a_port_that_does_not_follow_shows_that_there_was_no_rule() {
        assert!(follows(20_007, 20_008, 1) && follows(20_007, 20_071, 1));
        assert!(follows(65_535, 3, 4) && follows(20_007, 19_999, -4));
        assert!(!follows(20_007, 20_007, 1) && !follows(20_007, 20_006, 1));
        assert!(!follows(20_007, 20_009, 4) && !follows(20_007, 31_007, 1));
    }

    #[test]
    fn a_syn_that_was_lost_before_the_nat_comes_out_of_order_and_does_not_hide_the_sequence() {
        assert_eq!(ruled(&[], &[20_009, 20_007, 20_008]), Ports::Sequential { step: 1 });
        let sample = |port| Sample { local: end(1), mapped: end(port) };
        let of = |ports: &[u16], step| {
            let samples: Vec<Sample> = ports.iter().copied().map(sample).collect();
            farthest(&samples, step).map(|it| it.mapped.port())
        };
        assert_eq!(of(&[20_009, 20_007, 20_008], 1), Some(20_009));
        assert_eq!(of(&[20_007, 20_003, 19_999], -4), Some(19_999));
        assert_eq!(of(&[65_535, 3, 7], 4), Some(7));
        assert_eq!(of(&[], 1), None);
    }
}
