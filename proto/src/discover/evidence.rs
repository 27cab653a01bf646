//! What a discovery has seen, beside the verdict: which server told what, and what it is worth.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ntcp_stun::behavior::AlternateRefusal;

use crate::candidate::Transport;
use crate::command::IoFailure;
use crate::uri::HostPort;

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// A server's name has no address, or none of a family that this host has.
    Unresolved {
        /// The server, as configured.
        server: HostPort,
        /// Why.
        failure: IoFailure,
    },
    /// A server answered.
    Answered {
        /// The server.
        server: SocketAddr,
        /// Over what.
        transport: Transport,
        /// How long it took.
        rtt: Duration,
    },
    /// A server did not answer.
    Silent {
        /// The server.
        server: SocketAddr,
        /// Over what.
        transport: Transport,
    },
    /// A server could not be asked, or refused a connection.
    Failed {
        /// The server.
        server: SocketAddr,
        /// Over what.
        transport: Transport,
        /// Why.
        failure: IoFailure,
    },
    /// A server answered a Binding request with an error.
    Refused {
        /// The server.
        server: SocketAddr,
        /// Its error code.
        code: u16,
    },
    /// No UDP socket could be had, or nothing be sent.
    NoSocket {
        /// Why.
        failure: IoFailure,
    },
    /// A server has one address only and cannot tell about filtering.
    SingleAddress {
        /// The server.
        server: SocketAddr,
    },
    /// A server announced another address that would prove nothing.
    IncredibleAlternate {
        /// The server.
        server: SocketAddr,
        /// What it announced.
        other: SocketAddr,
        /// What is wrong with it.
        refusal: AlternateRefusal,
    },
    /// A server announced another address, which did not answer.
    SilentAlternate {
        /// The server.
        server: SocketAddr,
        /// What it announced.
        other: SocketAddr,
    },
    /// A server was asked to answer from elsewhere and answered from here.
    AnsweredFromElsewhere {
        /// The server.
        server: SocketAddr,
        /// Where the answer came from.
        source: SocketAddr,
    },
    /// A server was asked to answer from elsewhere and refused.
    ChangeRefused {
        /// The server.
        server: SocketAddr,
        /// Its error code.
        code: u16,
    },
    /// A server was asked to answer from elsewhere and never did, not even where nothing filters.
    ChangeIgnored {
        /// The server.
        server: SocketAddr,
    },
    /// A server stopped answering in the middle of a test.
    FellSilent {
        /// The server.
        server: SocketAddr,
    },
    /// A destination saw another address than most.
    Outvoted {
        /// Over what.
        transport: Transport,
        /// The destination.
        server: SocketAddr,
        /// What it saw.
        mapped: SocketAddr,
    },
    /// Something on the path rewrites addresses in payloads.
    PayloadRewritten,
    /// The time for the discovery was over before all tests were.
    OutOfTime,
}

/// The name of a transport as people write it.
pub(super) fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolved { server, failure } => write!(f, "{server}: {failure}"),
            Self::Answered { server, transport, rtt } => {
                let milliseconds = rtt.as_secs_f64() * 1000.0;
                let transport = name(*transport);
                write!(f, "{server} answered over {transport} after {milliseconds:.1} ms")
            }
            Self::Silent { server, transport } => {
                write!(f, "{server} did not answer over {}", name(*transport))
            }
            Self::Failed { server, transport, failure } => {
                write!(f, "{server} over {}: {failure}", name(*transport))
            }
            Self::Refused { server, code } => {
                write!(f, "{server} answered a plain request with error {code}")
            }
            Self::NoSocket { failure } => write!(f, "UDP could not be used: {failure}"),
            Self::SingleAddress { server } => {
                write!(f, "{server} has one address only: it cannot tell about filtering")
            }
            Self::IncredibleAlternate { server, other, refusal } => {
                write!(f, "{server} announces {other} as its other address, but {refusal}")
            }
            Self::SilentAlternate { server, other } => {
                write!(f, "{server} announces {other} as its other address, which is silent")
            }
            Self::AnsweredFromElsewhere { server, source } => write!(
                f,
                "{server} answers CHANGE-REQUEST from {source}: it cannot tell about filtering"
            ),
            Self::ChangeRefused { server, code } => write!(
                f,
                "{server} refuses CHANGE-REQUEST with error {code}: it cannot tell about filtering"
            ),
            Self::ChangeIgnored { server } => {
                write!(f, "{server} ignores CHANGE-REQUEST: it cannot tell about filtering")
            }
            Self::FellSilent { server } => {
                write!(f, "{server} stopped answering in the middle of a test")
            }
            Self::Outvoted { transport, server, mapped } => {
                write!(f, "{server} saw {mapped} over {}, unlike most", name(*transport))
            }
            Self::PayloadRewritten => {
                f.write_str("something on the path rewrites addresses inside packets (an ALG)")
            }
            Self::OutOfTime => f.write_str("time was over before all tests were"),
        }
    }
}
