//! The sockets of one machine, and what may happen to each.

mod privileged;

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_io::{Async, Timer};
use futures::future::{AbortHandle, Abortable};
use futures::{Future, FutureExt};
use ntcp_proto::command::Ends;
use ntcp_proto::segment::Segment;
use ntcp_proto::{Answer, Command, CommandId, Hops, Input, IoFailure, SocketId, address};
use ntcp_raw::hops::{self, Family};
use ntcp_raw::tcp_info;

use self::privileged::{Held, Holder};
use super::stream::read_message;
use crate::io::failure::classify;
use crate::io::privileged::{Capture, Powers};
use crate::io::{interfaces, socket};

/// Longest datagram read; none of ours comes near.
const MAX_DATAGRAM: usize = 2048;
/// Bytes that may wait to be written on one stream: a machine's messages are small, so more than
/// this means a peer that does not read. Further messages fail with `OutOfResources`.
const MAX_UNSENT: usize = 64 << 10;
/// Pause before the next `accept` when this process or host has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A future that yields what happened, or nothing if it was called off.
pub(super) type Pending = Pin<Box<dyn Future<Output = Option<Happening>> + Send>>;

/// What happened.
pub(super) enum Happening {
    /// A datagram arrived, or the socket failed.
    Datagram(SocketId, io::Result<(Vec<u8>, SocketAddr)>),
    /// A listener accepted a stream, or failed to.
    Accepted(SocketId, io::Result<(TcpStream, SocketAddr)>),
    /// A handshake ended.
    Connected(SocketId, CommandId, Arc<Async<TcpStream>>, io::Result<Ends>),
    /// A message arrived on a stream, or the stream ended.
    Message(SocketId, io::Result<Vec<u8>>),
    /// A capture is open, or failed to open.
    CaptureOpened(SocketId, io::Result<Capture>),
    /// A capture saw its SYN, or failed.
    Captured(SocketId, io::Result<Segment>),
    /// Room to write on a stream.
    Writable(SocketId, io::Result<()>),
    /// A command ended that belongs to no socket.
    Answer(CommandId, Answer),
}

enum Kind {
    Udp(Arc<Async<UdpSocket>>),
    Listener(Arc<Async<TcpListener>>),
    Connecting(CommandId, Ends, Arc<Async<TcpStream>>),
    Stream(Stream),
    Capture(Holder),
    Held(Held),
}

struct Stream {
    socket: Arc<Async<TcpStream>>,
    unsent: VecDeque<u8>,
    reading: Reading,
}

/// Whether the next message of a stream is read. A peer may greet, and let the next layer follow at once, before the
/// machine knows whose stream it is: then nothing is read until it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    On,
    /// It was accepted, and the machine has said nothing on it.
    One,
    /// One has been read.
    Paused,
}

struct Entry {
    kind: Kind,
    /// Calls off the future that waits for something to come in, or for the handshake.
    reading: Option<AbortHandle>,
    /// Calls off the future that waits for room to write.
    writing: Option<AbortHandle>,
}

/// All sockets of one machine.
#[derive(Default)]
pub(crate) struct Sockets {
    open: HashMap<SocketId, Entry>,
    accepted: u64,
    powers: Powers,
    answers: VecDeque<(CommandId, Answer)>,
    pending: Vec<Pending>,
}

impl Sockets {
    /// None yet; some may be opened with these powers.
    pub(super) fn with(powers: Powers) -> Self {
        Self { powers, ..Self::default() }
    }

    /// No socket is open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The next answer to give to the machine.
    pub(super) fn next_answer(&mut self) -> Option<(CommandId, Answer)> {
        self.answers.pop_front()
    }

    /// The futures that have been started since the last call.
    pub(super) fn take_pending(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.pending)
    }

    /// Takes a stream out of the machine's hands, in blocking mode no more than before. Whatever it was while it
    /// was being made, it is closed in order from now on.
    pub(crate) fn take_stream(&mut self, id: SocketId) -> Option<Async<TcpStream>> {
        match self.open.get(&id)?.kind {
            Kind::Stream(_) => {}
            _ => return None,
        }
        let Kind::Stream(stream) = self.remove(id)?.kind else { return None };
        // The waiting future holds another reference until it is polled and dropped: clone the
        // descriptor instead of waiting for that.
        let socket = stream.socket.get_ref().try_clone().ok()?;
        socket::close_in_order(&socket).ok()?;
        Async::new_nonblocking(socket).ok()
    }

    /// Sends what is the next layer's on a stream that is the machine's yet, behind what that has sent.
    pub(crate) fn send_ahead(&mut self, id: SocketId, bytes: &[u8]) -> Result<(), IoFailure> {
        self.send_tcp(id, bytes)
    }

    /// The local address of a UDP socket.
    pub(crate) fn udp_address(&self, id: SocketId) -> Option<SocketAddr> {
        match &self.open.get(&id)?.kind {
            Kind::Udp(socket) => socket.get_ref().local_addr().ok(),
            _ => None,
        }
    }

    pub(super) fn carry_out(&mut self, command: Command) {
        match command {
            Command::BindUdp { id, socket, local } => {
                let bound = self.bind_udp(socket, local);
                self.answers.push_back((id, Answer::Bound(bound.map_err(|it| classify(&it)))));
            }
            Command::SendUdp { id, socket, remote, ttl, payload } => {
                let sent = self.send_udp(socket, remote, ttl, &payload);
                self.answers.push_back((id, Answer::Sent(sent)));
            }
            Command::ListenTcp { id, socket, local } => {
                let bound = self.listen(socket, local);
                self.answers.push_back((id, Answer::Bound(bound.map_err(|it| classify(&it)))));
            }
            Command::ConnectTcp { id, socket, local, remote, hops, sequence } => {
                let ends = Ends { local, remote };
                let connect = Held { command: id, ends, hops, sequence, then: None };
                if self.is_awaited(ends) {
                    self.insert(socket, Kind::Held(connect));
                } else {
                    self.begin_connect(socket, &connect);
                }
            }
            Command::AssumeTcp { id, socket, ends, agreed, hops } => {
                let assumed = self.assume(socket, ends, &agreed, hops);
                self.answers
                    .push_back((id, Answer::Connected(assumed.map_err(|it| classify(&it)))));
            }
            Command::AdjustTcp { id, socket, hops } => {
                let adjusted = self.adjust(socket, hops);
                self.answers.push_back((id, Answer::Done(adjusted)));
            }
            Command::RenewTcp { id, socket, hops } => {
                let renewed = self.renew(socket, hops);
                self.answers.push_back((id, Answer::Done(renewed)));
            }
            Command::Capture { id, socket, ends } => {
                if let Err(error) = self.capture(id, socket, ends) {
                    self.answers.push_back((id, Answer::Done(Err(classify(&error)))));
                }
            }
            Command::Inject { id, segment, ttl } => {
                let sent = self.inject(&segment, ttl);
                self.answers.push_back((id, Answer::Sent(sent)));
            }
            Command::InjectPacket { id, packet } => {
                let sent = self.powers.forge(&packet).map_err(|it| classify(&it));
                self.answers.push_back((id, Answer::Sent(sent)));
            }
            Command::SendTcp { id, socket, payload } => {
                let sent = self.send_tcp(socket, &payload);
                self.answers.push_back((id, Answer::Sent(sent)));
            }
            Command::Close { id, socket } => {
                self.close(socket);
                self.answers.push_back((id, Answer::Closed));
            }
            Command::Abort { id, socket } => self.abort(id, socket),
            Command::Resolve { id, host, port } => self.resolve(id, host, port),
            Command::ListInterfaces { id } => {
                self.answers.push_back((id, Answer::Interfaces(interfaces::addresses())));
            }
        }
    }

    /// Updates the sockets and gives the machine its input.
    pub(super) fn happened(&mut self, happening: Happening, tell: impl FnOnce(Input<'_>)) {
        match happening {
            Happening::Datagram(id, received) => self.datagram(id, received, tell),
            Happening::Accepted(id, accepted) => self.accepted(id, accepted, tell),
            Happening::Connected(id, command, stream, ends) => {
                self.connected(id, command, stream, ends);
            }
            Happening::Message(id, message) => self.message(id, message, tell),
            Happening::CaptureOpened(id, opened) => self.capture_opened(id, opened),
            Happening::Captured(id, segment) => self.captured(id, segment, tell),
            Happening::Writable(id, writable) => {
                let flushed = writable.map_err(|it| classify(&it)).and_then(|()| self.flush(id));
                if let Err(reason) = flushed
                    && self.remove(id).is_some()
                {
                    tell(Input::TcpClosed { socket: id, reason });
                }
            }
            Happening::Answer(id, answer) => tell(Input::Answer { id, answer }),
        }
    }

    fn bind_udp(&mut self, id: SocketId, local: SocketAddr) -> io::Result<SocketAddr> {
        let socket = Arc::new(Async::new_nonblocking(socket::udp(local)?)?);
        let bound = socket.get_ref().local_addr()?;
        self.insert(id, Kind::Udp(socket.clone()));
        self.await_datagram(id, socket);
        Ok(bound)
    }

    fn await_datagram(&mut self, id: SocketId, socket: Arc<Async<UdpSocket>>) {
        self.read(id, async move {
            let mut buffer = vec![0; MAX_DATAGRAM];
            let received = socket.recv_from(&mut buffer).await;
            Happening::Datagram(
                id,
                received.map(|(length, source)| {
                    buffer.truncate(length);
                    (buffer, source)
                }),
            )
        });
    }

    fn datagram(
        &mut self,
        id: SocketId,
        received: io::Result<(Vec<u8>, SocketAddr)>,
        tell: impl FnOnce(Input<'_>),
    ) {
        let Some(Entry { kind: Kind::Udp(socket), .. }) = self.open.get(&id) else { return };
        let socket = socket.clone();
        // An error here is an ICMP message about some earlier datagram; the socket lives on.
        self.await_datagram(id, socket);
        if let Ok((payload, source)) = received {
            let source = address::canonical(source);
            tell(Input::UdpReceived { socket: id, source, payload: &payload });
        }
    }

    fn send_udp(
        &mut self,
        id: SocketId,
        remote: SocketAddr,
        ttl: Option<u8>,
        payload: &[u8],
    ) -> Result<(), IoFailure> {
        let Some(Entry { kind: Kind::Udp(socket), .. }) = self.open.get(&id) else {
            return Err(IoFailure::Closed);
        };
        let socket = socket.get_ref();
        let sent = match ttl {
            Some(ttl) => send_with_ttl(socket, remote, ttl, payload),
            None => socket.send_to(payload, remote),
        };
        match sent {
            Ok(_) => Ok(()),
            // A full send buffer loses the datagram, as any queue on the path would.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(classify(&error)),
        }
    }

    fn listen(&mut self, id: SocketId, local: SocketAddr) -> io::Result<SocketAddr> {
        let listener = Arc::new(Async::new_nonblocking(socket::listener(local)?)?);
        let bound = listener.get_ref().local_addr()?;
        self.insert(id, Kind::Listener(listener.clone()));
        self.await_stream(id, listener);
        Ok(bound)
    }

    fn await_stream(&mut self, id: SocketId, listener: Arc<Async<TcpListener>>) {
        self.read(id, async move {
            let accepted = listener.read_with(TcpListener::accept).await;
            if accepted.as_ref().is_err_and(|it| classify(it) == IoFailure::OutOfResources) {
                // The connection stays in the queue, so the next try would fail at once as well.
                Timer::after(ACCEPT_PAUSE).await;
            }
            Happening::Accepted(id, accepted)
        });
    }

    fn accepted(
        &mut self,
        listener: SocketId,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        tell: impl FnOnce(Input<'_>),
    ) {
        let Some(Entry { kind: Kind::Listener(socket), .. }) = self.open.get(&listener) else {
            return;
        };
        let again = socket.clone();
        self.await_stream(listener, again);
        // A connection that died in the queue is no fault of the listener.
        let Ok((stream, remote)) = accepted else { return };
        let Ok(local) = stream.local_addr() else { return };
        let _ = stream.set_nodelay(true);
        let Ok(stream) = Async::new(stream) else { return };
        self.accepted += 1;
        let id = SocketId::accepted(listener, self.accepted);
        self.insert_stream(id, Arc::new(stream));
        if let Some(Entry { kind: Kind::Stream(stream), .. }) = self.open.get_mut(&id) {
            stream.reading = Reading::One;
        }
        let ends = Ends { local: address::canonical(local), remote: address::canonical(remote) };
        tell(Input::TcpAccepted { listener, socket: id, ends });
    }

    fn begin_connect(&mut self, id: SocketId, connect: &Held) {
        let command = connect.command;
        if let Err(error) = self.connect(id, connect) {
            return self.answers.push_back((command, Answer::Connected(Err(classify(&error)))));
        }
        if let Some(hops) = connect.then
            && let Err(failure) = self.adjust(id, hops)
        {
            tracing::debug!(%failure, "a socket travels as its first segment did");
        }
    }

    fn connect(&mut self, id: SocketId, connect: &Held) -> io::Result<()> {
        let Held { command, ends, hops, sequence, .. } = *connect;
        let socket = socket::unconnected(ends.local, hops)?;
        if let Some(sequence) = sequence {
            self.powers.pin_sequence(socket.as_fd(), sequence)?;
        }
        let stream = Arc::new(Async::new_nonblocking(socket::connect(socket, ends.remote)?)?);
        let local = stream.get_ref().local_addr()?;
        let ends = Ends { local: address::canonical(local), ..ends };
        self.insert(id, Kind::Connecting(command, ends, stream.clone()));
        self.read(id, async move {
            let ends = handshake(&stream).await;
            Happening::Connected(id, command, stream, ends)
        });
        Ok(())
    }

    /// Changes how the packets of a stream travel, also while it is still connecting.
    fn adjust(&mut self, id: SocketId, hops: Hops) -> Result<(), IoFailure> {
        let stream = match self.open.get_mut(&id).map(|entry| &mut entry.kind) {
            Some(Kind::Held(held)) => {
                held.then = Some(hops);
                return Ok(());
            }
            Some(Kind::Connecting(_, _, stream)) => stream,
            Some(Kind::Stream(stream)) => &stream.socket,
            Some(Kind::Udp(_) | Kind::Listener(_) | Kind::Capture(_)) | None => {
                return Err(IoFailure::Closed);
            }
        };
        let stream = stream.get_ref();
        let local = stream.local_addr().map_err(|it| classify(&it))?;
        socket::set_hops(stream, local, hops).map_err(|it| classify(&it))
    }

    /// Begins a connect anew whose SYN nobody has answered.
    fn renew(&mut self, id: SocketId, hops: Hops) -> Result<(), IoFailure> {
        let Some(Kind::Connecting(command, ends, stream)) = self.open.get(&id).map(|it| &it.kind)
        else {
            return Err(IoFailure::Closed);
        };
        if tcp_info::is_syn_sent(stream.get_ref()) {
            // Its ends are free at once, though a future holds it for a moment yet: what a shutdown does to a connect
            // is to take it back. Should it fail, the fresh connect does and says so.
            let _ = stream.get_ref().shutdown(std::net::Shutdown::Both);
            let connect = Held { command: *command, ends: *ends, hops, sequence: None, then: None };
            self.remove(id);
            self.begin_connect(id, &connect);
        }
        Ok(())
    }

    fn connected(
        &mut self,
        id: SocketId,
        command: CommandId,
        stream: Arc<Async<TcpStream>>,
        ends: io::Result<Ends>,
    ) {
        if self.remove(id).is_none() {
            return;
        }
        let answer = match ends {
            Ok(ends) => {
                self.insert_stream(id, stream);
                Ok(ends)
            }
            Err(error) => Err(classify(&error)),
        };
        self.answers.push_back((command, Answer::Connected(answer)));
    }

    fn insert_stream(&mut self, id: SocketId, socket: Arc<Async<TcpStream>>) {
        if let Err(error) = socket::watch_peer(socket.get_ref()) {
            tracing::debug!(%error, "nobody notices when the peer of a stream is gone");
        }
        let (unsent, reading) = (VecDeque::new(), Reading::On);
        let stream = Stream { socket: socket.clone(), unsent, reading };
        self.insert(id, Kind::Stream(stream));
        self.await_message(id, socket);
    }

    fn await_message(&mut self, id: SocketId, stream: Arc<Async<TcpStream>>) {
        self.read(id, async move { Happening::Message(id, read_message(&stream).await) });
    }

    fn message(
        &mut self,
        id: SocketId,
        message: io::Result<Vec<u8>>,
        tell: impl FnOnce(Input<'_>),
    ) {
        let Some(Entry { kind: Kind::Stream(stream), .. }) = self.open.get_mut(&id) else { return };
        match message {
            Ok(payload) => {
                match stream.reading {
                    Reading::On => {
                        let socket = stream.socket.clone();
                        self.await_message(id, socket);
                    }
                    Reading::One | Reading::Paused => stream.reading = Reading::Paused,
                }
                tell(Input::TcpReceived { socket: id, payload: &payload });
            }
            Err(error) => {
                self.remove(id);
                tell(Input::TcpClosed { socket: id, reason: classify(&error) });
            }
        }
    }

    fn send_tcp(&mut self, id: SocketId, payload: &[u8]) -> Result<(), IoFailure> {
        let Some(Entry { kind: Kind::Stream(stream), .. }) = self.open.get_mut(&id) else {
            return Err(IoFailure::Closed);
        };
        if stream.unsent.len() + payload.len() > MAX_UNSENT {
            return Err(IoFailure::OutOfResources);
        }
        let idle = stream.unsent.is_empty();
        stream.unsent.extend(payload);
        let reading = std::mem::replace(&mut stream.reading, Reading::On);
        if reading == Reading::Paused {
            let socket = stream.socket.clone();
            self.await_message(id, socket);
        }
        if idle { self.flush(id) } else { Ok(()) }
    }

    /// Writes what the system takes now and waits for room for the rest.
    fn flush(&mut self, id: SocketId) -> Result<(), IoFailure> {
        let Some(Entry { kind: Kind::Stream(stream), .. }) = self.open.get_mut(&id) else {
            return Ok(());
        };
        while !stream.unsent.is_empty() {
            let (front, _) = stream.unsent.as_slices();
            match stream.socket.get_ref().write(front) {
                Ok(written) => drop(stream.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let socket = stream.socket.clone();
                    let room = async move { Happening::Writable(id, socket.writable().await) };
                    let handle = self.start(room);
                    if let Some(entry) = self.open.get_mut(&id) {
                        entry.writing = Some(handle);
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(classify(&error)),
            }
        }
        Ok(())
    }

    fn resolve(&mut self, id: CommandId, host: String, port: u16) {
        if let Ok(ip) = host.parse() {
            // A literal address needs no resolver, nor the thread it would block.
            let address = SocketAddr::new(ip, port);
            self.answers.push_back((id, Answer::Resolved(Ok(vec![address]))));
            return;
        }
        self.pending.push(Box::pin(async move {
            let resolved = blocking::unblock(move || {
                std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port))
                    .map(Iterator::collect::<Vec<_>>)
            });
            let answer = match resolved.await {
                Ok(addresses) if !addresses.is_empty() => Ok(addresses),
                Ok(_) | Err(_) => Err(IoFailure::UnknownHost),
            };
            Some(Happening::Answer(id, Answer::Resolved(answer)))
        }));
    }

    fn close(&mut self, id: SocketId) {
        match self.remove(id).map(|entry| entry.kind) {
            Some(Kind::Connecting(command, ..) | Kind::Held(Held { command, .. })) => {
                self.answers.push_back((command, Answer::Connected(Err(IoFailure::Closed))));
            }
            Some(Kind::Capture(holder)) => self.capture_closed(&holder),
            Some(Kind::Udp(_) | Kind::Listener(_) | Kind::Stream(_)) | None => {}
        }
    }

    /// Closes a stream with an RST, and answers when nothing holds it any more.
    fn abort(&mut self, command: CommandId, id: SocketId) {
        let stream = match self.remove(id).map(|entry| entry.kind) {
            Some(Kind::Stream(stream)) => stream.socket,
            Some(Kind::Connecting(connect, _, stream)) => {
                self.answers.push_back((connect, Answer::Connected(Err(IoFailure::Closed))));
                stream
            }
            Some(Kind::Held(held)) => {
                self.answers.push_back((held.command, Answer::Connected(Err(IoFailure::Closed))));
                return self.answers.push_back((command, Answer::Closed));
            }
            Some(Kind::Capture(holder)) => {
                self.capture_closed(&holder);
                return self.answers.push_back((command, Answer::Closed));
            }
            Some(Kind::Udp(_) | Kind::Listener(_)) | None => {
                return self.answers.push_back((command, Answer::Closed));
            }
        };
        if let Err(error) = socket::reset(stream.get_ref()) {
            tracing::debug!(%error, "reset of a stream");
        }
        self.pending.push(Box::pin(async move {
            // The futures that waited on the socket have been called off and go at their next turn.
            while Arc::strong_count(&stream) > 1 {
                yield_now().await;
            }
            drop(stream);
            Some(Happening::Answer(command, Answer::Closed))
        }));
    }

    fn insert(&mut self, id: SocketId, kind: Kind) {
        self.open.insert(id, Entry { kind, reading: None, writing: None });
    }

    fn remove(&mut self, id: SocketId) -> Option<Entry> {
        let entry = self.open.remove(&id)?;
        entry.reading.iter().chain(&entry.writing).for_each(AbortHandle::abort);
        Some(entry)
    }

    /// Has `future` wait for what comes in on a socket.
    fn read(&mut self, id: SocketId, future: impl Future<Output = Happening> + Send + 'static) {
        let handle = self.start(future);
        if let Some(entry) = self.open.get_mut(&id) {
            entry.reading = Some(handle);
        }
    }

    fn start(&mut self, future: impl Future<Output = Happening> + Send + 'static) -> AbortHandle {
        let (handle, registration) = AbortHandle::new_pair();
        self.pending.push(Box::pin(Abortable::new(future, registration).map(Result::ok)));
        handle
    }
}

/// Lets the other futures have their turn.
async fn yield_now() {
    let mut has_yielded = false;
    futures::future::poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// Waits for the end of a TCP handshake that has been started.
async fn handshake(stream: &Async<TcpStream>) -> io::Result<Ends> {
    stream.writable().await?;
    if let Some(error) = stream.get_ref().take_error()? {
        return Err(error);
    }
    Ok(Ends { local: stream.get_ref().local_addr()?, remote: stream.get_ref().peer_addr()? })
}

/// Sends one datagram with a TTL of its own. The option is the socket's, so it is put back before
/// anything else can send on it: the driver sends from one place only.
fn send_with_ttl(
    socket: &UdpSocket,
    remote: SocketAddr,
    ttl: u8,
    payload: &[u8],
) -> io::Result<usize> {
    let family = if remote.is_ipv4() { Family::V4 } else { Family::V6 };
    hops::set_ttl(socket, family, Some(ttl))?;
    let sent = socket.send_to(payload, remote);
    hops::set_ttl(socket, family, None)?;
    sent
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use futures::StreamExt;
    use futures::stream::FuturesUnordered;
    use ntcp_proto::Owner;

    use super::*;

    const STREAM: SocketId = SocketId { owner: Owner(1), serial: 1 };

    fn send(sockets: &mut Sockets) -> Answer {
        let id = CommandId { owner: Owner(1), serial: 1 };
        sockets.carry_out(Command::SendTcp { id, socket: STREAM, payload: vec![7; 16 << 10] });
        sockets.next_answer().expect("answered at once").1
    }

    #[test]
    fn an_aborted_stream_ends_with_an_rst_and_leaves_its_ends_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let remote = listener.local_addr().unwrap();
        let connect = |local| socket::connect(socket::tcp_bound(local).unwrap(), remote);
        let ours = connect(local).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        let local = ours.local_addr().unwrap();
        let mut sockets = Sockets::default();
        sockets.insert_stream(STREAM, Arc::new(Async::new(ours).unwrap()));
        let id = CommandId { owner: Owner(1), serial: 1 };
        sockets.carry_out(Command::Abort { id, socket: STREAM });
        assert_eq!(sockets.next_answer(), None, "not before it is gone");
        let mut pending: FuturesUnordered<_> = sockets.take_pending().into_iter().collect();
        let mut answer = None;
        while let Some(happening) = async_io::block_on(pending.next()) {
            if let Some(Happening::Answer(command, it)) = happening {
                answer = Some((command, it));
            }
        }
        assert_eq!(answer, Some((id, Answer::Closed)));
        let error = theirs.read(&mut [0]).expect_err("no end but an RST");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        connect(local).expect("the same ends once more");
    }

    #[test]
    fn a_connect_without_an_answer_begins_anew_from_the_same_end_and_one_that_has_one_does_not() {
        let [connect, renew] = [1, 2].map(|serial| CommandId { owner: Owner(1), serial });
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = listener.unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let remote = listener.local_addr().unwrap().as_socket().unwrap();
        // There is no room behind it: the next SYN is not answered.
        let _first = TcpStream::connect(remote).unwrap();
        let mut sockets = Sockets::default();
        sockets.carry_out(Command::connect_tcp(connect, STREAM, any, remote));
        let end = |sockets: &Sockets| match &sockets.open[&STREAM].kind {
            Kind::Connecting(_, ends, stream) => (*ends, stream.get_ref().as_raw_fd()),
            _ => panic!("it is not pending"),
        };
        let (ends, before) = end(&sockets);
        sockets.carry_out(Command::RenewTcp { id: renew, socket: STREAM, hops: Hops::USUAL });
        assert_eq!(sockets.next_answer(), Some((renew, Answer::Done(Ok(())))));
        let (same, after) = end(&sockets);
        assert_eq!((same, after == before), (ends, false), "another socket with the same ends");

        // There is room again: the fresh SYN is answered when it is repeated, and how the first ended nobody hears.
        listener.accept().unwrap();
        let mut pending: FuturesUnordered<_> = sockets.take_pending().into_iter().collect();
        while let Some(happening) = async_io::block_on(pending.next()) {
            let Some(happening) = happening else { continue };
            sockets.happened(happening, |input| panic!("{input:?}"));
            break;
        }
        assert_eq!(sockets.next_answer(), Some((connect, Answer::Connected(Ok(ends)))));
        sockets.carry_out(Command::RenewTcp { id: renew, socket: STREAM, hops: Hops::USUAL });
        let refused = Answer::Done(Err(IoFailure::Closed));
        assert_eq!(sockets.next_answer(), Some((renew, refused)), "it is no connect any more");
        assert!(matches!(sockets.open[&STREAM].kind, Kind::Stream(_)));
    }

    #[test]
    fn a_stream_that_had_to_wait_for_room_lives_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        let mut sockets = Sockets::default();
        sockets.insert_stream(STREAM, Arc::new(Async::new(ours).unwrap()));
        let mut sent = 0;
        while send(&mut sockets) == Answer::Sent(Ok(())) {
            sent += 16 << 10;
        }
        let reader = std::thread::spawn(move || theirs.read_exact(&mut vec![0; sent]));
        let mut pending: FuturesUnordered<_> = sockets.take_pending().into_iter().collect();
        while matches!(&sockets.open[&STREAM].kind, Kind::Stream(it) if !it.unsent.is_empty()) {
            let happening = async_io::block_on(pending.next()).expect("it waits for room");
            sockets.happened(happening.unwrap(), |input| panic!("{input:?}"));
            pending.extend(sockets.take_pending());
        }
        assert!(sockets.open.contains_key(&STREAM));
        reader.join().unwrap().expect("every byte arrives");
    }

    #[test]
    fn what_follows_a_greeting_that_nobody_claims_yet_is_left_to_the_next_layer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        let mut sockets = Sockets::default();
        sockets.insert_stream(STREAM, Arc::new(Async::new(ours).unwrap()));
        let Kind::Stream(stream) = &mut sockets.open.get_mut(&STREAM).unwrap().kind else {
            unreachable!("it was inserted")
        };
        stream.reading = Reading::One;
        // A header alone (RFC 8489 section 5), and something else.
        let greeting = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
        theirs.write_all(&[&greeting[..], b"next"].concat()).unwrap();
        let mut pending: FuturesUnordered<_> = sockets.take_pending().into_iter().collect();
        let happening = async_io::block_on(pending.next()).unwrap();
        let mut told = Vec::new();
        sockets.happened(happening.unwrap(), |input| {
            let Input::TcpReceived { payload, .. } = input else { panic!("{input:?}") };
            told.extend_from_slice(payload);
        });
        assert_eq!(told, greeting);
        assert!(sockets.take_pending().is_empty(), "nobody reads on");
        // The machine greets, and hands the stream over.
        assert_eq!(send(&mut sockets), Answer::Sent(Ok(())));
        assert_eq!(sockets.take_pending().len(), 1, "it would read on now");
        let stream = sockets.take_stream(STREAM).unwrap();
        let mut next = [0; 4];
        async_io::block_on(futures::AsyncReadExt::read_exact(&mut &stream, &mut next)).unwrap();
        assert_eq!(&next, b"next");
    }
}
