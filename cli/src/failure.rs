//! Why the command ends, and its exit status.

use crate::local::LocalError;
use ntcp::{Error, ErrorKind};
use ntcp_settings::Endpoint;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error as ThisError;

/// Why the command failed. Each message says what, where and what to do.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Failure {
    /// The configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] ntcp_settings::Error),
    /// There is no broker to ask.
    #[error(
        "no broker; write --broker HOST[:PORT], set [hole_punch] broker, or name it in the URI: ntcp://NAME@BROKER"
    )]
    NoBroker,
    /// There is no name to listen under.
    #[error("no name to listen under; write ntcp listen NAME, or set [node] name")]
    NoName,
    /// The node or the call failed.
    #[error(transparent)]
    Node(#[from] Error),
    /// The node could not be started in time.
    #[error(
        "not registered within {0:?}: the broker or the STUN servers are too slow; check the network, or raise [node] deadline"
    )]
    Start(Duration),
    /// The node stopped while it was still needed.
    #[error("the node has stopped; start the command again")]
    Stopped,
    /// The local end failed, or the connection broke.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The local port to forward cannot be had.
    #[error("cannot listen on {address}: {source}; choose another port with --forward")]
    Listen {
        /// The address as it was written.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A spoof check could not be made.
    #[error(
        "no spoof check with {server}: {source}; name an ntcp-stun-server that can be reached over UDP"
    )]
    SpoofCheck {
        /// The server as it was written.
        server: Endpoint,
        /// What the system or the server said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}; choose another file", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system does not tell when the command is asked to end.
    #[error("cannot wait for SIGINT and SIGTERM: {0}; raise the limit of open files")]
    Signals(#[source] io::Error),
    /// No STUN server answered, over UDP or TCP.
    #[error("no STUN server answered, neither over UDP nor over TCP")]
    NothingReachable,
}

impl Failure {
    /// 2 for usage and configuration, 1 for everything else.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Configuration(_) | Self::NoBroker | Self::NoName => 2,
            Self::Node(error) => match error.kind() {
                ErrorKind::Configuration(_) | ErrorKind::Uri(_) | ErrorKind::NoStunServer => 2,
                _ => 1,
            },
            Self::Start(_)
            | Self::Stopped
            | Self::Local(_)
            | Self::Listen { .. }
            | Self::SpoofCheck { .. }
            | Self::Write { .. }
            | Self::Signals(_)
            | Self::NothingReachable => 1,
        }
    }
}
