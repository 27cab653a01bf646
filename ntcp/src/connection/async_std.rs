//! async-std's own types, with the feature `async-std`. Its traits are those of `futures`.

use std::io;

use super::Connection;

impl Connection {
    /// The kernel's socket of a bare TCP connection as one of async-std's.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] if it is encrypted or runs over UDP.
    pub fn into_async_std_tcp_stream(self) -> io::Result<async_std::net::TcpStream> {
        let stream = self.into_tcp_stream().map_err(|_| {
            io::Error::new(io::ErrorKind::Unsupported, "an encrypted connection has no bare socket")
        })?;
        Ok(stream.into())
    }
}
