//! `recvmmsg`, `sendmmsg`, and the control messages beside the datagrams.
//!
//! The kernel is given arrays of headers that point into other arrays of the same value. All of them are
//! vectors that never grow, so the pointers hold for as long as the value lives, wherever it is moved.

use super::{Datagram, Destination, Flushed, MAX_DATAGRAM};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

/// From one place to the next: the longest datagram, and some, so that the first bytes of all places do not fall into
/// the same few sets of the processor's cache. Only pages that were written to take memory.
const STRIDE: usize = MAX_DATAGRAM + 1 + 192;
/// Bytes of datagrams that a sender collects: a datagram of the greatest length and some short ones.
const ARENA: usize = 2 * (MAX_DATAGRAM + 1);
/// Datagrams start at a multiple of this, so that no two share a line of the cache.
const LINE: usize = 64;
/// Room for one control message: `IP_PKTINFO` (12 bytes) or `IPV6_PKTINFO` (20 bytes) behind a header of 16.
const CONTROL: usize = 40;

/// An address of either family, as the kernel has it.
#[repr(C)]
#[derive(Clone, Copy)]
union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Room for a control message, aligned as its header needs it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
struct Control([u8; CONTROL]);

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address().fmt(f)
    }
}

impl Name {
    fn empty() -> Self {
        // SAFETY: both are plain integers, for which zeroes are a value.
        unsafe { std::mem::zeroed() }
    }

    fn address(&self) -> Option<SocketAddr> {
        // SAFETY: both variants begin with the family, and the whole union has been initialised with zeroes.
        let family = i32::from(unsafe { self.v4.sin_family });
        match family {
            libc::AF_INET => {
                // SAFETY: the family says so, and any bytes are a value.
                let name = unsafe { self.v4 };
                let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
                Some(SocketAddr::new(ip.into(), u16::from_be(name.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: the family says so, and any bytes are a value.
                let name = unsafe { self.v6 };
                let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
                let port = u16::from_be(name.sin6_port);
                Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    /// Takes this address, and returns the length of its name.
    fn set(&mut self, address: SocketAddr) -> libc::socklen_t {
        let mut name = Self::empty();
        let length = match address {
            SocketAddr::V4(address) => {
                name.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(address) => {
                name.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                size_of::<libc::sockaddr_in6>()
            }
        };
        *self = name;
        length as libc::socklen_t
    }
}

/// Has the kernel tell the destination of each datagram that arrives at `socket`.
///
/// # Errors
///
/// As the system reports them.
pub fn tell_destinations(socket: &UdpSocket) -> io::Result<()> {
    let (level, option) = match socket.local_addr()? {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    crate::option::set(socket.as_fd(), level, option, 1)
}

/// Places for datagrams that arrive.
#[derive(Debug)]
pub struct Receiver {
    bytes: Vec<u8>,
    names: Vec<Name>,
    controls: Vec<Control>,
    /// Kept because `headers` points into it.
    _parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: usize,
}

// SAFETY: its pointers lead only into vectors of the same value, which go wherever it goes, and are followed only by the
// kernel within a call of its own methods.
unsafe impl Send for Receiver {}

impl Receiver {
    /// Places for `count` datagrams, each as long as can be.
    pub fn new(count: usize) -> Self {
        let mut bytes = vec![0; count * STRIDE];
        let mut names = vec![Name::empty(); count];
        let mut controls = vec![Control([0; CONTROL]); count];
        let mut parts: Vec<_> = bytes
            .chunks_exact_mut(STRIDE)
            .map(|place| libc::iovec { iov_base: place.as_mut_ptr().cast(), iov_len: MAX_DATAGRAM })
            .collect();
        let headers = (0..count).map(|index| {
            header(&raw mut parts[index], &raw mut names[index], &raw mut controls[index])
        });
        let headers = headers.collect();
        Self { bytes, names, controls, _parts: parts, headers, received: 0 }
    }

    /// Takes the datagrams that are there, waiting for the first one unless the socket does not block.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        for header in &mut self.headers[..self.received] {
            header.msg_hdr.msg_namelen = size_of::<Name>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = CONTROL as _;
        }
        self.received = 0;
        let count = self.headers.len() as libc::c_uint;
        // SAFETY: the descriptor is open for the whole call. Each header points at a name, a control buffer and a part,
        // and each part at a place of `MAX_DATAGRAM` bytes, all in vectors of `self` that have not moved since, and
        // which nothing else borrows.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        self.received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.received)
    }

    /// A datagram of the last call to [`Receiver::receive`]; `None` beyond its number.
    pub fn datagram(&self, index: usize) -> Option<Datagram<'_>> {
        let header = self.headers[..self.received].get(index)?;
        let length = (header.msg_len as usize).min(MAX_DATAGRAM);
        let bytes = &self.bytes[index * STRIDE..][..length];
        let source = self.names[index].address()?;
        let told: usize = header.msg_hdr.msg_controllen as _;
        let control = &self.controls[index].0[..told.min(CONTROL)];
        Some(Datagram { bytes, source, destination: destination(control) })
    }
}

/// Reads the one control message that a socket is ever asked for.
///
/// ```text
///  size_t length | int level | int type | in_pktinfo: int interface, ip own, ip destination
///                                       | in6_pktinfo: ip destination, int interface
/// ```
fn destination(control: &[u8]) -> Destination {
    const WORD: usize = size_of::<usize>();
    let Some((header, value)) = control.split_at_checked(WORD + 8) else {
        return Destination::Untold;
    };
    let int = |bytes: &[u8]| bytes.first_chunk().map_or(0, |it| i32::from_ne_bytes(*it));
    match (int(&header[WORD..]), int(&header[WORD + 4..]), value) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO, &[_, _, _, _, a, b, c, d, e, f, g, h, ..]) => {
            // They differ for a broadcast or multicast address.
            let ip = Ipv4Addr::new(a, b, c, d).into();
            if [a, b, c, d] == [e, f, g, h] {
                Destination::Own { ip, scope: 0 }
            } else {
                Destination::Many
            }
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, value) => {
            let Some((ip, interface)) = value.split_first_chunk::<16>() else {
                return Destination::Untold;
            };
            let ip = Ipv6Addr::from(*ip);
            if ip.is_multicast() {
                return Destination::Many;
            }
            // A link-local address is one only together with its interface.
            let scope = if ip.is_unicast_link_local() { int(interface) as u32 } else { 0 };
            Destination::Own { ip: IpAddr::V6(ip), scope }
        }
        _ => Destination::Untold,
    }
}

/// Datagrams that wait to be sent together.
#[derive(Debug)]
pub struct Sender {
    arena: Vec<u8>,
    used: usize,
    names: Vec<Name>,
    controls: Vec<Control>,
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    waiting: usize,
}

// SAFETY: as for `Receiver`.
unsafe impl Send for Sender {}

impl Sender {
    /// A sender of up to `count` datagrams a call, of 128 KiB together.
    pub fn new(count: usize) -> Self {
        let mut arena = vec![0_u8; ARENA];
        let mut names = vec![Name::empty(); count];
        let mut controls = vec![Control([0; CONTROL]); count];
        let part = libc::iovec { iov_base: arena.as_mut_ptr().cast(), iov_len: 0 };
        let mut parts = vec![part; count];
        let headers = (0..count).map(|index| {
            header(&raw mut parts[index], &raw mut names[index], &raw mut controls[index])
        });
        let headers = headers.collect();
        Self { arena, used: 0, names, controls, parts, headers, waiting: 0 }
    }

    /// At least `length` bytes for the next datagram; `None` if those that wait must be sent first, or if it is longer
    /// than a datagram can be.
    pub fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        let room = self.arena.get_mut(self.used..)?;
        let fits = length <= room.len().min(MAX_DATAGRAM) && self.waiting < self.headers.len();
        fits.then_some(room)
    }

    /// Adds the first `length` bytes of [`Sender::room`] as a datagram to `to`. With `from` it leaves from that address
    /// of the host, which a socket bound to no address needs to be told.
    ///
    /// # Panics
    ///
    /// If there was no such room.
    pub fn push(&mut self, length: usize, to: SocketAddr, from: Option<SocketAddr>) {
        let index = self.waiting;
        assert!(self.room(length).is_some(), "no room for a datagram of {length} bytes");
        let header = &mut self.headers[index].msg_hdr;
        header.msg_namelen = self.names[index].set(to);
        header.msg_controllen =
            from.map_or(0, |it| write_source(it, &mut self.controls[index])) as _;
        // SAFETY: `used` lies within the arena: `room` was there.
        let start = unsafe { self.arena.as_mut_ptr().add(self.used) };
        self.parts[index] = libc::iovec { iov_base: start.cast(), iov_len: length };
        self.used += length.next_multiple_of(LINE);
        self.waiting += 1;
    }

    /// Sends all that wait. One that the kernel refuses is lost, the others go on; nothing waits afterwards.
    pub fn flush(&mut self, socket: &UdpSocket) -> Flushed {
        let count = std::mem::take(&mut self.waiting);
        let mut flushed = Flushed::default();
        while flushed.sent + flushed.lost < count {
            let rest = &mut self.headers[flushed.sent + flushed.lost..count];
            // SAFETY: the descriptor is open for the whole call. Each header points at a name, a part and, if its length
            // is not zero, at a control message, and each part into the arena, all in vectors of `self` that have not
            // moved since; `push` has set the lengths.
            let sent = unsafe {
                let length = rest.len() as libc::c_uint;
                libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), length, libc::MSG_DONTWAIT)
            };
            match usize::try_from(sent) {
                Ok(sent) => flushed.sent += sent,
                Err(_) => match io::Error::last_os_error().kind() {
                    io::ErrorKind::Interrupted => {}
                    // No room: what waits here would only get old.
                    io::ErrorKind::WouldBlock => flushed.lost = count - flushed.sent,
                    _ => flushed.lost += 1,
                },
            }
        }
        self.used = 0;
        flushed
    }
}

/// The control message that sets the source, and its length. It names no interface but for a link-local address, so that
/// the datagram takes the route it should.
fn write_source(from: SocketAddr, control: &mut Control) -> usize {
    const HEADER: usize = size_of::<usize>() + 8;
    let (level, kind, length) = match from {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>()),
        SocketAddr::V6(_) => {
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>())
        }
    };
    let mut end = 0;
    let mut put = |bytes: &[u8]| {
        control.0[end..end + bytes.len()].copy_from_slice(bytes);
        end += bytes.len();
    };
    put(&(HEADER + length).to_ne_bytes());
    put(&level.to_ne_bytes());
    put(&kind.to_ne_bytes());
    match from {
        SocketAddr::V4(from) => {
            put(&0_i32.to_ne_bytes());
            put(&from.ip().octets());
            put(&[0; 4]);
        }
        SocketAddr::V6(from) => {
            put(&from.ip().octets());
            put(&from.scope_id().to_ne_bytes());
        }
    }
    (HEADER + length).next_multiple_of(size_of::<usize>())
}

/// The header of one datagram.
fn header(part: *mut libc::iovec, name: *mut Name, control: *mut Control) -> libc::mmsghdr {
    // SAFETY: it is plain integers and pointers, for which zeroes are a value.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_name = name.cast();
    header.msg_hdr.msg_namelen = size_of::<Name>() as libc::socklen_t;
    header.msg_hdr.msg_iov = part;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_control = control.cast();
    header.msg_hdr.msg_controllen = CONTROL as _;
    header
}
