//! What the NAT makes of a SYN's header: the initial sequence number above all.
//!
//! ```text
//!  client captures its SYN, if it may
//!  client ── SYN, number x ──┤ NAT ├── number y ──▶ server, which keeps it
//!  client ── how did it arrive? ──────────────────▶ server
//!  client ◀── number y, TTL, options ────────────── server
//! ```
//!
//! A process without privileges does not know its own number x: then what arrived is told, and
//! nothing is said about the number.

use std::time::{Duration, Instant};

use ntcp_stun::probe::{self, Interval, Reply, Seen, Test, Wish};
use ntcp_stun::{Message, TransactionId};

use super::super::outbox::Outbox;
use crate::command::{CommandId, Ends, IoFailure, SocketId};
use crate::machine::Deadline;
use crate::nat::InitialSequence;

/// What a busy host or a queue may add to two round trips.
const SLACK: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The capture is being opened by this command.
    Opening(CommandId),
    Connecting(CommandId),
    /// The server was asked on this stream.
    Asked,
    Told(Seen),
    Failed,
}

/// The test.
#[derive(Debug)]
pub(super) struct Sequence {
    ends: Ends,
    stage: Stage,
    capture: Capture,
    socket: Option<SocketId>,
    request: TransactionId,
    end: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Capture {
    /// Open, or being opened, under this name.
    Open(SocketId),
    Refused,
    /// It saw this number leave.
    Saw(u32),
}

impl Sequence {
    /// Begins with a connection between `ends`, of which nobody has the remote one yet.
    pub(super) fn new(
        ends: Ends,
        (rtt, request): (Duration, TransactionId),
        outbox: &mut Outbox,
        now: Instant,
    ) -> Self {
        let (open, capture) = outbox.capture(ends);
        Self {
            ends,
            stage: Stage::Opening(open),
            capture: Capture::Open(capture),
            socket: None,
            request,
            end: now + rtt * 2 + SLACK,
        }
    }

    /// Whether this port is in use here.
    pub(super) fn uses(&self, port: u16) -> bool {
        self.ends.local.port() == port
    }

    /// The capture is open, or may not be.
    pub(super) fn on_done(
        &mut self,
        id: CommandId,
        result: Result<(), IoFailure>,
        outbox: &mut Outbox,
    ) {
        let Stage::Opening(open) = self.stage else { return };
        if open != id {
            return;
        }
        if result.is_err() {
            self.capture = Capture::Refused;
        }
        let (connect, socket) = outbox.connect_tcp(self.ends.local, self.ends.remote);
        self.socket = Some(socket);
        self.stage = Stage::Connecting(connect);
    }

    pub(super) fn on_captured(&mut self, socket: SocketId, sequence: u32) {
        if matches!(self.capture, Capture::Open(open) if open == socket) {
            self.capture = Capture::Saw(sequence);
        }
    }

    pub(super) fn on_connected(
        &mut self,
        id: CommandId,
        result: &Result<Ends, IoFailure>,
        outbox: &mut Outbox,
    ) {
        let (Stage::Connecting(connect), Some(socket)) = (self.stage, self.socket) else { return };
        if connect != id {
            return;
        }
        if result.is_err() {
            outbox.forget(socket);
            self.stage = Stage::Failed;
            return;
        }
        let wish = Wish { test: Test::Look, patience: Interval::of(Duration::ZERO) };
        outbox.send_tcp(socket, probe::order(self.request, wish));
        self.stage = Stage::Asked;
    }

    pub(super) fn on_message(&mut self, socket: SocketId, payload: &[u8]) {
        let (Stage::Asked, true) = (self.stage, self.socket == Some(socket)) else { return };
        let message = Message::parse(payload).ok();
        let reply = message.filter(|it| it.transaction_id() == self.request);
        match reply.and_then(|it| Reply::read(&it)) {
            Some(Reply::Seen(seen)) => self.stage = Stage::Told(seen),
            Some(Reply::Reserved(_) | Reply::Ended { .. } | Reply::Refused(_)) => {
                self.stage = Stage::Failed;
            }
            None => {}
        }
    }

    pub(super) fn on_closed(&mut self, socket: SocketId) {
        if self.socket == Some(socket) && !matches!(self.stage, Stage::Told(_)) {
            self.stage = Stage::Failed;
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if now >= self.end {
            self.capture = match self.capture {
                Capture::Open(_) => Capture::Refused,
                other => other,
            };
            if !matches!(self.stage, Stage::Told(_)) {
                self.stage = Stage::Failed;
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        (!self.is_settled()).then_some(Deadline::new(self.end, "end the look at a SYN"))
    }

    pub(super) fn is_settled(&self) -> bool {
        match (self.stage, self.capture) {
            (Stage::Failed, _) | (Stage::Told(_), Capture::Refused | Capture::Saw(_)) => true,
            (Stage::Told(_), Capture::Open(_))
            | (Stage::Opening(_) | Stage::Connecting(_) | Stage::Asked, _) => false,
        }
    }

    /// How the SYN arrived.
    pub(super) fn seen(&self) -> Option<Seen> {
        match self.stage {
            Stage::Told(seen) => Some(seen),
            Stage::Opening(_) | Stage::Connecting(_) | Stage::Asked | Stage::Failed => None,
        }
    }

    /// Whether sequence numbers pass unchanged.
    pub(super) fn finding(&self) -> Option<InitialSequence> {
        let Capture::Saw(sent) = self.capture else { return None };
        let is_same = self.seen()?.sequence == sent;
        Some(if is_same { InitialSequence::Preserved } else { InitialSequence::Rewritten })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Owner};

    const REQUEST: TransactionId = TransactionId::new([5; 12]);

    fn seen(sequence: u32) -> Seen {
        Seen {
            sequence,
            timestamp: None,
            mss: Some(1460),
            window_scale: None,
            selective: false,
            window: 64_240,
            ttl: 61,
        }
    }

    /// Up to the answer of a server that saw this number.
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn look(capture: Result<(), IoFailure>, captured: Option<u32>, arrived: u32) -> Sequence {
        let (mut outbox, now) = (Outbox::new(Owner(1)), Instant::now());
        let ends = Ends {
            local: "10.0.0.2:5000".parse().unwrap(),
            remote: "203.0.113.1:1".parse().unwrap(),
        };
        let rtt = Duration::from_millis(40);
        let mut test = Sequence::new(ends, (rtt, REQUEST), &mut outbox, now);
        let Some(Command::Capture { id, socket: capturing, .. }) = outbox.poll() else {
            panic!("the capture is open before the SYN leaves")
        };
        assert_eq!(outbox.poll(), None);
        test.on_done(id, capture, &mut outbox);
        let Some(Command::ConnectTcp { id, socket, .. }) = outbox.poll() else {
            panic!("it connects")
        };
        if let Some(number) = captured {
            test.on_captured(capturing, number);
        }
        test.on_connected(id, &Ok(ends), &mut outbox);
        test.on_message(socket, &Reply::Seen(seen(arrived)).write(REQUEST));
        test
    }

    #[test]
    fn a_captured_number_is_compared_with_the_one_that_arrived() {
        assert_eq!(look(Ok(()), Some(7), 7).finding(), Some(InitialSequence::Preserved));
        assert_eq!(look(Ok(()), Some(7), 8).finding(), Some(InitialSequence::Rewritten));
    }

    #[test]
    fn without_the_privilege_nothing_is_said_about_the_number() {
        let test = look(Err(IoFailure::NotPermitted), None, 7);
        assert!(test.is_settled());
        assert_eq!((test.finding(), test.seen()), (None, Some(seen(7))));
    }

    #[test]
    fn a_capture_that_sees_nothing_is_waited_for_no_longer_than_the_end() {
        let mut test = look(Ok(()), None, 7);
        let end = test.poll_timeout().expect("it waits").at;
        test.handle_timeout(end);
        assert!(test.is_settled());
        assert_eq!(test.finding(), None);
    }
}
