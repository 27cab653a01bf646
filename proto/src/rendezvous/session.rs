//! A meeting of two peers, as the broker keeps it until both have had their say.

use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use crate::signal::message::Connect;
use crate::signal::{ErrorCode, Ladder, NatSummary, Punch, RegistrationId};

/// How long a meeting is remembered: longer than a client repeats its Connect.
pub(super) const MEMORY: Duration = Duration::from_secs(15);
/// How long a callee is asked over UDP, in the first round and after it gathered: a dozen sendings.
pub(super) const INVITATION_PATIENCE: Duration = Duration::from_secs(4);
/// How long over TCP, whose repeats are the kernel's: each lost one doubles the wait for the next,
/// from 0.2 to 1 s up, and who is spoken to over TCP often has no better line.
pub(super) const STREAM_PATIENCE: Duration = Duration::from_secs(8);
/// How long a callee may gather.
pub(super) const GATHER_PATIENCE: Duration = Duration::from_secs(5);
/// The longest round-trip time that is believed: a peer that claims more would only hold the other
/// one up.
pub(super) const LONGEST_RTT: Duration = Duration::from_secs(2);

/// A meeting.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) caller: RegistrationId,
    pub(super) callee: RegistrationId,
    /// The Connect that made it.
    pub(super) made_in: TransactionId,
    pub(super) state: State,
    pub(super) forget_at: Instant,
}

/// How far a meeting is.
#[derive(Debug)]
pub(super) enum State {
    /// The callee gathers fresh candidates for this call.
    Gathering { connect: Box<Connect>, ask: Ask },
    /// Both have orders; as long as there is an `ask`, the callee has not confirmed.
    Ordered { orders: Box<Orders>, ask: Option<Ask> },
    /// It did not come about.
    Refused(ErrorCode),
}

/// A request to the callee.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) transaction: TransactionId,
    pub(super) what: AskWhat,
    pub(super) ladder: Ladder,
    pub(super) until: Instant,
}

/// What the callee is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AskWhat {
    /// An Invite with the order.
    Invite,
    /// An Invite to gather.
    Gather,
    /// A Punch with the order.
    Punch,
}

/// The two orders, and when each is to be carried out.
#[derive(Debug)]
pub(super) struct Orders {
    caller: Punch,
    callee: Punch,
    dispatched: Instant,
}

impl Orders {
    pub(super) fn new(caller: Punch, callee: Punch, dispatched: Instant) -> Self {
        Self { caller, callee, dispatched }
    }

    /// The NATs of both.
    pub(super) fn nats(&self) -> [NatSummary; 2] {
        // Each is told the other one's.
        [self.callee.nat, self.caller.nat]
    }

    /// The caller's order when it is sent at `now`: what waiting has been done is not done twice.
    pub(super) fn caller_at(&self, now: Instant) -> Punch {
        remaining(&self.caller, now.saturating_duration_since(self.dispatched))
    }

    /// The callee's order when it is sent at `now`.
    pub(super) fn callee_at(&self, now: Instant) -> Punch {
        remaining(&self.callee, now.saturating_duration_since(self.dispatched))
    }
}

fn remaining(punch: &Punch, elapsed: Duration) -> Punch {
    let start_after = punch.start_after.saturating_sub(elapsed);
    Punch { start_after, ..punch.clone() }
}

impl Session {
    pub(super) fn callee(&self) -> RegistrationId {
        self.callee
    }

    pub(super) fn ask(&self) -> Option<&Ask> {
        match &self.state {
            State::Gathering { ask, .. } => Some(ask),
            State::Ordered { ask, .. } => ask.as_ref(),
            State::Refused(_) => None,
        }
    }

    pub(super) fn ask_mut(&mut self) -> Option<&mut Ask> {
        match &mut self.state {
            State::Gathering { ask, .. } => Some(ask),
            State::Ordered { ask, .. } => ask.as_mut(),
            State::Refused(_) => None,
        }
    }

    /// When something is to be done about it.
    pub(super) fn next(&self) -> Instant {
        let ask = self.ask().map(|ask| ask.ladder.next().map_or(ask.until, |it| it.min(ask.until)));
        ask.map_or(self.forget_at, |it| it.min(self.forget_at))
    }
}

/// How long each of two peers waits from the receipt of its order until both start: the peer whose
/// order travels longer starts at once, the other one after the difference.
pub(super) fn start_delays(
    caller_rtt: Option<Duration>,
    callee_rtt: Option<Duration>,
) -> (Duration, Duration) {
    let one_way = |rtt: Option<Duration>| rtt.unwrap_or_default().min(LONGEST_RTT) / 2;
    let (a, b) = (one_way(caller_rtt), one_way(callee_rtt));
    let latest = a.max(b);
    (latest - a, latest - b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_start_when_the_farther_order_has_arrived() {
        let millis = Duration::from_millis;
        let delays = |a: u64, b: u64| start_delays(Some(millis(a)), Some(millis(b)));
        assert_eq!(delays(20, 20), (millis(0), millis(0)));
        assert_eq!(delays(20, 100), (millis(40), millis(0)));
        assert_eq!(delays(200, 50), (millis(0), millis(75)));
        assert_eq!(start_delays(None, Some(millis(40))), (millis(20), millis(0)));
    }

    #[test]
    fn an_absurd_round_trip_time_holds_nobody_up_for_long() {
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(start_delays(hour, None), (Duration::ZERO, LONGEST_RTT / 2));
    }
}
