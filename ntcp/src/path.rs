//! From a path that stands to a connection.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use futures::{FutureExt, select_biased};
use ntcp_proto::puncher::report::{Outcome, Report, milliseconds, milliseconds_since};
use ntcp_proto::secrecy::Initiation;
use ntcp_proto::signal::{Fingerprint, Role, SessionSecret};
use ntcp_proto::uri::PeerName;
use ntcp_raw::tcp_info;

use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::io::socket;
use crate::node::seed;
use crate::quic::{self, EarlyDatagrams};
use crate::sealed;

/// Longest datagram that may be found in a socket that has just been connected.
const MAX_DATAGRAM: usize = 2048;
/// Most datagrams looked for there: a peer that floods shall not keep the driver. QUIC reads the rest.
const MAX_SEAM: usize = 256;
/// How long it may take to secure a path that stands.
pub(crate) const SECURE_LIMIT: Duration = Duration::from_secs(10);

/// Whom a path leads to, and how it came about.
pub(crate) struct Peer {
    pub(crate) name: Option<PeerName>,
    pub(crate) role: Role,
    pub(crate) fingerprint: Fingerprint,
    /// What only the two peers know, and whoever brought them together.
    pub(crate) secret: SessionSecret,
    /// Whether both want TCP paths bare.
    pub(crate) bare: bool,
    /// When the call was made.
    pub(crate) called: Instant,
    pub(crate) report: Report,
}

/// The connection over a TCP path, sealed unless both peers want it bare. There is none if the stream
/// has gone in the meantime. `begun` is the handshake that a caller has begun on it.
pub(crate) async fn over_tcp(
    stream: Option<Async<std::net::TcpStream>>,
    begun: Option<Initiation>,
    peer: Peer,
    identity: &Identity,
    limit: Duration,
) -> Result<Connection, Error> {
    let Some(stream) = stream else {
        let lost = std::io::Error::other("it is gone, or no descriptor is left");
        return Err(Error::system("cannot take the socket of the path")(lost));
    };
    let Peer { name, role, fingerprint, secret, bare, called, mut report } = peer;
    report.rtt_ms = tcp_info::rtt(stream.get_ref()).map(milliseconds);
    if bare {
        report.secured_ms = Some(milliseconds_since(called, Instant::now()));
        return Ok(Connection::tcp(stream, name, report));
    }
    let remote = stream.get_ref().peer_addr().ok().or(report.remote);
    let seed = seed()?;
    let shaking = async {
        let Some(peer) = fingerprint.identity() else {
            return Err("what was announced as its key is none".into());
        };
        let role = (role, begun);
        sealed::shake(stream, role, (identity.secret(), peer), &secret, seed).await
    };
    match within(limit, shaking).await {
        Ok(sealed) => {
            report.secured_ms = Some(milliseconds_since(called, Instant::now()));
            Ok(Connection::sealed(sealed, name, report))
        }
        Err(reason) => Err(unsecured(report, remote, reason)),
    }
}

/// The path stood, and that is all.
fn unsecured(mut report: Report, remote: Option<SocketAddr>, reason: String) -> Error {
    report.outcome = Outcome::Failed;
    let kind = match remote {
        Some(remote) => ErrorKind::Secure { remote, reason },
        None => ErrorKind::NoPath { reason },
    };
    report.reason = Some(kind.to_string());
    Error::with_report(kind, Box::new(report))
}

/// A UDP path with a socket of its own.
pub(crate) struct UdpPath {
    socket: UdpSocket,
    copy: UdpSocket,
    remote: SocketAddr,
    early: Arc<EarlyDatagrams>,
}

impl UdpPath {
    /// Opens the path's own socket beside the shared one at `local`. What arrived in it from others
    /// in that moment is given to `stray`.
    pub(crate) fn open(
        local: SocketAddr,
        remote: SocketAddr,
        mut stray: impl FnMut(SocketAddr, &[u8]),
    ) -> Result<Self, Error> {
        let failed = || Error::system("cannot open the socket of the path");
        let socket = socket::udp_connected(local, remote).map_err(failed())?;
        let copy = socket.try_clone().map_err(failed())?;
        let early = EarlyDatagrams::new(remote);
        let mut buffer = [0; MAX_DATAGRAM];
        for _ in 0..MAX_SEAM {
            let Ok((length, source)) = socket.recv_from(&mut buffer) else { break };
            if source == remote {
                early.push(buffer[..length].to_vec());
            } else {
                stray(source, &buffer[..length]);
            }
        }
        Ok(Self { socket, copy, remote, early })
    }

    /// Where datagrams go that reached the shared socket before.
    pub(crate) fn early(&self) -> &Arc<EarlyDatagrams> {
        &self.early
    }

    /// Brings QUIC up on it.
    pub(crate) async fn secure(
        self,
        peer: Peer,
        identity: &Identity,
        rtt: Option<Duration>,
        limit: Duration,
    ) -> Result<Connection, Error> {
        let Self { socket, copy, remote, early } = self;
        let Peer { name, role, fingerprint, called, mut report, .. } = peer;
        // The shared socket's address names no interface; the path's own does.
        report.local = copy.local_addr().ok().or(report.local);
        let secured = quic::secure(socket, remote, role, identity, fingerprint, rtt, early);
        match within(limit, secured).await {
            Ok(secured) => {
                report.secured_ms = Some(milliseconds_since(called, secured.at));
                report.rtt_ms.get_or_insert(milliseconds(secured.connection.rtt()));
                Ok(Connection::udp(secured, copy, name, report))
            }
            Err(reason) => Err(unsecured(report, Some(remote), reason)),
        }
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
