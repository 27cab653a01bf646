//! STUNT #1: the broker answers the SYNs of two peers in each other's name.
//!
//! ```text
//!   A            NAT A                broker                NAT B            B
//!   │── SYN, isnA ─▶│ - - - - - - - - x    x - - - - - - - - - │◀─ SYN, isnB ──│
//!   │═ Forge, isnA, from the port of the SYN ▶│◀ Forge, isnB, likewise ════════│
//!   │◀──────────────│◀ B*→A* SYN-ACK ──┤  │                    │               │
//!   │               │                 │  ├── A*→B* SYN-ACK ──▶│──────────────▶│
//!   │── ACK ───────▶│─────────────────────────────────────────▶│──────────────▶│
//! ```
//!
//! Neither NAT has to let a SYN in: each waits for the answer to its own. A forged packet leaves only
//! if all of this holds:
//!
//! - both are registered peers of **one** meeting whose orders have left, each known by its signature;
//! - each asked on a stream of its own, whose handshake and a NONCE bound to that very address have
//!   proved that it receives at the mapping of the port that its SYN left from;
//! - each one's SYN went to exactly the address that the other one has proved: so both agree on one
//!   connection, and no packet goes where nobody waits for it;
//! - both streams are open at the moment of every single packet;
//! - the limits on packets in all, on packets to one address, and on meetings leave room.
//!
//! A broker that may not forge, or whose network lets nothing forged out, has a peer do it that offered
//! to and was seen to be able to (`forgers.rs`); all of this holds there as well.
//!
//! Segments are made by `segments`, rates are kept by `meters`.

mod meters;
mod segments;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(crate) use meters::Meters;
pub use segments::{FORGED_TTL, syn_ack};

use super::forgers::Performer;
use super::session::State as MeetingState;
use super::timers::Timer;
use super::{Asker, Broker, Command, Event, Link, Registry, StreamId, refused};
use crate::address::Family;
use crate::signal::message::{Body, Forge, Forged, Message};
use crate::signal::{ErrorCode, Handshake, Packet, RegistrationId, SessionId};
use ntcp_stun::TransactionId;

/// When each SYN-ACK leaves, counted from the second peer's request: the first one may meet a NAT
/// before the peer's own SYN does, and any of them may be lost. They are equal, so that all but the
/// first to arrive change nothing.
pub const FORGED_AT: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(250)];
/// How long one peer is waited for after the other has asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// Forgeries for one meeting: each needs both peers to ask again, with a SYN of a new socket.
const MAX_ATTEMPTS: u8 = 4;

/// The limits of a broker that forges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgeLimits {
    /// Forged packets a second in all; beyond it requests are refused with 429. Default 60, which
    /// is ten connections.
    pub packets_per_second: u32,
    /// Forged packets a second to one IPv4 address or IPv6 /64; likewise. Default 6, which is two
    /// connections.
    pub packets_per_second_per_address: u32,
    /// Meetings at once for which somebody has asked; a further one is refused with 503. Default 64.
    pub max_sessions: usize,
}

impl Default for ForgeLimits {
    fn default() -> Self {
        Self { packets_per_second: 60, packets_per_second_per_address: 6, max_sessions: 64 }
    }
}

/// What a broker may forge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Forging {
    /// Nothing: it is not configured to, or the system does not permit it. Requests are refused
    /// with 501.
    #[default]
    Off,
    /// SYN-ACKs for peers that both ask for them, and probes of what its network lets out.
    Within(ForgeLimits),
}

/// The forging for one meeting.
#[derive(Debug)]
pub(super) struct Forgery {
    attempts: u8,
    state: State,
}

#[derive(Debug)]
enum State {
    /// One peer has asked.
    Half(Half),
    /// Both have; so many of the SYN-ACKs to each have left.
    Both { halves: [Half; 2], since: Instant, sent: usize },
    /// All have left, or none will.
    Over,
}

/// What one peer has asked for.
#[derive(Debug, Clone, Copy)]
struct Half {
    by: RegistrationId,
    stream: StreamId,
    /// The mapping of the port that its SYN left from.
    mapped: SocketAddr,
    handshake: Handshake,
}

impl Half {
    /// Whether the two want one and the same connection.
    fn meets(&self, other: &Self) -> bool {
        let family = |address: SocketAddr| Family::of(address.ip());
        self.handshake.remote == other.mapped
            && other.handshake.remote == self.mapped
            && self.mapped != other.mapped
            && family(self.mapped) == family(other.mapped)
    }
}

impl<R: Registry> Broker<R> {
    /// A peer wants its SYN answered.
    pub(super) fn on_forge(
        &mut self,
        asker: Asker,
        message: &Message,
        forge: &Forge,
        now: Instant,
    ) {
        self.counters.forge_requests += 1;
        let (stream, mapped) = match self.check_forge(asker, forge) {
            Ok(place) => place,
            Err(code) => return self.refuse_forge(asker, message, code),
        };
        let proved = message.nonce.as_ref().map(|it| self.cookies.is_ours(it, mapped, now));
        if proved != Some(true) {
            let code = match proved {
                Some(_) => ErrorCode::StaleNonce,
                None => ErrorCode::Unauthenticated,
            };
            let nonce = self.cookies.bake(mapped, now);
            let answer = message.answer(refused(message, code)).with_nonce(nonce);
            self.counters.challenged += 1;
            return self.send_on(asker.link, asker.id, &answer);
        }
        let Some(handshake) = forge.handshake else {
            return self.refuse_forge(asker, message, ErrorCode::BadRequest);
        };
        let half = Half { by: asker.id, stream, mapped, handshake };
        match self.enter_half(forge.session, half, now) {
            Ok(()) => self.answer(asker, message, Body::Forging),
            Err(code) => self.refuse_forge(asker, message, code),
        }
        self.forge_due(forge.session, now);
    }

    fn refuse_forge(&mut self, asker: Asker, message: &Message, code: ErrorCode) {
        self.counters.forge_refused += 1;
        self.answer(asker, message, refused(message, code));
    }

    /// Whether the asker may ask for this, and the address that its stream comes from.
    fn check_forge(
        &self,
        asker: Asker,
        forge: &Forge,
    ) -> Result<(StreamId, SocketAddr), ErrorCode> {
        let limits = self.config.forge_limits().ok_or(ErrorCode::DoesNotForge)?;
        // A datagram has no handshake that shows where it comes from.
        let Link::Tcp { stream, remote } = asker.link else { return Err(ErrorCode::BadRequest) };
        let session = self.sessions.get(&forge.session).ok_or(ErrorCode::Forbidden)?;
        let takes_part = [session.caller, session.callee].contains(&asker.id);
        let ordered = matches!(session.state, MeetingState::Ordered { .. });
        if !takes_part || !ordered {
            return Err(ErrorCode::Forbidden);
        }
        if self.performer(Family::of(remote.ip()), [session.caller, session.callee]).is_none() {
            return Err(ErrorCode::DoesNotForge);
        }
        let known = self.forgeries.contains_key(&forge.session);
        if !known && self.forgeries.len() >= limits.max_sessions {
            return Err(ErrorCode::TableFull);
        }
        Ok((stream, remote))
    }

    /// Puts a half to the other one, if that is there.
    fn enter_half(
        &mut self,
        session: SessionId,
        half: Half,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        let new = Forgery { attempts: 0, state: State::Over };
        let forgery = self.forgeries.entry(session).or_insert(new);
        let other = match &forgery.state {
            State::Half(other) if other.by != half.by => *other,
            // Repeated: it was answered the same before.
            State::Both { halves, .. } if halves.iter().any(|it| it.by == half.by) => {
                let same = |it: &Half| it.by == half.by && it.handshake == half.handshake;
                return if halves.iter().any(same) {
                    Ok(())
                } else {
                    Err(ErrorCode::TooManyRequests)
                };
            }
            State::Half(_) | State::Over if forgery.attempts < MAX_ATTEMPTS => {
                forgery.state = State::Half(half);
                self.timers.set(Timer::Forge(session), now + PATIENCE);
                return Ok(());
            }
            State::Half(_) | State::Both { .. } | State::Over => {
                return Err(ErrorCode::TooManyRequests);
            }
        };
        forgery.attempts += 1;
        forgery.state = State::Over;
        if !half.meets(&other) {
            self.timers.set(Timer::Forge(session), None);
            self.tell_forged(other.by, session, Err(ErrorCode::Forbidden));
            return Err(ErrorCode::Forbidden);
        }
        self.meter(half.mapped, other.mapped, now).inspect_err(|code| {
            self.timers.set(Timer::Forge(session), None);
            self.tell_forged(other.by, session, Err(*code));
        })?;
        if let Some(forgery) = self.forgeries.get_mut(&session) {
            forgery.state = State::Both { halves: [other, half], since: now, sent: 0 };
        }
        self.events.push_back(Event::Forging { session });
        [other, half].into_iter().for_each(|it| self.tell_forged(it.by, session, Ok(())));
        Ok(())
    }

    /// Takes the tokens of a whole forgery before its first packet leaves.
    fn meter(&mut self, one: SocketAddr, other: SocketAddr, now: Instant) -> Result<(), ErrorCode> {
        let limits = self.config.forge_limits().ok_or(ErrorCode::DoesNotForge)?;
        let each = FORGED_AT.len();
        if self.meters.take(limits, &[(one.ip(), each), (other.ip(), each)], now) {
            Ok(())
        } else {
            self.counters.rate_limited += 1;
            Err(ErrorCode::TooManyRequests)
        }
    }

    /// A peer waits in vain, or more SYN-ACKs are to leave.
    pub(super) fn on_forge_timer(&mut self, session: SessionId, now: Instant) {
        match self.forgeries.get(&session).map(|it| &it.state) {
            Some(State::Half(half)) => self.end_forgery(session, half.by, ErrorCode::NoAnswer),
            Some(State::Both { .. }) => self.forge_due(session, now),
            Some(State::Over) | None => {}
        }
    }

    /// Sends the SYN-ACKs whose time has come.
    fn forge_due(&mut self, session: SessionId, now: Instant) {
        let Some(forgery) = self.forgeries.get_mut(&session) else { return };
        let State::Both { halves, since, sent } = &mut forgery.state else { return };
        let halves = *halves;
        // Who has left takes its consent along.
        if halves.iter().any(|half| self.registry.get(half.by).is_none()) {
            return self.stop_forgery(session);
        }
        let mut packets = 0;
        while FORGED_AT.get(*sent).is_some_and(|after| *since + *after <= now) {
            *sent += 1;
            packets += 1;
        }
        let next = FORGED_AT.get(*sent).map(|after| *since + *after);
        if next.is_none() {
            forgery.state = State::Over;
        }
        self.timers.set(Timer::Forge(session), next);
        let [one, other] = halves;
        let Some(performer) = self.performer(Family::of(one.mapped.ip()), [one.by, other.by])
        else {
            return;
        };
        for (from, to) in (0..packets).flat_map(|_| [(one, other), (other, one)]) {
            self.forge_syn_ack(performer, (from, to));
        }
    }

    fn forge_syn_ack(&mut self, performer: Performer, (from, to): (Half, Half)) {
        self.counters.forged += 1;
        let (syn, answered) = (from.handshake.syn, to.handshake.syn);
        match performer {
            Performer::Own => {
                let segment = syn_ack(from.mapped, &syn, to.mapped, &answered);
                self.commands.push_back(Command::Inject { segment, ttl: FORGED_TTL });
            }
            Performer::Forger(forger) => {
                let packet = Packet::SynAck { syn, answered };
                self.send_errand(forger, (from.mapped, to.mapped), packet);
            }
        }
    }

    /// A stream has ended: what was asked on it is asked no more.
    pub(super) fn withdraw(&mut self, stream: StreamId) {
        let asked_on = |forgery: &Forgery| match &forgery.state {
            State::Half(half) => half.stream == stream,
            State::Both { halves, .. } => halves.iter().any(|half| half.stream == stream),
            State::Over => false,
        };
        let ended = self.forgeries.iter().filter(|(_, it)| asked_on(it)).map(|(id, _)| *id);
        for session in ended.collect::<Vec<_>>() {
            self.stop_forgery(session);
        }
    }

    /// The meeting is forgotten, and with it what was asked for it.
    pub(super) fn forget_forgery(&mut self, session: SessionId) {
        self.timers.set(Timer::Forge(session), None);
        self.forgeries.remove(&session);
    }

    fn stop_forgery(&mut self, session: SessionId) {
        self.timers.set(Timer::Forge(session), None);
        if let Some(forgery) = self.forgeries.get_mut(&session) {
            forgery.state = State::Over;
        }
    }

    fn end_forgery(&mut self, session: SessionId, asker: RegistrationId, code: ErrorCode) {
        self.stop_forgery(session);
        self.tell_forged(asker, session, Err(code));
    }

    /// Tells a peer that waited what became of what it asked for.
    fn tell_forged(
        &mut self,
        peer: RegistrationId,
        session: SessionId,
        result: Result<(), ErrorCode>,
    ) {
        let transaction = TransactionId::new(self.entropy.bytes());
        let body = Body::Forged(Forged { session, result });
        self.send_surely(peer, &Message::new(transaction, body));
    }
}
