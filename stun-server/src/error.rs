//! Why a server could not start or go on.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use ntcp_stun::server::QuartetError;

/// UDP or TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// Why a server could not start or go on. Every message names the address and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No address was given, or none of those given exists on this host.
    #[error("nothing to listen on: name an address of this host with --listen IP:PORT")]
    NoAddress,
    /// Several addresses of one family, of which all but one would never be told to a client.
    #[error(
        "{first} and {second} are of one address family: keep one of them; the second address of a family goes to --alternate"
    )]
    TwoOfOneFamily {
        /// One of them.
        first: SocketAddr,
        /// The other.
        second: SocketAddr,
    },
    /// An alternate address without a primary one of its family.
    #[error(
        "the alternate address {alternate} has no primary one of its family beside it: add one with --listen, or leave it out"
    )]
    NoPrimary {
        /// The alternate address.
        alternate: SocketAddr,
    },
    /// Primary and alternate address cannot serve RFC 5780 together.
    #[error("{0}: give --listen and --alternate two IPs of this host and two ports")]
    Quartet(#[from] QuartetError),
    /// Another program listens there.
    #[error(
        "{transport} {address} is in use by another program: stop it (`{}` names it), or listen elsewhere with --listen or --alternate",
        question(*.transport, *.address)
    )]
    InUse {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
    },
    /// This host does not have that address.
    #[error(
        "{transport} {address}: this host has no such address (`ip address` lists its own): name one of them with --listen or --alternate"
    )]
    NotOurs {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
    },
    /// A port below 1024 without the privilege.
    #[error(
        "{transport} {address}: not permitted; ports below 1024 need a privilege, choose a higher one with --listen or --alternate"
    )]
    NotPermitted {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
    },
    /// The socket cannot be opened for another reason.
    #[error("{transport} {address} cannot be listened on: {source}")]
    NotOpened {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something else: a thread, or waiting for sockets.
    #[error("the system refused {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// The error of opening a socket at `address`.
    pub(crate) fn opening(transport: Transport, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { transport, address },
            io::ErrorKind::AddrNotAvailable => Self::NotOurs { transport, address },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { transport, address },
            _ => Self::NotOpened { transport, address, source },
        }
    }

    /// For `map_err`, where the system refuses `what`.
    pub(crate) fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// The command that shows who has a port.
fn question(transport: Transport, address: SocketAddr) -> String {
    let kind = match transport {
        Transport::Udp => 'u',
        Transport::Tcp => 't',
    };
    format!("ss -ln{kind}p sport = :{}", address.port())
}
