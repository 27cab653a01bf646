//! What the client tells its owner.

use std::net::SocketAddr;
use std::time::Duration;

use super::config::BrokerIdentity;
use super::error::{ConnectError, Link, LossReason, RegistrationError};
use crate::candidate::Candidate;
use crate::signal::message::Note;
use crate::signal::{ErrorCode, Round, SessionId, TimedPunch};
use crate::uri::{PeerName, TransportChoice};

/// Names one call; unique within the life of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something the owner wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The broker knows us now. Comes once for each registration, also for one made anew, and once
    /// more when it moves from TCP to UDP.
    Registered {
        /// What the broker saw as our address on that link.
        observed: SocketAddr,
        /// The link.
        link: Link,
        /// The broker.
        broker: SocketAddr,
        /// Round-trip time to it.
        rtt: Duration,
        /// How long it remembers us without a refresh.
        lease: Duration,
        /// Who it is.
        identity: BrokerIdentity,
    },
    /// The broker sees another address than before: our NAT's mapping changed, or we moved.
    ObservedAddressChanged {
        /// What it saw.
        before: SocketAddr,
        /// What it sees.
        after: SocketAddr,
    },
    /// An attempt to register failed. Another one follows by itself.
    RegistrationFailed {
        /// Why.
        error: RegistrationError,
        /// How long until the next attempt.
        retry_after: Duration,
    },
    /// The registration is gone; a new one is being made.
    RegistrationLost {
        /// Why.
        reason: LossReason,
    },
    /// Open a path to a peer.
    Punch {
        /// The call it belongs to; `None` on the callee's side.
        request: Option<RequestId>,
        /// The order.
        punch: TimedPunch,
    },
    /// Gather fresh candidates from fresh ports and give them to
    /// [`Client::answer`](super::Client::answer), or refuse with
    /// [`Client::decline`](super::Client::decline). The broker gives up after some seconds.
    Gather {
        /// Names the meeting.
        session: SessionId,
        /// Who calls; `None` for a caller that registered without a name.
        caller: Option<PeerName>,
        /// Which transports it wants.
        transport: TransportChoice,
        /// The round.
        round: Round,
    },
    /// The callee has its order too.
    PeerAnswered {
        /// The call.
        request: RequestId,
        /// The meeting.
        session: SessionId,
        /// What the callee adds to its registered candidates.
        candidates: Vec<Candidate>,
    },
    /// The other peer of a followed meeting tells where it may be reached by now, and a note. Both
    /// replace what it told before.
    PeerNews {
        /// The meeting.
        session: SessionId,
        /// Where it may be reached.
        candidates: Vec<Candidate>,
        /// What the two tell each other besides.
        note: Note,
    },
    /// What became of [`Client::forge`](super::Client::forge).
    Forged {
        /// The meeting.
        session: SessionId,
        /// The forged SYN-ACKs have left, or why they will not.
        result: Result<(), ErrorCode>,
    },
    /// The callee will not punch: it declined, or never answered the invitation
    /// ([`ErrorCode::NoAnswer`]).
    PeerRefused {
        /// The call.
        request: RequestId,
        /// The meeting.
        session: SessionId,
        /// Why.
        code: ErrorCode,
    },
    /// A call came to nothing.
    ConnectFailed {
        /// The call.
        request: RequestId,
        /// Why.
        error: ConnectError,
    },
    /// The broker forgot us as [`Client::unregister`](super::Client::unregister) wanted, or did not
    /// answer that. The client is finished.
    Unregistered,
}
