//! What the NAT makes of a SYN's header: the initial sequence number above all.
//!
//! ```text
//!  client captures its SYN, if it may
//!  client ── SYN, number x ──┤ NAT ├── number y ──▶ server, which keeps it
//!  client ── how did it arrive? ──────────────────▶ server
//!  client ◀── number y, TTL, options ────────────── server
//! ```
//!
//! A process without privileges does not know its own number x. But where the system takes it from a
//! clock (RFC 6528 section 3; Linux counts every 64 ns), two connections between the same ends differ by
//! the time that has passed between them. If the server saw anything else, somebody has rewritten them:
//!
//! ```text
//!  client ── SYN, number x ─────┤ NAT ├── y ───▶ server
//!  client ── RST ──────────────────────────────▶ server      the ends are free
//!  client ── SYN, number x + t ─┤ NAT ├── z ───▶ server      z − y is t, or is not
//! ```
//!
//! If it saw just that, they were not rewritten anew for each connection. Whether they were at all stays
//! open: a NAT that still remembers the first connection adds the same to the second.

use std::time::{Duration, Instant};

use ntcp_stun::probe::{self, Interval, Reply, Seen, Test, Wish};
use ntcp_stun::{Message, TransactionId};

use super::super::outbox::Outbox;
use crate::command::{CommandId, Ends, IoFailure, SocketId};
use crate::machine::Deadline;
use crate::nat::InitialSequence;

/// What a busy host or a queue may add to two round trips.
const SLACK: Duration = Duration::from_millis(250);

/// What a clock may have been set by between two connections.
const CLOCK_SLACK: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The capture is being opened by this command.
    Opening(CommandId),
    Connecting(CommandId),
    /// The first connection is being ended by this command.
    Ending(CommandId),
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
    requests: [TransactionId; 2],
    /// How long the system's numbers take from one to the next, if it takes them from a clock.
    clock: Option<Duration>,
    /// Between these instants the system chose the number of the connection under way.
    chosen: [Instant; 2],
    /// What was seen of the first connection, and when its number was chosen.
    first: Option<(Seen, [Instant; 2])>,
    rtt: Duration,
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
        (rtt, clock): (Duration, Option<Duration>),
        requests: [TransactionId; 2],
        outbox: &mut Outbox,
        now: Instant,
    ) -> Self {
        let (open, capture) = outbox.capture(ends);
        Self {
            ends,
            stage: Stage::Opening(open),
            capture: Capture::Open(capture),
            socket: None,
            requests,
            clock,
            chosen: [now; 2],
            first: None,
            rtt,
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
        now: Instant,
    ) {
        let Stage::Opening(open) = self.stage else { return };
        if open != id {
            return;
        }
        if result.is_err() {
            self.capture = Capture::Refused;
        }
        self.connect(outbox, now);
    }

    fn connect(&mut self, outbox: &mut Outbox, now: Instant) {
        let (connect, socket) = outbox.connect_tcp(self.ends.local, self.ends.remote);
        self.socket = Some(socket);
        self.stage = Stage::Connecting(connect);
        self.chosen = [now; 2];
    }

    /// The first connection has ended: the second may begin.
    pub(super) fn on_ended(&mut self, id: CommandId, outbox: &mut Outbox, now: Instant) {
        if matches!(self.stage, Stage::Ending(abort) if abort == id) {
            self.connect(outbox, now);
        }
    }

    fn request(&self) -> TransactionId {
        self.requests[usize::from(self.first.is_some())]
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
        now: Instant,
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
        self.chosen[1] = now;
        let wish = Wish { test: Test::Look, patience: Interval::of(Duration::ZERO) };
        outbox.send_tcp(socket, probe::order(self.request(), wish));
        self.stage = Stage::Asked;
    }

    pub(super) fn on_message(
        &mut self,
        socket: SocketId,
        payload: &[u8],
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let (Stage::Asked, true) = (self.stage, self.socket == Some(socket)) else { return };
        let message = Message::parse(payload).ok();
        let reply = message.filter(|it| it.transaction_id() == self.request());
        match reply.and_then(|it| Reply::read(&it)) {
            Some(Reply::Seen(seen)) => {
                self.stage = Stage::Told(seen);
                if matches!(self.capture, Capture::Refused) && self.first.is_none() {
                    self.begin_second(seen, outbox, now);
                }
            }
            Some(Reply::Reserved(_) | Reply::Ended { .. } | Reply::Refused(_)) => {
                self.stage = Stage::Failed;
            }
            None => {}
        }
    }

    /// Nothing was captured: a second connection between the same ends tells as much.
    fn begin_second(&mut self, seen: Seen, outbox: &mut Outbox, now: Instant) {
        let (Some(_), Some(socket)) = (self.clock, self.socket) else { return };
        self.first = Some((seen, self.chosen));
        self.stage = Stage::Ending(outbox.abort(socket));
        self.end = now + self.rtt * 2 + SLACK;
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
            | (Stage::Opening(_) | Stage::Connecting(_) | Stage::Ending(_) | Stage::Asked, _) => {
                false
            }
        }
    }

    /// How the SYN arrived.
    pub(super) fn seen(&self) -> Option<Seen> {
        match self.stage {
            Stage::Told(seen) => Some(seen),
            Stage::Opening(_)
            | Stage::Connecting(_)
            | Stage::Ending(_)
            | Stage::Asked
            | Stage::Failed => self.first.map(|(seen, _)| seen),
        }
    }

    /// Whether sequence numbers pass unchanged.
    pub(super) fn finding(&self) -> Option<InitialSequence> {
        match self.capture {
            Capture::Saw(sent) if self.seen()?.sequence == sent => Some(InitialSequence::Preserved),
            Capture::Saw(_) => Some(InitialSequence::Rewritten),
            Capture::Open(_) | Capture::Refused => {
                (self.follows_clock() == Some(false)).then_some(InitialSequence::Rewritten)
            }
        }
    }

    /// Whether the numbers of two connections differ by the time between them; `None` if it is not
    /// known of both.
    pub(super) fn follows_clock(&self) -> Option<bool> {
        let (Some((first, [began, connected])), Stage::Told(second)) = (self.first, self.stage)
        else {
            return None;
        };
        let [again, connected_again] = self.chosen;
        let tick = self.clock?.as_nanos().max(1);
        // The numbers begin anew after 2^32, on Linux after 275 s.
        let ticks = |time: Duration| (time.as_nanos() / tick) as u32;
        let least = again.saturating_duration_since(connected).saturating_sub(CLOCK_SLACK);
        let most = connected_again.saturating_duration_since(began) + CLOCK_SLACK;
        let difference = second.sequence.wrapping_sub(first.sequence);
        Some(difference.wrapping_sub(ticks(least)) <= ticks(most - least))
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
        let times = (Duration::from_millis(40), None);
        let mut test = Sequence::new(ends, times, [REQUEST; 2], &mut outbox, now);
        let Some(Command::Capture { id, socket: capturing, .. }) = outbox.poll() else {
            panic!("the capture is open before the SYN leaves")
        };
        assert_eq!(outbox.poll(), None);
        test.on_done(id, capture, &mut outbox, now);
        let Some(Command::ConnectTcp { id, socket, .. }) = outbox.poll() else {
            panic!("it connects")
        };
        if let Some(number) = captured {
            test.on_captured(capturing, number);
        }
        test.on_connected(id, &Ok(ends), &mut outbox, now);
        test.on_message(socket, &Reply::Seen(seen(arrived)).write(REQUEST), &mut outbox, now);
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

    /// Two connections without a capture, a second apart, whose numbers arrived so; each took 40 ms.
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn look_twice(clock: Option<Duration>, arrived: [u32; 2]) -> Sequence {
        const OTHER: TransactionId = TransactionId::new([6; 12]);
        let (mut outbox, mut now) = (Outbox::new(Owner(1)), Instant::now());
        let ends = Ends {
            local: "10.0.0.2:5000".parse().unwrap(),
            remote: "203.0.113.1:1".parse().unwrap(),
        };
        let rtt = Duration::from_millis(40);
        let mut test = Sequence::new(ends, (rtt, clock), [REQUEST, OTHER], &mut outbox, now);
        let Some(Command::Capture { id, .. }) = outbox.poll() else { panic!("a capture") };
        test.on_done(id, Err(IoFailure::NotPermitted), &mut outbox, now);
        for (request, number) in [REQUEST, OTHER].into_iter().zip(arrived) {
            let (id, socket) = match outbox.poll() {
                Some(Command::ConnectTcp { id, socket, .. }) => (id, socket),
                None if clock.is_none() => return test,
                other => panic!("{other:?}"),
            };
            now += rtt;
            test.on_connected(id, &Ok(ends), &mut outbox, now);
            assert!(matches!(outbox.poll(), Some(Command::SendTcp { .. })));
            now += rtt;
            test.on_message(socket, &Reply::Seen(seen(number)).write(request), &mut outbox, now);
            if let Some(Command::Abort { id, .. }) = outbox.poll() {
                now += Duration::from_secs(1) - rtt * 2;
                test.on_ended(id, &mut outbox, now);
            }
        }
        test
    }

    #[test]
    fn two_numbers_that_do_not_differ_by_the_time_between_them_were_rewritten() {
        const TICK: Option<Duration> = Some(Duration::from_nanos(64));
        // A second in ticks.
        const SECOND: u32 = 15_625_000;
        let preserved = [SECOND, SECOND - 600_000, SECOND + 600_000, SECOND];
        for difference in preserved {
            for first in [7, u32::MAX - 100] {
                let test = look_twice(TICK, [first, first.wrapping_add(difference)]);
                assert_eq!(test.follows_clock(), Some(true), "{difference}");
                assert_eq!(test.finding(), None, "perhaps by the same number both times");
            }
        }
        for difference in [0, SECOND - 700_000, SECOND + 700_000, SECOND * 2, u32::MAX] {
            let test = look_twice(TICK, [7, 7_u32.wrapping_add(difference)]);
            assert!(test.is_settled());
            assert_eq!(test.finding(), Some(InitialSequence::Rewritten), "{difference}");
        }
    }

    #[test]
    fn of_a_system_without_a_known_clock_nothing_is_said() {
        let test = look_twice(None, [7, 15_625_007]);
        assert!(test.is_settled() && test.finding().is_none());
    }

    #[test]
    fn a_second_connection_that_fails_leaves_what_the_first_showed() {
        let mut test = look_twice(Some(Duration::from_nanos(64)), [7, 8]);
        test.stage = Stage::Asked;
        let end = test.poll_timeout().expect("it waits").at;
        test.handle_timeout(end);
        assert_eq!((test.finding(), test.seen()), (None, Some(seen(7))));
        assert!(test.is_settled());
    }
}
