//! Ways to get through two NATs, each by itself and by hand: plain and privileged sockets of two
//! hosts, no machine of ours and no prediction of ports.
//!
//! What a technique can do follows from the two NATs alone, so that [`crate::oracle`] foretells it and
//! the [chart](crate::chart) of all of them is a fact about NATs and not about this project. A technique counts as
//! working only if both sides are connected *and* hear each other.
//!
//! The ladders stand above each script. `a*`, `b*` are the ends which the server sees.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::presets::Site;
use crate::town::Town;

pub(crate) mod forged;
mod plain;

/// A way through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Technique {
    /// Datagrams from both sides, answered where they come from.
    Udp,
    /// Both connect, each again at once after a refusal.
    SimultaneousOpen,
    /// The first side's SYN dies on the way and is shielded from the news; the other dials.
    ShieldedOpener,
    /// Connect, close, listen; the other dials.
    ConnectCloseListen,
    /// A server forges the SYN-ACK of each side (STUNT #1).
    SpoofedSynAck,
    /// Each side forges its own SYN-ACK at once (NATBLASTER).
    OwnSynAck,
    /// Each side forges its own SYN-ACK after the SYNs have met the far NATs.
    OwnSynAckAfterCrossing,
    /// Each side puts the peer's SYN into its own stack, which answers it.
    SynInjection,
    /// Two sockets without a handshake (`TCP_REPAIR`).
    GhostHandshake,
}

impl Technique {
    /// All of them, those that need least first.
    pub const ALL: [Self; 9] = [
        Self::Udp,
        Self::SimultaneousOpen,
        Self::ShieldedOpener,
        Self::ConnectCloseListen,
        Self::SpoofedSynAck,
        Self::OwnSynAck,
        Self::OwnSynAckAfterCrossing,
        Self::SynInjection,
        Self::GhostHandshake,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::SimultaneousOpen => "simultaneous-open",
            Self::ShieldedOpener => "shielded-opener",
            Self::ConnectCloseListen => "connect-close-listen",
            Self::SpoofedSynAck => "spoofed-syn-ack",
            Self::OwnSynAck => "own-syn-ack",
            Self::OwnSynAckAfterCrossing => "own-syn-ack-after-crossing",
            Self::SynInjection => "syn-injection",
            Self::GhostHandshake => "ghost-handshake",
        }
    }

    /// What it is, in a sentence for people.
    pub fn about(self) -> &'static str {
        match self {
            Self::Udp => "both send datagrams and answer where they come from",
            Self::SimultaneousOpen => "both connect, each again at once after a refusal",
            Self::ShieldedOpener => {
                "the row's SYN dies on the way, its socket is deaf to that (IP_MINTTL); the column dials"
            }
            Self::ConnectCloseListen => "the row connects, closes and listens; the column dials",
            Self::SpoofedSynAck => "a server forges both SYN-ACKs (STUNT #1)",
            Self::OwnSynAck => "each side forges its own SYN-ACK at once (NATBLASTER)",
            Self::OwnSynAckAfterCrossing => {
                "each side forges its own SYN-ACK once the SYNs have met the far NATs"
            }
            Self::SynInjection => "each side puts the peer's SYN into its own stack",
            Self::GhostHandshake => "two sockets are made established without any SYN (TCP_REPAIR)",
        }
    }

    /// What it needs beyond what everybody may do.
    pub fn needs(self) -> &'static str {
        match self {
            Self::Udp
            | Self::SimultaneousOpen
            | Self::ShieldedOpener
            | Self::ConnectCloseListen => "nothing",
            Self::SpoofedSynAck => {
                "CAP_NET_RAW, and a server whose network lets forged sources out"
            }
            Self::OwnSynAck | Self::OwnSynAckAfterCrossing | Self::SynInjection => "CAP_NET_RAW",
            Self::GhostHandshake => "CAP_NET_ADMIN",
        }
    }

    /// Tries it between two sites, the second side beginning `skew` later: how long after the start
    /// both were connected, if they heard each other then.
    pub fn attempt(self, a: &Site, b: &Site, skew: Duration) -> Option<Duration> {
        let mut town = Town::new(a, b);
        match self {
            Self::Udp => town.udp_punch(skew, None),
            Self::SimultaneousOpen => plain::simultaneous_open(&mut town, skew),
            Self::ShieldedOpener => plain::shielded_opener(&mut town, skew),
            Self::ConnectCloseListen => plain::connect_close_listen(&mut town, skew),
            Self::SpoofedSynAck => forged::spoofed_syn_ack(&mut town, skew),
            Self::OwnSynAck => forged::own_syn_ack(&mut town, skew),
            Self::OwnSynAckAfterCrossing => forged::own_syn_ack_after_crossing(&mut town, skew),
            Self::SynInjection => forged::syn_injection(&mut town, skew),
            Self::GhostHandshake => forged::ghost_handshake(&mut town, skew),
        }
    }
}

impl fmt::Display for Technique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No technique has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no technique; there are {known}", known = Technique::ALL.map(Technique::name).join(", "))]
pub struct UnknownTechnique {
    name: String,
}

impl FromStr for Technique {
    type Err = UnknownTechnique;

    fn from_str(text: &str) -> Result<Self, UnknownTechnique> {
        let unknown = || UnknownTechnique { name: text.into() };
        Self::ALL.into_iter().find(|it| it.name() == text).ok_or_else(unknown)
    }
}
