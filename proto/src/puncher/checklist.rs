//! The UDP half of a session: which addresses are being checked, and what came back.
//!
//! A pair starts as announced by the peer, or when an authenticated check arrives from an address
//! nobody had announced (a peer-reflexive candidate, RFC 8445 section 7.3.1.3). It is checked every
//! [`EARLY_PAUSE`] at first and ever more slowly later, until one of our checks is answered *from
//! the address it went to*: then the path stands in both directions.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::report::Failures;
use crate::SocketId;
use crate::candidate::CandidateKind;

/// Most pairs of one session: announced ones are bounded by the message, learned ones by this.
const MAX_PAIRS: usize = 32;
/// Transactions remembered for each pair: at the early pace, all of a round trip of 1.2 s.
const MAX_OUTSTANDING: usize = 64;
/// Pause between checks at first. 20 ms brought 25 of 25 attempts through 5 % loss within 65 ms.
const EARLY_PAUSE: Duration = Duration::from_millis(20);
/// Checks sent at the early pace: one second's worth.
const EARLY_CHECKS: u32 = 50;
/// Pause between checks once the early ones have not helped.
const LATE_PAUSE: Duration = Duration::from_millis(100);

/// One address of the peer, checked from one socket of ours.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) socket: SocketId,
    pub(super) remote: SocketAddr,
    pub(super) kind: CandidateKind,
    pub(super) started: Instant,
    pub(super) sent: u32,
    pub(super) heard: bool,
    pub(super) verified: Option<Verified>,
    pub(super) failures: Failures,
    next: Instant,
    outstanding: VecDeque<(TransactionId, Instant)>,
}

/// The moment a path was found to stand in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verified {
    pub(super) at: Instant,
    pub(super) rtt: Duration,
}

impl Pair {
    /// Notes that check `id` is being sent now.
    pub(super) fn sending(&mut self, id: TransactionId, now: Instant) {
        self.sent += 1;
        self.next = now + if self.sent < EARLY_CHECKS { EARLY_PAUSE } else { LATE_PAUSE };
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((id, now));
    }

    fn answers(&self, id: TransactionId) -> Option<Instant> {
        self.outstanding.iter().find(|(sent, _)| *sent == id).map(|(_, at)| *at)
    }
}

/// All pairs of one session.
#[derive(Debug, Default)]
pub(super) struct Checklist {
    pub(super) pairs: Vec<Pair>,
}

impl Checklist {
    /// Adds an address to check from `start` on, unless it is there already.
    pub(super) fn add(
        &mut self,
        socket: SocketId,
        remote: SocketAddr,
        kind: CandidateKind,
        start: Instant,
    ) {
        if self.position(socket, remote).is_some() || self.pairs.len() >= MAX_PAIRS {
            return;
        }
        self.pairs.push(Pair {
            socket,
            remote,
            kind,
            started: start,
            sent: 0,
            heard: false,
            verified: None,
            failures: Failures::default(),
            next: start,
            outstanding: VecDeque::new(),
        });
    }

    /// An authenticated check arrived from `source`: that address is worth a check at once.
    pub(super) fn heard(&mut self, socket: SocketId, source: SocketAddr, now: Instant) {
        self.add(socket, source, CandidateKind::PeerReflexive, now);
        let Some(index) = self.position(socket, source) else { return };
        let pair = &mut self.pairs[index];
        if !pair.heard {
            pair.heard = true;
            pair.next = pair.next.min(now.max(pair.started));
        }
    }

    /// An authenticated response arrived from `source`. Whether it verified a pair just now.
    pub(super) fn answered(
        &mut self,
        socket: SocketId,
        source: SocketAddr,
        id: TransactionId,
        now: Instant,
    ) -> bool {
        let Some(index) = self.position(socket, source) else { return false };
        let pair = &mut self.pairs[index];
        let Some(sent) = pair.answers(id) else { return false };
        if pair.verified.is_some() {
            return false;
        }
        pair.verified = Some(Verified { at: now, rtt: now.saturating_duration_since(sent) });
        true
    }

    /// The first pair that should be checked now.
    pub(super) fn due(&self, now: Instant) -> Option<usize> {
        self.pairs.iter().position(|pair| pair.verified.is_none() && pair.next <= now)
    }

    /// When the next check is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.pairs.iter().filter(|pair| pair.verified.is_none()).map(|pair| pair.next).min()
    }

    /// The best verified pair: an address of the peer's own host before one of its NAT, then the
    /// earliest.
    pub(super) fn best(&self) -> Option<(&Pair, Verified)> {
        let verified = self.pairs.iter().filter_map(|pair| Some((pair, pair.verified?)));
        verified.min_by_key(|(pair, verified)| (pair.kind, verified.at))
    }

    /// The pair of these two ends.
    pub(super) fn position(&self, socket: SocketId, remote: SocketAddr) -> Option<usize> {
        self.pairs.iter().position(|pair| pair.socket == socket && pair.remote == remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Names, Owner};
    use crate::machine::any_instant;

    const REMOTE: &str = "203.0.113.9:4000";

    fn id(number: u8) -> TransactionId {
        TransactionId::new([number; 12])
    }

    fn list(start: Instant) -> (Checklist, SocketId) {
        let socket = Names::new(Owner(1)).socket();
        let mut list = Checklist::default();
        list.add(socket, REMOTE.parse().unwrap(), CandidateKind::ServerReflexive, start);
        (list, socket)
    }

    #[test]
    fn checks_go_out_every_20_ms_for_a_second_and_then_every_100() {
        let start = any_instant();
        let (mut list, _) = list(start);
        let mut instants = Vec::new();
        while instants.len() < 54 {
            let now = list.next().unwrap();
            let due = list.due(now).unwrap();
            list.pairs[due].sending(id(0), now);
            instants.push((now - start).as_millis());
        }
        let early = (0..50).map(|n| n * 20);
        let late = (0..4).map(|n| 980 + 100 + n * 100);
        assert_eq!(instants, early.chain(late).collect::<Vec<_>>());
    }

    #[test]
    fn a_response_counts_only_from_where_the_check_went() {
        let start = any_instant();
        let (mut list, socket) = list(start);
        list.pairs[0].sending(id(1), start);
        let later = start + Duration::from_millis(40);
        assert!(!list.answered(socket, "203.0.113.9:4001".parse().unwrap(), id(1), later));
        assert!(!list.answered(socket, REMOTE.parse().unwrap(), id(2), later));
        assert!(list.answered(socket, REMOTE.parse().unwrap(), id(1), later));
        assert_eq!(list.best().unwrap().1.rtt, Duration::from_millis(40));
        assert!(!list.answered(socket, REMOTE.parse().unwrap(), id(1), later), "only once");
        assert_eq!(list.next(), None);
    }

    #[test]
    fn a_check_from_an_unannounced_address_is_checked_back_at_once() {
        let start = any_instant();
        let (mut list, socket) = list(start + Duration::from_secs(1));
        list.heard(socket, "203.0.113.9:777".parse().unwrap(), start);
        assert_eq!(list.due(start), Some(1));
        assert_eq!(list.pairs[1].kind, CandidateKind::PeerReflexive);
    }

    #[test]
    fn learned_pairs_are_bounded() {
        let start = any_instant();
        let (mut list, socket) = list(start);
        for port in 1..1000 {
            list.heard(socket, SocketAddr::from(([203, 0, 113, 9], port)), start);
        }
        assert_eq!(list.pairs.len(), MAX_PAIRS);
    }
}
