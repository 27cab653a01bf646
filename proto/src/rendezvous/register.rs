//! How peers become known, stay known and are forgotten.

use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::access::Said;
use super::cluster::Denial;
use super::leases::Look;
use super::registry::Newcomer;
use super::timers::Timer;
use super::{
    Asked, Asker, Broker, Command, Departure, Event, InTheClear, Link, Registration, Registry,
    StreamId, refused,
};
use crate::secrecy::PublicKey;
use crate::signal::codec::Received;
use crate::signal::message::{Body, Found, Message, Refresh, Refreshed, Register, Registered};
use crate::signal::{ErrorCode, Ladder, Pace, RegistrationId, RegistrationKey};
use crate::uri::PeerName;

/// How often the holder of a wanted name is pinged before it counts as dead. At 30 % loss each way
/// a living one misses all of these once in 200 times.
const PINGS: usize = 8;
/// Bounds of the time between two pings, which follows the holder's round-trip time: a dead
/// holder's name is free after 0.8 to 2 s, and a living one survives a path that is gone for less.
const SHORTEST_PING_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_PING_INTERVAL: Duration = Duration::from_millis(250);
/// How long a holder that has just answered is not pinged again.
const PROOF_OF_LIFE: Duration = Duration::from_secs(2);

/// The question whether the holder of a name is alive.
#[derive(Debug)]
pub(super) struct Challenge {
    transaction: TransactionId,
    ladder: Ladder,
}

impl<R: Registry> Broker<R> {
    /// A wish to be known, from anybody.
    pub(super) fn on_register(
        &mut self,
        link: Link,
        (received, register): (&Received<'_>, &Register),
        length: usize,
        now: Instant,
    ) {
        let message = &received.message;
        if self.config.in_the_clear == InTheClear::Refused {
            self.counters.in_the_clear += 1;
            let answer = message.answer(refused(message, ErrorCode::SecrecyRequired));
            return self.answer_unproven(link, &answer, length);
        }
        if !self.has_proved(link, message, now) || self.needs_nonce(link, message, now) {
            let code = if message.nonce.is_some() {
                self.counters.stale_nonce += 1;
                ErrorCode::StaleNonce
            } else {
                self.counters.challenged += 1;
                ErrorCode::Unauthenticated
            };
            self.refuse_with_nonce(link, message.answer(refused(message, code)), length, now);
            return;
        }
        let known = self.registry.on_link(link);
        if let Some(id) = known
            && self.registry.get(id).is_some_and(|it| it.registered_in == message.transaction)
        {
            self.counters.repeated += 1;
            self.tell_registered(id, message, now);
            return;
        }
        // Passwords are not guessed faster here than by handshakes.
        let per_address = self.config.max_registrations_per_address;
        if self.config.access.is_some() && !self.gate.admits(link.remote().ip(), per_address, now) {
            self.counters.rate_limited += 1;
            let answer = message.answer(refused(message, ErrorCode::TooManyRequests));
            return self.answer_proven(link, &answer);
        }
        let admitted = self.let_in(register, received, Said::InTheClear, now);
        let admitted = admitted.and_then(|()| self.admit(link, register, (known, None), now));
        if let Err(denial) = admitted {
            let Some(refused) = denial.refusal() else { return };
            return self.answer_proven(link, &message.answer(Body::Refused(refused)));
        }
        let id = self.enter(link, message, (register, None), now);
        self.tell_registered(id, message, now);
        self.after_entering(id, register, now);
    }

    /// A peer is known, and has been told so.
    pub(super) fn after_entering(&mut self, id: RegistrationId, register: &Register, now: Instant) {
        if register.consents {
            self.note_consent(id, now);
        }
        if register.offers_to_forge {
            self.note_offer(id, now);
        }
        if let Some(name) = &register.name {
            self.wake_parked(name, now);
        }
    }

    /// Whether there is room, and the name is free for who comes with this key.
    pub(super) fn admit(
        &mut self,
        link: Link,
        register: &Register,
        (known, identity): (Option<RegistrationId>, Option<PublicKey>),
        now: Instant,
    ) -> Result<(), Denial> {
        self.check_name(register.name.as_ref(), identity).map_err(Denial::Refused)?;
        if self.is_others(link, identity) {
            self.counters.name_conflicts += 1;
            return Err(Denial::Refused(ErrorCode::NameTaken));
        }
        let holder = register.name.as_ref().and_then(|name| self.registry.find(name));
        if let Some(holder) = holder
            && Some(holder) != known
        {
            self.counters.name_conflicts += 1;
            // The same peer, perhaps, that has crashed and come back. A name is never asked of
            // the owner of one key for the owner of another: its lease has to end.
            if self.registry.get(holder).is_some_and(|it| it.identity == identity) {
                self.challenge(holder, now);
            }
            return Err(Denial::Refused(ErrorCode::NameTaken));
        }
        self.has_room(link, known).map_err(Denial::Refused)?;
        match &register.name {
            Some(name) if holder.is_none() => self.claim(name, register, identity),
            Some(_) | None => Ok(()),
        }
    }

    fn has_room(&mut self, link: Link, known: Option<RegistrationId>) -> Result<(), ErrorCode> {
        if self.dismissal.is_some() {
            return Err(ErrorCode::TableFull);
        }
        if known.is_some() {
            return Ok(());
        }
        if self.registry.len() >= self.config.max_registrations {
            self.counters.at_limit += 1;
            return Err(ErrorCode::TableFull);
        }
        let at_address = self.registry.count_at(link.remote().ip());
        if at_address >= self.config.max_registrations_per_address {
            self.counters.at_limit += 1;
            return Err(ErrorCode::TooManyRequests);
        }
        Ok(())
    }

    /// Whether a name may be had with a key.
    fn check_name(
        &mut self,
        name: Option<&PeerName>,
        identity: Option<PublicKey>,
    ) -> Result<(), ErrorCode> {
        let names = &self.config.names;
        let is_in = |keys: &Vec<PublicKey>| identity.is_some_and(|it| keys.contains(&it));
        let allowed = match name.and_then(|name| names.reserved.get(name)) {
            Some(keys) => is_in(keys),
            None if !names.only_reserved => true,
            // A caller without a name, but not just any.
            None => name.is_none() && names.reserved.values().any(is_in),
        };
        if allowed {
            return Ok(());
        }
        self.counters.reserved_names += 1;
        Err(ErrorCode::Forbidden)
    }

    /// Enters a peer that is admitted, in the place of the one on its link.
    pub(super) fn enter(
        &mut self,
        link: Link,
        message: &Message,
        (register, identity): (&Register, Option<PublicKey>),
        now: Instant,
    ) -> RegistrationId {
        let mut came = None;
        if let Some(known) = self.registry.on_link(link) {
            // The same peer once more: it has had its name all the time.
            let is_same =
                |it: &&Registration| it.name() == register.name && it.identity == identity;
            came = self.registry.get(known).filter(is_same).map(|it| it.lease.came());
            self.remove(known, Departure::Replaced);
        }
        let id = RegistrationId(self.entropy.bytes());
        let lease = self.grant(register.lease);
        self.registry.insert(Registration::new(Newcomer {
            id,
            key: RegistrationKey(self.entropy.bytes()),
            link,
            name: register.name.clone(),
            candidates: register.candidates.clone(),
            nat: register.nat,
            fingerprint: register.fingerprint,
            identity,
            bare: register.bare,
            rtt: register.rtt,
            lease,
            registered_in: message.transaction,
        }));
        if let Some(registration) = self.registry.get_mut(id) {
            registration.lease.set_came(came.unwrap_or_else(|| self.leases.tenths(now)));
        }
        self.set_lease(id, now + lease);
        if came.is_some() {
            // Its name went with its former registration.
            self.claim_again(id, now);
        }
        self.counters.registered += 1;
        self.events.push_back(Event::Registered { name: register.name.clone(), link });
        id
    }

    /// The lease that is given to who wants this one.
    pub(super) fn grant(&self, wish: Duration) -> Duration {
        wish.clamp(self.config.shortest_lease, self.config.longest_lease)
    }

    /// What a peer is told of its registration.
    pub(super) fn registered_body(&self, id: RegistrationId, now: Instant) -> Option<Body> {
        let registration = self.registry.get(id)?;
        Some(Body::Registered(Registered {
            registration: id,
            key: registration.key,
            observed: registration.link().remote(),
            lease: registration.granted(),
            capabilities: self.capabilities(now),
            identity: registration.identity.and_then(|_| self.identity()),
        }))
    }

    /// Tells a peer in the clear its key; the only message to a registered peer that is not signed.
    fn tell_registered(&mut self, id: RegistrationId, message: &Message, now: Instant) {
        let Some(link) = self.registry.get(id).map(Registration::link) else { return };
        let Some(body) = self.registered_body(id, now) else { return };
        let answer = message.answer(body);
        self.counters.answered += 1;
        self.commands.push_back(Command::Send { link, payload: answer.emit(None) });
    }

    /// Refuses a request of somebody who is not registered but has proved its address.
    fn answer_proven(&mut self, link: Link, message: &Message) {
        self.counters.refused += 1;
        self.commands.push_back(Command::Send { link, payload: message.emit(None) });
    }

    pub(super) fn on_refresh(
        &mut self,
        asker: Asker,
        message: &Message,
        refresh: &Refresh,
        now: Instant,
    ) {
        let Asker { id, link } = asker;
        let lease = self.grant(refresh.lease);
        let Some(registration) = self.registry.get_mut(id) else { return };
        if registration.refreshes.note(message.transaction) {
            registration.set_granted(lease);
            if let Some(rtt) = refresh.rtt {
                registration.set_rtt(rtt);
            }
            let before = registration.nat();
            let nat = refresh.nat.unwrap_or(before);
            let has_news = nat != before;
            registration.set_nat(nat);
            if let Some(candidates) = &refresh.candidates {
                registration.set_candidates(candidates);
            }
            self.set_lease(id, now + lease);
            self.claim_again(id, now);
            if has_news {
                self.note_nat(id, now);
            }
        } else {
            self.counters.repeated += 1;
        }
        let observed = link.remote();
        let capabilities = self.capabilities(now);
        let refreshed = Refreshed { observed, lease, capabilities };
        self.answer(asker, message, Body::Refreshed(refreshed));
    }

    pub(super) fn on_unregister(&mut self, asker: Asker, message: &Message) {
        self.answer(asker, message, Body::Unregistered);
        self.remove(asker.id, Departure::Unregistered);
    }

    pub(super) fn on_lookup(&mut self, asker: Asker, message: &Message, name: &PeerName) {
        let here = self.registry.find(name);
        if here.is_none() && self.look_elsewhere(asker, message, name) {
            return;
        }
        let body = match here.and_then(|it| self.registry.get(it)) {
            Some(it) => {
                let Registration { fingerprint, identity, .. } = *it;
                Body::Found(Found { fingerprint, nat: it.nat(), identity })
            }
            None => refused(message, ErrorCode::UnknownPeer),
        };
        self.answer(asker, message, body);
    }

    /// A stream ended; its peer is where it was before, or cannot be reached any more.
    pub(super) fn on_closed(&mut self, stream: StreamId) {
        self.withdraw(stream);
        self.forget_claims(|link| matches!(link, Link::Tcp { stream: it, .. } if it == stream));
        let Some(id) = self.registry.on_stream(stream) else { return };
        // Taken out only where there is one: nobody has affairs of its own for nothing.
        let before = self.registry.get(id).and_then(|it| it.affairs().udp_before);
        self.note_udp_before(id, None);
        match before {
            Some(link) if self.registry.on_link(link).is_none() => self.relink(id, link),
            Some(_) | None => self.remove(id, Departure::LinkClosed),
        }
    }

    /// Moves a peer to the link on which it has just proved itself. A stream that it leaves is the
    /// peer's to close, once it knows that the move was taken.
    pub(super) fn relink(&mut self, id: RegistrationId, link: Link) {
        if let Some(other) = self.registry.on_link(link) {
            self.remove(other, Departure::Replaced);
        }
        let before = self.registry.get(id).map(Registration::link);
        self.registry.relink(id, link);
        let udp_before = match (before, link) {
            (Some(before @ Link::Udp { .. }), Link::Tcp { .. }) => Some(before),
            _ => None,
        };
        self.note_udp_before(id, udp_before);
        let name = self.registry.get(id).and_then(Registration::name);
        self.events.push_back(Event::Moved { name, link });
    }

    fn note_udp_before(&mut self, id: RegistrationId, before: Option<Link>) {
        if let Some(registration) = self.registry.get_mut(id)
            && registration.affairs().udp_before != before
        {
            registration.affairs_mut().udp_before = before;
        }
    }

    /// Has a peer's lease end at `ends`.
    pub(super) fn set_lease(&mut self, id: RegistrationId, ends: Instant) {
        if let Some(registration) = self.registry.get_mut(id) {
            self.leases.set(id, &mut registration.lease, ends);
        }
    }

    /// A peer's lease may have ended.
    pub(super) fn on_look(&mut self, look: Look, now: Instant) {
        let Some(registration) = self.registry.get_mut(look.id) else { return };
        if !self.leases.has_ended(look, &mut registration.lease, now) {
            return;
        }
        if !registration.link().is_broker() {
            self.counters.expired += 1;
        }
        self.remove(look.id, Departure::Expired);
    }

    /// Takes one of the peer's tokens.
    pub(super) fn take_token(&mut self, id: RegistrationId, now: Instant) -> bool {
        let (burst, per_second) = (self.config.burst, self.config.requests_per_second);
        let start = self.leases.start();
        let registration = self.registry.get_mut(id);
        registration.is_some_and(|it| it.rested.take((burst, per_second), start, now))
    }

    /// Forgets a peer. Its calls and invitations end by their own timers.
    pub(super) fn remove(&mut self, id: RegistrationId, why: Departure) {
        let Some(registration) = self.registry.remove(id) else { return };
        self.timers.set(Timer::Challenge(id), None);
        self.release(&registration);
        if registration.link().is_broker() {
            return;
        }
        if let Some(challenge) = &registration.affairs().challenge {
            self.asked.remove(&challenge.transaction);
        }
        if let (
            Link::Tcp { stream, .. },
            Departure::Expired | Departure::Dead | Departure::Dismissed,
        ) = (registration.link(), why)
        {
            self.commands.push_back(Command::Close { stream });
        }
        self.events.push_back(Event::Left { name: registration.name(), why });
    }

    /// Asks the holder of a name whether it is alive, unless it is being asked or has just said so.
    pub(super) fn challenge(&mut self, holder: RegistrationId, now: Instant) {
        let transaction = TransactionId::new(self.entropy.bytes());
        let Some(registration) = self.registry.get_mut(holder) else { return };
        let affairs = registration.affairs();
        let proved = affairs.proved_alive_at.is_some_and(|at| now < at + PROOF_OF_LIFE);
        if proved || affairs.challenge.is_some() {
            return;
        }
        let rtt = registration.rtt().unwrap_or(LONGEST_PING_INTERVAL);
        let interval = (rtt + rtt / 4).clamp(SHORTEST_PING_INTERVAL, LONGEST_PING_INTERVAL);
        let ladder = Ladder::repeating(Pace { first: interval, longest: interval });
        registration.affairs_mut().challenge = Some(Challenge { transaction, ladder });
        self.asked.insert(transaction, Asked::Ping(holder));
        self.ping(holder, now);
    }

    fn ping(&mut self, holder: RegistrationId, now: Instant) {
        let Some(registration) = self.registry.get_mut(holder) else { return };
        let Some(challenge) = &mut registration.affairs_mut().challenge else { return };
        let transmit = challenge.ladder.sent(now);
        let message = Message::new(challenge.transaction, Body::Ping);
        self.timers.set(Timer::Challenge(holder), challenge.ladder.next());
        self.send(holder, &Message { transmit: Some(transmit), ..message });
    }

    pub(super) fn on_challenge_timer(&mut self, holder: RegistrationId, now: Instant) {
        let challenge = self.registry.get(holder).and_then(|it| it.affairs().challenge.as_ref());
        let Some(challenge) = challenge else { return };
        if challenge.ladder.sendings() < PINGS {
            self.ping(holder, now);
        } else {
            self.counters.dead_holders += 1;
            self.remove(holder, Departure::Dead);
        }
    }

    pub(super) fn on_pong(&mut self, holder: RegistrationId, now: Instant) {
        let Some(registration) = self.registry.get_mut(holder) else { return };
        let affairs = registration.affairs_mut();
        affairs.proved_alive_at = Some(now);
        if let Some(challenge) = affairs.challenge.take() {
            self.asked.remove(&challenge.transaction);
            self.timers.set(Timer::Challenge(holder), None);
        }
    }
}
