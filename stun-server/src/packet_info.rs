//! The address that a datagram was sent to, and from which its reply must leave, where a socket is bound to none.
//!
//! `IP_PKTINFO` and `IPV6_PKTINFO` (ip(7), RFC 3542 section 6) tell the one and set the other, in a control
//! message beside the datagram. It is written here rather than by a crate because that would allocate for each reply.
//!
//! ```text
//!  size_t length | int level | int type | in_pktinfo: int interface, ip route_source, ip destination
//!                                       | in6_pktinfo: ip address, int interface
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use socket2::{MsgHdr, SockAddr, SockRef};

use crate::datagrams::Arrived;

/// Length of a control message's header: `size_t`, `int`, `int`.
const HEADER: usize = size_of::<usize>() + 2 * size_of::<i32>();
/// Room for any of the control messages, padded to the size of `size_t`.
const CONTROL: usize = HEADER + size_of::<libc::in6_pktinfo>().next_multiple_of(size_of::<usize>());

/// Has the kernel tell the destination of each datagram.
pub(crate) fn ask_for(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => setsockopt(socket, Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// The next datagram at a socket bound to `address`. `None` for one that was sent to many, which is not ours to answer.
pub(crate) fn receive(
    socket: &UdpSocket,
    address: SocketAddr,
    buffer: &mut [u8],
) -> io::Result<Option<Arrived>> {
    let mut control = [0; CONTROL];
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let Some(source) = message.address.as_ref().and_then(address_of) else { return Ok(None) };
    let local = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let ip = |ip: libc::in_addr| Ipv4Addr::from(u32::from_be(ip.s_addr));
            let (own, destination) = (ip(info.ipi_spec_dst), ip(info.ipi_addr));
            (own == destination).then(|| SocketAddr::from((own, address.port())))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            // A link-local address is one only together with its interface.
            let scope = if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
            (!ip.is_multicast()).then(|| SocketAddrV6::new(ip, address.port(), 0, scope).into())
        }
        _ => None,
    });
    Ok(local.map(|local| Arrived { length: message.bytes, source, local }))
}

/// Sends a datagram from this one of the host's addresses.
pub(crate) fn send(
    socket: &UdpSocket,
    payload: &[u8],
    from: SocketAddr,
    to: SocketAddr,
) -> io::Result<()> {
    let mut control = [0; CONTROL];
    let control = write_control(from, &mut control);
    let (to, parts) = (SockAddr::from(to), [IoSlice::new(payload)]);
    let message = MsgHdr::new().with_addr(&to).with_buffers(&parts).with_control(control);
    SockRef::from(socket).sendmsg(&message, libc::MSG_DONTWAIT)?;
    Ok(())
}

/// The control message that sets the source. It names no interface but for a link-local address, so that the reply
/// takes the route it should.
fn write_control(from: SocketAddr, buffer: &mut [u8; CONTROL]) -> &[u8] {
    let (level, kind, length) = match from {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>()),
        SocketAddr::V6(_) => {
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>())
        }
    };
    let mut end = 0;
    let mut put = |bytes: &[u8]| {
        buffer[end..end + bytes.len()].copy_from_slice(bytes);
        end += bytes.len();
    };
    put(&(HEADER + length).to_ne_bytes());
    put(&level.to_ne_bytes());
    put(&kind.to_ne_bytes());
    match from {
        SocketAddr::V4(from) => {
            put(&0_i32.to_ne_bytes());
            put(&from.ip().octets());
        }
        SocketAddr::V6(from) => {
            put(&from.ip().octets());
            put(&from.scope_id().to_ne_bytes());
        }
    }
    &buffer[..(HEADER + length).next_multiple_of(size_of::<usize>())]
}

fn address_of(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(address) = storage.as_sockaddr_in() {
        return Some(SocketAddr::new(IpAddr::V4(address.ip()), address.port()));
    }
    let address = storage.as_sockaddr_in6()?;
    Some(SocketAddrV6::new(address.ip(), address.port(), 0, address.scope_id()).into())
}
