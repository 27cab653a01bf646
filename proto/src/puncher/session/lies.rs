//! A peer that signs whatever it likes: wrong numbers, wrong ports, "opened" that never was.
//!
//! A session is fed any standings, in any order, about any NATs and ends of either family, while its own network
//! answers as it likes, too. It has to end by its deadline, must never ask to be woken in vain, and leaves no
//! socket behind.

use std::collections::BTreeSet;

use ntcp_stun::attribute::XorMappedAddress;
use ntcp_stun::{Class, Message, Method, Writer};
use proptest::prelude::{Just, ProptestConfig, any, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Draw;

use super::tests::{session, socket_address};
use super::*;
use crate::machine::any_instant;
use crate::node::nat_told;
use crate::puncher::report::Outcome;
use crate::segment::{Options, Segment, flag};
use crate::signal::{NatSummary, Syn};
use crate::tcp_traversal::budget::{Budget, Limits};
use crate::tcp_traversal::note::{Crowd, Datagrams, Forecast, Meet, Notary, Stand, Standing};
use crate::tcp_traversal::survey::{Ports, Sample};
use crate::{Answer, IoFailure};

const SERVER: &str = "192.0.2.1:3478";
const PEER: &str = "203.0.113.2:2001";
/// Times a session may ask to be woken at one instant.
const MOST_AT_ONCE: usize = 64;

/// What is going to happen.
enum Coming {
    Answer(CommandId, Answer),
    Message(SocketId, Vec<u8>),
    Datagram(SocketId, SocketAddr, Vec<u8>),
    Captured(SocketId, Ends),
    Note(Standing),
}

/// What the two sides know of each other at the start.
#[derive(Debug, Clone)]
struct Beginning {
    role: Role,
    transport: TransportChoice,
    candidates: Vec<Candidate>,
    /// Our own NATs and the peer's, as summaries.
    nats: [[u8; 8]; 2],
    both_families: bool,
}

/// A session, and a network that draws lots.
struct Liar {
    session: Session,
    now: Instant,
    entropy: Entropy,
    budget: Budget,
    coming: Vec<(Instant, Coming)>,
    /// Sockets that stand or may come to stand.
    open: BTreeSet<SocketId>,
    /// Sockets for datagrams, which nothing but the session closes.
    bound: BTreeSet<SocketId>,
}

impl Liar {
    fn new(beginning: Beginning, seed: u64, standings: Vec<Standing>) -> Self {
        let now = any_instant();
        let mut entropy = Entropy::new(Seed::from_number(seed));
        let Beginning { role, transport, candidates, nats, both_families } = beginning;
        let [ours, theirs] = nats.map(|bytes| nat_told(NatSummary::from_bytes(bytes), &candidates));
        let mut session = session(role, transport, candidates, now);
        session.introduction.nat = theirs;
        session.resources.nat = ours;
        let all = Privileges { assume: true, capture: true, inject: true };
        session.resources.privileges = Some(all);
        session.resources.stun = vec![socket_address(SERVER)];
        session.resources.udp_stun = vec![socket_address(SERVER)];
        session.resources.classic = true;
        if both_families {
            session.resources.tcp.push(socket_address("[2001:db8:1::1]:1001"));
        }
        let reserve = Sample {
            local: socket_address("203.0.113.1:1002"),
            mapped: socket_address("203.0.113.1:1002"),
        };
        session.set_reserve((reserve, seed.is_multiple_of(2)), now);
        let notes = standings.into_iter().zip(1..).map(|(standing, serial)| {
            let at = now + Duration::from_millis(entropy.below(9000));
            (at, Coming::Note(Standing { serial, ..standing }))
        });
        let coming = notes.collect();
        let budget = Budget::new(Limits { per_attempt: 256, per_minute: 400 });
        Self {
            session,
            now,
            entropy,
            budget,
            coming,
            open: BTreeSet::new(),
            bound: BTreeSet::new(),
        }
    }

    fn soon(&mut self) -> Instant {
        self.now + Duration::from_millis(self.entropy.below(300))
    }

    fn later(&mut self, coming: Coming) {
        let at = self.soon();
        self.coming.push((at, coming));
    }

    fn drain(&mut self) {
        while let Some(command) = self.session.poll_admitted(&mut self.budget, self.now) {
            self.carry_out(command);
        }
        let _ = self.session.poll_note();
        let _ = self.session.poll_admitted_forge(&mut self.budget, self.now);
    }

    fn carry_out(&mut self, command: Command) {
        let id = command.id();
        match command {
            Command::ConnectTcp { socket, local, remote, .. } => {
                self.open.insert(socket);
                let port = if local.port() == 0 { 20_000 } else { local.port() };
                let ends = Ends { local: SocketAddr::new(local.ip(), port), remote };
                let to_server = remote == socket_address(SERVER);
                let answer = match self.entropy.below(6) {
                    0 if !to_server => None,
                    1 => Some(Err(IoFailure::Refused)),
                    2 => Some(Err(IoFailure::HostUnreachable)),
                    _ if to_server => Some(Ok(ends)),
                    3 => Some(Err(IoFailure::TimedOut)),
                    4 => Some(Ok(ends)),
                    _ => None,
                };
                self.answer_connect(id, answer);
            }
            Command::AssumeTcp { socket, ends, .. } => {
                self.open.insert(socket);
                let permitted = self.entropy.below(2) == 0;
                let answer = if permitted { Ok(ends) } else { Err(IoFailure::NotPermitted) };
                self.answer_connect(id, Some(answer));
            }
            Command::Capture { socket, ends, .. } => {
                self.open.insert(socket);
                self.later(Coming::Answer(id, Answer::Done(Ok(()))));
                self.later(Coming::Captured(socket, ends));
            }
            Command::ListenTcp { socket, local, .. } => {
                self.open.insert(socket);
                self.later(Coming::Answer(id, Answer::Bound(Ok(local))));
            }
            Command::BindUdp { socket, local, .. } => {
                let port = if local.port() == 0 { 30_000 } else { local.port() };
                let bound = match self.entropy.below(4) {
                    0 => Err(IoFailure::OutOfResources),
                    _ => Ok(SocketAddr::new(local.ip(), port)),
                };
                if bound.is_ok() {
                    self.bound.insert(socket);
                }
                self.later(Coming::Answer(id, Answer::Bound(bound)));
            }
            Command::SendUdp { socket, remote, payload, .. } => {
                let sent = match self.entropy.below(8) {
                    0 => Err(IoFailure::NetworkUnreachable),
                    _ => Ok(()),
                };
                self.later(Coming::Answer(id, Answer::Sent(sent)));
                match self.entropy.below(4) {
                    0 => self.later(Coming::Datagram(socket, remote, payload)),
                    1 => {
                        let mapped = self.some_mapping();
                        let reply = told(&payload, mapped);
                        self.later(Coming::Datagram(socket, remote, reply));
                    }
                    _ => {}
                }
            }
            Command::SendTcp { socket, payload, .. } => {
                self.later(Coming::Answer(id, Answer::Sent(Ok(()))));
                let mapped = self.some_mapping();
                let reply = told(&payload, mapped);
                let reply = if self.entropy.below(4) == 0 { vec![0; 20] } else { reply };
                self.later(Coming::Message(socket, reply));
            }
            Command::Close { socket, .. } | Command::Abort { socket, .. } => {
                self.open.remove(&socket);
                self.bound.remove(&socket);
                self.later(Coming::Answer(id, Answer::Closed));
            }
            Command::Inject { .. } => {
                let sent = [Ok(()), Err(IoFailure::NotPermitted)];
                let at = usize::try_from(self.entropy.below(2)).unwrap();
                self.later(Coming::Answer(id, Answer::Sent(sent[at])));
            }
            Command::AdjustTcp { .. } | Command::RenewTcp { .. } => {
                self.later(Coming::Answer(id, Answer::Done(Ok(()))));
            }
            other => panic!("{other:?}"),
        }
    }

    fn some_mapping(&mut self) -> SocketAddr {
        let port = 1024 + u16::try_from(self.entropy.below(60_000)).unwrap();
        SocketAddr::from(([203, 0, 113, 1], port))
    }

    fn answer_connect(&mut self, id: CommandId, answer: Option<Result<Ends, IoFailure>>) {
        if let Some(connected) = answer {
            self.later(Coming::Answer(id, Answer::Connected(connected)));
        }
    }

    /// The next thing that happens, if it is earlier than the session wants to be woken.
    fn next(&mut self) -> Option<(Instant, Coming)> {
        let at = (0..self.coming.len()).min_by_key(|at| self.coming[*at].0)?;
        let due = self.session.poll_timeout().map(|deadline| deadline.at);
        (due.is_none_or(|due| self.coming[at].0 <= due)).then(|| self.coming.swap_remove(at))
    }

    fn happen(&mut self, coming: Coming) {
        let now = self.now;
        match coming {
            Coming::Answer(id, answer) => {
                self.session.handle_input(Input::Answer { id, answer }, now);
            }
            Coming::Message(socket, payload) => {
                self.session.handle_input(Input::TcpReceived { socket, payload: &payload }, now);
            }
            Coming::Datagram(socket, source, payload) => {
                let received = Input::UdpReceived { socket, source, payload: &payload };
                self.session.handle_input(received, now);
            }
            Coming::Captured(socket, Ends { local, remote }) => {
                let segment = Segment {
                    source: local,
                    destination: remote,
                    flags: flag::SYN,
                    sequence: 7,
                    acknowledgment: 0,
                    window: 1000,
                    options: Options::default(),
                };
                self.session.handle_input(Input::Captured { socket, segment }, now);
            }
            Coming::Note(standing) => {
                let peer = match self.session.introduction.role {
                    Role::Controlling => Role::Controlled,
                    Role::Controlled => Role::Controlling,
                };
                let note = Notary::new(&self.session.introduction.secret, peer).write(&standing);
                self.session.on_note(&note, now);
            }
        }
    }

    /// Lets everything happen until the session has ended, and says how.
    fn run(mut self) -> Outcome {
        let (mut woken, mut last, mut ended) = (0, None, None);
        self.drain();
        loop {
            while let Some(event) = self.session.poll_event() {
                let report = match event {
                    Event::Failed { report } => report,
                    // On trust, and nothing comes of it.
                    Event::Chosen { .. } => continue,
                    Event::Established { .. } => panic!("nobody has proved anything"),
                };
                assert!(ended.replace(report.outcome).is_none(), "it ends once");
            }
            if self.session.is_finished() {
                break;
            }
            if let Some((at, coming)) = self.next() {
                self.now = self.now.max(at);
                self.happen(coming);
            } else {
                let deadline = self.session.poll_timeout().expect("it waits for something");
                self.now = self.now.max(deadline.at);
                woken = if last == Some(self.now) { woken + 1 } else { 0 };
                last = Some(self.now);
                assert!(woken < MOST_AT_ONCE, "busy: {}", deadline.reason);
                self.session.handle_timeout(self.now);
            }
            self.drain();
        }
        assert!(self.session.poll_timeout().is_none());
        // What fails is no socket any more; what stands or is pending has to be closed.
        self.drain();
        assert!(self.bound.is_empty(), "left open: {:?}", self.bound);
        assert!(self.left_open().is_empty(), "left open: {:?}", self.left_open());
        ended.expect("it says how it ended")
    }

    /// Sockets that nobody has closed, but for those whose connect failed.
    fn left_open(&self) -> Vec<SocketId> {
        let unanswered: Vec<SocketId> =
            self.session.connecting.iter().map(|(_, socket)| *socket).collect();
        let stands = |socket: &SocketId| {
            unanswered.contains(socket)
                || self.session.streams.open().any(|stream| stream.socket == *socket)
        };
        self.open.iter().filter(|socket| stands(socket)).copied().collect()
    }
}

/// A server's answer to what it was asked.
fn told(request: &[u8], mapped: SocketAddr) -> Vec<u8> {
    let Ok(request) = Message::parse(request) else { return vec![0; 20] };
    let mut buffer = [0; 64];
    let id = request.transaction_id();
    let mut writer = Writer::new(&mut buffer, Class::Success, Method::BINDING, id).unwrap();
    writer.attribute(&XorMappedAddress(mapped)).unwrap();
    let length = writer.finish();
    buffer[..length].to_vec()
}

fn ports() -> impl Draw<Value = Ports> {
    prop_oneof![
        Just(Ports::Unknown),
        Just(Ports::Steady),
        any::<i16>()
            .prop_filter("a step", |step| *step != 0)
            .prop_map(|step| { Ports::Sequential { step } }),
        (any::<u16>(), any::<u16>())
            .prop_map(|(one, other)| Ports::Random { low: one.min(other), high: one.max(other) }),
    ]
}

fn end() -> impl Draw<Value = SocketAddr> {
    let ip = prop_oneof![
        Just(IpAddr::from([203, 0, 113, 2])),
        Just(IpAddr::from([127, 0, 0, 1])),
        any::<[u8; 4]>().prop_map(IpAddr::from),
        Just(IpAddr::from([0x2001, 0xdb8, 2, 0, 0, 0, 0, 1])),
    ];
    (ip, 1..=u16::MAX).prop_map(SocketAddr::from)
}

/// The peer at its usual end, and what else it says that it has.
fn candidates() -> impl Draw<Value = Vec<Candidate>> {
    let kinds = vec![
        CandidateKind::Host,
        CandidateKind::Mapped,
        CandidateKind::ServerReflexive,
        CandidateKind::Reserve,
    ];
    let one = (proptest::sample::select(kinds), any::<bool>(), end()).prop_map(
        |(kind, is_tcp, address)| {
            let transport = if is_tcp { Transport::Tcp } else { Transport::Udp };
            Candidate { kind, transport, address }
        },
    );
    proptest::collection::vec(one, 0..5).prop_map(|mut others| {
        let (kind, address) = (CandidateKind::ServerReflexive, socket_address(PEER));
        let usual = [Transport::Tcp, Transport::Udp];
        others.splice(..0, usual.map(|transport| Candidate { kind, transport, address }));
        others
    })
}

fn beginning() -> impl Draw<Value = Beginning> {
    let choices = vec![TransportChoice::Tcp, TransportChoice::Udp, TransportChoice::Any];
    // Few numbers say something: a summary of random bytes is nearly empty.
    let number = (0..5u8, 0..5u8).prop_map(|(high, low)| high << 4 | low);
    let summary = || proptest::array::uniform8(number.clone());
    let nats = [summary(), summary()];
    let parts = (any::<[bool; 2]>(), proptest::sample::select(choices), candidates(), nats);
    parts.prop_map(|([calls, both_families], transport, candidates, nats)| {
        let role = if calls { Role::Controlling } else { Role::Controlled };
        Beginning { role, transport, candidates, nats, both_families }
    })
}

fn meet() -> impl Draw<Value = Meet> {
    (end(), any::<bool>()).prop_map(|(mapped, opened)| Meet { mapped, opened })
}

fn standing() -> impl Draw<Value = Standing> {
    let syn = (any::<u32>(), any::<u16>()).prop_map(|(sequence, window)| Syn {
        sequence,
        window,
        options: Options::default(),
    });
    let stand = (proptest::option::of(end()), proptest::option::of(syn), any::<bool>());
    let stand = stand.prop_map(|(mapped, syn, listens)| Stand { mapped, syn, listens });
    let crowd = proptest::collection::vec(any::<u16>(), 0..14)
        .prop_map(|ports| Crowd::new(&ports, Duration::from_millis(40)));
    let privileges = any::<[bool; 3]>().prop_map(|[assume, capture, inject]| Privileges {
        assume,
        capture,
        inject,
    });
    let numbers = (any::<u16>(), 0..8u8, 0..8u8, any::<[Option<bool>; 5]>(), any::<[bool; 2]>());
    let parts = (
        proptest::option::of(end()),
        proptest::option::of(stand),
        proptest::option::of(crowd),
        proptest::option::of(privileges),
        proptest::option::of(datagrams()),
        proptest::option::of(meet()),
        proptest::option::of(meet()),
    );
    (ports(), numbers, parts).prop_map(|(ports, numbers, parts)| {
        let (spare, stand, crowd, privileges, datagrams, haunt, reserve) = parts;
        let (first, round, opened, facts, [waits, classic]) = numbers;
        let forecast = match ports {
            Ports::Sequential { step } => Some(Forecast { first, step, count: 3 }),
            Ports::Unknown | Ports::Steady | Ports::Random { .. } => None,
        };
        let [answers, admits_syn, listener_reached, hole_outlives_ttl, hole_outlives_rst] = facts;
        let known =
            Standing { ports, forecast, round, opened, waits, classic, ..Standing::default() };
        let known = Standing { hole_outlives_ttl, hole_outlives_rst, ..known };
        let told = Standing { answers, admits_syn, listener_reached, ..known };
        let told = Standing { spare, stand, crowd, haunt, reserve, ..told };
        Standing { privileges, datagrams, spent: Some(first), ..told }
    })
}

fn datagrams() -> impl Draw<Value = Datagrams> {
    let numbers = (0..8u8, 0..8u8, any::<u16>());
    (ports(), proptest::option::of(end()), numbers).prop_map(
        |(ports, mapped, (round, opened, next))| Datagrams { ports, round, opened, mapped, next },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_peer_that_signs_anything_ends_in_a_report_and_leaves_no_socket(
        seed in any::<u64>(),
        beginning in beginning(),
        standings in proptest::collection::vec(standing(), 0..12),
    ) {
        prop_assert_eq!(Liar::new(beginning, seed, standings).run(), Outcome::Failed);
    }
}
