//! Opening sockets with the options that hole punching stands on.
//!
//! TCP sockets that punch share their port with a listener and with the connection that discovered
//! the mapping, so each sets `SO_REUSEADDR` **and** `SO_REUSEPORT` before it binds; measured on
//! Linux 6.18, either one alone fails in some order of opening.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use ntcp_proto::Hops;
use ntcp_raw::hops::{self, Family};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

/// Receive buffer asked for on UDP sockets, in bytes: the default of 208 KiB holds some 270 small
/// datagrams, too few for a QUIC burst. The system may grant less.
const UDP_BUFFER: usize = 4 << 20;
/// Connections that may wait for `accept`.
const BACKLOG: i32 = 128;
/// Idle time before TCP keepalive probes start: below the shortest established-connection timer
/// seen on home gateways, 4 minutes.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Between two probes that nobody answers.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How many of them end the connection.
const KEEPALIVE_PROBES: u32 = 4;
/// How long what was sent may stay unacknowledged (RFC 5482): as long as a silent peer is borne with.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// A UDP socket bound to `local`, whose port [`udp_connected`] may share afterwards.
pub(crate) fn udp(local: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp_unbound(local)?;
    socket.bind(&SockAddr::from(local))?;
    // Only now: a socket that may share its port is given one that others share when it asks for
    // any free one.
    socket.set_reuse_address(true)?;
    Ok(socket.into())
}

/// A second UDP socket on the port of `local`, which receives what comes from `remote` and nothing
/// else: the system prefers a connected socket over an unconnected one on the same port.
///
/// Between its two steps it takes what was meant for the first socket; whoever calls must look for
/// such datagrams in it.
pub(crate) fn udp_connected(local: SocketAddr, remote: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp_unbound(local)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(local))?;
    socket.connect(&SockAddr::from(remote))?;
    Ok(socket.into())
}

fn udp_unbound(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // More buffer is a wish: the socket works without.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A TCP socket listening on `local`.
pub(crate) fn listener(local: SocketAddr) -> io::Result<TcpListener> {
    let socket = tcp_bound(local)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A TCP socket that is about to become a connection from `local` to an address of this family.
pub(crate) fn unconnected(local: SocketAddr, hops: Hops) -> io::Result<Socket> {
    let socket = tcp_bound(local)?;
    if hops != Hops::USUAL {
        set_hops(&socket, local, hops)?;
    }
    Ok(socket)
}

/// Starts the handshake; the stream becomes writable when it has ended.
pub(crate) fn connect(socket: Socket, remote: SocketAddr) -> io::Result<TcpStream> {
    match socket.connect(&SockAddr::from(remote)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// Ends a stream with an RST, so that its pair of ends is free.
pub(crate) fn reset(stream: &TcpStream) -> io::Result<()> {
    forget_when_closed(stream)?;
    disconnect(stream)
}

/// From now on the end of the socket, also with its program, is an RST: closed in order, what nobody answers
/// would stay with the system, which repeats its FIN for minutes.
pub(crate) fn forget_when_closed(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// From now on the stream is closed in order, as every one is by default.
pub(crate) fn close_in_order(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(None)
}

/// Closing alone would not do: a thread in `epoll_wait` may hold the file for a moment longer, and whoever
/// takes the pair of ends meanwhile is told that it is not available.
#[cfg(target_os = "linux")]
fn disconnect(stream: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::connect_unspec(stream)?)
}

#[cfg(not(target_os = "linux"))]
fn disconnect(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

/// A TCP socket on `local`, sharing its port with any number of others.
pub(crate) fn tcp_bound(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, Some(Protocol::TCP))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
    socket.bind(&SockAddr::from(local))?;
    Ok(socket)
}

/// Has the system find out when the peer of this connection is gone. Linux starts no keepalive timer when a
/// simultaneous open ends (measured on 6.18), only when the option is switched on afterwards; a connection that is
/// mute keeps it off.
pub(crate) fn watch_peer(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    if socket.keepalive()? {
        socket.set_keepalive(false)?;
        socket.set_keepalive(true)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

/// Sets how packets travel between `socket` and an address of this family.
pub(crate) fn set_hops(socket: &impl AsFd, family: SocketAddr, hops: Hops) -> io::Result<()> {
    let family = if family.is_ipv4() { Family::V4 } else { Family::V6 };
    let is_mute = hops.ttl == Some(0);
    hops::set_mute(socket, is_mute)?;
    SockRef::from(socket).set_keepalive(!is_mute)?;
    if !is_mute {
        hops::set_ttl(socket, family, hops.ttl)?;
    }
    hops::set_least_ttl(socket, family, hops.least.unwrap_or(0))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// What the system's table says of the timer of the connection from this port to itself: 0 for none,
    /// 2 for that of keepalive.
    fn timer(port: u16) -> Option<u8> {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let end = format!("0100007F:{port:04X}");
        table.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let ours = fields.get(1..3)? == [end.as_str(); 2];
            ours.then(|| u8::from_str_radix(fields.get(5)?.split(':').next()?, 16).ok())?
        })
    }

    #[test]
    fn a_simultaneous_open_is_kept_alive_like_any_other_connection() {
        let socket = tcp_bound("127.0.0.1:0".parse().unwrap()).unwrap();
        let local = socket.local_addr().unwrap().as_socket().unwrap();
        // A socket that connects to itself has crossed its own SYN.
        let stream = connect(socket, local).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), local);
        watch_peer(&stream).unwrap();
        assert_eq!(timer(local.port()), Some(2));
        SockRef::from(&stream).set_keepalive(false).unwrap();
        watch_peer(&stream).unwrap();
        assert_eq!(timer(local.port()), Some(0), "a mute connection stays mute");
    }
}
