//! [`Server`]: its sockets, and what runs on them.

use crate::bind::{BindError, Sockets, Transport};
use crate::datagrams::Datagrams;
use crate::options::Options;
use crate::probes::Probes;
use crate::streams::Streams;
use async_io::Async;
use futures::future::{BoxFuture, Either, select};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use ntcp_stun::server::{self, Counters, Quartet, Request, Silence};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Datagrams answered on one socket before the others get their turn.
const BATCH: usize = 64;
/// The longest datagram there is: IPv4 holds no more.
const MAX_DATAGRAM: usize = 65_507;
/// What a reply may be longer than its request.
const REPLY_EXCESS: usize = 128;

/// A STUN server with its sockets open.
#[derive(Debug)]
pub struct Server {
    options: Options,
    quartets: Vec<Quartet>,
    core: Arc<Core>,
    datagrams: Arc<[Datagrams]>,
    listeners: Vec<Async<TcpListener>>,
}

/// The server of the protocol, for all sockets.
#[derive(Debug)]
pub(crate) struct Core(Mutex<server::Server>);

impl Core {
    fn lock(&self) -> MutexGuard<'_, server::Server> {
        // It holds nothing but counters; a panic elsewhere cannot have left it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reply to a request, in bytes of its own.
    pub(crate) fn reply(&self, request: Request<'_>) -> Result<Vec<u8>, Silence> {
        let mut buffer = vec![0; request.bytes.len() + REPLY_EXCESS];
        let reply = self.lock().handle_request(request, &mut buffer)?;
        buffer.truncate(reply.length);
        Ok(buffer)
    }
}

impl Server {
    /// Opens the sockets.
    ///
    /// # Errors
    ///
    /// A [`BindError`] that names the address and what to do.
    pub fn bind(options: &Options) -> Result<Self, BindError> {
        let sockets = Sockets::open(options)?;
        let mut core = server::Server::new();
        for quartet in &sockets.quartets {
            core.add_quartet(*quartet);
        }
        if options.probes {
            core.offer_probes();
        }
        let (mut datagrams, mut listeners) = (Vec::new(), Vec::new());
        for place in sockets.places {
            let failed = |transport| move |error| BindError::new(transport, place.address, error);
            let socket = Datagrams::new(place.datagrams, place.address);
            datagrams.push(socket.map_err(failed(Transport::Udp))?);
            if options.probes {
                Probes::prepare(&place.listener);
            }
            let listener = Async::new_nonblocking(place.listener);
            listeners.push(listener.map_err(failed(Transport::Tcp))?);
        }
        Ok(Self {
            options: options.clone(),
            quartets: sockets.quartets,
            core: Arc::new(Core(Mutex::new(core))),
            datagrams: datagrams.into(),
            listeners,
        })
    }

    /// The addresses it listens on over UDP and TCP alike, with the ports that were free where 0 was asked for: for each
    /// of [`Options::listen`] that one alone, or with an alternate address the four of
    /// [`Quartet::addresses`].
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.datagrams.iter().map(Datagrams::address).collect()
    }

    /// The four addresses of each family that has an alternate one. Only over these families can clients learn how their
    /// NAT filters.
    pub fn quartets(&self) -> &[Quartet] {
        &self.quartets
    }

    /// Serves until `stop` is ready, and returns what was counted. Cancel safe: dropping the future closes every socket.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Counters {
        let Self { options, quartets, core, datagrams, listeners } = self;
        let mut sockets: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        for index in 0..datagrams.len() {
            sockets.push(serve_datagrams(Arc::clone(&datagrams), index, Arc::clone(&core)).boxed());
        }
        let probes = options.probes.then(|| Probes::new(options.probe_limits, &quartets));
        let streams = Streams::new(&options, probes);
        for listener in listeners {
            sockets.push(Arc::clone(&streams).serve(listener, Arc::clone(&core)).boxed());
        }
        let serving = async { while sockets.next().await.is_some() {} };
        match select(pin!(stop), pin!(serving)).await {
            Either::Left(_) => {}
            Either::Right(_) => tracing::error!("all sockets failed"),
        }
        *core.lock().counters()
    }
}

/// Answers what arrives at one UDP socket, from whichever socket the reply must leave.
async fn serve_datagrams(all: Arc<[Datagrams]>, index: usize, core: Arc<Core>) {
    let socket = &all[index];
    let mut buffers = Buffers::new();
    loop {
        if let Err(error) = socket.readable().await {
            tracing::error!(address = %socket.address(), %error, "UDP socket failed");
            return;
        }
        for _ in 0..BATCH {
            match answer_datagram(&all, socket, &core, &mut buffers) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What the network reports about an earlier datagram, or no room for this one: it is lost.
                Err(error) => tracing::trace!(%error, "UDP"),
            }
        }
        yield_now().await;
    }
}

/// Where requests are read into and replies are written.
struct Buffers {
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Buffers {
    fn new() -> Self {
        Self { request: vec![0; MAX_DATAGRAM], reply: vec![0; MAX_DATAGRAM] }
    }
}

/// Takes one datagram; `WouldBlock` if there is none.
fn answer_datagram(
    all: &[Datagrams],
    socket: &Datagrams,
    core: &Core,
    buffers: &mut Buffers,
) -> io::Result<()> {
    let Some(arrived) = socket.receive(&mut buffers.request)? else { return Ok(()) };
    let request = Request {
        bytes: &buffers.request[..arrived.length],
        source: arrived.source,
        local: arrived.local,
        transport: server::Transport::Udp,
    };
    let outcome = core.lock().handle_request(request, &mut buffers.reply);
    let reply = match outcome {
        Ok(reply) => reply,
        Err(silence) => {
            tracing::trace!(source = %arrived.source, %silence, "not answered");
            return Ok(());
        }
    };
    let sender = all.iter().find(|it| it.address() == reply.from).unwrap_or(socket);
    let sent = sender.send(&buffers.reply[..reply.length], reply.from, reply.to);
    if let Err(error) = sent {
        tracing::trace!(to = %reply.to, %error, "reply lost");
    }
    Ok(())
}

/// Lets the other futures of this task run.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    futures::future::poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
