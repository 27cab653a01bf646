//! Holes that outlive the session that has opened them.
//!
//! A callee behind a steady NAT that covers the ports of a random one opens up to several hundred holes for a
//! call. Closing their sockets would not close the holes, which stay in the NAT for a minute or two, but
//! spoil them: the host would answer a SYN that comes through one with another sequence number than the
//! NAT has seen. So the sockets stay. If the same peer calls again, all of these holes are open already,
//! and neither the NAT nor the [budget](crate::tcp_traversal::budget) pays for them twice.
//!
//! Between calls they sleep: what the system repeats dies on the way, as the SYNs did that opened them, so that no
//! stranger hears of a call that is long over. They are opened anew, group by group, when a session covers
//! the ports of that peer again, and kept open as its own holes are
//! ([port coverage](crate::tcp_traversal::port_coverage)).

use std::net::IpAddr;

use super::*;
use crate::puncher::session::Hole;
use crate::tcp_traversal::port_coverage::{CALLERS_HOLES, PAUSE, RENEWAL};
use crate::tcp_traversal::shielded_opener::OPENED;
use crate::{Answer, Hops};

/// How long a hole counts as open: home routers forget an unanswered SYN after 56 s and more.
const LIFETIME: Duration = Duration::from_secs(55);
/// Most holes; the oldest are closed for new ones.
const MAX_HOLES: usize = 512;

/// Holes of sessions that are over.
#[derive(Debug, Default)]
pub(super) struct Holes {
    /// The oldest first.
    pending: VecDeque<Kept>,
    /// One that a stream has come through just now.
    open: Option<SocketId>,
    /// When the last ones were woken.
    woken: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    hole: Hole,
    since: Instant,
    /// When its SYN was sent anew; `None` while it sleeps.
    awake: Option<Instant>,
}

impl Kept {
    /// When there is something to do, if a session has been covering the ports of its peer since then, or none does.
    fn due(&self, covered: Option<Instant>, woken: Option<Instant>) -> Option<Instant> {
        match (covered, self.awake) {
            (Some(_), Some(left)) => Some(left + RENEWAL),
            (Some(began), None) => Some(woken.map_or(began, |woken| began.max(woken + PAUSE))),
            (None, Some(left)) => Some(left),
            (None, None) => None,
        }
    }
}

impl Holes {
    /// The ends of peers that may come in.
    pub(super) fn remotes(&self) -> Vec<SocketAddr> {
        self.pending.iter().map(|kept| kept.hole.remote).collect()
    }

    /// Whether that stream came through a hole.
    pub(super) fn is_open(&self, socket: SocketId) -> bool {
        self.open == Some(socket)
    }
}

impl Node {
    /// Takes over what a session has left open.
    pub(super) fn keep_holes(&mut self, holes: Vec<Hole>, now: Instant) {
        let kept = |hole| Kept { hole, since: now, awake: Some(now) };
        self.holes.pending.extend(holes.into_iter().map(kept));
        let many = self.holes.pending.len().saturating_sub(MAX_HOLES);
        let oldest: Vec<_> = self.holes.pending.drain(..many).collect();
        for kept in oldest {
            self.close(kept.hole.socket);
        }
    }

    /// Since when a session covers the ports of which peers.
    fn covered(&self) -> BTreeMap<IpAddr, Instant> {
        self.sessions.values().filter_map(|it| it.session.covered()).collect()
    }

    /// Wakes those that a session needs, a group at a time, opens them anew in time, and lets the others sleep.
    pub(super) fn tend_holes(&mut self, now: Instant) {
        let covered = self.covered();
        let mut group = CALLERS_HOLES;
        for at in 0..self.holes.pending.len() {
            let Kept { hole: Hole { socket, remote, hops, .. }, .. } = self.holes.pending[at];
            let covers = covered.get(&remote.ip()).copied();
            let due = self.holes.pending[at].due(covers, self.holes.woken);
            if due.is_none_or(|due| due > now) {
                continue;
            }
            if covers.is_none() {
                self.adjust(socket, hops);
            } else if group > 0 {
                group -= 1;
                let id = self.names.command();
                self.commands.push_back(Command::RenewTcp { id, socket, hops });
                self.adjust(socket, OPENED);
            } else {
                continue;
            }
            self.holes.pending[at].awake = covers.map(|_| now);
        }
        if group == 0 {
            self.holes.woken = Some(now);
        }
    }

    fn adjust(&mut self, socket: SocketId, hops: Hops) {
        let id = self.names.command();
        self.commands.push_back(Command::AdjustTcp { id, socket, hops });
    }

    /// The answer to a connect of a session that is over.
    pub(super) fn on_hole(&mut self, input: &Input<'_>, now: Instant) {
        let Input::Answer { id, answer: Answer::Connected(connected) } = input else { return };
        let at = self.holes.pending.iter().position(|kept| kept.hole.command == *id);
        let Some(Kept { hole, .. }) = at.and_then(|at| self.holes.pending.remove(at)) else {
            return;
        };
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
        while self.holes.pending.front().is_some_and(|kept| is_over(kept.since)) {
            let Some(kept) = self.holes.pending.pop_front() else { return };
            self.close(kept.hole.socket);
        }
    }

    /// When there is something to do.
    pub(super) fn holes_due(&self) -> Option<Deadline> {
        let oldest = self.holes.pending.front()?;
        let end = Deadline::new(oldest.since + LIFETIME, "end of a hole");
        let covered = self.covered();
        let due =
            |kept: &Kept| kept.due(covered.get(&kept.hole.remote.ip()).copied(), self.holes.woken);
        let soonest = self.holes.pending.iter().filter_map(due).min();
        Deadline::earlier(Some(end), soonest.map(|at| Deadline::new(at, "sleep of a hole")))
    }
}
