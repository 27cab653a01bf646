//! How a world is wired.
//!
//! ```text
//!   host ─┐                                   access link
//!   host ─┴ LAN ─ home NAT ─ … ─ carrier NAT ═════════════ ISP router ─ core ─ ISP router ═ …
//! ```
//!
//! Every site hangs on an ISP router of its own, which drops packets with foreign source addresses,
//! as a private one that leaked out of a NAT. Only the access link delays. From a host behind one
//! NAT, hop 1 is that NAT, hops 2 to 4 are the routers, and hop 5 is the other side's outermost box.
//!
//! | addresses | whose |
//! |---|---|
//! | 192.168.*n*.0/24 | home LAN of site *n*, unless it was given another |
//! | 100.64.*n*.0/24, 10.*l*.*n*.0/24 | networks between the boxes of site *n* |
//! | 198.51.100.*16n*/28 | outside of site *n* |
//! | 203.0.113.0/24 | public servers |
//! | 2001:db8:*n*::/48 | IPv6 of site *n*, which no box translates |

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ntcp_proto::entropy::{Entropy, Seed};
use ntcp_proto::segment::Segment;

use super::router::{Forwarder, Kind, Prefix};
use super::{INNER, Lag, Node, OUTER, Port, Slot, Wire, World};
use crate::host::{Host, Privileges};
use crate::link::{Link, Quality};
use crate::nat::Nat;
use crate::nat::behaviour::{Addresses, Mapping};
use crate::packet::Packet;
use crate::presets::{NatBox, Site};
use crate::trace::{Place, Trace};

/// Names a host of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub(super) usize);

/// Names a site of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(usize);

/// Most sites of a world: each has 16 public addresses.
pub const MAX_SITES: usize = 15;

/// The network behind a site's innermost box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lan {
    switch: usize,
    /// Hosts get the addresses after this one.
    network: Ipv4Addr,
    /// Host numbers given so far.
    given: u8,
    number: usize,
}

pub(super) struct SiteSlot {
    lan: Lan,
    /// The ISP router and its port towards the site; none behind a carrier.
    isp: Option<(usize, usize)>,
    /// The outermost box, or the switch if there is none.
    outermost: usize,
    boxes: Vec<usize>,
    hosts: Vec<usize>,
}

impl World {
    /// An internet without sites; all randomness comes from `seed`.
    pub fn new(seed: u64) -> Self {
        // The only clock there is: where it starts does not matter.
        let epoch = Instant::now();
        let mut world = Self {
            seed,
            entropy: Entropy::new(Seed::from_number(seed)),
            epoch,
            now: epoch,
            slots: Vec::new(),
            wires: Vec::new(),
            events: BTreeMap::new(),
            serial: 0,
            names: BTreeMap::new(),
            processes: Vec::new(),
            sites: Vec::new(),
            loose: BTreeMap::new(),
            trace: Trace::new(),
            core: 0,
            settling: None,
        };
        let addresses = vec![ip("203.0.113.254"), ip("2001:db8::fe")];
        world.core = world.add_forwarder("core", Kind::Router(addresses));
        world
    }

    /// A host directly on the internet, with these addresses, behind a router of its own.
    pub fn public_host(&mut self, name: &str, addresses: &[&str], access: Quality) -> HostId {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| ip(text)).collect();
        let own = vec![ip("203.0.113.253")];
        let router = self.add_forwarder(&format!("isp-{name}"), Kind::Router(own));
        self.uplink(router, &addresses.iter().map(|ip| Prefix::host(*ip)).collect::<Vec<_>>());
        let host = self.add_host(name, addresses.clone());
        let (port, _) = self.connect((router, host), access);
        for address in addresses {
            self.forwarder(router).add_route(Prefix::host(address), port);
        }
        self.add_name_of(host, name);
        HostId(host)
    }

    /// A site with its own line to the internet; `access` is the quality of that line both ways.
    pub fn site(&mut self, name: &str, site: &Site, access: Quality) -> SiteId {
        self.site_on(name, site, access, None)
    }

    /// A site as above whose home network has this address, so that two may have the same.
    pub fn site_on_lan(
        &mut self,
        name: &str,
        site: &Site,
        access: Quality,
        network: Ipv4Addr,
    ) -> SiteId {
        self.site_on(name, site, access, Some(network))
    }

    fn site_on(
        &mut self,
        name: &str,
        site: &Site,
        access: Quality,
        network: Option<Ipv4Addr>,
    ) -> SiteId {
        let number = self.sites.len() + 1;
        assert!(number <= MAX_SITES, "a world has room for {MAX_SITES} sites");
        let n = number as u8;
        let block = Prefix::new(Ipv4Addr::new(198, 51, 100, 16 * n).into(), 28);
        let block6 = Prefix::new(v6(number, 0).into(), 48);
        let own = vec![Ipv4Addr::new(198, 51, 100, 16 * n + 14).into(), v6(number, 0xfe).into()];
        let isp = self.add_forwarder(&format!("isp-{name}"), Kind::Router(own));
        self.uplink(isp, &[block, block6]);
        let outer = [1, 2].map(|last| Ipv4Addr::new(198, 51, 100, 16 * n + last));
        let id = self.build_site(name, site, number, &outer, network);
        let slot = &self.sites[id.0];
        let (outermost, has_box) = (slot.outermost, !slot.boxes.is_empty());
        let (port, _) = self.connect_outer((isp, outermost), has_box, access);
        let forwarder = self.forwarder(isp);
        for prefix in [block, block6] {
            forwarder.add_route(prefix, port);
            forwarder.restrict_sources(port, prefix);
        }
        self.sites[id.0].isp = Some((isp, port));
        id
    }

    /// A home behind another site's boxes: the other is its carrier.
    pub fn site_behind(&mut self, carrier: SiteId, name: &str, site: &Site) -> SiteId {
        let number = self.sites.len() + 1;
        let lan = &mut self.sites[carrier.0].lan;
        lan.given += 1;
        let outer = [offset(lan.network, lan.given)];
        let switch = lan.switch;
        let id = self.build_site(name, site, number, &outer, None);
        let slot = &self.sites[id.0];
        let (outermost, has_box) = (slot.outermost, !slot.boxes.is_empty());
        let (port, _) = self.connect_outer((switch, outermost), has_box, Quality::default());
        self.forwarder(switch).add_route(Prefix::host(outer[0].into()), port);
        let inner = Prefix::new(v6(number, 0).into(), 48);
        self.forwarder(switch).add_route(inner, port);
        id
    }

    /// Lets a site's packets leave with any source address, as networks without BCP 38 do.
    pub fn allow_spoofing(&mut self, site: SiteId) {
        if let Some((isp, port)) = self.sites[site.0].isp {
            self.forwarder(isp).allow_all_sources(port);
        }
    }

    /// Changes the quality of a site's line, both ways, from now on.
    pub fn set_access(&mut self, site: SiteId, access: Quality) {
        let Some((isp, port)) = self.sites[site.0].isp else { return };
        let wire = self.slots[isp].ports[port].wire;
        for link in &mut self.wires[wire].links {
            link.set_quality(access);
        }
    }

    /// From now on what the public servers send takes so much longer on its way into a site, and
    /// nothing else does: who lives there learns of a call that much later. `access` is the quality
    /// of the rest of that line.
    pub fn set_lag(&mut self, site: SiteId, access: Quality, lag: Duration) {
        let Some((isp, port)) = self.sites[site.0].isp else { return };
        let Port { wire, end } = self.slots[isp].ports[port];
        let quality = Quality { delay: access.delay + lag, ..access };
        let link = Link::new(quality, self.draw_seed());
        self.wires[wire].lag = Some(Lag { end, link });
    }

    /// Changes the quality of the wire a host hangs on, both ways, from now on: the access line of a
    /// public host, the cable of one at home.
    pub fn set_cable(&mut self, host: HostId, quality: Quality) {
        let Some(port) = self.slots[host.0].ports.first() else { return };
        for link in &mut self.wires[port.wire].links {
            link.set_quality(quality);
        }
    }

    /// Replaces a site's boxes by fresh ones of the same behaviour, as a reboot does: all mappings
    /// are gone.
    pub fn reboot(&mut self, site: SiteId) {
        for node in self.sites[site.0].boxes.clone() {
            let seed = self.draw_seed();
            if let Node::Nat(nat) = &mut self.slots[node].node {
                **nat = Nat::new(*nat.behaviour(), nat.addresses().clone(), seed);
            }
        }
    }

    /// The boxes between a site's hosts and the internet, the home's first.
    pub fn nats(&self, site: SiteId) -> impl Iterator<Item = &Nat> {
        self.sites[site.0].boxes.iter().filter_map(|node| match &self.slots[*node].node {
            Node::Nat(nat) => Some(nat.as_ref()),
            Node::Host(_) | Node::Forwarder(_) => None,
        })
    }

    /// A host of a site, with an IPv4 address.
    pub fn host(&mut self, site: SiteId, name: &str) -> HostId {
        let address = self.next_address(site);
        self.host_with(site, name, vec![address])
    }

    /// A host of a site, with an IPv4 and an IPv6 address.
    pub fn dual_stack_host(&mut self, site: SiteId, name: &str) -> HostId {
        let address = self.next_address(site);
        let lan = &self.sites[site.0].lan;
        let six = v6(lan.number, u16::from(lan.given));
        self.host_with(site, name, vec![address, six.into()])
    }

    fn next_address(&mut self, site: SiteId) -> IpAddr {
        let lan = &mut self.sites[site.0].lan;
        lan.given += 1;
        offset(lan.network, lan.given).into()
    }

    fn host_with(&mut self, site: SiteId, name: &str, addresses: Vec<IpAddr>) -> HostId {
        let switch = self.sites[site.0].lan.switch;
        let host = self.add_host(name, addresses.clone());
        let (port, _) = self.connect((switch, host), Quality::default());
        for address in addresses {
            self.forwarder(switch).add_route(Prefix::host(address), port);
        }
        self.sites[site.0].hosts.push(host);
        HostId(host)
    }

    /// The [trace](World::trace) as a ladder: the first site on the left, its hosts before its boxes,
    /// then the public hosts, then the other sites from outside inwards.
    pub fn ladder(&self) -> String {
        let is_host = |node: &usize| matches!(self.slots[*node].node, Node::Host(_));
        let at_home = |node: &usize| self.sites.iter().any(|site| site.hosts.contains(node));
        let public = (0..self.slots.len()).filter(is_host).filter(|node| !at_home(node));
        let mut nodes = Vec::new();
        if let Some(site) = self.sites.first() {
            nodes.extend(site.hosts.iter().chain(&site.boxes).copied());
        }
        nodes.extend(public);
        for site in self.sites.iter().skip(1) {
            nodes.extend(site.boxes.iter().rev().chain(&site.hosts).copied());
        }
        let columns: Vec<Place> = nodes.iter().map(|node| self.slots[*node].place).collect();
        self.trace.ladder_of(&columns)
    }

    /// Gives the programs of a host these privileges; without this they have none.
    pub fn grant(&mut self, host: HostId, privileges: Privileges) {
        if let Node::Host(host) = &mut self.slots[host.0].node {
            host.set_privileges(privileges);
        }
    }

    /// Lets a host send a segment whatever its source, past its own kernel. Providers look at the
    /// sources of [sites](World::site), not at those of [public hosts](World::public_host).
    pub fn forge(&mut self, host: HostId, segment: &Segment, ttl: u8) {
        if let Some(packet) = segment.emit(ttl) {
            self.originate(host.0, 0, &packet);
        }
    }

    /// Captures that programs of a host have open.
    pub fn captures(&self, host: HostId) -> usize {
        match &self.slots[host.0].node {
            Node::Host(host) => host.captures(),
            Node::Nat(_) | Node::Forwarder(_) => 0,
        }
    }

    /// A host's addresses.
    pub fn addresses(&self, host: HostId) -> &[IpAddr] {
        match &self.slots[host.0].node {
            Node::Host(host) => host.addresses(),
            Node::Nat(_) | Node::Forwarder(_) => &[],
        }
    }

    /// Where a host stands in the trace.
    pub fn place(&self, host: HostId) -> Place {
        self.slots[host.0].place
    }

    // --- parts -------------------------------------------------------------------------------

    /// The boxes, their networks and the home LAN, wired from inside outwards.
    fn build_site(
        &mut self,
        name: &str,
        site: &Site,
        number: usize,
        outer: &[Ipv4Addr],
        network: Option<Ipv4Addr>,
    ) -> SiteId {
        let n = number as u8;
        let translated = site.boxes.iter().any(|nat| !is_transparent(nat));
        let home = network.unwrap_or(Ipv4Addr::new(192, 168, n, 0));
        // Without translation hosts have addresses of the site's own block, after the boxes'.
        let (network, given) = if translated { (home, 1) } else { (offset_down(outer[0], 1), 2) };
        let switch = self.add_forwarder(&format!("lan-{name}"), Kind::Switch);
        let lan = Lan { switch, network, given, number };
        let mut inside = if translated { offset(home, 1) } else { outer[0] };
        let mut boxes = Vec::new();
        let mut last = switch;
        for (level, nat) in site.boxes.iter().enumerate() {
            let outermost = level + 1 == site.boxes.len();
            let middle = Ipv4Addr::new(100, 64 + level as u8, n, 2);
            let wan = if outermost { outer.to_vec() } else { vec![middle] };
            let addresses = self.box_addresses(nat, inside, &wan, number);
            let label = if level == 0 { format!("nat-{name}") } else { format!("cgn-{name}") };
            let node = self.add_nat(&label, nat, addresses);
            match boxes.last() {
                None => {
                    let (port, _) = self.connect_outer((last, node), true, Quality::default());
                    self.forwarder(last).set_default(port);
                }
                Some(_) => self.connect_ports((last, OUTER), (node, INNER), Quality::default()),
            }
            boxes.push(node);
            last = node;
            inside = Ipv4Addr::new(100, 64 + level as u8, n, 1);
        }
        self.sites.push(SiteSlot { lan, isp: None, outermost: last, boxes, hosts: Vec::new() });
        SiteId(self.sites.len() - 1)
    }

    fn box_addresses(
        &self,
        nat: &NatBox,
        inside: Ipv4Addr,
        wan: &[Ipv4Addr],
        number: usize,
    ) -> Addresses {
        use crate::nat::behaviour::Pooling;
        let count = match nat.behaviour.pooling {
            Pooling::Paired => 1,
            Pooling::Arbitrary => wan.len(),
        };
        Addresses {
            inside: vec![inside.into(), v6(number, 1).into()],
            // A firewall has no address that hosts could be reached at.
            outside: if is_transparent(nat) {
                Vec::new()
            } else {
                wan.iter().take(count).map(|ip| IpAddr::from(*ip)).collect()
            },
        }
    }

    fn add_nat(&mut self, name: &str, nat: &NatBox, addresses: Addresses) -> usize {
        let seed = self.draw_seed();
        let nat = Nat::new(nat.behaviour, addresses, seed);
        let node = self.add_node(name, Node::Nat(Box::new(nat)), true);
        // Ports exist before they are wired.
        self.slots[node].ports = vec![Port { wire: usize::MAX, end: 0 }; 2];
        node
    }

    fn add_host(&mut self, name: &str, addresses: Vec<IpAddr>) -> usize {
        let seed = self.draw_seed();
        let host = Host::new(addresses, seed, self.epoch);
        self.add_node(name, Node::Host(Box::new(host)), true)
    }

    fn add_forwarder(&mut self, name: &str, kind: Kind) -> usize {
        self.add_node(name, Node::Forwarder(Forwarder::new(kind)), false)
    }

    fn add_node(&mut self, name: &str, node: Node, column: bool) -> usize {
        let place = self.trace.add_place(name.into(), column);
        self.slots.push(Slot { node, ports: Vec::new(), place, alarm: None });
        self.slots.len() - 1
    }

    fn add_name_of(&mut self, host: usize, name: &str) {
        let addresses = self.addresses(HostId(host)).to_vec();
        self.add_name(name, &addresses);
    }

    fn forwarder(&mut self, node: usize) -> &mut Forwarder {
        match &mut self.slots[node].node {
            Node::Forwarder(forwarder) => forwarder,
            Node::Host(_) | Node::Nat(_) => panic!("{node} is no router"),
        }
    }

    /// Connects a router to the core, which learns that these prefixes are behind it.
    fn uplink(&mut self, router: usize, prefixes: &[Prefix]) {
        let core = self.core;
        let (at_core, at_router) = self.connect((core, router), Quality::default());
        self.forwarder(router).set_default(at_router);
        for prefix in prefixes {
            self.forwarder(core).add_route(*prefix, at_core);
        }
    }

    /// A wire between fresh ports of two nodes; returns the port numbers.
    fn connect(&mut self, (one, other): (usize, usize), quality: Quality) -> (usize, usize) {
        let ports = (self.fresh_port(one), self.fresh_port(other));
        self.connect_ports((one, ports.0), (other, ports.1), quality);
        ports
    }

    /// A wire from a fresh port of a router to the outer port of a box, or to a switch; for the
    /// wire from a home's LAN, to the inner port of its box.
    fn connect_outer(
        &mut self,
        (router, node): (usize, usize),
        is_box: bool,
        quality: Quality,
    ) -> (usize, usize) {
        if !is_box {
            let ports = self.connect((router, node), quality);
            self.forwarder(node).set_default(ports.1);
            return ports;
        }
        let unwired = |port: &Port| port.wire == usize::MAX;
        let port = self.slots[node].ports.iter().position(unwired).unwrap_or(OUTER);
        let at_router = self.fresh_port(router);
        self.connect_ports((router, at_router), (node, port), quality);
        (at_router, port)
    }

    fn fresh_port(&mut self, node: usize) -> usize {
        self.slots[node].ports.push(Port { wire: usize::MAX, end: 0 });
        self.slots[node].ports.len() - 1
    }

    fn connect_ports(&mut self, one: (usize, usize), other: (usize, usize), quality: Quality) {
        let wire = self.wires.len();
        let links = [self.draw_seed(), self.draw_seed()].map(|seed| Link::new(quality, seed));
        self.wires.push(Wire { ends: [one, other], links, lag: None });
        self.slots[one.0].ports[one.1] = Port { wire, end: 0 };
        self.slots[other.0].ports[other.1] = Port { wire, end: 1 };
    }
}

/// Sent by one of the public servers: by a host of 203.0.113.0/24.
pub(super) fn is_from_servers(packet: &[u8]) -> bool {
    let servers = Prefix::new(Ipv4Addr::new(203, 0, 113, 0).into(), 24);
    Packet::parse(packet).is_ok_and(|packet| servers.contains(packet.source_ip()))
}

fn is_transparent(nat: &NatBox) -> bool {
    nat.behaviour.udp.translation.mapping == Mapping::Identity
        && nat.behaviour.tcp.translation.mapping == Mapping::Identity
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is not an address"))
}

fn offset(network: Ipv4Addr, last: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network) + u32::from(last))
}

fn offset_down(address: Ipv4Addr, by: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(address) - u32::from(by))
}

fn v6(site: usize, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, site as u16, 0, 0, 0, 0, host)
}
