//! What several brokers share: which of them holds which name, and letters to each other.
//!
//! It is kept in Redis or Valkey, one database for one cluster:
//!
//! | key | value | lives |
//! |---|---|---|
//! | `ntcp:name:NAME` | the broker (8 bytes), since when (8 bytes: milliseconds of the database's clock), the peer's listing: certificate, key, NAT | as long as the lease |
//! | `ntcp:broker:ID` | `1` | 5 s after the broker's last sign of life, one a second |
//! | `ntcp:want:NAME` | set of brokers at which somebody waits for the peer | as long as the longest wait |
//! | channel `ntcp:letters:ID` | the sender (8 bytes), the letter | |
//!
//! Whoever may write there is believed: the database belongs to the brokers alone, behind a password or in a network of
//! their own. No key of any peer is in it, and nothing of what peers tell each other stays in it.
//!
//! Two threads of its own do the waiting; the broker's loop only leaves orders and picks up news. While the database
//! is away each claim is answered with [`Claim::Unknown`] and each question with "nowhere", within
//! [`ANSWER_PATIENCE`].

#[cfg(feature = "redis")]
mod redis;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use ntcp_proto::rendezvous::{BrokerId, Claim, Command, Listing, Whereabouts};
use ntcp_proto::uri::PeerName;

/// Orders that wait; with more, the database is too slow, and counts as away for the next one.
const MAX_ORDERS: usize = 16_384;
/// How long an answer of the database is waited for.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_millis(500);
/// The port of Redis where none is given.
const DEFAULT_PORT: u16 = 6379;

/// Why there is no directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The address makes no sense.
    #[error(
        "[registry] url is no address of a database: {0}: write redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER]"
    )]
    Address(String),
    /// The host has no address.
    #[error(
        "[registry] url: {host} cannot be found: {source}: write a name that resolves, or an IP address"
    )]
    Host {
        /// The host.
        host: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// This program cannot do it.
    #[error(
        "[registry] url: this program was built without the feature \"redis\": build it with, or remove the key"
    )]
    NotBuilt,
    /// No thread could be started.
    #[error("no thread for the directory: {0}")]
    Thread(std::io::Error),
}

/// Where the database is; its host has been looked up.
#[derive(Clone)]
pub struct DirectoryAddress {
    #[cfg(feature = "redis")]
    settings: ::redis::ConnectionInfo,
    host: String,
    addresses: Vec<SocketAddr>,
}

/// Without the password.
impl fmt::Debug for DirectoryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryAddress").field("host", &self.host).finish_non_exhaustive()
    }
}

impl PartialEq for DirectoryAddress {
    fn eq(&self, other: &Self) -> bool {
        self.host == other.host && self.addresses == other.addresses
    }
}

impl Eq for DirectoryAddress {}

impl fmt::Display for DirectoryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

impl DirectoryAddress {
    /// Takes `redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER]` and looks the host up: later, this process may not be able
    /// to any more.
    ///
    /// # Errors
    ///
    /// A [`DirectoryError`].
    #[cfg(feature = "redis")]
    pub fn find(url: &str) -> Result<Self, DirectoryError> {
        use ::redis::{ConnectionAddr, IntoConnectionInfo};

        let settings = url
            .into_connection_info()
            // What the library says may repeat a password.
            .map_err(|_| DirectoryError::Address("it cannot be read".into()))?;
        let ConnectionAddr::Tcp(name, port) = settings.addr().clone() else {
            return Err(DirectoryError::Address("only redis:// over TCP is known here".into()));
        };
        let port = if port == 0 { DEFAULT_PORT } else { port };
        let host = format!("{name}:{port}");
        let found = (name.as_str(), port).to_socket_addrs();
        let addresses =
            found.map_err(|source| DirectoryError::Host { host: host.clone(), source })?;
        Ok(Self { settings, host, addresses: addresses.collect() })
    }

    /// There is no directory here.
    ///
    /// # Errors
    ///
    /// Always.
    #[cfg(not(feature = "redis"))]
    pub fn find(_: &str) -> Result<Self, DirectoryError> {
        Err(DirectoryError::NotBuilt)
    }
}

/// What the database is asked to do.
#[derive(Debug)]
enum Order {
    Claim { name: PeerName, listing: Listing, lease: Duration, since: Option<Instant> },
    Release { name: PeerName },
    Find { name: PeerName, wait: Duration },
    Post { broker: BrokerId, letter: Vec<u8> },
}

impl Order {
    /// The name that it is about, if it is about one.
    fn name(&self) -> Option<&PeerName> {
        match self {
            Self::Claim { name, .. } | Self::Release { name } | Self::Find { name, .. } => {
                Some(name)
            }
            Self::Post { .. } => None,
        }
    }

    /// The answer to it while the database is away, if it has one.
    fn denied(self) -> Option<News> {
        match self {
            Self::Claim { name, .. } => {
                Some(News::Claimed { name, claim: Claim::Unknown, wanted_by: Vec::new() })
            }
            Self::Find { name, .. } => Some(News::Found { name, at: None }),
            Self::Release { .. } | Self::Post { .. } => None,
        }
    }
}

/// What the broker's loop is told.
#[derive(Debug)]
pub(crate) enum News {
    Claimed { name: PeerName, claim: Claim, wanted_by: Vec<BrokerId> },
    Found { name: PeerName, at: Option<Whereabouts> },
    Letter { from: BrokerId, letter: Vec<u8> },
    Reunited,
}

/// The broker's end of the directory. Dropped, it sees what was ordered done, for as long as an answer is waited
/// for, and ends its threads.
#[derive(Debug)]
pub(crate) struct Directory {
    orders: Option<SyncSender<Order>>,
    pub(crate) news: UnboundedReceiver<News>,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads share.
#[derive(Debug, Default)]
struct State {
    is_there: AtomicBool,
    has_ended: AtomicBool,
}

impl Directory {
    /// A directory for this broker.
    ///
    /// # Errors
    ///
    /// [`DirectoryError::Thread`]. A database that is away is no error.
    #[cfg(feature = "redis")]
    pub(crate) fn open(address: &DirectoryAddress, own: BrokerId) -> Result<Self, DirectoryError> {
        let (orders, ordered) = sync_channel(MAX_ORDERS);
        let (tell, news) = unbounded();
        let state = Arc::new(State::default());
        let threads = redis::start(address, own, (ordered, tell), &state);
        let threads = threads.map_err(DirectoryError::Thread)?;
        Ok(Self { orders: Some(orders), news, state, threads })
    }

    /// There is none.
    ///
    /// # Errors
    ///
    /// Always.
    #[cfg(not(feature = "redis"))]
    pub(crate) fn open(_: &DirectoryAddress, _: BrokerId) -> Result<Self, DirectoryError> {
        Err(DirectoryError::NotBuilt)
    }

    /// Whether the database answers.
    pub(crate) fn is_there(&self) -> bool {
        self.state.is_there.load(Ordering::Relaxed)
    }

    /// Leaves an order; what it is denied at once is returned.
    pub(crate) fn order(&self, command: Command) -> Option<News> {
        let order = match command {
            Command::Claim { name, listing, lease, stay } => {
                // Orders wait: what counts is when the peer came.
                let now = Instant::now();
                let since = stay.map(|it| now.checked_sub(it).unwrap_or(now));
                Order::Claim { name, listing, lease, since }
            }
            Command::Release { name } => Order::Release { name },
            Command::Find { name, wait } => Order::Find { name, wait },
            Command::Post { broker, letter } => Order::Post { broker, letter },
            _ => return None,
        };
        match self.orders.as_ref()?.try_send(order) {
            Ok(()) => None,
            Err(TrySendError::Full(order) | TrySendError::Disconnected(order)) => order.denied(),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.state.has_ended.store(true, Ordering::Relaxed);
        self.orders = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}
