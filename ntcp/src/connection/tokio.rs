//! Tokio's own traits and types, with the feature `tokio`.
//!
//! The traits of `futures` are there all the same; where both are in scope, a method that both have
//! must be called by the trait's name.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::Connection;

impl Connection {
    /// The kernel's socket of a bare TCP connection as one of tokio's.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] if it is encrypted or runs over UDP, and what tokio reports.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O enabled, as `tokio::net::TcpStream::from_std` does.
    pub fn into_tokio_tcp_stream(self) -> io::Result<tokio::net::TcpStream> {
        let stream = self.into_tcp_stream().map_err(|_| {
            io::Error::new(io::ErrorKind::Unsupported, "an encrypted connection has no bare socket")
        })?;
        tokio::net::TcpStream::from_std(stream)
    }
}

impl tokio::io::AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unfilled = buffer.initialize_unfilled();
        let read = ready!(futures::AsyncRead::poll_read(self, context, unfilled))?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        futures::AsyncWrite::poll_write(self, context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        futures::AsyncWrite::poll_flush(self, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        futures::AsyncWrite::poll_close(self, context)
    }
}
