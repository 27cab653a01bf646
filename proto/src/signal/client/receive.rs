//! What the broker says.

use std::time::Instant;

use ntcp_stun::{Class, MAGIC_COOKIE};

use super::config::Secrecy;
use super::core::Way;
use super::{Client, LossReason, Phase};
use crate::signal::codec::{ParseError, Received};
use crate::signal::envelope::Envelope;
use crate::signal::message::{Body, Message};
use crate::signal::{ErrorCode, SignalMethod};

/// The bytes of a message, taken out of its envelope if it had one.
pub(super) enum Opened<'a> {
    InTheClear(&'a [u8]),
    Sealed(Vec<u8>),
}

impl Opened<'_> {
    pub(super) fn parse(&self) -> Result<Received<'_>, ParseError> {
        match self {
            Self::InTheClear(bytes) => Message::parse(bytes),
            Self::Sealed(bytes) => Message::parse(bytes).map(Received::sealed),
        }
    }
}

impl Client {
    /// Opens what is sealed; `None` for what was not sealed for us, or came before.
    pub(super) fn opened<'a>(&mut self, payload: &'a [u8]) -> Option<Opened<'a>> {
        let Some(envelope) = Envelope::parse(payload) else {
            return Some(Opened::InTheClear(payload));
        };
        let opened = self.core.channel.as_mut().and_then(|it| envelope.open(it).ok());
        if opened.is_none() {
            self.ignored.unsigned += 1;
        }
        opened.map(Opened::Sealed)
    }

    /// A message on one of our ways.
    pub(super) fn handle_bytes(&mut self, way: Way, payload: &[u8], now: Instant) {
        let Some(bytes) = self.opened(payload) else { return };
        let received = match bytes.parse() {
            Ok(received) => received,
            Err(error) => {
                tracing::trace!(%error, "ignored");
                self.ignored.unreadable += 1;
                return;
            }
        };
        match &mut self.phase {
            Phase::Attempting(attempt) => {
                let progress = attempt.handle_message(&mut self.core, way, &received.message, now);
                self.on_progress(progress, now);
            }
            Phase::Registered(registration) if registration.uses(way) => {
                let elsewhere = registration.standing.way != way;
                let core = &mut self.core;
                if !(elsewhere && registration.handle_elsewhere(core, (way, &received), now)) {
                    self.handle_registered(&received, now);
                }
            }
            Phase::Leaving(farewell) if farewell.standing.way == way => {
                let sealed = matches!(self.core.config.secrecy, Secrecy::Sealed { .. });
                if received.message.transaction == farewell.transaction
                    && (received.is_sealed() || !sealed || is_unknown(&received.message))
                {
                    self.finish();
                }
            }
            Phase::Registered(_)
            | Phase::Leaving(_)
            | Phase::Idle
            | Phase::Resting { .. }
            | Phase::Finished => self.ignored.stray += 1,
        }
    }

    /// A message from the broker that knows us.
    fn handle_registered(&mut self, received: &Received<'_>, now: Instant) {
        let Phase::Registered(registration) = &mut self.phase else { return };
        let message = &received.message;
        let vouched = received.is_signed_by(&registration.standing.key)
            && received.is_sealed() == self.core.channel.is_some();
        if !vouched {
            let asked = registration.asked_in(message.transaction)
                || self.calls.asked_in(message.transaction);
            match unsigned_refusal(message) {
                Some(ErrorCode::UnknownRegistration) if asked => {
                    self.lose(LossReason::Unknown, message.nonce.clone(), now);
                }
                Some(ErrorCode::StaleNonce) if asked => self.handle_response(message, now),
                Some(_) | None => self.ignored.unsigned += 1,
            }
            return;
        }
        let class = message.body.kind().0;
        if matches!(class, Class::Success | Class::Error) {
            self.handle_response(message, now);
        } else {
            self.handle_request(message, now);
        }
    }

    fn handle_response(&mut self, message: &Message, now: Instant) {
        let Phase::Registered(registration) = &mut self.phase else { return };
        if registration.handle_answer(&mut self.core, message, now) {
            return;
        }
        if !self.calls.asked_in(message.transaction) {
            self.ignored.unexpected += 1;
            return;
        }
        if let Body::Refused(refused) = &message.body
            && refused.code == ErrorCode::StaleNonce
        {
            registration.on_stale_nonce(message);
        }
        self.calls.handle_answer(&mut self.core, &registration.standing, message, now);
    }

    fn handle_request(&mut self, message: &Message, now: Instant) {
        let Phase::Registered(registration) = &self.phase else { return };
        let (core, standing) = (&mut self.core, &registration.standing);
        let (invitations, availability) = (&mut self.invitations, self.availability);
        match &message.body {
            Body::Invite(punch) => {
                let news = registration.news(core);
                let invite = (message, punch, news);
                invitations.handle_invite(core, standing, invite, availability, now);
            }
            Body::Gather(gather) => {
                invitations.handle_gather(core, standing, (message, gather), availability);
            }
            Body::Punch(punch) => invitations.handle_punch(core, standing, (message, punch), now),
            Body::CalleeAnswer(answer) => self.calls.handle_callee(core, answer),
            Body::Relay(relay) => self.news.handle(core, standing, relay, now),
            Body::Forged(forged) => self.forging.handle_forged(core, forged),
            Body::Probe(peer) => self.probes.handle_probe(core, standing, (message, *peer), now),
            Body::Errand(errand) => {
                if !self.errands.handle(core, standing, errand, now) {
                    self.ignored.errands += 1;
                }
            }
            Body::Dismissed => self.lose(LossReason::Dismissed, None, now),
            Body::Ping => {
                core.send(standing, &message.answer(Body::Pong));
            }
            _ => self.ignored.unexpected += 1,
        }
    }
}

/// Whether bytes have the header of a signalling message (RFC 8489 section 5), by a glance.
pub(super) fn is_signalling(payload: &[u8]) -> bool {
    method_of(payload).is_some()
}

/// The method in the header of a signalling message.
pub(super) fn method_of(payload: &[u8]) -> Option<SignalMethod> {
    let &[high, low, _, _, cookie @ ..] = payload.first_chunk::<8>()?;
    let message_type = u16::from_be_bytes([high, low]);
    // The method's bits without those of the class.
    let method =
        (message_type & 0x000F) | ((message_type >> 1) & 0x0070) | ((message_type >> 2) & 0x0F80);
    let stun = message_type < 0x4000 && cookie == MAGIC_COOKIE;
    SignalMethod::ALL.into_iter().find(|it| stun && it.number() == method)
}

/// Whether the broker says, as it can only in the clear, that it does not know us.
fn is_unknown(message: &Message) -> bool {
    unsigned_refusal(message) == Some(ErrorCode::UnknownRegistration)
}

/// The code of a refusal that the broker cannot sign: it does not know the sender, or must not
/// answer it at length before it has proved its address. That it repeats a transaction id which
/// nobody can guess has to be enough.
fn unsigned_refusal(message: &Message) -> Option<ErrorCode> {
    match (&message.body, &message.nonce) {
        (Body::Refused(refused), Some(_)) => Some(refused.code),
        _ => None,
    }
}
