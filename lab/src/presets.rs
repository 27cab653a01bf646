//! The NATs of the lab by name, and the little language that names them.
//!
//! A [`Site`] is what stands between a host and the internet: boxes from home to carrier, written
//! `HOME@CARRIER`. A box is a preset, changed by comma-separated settings: `masq,in=reset@symmetric-seq`.
//! `ntcp-lab` lists all of it, and the same names build the simulated and the kernel lab.
//!
//! | setting | values |
//! |---|---|
//! | `in` | `drop`, `reset`, `admin`, `port`, `open`, `late` (after 6 s): the answer to what nobody asked for |
//! | `syn` | `accept`, `strict`, `reset`: an inbound SYN after an outbound one |
//! | `udp` | `pass`, `block` |
//! | `rst` | `ignore`, `shorten`, `delete`, `kill`: the effect of an inbound RST |
//! | `ttlx`, `unreach` | `forward`, `kill`, `block`: the effect of ICMP errors on TCP |
//! | `hairpin` | `drop`, `refuse`, `yes`, `raw` |
//! | `isn` | `keep`, `rewrite` |
//! | `window` | `strict`, `liberal`, `off` |
//! | `invalid` | `drop`, `leak` |
//! | `loose` | `yes`, `no`: whether flows are picked up in the middle |
//! | `map`, `filter` | `ei`, `ad`, `apd`, and for `map` also `cd` |
//! | `ports` | `preserved`, `offset`, `seq`, `block`, `band` (251 ports), `parity`, `random` |
//! | `share` | `yes`, `no`: one outside port towards several destinations |
//! | `hole`, `idle` | seconds: how long an unanswered and an idle open TCP flow live |
//! | `limit`, `pace` | counts: mappings of one host, new flows of it in a second |
//! | `ttl` | `decrement`, `keep`, `reset`; `report` and `silent` say whether its end is reported |

use crate::nat::behaviour::{
    Allocation, Behaviour, Filtering, Hairpin, Mapping, Pooling, RstEffect, SequenceNumbers,
    Sharing, Tracking,
};

mod site;
mod verdict;

pub use site::{NatBox, Site, SiteError};

/// Where sequential allocation starts in the presets.
const FIRST_SEQUENTIAL: u16 = 20_000;

/// A named box.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a sentence for people.
    pub about: &'static str,
    /// What it does; `None` is no box at all.
    behaviour: fn() -> Option<Behaviour>,
}

impl Preset {
    /// What the box does; `None` if there is none.
    pub fn behaviour(&self) -> Option<Behaviour> {
        (self.behaviour)()
    }
}

/// All named boxes.
pub const PRESETS: &[Preset] = &[
    Preset { name: "public", about: "no box at all: a host on the internet", behaviour: || None },
    Preset {
        name: "firewall",
        about: "no translation, but nothing comes in that was not asked for",
        behaviour: || Some(mapped(Mapping::Identity, Filtering::AddressAndPortDependent)),
    },
    Preset {
        name: "full-cone",
        about: "one random port per inside port, open to everybody",
        behaviour: || Some(cone(Filtering::EndpointIndependent)),
    },
    Preset {
        name: "restricted",
        about: "one random port per inside port, open to addresses sent to",
        behaviour: || Some(cone(Filtering::AddressDependent)),
    },
    Preset {
        name: "port-restricted",
        about: "one random port per inside port, open to ends sent to",
        behaviour: || Some(cone(Filtering::AddressAndPortDependent)),
    },
    Preset {
        name: "linux-masq",
        about: "nft masquerade: the port is kept where it is free; also called masq",
        behaviour: || Some(Behaviour::masquerade()),
    },
    Preset {
        name: "linux-random",
        about: "nft masquerade fully-random: a random port per destination",
        behaviour: || Some(ports(Behaviour::masquerade(), random())),
    },
    Preset {
        name: "symmetric-seq",
        about: "a new port per destination, one after the other",
        behaviour: || Some(ports(exclusive(Behaviour::masquerade()), sequential(1))),
    },
    Preset {
        name: "symmetric-step",
        about: "a new port per destination, every fourth",
        behaviour: || Some(ports(exclusive(Behaviour::masquerade()), sequential(4))),
    },
    Preset {
        name: "symmetric-block",
        about: "a random port of the subscriber's own block per destination, as carriers do",
        behaviour: || Some(ports(exclusive(Behaviour::masquerade()), block())),
    },
    Preset {
        name: "address-dependent",
        about: "a new random port per remote address, open to that address",
        behaviour: || {
            let nat = mapped(Mapping::AddressDependent, Filtering::AddressDependent);
            Some(ports(nat, random()))
        },
    },
    Preset {
        name: "address-seq",
        about: "a new port per remote address, one after the other, open to ends sent to",
        behaviour: || {
            let nat = mapped(Mapping::AddressDependent, Filtering::AddressAndPortDependent);
            Some(ports(nat, sequential(1)))
        },
    },
    Preset {
        name: "connection-dependent",
        about: "a new port per connection, even between the same ends",
        behaviour: || {
            let nat = mapped(Mapping::ConnectionDependent, Filtering::AddressAndPortDependent);
            Some(ports(nat, sequential(1)))
        },
    },
    Preset {
        name: "symmetric-open",
        about: "a random port per destination, each open to everybody",
        behaviour: || {
            let nat = mapped(Mapping::AddressAndPortDependent, Filtering::EndpointIndependent);
            Some(ports(nat, random()))
        },
    },
    Preset {
        name: "preserving-cone",
        about: "the inside port kept towards everybody, open to ends sent to",
        behaviour: || {
            let nat = cone(Filtering::AddressAndPortDependent);
            Some(ports(nat, Allocation::Preserved))
        },
    },
    Preset {
        name: "offset-cone",
        about: "the inside port plus 10000 towards everybody, open to addresses sent to",
        behaviour: || Some(ports(cone(Filtering::AddressDependent), Allocation::Offset(10_000))),
    },
    Preset {
        name: "block-cone",
        about: "one port of the subscriber's own block per inside port, open to everybody",
        behaviour: || Some(ports(cone(Filtering::EndpointIndependent), block())),
    },
    Preset {
        name: "hairpin-cone",
        about: "port-restricted, and hosts behind it reach each other through it",
        behaviour: || {
            let mut nat = cone(Filtering::AddressAndPortDependent);
            nat.hairpin = Hairpin::Translated;
            Some(nat)
        },
    },
    Preset {
        name: "sip-router",
        about: "rewrites sequence numbers and tracks no windows, else port-restricted",
        behaviour: || {
            let mut nat = cone(Filtering::AddressAndPortDependent);
            nat.tcp.sequence_numbers = SequenceNumbers::Rewritten;
            nat.tcp.tracking = Tracking::None;
            nat.tcp.rst = RstEffect::Shorten;
            Some(nat)
        },
    },
    Preset {
        name: "pool-arbitrary",
        about: "several outside addresses, any of them for each mapping",
        behaviour: || {
            let nat = mapped(Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent);
            let mut nat = ports(nat, random());
            nat.pooling = Pooling::Arbitrary;
            Some(nat)
        },
    },
];

fn cone(filtering: Filtering) -> Behaviour {
    ports(mapped(Mapping::EndpointIndependent, filtering), random())
}

fn mapped(mapping: Mapping, filtering: Filtering) -> Behaviour {
    exclusive(Behaviour::masquerade()).with_translation(|translation| {
        translation.mapping = mapping;
        translation.filtering = filtering;
    })
}

fn exclusive(nat: Behaviour) -> Behaviour {
    nat.with_translation(|translation| translation.sharing = Sharing::Exclusive)
}

fn shared(nat: Behaviour) -> Behaviour {
    nat.with_translation(|translation| translation.sharing = Sharing::PerDestination)
}

fn ports(nat: Behaviour, allocation: Allocation) -> Behaviour {
    nat.with_translation(|translation| translation.allocation = allocation)
}

fn random() -> Allocation {
    Allocation::Random { low: 1024, high: u16::MAX }
}

/// As wide as the band of a carrier's NAT was that was measured.
fn band() -> Allocation {
    Allocation::Random { low: 40_000, high: 40_250 }
}

fn sequential(step: u16) -> Allocation {
    Allocation::Sequential { first: FIRST_SEQUENTIAL, step }
}

fn block() -> Allocation {
    Allocation::Block { first: 30_000, size: 512 }
}

/// The matrix' sites: every preset, the settings that decide about punching, and carriers.
pub const SITES: &[&str] = &[
    "public",
    "firewall",
    "full-cone",
    "restricted",
    "port-restricted",
    "linux-masq",
    "masq,in=reset",
    "masq,in=admin",
    "masq,in=open",
    "masq,syn=strict",
    "masq,udp=block",
    "port-restricted,in=reset",
    "symmetric-seq",
    "symmetric-step",
    "symmetric-block",
    "linux-random",
    "address-dependent",
    "address-seq",
    "connection-dependent",
    "symmetric-open",
    "preserving-cone",
    "offset-cone",
    "block-cone",
    "hairpin-cone",
    "sip-router",
    "pool-arbitrary",
    "masq@port-restricted",
    "masq@symmetric-seq",
    "masq@linux-random",
];

#[cfg(test)]
mod tests {
    use ntcp_proto::nat as report;

    use super::*;
    use crate::nat::behaviour::{InboundSyn, Passage, Unsolicited};

    #[test]
    fn every_site_of_the_matrix_parses_and_prints_itself() {
        for text in SITES {
            assert_eq!(text.parse::<Site>().unwrap().to_string(), *text);
        }
    }

    #[test]
    fn every_preset_is_named_once_and_stands_in_the_matrix() {
        for (at, preset) in PRESETS.iter().enumerate() {
            assert!(PRESETS[..at].iter().all(|other| other.name != preset.name));
            assert!(SITES.contains(&preset.name), "{}", preset.name);
        }
    }

    #[test]
    fn boxes_stand_from_home_to_carrier_and_keep_their_settings() {
        let site: Site = "masq,in=reset,syn=strict@symmetric-seq,udp=block".parse().unwrap();
        assert_eq!(site.boxes.len(), 2);
        assert_eq!(site.boxes[0].behaviour.tcp.unsolicited, Unsolicited::Reset);
        assert_eq!(site.boxes[0].behaviour.tcp.inbound_syn, InboundSyn::Drop);
        assert_eq!(site.boxes[1].behaviour.udp.passage, Passage::Blocked);
        assert_eq!(site.boxes[1].name, "symmetric-seq,udp=block");
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_its_culprit() {
        for (text, culprit) in [
            ("cone", "cone"),
            ("masq,in=maybe", "in=maybe"),
            ("masq,shiny", "shiny"),
            ("masq@", "``"),
            ("public@masq", "public@masq"),
            ("public,in=reset", "public,in=reset"),
        ] {
            let error = text.parse::<Site>().unwrap_err().to_string();
            assert!(error.contains(culprit), "{text}: {error}");
        }
    }

    #[test]
    fn every_setting_of_the_table_is_understood() {
        let settings = [
            "in=drop",
            "in=reset",
            "in=admin",
            "in=port",
            "in=open",
            "in=late",
            "ports=band",
            "ports=parity",
            "share=yes",
            "share=no",
            "hole=56",
            "idle=240",
            "limit=512",
            "pace=20",
            "syn=accept",
            "syn=strict",
            "syn=reset",
            "udp=pass",
            "udp=block",
            "rst=ignore",
            "rst=shorten",
            "rst=delete",
            "rst=kill",
            "ttlx=forward",
            "ttlx=kill",
            "ttlx=block",
            "unreach=forward",
            "unreach=kill",
            "unreach=block",
            "hairpin=drop",
            "hairpin=refuse",
            "hairpin=yes",
            "hairpin=raw",
            "isn=keep",
            "isn=rewrite",
            "window=strict",
            "window=liberal",
            "window=off",
            "invalid=drop",
            "invalid=leak",
            "loose=yes",
            "loose=no",
            "map=ei",
            "map=ad",
            "map=apd",
            "map=cd",
            "filter=ei",
            "filter=ad",
            "filter=apd",
            "ports=preserved",
            "ports=offset",
            "ports=seq",
            "ports=block",
            "ports=random",
            "ttl=decrement",
            "ttl=keep",
            "ttl=reset",
            "ttl=report",
            "ttl=silent",
        ];
        for setting in settings {
            let site = format!("masq,{setting}").parse::<Site>();
            assert!(site.is_ok(), "{setting}");
        }
    }

    #[test]
    fn a_masquerading_box_looks_endpoint_independent_to_a_single_host() {
        let told = "masq".parse::<Site>().unwrap().declared();
        assert_eq!(told.udp.mapping, Some(report::Mapping::EndpointIndependent));
        assert_eq!(told.tcp.port_allocation, Some(report::PortAllocation::Preserved));
        assert_eq!(told.udp.filtering, Some(report::Filtering::AddressAndPortDependent));
        assert_eq!(told.udp.hairpin, Some(false));
    }

    #[test]
    fn a_chain_is_as_bad_as_its_worst_box() {
        let told = "masq@linux-random".parse::<Site>().unwrap().declared();
        assert_eq!(told.udp.mapping, Some(report::Mapping::AddressAndPortDependent));
        assert_eq!(told.udp.port_allocation, Some(report::PortAllocation::Random));
    }
}
