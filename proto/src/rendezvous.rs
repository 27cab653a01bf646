//! The broker: peers become known here, and are brought together.
//!
//! A [`Broker`] is told of every message that arrives and answers with messages to send. It knows
//! peers by name for as long as their leases last, proves each address before it keeps anything for
//! it, and on a call hands both peers their orders at once, with the delays that make them start at
//! one moment. `doc/protocol.md` specifies the messages; the peers' half is
//! [`signal::client`](crate::signal::client).
//!
//! ```text
//!   caller                     broker                     callee
//!     │ Connect ────── a ────────▶│                           │
//!     │◀───── a ───── Connected ──┤── Invite ─────── b ──────▶│
//!     ┊ max(a,b) − a              │                           ┊ max(a,b) − b
//!     ▶ both start max(a,b) after the broker's dispatch: at max(2a, a+b) after the call ◀
//!     │                           │◀───── b ───────── Answer ─┤
//!     │◀── Invite indication ─────┤                           │
//! ```
//!
//! What the broker does *not* do: it relays no data, forges nothing, and never sends to an address
//! that has not proved that it receives there, save answers that are no longer than the question
//! (and Binding responses, which RFC 8489 makes 12 or 24 bytes longer).
//!
//! Sends need no answers here, unlike the commands of peers: a datagram that the system refuses is
//! one that the network lost.

mod binding;
mod bucket;
mod config;
mod connect;
mod cookie;
mod counters;
#[cfg(test)]
mod hostile;
mod link;
mod parked;
mod register;
mod registry;
mod session;
#[cfg(test)]
mod tests;
mod timers;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use ntcp_stun::{Class, TransactionId};

use crate::entropy::{Entropy, Seed};
use crate::machine::{Deadline, Machine};
use crate::signal::codec::{MAX_MESSAGE_BYTES, ParseError, Received};
use crate::signal::message::{Body, Message, Refused};
use crate::signal::{ErrorCode, RegistrationId, SessionId, SignalMethod};
use crate::uri::PeerName;
use cookie::Cookies;
use parked::ParkingLot;
use session::Session;
use timers::Timers;

pub use config::Config;
pub use counters::Counters;
pub use link::{Link, StreamId};
pub use registry::{Registration, Registry, Table};

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
}

/// What a request of the broker's own is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// An invitation, or an order after it.
    Session(SessionId),
    /// Whether the holder of a name is alive.
    Ping(RegistrationId),
}

/// The broker's machine.
#[derive(Debug)]
pub struct Broker<R = Table> {
    config: Config,
    entropy: Entropy,
    cookies: Cookies,
    registry: R,
    sessions: BTreeMap<SessionId, Session>,
    parked: ParkingLot,
    asked: BTreeMap<TransactionId, Asked>,
    timers: Timers,
    counters: Counters,
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
}

impl Broker {
    /// A broker with an empty table in memory.
    pub fn new(config: Config, seed: Seed, now: Instant) -> Self {
        Self::with_registry(config, Table::default(), seed, now)
    }
}

impl<R: Registry> Broker<R> {
    /// A broker that keeps its peers in `registry`.
    pub fn with_registry(config: Config, registry: R, seed: Seed, now: Instant) -> Self {
        let mut entropy = Entropy::new(seed);
        let cookies = Cookies::new(entropy.bytes(), now);
        Self {
            config,
            entropy,
            cookies,
            registry,
            sessions: BTreeMap::new(),
            parked: ParkingLot::default(),
            asked: BTreeMap::new(),
            timers: Timers::default(),
            counters: Counters::default(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// What was received, answered and dropped so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Peers registered now.
    pub fn registered(&self) -> usize {
        self.registry.len()
    }

    /// Meetings remembered now.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The peers.
    pub fn registry(&self) -> &R {
        &self.registry
    }

    fn on_received(&mut self, link: Link, payload: &[u8], now: Instant) {
        self.counters.received += 1;
        if payload.len() > MAX_MESSAGE_BYTES {
            self.counters.oversized += 1;
            return;
        }
        match Message::parse(payload) {
            Ok(received) => self.on_message(link, &received, payload.len(), now),
            Err(ParseError::Method(ntcp_stun::Method::BINDING)) => self.on_binding(link, payload),
            Err(ParseError::Method(_)) => self.counters.unknown_method += 1,
            Err(ParseError::NotStun) => self.counters.not_stun += 1,
            Err(ParseError::Damaged) => self.counters.damaged += 1,
            Err(ParseError::Refused { class, transaction, refused }) => {
                self.counters.malformed += 1;
                if class == Class::Request {
                    let message = Message::new(transaction, Body::Refused(refused));
                    self.answer_unproven(link, &message, payload.len());
                }
            }
        }
    }

    fn on_message(&mut self, link: Link, received: &Received<'_>, length: usize, now: Instant) {
        let message = &received.message;
        match (&message.body, message.body.kind().0) {
            (Body::Register(register), _) => {
                self.on_register(link, (message, register), length, now);
            }
            (_, Class::Request) => {
                let authentic = self.authenticate(link, received, length, now);
                if let Some(id) = authentic {
                    self.on_request(id, message, now);
                }
            }
            (_, Class::Success | Class::Error) => self.on_response(received, now),
            (_, Class::Indication) => self.counters.unexpected += 1,
        }
    }

    /// A request of the registered peer `id`, over the link that it is registered with.
    fn on_request(&mut self, id: RegistrationId, message: &Message, now: Instant) {
        match &message.body {
            Body::Refresh(refresh) => self.on_refresh(id, message, refresh, now),
            Body::Unregister => self.on_unregister(id, message),
            Body::Lookup(name) => self.on_lookup(id, message, name),
            Body::Connect(connect) => self.on_connect(id, message, connect, now),
            Body::Ping => self.answer(id, message, Body::Pong),
            _ => self.counters.unexpected += 1,
        }
    }

    /// A response to a request of ours.
    fn on_response(&mut self, received: &Received<'_>, now: Instant) {
        let transaction = received.message.transaction;
        let Some(asked) = self.asked.get(&transaction).copied() else {
            self.counters.unexpected += 1;
            return;
        };
        let peer = match asked {
            Asked::Session(session) => self.sessions.get(&session).map(Session::callee),
            Asked::Ping(id) => Some(id),
        };
        let key = peer.and_then(|id| self.registry.get(id)).map(|it| it.key);
        if !key.is_some_and(|key| received.is_signed_by(&key)) {
            self.counters.unsigned += 1;
            return;
        }
        match asked {
            Asked::Session(session) => self.on_callee(session, &received.message.body, now),
            Asked::Ping(id) => self.on_pong(id, now),
        }
    }

    /// Tells who sent a request, and takes a new address over if the sender proves it.
    fn authenticate(
        &mut self,
        link: Link,
        received: &Received<'_>,
        length: usize,
        now: Instant,
    ) -> Option<RegistrationId> {
        let message = &received.message;
        let registration = message.registration.and_then(|id| self.registry.get(id));
        let known = registration.filter(|it| received.is_signed_by(&it.key));
        let Some(&Registration { id, link: known_link, .. }) = known else {
            self.counters.unknown_registration += 1;
            self.refuse_with_nonce(link, message, ErrorCode::UnknownRegistration, length, now);
            return None;
        };
        if link != known_link {
            if !self.has_proved(link, message, now) {
                self.counters.stale_nonce += 1;
                self.refuse_with_nonce(link, message, ErrorCode::StaleNonce, length, now);
                return None;
            }
            self.relink(id, link);
        }
        if !self.take_token(id, now) {
            self.counters.rate_limited += 1;
            self.answer(id, message, refused(message, ErrorCode::TooManyRequests));
            return None;
        }
        Some(id)
    }

    /// Whether the sender receives what is sent to it: a stream's handshake has shown it, a
    /// datagram's nonce does.
    fn has_proved(&self, link: Link, message: &Message, now: Instant) -> bool {
        match link {
            Link::Tcp { .. } => true,
            Link::Udp { remote, .. } => {
                message.nonce.as_ref().is_some_and(|nonce| self.cookies.is_ours(nonce, remote, now))
            }
        }
    }

    /// Refuses a request of somebody unknown and tells the nonce that would help.
    fn refuse_with_nonce(
        &mut self,
        link: Link,
        message: &Message,
        code: ErrorCode,
        length: usize,
        now: Instant,
    ) {
        let answer = message.answer(refused(message, code));
        let nonce = self.cookies.bake(link.remote(), now);
        self.answer_unproven(link, &answer.with_nonce(nonce), length);
    }

    /// Answers somebody who may have forged its address: never with more bytes than it sent, which
    /// leaves no room for a signature.
    fn answer_unproven(&mut self, link: Link, message: &Message, length: usize) {
        let payload = message.emit(None);
        if payload.len() > length && matches!(link, Link::Udp { .. }) {
            self.counters.would_amplify += 1;
            return;
        }
        self.counters.refused += 1;
        self.commands.push_back(Command::Send { link, payload });
    }

    /// Answers a request of a registered peer.
    fn answer(&mut self, id: RegistrationId, request: &Message, body: Body) {
        let is_refusal = matches!(body, Body::Refused(_));
        self.send(id, &request.answer(body));
        if is_refusal {
            self.counters.refused += 1;
        } else {
            self.counters.answered += 1;
        }
    }

    /// Sends to a registered peer.
    fn send(&mut self, id: RegistrationId, message: &Message) {
        let Some(registration) = self.registry.get(id) else { return };
        let payload = message.emit(Some(&registration.key));
        self.commands.push_back(Command::Send { link: registration.link, payload });
    }

    /// Sends to a registered peer, twice where one datagram could get lost.
    fn send_surely(&mut self, id: RegistrationId, message: &Message) {
        if let Some(Registration { link: Link::Udp { .. }, .. }) = self.registry.get(id) {
            self.send(id, message);
        }
        self.send(id, message);
    }
}

/// The refusal of `message` with `code`.
fn refused(message: &Message, code: ErrorCode) -> Body {
    let (_, method): (_, SignalMethod) = message.body.kind();
    Body::Refused(Refused::new(method, code))
}

impl<R: Registry> Machine for Broker<R> {
    type Input<'a> = Input<'a>;
    type Command = Command;
    type Event = Event;

    fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Received { link, payload } => self.on_received(link, payload, now),
            Input::Closed { stream } => self.on_closed(stream),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                timers::Timer::Lease(id) => {
                    self.counters.expired += 1;
                    self.remove(id, Departure::Expired);
                }
                timers::Timer::Challenge(id) => self.on_challenge_timer(id, now),
                timers::Timer::Session(id) => self.on_session_timer(id, now),
                timers::Timer::Parked(ticket) => self.on_parked_timer(ticket),
            }
        }
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.next()
    }
}
