//! A peer as a whole: its ports, its registration, its calls.
//!
//! A [`Node`] is composed of a [`Gatherer`], a signalling [`Client`] and one
//! [`Session`] for each peer that is being reached. It opens a listening
//! port, registers what the outside calls it, and keeps one more port in reserve so that a call can
//! leave the moment it is made. The parts share one vocabulary; the node hands each its inputs by
//! the owner in the names of commands and sockets, and looks into datagrams only to tell whose they
//! are.
//!
//! ```text
//!  start ──▶ ports bound ──▶ registered and mappings known: Ready ──▶ call ──▶ Punch ──▶ session ──▶ Connected
//!                 │                         │                          └──────▶ Failed ◀────┘
//!                 └── BindFailed            └── RegistrationFailed (tried again until it is final)
//! ```

mod calls;
mod holes;
mod route;
mod unclaimed;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use unclaimed::Unclaimed;

#[cfg(test)]
pub(crate) use calls::nat_told;
pub use calls::{CallError, CallId};

use crate::access::Credentials;
use crate::address::Family;
use crate::candidate::{Candidate, Transport};
use crate::command::{Ends, Names, Owner};
use crate::entropy::{Entropy, Seed};
use crate::machine::{Deadline, Machine};
use crate::nat::NatReport;
use crate::puncher::Report;
use crate::puncher::gather::{self, Gatherer, PortId};
use crate::puncher::report::{Attempt, AttemptResult, Strategy};
use crate::puncher::session::{self, Path, Session};
use crate::secrecy::PublicKey;
use crate::signal::client::{
    self, Availability, BrokerIdentity, Client, Link, LossReason, RegistrationError,
};
use crate::signal::message::Note;
use crate::signal::{
    ErrorCode, Fingerprint, NatSummary, Role, SessionId, SessionSecret, StrategyOutcome,
};
use crate::tcp_traversal::budget::{Budget, Limits};
use crate::tcp_traversal::plan::Privileges;
use crate::uri::{HostPort, PeerName};
use crate::{Command, Input, IoFailure, SocketId};

const GATHERER: Owner = Owner(1);
const CLIENT: Owner = Owner(2);
const NODE: Owner = Owner(3);
/// Sessions own names from here on.
const FIRST_SESSION: u32 = 16;

/// Paths that are being opened at once; a further invitation is declined, a further call fails.
pub const MAX_SESSIONS: usize = 64;
/// Sessions at once with those whose path stands, but whose last words may still be repeated: a second over UDP.
const MAX_REMEMBERED: usize = 1024;
/// How long a callee tries. The caller's own deadline counts on its side.
const CALLEE_PATIENCE: Duration = Duration::from_secs(10);
/// Datagrams of a next layer that wait for its path to be told; a further one is dropped.
const MAX_EARLY: usize = 16;

/// What a node is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name and brokers, and the patience with them.
    pub signal: client::Config,
    /// STUN servers, best first.
    pub stun: Vec<HostPort>,
    /// UDP port to listen on; 0 takes any free one.
    pub udp_port: u16,
    /// How many TCP connections may be begun.
    pub budget: Limits,
}

/// What a node tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Registered, and every mapping known that will be known soon.
    Ready {
        /// The broker's view of us.
        observed: SocketAddr,
        /// How it is spoken to.
        link: Link,
        /// Round-trip time to it.
        rtt: Duration,
        /// Who it is.
        identity: BrokerIdentity,
    },
    /// A socket could not be opened.
    BindFailed {
        /// UDP or TCP.
        transport: Transport,
        /// The port number asked for.
        number: u16,
        /// Why.
        failure: IoFailure,
    },
    /// An attempt to register failed.
    RegistrationFailed {
        /// Why.
        error: RegistrationError,
    },
    /// The registration is gone and being made anew.
    RegistrationLost {
        /// Why.
        reason: LossReason,
    },
    /// The registration stands again after it was lost.
    RegistrationRestored,
    /// A session depends on which ports our NAT gives out next, or none does any longer. Meanwhile each
    /// connection of this host that can wait should.
    CountingPorts(bool),
    /// A stream of a call is most likely its path: the next layer may begin on it, before [`Event::Connected`] names it or another.
    Chosen(Box<Chosen>),
    /// A path to a peer stands.
    Connected(Box<Connected>),
    /// A datagram of the peer's next layer came to the shared socket before the path's own took
    /// over.
    Early {
        /// The meeting whose path it came over, connected before.
        session: SessionId,
        /// The datagram.
        payload: Vec<u8>,
    },
    /// A call came to nothing.
    CallFailed {
        /// The call.
        call: CallId,
        /// Why.
        error: CallError,
        /// Everything that was tried.
        report: Box<Report>,
    },
    /// Unregistered; nothing more will come.
    Stopped,
}

/// A stream that a caller has chosen, and on which the peer has yet to prove itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The call.
    pub call: CallId,
    /// The stream.
    pub socket: SocketId,
    /// The other peer's certificate.
    pub fingerprint: Fingerprint,
    /// The other peer's key, as in [`Connected`].
    pub identity: Option<PublicKey>,
    /// What only the two peers and their broker know.
    pub secret: SessionSecret,
    /// Whether the other peer's TCP paths are to be the bare socket.
    pub bare: bool,
}

/// A path to a peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Connected {
    /// The call; `None` when the peer called.
    pub call: Option<CallId>,
    /// The meeting.
    pub session: SessionId,
    /// The other peer; `None` for a caller without a name.
    pub peer: Option<PeerName>,
    /// Whether we called.
    pub role: Role,
    /// The other peer's certificate.
    pub fingerprint: Fingerprint,
    /// The other peer's key, as the broker has had it proven; `None` if that peer speaks to the
    /// broker in the clear.
    pub identity: Option<PublicKey>,
    /// What only the two peers and their broker know.
    pub secret: SessionSecret,
    /// Whether the other peer's TCP paths are to be the bare socket.
    pub bare: bool,
    /// The path.
    pub path: Path,
    /// When the call was made, or the invitation came.
    pub called: Instant,
    /// Everything that was tried.
    pub report: Report,
}

/// A session, and what the node must know of it.
#[derive(Debug)]
struct Running {
    session: Session,
    owner: Owner,
    call: Option<CallId>,
    port: PortId,
    role: Role,
    fingerprint: Fingerprint,
    identity: Option<PublicKey>,
    secret: SessionSecret,
    bare: bool,
    called: Instant,
    /// The port that serves this session as its reserve, if that is not the node's.
    second: Option<PortId>,
    /// The port besides, if the session has needed the node's reserve.
    reserve: Option<PortId>,
    /// What the peer was told of our addresses.
    told: Vec<Candidate>,
    /// What the session told the peer besides.
    note: Note,
    /// Datagrams of the next layer that have not been told yet.
    early: VecDeque<Vec<u8>>,
}

/// One peer.
#[derive(Debug)]
pub struct Node {
    config: Config,
    entropy: Entropy,
    names: Names,
    gatherer: Gatherer,
    client: Client,
    nat: Option<NatReport>,
    listening: PortId,
    reserve: PortId,
    started: bool,
    announced: Vec<Candidate>,
    registered: Option<(SocketAddr, Link, Duration, BrokerIdentity)>,
    ready: bool,
    counting_ports: bool,
    stopping: bool,
    calls: BTreeMap<CallId, calls::Call>,
    made_calls: u64,
    sessions: BTreeMap<SessionId, Running>,
    made_sessions: u32,
    budget: Budget,
    privileges: Option<Privileges>,
    opener_ttl: Option<u8>,
    listener_reached: Option<bool>,
    classic: bool,
    /// What sessions have left open for later ones.
    holes: holes::Holes,
    /// Accepted streams and the sessions that have them.
    adopted: BTreeMap<SocketId, SessionId>,
    /// Accepted streams of which nobody knows yet whose they are.
    unclaimed: BTreeMap<SocketId, Unclaimed>,
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
}

impl Node {
    /// A node that starts at once.
    pub fn new(config: Config, seed: Seed, now: Instant) -> Self {
        let mut entropy = Entropy::new(seed);
        let config_budget = config.budget;
        let client::Config { udp_broker, tcp_broker, .. } = &config.signal;
        let (udp, tcp) = (udp_broker.as_ref(), tcp_broker.as_ref());
        let mut gatherer =
            Gatherer::new(&config.stun, udp, tcp, Names::new(GATHERER), entropy.seed());
        let listening = gatherer.open_port(config.udp_port, now);
        let reserve = gatherer.open_port(0, now);
        let client = Client::new(config.signal.clone(), Names::new(CLIENT), entropy.seed());
        Self {
            config,
            entropy,
            names: Names::new(NODE),
            gatherer,
            client,
            nat: None,
            listening,
            reserve,
            started: false,
            announced: Vec::new(),
            registered: None,
            ready: false,
            counting_ports: false,
            stopping: false,
            calls: BTreeMap::new(),
            made_calls: 0,
            sessions: BTreeMap::new(),
            made_sessions: 0,
            budget: Budget::new(config_budget),
            privileges: None,
            opener_ttl: None,
            listener_reached: None,
            classic: false,
            holes: holes::Holes::default(),
            adopted: BTreeMap::new(),
            unclaimed: BTreeMap::new(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The name it registers under.
    pub fn name(&self) -> Option<&PeerName> {
        self.config.signal.name.as_ref()
    }

    /// What a discovery found out about our NATs: peers are told, and reports carry it. Attempts that are under
    /// way go by it from now on.
    pub fn set_nat(&mut self, nat: NatReport, now: Instant) {
        for running in self.sessions.values_mut() {
            let found = (self.opener_ttl, self.listener_reached);
            running.session.set_nat(nat.clone(), found, now);
        }
        self.nat = Some(nat);
        self.announce(now);
        self.work(now);
    }

    /// What is shown to a broker that is closed to outsiders, from the next registration on.
    pub fn set_credentials(&mut self, credentials: Option<Credentials>) {
        self.client.set_credentials(credentials);
    }

    /// The TTL with which a SYN opens the outermost NAT of this host; sessions that begin from now on
    /// use it.
    pub fn set_opener_ttl(&mut self, ttl: Option<u8>) {
        self.opener_ttl = ttl;
    }

    /// Whether a listener of this host is reached over TCP from an end that has refused it with an RST;
    /// sessions that begin from now on use it.
    pub fn set_listener_reached(&mut self, reached: Option<bool>) {
        self.listener_reached = reached;
    }

    /// Connect, close and listen is asked for in calls from now on.
    pub fn ask_for_connect_close_listen(&mut self) {
        self.classic = true;
    }

    /// What this host may do with TCP; sessions that begin from now on use it.
    pub fn set_privileges(&mut self, privileges: Privileges) {
        self.privileges = Some(privileges);
    }

    /// Ends the registration and every attempt; [`Event::Stopped`] follows.
    pub fn stop(&mut self, now: Instant) {
        self.stopping = true;
        for call in self.calls.keys().copied().collect::<Vec<_>>() {
            self.cancel(call, now);
        }
        for running in self.sessions.values_mut() {
            running.session.cancel();
        }
        self.client.unregister(now);
        self.work(now);
    }

    fn summary(&self) -> NatSummary {
        self.nat.as_ref().map(NatSummary::from).unwrap_or_default()
    }

    /// Starts the registration as soon as there is a socket to register.
    fn on_gathered(&mut self, event: &gather::Event, now: Instant) {
        match *event {
            gather::Event::Bound(port) if port == self.listening && !self.started => {
                self.started = true;
                for (socket, local) in self.gatherer.udp_sockets(port) {
                    self.client.set_udp_socket(Family::of(local.ip()), socket);
                }
                self.announced = self.gatherer.candidates(port);
                self.client.start(self.announced.clone(), self.summary(), now);
            }
            gather::Event::Bound(_) => {}
            gather::Event::Changed(port) => {
                if port == self.listening {
                    self.announce(now);
                }
                self.tell_peers(port, now);
            }
            gather::Event::BindFailed { transport, number, failure, .. } => {
                self.events.push_back(Event::BindFailed { transport, number, failure });
            }
        }
    }

    /// Tells the broker of new candidates.
    fn announce(&mut self, now: Instant) {
        if !self.started || self.stopping {
            return;
        }
        let candidates = self.gatherer.candidates(self.listening);
        self.announced.clone_from(&candidates);
        self.client.update_candidates(candidates, self.summary(), now);
    }

    /// Tells the peers that are being reached from a port what has become known of it since they
    /// were told: a session must not depend on what was known when it began.
    fn tell_peers(&mut self, port: PortId, now: Instant) {
        let candidates = self.gatherer.candidates(port);
        for (session, running) in &mut self.sessions {
            let is_new = |it: &Candidate| !running.told.contains(it);
            if running.port == port && candidates.iter().any(is_new) {
                running.told.clone_from(&candidates);
                self.client.publish(*session, candidates.clone(), running.note.clone(), now);
            }
        }
    }

    fn on_signal(&mut self, event: client::Event, now: Instant) {
        match event {
            client::Event::Registered { observed, link, rtt, identity, .. } => {
                if self.client.capabilities().forges {
                    self.gatherer.want_broker(now);
                }
                if link == Link::Udp {
                    self.gatherer.observed(self.listening, observed);
                }
                if self.registered.replace((observed, link, rtt, identity)).is_none() && self.ready
                {
                    self.events.push_back(Event::RegistrationRestored);
                }
            }
            client::Event::ObservedAddressChanged { after, .. } => {
                self.gatherer.observed(self.listening, after);
            }
            client::Event::RegistrationFailed { error, .. } => {
                self.events.push_back(Event::RegistrationFailed { error });
            }
            client::Event::RegistrationLost { reason } => {
                self.registered = None;
                self.events.push_back(Event::RegistrationLost { reason });
            }
            client::Event::Punch { request, punch } => self.on_punch(request, punch, now),
            client::Event::Gather { session, .. } => self.client.decline(session, now),
            client::Event::PeerAnswered { session, candidates, .. } => {
                if let Some(running) = self.sessions.get_mut(&session) {
                    running.session.add_candidates(&candidates, now);
                }
            }
            client::Event::PeerNews { session, candidates, note } => {
                if let Some(running) = self.sessions.get_mut(&session) {
                    running.session.add_candidates(&candidates, now);
                    running.session.on_note(note.as_bytes(), now);
                }
            }
            client::Event::Forged { session, result } => {
                if let Some(running) = self.sessions.get_mut(&session) {
                    running.session.on_forged(result, now);
                }
            }
            client::Event::PeerRefused { session, code, .. } => {
                if let Some(running) = self.sessions.get_mut(&session) {
                    running.session.refused(code, now);
                }
            }
            client::Event::ConnectFailed { request, error } => {
                self.on_connect_failed(request, error);
            }
            client::Event::Unregistered => self.on_unregistered(),
        }
    }

    fn on_unregistered(&mut self) {
        self.gatherer.close_port(self.listening);
        self.gatherer.close_port(self.reserve);
        self.close_holes(|_| true);
        for socket in std::mem::take(&mut self.unclaimed).into_keys() {
            self.close(socket);
        }
        self.events.push_back(Event::Stopped);
    }

    fn close(&mut self, socket: SocketId) {
        let id = self.names.command();
        self.commands.push_back(Command::Close { id, socket });
    }

    fn check_ready(&mut self) {
        let Some((observed, link, rtt, identity)) = self.registered else { return };
        let settled = [self.listening, self.reserve].iter().all(|it| self.gatherer.is_settled(*it));
        if settled && !self.ready {
            self.ready = true;
            self.events.push_back(Event::Ready { observed, link, rtt, identity });
        }
    }

    /// Whether another path may be opened.
    fn has_room(&self) -> bool {
        let racing = || self.sessions.values().filter(|it| it.session.is_racing()).count();
        let all = self.sessions.len();
        all < MAX_SESSIONS || (all < MAX_REMEMBERED && racing() < MAX_SESSIONS)
    }

    /// Passes the parts' events on until there are none.
    fn work(&mut self, now: Instant) {
        loop {
            if let Some(event) = self.gatherer.poll_event() {
                self.on_gathered(&event, now);
            } else if let Some(event) = self.client.poll_event() {
                self.on_signal(event, now);
            } else if !self.work_session(now) {
                break;
            }
        }
        let availability =
            if self.has_room() { Availability::Accepting } else { Availability::Declining };
        self.client.set_availability(availability);
        self.place_calls(now);
        self.give_reserve(now);
        self.check_ready();
        self.pass_notes(now);
        self.pass_forging(now);
        self.pass_commands(now);
        self.tell_whether_ports_count();
    }

    fn tell_whether_ports_count(&mut self) {
        let counting = self.sessions.values().any(|it| it.session.counts_ports());
        if counting != self.counting_ports {
            self.counting_ports = counting;
            self.events.push_back(Event::CountingPorts(counting));
        }
    }

    /// Takes what sessions want the broker to answer.
    fn pass_forging(&mut self, now: Instant) {
        for (session, running) in &mut self.sessions {
            let handshake = running.session.poll_admitted_forge(&mut self.budget, now);
            let Some(handshake) = handshake else { continue };
            let family = Family::of(handshake.remote.ip());
            match self.gatherer.broker_stream(running.port, family) {
                Some(stream) => self.client.forge(*session, stream, Some(handshake), now),
                // The connection broke; there may be a new one soon.
                None => running.session.on_forged(Err(ErrorCode::NoAnswer), now),
            }
        }
    }

    /// What servers and sessions tell, on its way to sessions and peers.
    fn pass_notes(&mut self, now: Instant) {
        let reserve = self.gatherer.tcp_sample(self.reserve);
        for (session, running) in &mut self.sessions {
            running.session.set_told(self.gatherer.tcp_told(running.port), now);
            let second = running.second.map(|port| self.gatherer.tcp_sample(port));
            if let Some(reserve) = second.unwrap_or(reserve) {
                running.session.set_reserve(reserve, now);
            }
            let note = running.session.poll_note();
            if let Some(note) = note.and_then(|note| Note::new(&note)) {
                running.note = note.clone();
                self.client.publish(*session, running.told.clone(), note, now);
            }
        }
    }

    /// A session that has sent something from the reserve has it for itself.
    fn give_reserve(&mut self, now: Instant) {
        let locals = self.gatherer.tcp_locals(self.reserve);
        let uses = |it: &&mut Running| {
            it.second.is_none() && it.session.used_reserve().is_some_and(|it| locals.contains(&it))
        };
        if let Some(running) = self.sessions.values_mut().find(uses) {
            running.reserve =
                Some(std::mem::replace(&mut self.reserve, self.gatherer.open_port(0, now)));
        }
    }

    /// Takes what the sessions want done, as far as the budget allows.
    fn pass_commands(&mut self, now: Instant) {
        for running in self.sessions.values_mut() {
            while let Some(command) = running.session.poll_admitted(&mut self.budget, now) {
                self.commands.push_back(command);
            }
        }
    }

    /// Handles one event of a session, or drops one finished session. Whether there was any.
    fn work_session(&mut self, now: Instant) -> bool {
        let next = self
            .sessions
            .iter_mut()
            .find_map(|(id, running)| Some((*id, running.session.poll_event()?)));
        if let Some((id, event)) = next {
            self.on_session(id, event, now);
            return true;
        }
        let early =
            self.sessions.iter_mut().find_map(|(id, it)| Some((*id, it.early.pop_front()?)));
        if let Some((session, payload)) = early {
            self.events.push_back(Event::Early { session, payload });
            return true;
        }
        let finished =
            self.sessions.iter().find(|(_, it)| it.session.is_finished()).map(|(id, _)| *id);
        let Some(id) = finished else { return false };
        let Some(mut running) = self.sessions.remove(&id) else { return false };
        while let Some(command) = running.session.poll_command() {
            self.commands.push_back(command);
        }
        self.keep_holes(running.session.leave_holes(), now);
        // The last word, if there is one; nobody is there any more who would repeat it.
        if let Some(note) = running.session.poll_note().and_then(|note| Note::new(&note)) {
            self.client.publish(id, running.told, note, now);
        }
        self.adopted.retain(|_, session| *session != id);
        self.client.unfollow(id);
        self.budget.forget(id);
        if running.port != self.listening {
            self.gatherer.close_port(running.port);
        }
        if let Some(reserve) = running.reserve {
            self.gatherer.close_port(reserve);
        }
        true
    }

    fn on_session(&mut self, id: SessionId, event: session::Event, _now: Instant) {
        let Some(running) = self.sessions.get_mut(&id) else { return };
        let call = running.call;
        if !matches!(event, session::Event::Chosen { .. }) {
            running.call = None;
            call.map(|call| self.calls.remove(&call));
        }
        match event {
            session::Event::Chosen { socket } => {
                let Running { fingerprint, identity, secret, bare, .. } = *running;
                self.events.extend(call.map(|call| {
                    let chosen = Chosen { call, socket, fingerprint, identity, secret, bare };
                    Event::Chosen(Box::new(chosen))
                }));
            }
            session::Event::Established { path, mut report } => {
                report.nat.local.clone_from(&self.nat);
                self.client.report(id, outcomes_of(&report));
                self.events.push_back(Event::Connected(Box::new(Connected {
                    call,
                    session: id,
                    peer: running.session.peer().cloned(),
                    role: running.role,
                    fingerprint: running.fingerprint,
                    identity: running.identity,
                    secret: running.secret,
                    bare: running.bare,
                    path,
                    called: running.called,
                    report,
                })));
            }
            session::Event::Failed { mut report } => {
                // It may have become known while the session was under way.
                report.nat.local.clone_from(&self.nat);
                self.client.report(id, outcomes_of(&report));
                if let Some(call) = call {
                    let (error, report) = (CallError::NoPath, Box::new(report));
                    self.events.push_back(Event::CallFailed { call, error, report });
                }
            }
        }
    }
}

/// How the strategies of a session fared, each once: it worked if it did anywhere, and failed only if
/// it had its chance. What is foretold or guessed over UDP says nothing of the same over TCP, which is what
/// others ask about.
fn outcomes_of(report: &Report) -> Vec<StrategyOutcome> {
    let mut outcomes = BTreeMap::new();
    let guesses = [Strategy::PortPrediction, Strategy::PortCoverage];
    let counts = |it: &&Attempt| it.transport == Transport::Tcp || !guesses.contains(&it.strategy);
    for attempt in report.attempts.iter().filter(counts) {
        let took = Duration::try_from_secs_f64((attempt.ended_ms - attempt.started_ms) / 1e3).ok();
        let took = match attempt.result {
            AttemptResult::Won | AttemptResult::Verified => took,
            AttemptResult::NoAnswer | AttemptResult::Refused => None,
            AttemptResult::Cancelled | AttemptResult::Impossible | AttemptResult::Skipped => {
                continue;
            }
        };
        let known: &mut Option<Duration> = outcomes.entry(attempt.strategy).or_default();
        *known = known.iter().chain(&took).min().copied();
    }
    outcomes.into_iter().map(|(strategy, took)| StrategyOutcome { strategy, took }).collect()
}

impl Machine for Node {
    type Input<'a> = Input<'a>;
    type Command = Command;
    type Event = Event;

    fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        self.route(input, now);
        self.work(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        let due = |deadline: Option<Deadline>| deadline.is_some_and(|it| it.at <= now);
        if due(self.gatherer.poll_timeout()) {
            self.gatherer.handle_timeout(now);
        }
        if due(self.client.poll_timeout()) {
            self.client.handle_timeout(now);
        }
        for running in self.sessions.values_mut() {
            if due(running.session.poll_timeout()) {
                running.session.handle_timeout(now);
            }
        }
        self.expire(now);
        self.expire_holes(now);
        self.tend_holes(now);
        self.work(now);
    }

    fn poll_command(&mut self) -> Option<Command> {
        let own = self.commands.pop_front();
        let own = own.or_else(|| self.gatherer.poll_command());
        own.or_else(|| self.client.poll_command())
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let own = Deadline::earlier(self.expiry(), self.holes_due());
        let parts = [self.gatherer.poll_timeout(), self.client.poll_timeout(), own];
        let sessions = self.sessions.values().map(|it| it.session.poll_timeout());
        parts.into_iter().chain(sessions).fold(None, Deadline::earlier)
    }
}
