//! The SYN that opened an accepted connection, as a listener saved it (`TCP_SAVE_SYN`, Linux 4.2).
//!
//! It shows what a NAT made of a SYN on its way: initial sequence number, options and TTL, without
//! any privilege.
//!
//! ```
//! use std::net::{TcpListener, TcpStream};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! ntcp_raw::saved_syn::keep(&listener)?;
//! let _client = TcpStream::connect(listener.local_addr()?)?;
//! let (stream, _) = listener.accept()?;
//! let packet = ntcp_raw::saved_syn::take(&stream)?.expect("kept for every stream");
//! assert_eq!(packet[0] >> 4, 4, "it starts with the IPv4 header");
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::os::fd::AsFd;

/// Longest headers there are: 40 bytes of IPv6 or 60 of IPv4, extension headers, 60 of TCP.
#[cfg(target_os = "linux")]
const MAX_HEADERS: usize = 512;

/// Has a listening socket keep the headers of every SYN it answers, for [`take`].
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`] elsewhere than on Linux; otherwise as the system reports them.
#[cfg(target_os = "linux")]
pub fn keep(listener: &impl AsFd) -> io::Result<()> {
    crate::option::set(listener.as_fd(), libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, 1)
}

/// The IP and TCP headers of the SYN that opened `stream`, from the first byte of the IP header on,
/// as they arrived.
///
/// They are given once: `None` afterwards, when the listener kept nothing, and when the handshake
/// was completed from a SYN cookie, whose SYN nobody remembers.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`] elsewhere than on Linux; otherwise as the system reports them.
#[cfg(target_os = "linux")]
pub fn take(stream: &impl AsFd) -> io::Result<Option<Vec<u8>>> {
    let mut headers = vec![0; MAX_HEADERS];
    let length = crate::option::get_bytes(
        stream.as_fd(),
        libc::IPPROTO_TCP,
        libc::TCP_SAVED_SYN,
        &mut headers,
    )?;
    headers.truncate(length);
    Ok((length > 0).then_some(headers))
}

/// Has a listening socket keep the headers of every SYN it answers, for [`take`].
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`] elsewhere than on Linux; otherwise as the system reports them.
#[cfg(not(target_os = "linux"))]
pub fn keep(_listener: &impl AsFd) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The IP and TCP headers of the SYN that opened `stream`.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`] elsewhere than on Linux; otherwise as the system reports them.
#[cfg(not(target_os = "linux"))]
pub fn take(_stream: &impl AsFd) -> io::Result<Option<Vec<u8>>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn headers_of_both_families_come_once_and_only_if_kept() {
        for (address, version, headers) in [("127.0.0.1:0", 4, 20 + 40), ("[::1]:0", 6, 40 + 40)] {
            let Ok(listener) = TcpListener::bind(address) else {
                assert_eq!(version, 6, "a host may lack IPv6 alone");
                continue;
            };
            let target = listener.local_addr().unwrap();
            let _unkept = TcpStream::connect(target).unwrap();
            let (stream, _) = listener.accept().unwrap();
            assert_eq!(take(&stream).unwrap(), None);

            keep(&listener).unwrap();
            let client = TcpStream::connect(target).unwrap();
            let (stream, _) = listener.accept().unwrap();
            let packet = take(&stream).unwrap().expect("kept");
            assert_eq!(packet[0] >> 4, version);
            assert_eq!(packet.len(), headers, "with the options of a Linux SYN");
            let tcp = &packet[if version == 4 { 20 } else { 40 }..];
            assert_eq!(tcp[..2], client.local_addr().unwrap().port().to_be_bytes());
            assert_eq!(tcp[13] & 0x02, 0x02, "SYN");
            assert_eq!(take(&stream).unwrap(), None, "given once");
        }
    }
}
