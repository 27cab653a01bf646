//! Answers that are held back (RFC 5382 REQ-4): a SYN nobody asked for is refused only after six
//! seconds, and not at all if the inside has opened that connection in the meantime.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::behaviour::Transport;
use super::{Nat, State};
use crate::packet::{IcmpError, Packet};

/// How long a SYN waits for one from inside.
pub(super) const DELAY: Duration = Duration::from_secs(6);

/// SYNs that may wait; more are forgotten, as RFC 5382 allows.
const MOST: usize = 1024;

/// A SYN that waits.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    due: Instant,
    external: SocketAddr,
    remote: SocketAddr,
    answer: Vec<u8>,
}

impl Nat {
    /// Keeps the answer to an unsolicited SYN for later.
    pub(super) fn hold_back(&mut self, packet: &Packet, now: Instant) {
        let Some((remote, external)) = packet.source().zip(packet.destination()) else { return };
        let waits = |it: &Waiting| (it.external, it.remote) == (external, remote);
        if self.waiting.len() >= MOST || self.waiting.iter().any(waits) {
            return;
        }
        if let Some(answer) = self.complain(packet, IcmpError::PortUnreachable) {
            self.waiting.push_back(Waiting { due: now + DELAY, external, remote, answer });
        }
    }

    /// When [`Nat::next_answer`] has something to give at the earliest.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|it| it.due)
    }

    /// A packet that the box itself sends to the outer side by `now`.
    pub fn next_answer(&mut self, now: Instant) -> Option<Vec<u8>> {
        while self.waiting.front().is_some_and(|it| it.due <= now) {
            let due = self.waiting.pop_front()?;
            if !self.has_opened(due.external, due.remote, now) {
                return Some(due.answer);
            }
        }
        None
    }

    fn has_opened(&self, external: SocketAddr, remote: SocketAddr, now: Instant) -> bool {
        self.flows.iter().any(|(flow, state)| {
            let mapping = self.mappings.get(state.mapping);
            let alive = state.expires > now
                && state.tcp.as_ref().is_some_and(|tcp| tcp.state() != State::Closed);
            flow.transport == Transport::Tcp
                && flow.remote == remote
                && alive
                && mapping.is_some_and(|entry| entry.external == external)
        })
    }
}
