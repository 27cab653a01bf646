//! What was tried, what was seen, and how it ended.
//!
//! The serialised form is a contract (`ntcp connect --report`); fields are added, never changed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use crate::IoFailure;
use crate::candidate::{CandidateKind, Transport};
use crate::nat::NatReport;
use crate::secrecy::PublicKey;
use crate::signal::Role;
use crate::tcp_traversal::plan::Reason;

/// How a path may come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// To an address of the peer's own host: the same network, or no NAT in between.
    Direct,
    /// Both sides' SYNs cross, or one passes the hole that the other's has opened.
    SimultaneousOpen,
    /// The peer's SYN came from an address nobody had announced and reached our listener.
    ConnectListen,
    /// One side opens its own NAT with a SYN that dies on the way, and the other dials.
    ShieldedOpener,
    /// The next ports of a sequential NAT are foretold.
    PortPrediction,
    /// One side opens many holes, the other draws many ports.
    PortCoverage,
    /// Both sides assume a connection that never had a handshake.
    GhostHandshake,
    /// Both sides open their NATs with SYNs that die on the way, and send the same SYNs again.
    SynReplay,
    /// Each side answers the peer's SYN that its NAT kept from it.
    SynAckInjection,
    /// A side puts the peer's SYN into its own stack, which then answers it.
    SynInjection,
    /// A third party answers both SYNs in the name of the peers.
    SpoofedSynAck,
    /// A SYN that dies on the way, a listener, and a peer that dials.
    ConnectCloseListen,
    /// Checks from both sides open both NATs for UDP.
    UdpHolePunch,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::SimultaneousOpen => "simultaneous open",
            Self::ConnectListen => "connect and listen",
            Self::ShieldedOpener => "shielded opener",
            Self::PortPrediction => "port prediction",
            Self::PortCoverage => "port coverage",
            Self::GhostHandshake => "ghost handshake",
            Self::SynReplay => "SYN replay",
            Self::SynAckInjection => "SYN-ACK injection",
            Self::SynInjection => "SYN injection",
            Self::SpoofedSynAck => "spoofed SYN-ACK",
            Self::ConnectCloseListen => "connect, close and listen",
            Self::UdpHolePunch => "UDP hole punching",
        })
    }
}

/// How an attempt, or all of them together, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptResult {
    /// This path was taken.
    Won,
    /// It stood, but another one was taken.
    Verified,
    /// Another path was taken first.
    Cancelled,
    /// Nothing came back in time.
    NoAnswer,
    /// Every try was refused.
    Refused,
    /// This host could not even try.
    Impossible,
    /// It was not tried.
    Skipped,
}

/// One thing that was seen during an attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Evidence {
    /// So many checks or SYNs were sent.
    Sent(u32),
    /// A TCP connect ended this way, so often.
    ConnectFailed(IoFailure, u32),
    /// Sending failed this way, so often.
    SendFailed(IoFailure, u32),
    /// The peer's check arrived, so the path stands in one direction.
    Heard,
    /// The peer answered.
    Answered,
    /// A TCP handshake ended.
    Established,
    /// Whoever answered could not prove to be the peer.
    NotThePeer,
    /// The stream ended before the peer had proved itself.
    StreamEnded(IoFailure),
    /// The peer came from this address, which nobody had announced.
    UnannouncedSource(SocketAddr),
    /// Why it was not tried.
    Skipped(Reason),
    /// Of a hundred tries between NATs like these, so many came through: that decides what goes first.
    Hinted(u8),
    /// From a second port, which the node had in reserve.
    FromReserve,
    /// The own NAT was opened with a SYN of this TTL.
    Opened(u8),
    /// The own NAT was opened with a SYN that goes all the way, since it forgets one that dies before.
    OpenedAllTheWay,
    /// The peer said that it has opened its NAT and waits.
    PeerOpened,
    /// So many ports of the peer were opened for.
    Holes(u32),
    /// So many ports of the peer were open from before.
    StandingHoles(u32),
    /// So many ports of our own were drawn.
    Draws(u32),
    /// The peer's next ports were foretold, from this one on.
    Foretold(u16),
    /// So many segments were made by hand.
    Injected(u32),
    /// So many of our connects would have gone over the budget.
    OverBudget(u32),
    /// It was this try, counted from 1, after earlier ones had come to nothing.
    Try(u8),
    /// Our budget of new connections in a minute was spent; a whole attempt's share is there again
    /// in so many milliseconds.
    BudgetSpent(f64),
    /// The same of the peer's.
    PeerBudgetSpent(f64),
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(count) => write!(f, "sent {count}"),
            Self::ConnectFailed(failure, count) => write!(f, "{failure}, {count} times"),
            Self::SendFailed(failure, count) => {
                write!(f, "could not send: {failure}, {count} times")
            }
            Self::Heard => f.write_str("heard the peer"),
            Self::Answered => f.write_str("the peer answered"),
            Self::Established => f.write_str("TCP established"),
            Self::NotThePeer => f.write_str("someone else answered"),
            Self::StreamEnded(failure) => write!(f, "the stream ended: {failure}"),
            Self::UnannouncedSource(source) => write!(f, "the peer came from {source}"),
            Self::Hinted(percent) => {
                write!(f, "came through {percent} of 100 times between NATs like these")
            }
            Self::Skipped(why) => write!(f, "skipped: {why}"),
            Self::FromReserve => f.write_str("from the port in reserve"),
            Self::Opened(ttl) => write!(f, "opened the own NAT with TTL {ttl}"),
            Self::OpenedAllTheWay => f.write_str(
                "opened the own NAT with a SYN that goes all the way: it forgets one that dies before",
            ),
            Self::PeerOpened => f.write_str("the peer had opened its NAT"),
            Self::Holes(count) => write!(f, "opened {count} holes"),
            Self::StandingHoles(count) => write!(f, "{count} holes were open from before"),
            Self::Draws(count) => write!(f, "drew {count} ports"),
            Self::Foretold(port) => write!(f, "foretold the peer's next ports from {port} on"),
            Self::Injected(count) => write!(f, "injected {count} segments"),
            Self::OverBudget(count) => write!(f, "{count} connects were over the budget"),
            Self::Try(number) => write!(f, "try {number}, from a fresh port"),
            Self::BudgetSpent(ms) => {
                let s = ms / 1e3;
                write!(f, "our budget of new connections is spent, and full again in {s:.1} s")
            }
            Self::PeerBudgetSpent(ms) => {
                let s = ms / 1e3;
                write!(
                    f,
                    "the peer's budget of new connections is spent, and full again in {s:.1} s"
                )
            }
        }
    }
}

impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One try at one address of the peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attempt {
    /// How.
    pub strategy: Strategy,
    /// Over what.
    pub transport: Transport,
    /// Our part: `controlling` for the caller, `controlled` for the callee.
    #[serde(serialize_with = "role")]
    pub role: Role,
    /// Towards this address.
    pub remote: SocketAddr,
    /// How that address was learned.
    pub candidate: CandidateKind,
    /// Milliseconds after the call.
    pub started_ms: f64,
    /// Milliseconds after the call.
    pub ended_ms: f64,
    /// How it ended.
    pub result: AttemptResult,
    /// What was seen.
    pub evidence: Vec<Evidence>,
}

/// How the whole ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A path stands.
    Connected,
    /// None does.
    Failed,
}

/// Both sides' NATs, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Nats {
    /// Ours.
    pub local: Option<NatReport>,
    /// The peer's, as it told the broker.
    pub remote: Option<NatReport>,
}

/// The whole story of one call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Over what the path runs.
    pub transport: Option<Transport>,
    /// How it came about.
    pub strategy: Option<Strategy>,
    /// Whether a relay carries it; never in this version.
    pub relayed: bool,
    /// Milliseconds from the call until the path was verified both ways.
    pub elapsed_ms: Option<f64>,
    /// Milliseconds from the call until the first byte of the application may be sent.
    pub secured_ms: Option<f64>,
    /// Round-trip time of the path in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Our end of the path.
    pub local: Option<SocketAddr>,
    /// The peer's end of the path.
    pub remote: Option<SocketAddr>,
    /// Who can read what passes over the path, and by what the peer is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrecy: Option<Secrecy>,
    /// Everything that was tried, in the order of its start.
    pub attempts: Vec<Attempt>,
    /// Both NATs.
    pub nat: Nats,
    /// On failure: milliseconds after which a new call has a whole attempt's share of both sides'
    /// budgets, if one of them was spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<f64>,
    /// On failure: why, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// On failure: what would help, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
}

/// Who can read what passes over a path, and by what the peer is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Secrecy {
    /// What seals the path.
    pub encryption: Encryption,
    /// The peer's key.
    pub peer_key: Option<PublicKey>,
    /// Whether that key was pinned; otherwise the broker said it, or whoever made the offer.
    pub peer_pinned: bool,
    /// The broker's key; `None` where it was spoken to in the clear, or there was none.
    pub broker_key: Option<PublicKey>,
    /// Whether that key was pinned, or known from before; otherwise it was trusted at its first use.
    pub broker_pinned: bool,
}

/// What seals a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// QUIC, between the keys of the two peers.
    Quic,
    /// Noise IK, between the keys of the two peers.
    Noise,
    /// Nothing: both peers have asked for the bare socket.
    None,
}

impl Report {
    /// The report of a call that failed before any path was tried.
    pub fn failed(reason: String, advice: Vec<String>) -> Self {
        Self {
            outcome: Outcome::Failed,
            transport: None,
            strategy: None,
            relayed: false,
            elapsed_ms: None,
            secured_ms: None,
            rtt_ms: None,
            local: None,
            remote: None,
            secrecy: None,
            attempts: Vec::new(),
            nat: Nats::default(),
            retry_after_ms: None,
            reason: Some(reason),
            advice,
        }
    }
}

fn role<S: Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match role {
        Role::Controlling => "controlling",
        Role::Controlled => "controlled",
    })
}

/// `moment` in milliseconds after `start`, to the microsecond.
pub fn milliseconds_since(start: Instant, moment: Instant) -> f64 {
    milliseconds(moment.saturating_duration_since(start))
}

/// `duration` in milliseconds, to the microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Counts equal failures, for the evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures(BTreeMap<IoFailure, u32>);

impl Failures {
    /// One more.
    pub fn count(&mut self, failure: IoFailure) {
        *self.0.entry(failure).or_default() += 1;
    }

    /// How many there were in all.
    pub fn total(&self) -> u32 {
        self.0.values().sum()
    }

    /// How many there were of this one.
    pub fn of(&self, failure: IoFailure) -> u32 {
        self.0.get(&failure).copied().unwrap_or_default()
    }

    /// Each failure with its count.
    pub fn each(&self) -> impl Iterator<Item = (IoFailure, u32)> {
        self.0.iter().map(|(failure, count)| (*failure, *count))
    }
}
