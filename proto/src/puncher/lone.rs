//! Punching without a broker: for those who have a way of their own to tell the other peer.
//!
//! A [`Puncher`] opens one punching port and learns what the outside calls it. Both sides then tell
//! each other their candidates and a secret, by whatever means, and [meet](Puncher::meet) at one
//! instant; it is a [`Session`] like any other from there on.
//!
//! ```text
//!   new ──▶ port bound, mappings known: Gathered ──▶ meet ──▶ Established
//!                │                                     └────▶ Failed
//!                └── BindFailed
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use ntcp_stun::Message;
use sha2::{Digest, Sha256};

use super::check::session_named_in;
use super::gather::{self, Gatherer, PortId};
use super::report::Report;
use super::session::{self, Introduction, Path, Resources, Session};
use crate::candidate::{Candidate, Transport};
use crate::command::{Ends, Names, Owner};
use crate::entropy::{Entropy, Seed};
use crate::machine::{Deadline, Machine};
use crate::signal::{Role, SessionId, SessionSecret};
use crate::tcp_traversal::budget::Budget;
use crate::uri::{HostPort, TransportChoice};
use crate::{Command, Input, IoFailure, SocketId};

const GATHERER: Owner = Owner(1);
const SESSION: Owner = Owner(2);
const PUNCHER: Owner = Owner(3);
/// Datagrams of a next layer that wait for their path to be told; a further one is dropped.
const MAX_EARLY: usize = 16;
/// Streams that arrive before the meeting begins; a further one is closed.
const MAX_UNCLAIMED: usize = 32;

/// What the two peers have agreed on.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Known to the two only; a fresh one for each meeting.
    pub secret: SessionSecret,
    /// Whether this side picks the winner: exactly one of the two does.
    pub role: Role,
    /// Where the other peer may be reached.
    pub candidates: Vec<Candidate>,
    /// Which transports may be used; the same on both sides.
    pub transport: TransportChoice,
    /// When both begin. The nearer to each other in time, the sooner a path stands; a difference
    /// only delays it.
    pub start: Instant,
    /// When it is given up.
    pub deadline: Instant,
}

impl Agreement {
    /// The name of the meeting in the checks: it follows from the secret and does not tell it.
    fn session(&self) -> SessionId {
        let digest = Sha256::new().chain_update(b"ntcp session").chain_update(self.secret.0);
        let mut name = [0; 16];
        name.copy_from_slice(&digest.finalize()[..16]);
        SessionId(name)
    }
}

/// What a puncher tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Every candidate that will be known soon is known.
    Gathered,
    /// A socket could not be opened.
    BindFailed {
        /// UDP or TCP.
        transport: Transport,
        /// The port number asked for.
        number: u16,
        /// Why.
        failure: IoFailure,
    },
    /// A path stands.
    Established {
        /// Which.
        path: Path,
        /// Everything that was tried.
        report: Box<Report>,
    },
    /// A datagram of the peer's next layer, on the path that stands.
    Early {
        /// The datagram.
        payload: Vec<u8>,
    },
    /// No path came about.
    Failed {
        /// Everything that was tried.
        report: Box<Report>,
    },
}

/// A stream that was there before the meeting.
#[derive(Debug)]
struct Unclaimed {
    socket: SocketId,
    ends: Ends,
    /// What came first on it.
    greeting: Option<Vec<u8>>,
}

/// One punching port and at most one meeting.
#[derive(Debug)]
pub struct Puncher {
    entropy: Entropy,
    names: Names,
    gatherer: Gatherer,
    port: PortId,
    gathered: bool,
    session: Option<Session>,
    /// Accepted streams that the session has.
    adopted: Vec<SocketId>,
    /// Accepted before there was a session: the peer was earlier.
    unclaimed: Vec<Unclaimed>,
    budget: Budget,
    early: VecDeque<Vec<u8>>,
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
}

impl Puncher {
    /// A puncher on UDP port `udp_port`, 0 for any, that asks these STUN servers, best first.
    pub fn new(stun: &[HostPort], udp_port: u16, seed: Seed, now: Instant) -> Self {
        let mut entropy = Entropy::new(seed);
        let names = Names::new(GATHERER);
        let mut gatherer = Gatherer::new(stun, None, None, names, entropy.seed());
        let port = gatherer.open_port(udp_port, now);
        Self {
            entropy,
            names: Names::new(PUNCHER),
            gatherer,
            port,
            gathered: false,
            session: None,
            adopted: Vec::new(),
            unclaimed: Vec::new(),
            budget: Budget::default(),
            early: VecDeque::new(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Where this side may be reached, as far as it is known.
    pub fn candidates(&self) -> Vec<Candidate> {
        self.gatherer.candidates(self.port)
    }

    /// Opens a path to the peer. Ends in [`Event::Established`] or [`Event::Failed`]; a second
    /// meeting of one puncher is ignored.
    pub fn meet(&mut self, agreement: Agreement, now: Instant) {
        if self.session.is_some() {
            return;
        }
        let introduction = Introduction {
            session: agreement.session(),
            secret: agreement.secret,
            role: agreement.role,
            peer: None,
            candidates: agreement.candidates,
            nat: None,
            transport: agreement.transport,
            hints: Vec::new(),
            start: agreement.start.max(now),
            path: None,
        };
        let resources = Resources {
            udp: self.gatherer.udp_sockets(self.port),
            udp_told: self.gatherer.udp_told(self.port),
            // Nobody would pass on what a round has found out.
            udp_stun: Vec::new(),
            tcp: self.gatherer.tcp_locals(self.port),
            own: self.gatherer.candidates(self.port),
            nat: None,
            told: self.gatherer.tcp_told(self.port),
            stun: self.gatherer.tcp_servers(self.port),
            privileges: None,
            forges: Vec::new(),
            classic: false,
            per_attempt: self.budget.limits().per_attempt,
            keeps_holes: false,
            holes: Vec::new(),
            listener_reached: None,
            opener_ttl: None,
        };
        let (names, seed) = (Names::new(SESSION), self.entropy.seed());
        let deadline = agreement.deadline;
        let mut session = Session::new(introduction, resources, names, seed, now, deadline);
        for Unclaimed { socket, ends, greeting } in std::mem::take(&mut self.unclaimed) {
            self.adopted.push(socket);
            session.adopt(socket, ends, now);
            if let Some(payload) = greeting {
                session.handle_input(Input::TcpReceived { socket, payload: &payload }, now);
            }
        }
        self.session = Some(session);
        self.work();
        self.pass_commands(now);
    }

    /// Closes everything that was not handed out.
    pub fn stop(&mut self) {
        if let Some(session) = &mut self.session {
            session.cancel();
            self.commands.extend(std::iter::from_fn(|| session.poll_command()));
        }
        self.gatherer.close_port(self.port);
        for Unclaimed { socket, .. } in std::mem::take(&mut self.unclaimed) {
            self.close(socket);
        }
        self.work();
    }

    /// Takes what the session wants done, as far as the budget allows.
    fn pass_commands(&mut self, now: Instant) {
        let Some(session) = &mut self.session else { return };
        while let Some(command) = session.poll_admitted(&mut self.budget, now) {
            self.commands.push_back(command);
        }
    }

    fn close(&mut self, socket: SocketId) {
        let id = self.names.command();
        self.commands.push_back(Command::Close { id, socket });
    }

    fn work(&mut self) {
        while let Some(event) = self.gatherer.poll_event() {
            match event {
                gather::Event::BindFailed { transport, number, failure, .. } => {
                    self.events.push_back(Event::BindFailed { transport, number, failure });
                }
                gather::Event::Changed(_) | gather::Event::Bound(_) => {}
            }
        }
        if !self.gathered && self.gatherer.is_settled(self.port) {
            self.gathered = true;
            self.events.push_back(Event::Gathered);
        }
        let Some(session) = &mut self.session else { return };
        while let Some(event) = session.poll_event() {
            self.events.push_back(match event {
                // Nothing is laid over this path.
                session::Event::Chosen { .. } => continue,
                session::Event::Established { path, report } => {
                    Event::Established { path, report: Box::new(report) }
                }
                session::Event::Failed { report } => Event::Failed { report: Box::new(report) },
            });
        }
        let early = self.early.drain(..).map(|payload| Event::Early { payload });
        self.events.extend(early);
    }

    fn on_accepted(&mut self, socket: SocketId, ends: Ends, now: Instant) {
        match &mut self.session {
            Some(session) => {
                self.adopted.push(socket);
                session.adopt(socket, ends, now);
            }
            None if self.unclaimed.len() < MAX_UNCLAIMED => {
                self.unclaimed.push(Unclaimed { socket, ends, greeting: None });
            }
            None => self.close(socket),
        }
    }

    fn on_datagram(&mut self, socket: SocketId, source: SocketAddr, payload: &[u8], now: Instant) {
        let input = Input::UdpReceived { socket, source, payload };
        let Ok(message) = Message::parse(payload) else {
            let Some(session) = &mut self.session else { return };
            if session.foreign_datagram(socket, source, now) && self.early.len() < MAX_EARLY {
                self.early.push_back(payload.to_vec());
            }
            return;
        };
        let named = session_named_in(&message);
        match &mut self.session {
            Some(session) if named == Some(session.id()) => session.handle_input(input, now),
            Some(_) | None => self.gatherer.handle_input(input, now),
        }
    }

    fn hand_to(&mut self, owner: Owner, input: Input<'_>, now: Instant) {
        match (&mut self.session, owner) {
            (_, GATHERER) => self.gatherer.handle_input(input, now),
            (Some(session), SESSION) => session.handle_input(input, now),
            (_, _) => {}
        }
    }

    /// The part that a stream belongs to.
    fn owner_of(&self, socket: SocketId) -> Owner {
        if self.adopted.contains(&socket) { SESSION } else { socket.owner }
    }
}

impl Machine for Puncher {
    type Input<'a> = Input<'a>;
    type Command = Command;
    type Event = Event;

    fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Answer { id, .. } => self.hand_to(id.owner, input, now),
            Input::UdpReceived { socket, source, payload } => {
                self.on_datagram(socket, source, payload, now);
            }
            Input::TcpAccepted { socket, ends, .. } => self.on_accepted(socket, ends, now),
            Input::Captured { socket, .. } => self.hand_to(socket.owner, input, now),
            Input::TcpReceived { socket, payload } => {
                match self.unclaimed.iter_mut().find(|it| it.socket == socket) {
                    Some(unclaimed) => {
                        unclaimed.greeting.get_or_insert_with(|| payload.to_vec());
                    }
                    None => self.hand_to(self.owner_of(socket), input, now),
                }
            }
            Input::TcpClosed { socket, .. } => {
                self.unclaimed.retain(|it| it.socket != socket);
                self.hand_to(self.owner_of(socket), input, now);
            }
        }
        self.work();
        self.pass_commands(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        let due = |deadline: Option<Deadline>| deadline.is_some_and(|it| it.at <= now);
        if due(self.gatherer.poll_timeout()) {
            self.gatherer.handle_timeout(now);
        }
        if let Some(session) = self.session.as_mut().filter(|it| due(it.poll_timeout())) {
            session.handle_timeout(now);
        }
        self.work();
        self.pass_commands(now);
    }

    fn poll_command(&mut self) -> Option<Command> {
        let parts = self.gatherer.poll_command();
        parts.or_else(|| self.commands.pop_front())
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let session = self.session.as_ref().and_then(Session::poll_timeout);
        Deadline::earlier(self.gatherer.poll_timeout(), session)
    }
}
