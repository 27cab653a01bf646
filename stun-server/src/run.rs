//! [`Server`]: its sockets, and what runs on them.

use crate::bind::{BindError, Sockets};
#[cfg(feature = "dtls")]
use crate::dtls::{Counts, Endpoint};
use crate::express::Express;
use crate::live::{Follower, Live, Reloader};
use crate::options::{AlternateHost, Options};
use crate::other::Other;
use crate::partner::{Partner, PartnerKey, Partners};
use crate::probes::Probes;
use crate::shard::{Place, Shard, Tally, Threads};
use crate::streams::{Listener, Streams};
use crate::tls::Identity;
use async_io::Async;
use futures::StreamExt;
use futures::future::{Either, join, select};
use futures::stream::FuturesUnordered;
use ntcp_service::bind::Opening;
use ntcp_stun::server::{
    self, Allowance, Budget, BudgetLimits, Counters, Network, Quartet, Request, Silence,
};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
#[cfg(feature = "dtls")]
use std::net::UdpSocket;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a reply may be longer than its request.
const REPLY_EXCESS: usize = 512;

/// A STUN server with its sockets open.
#[derive(Debug)]
pub struct Server {
    options: Options,
    addresses: Vec<SocketAddr>,
    quartets: Vec<Quartet>,
    core: Arc<Core>,
    other: Other,
    shards: Vec<Shard>,
    listeners: Vec<Listener>,
    tls: Vec<SocketAddr>,
    dtls: Vec<SocketAddr>,
    #[cfg(feature = "dtls")]
    endpoints: Vec<Endpoint>,
    live: Arc<Live>,
    identity: Option<Identity>,
}

/// The server of the protocol, for all streams.
#[derive(Debug)]
pub(crate) struct Core {
    server: Mutex<(server::Server, Follower)>,
    other: Other,
    express: Arc<Express>,
    tls_refused: AtomicU64,
    #[cfg(feature = "dtls")]
    pub(crate) dtls: Counts,
}

impl Core {
    /// A stream was closed because of what came over TLS.
    pub(crate) fn count_refused_tls(&self) {
        self.tls_refused.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, (server::Server, Follower)> {
        // It holds nothing but counters; a panic elsewhere cannot have left it half changed.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the reply to a request to `replies`.
    pub(crate) fn reply(&self, request: Request<'_>, replies: &mut Vec<u8>) -> Result<(), Silence> {
        let start = replies.len();
        replies.resize(start + request.bytes.len() + REPLY_EXCESS, 0);
        let outcome = {
            let (server, follower) = &mut *self.lock();
            server.advance(Instant::now());
            self.other.tell(server);
            follower.follow(server);
            server.handle_request(request, &mut replies[start..])
        };
        replies.truncate(outcome.as_ref().map_or(start, |reply| start + reply.length));
        outcome.map(drop)
    }
}

impl Server {
    /// Opens the sockets.
    ///
    /// # Errors
    ///
    /// A [`BindError`] that names the address and what to do.
    pub fn bind(options: &Options) -> Result<Self, BindError> {
        Self::new(Sockets::open(options, Opening::new())?.0, options)
    }

    /// A server on open sockets.
    ///
    /// # Errors
    ///
    /// The system has no room for them.
    pub fn new(sockets: Sockets, options: &Options) -> Result<Self, BindError> {
        let mut core = server::Server::new();
        for quartet in &sockets.quartets {
            core.add_quartet(*quartet);
        }
        if options.probes {
            core.offer_probes();
        }
        options.policy.apply(&mut core, random_secret(), Instant::now());
        let addresses = sockets.places.iter().map(|it| it.address).collect();
        let mut shards = Vec::new();
        let mut listeners = Vec::new();
        for place in sockets.places {
            let address = place.address;
            let failed = |source| BindError::Reactor { address, source };
            shards.resize_with(place.datagrams.len().max(shards.len()), Vec::new);
            for (shard, socket) in shards.iter_mut().zip(place.datagrams) {
                let place = Place::new(socket, sockets.outside.of(place.address));
                shard.push(place.map_err(failed)?);
            }
            if options.probes {
                Probes::prepare(&place.listener);
            }
            let listener = Async::new_nonblocking(place.listener).map_err(failed)?;
            listeners.push(Listener { listener, identity: None });
        }
        let (mut tls, mut dtls, mut identity) = (Vec::new(), Vec::new(), None);
        #[cfg(feature = "dtls")]
        let mut endpoints = Vec::new();
        if let Some(secured) = sockets.tls {
            for (address, listener) in secured.streams {
                let listener = Async::new_nonblocking(listener);
                let listener = listener.map_err(|source| BindError::Reactor { address, source })?;
                let its = Some(secured.identity.clone());
                listeners.push(Listener { listener, identity: its });
                tls.push(address);
            }
            for (address, socket) in secured.datagrams {
                dtls.push(address);
                #[cfg(feature = "dtls")]
                {
                    let identity = &secured.identity;
                    let near = sockets.near.clone();
                    endpoints.extend(endpoint((socket, address), identity, options, near)?);
                }
                #[cfg(not(feature = "dtls"))]
                drop(socket);
            }
            identity = Some(secured.identity);
        }
        for (address, senders) in sockets.forged {
            for (shard, socket) in shards.iter_mut().zip(senders) {
                let place = Place::new(socket, address);
                shard.push(place.map_err(|source| BindError::Reactor { address, source })?);
            }
        }
        let other = match &options.alternate_host {
            AlternateHost::ThisOne => Other::Own,
            AlternateHost::Forged => Other::forged(sockets.provers),
            AlternateHost::Partner(key) => {
                core.forward_changes();
                Other::Partner(partners(&sockets.quartets, &shards, key)?)
            }
        };
        other.tell(&mut core);
        let live = Live::new(options.policy.conditions());
        let follower = Follower::new(&live);
        let near = &sockets.near;
        let count = u32::try_from(shards.len()).unwrap_or(u32::MAX);
        let shards = shards.into_iter().map(|places| {
            let mut server = core.clone();
            if let Some(limits) = options.budget {
                let mut budget = Budget::new(share_of(limits, count), random_keys());
                budget.name_neighbours(near.clone());
                server.limit(budget);
            }
            let (tally, other, follower) = (Tally::default(), other.clone(), follower.clone());
            Shard { places, server, tally, other, follower }
        });
        let shards = shards.collect();
        Ok(Self {
            options: options.clone(),
            addresses,
            quartets: sockets.quartets,
            core: Arc::new(Core {
                server: Mutex::new((core, follower)),
                other: other.clone(),
                express: Arc::new(sockets.express),
                tls_refused: AtomicU64::new(0),
                #[cfg(feature = "dtls")]
                dtls: Counts::default(),
            }),
            other,
            shards,
            listeners,
            tls,
            dtls,
            #[cfg(feature = "dtls")]
            endpoints,
            live,
            identity,
        })
    }

    /// The addresses it listens on over UDP and TCP alike, with the ports that were free where 0 was asked for: for each
    /// of [`Options::listen`] that one alone, or with an alternate address the four of
    /// [`Quartet::addresses`].
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// The four addresses of each family that has an alternate one. Only over these families can clients learn how their
    /// NAT filters.
    pub fn quartets(&self) -> &[Quartet] {
        &self.quartets
    }

    /// The addresses where it speaks TLS.
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls
    }

    /// The addresses where it speaks DTLS.
    pub fn dtls_addresses(&self) -> &[SocketAddr] {
        &self.dtls
    }

    /// Tells the server, once it runs, what has changed in its configuration.
    pub fn reloader(&self) -> Reloader {
        let files = self.options.tls.as_ref().map(|it| it.files.clone());
        let tls = files.zip(self.identity.clone());
        let express = Arc::clone(&self.core.express);
        Reloader::new((Arc::clone(&self.live), express), self.options.policy.clone(), tls)
    }

    /// What is counted while the server runs, for whoever wants to show it.
    pub fn meter(&self) -> Meter {
        let tallies = self.shards.iter().map(|it| it.tally.clone()).collect();
        Meter { core: Arc::clone(&self.core), tallies }
    }

    /// How it comes by its alternate address: `dual`, `forged`, `partner`, or `basic` without any.
    pub fn mode(&self) -> &'static str {
        match &self.options.alternate_host {
            _ if self.quartets.is_empty() => "basic",
            AlternateHost::ThisOne => "dual",
            AlternateHost::Forged => "forged",
            AlternateHost::Partner(_) => "partner",
        }
    }

    /// Serves until `stop` is ready, and returns what was counted. Cancel safe: dropping the future closes every socket.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Counters {
        let meter = self.meter();
        #[cfg(feature = "dtls")]
        let endpoints = self.endpoints;
        let Self { options, quartets, core, other, shards, listeners, .. } = self;
        let threads = match Threads::start(shards) {
            Ok(threads) => threads,
            Err(error) => {
                tracing::error!(%error, "no thread can be started");
                return meter.read();
            }
        };
        let mut sockets = FuturesUnordered::new();
        // No connection can come from an address of another host.
        let own = match options.alternate_host {
            AlternateHost::ThisOne => &quartets[..],
            AlternateHost::Forged | AlternateHost::Partner(_) => &[],
        };
        let probes = options.probes.then(|| Probes::new(&options, own));
        let streams = Streams::new(&options, probes);
        for listener in listeners {
            sockets.push(Arc::clone(&streams).serve(listener, Arc::clone(&core)));
        }
        #[cfg(feature = "dtls")]
        let mut sessions: FuturesUnordered<_> =
            endpoints.into_iter().map(|it| it.serve(Arc::clone(&core))).collect();
        #[cfg(not(feature = "dtls"))]
        let mut sessions = FuturesUnordered::<std::future::Ready<()>>::new();
        let serving = async {
            join(async { while sockets.next().await.is_some() {} }, async {
                while sessions.next().await.is_some() {}
            })
            .await;
        };
        let (serving, watching) = (pin!(serving), pin!(other.watch(&quartets)));
        match select(pin!(stop), select(serving, watching)).await {
            Either::Left(_) => {}
            Either::Right(_) => tracing::error!("all listeners failed"),
        }
        meter.core.express.close();
        // What the threads have taken in hand, they finish and count.
        drop(threads);
        meter.read()
    }
}

/// Reads what a running server has counted.
#[derive(Clone, Debug)]
pub struct Meter {
    core: Arc<Core>,
    tallies: Vec<Tally>,
}

impl Meter {
    /// The counts of all shards and streams until now.
    pub fn read(&self) -> Counters {
        let mut counters = *self.core.lock().0.counters();
        counters.in_driver = self.core.express.answered();
        counters.udp += counters.in_driver;
        counters.successes += counters.in_driver;
        counters.tls_refused += self.core.tls_refused.load(Ordering::Relaxed);
        #[cfg(feature = "dtls")]
        self.core.dtls.add_to(&mut counters);
        for tally in &self.tallies {
            counters += tally.read();
        }
        for (forwarded, refused) in self.core.other.partners().iter().map(Partner::counts) {
            counters.forwarded += forwarded;
            counters.link_refused += refused;
        }
        counters
    }
}

/// A socket where DTLS is spoken; `None` if the identity is for streams alone.
#[cfg(feature = "dtls")]
fn endpoint(
    (socket, address): (UdpSocket, SocketAddr),
    identity: &Identity,
    options: &Options,
    near: Vec<Network>,
) -> Result<Option<Endpoint>, BindError> {
    let Some(credentials) = &identity.datagrams else { return Ok(None) };
    let budget = options.budget.map(|limits| {
        let mut budget = Budget::new(limits, random_keys());
        budget.name_neighbours(near);
        budget
    });
    let endpoint =
        Endpoint::new((socket, address), credentials, options, (random_secret(), budget));
    endpoint.map(Some).map_err(|source| BindError::Reactor { address, source })
}

/// The partner of each quartet, with a socket on this host's first address.
fn partners(
    quartets: &[Quartet],
    shards: &[Vec<Place>],
    key: &PartnerKey,
) -> Result<Partners, BindError> {
    let partner = |quartet: &Quartet| {
        let [own, _, _, partner] = quartet.addresses();
        let places = shards.first().into_iter().flatten();
        let place = places.into_iter().find(|it| it.address() == own);
        let socket = place.map_or_else(|| Err(io::ErrorKind::NotFound.into()), Place::another);
        let socket = socket.map_err(|source| BindError::Reactor { address: own, source })?;
        let [run, key_0] = random_keys();
        let drawn = [run, key_0, random_keys()[0]];
        Ok(Partner::new((own, socket), partner, key, drawn))
    };
    quartets.iter().map(partner).collect()
}

/// What each of `count` shards may give, so that all of them together give what `limits` say. What is allowed at once
/// is not divided: a client's datagrams all come to one shard.
fn share_of(limits: BudgetLimits, count: u32) -> BudgetLimits {
    let share =
        |it: Allowance| Allowance { per_second: it.per_second.div_ceil(count.max(1)), ..it };
    let BudgetLimits { address, network, long, neighbours } = limits;
    BudgetLimits {
        address: share(address),
        network: share(network),
        long: share(long),
        neighbours: share(neighbours),
    }
}

/// The keys of the standard library's hashing are random.
pub(crate) fn random_keys() -> [u64; 2] {
    [0, 1].map(|it| RandomState::new().hash_one(it))
}

/// Without the system's source of randomness, what the standard library had from it earlier.
fn random_secret() -> [u8; 32] {
    let mut secret = [0; 32];
    if let Err(error) = getrandom::fill(&mut secret) {
        tracing::warn!(%error, "no randomness from the system");
        let words: [u64; 4] = std::array::from_fn(|_| random_keys()[0]);
        secret = std::array::from_fn(|place| words[place / 8].to_be_bytes()[place % 8]);
    }
    secret
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
