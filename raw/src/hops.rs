//! How far the packets of a socket travel, and which of the others' it hears.
//!
//! `IP_TTL` and `IP_MINTTL` of Linux, and their IPv6 twins. Together they shield a socket that
//! punches: with 255 sent and a hundred asked for, a genuine packet of the peer arrives with more
//! than 200, while an RST that some box on the way made up (initial TTL 64 or 128) is not heard. In
//! IPv4 the kernel compares an ICMP error with the TTL of the packet quoted in it, which is 1 when it
//! expired: any least TTL above that makes the socket deaf to *time exceeded* (`tcp_v4_err`,
//! measured on Linux 6.18 as an ordinary user).

use std::io;
use std::os::fd::AsFd;

use socket2::SockRef;

/// Family of the addresses a socket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Sets the TTL or hop limit of what the socket sends; `None` restores the system's default.
///
/// # Errors
///
/// As the system reports them; a TTL of 0 is refused.
pub fn set_ttl(socket: &impl AsFd, family: Family, ttl: Option<u8>) -> io::Result<()> {
    let fd = socket.as_fd();
    match (family, ttl) {
        (Family::V4, Some(ttl)) => SockRef::from(&fd).set_ttl_v4(ttl.into()),
        (Family::V6, Some(ttl)) => SockRef::from(&fd).set_unicast_hops_v6(ttl.into()),
        #[cfg(target_os = "linux")]
        (Family::V4, None) => crate::option::set(fd, libc::IPPROTO_IP, libc::IP_TTL, -1),
        #[cfg(target_os = "linux")]
        (Family::V6, None) => {
            crate::option::set(fd, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, -1)
        }
        #[cfg(not(target_os = "linux"))]
        (Family::V4, None) => SockRef::from(&fd).set_ttl_v4(64),
        #[cfg(not(target_os = "linux"))]
        (Family::V6, None) => SockRef::from(&fd).set_unicast_hops_v6(64),
    }
}

/// Keeps everything that a socket would send to another network on this host, or lets it go again: it
/// may only be delivered on the link (`SO_DONTROUTE`), so that a SYN is not repeated, and the socket
/// lives on.
///
/// # Errors
///
/// As the system reports them.
#[cfg(unix)]
pub fn set_mute(socket: &impl AsFd, is_mute: bool) -> io::Result<()> {
    crate::option::set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_DONTROUTE, is_mute.into())
}

/// Sets the least TTL or hop limit with which a packet must arrive to be heard; 0 hears everything.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`] elsewhere than on Linux; otherwise as the system reports them.
#[cfg(target_os = "linux")]
pub fn set_least_ttl(socket: &impl AsFd, family: Family, least: u8) -> io::Result<()> {
    /// Not in `libc`: `linux/in6.h`.
    const IPV6_MINHOPCOUNT: libc::c_int = 73;
    let fd = socket.as_fd();
    match family {
        Family::V4 => crate::option::set(fd, libc::IPPROTO_IP, libc::IP_MINTTL, least.into()),
        Family::V6 => crate::option::set(fd, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, least.into()),
    }
}

/// Sets the least TTL or hop limit with which a packet must arrive to be heard; 0 hears everything.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`] elsewhere than on Linux; otherwise as the system reports them.
#[cfg(not(target_os = "linux"))]
pub fn set_least_ttl(_socket: &impl AsFd, _family: Family, _least: u8) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
