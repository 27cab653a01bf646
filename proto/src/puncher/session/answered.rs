//! Spoofed SYN-ACK, carried out: our SYN is known, the broker is asked, and the dialer's socket
//! connects as if the peer had answered.

use super::*;
use crate::IoFailure;
use crate::signal::Syn;
use crate::tcp_traversal::hints;
use crate::tcp_traversal::plan::Part;
use crate::tcp_traversal::simultaneous_open::Stance;
use crate::tcp_traversal::spoofed_syn_ack::{Knowledge, pinned, pinned_sequence};

/// Between two requests for one SYN: the peer may come to ask later than the broker waits.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// From one request to that for the next SYN: where SYNs are refused they follow each other closely.
const NEXT_SYN_AFTER: Duration = Duration::from_millis(300);
/// Requests in all.
const MAX_REQUESTS: u32 = 6;

/// What is known of our SYN, and what was asked.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// The capture that waits for the SYN to this address.
    capture: Option<(CommandId, SocketId, SocketAddr)>,
    /// The last SYN.
    sent: Option<Handshake>,
    /// What the broker was asked to answer last, and when.
    asked: Option<(Handshake, Instant)>,
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
    pub(super) fn poll_forge(&mut self) -> Option<Handshake> {
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
    /// NATs or to a public address, which may be behind a firewall, and only where the broker may answer: it knows the
    /// mapping of the punching port, and of no other.
    fn knowledge(&self, remote: SocketAddr) -> Option<Knowledge> {
        let dialer = self.dialers.iter().find(|it| it.remote == remote && it.local.is_none())?;
        let afar = match dialer.kind {
            CandidateKind::Mapped | CandidateKind::ServerReflexive => true,
            CandidateKind::Host => !address::is_private(remote.ip()),
            CandidateKind::PeerReflexive | CandidateKind::Reserve => false,
        };
        let offered = self.resources.forges.contains(&Family::of(remote.ip()));
        if !afar || !offered || self.engine.ports.is_unsteady() {
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
        let (Some((handshake, at)), true) = (self.next_question(), self.has_begun(now)) else {
            return;
        };
        if at > now {
            return;
        }
        // Nothing else has helped so far; what comes of this socket now is most likely the broker's.
        for dialer in &mut self.dialers {
            if dialer.remote == handshake.remote && dialer.stance == Stance::Dial {
                dialer.strategy = Strategy::SpoofedSynAck;
            }
        }
        let answered = &mut self.engine.answered;
        answered.requests += 1;
        (answered.asked, answered.outbox) = (Some((handshake, now)), Some(handshake));
        answered.again = None;
    }

    /// What is to be asked next, and when: about a socket that waits, and nothing has connected yet.
    fn next_question(&self) -> Option<(Handshake, Instant)> {
        let answered = &self.engine.answered;
        let handshake = answered.sent?;
        let planned = self.engine.plan.part(Strategy::SpoofedSynAck) == Some(Part::Both);
        let alone = !self.streams.are_hopeful();
        let waits = |it: &Dialer| it.remote == handshake.remote && it.pending().is_some();
        let left = answered.requests < MAX_REQUESTS;
        if !planned || !alone || !left || !self.dialers.iter().any(waits) {
            return None;
        }
        let at = match answered.asked {
            None => self.answer_start(),
            Some((asked, at)) if asked != handshake => at + NEXT_SYN_AFTER,
            Some(_) => answered.again?,
        };
        Some((handshake, at))
    }

    fn has_begun(&self, now: Instant) -> bool {
        self.introduction.start <= now
    }

    /// At once where SYNs are known not to pass, or have not passed between NATs like these two.
    fn answer_start(&self) -> Instant {
        let start = self.introduction.start;
        let hinted = self.is_hinted(Strategy::SpoofedSynAck);
        if self.no_syn_passes() || hinted { start } else { start + SYNS_FIRST }
    }

    /// Whether others behind such NATs came through by `strategy`, and did not by crossing SYNs. It
    /// only says what comes first: who told the broker may have lied.
    pub(super) fn is_hinted(&self, strategy: Strategy) -> bool {
        hints::comes_first(&self.introduction.hints, strategy)
    }

    /// When [`seek_answer`](Self::seek_answer) has something to do.
    pub(super) fn answer_due(&self) -> Option<Deadline> {
        let (_, at) = self.next_question()?;
        let at = at.max(self.introduction.start);
        Some(Deadline::new(at, "ask for a forged SYN-ACK"))
    }

    pub(super) fn end_capture(&mut self) {
        if let Some((_, socket, _)) = self.engine.answered.capture.take() {
            self.close(socket);
        }
    }
}
