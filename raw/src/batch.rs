//! Many datagrams a system call: `recvmmsg` and `sendmmsg`, with the address each was sent to.
//!
//! A [`Receiver`] takes up to as many datagrams as it has places for; a [`Sender`] collects datagrams, each
//! with its own destination and, where a socket is bound to no address, its own source, and sends them
//! together. Both allocate when they are made and never again. Elsewhere than on Linux they work datagram
//! by datagram, and nobody tells where a datagram was sent to.
//!
//! Why not a crate: quinn-udp sends one destination a call, and nix' `sendmmsg` gives all datagrams the same
//! control messages and allocates for each call, while a server answers everybody from the address that
//! was asked.
//!
//! ```
//! use ntcp_raw::batch::{Destination, Receiver, Sender};
//! use std::net::UdpSocket;
//!
//! let (server, client) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
//! client.send_to(b"ping", server.local_addr()?)?;
//!
//! let (mut receiver, mut sender) = (Receiver::new(64), Sender::new(64));
//! for index in 0..receiver.receive(&server)? {
//!     let datagram = receiver.datagram(index).expect("received");
//!     assert_eq!(datagram.destination, Destination::Untold);
//!     let room = sender.room(datagram.bytes.len()).expect("64 fit");
//!     room[..datagram.bytes.len()].copy_from_slice(datagram.bytes);
//!     sender.push(datagram.bytes.len(), datagram.source, None);
//! }
//! assert_eq!(sender.flush(&server).sent, 1);
//! assert_eq!(client.recv(&mut [0; 9])?, 4);
//! # Ok::<(), std::io::Error>(())
//! ```

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod portable;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use portable as system;

pub use system::{Receiver, Sender, tell_destinations};

use std::net::{IpAddr, SocketAddr};

/// The longest datagram there is: what 16 bits of length can say.
pub const MAX_DATAGRAM: usize = 65_535;

/// A datagram that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// What it carries.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub source: SocketAddr,
    /// Where it was sent to.
    pub destination: Destination,
}

/// Where a datagram was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nobody said: the socket was not asked by [`tell_destinations`].
    Untold,
    /// To one of this host's addresses.
    Own {
        /// The address.
        ip: IpAddr,
        /// The interface of a link-local IPv6 address, else 0.
        scope: u32,
    },
    /// To many hosts: a broadcast or multicast address.
    Many,
}

/// What became of the datagrams of a [`Sender`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Handed to the kernel.
    pub sent: usize,
    /// Refused by it: no room, or no route.
    pub lost: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::net::UdpSocket;

    fn pair(ip: &str) -> Option<(UdpSocket, UdpSocket)> {
        let bind = || UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0));
        Some((bind().ok()?, bind().ok()?))
    }

    #[test]
    fn datagrams_of_any_length_come_in_their_order() {
        for ip in ["127.0.0.1", "::1"] {
            let Some((server, client)) = pair(ip) else { continue };
            let lengths = [0, 1, 20, 1472, 9000, 60_000];
            for length in lengths {
                client.send_to(&vec![7; length], server.local_addr().unwrap()).unwrap();
            }
            let (mut receiver, mut found) = (Receiver::new(4), Vec::new());
            while found.len() < lengths.len() {
                let count = receiver.receive(&server).unwrap();
                for index in 0..count {
                    let datagram = receiver.datagram(index).unwrap();
                    assert_eq!(datagram.source, client.local_addr().unwrap());
                    assert!(datagram.bytes.iter().all(|byte| *byte == 7));
                    found.push(datagram.bytes.len());
                }
                assert_eq!(receiver.datagram(count), None);
            }
            assert_eq!(found, lengths);
        }
    }

    #[test]
    fn nothing_there_would_block() {
        let (server, _client) = pair("127.0.0.1").unwrap();
        server.set_nonblocking(true).unwrap();
        let error = Receiver::new(2).receive(&server).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn each_datagram_has_its_own_destination() {
        let (server, one) = pair("127.0.0.1").unwrap();
        let (_, other) = pair("127.0.0.1").unwrap();
        let mut sender = Sender::new(8);
        for (socket, text) in [(&one, "first"), (&other, "second"), (&one, "third")] {
            sender.room(text.len()).unwrap()[..text.len()].copy_from_slice(text.as_bytes());
            sender.push(text.len(), socket.local_addr().unwrap(), None);
        }
        assert_eq!(sender.flush(&server), Flushed { sent: 3, lost: 0 });
        assert_eq!(sender.flush(&server), Flushed::default(), "once only");
        let receive = |socket: &UdpSocket| {
            let mut buffer = [0; 16];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(from, server.local_addr().unwrap());
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!([receive(&one), receive(&other), receive(&one)], ["first", "second", "third"]);
    }

    #[test]
    fn a_refused_datagram_does_not_keep_the_others() {
        let (server, client) = pair("127.0.0.1").unwrap();
        let mut sender = Sender::new(8);
        let nowhere: SocketAddr = "[::1]:9".parse().unwrap();
        for to in [nowhere, client.local_addr().unwrap(), nowhere, client.local_addr().unwrap()] {
            sender.room(4).unwrap()[..4].copy_from_slice(b"pong");
            sender.push(4, to, None);
        }
        assert_eq!(sender.flush(&server), Flushed { sent: 2, lost: 2 });
        assert_eq!(client.recv(&mut [0; 9]).unwrap(), 4);
    }

    #[test]
    fn a_sender_has_no_more_room_than_it_was_made_with() {
        let mut sender = Sender::new(2);
        assert_eq!(sender.room(MAX_DATAGRAM + 1), None);
        for _ in 0..2 {
            assert!(sender.room(100).is_some());
            sender.push(100, "127.0.0.1:9".parse().unwrap(), None);
        }
        assert_eq!(sender.room(1), None, "two are two");
        let mut sender = Sender::new(64);
        let mut fit = 0;
        while sender.room(MAX_DATAGRAM).is_some() {
            sender.push(MAX_DATAGRAM, "127.0.0.1:9".parse().unwrap(), None);
            fit += 1;
        }
        assert!((1..64).contains(&fit), "{fit} of the longest fit");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_without_an_address_answers_from_the_one_that_was_asked() {
        for (any, asked) in [("0.0.0.0", "127.0.0.7"), ("::", "::1")] {
            let Ok(server) = UdpSocket::bind((any.parse::<IpAddr>().unwrap(), 0)) else { continue };
            tell_destinations(&server).unwrap();
            let port = server.local_addr().unwrap().port();
            let asked = SocketAddr::new(asked.parse().unwrap(), port);
            let client = UdpSocket::bind((any.parse::<IpAddr>().unwrap(), 0)).unwrap();
            if client.send_to(b"?", asked).is_err() {
                continue;
            }
            let mut receiver = Receiver::new(2);
            assert_eq!(receiver.receive(&server).unwrap(), 1);
            let datagram = receiver.datagram(0).unwrap();
            assert_eq!(datagram.destination, Destination::Own { ip: asked.ip(), scope: 0 });
            let mut sender = Sender::new(2);
            sender.room(1).unwrap()[0] = b'!';
            sender.push(1, datagram.source, Some(asked));
            assert_eq!(sender.flush(&server).sent, 1);
            assert_eq!(client.recv_from(&mut [0; 9]).unwrap(), (1, asked));
        }
    }
}
