//! Handshakes and sealed messages, on the broker's side.
//!
//! ```text
//!   peer                                    broker
//!     │ Hello ──────────────────────────────▶│ keeps nothing, computes one MAC
//!     │◀────────── 401, NONCE, the broker's key ┤
//!     │ Secure, NONCE: a handshake around ───▶│ the address is proved: now, and not before,
//!     │                 Register              │ it is worth the four multiplications
//!     │◀──────── Secured: the other half around ┤
//!     │                 Registered            │
//!     │ Sealed ◀────────────────────▶ Sealed │ everything from here on
//! ```
//!
//! The NONCE is the handshake's prologue. It belongs to one address, or to one stream, and to one
//! minute: a Register that somebody recorded is good nowhere else and at no other time, and within
//! that minute it is known for [spent](Spent).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use super::access::Said;
use super::bucket::Bucket;
use super::cookie::LIFE;
use super::{Broker, Command, Link, Registration, Registry};
use crate::address::site;
use crate::secrecy::{Channel, PublicKey, Reception, SecretKey, Unsealed};
use crate::signal::codec::Received;
use crate::signal::envelope::{Envelope, prologue};
use crate::signal::message::{Body, Message, Refused, Secure};
use crate::signal::{ErrorCode, RegistrationId, SignalMethod};

/// Addresses whose handshakes are counted; at the limit those that have been idle are forgotten,
/// and if there is none, a further address has to wait.
const MAX_SITES: usize = 4096;
/// In how many seconds all who may be registered from one address can shake hands, after as many at once: by default 32 a
/// second after 256. Each costs a fifth of a millisecond.
const ROUND: u32 = 8;

/// The keys of a broker: the first is shown, all are accepted.
#[derive(Debug)]
pub(super) struct Keys(Vec<(PublicKey, SecretKey)>);

impl Keys {
    /// These; at least one.
    pub(super) fn new(keys: Vec<SecretKey>) -> Self {
        Self(keys.into_iter().map(|key| (key.public(), key)).collect())
    }

    /// The newest.
    pub(super) fn shown(&self) -> Option<PublicKey> {
        self.0.first().map(|(public, _)| *public)
    }

    /// Whether it is one of these.
    pub(super) fn contain(&self, key: PublicKey) -> bool {
        self.0.iter().any(|(public, _)| *public == key)
    }

    fn meant(&self, hint: [u8; 8]) -> Option<&SecretKey> {
        self.0.iter().find(|(public, _)| public.hint() == hint).map(|(_, key)| key)
    }
}

/// Handshakes that have registered somebody, as long as their NONCE is good.
#[derive(Debug, Default)]
pub(super) struct Spent {
    known: BTreeSet<[u8; 16]>,
    by_time: std::collections::VecDeque<(Instant, [u8; 16])>,
}

impl Spent {
    /// A message of Noise begins with an ephemeral key that is drawn for it: it names the handshake.
    fn name(noise: &[u8]) -> [u8; 16] {
        noise.first_chunk().copied().unwrap_or_default()
    }

    fn contains(&self, noise: &[u8]) -> bool {
        self.known.contains(&Self::name(noise))
    }

    /// Notes one; at `most` the oldest is forgotten.
    fn note(&mut self, noise: &[u8], most: usize, now: Instant) {
        let is_over = |(at, _): &(Instant, _)| *at + LIFE < now;
        while self.by_time.len() >= most.max(1) || self.by_time.front().is_some_and(is_over) {
            let Some((_, name)) = self.by_time.pop_front() else { break };
            self.known.remove(&name);
        }
        let name = Self::name(noise);
        if self.known.insert(name) {
            self.by_time.push_back((now, name));
        }
    }
}

/// How many handshakes each address may ask for.
#[derive(Debug, Default)]
pub(super) struct Gate {
    by_site: BTreeMap<IpAddr, Bucket>,
}

impl Gate {
    /// One more of an address of which so many may be registered.
    pub(super) fn admits(&mut self, ip: IpAddr, per_address: usize, now: Instant) -> bool {
        let site = site(ip);
        if self.by_site.len() >= MAX_SITES && !self.by_site.contains_key(&site) {
            self.by_site.retain(|_, bucket| !bucket.is_full(now));
            if self.by_site.len() >= MAX_SITES {
                return false;
            }
        }
        let bucket = self.by_site.entry(site).or_insert_with(|| Bucket::full(now));
        let burst = u32::try_from(per_address).unwrap_or(u32::MAX).max(1);
        bucket.take(burst, burst.div_ceil(ROUND), now)
    }
}

impl<R: Registry> Broker<R> {
    /// The key that peers are shown.
    pub fn identity(&self) -> Option<PublicKey> {
        self.keys.shown()
    }

    /// Takes other keys: the first is shown from now on, handshakes with any of them are accepted.
    /// Whoever is registered stays so.
    pub fn set_keys(&mut self, keys: Vec<SecretKey>) {
        if !keys.is_empty() {
            self.keys = Keys::new(keys);
        }
    }

    /// Somebody wants to shake hands and does not know yet with whom.
    pub(super) fn on_hello(&mut self, link: Link, message: &Message, length: usize, now: Instant) {
        self.counters.challenged += 1;
        self.show_key(link, message, ErrorCode::Unauthenticated, length, now);
    }

    /// Refuses in the clear, and shows what the next try needs.
    fn show_key(
        &mut self,
        link: Link,
        message: &Message,
        code: ErrorCode,
        length: usize,
        now: Instant,
    ) {
        let refused = Refused::new(SignalMethod::Register, code);
        let body = Body::Refused(Refused { identity: self.keys.shown(), ..refused });
        self.refuse_with_nonce(link, message.answer(body), length, now);
    }

    /// A Register inside a handshake.
    pub(super) fn on_secure(
        &mut self,
        link: Link,
        (message, secure): (&Message, &Secure),
        length: usize,
        now: Instant,
    ) {
        let proved = message.nonce.as_ref().filter(|it| self.cookies.is_ours(it, link, now));
        let Some(nonce) = proved else {
            self.counters.stale_nonce += 1;
            return self.show_key(link, message, ErrorCode::StaleNonce, length, now);
        };
        if self.repeat_welcome(link, message) {
            return;
        }
        if self.spent.contains(&secure.noise) {
            self.counters.replayed += 1;
            return;
        }
        let per_address = self.config.max_registrations_per_address;
        if !self.gate.admits(link.remote().ip(), per_address, now) {
            self.counters.rate_limited += 1;
            return self.show_key(link, message, ErrorCode::TooManyRequests, length, now);
        }
        let Some(key) = self.keys.meant(secure.hint) else {
            self.counters.unknown_keys += 1;
            return self.show_key(link, message, ErrorCode::UnknownKey, length, now);
        };
        self.counters.handshakes += 1;
        let seed = self.entropy.seed();
        let Ok(reception) = Reception::read(key, &prologue(nonce), &secure.noise, seed) else {
            self.counters.broken_handshakes += 1;
            return;
        };
        self.register_inside(link, message, (reception, &secure.noise), now);
    }

    fn register_inside(
        &mut self,
        link: Link,
        outer: &Message,
        (reception, noise): (Reception, &[u8]),
        now: Instant,
    ) {
        let payload = reception.payload().to_vec();
        let inner = match Message::parse(&payload) {
            Ok(inner) if inner.message.transaction == outer.transaction => inner,
            Ok(_) | Err(_) => {
                self.counters.broken_handshakes += 1;
                return;
            }
        };
        let Body::Register(register) = &inner.message.body else {
            self.counters.broken_handshakes += 1;
            return;
        };
        let known = self.registry.on_link(link);
        let admitted = self.let_in(register, &inner, Said::Sealed, now);
        let identity = Some(reception.remote());
        let admitted = admitted.and_then(|()| self.admit(link, register, (known, identity), now));
        let body = match admitted {
            Ok(()) => {
                let most = self.config.max_registrations.saturating_mul(2);
                self.spent.note(noise, most, now);
                let id = self.enter(link, &inner.message, (register, identity), now);
                let Some(body) = self.registered_body(id, now) else { return };
                let (welcome, channel) = reception.answer(&inner.message.answer(body).emit(None));
                let answer = outer.answer(Body::Secured(welcome)).emit(None);
                if let Some(registration) = self.registry.get_mut(id) {
                    registration.channel = Some(channel);
                    registration.welcome = Some(answer.clone().into());
                }
                self.counters.answered += 1;
                self.commands.push_back(Command::Send { link, payload: answer });
                return self.after_entering(id, register, now);
            }
            // It is looked at again when the directory has answered.
            Err(denial) => match denial.refusal() {
                Some(refused) => Body::Refused(refused),
                None => return,
            },
        };
        self.counters.refused += 1;
        let (noise, _) = reception.answer(&inner.message.answer(body).emit(None));
        let payload = outer.answer(Body::Secured(noise)).emit(None);
        self.commands.push_back(Command::Send { link, payload });
    }

    /// A handshake that was answered before gets the very same answer, until the peer has shown by a
    /// sealed message that it has it.
    fn repeat_welcome(&mut self, link: Link, message: &Message) -> bool {
        let known = self.registry.on_link(link).and_then(|id| self.registry.get(id));
        let Some(known) = known.filter(|it| it.registered_in == message.transaction) else {
            return false;
        };
        self.counters.repeated += 1;
        if let Some(welcome) = &known.welcome {
            self.counters.answered += 1;
            let payload = welcome.to_vec();
            self.commands.push_back(Command::Send { link, payload });
        }
        true
    }

    /// A sealed message.
    pub(super) fn on_sealed(
        &mut self,
        link: Link,
        envelope: &Envelope<'_>,
        length: usize,
        now: Instant,
    ) {
        let registration = self.registry.get_mut(envelope.registration);
        let known = registration.and_then(|it| Some((it.channel.as_mut()?, &mut it.welcome)));
        let Some((channel, welcome)) = known else {
            self.counters.unknown_registration += 1;
            let code = ErrorCode::UnknownRegistration;
            let body = Body::Refused(Refused::new(SignalMethod::Sealed, code));
            let answer = Message::new(envelope.transaction, body);
            return self.refuse_with_nonce(link, answer, length, now);
        };
        let before = channel.clone();
        let bytes = match envelope.open(channel) {
            Ok(bytes) => bytes,
            Err(Unsealed::Repeated) => {
                self.counters.replayed += 1;
                return;
            }
            Err(Unsealed::Broken) => {
                self.counters.broken_seals += 1;
                return;
            }
        };
        *welcome = None;
        match Message::parse(&bytes) {
            Ok(received) if received.message.transaction == envelope.transaction => {
                let received = received.sealed();
                self.spare(envelope.registration, (link, &received.message), before, now);
                self.on_message(link, &received, length, now);
            }
            Ok(_) | Err(_) => self.counters.malformed += 1,
        }
    }

    /// Keeps the counter of a request good that is about to be refused for want of a nonce: what somebody else has sent
    /// ahead from elsewhere must not have the original taken for a replay. Each copy is answered with no more bytes than
    /// it has, and none any more once the original is here.
    fn spare(
        &mut self,
        id: RegistrationId,
        (link, message): (Link, &Message),
        before: Channel,
        now: Instant,
    ) {
        if message.registration == Some(id) && self.must_show_nonce(link, (id, message), now) {
            let channel = self.registry.get_mut(id).and_then(|it| it.channel.as_mut());
            if let Some(channel) = channel {
                *channel = before;
            }
        }
    }

    /// Whether `registration` vouches for a message: with its signature, and sealed if it has shaken
    /// hands. Nobody who has goes back to speaking in the clear.
    pub(super) fn vouches(registration: &Registration, received: &Received<'_>) -> bool {
        received.is_signed_by(&registration.key)
            && received.is_sealed() == registration.channel.is_some()
    }

    /// The bytes of a message to a registered peer.
    pub(super) fn protected(&mut self, id: RegistrationId, message: &Message) -> Option<Vec<u8>> {
        let registration = self.registry.get_mut(id)?;
        let payload = message.emit(Some(&registration.key));
        Some(match &mut registration.channel {
            Some(channel) => Envelope::seal(channel, id, message.transaction, payload),
            None => payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::machine::any_instant;

    fn ip(number: u32) -> IpAddr {
        IpAddr::from((0x0A00_0000 + number).to_be_bytes())
    }

    #[test]
    fn a_flood_of_handshakes_from_many_addresses_fills_no_more_than_its_table_and_passes() {
        let (mut gate, now) = (Gate::default(), any_instant());
        let admitted = (0..10_000).filter(|number| gate.admits(ip(*number), 256, now)).count();
        assert_eq!((admitted, gate.by_site.len()), (MAX_SITES, MAX_SITES));
        assert!(!gate.admits(ip(20_000), 256, now), "a newcomer waits");
        assert!(gate.admits(ip(1), 256, now), "who was there does not");
        let later = now + Duration::from_secs(1);
        assert!(gate.admits(ip(20_000), 256, later), "and is served a second later");
        assert_eq!(gate.by_site.len(), 1);
    }

    #[test]
    fn an_address_of_which_more_may_be_registered_may_shake_hands_more_often() {
        for (per_address, at_once, in_a_second) in
            [(256, 256, 32), (10_000, 10_000, 1250), (1, 1, 1), (0, 1, 1)]
        {
            let (mut gate, now) = (Gate::default(), any_instant());
            let mut admitted =
                |now| (0..20_000).filter(|_| gate.admits(ip(1), per_address, now)).count();
            let later = now + Duration::from_secs(1);
            assert_eq!((admitted(now), admitted(later)), (at_once, in_a_second), "{per_address}");
        }
    }

    #[test]
    fn handshakes_are_remembered_as_long_as_they_could_be_repeated_and_never_more_than_allowed() {
        let (mut spent, now) = (Spent::default(), any_instant());
        let noise = |number: u32| [number.to_be_bytes().repeat(8), vec![0; 8]].concat();
        (0..1000).for_each(|number| spent.note(&noise(number), 100, now));
        assert_eq!((spent.known.len(), spent.by_time.len()), (100, 100));
        assert!(spent.contains(&noise(999)) && !spent.contains(&noise(0)));
        spent.note(&noise(1000), 100, now + LIFE);
        assert!(spent.contains(&noise(999)), "its NONCE is good still");
        spent.note(&noise(1001), 100, now + LIFE + Duration::from_secs(1));
        assert_eq!(spent.known.len(), 2, "and now it is not");
    }
}
