//! From TCP to UDP: a host that registered over TCP since its first datagrams were lost finds out
//! that UDP passes after all.
//!
//! ```text
//!  TCP: registered
//!  UDP: Refresh ───────────────▶ broker
//!           ◀─────── 438, NONCE     the address is new to it
//!       Refresh, NONCE ────────▶    moves the registration here
//!           ◀──────── Refreshed
//!  TCP: closed
//! ```
//!
//! It is tried with every refresh, by a handful of datagrams ever farther apart as long as nothing
//! comes back: over a lossy line a stream stands still for seconds where datagrams get through.

use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::core::{Core, Standing, Way, earlier};
use crate::signal::message::{Body, Message, Nonce, Refresh, TransmitCount};
use crate::signal::{ErrorCode, Ladder};

/// The count of a request whose answer is not timed.
const UNTIMED: TransmitCount = TransmitCount { request: 1, response: 0 };
/// Between the first knock and its repeat; each later pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Knocks in all, the last 8 s after the first.
const KNOCKS: u32 = 6;

/// The ways over UDP, and what was asked on them.
#[derive(Debug)]
pub(super) struct Upgrade {
    ways: Vec<Way>,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting,
    /// Something was sent on every way.
    Knocked {
        transaction: TransactionId,
        knocks: u32,
        next: Option<Instant>,
    },
    /// One of them answered, and is asked until `until`.
    Proving {
        way: Way,
        nonce: Nonce,
        transaction: TransactionId,
        ladder: Ladder,
        until: Instant,
    },
}

impl Upgrade {
    /// Over these ways; none of them is fine.
    pub(super) fn over(ways: Vec<Way>) -> Self {
        Self { ways, state: State::Waiting }
    }

    /// Whether a message on `way` may concern us.
    pub(super) fn uses(&self, way: Way) -> bool {
        self.ways.contains(&way)
    }

    pub(super) fn asks(&self, source: std::net::SocketAddr) -> bool {
        self.ways.iter().any(|way| way.remote == source)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting => None,
            State::Knocked { next, .. } => *next,
            State::Proving { ladder, until, .. } => earlier(ladder.next(), Some(*until)),
        }
    }

    /// Tries every way.
    pub(super) fn knock(&mut self, core: &mut Core, standing: &Standing, now: Instant) {
        if !matches!(self.state, State::Proving { .. }) && !self.ways.is_empty() {
            let transaction = core.transaction();
            self.knock_again(core, standing, (transaction, 0), now);
        }
    }

    /// Sends one datagram on every way, and schedules the next ones.
    fn knock_again(
        &mut self,
        core: &mut Core,
        standing: &Standing,
        (transaction, knocks): (TransactionId, u32),
        now: Instant,
    ) {
        for way in &self.ways {
            let standing = Standing { way: *way, nonce: None, ..standing.clone() };
            let message = Message::new(transaction, body(core));
            core.send(&standing, &standing.request(message, UNTIMED));
        }
        let next = (knocks + 1 < KNOCKS).then(|| now + FIRST_PAUSE * 2u32.pow(knocks));
        self.state = State::Knocked { transaction, knocks: knocks + 1, next };
    }

    pub(super) fn handle_timeout(&mut self, core: &mut Core, standing: &Standing, now: Instant) {
        match &self.state {
            State::Knocked { transaction, knocks, next: Some(next) } if *next <= now => {
                let again = (*transaction, *knocks);
                self.knock_again(core, standing, again, now);
            }
            State::Proving { until, .. } if *until <= now => self.state = State::Waiting,
            State::Proving { ladder, .. } if ladder.is_due(now) => self.send(core, standing, now),
            State::Proving { .. } | State::Waiting | State::Knocked { .. } => {}
        }
    }

    /// The broker wants a proof; its answer cannot be signed. `false` if it answers something else.
    pub(super) fn handle_refusal(
        &mut self,
        core: &mut Core,
        standing: &Standing,
        (way, message): (Way, &Message),
        now: Instant,
    ) -> bool {
        let State::Knocked { transaction, .. } = &self.state else { return false };
        let (Body::Refused(refused), Some(nonce)) = (&message.body, &message.nonce) else {
            return false;
        };
        if *transaction != message.transaction || refused.code != ErrorCode::StaleNonce {
            return false;
        }
        self.state = State::Proving {
            way,
            nonce: nonce.clone(),
            transaction: core.transaction(),
            ladder: way.ladder(core.rtt),
            until: now + core.config.registration_timeout,
        };
        self.send(core, standing, now);
        true
    }

    /// Whether a signed answer says that the registration has moved.
    pub(super) fn has_moved(&self, way: Way, message: &Message) -> bool {
        match &self.state {
            State::Proving { way: ours, transaction, .. } => {
                *ours == way && *transaction == message.transaction
            }
            State::Waiting | State::Knocked { .. } => false,
        }
    }

    fn send(&mut self, core: &mut Core, standing: &Standing, now: Instant) {
        let State::Proving { way, nonce, transaction, ladder, .. } = &mut self.state else {
            return;
        };
        let transmit = ladder.sent(now);
        let standing = Standing { way: *way, nonce: Some(nonce.clone()), ..standing.clone() };
        let message = Message::new(*transaction, body(core));
        core.send(&standing, &standing.request(message, transmit));
    }
}

/// A refresh that changes nothing.
fn body(core: &Core) -> Body {
    Body::Refresh(Refresh { lease: core.config.lease, candidates: None, nat: None, rtt: core.rtt })
}
