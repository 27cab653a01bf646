//! The virtual-time shell: carries one machine of the peer vocabulary on a simulated host.
//!
//! It does what the `ntcp` crate's driver does with real sockets, and checks the contract of
//! [`ntcp_proto`] while doing so. A breach panics with its culprit: a command name used twice, a
//! command without end, a deadline that stays in the past (a busy loop, by the reason the deadline
//! gives), or anything left over in a machine that was said to have finished.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ntcp_proto::command::Ends;
use ntcp_proto::{
    Answer, Command, CommandId, Deadline, Hops, Input, IoFailure, Machine, SocketId, address,
};
use ntcp_stun::framing::{Frame, frame};

use crate::host::{Host, Notice, Socket};

/// Longest message a stream may carry to a machine, in bytes.
const MAX_MESSAGE: usize = 8192;

/// Inputs and commands of one machine at one instant before it counts as a busy loop.
const MOST_AT_ONCE: u32 = 100_000;

/// Times a deadline may be at or before the present moment before it counts as a busy loop.
const MOST_SPINS: u32 = 1000;

/// What a process may use of its host.
pub(crate) struct System<'a> {
    pub(crate) host: &'a mut Host,
    pub(crate) names: &'a BTreeMap<String, Vec<IpAddr>>,
    pub(crate) now: Instant,
    /// The present moment since the start of the world.
    pub(crate) clock: Duration,
}

/// A program on a simulated host.
pub(crate) trait Process {
    /// Whether what happened concerns a socket of this process.
    fn owns(&self, notice: &Notice) -> bool;
    fn handle_notice(&mut self, notice: Notice, system: &mut System<'_>);
    fn handle_timeout(&mut self, system: &mut System<'_>);
    fn deadline(&self) -> Option<Deadline>;
    /// The program is killed: the system closes what it had open.
    fn close_all(&mut self, system: &mut System<'_>);
    fn as_any(&mut self) -> &mut dyn Any;
}

/// A machine on a host.
pub(crate) struct Runner<M: Machine> {
    pub(crate) machine: M,
    pub(crate) events: Vec<(Duration, M::Event)>,
    sockets: BTreeMap<SocketId, Socket>,
    ids: BTreeMap<Socket, SocketId>,
    connecting: BTreeMap<SocketId, CommandId>,
    /// Bytes of each stream that are not a whole message yet.
    streams: BTreeMap<SocketId, Vec<u8>>,
    answers: VecDeque<(CommandId, Answer)>,
    accepted: u64,
    seen: BTreeSet<CommandId>,
    unanswered: BTreeSet<CommandId>,
    spins: u32,
    last_timeout: Option<Instant>,
    pub(crate) repetition: Repetition,
}

/// How often the machine is told each thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repetition {
    Once,
    /// Twice: inputs may be duplicated, and must then change nothing.
    Twice,
}

impl<M> Runner<M>
where
    M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command> + 'static,
{
    pub(crate) fn new(machine: M) -> Self {
        Self {
            machine,
            events: Vec::new(),
            sockets: BTreeMap::new(),
            ids: BTreeMap::new(),
            connecting: BTreeMap::new(),
            streams: BTreeMap::new(),
            answers: VecDeque::new(),
            accepted: 0,
            seen: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            spins: 0,
            last_timeout: None,
            repetition: Repetition::Once,
        }
    }

    fn hand(&mut self, input: Input<'_>, now: Instant) {
        if self.repetition == Repetition::Twice {
            self.machine.handle_input(input.clone(), now);
        }
        self.machine.handle_input(input, now);
    }

    /// Carries out what the machine wants until it wants nothing more.
    pub(crate) fn drain(&mut self, system: &mut System<'_>) {
        for _ in 0..MOST_AT_ONCE {
            if let Some(command) = self.machine.poll_command() {
                self.carry_out(command, system);
            } else if let Some(event) = self.machine.poll_event() {
                self.events.push((system.clock, event));
            } else if let Some((id, answer)) = self.answers.pop_front() {
                self.hand(Input::Answer { id, answer }, system.now);
            } else {
                return;
            }
        }
        let deadline = self.machine.poll_timeout();
        panic!("a machine wants more and more without any time passing; deadline {deadline:?}");
    }

    /// Panics unless the machine has finished: no deadline, nothing unanswered.
    pub(crate) fn assert_finished(&self) {
        let deadline = self.machine.poll_timeout();
        assert!(deadline.is_none(), "a finished machine has a deadline: {deadline:?}");
        let pending = &self.unanswered;
        assert!(pending.is_empty(), "a finished machine waits for answers: {pending:?}");
    }

    pub(crate) fn open_sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Takes a stream out of the machine's hands, with the bytes behind the last message.
    pub(crate) fn take_stream(&mut self, id: SocketId) -> Option<(Socket, Vec<u8>)> {
        let buffered = self.streams.remove(&id)?;
        let socket = self.sockets.remove(&id)?;
        self.ids.remove(&socket);
        Some((socket, buffered))
    }

    fn answer(&mut self, id: CommandId, answer: Answer) {
        assert!(self.unanswered.remove(&id), "the shell answers {id:?} twice");
        self.answers.push_back((id, answer));
    }

    fn open(&mut self, id: SocketId, socket: Socket) {
        assert!(!self.sockets.contains_key(&id), "{id:?} names two sockets");
        self.sockets.insert(id, socket);
        self.ids.insert(socket, id);
    }

    fn forget(&mut self, id: SocketId) -> Option<Socket> {
        let socket = self.sockets.remove(&id)?;
        self.ids.remove(&socket);
        self.streams.remove(&id);
        Some(socket)
    }

    fn carry_out(&mut self, command: Command, system: &mut System<'_>) {
        let id = command.id();
        assert!(self.seen.insert(id), "{id:?} names two commands: {command:?}");
        self.unanswered.insert(id);
        match command {
            Command::BindUdp { id, socket, local } => {
                let bound = system.host.bind_udp(local).map(|(opened, local)| {
                    self.open(socket, opened);
                    local
                });
                self.answer(id, Answer::Bound(bound));
            }
            Command::ListenTcp { id, socket, local } => {
                let bound = system.host.listen_tcp(local).map(|(opened, local)| {
                    self.open(socket, opened);
                    local
                });
                self.answer(id, Answer::Bound(bound));
            }
            Command::SendUdp { id, socket, remote, ttl, payload } => {
                let sent = self.socket(socket).and_then(|socket| {
                    system.host.send_udp(socket, address::canonical(remote), ttl, &payload)
                });
                self.answer(id, Answer::Sent(sent));
            }
            Command::AssumeTcp { id, socket, ends, agreed, hops } => {
                let remote = address::canonical(ends.remote);
                let ends = Ends { remote, ..ends };
                let opened = system.host.assume_tcp(ends, agreed, hops, system.now);
                self.dialed(id, socket, opened);
            }
            Command::Capture { id, socket, ends } => {
                let opened = system.host.capture(ends);
                let done = opened.map(|opened| self.open(socket, opened));
                self.answer(id, Answer::Done(done));
            }
            Command::Inject { id, segment, ttl } => {
                let sent = system.host.inject(&segment, ttl);
                self.answer(id, Answer::Sent(sent));
            }
            Command::InjectPacket { id, packet } => {
                let sent = system.host.forge(packet);
                self.answer(id, Answer::Sent(sent));
            }
            Command::AdjustTcp { id, socket, hops } => {
                let known = self.socket(socket);
                let done = known.map(|socket| system.host.set_hops(socket, hops));
                self.answer(id, Answer::Done(done));
            }
            Command::RenewTcp { id, socket, hops } => {
                let connect = self.connecting.contains_key(&socket);
                let known = self.socket(socket).ok().filter(|_| connect);
                if let Some(ends) = known.and_then(|known| system.host.unanswered(known)) {
                    self.renew(socket, (ends, hops), system);
                }
                let done = known.map(drop).ok_or(IoFailure::Closed);
                self.answer(id, Answer::Done(done));
            }
            Command::ConnectTcp { id, socket, local, remote, hops, sequence } => {
                let remote = address::canonical(remote);
                let opened = system.host.connect_tcp(local, remote, hops, sequence, system.now);
                self.dialed(id, socket, opened);
            }
            Command::SendTcp { id, socket, payload } => {
                let sent = self
                    .socket(socket)
                    .and_then(|socket| system.host.send_tcp(socket, &payload, system.now));
                self.answer(id, Answer::Sent(sent));
            }
            Command::Close { id, socket } => self.close(id, socket, system),
            Command::Abort { id, socket } => {
                if let Ok(socket) = self.socket(socket) {
                    system.host.abort(socket, system.now);
                }
                self.close(id, socket, system);
            }
            Command::Resolve { id, host, port } => {
                let resolved = resolve(system.names, &host, port);
                self.answer(id, Answer::Resolved(resolved));
            }
            Command::ListInterfaces { id } => {
                let addresses = system.host.addresses().to_vec();
                self.answer(id, Answer::Interfaces(addresses));
            }
        }
    }

    fn dialed(&mut self, id: CommandId, socket: SocketId, opened: Result<Socket, IoFailure>) {
        match opened {
            Ok(opened) => {
                self.open(socket, opened);
                self.connecting.insert(socket, id);
            }
            Err(failure) => self.answer(id, Answer::Connected(Err(failure))),
        }
    }

    /// Begins a connect anew, under the names it has.
    fn renew(&mut self, socket: SocketId, (ends, hops): (Ends, Hops), system: &mut System<'_>) {
        let connect = self.connecting.remove(&socket);
        if let Some((old, connect)) = self.forget(socket).zip(connect) {
            system.host.close(old, system.now);
            let Ends { local, remote } = ends;
            let opened = system.host.connect_tcp(local, remote, hops, None, system.now);
            self.dialed(connect, socket, opened);
        }
    }

    fn socket(&self, id: SocketId) -> Result<Socket, IoFailure> {
        self.sockets.get(&id).copied().ok_or(IoFailure::Closed)
    }

    fn close(&mut self, id: CommandId, socket: SocketId, system: &mut System<'_>) {
        if let Some(connect) = self.connecting.remove(&socket) {
            self.answer(connect, Answer::Connected(Err(IoFailure::Closed)));
        }
        if let Some(socket) = self.forget(socket) {
            system.host.close(socket, system.now);
        }
        self.answer(id, Answer::Closed);
    }

    /// Cuts what has arrived on a stream into messages.
    fn deliver_messages(&mut self, id: SocketId, system: &mut System<'_>) {
        while let Some(buffer) = self.streams.get_mut(&id) {
            match frame(buffer, MAX_MESSAGE) {
                Ok(Frame::Complete { length }) => {
                    let message: Vec<u8> = buffer.drain(..length).collect();
                    let input = Input::TcpReceived { socket: id, payload: &message };
                    self.hand(input, system.now);
                    self.drain(system);
                }
                Ok(Frame::Incomplete { .. }) => return,
                Err(_) => {
                    if let Some(socket) = self.forget(id) {
                        system.host.close(socket, system.now);
                    }
                    let reason = IoFailure::Garbled;
                    let input = Input::TcpClosed { socket: id, reason };
                    self.hand(input, system.now);
                    return self.drain(system);
                }
            }
        }
    }
}

impl<M> Process for Runner<M>
where
    M: for<'a> Machine<Input<'a> = Input<'a>, Command = Command> + 'static,
{
    fn owns(&self, notice: &Notice) -> bool {
        let socket = match notice {
            Notice::Datagram { socket, .. }
            | Notice::Connected { socket, .. }
            | Notice::Data { socket, .. }
            | Notice::Captured { socket, .. }
            | Notice::Ended { socket, .. } => socket,
            Notice::Accepted { listener, .. } => listener,
        };
        self.ids.contains_key(socket)
    }

    fn handle_notice(&mut self, notice: Notice, system: &mut System<'_>) {
        match notice {
            Notice::Datagram { socket, source, payload, .. } => {
                let Some(id) = self.ids.get(&socket).copied() else { return };
                let input = Input::UdpReceived { socket: id, source, payload: &payload };
                self.hand(input, system.now);
            }
            Notice::Connected { socket, result } => {
                let Some(id) = self.ids.get(&socket).copied() else { return };
                match result {
                    Ok(_) => drop(self.streams.insert(id, Vec::new())),
                    Err(_) => drop(self.forget(id)),
                }
                if let Some(command) = self.connecting.remove(&id) {
                    self.answer(command, Answer::Connected(result));
                }
            }
            Notice::Accepted { listener, socket, ends } => {
                let Some(listener) = self.ids.get(&listener).copied() else { return };
                self.accepted += 1;
                let id = SocketId::accepted(listener, self.accepted);
                self.open(id, socket);
                self.streams.insert(id, Vec::new());
                let input = Input::TcpAccepted { listener, socket: id, ends };
                self.hand(input, system.now);
            }
            Notice::Data { socket, bytes } => {
                let Some(id) = self.ids.get(&socket).copied() else { return };
                self.streams.entry(id).or_default().extend(bytes);
                self.deliver_messages(id, system);
            }
            Notice::Captured { socket, segment } => {
                let Some(id) = self.ids.get(&socket).copied() else { return };
                self.hand(Input::Captured { socket: id, segment }, system.now);
            }
            Notice::Ended { socket, reason } => {
                let Some(id) = self.ids.get(&socket).copied() else { return };
                self.forget(id);
                match self.connecting.remove(&id) {
                    // An RST met the handshake in its last moment.
                    Some(command) => self.answer(command, Answer::Connected(Err(reason))),
                    None => self.hand(Input::TcpClosed { socket: id, reason }, system.now),
                }
            }
        }
        self.drain(system);
    }

    fn handle_timeout(&mut self, system: &mut System<'_>) {
        let Some(deadline) = self.machine.poll_timeout() else { return };
        if deadline.at > system.now {
            return;
        }
        self.spins = if self.last_timeout == Some(system.now) { self.spins + 1 } else { 0 };
        self.last_timeout = Some(system.now);
        assert!(self.spins < MOST_SPINS, "busy loop: the deadline `{}` stays", deadline.reason);
        self.machine.handle_timeout(system.now);
        self.drain(system);
    }

    fn deadline(&self) -> Option<Deadline> {
        self.machine.poll_timeout()
    }

    fn close_all(&mut self, system: &mut System<'_>) {
        for socket in self.sockets.values() {
            system.host.close(*socket, system.now);
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Looks a name up in the world's directory; literal addresses need none.
fn resolve(
    names: &BTreeMap<String, Vec<IpAddr>>,
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, IoFailure> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let addresses = names.get(host).filter(|addresses| !addresses.is_empty());
    let addresses = addresses.ok_or(IoFailure::UnknownHost)?;
    Ok(addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
}

#[cfg(test)]
mod tests {
    use ntcp_proto::Owner;
    use ntcp_proto::command::Names;

    use super::*;
    use crate::link::Quality;
    use crate::world::{ProcessId, World};

    /// A machine that breaks the contract in one way.
    enum Faulty {
        /// The deadline passes and stays.
        SpinsInPlace(Instant),
        /// The deadline is never reached, but always at the present moment.
        AlwaysNow(Instant),
        /// A command after every answer.
        NeverHasEnough(Names, Option<CommandId>),
        /// Two commands of one name.
        RepeatsItself(VecDeque<CommandId>),
        /// A connection is opened, and nothing is waited for.
        LeavesAConnect(Option<Command>),
    }

    impl Machine for Faulty {
        type Input<'a> = Input<'a>;
        type Command = Command;
        type Event = ();

        fn handle_input(&mut self, _: Input<'_>, _: Instant) {
            if let Self::NeverHasEnough(names, next) = self {
                *next = Some(names.command());
            }
        }

        fn handle_timeout(&mut self, now: Instant) {
            if let Self::AlwaysNow(at) = self {
                *at = now;
            }
        }

        fn poll_command(&mut self) -> Option<Command> {
            match self {
                Self::SpinsInPlace(_) | Self::AlwaysNow(_) => None,
                Self::NeverHasEnough(_, next) => {
                    next.take().map(|id| Command::ListInterfaces { id })
                }
                Self::RepeatsItself(ids) => {
                    ids.pop_front().map(|id| Command::ListInterfaces { id })
                }
                Self::LeavesAConnect(command) => command.take(),
            }
        }

        fn poll_event(&mut self) -> Option<()> {
            None
        }

        fn poll_timeout(&self) -> Option<Deadline> {
            match self {
                Self::SpinsInPlace(at) => Some(Deadline::new(*at, "spinning")),
                Self::AlwaysNow(at) => Some(Deadline::new(*at, "hurrying")),
                Self::NeverHasEnough(..) | Self::RepeatsItself(_) | Self::LeavesAConnect(_) => None,
            }
        }
    }

    fn run(machine: impl FnOnce(Instant) -> Faulty) -> (World, ProcessId<Faulty>) {
        let mut world = World::new(1);
        let host = world.public_host("a", &["203.0.113.1"], Quality::default());
        let machine = machine(world.now());
        let process = world.run(host, machine);
        world.advance(Duration::from_secs(1));
        (world, process)
    }

    #[test]
    #[should_panic(expected = "busy loop: the deadline `spinning` stays")]
    fn a_deadline_that_stays_in_the_past_is_named() {
        run(Faulty::SpinsInPlace);
    }

    #[test]
    #[should_panic(expected = "busy loop: the deadline `hurrying` stays")]
    fn a_deadline_that_is_always_now_is_named() {
        run(Faulty::AlwaysNow);
    }

    #[test]
    #[should_panic(expected = "wants more and more")]
    fn commands_without_end_are_a_breach() {
        run(|_| {
            let mut names = Names::new(Owner(1));
            let first = names.command();
            Faulty::NeverHasEnough(names, Some(first))
        });
    }

    #[test]
    #[should_panic(expected = "names two commands")]
    fn a_command_name_used_twice_is_a_breach() {
        run(|_| {
            let id = Names::new(Owner(1)).command();
            Faulty::RepeatsItself([id, id].into())
        });
    }

    fn connect(owner: Owner) -> Faulty {
        let mut names = Names::new(owner);
        let (id, socket) = (names.command(), names.socket());
        let local = "0.0.0.0:0".parse().unwrap();
        let remote = "203.0.113.200:1".parse().unwrap();
        Faulty::LeavesAConnect(Some(Command::connect_tcp(id, socket, local, remote)))
    }

    #[test]
    #[should_panic(expected = "waits for answers")]
    fn a_machine_that_still_waits_has_not_finished() {
        let (mut world, process) = run(|_| connect(Owner(1)));
        // The router has refused the first one; the second has no answer yet.
        world.assert_finished(process);
        world.command(process, |machine, _| *machine = connect(Owner(2)));
        world.assert_finished(process);
    }
}
