//! UDP sockets that take and send many datagrams a system call, and answer from the very address that was asked.
//!
//! A host with several addresses that listens on all of them would answer from whichever its route
//! prefers, and the asker would not know the answer. On Linux such a socket is told the address each
//! datagram was sent to, and says it with the answer.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::task::{Context, Poll};

use async_io::Async;
use ntcp_raw::batch::{self, Destination, Receiver, Sender};

/// Datagrams that are taken, and sent, with one call.
pub(crate) const BATCH: usize = 64;

/// One UDP socket, and what waits to be sent from it.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: Async<UdpSocket>,
    address: SocketAddr,
    sender: Sender,
}

impl Datagrams {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let address = socket.local_addr()?;
        if address.ip().is_unspecified() {
            batch::tell_destinations(&socket)?;
        }
        let socket = Async::new_nonblocking(socket)?;
        Ok(Self { socket, address, sender: Sender::new(BATCH) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_readable(context)
    }

    /// Takes the next datagrams; `WouldBlock` when there are none.
    pub(crate) fn receive(&self, receiver: &mut Receiver) -> io::Result<usize> {
        receiver.receive(self.socket.get_ref())
    }

    /// The address of ours that a datagram came to, if it is known; `Err` for one that was sent to many, which is not
    /// ours to answer.
    pub(crate) fn local(&self, destination: Destination) -> Result<Option<IpAddr>, ToMany> {
        match destination {
            Destination::Own { ip, .. } => Ok(Some(ip)),
            Destination::Untold if self.address.ip().is_unspecified() => Ok(None),
            Destination::Untold => Ok(Some(self.address.ip())),
            Destination::Many => Err(ToMany),
        }
    }

    /// Has a datagram leave with the next [`Self::flush`].
    pub(crate) fn send(&mut self, payload: &[u8], local: Option<IpAddr>, remote: SocketAddr) {
        if self.sender.room(payload.len()).is_none() {
            self.flush();
        }
        let Some(room) = self.sender.room(payload.len()) else { return };
        room[..payload.len()].copy_from_slice(payload);
        let from = local.filter(|_| self.address.ip().is_unspecified());
        self.sender.push(payload.len(), remote, from.map(|ip| source(ip, remote)));
    }

    /// Sends what waits; a full buffer is lost datagrams.
    pub(crate) fn flush(&mut self) {
        let lost = self.sender.flush(self.socket.get_ref()).lost;
        if lost > 0 {
            tracing::trace!(lost, "send");
        }
    }
}

/// A datagram that was sent to a broadcast or multicast address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ToMany;

/// Our address, for an answer to `remote`: a link-local one is one only on the interface that the request came in on.
fn source(ip: IpAddr, remote: SocketAddr) -> SocketAddr {
    match (ip, remote) {
        (IpAddr::V6(ip), SocketAddr::V6(remote)) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, 0, 0, remote.scope_id()).into()
        }
        (ip, _) => SocketAddr::new(ip, 0),
    }
}
