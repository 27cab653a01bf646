//! UDP sockets that answer from the very address that was asked.
//!
//! A host with several addresses that listens on all of them would answer from whichever its route
//! prefers, and the asker would not know the answer. On Linux each datagram tells the address it
//! was sent to (`IP_PKTINFO`, `IPV6_RECVPKTINFO`), and the answer says so too.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::task::{Context, Poll};

use async_io::Async;

/// One UDP socket.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: Async<UdpSocket>,
    address: SocketAddr,
}

/// A datagram that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) length: usize,
    pub(crate) source: SocketAddr,
    /// The address it was sent to.
    pub(crate) local: Option<IpAddr>,
}

impl Datagrams {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let address = socket.local_addr()?;
        system::prepare(&socket, address)?;
        Ok(Self { socket: Async::new_nonblocking(socket)?, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_readable(context)
    }

    /// The next datagram; `WouldBlock` when there is none.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrived> {
        system::receive(self.socket.get_ref(), buffer)
    }

    /// Sends; a full buffer is a lost datagram.
    pub(crate) fn send(
        &self,
        payload: &[u8],
        local: Option<IpAddr>,
        remote: SocketAddr,
    ) -> io::Result<()> {
        system::send(self.socket.get_ref(), payload, local, remote)
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
    use std::os::fd::AsRawFd;

    use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
    use nix::sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg,
        setsockopt,
    };

    use super::Arrived;

    pub(super) fn prepare(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
        match address {
            SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true)?,
        }
        Ok(())
    }

    pub(super) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Arrived> {
        let mut control = nix::cmsg_space!(libc::in6_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let source = message.address.as_ref().and_then(address_of);
        let source = source.ok_or(io::ErrorKind::InvalidData)?;
        let local = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
            }
            _ => None,
        });
        Ok(Arrived { length: message.bytes, source, local })
    }

    pub(super) fn send(
        socket: &UdpSocket,
        payload: &[u8],
        local: Option<IpAddr>,
        remote: SocketAddr,
    ) -> io::Result<()> {
        let parts = [IoSlice::new(payload)];
        let to = SockaddrStorage::from(remote);
        let send = |control: &[ControlMessage<'_>]| {
            sendmsg(socket.as_raw_fd(), &parts, control, MsgFlags::MSG_DONTWAIT, Some(&to))
        };
        match local {
            Some(IpAddr::V4(ip)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from(ip).to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                send(&[ControlMessage::Ipv4PacketInfo(&info)])?
            }
            Some(IpAddr::V6(ip)) => {
                let ipi6_addr = libc::in6_addr { s6_addr: ip.octets() };
                let info = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
                send(&[ControlMessage::Ipv6PacketInfo(&info)])?
            }
            None => send(&[])?,
        };
        Ok(())
    }

    fn address_of(storage: &SockaddrStorage) -> Option<SocketAddr> {
        if let Some(address) = storage.as_sockaddr_in() {
            return Some(SocketAddr::from((address.ip(), address.port())));
        }
        storage.as_sockaddr_in6().map(|address| SocketAddr::from((address.ip(), address.port())))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::net::{IpAddr, SocketAddr, UdpSocket};

    use super::Arrived;

    pub(super) fn prepare(_: &UdpSocket, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Arrived> {
        let (length, source) = socket.recv_from(buffer)?;
        Ok(Arrived { length, source, local: None })
    }

    pub(super) fn send(
        socket: &UdpSocket,
        payload: &[u8],
        _: Option<IpAddr>,
        remote: SocketAddr,
    ) -> io::Result<()> {
        socket.send_to(payload, remote).map(drop)
    }
}
