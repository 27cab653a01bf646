//! Where to listen, and what bounds the TCP side.

use std::net::SocketAddr;
use std::time::Duration;

/// Where a server listens, over UDP and TCP alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The primary addresses: at most one for each address family, at least one. An unspecified IP means every
    /// address of the host; port 0 a free one. Default: `0.0.0.0:3478` and `[::]:3478`.
    pub listen: Vec<SocketAddr>,
    /// The alternate addresses of RFC 5780, at most one for each family, each with another IP and another port than
    /// the primary one of its family. Default: none.
    pub alternate: Vec<SocketAddr>,
    /// What bounds TCP connections.
    pub limits: Limits,
}

impl Config {
    /// A server at these addresses, with no alternate ones.
    pub fn new(listen: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            listen: listen.into_iter().collect(),
            alternate: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// The same with these alternate addresses.
    #[must_use]
    pub fn with_alternate(mut self, alternate: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.alternate = alternate.into_iter().collect();
        self
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::from(&ntcp_settings::Stun::default())
    }
}

impl From<&ntcp_settings::Stun> for Config {
    fn from(section: &ntcp_settings::Stun) -> Self {
        Self::new(section.listen.iter().copied()).with_alternate(section.alternate.iter().copied())
    }
}

/// What bounds TCP connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many may be open at once; one more is accepted and closed at once. Default: 8192.
    ///
    /// A peer keeps the connection that told it its mapping, so this is about the number of peers.
    pub max_connections: usize,
    /// How long a new connection may take to send its first whole message. Default: 15 s.
    pub first_message: Duration,
    /// How long a connection may go without a whole message after that. Default: 150 s; a peer that holds its
    /// mapping sends a request every 25 s, and half a message counts for nothing.
    pub idle: Duration,
    /// How long a client may take to make room for a reply. Until it does nothing more is read from it. Default: 10 s.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            first_message: Duration::from_secs(15),
            idle: Duration::from_secs(150),
            write: Duration::from_secs(10),
        }
    }
}
