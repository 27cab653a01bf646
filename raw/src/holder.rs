//! Who may speak for a pair of ends: the holder of a TCP socket on the local one.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;

use ntcp_proto::segment::Segment;
use socket2::{Domain, Protocol, SockRef, Type};

/// The local end that the holder of this socket speaks for, towards `remote`.
///
/// # Errors
///
/// [`io::ErrorKind::PermissionDenied`] if it is no TCP socket, if it is not bound to a port, or if
/// its address is not one of this host's: anybody may bind to a foreign one (`IP_FREEBIND`).
pub(crate) fn local_end(holder: BorrowedFd<'_>, remote: SocketAddr) -> io::Result<SocketAddr> {
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let socket = SockRef::from(&holder);
    let is_tcp = socket.r#type()? == Type::STREAM && socket.protocol()? == Some(Protocol::TCP);
    let internet = [Domain::IPV4, Domain::IPV6].contains(&socket.domain()?);
    if !is_tcp || !internet {
        return Err(denied());
    }
    let mut local = socket.local_addr()?.as_socket().ok_or_else(denied)?;
    if local.port() == 0 || local.is_ipv4() != remote.is_ipv4() {
        return Err(denied());
    }
    if local.ip().is_unspecified() {
        local.set_ip(source_towards(remote)?.ip());
    }
    // Towards an address of its own, a host speaks from that very address.
    let own = source_towards(local)?.ip() == local.ip();
    if own { Ok(local) } else { Err(denied()) }
}

/// The address that this host speaks from to another; nothing is sent.
fn source_towards(remote: SocketAddr) -> io::Result<SocketAddr> {
    let any: SocketAddr = if remote.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(remote)?;
    socket.local_addr()
}

/// Whether a segment is between the holder's local end and another, in either direction.
///
/// # Errors
///
/// [`io::ErrorKind::PermissionDenied`] if it is not.
pub(crate) fn check(holder: BorrowedFd<'_>, segment: &Segment) -> io::Result<()> {
    let holds = |end, other| local_end(holder, other).is_ok_and(|local| same(local, end));
    if holds(segment.source, segment.destination) || holds(segment.destination, segment.source) {
        return Ok(());
    }
    Err(io::ErrorKind::PermissionDenied.into())
}

/// Without scope and flow, which a packet does not carry.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip() == other.ip() && one.port() == other.port()
}
