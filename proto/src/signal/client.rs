//! A peer's life at its broker: register, stay registered, call and be called.

mod config;
mod error;
mod event;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{NatSummary, Round, SessionId};
use crate::address::Family;
use crate::candidate::Candidate;
use crate::command::Names;
use crate::entropy::{Entropy, Seed};
use crate::machine::{Deadline, Machine};
use crate::uri::{PeerName, TransportChoice};
use crate::{Command, Input, SocketId};

pub use config::{Config, DEFAULT_TCP_PORT, DEFAULT_UDP_PORT};
pub use error::{ConnectError, Link, LinkError, LossReason, RegistrationError};
pub use event::{Event, RequestId};

/// Most calls under way at once; [`Client::connect`] fails a further one.
pub const MAX_CALLS: usize = 64;

/// What a call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which transports to use.
    pub transport: TransportChoice,
    /// Where we may be reached for this call.
    pub candidates: Vec<Candidate>,
    /// [`Round::FIRST`] for the fast path; later ones make the callee gather anew.
    pub round: Round,
}

/// Whether calls are welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Invitations are answered and told.
    Accepting,
    /// Invitations are declined.
    Declining,
}

/// The machine of a peer at its broker.
#[derive(Debug)]
pub struct Client {
    config: Config,
    names: Names,
    entropy: Entropy,
    availability: Availability,
    calls: u64,
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
}

impl Client {
    /// A client that does nothing until [`Client::start`].
    pub fn new(config: Config, names: Names, seed: Seed) -> Self {
        Self {
            config,
            names,
            entropy: Entropy::new(seed),
            availability: Availability::Accepting,
            calls: 0,
            commands: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Lends the client a UDP socket of `family`, one for each family at most. The owner passes it
    /// the datagrams that [`Client::accepts`]. The best is the very socket that will punch: its
    /// mapping is then kept open by the refreshes, and seen by the broker.
    pub fn set_udp_socket(&mut self, family: Family, socket: SocketId) {
        let _ = (family, socket);
    }

    /// Resolves the broker and registers. Peers see `candidates` and `nat`.
    pub fn start(&mut self, candidates: Vec<Candidate>, nat: NatSummary, now: Instant) {
        let _ = (candidates, nat, now);
    }

    /// Replaces what peers see.
    pub fn update_candidates(&mut self, candidates: Vec<Candidate>, nat: NatSummary, now: Instant) {
        let _ = (candidates, nat, now);
    }

    /// Calls `callee`. Ends in [`Event::Punch`] or [`Event::ConnectFailed`] with this id; a call
    /// made before the registration stands waits for it.
    pub fn connect(&mut self, callee: &PeerName, call: Call, now: Instant) -> RequestId {
        let _ = (callee, call, now);
        self.calls += 1;
        RequestId(self.calls)
    }

    /// Forgets a call: no more events of it.
    pub fn cancel(&mut self, request: RequestId, now: Instant) {
        let _ = (request, now);
    }

    /// Answers [`Event::Gather`] with fresh candidates.
    pub fn answer(&mut self, session: SessionId, candidates: Vec<Candidate>, now: Instant) {
        let _ = (session, candidates, now);
    }

    /// Refuses [`Event::Gather`].
    pub fn decline(&mut self, session: SessionId, now: Instant) {
        let _ = (session, now);
    }

    /// Says whether calls are welcome from now on; they are at first.
    pub fn set_availability(&mut self, availability: Availability) {
        self.availability = availability;
    }

    /// Ends the registration; [`Event::Unregistered`] is the last event.
    pub fn unregister(&mut self, now: Instant) {
        let _ = now;
    }

    /// Whether a datagram that arrived on a shared socket is for this client: a STUN message of one
    /// of the signalling methods that comes from the broker.
    pub fn accepts(&self, source: SocketAddr, payload: &[u8]) -> bool {
        let _ = (source, payload);
        false
    }

    /// Round-trip time to the broker, once measured.
    pub fn rtt(&self) -> Option<Duration> {
        None
    }
}

impl Machine for Client {
    type Input<'a> = Input<'a>;
    type Command = Command;
    type Event = Event;

    fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        let _ = (input, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}
