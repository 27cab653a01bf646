//! What the kernel knows of a TCP connection.

use std::net::TcpStream;
use std::time::Duration;

/// The kernel's smoothed round-trip time; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub fn rtt(stream: &TcpStream) -> Option<Duration> {
    use std::os::fd::AsRawFd;

    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the descriptor is open for the whole call; `info` and `length` are valid for writes,
    // and the kernel writes at most `length` bytes.
    let failed = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    // SAFETY: `tcp_info` is plain integers, so the zeroes it began with are a valid value wherever
    // the kernel wrote less.
    let info = unsafe { info.assume_init() };
    (failed == 0 && info.tcpi_rtt > 0).then(|| Duration::from_micros(info.tcpi_rtt.into()))
}

/// The kernel's smoothed round-trip time; `None` where the system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn rtt(_stream: &TcpStream) -> Option<Duration> {
    None
}
