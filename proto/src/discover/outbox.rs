//! What the surveys want done, in order, with names.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::command::{Agreed, Command, CommandId, Ends, Hops, Names, Owner, SocketId};
use crate::segment::Segment;
use crate::tcp_traversal::forgery::TTL;

/// Collects the commands of all parts of one discovery and remembers which sockets are open.
#[derive(Debug)]
pub(super) struct Outbox {
    names: Names,
    commands: VecDeque<Command>,
    open: Vec<SocketId>,
}

impl Outbox {
    pub(super) fn new(owner: Owner) -> Self {
        Self { names: Names::new(owner), commands: VecDeque::new(), open: Vec::new() }
    }

    pub(super) fn poll(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// A name for a command that is then given to [`Outbox::push`].
    pub(super) fn name(&mut self) -> CommandId {
        self.names.command()
    }

    pub(super) fn push(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    pub(super) fn bind_udp(&mut self, local: SocketAddr) -> (CommandId, SocketId) {
        let (id, socket) = (self.names.command(), self.open_socket());
        self.push(Command::BindUdp { id, socket, local });
        (id, socket)
    }

    pub(super) fn send_udp(&mut self, socket: SocketId, remote: SocketAddr, payload: Vec<u8>) {
        let id = self.names.command();
        self.push(Command::SendUdp { id, socket, remote, ttl: None, payload });
    }

    pub(super) fn connect_tcp(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> (CommandId, SocketId) {
        self.connect_tcp_with(local, remote, Hops::USUAL)
    }

    pub(super) fn connect_tcp_with(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        hops: Hops,
    ) -> (CommandId, SocketId) {
        let (id, socket) = (self.names.command(), self.open_socket());
        self.push(Command::ConnectTcp { id, socket, local, remote, hops, sequence: None });
        (id, socket)
    }

    pub(super) fn assume_tcp(
        &mut self,
        ends: Ends,
        agreed: Agreed,
        hops: Hops,
    ) -> (CommandId, SocketId) {
        let (id, socket) = (self.names.command(), self.open_socket());
        self.push(Command::AssumeTcp { id, socket, ends, agreed, hops });
        (id, socket)
    }

    pub(super) fn send_tcp(&mut self, socket: SocketId, payload: Vec<u8>) {
        let id = self.names.command();
        self.push(Command::SendTcp { id, socket, payload });
    }

    pub(super) fn adjust_tcp(&mut self, socket: SocketId, hops: Hops) {
        let id = self.names.command();
        self.push(Command::AdjustTcp { id, socket, hops });
    }

    /// Puts a segment in the peer's name into the own stack.
    pub(super) fn inject(&mut self, segment: Segment) -> CommandId {
        let id = self.names.command();
        self.push(Command::Inject { id, segment, ttl: TTL });
        id
    }

    pub(super) fn listen_tcp(&mut self, local: SocketAddr) -> (CommandId, SocketId) {
        let (id, socket) = (self.names.command(), self.open_socket());
        self.push(Command::ListenTcp { id, socket, local });
        (id, socket)
    }

    pub(super) fn capture(&mut self, ends: Ends) -> (CommandId, SocketId) {
        let (id, socket) = (self.names.command(), self.open_socket());
        self.push(Command::Capture { id, socket, ends });
        (id, socket)
    }

    /// A stream that a listener accepted is this discovery's to close.
    pub(super) fn adopt(&mut self, socket: SocketId) {
        if !self.open.contains(&socket) {
            self.open.push(socket);
        }
    }

    /// Ends a stream with an RST, so that its pair of ends is free when that is answered.
    pub(super) fn abort(&mut self, socket: SocketId) -> CommandId {
        let id = self.names.command();
        self.forget(socket);
        self.push(Command::Abort { id, socket });
        id
    }

    /// The socket is gone without a [`Command::Close`].
    pub(super) fn forget(&mut self, socket: SocketId) {
        self.open.retain(|it| *it != socket);
    }

    /// Closes every socket that is still open, and drops what was to be sent on them.
    pub(super) fn close_all(&mut self) {
        self.commands.clear();
        for socket in std::mem::take(&mut self.open) {
            let id = self.names.command();
            self.push(Command::Close { id, socket });
        }
    }

    fn open_socket(&mut self) -> SocketId {
        let socket = self.names.socket();
        self.open.push(socket);
        socket
    }
}
