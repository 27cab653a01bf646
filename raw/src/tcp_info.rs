//! What the kernel knows of a TCP connection.

use std::net::TcpStream;
use std::time::Duration;

/// The kernel's smoothed round-trip time; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub fn rtt(stream: &TcpStream) -> Option<Duration> {
    let rtt = read(stream)?.tcpi_rtt;
    (rtt > 0).then(|| Duration::from_micros(rtt.into()))
}

/// The kernel's smoothed round-trip time; `None` where the system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn rtt(_stream: &TcpStream) -> Option<Duration> {
    None
}

/// Whether a connect is in SYN-SENT: nothing has come from the peer, no SYN either (RFC 9293 section
/// 3.3.2). `false` where the system does not tell.
#[cfg(target_os = "linux")]
pub fn is_syn_sent(stream: &TcpStream) -> bool {
    /// Not in `libc`: `TCP_SYN_SENT` of `linux/tcp.h`.
    const SYN_SENT: u8 = 2;
    read(stream).is_some_and(|info| info.tcpi_state == SYN_SENT)
}

/// Whether a connect is in SYN-SENT: nothing has come from the peer, no SYN either (RFC 9293 section
/// 3.3.2). `false` where the system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn is_syn_sent(_stream: &TcpStream) -> bool {
    false
}

#[cfg(target_os = "linux")]
fn read(stream: &TcpStream) -> Option<libc::tcp_info> {
    use std::os::fd::AsRawFd;

    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the descriptor is open for the whole call; `info` and `length` are valid for writes,
    // and the kernel writes at most `length` bytes.
    let status = unsafe {
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
    (status == 0).then(|| unsafe { info.assume_init() })
}
