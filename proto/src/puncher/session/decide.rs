//! Which path wins.
//!
//! The caller decides. In order: a stream it has chosen and on which the peer has proved itself; a
//! verified UDP path, once TCP has had its fair time; and nothing, until the deadline.
//!
//! | TCP | waits for it, after UDP was verified |
//! |---|---|
//! | a chosen stream awaits the peer's proof | two round trips after its handshake, and a margin |
//! | a connect is pending | a quarter of a round trip |
//! | nothing | not at all |

use super::*;
use crate::puncher::streams::{Proof, Stream};

impl Session {
    /// Chooses, if it is our part and the time has come.
    pub(super) fn decide(&mut self, now: Instant) {
        let racing = matches!(self.state, State::Racing);
        if !racing || self.introduction.role == Role::Controlled {
            return;
        }
        if let Some(winner) = self.proved_stream(now) {
            return self.settle_tcp(winner, now);
        }
        if self.decision_due().is_some_and(|due| due <= now)
            && let Some((pair, _)) = self.checklist.best()
        {
            let (socket, remote) = (pair.socket, pair.remote);
            self.settle_udp(socket, remote, now);
        }
    }

    /// The stream that has won, chosen before or now.
    fn proved_stream(&mut self, now: Instant) -> Option<SocketId> {
        let selected = self.selected;
        let proved = |stream: &&Stream| stream.proof == Proof::Given;
        let first = self.streams.all.iter().find(proved).map(|stream| stream.socket)?;
        let Some(selected) = selected else {
            self.selected = Some(first);
            self.greet(first, true);
            return Some(first);
        };
        let patience = self.patience();
        let stream = self.streams.get(selected)?;
        match stream.proof {
            Proof::Given => Some(selected),
            // What was chosen on trust does not prove itself: it is not the peer's.
            Proof::Awaited if stream.established + patience <= now => {
                self.selected = Some(first);
                self.greet(first, true);
                Some(first)
            }
            Proof::Awaited | Proof::Failed | Proof::Ended(_) => None,
        }
    }

    /// How long a stream may take to prove itself: two round trips, as far as they are known.
    fn patience(&self) -> Duration {
        let rtt = self.checklist.best().map(|(_, verified)| verified.rtt);
        PROOF_MARGIN + 2 * rtt.unwrap_or(PROOF_MARGIN / 4)
    }

    /// When the caller has to choose again: UDP stands, and TCP has had its time.
    pub(super) fn decision_due(&self) -> Option<Instant> {
        if self.introduction.role == Role::Controlled {
            return None;
        }
        let awaited = |stream: &&Stream| Some(stream.socket) == self.selected && stream.is_open();
        let chosen = self.streams.all.iter().find(awaited);
        let chosen = chosen.map(|stream| stream.established + self.patience());
        let Some((_, verified)) = self.checklist.best() else {
            let alternative = self.streams.all.iter().any(|it| it.proof == Proof::Given);
            return chosen.filter(|_| alternative);
        };
        let pending = self.dialers.iter().any(Dialer::is_alive)
            || self.engine.is_busy()
            || self.streams.open().next().is_some();
        let grace = if pending { verified.rtt / 4 } else { Duration::ZERO };
        Some(chosen.unwrap_or(verified.at + grace))
    }

    /// The stream has won.
    pub(super) fn settle_tcp(&mut self, socket: SocketId, now: Instant) {
        let Some(stream) = self.streams.get(socket) else { return };
        let (ends, established, strategy) = (stream.ends, stream.established, stream.strategy);
        let strategy = self.named(strategy);
        self.selected = Some(socket);
        self.close_all_but(Some(socket));
        let path = Path::Tcp { socket, ends };
        let report = self.success(path, strategy, established, now);
        self.events.push_back(Event::Established { path, report });
        self.state = State::Finished;
    }

    /// The pair has won.
    pub(super) fn settle_udp(&mut self, socket: SocketId, remote: SocketAddr, now: Instant) {
        self.close_all_but(Some(socket));
        self.selected = None;
        self.settled_on = Some((socket, remote));
        let index = self.checklist.position(socket, remote);
        let verified = index.and_then(|index| self.checklist.pairs[index].verified);
        let pair = index.map(|index| &self.checklist.pairs[index]);
        let strategy = pair.map_or(Strategy::UdpHolePunch, |pair| self.udp_strategy(pair).0);
        let path = Path::Udp { socket, remote, rtt: verified.map(|it| it.rtt) };
        let at = verified.map_or(now, |verified| verified.at);
        let report = self.success(path, strategy, at, now);
        self.events.push_back(Event::Established { path, report });
        let nomination = (self.introduction.role == Role::Controlling).then_some(Nomination {
            socket,
            remote,
            left: NOMINATIONS,
            next: now,
        });
        self.state = State::Settled { nomination, until: now + LINGER };
        self.nominate(now);
    }

    /// Repeats the caller's choice of a UDP path.
    pub(super) fn nominate(&mut self, now: Instant) {
        let State::Settled { nomination, .. } = &mut self.state else { return };
        let Some(due) = nomination.filter(|it| it.next <= now) else { return };
        let left = due.left - 1;
        *nomination =
            (left > 0).then_some(Nomination { left, next: now + NOMINATION_PAUSE, ..due });
        let id = self.entropy.transaction_id();
        let payload = self.authenticator.request(id, true);
        self.send_udp(due.socket, due.remote, None, payload);
    }

    /// The time is up: a path that stands is taken, whatever else was waited for.
    pub(super) fn end(&mut self, now: Instant) {
        let caller = self.introduction.role == Role::Controlling;
        let standing = self.checklist.best().map(|(pair, _)| (pair.socket, pair.remote));
        match standing.filter(|_| caller) {
            Some((socket, remote)) => self.settle_udp(socket, remote, now),
            None => self.fail(now),
        }
    }

    /// Nothing came about.
    pub(super) fn fail(&mut self, now: Instant) {
        self.close_all_but(None);
        self.tell_the_end();
        let report = self.failure(now);
        self.events.push_back(Event::Failed { report });
        self.state = State::Finished;
    }
}
