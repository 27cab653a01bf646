//! `setsockopt` and `getsockopt` of plain integers.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets an integer option.
pub(crate) fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the whole call, and `value` is valid for reads of `length`.
    let status = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option into `value`; how many bytes of it were filled.
pub(crate) fn get_bytes(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut [u8],
) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the whole call; `value` is valid for writes of `length`
    // bytes, and the kernel writes no more than that.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if status == 0 { Ok(length as usize) } else { Err(io::Error::last_os_error()) }
}
/// Sets an option that is a structure or an array without padding.
pub(crate) fn set_bytes(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the whole call, and `value` is valid for reads of `length`.
    let status =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds a packet socket to all interfaces and protocols.
pub(crate) fn bind_to_all_protocols(socket: &socket2::Socket) -> io::Result<()> {
    let mut address = [0_u8; size_of::<libc::sockaddr_ll>()];
    let family = (libc::AF_PACKET as libc::sa_family_t).to_ne_bytes();
    address[..family.len()].copy_from_slice(&family);
    let protocol = std::mem::offset_of!(libc::sockaddr_ll, sll_protocol);
    address[protocol..protocol + 2].copy_from_slice(&(libc::ETH_P_ALL as u16).to_be_bytes());
    // SAFETY: the descriptor is open for the whole call, and `address` is valid for reads of the
    // length given; the kernel copies it, whatever its alignment.
    let status = unsafe {
        libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as libc::socklen_t)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor from this number on. Only for a process that has just begun.
pub(crate) fn close_all_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: no value of this process owns a descriptor yet but the standard streams, whose
    // numbers are lower; the caller has just begun `main`.
    let status = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
