//! What a server in the simulated internet is: messages in, messages out.
//!
//! The servers' logic lives in the pure crates; a few lines adapt each to this trait. Streams carry
//! STUN-framed messages, as in the whole project.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ntcp_proto::segment::Segment;
use ntcp_proto::{Deadline, IoFailure};
use ntcp_stun::server::Conduct;

pub mod broker;
pub mod stun;

/// Names a stream of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Something arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival<'a> {
    /// A datagram.
    Datagram {
        /// The server's own address it was sent to.
        local: SocketAddr,
        /// Who sent it.
        source: SocketAddr,
        /// The message.
        payload: &'a [u8],
    },
    /// A stream was accepted.
    Opened {
        /// Its name.
        stream: StreamId,
        /// The server's end.
        local: SocketAddr,
        /// The client's end.
        source: SocketAddr,
        /// The SYN that opened it, from the IP header on.
        syn: &'a [u8],
    },
    /// One whole message on a stream.
    Message {
        /// Which.
        stream: StreamId,
        /// The message.
        payload: &'a [u8],
    },
    /// A stream ended.
    Closed {
        /// Which.
        stream: StreamId,
    },
    /// A port was reserved, as asked for by [`Departure::Reserve`].
    Reserved {
        /// Which wish.
        wish: WishId,
        /// The address.
        local: SocketAddr,
    },
    /// A connect ended, as asked for by [`Departure::Connect`].
    Connected {
        /// Which wish.
        wish: WishId,
        /// The stream, or why there is none.
        result: Result<StreamId, IoFailure>,
    },
}

/// Names what a server asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WishId(pub u64);

/// Something to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Departure {
    /// A datagram, from one of the server's own addresses.
    Datagram {
        /// The address to send from; one of those the server was started on.
        local: SocketAddr,
        /// To whom.
        remote: SocketAddr,
        /// The message.
        payload: Vec<u8>,
    },
    /// One message on a stream.
    Message {
        /// Which; an ended one is ignored.
        stream: StreamId,
        /// The message.
        payload: Vec<u8>,
    },
    /// The end of a stream.
    Close {
        /// Which.
        stream: StreamId,
    },
    /// A port that nobody else gets; answered by [`Arrival::Reserved`].
    Reserve {
        /// The wish.
        wish: WishId,
        /// On this address.
        ip: IpAddr,
        /// What it does about SYNs.
        conduct: Conduct,
    },
    /// A connection; answered by [`Arrival::Connected`] unless it is given up before.
    Connect {
        /// The wish.
        wish: WishId,
        /// From there; port 0 is any free one.
        local: SocketAddr,
        /// To there.
        remote: SocketAddr,
        /// With this TTL; `None` is the usual one.
        ttl: Option<u8>,
    },
    /// The end of a reserved port, or of a connect.
    GiveUp {
        /// The wish.
        wish: WishId,
    },
    /// A raw segment with a source of the server's choice: its network does not look at sources.
    Segment {
        /// The segment.
        segment: Segment,
        /// TTL or hop limit.
        ttl: u8,
    },
    /// A raw datagram likewise.
    Forged {
        /// In whose name.
        source: SocketAddr,
        /// To whom.
        remote: SocketAddr,
        /// TTL or hop limit.
        ttl: u8,
        /// The message.
        payload: Vec<u8>,
    },
}

/// A server.
pub trait Server {
    /// Something arrived.
    fn handle_arrival(&mut self, arrival: Arrival<'_>, now: Instant);

    /// The deadline of [`Server::poll_timeout`] has passed.
    fn handle_timeout(&mut self, _now: Instant) {}

    /// The next thing to send.
    fn poll_departure(&mut self) -> Option<Departure>;

    /// When to call [`Server::handle_timeout`].
    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}
