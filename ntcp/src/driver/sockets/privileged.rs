//! Commands that take privileges: connections without a handshake, captures, raw segments.

#[cfg(all(test, feature = "raw", target_os = "linux"))]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use async_io::Async;
use ntcp_proto::command::{Agreed, Ends};
use ntcp_proto::segment::Segment;
use ntcp_proto::{Answer, CommandId, Hops, Input, IoFailure, SocketId};

use super::{Entry, Happening, Kind, Sockets};
use crate::io::failure::classify;
use crate::io::privileged::Capture;
use crate::io::socket;

/// A socket that does nothing but hold the local end of a capture, which may be open before any
/// other socket is there.
pub(super) struct Holder {
    socket: OwnedFd,
    ends: Ends,
    /// The command that asked for the capture, until it is open.
    opening: Option<CommandId>,
}

/// A connect whose SYN is to be captured, until the capture is open.
pub(super) struct Held {
    pub(super) command: CommandId,
    pub(super) ends: Ends,
    pub(super) hops: Hops,
    pub(super) sequence: Option<u32>,
    /// How what follows the SYN travels, if that was told meanwhile.
    pub(super) then: Option<Hops>,
}

impl Sockets {
    /// Opens a stream without a handshake. Until somebody [takes](Self::take_stream) it, nothing of it outlives
    /// this program.
    pub(super) fn assume(
        &mut self,
        id: SocketId,
        ends: Ends,
        agreed: &Agreed,
        hops: Hops,
    ) -> io::Result<Ends> {
        let socket = socket::unconnected(ends.local, hops)?;
        self.powers.assume(socket.as_fd(), ends.remote, agreed)?;
        let stream = std::net::TcpStream::from(socket);
        socket::forget_when_closed(&stream)?;
        let ends = Ends { local: stream.local_addr()?, remote: stream.peer_addr()? };
        self.insert_stream(id, Arc::new(Async::new_nonblocking(stream)?));
        Ok(ends)
    }

    /// Opens a capture.
    pub(super) fn capture(
        &mut self,
        command: CommandId,
        id: SocketId,
        ends: Ends,
    ) -> io::Result<()> {
        let socket = OwnedFd::from(socket::tcp_bound(ends.local)?);
        let opening = self.powers.capture(socket.try_clone()?, ends.remote);
        self.insert(id, Kind::Capture(Holder { socket, ends, opening: Some(command) }));
        self.read(id, async move { Happening::CaptureOpened(id, opening.await) });
        Ok(())
    }

    /// A capture is open, or could not be opened; what waited for it goes on either way.
    pub(super) fn capture_opened(&mut self, id: SocketId, opened: io::Result<Capture>) {
        let Some(Entry { kind: Kind::Capture(holder), .. }) = self.open.get_mut(&id) else {
            return;
        };
        let Some(command) = holder.opening.take() else { return };
        let ends = holder.ends;
        let done = match opened {
            Ok(capture) => {
                self.await_syn(id, capture);
                Ok(())
            }
            Err(error) => {
                self.remove(id);
                Err(classify(&error))
            }
        };
        self.answers.push_back((command, Answer::Done(done)));
        self.release(ends);
    }

    fn await_syn(&mut self, id: SocketId, mut capture: Capture) {
        self.read(id, async move {
            let segment = capture.syn().await;
            Happening::Captured(id, segment)
        });
    }

    /// Whether a capture of this SYN is about to open.
    pub(super) fn is_awaited(&self, ends: Ends) -> bool {
        self.open.values().any(|entry| match &entry.kind {
            Kind::Capture(holder) => holder.opening.is_some() && covers(holder.ends, ends),
            _ => false,
        })
    }

    /// A capture is closed, perhaps before it was open.
    pub(super) fn capture_closed(&mut self, holder: &Holder) {
        if let Some(command) = holder.opening {
            self.answers.push_back((command, Answer::Done(Err(IoFailure::Closed))));
            self.release(holder.ends);
        }
    }

    /// Sends the SYNs that waited for a capture between these ends.
    fn release(&mut self, ends: Ends) {
        let held = self.open.iter().filter_map(|(id, entry)| match &entry.kind {
            Kind::Held(held) if covers(ends, held.ends) => Some(*id),
            _ => None,
        });
        for id in held.collect::<Vec<_>>() {
            if let Some(Entry { kind: Kind::Held(held), .. }) = self.remove(id) {
                self.begin_connect(id, &held);
            }
        }
    }

    /// Passes on what a capture saw. The first SYN is all that it is for; a capture that failed stays
    /// silent, as one does that sees nothing.
    pub(super) fn captured(
        &mut self,
        id: SocketId,
        segment: io::Result<Segment>,
        tell: impl FnOnce(Input<'_>),
    ) {
        let Some(Entry { kind: Kind::Capture(_), .. }) = self.open.get(&id) else { return };
        match segment {
            Ok(segment) => tell(Input::Captured { socket: id, segment }),
            Err(error) => tracing::debug!(%error, "a capture failed"),
        }
    }

    /// Sends a segment of a pair of ends that is connected or captured here.
    pub(super) fn inject(&mut self, segment: &Segment, ttl: u8) -> Result<(), IoFailure> {
        let out = Ends { local: segment.source, remote: segment.destination };
        let back = Ends { local: segment.destination, remote: segment.source };
        let holder = self.open.values().find_map(|entry| entry.holder([out, back]));
        let holder = holder.ok_or(IoFailure::NotPermitted)?;
        match self.powers.inject(holder, segment, ttl) {
            // A full queue, or a spent allowance.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(IoFailure::OutOfResources)
            }
            sent => sent.map_err(|error| classify(&error)),
        }
    }
}

impl Entry {
    /// The socket, if it is between one of these pairs of ends.
    fn holder(&self, pairs: [Ends; 2]) -> Option<BorrowedFd<'_>> {
        let (socket, ends) = match &self.kind {
            Kind::Connecting(_, ends, stream) => (stream.as_fd(), *ends),
            Kind::Stream(stream) => {
                let stream = stream.socket.get_ref();
                let ends =
                    Ends { local: stream.local_addr().ok()?, remote: stream.peer_addr().ok()? };
                (stream.as_fd(), ends)
            }
            Kind::Capture(Holder { socket, ends, .. }) => (socket.as_fd(), *ends),
            Kind::Udp(_) | Kind::Listener(_) | Kind::Held(_) => return None,
        };
        pairs.into_iter().any(|pair| covers(ends, pair)).then_some(socket)
    }
}

/// Whether a socket between `ends` is between `pair`: an unspecified address is any of this host's.
fn covers(ends: Ends, pair: Ends) -> bool {
    let local = if ends.local.ip().is_unspecified() {
        SocketAddr::new(pair.local.ip(), ends.local.port())
    } else {
        ends.local
    };
    local == pair.local && ends.remote == pair.remote
}
