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

use std::net::Ipv4Addr;

use crate::nat::behaviour::Behaviour;

use super::access::Access;
use super::error::Result;
use super::layout::Layout;
use super::topology::{Form, Ipv6, Topology};

mod planner;

use planner::Planner;

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
    /// Whether it also has to guard IPv6.
    pub(super) ipv6: Ipv6,
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
/// The server's name.
pub(super) const SERVER: &str = "server";
/// A host's interface.
pub(super) const ETHERNET: &str = "eth0";
/// The namespace of the cut lines.
pub(super) const WIRES: &str = "wires";

/// Makes the plan. A kernel without IPv6 gets a lab without it.
///
/// # Errors
/// [`Error::Topology`], naming the part that cannot be.
pub(super) fn plan(topology: &Topology, kernel: Ipv6) -> Result<Plan> {
    topology.check()?;
    Planner::new(kernel).plan(topology)
}
