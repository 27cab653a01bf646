//! How one thread tells the others that it is over.
//!
//! A pair of connected sockets: shutting one down makes the other readable for good, which a thread can wait for
//! together with its own sockets.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Stops a server. Clones stop the same one.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<UnixStream>);

impl Stopper {
    /// Stops the server: replies that have begun are finished, everything else ends. To say it again changes nothing.
    pub fn stop(&self) {
        // It fails only if the other end is gone, with the server.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Where the threads hear it: readable once the server is to stop.
#[derive(Debug, Clone)]
pub(crate) struct Stopped(Arc<UnixStream>);

impl Stopped {
    pub(crate) fn pair() -> io::Result<(Stopper, Self)> {
        let (stopper, stopped) = UnixStream::pair()?;
        Ok((Stopper(Arc::new(stopper)), Self(Arc::new(stopped))))
    }

    /// The same as a socket of its own.
    pub(crate) fn socket(&self) -> io::Result<UnixStream> {
        self.0.try_clone()
    }
}

impl AsFd for Stopped {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Stops the server when the thread that holds it ends, for whatever reason.
pub(crate) struct StopAtEnd(pub(crate) Stopper);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.stop();
    }
}
