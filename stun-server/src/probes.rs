//! Tests towards clients, as [`ntcp_stun::server::Prober`] decides them.
//!
//! A [`Guest`] stands beside each stream. A test is a part of the stream's conversation: the next request is read when it
//! has ended.

use crate::connect_back;
use crate::options::Options;
use crate::outside::Outside;
use async_io::{Async, Timer};
use futures::{FutureExt, select_biased};
use ntcp_raw::hops;
use ntcp_raw::saved_syn;
use ntcp_stun::probe::{LOUD, Seen};
use ntcp_stun::server::{Conduct, Lease, Look, Prober, Quartet, Request, Reservation, Step, Wait};
use socket2::{Domain, Protocol, Socket, Type};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// No packet that has travelled has this TTL, so a listener that asks for it hears nothing and refuses nothing.
const UNTRAVELLED: u8 = u8::MAX;

/// What all streams share.
#[derive(Debug)]
pub(crate) struct Probes {
    prober: Mutex<Prober>,
    outside: Outside,
}

impl Probes {
    /// `quartets` are those of which all addresses are this host's.
    pub(crate) fn new(options: &Options, quartets: &[Quartet]) -> Arc<Self> {
        // The keys of the standard library's hashing are random.
        let mut prober = Prober::new(options.probe_limits, RandomState::new().hash_one(0));
        for quartet in quartets {
            prober.add_quartet(*quartet);
        }
        Arc::new(Self { prober: Mutex::new(prober), outside: Outside::new(&options.public) })
    }

    /// Has a listener keep the SYNs of its streams, so that clients can be told how theirs arrived.
    pub(crate) fn prepare(listener: &TcpListener) {
        if let Err(error) = saved_syn::keep(listener) {
            tracing::debug!(%error, "SYNs are not kept, so clients are not told how theirs arrived");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Prober> {
        // It holds counters; a panic elsewhere cannot have left it half changed.
        self.prober.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the tests under way, free again when dropped.
#[derive(Debug)]
struct Place(Arc<Probes>, Lease);

impl Drop for Place {
    fn drop(&mut self) {
        let Self(probes, lease) = self;
        probes.lock().release(*lease);
    }
}

/// A port that a client asked for.
#[derive(Debug)]
struct Reserved {
    /// As the client knows it.
    address: SocketAddr,
    time: Duration,
    until: Instant,
    _socket: Socket,
    _place: Place,
}

/// The tests of one stream.
#[derive(Debug)]
pub(crate) struct Guest {
    probes: Option<Arc<Probes>>,
    reserved: Option<Reserved>,
    seen: Option<Seen>,
}

impl Guest {
    /// `None` where no tests are served.
    pub(crate) fn new(probes: Option<Arc<Probes>>) -> Self {
        Self { probes, reserved: None, seen: None }
    }

    /// How long the next request is waited for, which is usually so long.
    pub(crate) fn patience(&self, usual: Duration) -> Duration {
        self.reserved.as_ref().map_or(usual, |reserved| reserved.time)
    }

    /// Whether a request is one for a test, which [`Guest::serve`] answers.
    pub(crate) fn is_asked(&self, request: &Request<'_>) -> bool {
        self.probes.is_some() && Prober::is_asked(request)
    }

    /// The reply to a request that is one for a test, when it has ended.
    pub(crate) async fn serve(
        &mut self,
        request: Request<'_>,
        stream: &Async<TcpStream>,
    ) -> Option<Vec<u8>> {
        let probes = Arc::clone(self.probes.as_ref()?);
        let now = Instant::now();
        let reserved = self.reserved.take_if(|_| true).filter(|it| now < it.until);
        let address = reserved.as_ref().map(|it| it.address);
        let step = probes.lock().handle_request(request, address, now);
        match step {
            None => {
                self.reserved = reserved;
                None
            }
            Some(Step::Reply(reply)) => Some(reply),
            Some(Step::Reserve(reservation)) => {
                let place = Place(probes, reservation.lease);
                Some(self.reserve(reservation, place))
            }
            Some(Step::Wait(wait)) => {
                let _place = Place(probes, wait.lease);
                let_pass(wait, stream).await
            }
            Some(Step::Look(look)) => {
                self.reserved = reserved;
                let _place = Place(probes, Lease::SHORT);
                Some(self.look(look, stream.get_ref()))
            }
            Some(Step::Connect(order)) => {
                let outside = probes.outside.clone();
                let _place = Place(probes, Lease::SHORT);
                let mut here = order;
                here.from = outside.local(order.from);
                let (outcome, from) = connect_back::connect(&here).await;
                tracing::trace!(to = %order.to, ?outcome, "connected back");
                let reply = order.reply(outcome, from.map(|it| outside.of(it)));
                // Until now nobody else could have its port, and nothing on it was refused.
                drop(reserved);
                Some(reply)
            }
        }
    }

    fn reserve(&mut self, reservation: Reservation, place: Place) -> Vec<u8> {
        let outside = place.0.outside.clone();
        let ip = outside.local(SocketAddr::new(reservation.ip, 0)).ip();
        let bound = reserved_port(ip, reservation.conduct);
        if let Err(error) = &bound {
            tracing::debug!(%error, "no port can be reserved");
        }
        let address = bound.as_ref().ok().map(|(_, address)| outside.of(*address));
        let time = reservation.time;
        let until = Instant::now() + time;
        self.reserved = bound.ok().zip(address).map(|((socket, _), address)| Reserved {
            address,
            time,
            until,
            _socket: socket,
            _place: place,
        });
        reservation.reply(address)
    }

    fn look(&mut self, look: Look, stream: &TcpStream) -> Vec<u8> {
        if self.seen.is_none() {
            // The system gives it once.
            let syn = saved_syn::take(stream).ok().flatten();
            self.seen = syn.and_then(|headers| Seen::of_syn(&headers));
        }
        look.reply(self.seen)
    }
}

/// Waits with a reply, unless the client says something before or leaves: that wakes its NAT, or nobody
/// is there any more.
async fn let_pass(wait: Wait, stream: &Async<TcpStream>) -> Option<Vec<u8>> {
    select_biased! {
        _ = stream.readable().fuse() => None,
        _ = FutureExt::fuse(Timer::after(wait.time)) => Some(wait.reply()),
    }
}

/// A socket on a free port that does as asked about SYNs, with its address.
fn reserved_port(ip: IpAddr, conduct: Conduct) -> io::Result<(Socket, SocketAddr)> {
    let address = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    connect_back::share_port(&socket)?;
    socket.bind(&address.into())?;
    match conduct {
        // The system refuses what comes to a port where nobody listens.
        Conduct::Refusing => {}
        Conduct::Quiet => listen_above(&socket, address, UNTRAVELLED)?,
        Conduct::Deaf => listen_above(&socket, address, LOUD)?,
    }
    let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    Ok((socket, bound))
}

/// Listens, and hears only what arrives with this TTL at least.
fn listen_above(socket: &Socket, address: SocketAddr, least: u8) -> io::Result<()> {
    hops::set_least_ttl(socket, connect_back::family(address), least)?;
    socket.listen(1)
}
