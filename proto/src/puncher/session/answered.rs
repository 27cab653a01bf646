//! Spoofed SYN-ACK, carried out: our SYN is known, the broker is asked, and the dialer's socket
//! connects as if the peer had answered.

use super::*;
use crate::IoFailure;
use crate::signal::{ErrorCode, Handshake, Syn};
use crate::tcp_traversal::plan::{Part, Verdict};
use crate::tcp_traversal::simultaneous_open::Stance;
use crate::tcp_traversal::spoofed_syn_ack::{Knowledge, pinned, pinned_sequence};

/// How long SYNs are given, where nobody knows that they do not pass.
const SYNS_FIRST: Duration = Duration::from_millis(700);
/// Between two requests for one SYN: the peer may come to ask later than the broker waits.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Requests in all.
const MAX_REQUESTS: u32 = 4;

/// What is known of our SYN, and what was asked.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// The capture that waits for the SYN to this address.
    capture: Option<(CommandId, SocketId, SocketAddr)>,
    /// The last SYN.
    sent: Option<Handshake>,
    /// What the broker was asked to answer last.
    asked: Option<Handshake>,
    outbox: Option<Handshake>,
    requests: u32,
    again: Option<Instant>,
    /// What the broker said last.
    pub(super) told: Option<Result<(), ErrorCode>>,
}

impl Answered {
    /// The capture that is open.
    pub(super) fn capture(&self) -> Option<SocketId> {
        self.capture.map(|(_, socket, _)| socket)
    }
}

impl Session {
    /// What the broker is to answer, if there is something new to ask.
    pub fn poll_forge(&mut self) -> Option<Handshake> {
        self.engine.answered.outbox.take()
    }

    /// What the broker said.
    pub fn on_forged(&mut self, result: Result<(), ErrorCode>, now: Instant) {
        let answered = &mut self.engine.answered;
        answered.told = Some(result);
        let waits = matches!(result, Err(ErrorCode::NoAnswer | ErrorCode::TooManyRequests));
        answered.again = waits.then_some(now + AGAIN_AFTER);
        self.pursue(now);
    }

    /// How our SYN to this address becomes known, if it is to be: only the dialers that go through
    /// NATs, and only where the broker may answer.
    fn knowledge(&self, remote: SocketAddr) -> Option<Knowledge> {
        let dialer = self.dialers.iter().find(|it| it.remote == remote)?;
        let through_nat =
            matches!(dialer.kind, CandidateKind::Mapped | CandidateKind::ServerReflexive);
        let offered = self.resources.forges.contains(&Family::of(remote.ip()));
        if !through_nat || !offered || self.engine.ports.is_unsteady() {
            return None;
        }
        Knowledge::with(self.resources.privileges?)
    }

    /// The sequence number of the SYN that is about to leave, if it is fixed; otherwise a capture is
    /// opened for it.
    pub(super) fn prepare_syn(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
        let (secret, role) = (self.introduction.secret, self.introduction.role);
        match self.knowledge(remote)? {
            Knowledge::Pinned => {
                self.engine.answered.sent = Some(Handshake { remote, syn: pinned(&secret, role) });
                Some(pinned_sequence(&secret, role))
            }
            Knowledge::Captured => {
                self.end_capture();
                let (id, socket) = (self.names.command(), self.names.socket());
                let ends = Ends { local, remote };
                self.engine.answered.capture = Some((id, socket, remote));
                self.commands.push_back(Command::Capture { id, socket, ends });
                None
            }
        }
    }

    /// A capture could not be opened: what was thought to be permitted is not.
    pub(super) fn on_done(&mut self, id: CommandId, done: Result<(), IoFailure>) {
        let ours =
            self.engine.answered.capture.take_if(|(command, ..)| *command == id && done.is_err());
        if let (Some(_), Some(held)) = (ours, &mut self.resources.privileges) {
            held.capture = false;
        }
    }

    /// Our SYN, as it left.
    pub(super) fn on_captured(&mut self, socket: SocketId, segment: &Segment, now: Instant) {
        let Some((_, _, remote)) = self.engine.answered.capture.take_if(|(_, it, _)| *it == socket)
        else {
            return;
        };
        self.close(socket);
        self.engine.answered.sent = Some(Handshake { remote, syn: Syn::of(segment) });
        self.pursue(now);
    }

    /// A connect with a fixed sequence number was not permitted: the next one goes without.
    pub(super) fn lose_pin(&mut self, socket: SocketId, failure: IoFailure) -> IoFailure {
        let pinned = self.dialers.iter().any(|dialer| {
            dialer.pending() == Some(socket)
                && self.knowledge(dialer.remote) == Some(Knowledge::Pinned)
        });
        match (&mut self.resources.privileges, failure, pinned) {
            (Some(held), IoFailure::NotPermitted, true) => {
                held.assume = false;
                IoFailure::AddressNotAvailable
            }
            _ => failure,
        }
    }

    /// Asks the broker, if it is time.
    pub(super) fn seek_answer(&mut self, now: Instant) {
        let planned = self.engine.plan.part(Strategy::SpoofedSynAck) == Some(Part::Both);
        let alone = self.streams.open().next().is_none();
        if !planned || !alone || now < self.answer_start() {
            return;
        }
        let Some(handshake) = self.engine.answered.sent else { return };
        let answered = &mut self.engine.answered;
        let due = answered.asked != Some(handshake) || answered.again.is_some_and(|at| at <= now);
        let gone = self.dialers.iter_mut().find(|it| it.remote == handshake.remote);
        let Some(dialer) = gone.filter(|it| due && it.pending().is_some()) else { return };
        if answered.requests >= MAX_REQUESTS {
            return;
        }
        // Nothing else has helped so far; what comes of this socket now is most likely the broker's.
        if dialer.stance == Stance::Dial {
            dialer.strategy = Strategy::SpoofedSynAck;
        }
        answered.requests += 1;
        (answered.asked, answered.outbox, answered.again) =
            (Some(handshake), Some(handshake), None);
    }

    /// At once where SYNs are known not to pass.
    fn answer_start(&self) -> Instant {
        let start = self.introduction.start;
        let refuses = [self.our_facts(start), self.their_facts(start)]
            .iter()
            .all(|facts| facts.admits_syn == Some(false));
        if refuses { start } else { start + SYNS_FIRST }
    }

    /// When [`seek_answer`](Self::seek_answer) begins by itself, or goes on.
    pub(super) fn answer_due(&self) -> Option<Deadline> {
        let verdict = self.engine.plan.verdict(Strategy::SpoofedSynAck);
        let planned = matches!(verdict, Some(Verdict::Run(_)));
        let answered = &self.engine.answered;
        let ready = answered.sent.is_some() && answered.asked != answered.sent;
        let left = answered.requests < MAX_REQUESTS && self.streams.open().next().is_none();
        let first = ready.then(|| self.answer_start()).filter(|start| *start > self.called);
        let at = if answered.requests == 0 { first } else { answered.again };
        at.filter(|_| planned && left).map(|at| Deadline::new(at, "ask for a forged SYN-ACK"))
    }

    pub(super) fn end_capture(&mut self) {
        if let Some((_, socket, _)) = self.engine.answered.capture.take() {
            self.close(socket);
        }
    }
}
