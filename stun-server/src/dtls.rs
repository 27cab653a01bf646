//! DTLS (RFC 7350): a socket and its sessions, within bounds.
//!
//! Nothing is kept for a source that has not echoed a cookie (`hello`), and what is sent to it is not longer than what it
//! sent. Who has, is there: he gets a session, and is answered as over TCP, where a source is true as well.
//!
//! ```text
//!  datagram ─▶ hello? ─▶ no cookie ─▶ HelloVerifyRequest, within the budget
//!     │           └────▶ cookie ───▶ new session (bounded: all, and each source), instead of the old one
//!     └─▶ session of its source ─▶ dimpl ─▶ requests ─▶ Core ─▶ replies ─▶ dimpl ─▶ datagrams
//! ```
//!
//! DTLS 1.2, with a certificate of ECDSA. `dimpl` sends the certificate itself and no other, so clients must know the one
//! who signed it. There is no ALPN (RFC 7443): a client that asks for it is served without.

mod cryptography;
mod hello;

use crate::options::Options;
use crate::run::{Core, yield_now};
use crate::shard::Place;
use async_io::{Async, Timer};
use dimpl::{Config, Dtls, DtlsCertificate, Output};
use futures::future::select;
use hello::{Baker, Hello, Verdict};
use ntcp_raw::batch::{Receiver, Sender};
use ntcp_stun::server::{Budget, Counters, Request, Transport};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Datagrams that are taken with one call.
const BATCH: usize = 16;
/// What a record may be longer than the reply in it.
const ROOM: usize = 2048;
/// The longest datagram of a handshake.
const MTU: usize = 1200;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a session has nothing to do at least.
const PAUSE: Duration = Duration::from_millis(1);
/// A source may have this part of all sessions.
const SOURCE_SHARE: usize = 32;

/// What has been counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Cookies given.
    pub(crate) cookies: AtomicU64,
    /// Handshakes finished.
    pub(crate) handshakes: AtomicU64,
    /// Hellos with a wrong cookie or beyond the bounds, and sessions that ended in an error.
    pub(crate) refused: AtomicU64,
    /// Datagrams that the kernel did not take.
    pub(crate) lost: AtomicU64,
}

impl Counts {
    pub(crate) fn add_to(&self, counters: &mut Counters) {
        counters.dtls_cookies += self.cookies.load(Ordering::Relaxed);
        counters.dtls_handshakes += self.handshakes.load(Ordering::Relaxed);
        counters.dtls_refused += self.refused.load(Ordering::Relaxed);
        counters.lost += self.lost.load(Ordering::Relaxed);
    }
}

/// What the server is over DTLS: the certificate in use, which can be exchanged.
#[derive(Debug)]
pub(crate) struct Credentials {
    config: Arc<Config>,
    current: RwLock<DtlsCertificate>,
}

impl Credentials {
    /// # Errors
    ///
    /// What is wrong with the key: it must be one for ECDSA.
    pub(crate) fn new(certificate: DtlsCertificate) -> Result<Arc<Self>, String> {
        let config = Config::builder()
            .with_crypto_provider(cryptography::provider())
            .require_client_certificate(false)
            .handshake_timeout(HANDSHAKE)
            .mtu(MTU)
            .build()
            .map_err(|error| error.to_string())?;
        let fresh = Self { config: Arc::new(config), current: RwLock::new(certificate) };
        fresh.exchange(fresh.current())?;
        Ok(Arc::new(fresh))
    }

    /// # Errors
    ///
    /// What is wrong with the key; then the old one stays.
    pub(crate) fn exchange(&self, certificate: DtlsCertificate) -> Result<(), String> {
        let keys = self.config.crypto_provider().key_provider;
        if keys.load_private_key(&certificate.private_key).is_err() {
            return Err("DTLS needs an ECDSA key on the curve P-256 or P-384".to_owned());
        }
        // Only exchanged as a whole.
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = certificate;
        Ok(())
    }

    fn current(&self) -> DtlsCertificate {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A client that is there.
struct Session {
    dtls: Dtls,
    /// What its hello began with.
    random: [u8; 32],
    /// Where the client sends to.
    local: SocketAddr,
    /// When the next thing is to be done.
    due: Instant,
    /// When it ends, unless something comes.
    end: Instant,
}

/// A socket where DTLS is to be spoken.
#[derive(Debug)]
pub(crate) struct Endpoint {
    place: Place,
    credentials: Arc<Credentials>,
    options: Options,
    secret: [u8; 32],
    /// For cookies: their receivers may be forged.
    budget: Option<Budget>,
}

/// A socket where DTLS is spoken, and its sessions.
struct Sessions {
    place: Place,
    credentials: Arc<Credentials>,
    options: Options,
    baker: Baker,
    budget: Option<Budget>,
    sessions: HashMap<SocketAddr, Session>,
    /// How many sessions each source has.
    sources: HashMap<IpAddr, usize>,
    /// All sessions by when they are due.
    agenda: BTreeSet<(Instant, SocketAddr)>,
    sender: Sender,
    /// Where the library writes.
    output: Vec<u8>,
}

/// Why a session is over.
#[derive(Debug)]
enum Over {
    /// As it should be.
    Closed,
    /// The client was not heard of for long.
    Idle,
    /// It went wrong.
    Failed(String),
}

impl Over {
    /// What the network sends may find a fault of the library: it costs one session, not the server.
    fn fault() -> Self {
        Self::Failed("a fault of the library".to_owned())
    }
}

impl From<dimpl::Error> for Over {
    fn from(error: dimpl::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Whose sessions are counted together: those of an IPv4 address or an IPv6 /64.
fn holder(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

impl Endpoint {
    pub(crate) fn new(
        (socket, address): (UdpSocket, SocketAddr),
        credentials: &Arc<Credentials>,
        options: &Options,
        (secret, budget): ([u8; 32], Option<Budget>),
    ) -> io::Result<Self> {
        let place = Place::new(socket, address)?;
        let (credentials, options) = (Arc::clone(credentials), options.clone());
        Ok(Self { place, credentials, options, secret, budget })
    }

    /// Serves for as long as the future is kept.
    pub(crate) async fn serve(self, core: Arc<Core>) {
        let Self { place, credentials, options, secret, budget } = self;
        let sessions = Sessions {
            place,
            credentials,
            options,
            baker: Baker::new(secret, Instant::now()),
            budget,
            sessions: HashMap::new(),
            sources: HashMap::new(),
            agenda: BTreeSet::new(),
            sender: Sender::new(BATCH),
            output: vec![0; ROOM],
        };
        sessions.serve(&core).await;
    }
}

impl Sessions {
    async fn serve(mut self, core: &Core) {
        let address = self.place.address();
        let readiness = self.place.another().and_then(Async::new_nonblocking);
        let readiness = match readiness {
            Ok(readiness) => readiness,
            Err(error) => return tracing::error!(%address, %error, "DTLS cannot be waited for"),
        };
        let mut receiver = Receiver::new(BATCH);
        loop {
            let due = self.agenda.first().map(|it| it.0);
            let timer = pin!(due.map_or_else(Timer::never, Timer::at));
            select(pin!(readiness.readable()), timer).await;
            self.receive(&mut receiver, core);
            self.tend(core);
            self.flush(core);
            // Whoever sends without a pause must not keep the streams waiting.
            yield_now().await;
        }
    }

    fn receive(&mut self, receiver: &mut Receiver, core: &Core) {
        let count = match receiver.receive(self.place.socket()) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // What the network reports about an earlier datagram.
            Err(error) => return tracing::trace!(%error, "DTLS"),
        };
        for datagram in (0..count).filter_map(|it| receiver.datagram(it)) {
            if let Some(local) = self.place.local(datagram.destination) {
                self.take(datagram.bytes, (datagram.source, local), core);
            }
        }
    }

    /// One datagram.
    fn take(&mut self, bytes: &[u8], (source, local): (SocketAddr, SocketAddr), core: &Core) {
        let running = self.sessions.get(&source);
        match Hello::parse(bytes) {
            // The one that its session began with, once more.
            Some(hello) if running.is_some_and(|it| it.random == hello.random) => {
                self.pass(source, bytes, core);
            }
            Some(hello) => self.welcome(&hello, bytes, (source, local), core),
            None if running.is_some() => self.pass(source, bytes, core),
            None => tracing::trace!(%source, "neither a hello nor of a session"),
        }
    }

    /// A hello, from who knows where.
    fn welcome(
        &mut self,
        hello: &Hello<'_>,
        bytes: &[u8],
        (source, local): (SocketAddr, SocketAddr),
        core: &Core,
    ) {
        let now = Instant::now();
        let cookie = match self.baker.judge(hello, source, now) {
            Verdict::There(cookie) => cookie,
            Verdict::Wrong => return refuse(source, "wrong cookie", core),
            Verdict::Ask(answer) => {
                let is_affordable = self.budget.as_mut().is_none_or(|it| {
                    it.advance(now);
                    it.admits(source.ip())
                });
                if is_affordable && source.port() != 0 {
                    core.dtls.cookies.fetch_add(1, Ordering::Relaxed);
                    self.send(&answer, source, local, core);
                }
                return;
            }
        };
        // He is there, so his old session may go (RFC 6347, section 4.2.8).
        self.end(source, &Over::Closed, core);
        if !self.has_room(source.ip()) {
            return refuse(source, "too many sessions", core);
        }
        let begin = || self.begin(hello, bytes, (cookie, local), now);
        let begun = catch_unwind(AssertUnwindSafe(begin)).unwrap_or_else(|_| Err(Over::fault()));
        match begun {
            Ok(session) => {
                self.agenda.insert((session.due, source));
                self.sessions.insert(source, session);
                *self.sources.entry(holder(source.ip())).or_default() += 1;
                self.work(source, core, |_, _| Ok(()));
            }
            Err(over) => refuse(source, &format!("{over:?}"), core),
        }
    }

    fn has_room(&self, source: IpAddr) -> bool {
        let most = self.options.max_dtls_sessions;
        let its = self.sources.get(&holder(source)).copied().unwrap_or(0);
        self.sessions.len() < most && its < (most / SOURCE_SHARE).max(1)
    }

    /// A session as it is after the cookie exchange: the library is told of both hellos, and that the cookie is its own.
    fn begin(
        &self,
        hello: &Hello<'_>,
        bytes: &[u8],
        (cookie, local): ([u8; cryptography::COOKIE], SocketAddr),
        now: Instant,
    ) -> Result<Session, Over> {
        let config = Arc::clone(&self.credentials.config);
        let mut dtls = Dtls::new_12(config, self.credentials.current(), now);
        dtls.handle_timeout(now)?;
        cryptography::with_cookie(cookie, || {
            dtls.handle_packet(&hello.first())?;
            // It asks for the cookie, which the client has brought already.
            let mut output = [0; ROOM];
            while !matches!(dtls.poll_output(&mut output), Output::Timeout(_)) {}
            dtls.handle_packet(bytes)
        })?;
        let end = now + HANDSHAKE.min(self.options.first_message);
        Ok(Session { dtls, random: hello.random, local, due: end, end })
    }

    /// Has its session take in a datagram.
    fn pass(&mut self, source: SocketAddr, bytes: &[u8], core: &Core) {
        self.work(source, core, |session, now| {
            session.dtls.handle_timeout(now)?;
            session.dtls.handle_packet(bytes)
        });
    }

    /// Does what is due.
    fn tend(&mut self, core: &Core) {
        let now = Instant::now();
        while let Some(&(due, source)) = self.agenda.first()
            && due <= now
        {
            self.work(source, core, |session, now| session.dtls.handle_timeout(now));
        }
    }

    /// Has a session do something, and does what follows from it.
    fn work(
        &mut self,
        source: SocketAddr,
        core: &Core,
        step: impl FnOnce(&mut Session, Instant) -> Result<(), dimpl::Error>,
    ) {
        let Some(mut session) = self.sessions.remove(&source) else { return };
        self.agenda.remove(&(session.due, source));
        let now = Instant::now();
        let work = || {
            let result = step(&mut session, now);
            // Whatever came of it: an alert may be waiting.
            let drained = self.drain(source, &mut session, now, core);
            result.map_err(Over::from).and(drained)
        };
        let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Over::fault()));
        let due = session.due;
        self.sessions.insert(source, session);
        match result {
            Ok(()) => drop(self.agenda.insert((due, source))),
            Err(over) => self.end(source, &over, core),
        }
    }

    /// Sends what a session has to say, answers what it was asked, and notes when it is due again.
    fn drain(
        &mut self,
        source: SocketAddr,
        session: &mut Session,
        now: Instant,
        core: &Core,
    ) -> Result<(), Over> {
        let (mut answers, mut is_closed) = (Vec::new(), false);
        loop {
            let mut output = std::mem::take(&mut self.output);
            output.resize(output.len().max(ROOM), 0);
            let next = loop {
                match session.dtls.poll_output(&mut output) {
                    Output::Packet(bytes) => self.send(bytes, source, session.local, core),
                    Output::ApplicationData(bytes) => {
                        session.end = now + self.options.next_message;
                        answers.extend(answer(bytes, (source, session.local), core));
                    }
                    Output::Connected => {
                        session.end = now + self.options.first_message;
                        core.dtls.handshakes.fetch_add(1, Ordering::Relaxed);
                    }
                    Output::CloseNotify => is_closed = true,
                    Output::BufferTooSmall { needed } => output.resize(needed, 0),
                    Output::Timeout(at) => break at,
                    _ => {}
                }
            };
            self.output = output;
            // Not at once again, whatever the library says.
            session.due = next.min(session.end).max(now + PAUSE);
            if answers.is_empty() {
                break;
            }
            for answer in answers.drain(..) {
                session.dtls.send_application_data(&answer)?;
            }
        }
        if is_closed || session.dtls.is_closed() {
            Err(Over::Closed)
        } else if session.end <= now {
            Err(Over::Idle)
        } else {
            Ok(())
        }
    }

    /// Forgets a session, if there is one.
    fn end(&mut self, source: SocketAddr, over: &Over, core: &Core) {
        let Some(mut session) = self.sessions.remove(&source) else { return };
        self.agenda.remove(&(session.due, source));
        let its = holder(source.ip());
        if let Some(count) = self.sources.get_mut(&its) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&its);
            }
        }
        match over {
            Over::Closed => tracing::trace!(%source, "DTLS session closed"),
            Over::Failed(reason) => refuse(source, reason, core),
            Over::Idle => {
                tracing::trace!(%source, "DTLS session ended");
                self.say_goodbye(source, &mut session, core);
            }
        }
    }

    /// Tells an idle client that nobody listens any more.
    fn say_goodbye(&mut self, source: SocketAddr, session: &mut Session, core: &Core) {
        let last = || {
            let mut output = [0; ROOM];
            // Whatever fails now, it is over.
            let _ = session.dtls.close();
            loop {
                match session.dtls.poll_output(&mut output) {
                    Output::Packet(bytes) => self.send(bytes, source, session.local, core),
                    Output::Timeout(_) | Output::BufferTooSmall { .. } => break,
                    _ => {}
                }
            }
        };
        if catch_unwind(AssertUnwindSafe(last)).is_err() {
            refuse(source, "a fault of the library", core);
        }
    }

    /// Has a datagram wait until the others of its batch are written.
    fn send(&mut self, bytes: &[u8], to: SocketAddr, from: SocketAddr, core: &Core) {
        if self.sender.room(bytes.len()).is_none() {
            self.flush(core);
        }
        let Some(room) = self.sender.room(bytes.len()) else { return };
        room[..bytes.len()].copy_from_slice(bytes);
        self.sender.push(bytes.len(), to, self.place.is_any().then_some(from));
    }

    fn flush(&mut self, core: &Core) {
        let lost = self.sender.flush(self.place.socket()).lost;
        core.dtls.lost.fetch_add(lost as u64, Ordering::Relaxed);
    }
}

/// The answer to a request that came in a record.
fn answer(bytes: &[u8], (source, local): (SocketAddr, SocketAddr), core: &Core) -> Option<Vec<u8>> {
    let mut reply = Vec::new();
    let request = Request { bytes, source, local, transport: Transport::Dtls };
    match core.reply(request, &mut reply) {
        Ok(()) => Some(reply),
        Err(silence) => {
            tracing::trace!(%source, %silence, "not answered");
            None
        }
    }
}

fn refuse(source: SocketAddr, reason: &str, core: &Core) {
    core.dtls.refused.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(%source, reason, "no DTLS session");
}
