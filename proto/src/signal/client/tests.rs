//! Scripted inputs: what the network in virtual time does not do by itself.

use ntcp_stun::TransactionId;

use super::*;
use crate::command::{Ends, Owner};
use crate::machine::any_instant;
use crate::signal::message::{Body, Message, Nonce, Refused, Registered};
use crate::signal::{
    ErrorCode, Fingerprint, Punch, RegistrationId, RegistrationKey, Role, SessionSecret,
    SignalMethod,
};

const KEY: RegistrationKey = RegistrationKey([5; 32]);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn udp_socket() -> SocketId {
    SocketId { owner: Owner(9), serial: 1 }
}

fn udp_broker() -> SocketAddr {
    "198.51.100.1:6060".parse().unwrap()
}

fn tcp_broker() -> SocketAddr {
    "198.51.100.1:9999".parse().unwrap()
}

/// A client and its time, told what happens by hand.
struct Script {
    client: Client,
    now: Instant,
}

impl Script {
    fn new(config: Config) -> Self {
        let client = Client::new(config, Names::new(Owner(1)), Seed::from_number(1));
        Self { client, now: any_instant() }
    }

    fn start(&mut self) -> Vec<Command> {
        self.client.start(Vec::new(), NatSummary::default(), self.now);
        self.commands()
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.client.poll_command()).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    fn answer(&mut self, id: CommandId, answer: Answer) -> Vec<Command> {
        self.client.handle_input(Input::Answer { id, answer }, self.now);
        self.commands()
    }

    fn at(&mut self, after: Duration) -> Vec<Command> {
        self.now += after;
        self.client.handle_timeout(self.now);
        self.commands()
    }

    fn receive(&mut self, message: &Message, key: Option<&RegistrationKey>) -> Vec<Command> {
        let payload = message.emit(key);
        let (socket, source) = (udp_socket(), udp_broker());
        self.client
            .handle_input(Input::UdpReceived { socket, source, payload: &payload }, self.now);
        self.commands()
    }

    /// Registers over UDP.
    fn register(&mut self) {
        let resolve = self.start();
        let asked = self.answer(resolve[0].id(), Answer::Resolved(Ok(vec![udp_broker()])));
        let request = sent(&asked[0]);
        let refused = Refused::new(SignalMethod::Register, ErrorCode::Unauthenticated);
        let challenge = request.answer(Body::Refused(refused));
        let nonce = Nonce::new(b"nonce").unwrap();
        let again = self.receive(&challenge.with_nonce(nonce), None);
        self.receive(&registered(&sent(&again[0])), None);
        assert!(matches!(self.events()[..], [Event::Registered { .. }]));
    }
}

fn registered(request: &Message) -> Message {
    request.answer(Body::Registered(Registered {
        registration: RegistrationId([1; 8]),
        key: KEY,
        observed: "192.0.2.1:1".parse().unwrap(),
        lease: Duration::from_secs(60),
        capabilities: None,
        identity: None,
    }))
}

/// The message that a command sends.
fn sent(command: &Command) -> Message {
    match command {
        Command::SendUdp { payload, .. } | Command::SendTcp { payload, .. } => {
            Message::parse(payload).unwrap().message
        }
        other => panic!("{other:?} sends nothing"),
    }
}

fn both() -> Config {
    Config {
        name: Some("alice".parse().unwrap()),
        udp_broker: Some("broker.example".parse().unwrap()),
        tcp_broker: Some("broker.example".parse().unwrap()),
        ..Config::new(Fingerprint([0; 32]), Secrecy::Plain)
    }
}

fn udp_only() -> Config {
    Config { tcp_broker: None, ..both() }
}

/// A script with a UDP socket.
fn script(config: Config) -> Script {
    let mut script = Script::new(config);
    script.client.set_udp_socket(Family::V4, udp_socket());
    script
}

fn call() -> Call {
    Call { transport: TransportChoice::Any, candidates: Vec::new(), round: Round::FIRST }
}

fn bob() -> PeerName {
    "bob".parse().unwrap()
}

#[test]
fn without_a_broker_the_error_names_the_flags() {
    let mut script = script(Config::new(Fingerprint([0; 32]), Secrecy::Plain));
    assert!(script.start().is_empty());
    let events = script.events();
    let [Event::RegistrationFailed { error, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(error.is_final() && error.to_string().contains("--broker"), "{error}");
}

#[test]
fn names_are_resolved_with_the_port_of_their_protocol() {
    let resolves: Vec<u16> = script(both())
        .start()
        .iter()
        .map(|command| match command {
            Command::Resolve { port, host, .. } if host == "broker.example" => *port,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(resolves, [DEFAULT_UDP_PORT, DEFAULT_TCP_PORT]);
}

#[test]
fn when_the_system_takes_no_datagram_tcp_is_tried_at_once() {
    let mut script = script(both());
    let resolves = script.start();
    let asked = script.answer(resolves[0].id(), Answer::Resolved(Ok(vec![udp_broker()])));
    script.answer(resolves[1].id(), Answer::Resolved(Ok(vec![tcp_broker()])));
    let refused = Answer::Sent(Err(IoFailure::NotPermitted));
    let commands = script.answer(asked[0].id(), refused);
    assert!(matches!(commands[..], [Command::ConnectTcp { .. }]), "{commands:?}");
}

#[test]
fn without_a_udp_socket_tcp_is_tried_at_once() {
    let mut script = Script::new(both());
    let resolve = script.start();
    assert_eq!(resolve.len(), 1);
    let commands = script.answer(resolve[0].id(), Answer::Resolved(Ok(vec![tcp_broker()])));
    assert!(matches!(commands[..], [Command::ConnectTcp { .. }]), "{commands:?}");
}

#[test]
fn the_first_of_several_streams_counts_and_the_others_are_closed() {
    let mut script = Script::new(both());
    let resolve = script.start();
    let addresses = vec![tcp_broker(), "[2001:db8::1]:9999".parse().unwrap()];
    let dials = script.answer(resolve[0].id(), Answer::Resolved(Ok(addresses)));
    let [Command::ConnectTcp { socket: slow, .. }, Command::ConnectTcp { id, socket, .. }] =
        dials[..]
    else {
        panic!("{dials:?}")
    };
    script.now += ms(30);
    let ends = Ends { local: "[::1]:1".parse().unwrap(), remote: "[::1]:2".parse().unwrap() };
    let commands = script.answer(id, Answer::Connected(Ok(ends)));
    match &commands[..] {
        [Command::Close { socket: closed, .. }, send @ Command::SendTcp { socket: used, .. }] => {
            assert_eq!((*closed, *used), (slow, socket));
            let Body::Register(register) = sent(send).body else { panic!() };
            assert_eq!(register.rtt, Some(ms(30)), "the handshake has measured it");
        }
        other => panic!("{other:?}"),
    }
    // The other one connects after all: too late.
    assert!(script.answer(dials[0].id(), Answer::Connected(Ok(ends))).is_empty());
}

#[test]
fn a_udp_answer_during_the_tcp_handshake_wins() {
    let mut script = script(both());
    let resolves = script.start();
    let asked = script.answer(resolves[0].id(), Answer::Resolved(Ok(vec![udp_broker()])));
    script.answer(resolves[1].id(), Answer::Resolved(Ok(vec![tcp_broker()])));
    let dial = script.at(ms(300));
    assert!(dial.iter().any(|it| matches!(it, Command::ConnectTcp { .. })), "{dial:?}");
    let refused = Refused::new(SignalMethod::Register, ErrorCode::Unauthenticated);
    let challenge = sent(&asked[0]).answer(Body::Refused(refused));
    let challenge = challenge.with_nonce(Nonce::new(b"nonce").unwrap());
    let commands = script.receive(&challenge, None);
    assert!(
        matches!(commands[..], [Command::Close { .. }, Command::SendUdp { .. }]),
        "{commands:?}"
    );
    let Body::Register(register) = sent(&commands[1]).body else { panic!() };
    assert_eq!(register.rtt, Some(ms(300)), "by the first sending, which was answered");
}

#[test]
fn a_stream_that_stands_still_gives_way_to_a_late_udp_answer() {
    let mut script = script(both());
    let resolves = script.start();
    let asked = script.answer(resolves[0].id(), Answer::Resolved(Ok(vec![udp_broker()])));
    script.answer(resolves[1].id(), Answer::Resolved(Ok(vec![tcp_broker()])));
    let commands = script.at(ms(300));
    let (dial, stream) = dial_in(&commands);
    script.now += ms(30);
    let asked_there = script.answer(dial, opened());
    assert!(matches!(asked_there[..], [Command::SendTcp { .. }]), "{asked_there:?}");
    // Nothing comes back on it; the question over UDP is repeated all the while.
    let deadline = script.client.poll_timeout().unwrap().at;
    assert_eq!(deadline - script.now, ms(170), "200 ms after the last");
    let repeated = script.at(ms(170));
    assert!(matches!(repeated[..], [Command::SendUdp { .. }]), "{repeated:?}");
    // A refusal over UDP is none of the stream.
    let refusal = |code| {
        let challenge =
            sent(&asked[0]).answer(Body::Refused(Refused::new(SignalMethod::Register, code)));
        challenge.with_nonce(Nonce::new(b"nonce").unwrap())
    };
    assert!(script.receive(&refusal(ErrorCode::TooManyRequests), None).is_empty());
    assert!(script.events().is_empty());
    let commands = script.receive(&refusal(ErrorCode::Unauthenticated), None);
    let [Command::Abort { socket, .. }, register @ Command::SendUdp { .. }] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!(*socket, stream);
    script.receive(&registered(&sent(register)), None);
    let events = script.events();
    assert!(matches!(events[..], [Event::Registered { link: Link::Udp, .. }]), "{events:?}");
}

/// The stream that these commands open, and the name of the command.
fn dial_in(commands: &[Command]) -> (CommandId, SocketId) {
    let dial = commands.iter().find_map(|it| match it {
        Command::ConnectTcp { id, socket, .. } => Some((*id, *socket)),
        _ => None,
    });
    dial.unwrap_or_else(|| panic!("nothing is opened in {commands:?}"))
}

fn opened() -> Answer {
    Answer::Connected(Ok(Ends { local: "192.0.2.1:1".parse().unwrap(), remote: tcp_broker() }))
}

/// A script without UDP, and the first connection it begins.
fn dialing() -> (Script, CommandId, SocketId) {
    let mut script = Script::new(both());
    let resolve = script.start();
    let commands = script.answer(resolve[0].id(), Answer::Resolved(Ok(vec![tcp_broker()])));
    let (id, socket) = dial_in(&commands);
    (script, id, socket)
}

#[test]
fn a_stream_that_does_not_open_is_not_the_only_one() {
    let (mut script, ..) = dialing();
    let begun = script.now;
    let (mut dialed, mut closed) = (Vec::new(), Vec::new());
    while script.events().is_empty() {
        let at = script.client.poll_timeout().unwrap().at;
        for command in script.at(at - script.now) {
            let list = match command {
                Command::ConnectTcp { .. } => &mut dialed,
                Command::Close { .. } => &mut closed,
                other => panic!("{other:?}"),
            };
            list.push((script.now - begun).as_millis());
        }
    }
    assert_eq!(dialed, [400, 1200, 2800]);
    assert_eq!(closed, [5000; 4], "all of them when it fails");
}

#[test]
fn a_stream_that_opens_takes_the_place_of_one_that_is_silent() {
    let (mut script, first, silent) = dialing();
    script.now += ms(30);
    script.answer(first, opened());
    let (second, stream) = dial_in(&script.at(ms(370)));
    script.now += ms(30);
    let commands = script.answer(second, opened());
    let [Command::Abort { socket: ended, .. }, register @ Command::SendTcp { socket, .. }] =
        &commands[..]
    else {
        panic!("{commands:?}")
    };
    assert_eq!((*ended, *socket), (silent, stream));
    let payload = registered(&sent(register)).emit(None);
    script
        .client
        .handle_input(Input::TcpReceived { socket: stream, payload: &payload }, script.now);
    let events = script.events();
    assert!(matches!(events[..], [Event::Registered { link: Link::Tcp, .. }]), "{events:?}");
}

#[test]
fn a_stream_that_is_about_to_be_answered_is_kept() {
    let (mut script, first, slow) = dialing();
    let (second, spare) = dial_in(&script.at(ms(400)));
    script.now += ms(30);
    let commands = script.answer(first, opened());
    assert!(matches!(&commands[..], [.., Command::SendTcp { socket, .. }] if *socket == slow));
    assert!(
        matches!(&commands[0], Command::Close { socket, .. } if *socket == spare),
        "{commands:?}"
    );
    assert!(script.answer(second, opened()).is_empty());
    let payload = registered(&sent(&commands[1])).emit(None);
    script.client.handle_input(Input::TcpReceived { socket: slow, payload: &payload }, script.now);
    assert!(matches!(script.events()[..], [Event::Registered { .. }]));
    let later = script.at(ms(800));
    assert!(!later.iter().any(|it| matches!(it, Command::ConnectTcp { .. })), "{later:?}");
}

#[test]
fn a_registration_told_twice_is_told_once() {
    let mut script = script(udp_only());
    script.register();
    let again = registered(&Message::new(TransactionId::new([0; 12]), Body::Ping));
    script.receive(&again, None);
    assert!(script.events().is_empty());
    assert_eq!(script.client.ignored().unsigned, 1);
}

#[test]
fn candidates_that_change_while_registering_are_shown_right_after() {
    let mut script = script(udp_only());
    let resolve = script.start();
    let asked = script.answer(resolve[0].id(), Answer::Resolved(Ok(vec![udp_broker()])));
    let refused = Refused::new(SignalMethod::Register, ErrorCode::Unauthenticated);
    let challenge = sent(&asked[0]).answer(Body::Refused(refused));
    let nonce = Nonce::new(b"nonce").unwrap();
    let second = script.receive(&challenge.with_nonce(nonce), None);
    let candidates = vec![Candidate {
        kind: crate::candidate::CandidateKind::Host,
        transport: crate::candidate::Transport::Udp,
        address: "192.0.2.1:7".parse().unwrap(),
    }];
    script.client.update_candidates(candidates.clone(), NatSummary::default(), script.now);
    let repeated = script.at(ms(100));
    assert_eq!(sent(&repeated[0]).body, sent(&second[0]).body, "a repetition says the same");
    let refresh = script.receive(&registered(&sent(&second[0])), None);
    let Body::Refresh(refresh) = sent(&refresh[0]).body else { panic!("{refresh:?}") };
    assert_eq!(refresh.candidates, Some(candidates));
}

#[test]
fn an_order_told_twice_or_late_is_told_once() {
    let mut script = script(udp_only());
    script.register();
    let request = script.client.connect(&bob(), call(), script.now);
    let connect = sent(&script.commands()[0]);
    let order = connect.answer(Body::Connected(Punch {
        session: SessionId([2; 16]),
        secret: SessionSecret([3; 32]),
        role: Role::Controlling,
        round: Round::FIRST,
        transport: TransportChoice::Any,
        peer: Some(bob()),
        candidates: Vec::new(),
        nat: NatSummary::default(),
        fingerprint: Fingerprint([4; 32]),
        identity: None,
        start_after: ms(7),
        peer_rtt: None,
        bare: false,
        hints: Vec::new(),
    }));
    script.receive(&order, None);
    assert!(script.events().is_empty(), "an unsigned order is no order");
    for _ in 0..3 {
        script.receive(&order, Some(&KEY));
    }
    let events = script.events();
    let [Event::Punch { request: Some(told), punch }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((*told, punch.start_at), (request, script.now + ms(7)));
    script.now += Duration::from_secs(30);
    script.receive(&order, Some(&KEY));
    assert!(script.events().is_empty());
}

#[test]
fn calls_beyond_the_limit_fail_at_once_and_leave_the_others_alone() {
    let mut script = script(udp_only());
    script.register();
    for _ in 0..MAX_CALLS {
        script.client.connect(&bob(), call(), script.now);
    }
    assert!(script.events().is_empty());
    script.client.connect(&bob(), call(), script.now);
    let events = script.events();
    let [Event::ConnectFailed { error, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(*error, ConnectError::TooManyCalls { limit: MAX_CALLS });
}

#[test]
fn a_call_of_a_client_that_was_not_started_fails() {
    let mut script = script(udp_only());
    script.client.connect(&bob(), call(), script.now);
    let events = script.events();
    assert!(
        matches!(events[..], [Event::ConnectFailed { error: ConnectError::NotRunning, .. }]),
        "{events:?}"
    );
}

#[test]
fn a_call_that_the_broker_does_not_answer_fails_in_time() {
    let mut script = script(udp_only());
    script.register();
    let called = script.now;
    script.client.connect(&bob(), call(), script.now);
    let mut sendings = Vec::new();
    let failed = loop {
        let commands = script.commands();
        sendings.extend(commands.iter().map(|_| (script.now - called).as_millis()));
        if let Some(event) = script.events().pop() {
            break event;
        }
        script.now = script.client.poll_timeout().unwrap().at;
        script.client.handle_timeout(script.now);
    };
    assert_eq!(script.now - called, Duration::from_secs(8));
    // Each goes out twice; the path was measured as no trip at all.
    assert_eq!(sendings[..10], [0, 0, 20, 20, 60, 60, 140, 140, 300, 300]);
    let Event::ConnectFailed { error, .. } = failed else { panic!("{failed:?}") };
    assert!(matches!(error, ConnectError::BrokerSilent { .. }), "{error}");
}

#[test]
fn datagrams_are_told_apart_by_source_and_method() {
    let mut script = script(udp_only());
    script.register();
    let ours = Message::new(TransactionId::new([0; 12]), Body::Ping).emit(None);
    assert!(script.client.accepts(udp_broker(), &ours));
    assert!(!script.client.accepts("198.51.100.2:6060".parse().unwrap(), &ours));
    let mut binding = ours.clone();
    binding[..2].copy_from_slice(&[0, 1]);
    assert!(!script.client.accepts(udp_broker(), &binding), "STUN's own methods are not ours");
    assert!(!script.client.accepts(udp_broker(), &[0x40, 1, 2, 3, 4, 5, 6, 7, 8]), "QUIC");
    assert!(!script.client.accepts(udp_broker(), &ours[..7]));
}

#[test]
fn the_pauses_between_attempts_grow_to_half_a_minute() {
    let mut script = script(udp_only());
    script.start();
    let mut pauses = Vec::new();
    while pauses.len() < 10 {
        for event in script.events() {
            if let Event::RegistrationFailed { retry_after, .. } = event {
                pauses.push(retry_after);
            }
        }
        for command in script.commands() {
            script.answer(command.id(), Answer::Resolved(Err(IoFailure::UnknownHost)));
        }
        if let Some(deadline) = script.client.poll_timeout() {
            script.now = script.now.max(deadline.at);
            script.client.handle_timeout(script.now);
        }
    }
    for (attempt, pause) in pauses.iter().enumerate() {
        let whole = (FIRST_REST * 2u32.pow(attempt as u32)).min(LONGEST_REST);
        assert!((whole / 2..=whole).contains(pause), "attempt {attempt}: {pause:?}");
    }
}
