//! The same, datagram by datagram, with the standard library.

use super::{Datagram, Destination, Flushed, MAX_DATAGRAM};
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// Nobody tells.
///
/// # Errors
///
/// None.
pub fn tell_destinations(_: &UdpSocket) -> io::Result<()> {
    Ok(())
}

/// A place for a datagram that arrives.
#[derive(Debug)]
pub struct Receiver {
    bytes: Vec<u8>,
    received: Option<(usize, SocketAddr)>,
}

impl Receiver {
    /// A place for one datagram, whatever `count` asks for.
    pub fn new(_count: usize) -> Self {
        Self { bytes: vec![0; MAX_DATAGRAM], received: None }
    }

    /// Takes one datagram, waiting for it unless the socket does not block.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received = None;
        self.received = Some(socket.recv_from(&mut self.bytes)?);
        Ok(1)
    }

    /// The datagram of the last call to [`Receiver::receive`].
    pub fn datagram(&self, index: usize) -> Option<Datagram<'_>> {
        let (length, source) = self.received.filter(|_| index == 0)?;
        let bytes = &self.bytes[..length];
        Some(Datagram { bytes, source, destination: Destination::Untold })
    }
}

/// Datagrams that wait to be sent.
#[derive(Debug)]
pub struct Sender {
    arena: Vec<u8>,
    used: usize,
    count: usize,
    waiting: Vec<(usize, usize, SocketAddr)>,
}

impl Sender {
    /// A sender of up to `count` datagrams a call, of 128 KiB together.
    pub fn new(count: usize) -> Self {
        let arena = vec![0; 2 * (MAX_DATAGRAM + 1)];
        Self { arena, used: 0, count, waiting: Vec::with_capacity(count) }
    }

    /// At least `length` bytes for the next datagram; `None` if those that wait must be sent first, or if it is longer
    /// than a datagram can be.
    pub fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        let room = self.arena.get_mut(self.used..)?;
        let fits = length <= room.len().min(MAX_DATAGRAM) && self.waiting.len() < self.count;
        fits.then_some(room)
    }

    /// Adds the first `length` bytes of [`Sender::room`] as a datagram to `to`; `from` is not heeded here.
    ///
    /// # Panics
    ///
    /// If there was no such room.
    pub fn push(&mut self, length: usize, to: SocketAddr, _from: Option<SocketAddr>) {
        assert!(self.room(length).is_some(), "no room for a datagram of {length} bytes");
        self.waiting.push((self.used, length, to));
        self.used += length;
    }

    /// Sends all that wait. One that the system refuses is lost, the others go on; nothing waits afterwards.
    pub fn flush(&mut self, socket: &UdpSocket) -> Flushed {
        let mut flushed = Flushed::default();
        for (start, length, to) in self.waiting.drain(..) {
            match socket.send_to(&self.arena[start..start + length], to) {
                Ok(_) => flushed.sent += 1,
                Err(_) => flushed.lost += 1,
            }
        }
        self.used = 0;
        flushed
    }
}
