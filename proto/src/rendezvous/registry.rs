//! Where the broker keeps its peers.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Bound;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::bucket::Bucket;
use super::cluster::BrokerId;
use super::link::{Link, StreamId};
use super::register::Challenge;
use crate::candidate::Candidate;
use crate::secrecy::{Channel, PublicKey};
use crate::signal::{Fingerprint, NatSummary, RegistrationId, RegistrationKey, SessionId};
use crate::uri::PeerName;

/// How many of a peer's calls are remembered, so that a repeated or replayed one is not a new one.
pub(super) const REMEMBERED_CALLS: usize = 32;

/// How many of a peer's refreshes are remembered, so that a late copy does not undo a younger one.
const REMEMBERED_REFRESHES: usize = 8;

/// One registered peer.
#[derive(Debug)]
pub struct Registration {
    /// Names it in its requests.
    pub id: RegistrationId,
    /// Signs what passes between it and us.
    pub key: RegistrationKey,
    /// How it is reached.
    pub link: Link,
    /// How it is found; `None` is a caller whom nobody calls.
    pub name: Option<PeerName>,
    /// Where others may reach it.
    pub candidates: Vec<Candidate>,
    /// What its NAT does.
    pub nat: NatSummary,
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// Its key, to which its name is bound; `None` for one that registered in the clear.
    pub identity: Option<PublicKey>,
    /// Whether its TCP paths are to be the bare socket.
    pub bare: bool,
    /// Its round-trip time to us, as it measured it.
    pub rtt: Option<Duration>,
    /// How long it is remembered after each refresh.
    pub lease: Duration,
    /// What it has agreed on with us in its handshake, if it has shaken hands.
    pub(super) channel: Option<Channel>,
    /// The answer to its handshake, until it has shown that it has it.
    pub(super) welcome: Option<Box<[u8]>>,
    /// The UDP link that it left for the stream it is on: if the stream ends, it is back there.
    pub(super) udp_before: Option<Link>,
    /// The transaction that registered it: repeated, it gets the same answer.
    pub(super) registered_in: TransactionId,
    /// When it last answered a ping.
    pub(super) proved_alive_at: Option<Instant>,
    /// Somebody else wants its name.
    pub(super) challenge: Option<Challenge>,
    /// Its latest refreshes.
    pub(super) refreshes: VecDeque<TransactionId>,
    /// Its latest calls.
    pub(super) calls: VecDeque<(TransactionId, CallPlace)>,
    /// The latest meetings it was invited to.
    pub(super) invited: VecDeque<SessionId>,
    /// Its requests.
    pub(super) bucket: Bucket,
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
    /// The place of the call made in `transaction`.
    pub(super) fn call(&self, transaction: TransactionId) -> Option<CallPlace> {
        self.calls.iter().find(|(made_in, _)| *made_in == transaction).map(|(_, place)| *place)
    }

    /// Notes a refresh; `false` if it is known already.
    pub(super) fn note_refresh(&mut self, transaction: TransactionId) -> bool {
        if self.refreshes.contains(&transaction) {
            return false;
        }
        if self.refreshes.len() == REMEMBERED_REFRESHES {
            self.refreshes.pop_front();
        }
        self.refreshes.push_back(transaction);
        true
    }

    /// Notes where a call is now.
    pub(super) fn note_call(&mut self, transaction: TransactionId, place: CallPlace) {
        if let Some((_, known)) = self.calls.iter_mut().find(|(it, _)| *it == transaction) {
            *known = place;
            return;
        }
        if self.calls.len() == REMEMBERED_CALLS {
            self.calls.pop_front();
        }
        self.calls.push_back((transaction, place));
    }
}

/// Where the broker keeps its peers.
///
/// [`Table`] is in memory. What brokers share is not here but in their directory; callers that
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

    /// A peer, to change anything but `id`, `name` and `link`.
    fn get_mut(&mut self, id: RegistrationId) -> Option<&mut Registration>;

    /// The peer of that name.
    fn find(&self, name: &PeerName) -> Option<RegistrationId>;

    /// The peer on that link.
    fn on_link(&self, link: Link) -> Option<RegistrationId>;

    /// The peer on that stream.
    fn on_stream(&self, stream: StreamId) -> Option<RegistrationId>;

    /// The peer that follows `id` in the order of ids, or the first one.
    fn next_after(&self, id: Option<RegistrationId>) -> Option<RegistrationId>;

    /// How many peers share the address of `ip`.
    fn count_at(&self, ip: IpAddr) -> usize;

    /// Adds a peer; the caller has made sure that its id, name and link are free.
    fn insert(&mut self, registration: Registration);

    /// Removes a peer.
    fn remove(&mut self, id: RegistrationId) -> Option<Registration>;

    /// Moves a peer to a link that is free.
    fn relink(&mut self, id: RegistrationId, link: Link);
}

/// A registry in memory.
#[derive(Debug, Default)]
pub struct Table {
    peers: BTreeMap<RegistrationId, Registration>,
    names: BTreeMap<PeerName, RegistrationId>,
    links: BTreeMap<Link, RegistrationId>,
    streams: BTreeMap<StreamId, RegistrationId>,
    addresses: BTreeMap<IpAddr, usize>,
    guests: usize,
}

impl Table {
    fn enter(&mut self, link: Link, id: RegistrationId) {
        self.links.insert(link, id);
        if link.is_broker() {
            self.guests += 1;
            return;
        }
        *self.addresses.entry(site(link.remote().ip())).or_default() += 1;
        if let Link::Tcp { stream, .. } = link {
            self.streams.insert(stream, id);
        }
    }

    fn leave(&mut self, link: Link) {
        self.links.remove(&link);
        if link.is_broker() {
            self.guests -= 1;
            return;
        }
        if let Link::Tcp { stream, .. } = link {
            self.streams.remove(&stream);
        }
        let site = site(link.remote().ip());
        if let Some(count) = self.addresses.get_mut(&site) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&site);
            }
        }
    }
}

impl Registry for Table {
    fn len(&self) -> usize {
        self.peers.len() - self.guests
    }

    fn get(&self, id: RegistrationId) -> Option<&Registration> {
        self.peers.get(&id)
    }

    fn get_mut(&mut self, id: RegistrationId) -> Option<&mut Registration> {
        self.peers.get_mut(&id)
    }

    fn find(&self, name: &PeerName) -> Option<RegistrationId> {
        self.names.get(name).copied()
    }

    fn on_link(&self, link: Link) -> Option<RegistrationId> {
        self.links.get(&link).copied()
    }

    fn on_stream(&self, stream: StreamId) -> Option<RegistrationId> {
        self.streams.get(&stream).copied()
    }

    fn next_after(&self, id: Option<RegistrationId>) -> Option<RegistrationId> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.peers.range((from, Bound::Unbounded)).next().map(|(id, _)| *id)
    }

    fn count_at(&self, ip: IpAddr) -> usize {
        self.addresses.get(&site(ip)).copied().unwrap_or(0)
    }

    fn insert(&mut self, registration: Registration) {
        if let Some(name) = &registration.name
            && !registration.link.is_broker()
        {
            self.names.insert(name.clone(), registration.id);
        }
        self.enter(registration.link, registration.id);
        self.peers.insert(registration.id, registration);
    }

    fn remove(&mut self, id: RegistrationId) -> Option<Registration> {
        let registration = self.peers.remove(&id)?;
        if let Some(name) = &registration.name
            && !registration.link.is_broker()
        {
            self.names.remove(name);
        }
        self.leave(registration.link);
        Some(registration)
    }

    fn relink(&mut self, id: RegistrationId, link: Link) {
        let Some(registration) = self.peers.get_mut(&id) else { return };
        let before = std::mem::replace(&mut registration.link, link);
        self.leave(before);
        self.enter(link, id);
    }
}

/// What counts as one address: an IPv6 host owns a whole /64.
pub(super) fn site(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
    }
}
