//! What the machine tells, turned into connections and errors.

use std::collections::HashMap;
use std::mem::Discriminant;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ntcp_proto::node::{CallError, CallId, Chosen, Connected, Event, Node as Machine};
use ntcp_proto::puncher::report::{Encryption, Report, Secrecy};
use ntcp_proto::puncher::session::Path;
use ntcp_proto::secrecy::{Initiation, PublicKey};
use ntcp_proto::signal::SessionId;
use ntcp_proto::signal::client::RegistrationError;
use ntcp_proto::{Input, Machine as _, SocketId};

use super::{Shared, Stopped, lock, seed};
use crate::connection::Connection;
use crate::driver::Sockets;
use crate::error::{Error, ErrorKind};
use crate::path::{self, Peer, SECURE_LIMIT, UdpPath};
use crate::quic::EarlyDatagrams;
use crate::runtime;
use crate::sealed;

pub(super) struct Events {
    shared: Arc<Shared>,
    /// Where early datagrams of a session go, for as long as its QUIC lives.
    early: HashMap<SessionId, Weak<EarlyDatagrams>>,
    /// Why the node was not registered again, as the user was told.
    trouble: Option<Discriminant<RegistrationError>>,
    /// Handshakes that calls have begun on the streams they have chosen.
    begun: HashMap<CallId, (SocketId, Initiation)>,
}

impl Events {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, early: HashMap::new(), trouble: None, begun: HashMap::new() }
    }

    pub(super) fn handle(
        &mut self,
        event: Event,
        machine: &mut Machine,
        sockets: &mut Sockets,
        now: Instant,
    ) {
        match event {
            Event::Ready { observed, link, rtt, identity } => {
                lock(&self.shared.broker).learn(identity);
                tracing::debug!(%observed, %link, ?rtt, "registered");
                self.started(Ok(()));
            }
            Event::BindFailed { transport, number, failure } => {
                self.started(Err(Error::port(transport, number, failure)));
            }
            Event::RegistrationFailed { error } => {
                self.registration_failed(&error);
            }
            Event::RegistrationLost { reason } => {
                tracing::info!(%reason, "registration lost, registering anew");
            }
            // Said as loudly as the trouble was.
            Event::RegistrationRestored if self.trouble.take().is_some() => {
                tracing::warn!("registered again: peers reach this node");
            }
            Event::RegistrationRestored => tracing::info!("registered again"),
            Event::CountingPorts(counting) => {
                // A discovery that has ended does not listen any more.
                let _ = self.shared.counting.unbounded_send(counting);
            }
            Event::Chosen(chosen) => self.chosen(&chosen, sockets),
            Event::Connected(connected) => self.connected(*connected, machine, sockets, now),
            Event::Early { session, payload } => {
                if let Some(early) = self.early.get(&session).and_then(Weak::upgrade) {
                    early.push(payload);
                }
            }
            Event::CallFailed { call, error, report } => {
                self.begun.remove(&call);
                let kind = match error {
                    CallError::Signalling(error) => error.into(),
                    CallError::Stopped => ErrorKind::Stopped,
                    CallError::NoPath | CallError::OutOfTime => {
                        let reason = report.reason.clone().unwrap_or_else(|| error.to_string());
                        ErrorKind::NoPath { reason }
                    }
                    other => ErrorKind::NoPath { reason: other.to_string() },
                };
                deliver(&self.shared, Some(call), Err(Error::with_report(kind, report)));
            }
            Event::Stopped => self.stopped(),
        }
    }

    /// Tells whoever waits for the node to start. Whether there was somebody.
    fn started(&mut self, result: Result<(), Error>) -> bool {
        let waiting = lock(&self.shared.started).take();
        // Whoever started the node may have lost interest.
        waiting.map(|waiting| waiting.send(result).ok()).is_some()
    }

    /// A node that runs goes on trying, and says once for each reason why nobody can call it.
    fn registration_failed(&mut self, error: &RegistrationError) {
        let kind = std::mem::discriminant(error);
        if self.started(Err(error.clone().into())) {
            tracing::debug!(%error, "registration failed");
        } else if self.trouble.replace(kind) == Some(kind) {
            tracing::debug!(%error, "still not registered");
        } else {
            tracing::warn!(%error, "not registered any more, so no peer reaches this node; it goes on trying");
        }
    }

    fn stopped(&mut self) {
        lock(&self.shared.calls).clear();
        // First this, so that no stream of callers begins unended behind our back.
        let stopped = std::mem::replace(&mut *lock(&self.shared.stopped), Stopped::Already);
        lock(&self.shared.incoming).sender.close_channel();
        let Stopped::NotYet(waiting) = stopped else { return };
        for waiting in waiting {
            // Whoever stopped the node may have lost interest.
            let _ = waiting.send(());
        }
    }

    /// Begins to shake hands on a stream that has been chosen, unless both want it bare: what the peer answers is not waited for
    /// twice. If it turns out not to be the path, it is closed, and nobody but the peer can read what was sent.
    fn chosen(&mut self, chosen: &Chosen, sockets: &mut Sockets) {
        let &Chosen { call, socket, fingerprint, identity, secret, bare } = chosen;
        self.begun.remove(&call);
        let shown = fingerprint.identity();
        let expected = expected_key(&self.shared, Some(call), identity);
        let shown = shown.filter(|it| expected.is_none_or(|key| key == *it));
        let (Some(peer), false, Ok(seed)) = (shown, bare && self.shared.bare, seed()) else {
            return;
        };
        let (first, initiation) =
            sealed::begin((self.shared.identity.secret(), peer), &secret, seed);
        if sockets.send_ahead(socket, &first).is_ok() {
            self.begun.insert(call, (socket, initiation));
        }
    }

    fn connected(
        &mut self,
        connected: Connected,
        machine: &mut Machine,
        sockets: &mut Sockets,
        now: Instant,
    ) {
        let Connected { call, session, role, fingerprint, path, called, .. } = connected;
        let begun = call.and_then(|call| self.begun.remove(&call));
        if let Err(error) = check_key(&self.shared, &connected) {
            return deliver(&self.shared, call, Err(error));
        }
        let bare = connected.bare && self.shared.bare;
        let secrecy = secrecy(&self.shared, &connected, bare);
        let Connected { peer: name, secret, report, .. } = connected;
        let report = Report { secrecy: Some(secrecy), ..report };
        let peer = Peer { name, role, fingerprint, secret, bare, called, report };
        match path {
            Path::Tcp { socket, .. } => {
                let stream = sockets.take_stream(socket);
                let begun = begun.filter(|(on, _)| *on == socket).map(|(_, begun)| begun);
                let shared = self.shared.clone();
                let limit = secure_limit(&shared, call, now);
                runtime::spawn(async move {
                    let connection =
                        path::over_tcp(stream, begun, peer, &shared.identity, limit).await;
                    deliver(&shared, call, connection);
                })
                .detach();
            }
            Path::Udp { socket, remote, rtt } => {
                let Some(local) = sockets.udp_address(socket) else { return };
                let own = UdpPath::open(local, remote, |source, payload| {
                    machine.handle_input(Input::UdpReceived { socket, source, payload }, now);
                });
                match own {
                    Ok(own) => self.secure((call, session), own, peer, rtt, now),
                    Err(error) => deliver(&self.shared, call, Err(error)),
                }
            }
        }
    }

    /// Brings QUIC up on a path.
    fn secure(
        &mut self,
        (call, session): (Option<CallId>, SessionId),
        own: UdpPath,
        peer: Peer,
        rtt: Option<Duration>,
        now: Instant,
    ) {
        self.early.retain(|_, early| early.strong_count() > 0);
        self.early.insert(session, Arc::downgrade(own.early()));
        let shared = self.shared.clone();
        let limit = secure_limit(&shared, call, now);
        runtime::spawn(async move {
            let connection = own.secure(peer, &shared.identity, rtt, limit).await;
            deliver(&shared, call, connection);
        })
        .detach();
    }
}

/// Whether the peer's key is the one that was pinned, and whether what signs and what shakes hands is
/// one key.
fn check_key(shared: &Shared, connected: &Connected) -> Result<(), Error> {
    let shown = connected.fingerprint.identity();
    let expected = expected_key(shared, connected.call, connected.identity);
    if expected.is_none() || shown == expected {
        return Ok(());
    }
    let name = connected.peer.clone();
    let shown = shown.or(connected.identity).map_or("none".to_owned(), |it| it.to_string());
    Err(match name {
        Some(name) => ErrorKind::PeerKey { name, shown }.into(),
        None => ErrorKind::NoPath {
            reason: format!("the broker announced two keys of one caller: {shown}"),
        }
        .into(),
    })
}

/// The key that the peer must show: the pinned one, or else that which the broker has had proven.
fn expected_key(
    shared: &Shared,
    call: Option<CallId>,
    proven: Option<PublicKey>,
) -> Option<PublicKey> {
    let pinned = call.and_then(|call| lock(&shared.calls).get(&call)?.pinned);
    pinned.or(proven)
}

/// What the report says about keys.
fn secrecy(shared: &Shared, connected: &Connected, bare: bool) -> Secrecy {
    let encryption = match (&connected.path, bare) {
        (Path::Udp { .. }, _) => Encryption::Quic,
        (Path::Tcp { .. }, false) => Encryption::Noise,
        (Path::Tcp { .. }, true) => Encryption::None,
    };
    let pinned = connected.call.and_then(|call| lock(&shared.calls).get(&call)?.pinned);
    let (broker_key, broker_pinned) = lock(&shared.broker).proven();
    Secrecy {
        encryption,
        peer_key: connected.fingerprint.identity(),
        peer_pinned: pinned.is_some(),
        broker_key,
        broker_pinned,
    }
}

/// How long the path of a call may take to be secured: whoever waits for it shall hear why not
/// before the time is up.
fn secure_limit(shared: &Shared, call: Option<CallId>, now: Instant) -> Duration {
    let until = call.and_then(|call| lock(&shared.calls).get(&call)?.until);
    until.map_or(SECURE_LIMIT, |until| SECURE_LIMIT.min(until.saturating_duration_since(now)))
}

/// To whoever made the call, or to [`Incoming`](super::Incoming).
fn deliver(shared: &Shared, call: Option<CallId>, result: Result<Connection, Error>) {
    match (call, result) {
        (Some(call), result) => {
            if let Some(waiting) = lock(&shared.calls).remove(&call) {
                // Whoever called may have lost interest; the connection closes then.
                let _ = waiting.sender.send(result);
            }
        }
        (None, Ok(connection)) => {
            let mut incoming = lock(&shared.incoming);
            if incoming.sender.try_send(connection).is_err() {
                tracing::warn!("a caller was turned away: nobody takes incoming connections");
            }
        }
        (None, Err(error)) => tracing::info!(%error, "a caller could not be secured"),
    }
}
