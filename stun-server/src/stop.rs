//! Waits for the signals that end a server: SIGINT and SIGTERM.

use std::io;

/// A future that is ready once the process is asked to end. To be made before any thread is: it keeps the signals from
/// their default effect in this thread and in those it starts.
#[cfg(target_os = "linux")]
pub(crate) fn signals() -> io::Result<impl Future<Output = ()>> {
    use async_io::Async;
    use nix::sys::signal::{SigSet, Signal};
    use nix::sys::signalfd::{SfdFlags, SignalFd};

    let mut mask = SigSet::empty();
    mask.add(Signal::SIGINT);
    mask.add(Signal::SIGTERM);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let signals = Async::new_nonblocking(signals)?;
    Ok(async move {
        // If the descriptor fails, nobody could end the server but by force: end it.
        let _ = signals.readable().await;
    })
}

/// Elsewhere the system's default ends the process.
#[cfg(not(target_os = "linux"))]
pub(crate) fn signals() -> io::Result<impl Future<Output = ()>> {
    Ok(std::future::pending())
}
