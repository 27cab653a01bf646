//! Why something did not work, with what it was about.

use std::net::SocketAddr;
use std::time::Duration;

use crate::access::AccessDenied;
use crate::command::IoFailure;
use crate::secrecy::PublicKey;
use crate::signal::ErrorCode;
use crate::uri::{HostPort, PeerName};

/// Over what the broker is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// Datagrams on a socket of the owner.
    Udp,
    /// A stream of the client's own.
    Tcp,
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// What happened on one link of an attempt that failed on all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The broker's name has no address.
    #[error("{link} broker {broker} has no address ({reason}): check the name, or your DNS")]
    Unresolved {
        /// The link.
        link: Link,
        /// The broker as configured.
        broker: HostPort,
        /// What the resolver said.
        reason: IoFailure,
    },
    /// The broker's name has addresses, but none that the UDP socket can send to.
    #[error("{link} broker {broker} has no address of a family that this host has")]
    NoCommonFamily {
        /// The link.
        link: Link,
        /// The broker as configured.
        broker: HostPort,
    },
    /// Nothing came back.
    #[error(
        "{link} broker {broker} at {remote} did not answer within {waited:?}: is it running, and does a firewall let {link} through?"
    )]
    Silent {
        /// The link.
        link: Link,
        /// The broker as configured.
        broker: HostPort,
        /// The address asked (the first of several).
        remote: SocketAddr,
        /// How long it was asked.
        waited: Duration,
    },
    /// The system or the network refused.
    #[error("{link} broker {broker} at {remote}: {reason}")]
    Failed {
        /// The link.
        link: Link,
        /// The broker as configured.
        broker: HostPort,
        /// The address asked.
        remote: SocketAddr,
        /// Why.
        reason: IoFailure,
    },
}

/// Why there is no registration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// Neither broker is configured.
    #[error(
        "no broker is configured: name one with --broker HOST[:PORT] or --tcp-broker HOST[:PORT]"
    )]
    NoBroker,
    /// No link reached the broker.
    #[error("no broker reached: {}", join(.0))]
    Unreachable(
        /// What happened on each link.
        Vec<LinkError>,
    ),
    /// Somebody else is alive under that name.
    #[error(
        "the name `{name}` is taken at broker {broker}: choose another with --name, or stop the program that holds it"
    )]
    NameTaken {
        /// The name.
        name: PeerName,
        /// The broker that says so.
        broker: SocketAddr,
    },
    /// The broker speaks another version.
    #[error(
        "broker {broker} speaks version {theirs} of the signalling protocol, this program {ours}: update the older one"
    )]
    Version {
        /// The broker.
        broker: SocketAddr,
        /// Its version.
        theirs: u8,
        /// Ours.
        ours: u8,
    },
    /// The broker is not the one that was pinned, or somebody stands in between.
    #[error(
        "broker {broker} is not the one that was pinned: it {}. Either its operator has changed the key, who must be asked for it, or somebody stands in between",
        shown_key(.shown)
    )]
    BrokerKey {
        /// The broker.
        broker: SocketAddr,
        /// The key that it shows, if any.
        shown: Option<PublicKey>,
    },
    /// The broker speaks to nobody in the clear.
    #[error(
        "broker {broker} speaks to nobody in the clear: take `plain` out of this peer's configuration"
    )]
    SecrecyRequired {
        /// The broker.
        broker: SocketAddr,
    },
    /// The name is for somebody else.
    #[error(
        "broker {broker} lets only known keys use this name: ask its operator to enter this peer's key {key}"
    )]
    NotAllowed {
        /// The broker.
        broker: SocketAddr,
        /// This peer's key.
        key: PublicKey,
    },
    /// The broker is closed to outsiders.
    #[error(
        "broker {broker} does not let this peer in: {reason}. Ask its operator for a token (--token) or an account (--user)"
    )]
    Access {
        /// The broker.
        broker: SocketAddr,
        /// Its reason.
        reason: AccessDenied,
    },
    /// The broker refused for another reason.
    #[error("broker {broker} refused the registration: {code}")]
    Refused {
        /// The broker.
        broker: SocketAddr,
        /// Its reason.
        code: ErrorCode,
    },
}

impl RegistrationError {
    /// Whether trying again cannot help until somebody changes something.
    pub fn is_final(&self) -> bool {
        match self {
            Self::NoBroker
            | Self::NameTaken { .. }
            | Self::Version { .. }
            | Self::BrokerKey { .. }
            | Self::SecrecyRequired { .. }
            | Self::Access { .. }
            | Self::NotAllowed { .. } => true,
            Self::Unreachable(_) | Self::Refused { .. } => false,
        }
    }
}

/// Why a registration that stood is gone; it is being made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// The broker does not know it any more: it was restarted, or the lease ran out.
    #[error("the broker does not know the registration any more")]
    Unknown,
    /// The broker does not answer any more.
    #[error("the broker has not answered for {0:?}")]
    Silent(
        /// How long.
        Duration,
    ),
    /// The broker stops, and has said so.
    #[error("the broker stops")]
    Dismissed,
    /// The TCP link broke.
    #[error("the TCP link to the broker broke: {0}")]
    LinkBroke(
        /// How.
        IoFailure,
    ),
}

/// Why a call got no answer from the broker that helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no registration to call from.
    #[error(transparent)]
    Registration(
        /// Why not.
        #[from]
        RegistrationError,
    ),
    /// Nobody came up under that name.
    #[error(
        "no peer `{name}` is registered at broker {broker} (waited {waited:?}): is it running, with that name and at that broker?"
    )]
    UnknownPeer {
        /// The name.
        name: PeerName,
        /// The broker asked.
        broker: SocketAddr,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The peer was asked for fresh candidates and did not give any.
    #[error("peer `{name}` did not answer the invitation of broker {broker} in time")]
    NoAnswer {
        /// The name.
        name: PeerName,
        /// The broker.
        broker: SocketAddr,
    },
    /// The peer does not want to be called now.
    #[error("peer `{name}` declined the call")]
    Declined {
        /// The name.
        name: PeerName,
    },
    /// The broker refused for another reason.
    #[error("broker {broker} refused the call to `{name}`: {code}")]
    Refused {
        /// The name.
        name: PeerName,
        /// The broker.
        broker: SocketAddr,
        /// Its reason.
        code: ErrorCode,
    },
    /// The broker, which knows us, did not answer the call.
    #[error("broker {broker} did not answer the call to `{name}` within {waited:?}")]
    BrokerSilent {
        /// The name.
        name: PeerName,
        /// The broker.
        broker: SocketAddr,
        /// How long it was asked.
        waited: Duration,
    },
    /// The registration did not come about in time.
    #[error(
        "not registered at any broker after {waited:?}: the call to `{name}` could not be made"
    )]
    NotRegistered {
        /// The name.
        name: PeerName,
        /// How long the call waited.
        waited: Duration,
    },
    /// The client was not started, or it was told to unregister.
    #[error("the signalling client is not running")]
    NotRunning,
    /// More calls at once than [`MAX_CALLS`](super::MAX_CALLS).
    #[error("{limit} calls are under way already")]
    TooManyCalls {
        /// The limit.
        limit: usize,
    },
}

fn shown_key(shown: &Option<PublicKey>) -> String {
    shown.map_or_else(|| "shows no key".to_owned(), |key| format!("shows the key {key}"))
}

fn join(errors: &[LinkError]) -> String {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
