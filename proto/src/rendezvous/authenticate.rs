//! Who is it, and does it receive what is sent to it?

use std::time::Instant;

use ntcp_stun::Class;

use super::{Asker, Broker, Command, Link, Registration, Registry, refused};
use crate::secrecy::PublicKey;
use crate::signal::codec::Received;
use crate::signal::message::{Body, Message};
use crate::signal::{ErrorCode, RegistrationId};

impl<R: Registry> Broker<R> {
    /// Tells who sent a request, and takes a new address over if the sender proves it.
    pub(super) fn authenticate(
        &mut self,
        link: Link,
        received: &Received<'_>,
        length: usize,
        now: Instant,
    ) -> Option<Asker> {
        let message = &received.message;
        let registration = message.registration.and_then(|id| self.registry.get(id));
        let known = registration.filter(|it| Self::vouches(it, received));
        let known = known.map(|it| (it.id, it.link(), it.identity));
        let Some((id, known_link, identity)) = known else {
            self.counters.unknown_registration += 1;
            let answer = message.answer(refused(message, ErrorCode::UnknownRegistration));
            self.refuse_with_nonce(link, answer, length, now);
            return None;
        };
        if link != known_link && moves(link, &message.body) {
            if self.must_show_nonce(link, (id, message), now) {
                self.counters.stale_nonce += 1;
                let answer = message.answer(refused(message, ErrorCode::StaleNonce));
                self.refuse_with_nonce(link, answer, length, now);
                return None;
            }
            if self.is_others(link, identity) {
                self.counters.name_conflicts += 1;
                self.answer(Asker { id, link }, message, refused(message, ErrorCode::Forbidden));
                return None;
            }
            self.relink(id, link);
        }
        let asker = Asker { id, link };
        if !self.take_token(id, now) {
            self.counters.rate_limited += 1;
            self.answer(asker, message, refused(message, ErrorCode::TooManyRequests));
            return None;
        }
        Some(asker)
    }

    /// Whether somebody with another key is registered on a link. Its lease must end before anybody
    /// else can have that link: who reads and writes on a path could otherwise take it over, and
    /// the name with it.
    pub(super) fn is_others(&self, link: Link, identity: Option<PublicKey>) -> bool {
        let holder = self.registry.on_link(link).and_then(|id| self.registry.get(id));
        holder.is_some_and(|it| it.identity != identity)
    }

    /// Whether the sender receives what is sent to it: a stream's handshake has shown it, a
    /// datagram's nonce does.
    pub(super) fn has_proved(&self, link: Link, message: &Message, now: Instant) -> bool {
        match link {
            Link::Tcp { .. } | Link::Broker { .. } => true,
            Link::Udp { .. } => self.has_shown_nonce(link, message, now),
        }
    }

    /// Whether whoever has written a message reads what is sent on its link. A stream's handshake does not show that:
    /// somebody on the path may write there what a peer has sent elsewhere, and what never arrived.
    fn has_shown_nonce(&self, link: Link, message: &Message, now: Instant) -> bool {
        message.nonce.as_ref().is_some_and(|nonce| self.cookies.is_ours(nonce, link, now))
    }

    /// Whether a request that `registration` vouches for will be refused until it shows a nonce of its link.
    pub(super) fn must_show_nonce(
        &self,
        link: Link,
        (registration, message): (RegistrationId, &Message),
        now: Instant,
    ) -> bool {
        let known = self.registry.get(registration).map(Registration::link);
        message.body.kind().0 == Class::Request
            && known.is_some_and(|known| known != link)
            && moves(link, &message.body)
            && !self.has_shown_nonce(link, message, now)
    }

    /// Whether it stops while others go on.
    pub(super) fn leaves_it_to_others(&self) -> bool {
        self.dismissal.is_some() && self.cluster.is_some()
    }

    /// Refuses a request of somebody unknown and tells the nonce that would help. A broker that stops while
    /// others go on says nothing: who asks several at once turns to the first that answers.
    pub(super) fn refuse_with_nonce(
        &mut self,
        link: Link,
        answer: Message,
        length: usize,
        now: Instant,
    ) {
        if self.leaves_it_to_others() {
            return;
        }
        let nonce = self.cookies.bake(link, now);
        self.answer_unproven(link, &answer.with_nonce(nonce), length);
    }

    /// Answers somebody who may have forged its address: never with more bytes than it sent, which
    /// leaves no room for a signature.
    pub(super) fn answer_unproven(&mut self, link: Link, message: &Message, length: usize) {
        let payload = message.emit(None);
        if payload.len() > length && matches!(link, Link::Udp { .. }) {
            self.counters.would_amplify += 1;
            return;
        }
        self.counters.refused += 1;
        self.commands.push_back(Command::Send { link, payload });
    }
}

/// Whether a request from another link than the registration's moves it there, once it shows a nonce of that link. Over
/// UDP it does: its nonce is younger than the move. What else comes in on a stream may have been sent before the peer
/// moved away from it, so there only a Refresh does.
fn moves(link: Link, body: &Body) -> bool {
    matches!((link, body), (Link::Udp { .. }, _) | (Link::Tcp { .. }, Body::Refresh(_)))
}
