//! Where a broker listens, and its limits.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::directory::DirectoryAddress;
use ntcp_proto::rendezvous::Config;
use ntcp_settings::{BROKER_PORT, TCP_BROKER_PORT};

/// Where a broker listens, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// UDP addresses; empty serves no UDP. Default: every address, port 6060.
    pub udp: Vec<SocketAddr>,
    /// TCP addresses; empty serves no TCP. Default: every address, port 9999.
    pub tcp: Vec<SocketAddr>,
    /// The limits of the protocol.
    pub limits: Config,
    /// Streams open at once; a further one is closed as soon as it is accepted. A peer keeps two or three, on which the
    /// mappings of its ports live. Default 131,072.
    pub max_streams: usize,
    /// Of those, from one IPv4 address or one IPv6 /64. Default 1024, four for each peer that may be registered from there.
    pub max_streams_per_address: usize,
    /// Bytes that a peer may leave unread on its stream before it is closed. Default 64 KiB, about
    /// a hundred messages.
    pub max_unread: usize,
    /// How long a stream may stay without its first message. Default 10 s.
    pub first_message: Duration,
    /// How long a stream may stay without a further message. Default 310 s, a little more than the
    /// longest lease.
    pub next_message: Duration,
    /// The directory that is shared with other brokers. Default none: this one is alone.
    pub directory: Option<DirectoryAddress>,
    /// How long it may take to let its peers go when it is told to stop. Default 5 s.
    pub drain: Duration,
}

impl Options {
    /// With as many streams as the peers keep that may be registered: two each, and four of one address.
    #[must_use]
    pub fn with_room_for_streams(self) -> Self {
        let (max_streams, max_streams_per_address) = streams_of(&self.limits);
        Self { max_streams, max_streams_per_address, ..self }
    }
}

/// In all, and of one address.
fn streams_of(limits: &Config) -> (usize, usize) {
    let Config { max_registrations, max_registrations_per_address, .. } = limits;
    (max_registrations.saturating_mul(2), max_registrations_per_address.saturating_mul(4))
}

impl Default for Options {
    fn default() -> Self {
        let everywhere = |port| {
            vec![
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            ]
        };
        let limits = Config::default();
        let (max_streams, max_streams_per_address) = streams_of(&limits);
        Self {
            udp: everywhere(BROKER_PORT),
            tcp: everywhere(TCP_BROKER_PORT),
            limits,
            max_streams,
            max_streams_per_address,
            max_unread: 64 << 10,
            first_message: Duration::from_secs(10),
            next_message: Duration::from_secs(310),
            directory: None,
            drain: Duration::from_secs(5),
        }
    }
}
