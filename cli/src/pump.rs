//! Moves bytes both ways between a peer and something local, until both directions have ended.
//!
//! Each direction ends by itself: the end of the local input closes the peer's input and leaves the
//! other direction running, as with a pipe in each direction.

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use std::io;
use thiserror::Error;

/// Bytes moved at a time: large enough for a fast path, small enough for many peers.
const CHUNK_BYTES: usize = 64 * 1024;

/// How much was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Bytes from the local side to the peer.
    pub sent: u64,
    /// Bytes from the peer to the local side.
    pub received: u64,
}

/// Which of the four ends failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PumpError {
    /// The local input cannot be read.
    #[error("cannot read the local input: {0}")]
    LocalInput(io::Error),
    /// The local output cannot be written.
    #[error("cannot write the local output: {0}")]
    LocalOutput(io::Error),
    /// The peer stopped sending without ending properly.
    #[error("the connection broke while receiving: {0}")]
    PeerInput(io::Error),
    /// The peer cannot be sent to any more.
    #[error("the connection broke while sending: {0}")]
    PeerOutput(io::Error),
}

/// What to do with the peer's bytes once the local output takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedOutput {
    /// It is a failure: somebody wanted the bytes.
    Fails,
    /// They are read and dropped, as when a command has ended without reading all its input.
    Discards,
}

/// Copies `input` to the peer and the peer to `output` until both directions have ended.
///
/// Not cancel safe: dropping the future may lose a chunk in each direction.
///
/// # Errors
/// The first end that fails, whichever direction it belongs to.
pub async fn both_ways<I, O, P>(
    input: I,
    output: O,
    peer: P,
    closed_output: ClosedOutput,
) -> Result<Moved, PumpError>
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    let (peer_input, peer_output) = peer.split();
    let outgoing = send(input, peer_output);
    let incoming = receive(peer_input, output, closed_output);
    let (sent, received) = futures::try_join!(outgoing, incoming)?;
    Ok(Moved { sent, received })
}

async fn send<I, P>(mut input: I, mut peer: P) -> Result<u64, PumpError>
where
    I: AsyncRead + Unpin,
    P: AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut sent = 0;
    loop {
        let length = input.read(&mut chunk).await.map_err(PumpError::LocalInput)?;
        if length == 0 {
            peer.close().await.map_err(PumpError::PeerOutput)?;
            return Ok(sent);
        }
        peer.write_all(&chunk[..length]).await.map_err(PumpError::PeerOutput)?;
        peer.flush().await.map_err(PumpError::PeerOutput)?;
        sent += length as u64;
    }
}

async fn receive<P, O>(mut peer: P, mut output: O, closed: ClosedOutput) -> Result<u64, PumpError>
where
    P: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut received = 0;
    let mut open = true;
    loop {
        let length = peer.read(&mut chunk).await.map_err(PumpError::PeerInput)?;
        if length == 0 {
            break;
        }
        received += length as u64;
        if open {
            open = still_open(write(&mut output, &chunk[..length]).await, closed)?;
        }
    }
    if open {
        still_open(output.close().await, closed)?;
    }
    Ok(received)
}

async fn write<O: AsyncWrite + Unpin>(output: &mut O, chunk: &[u8]) -> io::Result<()> {
    let written = output.write_all(chunk).await;
    // An output that is written behind takes nothing more once that has failed, and says why when flushed.
    output.flush().await?;
    written
}

fn still_open(written: io::Result<()>, closed: ClosedOutput) -> Result<bool, PumpError> {
    match (written, closed) {
        (Ok(()), _) => Ok(true),
        (Err(error), ClosedOutput::Discards) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(false)
        }
        (Err(error), _) => Err(PumpError::LocalOutput(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::LocalStream;
    use async_io::block_on;
    use futures::io::Cursor;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::thread;

    fn pair() -> (LocalStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (LocalStream::new(ours).unwrap(), listener.accept().unwrap().0)
    }

    fn read_all(mut stream: TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut stream, &mut bytes).unwrap();
        bytes
    }

    /// Refuses every byte, as the input of a command that has ended.
    enum Ended {
        AtOnce,
        /// It is written behind: nothing is taken, and why is told when flushed.
        Behind,
    }

    impl AsyncWrite for Ended {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(match *self {
                Self::AtOnce => Err(io::ErrorKind::BrokenPipe.into()),
                Self::Behind => Ok(0),
            })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(match *self {
                Self::AtOnce => Ok(()),
                Self::Behind => Err(io::ErrorKind::BrokenPipe.into()),
            })
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn the_end_of_one_direction_leaves_the_other_running() {
        let (ours, mut theirs) = pair();
        let peer = thread::spawn(move || {
            let heard = read_all(theirs.try_clone().unwrap());
            // Our direction has ended; only now does the peer speak.
            io::Write::write_all(&mut theirs, &vec![7; 300_000]).unwrap();
            heard
        });
        let input = vec![5; 1_000_000];
        let mut output = Vec::new();
        let moved =
            block_on(both_ways(Cursor::new(&input), &mut output, ours, ClosedOutput::Fails))
                .unwrap();
        assert_eq!(moved, Moved { sent: 1_000_000, received: 300_000 });
        assert_eq!(peer.join().unwrap(), input);
        assert_eq!(output, vec![7; 300_000]);
    }

    #[test]
    fn a_broken_connection_is_a_failure_even_while_the_local_input_is_silent() {
        let (ours, theirs) = pair();
        let reset = thread::spawn(move || {
            io::Write::write_all(&mut &theirs, b"unread").unwrap();
            socket2::SockRef::from(&theirs).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop(theirs);
        });
        reset.join().unwrap();
        let (silent, _kept_open) = pair();
        let result = block_on(both_ways(silent, Cursor::new(vec![]), ours, ClosedOutput::Fails));
        assert!(matches!(result, Err(PumpError::PeerInput(_))), "{result:?}");
    }

    #[test]
    fn what_an_ended_command_does_not_read_is_discarded() {
        for output in [Ended::AtOnce, Ended::Behind] {
            let (ours, mut theirs) = pair();
            io::Write::write_all(&mut theirs, &[1; 1000]).unwrap();
            theirs.shutdown(Shutdown::Write).unwrap();
            let done = both_ways(Cursor::new(b"answer"), output, ours, ClosedOutput::Discards);
            assert_eq!(block_on(done).unwrap(), Moved { sent: 6, received: 1000 });
            assert_eq!(read_all(theirs), b"answer");
        }
    }

    #[test]
    fn an_output_that_somebody_wanted_may_not_close() {
        for output in [Ended::AtOnce, Ended::Behind] {
            let (ours, mut theirs) = pair();
            io::Write::write_all(&mut theirs, b"wanted").unwrap();
            let result = block_on(both_ways(Cursor::new(b""), output, ours, ClosedOutput::Fails));
            let Err(PumpError::LocalOutput(error)) = result else { panic!("{result:?}") };
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
