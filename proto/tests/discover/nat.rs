//! NATs as values: who gets which external port, and whose packets come in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ntcp_proto::candidate::Transport;
use ntcp_proto::nat::{Filtering, Mapping, PortAllocation};

use crate::dice::Dice;

/// What a packet that came from outside meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inward {
    To(SocketAddr),
    Dropped,
}

/// A box between inside and outside.
pub(crate) trait Nat: std::fmt::Debug {
    /// The address outside.
    fn public_ip(&self) -> IpAddr;
    /// Whether packets from inside to the address outside come back in.
    fn hairpins(&self) -> bool {
        false
    }
    fn outward(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr) -> SocketAddr;
    fn inward(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr) -> Inward;
}

/// A NAT along the axes of RFC 4787: each is one function that blanks out what does not count.
#[derive(Debug)]
pub(crate) struct Textbook {
    pub(crate) public: IpAddr,
    pub(crate) mapping: Mapping,
    pub(crate) filtering: Filtering,
    pub(crate) ports: PortAllocation,
    pub(crate) hairpin: bool,
    mappings: BTreeMap<(Transport, SocketAddr, Option<SocketAddr>), u16>,
    /// For each external port: who is behind it, and whom it has sent to.
    external: BTreeMap<(Transport, u16), (SocketAddr, BTreeSet<SocketAddr>)>,
    next: u16,
    dice: Dice,
}

impl Textbook {
    pub(crate) fn new(
        public: &str,
        mapping: Mapping,
        filtering: Filtering,
        ports: PortAllocation,
        seed: u64,
    ) -> Self {
        Self {
            public: public.parse().unwrap(),
            mapping,
            filtering,
            ports,
            hairpin: false,
            mappings: BTreeMap::new(),
            external: BTreeMap::new(),
            next: 20_000,
            dice: Dice::new(seed),
        }
    }

    pub(crate) fn with_hairpin(mut self) -> Self {
        self.hairpin = true;
        self
    }

    fn key(&self, to: SocketAddr) -> Option<SocketAddr> {
        match self.mapping {
            Mapping::EndpointIndependent => None,
            Mapping::AddressDependent => Some(SocketAddr::new(to.ip(), 0)),
            Mapping::AddressAndPortDependent | Mapping::ConnectionDependent => Some(to),
        }
    }

    fn blank(&self, remote: SocketAddr) -> Option<SocketAddr> {
        match self.filtering {
            Filtering::EndpointIndependent => None,
            Filtering::AddressDependent => Some(SocketAddr::new(remote.ip(), 0)),
            Filtering::AddressAndPortDependent | Filtering::Unknown => Some(remote),
        }
    }

    fn allocate(&mut self, transport: Transport, internal: u16) -> u16 {
        loop {
            let port = match self.ports {
                PortAllocation::Preserved => internal,
                PortAllocation::Offset => internal.wrapping_add(7_000).max(1),
                PortAllocation::Sequential => {
                    self.next += 2;
                    self.next
                }
                PortAllocation::Block => 5_120 + self.dice.below(1_024) as u16,
                PortAllocation::Random => 1_024 + self.dice.below(64_000) as u16,
            };
            if !self.external.contains_key(&(transport, port)) {
                return port;
            }
            if matches!(self.ports, PortAllocation::Preserved | PortAllocation::Offset) {
                self.next += 1;
                return self.next;
            }
        }
    }
}

impl Nat for Textbook {
    fn public_ip(&self) -> IpAddr {
        self.public
    }

    fn hairpins(&self) -> bool {
        self.hairpin
    }

    fn outward(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let key = (transport, from, self.key(to));
        let port = match self.mappings.get(&key) {
            Some(port) => *port,
            None => self.allocate(transport, from.port()),
        };
        self.mappings.insert(key, port);
        let entry = self.external.entry((transport, port)).or_insert((from, BTreeSet::new()));
        entry.1.insert(to);
        SocketAddr::new(self.public, port)
    }

    fn inward(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr) -> Inward {
        match self.external.get(&(transport, to.port())) {
            Some((inside, sent_to))
                if sent_to.iter().any(|it| self.blank(*it) == self.blank(from)) =>
            {
                Inward::To(*inside)
            }
            Some(_) | None => Inward::Dropped,
        }
    }
}

/// What a Linux NAT does with packets for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinuxInput {
    /// Drops them, without a trace.
    Drop,
    /// Accepts them, which leaves an entry that occupies the port towards that sender.
    Open,
}

/// Linux `masquerade`: an entry for each pair of ends; the port is preserved if that pair is free,
/// or random.
#[derive(Debug)]
pub(crate) struct Linux {
    pub(crate) public: IpAddr,
    pub(crate) input: LinuxInput,
    pub(crate) ports: PortAllocation,
    /// Who is behind an external port towards a remote; nobody if the NAT itself is.
    entries: BTreeMap<(Transport, u16, SocketAddr), Option<SocketAddr>>,
    dice: Dice,
}

impl Linux {
    pub(crate) fn new(public: &str, input: LinuxInput, ports: PortAllocation, seed: u64) -> Self {
        let (public, dice) = (public.parse().unwrap(), Dice::new(seed));
        Self { public, input, ports, entries: BTreeMap::new(), dice }
    }
}

impl Nat for Linux {
    fn public_ip(&self) -> IpAddr {
        self.public
    }

    fn outward(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        let known = self.entries.iter().find_map(|((its, port, remote), inside)| {
            (*its == transport && *remote == to && *inside == Some(from)).then_some(*port)
        });
        let mut wanted = match self.ports {
            PortAllocation::Random => 1_024 + self.dice.below(64_000) as u16,
            _ => from.port(),
        };
        while known.is_none() && self.entries.contains_key(&(transport, wanted, to)) {
            wanted = 1_024 + self.dice.below(64_000) as u16;
        }
        let port = known.unwrap_or(wanted);
        self.entries.insert((transport, port, to), Some(from));
        SocketAddr::new(self.public, port)
    }

    fn inward(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr) -> Inward {
        let key = (transport, to.port(), from);
        match self.entries.get(&key) {
            Some(Some(inside)) => Inward::To(*inside),
            Some(None) => Inward::Dropped,
            None => {
                if self.input == LinuxInput::Open {
                    self.entries.insert(key, None);
                }
                Inward::Dropped
            }
        }
    }
}

/// A stateful firewall: translates nothing, lets answers in.
#[derive(Debug)]
pub(crate) struct Firewall {
    pub(crate) host: IpAddr,
    sent: BTreeSet<(Transport, SocketAddr, SocketAddr)>,
}

impl Firewall {
    pub(crate) fn new(host: &str) -> Self {
        Self { host: host.parse().unwrap(), sent: BTreeSet::new() }
    }
}

impl Nat for Firewall {
    fn public_ip(&self) -> IpAddr {
        self.host
    }

    fn hairpins(&self) -> bool {
        true
    }

    fn outward(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr) -> SocketAddr {
        self.sent.insert((transport, from, to));
        from
    }

    fn inward(&mut self, transport: Transport, from: SocketAddr, to: SocketAddr) -> Inward {
        if self.sent.contains(&(transport, to, from)) || from.ip() == self.host {
            Inward::To(to)
        } else {
            Inward::Dropped
        }
    }
}

/// Nothing in the way at all.
#[derive(Debug)]
pub(crate) struct Open(pub(crate) IpAddr);

impl Nat for Open {
    fn public_ip(&self) -> IpAddr {
        self.0
    }

    fn hairpins(&self) -> bool {
        true
    }

    fn outward(&mut self, _: Transport, from: SocketAddr, _: SocketAddr) -> SocketAddr {
        from
    }

    fn inward(&mut self, _: Transport, _: SocketAddr, to: SocketAddr) -> Inward {
        Inward::To(to)
    }
}
