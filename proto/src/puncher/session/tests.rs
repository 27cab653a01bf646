//! Two sessions and a wire between them, in virtual time.

use std::collections::BTreeMap;

use super::*;
use crate::machine::any_instant;
use crate::puncher::report::{AttemptResult, Outcome, Strategy};
use crate::tcp_traversal::budget::{Budget, Limits};
use crate::{Answer, IoFailure, Owner};

const D: Duration = Duration::from_millis(20);
const CALLER_UDP: &str = "203.0.113.1:1000";
const CALLEE_UDP: &str = "203.0.113.2:2000";
const CALLER_TCP: &str = "203.0.113.1:1001";
const CALLEE_TCP: &str = "203.0.113.2:2001";

pub(super) fn socket_address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn main_socket(role: Role) -> SocketId {
    SocketId { owner: Owner(1), serial: if role == Role::Controlling { 1 } else { 2 } }
}

fn candidate(kind: CandidateKind, transport: Transport, address: &str) -> Candidate {
    Candidate { kind, transport, address: socket_address(address) }
}

fn mapped(transport: Transport, address: &str) -> Candidate {
    candidate(CandidateKind::ServerReflexive, transport, address)
}

pub(super) fn session(
    role: Role,
    transport: TransportChoice,
    candidates: Vec<Candidate>,
    start: Instant,
) -> Session {
    let (own_udp, own_tcp) = match role {
        Role::Controlling => (CALLER_UDP, CALLER_TCP),
        Role::Controlled => (CALLEE_UDP, CALLEE_TCP),
    };
    let introduction = Introduction {
        session: SessionId([9; 16]),
        secret: SessionSecret([7; 32]),
        role,
        peer: Some("peer".parse().unwrap()),
        candidates,
        nat: None,
        transport,
        start,
        path: Some(D),
        hints: Vec::new(),
    };
    let resources = Resources {
        udp: vec![(main_socket(role), socket_address(own_udp))],
        udp_told: vec![socket_address(own_udp)],
        udp_stun: Vec::new(),
        tcp: vec![socket_address(own_tcp)],
        own: vec![candidate(CandidateKind::Host, Transport::Tcp, own_tcp)],
        nat: None,
        told: vec![socket_address(own_tcp)],
        stun: Vec::new(),
        privileges: None,
        forges: Vec::new(),
        classic: false,
        per_attempt: 256,
        keeps_holes: false,
        holes: Vec::new(),
        listener_reached: None,
        opener_ttl: None,
    };
    let owner = Owner(if role == Role::Controlling { 16 } else { 17 });
    let deadline = start + Duration::from_secs(10);
    let seed = Seed::from_number(u64::from(owner.0));
    Session::new(introduction, resources, Names::new(owner), seed, start, deadline)
}

/// What travels.
enum Freight {
    Datagram {
        to: SocketAddr,
        from: SocketAddr,
        payload: Vec<u8>,
    },
    /// A handshake ended on this side.
    Handshake {
        role: Role,
        id: CommandId,
        ends: Ends,
    },
    Message {
        role: Role,
        payload: Vec<u8>,
    },
}

/// Two sessions; every datagram takes [`D`], a TCP handshake that both sides started takes 2 `D`
/// after the later one, messages on it [`D`].
struct World {
    now: Instant,
    start: Instant,
    sides: BTreeMap<Role, Session>,
    wire: BTreeMap<(Instant, u64), Freight>,
    count: u64,
    connects: BTreeMap<Role, (CommandId, SocketId)>,
    settled: BTreeMap<Role, (Instant, Event)>,
    /// Streams that were chosen, and when.
    chosen: Vec<(Role, Duration, SocketId)>,
    /// Datagrams with USE-CANDIDATE are lost.
    lose_nominations: bool,
    /// TCP handshakes never end.
    lose_tcp: bool,
    /// Nothing arrives on a TCP stream.
    lose_greetings: bool,
}

impl World {
    fn new(transport: TransportChoice) -> Self {
        let start = any_instant();
        let both = |udp, tcp| vec![mapped(Transport::Udp, udp), mapped(Transport::Tcp, tcp)];
        let caller = session(Role::Controlling, transport, both(CALLEE_UDP, CALLEE_TCP), start);
        let callee = session(Role::Controlled, transport, both(CALLER_UDP, CALLER_TCP), start);
        Self {
            now: start,
            start,
            sides: BTreeMap::from([(Role::Controlling, caller), (Role::Controlled, callee)]),
            wire: BTreeMap::new(),
            count: 0,
            connects: BTreeMap::new(),
            settled: BTreeMap::new(),
            chosen: Vec::new(),
            lose_nominations: false,
            lose_tcp: false,
            lose_greetings: false,
        }
    }

    fn send(&mut self, after: Duration, freight: Freight) {
        self.count += 1;
        self.wire.insert((self.now + after, self.count), freight);
    }

    fn carry_out(&mut self, role: Role, command: Command) {
        let (own, other) = match role {
            Role::Controlling => (CALLER_UDP, Role::Controlled),
            Role::Controlled => (CALLEE_UDP, Role::Controlling),
        };
        match command {
            Command::SendUdp { remote, ttl, payload, .. } => {
                let nominates = payload.windows(4).any(|bytes| bytes == [0, 0x25, 0, 0]);
                if ttl.is_none() && !(nominates && self.lose_nominations) {
                    let from = socket_address(own);
                    self.send(D, Freight::Datagram { to: remote, from, payload });
                }
            }
            Command::ConnectTcp { id, socket, local, remote, .. } => {
                self.connects.insert(role, (id, socket));
                if self.connects.len() == 2 && !self.lose_tcp {
                    let there = self.connects[&other].0;
                    let here = Ends { local, remote };
                    let mirrored = Ends { local: remote, remote: local };
                    self.send(2 * D, Freight::Handshake { role, id, ends: here });
                    let freight = Freight::Handshake { role: other, id: there, ends: mirrored };
                    self.send(2 * D, freight);
                }
            }
            Command::SendTcp { .. } if self.lose_greetings => {}
            Command::SendTcp { payload, .. } => {
                self.send(D, Freight::Message { role: other, payload });
            }
            Command::Close { .. } => {}
            other => panic!("a session asked for {other:?}"),
        }
    }

    fn drain(&mut self) {
        for role in [Role::Controlling, Role::Controlled] {
            while let Some(command) = self.sides.get_mut(&role).unwrap().poll_command() {
                self.carry_out(role, command);
            }
            while let Some(event) = self.sides.get_mut(&role).unwrap().poll_event() {
                if let Event::Chosen { socket } = event {
                    self.chosen.push((role, self.now - self.start, socket));
                    continue;
                }
                let earlier = self.settled.insert(role, (self.now, event));
                assert_eq!(earlier, None, "a session ends once");
            }
        }
    }

    fn deliver(&mut self, freight: Freight) {
        match freight {
            Freight::Datagram { to, from, payload } => {
                let role = if to == socket_address(CALLEE_UDP) {
                    Role::Controlled
                } else {
                    Role::Controlling
                };
                let socket = main_socket(role);
                let input = Input::UdpReceived { socket, source: from, payload: &payload };
                self.sides.get_mut(&role).unwrap().handle_input(input, self.now);
            }
            Freight::Handshake { role, id, ends } => {
                let answer = Answer::Connected(Ok(ends));
                let input = Input::Answer { id, answer };
                self.sides.get_mut(&role).unwrap().handle_input(input, self.now);
            }
            Freight::Message { role, payload } => {
                let socket = self.connects[&role].1;
                let input = Input::TcpReceived { socket, payload: &payload };
                self.sides.get_mut(&role).unwrap().handle_input(input, self.now);
            }
        }
    }

    /// Runs until both sides are finished.
    fn run(&mut self) {
        self.drain();
        loop {
            let arrival = self.wire.keys().next().map(|(at, _)| *at);
            let timeouts = self.sides.values().filter_map(Machine::poll_timeout);
            let timeout = timeouts.map(|deadline| deadline.at).min();
            let Some(next) = arrival.into_iter().chain(timeout).min() else { return };
            self.now = self.now.max(next);
            let due = self.wire.keys().next().filter(|(at, _)| *at <= self.now).copied();
            if let Some(key) = due {
                let freight = self.wire.remove(&key).unwrap();
                self.deliver(freight);
            } else {
                let now = self.now;
                for side in self.sides.values_mut() {
                    if side.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
                        side.handle_timeout(now);
                    }
                }
            }
            self.drain();
        }
    }

    fn path(&self, role: Role) -> Path {
        match &self.settled[&role].1 {
            Event::Established { path, .. } => *path,
            other => panic!("{other:?}"),
        }
    }

    fn report(&self, role: Role) -> &Report {
        match &self.settled[&role].1 {
            Event::Established { report, .. } | Event::Failed { report } => report,
            Event::Chosen { .. } => unreachable!("it settles nothing"),
        }
    }

    fn settled_after(&self, role: Role) -> Duration {
        self.settled[&role].0 - self.start
    }
}

#[test]
fn a_udp_path_stands_after_two_one_way_delays() {
    let mut world = World::new(TransportChoice::Udp);
    world.run();
    assert_eq!(world.settled_after(Role::Controlling), 2 * D);
    assert_eq!(world.settled_after(Role::Controlled), 3 * D, "the nomination takes one more");
    let report = world.report(Role::Controlling);
    assert_eq!((report.elapsed_ms, report.rtt_ms), (Some(40.0), Some(40.0)));
    assert_eq!(report.strategy, Some(Strategy::UdpHolePunch));
    assert!(matches!(world.path(Role::Controlled), Path::Udp { remote, .. }
        if remote == socket_address(CALLER_UDP)));
}

#[test]
fn a_tcp_path_stands_after_two_one_way_delays_and_is_proved_after_three() {
    let mut world = World::new(TransportChoice::Tcp);
    world.run();
    for role in [Role::Controlling, Role::Controlled] {
        assert_eq!(world.settled_after(role), 3 * D);
        assert_eq!(world.report(role).elapsed_ms, Some(40.0));
        assert_eq!(world.report(role).strategy, Some(Strategy::SimultaneousOpen));
    }
    let Path::Tcp { socket, .. } = world.path(Role::Controlling) else { panic!("over TCP") };
    assert_eq!(world.chosen, [(Role::Controlling, 2 * D, socket)], "the next layer need not wait");
}

#[test]
fn when_both_stand_the_kernels_own_socket_is_preferred() {
    let mut world = World::new(TransportChoice::Any);
    world.run();
    for role in [Role::Controlling, Role::Controlled] {
        assert!(matches!(world.path(role), Path::Tcp { .. }), "{role:?}");
        assert_eq!(world.settled_after(role), 3 * D);
    }
    let attempts = &world.report(Role::Controlling).attempts;
    let udp = attempts.iter().find(|it| it.transport == Transport::Udp).unwrap();
    assert_eq!(udp.result, AttemptResult::Verified);
}

#[test]
fn without_tcp_udp_wins_a_quarter_of_a_round_trip_later() {
    let mut world = World::new(TransportChoice::Any);
    world.lose_tcp = true;
    world.run();
    assert_eq!(world.settled_after(Role::Controlling), 2 * D + D / 2);
    let report = world.report(Role::Controlling);
    assert_eq!(report.elapsed_ms, Some(40.0), "the path stood before it was chosen");
    assert!(matches!(world.path(Role::Controlled), Path::Udp { .. }));
}

#[test]
fn the_callee_follows_the_callers_next_layer_when_every_nomination_is_lost() {
    let mut world = World::new(TransportChoice::Udp);
    world.lose_nominations = true;
    let mut callee = session(
        Role::Controlled,
        TransportChoice::Udp,
        vec![mapped(Transport::Udp, CALLER_UDP)],
        world.start,
    );
    let (socket, caller) = (main_socket(Role::Controlled), socket_address(CALLER_UDP));
    assert!(!callee.foreign_datagram(socket, caller, world.start), "nothing stands yet");
    world.sides.insert(Role::Controlled, callee);
    // Up to where the callee has verified the path, but not been told.
    while world.sides[&Role::Controlled].checklist.best().is_none() {
        let now = world.now;
        world.sides.values_mut().for_each(|side| side.handle_timeout(now));
        world.drain();
        let ((at, _), freight) = world.wire.pop_first().unwrap();
        world.now = at;
        world.deliver(freight);
    }
    let now = world.now;
    let callee = world.sides.get_mut(&Role::Controlled).unwrap();
    assert!(!callee.foreign_datagram(socket, socket_address("192.0.2.9:1"), now), "a stranger");
    assert!(callee.foreign_datagram(socket, caller, now));
    assert!(callee.foreign_datagram(socket, caller, now), "the path's own from now on");
    world.drain();
    assert!(matches!(world.path(Role::Controlled), Path::Udp { .. }));
}

#[test]
fn a_refused_connect_is_followed_by_another_in_the_same_instant() {
    let start = any_instant();
    let mut caller = session(
        Role::Controlling,
        TransportChoice::Tcp,
        vec![mapped(Transport::Tcp, CALLEE_TCP)],
        start,
    );
    caller.handle_timeout(start);
    let Some(Command::ConnectTcp { id, .. }) = caller.poll_command() else { panic!("no connect") };
    let refused = Answer::Connected(Err(IoFailure::Refused));
    let later = start + 2 * D;
    caller.handle_input(Input::Answer { id, answer: refused.clone() }, later);
    assert!(matches!(caller.poll_command(), Some(Command::ConnectTcp { .. })));
    caller.handle_input(Input::Answer { id, answer: refused }, later);
    assert_eq!(caller.poll_command(), None, "the same answer again changes nothing");
}

#[test]
fn somebody_else_on_the_same_private_address_does_not_win() {
    let start = any_instant();
    let stranger = candidate(CandidateKind::Host, Transport::Tcp, "192.168.1.5:2001");
    let mut caller = session(Role::Controlling, TransportChoice::Tcp, vec![stranger], start);
    caller.handle_timeout(start);
    let Some(Command::ConnectTcp { id, socket, remote, .. }) = caller.poll_command() else {
        panic!("no connect")
    };
    let ends = Ends { local: socket_address(CALLER_TCP), remote };
    let answer = Answer::Connected(Ok(ends));
    caller.handle_input(Input::Answer { id, answer }, start + D);
    let Some(Command::SendTcp { payload: greeting, .. }) = caller.poll_command() else {
        panic!("no greeting")
    };
    // The stranger is ourselves, or an echo: it sends our own greeting back.
    let echo = Input::TcpReceived { socket, payload: &greeting };
    caller.handle_input(echo, start + 2 * D);
    assert!(matches!(caller.poll_command(), Some(Command::Close { .. })));
    assert_eq!(caller.poll_event(), None);
    let end = caller.poll_timeout().unwrap();
    caller.handle_timeout(end.at);
    let Some(Event::Failed { report }) = caller.poll_event() else { panic!("no failure") };
    let evidence: Vec<_> = report.attempts[0].evidence.iter().map(ToString::to_string).collect();
    assert!(evidence.contains(&"someone else answered".to_owned()), "{evidence:?}");
}

#[test]
fn when_the_stream_chosen_on_trust_is_somebody_elses_the_peers_own_wins() {
    let start = any_instant();
    let candidates = vec![mapped(Transport::Tcp, CALLEE_TCP)];
    let mut caller = session(Role::Controlling, TransportChoice::Tcp, candidates, start);
    let accept = |caller: &mut Session, serial, remote| {
        let socket = SocketId { owner: Owner(1), serial };
        let ends = Ends { local: socket_address(CALLER_TCP), remote: socket_address(remote) };
        caller.adopt(socket, ends, start);
        socket
    };
    let strangers = accept(&mut caller, 1, CALLEE_TCP);
    let peers = accept(&mut caller, 2, "203.0.113.2:3000");
    let id = ntcp_stun::TransactionId::new([1; 12]);
    let greeting = |secret| {
        let secret = SessionSecret([secret; 32]);
        Authenticator::new(SessionId([9; 16]), &secret, Role::Controlled).request(id, false)
    };
    for (socket, payload) in [(peers, greeting(7)), (strangers, greeting(1))] {
        caller.handle_input(Input::TcpReceived { socket, payload: &payload }, start + D);
    }
    let settled = std::iter::from_fn(|| caller.poll_event()).find_map(|event| match event {
        Event::Established { path, .. } => Some(path),
        _ => None,
    });
    assert!(matches!(settled, Some(Path::Tcp { socket, .. }) if socket == peers));
}

#[test]
fn our_own_address_among_the_peers_is_not_tried() {
    let start = any_instant();
    let own = candidate(CandidateKind::Host, Transport::Tcp, CALLER_TCP);
    let mut caller = session(Role::Controlling, TransportChoice::Tcp, vec![own], start);
    caller.handle_timeout(start);
    assert_eq!(caller.poll_command(), None);
}

#[test]
fn at_the_deadline_the_session_fails_with_what_it_saw_and_is_finished() {
    let start = any_instant();
    let candidates = vec![mapped(Transport::Udp, CALLEE_UDP), mapped(Transport::Tcp, CALLEE_TCP)];
    let mut caller = session(Role::Controlling, TransportChoice::Any, candidates, start);
    let mut report = None;
    while let Some(deadline) = caller.poll_timeout() {
        caller.handle_timeout(deadline.at);
        while caller.poll_command().is_some() {}
        if let Some(Event::Failed { report: failed }) = caller.poll_event() {
            report = Some(failed);
        }
    }
    let report = report.unwrap();
    assert!(caller.is_finished() && caller.poll_command().is_none());
    assert_eq!(report.outcome, Outcome::Failed);
    let tried = report.attempts.iter().filter(|it| it.result != AttemptResult::Skipped);
    assert!(tried.clone().all(|it| it.result == AttemptResult::NoAnswer));
    assert_eq!(tried.count(), 2);
    assert!(report.reason.unwrap().contains("no direct path to peer within 10.0 s"));
    assert!(!report.advice.is_empty());
}

#[test]
fn hosts_behind_one_nat_that_leads_none_to_another_are_told_so() {
    let now = any_instant();
    let candidates = vec![mapped(Transport::Udp, "203.0.113.1:2000")];
    let mut caller = session(Role::Controlling, TransportChoice::Any, candidates, now);
    let told = |caller: &Session| {
        let advice = caller.failure(now).advice;
        advice.iter().any(|it| it.contains("both hosts are seen as 203.0.113.1"))
    };
    assert!(!told(&caller), "its address is its own");
    caller.resources.own.push(mapped(Transport::Udp, CALLER_UDP));
    assert!(told(&caller));
}

#[test]
fn the_opener_dies_before_the_peers_nat() {
    let start = any_instant();
    let later = start + Duration::from_secs(1);
    let host = candidate(CandidateKind::Host, Transport::Udp, "192.168.1.5:2000");
    let candidates = vec![host, mapped(Transport::Udp, CALLEE_UDP)];
    let mut caller = session(Role::Controlling, TransportChoice::Udp, candidates, later);
    let Some(Command::SendUdp { remote, ttl, .. }) = caller.poll_command() else {
        panic!("no opener")
    };
    assert_eq!((remote, ttl), (socket_address(CALLEE_UDP), Some(OPENER_TTL)));
    assert_eq!(caller.poll_command(), None, "nothing else before the start");
}

#[test]
fn checks_of_nobody_change_nothing() {
    let start = any_instant();
    let candidates = vec![mapped(Transport::Udp, CALLEE_UDP)];
    let mut caller = session(Role::Controlling, TransportChoice::Udp, candidates, start);
    while caller.poll_command().is_some() {}
    let stranger =
        Authenticator::new(SessionId([9; 16]), &SessionSecret([1; 32]), Role::Controlled);
    let check = stranger.request(ntcp_stun::TransactionId::new([1; 12]), true);
    for payload in [&check[..], &check[..30], &[0; 600]] {
        let (socket, source) = (main_socket(Role::Controlling), socket_address(CALLEE_UDP));
        caller.handle_input(Input::UdpReceived { socket, source, payload }, start);
    }
    assert_eq!((caller.poll_command(), caller.poll_event()), (None, None));
}

#[test]
fn an_address_that_the_peer_learned_late_is_tried_at_once() {
    let start = any_instant();
    let guess = mapped(Transport::Tcp, "203.0.113.2:9");
    let mut caller = session(Role::Controlling, TransportChoice::Tcp, vec![guess], start);
    caller.handle_timeout(start);
    while caller.poll_command().is_some() {}
    caller.add_candidates(&[guess, mapped(Transport::Tcp, CALLEE_TCP)], start + D);
    let Some(Command::ConnectTcp { remote, .. }) = caller.poll_command() else {
        panic!("no connect")
    };
    assert_eq!(remote, socket_address(CALLEE_TCP));
    assert_eq!(caller.poll_command(), None, "the known address goes on as it was");
}

#[test]
fn the_ports_of_one_address_that_are_tried_are_bounded() {
    let start = any_instant();
    let victim =
        |port| candidate(CandidateKind::Host, Transport::Udp, &format!("192.0.2.9:{port}"));
    let candidates = (1000..1016).map(victim).collect();
    let mut caller = session(Role::Controlling, TransportChoice::Udp, candidates, start);
    caller.handle_timeout(start);
    let sent = std::iter::from_fn(|| caller.poll_command()).count();
    assert_eq!(sent, MAX_PER_IP);
}

#[test]
fn a_path_that_stands_at_the_deadline_is_taken() {
    let mut world = World::new(TransportChoice::Any);
    // Both stand, but the proof on the chosen stream never comes.
    let start = world.start;
    world.lose_greetings = true;
    for side in world.sides.values_mut() {
        side.deadline = start + 4 * D;
    }
    world.run();
    assert!(matches!(world.path(Role::Controlling), Path::Udp { .. }));
    assert_eq!(world.settled_after(Role::Controlling), 4 * D);
}

#[test]
fn a_peer_that_does_not_come_is_named_with_what_it_answered() {
    for (code, words, way_out) in [
        (ErrorCode::Declined, "declined the call", "call again in some seconds"),
        (ErrorCode::NoAnswer, "did not answer the broker", "until its lease ends"),
        (ErrorCode::ServerError, "500 server error", "whether it still runs"),
    ] {
        let now = any_instant();
        let (role, choice) = (Role::Controlling, TransportChoice::Udp);
        let mut session = session(role, choice, Vec::new(), now);
        session.refused(code, now);
        let report = match session.poll_event() {
            Some(Event::Failed { report }) => report,
            other => panic!("{other:?}"),
        };
        let reason = report.reason.unwrap();
        assert!(reason.contains(words), "{reason}");
        assert!(report.advice.iter().any(|it| it.contains(way_out)), "{:?}", report.advice);
    }
}

#[test]
fn ports_count_until_they_are_found_steady_or_random_or_the_session_ends() {
    let now = any_instant();
    let candidates = vec![mapped(Transport::Tcp, CALLEE_TCP)];
    let mut caller = session(Role::Controlling, TransportChoice::Tcp, candidates, now);
    assert!(!caller.counts_ports(), "it has no NAT");
    for (ports, counts) in [
        (Ports::Unknown, true),
        (Ports::Steady, false),
        (Ports::ANYWHERE, false),
        (Ports::Sequential { step: 1 }, true),
    ] {
        caller.engine.ports = ports;
        assert_eq!(caller.counts_ports(), counts, "{ports:?}");
    }
    caller.cancel();
    assert!(!caller.counts_ports());
}

/// What a call sends over UDP from this instant on until its end, if nobody answers at any of these.
fn sent_to_the_silent(
    (call, strangers): (u8, &[String]),
    budget: &mut Budget,
    mut now: Instant,
) -> usize {
    let candidates = strangers.iter().map(|it| mapped(Transport::Udp, it)).collect();
    let mut session = session(Role::Controlled, TransportChoice::Udp, candidates, now);
    session.introduction.session = SessionId([call; 16]);
    let mut sent = 0;
    loop {
        while let Some(command) = session.poll_admitted(budget, now) {
            sent += usize::from(matches!(command, Command::SendUdp { .. }));
        }
        let Some(deadline) = session.poll_timeout() else { return sent };
        now = deadline.at.max(now);
        session.handle_timeout(now);
    }
}

#[test]
fn callers_cannot_have_more_than_so_much_sent_to_strangers_in_a_minute() {
    let start = any_instant();
    let ports: Vec<String> = (1..=16).map(|port| format!("203.0.113.77:{port}")).collect();
    let without_guesses = || Budget::new(Limits { per_attempt: 0, per_minute: 0 });
    let one = sent_to_the_silent((1, &ports[..1]), &mut without_guesses(), start);
    assert!((100..200).contains(&one), "a peer that is late is still asked: {one}");
    let sixteen = sent_to_the_silent((2, &ports), &mut without_guesses(), start);
    assert!((one..800).contains(&sixteen), "more ends share what leaves: {sixteen}");
    let mut budget = without_guesses();
    let calls = (0..20).map(|call| sent_to_the_silent((call, &ports), &mut budget, start));
    let of_all: usize = calls.sum();
    assert_eq!(of_all, 6000);
}
