//! One session and a peer that is made of notes.

use super::super::tests::{session, socket_address};
use super::*;
use crate::Answer;
use crate::machine::any_instant;
use crate::segment::{Options, flag};
use crate::tcp_traversal::note::{Notary, Standing};
use crate::tcp_traversal::survey::Ports;

const RAW: Privileges = Privileges { assume: false, capture: true, inject: true };
const PEER: &str = "203.0.113.2:2001";
const STAND: &str = "203.0.113.2:2002";
const CALLER_STAND: &str = "203.0.113.1:1003";

fn syn(sequence: u32) -> Syn {
    Syn { sequence, window: 64_240, options: Options::default() }
}

/// The peer's word about its stand.
fn note(serial: u16, syn: Option<Syn>) -> Vec<u8> {
    let stand = Stand { mapped: Some(socket_address(STAND)), syn, listens: false };
    let (ports, privileges) = (Ports::Steady, Some(RAW));
    let told = Standing { serial, ports, privileges, stand: Some(stand), ..Standing::default() };
    Notary::new(&SessionSecret([7; 32]), Role::Controlled).write(&told)
}

fn drained(session: &mut Session) -> Vec<Command> {
    std::iter::from_fn(|| session.poll_command()).collect()
}

/// A caller whose SYN has left from its stand; the capture and the socket.
fn standing(now: Instant) -> (Session, SocketId, SocketId) {
    let address = socket_address(PEER);
    let (kind, transport) = (CandidateKind::ServerReflexive, Transport::Tcp);
    let candidates = vec![Candidate { kind, transport, address }];
    let mut session = session(Role::Controlling, TransportChoice::Tcp, candidates, now);
    session.resources.privileges = Some(RAW);
    session.handle_timeout(now);
    drained(&mut session);
    let local = socket_address("203.0.113.1:1002");
    let stage = Stage::Standing(Sample { local, mapped: local });
    session.engine.forging = Some(Forging { stage, ..Forging::begin(now) });
    session.on_note(&note(1, None), now);
    let commands = drained(&mut session);
    let [
        Command::Capture { socket: capture, ends, .. },
        Command::ConnectTcp { socket, local: from, remote, hops, sequence: None, .. },
        Command::AdjustTcp { .. },
    ] = commands[..]
    else {
        panic!("{commands:?}")
    };
    assert_eq!((from, remote), (local, socket_address(STAND)));
    assert_eq!(ends, Ends { local, remote });
    assert_eq!(hops, opening(OPENER_TTL), "the capture is open before it leaves");
    (session, capture, socket)
}

/// The same, once the SYN was seen and the peer's was told.
fn armed(now: Instant) -> (Session, SocketId) {
    let (mut session, capture, socket) = standing(now);
    let ends = session.engine.forging.as_ref().and_then(Forging::pending).unwrap().ends;
    let segment = syn_replay::copy(&syn(77), &syn(1), ends);
    session.handle_input(Input::Captured { socket: capture, segment }, now);
    let commands = drained(&mut session);
    assert!(matches!(commands[..], [Command::Close { socket, .. }] if socket == capture));
    session.on_note(&note(2, Some(syn(99))), now);
    (session, socket)
}

fn injected(session: &mut Session) -> Vec<(u8, u32, u32)> {
    let segment = |command| match command {
        Command::Inject { segment, .. } => {
            Some((segment.flags, segment.sequence, segment.acknowledgment))
        }
        _ => None,
    };
    drained(session).into_iter().filter_map(segment).collect()
}

#[test]
fn copies_leave_first_and_answers_when_they_have_crossed() {
    let now = any_instant();
    let (mut session, _) = armed(now);
    assert_eq!(injected(&mut session), [(flag::SYN, 77, 0)], "the own SYN once more");
    session.handle_timeout(now + Duration::from_millis(200));
    assert_eq!(injected(&mut session), []);
    // A round trip to a server is taken for 200 ms as long as none was measured.
    session.handle_timeout(now + Duration::from_millis(300));
    let answer = (flag::SYN | flag::ACK, 77, 100);
    let expected = [(flag::SYN, 77, 0), answer, (flag::SYN, 99, 0)];
    assert_eq!(injected(&mut session), expected, "a copy, the answer, the peer's SYN");
}

#[test]
fn a_syn_that_was_told_cannot_be_taken_back() {
    let start = any_instant();
    let (mut session, _) = armed(start);
    drained(&mut session);
    session.on_note(&note(3, None), start);
    let later = start + Duration::from_millis(300);
    session.handle_timeout(later);
    assert_eq!(injected(&mut session).len(), 3, "a copy, the answer, the peer's SYN");
    let next = session.poll_timeout().map(|it| it.at);
    assert!(next.is_some_and(|next| next > later), "it does not wake without an end");
}

#[test]
fn a_connection_ends_the_volleys_and_is_named_after_the_last() {
    let now = any_instant();
    let (mut session, socket) = armed(now);
    let ends = session.engine.forging.as_ref().and_then(Forging::pending).unwrap().ends;
    let id = session.connecting.iter().find(|(_, it)| *it == socket).unwrap().0;
    drained(&mut session);
    session.handle_input(Input::Answer { id, answer: Answer::Connected(Ok(ends)) }, now);
    let stream = session.streams.all.iter().find(|it| it.socket == socket).unwrap();
    assert_eq!(stream.strategy, Strategy::SynReplay);
    drained(&mut session);
    session.handle_timeout(now + Duration::from_secs(2));
    assert_eq!(injected(&mut session), []);
}

#[test]
fn whenever_it_ends_the_capture_and_the_socket_are_closed_and_nothing_more_is_sent() {
    let now = any_instant();
    let (mut early, capture, socket) = standing(now);
    early.cancel();
    let closes = |commands: &[Command], socket: SocketId| {
        commands.iter().any(|it| matches!(it, Command::Close { socket: it, .. } if *it == socket))
    };
    let commands = drained(&mut early);
    assert!(closes(&commands, capture) && closes(&commands, socket), "{commands:?}");
    let (mut late, socket) = armed(now);
    drained(&mut late);
    late.refused(ErrorCode::Declined, now);
    assert!(closes(&drained(&mut late), socket));
    for session in [&mut early, &mut late] {
        assert_eq!(session.poll_timeout(), None);
        session.handle_timeout(now + Duration::from_secs(1));
        assert_eq!(drained(session), []);
    }
}

/// A session of the classic kind that has its stand, and has heard of the peer's.
fn classic(role: Role, listens: bool, now: Instant) -> Session {
    let (kind, transport) = (CandidateKind::ServerReflexive, Transport::Tcp);
    let (address, end, other) = match role {
        Role::Controlling => (PEER, STAND, Role::Controlled),
        Role::Controlled => ("203.0.113.1:1001", CALLER_STAND, Role::Controlling),
    };
    let candidates = vec![Candidate { kind, transport, address: socket_address(address) }];
    let mut session = session(role, TransportChoice::Tcp, candidates, now);
    (session.resources.classic, session.deadline) = (true, now + Duration::from_secs(10));
    session.handle_timeout(now);
    drained(&mut session);
    let local = socket_address("203.0.113.9:1002");
    let stage = Stage::Standing(Sample { local, mapped: local });
    session.engine.forging = Some(Forging { stage, ..Forging::begin(now) });
    let mapped = Some(socket_address(end));
    let stand = Some(Stand { mapped, syn: None, listens });
    let ports = Ports::Steady;
    let told = Standing { serial: 1, ports, classic: true, stand, ..Standing::default() };
    let bytes = Notary::new(&SessionSecret([7; 32]), other).write(&told);
    session.on_note(&bytes, now);
    session
}

#[test]
fn the_callee_opens_closes_and_listens_and_the_listener_ends_with_the_session() {
    let now = any_instant();
    let mut callee = classic(Role::Controlled, false, now);
    let commands = drained(&mut callee);
    let [Command::ConnectTcp { socket, local, hops, .. }, Command::AdjustTcp { .. }] = commands[..]
    else {
        panic!("{commands:?}")
    };
    assert_eq!(hops, connect_close_listen::OPENING);
    callee.handle_timeout(now + connect_close_listen::HOLE_TIME);
    let commands = drained(&mut callee);
    let Some(Command::ListenTcp { socket: listener, local: there, .. }) =
        commands.iter().find(|it| matches!(it, Command::ListenTcp { .. }))
    else {
        panic!("{commands:?}")
    };
    assert_eq!(*there, local);
    assert!(matches!(commands[0], Command::Close { socket: it, .. } if it == socket));
    let ends = Ends { local, remote: socket_address(CALLER_STAND) };
    assert_eq!(callee.strategy_at(ends), Some(Strategy::ConnectCloseListen));
    callee.cancel();
    let closes = |it: &Command| matches!(it, Command::Close { socket, .. } if socket == listener);
    assert!(drained(&mut callee).iter().any(closes));
}

#[test]
fn the_caller_dials_only_who_listens() {
    let now = any_instant();
    let connects = |session: &mut Session| {
        drained(session).iter().any(|it| {
            matches!(it, Command::ConnectTcp { remote, .. } if *remote == socket_address(STAND))
        })
    };
    assert!(!connects(&mut classic(Role::Controlling, false, now)));
    assert!(connects(&mut classic(Role::Controlling, true, now)));
}

#[test]
fn a_capture_that_is_not_permitted_ends_it_and_the_privilege_is_gone() {
    let now = any_instant();
    let (mut session, _, socket) = standing(now);
    let id = session.engine.forging.as_ref().unwrap().capture.unwrap().0;
    let answer = Answer::Done(Err(IoFailure::NotPermitted));
    session.handle_input(Input::Answer { id, answer }, now);
    assert!(!session.engine.forging.as_ref().unwrap().is_alive());
    assert_eq!(session.resources.privileges.map(|held| held.capture), Some(false));
    let commands = drained(&mut session);
    assert!(
        commands.iter().any(|it| matches!(it, Command::Close { socket: it, .. } if *it == socket))
    );
}

#[test]
fn a_stand_of_another_host_than_the_peers_is_not_dialled() {
    let now = any_instant();
    let (mut session, ..) = standing(now);
    let local = socket_address("203.0.113.1:1003");
    let stage = Stage::Standing(Sample { local, mapped: local });
    session.engine.forging = Some(Forging { stage, ..Forging::begin(now) });
    let stand = Stand { mapped: Some(socket_address("192.0.2.9:25")), ..Stand::default() };
    let told = Standing {
        serial: 7,
        ports: Ports::Steady,
        privileges: Some(RAW),
        stand: Some(stand),
        ..Standing::default()
    };
    let bytes = Notary::new(&SessionSecret([7; 32]), Role::Controlled).write(&told);
    session.on_note(&bytes, now);
    assert_eq!(drained(&mut session), []);
}

#[test]
fn a_side_that_sends_nothing_names_what_the_peer_does() {
    let now = any_instant();
    let (mut session, capture, socket) = standing(now);
    session.resources.privileges = Some(Privileges { inject: false, ..RAW });
    let ends = session.engine.forging.as_ref().and_then(Forging::pending).unwrap().ends;
    let segment = syn_replay::copy(&syn(77), &syn(1), ends);
    session.handle_input(Input::Captured { socket: capture, segment }, now);
    session.on_note(&note(2, Some(syn(99))), now);
    session.handle_timeout(now + Duration::from_secs(1));
    assert_eq!(injected(&mut session), []);
    let id = session.connecting.iter().find(|(_, it)| *it == socket).unwrap().0;
    session.handle_input(Input::Answer { id, answer: Answer::Connected(Ok(ends)) }, now);
    let stream = session.streams.all.iter().find(|it| it.socket == socket).unwrap();
    assert_eq!(stream.strategy, Strategy::SynInjection);
}
