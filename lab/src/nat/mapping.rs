//! Which external end stands for an inside one.
//!
//! A NAT is one function: [`Key::of`] blanks out what the mapping ignores, and flows with equal keys
//! share an external end. The rest of this file keeps the table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::behaviour::{Flow, Mapping, Sharing, Transport};

/// What decides the external end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    transport: Transport,
    inside: SocketAddr,
    remote_ip: Option<IpAddr>,
    remote_port: Option<u16>,
}

impl Key {
    /// The key of `flow`: what `mapping` ignores is blank.
    pub fn of(mapping: Mapping, flow: Flow) -> Self {
        let Flow { transport, inside, remote } = flow;
        let (remote_ip, remote_port) = match mapping {
            Mapping::EndpointIndependent => (None, None),
            Mapping::AddressDependent => (Some(remote.ip()), None),
            Mapping::Identity | Mapping::AddressAndPortDependent | Mapping::ConnectionDependent => {
                (Some(remote.ip()), Some(remote.port()))
            }
        };
        Self { transport, inside, remote_ip, remote_port }
    }

    /// The key that no other flow shares.
    pub fn exact(flow: Flow) -> Self {
        Self::of(Mapping::AddressAndPortDependent, flow)
    }

    /// The flow it belongs to alone, so that it ends with it; `None` if several may share it.
    pub fn flow(&self) -> Option<Flow> {
        let remote = SocketAddr::new(self.remote_ip?, self.remote_port?);
        Some(Flow { transport: self.transport, inside: self.inside, remote })
    }

    /// The transport.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The inside end.
    pub fn inside(&self) -> SocketAddr {
        self.inside
    }

    /// Whether some remote end would find both under one external end.
    pub(super) fn meets(&self, other: &Self) -> bool {
        fn same<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            match (one, other) {
                (Some(one), Some(other)) => one == other,
                (None, _) | (_, None) => true,
            }
        }
        same(self.remote_ip, other.remote_ip) && same(self.remote_port, other.remote_port)
    }
}

/// Names a mapping; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MappingId(u64);

/// An inside end and the external end that stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) external: SocketAddr,
    pub(super) expires: Instant,
}

/// All mappings of a NAT.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    next: u64,
    entries: BTreeMap<MappingId, Entry>,
    by_key: BTreeMap<Key, MappingId>,
    by_external: BTreeSet<(Transport, SocketAddr, MappingId)>,
    per_host: BTreeMap<IpAddr, usize>,
}

impl Table {
    pub(super) fn insert(&mut self, entry: Entry) -> MappingId {
        self.next += 1;
        let id = MappingId(self.next);
        if let Some(older) = self.by_key.insert(entry.key, id) {
            self.forget(older);
        }
        self.entries.insert(id, entry);
        self.by_external.insert((entry.key.transport, entry.external, id));
        *self.per_host.entry(entry.key.inside.ip()).or_default() += 1;
        id
    }

    pub(super) fn remove(&mut self, id: MappingId) {
        if let Some(entry) = self.entries.get(&id) {
            self.by_key.remove(&entry.key);
            self.forget(id);
        }
    }

    fn forget(&mut self, id: MappingId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.by_external.remove(&(entry.key.transport, entry.external, id));
        let host = entry.key.inside.ip();
        if let Some(count) = self.per_host.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                self.per_host.remove(&host);
            }
        }
    }

    pub(super) fn get(&self, id: MappingId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(super) fn find(&self, key: &Key) -> Option<(MappingId, &Entry)> {
        let id = *self.by_key.get(key)?;
        self.entries.get(&id).map(|entry| (id, entry))
    }

    /// The mappings on an external end, oldest first.
    pub(super) fn on_external(
        &self,
        transport: Transport,
        external: SocketAddr,
    ) -> impl Iterator<Item = (MappingId, &Entry)> {
        let first = (transport, external, MappingId(0));
        let last = (transport, external, MappingId(u64::MAX));
        self.by_external
            .range(first..=last)
            .filter_map(|(_, _, id)| self.entries.get(id).map(|entry| (*id, entry)))
    }

    /// Whether `key` may not have `external`, because it belongs to another.
    pub(super) fn is_taken(&self, key: &Key, external: SocketAddr, sharing: Sharing) -> bool {
        self.on_external(key.transport, external).any(|(_, entry)| match sharing {
            Sharing::Exclusive => true,
            Sharing::PerDestination => entry.key.meets(key),
        })
    }

    pub(super) fn extend(&mut self, id: MappingId, expires: Instant) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.expires = entry.expires.max(expires);
        }
    }

    pub(super) fn held_by(&self, host: IpAddr) -> usize {
        self.per_host.get(&host).copied().unwrap_or_default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (MappingId, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }
}
