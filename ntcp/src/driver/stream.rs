//! Reading STUN messages off a stream without touching what follows them.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;

use async_io::Async;
use ntcp_stun::framing::{Frame, frame};

/// Longest message a stream may carry to a machine, in bytes.
const MAX_MESSAGE: usize = 8192;

/// The next whole message. Reads exactly to its end: the bytes behind the last message of a
/// handshake belong to the application.
///
/// # Errors
///
/// The stream's own, [`io::ErrorKind::UnexpectedEof`] when it ended, and
/// [`io::ErrorKind::InvalidData`] when it carries something else.
pub(super) async fn read_message(stream: &Arc<Async<TcpStream>>) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let missing = match frame(&message, MAX_MESSAGE) {
            Ok(Frame::Complete { .. }) => return Ok(message),
            Ok(Frame::Incomplete { bytes }) => bytes,
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        };
        let filled = message.len();
        message.resize(filled + missing, 0);
        let read = stream.read_with(|mut stream| stream.read(&mut message[filled..])).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        message.truncate(filled + read);
    }
}
