//! Peers and a broker in virtual time, with a network between them that loses, repeats and
//! reorders. Test code.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::{Broker, Config, Link, StreamId};
use crate::address::Family;
use crate::candidate::{Candidate, CandidateKind, Transport};
use crate::command::{Answer, Command, CommandId, Ends, Input, IoFailure, Names, Owner, SocketId};
use crate::entropy::{Entropy, Seed};
use crate::machine::{Machine, any_instant};
use crate::secrecy::SecretKey;
use crate::segment::Segment;
use crate::signal::client::{self, Call, Client, RequestId};
use crate::signal::{Fingerprint, NatSummary, Punch, Round, TimedPunch};
use crate::uri::TransportChoice;

/// Every world starts at one instant, so that two equal ones can be compared.
static START: LazyLock<Instant> = LazyLock::new(any_instant);

pub(crate) const BROKER_UDP: &str = "198.51.100.1:6060";
pub(crate) const BROKER_TCP: &str = "198.51.100.1:9999";

/// What the network does to datagrams; streams only share the delay.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Of a thousand datagrams, this many are lost on each way.
    pub(crate) lost: u64,
    /// Of a thousand, this many come twice.
    pub(crate) doubled: u64,
    /// Up to this is added to the delay.
    pub(crate) jitter: Duration,
}

/// One peer and its access to the network.
pub(crate) struct Peer {
    pub(crate) client: Client,
    /// What the broker sees.
    pub(crate) address: SocketAddr,
    /// One-way delay to the broker.
    pub(crate) delay: Duration,
    /// Whether UDP passes.
    pub(crate) udp: bool,
    /// A dead peer neither sends nor receives; its streams are not closed.
    pub(crate) alive: bool,
    pub(crate) events: Vec<(Duration, client::Event)>,
    streams: BTreeMap<SocketId, StreamId>,
    commands: u64,
}

enum Delivery {
    ToBroker { link: Link, payload: Vec<u8> },
    ToPeer { peer: usize, to: SocketAddr, payload: Vec<u8> },
    ToStream { peer: usize, stream: StreamId, payload: Vec<u8> },
    Spoofed { peer: usize, source: SocketAddr, payload: Vec<u8> },
    Connected { peer: usize, id: CommandId, socket: SocketId },
    StreamEnded { peer: usize, stream: StreamId, reason: IoFailure },
    StreamClosed { stream: StreamId },
    Answer { peer: usize, id: CommandId, answer: Answer },
}

/// A datagram or message as it was sent, for those who look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) to_broker: bool,
    pub(crate) peer: usize,
    pub(crate) over: Transport,
    pub(crate) payload: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) weather: Weather,
    pub(crate) broker: Option<Broker>,
    pub(crate) broker_tcp: bool,
    pub(crate) peers: Vec<Peer>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) resolves: bool,
    /// What the broker has forged.
    pub(crate) forged: Vec<(Duration, Segment, u8)>,
    /// How many packets peers were asked to forge.
    pub(crate) errands: usize,
    /// Whether the broker's network lets datagrams with others' sources out.
    pub(crate) spoofable: bool,
    /// Whether peers' NATs are open for each other: where a peer has sent to.
    pub(crate) opened: Vec<(usize, SocketAddr)>,
    /// Where streams come from that are not a client's own.
    borrowed: BTreeMap<StreamId, SocketAddr>,
    /// Whether peers shake hands with the broker.
    pub(crate) sealed: bool,
    /// The broker's keys.
    pub(crate) keys: Vec<SecretKey>,
    entropy: Entropy,
    wire: BTreeMap<(Instant, u64), Delivery>,
    sequence: u64,
    streams: u64,
    /// Streams keep their order: nothing arrives before what was sent before it.
    last_arrival: BTreeMap<StreamId, Instant>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with_config(seed, Config::default())
    }

    pub(crate) fn with_config(seed: u64, config: Config) -> Self {
        let config = Config { in_the_clear: super::InTheClear::Allowed, ..config };
        let start = *START;
        let keys = vec![SecretKey::from_bytes([0xB0; 32])];
        let config = Config { keys: keys.clone(), ..config };
        let broker = Broker::new(config, Seed::from_number(seed + 1000), start);
        Self {
            start,
            now: start,
            weather: Weather::default(),
            broker: Some(broker),
            broker_tcp: true,
            peers: Vec::new(),
            sent: Vec::new(),
            resolves: true,
            forged: Vec::new(),
            errands: 0,
            spoofable: true,
            opened: Vec::new(),
            borrowed: BTreeMap::new(),
            sealed: false,
            keys,
            entropy: Entropy::new(Seed::from_number(seed)),
            wire: BTreeMap::new(),
            sequence: 0,
            streams: 0,
            last_arrival: BTreeMap::new(),
        }
    }

    /// The same with peers that shake hands.
    pub(crate) fn sealed(seed: u64) -> Self {
        Self { sealed: true, ..Self::new(seed) }
    }

    fn secrecy(&self, index: usize) -> client::Secrecy {
        if !self.sealed {
            return client::Secrecy::Plain;
        }
        let identity = SecretKey::from_bytes([index as u8 + 1; 32]);
        client::Secrecy::Sealed { identity, trust: client::Trust::FirstUse }
    }

    /// Adds a peer at 192.0.2.N that knows both brokers, `delay` away; it is not started.
    pub(crate) fn peer(&mut self, name: Option<&str>, delay: Duration) -> usize {
        let index = self.peers.len();
        let mut config = client::Config::new(Fingerprint([index as u8; 32]), self.secrecy(index));
        config.name = name.map(|it| it.parse().unwrap());
        config.udp_broker = Some("broker.example".parse().unwrap());
        config.tcp_broker = Some("broker.example".parse().unwrap());
        self.peer_with(config, delay)
    }

    pub(crate) fn peer_with(&mut self, config: client::Config, delay: Duration) -> usize {
        let index = self.peers.len();
        let seed = self.entropy.seed();
        let mut client = Client::new(config, Names::new(Owner(index as u32)), seed);
        client.set_udp_socket(Family::V4, udp_socket(index));
        self.peers.push(Peer {
            client,
            address: SocketAddr::from(([192, 0, 2, index as u8 + 1], 40_000)),
            delay,
            udp: true,
            alive: true,
            events: Vec::new(),
            streams: BTreeMap::new(),
            commands: 0,
        });
        index
    }

    /// Starts a peer with one candidate, its external address.
    pub(crate) fn start(&mut self, peer: usize) {
        self.start_with(peer, NatSummary::default());
    }

    /// Likewise, behind such a NAT.
    pub(crate) fn start_with(&mut self, peer: usize, nat: NatSummary) {
        let candidates = self.candidates(peer);
        let now = self.now;
        self.peers[peer].client.start(candidates, nat, now);
        self.drain();
    }

    /// A started peer that is registered.
    pub(crate) fn registered(&mut self, name: Option<&str>, delay: Duration) -> usize {
        let peer = self.peer(name, delay);
        self.start(peer);
        self.run_until_event(peer, |it| matches!(it, client::Event::Registered { .. }));
        peer
    }

    pub(crate) fn candidates(&self, peer: usize) -> Vec<Candidate> {
        vec![Candidate {
            kind: CandidateKind::ServerReflexive,
            transport: Transport::Udp,
            address: self.peers[peer].address,
        }]
    }

    pub(crate) fn call(&mut self, peer: usize, callee: &str) -> RequestId {
        self.call_round(peer, callee, Round::FIRST)
    }

    pub(crate) fn call_round(&mut self, peer: usize, callee: &str, round: Round) -> RequestId {
        let candidates = self.candidates(peer);
        let call = Call { transport: TransportChoice::Any, candidates, round };
        let now = self.now;
        let request = self.peers[peer].client.connect(&callee.parse().unwrap(), call, now);
        self.drain();
        request
    }

    /// Lets a peer do something, and carries out what it wants.
    pub(crate) fn with<T>(
        &mut self,
        peer: usize,
        act: impl FnOnce(&mut Client, Instant) -> T,
    ) -> T {
        let now = self.now;
        let result = act(&mut self.peers[peer].client, now);
        self.drain();
        result
    }

    /// The broker dies, with its streams, and another one takes its place at once.
    pub(crate) fn restart_broker(&mut self, seed: u64) {
        self.stop_broker();
        let config = Config {
            in_the_clear: super::InTheClear::Allowed,
            keys: self.keys.clone(),
            ..Config::default()
        };
        self.broker = Some(Broker::new(config, Seed::from_number(seed), self.now));
        self.broker_tcp = true;
    }

    pub(crate) fn stop_broker(&mut self) {
        self.broker = None;
        self.broker_tcp = false;
        for peer in 0..self.peers.len() {
            let streams: Vec<StreamId> = self.peers[peer].streams.values().copied().collect();
            for stream in streams {
                let delay = self.peers[peer].delay;
                let reason = IoFailure::Reset;
                self.put(delay, Delivery::StreamEnded { peer, stream, reason });
            }
        }
    }

    /// Milliseconds since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `peer` tells an event like this, and returns when; fails after a minute.
    pub(crate) fn run_until_event(
        &mut self,
        peer: usize,
        wanted: impl Fn(&client::Event) -> bool,
    ) -> Duration {
        let seen = self.peers[peer].events.len();
        let end = self.now + Duration::from_secs(60);
        loop {
            let found = self.peers[peer].events[seen..].iter().find(|(_, it)| wanted(it));
            if let Some((at, _)) = found {
                return *at;
            }
            assert!(self.step(end), "peer {peer} told only {:?}", self.peers[peer].events);
        }
    }

    /// The orders that a peer was told, with the time of the start of each.
    pub(crate) fn punches(&self, peer: usize) -> Vec<(Duration, Punch)> {
        let punch = |event: &client::Event| match event {
            client::Event::Punch { punch: TimedPunch { punch, start_at }, .. } => {
                Some((*start_at - self.start, punch.clone()))
            }
            _ => None,
        };
        self.peers[peer].events.iter().filter_map(|(_, it)| punch(it)).collect()
    }

    pub(crate) fn has_told(&self, peer: usize, wanted: impl Fn(&client::Event) -> bool) -> usize {
        self.peers[peer].events.iter().filter(|(_, it)| wanted(it)).count()
    }

    /// Hands bytes to the broker as if they came from `source`, and returns what it answers there.
    pub(crate) fn ask_broker(&mut self, source: SocketAddr, payload: &[u8]) -> Vec<Vec<u8>> {
        self.ask_broker_on(Link::Udp { local: None, remote: source }, payload)
    }

    /// The same on any link.
    pub(crate) fn ask_broker_on(&mut self, link: Link, payload: &[u8]) -> Vec<Vec<u8>> {
        let now = self.now;
        let Some(broker) = self.broker.as_mut() else { return Vec::new() };
        broker.handle_input(super::Input::Received { link, payload }, now);
        let commands: Vec<_> = std::iter::from_fn(|| broker.poll_command()).collect();
        let mut answers = Vec::new();
        for command in commands {
            match command {
                super::Command::Send { link: to, payload } if to == link => {
                    answers.push(payload);
                }
                other => self.carry_out_for_broker(other),
            }
        }
        self.drain();
        answers
    }

    /// Hands bytes to a peer as if the broker had sent them over UDP.
    pub(crate) fn tell_peer(&mut self, peer: usize, payload: &[u8]) {
        let source = BROKER_UDP.parse().unwrap();
        self.tell(peer, Input::UdpReceived { socket: udp_socket(peer), source, payload });
        self.drain();
    }

    /// Delivers what is due next, if that is before `end`.
    fn step(&mut self, end: Instant) -> bool {
        let wire = self.wire.first_key_value().map(|((at, _), _)| *at);
        let broker = self.broker.as_ref().and_then(Machine::poll_timeout).map(|it| it.at);
        let peers = self.peers.iter().filter(|it| it.alive);
        let peers = peers.filter_map(|it| it.client.poll_timeout()).map(|it| it.at).min();
        let Some(next) = [wire, broker, peers].into_iter().flatten().min() else { return false };
        if next > end {
            return false;
        }
        self.now = self.now.max(next);
        let now = self.now;
        if wire.is_some_and(|at| at <= now) {
            if let Some((_, delivery)) = self.wire.pop_first() {
                self.deliver(delivery);
            }
        } else {
            if let Some(broker) = self.broker.as_mut() {
                broker.handle_timeout(now);
            }
            for peer in self.peers.iter_mut().filter(|it| it.alive) {
                peer.client.handle_timeout(now);
            }
        }
        self.drain();
        true
    }

    fn deliver(&mut self, delivery: Delivery) {
        let now = self.now;
        match delivery {
            Delivery::ToBroker { link, payload } => {
                if let Some(broker) = self.broker.as_mut() {
                    let payload = &payload;
                    broker.handle_input(super::Input::Received { link, payload }, now);
                }
            }
            Delivery::ToPeer { peer, to, payload } => {
                let source = BROKER_UDP.parse().unwrap();
                let socket = udp_socket(peer);
                if self.peers[peer].address == to {
                    let input = Input::UdpReceived { socket, source, payload: &payload };
                    self.tell(peer, input);
                }
            }
            Delivery::ToStream { peer, stream, payload } => {
                let Some(socket) = self.socket_of(peer, stream) else { return };
                if self.borrowed.contains_key(&stream) {
                    self.peers[peer].client.handle_on_stream(socket, &payload, now);
                } else {
                    self.tell(peer, Input::TcpReceived { socket, payload: &payload });
                }
            }
            Delivery::Spoofed { peer, source, payload } => {
                let input =
                    Input::UdpReceived { socket: udp_socket(peer), source, payload: &payload };
                self.tell(peer, input);
            }
            Delivery::Connected { peer, id, socket } => self.connected(peer, id, socket),
            Delivery::StreamEnded { peer, stream, reason } => {
                if let Some(socket) = self.socket_of(peer, stream) {
                    self.peers[peer].streams.remove(&socket);
                    self.tell(peer, Input::TcpClosed { socket, reason });
                }
            }
            Delivery::StreamClosed { stream } => {
                if let Some(broker) = self.broker.as_mut() {
                    broker.handle_input(super::Input::Closed { stream }, now);
                }
            }
            Delivery::Answer { peer, id, answer } => self.tell(peer, Input::Answer { id, answer }),
        }
    }

    fn tell(&mut self, peer: usize, input: Input<'_>) {
        let now = self.now;
        if self.peers[peer].alive {
            self.peers[peer].client.handle_input(input, now);
        }
    }

    fn connected(&mut self, peer: usize, id: CommandId, socket: SocketId) {
        let result = if self.broker_tcp {
            self.streams += 1;
            self.peers[peer].streams.insert(socket, StreamId(self.streams));
            let local = self.peers[peer].address;
            Ok(Ends { local, remote: BROKER_TCP.parse().unwrap() })
        } else {
            Err(IoFailure::Refused)
        };
        self.tell(peer, Input::Answer { id, answer: Answer::Connected(result) });
    }

    fn socket_of(&self, peer: usize, stream: StreamId) -> Option<SocketId> {
        let streams = self.peers[peer].streams.iter();
        streams.filter(|(_, it)| **it == stream).map(|(socket, _)| *socket).next()
    }

    /// Takes out what everybody wants, until nobody wants anything.
    fn drain(&mut self) {
        for peer in 0..self.peers.len() {
            while let Some(command) = self.peers[peer].client.poll_command() {
                assert!(command.id().serial > self.peers[peer].commands, "a name given twice");
                self.peers[peer].commands = command.id().serial;
                if self.peers[peer].alive {
                    self.carry_out(peer, command);
                }
            }
            while let Some(event) = self.peers[peer].client.poll_event() {
                let at = self.elapsed();
                self.peers[peer].events.push((at, event));
            }
        }
        while let Some(command) = self.broker.as_mut().and_then(Machine::poll_command) {
            self.carry_out_for_broker(command);
        }
        while self.broker.as_mut().and_then(Machine::poll_event).is_some() {}
    }

    fn carry_out(&mut self, peer: usize, command: Command) {
        let delay = self.peers[peer].delay;
        match command {
            Command::SendUdp { id, socket, remote, payload, .. } => {
                assert_eq!(socket, udp_socket(peer));
                if remote != BROKER_UDP.parse().unwrap() {
                    self.opened.push((peer, remote));
                    return self.answer(peer, id, Answer::Sent(Ok(())));
                }
                self.note(peer, true, Transport::Udp, &payload);
                let link = Link::Udp { local: None, remote: self.peers[peer].address };
                if self.peers[peer].udp {
                    self.blow(delay, |payload| Delivery::ToBroker { link, payload }, &payload);
                }
                self.answer(peer, id, Answer::Sent(Ok(())));
            }
            Command::SendTcp { id, socket, payload } => {
                self.note(peer, true, Transport::Tcp, &payload);
                let stream = self.peers[peer].streams.get(&socket).copied();
                if let Some(stream) = stream {
                    let remote = self.stream_address(peer, stream);
                    let link = Link::Tcp { stream, remote };
                    self.put_on_stream(stream, delay, Delivery::ToBroker { link, payload });
                }
                let sent = if stream.is_some() { Ok(()) } else { Err(IoFailure::Closed) };
                self.answer(peer, id, Answer::Sent(sent));
            }
            Command::ConnectTcp { id, socket, remote, .. } => {
                assert_eq!(remote, BROKER_TCP.parse().unwrap());
                self.put(delay * 2, Delivery::Connected { peer, id, socket });
            }
            Command::Close { id, socket } | Command::Abort { id, socket } => {
                if let Some(stream) = self.peers[peer].streams.remove(&socket) {
                    self.put_on_stream(stream, delay, Delivery::StreamClosed { stream });
                }
                self.answer(peer, id, Answer::Closed);
            }
            Command::Resolve { id, host, port } => {
                let ip: IpAddr = "198.51.100.1".parse().unwrap();
                let addresses = vec![SocketAddr::new(ip, port)];
                assert_eq!(host, "broker.example");
                let answer =
                    if self.resolves { Ok(addresses) } else { Err(IoFailure::UnknownHost) };
                self.answer(peer, id, Answer::Resolved(answer));
            }
            Command::InjectPacket { id, packet } => {
                self.forge(&packet);
                self.answer(peer, id, Answer::Sent(Ok(())));
            }
            other => panic!("a client does not want {other:?}"),
        }
    }

    /// A datagram in another's name, where that gets out.
    fn spoof(&mut self, source: SocketAddr, destination: SocketAddr, payload: Vec<u8>) {
        let peer = self.peers.iter().position(|it| it.address == destination).unwrap();
        let delay = self.peers[peer].delay;
        if self.opened.contains(&(peer, source)) {
            self.put(delay, Delivery::Spoofed { peer, source, payload });
        }
    }

    /// A forger sends a raw IPv4 packet; its network lets everything out.
    fn forge(&mut self, packet: &[u8]) {
        self.errands += 1;
        if let Some((segment, ttl)) = Segment::parse(packet) {
            self.forged.push((self.elapsed(), segment, ttl));
            return;
        }
        let address = |ip: usize, port: usize| {
            let octets: [u8; 4] = packet[ip..ip + 4].try_into().unwrap();
            SocketAddr::from((octets, u16::from_be_bytes([packet[port], packet[port + 1]])))
        };
        let payload = packet[28..].to_vec();
        self.spoof(address(12, 20), address(16, 22), payload);
    }

    fn carry_out_for_broker(&mut self, command: super::Command) {
        match command {
            super::Command::Send { link: Link::Udp { remote, .. }, payload } => {
                let Some(peer) = self.peers.iter().position(|it| it.address == remote) else {
                    return;
                };
                self.note(peer, false, Transport::Udp, &payload);
                let delay = self.peers[peer].delay;
                let to = remote;
                self.blow(delay, |payload| Delivery::ToPeer { peer, to, payload }, &payload);
            }
            super::Command::Send { link: Link::Tcp { stream, .. }, payload } => {
                let Some(peer) = (0..self.peers.len())
                    .find(|it| self.peers[*it].streams.values().any(|ours| *ours == stream))
                else {
                    return;
                };
                self.note(peer, false, Transport::Tcp, &payload);
                let delay = self.peers[peer].delay;
                self.put_on_stream(stream, delay, Delivery::ToStream { peer, stream, payload });
            }
            super::Command::Send { link: Link::Broker { .. }, .. }
            | super::Command::Claim { .. }
            | super::Command::Release { .. }
            | super::Command::Find { .. }
            | super::Command::Post { .. } => panic!("a broker alone does not want {command:?}"),
            super::Command::Inject { segment, ttl } => {
                self.forged.push((self.elapsed(), segment, ttl));
            }
            super::Command::InjectDatagram { source, destination, payload, .. } => {
                if self.spoofable {
                    self.spoof(source, destination, payload);
                }
            }
            super::Command::Close { stream } => {
                let has = |it: &Peer| it.streams.values().any(|ours| *ours == stream);
                if let Some(peer) = self.peers.iter().position(has) {
                    let delay = self.peers[peer].delay;
                    let reason = IoFailure::Closed;
                    let ended = Delivery::StreamEnded { peer, stream, reason };
                    self.put_on_stream(stream, delay, ended);
                }
            }
        }
    }

    fn tcp_address(&self, peer: usize) -> SocketAddr {
        SocketAddr::new(self.peers[peer].address.ip(), 50_000)
    }

    fn stream_address(&self, peer: usize, stream: StreamId) -> SocketAddr {
        self.borrowed.get(&stream).copied().unwrap_or_else(|| self.tcp_address(peer))
    }

    /// A stream of `peer` to the broker that is not its client's own, as the broker sees it.
    pub(crate) fn borrow_stream(&mut self, peer: usize, address: SocketAddr) -> SocketId {
        self.streams += 1;
        let (stream, serial) = (StreamId(self.streams), self.streams);
        let socket = SocketId { owner: Owner(2000), serial };
        self.peers[peer].streams.insert(socket, stream);
        self.borrowed.insert(stream, address);
        socket
    }

    /// A borrowed stream ends.
    pub(crate) fn end_stream(&mut self, peer: usize, socket: SocketId) {
        if let Some(stream) = self.peers[peer].streams.remove(&socket) {
            let delay = self.peers[peer].delay;
            self.put_on_stream(stream, delay, Delivery::StreamClosed { stream });
        }
    }

    fn note(&mut self, peer: usize, to_broker: bool, over: Transport, payload: &[u8]) {
        let at = self.elapsed();
        self.sent.push(Sent { at, to_broker, peer, over, payload: payload.to_vec() });
    }

    fn answer(&mut self, peer: usize, id: CommandId, answer: Answer) {
        self.put(Duration::ZERO, Delivery::Answer { peer, id, answer });
    }

    /// A datagram goes through the weather.
    fn blow(&mut self, delay: Duration, delivery: impl Fn(Vec<u8>) -> Delivery, payload: &[u8]) {
        let copies = if self.entropy.below(1000) < self.weather.doubled { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = self.entropy.jitter(self.weather.jitter);
            if self.entropy.below(1000) >= self.weather.lost {
                self.put(delay + jitter, delivery(payload.to_vec()));
            }
        }
    }

    fn put_on_stream(&mut self, stream: StreamId, delay: Duration, delivery: Delivery) {
        let last = self.last_arrival.get(&stream).copied().unwrap_or(self.start);
        let at = (self.now + delay).max(last);
        self.last_arrival.insert(stream, at);
        self.put(at - self.now, delivery);
    }

    fn put(&mut self, delay: Duration, delivery: Delivery) {
        self.sequence += 1;
        self.wire.insert((self.now + delay, self.sequence), delivery);
    }
}

pub(crate) fn udp_socket(peer: usize) -> SocketId {
    SocketId { owner: Owner(1000), serial: peer as u64 }
}
