//! When a request is sent again.
//!
//! RFC 8489 section 6.2.1 waits 500 ms, then twice as long each time, when it knows nothing about
//! the path. A peer that dials is lost for that half second whenever its first datagram is, so two
//! rules differ here. With a measured round-trip time the first repeat follows after a quarter more
//! than that. Without one the repeats start after 100 ms and double up to the RFC's own 500 ms: two
//! small datagrams more than the RFC sends in the same time, against the ten that TCP may send into
//! an unknown path at once (RFC 6928).
//!
//! ```text
//! unknown path     0  100  300  700  1200  1700 …
//! 20 ms measured   0   35  105  245   525  1025 …
//! RFC 8489         0  500 1500 3500 …
//! ```
//!
//! On a stream nothing is lost, but the peer may move to another link while an answer travels: what
//! has not been answered for a second is asked again.

use std::time::{Duration, Instant};

use super::message::TransmitCount;

/// How the intervals between repeats grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// From the first sending to the second.
    pub(crate) first: Duration,
    /// The longest interval; each one before it is twice the last.
    pub(crate) longest: Duration,
}

/// The least time between two sendings; below it they would only share their fate.
const SHORTEST: Duration = Duration::from_millis(20);
/// The RFC's first interval is our longest.
const LONGEST: Duration = Duration::from_millis(500);
/// On a path nobody measured.
const UNKNOWN: Duration = Duration::from_millis(100);
/// On a stream.
const STREAM_INTERVAL: Duration = Duration::from_secs(1);
/// What a measured round-trip time may be exceeded by, besides a quarter of it: scheduling at both
/// ends.
const MARGIN: Duration = Duration::from_millis(10);

impl Pace {
    /// The pace on a path with this round-trip time.
    pub(crate) fn of(rtt: Option<Duration>) -> Self {
        let first = rtt.map_or(UNKNOWN, |rtt| (rtt + rtt / 4 + MARGIN).clamp(SHORTEST, LONGEST));
        Self { first, longest: LONGEST }
    }

    /// The pace on a stream.
    pub(crate) const STREAM: Self = Self { first: STREAM_INTERVAL, longest: STREAM_INTERVAL };
}

/// The sendings of one request.
#[derive(Debug, Clone)]
pub(crate) struct Ladder {
    sent_at: Vec<Instant>,
    next: Option<Instant>,
    interval: Duration,
    pace: Pace,
}

impl Ladder {
    /// Repeats at `pace`.
    pub(crate) fn repeating(pace: Pace) -> Self {
        Self { sent_at: Vec::new(), next: None, interval: pace.first, pace }
    }

    /// Notes a sending at `now`, schedules the next one, and tells the number of this one.
    pub(crate) fn sent(&mut self, now: Instant) -> TransmitCount {
        if self.sent_at.len() < usize::from(u8::MAX) {
            self.sent_at.push(now);
        }
        self.next = Some(now + self.interval);
        self.interval = (self.interval * 2).min(self.pace.longest);
        // The vector is never longer than a byte counts.
        TransmitCount { request: self.sent_at.len() as u8, response: 0 }
    }

    /// When to send again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether to send again now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// When it was sent first.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.sent_at.first().copied()
    }

    /// Sendings so far.
    pub(crate) fn sendings(&self) -> usize {
        self.sent_at.len()
    }

    /// The time from the sending that `answered` names to `now`. Without a number only an only
    /// sending tells (Karn).
    pub(crate) fn round_trip(
        &self,
        answered: Option<TransmitCount>,
        now: Instant,
    ) -> Option<Duration> {
        let sent_at = match (answered, self.sent_at.as_slice()) {
            (Some(count), sent) => *sent.get(usize::from(count.request).checked_sub(1)?)?,
            (None, [only]) => *only,
            (None, _) => return None,
        };
        Some(now.saturating_duration_since(sent_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::any_instant;

    fn instants(pace: Pace, count: usize) -> Vec<u128> {
        let start = any_instant();
        let mut ladder = Ladder::repeating(pace);
        let mut now = start;
        let mut instants = Vec::new();
        for _ in 0..count {
            instants.push((now - start).as_millis());
            ladder.sent(now);
            now = ladder.next().unwrap();
        }
        instants
    }

    #[test]
    fn an_unknown_path_is_asked_at_these_instants() {
        assert_eq!(instants(Pace::of(None), 8), [0, 100, 300, 700, 1200, 1700, 2200, 2700]);
    }

    #[test]
    fn a_measured_path_is_asked_at_these_instants() {
        let of = |millis| Pace::of(Some(Duration::from_millis(millis)));
        assert_eq!(instants(of(1), 7), [0, 20, 60, 140, 300, 620, 1120]);
        assert_eq!(instants(of(20), 6), [0, 35, 105, 245, 525, 1025]);
        assert_eq!(instants(of(200), 5), [0, 260, 760, 1260, 1760]);
        assert_eq!(instants(of(3000), 3), [0, 500, 1000]);
    }

    #[test]
    fn a_repeated_request_is_timed_from_the_sending_that_was_answered() {
        let start = any_instant();
        let at = |millis| start + Duration::from_millis(millis);
        let mut ladder = Ladder::repeating(Pace::of(None));
        ladder.sent(at(0));
        let second = ladder.sent(at(100));
        let answer = TransmitCount { response: 1, ..second };
        assert_eq!(ladder.round_trip(Some(answer), at(140)), Some(Duration::from_millis(40)));
        assert_eq!(ladder.round_trip(None, at(140)), None);
        let unknown = TransmitCount { request: 9, response: 1 };
        assert_eq!(ladder.round_trip(Some(unknown), at(140)), None);
        let zero = TransmitCount { request: 0, response: 1 };
        assert_eq!(ladder.round_trip(Some(zero), at(140)), None);
    }

    #[test]
    fn a_stream_is_asked_again_each_second() {
        assert_eq!(instants(Pace::STREAM, 4), [0, 1000, 2000, 3000]);
    }
}
