//! Whether this host reaches itself through its external address over TCP (RFC 5382 REQ-8).
//!
//! ```text
//!  client:a listens, seen as N:x        client:b listens, seen as N:y
//!  client:a ── SYN ──▶ N:y              client:b ── SYN ──▶ N:x
//! ```
//!
//! Both connect, since that is what two peers behind one NAT do: each opens its filter for the other.
//! Whether one of the SYNs meets a listener or the other SYN, a connection stands at the end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::outbox::Outbox;
use crate::command::{CommandId, Ends, IoFailure};
use crate::machine::Deadline;

/// What a queue adds to the way to the NAT and back, which is shorter than that to any server.
const SLACK: Duration = Duration::from_millis(200);

/// A port that takes part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    /// The port on all addresses of this host.
    pub(super) local: SocketAddr,
    /// What it is seen as.
    pub(super) mapped: SocketAddr,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// One of these two listeners is not open yet.
    Listening([(CommandId, bool); 2]),
    /// These connects are under way, unless they failed.
    Looping([Option<CommandId>; 2]),
    Told(bool),
    Failed,
}

/// The test.
#[derive(Debug)]
pub(super) struct Hairpin {
    sides: [Side; 2],
    stage: Stage,
    end: Instant,
}

impl Hairpin {
    pub(super) fn new(sides: [Side; 2], rtt: Duration, outbox: &mut Outbox, now: Instant) -> Self {
        let listening = sides.map(|side| (outbox.listen_tcp(side.local).0, false));
        Self { sides, stage: Stage::Listening(listening), end: now + rtt + SLACK }
    }

    /// Whether this port is in use here.
    pub(super) fn uses(&self, port: u16) -> bool {
        self.sides.iter().any(|it| it.local.port() == port)
    }

    pub(super) fn on_bound(
        &mut self,
        id: CommandId,
        result: &Result<SocketAddr, IoFailure>,
        outbox: &mut Outbox,
    ) {
        let Stage::Listening(listening) = &mut self.stage else { return };
        let Some((_, is_open)) = listening.iter_mut().find(|it| it.0 == id) else { return };
        *is_open = true;
        if result.is_err() {
            self.stage = Stage::Failed;
        } else if listening.iter().all(|it| it.1) {
            let [one, other] = self.sides;
            let connect = |from: Side, to: Side, outbox: &mut Outbox| {
                Some(outbox.connect_tcp(from.local, to.mapped).0)
            };
            let looping = [connect(one, other, outbox), connect(other, one, outbox)];
            self.stage = Stage::Looping(looping);
        }
    }

    pub(super) fn on_connected(&mut self, id: CommandId, result: &Result<Ends, IoFailure>) {
        let Stage::Looping(looping) = &mut self.stage else { return };
        let Some(connect) = looping.iter_mut().find(|it| **it == Some(id)) else { return };
        *connect = None;
        if result.is_ok() {
            self.stage = Stage::Told(true);
        } else if looping.iter().all(Option::is_none) {
            self.stage = Stage::Told(false);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if now < self.end {
            return;
        }
        self.stage = match self.stage {
            Stage::Looping(_) => Stage::Told(false),
            Stage::Listening(_) | Stage::Failed => Stage::Failed,
            Stage::Told(finding) => Stage::Told(finding),
        };
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let is_open = matches!(self.stage, Stage::Listening(_) | Stage::Looping(_));
        is_open.then_some(Deadline::new(self.end, "end the hairpin test over TCP"))
    }

    pub(super) fn is_settled(&self) -> bool {
        self.poll_timeout().is_none()
    }

    /// Whether one end reached the other; `None` if it could not be tried.
    pub(super) fn finding(&self) -> Option<bool> {
        match self.stage {
            Stage::Told(finding) => Some(finding),
            Stage::Listening(_) | Stage::Looping(_) | Stage::Failed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Owner};

    /// Two connects under way, by name, with the targets.
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn looping() -> (Hairpin, [CommandId; 2], [SocketAddr; 2]) {
        let (mut outbox, now) = (Outbox::new(Owner(1)), Instant::now());
        let side = |local: &str, mapped: &str| Side {
            local: local.parse().unwrap(),
            mapped: mapped.parse().unwrap(),
        };
        let sides = [side("0.0.0.0:1", "198.51.100.1:10"), side("0.0.0.0:2", "198.51.100.1:20")];
        let mut test = Hairpin::new(sides, Duration::from_millis(40), &mut outbox, now);
        for _ in 0..2 {
            let Some(Command::ListenTcp { id, local, .. }) = outbox.poll() else {
                panic!("listens")
            };
            test.on_bound(id, &Ok(local), &mut outbox);
        }
        let connects = [outbox.poll(), outbox.poll()].map(|it| match it {
            Some(Command::ConnectTcp { id, remote, .. }) => (id, remote),
            other => panic!("{other:?}"),
        });
        (test, connects.map(|it| it.0), connects.map(|it| it.1))
    }

    #[test]
    fn each_port_connects_to_what_the_other_is_seen_as_and_one_success_is_enough() {
        let (mut test, [first, second], targets) = looping();
        assert_eq!(targets.map(|it| it.port()), [20, 10]);
        test.on_connected(first, &Err(IoFailure::Refused));
        assert_eq!((test.finding(), test.is_settled()), (None, false));
        let ends = Ends { local: targets[1], remote: targets[0] };
        test.on_connected(second, &Ok(ends));
        assert_eq!((test.finding(), test.is_settled()), (Some(true), true));
    }

    #[test]
    fn two_refusals_or_silence_until_the_end_are_a_no() {
        let (mut test, connects, _) = looping();
        for connect in connects {
            test.on_connected(connect, &Err(IoFailure::HostUnreachable));
        }
        assert_eq!(test.finding(), Some(false));
        let (mut test, ..) = looping();
        let end = test.poll_timeout().expect("it waits").at;
        test.handle_timeout(end);
        assert_eq!(test.finding(), Some(false));
    }
}
