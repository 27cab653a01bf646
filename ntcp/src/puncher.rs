//! Punching without a broker, for those who have a way of their own to tell the other peer.
//!
//! ```text
//!  one peer                                        the other
//!    Puncher::open ──▶ offer ─── by any means ───▶ offer ◀── Puncher::open
//!    meet(their offer, secret, caller) ═══ path ═══ meet(their offer, secret, callee)
//! ```
//!
//! A [`Puncher`] opens its ports and asks the STUN servers what the outside calls them; its
//! [`Offer`] is one line of text. Once each side has the other's and both share a secret, they
//! [meet](Puncher::meet). Checks run over TCP and UDP at once, as in a call through a broker.
//!
//! [`machine`] is the protocol itself, for a shell of one's own.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use async_executor::Task;
use async_io::Timer;
use futures::channel::oneshot;
use futures::{FutureExt, select_biased};
use ntcp_proto::puncher::session::Path;
use ntcp_proto::puncher::{Agreement, Event, Puncher as Machine};
use ntcp_proto::signal::SessionSecret;
use ntcp_proto::uri::TransportChoice;
use ntcp_proto::{Input, Machine as _};
use ntcp_settings::Config;

pub use ntcp_proto::puncher as machine;
pub use ntcp_proto::puncher::{Offer, OfferError};
pub use ntcp_proto::signal::Role;

use crate::connection::Connection;
use crate::driver::{Driver, Handle, Sockets};
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::node::{host_port, lock, seed};
use crate::path::{self, Peer, SECURE_LIMIT, UdpPath};
use crate::quic::EarlyDatagrams;
use crate::runtime;

/// What the two peers have agreed on, by whatever means.
#[derive(Debug, Clone)]
pub struct Meeting {
    /// Known to the two only, and fresh for each meeting: it authenticates their checks.
    pub secret: [u8; 32],
    /// [`Role::Controlling`] on exactly one of the two sides, which picks the winning path.
    pub role: Role,
    /// Which transports may be used; the same on both sides.
    pub transport: TransportChoice,
    /// When to begin; a past instant is now. A difference between the two sides only delays the path.
    pub start: Instant,
    /// How long to try, from now on.
    pub patience: Duration,
}

/// A punching port, and what the outside calls it.
#[derive(Debug)]
pub struct Puncher {
    handle: Handle<Machine>,
    shared: Arc<Shared>,
    offer: Offer,
    driver: Task<()>,
}

#[derive(Debug)]
struct Shared {
    identity: Identity,
    /// Who waits for the candidates.
    gathered: Mutex<Option<oneshot::Sender<Result<Offer, Error>>>>,
    meeting: Mutex<Option<Waiting>>,
}

/// Who waits for a path.
#[derive(Debug)]
struct Waiting {
    sender: oneshot::Sender<Result<Connection, Error>>,
    peer: Offer,
    role: Role,
    called: Instant,
    secret: SessionSecret,
}

impl Puncher {
    /// Opens a port and asks the STUN servers of `config`.
    ///
    /// Cancel safe: dropping the future closes everything.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoStunServer`], [`ErrorKind::Port`], [`ErrorKind::System`]. A STUN server that
    /// does not answer is no error: the offer then has the host's own addresses only.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        config.check()?;
        let servers: Vec<_> = config.stun_servers().iter().map(host_port).collect();
        if servers.is_empty() {
            return Err(ErrorKind::NoStunServer.into());
        }
        let (sender, receiver) = oneshot::channel();
        let shared = Arc::new(Shared {
            identity: Identity::generate()?,
            gathered: Mutex::new(Some(sender)),
            meeting: Mutex::default(),
        });
        let machine = Machine::new(&servers, config.hole_punch.port, seed()?, Instant::now());
        let (driver, handle) = Driver::new(machine);
        let mut events = Events { shared: shared.clone(), early: Weak::new() };
        let driver = runtime::spawn(driver.run(move |event, machine, sockets, now| {
            events.handle(event, machine, sockets, now);
        }));
        let offer = receiver.await.unwrap_or_else(|_| Err(ErrorKind::Stopped.into()))?;
        Ok(Self { handle, shared, offer, driver })
    }

    /// What the other peer must be told.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Opens a path to the peer that made `offer`.
    ///
    /// Cancel safe: dropping the future closes everything.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoPath`] with the report of everything that was tried, or [`ErrorKind::Secure`]
    /// when a path came about but the peer on it was not the one of the offer.
    pub async fn meet(self, offer: &Offer, meeting: Meeting) -> Result<Connection, Error> {
        let Meeting { secret, role, transport, start, patience } = meeting;
        let (sender, receiver) = oneshot::channel();
        let called = Instant::now();
        let secret = SessionSecret(secret);
        let waiting = Waiting { sender, peer: offer.clone(), role, called, secret };
        *lock(&self.shared.meeting) = Some(waiting);
        let agreement = Agreement {
            secret,
            role,
            candidates: offer.candidates.clone(),
            transport,
            start,
            deadline: called + patience.min(MAX_PATIENCE),
        };
        self.handle.order(move |machine, _, now| machine.meet(agreement, now));
        let mut receiver = receiver.fuse();
        let mut timer = FutureExt::fuse(Timer::after(patience.saturating_add(SECURE_LIMIT)));
        let result = select_biased! {
            result = receiver => result.unwrap_or_else(|_| Err(ErrorKind::Stopped.into())),
            _ = timer => {
                let what = "opening a path to the peer of the offer";
                Err(ErrorKind::Deadline { what, limit: patience }.into())
            }
        };
        self.finish();
        result
    }

    /// Lets the machine say its last words: the nomination of a UDP path is repeated for a moment.
    fn finish(self) {
        let Self { handle, driver, .. } = self;
        runtime::spawn(async move {
            Timer::after(LAST_WORDS).await;
            handle.order(|machine, _, _| machine.stop());
            drop(handle);
            driver.await;
        })
        .detach();
    }
}

/// Longest patience with a meeting; who asks for more means that there is no limit.
const MAX_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long checks are answered after a path was chosen, as sessions do.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the machine tells, turned into connections and errors.
struct Events {
    shared: Arc<Shared>,
    early: Weak<EarlyDatagrams>,
}

impl Events {
    fn handle(&mut self, event: Event, machine: &mut Machine, sockets: &mut Sockets, now: Instant) {
        match event {
            Event::Gathered => {
                let fingerprint = self.shared.identity.fingerprint;
                self.gathered(Ok(Offer { fingerprint, candidates: machine.candidates() }));
            }
            Event::BindFailed { transport, number, failure } => {
                self.gathered(Err(Error::port(transport, number, failure)));
            }
            Event::Early { payload } => {
                if let Some(early) = self.early.upgrade() {
                    early.push(payload);
                }
            }
            Event::Failed { report } => {
                let reason = report.reason.clone().unwrap_or_else(|| "no path came about".into());
                let error = Error::with_report(ErrorKind::NoPath { reason }, report);
                if let Some(waiting) = self.waiting() {
                    let _ = waiting.sender.send(Err(error));
                }
            }
            Event::Established { path, report } => {
                let Some(Waiting { sender, peer, role, called, secret }) = self.waiting() else {
                    return;
                };
                let fingerprint = peer.fingerprint;
                let peer = Peer {
                    name: None,
                    role,
                    fingerprint,
                    secret,
                    bare: false,
                    called,
                    report: *report,
                };
                self.established(path, peer, (machine, sockets), sender, now);
            }
        }
    }

    fn gathered(&self, result: Result<Offer, Error>) {
        if let Some(sender) = lock(&self.shared.gathered).take() {
            // Whoever opened the puncher may have lost interest.
            let _ = sender.send(result);
        }
    }

    fn waiting(&self) -> Option<Waiting> {
        lock(&self.shared.meeting).take()
    }

    fn established(
        &mut self,
        path: Path,
        peer: Peer,
        (machine, sockets): (&mut Machine, &mut Sockets),
        sender: oneshot::Sender<Result<Connection, Error>>,
        now: Instant,
    ) {
        // Whoever waited may have lost interest, here and below: the connection then closes.
        match path {
            Path::Tcp { socket, .. } => {
                let stream = sockets.take_stream(socket);
                let shared = self.shared.clone();
                runtime::spawn(async move {
                    let secured =
                        path::over_tcp(stream, None, peer, &shared.identity, SECURE_LIMIT);
                    let _ = sender.send(secured.await);
                })
                .detach();
            }
            Path::Udp { socket, remote, rtt } => {
                let Some(local) = sockets.udp_address(socket) else { return };
                let own = UdpPath::open(local, remote, |source, payload| {
                    machine.handle_input(Input::UdpReceived { socket, source, payload }, now);
                });
                let own = match own {
                    Ok(own) => own,
                    Err(error) => return drop(sender.send(Err(error))),
                };
                self.early = Arc::downgrade(own.early());
                let shared = self.shared.clone();
                runtime::spawn(async move {
                    let secured = own.secure(peer, &shared.identity, rtt, SECURE_LIMIT).await;
                    let _ = sender.send(secured);
                })
                .detach();
            }
        }
    }
}
