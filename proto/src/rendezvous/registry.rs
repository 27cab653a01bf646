//! Where the broker keeps its peers.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::cluster::BrokerId;
use super::compact::{KeptLink, Micros, Millis, Refreshes, Rested, Shown};
use super::leases::Lease;
use super::link::{Link, StreamId};
use super::register::Challenge;
use crate::candidate::Candidate;
use crate::secrecy::{Channel, PublicKey};
use crate::signal::{Fingerprint, NatSummary, RegistrationId, RegistrationKey, SessionId};
use crate::uri::PeerName;

/// How many of a peer's calls are remembered, so that a repeated or replayed one is not a new one.
pub(super) const REMEMBERED_CALLS: usize = 32;

/// One registered peer, in as few bytes as will do: there are very many of them.
#[derive(Debug)]
pub struct Registration {
    /// Names it in its requests.
    pub id: RegistrationId,
    /// Signs what passes between it and us.
    pub key: RegistrationKey,
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// Its key, to which its name is bound; `None` for one that registered in the clear.
    pub identity: Option<PublicKey>,
    /// Whether its TCP paths are to be the bare socket.
    pub bare: bool,
    /// As in NAT-SUMMARY.
    nat: [u8; 8],
    link: KeptLink,
    shown: Shown,
    rtt: Micros,
    granted: Millis,
    /// What it has agreed on with us in its handshake, if it has shaken hands.
    pub(super) channel: Option<Channel>,
    /// The answer to its handshake, until it has shown that it has it.
    #[expect(clippy::box_collection, reason = "most peers have none: 8 bytes instead of 24")]
    pub(super) welcome: Option<Box<Vec<u8>>>,
    /// The transaction that registered it: repeated, it gets the same answer.
    pub(super) registered_in: TransactionId,
    /// When it is forgotten.
    pub(super) lease: Lease,
    /// Its latest refreshes.
    pub(super) refreshes: Refreshes,
    /// When it may send a whole burst of requests again.
    pub(super) rested: Rested,
    affairs: Option<Box<Affairs>>,
}

/// What most peers have nothing of.
#[derive(Debug)]
pub(super) struct Affairs {
    /// The UDP link that it left for the stream it is on: if the stream ends, it is back there.
    pub(super) udp_before: Option<Link>,
    /// When it last answered a ping.
    pub(super) proved_alive_at: Option<Instant>,
    /// Somebody else wants its name.
    pub(super) challenge: Option<Challenge>,
    /// Its latest calls.
    pub(super) calls: VecDeque<(TransactionId, CallPlace)>,
    /// The latest meetings it was invited to.
    pub(super) invited: VecDeque<SessionId>,
}

impl Affairs {
    const fn none() -> Self {
        Self {
            udp_before: None,
            proved_alive_at: None,
            challenge: None,
            calls: VecDeque::new(),
            invited: VecDeque::new(),
        }
    }
}

/// Those of most peers.
static NO_AFFAIRS: Affairs = Affairs::none();

/// A peer to be.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) id: RegistrationId,
    pub(super) key: RegistrationKey,
    pub(super) link: Link,
    /// How it is found; `None` is a caller whom nobody calls.
    pub(super) name: Option<PeerName>,
    /// Where others may reach it.
    pub(super) candidates: Vec<Candidate>,
    pub(super) nat: NatSummary,
    pub(super) fingerprint: Fingerprint,
    pub(super) identity: Option<PublicKey>,
    pub(super) bare: bool,
    /// Its round-trip time to us, as it measured it.
    pub(super) rtt: Option<Duration>,
    /// How long it is remembered after each refresh.
    pub(super) lease: Duration,
    pub(super) registered_in: TransactionId,
}

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallPlace {
    /// It waits for its callee to register, under this ticket.
    Parked(u64),
    /// Another broker arranges it.
    Away(BrokerId),
    /// Both peers were told, or the callee was asked.
    Session(SessionId),
}

impl Registration {
    pub(super) fn new(newcomer: Newcomer) -> Self {
        let Newcomer { id, key, link, name, candidates, nat, fingerprint, .. } = newcomer;
        let Newcomer { identity, bare, rtt, lease, registered_in, .. } = newcomer;
        Self {
            id,
            key,
            nat: nat.to_bytes(),
            fingerprint,
            identity,
            bare,
            link: link.into(),
            shown: Shown::new(name.as_ref().map(PeerName::as_str), &candidates),
            rtt: rtt.into(),
            granted: lease.into(),
            channel: None,
            welcome: None,
            registered_in,
            lease: Lease::UNSET,
            refreshes: Refreshes::default(),
            rested: Rested::default(),
            affairs: None,
        }
    }

    /// How it is reached.
    pub fn link(&self) -> Link {
        self.link.link()
    }

    /// Has it reached otherwise, and tells how it was; only a registry does this.
    pub(super) fn set_link(&mut self, link: Link) -> Link {
        std::mem::replace(&mut self.link, link.into()).link()
    }

    /// How it is found; `None` is a caller whom nobody calls.
    pub fn name(&self) -> Option<PeerName> {
        self.shown.name()
    }

    /// Its name as text.
    pub(super) fn name_str(&self) -> Option<&str> {
        self.shown.name_str()
    }

    /// Where others may reach it.
    pub fn candidates(&self) -> Vec<Candidate> {
        self.shown.candidates()
    }

    pub(super) fn set_candidates(&mut self, candidates: &[Candidate]) {
        self.shown = Shown::new(self.name_str(), candidates);
    }

    /// What its NAT does.
    pub fn nat(&self) -> NatSummary {
        NatSummary::from_bytes(self.nat)
    }

    pub(super) fn set_nat(&mut self, nat: NatSummary) {
        self.nat = nat.to_bytes();
    }

    /// Its round-trip time to us, as it measured it.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.into()
    }

    pub(super) fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = Some(rtt).into();
    }

    /// How long it is remembered after each refresh.
    pub fn granted(&self) -> Duration {
        self.granted.into()
    }

    pub(super) fn set_granted(&mut self, lease: Duration) {
        self.granted = lease.into();
    }

    pub(super) fn affairs(&self) -> &Affairs {
        self.affairs.as_deref().unwrap_or(&NO_AFFAIRS)
    }

    pub(super) fn affairs_mut(&mut self) -> &mut Affairs {
        self.affairs.get_or_insert_with(|| Box::new(Affairs::none()))
    }

    /// The place of the call made in `transaction`.
    pub(super) fn call(&self, transaction: TransactionId) -> Option<CallPlace> {
        let mut calls = self.affairs().calls.iter();
        calls.find(|(made_in, _)| *made_in == transaction).map(|(_, place)| *place)
    }

    /// Notes where a call is now.
    pub(super) fn note_call(&mut self, transaction: TransactionId, place: CallPlace) {
        let calls = &mut self.affairs_mut().calls;
        if let Some((_, known)) = calls.iter_mut().find(|(it, _)| *it == transaction) {
            *known = place;
            return;
        }
        if calls.len() == REMEMBERED_CALLS {
            calls.pop_front();
        }
        calls.push_back((transaction, place));
    }
}

/// Where the broker keeps its peers.
///
/// [`Table`](super::Table) is in memory. What brokers share is not here but in their directory; callers that
/// other brokers introduce are here, but they are not found by name, and not counted.
pub trait Registry {
    /// Peers registered now.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A peer.
    fn get(&self, id: RegistrationId) -> Option<&Registration>;

    /// A peer, to change anything but its id, name and link.
    fn get_mut(&mut self, id: RegistrationId) -> Option<&mut Registration>;

    /// The peer of that name.
    fn find(&self, name: &PeerName) -> Option<RegistrationId>;

    /// The peer on that link.
    fn on_link(&self, link: Link) -> Option<RegistrationId>;

    /// The peer on that stream.
    fn on_stream(&self, stream: StreamId) -> Option<RegistrationId>;

    /// The first peer from a place on, and the place behind it; from 0 on each is met once, but for those who come meanwhile.
    fn next_from(&self, place: usize) -> Option<(RegistrationId, usize)>;

    /// How many peers share the address of `ip`.
    fn count_at(&self, ip: IpAddr) -> usize;

    /// Adds a peer; the caller has made sure that its id, name and link are free.
    fn insert(&mut self, registration: Registration);

    /// Removes a peer.
    fn remove(&mut self, id: RegistrationId) -> Option<Registration>;

    /// Moves a peer to a link that is free.
    fn relink(&mut self, id: RegistrationId, link: Link);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_takes_no_more_room_than_a_broker_of_a_million_can_afford() {
        assert!(size_of::<Option<Registration>>() <= 336, "{}", size_of::<Option<Registration>>());
    }
}
