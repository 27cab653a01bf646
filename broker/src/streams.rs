//! TCP streams: messages in, messages out, within bounds.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_io::{Async, Timer};
use futures::future::Either;
use futures::stream::FuturesUnordered;
use futures::{Future, FutureExt};
use ntcp_proto::rendezvous::StreamId;
use ntcp_proto::signal::codec::MAX_MESSAGE_BYTES;
use ntcp_stun::framing::Deframer;

use crate::Options;

/// What happened on a stream.
pub(crate) enum Happening {
    /// Messages arrived, in their order; or the stream ended, also by saying nothing for too long
    /// or something that is not STUN.
    Read { stream: StreamId, deframer: Box<Deframer>, result: io::Result<Vec<Vec<u8>>> },
    /// There is room again for what waits to be sent.
    Writable { stream: StreamId },
}

type Waiting = Pin<Box<dyn Future<Output = Happening> + Send>>;

struct Stream {
    socket: Arc<Async<TcpStream>>,
    remote: SocketAddr,
    unsent: Vec<u8>,
}

/// All streams.
pub(crate) struct Streams {
    open: HashMap<StreamId, Stream>,
    /// What is awaited.
    pub(crate) waiting: FuturesUnordered<Waiting>,
    accepted: u64,
    max_streams: usize,
    max_unread: usize,
    first_message: Duration,
    next_message: Duration,
}

impl Streams {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            open: HashMap::new(),
            waiting: FuturesUnordered::new(),
            accepted: 0,
            max_streams: options.max_streams,
            max_unread: options.max_unread,
            first_message: options.first_message,
            next_message: options.next_message,
        }
    }

    /// Takes a stream in, or closes it when there are too many.
    pub(crate) fn accept(&mut self, socket: TcpStream, remote: SocketAddr) -> io::Result<()> {
        if self.open.len() >= self.max_streams {
            tracing::debug!(%remote, limit = self.max_streams, "too many streams, closed");
            return Ok(());
        }
        // An order is small and urgent: it must not wait for the acknowledgement of the last one.
        socket.set_nodelay(true)?;
        let socket = Arc::new(Async::new(socket)?);
        self.accepted += 1;
        let id = StreamId(self.accepted);
        let deframer = Box::new(Deframer::new(MAX_MESSAGE_BYTES));
        self.read(id, socket.clone(), deframer, self.first_message);
        self.open.insert(id, Stream { socket, remote, unsent: Vec::new() });
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

    /// Waits for the next messages.
    pub(crate) fn read_on(&mut self, id: StreamId, deframer: Box<Deframer>) {
        if let Some(stream) = self.open.get(&id) {
            self.read(id, stream.socket.clone(), deframer, self.next_message);
        }
    }

    fn read(
        &self,
        stream: StreamId,
        socket: Arc<Async<TcpStream>>,
        mut deframer: Box<Deframer>,
        patience: Duration,
    ) {
        let reading = async move {
            let read = Box::pin(read_messages(&socket, &mut deframer));
            let result = match futures::future::select(read, Timer::after(patience)).await {
                Either::Left((result, _)) => result,
                Either::Right(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            Happening::Read { stream, deframer, result }
        };
        self.waiting.push(reading.boxed());
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
                    let writing = async move {
                        // A failure shows in the write that follows.
                        let _ = socket.writable().await;
                        Happening::Writable { stream: id }
                    };
                    self.waiting.push(writing.boxed());
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
            // It may be closed already.
            let _ = stream.socket.get_ref().shutdown(Shutdown::Both);
        }
    }
}

/// Reads until there is at least one message, and returns all that are there.
async fn read_messages(
    socket: &Async<TcpStream>,
    deframer: &mut Deframer,
) -> io::Result<Vec<Vec<u8>>> {
    loop {
        let mut messages = Vec::new();
        while let Some(message) = deframer.next_message().map_err(io::Error::other)? {
            messages.push(message.to_vec());
        }
        if !messages.is_empty() {
            return Ok(messages);
        }
        let length = socket.read_with(|mut socket| socket.read(deframer.spare())).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        deframer.filled(length);
    }
}
