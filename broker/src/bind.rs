//! Opens the sockets, or says which one could not be opened and why.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// UDP or TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program listens there.
    #[error(
        "{transport} {address} is in use by another program: stop it, or listen elsewhere with {}",
        flag(*.transport)
    )]
    InUse {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
    },
    /// This host does not have that address.
    #[error("{transport} {address} is not an address of this host: listen on one of its own with {}", flag(*.transport))]
    NotOurs {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
    },
    /// A port below 1024 without the privilege.
    #[error(
        "{transport} {address}: not permitted; ports below 1024 need a privilege, choose a higher one with {}",
        flag(*.transport)
    )]
    NotPermitted {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("{transport} {address} cannot be listened on: {source}")]
    Other {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Neither UDP nor TCP was asked for.
    #[error("nothing to listen on: give at least one address with --udp IP:PORT or --tcp IP:PORT")]
    Nothing,
    /// The system gave no random bytes, without which no secret can be made.
    #[error("the system gives no random bytes: {0}")]
    Entropy(getrandom::Error),
}

fn flag(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "--udp IP:PORT",
        Transport::Tcp => "--tcp IP:PORT",
    }
}

/// Bytes of datagrams that may wait in the kernel: a burst of some thousand requests.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Opens one UDP socket for each address. An unspecified address of a family that this host does
/// not have is passed over, as long as another one works.
pub(crate) fn udp(addresses: &[SocketAddr]) -> Result<Vec<UdpSocket>, BindError> {
    each(Transport::Udp, addresses, |address| {
        let socket = open(address, Type::DGRAM, Protocol::UDP)?;
        // A smaller buffer than wished for only means that a burst loses datagrams.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.bind(&address.into())?;
        Ok(socket.into())
    })
}

/// Opens one listener for each address, likewise.
pub(crate) fn tcp(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    each(Transport::Tcp, addresses, |address| {
        let socket = open(address, Type::STREAM, Protocol::TCP)?;
        // A restarted broker takes its port back though old connections linger in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    })
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own, so that addresses are never mapped.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn each<S>(
    transport: Transport,
    addresses: &[SocketAddr],
    open: impl Fn(SocketAddr) -> io::Result<S>,
) -> Result<Vec<S>, BindError> {
    let mut sockets = Vec::new();
    let mut missing = None;
    for &address in addresses {
        match open(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) if lacks_family(&error) && address.ip().is_unspecified() => {
                missing = Some((address, error));
            }
            Err(error) => return Err(explain(transport, address, error)),
        }
    }
    match missing {
        Some((address, error)) if sockets.is_empty() => Err(explain(transport, address, error)),
        Some((address, _)) => {
            tracing::info!(%transport, %address, "this host lacks that address family, passed over");
            Ok(sockets)
        }
        None => Ok(sockets),
    }
}

/// `EAFNOSUPPORT` (97 on Linux, 47 on BSD), or `EADDRNOTAVAIL` where IPv6 is switched off.
fn lacks_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(97 | 47)) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn explain(transport: Transport, address: SocketAddr, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { transport, address },
        io::ErrorKind::AddrNotAvailable => BindError::NotOurs { transport, address },
        io::ErrorKind::PermissionDenied => BindError::NotPermitted { transport, address },
        _ => BindError::Other { transport, address, source },
    }
}
