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
//! While they punch, the two may tell each other what they learn, a few hundred bytes at a time:
//! addresses that became known late, or that a packet has left. Where it is configured to, the broker
//! answers two peers' SYNs in each other's name ([`forging`](mod@forging)), finds out whether its network lets
//! such packets out, and it remembers which strategies came through between which NATs. What it does
//! *not* do: it relays no data, and never sends to an address that has not proved that it receives
//! there, save answers that are no longer than the question
//! (and Binding responses, which RFC 8489 makes 12 bytes longer over IPv4 and 24 over IPv6).
//!
//! Sends need no answers here, unlike the commands of peers: a datagram that the system refuses is
//! one that the network lost.

mod access;
mod authenticate;
mod binding;
mod bucket;
mod cluster;
mod compact;
mod config;
mod connect;
mod cookie;
mod counters;
mod dismissal;
mod forgers;
pub mod forging;
#[cfg(test)]
mod hostile;
mod index;
mod leases;
mod link;
mod memory;
mod parked;
mod probing;
mod register;
mod registry;
mod relay;
mod secure;
mod session;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod timers;
mod vocabulary;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use ntcp_stun::{Class, TransactionId};

use crate::entropy::{Entropy, Seed};
use crate::machine::{Deadline, Machine};
use crate::secrecy::SecretKey;
use crate::signal::codec::{MAX_MESSAGE_BYTES, ParseError, Received};
use crate::signal::envelope::Envelope;
use crate::signal::message::{Body, Message, Refused};
use crate::signal::{ErrorCode, RegistrationId, SessionId, SignalMethod};
use access::WallClock;
use cluster::Cluster;
use cookie::Cookies;
use dismissal::Dismissal;
use forging::{Forgery, Meters};
use leases::Leases;
use memory::Memory;
use parked::ParkingLot;
use probing::Prober;
use secure::{Gate, Keys, Spent};
use session::Session;
use timers::Timers;

pub use access::{Access, Account};
pub use cluster::{BrokerId, Claim, Listing, Whereabouts};
pub use config::{Config, InTheClear, Names};
pub use counters::Counters;
pub use forging::{ForgeLimits, Forging};
pub use link::{Link, StreamId};
pub use registry::{Registration, Registry};
pub use table::Table;
pub use vocabulary::{Command, Departure, Event, Input};

/// What a request of the broker's own is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// An invitation, or an order after it.
    Session(SessionId),
    /// Whether the holder of a name is alive.
    Ping(RegistrationId),
    /// Whether a peer has opened its NAT for a probe.
    Probe(RegistrationId),
}

/// A registered peer that asks, and where it hears the answer.
#[derive(Debug, Clone, Copy)]
struct Asker {
    id: RegistrationId,
    link: Link,
}

/// The broker's machine.
#[derive(Debug)]
pub struct Broker<R = Table> {
    config: Config,
    entropy: Entropy,
    cookies: Cookies,
    keys: Keys,
    spent: Spent,
    gate: Gate,
    registry: R,
    sessions: BTreeMap<SessionId, Session>,
    parked: ParkingLot,
    asked: BTreeMap<TransactionId, Asked>,
    forgeries: BTreeMap<SessionId, Forgery>,
    meters: Meters,
    prober: Prober,
    memory: Memory,
    timers: Timers,
    leases: Leases,
    /// There if the broker is not alone.
    cluster: Option<Cluster>,
    /// There once the broker stops.
    dismissal: Option<Dismissal>,
    wall_clock: WallClock,
    counters: Counters,
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
}

impl Broker {
    /// A broker with an empty table in memory.
    pub fn new(config: Config, seed: Seed, now: Instant) -> Self {
        // What is drawn from this seed elsewhere begins with the key of the nonces, which is never shown either.
        let mut entropy = Entropy::new(Seed(seed.0.map(|byte| !byte)));
        let table = Table::new([entropy.number(), entropy.number()]);
        Self::with_registry(config, table, seed, now)
    }
}

impl<R: Registry> Broker<R> {
    /// A broker that keeps its peers in `registry`.
    pub fn with_registry(config: Config, registry: R, seed: Seed, now: Instant) -> Self {
        let mut entropy = Entropy::new(seed);
        let cookies = Cookies::new(entropy.bytes(), now);
        let keys = match config.keys.as_slice() {
            [] => vec![SecretKey::from_bytes(entropy.bytes())],
            some => some.to_vec(),
        };
        Self {
            cluster: config.cluster.map(Cluster::new),
            config,
            entropy,
            cookies,
            keys: Keys::new(keys),
            spent: Spent::default(),
            gate: Gate::default(),
            registry,
            sessions: BTreeMap::new(),
            parked: ParkingLot::default(),
            asked: BTreeMap::new(),
            forgeries: BTreeMap::new(),
            meters: Meters::default(),
            prober: Prober::default(),
            memory: Memory::default(),
            timers: Timers::default(),
            leases: Leases::new(now),
            dismissal: None,
            wall_clock: WallClock::default(),
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
        self.take_in(link, payload, now);
        self.hold(link, payload);
    }

    fn take_in(&mut self, link: Link, payload: &[u8], now: Instant) {
        if payload.len() > MAX_MESSAGE_BYTES {
            self.counters.oversized += 1;
            return;
        }
        if let Some(envelope) = Envelope::parse(payload) {
            return self.on_sealed(link, &envelope, payload.len(), now);
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
                self.on_register(link, (received, register), length, now);
            }
            (Body::Hello, _) => self.on_hello(link, message, length, now),
            (Body::Secure(secure), _) => self.on_secure(link, (message, secure), length, now),
            (_, Class::Request) => {
                let asker = self.authenticate(link, received, length, now);
                if let Some(asker) = asker {
                    self.on_request(asker, message, now);
                }
            }
            (_, Class::Success | Class::Error) => self.on_response(received, now),
            (Body::Relay(relay), _) => self.on_relay(link, received, relay, now),
            (Body::Probed, _) => self.on_probed(link, received, now),
            (Body::Outcome(outcome), _) => self.on_outcome(link, received, outcome, now),
            (_, Class::Indication) => self.counters.unexpected += 1,
        }
    }

    /// A request of a registered peer.
    fn on_request(&mut self, asker: Asker, message: &Message, now: Instant) {
        match &message.body {
            Body::Refresh(refresh) => self.on_refresh(asker, message, refresh, now),
            Body::Unregister => self.on_unregister(asker, message),
            Body::Lookup(name) => self.on_lookup(asker, message, name),
            Body::Connect(connect) => self.on_connect(asker, message, connect, now),
            Body::Ping => self.answer(asker, message, Body::Pong),
            Body::Forge(forge) => self.on_forge(asker, message, forge, now),
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
            Asked::Ping(id) | Asked::Probe(id) => Some(id),
        };
        let peer = peer.and_then(|id| self.registry.get(id));
        if !peer.is_some_and(|it| Self::vouches(it, received)) {
            self.counters.unsigned += 1;
            return;
        }
        match asked {
            Asked::Session(session) => self.on_callee(session, &received.message.body, now),
            Asked::Ping(id) => self.on_pong(id, now),
            Asked::Probe(_) if received.message.body == Body::Probing => self.on_probing(now),
            Asked::Probe(_) => {}
        }
    }

    /// Answers a request of a registered peer, on the link that it came on.
    fn answer(&mut self, asker: Asker, request: &Message, body: Body) {
        if matches!(body, Body::Refused(_)) {
            self.counters.refused += 1;
        } else {
            self.counters.answered += 1;
        }
        self.send_on(asker.link, asker.id, &request.answer(body));
    }

    /// Answers twice where one datagram could get lost.
    fn answer_surely(&mut self, asker: Asker, request: &Message, body: Body) {
        if let Link::Udp { .. } = asker.link {
            self.send_on(asker.link, asker.id, &request.answer(body.clone()));
        }
        self.answer(asker, request, body);
    }

    /// Sends to a registered peer.
    fn send(&mut self, id: RegistrationId, message: &Message) {
        if let Some(registration) = self.registry.get(id) {
            self.send_on(registration.link(), id, message);
        }
    }

    fn send_on(&mut self, link: Link, id: RegistrationId, message: &Message) {
        if self.deliver_elsewhere(link, message) {
            return;
        }
        let Some(payload) = self.protected(id, message) else { return };
        self.commands.push_back(Command::Send { link, payload });
    }

    /// Sends to a registered peer, twice where one datagram could get lost.
    fn send_surely(&mut self, id: RegistrationId, message: &Message) {
        let Some(link) = self.registry.get(id).map(Registration::link) else { return };
        if self.deliver_elsewhere(link, message) {
            return;
        }
        let Some(payload) = self.protected(id, message) else { return };
        if let Link::Udp { .. } = link {
            self.commands.push_back(Command::Send { link, payload: payload.clone() });
        }
        self.commands.push_back(Command::Send { link, payload });
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
            Input::Claimed { name, claim, wanted_by } => {
                self.on_claimed(&name, (claim, &wanted_by), now);
            }
            Input::Found { name, at } => self.on_found(&name, at, now),
            Input::Letter { from, letter } => self.on_letter(from, letter, now),
            Input::Reunited => self.on_reunited(now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(look) = self.leases.take_due(now) {
            self.on_look(look, now);
        }
        while let Some(timer) = self.timers.take_due(now) {
            match timer {
                timers::Timer::Challenge(id) => self.on_challenge_timer(id, now),
                timers::Timer::Session(id) => self.on_session_timer(id, now),
                timers::Timer::Parked(ticket) => self.on_parked_timer(ticket),
                timers::Timer::Forge(id) => self.on_forge_timer(id, now),
                timers::Timer::Probe => self.on_probe_timer(now),
                timers::Timer::Reclaim => self.on_reclaim_timer(now),
                timers::Timer::Away(session) => self.on_away_timer(session),
                timers::Timer::Dismissal => self.on_dismissal_timer(now),
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
        let lease = self.leases.next().map(|at| Deadline::new(at, "end a lease"));
        lease.into_iter().chain(self.timers.next()).min_by_key(|it| it.at)
    }
}
