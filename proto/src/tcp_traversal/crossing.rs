//! Staggered crossing: many pairs of fresh ports, of which one pair's SYNs cross.
//!
//! ```text
//!  caller A, all at once   NA                                 NB       callee B, one after the other
//!  |                       |<------- "ready, and firing" ------|<=========================|  t0
//!  |                       |             x <-------------------|<--SYN b1 to a1-----------|  t0: too early,
//!  |                       |             refused -------------->  (b1 is lost, and so is a1)
//!  |--SYN a1 to b1-------->|                                   |                          |
//!  |--SYN a2 to b2-------->|------------------. .--------------|<--SYN b2 to a2-----------|  t0 + delay
//!  |--SYN a3 to b3-------->|                   X               |                          |
//!  |<----------------------|<-----------------' '------------->|------------------------->|
//! ```
//!
//! Two NATs that answer strangers, and give a port up over a refusal and over a TTL that ended, leave
//! nothing to open before the other side's SYN is there: what opens is taken back. Only two SYNs that pass
//! each other on the way meet two open NATs, and these have to leave within one one-way delay of each
//! other. How long a word takes from one side to the other is not known that well: round trips are, but
//! not what each direction has of them.
//!
//! So both sides take several fresh ports. The caller's SYNs leave all at once, when the callee's word
//! arrives; the callee's leave one after the other, around the times at which that may be. Each pair is on
//! its own: what is refused spoils nothing for the others.
//!
//! Preconditions: steady ports on both sides, a STUN server over TCP. No privilege.

use std::time::Duration;

/// Pairs of ports: each costs both sides a question to a server and a SYN.
pub const PAIRS: usize = 12;
/// Distance of the callee's SYNs, as a share of the path's round trip: two SYNs cross if they are
/// closer than half of it.
const SHARE: f64 = 0.8;
/// Least distance: programs and clocks are not more exact.
const LEAST: Duration = Duration::from_micros(500);

/// When the callee's SYNs leave, after its word: `ours` and `theirs` are the two sides' round trips to a
/// server, and `path` is that between them.
///
/// The word takes half of each round trip if both directions are alike; if all that is slow is slow
/// towards one side only, as behind a full queue, it takes the one round trip or the other.
pub fn times(ours: Duration, theirs: Duration, path: Duration) -> Vec<Duration> {
    let step = path.mul_f64(SHARE).max(LEAST);
    let likely = [theirs, (ours + theirs) / 2, ours];
    let mut times: Vec<Duration> = Vec::with_capacity(PAIRS);
    let mut around = 0..;
    while times.len() < PAIRS {
        let Some(distance) = around.next() else { break };
        for centre in likely {
            for at in [Some(centre + step * distance), centre.checked_sub(step * distance)] {
                let Some(at) = at else { continue };
                let near = |other: &Duration| other.abs_diff(at) < step.mul_f64(0.9);
                if times.len() < PAIRS && !times.iter().any(near) {
                    times.push(at);
                }
            }
        }
    }
    times.sort();
    times
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Whether one of the callee's SYNs crosses one that leaves after `delay`.
    fn crosses(times: &[Duration], delay: Duration, path: Duration) -> bool {
        times.iter().any(|at| at.abs_diff(delay) < path / 2)
    }

    #[test]
    fn on_a_line_that_is_alike_both_ways_the_times_follow_each_other_around_the_likely_one() {
        let all: Vec<u128> =
            times(ms(40), ms(40), ms(40)).iter().map(Duration::as_millis).collect();
        assert_eq!(all, [8, 40, 72, 104, 136, 168, 200, 232, 264, 296, 328, 360]);
    }

    #[test]
    fn a_slow_direction_on_either_side_is_thought_of() {
        for path in [5, 10, 40, 100, 200].map(ms) {
            let near = path;
            for lag in [0, 30, 100, 300].map(ms) {
                let (ours, theirs) = (near + lag, near);
                let callee_hears_late = times(ours, theirs, path);
                assert!(crosses(&callee_hears_late, near, path), "{path:?} {lag:?}");
                let callee_is_heard_late = times(ours, theirs, path);
                assert!(crosses(&callee_is_heard_late, near + lag, path), "{path:?} {lag:?}");
                let caller_hears_late = times(theirs, ours, path);
                assert!(crosses(&caller_hears_late, near + lag, path), "{path:?} {lag:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn there_are_always_as_many_times_in_order_and_none_twice(
            ours in 0..5_000_000u64, theirs in 0..5_000_000u64, path in 0..5_000_000u64,
        ) {
            let [ours, theirs, path] = [ours, theirs, path].map(Duration::from_micros);
            let all = times(ours, theirs, path);
            prop_assert_eq!(all.len(), PAIRS);
            prop_assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
