//! Asks the broker to answer our SYN in a peer's name.
//!
//! ```text
//!  from the port of the SYN:
//!       Forge ─────────────────▶ broker
//!           ◀─────── 401, NONCE     proves the mapping of that very port
//!       Forge, NONCE, SYN ─────▶
//!           ◀────────── success     the peer has not asked yet, or both have
//!           ◀── Forge indication     over the registration's own link: it has left, or why not
//! ```
//!
//! The stream belongs to somebody else, who opened it from the port that the SYN leaves from; it is
//! borrowed for these messages.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::Event;
use super::attempt::MAX_STALE_NONCES;
use super::core::{Core, Standing};
use crate::signal::codec::Received;
use crate::signal::message::{Body, Forge, Forged, Message, Nonce};
use crate::signal::{ErrorCode, Handshake, Ladder, Pace, SessionId};
use crate::{Command, SocketId};

/// How long the broker may take altogether: a little more than it waits for the peer.
const PATIENCE: Duration = Duration::from_secs(7);
/// Meetings for which something is asked at once; a further one is told at once that it failed.
const MAX_ASKED: usize = 64;

/// Everything that is being asked.
#[derive(Debug, Default)]
pub(super) struct Forging {
    asked: BTreeMap<SessionId, Asked>,
}

#[derive(Debug)]
struct Asked {
    stream: SocketId,
    /// `None` as long as only a nonce is wanted.
    handshake: Option<Handshake>,
    nonce: Option<Nonce>,
    /// Nonces that the broker has wanted to see.
    nonces: u8,
    /// The request under way.
    request: Option<(TransactionId, Ladder)>,
    until: Instant,
}

impl Forging {
    /// Asks for `session` on `stream`; without a handshake only for the nonce that it will need.
    pub(super) fn ask(
        &mut self,
        core: &mut Core,
        standing: Option<&Standing>,
        session: SessionId,
        (stream, handshake): (SocketId, Option<Handshake>),
        now: Instant,
    ) {
        let full = self.asked.len() >= MAX_ASKED && !self.asked.contains_key(&session);
        let Some(standing) = standing.filter(|_| !full) else {
            return tell(core, session, Err(ErrorCode::UnknownRegistration));
        };
        let known = self.asked.remove(&session).filter(|it| it.stream == stream);
        let (nonce, nonces) = known.map_or((None, 0), |it| (it.nonce, it.nonces));
        let until = now + PATIENCE;
        let asked = Asked { stream, handshake, nonce, nonces, request: None, until };
        let asked = self.asked.entry(session).or_insert(asked);
        if asked.handshake.is_some() || asked.nonce.is_none() {
            asked.begin(core, standing, session, now);
        }
    }

    /// The meeting is over.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.asked.remove(&session);
    }

    /// Whether something is asked on that stream.
    pub(super) fn uses(&self, stream: SocketId) -> bool {
        self.asked.values().any(|asked| asked.stream == stream)
    }

    /// A message on a stream that is used.
    pub(super) fn handle(
        &mut self,
        core: &mut Core,
        standing: &Standing,
        received: &Received<'_>,
        now: Instant,
    ) {
        let message = &received.message;
        let ours = |asked: &Asked| {
            asked.request.as_ref().is_some_and(|(it, _)| *it == message.transaction)
        };
        let found = self.asked.iter_mut().find(|(_, asked)| ours(asked));
        let (Some((session, asked)), true) = (found, received.is_signed_by(&standing.key)) else {
            return;
        };
        let session = *session;
        asked.request = None;
        match (&message.body, &message.nonce) {
            (Body::Refused(refused), Some(nonce))
                if matches!(refused.code, ErrorCode::Unauthenticated | ErrorCode::StaleNonce)
                    && asked.nonces <= MAX_STALE_NONCES =>
            {
                asked.nonces += 1;
                asked.nonce = Some(nonce.clone());
                if asked.handshake.is_some() {
                    asked.begin(core, standing, session, now);
                }
            }
            (Body::Refused(refused), _) => {
                let code = refused.code;
                self.asked.remove(&session);
                tell(core, session, Err(code));
            }
            // What follows comes as an indication.
            _ => {}
        }
    }

    /// The broker tells what became of it.
    pub(super) fn handle_forged(&mut self, core: &mut Core, forged: &Forged) {
        if self.asked.remove(&forged.session).is_some() {
            tell(core, forged.session, forged.result);
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let step = |asked: &Asked| {
            let ladder = asked.request.as_ref().and_then(|(_, ladder)| ladder.next());
            ladder.map_or(asked.until, |at| at.min(asked.until))
        };
        self.asked.values().map(step).min()
    }

    pub(super) fn handle_timeout(
        &mut self,
        core: &mut Core,
        standing: Option<&Standing>,
        now: Instant,
    ) {
        self.asked.retain(|session, asked| {
            let lives = asked.until > now;
            if !lives && asked.handshake.is_some() {
                tell(core, *session, Err(ErrorCode::NoAnswer));
            }
            lives
        });
        let Some(standing) = standing else {
            // Who is not registered any more has nothing to ask with.
            for (session, _) in std::mem::take(&mut self.asked) {
                tell(core, session, Err(ErrorCode::UnknownRegistration));
            }
            return;
        };
        for (session, asked) in &mut self.asked {
            if asked.request.as_ref().is_some_and(|(_, ladder)| ladder.is_due(now)) {
                asked.send(core, standing, *session, now);
            }
        }
    }
}

impl Asked {
    fn begin(&mut self, core: &mut Core, standing: &Standing, session: SessionId, now: Instant) {
        self.request = Some((core.transaction(), Ladder::repeating(Pace::STREAM)));
        self.send(core, standing, session, now);
    }

    fn send(&mut self, core: &mut Core, standing: &Standing, session: SessionId, now: Instant) {
        let Some((transaction, ladder)) = &mut self.request else { return };
        let transmit = ladder.sent(now);
        let forge = Forge { session, handshake: self.handshake };
        let message = standing.request(Message::new(*transaction, Body::Forge(forge)), transmit);
        let message = Message { nonce: self.nonce.clone(), ..message };
        let payload = core.protected(standing, &message);
        let id = core.names.command();
        core.commands.push_back(Command::SendTcp { id, socket: self.stream, payload });
    }
}

fn tell(core: &mut Core, session: SessionId, result: Result<(), ErrorCode>) {
    core.tell(Event::Forged { session, result });
}
