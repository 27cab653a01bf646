//! A stream for each peer, from an address of its own.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context as _, Result};
use ntcp_proto::signal::codec::MAX_MESSAGE_BYTES;
use ntcp_stun::framing::Deframer;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use socket2::{Domain, Socket, Type};

/// Streams that are looked at together.
const BATCH: usize = 256;

struct Stream {
    socket: TcpStream,
    own: SocketAddr,
    server: SocketAddr,
    deframer: Deframer,
}

/// The streams of all peers.
pub(crate) struct Streams {
    open: HashMap<usize, Stream>,
    poll: OwnedFd,
    ready: Vec<epoll::Event>,
}

impl Streams {
    pub(crate) fn new() -> Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { open: HashMap::new(), poll, ready: Vec::with_capacity(BATCH) })
    }

    /// The address of a peer that has spoken.
    pub(crate) fn address(&self, peer: usize) -> Option<SocketAddr> {
        self.open.get(&peer).map(|it| it.own)
    }

    /// Connects a peer that is not connected yet.
    pub(crate) fn connect(&mut self, peer: usize, own: Ipv4Addr, server: SocketAddr) -> Result<()> {
        if self.open.contains_key(&peer) {
            return Ok(());
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(own.into(), 0).into())?;
        socket.connect(&server.into()).with_context(|| format!("{own} to {server}"))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let socket = TcpStream::from(socket);
        let data = epoll::EventData::new_u64(peer as u64);
        epoll::add(&self.poll, &socket, data, epoll::EventFlags::IN)?;
        let (own, deframer) = (socket.local_addr()?, Deframer::new(MAX_MESSAGE_BYTES));
        self.open.insert(peer, Stream { socket, own, server, deframer });
        Ok(())
    }

    /// Sends a message of a peer, which has few under way: the system takes it whole.
    pub(crate) fn send(&mut self, peer: usize, bytes: &[u8]) -> Result<()> {
        let stream = self.open.get_mut(&peer).context("a peer without a stream")?;
        stream.socket.write_all(bytes).with_context(|| format!("peer {peer}"))
    }

    /// Hands over what has arrived: for which peer, from where, and what.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(usize, SocketAddr, &[u8])) -> Result<()> {
        self.ready.clear();
        epoll::wait(&self.poll, spare_capacity(&mut self.ready), Some(&Timespec::default()))?;
        for event in &self.ready {
            let peer = event.data.u64() as usize;
            let Some(stream) = self.open.get_mut(&peer) else { continue };
            match stream.socket.read(stream.deframer.spare()) {
                Ok(0) => anyhow::bail!("the broker has closed the stream of peer {peer}"),
                Ok(length) => stream.deframer.filled(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).context(format!("peer {peer}")),
            }
            while let Some(message) = stream.deframer.next_message()? {
                take(peer, stream.server, message);
            }
        }
        Ok(())
    }
}
