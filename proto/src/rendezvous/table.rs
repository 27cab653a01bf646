//! The registry in memory.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use super::index::Index;
use super::link::{Link, StreamId};
use super::registry::{Registration, Registry};
use crate::address::site;
use crate::signal::RegistrationId;
use crate::uri::PeerName;

/// A registry in memory: peers beside each other in one array, and indices of where they are in it.
///
/// The array only grows, up to the most peers that there ever were at once; whoever comes takes the place of who left last.
#[derive(Debug, Default)]
pub struct Table {
    /// Keeps strangers from choosing names that lie in each other's way.
    secret: [u64; 2],
    peers: Vec<Option<Registration>>,
    free: Vec<u32>,
    /// The place that was asked for last; whether it still is the right one is seen there.
    last: Cell<u32>,
    ids: Index,
    names: Index,
    links: Index,
    streams: BTreeMap<StreamId, RegistrationId>,
    /// How many are at each IPv4 address, and at each IPv6 /64.
    hosts: BTreeMap<u32, u32>,
    prefixes: BTreeMap<u64, u32>,
    guests: usize,
}

impl Table {
    /// An empty one, whose indices are in an order that only who knows `secret` can tell.
    pub fn new(secret: [u64; 2]) -> Self {
        Self { secret, ..Self::default() }
    }

    fn hash(&self, key: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.secret.hash(&mut hasher);
        key.hash(&mut hasher);
        hasher.finish()
    }

    fn at(&self, place: u32) -> Option<&Registration> {
        self.peers.get(place as usize)?.as_ref()
    }

    fn place(&self, id: RegistrationId) -> Option<u32> {
        // A message is looked at in several steps, each of which asks for its peer.
        let last = self.last.get();
        if self.at(last).is_some_and(|it| it.id == id) {
            return Some(last);
        }
        let place = self.ids.find(id_hash(id), |it| self.at(it).is_some_and(|it| it.id == id))?;
        self.last.set(place);
        Some(place)
    }

    fn count_mut(&mut self, ip: IpAddr) -> &mut u32 {
        match site(ip) {
            IpAddr::V4(ip) => self.hosts.entry(ip.into()).or_default(),
            IpAddr::V6(ip) => self.prefixes.entry(prefix(ip)).or_default(),
        }
    }

    fn enter(&mut self, link: Link, (id, place): (RegistrationId, u32)) {
        self.links.insert(self.hash(link), place);
        if link.is_broker() {
            self.guests += 1;
            return;
        }
        *self.count_mut(link.remote().ip()) += 1;
        if let Link::Tcp { stream, .. } = link {
            self.streams.insert(stream, id);
        }
    }

    fn leave(&mut self, link: Link, place: u32) {
        self.links.remove(self.hash(link), place);
        if link.is_broker() {
            self.guests -= 1;
            return;
        }
        if let Link::Tcp { stream, .. } = link {
            self.streams.remove(&stream);
        }
        let ip = link.remote().ip();
        let count = self.count_mut(ip);
        *count -= 1;
        if *count == 0 {
            match site(ip) {
                IpAddr::V4(ip) => self.hosts.remove(&ip.into()),
                IpAddr::V6(ip) => self.prefixes.remove(&prefix(ip)),
            };
        }
    }

    /// The hash of the name by which a peer is found, if it is.
    fn name_hash(&self, registration: &Registration) -> Option<u64> {
        let name = registration.name_str().filter(|_| !registration.link().is_broker())?;
        Some(self.hash(name))
    }
}

/// Ids are drawn by brokers: nobody else can choose them, and they lie evenly by themselves.
fn id_hash(RegistrationId(bytes): RegistrationId) -> u64 {
    u64::from_be_bytes(bytes)
}

fn prefix(ip: std::net::Ipv6Addr) -> u64 {
    (u128::from(ip) >> 64) as u64
}

impl Registry for Table {
    fn len(&self) -> usize {
        self.peers.len() - self.free.len() - self.guests
    }

    fn get(&self, id: RegistrationId) -> Option<&Registration> {
        self.at(self.place(id)?)
    }

    fn get_mut(&mut self, id: RegistrationId) -> Option<&mut Registration> {
        let place = self.place(id)?;
        self.peers[place as usize].as_mut()
    }

    fn find(&self, name: &PeerName) -> Option<RegistrationId> {
        let is_it =
            |it: &Registration| it.name_str() == Some(name.as_str()) && !it.link().is_broker();
        let hash = self.hash(name.as_str());
        let place = self.names.find(hash, |place| self.at(place).is_some_and(is_it))?;
        self.at(place).map(|it| it.id)
    }

    fn on_link(&self, link: Link) -> Option<RegistrationId> {
        let is_it = |place| self.at(place).is_some_and(|it| it.link() == link);
        let place = self.links.find(self.hash(link), is_it)?;
        self.at(place).map(|it| it.id)
    }

    fn on_stream(&self, stream: StreamId) -> Option<RegistrationId> {
        self.streams.get(&stream).copied()
    }

    fn next_from(&self, place: usize) -> Option<(RegistrationId, usize)> {
        let rest = self.peers.get(place..)?;
        let (skipped, id) =
            rest.iter().enumerate().find_map(|(at, it)| Some((at, it.as_ref()?.id)))?;
        Some((id, place + skipped + 1))
    }

    fn count_at(&self, ip: IpAddr) -> usize {
        let count = match site(ip) {
            IpAddr::V4(ip) => self.hosts.get(&ip.into()),
            IpAddr::V6(ip) => self.prefixes.get(&prefix(ip)),
        };
        count.map_or(0, |it| *it as usize)
    }

    fn insert(&mut self, registration: Registration) {
        let (id, link) = (registration.id, registration.link());
        let name = self.name_hash(&registration);
        let place = self.free.pop().unwrap_or_else(|| {
            self.peers.push(None);
            // No limit is as high as 2^32.
            (self.peers.len() - 1) as u32
        });
        self.peers[place as usize] = Some(registration);
        self.ids.insert(id_hash(id), place);
        if let Some(hash) = name {
            self.names.insert(hash, place);
        }
        self.enter(link, (id, place));
    }

    fn remove(&mut self, id: RegistrationId) -> Option<Registration> {
        let place = self.place(id)?;
        let registration = self.peers[place as usize].take()?;
        self.free.push(place);
        self.ids.remove(id_hash(id), place);
        if let Some(hash) = self.name_hash(&registration) {
            self.names.remove(hash, place);
        }
        self.leave(registration.link(), place);
        Some(registration)
    }

    fn relink(&mut self, id: RegistrationId, link: Link) {
        let Some(place) = self.place(id) else { return };
        let Some(registration) = &mut self.peers[place as usize] else { return };
        let before = registration.set_link(link);
        self.leave(before, place);
        self.enter(link, (id, place));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::SocketAddr;
    use std::time::Duration;

    use ntcp_stun::TransactionId;

    use super::super::registry::Newcomer;
    use super::*;
    use crate::entropy::{Entropy, Seed};
    use crate::signal::{Fingerprint, NatSummary, RegistrationKey};

    fn link(number: u64) -> Link {
        let port = 1000 + (number % 50_000) as u16;
        match number % 3 {
            0 => udp(SocketAddr::from(([192, 0, 2, (number % 7) as u8], port))),
            1 => udp(SocketAddr::from(([0x2001, 0xdb8, 0, number as u16 % 5, 0, 0, 0, 9], port))),
            _ => Link::Tcp {
                stream: StreamId(number),
                remote: SocketAddr::from(([198, 51, 100, 3], port)),
            },
        }
    }

    fn udp(remote: SocketAddr) -> Link {
        Link::Udp { local: Some(IpAddr::from([203, 0, 113, 1])), remote }
    }

    fn registration(number: u64, id: RegistrationId) -> Registration {
        Registration::new(Newcomer {
            id,
            key: RegistrationKey([7; 32]),
            link: link(number),
            name: (!number.is_multiple_of(4)).then(|| name(number)),
            candidates: Vec::new(),
            nat: NatSummary::default(),
            fingerprint: Fingerprint([7; 32]),
            identity: None,
            bare: false,
            rtt: None,
            lease: Duration::from_secs(60),
            registered_in: TransactionId::new([7; 12]),
        })
    }

    fn name(number: u64) -> PeerName {
        format!("peer-{number}").parse().unwrap()
    }

    /// Whether every way to a peer leads there, and none elsewhere.
    fn check(table: &Table, known: &BTreeMap<u64, (RegistrationId, Link)>) {
        assert_eq!(table.len(), known.len());
        let mut met = BTreeSet::new();
        let mut next = 0;
        while let Some((id, after)) = table.next_from(next) {
            assert!(met.insert(id));
            next = after;
        }
        assert_eq!(met, known.values().map(|(id, _)| *id).collect());
        for number in 0..200 {
            let id = known.get(&number).map(|(id, _)| *id);
            assert_eq!(table.find(&name(number)), id.filter(|_| !number.is_multiple_of(4)));
            assert_eq!(id.and_then(|id| table.get(id)).map(|it| it.id), id);
        }
        for (id, link) in known.values() {
            assert_eq!(table.on_link(*link), Some(*id));
            if let Link::Tcp { stream, .. } = link {
                assert_eq!(table.on_stream(*stream), Some(*id));
            }
            let ip = link.remote().ip();
            let here = known.values().filter(|(_, it)| site(it.remote().ip()) == site(ip));
            assert_eq!(table.count_at(ip), here.count());
        }
    }

    #[test]
    fn peers_are_found_by_everything_that_names_them_until_they_leave() {
        let mut entropy = Entropy::new(Seed::from_number(1));
        let (mut table, mut known) = (Table::new([1, 2]), BTreeMap::new());
        for step in 0..3000_u64 {
            let number = entropy.below(200);
            match known.get(&number).copied() {
                None => {
                    let id = RegistrationId(entropy.bytes());
                    table.insert(registration(number, id));
                    known.insert(number, (id, link(number)));
                }
                Some((id, _)) if entropy.below(2) == 0 => {
                    // To a link that nobody else has.
                    let other = link(number + 200 * (1 + entropy.below(100)));
                    table.relink(id, other);
                    known.insert(number, (id, other));
                }
                Some((id, _)) => {
                    assert_eq!(table.remove(id).map(|it| it.id), Some(id));
                    assert!(table.get(id).is_none() && table.remove(id).is_none());
                    known.remove(&number);
                }
            }
            if step % 100 == 0 {
                check(&table, &known);
            }
        }
        for (id, _) in known.values() {
            table.remove(*id);
        }
        check(&table, &BTreeMap::new());
        assert!(table.hosts.is_empty() && table.prefixes.is_empty() && table.streams.is_empty());
    }
}
