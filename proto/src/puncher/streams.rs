//! The TCP half of a session after the handshakes: which streams stand, and which lead to the peer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::report::Strategy;
use crate::candidate::CandidateKind;
use crate::command::Ends;
use crate::{IoFailure, SocketId};

/// Most streams of one session at a time; a further one is refused.
pub(super) const MAX_STREAMS: usize = 32;

/// How far the peer has proved itself on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Nothing came yet.
    Awaited,
    /// The peer's greeting came.
    Given,
    /// Something else came.
    Failed,
    /// The stream ended first.
    Ended(IoFailure),
}

/// One TCP connection that may lead to the peer.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) socket: SocketId,
    pub(super) ends: Ends,
    /// How the far end was learned.
    pub(super) kind: CandidateKind,
    /// What brought it about.
    pub(super) strategy: Strategy,
    pub(super) established: Instant,
    pub(super) proof: Proof,
    /// It has been silent for so long that other ways are tried besides.
    pub(super) stale: bool,
}

impl Stream {
    /// Whether it may still be chosen.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.proof, Proof::Awaited | Proof::Given)
    }

    /// Whether it may make others needless: not a ghost of which nobody has heard.
    pub(super) fn is_hopeful(&self) -> bool {
        self.is_open() && !self.stale && !self.is_unheard_ghost()
    }

    /// Whether it had no handshake, and nothing has come on it yet.
    pub(super) fn is_unheard_ghost(&self) -> bool {
        self.strategy == Strategy::GhostHandshake && self.proof == Proof::Awaited
    }

    /// Whether the caller may choose it before the peer has proved itself. An address of the public
    /// internet that completes a handshake at the agreed instant is the peer's all but surely; one
    /// of a private network is often somebody else's, and so near that the proof costs nothing. A ghost
    /// has had no handshake.
    pub(super) fn is_trustworthy(&self) -> bool {
        self.kind != CandidateKind::Host && self.strategy != Strategy::GhostHandshake
    }
}

/// All streams of one session.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) all: Vec<Stream>,
}

impl Streams {
    pub(super) fn get(&mut self, socket: SocketId) -> Option<&mut Stream> {
        self.all.iter_mut().find(|stream| stream.socket == socket)
    }

    /// The streams that may still be chosen.
    pub(super) fn open(&self) -> impl Iterator<Item = &Stream> {
        self.all.iter().filter(|stream| stream.is_open())
    }

    /// Whether one of them may make further ways needless.
    pub(super) fn are_hopeful(&self) -> bool {
        self.all.iter().any(Stream::is_hopeful)
    }

    /// Takes note of those that have been silent for `patience`: one side of a handshake may have seen its end
    /// and the other not.
    pub(super) fn grow_stale(&mut self, patience: Duration, now: Instant) {
        for stream in &mut self.all {
            stream.stale |= stream.proof == Proof::Awaited && stream.established + patience <= now;
        }
    }

    /// When the next one grows stale.
    pub(super) fn stale_at(&self, patience: Duration) -> Option<Instant> {
        let silent = |it: &&Stream| it.proof == Proof::Awaited && !it.stale;
        self.all.iter().filter(silent).map(|it| it.established + patience).min()
    }

    /// Whether one of them leads to `remote`.
    pub(super) fn reaches(&self, remote: SocketAddr) -> bool {
        self.open().any(|stream| stream.ends.remote == remote)
    }
}
