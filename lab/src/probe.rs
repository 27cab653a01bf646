//! A machine for tests that does what it is told and remembers what happened.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_proto::command::{Agreed, Ends, Names};
use ntcp_proto::segment::Segment;
use ntcp_proto::{
    Answer, Command, CommandId, Deadline, Hops, Input, IoFailure, Machine, Owner, SocketId,
};

use crate::world::{HostId, ProcessId, World};

/// What happened to a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Answer(CommandId, Answer),
    Datagram { socket: SocketId, source: SocketAddr, payload: Vec<u8> },
    Accepted { listener: SocketId, socket: SocketId, ends: Ends },
    Message { socket: SocketId, payload: Vec<u8> },
    Ended { socket: SocketId, reason: IoFailure },
    Captured { socket: SocketId, segment: Segment },
}

/// The machine.
pub(crate) struct Probe {
    names: Names,
    commands: VecDeque<Command>,
    told: VecDeque<Told>,
    connects: BTreeMap<CommandId, SocketId>,
    outcomes: BTreeMap<SocketId, (Instant, Result<Ends, IoFailure>)>,
    pub(crate) answers: BTreeMap<CommandId, Answer>,
    /// Connect again at once after a refusal, from the same port, until this many were tried.
    pub(crate) retries: u32,
    redials: BTreeMap<SocketId, (SocketAddr, SocketAddr, u32, SocketId)>,
}

impl Probe {
    pub(crate) fn new() -> Self {
        Self {
            names: Names::new(Owner(1)),
            commands: VecDeque::new(),
            told: VecDeque::new(),
            connects: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            answers: BTreeMap::new(),
            retries: 0,
            redials: BTreeMap::new(),
        }
    }

    fn connect(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        hops: Hops,
        left: u32,
        first: Option<SocketId>,
    ) -> SocketId {
        let (id, socket) = (self.names.command(), self.names.socket());
        self.connects.insert(id, socket);
        let first = first.unwrap_or(socket);
        self.redials.insert(socket, (local, remote, left, first));
        let connect = Command::ConnectTcp { id, socket, local, remote, hops, sequence: None };
        self.commands.push_back(connect);
        socket
    }

    fn connected(&mut self, id: CommandId, result: Result<Ends, IoFailure>, now: Instant) {
        let Some(socket) = self.connects.remove(&id) else { return };
        let Some((local, remote, left, first)) = self.redials.get(&socket).copied() else {
            self.outcomes.insert(socket, (now, result));
            return;
        };
        let again = matches!(result, Err(IoFailure::Refused | IoFailure::HostUnreachable));
        if again && left > 0 {
            self.connect(local, remote, Hops::USUAL, left - 1, Some(first));
        } else {
            self.outcomes.insert(first, (now, result));
        }
    }
}

impl Machine for Probe {
    type Input<'a> = Input<'a>;
    type Command = Command;
    type Event = Told;

    fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        let told = match input {
            Input::Answer { id, answer } => {
                if let Answer::Connected(result) = &answer {
                    self.connected(id, *result, now);
                }
                self.answers.insert(id, answer.clone());
                Told::Answer(id, answer)
            }
            Input::UdpReceived { socket, source, payload } => {
                Told::Datagram { socket, source, payload: payload.to_vec() }
            }
            Input::TcpAccepted { listener, socket, ends } => {
                Told::Accepted { listener, socket, ends }
            }
            Input::TcpReceived { socket, payload } => {
                Told::Message { socket, payload: payload.to_vec() }
            }
            Input::TcpClosed { socket, reason } => Told::Ended { socket, reason },
            Input::Captured { socket, segment } => Told::Captured { socket, segment },
        };
        self.told.push_back(told);
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn poll_event(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}

/// A probe on a host of a world.
#[derive(Clone, Copy)]
pub(crate) struct Handle(pub(crate) ProcessId<Probe>);

impl Handle {
    pub(crate) fn start(world: &mut World, host: HostId) -> Self {
        Self(world.run(host, Probe::new()))
    }

    /// Connects again at once after each refusal.
    pub(crate) fn retry(self, world: &mut World, times: u32) {
        world.command(self.0, |probe, _| probe.retries = times);
    }

    pub(crate) fn bind(self, world: &mut World, local: &str) -> SocketId {
        let local = local.parse().unwrap();
        world.command(self.0, |probe, _| {
            let (id, socket) = (probe.names.command(), probe.names.socket());
            probe.commands.push_back(Command::BindUdp { id, socket, local });
            socket
        })
    }

    pub(crate) fn send(self, world: &mut World, socket: SocketId, to: SocketAddr, bytes: &[u8]) {
        self.send_ttl(world, socket, to, bytes, None);
    }

    pub(crate) fn send_ttl(
        self,
        world: &mut World,
        socket: SocketId,
        remote: SocketAddr,
        bytes: &[u8],
        ttl: Option<u8>,
    ) {
        let payload = bytes.to_vec();
        world.command(self.0, |probe, _| {
            let id = probe.names.command();
            probe.commands.push_back(Command::SendUdp { id, socket, remote, ttl, payload });
        });
    }

    pub(crate) fn listen(self, world: &mut World, local: &str) -> SocketId {
        let local = local.parse().unwrap();
        world.command(self.0, |probe, _| {
            let (id, socket) = (probe.names.command(), probe.names.socket());
            probe.commands.push_back(Command::ListenTcp { id, socket, local });
            socket
        })
    }

    pub(crate) fn connect(self, world: &mut World, local: &str, to: SocketAddr) -> SocketId {
        self.connect_ttl(world, local, to, None)
    }

    pub(crate) fn connect_ttl(
        self,
        world: &mut World,
        local: &str,
        to: SocketAddr,
        ttl: Option<u8>,
    ) -> SocketId {
        self.connect_with(world, local, to, Hops { ttl, least: None })
    }

    pub(crate) fn connect_with(
        self,
        world: &mut World,
        local: &str,
        to: SocketAddr,
        hops: Hops,
    ) -> SocketId {
        let local = local.parse().unwrap();
        world.command(self.0, |probe, _| {
            let left = probe.retries;
            probe.connect(local, to, hops, left, None)
        })
    }

    #[cfg(test)]
    /// Connects with a chosen initial sequence number, once.
    pub(crate) fn connect_numbered(
        self,
        world: &mut World,
        local: &str,
        to: SocketAddr,
        hops: Hops,
        sequence: u32,
    ) -> SocketId {
        let local = local.parse().unwrap();
        self.open(world, |id, socket| Command::ConnectTcp {
            id,
            socket,
            local,
            remote: to,
            hops,
            sequence: Some(sequence),
        })
    }

    /// Opens a connection without a handshake.
    pub(crate) fn assume(
        self,
        world: &mut World,
        ends: Ends,
        agreed: Agreed,
        hops: Hops,
    ) -> SocketId {
        self.open(world, |id, socket| Command::AssumeTcp { id, socket, ends, agreed, hops })
    }

    /// Gives a command that opens a connection, once.
    fn open(
        self,
        world: &mut World,
        build: impl FnOnce(CommandId, SocketId) -> Command,
    ) -> SocketId {
        world.command(self.0, |probe, _| {
            let (id, socket) = (probe.names.command(), probe.names.socket());
            probe.connects.insert(id, socket);
            probe.commands.push_back(build(id, socket));
            socket
        })
    }

    /// Captures the SYN from `local` to `remote`.
    pub(crate) fn capture(self, world: &mut World, local: &str, remote: SocketAddr) -> SocketId {
        let ends = Ends { local: local.parse().unwrap(), remote };
        world.command(self.0, |probe, _| {
            let (id, socket) = (probe.names.command(), probe.names.socket());
            probe.commands.push_back(Command::Capture { id, socket, ends });
            socket
        })
    }

    /// What a capture has seen.
    pub(crate) fn captured(self, world: &mut World, capture: SocketId) -> Option<Segment> {
        self.told(world).into_iter().find_map(|told| match told {
            Told::Captured { socket, segment } if socket == capture => Some(segment),
            _ => None,
        })
    }

    /// Injects a segment.
    pub(crate) fn inject(self, world: &mut World, segment: Segment, ttl: u8) -> Option<Answer> {
        self.command(world, |id| Command::Inject { id, segment, ttl })
    }

    /// Changes how a stream's segments travel.
    pub(crate) fn adjust(self, world: &mut World, socket: SocketId, hops: Hops) {
        self.command(world, |id| Command::AdjustTcp { id, socket, hops });
    }

    pub(crate) fn message(self, world: &mut World, socket: SocketId, payload: Vec<u8>) {
        world.command(self.0, |probe, _| {
            let id = probe.names.command();
            probe.commands.push_back(Command::SendTcp { id, socket, payload });
        });
    }

    pub(crate) fn close(self, world: &mut World, socket: SocketId) {
        world.command(self.0, |probe, _| {
            let id = probe.names.command();
            probe.commands.push_back(Command::Close { id, socket });
        });
    }

    pub(crate) fn command(
        self,
        world: &mut World,
        build: impl FnOnce(CommandId) -> Command,
    ) -> Option<Answer> {
        let id = world.command(self.0, |probe, _| {
            let id = probe.names.command();
            let command = build(id);
            probe.commands.push_back(command);
            id
        });
        world.machine(self.0).answers.get(&id).cloned()
    }

    /// How connecting ended, and when since the start of the world; the last of its retries counts.
    pub(crate) fn outcome(
        self,
        world: &mut World,
        socket: SocketId,
    ) -> Option<(Duration, Result<Ends, IoFailure>)> {
        let start = world.now() - world.clock();
        let outcome = world.machine(self.0).outcomes.get(&socket).copied();
        outcome.map(|(at, result)| (at - start, result))
    }

    pub(crate) fn told(self, world: &mut World) -> Vec<Told> {
        world.events(self.0).iter().map(|(_, told)| told.clone()).collect()
    }

    /// The sources and payloads of the datagrams that arrived.
    pub(crate) fn datagrams(self, world: &mut World) -> Vec<(SocketAddr, Vec<u8>)> {
        let told = self.told(world);
        told.into_iter()
            .filter_map(|told| match told {
                Told::Datagram { source, payload, .. } => Some((source, payload)),
                _ => None,
            })
            .collect()
    }
}
