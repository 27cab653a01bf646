//! Several brokers as one: a peer of one reaches a peer of another.
//!
//! Each broker keeps its own peers as if it were alone. What they share is a directory, in which each name stands with
//! the broker that holds it for as long as its lease, and letters to each other. The directory and the post are the
//! shell's ([`Command::Claim`], [`Command::Release`], [`Command::Find`], [`Command::Post`]); any store with expiring keys and
//! messages will do.
//!
//! ```text
//!   caller                 its broker          directory         the callee's broker            callee
//!     │ Connect ──────────────▶│── Find bob ──────▶│                      │                       │
//!     │                        │◀── over there ────┤                      │                       │
//!     │                        │── Call: caller, Connect ────────────────▶│── Invite ────────────▶│
//!     │                        │◀─────────────────── Deliver: Connected ──┤                       │
//!     │◀──────────── Connected ┤                                          │◀───────────── Answer ─┤
//! ```
//!
//! The meeting lives at the callee's broker, where the caller is a guest: a registration whose link is
//! [`Link::Broker`]. The caller's broker only passes messages on, each checked and each signed anew with its own
//! peer's key, which no other broker has. A letter may get lost: whatever matters is repeated by the peers, and a
//! repeated Connect asks the directory again.
//!
//! What a directory that is away changes: names are unique within one broker only, and peers of other brokers are not
//! found. Own peers call each other as before. When it is back, every broker enters its names again, a few at a time.
//!
//! What a directory that has lost its memory changes: for a moment a name can be had that a peer of another broker has. So
//! brokers say with each name for how long their peer has had it. The one that came first keeps it; the broker
//! of the other one is woken, asks, hears that the name is held, and forgets its peer.

mod letter;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use super::registry::{CallPlace, Newcomer};
use super::timers::Timer;
use super::{Asker, Broker, Command, Departure, Link, Registration, Registry, access, refused};
use crate::access::AccessDenied;
use crate::secrecy::PublicKey;
use crate::signal::message::{Body, Found, Message, Refused, Register};
use crate::signal::{
    ErrorCode, Fingerprint, NatSummary, RegistrationId, RegistrationKey, SessionId, SignalMethod,
};
use crate::uri::PeerName;
use letter::{Guest, Letter};

/// Names whose place in the directory is being asked for, and lookups under way. A further Register or Lookup is
/// dropped; its sender repeats it.
const MAX_ASKED: usize = 4096;
/// How long a caller without patience of its own waits for the directory.
const DIRECTORY_PATIENCE: Duration = Duration::from_secs(1);
/// How long a call waits for the callee's broker: as long as a callee may gather, and a trip.
const CALL_PATIENCE: Duration = Duration::from_secs(8);
/// How long a caller of another broker is remembered after its last word.
const GUEST_MEMORY: Duration = Duration::from_secs(60);
/// Names entered anew at once when the directory is back, and the pause before the next ones: 20,000 in a second.
const RECLAIMED_AT_ONCE: usize = 100;
const RECLAIM_PAUSE: Duration = Duration::from_millis(5);

/// Names one broker of a cluster; drawn anew at each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub [u8; 8]);

/// What the directory says of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// What its NAT does.
    pub nat: NatSummary,
    /// Its key, if it has shown one.
    pub identity: Option<PublicKey>,
}

impl Listing {
    fn of(registration: &Registration) -> Self {
        let Registration { fingerprint, identity, .. } = *registration;
        Self { fingerprint, nat: registration.nat(), identity }
    }

    /// As it stands in a directory: the certificate (32 bytes), the key behind its length (1 byte: 32, or 0 without
    /// one), and the bytes of NAT-SUMMARY.
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = self.fingerprint.0.to_vec();
        letter::write_key(&mut bytes, self.identity);
        bytes.extend(self.nat.to_bytes());
        bytes
    }

    /// The reverse of [`Self::emit`]; `None` if it is no listing.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = letter::Reader(bytes);
        let fingerprint = Fingerprint(reader.take()?);
        let identity = reader.key()?;
        let nat = NatSummary::from_bytes(reader.0.try_into().ok()?);
        Some(Self { fingerprint, nat, identity })
    }
}

/// What came of a claim to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is ours for the length of the lease.
    Ours,
    /// A living broker has it, or a dead one had it for a peer with another key, whose lease has not ended.
    Held(BrokerId),
    /// The directory is away.
    Unknown,
}

/// Where a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whereabouts {
    /// At this broker.
    pub broker: BrokerId,
    /// As this.
    pub listing: Listing,
}

/// Why a peer is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    /// It is told so.
    Refused(ErrorCode),
    /// It is told why it is not let in.
    KeptOut(AccessDenied),
    /// It hears once the directory has been asked.
    NotYet,
}

impl Denial {
    /// What it is told, if anything yet.
    pub(super) fn refusal(self) -> Option<Refused> {
        let refused = |code| Refused::new(SignalMethod::Register, code);
        match self {
            Self::Refused(code) => Some(refused(code)),
            Self::KeptOut(reason) => {
                Some(Refused { access: Some(reason), ..refused(access::code(reason)) })
            }
            Self::NotYet => None,
        }
    }
}

/// A Register that waits for the directory.
#[derive(Debug)]
struct Waiting {
    link: Link,
    payload: Vec<u8>,
}

/// A meeting of a peer of ours that another broker arranges.
#[derive(Debug, Clone, Copy)]
struct Away {
    caller: RegistrationId,
    broker: BrokerId,
}

/// What a broker knows of the others.
#[derive(Debug)]
pub(super) struct Cluster {
    id: BrokerId,
    claiming: BTreeMap<PeerName, Waiting>,
    /// The name that the message being looked at needs.
    wanted: Option<(PeerName, Listing, Duration)>,
    /// What the directory said of the name in the message being looked at.
    verdict: Option<(PeerName, Claim)>,
    lookups: BTreeMap<PeerName, Vec<(Asker, Message)>>,
    away: BTreeMap<SessionId, Away>,
    guests: usize,
    /// Where entering the names anew has come to, if it is under way.
    reclaimed: Option<usize>,
}

impl Cluster {
    pub(super) fn new(id: BrokerId) -> Self {
        Self {
            id,
            claiming: BTreeMap::new(),
            wanted: None,
            verdict: None,
            lookups: BTreeMap::new(),
            away: BTreeMap::new(),
            guests: 0,
            reclaimed: None,
        }
    }
}

impl<R: Registry> Broker<R> {
    fn post(&mut self, broker: BrokerId, letter: &Letter) {
        self.commands.push_back(Command::Post { broker, letter: letter.emit() });
    }

    /// Whether a peer may have a name that nobody has here.
    pub(super) fn claim(
        &mut self,
        name: &PeerName,
        register: &Register,
        identity: Option<PublicKey>,
    ) -> Result<(), Denial> {
        let lease = self.grant(register.lease);
        let Some(cluster) = &mut self.cluster else { return Ok(()) };
        match &cluster.verdict {
            Some((judged, Claim::Ours | Claim::Unknown)) if judged == name => Ok(()),
            Some((judged, Claim::Held(broker))) if judged == name => {
                let broker = *broker;
                self.counters.name_conflicts += 1;
                self.post(broker, &Letter::Challenge { name: name.clone(), identity });
                Err(Denial::Refused(ErrorCode::NameTaken))
            }
            Some(_) | None => {
                let (fingerprint, nat) = (register.fingerprint, register.nat);
                let listing = Listing { fingerprint, nat, identity };
                cluster.wanted = Some((name.clone(), listing, lease));
                Err(Denial::NotYet)
            }
        }
    }

    /// Has the message that was just looked at wait for the directory, if it has to.
    pub(super) fn hold(&mut self, link: Link, payload: &[u8]) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some((name, listing, lease)) = cluster.wanted.take() else { return };
        let is_full = cluster.claiming.len() >= MAX_ASKED;
        match cluster.claiming.entry(name.clone()) {
            // The first who came is asked for; a second one finds the name taken when it repeats.
            Entry::Occupied(_) => self.counters.repeated += 1,
            Entry::Vacant(_) if is_full => self.counters.at_limit += 1,
            Entry::Vacant(place) => {
                place.insert(Waiting { link, payload: payload.to_vec() });
                self.commands.push_back(Command::Claim { name, listing, lease, stay: None });
            }
        }
    }

    /// Nobody waits for the directory on a stream that has ended.
    pub(super) fn forget_claims(&mut self, link: impl Fn(Link) -> bool) {
        if let Some(cluster) = &mut self.cluster {
            cluster.claiming.retain(|_, waiting| !link(waiting.link));
        }
    }

    /// The directory has answered a claim.
    pub(super) fn on_claimed(
        &mut self,
        name: &PeerName,
        (claim, wanted_by): (Claim, &[BrokerId]),
        now: Instant,
    ) {
        let Some(cluster) = &mut self.cluster else { return };
        let waiting = cluster.claiming.remove(name);
        match (waiting, claim) {
            (Some(waiting), _) => {
                cluster.verdict = Some((name.clone(), claim));
                self.take_in(waiting.link, &waiting.payload, now);
                if let Some(cluster) = &mut self.cluster {
                    (cluster.verdict, cluster.wanted) = (None, None);
                }
            }
            // It had to register elsewhere while the directory was away, or we seemed dead; or it came while the
            // directory did not know of somebody who was there before.
            (None, Claim::Held(_)) => {
                if let Some(id) = self.registry.find(name) {
                    self.remove(id, Departure::Replaced);
                }
            }
            (None, Claim::Ours | Claim::Unknown) => {}
        }
        if self.registry.find(name).is_some() {
            for broker in wanted_by {
                self.post(*broker, &Letter::Wake { name: name.clone() });
            }
        } else if claim == Claim::Ours {
            self.commands.push_back(Command::Release { name: name.clone() });
        }
    }

    /// Lengthens a peer's stay in the directory, as its lease was. Not after its end: then the name may be another's.
    pub(super) fn claim_again(&mut self, id: RegistrationId, now: Instant) {
        let (Some(_), Some(registration)) = (&self.cluster, self.registry.get(id)) else { return };
        if let (Some(name), false) = (registration.name(), registration.link().is_broker()) {
            let stay @ Some(_) = self.leases.stay(&registration.lease, now) else { return };
            let (lease, listing) = (registration.granted(), Listing::of(registration));
            self.commands.push_back(Command::Claim { name, listing, lease, stay });
        }
    }

    /// A peer has left.
    pub(super) fn release(&mut self, registration: &Registration) {
        let Some(cluster) = &mut self.cluster else { return };
        if registration.link().is_broker() {
            cluster.guests -= 1;
        } else if let Some(name) = registration.name() {
            self.commands.push_back(Command::Release { name });
        }
    }

    /// The directory is back.
    pub(super) fn on_reunited(&mut self, now: Instant) {
        if let Some(cluster) = &mut self.cluster {
            cluster.reclaimed = Some(0);
            self.timers.set(Timer::Reclaim, now);
        }
    }

    pub(super) fn on_reclaim_timer(&mut self, now: Instant) {
        let Some(cluster) = &self.cluster else { return };
        let mut last = cluster.reclaimed;
        for _ in 0..RECLAIMED_AT_ONCE {
            let next = last.and_then(|place| self.registry.next_from(place));
            last = next.map(|(_, place)| place);
            let Some((id, _)) = next else { break };
            self.claim_again(id, now);
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.reclaimed = last;
        }
        self.timers.set(Timer::Reclaim, last.map(|_| now + RECLAIM_PAUSE));
    }

    /// Looks for a callee that is not here; its caller is parked. `false` if nobody else could have it.
    pub(super) fn seek(&mut self, callee: &PeerName, wait: Duration) -> bool {
        if self.cluster.is_some() {
            self.commands.push_back(Command::Find { name: callee.clone(), wait });
        }
        self.cluster.is_some()
    }

    /// How long a call waits whose caller would not wait for its callee.
    pub(super) fn shortest_wait(&self) -> Duration {
        if self.cluster.is_some() { DIRECTORY_PATIENCE } else { Duration::ZERO }
    }

    /// Has a Lookup wait for the directory; `false` if nobody else could know.
    pub(super) fn look_elsewhere(
        &mut self,
        asker: Asker,
        message: &Message,
        name: &PeerName,
    ) -> bool {
        let Some(cluster) = &mut self.cluster else { return false };
        if cluster.lookups.values().map(Vec::len).sum::<usize>() >= MAX_ASKED {
            self.counters.at_limit += 1;
            return true;
        }
        cluster.lookups.entry(name.clone()).or_default().push((asker, message.clone()));
        let (name, wait) = (name.clone(), Duration::ZERO);
        self.commands.push_back(Command::Find { name, wait });
        true
    }

    /// The directory has said where a name is.
    pub(super) fn on_found(&mut self, name: &PeerName, found: Option<Whereabouts>, now: Instant) {
        let Some(cluster) = &mut self.cluster else { return };
        let own = cluster.id;
        for (asker, message) in cluster.lookups.remove(name).unwrap_or_default() {
            let body = match found {
                Some(Whereabouts { listing: Listing { fingerprint, nat, identity }, .. }) => {
                    Body::Found(Found { fingerprint, nat, identity })
                }
                None => refused(&message, ErrorCode::UnknownPeer),
            };
            self.answer(asker, &message, body);
        }
        // It was here, and has left.
        let elsewhere = found.map(|it| it.broker).filter(|broker| *broker != own);
        for ticket in self.parked.waiting_for(name) {
            match elsewhere {
                Some(broker) => self.call_away(ticket, broker, now),
                None => self.parked_in_vain(ticket),
            }
        }
    }

    fn call_away(&mut self, ticket: u64, broker: BrokerId, now: Instant) {
        let Some((caller, message)) = self.parked.call(ticket) else { return };
        let message = message.clone();
        if self.introduce(caller, broker, message) {
            self.timers.set(Timer::Parked(ticket), now + CALL_PATIENCE);
        }
    }

    /// Passes a caller's Connect to the broker of its callee.
    pub(super) fn introduce(
        &mut self,
        caller: RegistrationId,
        broker: BrokerId,
        message: Message,
    ) -> bool {
        let Some(registration) = self.registry.get(caller) else { return false };
        let (remote, name) = (registration.link().remote(), registration.name());
        let guest = Guest { id: caller, remote, name, identity: registration.identity };
        self.post(broker, &Letter::Call { guest, message });
        true
    }

    /// Passes what a caller tells of a meeting to the broker that arranges it; `false` if none does.
    pub(super) fn tell_elsewhere(
        &mut self,
        caller: RegistrationId,
        session: SessionId,
        message: &Message,
    ) -> bool {
        let away = self.cluster.as_ref().and_then(|it| it.away.get(&session)).copied();
        let Some(Away { broker, .. }) = away.filter(|it| it.caller == caller) else { return false };
        self.post(broker, &Letter::Tell { from: caller, message: message.clone() });
        true
    }

    pub(super) fn on_away_timer(&mut self, session: SessionId) {
        if let Some(cluster) = &mut self.cluster {
            cluster.away.remove(&session);
        }
    }

    /// Another broker has written.
    pub(super) fn on_letter(&mut self, from: BrokerId, letter: &[u8], now: Instant) {
        if self.cluster.is_none() {
            return;
        }
        self.counters.letters += 1;
        match Letter::parse(letter) {
            Some(Letter::Call { guest, message }) => self.on_guest(from, guest, &message, now),
            Some(Letter::Deliver { to, message }) => self.deliver(from, to, &message, now),
            Some(Letter::Tell { from: guest, message }) => self.on_told(from, guest, &message, now),
            Some(Letter::Challenge { name, identity }) => {
                // Only for who may be the same peer, as among the peers of one broker.
                if let Some(holder) = self.registry.find(&name)
                    && self.registry.get(holder).is_some_and(|it| it.identity == identity)
                {
                    self.challenge(holder, now);
                }
            }
            Some(Letter::Wake { name }) => {
                // Somebody was there before who has it here, perhaps: the directory knows.
                if let Some(id) = self.registry.find(&name) {
                    self.claim_again(id, now);
                } else if !self.parked.waiting_for(&name).is_empty() {
                    self.seek(&name, Duration::ZERO);
                }
            }
            None => self.counters.illegible_letters += 1,
        }
    }

    /// A peer of another broker calls one of ours.
    fn on_guest(&mut self, from: BrokerId, guest: Guest, message: &Message, now: Instant) {
        let Body::Connect(connect) = &message.body else {
            self.counters.illegible_letters += 1;
            return;
        };
        let id = guest.id;
        let link = Link::Broker { broker: from, peer: id, remote: guest.remote };
        if self.registry.get(id).is_none_or(|it| it.link() != link) {
            let Some(cluster) = &mut self.cluster else { return };
            if cluster.guests >= self.config.max_sessions {
                self.counters.at_limit += 1;
                return;
            }
            // The number of a registration is drawn from 2^64: one of ours is not displaced.
            match self.registry.get(id).map(|it| it.link().is_broker()) {
                Some(false) => return,
                Some(true) => self.remove(id, Departure::Replaced),
                None => {}
            }
            self.enter_guest(link, guest, message);
        }
        self.set_lease(id, now + GUEST_MEMORY);
        self.on_connect(Asker { id, link }, message, connect, now);
    }

    fn enter_guest(&mut self, link: Link, guest: Guest, message: &Message) {
        let Body::Connect(connect) = &message.body else { return };
        self.registry.insert(Registration::new(Newcomer {
            id: guest.id,
            // Its own broker signs what it gets.
            key: RegistrationKey([0; 32]),
            link,
            name: guest.name,
            candidates: connect.candidates.clone(),
            nat: connect.nat,
            fingerprint: connect.fingerprint,
            identity: guest.identity,
            bare: connect.bare,
            rtt: connect.rtt,
            lease: GUEST_MEMORY,
            registered_in: message.transaction,
        }));
        if let Some(cluster) = &mut self.cluster {
            cluster.guests += 1;
        }
    }

    /// What the callee's broker has for a caller of ours.
    fn deliver(&mut self, from: BrokerId, to: RegistrationId, message: &Message, now: Instant) {
        let Some(registration) = self.registry.get_mut(to) else { return };
        let place = registration.call(message.transaction);
        let answers_call = match &message.body {
            Body::Connected(_) => true,
            Body::Refused(refused) => refused.method == SignalMethod::Connect,
            Body::CalleeAnswer(_) | Body::Relay(_) => false,
            _ => {
                self.counters.illegible_letters += 1;
                return;
            }
        };
        if answers_call {
            match place {
                Some(CallPlace::Parked(ticket)) => {
                    registration.note_call(message.transaction, CallPlace::Away(from));
                    self.parked.take(ticket);
                    self.timers.set(Timer::Parked(ticket), None);
                }
                Some(CallPlace::Away(_)) => {}
                Some(CallPlace::Session(_)) | None => return,
            }
        }
        if let (Body::Connected(punch), Some(cluster)) = (&message.body, &mut self.cluster)
            && cluster.away.len() < self.config.max_sessions
        {
            cluster.away.insert(punch.session, Away { caller: to, broker: from });
            self.timers.set(Timer::Away(punch.session), now + GUEST_MEMORY);
        }
        match message.body {
            Body::Relay(_) => self.send(to, message),
            _ => self.send_surely(to, message),
        }
    }

    /// A caller that another broker has checked tells something of a meeting here.
    fn on_told(&mut self, from: BrokerId, guest: RegistrationId, message: &Message, now: Instant) {
        let link = self.registry.get(guest).map(Registration::link);
        let Some(link @ Link::Broker { broker, .. }) = link else { return };
        if broker != from {
            return;
        }
        self.set_lease(guest, now + GUEST_MEMORY);
        match &message.body {
            Body::Relay(relay) => self.relay_from(guest, message, relay),
            Body::Outcome(outcome) => self.outcome_from(guest, link, message, outcome, now),
            _ => self.counters.illegible_letters += 1,
        }
    }

    /// The letter that carries a message to a guest.
    pub(super) fn deliver_elsewhere(&mut self, link: Link, message: &Message) -> bool {
        let Link::Broker { broker, peer, .. } = link else { return false };
        self.post(broker, &Letter::Deliver { to: peer, message: message.clone() });
        true
    }
}
