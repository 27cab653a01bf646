//! A UDP socket that knows at which address a datagram came and answers from that one.
//!
//! A socket bound to a concrete address needs nothing for that. One that is bound to all addresses of a host would
//! answer from whichever its route prefers, and the client would not know the answer; so on Linux each datagram tells
//! the address it was sent to, and the answer carries it too.

#[cfg(target_os = "linux")]
use crate::packet_info as any_address;
use async_io::Async;
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// One UDP socket.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: Async<UdpSocket>,
    address: SocketAddr,
}

/// A datagram that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) length: usize,
    pub(crate) source: SocketAddr,
    /// The address it was sent to; with an unspecified IP if the system does not tell.
    pub(crate) local: SocketAddr,
}

impl Datagrams {
    pub(crate) fn new(socket: UdpSocket, address: SocketAddr) -> io::Result<Self> {
        if address.ip().is_unspecified() {
            any_address::ask_for(&socket, address)?;
        }
        Ok(Self { socket: Async::new_nonblocking(socket)?, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// The next datagram, `None` if it is to be passed over; `WouldBlock` if there is none.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Arrived>> {
        let socket = self.socket.get_ref();
        if self.address.ip().is_unspecified() {
            return any_address::receive(socket, self.address, buffer);
        }
        let (length, source) = socket.recv_from(buffer)?;
        Ok(Some(Arrived { length, source, local: self.address }))
    }

    /// Sends from `from`, which is this socket's address; a full buffer is a lost datagram.
    pub(crate) fn send(&self, payload: &[u8], from: SocketAddr, to: SocketAddr) -> io::Result<()> {
        let socket = self.socket.get_ref();
        if self.address.ip().is_unspecified() {
            return any_address::send(socket, payload, from, to);
        }
        socket.send_to(payload, to).map(drop)
    }
}

#[cfg(not(target_os = "linux"))]
mod any_address {
    use super::Arrived;
    use std::io;
    use std::net::{SocketAddr, UdpSocket};

    pub(super) fn ask_for(_: &UdpSocket, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn receive(
        socket: &UdpSocket,
        address: SocketAddr,
        buffer: &mut [u8],
    ) -> io::Result<Option<Arrived>> {
        let (length, source) = socket.recv_from(buffer)?;
        Ok(Some(Arrived { length, source, local: address }))
    }

    pub(super) fn send(
        socket: &UdpSocket,
        payload: &[u8],
        _: SocketAddr,
        to: SocketAddr,
    ) -> io::Result<()> {
        socket.send_to(payload, to).map(drop)
    }
}
