//! Packets from a socket: `AF_PACKET`, or the helper that holds one.

use std::io;
use std::io::Read;
use std::task::{Context, Poll, ready};

use async_io::Async;
use socket2::{Domain, Socket, Type};

use super::{Captured, Sniffer};
use crate::filter::SynFilter;

/// Longest headers looked at: 60 bytes of IP and 60 of TCP, and then some.
pub(crate) const HEADERS: usize = 256;

/// A sniffer on a socket that gives one packet at a time, from the IP header on.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Async<Socket>,
    filter: SynFilter,
}

/// A capture by the system's own packet socket. Needs `CAP_NET_RAW`.
///
/// # Errors
///
/// As the system reports them: [`io::ErrorKind::PermissionDenied`] without the capability.
pub fn packet_socket(filter: SynFilter) -> io::Result<PacketSocket> {
    Ok(PacketSocket { socket: Async::new_nonblocking(open_packet_socket(filter)?)?, filter })
}

/// A capture that another process carries on and relays to this socket, packet by packet.
///
/// # Errors
///
/// As the system reports them.
pub fn relayed(socket: Socket, filter: SynFilter) -> io::Result<PacketSocket> {
    Ok(PacketSocket { socket: Async::new(socket)?, filter })
}

/// A packet socket on all interfaces that the filter has been put on before it sees anything.
pub(crate) fn open_packet_socket(filter: SynFilter) -> io::Result<Socket> {
    // Without a protocol it receives nothing until it is bound to one.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.attach_filter(&filter.program())?;
    crate::option::bind_to_all_protocols(&socket)?;
    Ok(socket)
}

impl Sniffer for PacketSocket {
    fn poll_syn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Captured>> {
        loop {
            let mut packet = [0; HEADERS];
            match self.socket.get_ref().read(&mut packet) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => {
                    let captured = Captured::parse(&packet[..length]);
                    // What came before the filter was in force, or was never a SYN.
                    match captured.filter(|it| self.filter.matches(&it.segment)) {
                        Some(captured) => return Poll::Ready(Ok(captured)),
                        None => continue,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.socket.poll_readable(context))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
