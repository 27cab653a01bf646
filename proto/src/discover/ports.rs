//! How a NAT chooses external ports, told from samples (RFC 4787 section 4.2.1).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::nat::PortAllocation;

/// Fewest samples that say anything.
const MIN_SAMPLES: usize = 4;
/// Farthest from one port to the next that still counts as a sequence: other hosts behind the same
/// NAT take ports in between.
const MAX_STEP: i32 = 64;
/// Widest span of ports that counts as one block. Carriers give blocks of 64 to 4096 ports; that
/// eight random ports fall into one by chance happens less than once in a million times.
const MAX_BLOCK: u16 = 4096;

/// The ports of one fresh socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortSample {
    /// The port it is bound to.
    pub internal: u16,
    /// The port the outside saw.
    pub external: u16,
}

/// How external ports are chosen, with what a prediction needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PortPattern {
    /// The internal port's number.
    Preserved,
    /// The internal port's number plus this, modulo 65536.
    Offset(u16),
    /// One after the other.
    Sequential {
        /// From one to the next.
        step: i32,
        /// The last one seen.
        last: u16,
    },
    /// Anything within a block.
    Block {
        /// The lowest seen.
        lowest: u16,
        /// The highest seen.
        highest: u16,
    },
    /// No pattern.
    Random,
}

impl PortPattern {
    /// Tells the pattern of `samples`, given in the order in which the NAT saw them first; `None`
    /// if they are too few.
    ///
    /// One sample in four may break the pattern, since a packet may be lost or overtaken, and a
    /// port may be taken.
    pub fn of(samples: &[PortSample]) -> Option<Self> {
        if samples.len() < MIN_SAMPLES {
            return None;
        }
        Some(
            common_offset(samples)
                .or_else(|| sequence(samples))
                .or_else(|| wrapped_offset(samples))
                .or_else(|| block(samples))
                .unwrap_or(Self::Random),
        )
    }

    /// The pattern without its numbers.
    pub fn allocation(self) -> PortAllocation {
        match self {
            Self::Preserved => PortAllocation::Preserved,
            Self::Offset(_) => PortAllocation::Offset,
            Self::Sequential { .. } => PortAllocation::Sequential,
            Self::Block { .. } => PortAllocation::Block,
            Self::Random => PortAllocation::Random,
        }
    }
}

/// Whether `part` is at least three quarters of `whole`.
fn is_most(part: usize, whole: usize) -> bool {
    4 * part >= 3 * whole
}

/// What the samples add to their internal port, modulo 65536, and how many add it; the commonest
/// first.
fn offsets(samples: &[PortSample]) -> Vec<(u16, usize)> {
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for sample in samples {
        *counts.entry(sample.external.wrapping_sub(sample.internal)).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

/// Most samples add the same.
fn common_offset(samples: &[PortSample]) -> Option<PortPattern> {
    let (offset, count) = *offsets(samples).first()?;
    is_most(count, samples.len()).then_some(match offset {
        0 => PortPattern::Preserved,
        offset => PortPattern::Offset(offset),
    })
}

/// Most samples add one of two numbers, and half of them the same one: ports beyond the end of the
/// NAT's range start again at its beginning, which need not be 0.
fn wrapped_offset(samples: &[PortSample]) -> Option<PortPattern> {
    let [(offset, count), (_, wrapped), ..] = offsets(samples)[..] else { return None };
    let is_offset = is_most(count + wrapped, samples.len()) && 2 * count >= samples.len();
    (is_offset && offset != 0).then_some(PortPattern::Offset(offset))
}

/// The way from `one` port to `other`, the shorter way round.
fn distance(one: u16, other: u16) -> i32 {
    i32::from(other.wrapping_sub(one).cast_signed())
}

/// Steps that are short and mostly of one sign make a sequence if the ports lie on a line: within a
/// narrow block, chance alone makes most steps rise once in a while. Its step is the commonest gap
/// between neighbours in the order of their numbers, where a swap of two does not show.
fn sequence(samples: &[PortSample]) -> Option<PortPattern> {
    let external = || samples.iter().map(|it| it.external);
    let steps: Vec<i32> =
        external().zip(external().skip(1)).map(|(one, other)| distance(one, other)).collect();
    let short = |it: &&i32| it.abs() <= MAX_STEP;
    let rising = steps.iter().filter(short).filter(|it| **it > 0).count();
    let falling = steps.iter().filter(short).filter(|it| **it < 0).count();
    let sign = match (is_most(rising, steps.len()), is_most(falling, steps.len())) {
        (true, _) => 1,
        (false, true) => -1,
        (false, false) => return None,
    };
    if !is_line(&steps) {
        return None;
    }
    let mut sorted: Vec<u16> = external().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let gaps: Vec<i32> = sorted.windows(2).map(|it| i32::from(it[1]) - i32::from(it[0])).collect();
    let count = |gap: i32| gaps.iter().filter(|it| **it == gap).count();
    let step = gaps.iter().copied().max_by_key(|gap| (count(*gap), -gap))?;
    let last = samples.last()?.external;
    Some(PortPattern::Sequential { step: sign * step, last })
}

/// Whether the order of the ports explains at least half of how they vary (R² of the line through
/// them); `steps` lead from each to the next.
fn is_line(steps: &[i32]) -> bool {
    let mut port = 0;
    let ports = std::iter::once(0).chain(steps.iter().map(|step| {
        port += i128::from(*step);
        port
    }));
    let points: Vec<(i128, i128)> = (0..).zip(ports).collect();
    // The sums of a regression, times the number of points: whole numbers throughout.
    let count = i128::try_from(points.len()).unwrap_or_default();
    let sum = |of: fn(&(i128, i128)) -> i128| points.iter().map(of).sum::<i128>();
    let (x, y) = (sum(|it| it.0), sum(|it| it.1));
    let together = count * sum(|it| it.0 * it.1) - x * y;
    let along = count * sum(|it| it.0 * it.0) - x * x;
    let across = count * sum(|it| it.1 * it.1) - y * y;
    2 * together * together >= along * across
}

fn block(samples: &[PortSample]) -> Option<PortPattern> {
    let lowest = samples.iter().map(|it| it.external).min()?;
    let highest = samples.iter().map(|it| it.external).max()?;
    (highest - lowest < MAX_BLOCK).then_some(PortPattern::Block { lowest, highest })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Internal ports as an operating system gives them: no two neighbours in order.
    const INTERNAL: [u16; 8] = [50123, 41877, 60211, 33333, 47002, 58888, 36999, 52345];

    fn pattern(external: [u16; 8]) -> Option<PortPattern> {
        let pair = |(internal, external)| PortSample { internal, external };
        PortPattern::of(&INTERNAL.into_iter().zip(external).map(pair).collect::<Vec<_>>())
    }

    #[test]
    fn the_own_port_is_preserved_even_if_one_or_two_were_taken() {
        assert_eq!(pattern(INTERNAL), Some(PortPattern::Preserved));
        let mut external = INTERNAL;
        (external[2], external[6]) = (1024, 1025);
        assert_eq!(pattern(external), Some(PortPattern::Preserved));
        external[0] = 1026;
        assert_eq!(pattern(external), Some(PortPattern::Random));
    }

    #[test]
    fn a_constant_distance_is_an_offset_also_across_the_end() {
        assert_eq!(
            pattern(INTERNAL.map(|it| it.wrapping_add(20_000))),
            Some(PortPattern::Offset(20_000))
        );
    }

    #[test]
    fn an_offset_is_told_though_the_range_of_given_ports_starts_at_1024() {
        let wrap = |it: u16| match it.checked_add(14_000) {
            Some(port) => port,
            None => it.wrapping_add(14_000) + 1024,
        };
        let wrapped = INTERNAL.map(wrap);
        assert!(wrapped.iter().filter(|it| **it < 14_000).count() >= 3, "{wrapped:?}");
        assert_eq!(pattern(wrapped), Some(PortPattern::Offset(14_000)));
    }

    #[test]
    fn a_sequence_is_told_with_its_step_in_either_direction() {
        let ports = |step: i32| [0, 1, 2, 3, 4, 5, 6, 7].map(|it| (40_000 + step * it) as u16);
        for step in [1, 2, 4, 64, -1, -2] {
            let last = ports(step)[7];
            assert_eq!(pattern(ports(step)), Some(PortPattern::Sequential { step, last }));
        }
    }

    #[test]
    fn a_sequence_is_told_though_packets_overtook_and_others_took_ports() {
        let swapped = [4000, 4001, 4003, 4002, 4004, 4005, 4006, 4007];
        assert_eq!(pattern(swapped), Some(PortPattern::Sequential { step: 1, last: 4007 }));
        let shared = [4000, 4001, 4002, 4009, 4010, 4011, 4015, 4016];
        assert_eq!(pattern(shared), Some(PortPattern::Sequential { step: 1, last: 4016 }));
        let wrapped = [65_532, 65_533, 65_534, 65_535, 1024, 1025, 1026, 1027];
        assert_eq!(pattern(wrapped), Some(PortPattern::Sequential { step: 1, last: 1027 }));
    }

    #[test]
    fn chance_within_the_narrowest_block_is_seldom_taken_for_a_sequence() {
        // A linear congruential generator (Numerical Recipes) for the high bits.
        let mut state = 1_u32;
        let mut draw = |size: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            30_000 + ((u64::from(state) * u64::from(size)) >> 32) as u16
        };
        for size in [64, 251, 512] {
            let is_sequence =
                |it: &Option<PortPattern>| matches!(it, Some(PortPattern::Sequential { .. }));
            let patterns = (0..2000).map(|_| pattern([0; 8].map(|_| draw(size))));
            let mistaken = patterns.filter(is_sequence).count();
            assert!(mistaken <= 2000 / 50, "{mistaken} of 2000 within {size}");
        }
    }

    #[test]
    fn ports_within_a_block_are_told_from_ports_anywhere() {
        let block = [5120, 5999, 5333, 6100, 5777, 5200, 6001, 5555];
        assert_eq!(pattern(block), Some(PortPattern::Block { lowest: 5120, highest: 6100 }));
        let random = [5120, 45_999, 15_333, 61_000, 25_777, 1200, 36_001, 50_555];
        assert_eq!(pattern(random), Some(PortPattern::Random));
    }

    #[test]
    fn three_samples_tell_nothing() {
        let sample = PortSample { internal: 1000, external: 1000 };
        assert_eq!(PortPattern::of(&[sample; 3]), None);
    }
}
