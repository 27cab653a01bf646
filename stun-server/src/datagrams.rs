//! UDP: one thread for each socket, all of them sending through all sockets.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ntcp_stun::server::{Counters, Request, Server, Transport};

use crate::stop::Stopped;

/// The longest datagram there can be, so that none is cut and padding has room.
const MAX_DATAGRAM: usize = 1 << 16;
/// How many datagrams are answered before the thread looks whether it is to stop.
const BATCH: usize = 64;
/// How long a thread rests in milliseconds after the system failed to receive, so that a lasting failure
/// does not keep a processor busy.
const REST: u16 = 10;

/// A UDP socket and where it is bound.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: UdpSocket,
    address: SocketAddr,
}

/// A datagram that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) length: usize,
    pub(crate) source: SocketAddr,
    /// The address it was sent to.
    pub(crate) local: SocketAddr,
}

impl Datagrams {
    pub(crate) fn new(socket: UdpSocket, address: SocketAddr) -> Self {
        Self { socket, address }
    }

    /// Whether datagrams to `address` come to this socket.
    fn serves(&self, address: SocketAddr) -> bool {
        self.address == address
            || (self.address.ip().is_unspecified()
                && self.address.port() == address.port()
                && self.address.is_ipv4() == address.is_ipv4())
    }

    /// The next datagram; `None` if it is to be passed over.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
        #[cfg(target_os = "linux")]
        if self.address.ip().is_unspecified() {
            let arrived = crate::packet_info::receive(&self.socket, buffer)?;
            return Ok(arrived.map(|mut arrived| {
                arrived.local.set_port(self.address.port());
                arrived
            }));
        }
        let (length, source) = self.socket.recv_from(buffer)?;
        Ok(Some(Arrived { length, source, local: self.address }))
    }

    fn send(&self, payload: &[u8], from: SocketAddr, to: SocketAddr) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if self.address.ip().is_unspecified() {
            return crate::packet_info::send(&self.socket, payload, from, to);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = from;
        self.socket.send_to(payload, to)?;
        Ok(())
    }
}

/// Answers what comes to one of the sockets.
#[derive(Debug)]
pub(crate) struct Worker {
    /// All sockets of the server.
    pub(crate) sockets: Arc<[Datagrams]>,
    /// Which of them is this thread's own.
    pub(crate) own: usize,
    pub(crate) server: Server,
    pub(crate) stopped: Stopped,
}

/// What a thread found when it waited.
enum Woken {
    Readable,
    Stopped,
}

impl Worker {
    /// Serves until it is told to stop.
    pub(crate) fn run(mut self) -> io::Result<Counters> {
        let mut request = vec![0; MAX_DATAGRAM];
        let mut reply = vec![0; MAX_DATAGRAM];
        while let Woken::Readable =
            self.wait(Some(&self.sockets[self.own].socket), PollTimeout::NONE)?
        {
            if let Err(error) = self.answer_batch(&mut request, &mut reply) {
                tracing::debug!(%error, "receive");
                if let Woken::Stopped = self.wait(None, PollTimeout::from(REST))? {
                    break;
                }
            }
        }
        Ok(*self.server.counters())
    }

    /// Waits for a datagram, for the end, or for the time to pass.
    fn wait(&self, socket: Option<&UdpSocket>, timeout: PollTimeout) -> io::Result<Woken> {
        let stopped = self.stopped.as_fd();
        let socket = socket.map_or(stopped, UdpSocket::as_fd);
        let mut waiting = [stopped, socket].map(|it| PollFd::new(it, PollFlags::POLLIN));
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_over = waiting[0].any().unwrap_or(true);
        Ok(if is_over { Woken::Stopped } else { Woken::Readable })
    }

    /// Answers what has arrived, up to a batch.
    fn answer_batch(&mut self, request: &mut [u8], reply: &mut [u8]) -> io::Result<()> {
        for _ in 0..BATCH {
            match self.sockets[self.own].receive(request) {
                Ok(Some(arrived)) => self.answer(arrived, request, reply),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn answer(&mut self, arrived: Arrived, request: &[u8], reply: &mut [u8]) {
        let Arrived { length, source, local } = arrived;
        let request =
            Request { bytes: &request[..length], source, local, transport: Transport::Udp };
        let answer = match self.server.handle_request(request, reply) {
            Ok(answer) => answer,
            Err(silence) => {
                tracing::trace!(%source, %local, length, %silence, "no reply");
                return;
            }
        };
        let own = &self.sockets[self.own];
        let sender = if own.serves(answer.from) {
            Some(own)
        } else {
            self.sockets.iter().find(|it| it.serves(answer.from))
        };
        // A reply that cannot be sent is as lost as one that the network loses: the client asks again.
        let sent = sender.map(|it| it.send(&reply[..answer.length], answer.from, answer.to));
        tracing::trace!(%source, %local, from = %answer.from, to = %answer.to, ?sent, "reply");
    }
}
