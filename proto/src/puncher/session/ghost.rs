//! Ghost handshake, carried out: a fresh port each, two sockets, and a word when each has opened.

use super::*;
use crate::tcp_traversal::ghost_handshake;
use crate::tcp_traversal::note::Meet;
use crate::tcp_traversal::plan::{Part, Verdict};
use crate::tcp_traversal::shielded_opener::{OPENER_TTL, opening};
use crate::tcp_traversal::survey::Sample;
use crate::{Hops, IoFailure};
use inquiry::{Asker, Told};

/// How far a ghost is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ghost {
    /// Its port is being asked about, or the peer's is awaited.
    Sampling,
    /// The system was asked for the socket.
    Assuming { command: CommandId, socket: SocketId },
    /// The own NAT is open; the peer's word is awaited.
    Opened { socket: SocketId, ends: Ends },
    /// Both have opened.
    Released,
    /// This host cannot.
    Impossible,
}

impl Session {
    /// Takes the next step, if one is due.
    pub(super) fn haunt(&mut self, now: Instant) {
        if !self.is_ghost_planned() {
            return;
        }
        match self.engine.ghost {
            None if self.ghost_start() <= now && !self.streams.are_hopeful() => {
                let Some(family) = self.stands_family() else { return };
                self.engine.ghost = Some(Ghost::Sampling);
                self.inquire(Asker::Ghost, family, now);
                self.assume();
            }
            Some(Ghost::Sampling) => self.assume(),
            Some(Ghost::Opened { socket, ends }) => self.release(socket, ends, now),
            None | Some(Ghost::Assuming { .. } | Ghost::Released | Ghost::Impossible) => {}
        }
    }

    fn is_ghost_planned(&self) -> bool {
        self.verdict_by_hand(Strategy::GhostHandshake) == Some(Verdict::Run(Part::Both))
    }

    /// When the ghost begins: at once where SYNs are known not to pass, or the peer has begun.
    fn ghost_start(&self) -> Instant {
        let start = self.introduction.start;
        let asked = self.engine.theirs.is_some_and(|standing| standing.haunt.is_some());
        let hinted = self.is_hinted(Strategy::GhostHandshake);
        if asked || hinted || self.no_syn_passes() { start } else { start + SYNS_FIRST }
    }

    /// When [`haunt`](Self::haunt) begins by itself.
    pub(super) fn ghost_due(&self) -> Option<Deadline> {
        let waits = self.is_ghost_planned()
            && self.engine.ghost.is_none()
            && self.stands_family().is_some();
        let alone = !self.streams.are_hopeful();
        (waits && alone).then(|| Deadline::new(self.ghost_start(), "ghost handshake"))
    }

    /// The own port, when a server has told how it is seen.
    fn haunted(&self) -> Option<Sample> {
        match self.inquired(Asker::Ghost) {
            Told::At(sample) => Some(sample),
            Told::Waiting | Told::Nothing => None,
        }
    }

    /// What is told of it.
    pub(super) fn our_haunt(&self) -> Option<Meet> {
        let mapped = self.haunted()?.mapped;
        let opened = match self.engine.ghost? {
            Ghost::Sampling | Ghost::Assuming { .. } => false,
            Ghost::Opened { .. } | Ghost::Released => true,
            Ghost::Impossible => return None,
        };
        Some(Meet { mapped, opened })
    }

    /// Both ports are known: the socket is made, and its first segment dies on the way.
    fn assume(&mut self) {
        let theirs = self.engine.theirs.and_then(|standing| standing.haunt);
        let (Some(own), Some(theirs)) = (self.haunted(), theirs) else { return };
        let remote = theirs.mapped;
        if Family::of(own.local.ip()) != Family::of(remote.ip()) || !self.is_worth_trying(remote) {
            return;
        }
        let (id, socket) = (self.names.command(), self.names.socket());
        let agreed = ghost_handshake::agreed(&self.introduction.secret, self.introduction.role);
        self.engine.ghost = Some(Ghost::Assuming { command: id, socket });
        self.commands.push_back(Command::AssumeTcp {
            id,
            socket,
            ends: Ends { local: own.local, remote },
            agreed,
            hops: opening(self.resources.opener_ttl.unwrap_or(OPENER_TTL)),
        });
    }

    /// Whether this was the answer to the ghost's command.
    pub(super) fn on_assumed(
        &mut self,
        id: CommandId,
        assumed: Result<Ends, IoFailure>,
        now: Instant,
    ) -> bool {
        let Some(Ghost::Assuming { command, socket }) = self.engine.ghost else { return false };
        if command != id {
            return false;
        }
        match assumed {
            Ok(ends) if matches!(self.state, State::Racing) => {
                self.engine.ghost = Some(Ghost::Opened { socket, ends });
            }
            Ok(_) => self.abort(socket),
            Err(failure) => {
                self.engine.ghost = Some(Ghost::Impossible);
                if let (IoFailure::NotPermitted, Some(held)) =
                    (failure, &mut self.resources.privileges)
                {
                    held.assume = false;
                }
            }
        }
        self.pursue(now);
        true
    }

    /// The peer has opened as well: everything travels all the way from now on.
    fn release(&mut self, socket: SocketId, ends: Ends, now: Instant) {
        let theirs = self.engine.theirs.and_then(|standing| standing.haunt);
        if theirs.is_none_or(|haunt| !haunt.opened) {
            return;
        }
        self.engine.ghost = Some(Ghost::Released);
        let id = self.names.command();
        self.commands.push_back(Command::AdjustTcp { id, socket, hops: Hops::USUAL });
        let kind = CandidateKind::ServerReflexive;
        self.established(socket, ends, (kind, Strategy::GhostHandshake), now);
    }

    /// Whether this is a ghost that nobody has answered. There may be no path at all: closed in order, it
    /// would stay with the kernel, which repeats its FIN for minutes.
    pub(super) fn is_unheard_ghost(&self, socket: SocketId) -> bool {
        let mut streams = self.streams.all.iter();
        self.ghost_socket() == Some(socket)
            || streams.any(|it| it.socket == socket && it.is_unheard_ghost())
    }

    /// The ghost's socket, as long as it is no stream.
    pub(super) fn ghost_socket(&self) -> Option<SocketId> {
        match self.engine.ghost {
            Some(Ghost::Assuming { socket, .. } | Ghost::Opened { socket, .. }) => Some(socket),
            Some(Ghost::Sampling | Ghost::Released | Ghost::Impossible) | None => None,
        }
    }
}
