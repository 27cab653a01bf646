//! Who has which address in a laboratory.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::topology::Form;

/// The server's IPv4 addresses: two for a STUN server with all of RFC 5780, the others to spare.
pub const SERVER_ADDRESSES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(198, 51, 100, 2),
    Ipv4Addr::new(198, 51, 100, 3),
    Ipv4Addr::new(198, 51, 100, 4),
    Ipv4Addr::new(198, 51, 100, 5),
];

/// An address of the server that answers nothing: what arrives there is for traces only.
pub const QUIET_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 6);

/// The server's IPv6 addresses.
pub const SERVER_ADDRESSES_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 3),
];

/// What was built.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Layout {
    /// The hosts, homes in their order, the server last.
    pub hosts: Vec<Host>,
    /// The boxes, from each home outwards.
    pub boxes: Vec<Box>,
}

/// A host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its home's name; `server` for the server.
    pub home: String,
    /// Its own address.
    pub address: Ipv4Addr,
    /// The address it is seen with from the internet: its outermost NAT's, or its own.
    pub public: Ipv4Addr,
    /// Its IPv6 address, where it has one.
    pub address_v6: Option<Ipv6Addr>,
}

/// A NAT or firewall.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Box {
    /// Its name.
    pub name: String,
    /// Its preset, with settings.
    pub preset: String,
    /// Who does it; never [`Form::Auto`].
    pub form: Form,
    /// Its address on the inner side.
    pub inside: Ipv4Addr,
    /// Its address on the outer side.
    pub outside: Ipv4Addr,
}

impl Layout {
    /// The host of that name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }
}

impl Box {
    /// Whether it stands between this home's hosts and the internet, and belongs to them alone.
    pub fn belongs_to(&self, home: &str) -> bool {
        self.name.split_once('-').is_some_and(|(_, owner)| owner == home)
    }
}
