//! What a client has to know, and its patience.

use std::time::Duration;

use crate::access::Credentials;
use crate::secrecy::{PublicKey, SecretKey};
use crate::signal::Fingerprint;
use crate::uri::{HostPort, PeerName};

/// Port of the UDP broker when none is given.
pub const DEFAULT_UDP_PORT: u16 = 6060;
/// Port of the TCP broker when none is given.
pub const DEFAULT_TCP_PORT: u16 = 9999;

/// How a peer speaks to its broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secrecy {
    /// In the clear: whoever reads along can act as this peer. Has to be asked for on both sides.
    Plain,
    /// Sealed, after a handshake with its key.
    Sealed {
        /// Who this peer is; its name is bound to it.
        identity: SecretKey,
        /// Whom it takes for its broker.
        trust: Trust,
    },
}

/// Whom a peer takes for its broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The owner of whichever key is shown, which is told ([`Event::Registered`](super::Event)).
    FirstUse,
    /// The owner of one of these keys, at least one.
    Pinned(Vec<PublicKey>),
}

/// Who the broker turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerIdentity {
    /// Nobody knows: it is spoken to in the clear.
    Unknown,
    /// The owner of a key.
    Proven {
        /// The key.
        key: PublicKey,
        /// The key to be pinned from now on: another one while the broker changes keys.
        newest: PublicKey,
        /// Whether the key was pinned; otherwise it was believed.
        pinned: bool,
    },
}

/// Whom to register as, where, and how long to wait for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name to be found by; `None` registers a caller whom nobody can call.
    pub name: Option<PeerName>,
    /// The broker over UDP; its port defaults to [`DEFAULT_UDP_PORT`]. `None` uses TCP alone.
    pub udp_broker: Option<HostPort>,
    /// The broker over TCP; its port defaults to [`DEFAULT_TCP_PORT`]. `None` uses UDP alone.
    pub tcp_broker: Option<HostPort>,
    /// The certificate that peers will see.
    pub fingerprint: Fingerprint,
    /// How long the broker shall remember us after the last refresh; it may shorten it. Default
    /// 60 s.
    pub lease: Duration,
    /// Between two refreshes; also keeps the NAT's mapping open. Default 20 s, capped at a third of
    /// the granted lease.
    pub refresh: Duration,
    /// How long UDP may stay silent before TCP is tried beside it. Default 300 ms.
    pub udp_silence: Duration,
    /// How long one attempt to register may take on all links together. Default 5 s.
    pub registration_timeout: Duration,
    /// How long a name that somebody else holds is asked for again: a dead holder is found out by
    /// then. Default 3 s.
    pub name_taken_grace: Duration,
    /// How long a peer that is not registered is waited for, since two peers rarely start at one
    /// moment. Default 2 s.
    pub connect_grace: Duration,
    /// How long a call may take from [`connect`](super::Client::connect) to the broker's answer,
    /// registration included. Default 8 s.
    pub connect_timeout: Duration,
    /// Whether the broker may test with us what its network lets out: one datagram to us in another
    /// consenting peer's name, and the reverse. Default `false`.
    pub consents: bool,
    /// Whether the broker may have us send packets in others' names, where those agreed: only for a
    /// host without a NAT that may send raw packets. Default `false`.
    pub offers_to_forge: bool,
    /// Whether TCP paths are to be the kernel's bare socket. Default `false`.
    pub bare: bool,
    /// How the broker is spoken to.
    pub secrecy: Secrecy,
    /// What is shown to a broker that is closed to outsiders. Default none.
    pub credentials: Option<Credentials>,
}

impl Config {
    /// The defaults, for a peer with this certificate and no broker yet.
    pub fn new(fingerprint: Fingerprint, secrecy: Secrecy) -> Self {
        Self {
            secrecy,
            name: None,
            udp_broker: None,
            tcp_broker: None,
            fingerprint,
            lease: Duration::from_secs(60),
            refresh: Duration::from_secs(20),
            udp_silence: Duration::from_millis(300),
            registration_timeout: Duration::from_secs(5),
            name_taken_grace: Duration::from_secs(3),
            connect_grace: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(8),
            consents: false,
            offers_to_forge: false,
            bare: false,
            credentials: None,
        }
    }
}
