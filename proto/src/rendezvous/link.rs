//! How a peer is reached.

use std::net::{IpAddr, SocketAddr};

/// Names one TCP connection; unique within the life of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// Datagrams.
    Udp {
        /// The address of ours that was asked, and that has to answer; `None` leaves it to the
        /// system.
        local: Option<IpAddr>,
        /// The peer's address, as we see it.
        remote: SocketAddr,
    },
    /// A stream.
    Tcp {
        /// Which.
        stream: StreamId,
        /// The peer's address, as we see it.
        remote: SocketAddr,
    },
}

impl Link {
    /// The peer's address, as we see it.
    pub fn remote(&self) -> SocketAddr {
        match self {
            Self::Udp { remote, .. } | Self::Tcp { remote, .. } => *remote,
        }
    }
}
