//! TCP: a listener and its streams, within bounds.
//!
//! A stream is a sequence: a request is read, its reply written, the next one read. A peer that does not read its
//! replies therefore is not read from either, and nothing piles up for it.

use crate::options::Options;
use crate::outside::Outside;
use crate::probes::{Guest, Probes};
use crate::run::{Core, yield_now};
use crate::tls::{Identity, Layer};
use async_io::{Async, Timer};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, select_biased};
use ntcp_stun::framing::Deframer;
use ntcp_stun::server::{Request, Silence, Transport};
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

/// The longest message that is read: a request padded to the usual MTU, and some room.
const MAX_MESSAGE: usize = 2048;
/// Bytes of replies that are sent together, those of one read: a pipelining client is answered with few packets.
const MAX_REPLIES: usize = 8192;
/// Desks that are kept though nobody uses them.
const MAX_DESKS: usize = 64;
/// How long no stream is accepted after that failed, as it does when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The streams of all listeners.
#[derive(Debug)]
pub(crate) struct Streams {
    options: Options,
    probes: Option<Arc<Probes>>,
    outside: Outside,
    open: AtomicUsize,
    desks: Desks,
}

/// Where streams come from.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) listener: Async<TcpListener>,
    /// What the server is to those who speak TLS there; `None` where nobody does.
    pub(crate) identity: Option<Identity>,
}

/// A place among the streams, free again when dropped.
struct Admission(Arc<Streams>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Streams {
    pub(crate) fn new(options: &Options, probes: Option<Arc<Probes>>) -> Arc<Self> {
        let (open, desks) = (AtomicUsize::new(0), Desks::default());
        let outside = Outside::new(&options.public);
        Arc::new(Self { options: options.clone(), probes, outside, open, desks })
    }

    fn admit(self: &Arc<Self>) -> Option<Admission> {
        let admission = Admission(Arc::clone(self));
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        (before < self.options.max_streams).then_some(admission)
    }

    /// Accepts streams and serves them, for as long as the future is kept.
    pub(crate) async fn serve(self: Arc<Self>, listener: Listener, core: Arc<Core>) {
        let Listener { listener, identity } = listener;
        let mut streams = FuturesUnordered::new();
        let mut pause = None;
        loop {
            let accepted = select_biased! {
                () = streams.select_next_some() => continue,
                accepted = accept(&listener, pause).fuse() => accepted,
            };
            match accepted {
                Ok((stream, source)) => {
                    pause = None;
                    if let Some(place) = self.admit() {
                        let identity = identity.clone();
                        streams.push(serve(place, (stream, source), identity, Arc::clone(&core)));
                    } else {
                        let limit = self.options.max_streams;
                        tracing::debug!(%source, limit, "too many streams, closed");
                    }
                }
                Err(error) if is_about_one_stream(&error) => tracing::trace!(%error, "accept"),
                Err(error) => {
                    if pause.is_none() {
                        let open = self.open.load(Ordering::Relaxed);
                        tracing::warn!(%error, open, "no stream can be accepted for now");
                    }
                    pause = Some(Instant::now() + PAUSE);
                }
            }
        }
    }
}

/// The next stream, not before the pause is over.
async fn accept(
    listener: &Async<TcpListener>,
    pause: Option<Instant>,
) -> io::Result<(Async<TcpStream>, SocketAddr)> {
    if let Some(end) = pause {
        Timer::at(end).await;
    }
    listener.accept().await
}

/// Whether the next stream may be accepted at once.
fn is_about_one_stream(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    )
}

async fn serve(
    place: Admission,
    (stream, source): (Async<TcpStream>, SocketAddr),
    identity: Option<Identity>,
    core: Arc<Core>,
) {
    let conversation = Conversation { streams: &place.0, stream: &stream, source, core: &core };
    let result = match Layer::new(identity.as_ref()) {
        Ok(layer) => {
            let guest = Guest::new(place.0.probes.clone());
            conversation.run(guest, layer).await
        }
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => tracing::trace!(%source, "stream ended"),
        Err(error) => tracing::trace!(%source, %error, "stream closed"),
    }
}

/// Where requests are read into and replies are written. A stream that says nothing has none: most streams stay open for
/// minutes to hold a mapping, and there may be many.
#[derive(Debug)]
struct Desk {
    requests: Deframer,
    replies: Vec<u8>,
}

impl Desk {
    fn new() -> Self {
        let requests = Deframer::new(MAX_MESSAGE);
        Self { requests, replies: Vec::with_capacity(MAX_REPLIES) }
    }
}

/// Desks that nobody uses, kept for the next one who does.
#[derive(Debug, Default)]
struct Desks(Mutex<Vec<Desk>>);

impl Desks {
    fn lock(&self) -> MutexGuard<'_, Vec<Desk>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Desk {
        let kept = self.lock().pop();
        kept.unwrap_or_else(Desk::new)
    }

    fn give_back(&self, desk: Desk) {
        let mut desks = self.lock();
        if desks.len() < MAX_DESKS {
            desks.push(desk);
        }
    }
}

/// One stream.
struct Conversation<'a> {
    streams: &'a Streams,
    stream: &'a Async<TcpStream>,
    source: SocketAddr,
    core: &'a Core,
}

impl Conversation<'_> {
    /// Answers one request after another.
    async fn run(&self, mut guest: Guest, mut layer: Layer) -> io::Result<()> {
        let options = &self.streams.options;
        let local = self.streams.outside.of(self.stream.get_ref().local_addr()?);
        // A reply is small and wanted at once: it must not wait for the acknowledgement of the last one.
        self.stream.get_ref().set_nodelay(true)?;
        let mut patience = Patience::until(Instant::now() + options.first_message);
        let mut held = None;
        let mut has_more = false;
        loop {
            if !has_more {
                patience.within(self.stream.readable()).await?;
                self.receive(&mut layer).await?;
            }
            let mut desk = held.take().unwrap_or_else(|| self.streams.desks.take());
            has_more = match layer.read(self.stream.get_ref(), desk.requests.spare()) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    desk.requests.filled(length);
                    layer.may_hold_more()
                }
                // Somebody woke it for nothing.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
                Err(error) => return Err(error),
            };
            let has_answered = self.answer(&mut desk, (&mut guest, &mut layer), local).await?;
            if has_answered {
                patience.extend(Instant::now() + guest.patience(options.next_message));
            }
            if desk.requests.is_at_boundary() {
                self.streams.desks.give_back(desk);
            } else {
                held = Some(desk);
            }
            // A peer that sends without a pause must not keep the others waiting.
            yield_now().await;
        }
    }

    /// Has the layer take in what has arrived, and say what it has to, be it why it gives up.
    async fn receive(&self, layer: &mut Layer) -> io::Result<()> {
        let received = layer.receive(self.stream.get_ref());
        if received.is_err() {
            self.core.count_refused_tls();
        }
        let flushed = self.flush(layer).await;
        received.and(flushed)
    }

    /// Answers the whole messages that are there; whether there was one.
    async fn answer(
        &self,
        desk: &mut Desk,
        (guest, layer): (&mut Guest, &mut Layer),
        local: SocketAddr,
    ) -> io::Result<bool> {
        let Desk { requests, replies } = desk;
        let mut has_answered = false;
        while let Some(bytes) = requests.next_message().map_err(io::Error::other)? {
            has_answered = true;
            let request = Request { bytes, source: self.source, local, transport: Transport::Tcp };
            if guest.is_asked(&request) {
                self.send(layer, replies).await?;
                // Rare, and much larger than the rest of a stream's state.
                let probed = Box::pin(guest.serve(request, self.stream)).await;
                replies.extend(probed.unwrap_or_default());
                continue;
            }
            match self.core.reply(request, replies) {
                Ok(()) => {}
                // What is framed as STUN but is not leaves no boundary to go on from.
                Err(Silence::Malformed(error)) => return Err(io::Error::other(error)),
                Err(silence) => tracing::trace!(source = %self.source, %silence, "not answered"),
            }
            if replies.len() > MAX_REPLIES / 2 {
                self.send(layer, replies).await?;
            }
        }
        self.send(layer, replies).await?;
        Ok(has_answered)
    }

    /// Sends all replies that are there. Until the peer takes them it is not read from.
    async fn send(&self, layer: &mut Layer, replies: &mut Vec<u8>) -> io::Result<()> {
        let mut rest = &replies[..];
        let mut patience = None;
        while !rest.is_empty() {
            let written = layer.write(self.stream.get_ref(), rest);
            rest = &rest[self.written(written, &mut patience).await?..];
        }
        replies.clear();
        self.flush(layer).await
    }

    /// Sends what the layer holds.
    async fn flush(&self, layer: &mut Layer) -> io::Result<()> {
        let mut patience = None;
        while layer.wants_flush() {
            let flushed = layer.flush(self.stream.get_ref()).map(|()| 0);
            self.written(flushed, &mut patience).await?;
        }
        Ok(())
    }

    /// How much was written; waits for the peer where it was nothing.
    async fn written(
        &self,
        result: io::Result<usize>,
        patience: &mut Option<Patience>,
    ) -> io::Result<usize> {
        match result {
            Ok(length) => Ok(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let until = || Instant::now() + self.streams.options.unread_reply;
                let patience = patience.get_or_insert_with(|| Patience::until(until()));
                patience.within(self.stream.writable()).await?;
                Ok(0)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// How long something is waited for. The timer stays as it is when the deadline moves on, and asks again when it fires: a
/// timer that is set for each request would cost more than the request.
struct Patience {
    deadline: Instant,
    timer: Timer,
}

impl Patience {
    fn until(deadline: Instant) -> Self {
        Self { deadline, timer: Timer::at(deadline) }
    }

    fn extend(&mut self, deadline: Instant) {
        if deadline < self.deadline {
            self.timer.set_at(deadline);
        }
        self.deadline = deadline;
    }

    /// Waits for `operation`, but not longer than until the deadline.
    async fn within<T>(&mut self, operation: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut operation = pin!(operation);
        poll_fn(|context| {
            if let Poll::Ready(result) = operation.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            while Pin::new(&mut self.timer).poll(context).is_ready() {
                if Instant::now() >= self.deadline {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                self.timer.set_at(self.deadline);
            }
            Poll::Pending
        })
        .await
    }
}
