//! From a [`Topology`] to namespaces, links, addresses, routes and boxes: a pure function.
//!
//! ```text
//! host ─ nat-a ─(─ carrier-a ─)─ isp-a ─ core ─ isp-server ─ server
//! ```
//!
//! Each site has sixteen addresses of 203.0.113.0/24, its lower half on the link between the ISP and
//! the outermost box, its upper half for a home whose firewall does not translate. An access line
//! that delays or loses packets is cut between ISP and core, and both ends lead into the namespace
//! `wires`, where a process carries the frames across ([`super::wire`]).

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::nat::behaviour::{Behaviour, Mapping, Pooling};
use crate::presets::{NatBox, Site};

use super::access::Access;
use super::error::{Error, Result};
use super::layout::{Box, Host, Layout, QUIET_ADDRESS, SERVER_ADDRESSES, SERVER_ADDRESSES_V6};
use super::netfilter;
use super::topology::{Carrier, Form, Home, Ipv6, Topology};

/// Everything to be made, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The network namespaces.
    pub(super) spaces: Vec<SpacePlan>,
    /// The cables between them.
    pub(super) links: Vec<LinkPlan>,
    /// The boxes that translate or filter.
    pub(super) boxes: Vec<BoxPlan>,
    /// The lines that are not plain.
    pub(super) wires: Vec<WirePlan>,
    /// What the user of the lab gets to know.
    pub(super) layout: Layout,
}

/// A network namespace.
#[derive(Debug)]
pub(super) struct SpacePlan {
    /// Its name.
    pub(super) name: String,
    /// Whether it forwards packets.
    pub(super) role: Role,
    /// Whether it has IPv6.
    pub(super) ipv6: Ipv6,
    /// Commands of `ip -batch`, run once all links exist.
    pub(super) commands: Vec<String>,
}

/// What a namespace does with packets that are not for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It drops them.
    Host,
    /// It forwards them.
    Router,
    /// It forwards those whose source belongs where they came from (BCP 38).
    Isp,
}

/// A cable.
#[derive(Debug)]
pub(super) struct LinkPlan {
    /// Namespace and interface at each end.
    pub(super) ends: [(String, String); 2],
    /// Large segments are cut before they enter it.
    pub(super) cut_segments: bool,
}

/// A NAT or firewall.
#[derive(Debug)]
pub(super) struct BoxPlan {
    /// Its namespace.
    pub(super) space: String,
    /// Its preset, with settings.
    pub(super) preset: String,
    /// What it does.
    pub(super) behaviour: Behaviour,
    /// Who does it; never [`Form::Auto`].
    pub(super) form: Form,
    /// Its own address on the inner side.
    pub(super) inside: Ipv4Addr,
    /// Its address on the outer side; the interface is [`WAN`].
    pub(super) outside: Ipv4Addr,
    /// Further addresses there, for a box that has a pool of them.
    pub(super) spare: Vec<Ipv4Addr>,
    /// The hosts or boxes directly behind it.
    pub(super) members: Vec<Ipv4Addr>,
}

/// A line that delays or loses packets.
#[derive(Debug)]
pub(super) struct WirePlan {
    /// The site's or carrier's name.
    pub(super) name: String,
    /// The interface in `wires` that leads to the site.
    pub(super) site_end: String,
    /// The interface in `wires` that leads to the core.
    pub(super) core_end: String,
    /// What it does.
    pub(super) access: Access,
}

/// A box's interface on the outer side.
pub(super) const WAN: &str = "wan";
/// A box's interface on the inner side.
pub(super) const LAN: &str = "lan";
/// A switch's bridge.
const BRIDGE: &str = "bridge";
/// The server's name.
pub(super) const SERVER: &str = "server";
/// A host's interface.
pub(super) const ETHERNET: &str = "eth0";
/// The namespace of the cut lines.
pub(super) const WIRES: &str = "wires";

/// Makes the plan.
///
/// # Errors
/// [`Error::Topology`], naming the part that cannot be.
pub(super) fn plan(topology: &Topology) -> Result<Plan> {
    topology.check()?;
    let mut planner = Planner { plan: Plan::default(), sites: 0 };
    planner.space("core", Role::Router, Ipv6::On);
    planner.space(WIRES, Role::Host, Ipv6::Off);
    let mut shared = Vec::new();
    for carrier in &topology.carriers {
        shared.push((carrier.name.clone(), planner.carrier(carrier)?));
    }
    for home in &topology.homes {
        planner.home(home, &mut shared)?;
    }
    planner.server(&topology.server);
    Ok(planner.finish())
}

/// Where the next box or host inwards is attached.
#[derive(Debug)]
struct Attachment {
    /// The namespace of the router there.
    space: String,
    /// Its address there, and the next hop of everything attached.
    router: Ipv4Addr,
    /// Length of the network's prefix.
    prefix: u8,
    /// Where cables go.
    port: Port,
    /// The addresses for those attached.
    next: Ipv4Addr,
    /// The address seen from the internet, if something translates on the way.
    public: Option<Ipv4Addr>,
    /// Public addresses for a network without translation, and how many bits its prefix has.
    public_network: Option<Ipv4Addr>,
    /// IPv6, where the home has it: the network's prefix.
    v6: Option<Ipv6Addr>,
}

/// Where a router takes cables from inside.
#[derive(Debug)]
enum Port {
    /// One cable, into this interface of the router.
    Direct(&'static str),
    /// A switch: a namespace of its own, lest the router's netfilter sees what it bridges.
    Switch {
        /// The namespace.
        space: String,
        /// Ports in use.
        used: usize,
    },
}

/// Whether a network has more than one host or box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Members {
    One,
    Several,
}

struct Planner {
    plan: Plan,
    sites: u8,
}

/// `address + n`.
fn plus(address: Ipv4Addr, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(address) + n)
}

/// The first address of a network, with another last group.
fn plus_v6(network: Ipv6Addr, n: u128) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(network) + n)
}

/// The site's network `subnet` of 64 bits.
fn site_network_v6(site: u8, subnet: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x100 + u16::from(site), subnet, 0, 0, 0, 0)
}

impl Planner {
    /// A box in user space takes packets one by one, in the size of its interfaces.
    fn finish(mut self) -> Plan {
        let own = |it: &BoxPlan| (it.form == Form::User).then(|| it.space.clone());
        let boxes: Vec<String> = self.plan.boxes.iter().filter_map(own).collect();
        for link in &mut self.plan.links {
            link.cut_segments |= link.ends.iter().any(|(space, _)| boxes.contains(space));
        }
        self.plan
    }

    fn space(&mut self, name: &str, role: Role, ipv6: Ipv6) {
        let commands = vec!["link set lo up".to_owned()];
        self.plan.spaces.push(SpacePlan { name: name.into(), role, ipv6, commands });
    }

    fn configure(&mut self, space: &str, command: impl Into<String>) {
        let found = self.plan.spaces.iter_mut().find(|it| it.name == space);
        found.expect("planned before it is configured").commands.push(command.into());
    }

    fn link(&mut self, one: (&str, &str), other: (&str, &str)) {
        let end = |(space, interface): (&str, &str)| (space.to_owned(), interface.to_owned());
        for (space, interface) in [one, other] {
            self.configure(space, format!("link set {interface} up"));
        }
        let ends = [end(one), end(other)];
        self.plan.links.push(LinkPlan { ends, cut_segments: false });
    }

    /// An ISP router and its line to the core. `network` are the site's addresses.
    fn isp(&mut self, name: &str, access: &Access, network: (Ipv4Addr, u8), v6: Option<Ipv6Addr>) {
        let site = self.sites;
        let space = format!("isp-{name}");
        let core_interface = format!("to-{name}");
        let role = if name == SERVER { Role::Router } else { Role::Isp };
        self.space(&space, role, if v6.is_some() { Ipv6::On } else { Ipv6::Off });
        if access.is_plain() {
            self.link((&space, "uplink"), ("core", &core_interface));
        } else {
            let (site_end, core_end) = (format!("w{site}-site"), format!("w{site}-core"));
            self.link((&space, "uplink"), (WIRES, &site_end));
            self.link((WIRES, &core_end), ("core", &core_interface));
            let cut = access.draws_per_packet();
            self.plan.links.iter_mut().rev().take(2).for_each(|link| link.cut_segments = cut);
            let name = name.to_owned();
            self.plan.wires.push(WirePlan { name, site_end, core_end, access: *access });
        }
        let middle = Ipv4Addr::new(192, 0, 2, site * 2);
        let (core, isp) = (middle, plus(middle, 1));
        self.configure("core", format!("address add {core}/31 dev {core_interface}"));
        self.configure(&space, format!("address add {isp}/31 dev uplink"));
        self.configure(&space, format!("route add default via {core}"));
        self.configure("core", format!("route add {}/{} via {isp}", network.0, network.1));
        if let Some(v6) = v6 {
            let middle = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, u16::from(site), 0, 0, 0, 0);
            let (core, isp) = (plus_v6(middle, 1), plus_v6(middle, 2));
            self.configure("core", format!("address add {core}/64 dev {core_interface} nodad"));
            self.configure(&space, format!("address add {isp}/64 dev uplink nodad"));
            self.configure(&space, format!("route add ::/0 via {core}"));
            self.configure("core", format!("route add {v6}/48 via {isp}"));
        }
    }

    /// A new site on the internet: what its outermost box or its host is attached to.
    fn site(&mut self, name: &str, access: &Access, ipv6: Ipv6) -> Attachment {
        self.sites += 1;
        let site = self.sites;
        let network = Ipv4Addr::new(203, 0, 113, site * 16);
        let v6 = (ipv6 == Ipv6::On).then(|| site_network_v6(site, 0));
        self.isp(name, access, (network, 28), v6);
        let space = format!("isp-{name}");
        let router = plus(network, 1);
        self.configure(&space, format!("address add {router}/29 dev customer"));
        if let Some(v6) = v6 {
            self.configure(&space, format!("address add {}/64 dev customer nodad", plus_v6(v6, 1)));
        }
        Attachment {
            space,
            router,
            prefix: 29,
            port: Port::Direct("customer"),
            next: plus(network, 2),
            public: None,
            public_network: Some(plus(network, 8)),
            v6,
        }
    }

    fn carrier(&mut self, carrier: &Carrier) -> Result<Attachment> {
        let outer = self.site(&carrier.name, &carrier.access, Ipv6::Off);
        let boxes = parse(&carrier.name, &carrier.site)?.boxes;
        let [nat] = boxes.as_slice() else {
            let detail = format!("{}: a carrier is one box, not `{}`", carrier.name, carrier.site);
            return Err(Error::topology(detail));
        };
        let inside = Ipv4Addr::new(100, 64, self.sites, 0);
        let mut outer = outer;
        self.nat_box(&carrier.name, nat, carrier.form, inside, &mut outer, Members::Several)
    }

    fn home(&mut self, home: &Home, carriers: &mut [(String, Attachment)]) -> Result<()> {
        let mut boxes = parse(&home.name, &home.site)?.boxes;
        if home.ipv6 == Ipv6::On && (boxes.len() > 1 || home.carrier.is_some()) {
            let detail = format!("{}: no IPv6 behind a carrier", home.name);
            return Err(Error::topology(detail));
        }
        if boxes.is_empty() && !home.neighbours.is_empty() {
            let detail = format!("{}: a public host has no neighbours", home.name);
            return Err(Error::topology(detail));
        }
        let shared = home.carrier.as_ref().and_then(|name| {
            carriers.iter_mut().find(|(known, _)| known == name).map(|(_, at)| at)
        });
        let mut own;
        let outermost = match shared {
            Some(shared) => {
                self.sites += 1;
                shared
            }
            None => {
                own = self.site(&home.name, &home.access, home.ipv6);
                &mut own
            }
        };
        let lan = home.lan.unwrap_or(Ipv4Addr::new(192, 168, self.sites, 0));
        let Some(nearest) = (!boxes.is_empty()).then(|| boxes.remove(0)) else {
            self.hosts(home, outermost);
            return Ok(());
        };
        let mut at: Option<Attachment> = None;
        for (depth, nat) in boxes.iter().enumerate().rev() {
            let number = if depth == 0 { String::new() } else { (depth + 1).to_string() };
            let name = format!("carrier{number}-{}", home.name);
            let inside = Ipv4Addr::new(100, 64 + depth as u8 + 1, self.sites, 0);
            let outer = at.as_mut().unwrap_or(outermost);
            at = Some(self.nat_box(&name, nat, home.form, inside, outer, Members::One)?);
        }
        let members = if home.neighbours.is_empty() { Members::One } else { Members::Several };
        let outer = at.as_mut().unwrap_or(outermost);
        let name = format!("nat-{}", home.name);
        let mut inner = self.nat_box(&name, &nearest, home.form, lan, outer, members)?;
        self.hosts(home, &mut inner);
        Ok(())
    }

    /// Attaches an interface of `space` to the network at `at`; its address there.
    fn attach(&mut self, at: &mut Attachment, space: &str, interface: &str) -> Ipv4Addr {
        let address = at.next;
        at.next = plus(address, 1);
        match &mut at.port {
            Port::Direct(port) => self.link((&at.space, port), (space, interface)),
            Port::Switch { space: switch, used } => {
                let port = format!("port{used}");
                *used += 1;
                self.link((switch, &port), (space, interface));
                self.configure(switch, format!("link set {port} master {BRIDGE}"));
            }
        }
        let (prefix, router) = (at.prefix, at.router);
        self.configure(space, format!("address add {address}/{prefix} dev {interface}"));
        self.configure(space, format!("route add default via {router}"));
        let members = self.plan.boxes.iter_mut().find(|it| it.space == at.space);
        if let Some(owner) = members {
            owner.members.push(address);
        }
        address
    }

    /// The IPv6 side of [`Planner::attach`].
    fn attach_v6(
        &mut self,
        at: &Attachment,
        space: &str,
        interface: &str,
        n: u128,
    ) -> Option<Ipv6Addr> {
        let network = at.v6?;
        let (address, router) = (plus_v6(network, n), plus_v6(network, 1));
        self.configure(space, format!("address add {address}/64 dev {interface} nodad"));
        self.configure(space, format!("route add ::/0 via {router}"));
        Some(address)
    }

    fn nat_box(
        &mut self,
        name: &str,
        nat: &NatBox,
        form: Form,
        inside: Ipv4Addr,
        outer: &mut Attachment,
        members: Members,
    ) -> Result<Attachment> {
        let translates = nat.behaviour.udp.translation.mapping != Mapping::Identity;
        let public_network = outer.public_network.filter(|_| !translates);
        if !translates && public_network.is_none() && outer.public.is_none() {
            let detail = format!("{name}: a second box without translation has no addresses left");
            return Err(Error::topology(detail));
        }
        let (network, prefix) = match public_network {
            Some(network) => (network, 29),
            None => (inside, 24),
        };
        let router = plus(network, 1);
        let has_v6 = outer.v6.is_some();
        self.space(name, Role::Router, if has_v6 { Ipv6::On } else { Ipv6::Off });
        let form = match form {
            Form::Auto if netfilter::out_of_reach(&nat.behaviour).is_some() => Form::User,
            Form::Auto => Form::Netfilter,
            chosen => chosen,
        };
        let outside = self.attach(outer, name, WAN);
        let spare = self.pool(nat, outer, name);
        self.plan.boxes.push(BoxPlan {
            space: name.into(),
            preset: nat.name.clone(),
            behaviour: nat.behaviour,
            form,
            inside: router,
            outside,
            spare,
            members: Vec::new(),
        });
        self.plan.layout.boxes.push(Box {
            name: name.into(),
            preset: nat.name.clone(),
            form,
            inside: router,
            outside,
        });
        let port = self.inner_port(name, members);
        self.configure(name, format!("address add {router}/{prefix} dev {LAN}"));
        let mut v6 = None;
        if let Some(link) = outer.v6 {
            let address = self.attach_v6(outer, name, WAN, 2);
            let mut segments = link.segments();
            segments[3] = 1;
            let network = Ipv6Addr::from(segments);
            let next_hop = address.unwrap_or(link);
            self.configure(&outer.space, format!("route add {network}/64 via {next_hop}"));
            self.configure(name, format!("address add {}/64 dev {LAN} nodad", plus_v6(network, 1)));
            v6 = Some(network);
        }
        if !translates {
            self.configure(&outer.space, format!("route add {network}/{prefix} via {outside}"));
        }
        let public = if translates { Some(outer.public.unwrap_or(outside)) } else { outer.public };
        Ok(Attachment {
            space: name.into(),
            router,
            prefix,
            port,
            next: if prefix == 24 { plus(network, 10) } else { plus(network, 2) },
            public,
            public_network: None,
            v6,
        })
    }

    /// The further addresses of a box that has several outside.
    fn pool(&mut self, nat: &NatBox, outer: &mut Attachment, name: &str) -> Vec<Ipv4Addr> {
        if nat.behaviour.pooling == Pooling::Paired {
            return Vec::new();
        }
        let spare: Vec<_> = (0..2).map(|n| plus(outer.next, n)).collect();
        outer.next = plus(outer.next, 2);
        for address in &spare {
            self.configure(name, format!("address add {address}/{} dev {WAN}", outer.prefix));
        }
        spare
    }

    /// The inner side of a box: a cable, or a switch for several.
    fn inner_port(&mut self, name: &str, members: Members) -> Port {
        if members == Members::One {
            return Port::Direct(LAN);
        }
        let space = format!("lan-{}", name.trim_start_matches("nat-"));
        self.space(&space, Role::Host, Ipv6::Off);
        self.configure(&space, format!("link add {BRIDGE} type bridge forward_delay 0"));
        self.configure(&space, format!("link set {BRIDGE} up"));
        self.link((name, LAN), (&space, "router"));
        self.configure(&space, format!("link set router master {BRIDGE}"));
        Port::Switch { space, used: 0 }
    }

    fn hosts(&mut self, home: &Home, at: &mut Attachment) {
        for (n, name) in [&home.name].into_iter().chain(&home.neighbours).enumerate() {
            self.space(name, Role::Host, if at.v6.is_some() { Ipv6::On } else { Ipv6::Off });
            let address = self.attach(at, name, ETHERNET);
            let address_v6 = self.attach_v6(at, name, ETHERNET, 0x10 + n as u128);
            self.plan.layout.hosts.push(Host {
                name: name.clone(),
                home: home.name.clone(),
                address,
                public: at.public.unwrap_or(address),
                address_v6,
            });
        }
    }

    fn server(&mut self, access: &Access) {
        let name = SERVER;
        self.sites = 0;
        let network = Ipv4Addr::new(198, 51, 100, 0);
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 0);
        self.isp(name, access, (network, 29), Some(v6));
        self.space(name, Role::Host, Ipv6::On);
        self.link(("isp-server", "customer"), (name, ETHERNET));
        let (router, router_v6) = (plus(network, 1), plus_v6(v6, 1));
        self.configure("isp-server", format!("address add {router}/29 dev customer"));
        self.configure("isp-server", format!("address add {router_v6}/64 dev customer nodad"));
        for address in SERVER_ADDRESSES.into_iter().chain([QUIET_ADDRESS]) {
            self.configure(name, format!("address add {address}/29 dev {ETHERNET}"));
        }
        for address in SERVER_ADDRESSES_V6 {
            self.configure(name, format!("address add {address}/64 dev {ETHERNET} nodad"));
        }
        self.configure(name, format!("route add default via {router}"));
        self.configure(name, format!("route add ::/0 via {router_v6}"));
        self.plan.layout.hosts.push(Host {
            name: name.into(),
            home: name.into(),
            address: SERVER_ADDRESSES[0],
            public: SERVER_ADDRESSES[0],
            address_v6: Some(SERVER_ADDRESSES_V6[0]),
        });
    }
}

fn parse(name: &str, site: &str) -> Result<Site> {
    site.parse().map_err(|error| Error::topology(format!("{name}: {error}")))
}
