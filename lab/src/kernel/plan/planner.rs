//! Makes a [`Plan`], from the internet inwards.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::nat::behaviour::{Mapping, Pooling};
use crate::presets::{NatBox, Site};

use super::{
    BoxPlan, ETHERNET, LAN, LinkPlan, Plan, Role, SERVER, SpacePlan, WAN, WIRES, WirePlan,
};
use crate::kernel::access::Access;
use crate::kernel::error::{Error, Result};
use crate::kernel::layout::{Box, Host, QUIET_ADDRESS, SERVER_ADDRESSES, SERVER_ADDRESSES_V6};
use crate::kernel::netfilter;
use crate::kernel::topology::{Carrier, Form, Home, Ipv6, Topology};

/// A switch's bridge.
const BRIDGE: &str = "bridge";

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

impl Attachment {
    fn ipv6(&self) -> Ipv6 {
        if self.v6.is_some() { Ipv6::On } else { Ipv6::Off }
    }
}

/// A box to be made.
struct Order<'a> {
    name: String,
    nat: &'a NatBox,
    form: Form,
    /// Its inner network, unless that has to be public.
    inside: Ipv4Addr,
    members: Members,
}

impl Order<'_> {
    /// The network behind it, and the length of its prefix.
    fn network(&self, translates: bool, outer: &Attachment) -> Result<(Ipv4Addr, u8)> {
        match outer.public_network.filter(|_| !translates) {
            Some(public) => Ok((public, PUBLIC)),
            None if translates || outer.public.is_some() => Ok((self.inside, PRIVATE)),
            None => {
                let detail = "a second box without translation has no addresses left";
                Err(Error::topology(format!("{}: {detail}", self.name)))
            }
        }
    }
}

/// Length of the prefix of a private network.
const PRIVATE: u8 = 24;
/// Length of the prefix of a link to the internet, and of a network with public addresses.
const PUBLIC: u8 = 29;

/// A plan in the making.
pub(super) struct Planner {
    plan: Plan,
    sites: u8,
    kernel: Ipv6,
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
    /// An empty plan.
    pub(super) fn new(kernel: Ipv6) -> Self {
        Self { plan: Plan::default(), sites: 0, kernel }
    }

    /// The whole of it.
    pub(super) fn plan(mut self, topology: &Topology) -> Result<Plan> {
        self.space("core", Role::Router, self.kernel);
        self.space(WIRES, Role::Host, Ipv6::Off);
        let mut shared = Vec::new();
        for carrier in &topology.carriers {
            shared.push((carrier.name.clone(), self.carrier(carrier)?));
        }
        for home in &topology.homes {
            self.home(home, &mut shared)?;
        }
        self.server(&topology.server);
        Ok(self.finish())
    }

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
        let both = ipv6 == Ipv6::On && self.kernel == Ipv6::On;
        let v6 = both.then(|| site_network_v6(site, 0));
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
            prefix: PUBLIC,
            port: Port::Direct("customer"),
            next: plus(network, 2),
            public: None,
            public_network: Some(plus(network, 8)),
            v6,
        }
    }

    fn carrier(&mut self, carrier: &Carrier) -> Result<Attachment> {
        let mut outer = self.site(&carrier.name, &carrier.access, Ipv6::Off);
        let boxes = parse(&carrier.name, &carrier.site)?.boxes;
        let [nat] = boxes.as_slice() else {
            let detail = format!("{}: a carrier is one box, not `{}`", carrier.name, carrier.site);
            return Err(Error::topology(detail));
        };
        let order = Order {
            name: carrier.name.clone(),
            nat,
            form: carrier.form,
            inside: Ipv4Addr::new(100, 64, self.sites, 0),
            members: Members::Several,
        };
        self.nat_box(&order, &mut outer)
    }

    fn home(&mut self, home: &Home, carriers: &mut [(String, Attachment)]) -> Result<()> {
        let boxes = parse(&home.name, &home.site)?.boxes;
        check_home(home, boxes.len())?;
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
        let Some((nearest, carriers)) = boxes.split_first() else {
            self.hosts(home, outermost);
            return Ok(());
        };
        let mut at: Option<Attachment> = None;
        for (depth, nat) in carriers.iter().enumerate().rev() {
            let number = if depth == 0 { String::new() } else { (depth + 1).to_string() };
            let order = Order {
                name: format!("carrier{number}-{}", home.name),
                nat,
                form: home.form,
                inside: Ipv4Addr::new(100, 65 + depth as u8, self.sites, 0),
                members: Members::One,
            };
            at = Some(self.nat_box(&order, at.as_mut().unwrap_or(outermost))?);
        }
        let order = Order {
            name: format!("nat-{}", home.name),
            nat: nearest,
            form: home.form,
            inside: lan,
            members: if home.neighbours.is_empty() { Members::One } else { Members::Several },
        };
        let mut inner = self.nat_box(&order, at.as_mut().unwrap_or(outermost))?;
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

    /// A box behind `outer`; what is attached behind it in turn.
    fn nat_box(&mut self, order: &Order<'_>, outer: &mut Attachment) -> Result<Attachment> {
        let Order { name, nat, members, .. } = order;
        let translates = nat.behaviour.udp.translation.mapping != Mapping::Identity;
        let (network, prefix) = order.network(translates, outer)?;
        let router = plus(network, 1);
        self.space(name, Role::Router, outer.ipv6());
        let outside = self.attach(outer, name, WAN);
        let spare = self.pool(nat, outer, name);
        self.register(order, outer.ipv6(), (router, outside), spare);
        let port = self.inner_port(name, *members);
        self.configure(name, format!("address add {router}/{prefix} dev {LAN}"));
        let v6 = self.pass_on_v6(name, outer);
        if !translates {
            self.configure(&outer.space, format!("route add {network}/{prefix} via {outside}"));
        }
        let public = if translates { Some(outer.public.unwrap_or(outside)) } else { outer.public };
        Ok(Attachment {
            space: name.clone(),
            router,
            prefix,
            port,
            // A private network has room to begin where people expect hosts.
            next: if prefix == PRIVATE { plus(network, 10) } else { plus(network, 2) },
            public,
            public_network: None,
            v6,
        })
    }

    /// Takes a box into the plan and into the layout.
    fn register(
        &mut self,
        order: &Order<'_>,
        ipv6: Ipv6,
        (inside, outside): (Ipv4Addr, Ipv4Addr),
        spare: Vec<Ipv4Addr>,
    ) {
        let form = match order.form {
            Form::Auto if netfilter::out_of_reach(&order.nat.behaviour).is_some() => Form::User,
            Form::Auto => Form::Netfilter,
            chosen => chosen,
        };
        let (name, preset) = (order.name.clone(), order.nat.name.clone());
        self.plan.layout.boxes.push(Box {
            name: name.clone(),
            preset: preset.clone(),
            form,
            inside,
            outside,
        });
        self.plan.boxes.push(BoxPlan {
            space: name,
            preset,
            behaviour: order.nat.behaviour,
            form,
            ipv6,
            inside,
            outside,
            spare,
            members: Vec::new(),
        });
    }

    /// IPv6 is routed: the inner network is the site's next one.
    fn pass_on_v6(&mut self, name: &str, outer: &Attachment) -> Option<Ipv6Addr> {
        let address = self.attach_v6(outer, name, WAN, 2)?;
        let mut segments = outer.v6?.segments();
        segments[3] += 1;
        let network = Ipv6Addr::from(segments);
        self.configure(&outer.space, format!("route add {network}/64 via {address}"));
        self.configure(name, format!("address add {}/64 dev {LAN} nodad", plus_v6(network, 1)));
        Some(network)
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
        let v6 = (self.kernel == Ipv6::On).then_some(v6);
        self.isp(name, access, (network, 29), v6);
        self.space(name, Role::Host, self.kernel);
        self.link(("isp-server", "customer"), (name, ETHERNET));
        let router = plus(network, 1);
        self.configure("isp-server", format!("address add {router}/29 dev customer"));
        for address in SERVER_ADDRESSES.into_iter().chain([QUIET_ADDRESS]) {
            self.configure(name, format!("address add {address}/29 dev {ETHERNET}"));
        }
        self.configure(name, format!("route add default via {router}"));
        if let Some(v6) = v6 {
            let router = plus_v6(v6, 1);
            self.configure("isp-server", format!("address add {router}/64 dev customer nodad"));
            for address in SERVER_ADDRESSES_V6 {
                self.configure(name, format!("address add {address}/64 dev {ETHERNET} nodad"));
            }
            self.configure(name, format!("route add ::/0 via {router}"));
        }
        self.plan.layout.hosts.push(Host {
            name: name.into(),
            home: name.into(),
            address: SERVER_ADDRESSES[0],
            public: SERVER_ADDRESSES[0],
            address_v6: v6.map(|_| SERVER_ADDRESSES_V6[0]),
        });
    }
}

fn parse(name: &str, site: &str) -> Result<Site> {
    site.parse().map_err(|error| Error::topology(format!("{name}: {error}")))
}

fn check_home(home: &Home, boxes: usize) -> Result<()> {
    /// Each has its own part of 100.64.0.0/10.
    const MOST_BOXES: usize = 8;
    let fault = if home.ipv6 == Ipv6::On && (boxes > 1 || home.carrier.is_some()) {
        "no IPv6 behind a carrier"
    } else if boxes == 0 && !home.neighbours.is_empty() {
        "a public host has no neighbours"
    } else if boxes > MOST_BOXES {
        "more boxes than anybody has"
    } else {
        return Ok(());
    };
    Err(Error::topology(format!("{}: {fault}", home.name)))
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;
    use crate::kernel::lab::Lab;

    /// The plan of a lab with such homes, on a kernel with both families.
    fn planned(topology: &Topology) -> Plan {
        plan(topology, Ipv6::On).unwrap()
    }

    fn commands<'a>(plan: &'a Plan, space: &str) -> Vec<&'a str> {
        let found = plan.spaces.iter().find(|it| it.name == space);
        found.map_or_else(Vec::new, |it| it.commands.iter().map(String::as_str).collect())
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.spaces.iter().map(|it| it.name.as_str()).collect()
    }

    #[test]
    fn a_home_has_a_box_an_isp_and_a_line() {
        let plan = planned(&Lab::builder().home("a", "linux-masq").topology());
        let expected = ["core", "wires", "isp-a", "nat-a", "a", "isp-server", "server"];
        assert_eq!(names(&plan), expected);
        assert!(plan.wires.is_empty());
        assert_eq!(
            commands(&plan, "a"),
            [
                "link set lo up",
                "link set eth0 up",
                "address add 192.168.1.10/24 dev eth0",
                "route add default via 192.168.1.1",
            ]
        );
        assert_eq!(
            commands(&plan, "nat-a"),
            [
                "link set lo up",
                "link set wan up",
                "address add 203.0.113.18/29 dev wan",
                "route add default via 203.0.113.17",
                "address add 192.168.1.1/24 dev lan",
                "link set lan up",
            ]
        );
        assert_eq!(plan.boxes[0].members, [Ipv4Addr::new(192, 168, 1, 10)]);
    }

    #[test]
    fn a_carriers_box_stands_between_the_home_and_the_isp() {
        let plan = planned(&Lab::builder().home("a", "masq@linux-random").topology());
        let boxes: Vec<_> = plan.layout.boxes.iter().map(|it| (&*it.name, it.outside)).collect();
        assert_eq!(
            boxes,
            [
                ("carrier-a", Ipv4Addr::new(203, 0, 113, 18)),
                ("nat-a", Ipv4Addr::new(100, 65, 1, 10)),
            ]
        );
        let host = plan.layout.host("a").unwrap();
        assert_eq!(host.public, Ipv4Addr::new(203, 0, 113, 18));
    }

    #[test]
    fn a_firewall_gives_its_home_public_addresses() {
        let lab = Lab::builder().home("a", "firewall").neighbour("a2").neighbour("a3");
        let plan = planned(&lab.topology());
        let own = |name| plan.layout.host(name).unwrap();
        assert_eq!(own("a").address, Ipv4Addr::new(203, 0, 113, 26));
        assert_eq!(own("a3").public, Ipv4Addr::new(203, 0, 113, 28));
        let route = "route add 203.0.113.24/29 via 203.0.113.18";
        assert!(commands(&plan, "isp-a").contains(&route));
        assert!(names(&plan).contains(&"lan-a"), "several hosts have a switch");
    }

    #[test]
    fn only_lines_that_do_something_lead_through_the_router() {
        use std::time::Duration;
        let slow = Access { delay: Duration::from_millis(1), ..Access::default() };
        let lossy = Access { loss: 0.5, ..slow };
        let lab = Lab::builder().home("a", "public").access(slow).home("b", "public").access(lossy);
        let plan = planned(&lab.home("c", "public").access(Access::default()).topology());
        let lines: Vec<&str> = plan.wires.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(lines, ["a", "b"]);
        let cut = |interface: &str| {
            let ends = |it: &&LinkPlan| it.ends.iter().any(|(_, name)| name == interface);
            plan.links.iter().find(ends).unwrap().cut_segments
        };
        assert!(!cut("w1-site") && cut("w2-site") && cut("w2-core") && !cut("to-c"));
    }

    #[test]
    fn a_kernel_without_ipv6_gets_a_lab_without_it() {
        let topology = Lab::builder().home("a", "linux-masq").ipv6().topology();
        let plan = plan(&topology, Ipv6::Off).unwrap();
        assert!(plan.layout.hosts.iter().all(|host| host.address_v6.is_none()));
        assert!(plan.spaces.iter().flat_map(|it| &it.commands).all(|it| !it.contains("::")));
    }

    #[test]
    fn the_largest_lab_has_addresses_for_all() {
        let homes = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"];
        let lab = homes
            .iter()
            .fold(Lab::builder().carrier("cgn", "masq"), |lab, name| lab.home(name, "masq@masq"));
        let plan = planned(&lab.topology());
        let outside: Vec<_> = plan.layout.hosts.iter().map(|host| host.public).collect();
        let different: std::collections::BTreeSet<_> = outside.iter().collect();
        assert_eq!(different.len(), homes.len() + 1);
        let crowded = lab.home("o", "masq").topology();
        assert!(super::super::plan(&crowded, Ipv6::On).is_err());
    }

    #[test]
    fn what_has_no_addresses_is_refused() {
        for (site, culprit) in [
            ("firewall@firewall", "no addresses left"),
            ("masq@cone", "`cone`"),
            ("masq@masq@masq@masq@masq@masq@masq@masq@masq", "more boxes"),
        ] {
            let topology = Lab::builder().home("a", site).topology();
            let error = plan(&topology, Ipv6::On).unwrap_err().to_string();
            assert!(error.contains(culprit), "{error}");
        }
    }
}
