//! Holes that outlive the session that has opened them.
//!
//! A callee behind a steady NAT that covers the ports of a random one opens up to several hundred holes for a
//! call. Closing their sockets would not close the holes, which stay in the NAT for a minute or two, but
//! spoil them: the host would answer a SYN that comes through one with another sequence number than the
//! NAT has seen. So the sockets stay. If the same peer calls again, all of these holes are open already,
//! and neither the NAT nor the [budget](crate::tcp_traversal::budget) pays for them twice.

use super::*;
use crate::Answer;
use crate::puncher::session::Hole;

/// How long a hole counts as open: home routers forget an unanswered SYN after 56 s and more.
const LIFETIME: Duration = Duration::from_secs(55);
/// Most holes; the oldest are closed for new ones.
const MAX_HOLES: usize = 512;

/// Holes of sessions that are over.
#[derive(Debug, Default)]
pub(super) struct Holes {
    /// The oldest first.
    pending: VecDeque<(Instant, Hole)>,
    /// One that a stream has come through just now.
    open: Option<SocketId>,
}

impl Holes {
    /// The ends of peers that may come in.
    pub(super) fn remotes(&self) -> Vec<SocketAddr> {
        self.pending.iter().map(|(_, hole)| hole.remote).collect()
    }

    /// Whether that stream came through a hole.
    pub(super) fn is_open(&self, socket: SocketId) -> bool {
        self.open == Some(socket)
    }
}

impl Node {
    /// Takes over what a session has left open.
    pub(super) fn keep_holes(&mut self, holes: Vec<Hole>, now: Instant) {
        self.holes.pending.extend(holes.into_iter().map(|hole| (now, hole)));
        let many = self.holes.pending.len().saturating_sub(MAX_HOLES);
        let oldest: Vec<_> = self.holes.pending.drain(..many).collect();
        for (_, hole) in oldest {
            self.close(hole.socket);
        }
    }

    /// The answer to a connect of a session that is over.
    pub(super) fn on_hole(&mut self, input: &Input<'_>, now: Instant) {
        let Input::Answer { id, answer: Answer::Connected(connected) } = input else { return };
        let at = self.holes.pending.iter().position(|(_, hole)| hole.command == *id);
        let Some((_, hole)) = at.and_then(|at| self.holes.pending.remove(at)) else { return };
        if let Ok(ends) = connected {
            self.holes.open = Some(hole.socket);
            self.on_accepted(hole.socket, *ends, now);
            self.holes.open = None;
        }
    }

    /// Closes those that are too old to be of use.
    pub(super) fn expire_holes(&mut self, now: Instant) {
        self.close_holes(|since| since + LIFETIME <= now);
    }

    /// Closes those that are kept since such an instant.
    pub(super) fn close_holes(&mut self, is_over: impl Fn(Instant) -> bool) {
        while self.holes.pending.front().is_some_and(|(since, _)| is_over(*since)) {
            let Some((_, hole)) = self.holes.pending.pop_front() else { return };
            self.close(hole.socket);
        }
    }

    /// When the oldest is closed.
    pub(super) fn holes_due(&self) -> Option<Deadline> {
        let (since, _) = self.holes.pending.front()?;
        Some(Deadline::new(*since + LIFETIME, "end of a hole"))
    }
}
