//! Opens sockets, or takes them over from systemd; or says which one could not be had and what to do.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Bytes of datagrams that may wait in the kernel: a burst of some ten thousand requests.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Bytes of replies that may wait for the network.
const SEND_BUFFER: usize = 1 << 20;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// UDP or TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// Why a socket could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program listens there.
    #[error(
        "{transport} {address} is in use by another program: stop that one, or listen elsewhere with {flag}"
    )]
    InUse {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// This host does not have that address.
    #[error(
        "{transport} {address} is not an address of this host: add it to an interface, or listen on one of its own with {flag}"
    )]
    NotOurs {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// A port below 1024 without the privilege.
    #[error(
        "{transport} {address} is not permitted: ports below 1024 need a privilege, choose a higher one with {flag}"
    )]
    NotPermitted {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
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
    /// The service manager handed over something that is no socket to listen on.
    #[error(
        "the service manager handed over a descriptor that is no UDP socket and no listening TCP one: keep ListenDatagram= and ListenStream= with IP addresses in the .socket unit, and nothing else"
    )]
    InheritedOther,
    /// The service manager handed over a socket that nobody asked for.
    #[error(
        "the service manager listens on {transport} {address}, but the configuration does not: write the same address in both"
    )]
    InheritedUnknown {
        /// UDP or TCP.
        transport: Transport,
        /// Its address.
        address: SocketAddr,
    },
    /// The service manager handed over an IPv6 socket that takes IPv4 too.
    #[error(
        "the service manager's socket on {transport} {address} takes IPv4 as well: write BindIPv6Only=ipv6-only in the .socket unit"
    )]
    InheritedBoth {
        /// UDP or TCP.
        transport: Transport,
        /// Its address.
        address: SocketAddr,
    },
    /// The descriptors that the service manager announced cannot be used.
    #[error("the sockets of the service manager cannot be taken over: {0}")]
    Inherited(io::Error),
}

impl BindError {
    /// What `source` means for a socket on `address`, which `flag` sets.
    #[must_use]
    pub fn new(
        transport: Transport,
        address: SocketAddr,
        flag: &'static str,
        source: io::Error,
    ) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { transport, address, flag },
            io::ErrorKind::AddrNotAvailable => Self::NotOurs { transport, address, flag },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { transport, address, flag },
            _ => Self::Other { transport, address, source },
        }
    }

    /// Whether it says no more than that the host lacks the address family of `address`, which asks for all addresses.
    #[must_use]
    pub fn lacks_family(&self, address: SocketAddr) -> bool {
        let lacks = match self {
            // EAFNOSUPPORT: 97 on Linux, 47 on BSD.
            Self::Other { source, .. } => matches!(source.raw_os_error(), Some(97 | 47)),
            // So does Linux say when IPv6 is switched off.
            Self::NotOurs { .. } => true,
            _ => false,
        };
        lacks && address.ip().is_unspecified()
    }
}

/// Where sockets come from: systemd's, if it handed over one for an address, or else new ones.
#[derive(Debug, Default)]
pub struct Opening {
    inherited: Mutex<Vec<Inherited>>,
    stream_buffer: Option<usize>,
}

#[derive(Debug)]
struct Inherited {
    transport: Transport,
    address: SocketAddr,
    socket: Socket,
}

impl Opening {
    /// New sockets alone.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Also those of the service manager (`LISTEN_FDS`), which are taken over here, once in a process.
    ///
    /// # Errors
    ///
    /// A descriptor that is no IP socket to listen on.
    pub fn with_inherited() -> Result<Self, BindError> {
        let inherited = descriptors()?.into_iter().map(Inherited::new);
        let inherited = inherited.collect::<Result<_, _>>()?;
        Ok(Self { inherited: Mutex::new(inherited), stream_buffer: None })
    }

    /// Lets no more than `bytes` wait in the kernel for each direction of an accepted stream. Left to itself the
    /// kernel lets a peer that does not read hold megabytes.
    #[must_use]
    pub fn stream_buffer(mut self, bytes: usize) -> Self {
        self.stream_buffer = Some(bytes);
        self
    }

    /// The UDP socket on `address`, not blocking; `flag` sets that address.
    ///
    /// # Errors
    ///
    /// It cannot be had.
    pub fn udp(&self, address: SocketAddr, flag: &'static str) -> Result<UdpSocket, BindError> {
        let socket = match self.take(Transport::Udp, address) {
            Some(socket) => Ok(socket),
            None => open(address, Type::DGRAM, Protocol::UDP).and_then(|socket| {
                socket.bind(&address.into())?;
                Ok(socket)
            }),
        };
        let socket =
            socket.map_err(|error| BindError::new(Transport::Udp, address, flag, error))?;
        enlarge(&socket);
        Ok(socket.into())
    }

    /// `count` UDP sockets on one address, among which the kernel deals out the datagrams by their source. The first one
    /// is bound alone, so that an address which another program has is noticed, be it another instance of this one.
    /// A socket of the service manager is shared instead: who takes a datagram first has it.
    ///
    /// # Errors
    ///
    /// They cannot be had.
    pub fn udp_shared(
        &self,
        address: SocketAddr,
        flag: &'static str,
        count: usize,
    ) -> Result<Vec<UdpSocket>, BindError> {
        let is_inherited = self.has(Transport::Udp, address);
        let first = self.udp(address, flag)?;
        let address = first.local_addr().unwrap_or(address);
        let mut sockets = vec![first];
        let others = if is_inherited {
            (1..count).map(|_| sockets[0].try_clone()).collect()
        } else {
            share(&sockets[0], address, count)
        };
        let others: Vec<_> =
            others.map_err(|error| BindError::new(Transport::Udp, address, flag, error))?;
        sockets.extend(others);
        Ok(sockets)
    }

    /// The TCP listener on `address`, not blocking; `flag` sets that address.
    ///
    /// # Errors
    ///
    /// It cannot be had.
    pub fn tcp(&self, address: SocketAddr, flag: &'static str) -> Result<TcpListener, BindError> {
        let listener = match self.take(Transport::Tcp, address) {
            Some(socket) => self.limit(&socket).map(|()| socket),
            None => self.listen(address),
        };
        let listener = listener.map(TcpListener::from);
        listener.map_err(|error| BindError::new(Transport::Tcp, address, flag, error))
    }

    /// Makes sure that every socket of the service manager has found its use.
    ///
    /// # Errors
    ///
    /// One is left: the manager and the configuration do not agree.
    pub fn finish(self) -> Result<(), BindError> {
        let left = self.inherited.into_inner().unwrap_or_else(PoisonError::into_inner);
        match left.into_iter().next() {
            Some(Inherited { transport, address, .. }) => {
                Err(BindError::InheritedUnknown { transport, address })
            }
            None => Ok(()),
        }
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = open(address, Type::STREAM, Protocol::TCP)?;
        // A restarted server takes its port back though old connections linger in TIME_WAIT.
        socket.set_reuse_address(true)?;
        self.limit(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    }

    /// Accepted streams inherit both.
    fn limit(&self, socket: &Socket) -> io::Result<()> {
        let Some(bytes) = self.stream_buffer else { return Ok(()) };
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)
    }

    fn has(&self, transport: Transport, address: SocketAddr) -> bool {
        let inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner);
        inherited.iter().any(|it| it.transport == transport && it.address == address)
    }

    fn take(&self, transport: Transport, address: SocketAddr) -> Option<Socket> {
        let mut inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |it: &Inherited| it.transport == transport && it.address == address;
        let index = inherited.iter().position(fits)?;
        tracing::info!(%transport, %address, "taken over from the service manager");
        Some(inherited.swap_remove(index).socket)
    }
}

/// The sockets beside the first one.
#[cfg(target_os = "linux")]
fn share(first: &UdpSocket, address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    if count > 1 {
        SockRef::from(first).set_reuse_port(true)?;
    }
    let another = |_| {
        let socket = open(address, Type::DGRAM, Protocol::UDP)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        enlarge(&socket);
        Ok(socket.into())
    };
    (1..count).map(another).collect()
}

/// Elsewhere than on Linux the datagrams of an address are not dealt out: one socket has them all.
#[cfg(not(target_os = "linux"))]
fn share(_: &UdpSocket, _: SocketAddr, _: usize) -> io::Result<Vec<UdpSocket>> {
    Ok(Vec::new())
}

/// Smaller buffers than wished for only mean that a burst loses datagrams.
fn enlarge(socket: &Socket) {
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // IPv4 has sockets of its own, so that addresses are never mapped.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn descriptors() -> Result<Vec<OwnedFd>, BindError> {
    let numbers = sd_notify::listen_fds().map_err(BindError::Inherited)?;
    ntcp_raw::inherited::take(numbers).map_err(BindError::Inherited)
}

impl Inherited {
    fn new(descriptor: OwnedFd) -> Result<Self, BindError> {
        let socket = Socket::from(descriptor);
        let kind = socket.r#type().map_err(|_| BindError::InheritedOther)?;
        let address = socket.local_addr().ok().and_then(|it| it.as_socket());
        let address = address.ok_or(BindError::InheritedOther)?;
        let transport = match kind {
            Type::DGRAM => Transport::Udp,
            Type::STREAM if is_listening(&socket) => Transport::Tcp,
            _ => return Err(BindError::InheritedOther),
        };
        let takes_both = address.is_ipv6()
            && address.ip().is_unspecified()
            && !socket.only_v6().map_err(BindError::Inherited)?;
        if takes_both {
            return Err(BindError::InheritedBoth { transport, address });
        }
        socket.set_nonblocking(true).map_err(BindError::Inherited)?;
        Ok(Self { transport, address, socket })
    }
}

#[cfg(target_os = "linux")]
fn is_listening(socket: &Socket) -> bool {
    socket.is_listener().unwrap_or(false)
}

#[cfg(not(target_os = "linux"))]
fn is_listening(_: &Socket) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_cannot_be_had_names_its_address_and_flag() {
        let opening = Opening::new();
        let taken = opening.udp("127.0.0.1:0".parse().unwrap(), "--udp IP:PORT").unwrap();
        let address = taken.local_addr().unwrap();
        let refused = opening.udp(address, "--udp IP:PORT").unwrap_err().to_string();
        assert!(refused.contains(&format!("UDP {address} is in use")), "{refused}");
        assert!(refused.ends_with("--udp IP:PORT"), "{refused}");
        let strange = "192.0.2.77:9".parse().unwrap();
        let refused = opening.tcp(strange, "--tcp IP:PORT").unwrap_err();
        assert!(matches!(refused, BindError::NotOurs { .. }), "{refused}");
        assert!(!refused.lacks_family(strange));
    }

    #[test]
    fn an_inherited_socket_is_used_where_its_address_is_asked_for_and_refused_elsewhere() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let inherited = |socket: UdpSocket| Inherited::new(socket.into()).unwrap();
        let opening = Opening {
            inherited: Mutex::new(vec![inherited(socket.try_clone().unwrap())]),
            ..Opening::default()
        };
        let used = opening.udp(address, "--udp IP:PORT").unwrap();
        assert_eq!(used.local_addr().unwrap(), address);
        opening.finish().unwrap();
        let opening =
            Opening { inherited: Mutex::new(vec![inherited(socket)]), ..Opening::default() };
        let refused = opening.finish().unwrap_err().to_string();
        assert!(refused.contains(&address.to_string()), "{refused}");
        let connected = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(matches!(Inherited::new(connected.into()), Err(BindError::InheritedOther)));
    }
}
