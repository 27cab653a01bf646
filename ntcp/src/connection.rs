//! A direct path to a peer, as a byte stream.

#[cfg(feature = "async-std")]
mod async_std;
#[cfg(feature = "tokio")]
mod tokio;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_io::Async;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use ntcp_proto::candidate::Transport;
use ntcp_proto::puncher::report::{Report, Strategy};
use ntcp_proto::uri::PeerName;

use crate::quic::{Secured, arrived};
use crate::sealed::Sealed;
use ntcp_raw::tcp_info;

/// A direct path to a peer.
///
/// Reads and writes bytes that only the peer can read: over TCP in sealed records, over UDP on a QUIC
/// stream, which carries datagrams besides. Closing (`AsyncWriteExt::close`) ends our direction and leaves the
/// peer's open; over QUIC it waits until the peer has acknowledged everything, or has read it to the end and
/// gone, so that dropping the connection afterwards loses nothing.
pub struct Connection {
    kind: Kind,
    peer: Option<PeerName>,
    report: Report,
}

enum Kind {
    /// The bare socket.
    Tcp(Async<TcpStream>),
    Sealed(Box<Sealed>),
    Udp(Box<Udp>),
}

struct Udp {
    secured: Secured,
    socket: UdpSocket,
    /// Waits for the acknowledgement of everything, once our direction has ended.
    finishing: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl Connection {
    pub(crate) fn tcp(stream: Async<TcpStream>, peer: Option<PeerName>, report: Report) -> Self {
        Self { kind: Kind::Tcp(stream), peer, report }
    }

    pub(crate) fn sealed(sealed: Sealed, peer: Option<PeerName>, report: Report) -> Self {
        Self { kind: Kind::Sealed(Box::new(sealed)), peer, report }
    }

    pub(crate) fn udp(
        secured: Secured,
        socket: UdpSocket,
        peer: Option<PeerName>,
        report: Report,
    ) -> Self {
        let udp = Udp { secured, socket, finishing: None };
        Self { kind: Kind::Udp(Box::new(udp)), peer, report }
    }

    /// The name the peer is registered under; `None` for a caller without a name.
    pub fn peer_name(&self) -> Option<&PeerName> {
        self.peer.as_ref()
    }

    /// Over what it runs.
    pub fn transport(&self) -> Transport {
        match self.kind {
            Kind::Tcp(_) | Kind::Sealed(_) => Transport::Tcp,
            Kind::Udp(_) => Transport::Udp,
        }
    }

    /// How it came about.
    pub fn strategy(&self) -> Option<Strategy> {
        self.report.strategy
    }

    /// The peer's end, as this host sees it.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.report.remote
    }

    /// Our end, as this host sees it.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.report.local
    }

    /// The present estimate of the round-trip time: the kernel's over TCP, QUIC's over UDP.
    pub fn rtt(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Tcp(stream) => tcp_info::rtt(stream.get_ref()),
            Kind::Sealed(sealed) => tcp_info::rtt(sealed.socket()),
            Kind::Udp(udp) => Some(udp.secured.connection.rtt()),
        }
    }

    /// Everything that was tried on the way here.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Whether nobody but the peer can read what is written: always, unless both nodes were
    /// configured with `[security] plain_paths` and the path is a TCP one.
    pub fn is_encrypted(&self) -> bool {
        match self.kind {
            Kind::Tcp(_) => false,
            Kind::Sealed(_) | Kind::Udp(_) => true,
        }
    }

    /// The kernel's socket of a bare TCP connection, non-blocking: both nodes have asked for it with
    /// `[security] plain_paths`.
    ///
    /// # Errors
    ///
    /// The connection itself, if it is encrypted or runs over UDP.
    #[expect(clippy::result_large_err, reason = "the error is the connection, given back")]
    pub fn into_tcp_stream(self) -> Result<TcpStream, Self> {
        match &self.kind {
            // A clone of the descriptor fails only when the process has none left.
            Kind::Tcp(stream) => stream.get_ref().try_clone().map_err(|_| self),
            Kind::Sealed(_) | Kind::Udp(_) => Err(self),
        }
    }

    /// The punched socket of a UDP connection, non-blocking and connected to the peer. QUIC on it
    /// ends: the peer has to take its socket likewise.
    ///
    /// # Errors
    ///
    /// The connection itself, if it runs over TCP.
    #[expect(clippy::result_large_err, reason = "the error is the connection, given back")]
    pub fn into_udp_socket(self) -> Result<UdpSocket, Self> {
        match self.kind {
            Kind::Udp(udp) => {
                udp.secured.connection.close(0u8.into(), b"the socket is taken");
                udp.secured.early.retire();
                Ok(udp.socket)
            }
            Kind::Tcp(_) | Kind::Sealed(_) => Err(self),
        }
    }

    /// Sends one datagram, unreliably. Its limit is [`Connection::max_datagram_size`].
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] over TCP, [`io::ErrorKind::InvalidInput`] when it is too long,
    /// and otherwise that the connection is lost.
    pub fn send_datagram(&self, datagram: &[u8]) -> io::Result<()> {
        let Kind::Udp(udp) = &self.kind else { return Err(no_datagrams()) };
        let sent = udp.secured.connection.send_datagram(datagram.to_vec().into());
        sent.map_err(|error| match error {
            quinn::SendDatagramError::TooLarge => {
                io::Error::new(io::ErrorKind::InvalidInput, error)
            }
            other => io::Error::new(io::ErrorKind::NotConnected, other),
        })
    }

    /// The next datagram of the peer. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] over TCP, and otherwise that the connection is lost.
    pub async fn receive_datagram(&self) -> io::Result<Vec<u8>> {
        let Kind::Udp(udp) = &self.kind else { return Err(no_datagrams()) };
        let received = udp.secured.connection.read_datagram().await;
        Ok(received.map_err(io::Error::from)?.to_vec())
    }

    /// The longest datagram that fits at present, in bytes; `None` over TCP.
    pub fn max_datagram_size(&self) -> Option<usize> {
        match &self.kind {
            Kind::Tcp(_) | Kind::Sealed(_) => None,
            Kind::Udp(udp) => udp.secured.connection.max_datagram_size(),
        }
    }
}

fn no_datagrams() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a TCP connection carries no datagrams")
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("transport", &self.transport())
            .field("peer", &self.peer)
            .field("remote", &self.report.remote)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Kind::Sealed(sealed) => Pin::new(sealed).poll_read(context, buffer),
            Kind::Udp(udp) => udp.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Kind::Sealed(sealed) => Pin::new(sealed).poll_write(context, bytes),
            Kind::Udp(udp) => {
                AsyncWrite::poll_write(Pin::new(&mut udp.secured.send), context, bytes)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Kind::Sealed(sealed) => Pin::new(sealed).poll_flush(context),
            Kind::Udp(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => match stream.get_ref().shutdown(Shutdown::Write) {
                // The peer was quicker: our direction has ended all the same.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
                ended => Poll::Ready(ended),
            },
            Kind::Sealed(sealed) => Pin::new(sealed).poll_close(context),
            Kind::Udp(udp) => udp.poll_finish(context),
        }
    }
}

impl Udp {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let receive = Pin::new(&mut self.secured.receive);
        let read = ready!(AsyncRead::poll_read(receive, context, buffer));
        if matches!(read, Ok(0)) && !buffer.is_empty() {
            self.secured.all_read = true;
        }
        Poll::Ready(read)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.finishing.is_none() {
            // An error says that it was finished or stopped before; either way there is nothing left.
            let _ = self.secured.send.finish();
        }
        let finishing = self.finishing.get_or_insert_with(|| {
            let stopped = self.secured.send.stopped();
            Box::pin(async move { arrived(stopped.await) })
        });
        let finished = ready!(finishing.poll_unpin(context));
        self.finishing = None;
        Poll::Ready(finished)
    }
}

#[cfg(test)]
mod tests;
