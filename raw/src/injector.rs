//! Packets as bytes, handed to the system whole: IP header, TCP or UDP header, data.
//!
//! [`ntcp_proto::segment`] and [`ntcp_proto::datagram`] make such bytes. The source may be anybody's:
//! whoever calls must have the right to speak for it. A packet for an address of this host goes to
//! its own stack.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use async_io::Async;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// `IPPROTO_RAW`: what is sent begins with an IP header (`IP_HDRINCL`, `IPV6_HDRINCL`), and nothing
/// is received.
const WHOLE_PACKETS: i32 = 255;

/// Raw sockets of both families.
#[derive(Debug)]
pub struct Injector {
    v4: Socket,
    /// Absent on hosts without IPv6.
    v6: Option<Socket>,
}

impl Injector {
    /// Opens the sockets. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::PermissionDenied`] without the capability; otherwise as the system reports
    /// them.
    pub fn open() -> io::Result<Self> {
        Ok(Self { v4: raw(Domain::IPV4)?, v6: raw(Domain::IPV6).ok() })
    }

    /// Sends one packet, now or never.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for what is no IP packet, [`io::ErrorKind::WouldBlock`] when
    /// the queue is full, otherwise as the system reports them.
    pub fn try_send(&self, packet: &[u8]) -> io::Result<()> {
        let (socket, destination) = self.way(packet)?;
        let sent = socket.send_to(packet, &destination)?;
        if sent == packet.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Sends one packet, waiting for room in the queue. Cancel safe: it is sent or not.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for what is no IP packet; otherwise as the system reports them.
    pub async fn send(&self, packet: &[u8]) -> io::Result<()> {
        loop {
            match self.try_send(packet) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let (socket, _) = self.way(packet)?;
                    Async::new_nonblocking(socket)?.writable().await?;
                }
                outcome => return outcome,
            }
        }
    }

    /// The socket of the packet's family, and its destination. Raw sockets take no port.
    fn way(&self, packet: &[u8]) -> io::Result<(&Socket, SockAddr)> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let field = |from: usize, to: usize| packet.get(from..to).ok_or_else(invalid);
        let (socket, ip): (_, IpAddr) = match packet.first().ok_or_else(invalid)? >> 4 {
            4 => {
                let octets: [u8; 4] = field(16, 20)?.try_into().map_err(|_| invalid())?;
                (&self.v4, Ipv4Addr::from(octets).into())
            }
            6 => {
                let octets: [u8; 16] = field(24, 40)?.try_into().map_err(|_| invalid())?;
                let missing = || io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
                (self.v6.as_ref().ok_or_else(missing)?, Ipv6Addr::from(octets).into())
            }
            _ => return Err(invalid()),
        };
        Ok((socket, SocketAddr::new(ip, 0).into()))
    }
}

fn raw(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(WHOLE_PACKETS)))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
