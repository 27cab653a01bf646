//! What two peers tell each other while they punch, through the broker.
//!
//! ```text
//!   one peer                   broker                 the other
//!     │ Relay, signed ───────────▶│── Relay, signed ─────────▶│
//!     │◀───────────────────────── ┤◀─────────────────── Relay ┤   says that it was heard
//! ```
//!
//! The broker keeps nothing of it and answers nothing: whoever relays repeats it until the other peer
//! has said that it heard. Only the two peers of a meeting that has its orders may; every Relay costs
//! a token of its sender's request budget, so that none can be sent faster than requests.

use std::time::Instant;

use super::session::State;
use super::{Broker, Link, Registration, Registry};
use crate::signal::RegistrationId;
use crate::signal::codec::Received;
use crate::signal::message::{Body, Message, Relay};

impl<R: Registry> Broker<R> {
    pub(super) fn on_relay(
        &mut self,
        link: Link,
        received: &Received<'_>,
        relay: &Relay,
        now: Instant,
    ) {
        let Some(sender) = self.paying_sender(link, received, now) else { return };
        self.relay_from(sender, &received.message, relay);
    }

    /// Passes on what a peer of a meeting tells the other.
    pub(super) fn relay_from(&mut self, sender: RegistrationId, message: &Message, relay: &Relay) {
        let Some(other) = self.other_peer(sender, relay) else {
            if !self.tell_elsewhere(sender, relay.session, message) {
                self.counters.unexpected += 1;
            }
            return;
        };
        self.counters.relayed += 1;
        self.send(other, &Message::new(message.transaction, Body::Relay(relay.clone())));
    }

    /// The sender of an indication, if it has a request left to spend on it.
    pub(super) fn paying_sender(
        &mut self,
        link: Link,
        received: &Received<'_>,
        now: Instant,
    ) -> Option<RegistrationId> {
        let Some(sender) = self.sender(link, received) else {
            self.counters.unsigned += 1;
            return None;
        };
        if !self.take_token(sender, now) {
            self.counters.rate_limited += 1;
            return None;
        }
        Some(sender)
    }

    /// The registered peer that signed a message, on the very link that it is known by.
    pub(super) fn sender(&self, link: Link, received: &Received<'_>) -> Option<RegistrationId> {
        let registration = received.message.registration.and_then(|id| self.registry.get(id));
        let signed = registration.filter(|it| it.link() == link && Self::vouches(it, received));
        signed.map(|&Registration { id, .. }| id)
    }

    fn other_peer(&self, sender: RegistrationId, relay: &Relay) -> Option<RegistrationId> {
        let session = self.sessions.get(&relay.session)?;
        let ordered = matches!(session.state, State::Ordered { .. });
        let other = match sender {
            it if it == session.caller => session.callee,
            it if it == session.callee => session.caller,
            _ => return None,
        };
        ordered.then_some(other)
    }
}
