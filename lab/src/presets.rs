//! The NATs of the lab by name, and the little language that names them.
//!
//! A [`Site`] is what stands between a host and the internet: boxes from home to carrier, written
//! `HOME@CARRIER`. A box is a preset, changed by comma-separated settings: `masq,in=reset@symmetric-seq`.
//! `ntcp-lab` lists all of it, and the same names build the simulated and the kernel lab.
//!
//! | setting | values |
//! |---|---|
//! | `in` | `drop`, `reset`, `admin`, `port`, `open`: the answer to what nobody asked for |
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
//! | `ports` | `preserved`, `offset`, `seq`, `block`, `random` |
//! | `ttl` | `decrement`, `keep`, `reset`; `report` and `silent` say whether its end is reported |

use std::fmt;
use std::str::FromStr;

use ntcp_proto::nat as report;
use ntcp_proto::nat::{NatReport, TcpReport, UdpReport};

use crate::nat::behaviour::{
    Allocation, Behaviour, Filtering, Hairpin, IcmpEffect, InboundSyn, Invalid, Mapping, MidStream,
    Passage, Pooling, RstEffect, SequenceNumbers, Sharing, TimeExceeded, Tracking, Translation,
    Ttl, Unsolicited,
};
use crate::packet::IcmpError;

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

fn ports(nat: Behaviour, allocation: Allocation) -> Behaviour {
    nat.with_translation(|translation| translation.allocation = allocation)
}

fn random() -> Allocation {
    Allocation::Random { low: 1024, high: u16::MAX }
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

/// One box between a host and the internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatBox {
    /// How it was written.
    pub name: String,
    /// What it does.
    pub behaviour: Behaviour,
}

/// All boxes between a host and the internet, the home's first; none for a public host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    name: String,
    /// The boxes, from the host outwards.
    pub boxes: Vec<NatBox>,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A site that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SiteError {
    /// A name nobody knows.
    #[error("`{name}` is not a NAT preset: `ntcp-lab list` shows them")]
    Preset {
        /// What stood there.
        name: String,
    },
    /// A setting that is not one.
    #[error("`{setting}` is not a setting of a NAT preset: `ntcp-lab list` shows them")]
    Setting {
        /// What stood there.
        setting: String,
    },
    /// A public host in a chain of boxes, or changed by a setting.
    #[error("`{site}`: `public` is no box, so it stands alone and has no settings")]
    Public {
        /// The whole text.
        site: String,
    },
}

impl FromStr for Site {
    type Err = SiteError;

    fn from_str(text: &str) -> Result<Self, SiteError> {
        let mut boxes = Vec::new();
        for part in text.split('@') {
            let mut words = part.split(',');
            let name = words.next().unwrap_or_default();
            let Some(mut behaviour) = preset(name)?.behaviour() else {
                if name == text {
                    return Ok(Self { name: text.into(), boxes });
                }
                return Err(SiteError::Public { site: text.into() });
            };
            for setting in words {
                apply(&mut behaviour, setting)
                    .ok_or_else(|| SiteError::Setting { setting: setting.into() })?;
            }
            boxes.push(NatBox { name: part.into(), behaviour });
        }
        Ok(Self { name: text.into(), boxes })
    }
}

fn preset(name: &str) -> Result<&'static Preset, SiteError> {
    let name = if name == "masq" { "linux-masq" } else { name };
    PRESETS
        .iter()
        .find(|preset| preset.name == name)
        .ok_or_else(|| SiteError::Preset { name: name.into() })
}

/// Changes one axis; `None` if there is no such setting.
fn apply(nat: &mut Behaviour, setting: &str) -> Option<()> {
    match setting.split_once('=')? {
        ("in", value) => {
            let answer = unsolicited(value)?;
            (nat.tcp.unsolicited, nat.udp.unsolicited) = (answer, answer);
        }
        ("syn", value) => nat.tcp.inbound_syn = inbound_syn(value)?,
        ("udp", "pass") => nat.udp.passage = Passage::Open,
        ("udp", "block") => nat.udp.passage = Passage::Blocked,
        ("rst", value) => nat.tcp.rst = rst(value)?,
        ("ttlx", value) => nat.tcp.time_exceeded = icmp_effect(value)?,
        ("unreach", value) => nat.tcp.unreachable = icmp_effect(value)?,
        ("hairpin", value) => nat.hairpin = hairpin(value)?,
        ("isn", "keep") => nat.tcp.sequence_numbers = SequenceNumbers::Preserved,
        ("isn", "rewrite") => nat.tcp.sequence_numbers = SequenceNumbers::Rewritten,
        ("window", "strict") => nat.tcp.tracking = Tracking::StrictWindow,
        ("window", "liberal") => nat.tcp.tracking = Tracking::LiberalWindow,
        ("window", "off") => nat.tcp.tracking = Tracking::None,
        ("invalid", "drop") => nat.tcp.invalid = Invalid::Drop,
        ("invalid", "leak") => nat.tcp.invalid = Invalid::Leak,
        ("loose", "yes") => nat.tcp.mid_stream = MidStream::PickUp,
        ("loose", "no") => nat.tcp.mid_stream = MidStream::Refuse,
        ("map", value) => {
            let mapping = mapping(value)?;
            *nat = nat.with_translation(|translation| translation.mapping = mapping);
        }
        ("filter", value) => {
            let filtering = filtering(value)?;
            *nat = nat.with_translation(|translation| translation.filtering = filtering);
        }
        ("ports", value) => *nat = ports(*nat, allocation(value)?),
        ("ttl", "decrement") => nat.ttl = Ttl::Decrement,
        ("ttl", "keep") => nat.ttl = Ttl::Keep,
        ("ttl", "reset") => nat.ttl = Ttl::Reset(64),
        ("ttl", "report") => nat.time_exceeded = TimeExceeded::Report,
        ("ttl", "silent") => nat.time_exceeded = TimeExceeded::Silent,
        _ => return None,
    }
    Some(())
}

fn unsolicited(value: &str) -> Option<Unsolicited> {
    Some(match value {
        "drop" => Unsolicited::Silent,
        "reset" => Unsolicited::Reset,
        "admin" => Unsolicited::Icmp(IcmpError::AdminProhibited),
        "port" => Unsolicited::Icmp(IcmpError::PortUnreachable),
        "open" => Unsolicited::OwnStack,
        _ => return None,
    })
}

fn inbound_syn(value: &str) -> Option<InboundSyn> {
    Some(match value {
        "accept" => InboundSyn::Accept,
        "strict" => InboundSyn::Drop,
        "reset" => InboundSyn::Reset,
        _ => return None,
    })
}

fn rst(value: &str) -> Option<RstEffect> {
    Some(match value {
        "ignore" => RstEffect::Ignore,
        "shorten" => RstEffect::Shorten,
        "delete" => RstEffect::Delete,
        "kill" => RstEffect::DeleteMapping,
        _ => return None,
    })
}

fn icmp_effect(value: &str) -> Option<IcmpEffect> {
    Some(match value {
        "forward" => IcmpEffect::Forward,
        "kill" => IcmpEffect::DeleteMapping,
        "block" => IcmpEffect::Block,
        _ => return None,
    })
}

fn hairpin(value: &str) -> Option<Hairpin> {
    Some(match value {
        "drop" => Hairpin::Drop,
        "refuse" => Hairpin::Refuse,
        "yes" => Hairpin::Translated,
        "raw" => Hairpin::Untranslated,
        _ => return None,
    })
}

fn mapping(value: &str) -> Option<Mapping> {
    Some(match value {
        "ei" => Mapping::EndpointIndependent,
        "ad" => Mapping::AddressDependent,
        "apd" => Mapping::AddressAndPortDependent,
        "cd" => Mapping::ConnectionDependent,
        _ => return None,
    })
}

fn filtering(value: &str) -> Option<Filtering> {
    Some(match value {
        "ei" => Filtering::EndpointIndependent,
        "ad" => Filtering::AddressDependent,
        "apd" => Filtering::AddressAndPortDependent,
        _ => return None,
    })
}

fn allocation(value: &str) -> Option<Allocation> {
    Some(match value {
        "preserved" => Allocation::Preserved,
        "offset" => Allocation::Offset(10_000),
        "seq" => sequential(1),
        "block" => block(),
        "random" => random(),
        _ => return None,
    })
}

// --- the verdict ---------------------------------------------------------------------------------

impl Site {
    /// What a perfect classifier says about this site, as far as it can be told from a single host
    /// behind it. Addresses and lifetimes are left out.
    pub fn declared(&self) -> NatReport {
        let mut told = NatReport { nat: Some(self.translates()), ..NatReport::default() };
        told.udp = self.declared_udp();
        told.tcp = self.declared_tcp();
        told
    }

    fn translates(&self) -> bool {
        self.boxes.iter().any(|nat| nat.behaviour.udp.translation.mapping != Mapping::Identity)
    }

    fn declared_udp(&self) -> UdpReport {
        let blocked = self.boxes.iter().any(|nat| nat.behaviour.udp.passage == Passage::Blocked);
        if blocked {
            return UdpReport::default();
        }
        let sight = self.sight(|behaviour| behaviour.udp.translation);
        UdpReport {
            reachable: true,
            // UDP knows no connections.
            mapping: Some(sight.mapping.min(report::Mapping::AddressAndPortDependent)),
            filtering: Some(sight.filtering),
            port_allocation: Some(sight.allocation),
            hairpin: Some(self.hairpins()),
            ..UdpReport::default()
        }
    }

    fn declared_tcp(&self) -> TcpReport {
        let sight = self.sight(|behaviour| behaviour.tcp.translation);
        let boxes = || self.boxes.iter().map(|nat| &nat.behaviour.tcp);
        let rewritten = boxes().any(|tcp| tcp.sequence_numbers == SequenceNumbers::Rewritten);
        let guard =
            boxes().rev().find(|tcp| tcp.translation.filtering != Filtering::EndpointIndependent);
        let inbound = boxes().rev().map(|tcp| tcp.inbound_syn).find(|it| *it != InboundSyn::Accept);
        TcpReport {
            reachable: true,
            mapping: Some(sight.mapping),
            filtering: Some(sight.filtering),
            port_allocation: Some(sight.allocation),
            hairpin: Some(self.hairpins()),
            // Where everything comes in, it is the host itself that refuses.
            unsolicited_syn: Some(match guard.map(|tcp| tcp.unsolicited) {
                Some(Unsolicited::Silent) => report::UnsolicitedSyn::Silent,
                Some(Unsolicited::Icmp(_)) => report::UnsolicitedSyn::Icmp,
                Some(Unsolicited::Reset | Unsolicited::OwnStack) | None => {
                    report::UnsolicitedSyn::Rst
                }
            }),
            inbound_syn_after_syn: Some(match inbound {
                None | Some(InboundSyn::Accept) => report::InboundSynAfterSyn::Accepted,
                Some(InboundSyn::Drop) => report::InboundSynAfterSyn::Dropped,
                Some(InboundSyn::Reset) => report::InboundSynAfterSyn::Rst,
            }),
            isn: Some(match rewritten {
                true => report::InitialSequence::Rewritten,
                false => report::InitialSequence::Preserved,
            }),
            ..TcpReport::default()
        }
    }

    /// A host reaches itself through the outermost box, or needs none.
    fn hairpins(&self) -> bool {
        self.boxes.last().is_none_or(|nat| match nat.behaviour.hairpin {
            Hairpin::Translated | Hairpin::Untranslated => true,
            Hairpin::Drop | Hairpin::Refuse => {
                nat.behaviour.udp.translation.mapping == Mapping::Identity
            }
        })
    }

    /// The boxes as one: each axis as its worst box has it.
    fn sight(&self, of: impl Fn(&Behaviour) -> Translation) -> Sight {
        let boxes = || self.boxes.iter().map(|nat| seen(&of(&nat.behaviour)));
        Sight {
            mapping: boxes()
                .map(|sight| sight.mapping)
                .max()
                .unwrap_or(report::Mapping::EndpointIndependent),
            filtering: boxes()
                .map(|sight| sight.filtering)
                .max()
                .unwrap_or(report::Filtering::EndpointIndependent),
            allocation: boxes()
                .map(|sight| sight.allocation)
                .max()
                .unwrap_or(report::PortAllocation::Preserved),
        }
    }
}

/// What a single host can tell about a translation.
struct Sight {
    mapping: report::Mapping,
    filtering: report::Filtering,
    allocation: report::PortAllocation,
}

fn seen(translation: &Translation) -> Sight {
    use report::{Filtering as Told, PortAllocation};
    let allocation = match (translation.mapping, translation.allocation) {
        (Mapping::Identity, _) | (_, Allocation::Preserved) => PortAllocation::Preserved,
        (_, Allocation::Offset(_)) => PortAllocation::Offset,
        (_, Allocation::Sequential { .. }) => PortAllocation::Sequential,
        (_, Allocation::Block { .. }) => PortAllocation::Block,
        (_, Allocation::Random { .. }) => PortAllocation::Random,
    };
    // A port that is kept, or moved by a constant, towards every destination looks like one mapping,
    // whatever the box's tables say.
    let constant = match translation.allocation {
        Allocation::Preserved => true,
        Allocation::Offset(_) => translation.sharing == Sharing::PerDestination,
        Allocation::Sequential { .. } | Allocation::Block { .. } | Allocation::Random { .. } => {
            false
        }
    };
    let mapping = match translation.mapping {
        Mapping::Identity | Mapping::EndpointIndependent => report::Mapping::EndpointIndependent,
        _ if constant && translation.sharing == Sharing::PerDestination => {
            report::Mapping::EndpointIndependent
        }
        Mapping::AddressDependent => report::Mapping::AddressDependent,
        Mapping::AddressAndPortDependent => report::Mapping::AddressAndPortDependent,
        Mapping::ConnectionDependent => report::Mapping::ConnectionDependent,
    };
    let filtering = match translation.filtering {
        Filtering::EndpointIndependent => Told::EndpointIndependent,
        Filtering::AddressDependent => Told::AddressDependent,
        Filtering::AddressAndPortDependent => Told::AddressAndPortDependent,
    };
    Sight { mapping, filtering, allocation }
}

#[cfg(test)]
mod tests {
    use super::*;

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
