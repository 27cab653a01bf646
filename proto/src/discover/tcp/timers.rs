//! How long a hole stays open that a SYN made, and how long an idle connection lives. It takes minutes,
//! so it is measured only where that was asked for.
//!
//! ```text
//!  hole        client ══════════ connected ═════════▶ server:p
//!              client ◀── q, kept for a while ─────── server:p
//!              client ── SYN, once ──────────────────▶ server:q, which keeps quiet
//!                                ... t seconds ...
//!              client ◀── SYN ───┤ NAT ├────────────── server:q
//!  connection  client ══════════ connected ═════════▶ server:p
//!              client ◀── after t seconds: still here ─┤
//! ```
//!
//! All times are waited for at once, each on a connection of its own, instead of one after the other.
//! Between, nothing may leave: neither a repeated SYN nor a keepalive ([`Hops::MUTE`]). What is told is
//! the longest time that was survived, together with all shorter ones; how much longer it might have
//! been is open.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::probe::{self, Interval, Met, Offer, Reply, Test, Wish};
use ntcp_stun::{Message, TransactionId};

use super::super::outbox::Outbox;
use super::super::udp::any;
use crate::address::{Family, canonical};
use crate::command::{CommandId, Ends, Hops, IoFailure, SocketId};
use crate::entropy::Entropy;
use crate::machine::Deadline;

/// What is tried: around RFC 5382's 4 minutes for a half-open connection, and the values of home NATs.
const HOLES: [u64; 7] = [3, 6, 12, 30, 60, 120, 240];
/// Beyond a quarter of an hour (RFC 5382 REQ-5 wants two hours) keepalives cost nothing.
const IDLES: [u64; 7] = [15, 30, 60, 120, 240, 480, 900];
/// What a server keeps a port longer than it is needed.
const SPARE: Duration = Duration::from_secs(5);
/// What a busy host or a queue may add before silence is believed.
const SLACK: Duration = Duration::from_secs(2);
/// How long the server's SYN is waited for.
const PATIENCE: Duration = Duration::from_millis(800);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Hole,
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting(CommandId),
    /// A port was asked for, to be reached from this end.
    Reserving(SocketAddr),
    /// The SYN has left, or the connection was left alone, at this moment.
    Resting(Instant),
    /// The server's SYN was asked for at this moment.
    Asked(Instant),
    /// Whether it was still there.
    Told(bool),
    Failed,
}

/// One time.
#[derive(Debug)]
struct Trial {
    what: What,
    time: Duration,
    socket: SocketId,
    /// The connect to the port that keeps quiet.
    opener: Option<(CommandId, SocketId)>,
    request: TransactionId,
    stage: Stage,
}

/// The test.
#[derive(Debug)]
pub(super) struct Timers {
    server: SocketAddr,
    trials: Vec<Trial>,
    rtt: Duration,
    end: Instant,
}

impl Timers {
    /// Begins with all times up to `longest`.
    pub(super) fn new(
        family: Family,
        (server, offer, rtt): (SocketAddr, Offer, Duration),
        longest: Duration,
        entropy: &mut Entropy,
        (outbox, now): (&mut Outbox, Instant),
    ) -> Self {
        let times = |what: What, needed: &[Test], times: [u64; 7]| {
            let is_offered = needed.iter().all(|it| offer.includes(*it));
            let times = times.into_iter().map(Duration::from_secs);
            let times = times.filter(move |it| is_offered && *it <= longest);
            times.map(|time| (what, time)).collect::<Vec<_>>()
        };
        let holes = times(What::Hole, &[Test::Hold, Test::Cross], HOLES);
        let idles = times(What::Idle, &[Test::Wait], IDLES);
        let trial = |(what, time)| {
            let (connect, socket) = outbox.connect_tcp(any(family), server);
            let (request, stage) = (entropy.transaction_id(), Stage::Connecting(connect));
            Trial { what, time, socket, opener: None, request, stage }
        };
        let trials: Vec<_> = holes.into_iter().chain(idles).map(trial).collect();
        Self { server, trials, rtt, end: now + longest + SPARE + SLACK }
    }

    pub(super) fn on_connected(
        &mut self,
        id: CommandId,
        result: &Result<Ends, IoFailure>,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        for trial in &mut self.trials {
            let is_opener = trial.opener.is_some_and(|(connect, _)| connect == id);
            match (trial.stage, result) {
                (Stage::Connecting(connect), Ok(ends)) if connect == id => {
                    trial.begin(canonical(ends.local), outbox, now);
                }
                (Stage::Connecting(connect), Err(_)) if connect == id => {
                    outbox.forget(trial.socket);
                    trial.stage = Stage::Failed;
                }
                // It was refused, or somebody else was connected to: then nothing is learned.
                (Stage::Resting(_), _) if is_opener => trial.stage = Stage::Failed,
                _ => {}
            }
        }
    }

    pub(super) fn on_message(
        &mut self,
        socket: SocketId,
        payload: &[u8],
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let server = self.server.ip();
        let Some(trial) = self.trials.iter_mut().find(|it| it.socket == socket) else { return };
        let message = Message::parse(payload).ok();
        let reply = message.filter(|it| it.transaction_id() == trial.request);
        let Some(reply) = reply.and_then(|it| Reply::read(&it)) else { return };
        match (trial.stage, trial.what, reply) {
            (Stage::Reserving(local), What::Hole, Reply::Reserved(port))
                if canonical(port).ip() == server =>
            {
                let ends = Ends { local, remote: canonical(port) };
                let opener = outbox.connect_tcp(ends.local, ends.remote);
                outbox.adjust_tcp(opener.1, Hops::MUTE);
                (trial.opener, trial.stage) = (Some(opener), Stage::Resting(now));
            }
            (Stage::Resting(_), What::Idle, Reply::Ended { .. }) => {
                outbox.adjust_tcp(socket, Hops::USUAL);
                trial.stage = Stage::Told(true);
            }
            (Stage::Asked(_), What::Hole, Reply::Ended { outcome, .. }) => {
                trial.stage = match outcome.result {
                    Met::Connected => Stage::Told(true),
                    Met::Reset | Met::Icmp { .. } | Met::Silence => Stage::Told(false),
                    Met::NotTried => Stage::Failed,
                };
            }
            (Stage::Told(_), ..) => {}
            _ => trial.stage = Stage::Failed,
        }
    }

    pub(super) fn on_closed(&mut self, socket: SocketId) {
        for trial in self.trials.iter_mut().filter(|it| it.socket == socket) {
            if !matches!(trial.stage, Stage::Told(_)) {
                trial.stage = Stage::Failed;
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, outbox: &mut Outbox, now: Instant) {
        let due: Vec<bool> =
            self.trials.iter().map(|it| self.due(it).is_some_and(|at| at <= now)).collect();
        for (trial, _) in self.trials.iter_mut().zip(due).filter(|(_, is_due)| *is_due) {
            trial.go_on(outbox, now);
        }
    }

    /// When something is to be done about a trial.
    fn due(&self, trial: &Trial) -> Option<Instant> {
        match (trial.stage, trial.what) {
            (Stage::Connecting(_) | Stage::Reserving(_), _) => Some(self.end),
            (Stage::Resting(since), What::Hole) => Some(since + trial.time),
            (Stage::Resting(since), What::Idle) => Some(since + trial.time + self.rtt * 2 + SLACK),
            (Stage::Asked(at), _) => Some(at + self.rtt * 2 + PATIENCE + SLACK),
            (Stage::Told(_) | Stage::Failed, _) => None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let next = self.trials.iter().filter_map(|it| self.due(it)).min();
        next.map(|at| Deadline::new(at, "go on with a test of a timer"))
    }

    pub(super) fn is_settled(&self) -> bool {
        self.poll_timeout().is_none()
    }

    /// How long a hole stays open at least.
    pub(super) fn hole(&self) -> Option<Duration> {
        self.survived(What::Hole)
    }

    /// How long an idle connection lives at least.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        self.survived(What::Idle)
    }

    /// The longest time that was survived before one that was not; trials stand in the order of their
    /// times. `None` if nothing was told.
    fn survived(&self, what: What) -> Option<Duration> {
        let mut longest = None;
        for trial in self.trials.iter().filter(|it| it.what == what) {
            match trial.stage {
                Stage::Told(true) => longest = Some(trial.time),
                Stage::Told(false) => return longest.or(Some(Duration::ZERO)),
                _ => {}
            }
        }
        longest
    }
}

impl Trial {
    fn begin(&mut self, local: SocketAddr, outbox: &mut Outbox, now: Instant) {
        let (test, time) = match self.what {
            What::Hole => (Test::Hold, self.time + SPARE),
            What::Idle => (Test::Wait, self.time),
        };
        let wish = Wish { test, patience: Interval::of_seconds(time) };
        outbox.send_tcp(self.socket, probe::order(self.request, wish));
        self.stage = match self.what {
            What::Hole => Stage::Reserving(local),
            What::Idle => {
                outbox.adjust_tcp(self.socket, Hops::MUTE);
                Stage::Resting(now)
            }
        };
    }

    /// The time has passed.
    fn go_on(&mut self, outbox: &mut Outbox, now: Instant) {
        self.stage = match (self.stage, self.what) {
            (Stage::Resting(_), What::Hole) => {
                if let Some((_, opener)) = self.opener {
                    outbox.adjust_tcp(opener, Hops::USUAL);
                }
                let wish = Wish { test: Test::Cross, patience: Interval::of(PATIENCE) };
                outbox.send_tcp(self.socket, probe::order(self.request, wish));
                Stage::Asked(now)
            }
            (Stage::Resting(_), What::Idle) => Stage::Told(false),
            _ => Stage::Failed,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench::{RTT, at};
    use super::*;
    use crate::command::{Command, Owner};
    use crate::entropy::Seed;
    use crate::machine::any_instant;

    struct Bench {
        timers: Timers,
        outbox: Outbox,
        now: Instant,
        /// What a hole, and an idle connection, survives.
        nat: [Duration; 2],
        port: u16,
    }

    impl Bench {
        fn new(longest: u64, nat: [u64; 2]) -> Self {
            let (mut outbox, now) = (Outbox::new(Owner(1)), any_instant());
            let offer = Offer::of(&[Test::Hold, Test::Cross, Test::Wait]);
            let server = (at("203.0.113.1:3478"), offer, RTT);
            let (longest, mut entropy) =
                (Duration::from_secs(longest), Entropy::new(Seed::from_number(1)));
            let place = (&mut outbox, now);
            let timers = Timers::new(Family::V4, server, longest, &mut entropy, place);
            Self { timers, outbox, now, nat: nat.map(Duration::from_secs), port: 5000 }
        }

        /// Lets everything happen until the end; what the server would do about each request.
        fn run(&mut self) {
            let mut replies: Vec<(Instant, SocketId, Vec<u8>)> = Vec::new();
            let mut opened: Vec<(SocketId, Instant)> = Vec::new();
            loop {
                while let Some(command) = self.outbox.poll() {
                    match command {
                        Command::ConnectTcp { id, remote, .. } if remote.port() == 3478 => {
                            self.port += 1;
                            let local = SocketAddr::new(at("10.0.0.2:0").ip(), self.port);
                            let ends = Ok(Ends { local, remote });
                            self.timers.on_connected(id, &ends, &mut self.outbox, self.now);
                        }
                        Command::ConnectTcp { .. } | Command::AdjustTcp { .. } => {}
                        Command::SendTcp { socket, payload, .. } => {
                            let message = Message::parse(&payload).unwrap();
                            let wish: Wish = message.attribute().unwrap().unwrap();
                            let ended = |result| {
                                let outcome = probe::Outcome { result, ttl: None, elapsed: RTT };
                                Reply::Ended { outcome, from: None }
                            };
                            let (after, reply) = match wish.test {
                                Test::Hold => {
                                    opened.push((socket, self.now));
                                    (RTT, Reply::Reserved(at("203.0.113.1:6000")))
                                }
                                Test::Cross => {
                                    let since = opened.iter().find(|it| it.0 == socket).unwrap().1;
                                    let is_open = self.now - since <= self.nat[0] + SLACK;
                                    (
                                        RTT,
                                        ended(if is_open { Met::Connected } else { Met::Silence }),
                                    )
                                }
                                Test::Wait if wish.patience.seconds() > self.nat[1] => continue,
                                Test::Wait => (wish.patience.seconds(), ended(Met::Connected)),
                                other => panic!("{other:?}"),
                            };
                            replies.push((
                                self.now + after,
                                socket,
                                reply.write(message.transaction_id()),
                            ));
                        }
                        other => panic!("{other:?}"),
                    }
                }
                let next = replies.iter().map(|it| it.0).min();
                let due = self.timers.poll_timeout().map(|it| it.at);
                let Some(at) = [next, due].into_iter().flatten().min() else { return };
                self.now = self.now.max(at);
                if let Some(place) = replies.iter().position(|it| it.0 <= self.now) {
                    let (_, socket, payload) = replies.swap_remove(place);
                    self.timers.on_message(socket, &payload, &mut self.outbox, self.now);
                } else {
                    self.timers.handle_timeout(&mut self.outbox, self.now);
                }
            }
        }
    }

    #[test]
    fn the_longest_time_that_was_survived_is_told() {
        let seconds = |it: u64| Some(Duration::from_secs(it));
        let cases = [
            (900, [20, 100], [seconds(12), seconds(60)]),
            (900, [9000, 9000], [seconds(240), seconds(900)]),
            (900, [0, 10], [seconds(0), seconds(0)]),
            (60, [9000, 9000], [seconds(60), seconds(60)]),
            (1, [9000, 9000], [None, None]),
        ];
        for (longest, nat, [hole, idle]) in cases {
            let mut bench = Bench::new(longest, nat);
            bench.run();
            assert!(bench.timers.is_settled());
            assert_eq!((bench.timers.hole(), bench.timers.lifetime()), (hole, idle), "{nat:?}");
        }
    }

    #[test]
    fn between_nothing_leaves_and_afterwards_it_may() {
        let mut bench = Bench::new(3, [9, 9]);
        let mut hops = Vec::new();
        let commands: Vec<_> = std::iter::from_fn(|| bench.outbox.poll()).collect();
        let [Command::ConnectTcp { id, socket, remote, .. }] = commands[..] else { panic!() };
        let ends = Ends { local: at("10.0.0.2:1"), remote };
        bench.timers.on_connected(id, &Ok(ends), &mut bench.outbox, bench.now);
        let request = bench.timers.trials[0].request;
        let reply = Reply::Reserved(at("203.0.113.1:6000")).write(request);
        bench.timers.on_message(socket, &reply, &mut bench.outbox, bench.now);
        let due = bench.timers.poll_timeout().unwrap().at;
        assert_eq!(due, bench.now + Duration::from_secs(3));
        bench.timers.handle_timeout(&mut bench.outbox, due);
        while let Some(command) = bench.outbox.poll() {
            if let Command::AdjustTcp { hops: it, .. } = command {
                hops.push(it);
            }
        }
        assert_eq!(hops, [Hops::MUTE, Hops::USUAL]);
    }

    #[test]
    fn a_server_that_refuses_or_closes_tells_nothing() {
        let mut bench = Bench::new(20, [99, 99]);
        let ends = Ends { local: at("10.0.0.2:1"), remote: at("203.0.113.1:3478") };
        let commands: Vec<_> = std::iter::from_fn(|| bench.outbox.poll()).collect();
        for command in commands {
            let Command::ConnectTcp { id, .. } = command else { panic!() };
            bench.timers.on_connected(id, &Ok(ends), &mut bench.outbox, bench.now);
        }
        for index in 0..bench.timers.trials.len() {
            let Trial { socket, request, .. } = bench.timers.trials[index];
            if index % 2 == 0 {
                bench.timers.on_closed(socket);
            } else {
                let reply = Reply::Refused(508).write(request);
                bench.timers.on_message(socket, &reply, &mut bench.outbox, bench.now);
            }
        }
        assert!(bench.timers.is_settled());
        assert_eq!((bench.timers.hole(), bench.timers.lifetime()), (None, None));
    }
}
