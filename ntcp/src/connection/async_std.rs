//! async-std's own types, with the feature `async-std`. Its traits are those of `futures`.

use std::io;

use super::Connection;

impl Connection {
    /// The kernel's socket of a TCP connection as one of async-std's.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] over UDP.
    pub fn into_async_std_tcp_stream(self) -> io::Result<async_std::net::TcpStream> {
        let stream = self.into_tcp_stream().map_err(|_| {
            io::Error::new(io::ErrorKind::Unsupported, "a UDP connection has no TCP socket")
        })?;
        Ok(stream.into())
    }
}
