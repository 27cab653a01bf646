//! A UDP socket that knows at which address a datagram came and answers from that one.
//!
//! A socket bound to a concrete address needs nothing for that. One that is bound to all addresses of a host would
//! answer from whichever its route prefers, and the client would not know the answer; so on Linux each datagram tells
//! the address it was sent to (`IP_PKTINFO`, `IPV6_RECVPKTINFO`), and the answer carries it too.

use async_io::Async;
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// One UDP socket.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: Async<UdpSocket>,
    address: SocketAddr,
}

/// A datagram that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) length: usize,
    pub(crate) source: SocketAddr,
    /// The address it was sent to; with an unspecified IP if the system does not tell.
    pub(crate) local: SocketAddr,
}

impl Datagrams {
    pub(crate) fn new(socket: UdpSocket, address: SocketAddr) -> io::Result<Self> {
        if address.ip().is_unspecified() {
            any_address::prepare(&socket, address)?;
        }
        Ok(Self { socket: Async::new_nonblocking(socket)?, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// The next datagram; `WouldBlock` if there is none.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrived> {
        let socket = self.socket.get_ref();
        if self.address.ip().is_unspecified() {
            return any_address::receive(socket, self.address, buffer);
        }
        let (length, source) = socket.recv_from(buffer)?;
        Ok(Arrived { length, source, local: self.address })
    }

    /// Sends from `from`, which is this socket's address; a full buffer is a lost datagram.
    pub(crate) fn send(&self, payload: &[u8], from: SocketAddr, to: SocketAddr) -> io::Result<()> {
        let socket = self.socket.get_ref();
        if self.address.ip().is_unspecified() {
            return any_address::send(socket, payload, from.ip(), to);
        }
        socket.send_to(payload, to).map(drop)
    }
}

#[cfg(target_os = "linux")]
mod any_address {
    use super::Arrived;
    use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
    use nix::sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg,
        setsockopt,
    };
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
    use std::os::fd::AsRawFd;

    pub(super) fn prepare(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
        match address {
            SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true)?,
        }
        Ok(())
    }

    pub(super) fn receive(
        socket: &UdpSocket,
        address: SocketAddr,
        buffer: &mut [u8],
    ) -> io::Result<Arrived> {
        let mut control = nix::cmsg_space!(libc::in6_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let source = message.address.as_ref().and_then(address_of);
        let source = source.ok_or(io::ErrorKind::InvalidData)?;
        let ip = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr))))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
            }
            _ => None,
        });
        let local = SocketAddr::new(ip.unwrap_or(address.ip()), address.port());
        Ok(Arrived { length: message.bytes, source, local })
    }

    pub(super) fn send(
        socket: &UdpSocket,
        payload: &[u8],
        from: IpAddr,
        to: SocketAddr,
    ) -> io::Result<()> {
        let parts = [IoSlice::new(payload)];
        let to = SockaddrStorage::from(to);
        let send = |control: &[ControlMessage<'_>]| {
            sendmsg(socket.as_raw_fd(), &parts, control, MsgFlags::MSG_DONTWAIT, Some(&to))
        };
        match from {
            from if from.is_unspecified() => send(&[])?,
            IpAddr::V4(ip) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: ip.to_bits().to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                send(&[ControlMessage::Ipv4PacketInfo(&info)])?
            }
            IpAddr::V6(ip) => {
                let ipi6_addr = libc::in6_addr { s6_addr: ip.octets() };
                let info = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
                send(&[ControlMessage::Ipv6PacketInfo(&info)])?
            }
        };
        Ok(())
    }

    /// With the scope of a link-local address, without which nothing can be sent back.
    fn address_of(storage: &SockaddrStorage) -> Option<SocketAddr> {
        if let Some(v4) = storage.as_sockaddr_in() {
            return Some(SocketAddr::from((v4.ip(), v4.port())));
        }
        let v6 = storage.as_sockaddr_in6()?;
        Some(SocketAddrV6::new(v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id()).into())
    }
}

#[cfg(not(target_os = "linux"))]
mod any_address {
    use super::Arrived;
    use std::io;
    use std::net::{IpAddr, SocketAddr, UdpSocket};

    pub(super) fn prepare(_: &UdpSocket, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn receive(
        socket: &UdpSocket,
        address: SocketAddr,
        buffer: &mut [u8],
    ) -> io::Result<Arrived> {
        let (length, source) = socket.recv_from(buffer)?;
        Ok(Arrived { length, source, local: address })
    }

    pub(super) fn send(
        socket: &UdpSocket,
        payload: &[u8],
        _: IpAddr,
        to: SocketAddr,
    ) -> io::Result<()> {
        socket.send_to(payload, to).map(drop)
    }
}
