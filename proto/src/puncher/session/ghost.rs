//! Ghost handshake, carried out: a spare port each, two sockets, and a word when each has opened.

use super::*;
use crate::puncher::streams::Proof;
use crate::tcp_traversal::ghost_handshake::{self, GHOST_ROUND};
use crate::tcp_traversal::plan::Part;
use crate::tcp_traversal::shielded_opener::{OPENER_TTL, opening};
use crate::{Hops, IoFailure};

/// How long SYNs are given, where nobody knows that they do not pass.
const SYNS_FIRST: Duration = Duration::from_millis(700);

/// How far a ghost is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ghost {
    /// The spare port is being asked about.
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
        if self.engine.plan.part(Strategy::GhostHandshake) != Some(Part::Both) {
            return;
        }
        match self.engine.ghost {
            None if self.ghost_start() <= now && !self.streams.are_hopeful() => {
                self.engine.ghost = Some(Ghost::Sampling);
                self.engine.rounds = None;
                self.engine.spare = None;
                self.engine.judged = false;
                self.begin_survey(1, Some(now));
            }
            Some(Ghost::Sampling) => self.assume(),
            Some(Ghost::Opened { socket, ends }) => self.release(socket, ends, now),
            None | Some(Ghost::Assuming { .. } | Ghost::Released | Ghost::Impossible) => {}
        }
    }

    /// When the ghost begins: at once where SYNs are known not to pass.
    fn ghost_start(&self) -> Instant {
        let refused = |facts: crate::tcp_traversal::plan::Facts| facts.admits_syn == Some(false);
        let start = self.introduction.start;
        let known = refused(self.our_facts(start)) && refused(self.their_facts(start));
        let hinted = self.is_hinted(Strategy::GhostHandshake);
        if known || hinted { start } else { start + SYNS_FIRST }
    }

    /// When [`haunt`](Self::haunt) begins by itself.
    pub(super) fn ghost_due(&self) -> Option<Deadline> {
        let planned = self.engine.plan.part(Strategy::GhostHandshake).is_some();
        let waits = planned && self.engine.ghost.is_none();
        let alone = !self.streams.are_hopeful();
        (waits && alone).then(|| Deadline::new(self.ghost_start(), "ghost handshake"))
    }

    /// Both spare ports are known: the socket is made, and its first segment dies on the way.
    fn assume(&mut self) {
        // In a round its spare port is not for a ghost.
        let theirs = self.engine.theirs.filter(|standing| standing.round == 0);
        let theirs = theirs.and_then(|standing| standing.spare);
        let (Some(spare), Some(remote)) = (self.engine.spare, theirs) else { return };
        if Family::of(spare.local.ip()) != Family::of(remote.ip()) {
            return;
        }
        let (id, socket) = (self.names.command(), self.names.socket());
        let agreed = ghost_handshake::agreed(&self.introduction.secret, self.introduction.role);
        self.engine.ghost = Some(Ghost::Assuming { command: id, socket });
        self.commands.push_back(Command::AssumeTcp {
            id,
            socket,
            ends: Ends { local: spare.local, remote },
            agreed,
            hops: opening(OPENER_TTL),
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
                self.engine.opened = GHOST_ROUND;
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
        if self.engine.theirs.is_none_or(|standing| standing.opened != GHOST_ROUND) {
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
        let streams = self.streams.all.iter();
        let mut ghosts = streams.filter(|it| it.strategy == Strategy::GhostHandshake);
        self.ghost_socket() == Some(socket)
            || ghosts.any(|it| it.socket == socket && it.proof == Proof::Awaited)
    }

    /// The ghost's socket, as long as it is no stream.
    pub(super) fn ghost_socket(&self) -> Option<SocketId> {
        match self.engine.ghost {
            Some(Ghost::Assuming { socket, .. } | Ghost::Opened { socket, .. }) => Some(socket),
            Some(Ghost::Sampling | Ghost::Released | Ghost::Impossible) | None => None,
        }
    }
}
