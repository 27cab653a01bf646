//! Few sockets, from which very many addresses speak: a socket that is bound to none sends from any.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use super::streams::Streams;
use anyhow::Result;
use ntcp_raw::batch::{Destination, Receiver, Sender, tell_destinations};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

const SOCKETS: usize = 4;
const BATCH: usize = 64;
/// What waits to be read, so that nothing is lost on our side.
const BUFFER: usize = 8 << 20;
/// The first address: from here on 127.0.0.0/8 has fifteen million.
const FIRST: u32 = u32::from_be_bytes([127, 16, 0, 0]);

/// Over what peers speak to brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Udp,
    Tcp,
}

/// The sockets of all peers.
pub(crate) struct Sockets {
    /// Where all but the echo is spoken to over TCP.
    streams: Option<Streams>,
    sockets: Vec<(UdpSocket, u16)>,
    receiver: Receiver,
    senders: Vec<Sender>,
}

impl Sockets {
    pub(crate) fn open(over: Over) -> Result<Self> {
        let streams = (over == Over::Tcp).then(Streams::new).transpose()?;
        let open = || -> Result<(UdpSocket, u16)> {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_nonblocking(true)?;
            tell_destinations(&socket)?;
            if set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
                set_socket_recv_buffer_size(&socket, BUFFER)?;
            }
            let port = socket.local_addr()?.port();
            Ok((socket, port))
        };
        let sockets: Result<Vec<_>> = (0..SOCKETS).map(|_| open()).collect();
        let senders = (0..SOCKETS).map(|_| Sender::new(BATCH)).collect();
        Ok(Self { streams, sockets: sockets?, receiver: Receiver::new(BATCH), senders })
    }

    /// The address of a peer as its broker sees it.
    pub(crate) fn address(&self, peer: usize) -> SocketAddr {
        let over_tcp = self.streams.as_ref().and_then(|it| it.address(peer));
        over_tcp.unwrap_or_else(|| SocketAddr::new(ip(peer).into(), self.sockets[peer % SOCKETS].1))
    }

    /// Has a peer be able to speak to this broker.
    pub(crate) fn connect(&mut self, peer: usize, broker: SocketAddr) -> Result<()> {
        self.streams.as_mut().map_or(Ok(()), |it| it.connect(peer, ip(peer), broker))
    }

    /// Has a message of a peer to its broker leave, now or with others.
    pub(crate) fn send(&mut self, peer: usize, bytes: &[u8], to: SocketAddr) -> Result<()> {
        match &mut self.streams {
            Some(streams) => streams.send(peer, bytes),
            None => {
                self.send_datagram(peer, bytes, to);
                Ok(())
            }
        }
    }

    /// Has a datagram of a peer wait to be sent.
    pub(crate) fn send_datagram(&mut self, peer: usize, bytes: &[u8], to: SocketAddr) {
        let from = SocketAddr::new(ip(peer).into(), self.sockets[peer % SOCKETS].1);
        let (sender, (socket, _)) =
            (&mut self.senders[peer % SOCKETS], &self.sockets[peer % SOCKETS]);
        if sender.room(bytes.len()).is_none() {
            sender.flush(socket);
        }
        if let Some(room) = sender.room(bytes.len()) {
            room[..bytes.len()].copy_from_slice(bytes);
            sender.push(bytes.len(), to, Some(from));
        }
    }

    /// Sends all that waits.
    pub(crate) fn flush(&mut self) {
        for (sender, (socket, _)) in self.senders.iter_mut().zip(&self.sockets) {
            sender.flush(socket);
        }
    }

    /// Hands over what has arrived: for which peer, from where, and what.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(usize, SocketAddr, &[u8])) -> Result<()> {
        if let Some(streams) = &mut self.streams {
            streams.receive(&mut take)?;
        }
        for (index, (socket, _)) in self.sockets.iter().enumerate() {
            let count = match self.receiver.receive(socket) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                // A server that has gone.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error.into()),
            };
            for datagram in (0..count).filter_map(|it| self.receiver.datagram(it)) {
                let Destination::Own { ip: std::net::IpAddr::V4(ip), .. } = datagram.destination
                else {
                    continue;
                };
                let peer = u32::from(ip).wrapping_sub(FIRST) as usize;
                if peer % SOCKETS == index {
                    take(peer, datagram.source, datagram.bytes);
                }
            }
        }
        Ok(())
    }
}

/// The address of a peer, which nobody shares.
fn ip(peer: usize) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + peer as u32)
}
