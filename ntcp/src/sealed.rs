//! A TCP path on which nobody else reads or writes.
//!
//! The caller begins a Noise handshake (`ntcp_proto::secrecy`) right behind the greeting with which it chooses the stream, one
//! one-way delay before the peer's greeting proves that it is the path; both sides know each other's keys by then. After it both send records:
//!
//! ```text
//!  0                   1
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
//! +-------------------------------+
//! |  length of what follows       |
//! +-------------------------------+
//! |  sealed bytes, and a tag of 16 …
//! +-------------------------------+
//! ```
//!
//! An empty record says that the sender's direction has ended. A stream that ends without one was cut
//! off, and that is an error.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::Async;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use ntcp_proto::entropy::Seed;
use ntcp_proto::secrecy::{Channel, Initiation, OVERHEAD, PublicKey, Reception, SecretKey};
use ntcp_proto::signal::{Role, SessionSecret};

/// What both sides have in common besides the secret of their meeting.
const PURPOSE: &[u8] = b"ntcp path 1";
/// Most bytes of the application in one record.
const MAX_RECORD: usize = 16 << 10;
/// Longest record on the wire; a longer one is an error.
const MAX_SEALED: usize = MAX_RECORD + OVERHEAD;
/// Longest message of a handshake with nothing in it.
const MAX_HANDSHAKE: usize = 96;

/// One end of a sealed path.
pub(crate) struct Sealed {
    stream: Async<TcpStream>,
    channel: Channel,
    /// Sealed and not yet sent, from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
    ending: Ending,
    incoming: Incoming,
    /// Records opened so far: the counter of the next one.
    opened: u64,
}

/// How far our direction is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    /// The empty record is sealed.
    Said,
    Shut,
}

/// What of a record has arrived.
enum Incoming {
    /// These bytes of it, the length in front.
    Partly { bytes: Vec<u8>, filled: usize },
    /// It is open, and read up to here.
    Open { bytes: Vec<u8>, read: usize },
    /// The peer's direction has ended.
    Ended,
}

impl Incoming {
    fn nothing() -> Self {
        Self::Partly { bytes: vec![0; 2 + MAX_SEALED], filled: 0 }
    }
}

/// Begins a handshake with the owner of `peer`, as a caller does: what to send, and what is to be finished.
pub(crate) fn begin(
    (identity, peer): (&SecretKey, PublicKey),
    secret: &SessionSecret,
    seed: Seed,
) -> (Vec<u8>, Initiation) {
    let (initiation, first) = Initiation::begin(identity, &peer, &prologue(secret), &[], seed);
    (framed(&first), initiation)
}

fn prologue(secret: &SessionSecret) -> Vec<u8> {
    [PURPOSE, &secret.0].concat()
}

/// Shakes hands on a path, with the owner of `peer` only. A caller may have begun there already ([`begin`]).
///
/// # Errors
///
/// Why not, for people.
pub(crate) async fn shake(
    mut stream: Async<TcpStream>,
    (role, begun): (Role, Option<Initiation>),
    (identity, peer): (&SecretKey, PublicKey),
    secret: &SessionSecret,
    seed: Seed,
) -> Result<Sealed, String> {
    let text = |error: io::Error| error.to_string();
    let wrong = |_| "it is not the peer whose key was announced".to_owned();
    let channel = match role {
        Role::Controlling => {
            let mut initiation = match begun {
                Some(initiation) => initiation,
                None => {
                    let (first, initiation) = begin((identity, peer), secret, seed);
                    stream.write_all(&first).await.map_err(text)?;
                    initiation
                }
            };
            let second = receive(&mut stream).await.map_err(text)?;
            initiation.finish(&second).map_err(wrong)?.1
        }
        Role::Controlled => {
            let first = receive(&mut stream).await.map_err(text)?;
            let reception =
                Reception::read(identity, &prologue(secret), &first, seed).map_err(wrong)?;
            if reception.remote() != peer {
                return Err(wrong(ntcp_proto::secrecy::Broken));
            }
            let (second, channel) = reception.answer(&[]);
            send(&mut stream, &second).await.map_err(text)?;
            channel
        }
    };
    Ok(Sealed {
        stream,
        channel,
        outgoing: Vec::new(),
        sent: 0,
        ending: Ending::Open,
        incoming: Incoming::nothing(),
        opened: 0,
    })
}

async fn send(stream: &mut Async<TcpStream>, message: &[u8]) -> io::Result<()> {
    stream.write_all(&framed(message)).await
}

async fn receive(stream: &mut Async<TcpStream>) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > MAX_HANDSHAKE {
        return Err(damaged("it does not shake hands: it may want the path without encryption"));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// A message with its length in front.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), message].concat()
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Sealed {
    /// The kernel's socket, for questions about the path.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    fn seal(&mut self, bytes: &[u8]) {
        let mut record = bytes.to_vec();
        // The counters of a stream need not be said.
        self.channel.seal(&[], &mut record);
        self.outgoing = framed(&record);
        self.sent = 0;
    }

    /// Sends what is sealed.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            let rest = &self.outgoing[self.sent..];
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until something of the peer's is open, or its direction has ended.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Incoming::Partly { bytes, filled } = &mut self.incoming else {
                return Poll::Ready(Ok(()));
            };
            let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
            let wanted = if *filled < 2 { 2 } else { 2 + length };
            if *filled >= 2 && !(OVERHEAD..=MAX_SEALED).contains(&length) {
                return Poll::Ready(Err(damaged("not a record of a sealed path")));
            }
            if *filled < wanted {
                let rest = &mut bytes[*filled..wanted];
                let read = ready!(Pin::new(&mut self.stream).poll_read(context, rest))?;
                if read == 0 {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                *filled += read;
                continue;
            }
            let opened = self.channel.open(self.opened, &[], &bytes[2..wanted]);
            let record = opened.map_err(|_| damaged("a record was changed on its way"))?;
            self.opened += 1;
            self.incoming = match record.is_empty() {
                true => Incoming::Ended,
                false => Incoming::Open { bytes: record, read: 0 },
            };
        }
    }
}

impl AsyncRead for Sealed {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_open(context))?;
        let Incoming::Open { bytes, read } = &mut this.incoming else {
            return Poll::Ready(Ok(0));
        };
        let length = buffer.len().min(bytes.len() - *read);
        buffer[..length].copy_from_slice(&bytes[*read..*read + length]);
        *read += length;
        if *read == bytes.len() {
            this.incoming = Incoming::nothing();
        }
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Sealed {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ending != Ending::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_drain(context))?;
        let taken = &bytes[..bytes.len().min(MAX_RECORD)];
        if taken.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.seal(taken);
        // It is taken: whether the system takes it too at once makes no difference, but an error does.
        match this.poll_drain(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_drain(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(context))?;
        if this.ending == Ending::Open {
            this.seal(&[]);
            this.ending = Ending::Said;
            ready!(this.poll_drain(context))?;
        }
        if this.ending == Ending::Said {
            this.ending = Ending::Shut;
            return Poll::Ready(match this.stream.get_ref().shutdown(Shutdown::Write) {
                // The peer was quicker: our direction has ended all the same.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                ended => ended,
            });
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
