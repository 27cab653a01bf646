//! UDP sockets that send in the name of an address that is not this host's (`IP_TRANSPARENT`, ip(7)).
//!
//! The kernel builds the packets, so they can be sent in batches like any others. What others send to that
//! address does not arrive here unless the network routes it here. Whoever calls must have the right to
//! speak for the address, and must know that many networks drop such packets (BCP 38).

use std::io;
use std::net::{SocketAddr, UdpSocket};

/// A socket bound to `address`, which need not be this host's. Needs `CAP_NET_RAW` or `CAP_NET_ADMIN`. Others that ask
/// for it by the same call may share the address.
///
/// # Errors
///
/// [`io::ErrorKind::PermissionDenied`] without the capability, [`io::ErrorKind::Unsupported`] elsewhere than on
/// Linux, otherwise as the system reports them.
#[cfg(target_os = "linux")]
pub fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    use socket2::{Domain, Protocol, Socket, Type};
    use std::os::fd::AsFd;

    /// Not in `libc` for every target: `linux/in6.h`.
    const IPV6_TRANSPARENT: libc::c_int = 75;
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    let (level, option) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, IPV6_TRANSPARENT),
    };
    crate::option::set(socket.as_fd(), level, option, 1)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A socket bound to `address`, which need not be this host's.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`] elsewhere than on Linux.
#[cfg(not(target_os = "linux"))]
pub fn udp(_address: SocketAddr) -> io::Result<UdpSocket> {
    Err(io::ErrorKind::Unsupported.into())
}
