//! One attempt to register: find the broker, prove our address, be told a key.
//!
//! ```text
//!  t = 0          UDP: Register without NONCE to every address of the broker, repeated
//!                 TCP: only the name is resolved
//!  t = 300 ms     TCP: connect to every address, unless UDP was answered
//!                 whichever is answered (401) or connected first is the link from then on
//!  one trip later Register with NONCE (UDP) and the round-trip time
//!  one more       Registered; or 409: ask again until a dead holder of the name is found out
//! ```
//!
//! A stream that has opened promises little where packets are lost: it may stand still for seconds.
//! So UDP is asked on beside it, and when that is answered before the stream has brought us through,
//! the link is UDP after all. Until the broker has said something on a stream, others are opened
//! after 0.4, 1.2 and 2.8 s, and one that opens takes the place of one that is silent for too long.

mod chosen;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::core::{Core, Profile, Standing, Way, earlier};
use super::{DEFAULT_TCP_PORT, DEFAULT_UDP_PORT, Link, LinkError, RegistrationError};
use crate::command::{Answer, CommandId, IoFailure};
use crate::signal::ErrorCode;
use crate::signal::message::{self, Body, Message, Nonce, Refused};
use crate::uri::HostPort;
use crate::{Command, SocketId};
use chosen::{Chosen, Given};
use tcp::TcpSide;
use udp::UdpSide;

/// Most addresses of a broker that are tried on one link.
const MAX_ADDRESSES: usize = 4;
/// Most nonces that a broker may call stale in a row; more, and it does not know its own.
pub(super) const MAX_STALE_NONCES: u8 = 4;

/// How an attempt stands after something happened.
#[derive(Debug)]
pub(super) enum Progress {
    /// It goes on.
    Going,
    /// The broker knows us.
    Done(Box<Done>),
    /// It does not, on any link.
    Failed(RegistrationError),
}

/// A registration just made.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) standing: Standing,
    pub(super) observed: SocketAddr,
    pub(super) lease: Duration,
    /// What the broker shows to others.
    pub(super) shown: Profile,
    /// Ways over UDP that were asked and may still answer, if the link is TCP.
    pub(super) udp_ways: Vec<Way>,
}

/// One attempt to register.
#[derive(Debug)]
pub(super) struct Attempt {
    started: Instant,
    deadline: Instant,
    udp: UdpSide,
    tcp: TcpSide,
    /// When TCP is tried beside UDP.
    tcp_at: Instant,
    chosen: Option<Chosen>,
}

impl Attempt {
    /// Starts from the names of the broker.
    pub(super) fn start(core: &mut Core, now: Instant) -> (Self, Progress) {
        let udp = core.config.udp_broker.clone();
        let tcp = core.config.tcp_broker.clone();
        let has_socket = !core.sockets.is_empty();
        let udp = match udp {
            None => UdpSide::Unused,
            Some(broker) if !has_socket => {
                UdpSide::Failed(LinkError::NoCommonFamily { link: Link::Udp, broker })
            }
            Some(broker) => {
                UdpSide::Resolving { command: resolve(core, &broker, DEFAULT_UDP_PORT), broker }
            }
        };
        let tcp = match tcp {
            None => TcpSide::Unused,
            Some(broker) => {
                TcpSide::Resolving { command: resolve(core, &broker, DEFAULT_TCP_PORT), broker }
            }
        };
        let patience = core.config.registration_timeout;
        let silence = core.config.udp_silence;
        let mut attempt = Self {
            started: now,
            deadline: now + patience,
            udp,
            tcp,
            tcp_at: now + silence,
            chosen: None,
        };
        let progress = attempt.advance(core, now);
        (attempt, progress)
    }

    /// Starts on a way that works, with a nonce that the broker has just given.
    pub(super) fn start_again(
        core: &mut Core,
        way: Way,
        nonce: Option<Nonce>,
        now: Instant,
    ) -> Self {
        let mut attempt = Self {
            started: now,
            deadline: now + core.config.registration_timeout,
            udp: UdpSide::Unused,
            tcp: TcpSide::Unused,
            tcp_at: now,
            chosen: None,
        };
        attempt.choose(core, way, (nonce, None), now);
        attempt
    }

    /// Whether `source` is an address that we asked over UDP.
    pub(super) fn asks(&self, source: SocketAddr) -> bool {
        let probed = match &self.udp {
            UdpSide::Probing(probe) => probe.ways.iter().any(|way| way.remote == source),
            UdpSide::Unused | UdpSide::Resolving { .. } | UdpSide::Failed(_) => false,
        };
        probed || self.chosen.as_ref().is_some_and(|it| it.way.remote == source)
    }

    /// The link that answered first.
    pub(super) fn chosen_way(&self) -> Option<Way> {
        self.chosen.as_ref().map(|it| it.way)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let waits_for_tcp = self.chosen.is_none() && matches!(self.tcp, TcpSide::Resolved { .. });
        let tcp = waits_for_tcp.then_some(self.tcp_at);
        let asking = self.chosen.as_ref().and_then(Chosen::next);
        let probing = match &self.udp {
            UdpSide::Probing(probe) if self.is_udp_open() => probe.ladder.next(),
            _ => None,
        };
        let opening = earlier(tcp, self.tcp.next());
        earlier(earlier(opening, earlier(asking, probing)), Some(self.deadline))
    }

    /// Whether an answer over UDP would still decide for it: no link was chosen, or a stream that
    /// may stand still.
    fn is_udp_open(&self) -> bool {
        self.chosen.as_ref().is_none_or(|it| it.way.link == Link::Tcp && !it.is_contested())
    }

    pub(super) fn handle_timeout(&mut self, core: &mut Core, now: Instant) -> Progress {
        if self.deadline <= now {
            let error = self.expired(core, now);
            return Progress::Failed(error);
        }
        let is_udp_open = self.is_udp_open();
        match &mut self.udp {
            UdpSide::Probing(probe) if is_udp_open && probe.ladder.is_due(now) => {
                probe.send(core, now);
            }
            _ => {}
        }
        self.tcp.handle_timeout(core, now);
        if let Some(chosen) = &mut self.chosen {
            chosen.handle_timeout(core, now);
        }
        self.advance(core, now)
    }

    /// A command of ours ended.
    pub(super) fn handle_answer(
        &mut self,
        core: &mut Core,
        id: CommandId,
        answer: Answer,
        now: Instant,
    ) -> Progress {
        match answer {
            Answer::Resolved(result) => {
                self.udp.on_resolved(core, id, result.clone(), now);
                self.tcp.on_resolved(id, result);
            }
            Answer::Sent(result) => self.udp.on_sent(id, result),
            Answer::Connected(result) => {
                if let Some((way, rtt)) = self.tcp.on_connected(id, result, now) {
                    core.note_round_trip(Some(rtt));
                    self.on_opened(core, way, now);
                }
            }
            Answer::Bound(_) | Answer::Done(_) | Answer::Closed | Answer::Interfaces(_) => {}
        }
        self.advance(core, now)
    }

    /// A message that nobody has signed yet, from an address we asked.
    pub(super) fn handle_message(
        &mut self,
        core: &mut Core,
        way: Way,
        message: &Message,
        now: Instant,
    ) -> Progress {
        if let (UdpSide::Probing(probe), Body::Refused(refused)) = (&self.udp, &message.body)
            && self.is_udp_open()
            && probe.transaction == message.transaction
            && probe.ways.contains(&way)
        {
            let sample = probe.ladder.round_trip(message.transmit, now);
            core.note_round_trip(sample);
            return self.on_probed(core, way, (refused, message.nonce.clone()), now);
        }
        match &self.chosen {
            Some(chosen) if chosen.way == way && chosen.transaction == message.transaction => {
                let sample = chosen.ladder.round_trip(message.transmit, now);
                core.note_round_trip(sample);
                self.tcp.stop(core);
                self.on_answered(core, message, now)
            }
            Some(_) | None => Progress::Going,
        }
    }

    /// A stream ended.
    pub(super) fn handle_closed(
        &mut self,
        core: &mut Core,
        socket: SocketId,
        reason: IoFailure,
        now: Instant,
    ) -> Progress {
        if let Some(chosen) = self.chosen.take_if(|it| it.way.socket == socket) {
            self.tcp.close(core);
            self.tcp = match core.config.tcp_broker.clone() {
                Some(broker) => {
                    let remote = chosen.way.remote;
                    TcpSide::Failed(LinkError::Failed { link: Link::Tcp, broker, remote, reason })
                }
                None => TcpSide::Unused,
            };
        }
        self.advance(core, now)
    }

    /// Gives up, without an event.
    pub(super) fn abandon(mut self, core: &mut Core) {
        self.tcp.close(core);
        if let Some(chosen) = self.chosen {
            core.close(chosen.way);
        }
    }

    /// Does what has become possible, and tells whether anything is left to try.
    fn advance(&mut self, core: &mut Core, now: Instant) -> Progress {
        if self.chosen.is_some() {
            return Progress::Going;
        }
        if matches!(self.udp, UdpSide::Unused | UdpSide::Failed(_)) {
            self.tcp_at = self.tcp_at.min(now);
        }
        if self.tcp_at <= now {
            self.tcp.dial(core, now);
        }
        self.tcp.fail_if_nothing_is_left();
        match (&self.udp, &self.tcp) {
            (UdpSide::Unused, TcpSide::Unused) => Progress::Failed(RegistrationError::NoBroker),
            (UdpSide::Unused | UdpSide::Failed(_), TcpSide::Unused | TcpSide::Failed(_)) => {
                let error = self.expired(core, now);
                Progress::Failed(error)
            }
            _ => Progress::Going,
        }
    }

    /// From now on this link. A stream that was chosen before ends with an RST: what it has not got
    /// through yet shall not come after all.
    fn choose(&mut self, core: &mut Core, way: Way, given: Given, now: Instant) {
        self.tcp.close(core);
        if let Some(before) = self.chosen.take() {
            core.abort(before.way);
        }
        self.chosen = Some(Chosen::start(core, way, given, now));
    }

    /// A stream has opened. Where another one has before, it is the better of the two only if that
    /// one should have been answered by now.
    fn on_opened(&mut self, core: &mut Core, way: Way, now: Instant) {
        match &self.chosen {
            Some(chosen) if !chosen.is_late(core.rtt, now) => core.close(way),
            Some(_) | None => self.choose(core, way, (None, None), now),
        }
    }

    /// What happened on each link until now, when nothing more will.
    fn expired(&self, core: &Core, now: Instant) -> RegistrationError {
        let waited = whole_milliseconds(now.saturating_duration_since(self.started));
        let udp = self.udp.error(waited);
        let Some(chosen) = &self.chosen else {
            let errors = [udp, self.tcp.error(waited)];
            return RegistrationError::Unreachable(errors.into_iter().flatten().collect());
        };
        match chosen.expired(core, waited) {
            // Where a stream was accepted and then nothing came, UDP had been silent before.
            RegistrationError::Unreachable(links) if chosen.way.link == Link::Tcp => {
                RegistrationError::Unreachable(udp.into_iter().chain(links).collect())
            }
            other => other,
        }
    }

    /// The broker answered the Register without a nonce.
    fn on_probed(
        &mut self,
        core: &mut Core,
        way: Way,
        (refused, nonce): (&Refused, Option<Nonce>),
        now: Instant,
    ) -> Progress {
        match (refused.code, nonce) {
            (ErrorCode::Unauthenticated | ErrorCode::StaleNonce, Some(nonce)) => {
                self.choose(core, way, (Some(nonce), refused.identity), now);
                self.tcp = TcpSide::Unused;
                Progress::Going
            }
            _ if core.is_sealed() && !may_be_said_in_the_clear(refused.code) => Progress::Going,
            // The stream may yet be let in.
            _ if self.chosen.is_some() => Progress::Going,
            _ => {
                let error = refusal(core, way, &heard_outside(core, refused));
                Progress::Failed(error)
            }
        }
    }

    /// The broker answered the Register on the chosen link.
    fn on_answered(&mut self, core: &mut Core, message: &Message, now: Instant) -> Progress {
        let Some(chosen) = &mut self.chosen else { return Progress::Going };
        let inside;
        let outside;
        let message = match &message.body {
            Body::Secured(noise) => match chosen.finish(core, noise) {
                Some(message) => {
                    inside = message;
                    &inside
                }
                None => return Progress::Going,
            },
            Body::Refused(refused) if core.is_sealed() => {
                if refused.code == ErrorCode::UnknownKey {
                    return chosen.on_unknown_key(core, (refused, message.nonce.as_ref()), now);
                }
                if !may_be_said_in_the_clear(refused.code) {
                    return Progress::Going;
                }
                let body = Body::Refused(heard_outside(core, refused));
                outside = Message { body, ..message.clone() };
                &outside
            }
            _ if core.is_sealed() => return Progress::Going,
            _ => message,
        };
        let refused = match &message.body {
            Body::Registered(registered) => {
                core.capabilities = registered.capabilities.unwrap_or_default();
                let udp_ways = match (chosen.way.link, &mut self.udp) {
                    (Link::Tcp, UdpSide::Probing(probe)) => std::mem::take(&mut probe.ways),
                    (Link::Tcp | Link::Udp, _) => Vec::new(),
                };
                return Progress::Done(Box::new(chosen.done(registered, udp_ways)));
            }
            Body::Refused(refused) => refused,
            _ => return Progress::Going,
        };
        let goes_on = match (refused.code, &message.nonce) {
            (ErrorCode::StaleNonce | ErrorCode::Unauthenticated, Some(nonce)) => {
                match chosen.on_stale_nonce(core, (nonce, refused.identity), now) {
                    Ok(goes_on) => goes_on,
                    Err(error) => return Progress::Failed(error),
                }
            }
            (ErrorCode::NameTaken, _) => match chosen.on_conflict(core, now) {
                Some(deadline) => {
                    self.deadline = self.deadline.max(deadline);
                    true
                }
                None => false,
            },
            _ => false,
        };
        if goes_on {
            return Progress::Going;
        }
        Progress::Failed(refusal(core, chosen.way, refused))
    }
}

/// Whether a refusal is taken that anybody on the path could have written: those that a broker can
/// send only before the handshake. All of them cost no more than a lost message would.
fn may_be_said_in_the_clear(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Unauthenticated
            | ErrorCode::StaleNonce
            | ErrorCode::UnknownKey
            | ErrorCode::TooManyRequests
            | ErrorCode::UnsupportedVersion
            | ErrorCode::UnknownAttribute
            | ErrorCode::BadRequest
    )
}

/// A refusal without what only the broker can know, if anybody could have written it.
fn heard_outside(core: &Core, refused: &Refused) -> Refused {
    Refused { access: refused.access.filter(|_| !core.is_sealed()), ..refused.clone() }
}

/// What a person wants to read of a duration.
fn whole_milliseconds(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn resolve(core: &mut Core, broker: &HostPort, default_port: u16) -> CommandId {
    let id = core.names.command();
    let port = broker.port.unwrap_or(default_port);
    core.commands.push_back(Command::Resolve { id, host: broker.host.clone(), port });
    id
}

fn refusal(core: &Core, way: Way, refused: &Refused) -> RegistrationError {
    let broker = way.remote;
    if let Some(reason) = refused.access {
        return RegistrationError::Access { broker, reason };
    }
    if let (ErrorCode::Forbidden, Some(key)) = (refused.code, core.own_key()) {
        return RegistrationError::NotAllowed { broker, key };
    }
    match (refused.code, refused.version, &core.config.name) {
        (ErrorCode::NameTaken, _, Some(name)) => {
            RegistrationError::NameTaken { name: name.clone(), broker }
        }
        (ErrorCode::UnsupportedVersion, Some(theirs), _) => {
            RegistrationError::Version { broker, theirs, ours: message::VERSION }
        }
        (ErrorCode::SecrecyRequired, _, _) => RegistrationError::SecrecyRequired { broker },
        (code, _, _) => RegistrationError::Refused { broker, code },
    }
}
