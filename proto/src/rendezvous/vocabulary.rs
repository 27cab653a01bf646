//! What the broker is told, what it wants done, and what it tells.

use std::net::SocketAddr;
use std::time::Duration;

use super::cluster::{BrokerId, Claim, Listing, Whereabouts};
use super::link::{Link, StreamId};
use crate::address::Family;
use crate::puncher::report::Strategy;
use crate::segment::Segment;
use crate::signal::{ErrorCode, SessionId, Spoofing};
use crate::uri::PeerName;

/// Something happened at the broker's sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// A message arrived, whole.
    Received {
        /// On this link; its addresses are canonical, never IPv4 mapped into IPv6.
        link: Link,
        /// The message.
        payload: &'a [u8],
    },
    /// A stream ended.
    Closed {
        /// Which.
        stream: StreamId,
    },
    /// The answer to [`Command::Claim`]; each has one, soon.
    Claimed {
        /// The name.
        name: PeerName,
        /// What came of it.
        claim: Claim,
        /// The brokers that have asked for the name since it was last free, and wait for it; and the one that had it
        /// until now, if it was taken from that one.
        wanted_by: Vec<BrokerId>,
    },
    /// The answer to [`Command::Find`]; each has one, soon.
    Found {
        /// The name.
        name: PeerName,
        /// Where it is; `None` also if the directory is away.
        at: Option<Whereabouts>,
    },
    /// Another broker has written.
    Letter {
        /// Which.
        from: BrokerId,
        /// What.
        letter: &'a [u8],
    },
    /// The directory is there again after it was away.
    Reunited,
}

/// What the broker wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Send a message.
    Send {
        /// On this link.
        link: Link,
        /// The message.
        payload: Vec<u8>,
    },
    /// Close a stream: its peer has left.
    Close {
        /// Which.
        stream: StreamId,
    },
    /// Send one raw segment in the name of a peer. Only asked for within
    /// [`Forging`](super::Forging).
    Inject {
        /// The segment.
        segment: Segment,
        /// IP TTL or hop limit.
        ttl: u8,
    },
    /// Send one raw datagram in the name of a peer. Likewise.
    InjectDatagram {
        /// In whose name.
        source: SocketAddr,
        /// To whom.
        destination: SocketAddr,
        /// IP TTL or hop limit.
        ttl: u8,
        /// The datagram.
        payload: Vec<u8>,
    },
    /// Enter a name in the directory for a peer here, or lengthen its stay. A broker that writes no
    /// more signs of life loses its names to whoever claims them for a peer with the same key.
    Claim {
        /// The name.
        name: PeerName,
        /// What others may know of the peer.
        listing: Listing,
        /// For how long.
        lease: Duration,
        /// How long the peer has had it here without a break; `None` for one that is not let in yet. Where two brokers
        /// have one name, the peer that came first keeps it; of two with one key, which are one peer that has
        /// moved, the one that came last. Who is not let in yet takes nothing from a living broker.
        stay: Option<Duration>,
    },
    /// Strike a name from the directory, if it is there for this broker.
    Release {
        /// The name.
        name: PeerName,
    },
    /// Find out which broker has a name. If none has, whoever claims it within
    /// `wait` is told that we want it.
    Find {
        /// The name.
        name: PeerName,
        /// How long it is waited for.
        wait: Duration,
    },
    /// Send a letter to another broker.
    Post {
        /// Which.
        broker: BrokerId,
        /// What.
        letter: Vec<u8>,
    },
}

/// Why a peer is not registered any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Departure {
    /// It said so.
    Unregistered,
    /// Its lease ended.
    Expired,
    /// Somebody asked for its name, and it did not answer.
    Dead,
    /// Its stream ended.
    LinkClosed,
    /// Its address registered anew.
    Replaced,
    /// The broker stops, and has told it so.
    Dismissed,
}

/// What happened, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer became known.
    Registered {
        /// Its name, if it has one.
        name: Option<PeerName>,
        /// Its link.
        link: Link,
    },
    /// A peer moved to another address or link.
    Moved {
        /// Its name, if it has one.
        name: Option<PeerName>,
        /// Its new link.
        link: Link,
    },
    /// A peer is not known any more.
    Left {
        /// Its name, if it has one.
        name: Option<PeerName>,
        /// Why.
        why: Departure,
    },
    /// Two peers were told of each other, or the callee was asked for fresh candidates.
    Called {
        /// The meeting.
        session: SessionId,
        /// The caller's name, if it has one.
        caller: Option<PeerName>,
        /// The callee.
        callee: PeerName,
    },
    /// The callee answered, declined, or stayed silent.
    Settled {
        /// The meeting.
        session: SessionId,
        /// What it said; silence is [`ErrorCode::NoAnswer`].
        result: Result<(), ErrorCode>,
    },
    /// Both peers of a meeting asked for it: their SYNs are answered.
    Forging {
        /// The meeting.
        session: SessionId,
    },
    /// A direct path stood, as the caller tells.
    Stood {
        /// What brought it about.
        strategy: Strategy,
        /// How long it took from the call.
        took: Duration,
    },
    /// A probe of what the network lets out has ended.
    Probed {
        /// Over IPv4 or IPv6.
        family: Family,
        /// What is known by now.
        spoofing: Spoofing,
    },
    /// Likewise for the network of a peer that offers to forge.
    ForgerProbed {
        /// Over IPv4 or IPv6.
        family: Family,
        /// What is known by now.
        spoofing: Spoofing,
    },
}
