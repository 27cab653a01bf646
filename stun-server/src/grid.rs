//! Opens the sockets of every address, or says which one it could not open and why.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use ntcp_stun::server::{Quartet, QuartetError};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Config, Error, Transport};

/// Bytes of datagrams that may wait in the kernel: a burst of some ten thousand requests. The system may grant less.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Bytes that the kernel keeps of a connection in each direction, before it makes the client wait: some dozen messages,
/// so that clients that do not read their replies cannot fill its memory. The system doubles it.
const STREAM_BUFFER: usize = 8 << 10;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How often a free port is looked for that is free at two IPs, over UDP and TCP.
const PORT_ATTEMPTS: usize = 64;

/// Both sockets of an address.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: TcpListener,
}

/// All sockets of an address family: of the primary address alone, or of all four.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) places: Vec<Place>,
    pub(crate) quartet: Option<Quartet>,
}

/// The primary address of a family and its alternate one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    primary: SocketAddr,
    alternate: Option<SocketAddr>,
}

/// Opens everything the configuration asks for. A family that this host does not have is passed over if its address
/// is unspecified and the other family works.
pub(crate) fn open(config: &Config) -> Result<Vec<Family>, Error> {
    let mut families = Vec::new();
    let mut passed_over = None;
    for wanted in wanted(config)? {
        match wanted.open() {
            Ok(family) => families.push(family),
            Err(error) if wanted.primary.ip().is_unspecified() && lacks_family(&error) => {
                passed_over = Some((wanted.primary, error));
            }
            Err(error) => return Err(error),
        }
    }
    match passed_over {
        Some((_, error)) if families.is_empty() => Err(error),
        Some((address, _)) => {
            tracing::info!(%address, "this host lacks that address family, passed over");
            Ok(families)
        }
        None => Ok(families),
    }
}

fn wanted(config: &Config) -> Result<Vec<Wanted>, Error> {
    one_of_each_family(&config.listen)?;
    one_of_each_family(&config.alternate)?;
    let same_family = |a: &SocketAddr, b: &SocketAddr| a.is_ipv4() == b.is_ipv4();
    for alternate in &config.alternate {
        if !config.listen.iter().any(|primary| same_family(primary, alternate)) {
            return Err(Error::NoPrimary { alternate: *alternate });
        }
    }
    let wanted = config.listen.iter().map(|primary| Wanted {
        primary: *primary,
        alternate: config.alternate.iter().find(|it| same_family(it, primary)).copied(),
    });
    let wanted: Vec<_> = wanted.collect();
    if wanted.is_empty() { Err(Error::NoAddress) } else { Ok(wanted) }
}

fn one_of_each_family(addresses: &[SocketAddr]) -> Result<(), Error> {
    for is_ipv4 in [true, false] {
        let mut some = addresses.iter().filter(|it| it.is_ipv4() == is_ipv4);
        if let (Some(first), Some(second)) = (some.next(), some.next()) {
            return Err(Error::TwoOfOneFamily { first: *first, second: *second });
        }
    }
    Ok(())
}

impl Wanted {
    fn open(self) -> Result<Family, Error> {
        let is_free = self.primary.port() == 0 || self.alternate.is_some_and(|it| it.port() == 0);
        let mut attempts = if is_free { PORT_ATTEMPTS } else { 1 };
        loop {
            attempts -= 1;
            match self.open_once() {
                Err(Error::InUse { .. } | Error::Quartet(QuartetError::SamePort { .. }))
                    if attempts > 0 => {}
                result => return result,
            }
        }
    }

    fn open_once(self) -> Result<Family, Error> {
        let primary = Place::open(self.primary)?;
        let Some(alternate) = self.alternate else {
            return Ok(Family { places: vec![primary], quartet: None });
        };
        let alternate = Place::open(alternate)?;
        let quartet = Quartet::new(primary.address, alternate.address)?;
        let mut places = vec![primary, alternate];
        for address in quartet.addresses() {
            if places.iter().all(|it| it.address != address) {
                places.push(Place::open(address)?);
            }
        }
        Ok(Family { places, quartet: Some(quartet) })
    }
}

impl Place {
    fn open(address: SocketAddr) -> Result<Self, Error> {
        let udp =
            open_udp(address).map_err(|source| Error::opening(Transport::Udp, address, source))?;
        // Where the port was free to choose, TCP follows UDP.
        let address =
            udp.local_addr().map_err(|source| Error::opening(Transport::Udp, address, source))?;
        let tcp =
            open_tcp(address).map_err(|source| Error::opening(Transport::Tcp, address, source))?;
        Ok(Self { address, udp, tcp })
    }
}

fn open_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open_socket(address, Type::DGRAM, Protocol::UDP)?;
    // A smaller buffer than wished for only means that a burst loses datagrams.
    let granted =
        socket.set_recv_buffer_size(RECEIVE_BUFFER).and_then(|()| socket.recv_buffer_size());
    tracing::debug!(%address, ?granted, "receive buffer");
    #[cfg(target_os = "linux")]
    if address.ip().is_unspecified() {
        crate::packet_info::ask_for(&socket, address)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn open_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open_socket(address, Type::STREAM, Protocol::TCP)?;
    // A restarted server takes its port back though old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Connections inherit these; the window they announce must be settled before they begin.
    socket.set_recv_buffer_size(STREAM_BUFFER)?;
    socket.set_send_buffer_size(STREAM_BUFFER)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn open_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // IPv4 has sockets of its own, so that no client's address appears as a mapped one.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The system knows no such family, or has it switched off.
fn lacks_family(error: &Error) -> bool {
    match error {
        Error::NotOurs { .. } => true,
        Error::NotOpened { source, .. } => source.raw_os_error() == Some(libc::EAFNOSUPPORT),
        _ => false,
    }
}
