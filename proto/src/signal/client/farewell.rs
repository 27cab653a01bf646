//! Asking the broker to forget us.

use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::core::{Core, Standing, earlier};
use crate::signal::Ladder;
use crate::signal::message::{Body, Message};

/// How long it is asked; a broker that does not hear it forgets us when the lease ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asking the broker to forget us.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) standing: Standing,
    pub(super) transaction: TransactionId,
    ladder: Ladder,
    until: Instant,
}

impl Farewell {
    pub(super) fn start(core: &mut Core, standing: Standing, now: Instant) -> Self {
        let ladder = standing.way.ladder(core.rtt);
        let transaction = core.transaction();
        let mut farewell = Self { standing, transaction, ladder, until: now + PATIENCE };
        farewell.send(core, now);
        farewell
    }

    /// Whether it has been asked long enough.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }

    pub(super) fn next(&self) -> Option<Instant> {
        earlier(self.ladder.next(), Some(self.until))
    }

    pub(super) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        if self.ladder.is_due(now) {
            self.send(core, now);
        }
    }

    fn send(&mut self, core: &mut Core, now: Instant) {
        let transmit = self.ladder.sent(now);
        let message = Message::new(self.transaction, Body::Unregister);
        core.send(&self.standing, &self.standing.request(message, transmit));
    }
}
