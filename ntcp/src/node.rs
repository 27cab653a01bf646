//! The node: registered with a broker, calling and being called.

mod builder;
mod events;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_executor::Task;
use async_io::Timer;
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, Stream, StreamExt, select_biased};
use ntcp_proto::node::{self as proto, CallId};
use ntcp_proto::secrecy::PublicKey;
use ntcp_proto::uri::{HostPort, PeerUri, TransportChoice};
use ntcp_settings::Config;

pub use builder::Builder;
pub(crate) use builder::{host_port, seed};

use crate::connection::Connection;
use crate::driver::Handle;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::trust::Known;

/// Connections that wait for [`Incoming`]; a further one is closed.
const MAX_WAITING: usize = 64;
/// What a call may take beyond its deadline, until its own error has arrived.
const DEADLINE_MARGIN: Duration = Duration::from_millis(250);

/// A peer registered with a broker.
///
/// Cloning gives another handle of the same node. When the last handle and the last [`Incoming`]
/// are dropped, the node unregisters and ends; connections live on.
#[derive(Clone, Debug)]
pub struct Node(Arc<Inner>);

struct Inner {
    handle: Handle<proto::Node>,
    shared: Arc<Shared>,
    config: Config,
    /// Nodes at other brokers, made for the URIs that name one.
    elsewhere: Mutex<HashMap<HostPort, Node>>,
    driver: Mutex<Option<Task<()>>>,
    /// Called off with the last handle.
    discovery: Mutex<Option<Task<()>>>,
}

/// What the driver's thread and the handles share.
pub(crate) struct Shared {
    identity: Identity,
    /// Whether TCP paths are to be bare.
    bare: bool,
    /// Whom we take for our broker.
    broker: Mutex<Known>,
    calls: Mutex<HashMap<CallId, Waiting>>,
    /// Taken once, when it is started.
    started: Mutex<Option<oneshot::Sender<Result<(), Error>>>>,
    stopped: Mutex<Stopped>,
    incoming: Mutex<Arrivals>,
    /// Tells a discovery when it has to stand back.
    counting: mpsc::UnboundedSender<bool>,
}

/// Who waits for a call.
struct Waiting {
    sender: oneshot::Sender<Result<Connection, Error>>,
    /// Until when; `None` if for ever.
    until: Option<Instant>,
    /// The only key that the peer may have.
    pinned: Option<PublicKey>,
}

/// Whether the node has ended.
enum Stopped {
    /// No, and these want to know when it has.
    NotYet(Vec<oneshot::Sender<()>>),
    /// Yes.
    Already,
}

struct Arrivals {
    sender: mpsc::Sender<Connection>,
    receiver: Option<mpsc::Receiver<Connection>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("name", &self.config.node.name).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The driver unregisters and then ends by itself: no handle is left.
        self.handle.order(|machine, _, now| machine.stop(now));
        if let Some(task) = lock(&self.driver).take() {
            task.detach();
        }
    }
}

impl Node {
    /// A node to be configured.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Connects to the peer of a URI, `ntcp://NAME[@BROKER[:PORT]][?transport=tcp|udp|any][&key=KEY]`.
    ///
    /// Cancel safe: dropping the future calls the attempt off and closes its sockets.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Uri`], or as [`Node::connect`].
    pub async fn connect_by_uri(&self, uri: &str) -> Result<Connection, Error> {
        self.connect(&uri.parse()?).await
    }

    /// Connects to the peer of a URI. Over TCP and UDP at once, unless the URI says otherwise; never
    /// longer than `[node] deadline` (10 s by default).
    ///
    /// Cancel safe: dropping the future calls the attempt off and closes its sockets.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Signalling`] when the broker does not know the peer or does not answer,
    /// [`ErrorKind::NoPath`] when no direct path came about, [`ErrorKind::Secure`] when one did but
    /// the peer was not the one announced, [`ErrorKind::PeerKey`] when that was not the one pinned,
    /// [`ErrorKind::Stopped`].
    pub async fn connect(&self, uri: &PeerUri) -> Result<Connection, Error> {
        self.connect_within(uri, self.0.config.node.deadline).await
    }

    /// Like [`Node::connect`], but never longer than `patience`: for callers whose own time is
    /// already running.
    ///
    /// # Errors
    ///
    /// As [`Node::connect`].
    pub async fn connect_within(
        &self,
        uri: &PeerUri,
        patience: Duration,
    ) -> Result<Connection, Error> {
        let called = Instant::now();
        match uri.broker.as_ref().filter(|broker| !self.serves(broker)) {
            None => self.call(uri, patience).await,
            Some(broker) => {
                let mut start = std::pin::pin!(self.elsewhere(uri, broker).fuse());
                let mut timer = FutureExt::fuse(Timer::after(patience));
                let other = select_biased! {
                    started = start => started?,
                    _ = timer => {
                        let what = "registering with the broker of the URI";
                        return Err(ErrorKind::Deadline { what, limit: patience }.into());
                    }
                };
                let left = patience.saturating_sub(called.elapsed());
                other.call(uri, left).await
            }
        }
    }

    async fn call(&self, uri: &PeerUri, patience: Duration) -> Result<Connection, Error> {
        let (sender, receiver) = oneshot::channel();
        let (peer, shared) = (uri.name.clone(), self.0.shared.clone());
        let pinned = uri.key;
        let transport = uri.transport.unwrap_or(TransportChoice::Any);
        let (placed, call) = oneshot::channel();
        let _guard = CallGuard { node: self, call };
        let ordered = self.0.handle.order(move |machine, _, now| {
            let id = machine.call(peer, transport, patience, now);
            let until = now.checked_add(patience);
            lock(&shared.calls).insert(id, Waiting { sender, until, pinned });
            if let Err(id) = placed.send(id) {
                lock(&shared.calls).remove(&id);
                machine.cancel(id, now);
            }
        });
        if !ordered {
            return Err(ErrorKind::Stopped.into());
        }
        let mut receiver = receiver.fuse();
        let mut timer = FutureExt::fuse(Timer::after(patience.saturating_add(DEADLINE_MARGIN)));
        select_biased! {
            result = receiver => result.unwrap_or_else(|_| Err(ErrorKind::Stopped.into())),
            _ = timer => {
                Err(ErrorKind::Deadline { what: "the connection", limit: patience }.into())
            }
        }
    }

    /// This node's key: what others pin with `?key=`, and what an operator reserves a name for.
    pub fn key(&self) -> PublicKey {
        self.0.shared.identity.public()
    }

    /// Those who call this node, from now on. There is one stream of them: a second one ends the
    /// first.
    pub fn incoming(&self) -> Incoming {
        let mut arrivals = lock(&self.0.shared.incoming);
        let receiver = arrivals.receiver.take().unwrap_or_else(|| {
            let (mut sender, receiver) = mpsc::channel(MAX_WAITING);
            if matches!(*lock(&self.0.shared.stopped), Stopped::Already) {
                sender.close_channel();
            }
            arrivals.sender = sender;
            receiver
        });
        Incoming { receiver, _node: self.clone() }
    }

    /// Unregisters and ends every attempt; connections live on. Returns when the broker has been
    /// told, or could not be.
    pub async fn stop(&self) {
        let elsewhere = std::mem::take(&mut *lock(&self.0.elsewhere));
        for node in elsewhere.into_values() {
            Box::pin(node.stop()).await;
        }
        let (sender, receiver) = oneshot::channel();
        match &mut *lock(&self.0.shared.stopped) {
            Stopped::NotYet(waiting) => waiting.push(sender),
            Stopped::Already => return,
        }
        if self.0.handle.order(|machine, _, now| machine.stop(now)) {
            // An error means that the driver has ended, which is what was asked for.
            let _ = receiver.await;
        }
    }

    /// Whether this is the broker the node is registered with.
    fn serves(&self, broker: &HostPort) -> bool {
        let config = &self.0.config;
        let own = config.hole_punch.broker.iter().chain(&config.tcp.broker).map(host_port);
        let same = |own: HostPort| {
            own.host == broker.host && (broker.port.is_none() || broker.port == own.port)
        };
        own.into_iter().any(same)
    }

    /// Shows another token from the next registration on. The one that stands goes on, also beyond the end of its token; but
    /// when the broker is restarted or another one takes its place, an old token does not do any more.
    ///
    /// # Errors
    ///
    /// It is no token.
    pub fn renew_token(&self, token: &str) -> Result<(), Error> {
        let credentials = crate::access::read_token(token)?;
        self.0.handle.order(move |machine, _, _| machine.set_credentials(Some(credentials)));
        Ok(())
    }

    /// A node at the broker that `uri` names, started at first use.
    async fn elsewhere(&self, uri: &PeerUri, broker: &HostPort) -> Result<Self, Error> {
        if let Some(node) = lock(&self.0.elsewhere).get(broker) {
            return Ok(node.clone());
        }
        let mut config = self.0.config.clone();
        config.node.name = None;
        config.hole_punch.broker = None;
        config.tcp.broker = None;
        config.hole_punch.port = 0;
        // They are for the one broker that was configured.
        config.access = ntcp_settings::Access::default();
        let node = Box::pin(Self::builder().config(config).broker_of(uri).start()).await?;
        Ok(lock(&self.0.elsewhere).entry(broker.clone()).or_insert(node).clone())
    }
}

/// Calls a call off when nobody waits for it any more.
struct CallGuard<'a> {
    node: &'a Node,
    /// Its name, as soon as the driver has placed it.
    call: oneshot::Receiver<CallId>,
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        // From here on the driver itself calls off what it has not placed yet.
        self.call.close();
        let Ok(Some(id)) = self.call.try_recv() else { return };
        let pending = lock(&self.node.0.shared.calls).remove(&id).is_some();
        if pending {
            self.node.0.handle.order(move |machine, _, now| machine.cancel(id, now));
        }
    }
}

/// The peers that call a node, each with its connection. Ends when the node stops.
#[derive(Debug)]
pub struct Incoming {
    receiver: mpsc::Receiver<Connection>,
    _node: Node,
}

impl Stream for Incoming {
    type Item = Connection;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Connection>> {
        self.receiver.poll_next_unpin(context)
    }
}

/// A lock whose holder cannot panic half-way through a change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
