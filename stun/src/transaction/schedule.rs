//! When a request is sent again, and when silence is believed.

use std::time::Duration;

/// RTO before a round trip has been measured (RFC 8489, section 6.2.1: at least 500 ms).
const RTO: Duration = Duration::from_millis(500);
/// Rc, how often a request is sent (RFC 8489, section 6.2.1).
const SENDS: u32 = 7;
/// Rm, how many RTOs to wait after the last transmission (RFC 8489, section 6.2.1).
const LAST_WAIT: u32 = 16;
/// Ti, how long to wait over a reliable transport (RFC 8489, section 6.2.2): as long as the ladder above.
const RELIABLE_WAIT: Duration = Duration::from_millis(39_500);
/// No gap is longer than this, so that no configuration overflows an instant. Far beyond any round trip.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// Gaps that double from the first one on up to a longest, a number of transmissions, and a last wait.
///
/// | | sent at ms | given up at ms |
/// |---|---|---|
/// | [`Schedule::default`] | 0, 500, 1500, 3500, 7500, 15500, 31500 | 39500 |
/// | [`Schedule::rfc3489`] | 0, 100, 300, 700, 1500, 3100, 4700, 6300, 7900 | 9500 |
/// | [`Schedule::reliable`] | 0 | 39500 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    first_gap: Duration,
    longest_gap: Duration,
    sends: u32,
    last_wait: Duration,
}

impl Schedule {
    /// Over UDP with these parameters of RFC 8489, section 6.2.1: the first gap, the number of transmissions (at least
    /// one), and how many times the first gap to wait after the last of them.
    pub fn unreliable(rto: Duration, rc: u32, rm: u32) -> Self {
        let last_wait = rto.saturating_mul(rm).min(LONGEST_WAIT);
        Self { first_gap: rto, longest_gap: LONGEST_WAIT, sends: rc.max(1), last_wait }
    }

    /// Over UDP with the default Rc and Rm and an RTO that was measured, see
    /// [`RttEstimator::rto`](super::RttEstimator::rto).
    pub fn with_rto(rto: Duration) -> Self {
        Self::unreliable(rto, SENDS, LAST_WAIT)
    }

    /// Over UDP towards a server of RFC 3489 (section 9.3 there): gaps of 100 ms that double up to 1.6 s, nine
    /// transmissions.
    pub fn rfc3489() -> Self {
        let longest = Duration::from_millis(1_600);
        let first_gap = Duration::from_millis(100);
        Self { first_gap, longest_gap: longest, sends: 9, last_wait: longest }
    }

    /// Over TCP or TLS, which repeat by themselves (RFC 8489, section 6.2.2).
    pub fn reliable() -> Self {
        let wait = RELIABLE_WAIT;
        Self { first_gap: wait, longest_gap: wait, sends: 1, last_wait: wait }
    }

    /// How often the request is sent at most.
    pub fn sends(&self) -> u32 {
        self.sends
    }

    /// How long to wait after transmission number `count`, counted from 1.
    pub fn wait_after(&self, count: u32) -> Duration {
        if count >= self.sends {
            return self.last_wait;
        }
        let doubled = 1_u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first_gap.saturating_mul(doubled).min(self.longest_gap)
    }
}

impl Default for Schedule {
    /// Over UDP with the parameters that RFC 8489, section 6.2.1 recommends.
    fn default() -> Self {
        Self::with_rto(RTO)
    }
}
