//! TCP: all connections in one thread, each of them a sequence of requests and replies.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::task::Poll;
use std::time::Duration;

use async_io::{Async, Timer};
use futures::future::{FusedFuture, FutureExt};
use futures::select_biased;
use futures::stream::{self, FuturesUnordered, Stream, StreamExt};
use ntcp_stun::framing::{Deframer, FramingError};
use ntcp_stun::server::{Counters, Request, Server, Transport};

use crate::Limits;
use crate::stop::Stopped;

/// The longest message on a connection. A Binding request has no need for more; a longer one closes the connection.
const MAX_MESSAGE: usize = 2048;
/// How long a listener rests after the system refused a connection, for example because descriptors ran out.
const REST: Duration = Duration::from_millis(100);
/// How long replies that have begun may take once the server is to stop.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the TCP side has done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StreamsServed {
    pub(crate) messages: Counters,
    pub(crate) connections: u64,
    pub(crate) refused_connections: u64,
}

/// The TCP side.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) server: Server,
    pub(crate) limits: Limits,
    pub(crate) stopped: Stopped,
}

/// Why a connection ended, other than by its client.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Framing(#[from] FramingError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no whole message for {0:?}")]
    Idle(Duration),
    #[error("no room for a reply for {0:?}")]
    NotReading(Duration),
}

impl Streams {
    /// Serves until it is told to stop.
    pub(crate) fn run(self) -> io::Result<StreamsServed> {
        async_io::block_on(self.serve())
    }

    async fn serve(self) -> io::Result<StreamsServed> {
        let stopped = Async::new(self.stopped.socket()?)?;
        let mut stopped = stopped.readable().map(drop).boxed_local().shared();
        let listeners = self.listeners.into_iter().map(Async::new_nonblocking);
        let listeners: Vec<_> = listeners.collect::<io::Result<_>>()?;
        let mut accepted = stream::select_all(listeners.iter().map(|it| Box::pin(accept(it))));
        let shared = RefCell::new(Shared { server: self.server, reply: [0; MAX_MESSAGE] });
        let mut open = FuturesUnordered::new();
        let mut served = StreamsServed::default();
        loop {
            let (stream, peer) = select_biased! {
                () = stopped => break,
                () = open.select_next_some() => continue,
                accepted = accepted.select_next_some() => accepted,
            };
            if open.len() < self.limits.max_connections {
                served.connections += 1;
                let connection = Connection { stream, peer, limits: self.limits, shared: &shared };
                open.push(connection.run(stopped.clone()));
            } else {
                served.refused_connections += 1;
                tell_refusal(served.refused_connections, self.limits.max_connections, peer);
            }
        }
        let mut farewell = FutureExt::fuse(Timer::after(FAREWELL));
        while !open.is_empty() && !farewell.is_terminated() {
            select_biased! { () = open.select_next_some() => {}, _ = farewell => {} }
        }
        drop(open);
        served.messages = *shared.borrow().server.counters();
        Ok(served)
    }
}

/// The connections that come to a listener.
fn accept(
    listener: &Async<TcpListener>,
) -> impl Stream<Item = (Async<TcpStream>, SocketAddr)> + '_ {
    stream::unfold(listener, |listener| async move {
        loop {
            match listener.accept().await {
                Ok(accepted) => return Some((accepted, listener)),
                Err(error) => {
                    tracing::debug!(%error, "accept");
                    Timer::after(REST).await;
                }
            }
        }
    })
}

/// The first time is worth a warning; the rest of a flood is not.
fn tell_refusal(times: u64, limit: usize, peer: SocketAddr) {
    if times == 1 {
        tracing::warn!(
            limit,
            "as many TCP connections as allowed: further ones are closed at once"
        );
    }
    tracing::debug!(%peer, limit, "connection refused");
}

/// What the connections share; none of them holds it while it waits.
#[derive(Debug)]
struct Shared {
    server: Server,
    reply: [u8; MAX_MESSAGE],
}

/// One connection.
struct Connection<'a> {
    stream: Async<TcpStream>,
    peer: SocketAddr,
    limits: Limits,
    shared: &'a RefCell<Shared>,
}

impl Connection<'_> {
    /// Answers requests until the client ends the connection, deserves its end, or the server stops.
    async fn run(self, stopped: impl FusedFuture<Output = ()> + Unpin) {
        tracing::debug!(peer = %self.peer, "connection");
        match self.converse(stopped).await {
            Ok(()) => tracing::debug!(peer = %self.peer, "connection closed"),
            Err(ended) => tracing::debug!(peer = %self.peer, why = %ended, "connection closed"),
        }
    }

    async fn converse(
        &self,
        mut stopped: impl FusedFuture<Output = ()> + Unpin,
    ) -> Result<(), Ended> {
        // A reply is small and awaited: it must not wait for the acknowledgement of the last one.
        self.stream.get_ref().set_nodelay(true)?;
        let local = self.stream.get_ref().local_addr()?;
        let mut deframer = Deframer::new(MAX_MESSAGE);
        let mut patience = self.limits.first_message;
        let mut timer = Timer::after(patience);
        loop {
            let length = select_biased! {
                () = stopped => return Ok(()),
                length = self.read(deframer.spare()).fuse() => length?,
                _ = FutureExt::fuse(&mut timer) => return Err(Ended::Idle(patience)),
            };
            if length == 0 {
                return Ok(());
            }
            deframer.filled(length);
            while let Some(message) = deframer.next_message()? {
                self.answer(message, local).await?;
                patience = self.limits.idle;
                timer.set_after(patience);
            }
            // A client that never stops sending must not keep the others waiting.
            give_way().await;
        }
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not awaited in the macro above, where borrowing the buffer would outlive the read.
        self.stream.read_with(|mut stream| stream.read(buffer)).await
    }

    async fn answer(&self, message: &[u8], local: SocketAddr) -> Result<(), Ended> {
        let unsent = self.answer_now(message, local)?;
        if unsent.is_empty() {
            return Ok(());
        }
        let patience = self.limits.write;
        select_biased! {
            result = self.write(&unsent).boxed_local().fuse() => Ok(result?),
            _ = FutureExt::fuse(Timer::after(patience)) => Err(Ended::NotReading(patience)),
        }
    }

    /// Sends as much of the reply as there is room for, and returns the rest.
    fn answer_now(&self, message: &[u8], local: SocketAddr) -> io::Result<Vec<u8>> {
        let Shared { server, reply } = &mut *self.shared.borrow_mut();
        let source = self.peer;
        let request = Request { bytes: message, source, local, transport: Transport::Tcp };
        let reply = match server.handle_request(request, reply) {
            Ok(answer) => &reply[..answer.length],
            Err(silence) => {
                tracing::trace!(%source, %local, %silence, "no reply");
                return Ok(Vec::new());
            }
        };
        tracing::trace!(%source, %local, "reply");
        let written = match self.stream.get_ref().write(reply) {
            Ok(written) => written,
            Err(error) if is_temporary(&error) => 0,
            Err(error) => return Err(error),
        };
        Ok(reply[written..].to_vec())
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.stream.write_with(|mut stream| stream.write(bytes)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Lets every other connection have its turn.
async fn give_way() {
    let mut is_waiting = true;
    poll_fn(|context| {
        if !std::mem::replace(&mut is_waiting, false) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
