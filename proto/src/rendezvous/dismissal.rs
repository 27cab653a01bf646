//! How a broker stops without leaving its peers in the dark.
//!
//! ```text
//!   peer                       broker                        another broker, or this one again
//!     │◀──────── Dismissed, signed ┤  stops
//!     ┊ 0.25 to 0.5 s, by chance
//!     │ Register ─────────────────────────────────────────────────▶│
//! ```
//!
//! From the moment it is told to, the broker takes no new peer and no new call: both are refused with 503. Peers are
//! let go a few at a time, lest all their datagrams leave in one burst. Those between whom a call is being arranged
//! are let go once that is settled, so that no call fails because a broker was restarted. Who misses the message finds
//! out as it would without: by its next refresh.

use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::registry::CallPlace;
use super::timers::Timer;
use super::{Broker, Departure, Registry};
use crate::signal::RegistrationId;
use crate::signal::message::{Body, Message};

/// Peers that are let go at once: with two datagrams of some 100 bytes each, 20 KB.
const AT_ONCE: usize = 100;
/// Between two such groups: 20,000 peers leave in a second.
const PAUSE: Duration = Duration::from_millis(5);

/// How far the broker has come with letting its peers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dismissal {
    /// From which place of the registry on peers are still to be looked at in this round.
    next: usize,
}

impl<R: Registry> Broker<R> {
    /// Begins to stop: no new peer, no new call, and whoever is here is told to go. The second time nothing happens.
    pub fn dismiss_all(&mut self, now: Instant) {
        if self.dismissal.is_none() {
            self.dismissal = Some(Dismissal { next: 0 });
            self.on_dismissal_timer(now);
        }
    }

    /// Whether it was told to stop and nobody is left.
    pub fn is_deserted(&self) -> bool {
        self.dismissal.is_some() && self.registry.is_empty()
    }

    pub(super) fn on_dismissal_timer(&mut self, now: Instant) {
        let Some(Dismissal { mut next }) = self.dismissal else { return };
        for _ in 0..AT_ONCE {
            let Some((id, place)) = self.registry.next_from(next) else {
                next = 0;
                break;
            };
            next = place;
            if !self.is_in_a_call(id) {
                self.dismiss(id);
            }
        }
        self.dismissal = Some(Dismissal { next });
        if !self.registry.is_empty() {
            self.timers.set(Timer::Dismissal, now + PAUSE);
        }
    }

    /// Whether it waits for what its callee says, or has been asked itself.
    fn is_in_a_call(&self, id: RegistrationId) -> bool {
        let Some(registration) = self.registry.get(id) else { return false };
        let called = registration.affairs().calls.iter().map(|(_, place)| *place);
        let invited = registration.affairs().invited.iter().map(|id| CallPlace::Session(*id));
        let is_session = |it: &CallPlace| matches!(it, CallPlace::Session(_));
        called.filter(is_session).chain(invited).any(|place| self.is_pending(place))
    }

    fn dismiss(&mut self, id: RegistrationId) {
        if self.registry.get(id).is_some_and(|it| it.link().is_broker()) {
            // Not ours to let go.
            return self.remove(id, Departure::Dismissed);
        }
        let transaction = TransactionId::new(self.entropy.bytes());
        self.send_surely(id, &Message::new(transaction, Body::Dismissed));
        self.counters.dismissed += 1;
        self.remove(id, Departure::Dismissed);
    }
}
