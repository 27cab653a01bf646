//! What the machine tells, turned into connections and errors.

use std::collections::HashMap;
use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_io::Timer;
use futures::{FutureExt, select_biased};
use ntcp_proto::node::{CallError, CallId, Connected, Event, Node as Machine};
use ntcp_proto::puncher::report::{Outcome, milliseconds, milliseconds_since};
use ntcp_proto::puncher::session::Path;
use ntcp_proto::signal::SessionId;
use ntcp_proto::{Input, Machine as _};

use super::{Shared, Stopped, lock};
use crate::connection::Connection;
use crate::driver::Sockets;
use crate::error::{Error, ErrorKind};
use crate::io::socket;
use crate::quic::{self, EarlyDatagrams, Secured};
use crate::runtime;
use ntcp_raw::tcp_info;

/// Longest datagram that may be found in a socket that has just been connected.
const MAX_DATAGRAM: usize = 2048;
/// Most datagrams looked for there: a peer that floods shall not keep the driver. QUIC reads the rest.
const MAX_SEAM: usize = 256;
/// How long QUIC may take on a path that stands.
const SECURE_LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Events {
    shared: Arc<Shared>,
    /// Where early datagrams of a session go, for as long as its QUIC lives.
    early: HashMap<SessionId, Weak<EarlyDatagrams>>,
}

impl Events {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, early: HashMap::new() }
    }

    pub(super) fn handle(
        &mut self,
        event: Event,
        machine: &mut Machine,
        sockets: &mut Sockets,
        now: Instant,
    ) {
        match event {
            Event::Ready { observed, link, rtt } => {
                tracing::debug!(%observed, %link, ?rtt, "registered");
                self.started(Ok(()));
            }
            Event::BindFailed { transport, number, failure } => {
                self.started(Err(Error::port(transport, number, failure)));
            }
            Event::RegistrationFailed { error } => {
                tracing::debug!(%error, "registration failed");
                self.started(Err(error.into()));
            }
            Event::RegistrationLost { reason } => {
                tracing::info!(%reason, "registration lost, registering anew");
            }
            Event::RegistrationRestored => tracing::info!("registered again"),
            Event::Connected(connected) => self.connected(*connected, machine, sockets, now),
            Event::Early { session, payload } => {
                if let Some(early) = self.early.get(&session).and_then(Weak::upgrade) {
                    early.push(payload);
                }
            }
            Event::CallFailed { call, error, report } => {
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

    fn started(&mut self, result: Result<(), Error>) {
        if let Some(waiting) = lock(&self.shared.started).take() {
            // Whoever started the node may have lost interest.
            let _ = waiting.send(result);
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

    fn connected(
        &mut self,
        connected: Connected,
        machine: &mut Machine,
        sockets: &mut Sockets,
        now: Instant,
    ) {
        match connected.path {
            Path::Tcp { socket, .. } => {
                let Connected { call, peer, called, mut report, .. } = connected;
                let Some(stream) = sockets.take_stream(socket) else {
                    let lost = std::io::Error::other("it is gone, or no descriptor is left");
                    let error = Error::system("cannot take the socket of the path")(lost);
                    return deliver(&self.shared, call, Err(error));
                };
                report.rtt_ms = tcp_info::rtt(stream.get_ref()).map(milliseconds);
                report.secured_ms = Some(milliseconds_since(called, now));
                deliver(&self.shared, call, Ok(Connection::tcp(stream, peer, report)));
            }
            Path::Udp { .. } => self.secure(connected, machine, sockets, now),
        }
    }

    /// Gives the path a socket of its own and brings QUIC up on it.
    fn secure(
        &mut self,
        connected: Connected,
        machine: &mut Machine,
        sockets: &Sockets,
        now: Instant,
    ) {
        let Path::Udp { socket: shared_socket, remote, rtt } = connected.path else { return };
        let call = connected.call;
        let Some(local) = sockets.udp_address(shared_socket) else { return };
        let own = socket::udp_connected(local, remote).and_then(|own| {
            let copy = own.try_clone()?;
            Ok((own, copy))
        });
        let (own, copy) = match own {
            Ok(pair) => pair,
            Err(error) => {
                let error = Error::system("cannot open the socket of the path")(error);
                return deliver(&self.shared, call, Err(error));
            }
        };
        let early = EarlyDatagrams::new(remote);
        self.early.retain(|_, early| early.strong_count() > 0);
        self.early.insert(connected.session, Arc::downgrade(&early));
        let mut buffer = [0; MAX_DATAGRAM];
        for _ in 0..MAX_SEAM {
            let Ok((length, source)) = own.recv_from(&mut buffer) else { break };
            if source == remote {
                early.push(buffer[..length].to_vec());
                continue;
            }
            let input =
                Input::UdpReceived { socket: shared_socket, source, payload: &buffer[..length] };
            machine.handle_input(input, now);
        }
        let shared = self.shared.clone();
        let limit = secure_limit(&shared, call, now);
        runtime::spawn(async move {
            let Connected { role, fingerprint, .. } = connected;
            let secured =
                quic::secure(own, remote, role, &shared.identity, fingerprint, rtt, early);
            let secured = within(limit, secured).await;
            finish(&shared, connected, copy, remote, secured);
        })
        .detach();
    }
}

/// How long the path of a call may take to be secured: whoever waits for it shall hear why not
/// before the time is up.
fn secure_limit(shared: &Shared, call: Option<CallId>, now: Instant) -> Duration {
    let until = call.and_then(|call| lock(&shared.calls).get(&call)?.until);
    until.map_or(SECURE_LIMIT, |until| SECURE_LIMIT.min(until.saturating_duration_since(now)))
}

/// Delivers a secured UDP path, or why it could not be secured.
fn finish(
    shared: &Shared,
    connected: Connected,
    socket: UdpSocket,
    remote: SocketAddr,
    secured: Result<Secured, String>,
) {
    let Connected { call, peer, called, mut report, .. } = connected;
    // The shared socket's address names no interface; the path's own does.
    report.local = socket.local_addr().ok().or(report.local);
    let result = match secured {
        Ok(secured) => {
            report.secured_ms = Some(milliseconds_since(called, secured.at));
            report.rtt_ms.get_or_insert(milliseconds(secured.connection.rtt()));
            Ok(Connection::udp(secured, socket, peer, report))
        }
        Err(reason) => {
            report.outcome = Outcome::Failed;
            let kind = ErrorKind::Secure { remote, reason };
            report.reason = Some(kind.to_string());
            Err(Error::with_report(kind, Box::new(report)))
        }
    };
    deliver(shared, call, result);
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

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let mut work = pin!(work.fuse());
    let mut timer = FutureExt::fuse(Timer::after(limit));
    select_biased! {
        result = work => result,
        _ = timer => Err("the peer did not answer in time".into()),
    }
}
