//! [`Shard`]: a thread with UDP sockets of its own and a server of its own.
//!
//! Each core has a shard, and the kernel deals the datagrams of an address out among the shards' sockets by source
//! (`SO_REUSEPORT`). A shard shares nothing with the others while it works: it waits for any of its sockets, takes what
//! is there with one call, answers each request, and sends the replies with one call for each
//! socket they must leave from. Nothing is allocated, locked or remembered for a datagram.
//!
//! ```text
//!  poll ─▶ receive up to 64 ─▶ answer each ─▶ send what leaves here ─▶ next socket, or poll
//!                                   └────────▶ send what must leave elsewhere (CHANGE-REQUEST)
//! ```

use crate::live::Follower;
use crate::other::Other;
use crate::partner::Partner;
use ntcp_raw::batch::{self, Datagram, Destination, Receiver, Sender};
use ntcp_stun::server::{self, Counters, Heeded, Reply, Request, Transport};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, PipeReader, PipeWriter};
use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// Datagrams that are taken with one call.
const BATCH: usize = 64;
/// Bytes for a reply: more than any has, since memory of this size comes from the kernel as it is touched, and not
/// at once (`M_MMAP_THRESHOLD`, mallopt(3)).
const REPLY: usize = 2 * (batch::MAX_DATAGRAM + 1);

/// A UDP socket and its address.
#[derive(Debug)]
pub(crate) struct Place {
    socket: UdpSocket,
    address: SocketAddr,
    /// Bound to no address, so that each reply must be told its source.
    is_any: bool,
}

impl Place {
    pub(crate) fn new(socket: UdpSocket, address: SocketAddr) -> io::Result<Self> {
        let is_any = address.ip().is_unspecified();
        if is_any {
            batch::tell_destinations(&socket)?;
        }
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address, is_any })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Another descriptor of the same socket.
    pub(crate) fn another(&self) -> io::Result<UdpSocket> {
        self.socket.try_clone()
    }

    #[cfg(feature = "dtls")]
    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    #[cfg(feature = "dtls")]
    pub(crate) fn is_any(&self) -> bool {
        self.is_any
    }

    /// The server's address that a datagram came to; `None` for one that was sent to many, which is not ours to answer.
    pub(crate) fn local(&self, destination: Destination) -> Option<SocketAddr> {
        match destination {
            Destination::Untold => Some(self.address),
            Destination::Many => None,
            Destination::Own { ip, scope: 0 } => Some(SocketAddr::new(ip, self.address.port())),
            Destination::Own { ip: std::net::IpAddr::V6(ip), scope } => {
                Some(SocketAddrV6::new(ip, self.address.port(), 0, scope).into())
            }
            Destination::Own { ip, .. } => Some(SocketAddr::new(ip, self.address.port())),
        }
    }
}

/// What a shard has counted, for others to read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<Counters>>);

impl Tally {
    pub(crate) fn read(&self) -> Counters {
        // Only copied in and out: a panic cannot have left it half changed.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, counters: Counters) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
}

/// The sockets of one thread, and the protocol's server for them.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) places: Vec<Place>,
    pub(crate) server: server::Server,
    pub(crate) tally: Tally,
    pub(crate) other: Other,
    pub(crate) follower: Follower,
}

/// Threads that serve until this is dropped.
#[derive(Debug)]
pub(crate) struct Threads {
    /// The shards wait for its other end too.
    stop: Option<PipeWriter>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(crate) fn start(shards: Vec<Shard>) -> io::Result<Self> {
        let (halt, stop) = io::pipe()?;
        let halt = Arc::new(halt);
        let mut threads = Self { stop: Some(stop), threads: Vec::new() };
        for (index, shard) in shards.into_iter().enumerate() {
            let halt = Arc::clone(&halt);
            let thread = std::thread::Builder::new().name(format!("udp-{index}"));
            threads.threads.push(thread.spawn(move || shard.run(&halt))?);
        }
        Ok(threads)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the server panicked");
            }
        }
    }
}

impl Shard {
    /// Serves until the other end of `halt` is closed.
    fn run(self, halt: &PipeReader) {
        let Self { places, server, tally, other, mut follower } = self;
        let senders = places.iter().map(|_| Sender::new(BATCH)).collect();
        let reply = vec![0; REPLY].into();
        let partners = other.partners();
        let mut work = Work { places: &places, partners, senders, server, reply, lost: 0 };
        let mut receiver = Receiver::new(BATCH);
        let sockets = places.iter().map(|it| PollFd::new(&it.socket, PollFlags::IN));
        let mut waited: Vec<_> = sockets.chain([PollFd::new(halt, PollFlags::IN)]).collect();
        loop {
            match poll(&mut waited, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return tracing::error!(%error, "UDP sockets cannot be waited for"),
            }
            if waited.last().is_some_and(|it| !it.revents().is_empty()) {
                return;
            }
            work.server.advance(Instant::now());
            other.tell(&mut work.server);
            follower.follow(&mut work.server);
            for (index, place) in places.iter().enumerate() {
                if !waited[index].revents().is_empty() {
                    work.serve(index, place, &mut receiver);
                }
            }
            tally.write(work.counters());
        }
    }
}

/// What a shard works with.
struct Work<'a> {
    places: &'a [Place],
    partners: &'a [Partner],
    /// One for each place.
    senders: Vec<Sender>,
    server: server::Server,
    /// Where a reply is written before it is known from where it leaves.
    reply: Box<[u8]>,
    /// Replies that the kernel refused.
    lost: u64,
}

impl Work<'_> {
    fn counters(&self) -> Counters {
        let mut counters = *self.server.counters();
        counters.lost = self.lost;
        counters
    }

    /// Takes what has arrived at one socket and answers it.
    fn serve(&mut self, index: usize, place: &Place, receiver: &mut Receiver) {
        let count = match receiver.receive(&place.socket) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // What the network reports about an earlier datagram.
            Err(error) => return tracing::trace!(address = %place.address, %error, "UDP"),
        };
        for datagram in (0..count).filter_map(|it| receiver.datagram(it)) {
            self.answer(index, place, datagram);
        }
        for (place, sender) in self.places.iter().zip(&mut self.senders) {
            self.lost += sender.flush(&place.socket).lost as u64;
        }
    }

    fn answer(&mut self, index: usize, place: &Place, datagram: Datagram<'_>) {
        let Some(local) = place.local(datagram.destination) else { return };
        let (bytes, source) = (datagram.bytes, datagram.source);
        if let Some(partner) = self.partners.iter().find(|it| it.is_source(source)) {
            return self.heed(partner, bytes, (source, local));
        }
        let request = Request { bytes, source, local, transport: Transport::Udp };
        match self.server.handle_request(request, &mut self.reply) {
            Ok(reply) if place.is_any || place.address == reply.from => self.queue(index, reply),
            Ok(reply) => match self.place_at(reply.from) {
                Some(elsewhere) => self.queue(elsewhere, reply),
                None => self.forward(bytes, (source, local)),
            },
            Err(silence) => tracing::trace!(%source, %silence, "not answered"),
        }
    }

    fn place_at(&self, address: SocketAddr) -> Option<usize> {
        self.places.iter().position(|it| it.address == address)
    }

    /// Has the partner answer a request, since it must come from there.
    fn forward(&mut self, bytes: &[u8], (source, local): (SocketAddr, SocketAddr)) {
        let partner = self.partners.iter().find(|it| it.own().ip() == local.ip());
        let written = partner.and_then(|it| {
            let length = it.forward(bytes, source, local, &mut self.reply)?;
            Some((self.place_at(it.own())?, Reply { length, from: it.own(), to: it.address() }))
        });
        match written {
            Some((index, message)) => self.queue(index, message),
            None => self.lost += 1,
        }
    }

    /// A datagram from the partner's address.
    fn heed(&mut self, partner: &Partner, bytes: &[u8], way: (SocketAddr, SocketAddr)) {
        let reply = match partner.heed(bytes, way, &mut self.reply) {
            Heeded::Nothing | Heeded::Refused => return,
            Heeded::Reply(length) => Reply { length, from: partner.own(), to: partner.address() },
            Heeded::Forwarded { request: bytes, client: source, asked: local } => {
                let request = Request { bytes, source, local, transport: Transport::Udp };
                match self.server.handle_forwarded(request, &mut self.reply) {
                    Ok(reply) => reply,
                    Err(silence) => return tracing::trace!(%silence, "not answered"),
                }
            }
        };
        if let Some(index) = self.place_at(reply.from) {
            self.queue(index, reply);
        }
    }

    /// Has a reply wait until the others of its batch are written.
    fn queue(&mut self, index: usize, reply: Reply) {
        let (place, sender) = (&self.places[index], &mut self.senders[index]);
        if sender.room(reply.length).is_none() {
            self.lost += sender.flush(&place.socket).lost as u64;
        }
        let Some(room) = sender.room(reply.length) else { return };
        room[..reply.length].copy_from_slice(&self.reply[..reply.length]);
        sender.push(reply.length, reply.to, place.is_any.then_some(reply.from));
    }
}
