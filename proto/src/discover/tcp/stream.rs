//! One connection of the TCP survey.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;
use ntcp_stun::behavior::{Binding, Observation};
use ntcp_stun::probe::Offer;

use crate::command::{CommandId, IoFailure, SocketId};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Whether the server answers over TCP; the first that does gives its port to the mapping test.
    Contact,
    /// Another destination from that same port.
    Mapping,
    /// One more fresh port.
    Sample,
    /// A second connection between the ends of a sample.
    Again,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum State {
    Connecting,
    /// Connected from this port; the request is out.
    Asked {
        local: SocketAddr,
        id: TransactionId,
    },
    Answered {
        local: SocketAddr,
        binding: Binding,
    },
    Failed(IoFailure),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) purpose: Purpose,
    pub(super) connect: CommandId,
    pub(super) socket: SocketId,
    /// The address asked for; the port is 0 unless it is that of a lead.
    pub(super) bound: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) started: Instant,
    /// From SYN to SYN-ACK, as far as the system tells.
    pub(super) rtt: Option<Duration>,
    /// What its server would try towards this host.
    pub(super) offer: Option<Offer>,
    pub(super) state: State,
}

impl Stream {
    pub(super) fn answered(&self) -> Option<(SocketAddr, Binding)> {
        match self.state {
            State::Answered { local, binding } => Some((local, binding)),
            State::Connecting | State::Asked { .. } | State::Failed(_) => None,
        }
    }

    /// Whether it uses the port of this lead.
    pub(super) fn is_of(&self, lead: Lead) -> bool {
        let local = match self.state {
            State::Asked { local, .. } | State::Answered { local, .. } => local,
            State::Connecting | State::Failed(_) => self.bound,
        };
        local.port() == lead.local.port()
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(self.state, State::Connecting | State::Asked { .. })
    }

    /// What the destination saw.
    pub(super) fn observation(&self) -> Option<Observation> {
        let (_, binding) = self.answered()?;
        Some(Observation { destination: self.remote, mapped: binding.mapped })
    }

    /// How the server took it.
    pub(super) fn contact(&self) -> Contact {
        match (self.state, self.rtt) {
            (State::Answered { .. }, Some(rtt)) => Contact::Answered(rtt),
            (State::Failed(failure), _) => Contact::Failed(failure),
            (State::Connecting | State::Asked { .. } | State::Answered { .. }, _) => {
                Contact::Silent
            }
        }
    }
}

/// How a server took a contact over TCP, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Contact {
    Answered(Duration),
    Failed(IoFailure),
    Silent,
}

/// A port of the mapping test, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lead {
    pub(super) local: SocketAddr,
    pub(super) rtt: Duration,
    pub(super) since: Instant,
}
