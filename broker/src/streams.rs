//! TCP streams: messages in, messages out, within bounds.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use futures::stream::FuturesUnordered;
use futures::{Future, FutureExt};
use ntcp_proto::address::site;
use ntcp_proto::rendezvous::StreamId;
use ntcp_proto::signal::codec::MAX_MESSAGE_BYTES;
use ntcp_service::Rarely;
use ntcp_stun::framing::Deframer;

use crate::Options;

/// Streams that come when there is no room are said to be closed no more often.
static TOO_MANY: Rarely = Rarely::new(Duration::from_secs(60));

/// What happened on a stream.
pub(crate) enum Happening {
    /// Something has arrived, or it has said nothing for too long.
    Readable { stream: StreamId, result: io::Result<()> },
    /// There is room again for what waits to be sent.
    Writable { stream: StreamId },
}

/// Waits for one thing on one stream. Most streams say nothing for most of the time, so it is small.
pub(crate) struct Wait {
    stream: StreamId,
    socket: Arc<Async<TcpStream>>,
    /// Until when something must have arrived; `None` waits for room to write.
    until: Option<Timer>,
}

impl Future for Wait {
    type Output = Happening;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Happening> {
        let stream = self.stream;
        let Some(until) = &mut self.until else {
            // A failure shows in the write that follows.
            return self.socket.poll_writable(context).map(|_| Happening::Writable { stream });
        };
        if until.poll_unpin(context).is_ready() {
            let result = Err(io::ErrorKind::TimedOut.into());
            return Poll::Ready(Happening::Readable { stream, result });
        }
        let readable = self.socket.poll_readable(context);
        readable.map(|result| Happening::Readable { stream, result })
    }
}

struct Stream {
    socket: Arc<Async<TcpStream>>,
    remote: SocketAddr,
    /// When its next message must be there.
    until: Instant,
    unsent: Vec<u8>,
    /// The beginning of a message.
    partial: Option<Box<Deframer>>,
}

/// All streams.
pub(crate) struct Streams {
    open: HashMap<StreamId, Stream>,
    by_site: HashMap<IpAddr, usize>,
    /// What is awaited.
    pub(crate) waiting: FuturesUnordered<Wait>,
    /// Where messages are read into; kept by who has sent half a message.
    desk: Option<Box<Deframer>>,
    accepted: u64,
    max_streams: usize,
    max_streams_per_address: usize,
    max_unread: usize,
    first_message: Duration,
    next_message: Duration,
}

impl Streams {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            open: HashMap::new(),
            by_site: HashMap::new(),
            waiting: FuturesUnordered::new(),
            desk: None,
            accepted: 0,
            max_streams: options.max_streams,
            max_streams_per_address: options.max_streams_per_address,
            max_unread: options.max_unread,
            first_message: options.first_message,
            next_message: options.next_message,
        }
    }

    /// Takes a stream in, or closes it when there are too many.
    pub(crate) fn accept(&mut self, socket: TcpStream, remote: SocketAddr) -> io::Result<()> {
        let of_site = self.by_site.get(&site(remote.ip())).copied().unwrap_or(0);
        if self.open.len() >= self.max_streams {
            if let Some(unsaid) = TOO_MANY.may_say(Instant::now()) {
                let limit = self.max_streams;
                tracing::warn!(
                    limit,
                    unsaid,
                    "too many streams, closed: peers stay reachable, but know less of their NAT. Raise [registry] peers, of which there are half as many, or the number of descriptors (ulimit -n, LimitNOFILE)"
                );
            }
            return Ok(());
        }
        if of_site >= self.max_streams_per_address {
            let limit = self.max_streams_per_address;
            tracing::debug!(%remote, limit, "too many streams of one address, closed");
            return Ok(());
        }
        // An order is small and urgent: it must not wait for the acknowledgement of the last one.
        socket.set_nodelay(true)?;
        let socket = Arc::new(Async::new(socket)?);
        self.accepted += 1;
        let id = StreamId(self.accepted);
        let until = Instant::now() + self.first_message;
        self.by_site.insert(site(remote.ip()), of_site + 1);
        self.open.insert(id, Stream { socket, remote, until, unsent: Vec::new(), partial: None });
        self.wait_for_more(id);
        Ok(())
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }

    /// The peer's address, as long as the stream is open.
    pub(crate) fn remote(&self, id: StreamId) -> Option<SocketAddr> {
        self.open.get(&id).map(|stream| stream.remote)
    }

    /// Takes what has arrived: the whole messages, of which there may be none yet.
    ///
    /// # Errors
    ///
    /// The stream has ended or failed, or what came is not STUN.
    pub(crate) fn read(&mut self, id: StreamId) -> io::Result<Vec<Vec<u8>>> {
        let stream = self.open.get_mut(&id).ok_or(io::ErrorKind::NotConnected)?;
        let desk = stream.partial.take().or_else(|| self.desk.take());
        let mut desk = desk.unwrap_or_else(|| Box::new(Deframer::new(MAX_MESSAGE_BYTES)));
        let messages = read_messages(stream.socket.get_ref(), &mut desk)?;
        if !messages.is_empty() {
            stream.until = Instant::now() + self.next_message;
        }
        if desk.is_at_boundary() {
            self.desk = Some(desk);
        } else {
            stream.partial = Some(desk);
        }
        Ok(messages)
    }

    /// Waits for more of a stream, if it is open.
    pub(crate) fn wait_for_more(&self, id: StreamId) {
        if let Some(Stream { socket, until, .. }) = self.open.get(&id) {
            let until = Some(Timer::at(*until));
            self.waiting.push(Wait { stream: id, socket: socket.clone(), until });
        }
    }

    /// Sends, now or as soon as there is room; `false` if the stream is gone, or its peer does not
    /// read: it is closed then.
    pub(crate) fn send(&mut self, id: StreamId, payload: &[u8]) -> bool {
        let Some(stream) = self.open.get_mut(&id) else { return false };
        let was_waiting = !stream.unsent.is_empty();
        if stream.unsent.len() + payload.len() > self.max_unread {
            tracing::debug!(remote = %stream.remote, limit = self.max_unread, "does not read, closed");
            self.close(id);
            return false;
        }
        stream.unsent.extend_from_slice(payload);
        was_waiting || self.write(id)
    }

    /// Writes what waits; `false` if the stream has failed and is closed.
    pub(crate) fn write(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.open.get_mut(&id) else { return false };
        while !stream.unsent.is_empty() {
            match stream.socket.get_ref().write(&stream.unsent) {
                Ok(length) => drop(stream.unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let socket = stream.socket.clone();
                    self.waiting.push(Wait { stream: id, socket, until: None });
                    return true;
                }
                Err(_) => {
                    self.close(id);
                    return false;
                }
            }
        }
        true
    }

    /// Closes a stream; whoever waits for it finds it gone.
    pub(crate) fn close(&mut self, id: StreamId) {
        if let Some(stream) = self.open.remove(&id) {
            let site = site(stream.remote.ip());
            match self.by_site.get_mut(&site) {
                Some(count) if *count > 1 => *count -= 1,
                Some(_) | None => drop(self.by_site.remove(&site)),
            }
            // It may be closed already.
            let _ = stream.socket.get_ref().shutdown(Shutdown::Both);
        }
    }
}

/// Reads until there is at least one message or nothing more has arrived, and returns all that are there.
fn read_messages(mut socket: &TcpStream, deframer: &mut Deframer) -> io::Result<Vec<Vec<u8>>> {
    loop {
        let mut messages = Vec::new();
        while let Some(message) = deframer.next_message().map_err(io::Error::other)? {
            messages.push(message.to_vec());
        }
        if !messages.is_empty() {
            return Ok(messages);
        }
        match socket.read(deframer.spare()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => deframer.filled(length),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(messages),
            Err(error) => return Err(error),
        }
    }
}
