//! TCP: a listener and its streams, within bounds.
//!
//! A stream is a sequence: a request is read, its reply written, the next one read. A peer that does not read its
//! replies therefore is not read from either, and nothing piles up for it.

use crate::options::Options;
use crate::probes::{Guest, Probes};
use crate::run::{Core, yield_now};
use async_io::{Async, Timer};
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt, select_biased};
use ntcp_stun::framing::Deframer;
use ntcp_stun::server::{Request, Silence, Transport};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The longest message that is read: a request padded to the usual MTU, and some room.
const MAX_MESSAGE: usize = 2048;
/// How long no stream is accepted after that failed, as it does when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The streams of all listeners.
#[derive(Debug)]
pub(crate) struct Streams {
    options: Options,
    probes: Option<Arc<Probes>>,
    open: AtomicUsize,
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
        Arc::new(Self { options: options.clone(), probes, open: AtomicUsize::new(0) })
    }

    fn admit(self: &Arc<Self>) -> Option<Admission> {
        let admission = Admission(Arc::clone(self));
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        (before < self.options.max_streams).then_some(admission)
    }

    /// Accepts streams and serves them, for as long as the future is kept.
    pub(crate) async fn serve(self: Arc<Self>, listener: Async<TcpListener>, core: Arc<Core>) {
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
                        streams.push(serve(place, stream, source, Arc::clone(&core)));
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

async fn serve(place: Admission, stream: Async<TcpStream>, source: SocketAddr, core: Arc<Core>) {
    let guest = Guest::new(place.0.probes.clone());
    match converse(&place.0.options, &stream, source, (&core, guest)).await {
        Ok(()) => tracing::trace!(%source, "stream ended"),
        Err(error) => tracing::trace!(%source, %error, "stream closed"),
    }
}

/// Answers one request after another.
async fn converse(
    options: &Options,
    mut stream: &Async<TcpStream>,
    source: SocketAddr,
    (core, mut guest): (&Core, Guest),
) -> io::Result<()> {
    let local = stream.get_ref().local_addr()?;
    // A reply is small and wanted at once: it must not wait for the acknowledgement of the last one.
    stream.get_ref().set_nodelay(true)?;
    let mut deframer = Deframer::new(MAX_MESSAGE);
    let mut patience = Instant::now() + options.first_message;
    loop {
        if let Some(bytes) = deframer.next_message().map_err(io::Error::other)? {
            let request = Request { bytes, source, local, transport: Transport::Tcp };
            let probed = guest.serve(request, stream.get_ref()).await;
            match probed.map_or_else(|| core.reply(request), Ok) {
                Ok(reply) => {
                    let deadline = Instant::now() + options.unread_reply;
                    within(deadline, stream.write_all(&reply)).await?;
                }
                // What is framed as STUN but is not leaves no boundary to go on from.
                Err(Silence::Malformed(error)) => return Err(io::Error::other(error)),
                Err(silence) => tracing::trace!(%source, %silence, "not answered"),
            }
            patience = Instant::now() + guest.patience(options.next_message);
            continue;
        }
        let length = within(patience, stream.read(deframer.spare())).await?;
        if length == 0 {
            return Ok(());
        }
        deframer.filled(length);
        // A peer that sends without a pause must not keep the others waiting.
        yield_now().await;
    }
}

/// Waits for `operation`, but not longer than until `deadline`.
async fn within<T>(
    deadline: Instant,
    operation: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match select(pin!(operation), Timer::at(deadline)).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
