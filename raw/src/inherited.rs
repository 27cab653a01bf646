//! Sockets that somebody else opened for this process: systemd's socket activation (sd_listen_fds(3)).
//!
//! The manager sets `LISTEN_PID` and `LISTEN_FDS` and leaves that many descriptors from 3 upwards. Whoever reads
//! those variables asks here for the descriptors.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether they have been taken: a descriptor has one owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes over the descriptors of `numbers`, which belong to nobody in this process yet. It does so once: every further
/// call gets none.
///
/// # Errors
///
/// `EBADF` if one of them is not open; then none is taken.
pub fn take(numbers: impl IntoIterator<Item = RawFd>) -> io::Result<Vec<OwnedFd>> {
    let numbers: Vec<RawFd> = numbers.into_iter().collect();
    for &number in &numbers {
        // SAFETY: F_GETFD reads the flags of any number and fails on one that is not open.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    // SAFETY: each is open, as was seen above, and was left by the parent for this process to own; `TAKEN` makes sure
    // that they get no second owner here.
    Ok(numbers.into_iter().map(|it| unsafe { OwnedFd::from_raw_fd(it) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn descriptors_are_taken_once_and_only_if_all_are_open() {
        let open = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into_raw_fd();
        assert!(take([open, RawFd::MAX]).is_err());
        let taken = take([open]).unwrap();
        assert_eq!(taken.len(), 1);
        assert!(take([open]).unwrap().is_empty());
        let socket = std::net::UdpSocket::from(taken.into_iter().next().unwrap());
        assert!(socket.local_addr().is_ok());
    }
}
