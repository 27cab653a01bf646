//! The local end of a connection: standard input and output, a command, or a TCP service.

use crate::pump::{ClosedOutput, Moved, PumpError, both_ways};
use crate::stream::LocalStream;
use blocking::{Unblock, unblock};
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use ntcp_settings::Endpoint;
use std::fs::File;
use std::io;
use std::net::ToSocketAddrs;
use std::process::{Child, Command, ExitStatus, Stdio};
use thiserror::Error;

/// Why a connection could not be joined to its local end, or broke off.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The command cannot be started.
    #[error("cannot run `{command}`: {source}; check the command")]
    Command {
        /// The command line.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The service does not accept.
    #[error("cannot connect to {service}: {source}; is it running?")]
    Service {
        /// The service as it was written.
        service: Endpoint,
        /// What the system said about the last address tried.
        source: io::Error,
    },
    /// A local client went away before it was served.
    #[error("the local client is gone: {0}")]
    Client(io::Error),
    /// Standard input or output is not there.
    #[error("standard input or output cannot be used: {0}")]
    Standard(io::Error),
    /// It was joined, then an end failed.
    #[error(transparent)]
    Pump(#[from] PumpError),
}

/// Joins the peer to standard input and output.
///
/// # Errors
/// An end that failed; also when standard output is closed before the peer has ended.
pub async fn standard<P: AsyncRead + AsyncWrite + Unpin>(peer: P) -> Result<Moved, LocalError> {
    let input = Unblock::with_capacity(PIPE_BYTES, standard_input().map_err(LocalError::Standard)?);
    let output =
        Unblock::with_capacity(PIPE_BYTES, standard_output().map_err(LocalError::Standard)?);
    Ok(both_ways(input, output, peer, ClosedOutput::Fails).await?)
}

/// Read ahead or written behind, for each direction.
const PIPE_BYTES: usize = 256 * 1024;

/// Standard input without the lock and the buffer of [`std::io::Stdin`].
fn standard_input() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// Standard output without line buffering: what a peer sends appears at once.
fn standard_output() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Joins the peer to a shell command, which finds `variables` in its environment.
///
/// # Errors
/// The command cannot be started, or an end failed.
pub async fn command<P: AsyncRead + AsyncWrite + Unpin>(
    line: &str,
    variables: &[(&str, String)],
    peer: P,
) -> Result<(Moved, ExitStatus), LocalError> {
    let failed = |source| LocalError::Command { command: line.to_owned(), source };
    let mut child = start(line, variables).map_err(failed)?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed(io::ErrorKind::BrokenPipe.into()));
    };
    let input = Unblock::with_capacity(PIPE_BYTES, input);
    let output = Unblock::with_capacity(PIPE_BYTES, output);
    let mut running = Running(Some(child));
    let moved = both_ways(output, input, peer, ClosedOutput::Discards).await?;
    Ok((moved, running.ended().await.map_err(failed)?))
}

fn start(line: &str, variables: &[(&str, String)]) -> io::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", line])
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
}

/// A command that is ended with its connection.
struct Running(Option<Child>);

impl Running {
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        match self.0.take() {
            Some(mut child) => unblock(move || child.wait()).await,
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Joins the peer to a TCP service.
///
/// # Errors
/// The service does not accept, or an end failed.
pub async fn service<P: AsyncRead + AsyncWrite + Unpin>(
    service: &Endpoint,
    peer: P,
) -> Result<Moved, LocalError> {
    let failed = |source| LocalError::Service { service: service.clone(), source };
    let stream = connect(service.to_string()).await.map_err(failed)?;
    client(stream, peer).await
}

/// Joins the peer to a TCP stream that is already there.
///
/// # Errors
/// An end that failed.
pub async fn client<P: AsyncRead + AsyncWrite + Unpin>(
    stream: LocalStream,
    peer: P,
) -> Result<Moved, LocalError> {
    let (input, output) = stream.split();
    Ok(both_ways(input, output, peer, ClosedOutput::Discards).await?)
}

async fn connect(service: String) -> io::Result<LocalStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for address in unblock(move || service.to_socket_addrs()).await? {
        match LocalStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_io::block_on;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::thread;

    /// A peer that sends `says`, then ends, and whose ears are the returned stream.
    fn peer(says: &[u8]) -> (LocalStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut theirs = listener.accept().unwrap().0;
        theirs.write_all(says).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        (LocalStream::new(ours).unwrap(), theirs)
    }

    fn heard(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_command_speaks_with_the_peer_and_knows_who_it_is() {
        let (ours, theirs) = peer(b"hello\n");
        let variables = [("NTCP_PEER", "192.0.2.1:5".to_owned())];
        let line = "tr a-z A-Z; echo $NTCP_PEER; exit 3";
        let (moved, status) = block_on(command(line, &variables, ours)).unwrap();
        assert_eq!(heard(theirs), "HELLO\n192.0.2.1:5\n");
        assert_eq!(moved, Moved { sent: 18, received: 6 });
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn a_command_that_reads_nothing_still_answers() {
        let (ours, theirs) = peer(&[b'x'; 500_000]);
        let (moved, status) = block_on(command("echo no", &[], ours)).unwrap();
        assert_eq!(heard(theirs), "no\n");
        assert_eq!(moved.received, 500_000);
        assert!(status.success());
    }

    #[test]
    fn a_service_is_reached_by_host_and_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::from(listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let question = heard(stream.try_clone().unwrap());
            write!(stream, "{question}!").unwrap();
        });
        let (ours, theirs) = peer(b"well");
        block_on(service(&endpoint, ours)).unwrap();
        assert_eq!(heard(theirs), "well!");
        server.join().unwrap();
    }

    #[test]
    fn a_service_that_is_not_there_is_named() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (ours, _theirs) = peer(b"");
        let error = block_on(service(&Endpoint::from(closed), ours)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot connect to {closed}:")), "{error}");
    }
}
