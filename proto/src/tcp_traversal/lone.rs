//! Simultaneous open by itself: a local port, the peer's addresses, an instant.
//!
//! For those who know all three by means of their own. Nothing authenticates the peer here: the first
//! handshake that ends with one of its addresses wins, and what is said on the stream must show who it
//! is. A [`Session`](crate::puncher::Session) does all of that, and more strategies besides.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::simultaneous_open::Dialer;
use crate::candidate::CandidateKind;
use crate::command::{Ends, Names, Owner};
use crate::machine::{Deadline, Machine};
use crate::puncher::report::Failures;
use crate::{Answer, Command, CommandId, Input, IoFailure, SocketId};

/// Most addresses of a peer that are dialled; further ones are left out.
pub const MAX_REMOTES: usize = 16;

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection with one of the peer's addresses.
    Established {
        /// The stream.
        socket: SocketId,
        /// Its ends.
        ends: Ends,
    },
    /// None came about in time, or none can.
    Failed(Failure),
}

/// Why no connection came about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The local port cannot be had.
    #[error("cannot listen on {local}: {failure}")]
    Local {
        /// The address asked for.
        local: SocketAddr,
        /// Why not.
        failure: IoFailure,
    },
    /// The time was up.
    #[error("no handshake ended in time ({})", tries(.0))]
    TimeUp(
        /// Each address, how often it was dialled, and how that ended.
        Vec<Tried>,
    ),
}

/// What became of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The address.
    pub remote: SocketAddr,
    /// How often it was dialled.
    pub tries: u32,
    /// How the tries ended that did; the others were met with silence.
    pub failures: Failures,
}

fn tries(tried: &[Tried]) -> String {
    let one = |it: &Tried| {
        let refusals = it.failures.total();
        format!("{}: dialled {} times, {refusals} times refused", it.remote, it.tries)
    };
    tried.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Opens one connection.
#[derive(Debug)]
pub struct Opener {
    names: Names,
    wanted: SocketAddr,
    /// The local end, once it is bound.
    local: Option<SocketAddr>,
    listener: SocketId,
    listening: CommandId,
    dialers: Vec<Dialer>,
    connecting: Vec<(CommandId, SocketId)>,
    deadline: Instant,
    over: bool,
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
}

impl Opener {
    /// From `local`, whose port 0 takes any, to every address of the peer from `start` on, until
    /// `deadline`.
    pub fn new(
        local: SocketAddr,
        remotes: &[SocketAddr],
        owner: Owner,
        start: Instant,
        deadline: Instant,
    ) -> Self {
        let mut names = Names::new(owner);
        let (listening, listener) = (names.command(), names.socket());
        let dialer =
            |remote: &SocketAddr| Dialer::new(*remote, CandidateKind::ServerReflexive, start);
        let listen = Command::ListenTcp { id: listening, socket: listener, local };
        Self {
            names,
            wanted: local,
            local: None,
            listener,
            listening,
            dialers: remotes.iter().take(MAX_REMOTES).map(dialer).collect(),
            connecting: Vec::new(),
            deadline,
            over: false,
            commands: VecDeque::from([listen]),
            events: VecDeque::new(),
        }
    }

    fn dial(&mut self, now: Instant) {
        let Some(local) = self.local.filter(|_| !self.over) else { return };
        for dialer in &mut self.dialers {
            if dialer.due().is_some_and(|due| due <= now) {
                let (id, socket) = (self.names.command(), self.names.socket());
                dialer.connecting(socket, now);
                self.connecting.push((id, socket));
                let (hops, remote) = (dialer.stance.hops(), dialer.remote);
                let sequence = None;
                self.commands.push_back(Command::ConnectTcp {
                    id,
                    socket,
                    local,
                    remote,
                    hops,
                    sequence,
                });
            }
        }
    }

    fn on_connected(&mut self, id: CommandId, connected: Result<Ends, IoFailure>, now: Instant) {
        let Some(at) = self.connecting.iter().position(|(command, _)| *command == id) else {
            return;
        };
        let (_, socket) = self.connecting.swap_remove(at);
        match connected {
            Ok(_) if self.over => self.close(socket),
            Ok(ends) => self.win(socket, ends),
            Err(failure) => {
                let ours = |it: &&mut Dialer| it.pending() == Some(socket);
                if let Some(dialer) = self.dialers.iter_mut().find(ours) {
                    dialer.failed(failure, now);
                }
                self.dial(now);
            }
        }
    }

    fn on_accepted(&mut self, socket: SocketId, ends: Ends) {
        let expected = self.dialers.iter().any(|it| it.remote.ip() == ends.remote.ip());
        if expected && !self.over { self.win(socket, ends) } else { self.close(socket) }
    }

    fn win(&mut self, socket: SocketId, ends: Ends) {
        self.end(Some(socket));
        self.events.push_back(Event::Established { socket, ends });
    }

    fn fail(&mut self, failure: Failure) {
        if !self.over {
            self.end(None);
            self.events.push_back(Event::Failed(failure));
        }
    }

    /// Closes everything but the winner.
    fn end(&mut self, winner: Option<SocketId>) {
        self.over = true;
        let pending = self.connecting.iter().map(|(_, socket)| *socket);
        let others: Vec<_> = pending.filter(|it| Some(*it) != winner).collect();
        for socket in others.into_iter().chain([self.listener]) {
            self.close(socket);
        }
    }

    fn close(&mut self, socket: SocketId) {
        let id = self.names.command();
        self.commands.push_back(Command::Close { id, socket });
    }
}

impl Machine for Opener {
    type Input<'a> = Input<'a>;
    type Command = Command;
    type Event = Event;

    fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Answer { id, answer: Answer::Bound(bound) } if id == self.listening => {
                match bound {
                    Ok(local) => self.local = Some(local),
                    Err(failure) => self.fail(Failure::Local { local: self.wanted, failure }),
                }
                self.dial(now);
            }
            Input::Answer { id, answer: Answer::Connected(connected) } => {
                self.on_connected(id, connected, now);
            }
            Input::TcpAccepted { socket, ends, .. } => self.on_accepted(socket, ends),
            Input::Answer { .. }
            | Input::UdpReceived { .. }
            | Input::TcpReceived { .. }
            | Input::TcpClosed { .. }
            | Input::Captured { .. } => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if now >= self.deadline {
            let tried = |it: &Dialer| {
                let failures = it.failures.clone();
                Tried { remote: it.remote, tries: it.tries, failures }
            };
            self.fail(Failure::TimeUp(self.dialers.iter().map(tried).collect()));
        }
        self.dial(now);
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        if self.over {
            return None;
        }
        let bound = self.local.is_some();
        let due = self.dialers.iter().filter_map(Dialer::due).min().filter(|_| bound);
        let dial = due.map(|at| Deadline::new(at, "dial the peer"));
        Deadline::earlier(dial, Some(Deadline::new(self.deadline, "end of the attempt")))
    }
}
