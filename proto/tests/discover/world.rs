//! One host, the boxes before it, and servers beyond, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ntcp_proto::candidate::Transport;
use ntcp_proto::command::Ends;
use ntcp_proto::discover::{Discovery, Event, Findings};
use ntcp_proto::{Answer, Command, CommandId, Input, IoFailure, Machine, Owner, SocketId};

use crate::dice::Dice;
use crate::nat::{Inward, Nat};
use crate::server::{Server, Tcp};

/// Turns of the loop at one instant before the machine counts as looping.
const MAX_TURNS: u32 = 500;

#[derive(Debug)]
enum Happening {
    ToServer {
        from: SocketAddr,
        to: SocketAddr,
        payload: Vec<u8>,
    },
    /// Before the outermost NAT.
    ToNat {
        from: SocketAddr,
        to: SocketAddr,
        payload: Vec<u8>,
    },
    /// At the host.
    ToHost {
        from: SocketAddr,
        to: SocketAddr,
        payload: Vec<u8>,
    },
    Resolved {
        id: CommandId,
        result: Result<Vec<SocketAddr>, IoFailure>,
    },
    Connected {
        id: CommandId,
        socket: SocketId,
        result: Result<Ends, IoFailure>,
    },
    StreamToServer {
        socket: SocketId,
        payload: Vec<u8>,
    },
    StreamToHost {
        socket: SocketId,
        payload: Vec<u8>,
    },
}

#[derive(Debug)]
struct Stream {
    external: SocketAddr,
    remote: SocketAddr,
}

pub(crate) struct World {
    /// From the host outwards.
    pub(crate) nats: Vec<Box<dyn Nat>>,
    pub(crate) servers: Vec<Server>,
    pub(crate) interfaces: Vec<IpAddr>,
    /// Names with their addresses and how long the answer takes; none is unknown.
    pub(crate) names: BTreeMap<String, (Duration, Vec<SocketAddr>)>,
    pub(crate) delay: Duration,
    /// Extra delay of a packet, at most.
    pub(crate) jitter: Duration,
    /// Of every packet in each direction, in percent.
    pub(crate) loss: u64,
    pub(crate) udp_blocked: bool,
    /// Whether every input comes twice, and a part of every datagram before it.
    pub(crate) echoes: bool,
    pub(crate) dice: Dice,
    start: Instant,
    now: Instant,
    queue: BTreeMap<(Instant, u64), Happening>,
    queued: u64,
    udp: BTreeMap<SocketId, SocketAddr>,
    streams: BTreeMap<SocketId, Stream>,
    listeners: BTreeSet<SocketId>,
    given: BTreeSet<CommandId>,
    next_port: u16,
    pub(crate) datagrams: u32,
}

/// How a discovery went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) findings: Findings,
    pub(crate) took: Duration,
    pub(crate) events: Vec<Event>,
    pub(crate) datagrams: u32,
    /// Every command with its instant, for comparing runs.
    pub(crate) trace: Vec<(Duration, Command)>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a test needs some origin of its instants")]
    pub(crate) fn new(host: &str, seed: u64) -> Self {
        let start = Instant::now();
        Self {
            nats: Vec::new(),
            servers: Vec::new(),
            interfaces: vec![host.parse().unwrap()],
            names: BTreeMap::new(),
            delay: Duration::from_millis(20),
            jitter: Duration::ZERO,
            loss: 0,
            udp_blocked: false,
            echoes: false,
            dice: Dice::new(seed),
            start,
            now: start,
            queue: BTreeMap::new(),
            queued: 0,
            udp: BTreeMap::new(),
            streams: BTreeMap::new(),
            listeners: BTreeSet::new(),
            given: BTreeSet::new(),
            next_port: 0,
            datagrams: 0,
        }
    }

    pub(crate) fn behind(mut self, nat: impl Nat + 'static) -> Self {
        self.nats.push(Box::new(nat));
        self
    }

    pub(crate) fn with(mut self, server: Server) -> Self {
        self.servers.push(server);
        self
    }

    /// A name that takes so long to look up.
    pub(crate) fn named(mut self, name: &str, delay_ms: u64, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
        self.names.insert(name.into(), (Duration::from_millis(delay_ms), addresses));
        self
    }

    /// Runs until the discovery has finished.
    pub(crate) fn run(&mut self, make: impl FnOnce(Instant) -> Discovery) -> Outcome {
        let mut machine = make(self.now);
        let (mut events, mut trace) = (Vec::new(), Vec::new());
        let mut turns = 0;
        loop {
            self.drain(&mut machine, &mut events, &mut trace);
            let happening = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = machine.poll_timeout();
            let Some(deadline) = deadline else { break };
            let before = self.now;
            match happening.filter(|at| *at <= deadline.at) {
                Some(at) => {
                    self.now = self.now.max(at);
                    let (_, happening) = self.queue.pop_first().unwrap();
                    self.happen(happening, &mut machine);
                }
                None => {
                    self.now = self.now.max(deadline.at);
                    machine.handle_timeout(self.now);
                }
            }
            turns = if self.now == before { turns + 1 } else { 0 };
            assert!(turns < MAX_TURNS, "busy loop: {}", deadline.reason);
        }
        let late = Input::UdpReceived {
            socket: SocketId { owner: Owner(7), serial: 1 },
            source: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3478),
            payload: b"late",
        };
        machine.handle_input(late, self.now);
        machine.handle_timeout(self.now);
        assert_eq!(machine.poll_command(), None, "a finished machine has no commands");
        assert_eq!(machine.poll_event(), None, "a finished machine has no events");
        assert_eq!(machine.poll_timeout(), None, "a finished machine has no deadline");
        let are_closed =
            self.udp.is_empty() && self.streams.is_empty() && self.listeners.is_empty();
        assert!(are_closed, "a finished machine has no sockets");
        let findings = events.iter().find_map(|it| match it {
            Event::Finished(findings) => Some((**findings).clone()),
            _ => None,
        });
        let (took, datagrams) = (self.now - self.start, self.datagrams);
        Outcome { findings: findings.expect("finished"), took, events, datagrams, trace }
    }

    fn drain(
        &mut self,
        machine: &mut Discovery,
        events: &mut Vec<Event>,
        trace: &mut Vec<(Duration, Command)>,
    ) {
        loop {
            events.extend(std::iter::from_fn(|| machine.poll_event()));
            let Some(command) = machine.poll_command() else { return };
            assert!(self.given.insert(command.id()), "{command:?}: the name was given before");
            trace.push((self.now - self.start, command.clone()));
            if let Some(answer) = self.carry_out(command.clone()) {
                machine.handle_input(Input::Answer { id: command.id(), answer }, self.now);
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> Option<Answer> {
        match command {
            Command::ListInterfaces { .. } => Some(Answer::Interfaces(self.interfaces.clone())),
            Command::Resolve { id, host, port } => {
                self.resolve(id, &host, port);
                None
            }
            Command::BindUdp { socket, local, .. } => {
                let local = self.bind(local);
                self.udp.insert(socket, local);
                Some(Answer::Bound(Ok(local)))
            }
            Command::SendUdp { socket, remote, payload, .. } => {
                let from = self.udp[&socket];
                self.datagrams += 1;
                self.send(from, remote, payload);
                Some(Answer::Sent(Ok(())))
            }
            Command::ConnectTcp { id, socket, local, remote, .. } => {
                self.connect(id, socket, local, remote);
                None
            }
            Command::SendTcp { socket, payload, .. } => {
                self.later(self.delay, Happening::StreamToServer { socket, payload });
                Some(Answer::Sent(Ok(())))
            }
            Command::ListenTcp { socket, local, .. } => {
                let local = self.bind(local);
                self.listeners.insert(socket);
                Some(Answer::Bound(Ok(local)))
            }
            Command::Capture { .. } => Some(Answer::Done(Err(IoFailure::NotPermitted))),
            Command::Close { socket, .. } | Command::Abort { socket, .. } => {
                self.udp.remove(&socket);
                self.streams.remove(&socket);
                self.listeners.remove(&socket);
                Some(Answer::Closed)
            }
            other => panic!("a discovery does not want {other:?}"),
        }
    }

    /// Numbers ports in sequence, which is the hardest for a classifier.
    fn bind(&mut self, local: SocketAddr) -> SocketAddr {
        let family = |ip: &&IpAddr| ip.is_ipv4() == local.is_ipv4();
        let ip = self.interfaces.iter().find(family).copied().unwrap_or(local.ip());
        if local.port() != 0 {
            return SocketAddr::new(ip, local.port());
        }
        self.next_port += 1;
        SocketAddr::new(ip, 49_152 + self.next_port)
    }

    fn resolve(&mut self, id: CommandId, host: &str, port: u16) {
        let (delay, result) = match (host.parse::<IpAddr>(), self.names.get(host)) {
            (Ok(ip), _) => (Duration::ZERO, Ok(vec![SocketAddr::new(ip, port)])),
            (Err(_), Some((delay, addresses))) => (*delay, Ok(addresses.clone())),
            (Err(_), None) => (Duration::from_millis(5), Err(IoFailure::UnknownHost)),
        };
        self.later(delay, Happening::Resolved { id, result });
    }

    fn later(&mut self, delay: Duration, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now + delay, self.queued), happening);
    }

    fn travel(&mut self) -> Duration {
        let jitter = self.jitter.as_micros() as u64;
        self.delay + Duration::from_micros(if jitter == 0 { 0 } else { self.dice.below(jitter) })
    }

    /// From the host through all NATs; a packet to an address of a NAT may turn there.
    fn send(&mut self, from: SocketAddr, to: SocketAddr, payload: Vec<u8>) {
        if self.interfaces.contains(&to.ip()) {
            return self.later(Duration::ZERO, Happening::ToHost { from, to, payload });
        }
        let mut source = from;
        for index in 0..self.nats.len() {
            source = self.nats[index].outward(Transport::Udp, source, to);
            if to.ip() == self.nats[index].public_ip() {
                if self.nats[index].hairpins()
                    && let Some(to) = self.inward(Transport::Udp, source, to, index)
                {
                    self.later(Duration::ZERO, Happening::ToHost { from: source, to, payload });
                }
                return;
            }
        }
        let delay = self.travel();
        if !self.udp_blocked && !self.dice.hits(self.loss) {
            self.later(delay, Happening::ToServer { from: source, to, payload });
        }
    }

    /// Through the NATs from number `outermost` to the host.
    fn inward(
        &mut self,
        transport: Transport,
        from: SocketAddr,
        to: SocketAddr,
        outermost: usize,
    ) -> Option<SocketAddr> {
        let mut target = to;
        for nat in self.nats[..=outermost].iter_mut().rev() {
            match nat.inward(transport, from, target) {
                Inward::To(inside) => target = inside,
                Inward::Dropped => return None,
            }
        }
        Some(target)
    }

    fn connect(&mut self, id: CommandId, socket: SocketId, local: SocketAddr, remote: SocketAddr) {
        let local = self.bind(local);
        if let Some(is_reached) = self.turns_back(remote) {
            self.streams.insert(socket, Stream { external: local, remote });
            if is_reached {
                let result = Ok(Ends { local, remote });
                self.later(Duration::ZERO, Happening::Connected { id, socket, result });
            }
            return;
        }
        let mut external = local;
        for nat in &mut self.nats {
            external = nat.outward(Transport::Tcp, external, remote);
        }
        self.streams.insert(socket, Stream { external, remote });
        let mut delay = self.travel() + self.travel();
        if self.dice.hits(self.loss) || self.dice.hits(self.loss) {
            delay += Duration::from_secs(1);
        }
        let server = self.servers.iter().find(|it| it.owns(remote));
        let result = match server.map(|it| it.tcp) {
            Some(Tcp::Serves) => Ok(Ends { local, remote }),
            Some(Tcp::Refuses) => Err(IoFailure::Refused),
            Some(Tcp::Silent) | None => return,
        };
        self.later(delay, Happening::Connected { id, socket, result });
    }

    /// Whether a connection to an address of this host or of its NATs gets there; `None` if it is
    /// none of these.
    fn turns_back(&self, remote: SocketAddr) -> Option<bool> {
        if self.interfaces.contains(&remote.ip()) {
            return Some(true);
        }
        let nat = self.nats.iter().find(|it| it.public_ip() == remote.ip())?;
        Some(nat.hairpins())
    }

    fn happen(&mut self, happening: Happening, machine: &mut Discovery) {
        let now = self.now;
        match happening {
            Happening::ToServer { from, to, payload } => {
                let Some(server) = self.servers.iter_mut().find(|it| it.owns(to)) else { return };
                if let Some((source, payload)) = server.answer(Transport::Udp, to, from, &payload)
                    && !self.dice.hits(self.loss)
                {
                    let delay = self.travel();
                    let back = Happening::ToNat { from: source, to: from, payload };
                    self.later(delay, back);
                }
            }
            Happening::ToNat { from, to, payload } => {
                let target = match self.nats.len().checked_sub(1) {
                    Some(outermost) => self.inward(Transport::Udp, from, to, outermost),
                    None => Some(to),
                };
                if let Some(to) = target {
                    self.later(Duration::ZERO, Happening::ToHost { from, to, payload });
                }
            }
            Happening::ToHost { from, to, payload } => {
                let socket = self.udp.iter().find(|(_, local)| **local == to).map(|it| *it.0);
                if let Some(socket) = socket {
                    let input = |payload| Input::UdpReceived { socket, source: from, payload };
                    if self.echoes {
                        machine.handle_input(input(&payload[..payload.len() / 2]), now);
                        machine.handle_input(input(&payload), now);
                    }
                    machine.handle_input(input(&payload), now);
                }
            }
            Happening::Resolved { id, result } => {
                machine.handle_input(Input::Answer { id, answer: Answer::Resolved(result) }, now);
            }
            Happening::Connected { id, socket, result } => {
                if result.is_err() {
                    self.streams.remove(&socket);
                }
                let input = || Input::Answer { id, answer: Answer::Connected(result) };
                if self.echoes {
                    machine.handle_input(input(), now);
                }
                machine.handle_input(input(), now);
            }
            Happening::StreamToServer { socket, payload } => {
                let Some(stream) = self.streams.get(&socket) else { return };
                let (from, remote) = (stream.external, stream.remote);
                let server = self.servers.iter_mut().find(|it| it.owns(remote));
                if let Some((_, payload)) =
                    server.and_then(|it| it.answer(Transport::Tcp, remote, from, &payload))
                {
                    self.later(self.delay, Happening::StreamToHost { socket, payload });
                }
            }
            Happening::StreamToHost { socket, payload } => {
                if self.streams.contains_key(&socket) {
                    if self.echoes {
                        machine.handle_input(Input::TcpReceived { socket, payload: &payload }, now);
                    }
                    machine.handle_input(Input::TcpReceived { socket, payload: &payload }, now);
                }
            }
        }
    }
}
