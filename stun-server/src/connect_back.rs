//! Connecting to a client that asked for it, and what that met with.

use async_io::{Async, Timer};
use futures::stream::FuturesUnordered;
use futures::{AsyncWriteExt, FutureExt, StreamExt, select_biased};
use ntcp_raw::hops::{self, Family};
use ntcp_stun::probe::{Met, Outcome};
use ntcp_stun::server::Order;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

/// Carries an order out: what it met with, and from which end.
pub(crate) async fn connect(order: &Order) -> (Outcome, Option<SocketAddr>) {
    let began = Instant::now();
    let mut attempts: FuturesUnordered<_> = (0..order.attempts).map(|_| attempt(order)).collect();
    let mut deadline = FutureExt::fuse(Timer::at(began + order.patience));
    let mut best: Option<(Met, Option<SocketAddr>)> = None;
    loop {
        let ended = select_biased! {
            ended = attempts.next() => ended,
            _ = deadline => Some((Met::Silence, None)),
        };
        // All have ended.
        let Some(ended) = ended else { break };
        let best = best.get_or_insert(ended);
        *best = (*best).min(ended);
        // That is all there is to know, or all the time there is.
        if ended.0 == Met::Connected || began.elapsed() >= order.patience {
            break;
        }
    }
    let (result, from) = best.unwrap_or((Met::NotTried, None));
    (Outcome { result, ttl: None, elapsed: began.elapsed() }, from)
}

/// One connect; it ends when there is an answer, or an error.
async fn attempt(order: &Order) -> (Met, Option<SocketAddr>) {
    let stream = match begin(order) {
        Ok(stream) => stream,
        Err(error) => return (met(&error), None),
    };
    let from = stream.get_ref().local_addr().ok();
    let ended = stream.writable().await.and_then(|()| stream.get_ref().take_error());
    let met = match ended {
        Ok(None) => {
            // The client tells by it whose connection this is. It is short and fits the buffer of the system.
            if let Err(error) = (&stream).write_all(&order.token()).await {
                tracing::trace!(to = %order.to, %error, "the token was lost");
            }
            Met::Connected
        }
        Ok(Some(error)) => reported(stream.get_ref()).unwrap_or_else(|| met(&error)),
        Err(error) => met(&error),
    };
    (met, from)
}

/// Sends the SYN.
fn begin(order: &Order) -> io::Result<Async<TcpStream>> {
    let socket = Socket::new(Domain::for_address(order.to), Type::STREAM, Some(Protocol::TCP))?;
    if order.from.port() != 0 {
        share_port(&socket)?;
    }
    socket.bind(&order.from.into())?;
    socket.set_nonblocking(true)?;
    if order.ttl.is_some() {
        hops::set_ttl(&socket, family(order.to), order.ttl)?;
    }
    ask_for_reports(&socket, order.to);
    match socket.connect(&order.to.into()) {
        Ok(()) => {}
        Err(error) if is_under_way(&error) => {}
        Err(error) => return Err(error),
    }
    Async::new_nonblocking(socket.into())
}

/// The family of an address.
pub(crate) fn family(address: SocketAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// Lets a connecting socket and a listener have one port; each must ask for it before it is bound.
pub(crate) fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    Ok(())
}

fn is_under_way(error: &io::Error) -> bool {
    #[cfg(target_os = "linux")]
    let is_in_progress = error.raw_os_error() == Some(libc::EINPROGRESS);
    #[cfg(not(target_os = "linux"))]
    let is_in_progress = false;
    is_in_progress || error.kind() == io::ErrorKind::WouldBlock
}

/// What the system's error says about the answer. An ICMP port unreachable is not told from an RST by it.
fn met(error: &io::Error) -> Met {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Met::Reset,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Met::Icmp { kind: 0, code: 0 }
        }
        _ => Met::NotTried,
    }
}

/// Has the system keep the ICMP errors about a socket (`IP_RECVERR`).
#[cfg(target_os = "linux")]
fn ask_for_reports(socket: &Socket, to: SocketAddr) {
    use nix::sys::socket::{setsockopt, sockopt};

    // It is a wish: without, less is told.
    let asked = match to {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvErr, &true),
    };
    if let Err(error) = asked {
        tracing::trace!(%error, "IP_RECVERR");
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_reports(_: &Socket, _: SocketAddr) {}

/// The ICMP error that ended a connect, if the system kept it.
#[cfg(target_os = "linux")]
fn reported(stream: &TcpStream) -> Option<Met> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
    use std::io::IoSliceMut;
    use std::os::fd::AsRawFd;

    /// Longest quoted packet that is read; it is not looked at.
    const QUOTED: usize = 576;

    let (mut quoted, mut control) =
        ([0; QUOTED], nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6));
    let mut parts = [IoSliceMut::new(&mut quoted)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let report =
        recvmsg::<SockaddrStorage>(stream.as_raw_fd(), &mut parts, Some(&mut control), flags)
            .ok()?;
    report.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
            let is_icmp = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6];
            let met = Met::Icmp { kind: error.ee_type, code: error.ee_code };
            is_icmp.contains(&error.ee_origin).then_some(met)
        }
        _ => None,
    })
}

#[cfg(not(target_os = "linux"))]
fn reported(_: &TcpStream) -> Option<Met> {
    None
}
