//! How a peer is reached.

use std::net::{IpAddr, SocketAddr};

use super::cluster::BrokerId;
use crate::signal::RegistrationId;

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
    /// Letters to another broker of the cluster, whose peer it is.
    Broker {
        /// Which broker.
        broker: BrokerId,
        /// The peer's registration there.
        peer: RegistrationId,
        /// The peer's address, as that broker sees it.
        remote: SocketAddr,
    },
}

impl Link {
    /// The peer's address, as we see it.
    pub fn remote(&self) -> SocketAddr {
        match self {
            Self::Udp { remote, .. } | Self::Tcp { remote, .. } | Self::Broker { remote, .. } => {
                *remote
            }
        }
    }

    /// Whether the peer is another broker's.
    pub fn is_broker(&self) -> bool {
        matches!(self, Self::Broker { .. })
    }
}
