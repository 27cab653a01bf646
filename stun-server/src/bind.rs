//! Opens the sockets, or says which one could not be opened and what to do.

use crate::options::Options;
use crate::spoof_check::sources_beside;
use ntcp_raw::transparent;
use ntcp_stun::server::{Quartet, QuartetError};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

/// Bytes of datagrams that may wait in the kernel: a burst of some ten thousand requests.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Bytes of replies that may wait for the network.
const SEND_BUFFER: usize = 1 << 20;
/// Bytes that may wait in the kernel for each direction of a stream: some requests and some replies. Left to itself the
/// kernel lets a peer that does not read hold megabytes.
const STREAM_BUFFER: usize = 16 << 10;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How often free ports are sought where port 0 was asked for: one that is free for UDP on one address need not be free
/// for TCP and on the other address too.
const ATTEMPTS: usize = 32;

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

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program listens there.
    #[error(
        "{transport} {address} is in use by another program: stop that one, or choose another port with --listen IP:PORT or --alternate IP:PORT"
    )]
    InUse {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
    },
    /// This host does not have that address.
    #[error(
        "{transport} {address} is not an address of this host: add it to an interface, or give one of its own with --listen IP:PORT or --alternate IP:PORT"
    )]
    NotOurs {
        /// UDP or TCP.
        transport: Transport,
        /// The address.
        address: SocketAddr,
    },
    /// A port below 1024 without the privilege.
    #[error(
        "{transport} {address} is not permitted: ports below 1024 need a privilege, choose a higher one"
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
    /// An alternate address that makes no RFC 5780 server with the primary one.
    #[error("the alternate address cannot be used: {0}")]
    Alternate(#[from] QuartetError),
    /// An alternate address without a primary one of its family.
    #[error(
        "the alternate address {alternate} has no primary address of its family: add one with --listen IP:PORT"
    )]
    AlternateAlone {
        /// The alternate address.
        alternate: SocketAddr,
    },
    /// Nothing can be sent in the name of that address.
    #[error(
        "UDP {address} cannot be sent from: {source}; mode \"forged\" needs CAP_NET_RAW (run as root, or AmbientCapabilities=CAP_NET_RAW)"
    )]
    Forging {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No address at all.
    #[error("nothing to listen on: give at least one address with --listen IP:PORT")]
    Nothing,
}

/// All sockets of a server.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    shards: usize,
    pub(crate) places: Vec<Place>,
    pub(crate) quartets: Vec<Quartet>,
    /// Addresses of another host to send from, with a socket for each shard.
    pub(crate) forged: Vec<(SocketAddr, Vec<UdpSocket>)>,
    /// For each such host: one of its addresses, and a sender in the name of its neighbour, which finds out whether the network
    /// lets forged sources out.
    pub(crate) provers: Vec<(SocketAddr, UdpSocket)>,
}

/// An address with its sockets.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    /// One for each shard.
    pub(crate) datagrams: Vec<UdpSocket>,
    pub(crate) listener: TcpListener,
}

impl Sockets {
    /// Opens all that `options` ask for. An unspecified address of a family that this host lacks is passed over as long
    /// as another one works.
    pub(crate) fn open(options: &Options) -> Result<Self, BindError> {
        let mut sockets = Self { shards: options.shards.max(1), ..Self::default() };
        let mut lacking = None;
        for &primary in &options.listen {
            let of_family = |it: &&SocketAddr| it.is_ipv4() == primary.is_ipv4();
            let opened = match options.alternate.iter().find(of_family) {
                Some(&alternate) if options.forges => sockets.open_forging(primary, alternate),
                Some(&alternate) => sockets.open_quartet(primary, alternate),
                None => sockets.open_single(primary),
            };
            match opened {
                Err(error) if error.lacks_family(primary) => {
                    tracing::info!(address = %primary, "no such address family here, passed over");
                    lacking = Some(error);
                }
                other => other?,
            }
        }
        for &alternate in &options.alternate {
            if !options.listen.iter().any(|it| it.is_ipv4() == alternate.is_ipv4()) {
                return Err(BindError::AlternateAlone { alternate });
            }
        }
        if sockets.places.is_empty() {
            Err(lacking.unwrap_or(BindError::Nothing))
        } else {
            Ok(sockets)
        }
    }

    fn open_single(&mut self, address: SocketAddr) -> Result<(), BindError> {
        let open = || Place::open(address.ip(), address.port(), self.shards);
        let place = again_if(address.port() == 0, open)?;
        self.places.push(place);
        Ok(())
    }

    fn open_quartet(
        &mut self,
        primary: SocketAddr,
        alternate: SocketAddr,
    ) -> Result<(), BindError> {
        let any_port = primary.port() == 0 || alternate.port() == 0;
        let (quartet, places) = again_if(any_port, || open_four(primary, alternate, self.shards))?;
        self.quartets.push(quartet);
        self.places.extend(places);
        Ok(())
    }
}

/// The two of four addresses that are this host's, and senders in the name of the others.
impl Sockets {
    fn open_forging(
        &mut self,
        primary: SocketAddr,
        alternate: SocketAddr,
    ) -> Result<(), BindError> {
        let any_port = primary.port() == 0 || alternate.port() == 0;
        let (first, second) = again_if(any_port, || {
            let first = Place::open(primary.ip(), primary.port(), self.shards)?;
            let second = Place::open(primary.ip(), alternate.port(), self.shards)?;
            Ok((first, second))
        })?;
        let at = |port| SocketAddr::new(alternate.ip(), port);
        let quartet = Quartet::new(first.address, at(second.address.port()))?;
        for address in [at(first.address.port()), at(second.address.port())] {
            let open = |_| transparent::udp(address);
            let sockets: io::Result<Vec<_>> = (0..self.shards).map(open).collect();
            let sockets = sockets.map_err(|source| BindError::Forging { address, source })?;
            self.forged.push((address, sockets));
        }
        // The next one may be the other host's router, or a broadcast address.
        let neighbour = sources_beside(alternate.ip()).into_iter().nth(1).unwrap_or(alternate.ip());
        let address = SocketAddr::new(neighbour, 0);
        let forging = |source| BindError::Forging { address, source };
        let sender = transparent::udp(address).map_err(forging)?;
        self.provers.push((at(first.address.port()), sender));
        self.quartets.push(quartet);
        self.places.extend([first, second]);
        Ok(())
    }
}

fn open_four(
    primary: SocketAddr,
    alternate: SocketAddr,
    shards: usize,
) -> Result<(Quartet, [Place; 4]), BindError> {
    if primary.port() != 0 && alternate.port() != 0 {
        // Before anything is opened, so that the error is about the addresses.
        Quartet::new(primary, alternate)?;
    }
    let open = |ip, port| Place::open(ip, port, shards);
    let first = open(primary.ip(), primary.port())?;
    let last = open(alternate.ip(), alternate.port())?;
    let quartet = Quartet::new(first.address, last.address)?;
    let second = open(primary.ip(), last.address.port())?;
    let third = open(alternate.ip(), first.address.port())?;
    Ok((quartet, [first, second, third, last]))
}

/// Tries several times if ports may be chosen freely.
fn again_if<T>(any_port: bool, open: impl Fn() -> Result<T, BindError>) -> Result<T, BindError> {
    let attempts = if any_port { ATTEMPTS } else { 1 };
    for _ in 1..attempts {
        match open() {
            Err(BindError::InUse { .. } | BindError::Alternate(QuartetError::SamePort { .. })) => {}
            other => return other,
        }
    }
    open()
}

impl Place {
    fn open(ip: IpAddr, port: u16, shards: usize) -> Result<Self, BindError> {
        let wanted = SocketAddr::new(ip, port);
        let failed = |transport, address| move |error| BindError::new(transport, address, error);
        let first = open_udp(wanted, Sharing::Nobody).map_err(failed(Transport::Udp, wanted))?;
        let address = first.local_addr().map_err(failed(Transport::Udp, wanted))?;
        let datagrams = share(first, address, shards).map_err(failed(Transport::Udp, address))?;
        let listener = open_tcp(address).map_err(failed(Transport::Tcp, address))?;
        Ok(Self { address, datagrams, listener })
    }
}

/// Whether another socket may have the same address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Nobody,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "shards are Linux' own"))]
    Shards,
}

/// As many sockets of the same address as there are shards. The first one was bound alone, so that an address which
/// another program has is noticed, be it another instance of this one: the kernel would deal the datagrams out among
/// both.
#[cfg(target_os = "linux")]
fn share(first: UdpSocket, address: SocketAddr, shards: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = vec![first];
    if shards > 1 {
        socket2::SockRef::from(&sockets[0]).set_reuse_port(true)?;
    }
    for _ in 1..shards {
        sockets.push(open_udp(address, Sharing::Shards)?);
    }
    Ok(sockets)
}

/// Elsewhere than on Linux the datagrams of an address are not dealt out: one socket has them all.
#[cfg(not(target_os = "linux"))]
fn share(first: UdpSocket, _: SocketAddr, _: usize) -> io::Result<Vec<UdpSocket>> {
    Ok(vec![first])
}

fn open_udp(address: SocketAddr, sharing: Sharing) -> io::Result<UdpSocket> {
    let socket = open(address, Type::DGRAM, Protocol::UDP)?;
    #[cfg(unix)]
    if sharing == Sharing::Shards {
        socket.set_reuse_port(true)?;
    }
    // Smaller buffers than wished for only mean that a burst loses datagrams.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn open_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address, Type::STREAM, Protocol::TCP)?;
    // A restarted server takes its port back though old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted streams inherit both.
    socket.set_recv_buffer_size(STREAM_BUFFER)?;
    socket.set_send_buffer_size(STREAM_BUFFER)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
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

impl BindError {
    pub(crate) fn new(transport: Transport, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { transport, address },
            io::ErrorKind::AddrNotAvailable => Self::NotOurs { transport, address },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { transport, address },
            _ => Self::Other { transport, address, source },
        }
    }

    /// Whether it says no more than that the host lacks the address family of `address`, which asks for all addresses.
    fn lacks_family(&self, address: SocketAddr) -> bool {
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
