//! A peer's life at its broker: register, stay registered, call and be called.
//!
//! ```text
//!            start                     Registered
//!   Idle ───────────► Attempting ─────────────────► Registered ──┐ refresh every 20 s
//!                      ▲   │ failed                  │   │   ▲   │ calls, invitations
//!              backoff │   ▼                     lost│   │   └───┘
//!                     Resting ◄──────────────────────┘   │ unregister
//!                                                        ▼
//!                                     Finished ◄────── Leaving
//! ```
//!
//! The client never gives up by itself: a failed attempt is told and followed by another after a
//! growing pause. Its owner decides when that is enough, with
//! [`RegistrationError::is_final`] as a hint.
//!
//! What the client does *not* do: it opens no UDP socket (the owner lends one, since its mapping is
//! the one that punching needs), gathers no candidates and punches nothing.

mod attempt;
mod calls;
mod config;
mod core;
mod errands;
mod error;
mod event;
mod farewell;
mod forging;
mod invitations;
mod news;
mod probes;
mod receive;
mod standing;
#[cfg(test)]
mod tests;
mod upgrade;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use self::core::{Core, Profile, Standing, Way};
use super::message::{Body, Message, Nonce, Note, Outcome};
use super::{Capabilities, Handshake, NatSummary, Round, SessionId, StrategyOutcome};
use crate::access::Credentials;
use crate::address::{Family, canonical};
use crate::candidate::Candidate;
use crate::command::{Answer, CommandId, IoFailure, Names};
use crate::entropy::Seed;
use crate::machine::{Deadline, Machine};
use crate::uri::{PeerName, TransportChoice};
use crate::{Command, Input, SocketId};
use attempt::{Attempt, Progress};
use calls::Calls;
use errands::Errands;
use farewell::Farewell;
use forging::Forging;
use invitations::Invitations;
use news::News;
use probes::Probes;
use receive::is_signalling;
use standing::{Health, Registration};

pub use config::{BrokerIdentity, Config, DEFAULT_TCP_PORT, DEFAULT_UDP_PORT, Secrecy, Trust};
pub use error::{ConnectError, Link, LinkError, LossReason, RegistrationError};
pub use event::{Event, RequestId};

/// Most calls under way at once; [`Client::connect`] fails a further one.
pub const MAX_CALLS: usize = 64;
/// The pause after the first failed attempt; doubles with each, and a random half of it is waited.
const FIRST_REST: Duration = Duration::from_millis(500);
/// The longest pause between two attempts.
const LONGEST_REST: Duration = Duration::from_secs(30);

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

/// What was ignored, for logs and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Not a message of this protocol, or damaged.
    pub unreadable: u64,
    /// A message from another address than the broker's, or to another socket.
    pub stray: u64,
    /// A message without a valid signature where one is needed.
    pub unsigned: u64,
    /// An answer to nothing asked, or a message that a broker does not send.
    pub unexpected: u64,
    /// An errand that was not offered, run before, beyond the limits, or of a packet that is never sent.
    pub errands: u64,
}

/// The machine of a peer at its broker.
#[derive(Debug)]
pub struct Client {
    core: Core,
    phase: Phase,
    /// Attempts that failed in a row.
    failures: u32,
    availability: Availability,
    calls: Calls,
    invitations: Invitations,
    news: News,
    forging: Forging,
    probes: Probes,
    errands: Errands,
    ignored: Ignored,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Attempting(Box<Attempt>),
    Resting { until: Instant },
    Registered(Box<Registration>),
    Leaving(Box<Farewell>),
    Finished,
}

impl Client {
    /// A client that does nothing until [`Client::start`].
    pub fn new(config: Config, names: Names, seed: Seed) -> Self {
        Self {
            core: Core::new(config, names, seed),
            phase: Phase::Idle,
            failures: 0,
            availability: Availability::Accepting,
            calls: Calls::default(),
            invitations: Invitations::default(),
            news: News::default(),
            forging: Forging::default(),
            probes: Probes::default(),
            errands: Errands::default(),
            ignored: Ignored::default(),
        }
    }

    /// Lends the client a UDP socket of `family`, one for each family at most; counts from the next
    /// attempt on. The owner passes it the datagrams that [`Client::accepts`]. The best is the very
    /// socket that will punch: its mapping is then kept open by the refreshes, and seen by the
    /// broker.
    pub fn set_udp_socket(&mut self, family: Family, socket: SocketId) {
        self.core.sockets.insert(family, socket);
    }

    /// Resolves the broker and registers. Peers see `candidates` and `nat`. A second start is
    /// [`Client::update_candidates`].
    pub fn start(&mut self, candidates: Vec<Candidate>, nat: NatSummary, now: Instant) {
        match self.phase {
            Phase::Idle | Phase::Finished => {
                self.core.profile = Profile { candidates, nat };
                self.failures = 0;
                self.attempt(now);
            }
            Phase::Attempting(_)
            | Phase::Resting { .. }
            | Phase::Registered(_)
            | Phase::Leaving(_) => self.update_candidates(candidates, nat, now),
        }
    }

    /// Replaces what peers see.
    pub fn update_candidates(&mut self, candidates: Vec<Candidate>, nat: NatSummary, now: Instant) {
        self.core.profile = Profile { candidates, nat };
        if let Phase::Registered(registration) = &mut self.phase {
            registration.show(&mut self.core, now);
        }
    }

    /// Calls `callee`. Ends in [`Event::Punch`] or [`Event::ConnectFailed`] with this id; a call
    /// made before the registration stands waits for it.
    pub fn connect(&mut self, callee: &PeerName, call: Call, now: Instant) -> RequestId {
        let request = self.calls.start(&mut self.core, callee, call, now);
        match &mut self.phase {
            Phase::Registered(registration) => {
                self.calls.ask_waiting(&mut self.core, &registration.standing, now);
            }
            // Somebody wants something: a good moment to try again.
            Phase::Resting { until } => *until = now,
            Phase::Attempting(_) => {}
            Phase::Idle | Phase::Leaving(_) | Phase::Finished => {
                self.calls.fail_all(&mut self.core);
            }
        }
        request
    }

    /// Forgets a call: no more events of it.
    pub fn cancel(&mut self, request: RequestId, _now: Instant) {
        self.calls.cancel(request);
    }

    /// Answers [`Event::Gather`] with fresh candidates.
    pub fn answer(&mut self, session: SessionId, candidates: Vec<Candidate>, _now: Instant) {
        let standing = standing(&self.phase);
        self.invitations.answer(&mut self.core, standing, session, candidates);
    }

    /// Refuses [`Event::Gather`].
    pub fn decline(&mut self, session: SessionId, _now: Instant) {
        let standing = standing(&self.phase);
        self.invitations.decline(&mut self.core, standing, session);
    }

    /// Listens to the other peer of a meeting from now on ([`Event::PeerNews`]), and lets
    /// [`Client::publish`] speak to it. `peer_rtt` is its round-trip time to the broker.
    pub fn follow(&mut self, session: SessionId, peer_rtt: Option<Duration>) {
        let link = standing(&self.phase).map(|it| it.way.link);
        self.news.follow(&self.core, session, link, peer_rtt);
    }

    /// Tells the other peer of a followed meeting where we may be reached, and a note; both replace
    /// what was told before. It is repeated until the other one has heard it.
    pub fn publish(
        &mut self,
        session: SessionId,
        candidates: Vec<Candidate>,
        note: Note,
        now: Instant,
    ) {
        let standing = standing(&self.phase);
        self.news.publish(&mut self.core, standing, session, (candidates, note), now);
    }

    /// The meeting is over: no more news of it.
    pub fn unfollow(&mut self, session: SessionId) {
        self.news.forget(session);
        self.forging.forget(session);
    }

    /// Asks the broker to answer our SYN of a meeting in the peer's name, once the peer has asked for
    /// the same. `stream` is a connection to the broker from the port that the SYN left from; what
    /// arrives on it is to be handed to [`Client::handle_on_stream`]. Without a handshake only the
    /// nonce is fetched that it will need. Ends in [`Event::Forged`].
    pub fn forge(
        &mut self,
        session: SessionId,
        stream: SocketId,
        handshake: Option<Handshake>,
        now: Instant,
    ) {
        let standing = standing(&self.phase);
        self.forging.ask(&mut self.core, standing, session, (stream, handshake), now);
    }

    /// A message on somebody else's stream to the broker; `false` if it is not for this client.
    pub fn handle_on_stream(&mut self, stream: SocketId, payload: &[u8], now: Instant) -> bool {
        if !self.forging.uses(stream) || !is_signalling(payload) {
            return false;
        }
        let Some(bytes) = self.opened(payload) else { return true };
        if let (Some(standing), Ok(received)) = (standing(&self.phase), bytes.parse()) {
            self.forging.handle(&mut self.core, standing, &received, now);
        }
        true
    }

    /// Tells the broker how the strategies of a meeting fared, for those who meet later.
    pub fn report(&mut self, session: SessionId, outcomes: Vec<StrategyOutcome>) {
        let Some(standing) = standing(&self.phase).filter(|_| !outcomes.is_empty()) else { return };
        let body = Body::Outcome(Outcome { session, outcomes });
        let message = Message::new(self.core.transaction(), body);
        let registration = Some(standing.registration);
        self.core.send_surely(standing, &Message { registration, ..message });
    }

    /// What the broker can do, as it said last; nothing before it said anything.
    pub fn capabilities(&self) -> Capabilities {
        self.core.capabilities
    }

    /// Says whether calls are welcome from now on; they are at first.
    pub fn set_availability(&mut self, availability: Availability) {
        self.availability = availability;
    }

    /// Ends the registration; [`Event::Unregistered`] is the last event.
    pub fn unregister(&mut self, now: Instant) {
        self.calls.fail_all(&mut self.core);
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::Registered(registration) => self.take_leave(registration.standing, now),
            Phase::Leaving(farewell) => self.phase = Phase::Leaving(farewell),
            Phase::Attempting(attempt) => {
                attempt.abandon(&mut self.core);
                self.core.tell(Event::Unregistered);
            }
            Phase::Idle | Phase::Resting { .. } => self.core.tell(Event::Unregistered),
            Phase::Finished => {}
        }
    }

    /// Whether a datagram that arrived on a shared socket is for this client: a STUN message of one
    /// of the signalling methods that comes from the broker.
    pub fn accepts(&self, source: SocketAddr, payload: &[u8]) -> bool {
        let source = canonical(source);
        let from_broker = match &self.phase {
            Phase::Attempting(attempt) => attempt.asks(source),
            Phase::Registered(registration) => registration.asks(source),
            Phase::Leaving(farewell) => farewell.standing.way.remote == source,
            Phase::Idle | Phase::Resting { .. } | Phase::Finished => false,
        };
        (from_broker && is_signalling(payload)) || self.probes.expects(source, payload)
    }

    /// What is shown to a closed broker from the next registration on: a token that is fresh, for one that will expire.
    pub fn set_credentials(&mut self, credentials: Option<Credentials>) {
        self.core.config.credentials = credentials;
    }

    /// How often to refresh from the next refresh on, if the NAT's mappings live shorter or longer
    /// than [`Config::refresh`] supposes.
    pub fn set_refresh(&mut self, refresh: Duration) {
        self.core.config.refresh = refresh;
    }

    /// Round-trip time to the broker, once measured.
    pub fn rtt(&self) -> Option<Duration> {
        self.core.rtt
    }

    /// Where the broker is and over what it is spoken to, once registered.
    pub fn broker(&self) -> Option<(SocketAddr, Link)> {
        standing(&self.phase).map(|it| (it.way.remote, it.way.link))
    }

    /// What was ignored so far.
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }

    fn attempt(&mut self, now: Instant) {
        let (attempt, progress) = Attempt::start(&mut self.core, now);
        self.phase = Phase::Attempting(Box::new(attempt));
        self.on_progress(progress, now);
    }

    fn on_progress(&mut self, progress: Progress, now: Instant) {
        match progress {
            Progress::Going => {}
            Progress::Done(done) => {
                self.failures = 0;
                let registration = Registration::new(&mut self.core, *done, now);
                self.calls.ask_waiting(&mut self.core, &registration.standing, now);
                self.phase = Phase::Registered(Box::new(registration));
            }
            Progress::Failed(error) => {
                self.calls.fail_waiting(&mut self.core, &error);
                if let Phase::Attempting(attempt) = self.rest(now) {
                    attempt.abandon(&mut self.core);
                }
                if let Phase::Resting { until } = self.phase {
                    let retry_after = until.saturating_duration_since(now);
                    self.core.tell(Event::RegistrationFailed { error, retry_after });
                }
            }
        }
    }

    /// Pauses, longer each time, and returns what was there before.
    fn rest(&mut self, now: Instant) -> Phase {
        let rest = FIRST_REST * 2u32.saturating_pow(self.failures.min(16));
        let rest = rest.min(LONGEST_REST);
        self.failures = self.failures.saturating_add(1);
        let until = now + rest / 2 + self.core.entropy.jitter(rest / 2);
        std::mem::replace(&mut self.phase, Phase::Resting { until })
    }

    /// The registration is gone. `nonce` is there if the broker said so and wants a new one.
    fn lose(&mut self, reason: LossReason, nonce: Option<Nonce>, now: Instant) {
        let Phase::Registered(registration) = std::mem::replace(&mut self.phase, Phase::Idle)
        else {
            return;
        };
        self.core.tell(Event::RegistrationLost { reason });
        self.calls.wait_again();
        match reason {
            LossReason::Unknown => {
                let way = registration.standing.way;
                let attempt = Attempt::start_again(&mut self.core, way, nonce, now);
                self.phase = Phase::Attempting(Box::new(attempt));
            }
            LossReason::Silent(_) => {
                registration.abandon(&mut self.core);
                self.attempt(now);
            }
            // All its peers are told at one moment: they spread out. The next attempt looks the broker's name up
            // again, which by then may lead to another one.
            LossReason::Dismissed => {
                registration.abandon(&mut self.core);
                self.rest(now);
            }
            // All peers of a restarted broker see this at one moment: they spread out.
            LossReason::LinkBroke(_) => {
                self.rest(now);
            }
        }
    }

    fn take_leave(&mut self, standing: Standing, now: Instant) {
        let farewell = Farewell::start(&mut self.core, standing, now);
        self.phase = Phase::Leaving(Box::new(farewell));
    }

    fn finish(&mut self) {
        if let Phase::Leaving(farewell) = std::mem::replace(&mut self.phase, Phase::Finished) {
            self.core.close(farewell.standing.way);
            self.core.tell(Event::Unregistered);
        }
    }

    fn handle_answer(&mut self, id: CommandId, answer: Answer, now: Instant) {
        if let Phase::Attempting(attempt) = &mut self.phase {
            let progress = attempt.handle_answer(&mut self.core, id, answer, now);
            self.on_progress(progress, now);
        }
    }

    fn handle_closed(&mut self, socket: SocketId, reason: IoFailure, now: Instant) {
        match &mut self.phase {
            Phase::Attempting(attempt) => {
                let progress = attempt.handle_closed(&mut self.core, socket, reason, now);
                self.on_progress(progress, now);
            }
            Phase::Registered(registration) if registration.standing.way.socket == socket => {
                self.lose(LossReason::LinkBroke(reason), None, now);
            }
            Phase::Leaving(farewell) if farewell.standing.way.socket == socket => self.finish(),
            Phase::Registered(_)
            | Phase::Leaving(_)
            | Phase::Idle
            | Phase::Resting { .. }
            | Phase::Finished => {}
        }
    }

    /// The way on which something arrived at `socket` from `source`.
    fn way(&self, link: Link, socket: SocketId, source: SocketAddr) -> Way {
        Way { link, socket, remote: canonical(source) }
    }

    /// The way of the stream that is `socket`, if it is ours.
    fn stream(&self, socket: SocketId) -> Option<Way> {
        let way = match &self.phase {
            Phase::Attempting(attempt) => attempt.chosen_way()?,
            Phase::Registered(registration) => registration.standing.way,
            Phase::Leaving(farewell) => farewell.standing.way,
            Phase::Idle | Phase::Resting { .. } | Phase::Finished => return None,
        };
        (way.link == Link::Tcp && way.socket == socket).then_some(way)
    }
}

impl Machine for Client {
    type Input<'a> = Input<'a>;
    type Command = Command;
    type Event = Event;

    fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Answer { id, answer } => self.handle_answer(id, answer, now),
            Input::UdpReceived { socket, source, payload } => {
                if self.probes.expects(canonical(source), payload) {
                    if let Some(standing) = standing(&self.phase) {
                        self.probes.handle_arrival(&mut self.core, standing, payload);
                    }
                } else if self.accepts(source, payload) {
                    let way = self.way(Link::Udp, socket, source);
                    self.handle_bytes(way, payload, now);
                } else {
                    self.ignored.stray += 1;
                }
            }
            Input::TcpReceived { socket, payload } => match self.stream(socket) {
                Some(way) => self.handle_bytes(way, payload, now),
                None => self.ignored.stray += 1,
            },
            Input::TcpClosed { socket, reason } => self.handle_closed(socket, reason, now),
            Input::TcpAccepted { .. } | Input::Captured { .. } => self.ignored.stray += 1,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Attempting(attempt) => {
                if attempt.next().is_some_and(|at| at <= now) {
                    let progress = attempt.handle_timeout(&mut self.core, now);
                    self.on_progress(progress, now);
                }
            }
            Phase::Resting { until } if *until <= now => self.attempt(now),
            Phase::Registered(registration) => {
                match registration.handle_timeout(&mut self.core, now) {
                    Health::Stands => {}
                    Health::Lost(reason) => self.lose(reason, None, now),
                }
            }
            Phase::Leaving(farewell) if farewell.is_over(now) => self.finish(),
            Phase::Leaving(farewell) => farewell.handle_timeout(&mut self.core, now),
            Phase::Resting { .. } | Phase::Idle | Phase::Finished => {}
        }
        self.calls.handle_timeout(&mut self.core, standing(&self.phase), now);
        self.news.handle_timeout(&mut self.core, standing(&self.phase), now);
        self.forging.handle_timeout(&mut self.core, standing(&self.phase), now);
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.core.commands.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.core.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let (step, reason) = match &self.phase {
            Phase::Attempting(attempt) => (attempt.next(), "register at the broker"),
            Phase::Resting { until } => (Some(*until), "try the broker again"),
            Phase::Registered(registration) => (registration.next(), "refresh the registration"),
            Phase::Leaving(farewell) => (farewell.next(), "leave the broker"),
            Phase::Idle | Phase::Finished => (None, "nothing"),
        };
        let step = step.map(|at| Deadline::new(at, reason));
        let call = self.calls.next().map(|at| Deadline::new(at, "ask the broker for a peer"));
        let news = self.news.next().map(|at| Deadline::new(at, "tell a peer news"));
        let forging = self.forging.next().map(|at| Deadline::new(at, "ask for a forged SYN-ACK"));
        [call, news, forging].into_iter().fold(step, Deadline::earlier)
    }
}

/// What a standing registration lets us say.
fn standing(phase: &Phase) -> Option<&Standing> {
    match phase {
        Phase::Registered(registration) => Some(&registration.standing),
        Phase::Idle
        | Phase::Attempting(_)
        | Phase::Resting { .. }
        | Phase::Leaving(_)
        | Phase::Finished => None,
    }
}
