//! The language that names what stands between a host and the internet.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{PRESETS, Preset, band, block, exclusive, ports, random, sequential, shared};
use crate::nat::behaviour::{
    Allocation, Behaviour, Filtering, Hairpin, IcmpEffect, InboundSyn, Invalid, Mapping, MidStream,
    Passage, RstEffect, SequenceNumbers, TimeExceeded, Tracking, Ttl, Unsolicited,
};
use crate::packet::IcmpError;

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
        ("share", "no") => *nat = exclusive(*nat),
        ("share", "yes") => *nat = shared(*nat),
        ("hole", value) => nat.tcp.timers.syn_sent = seconds(value)?,
        ("idle", value) => nat.tcp.timers.established = seconds(value)?,
        ("limit", value) => nat.limits.mappings_per_host = value.parse().ok()?,
        ("pace", value) => nat.limits.new_flows_per_second = value.parse().ok()?,
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

fn seconds(value: &str) -> Option<Duration> {
    value.parse().ok().filter(|count| *count > 0).map(Duration::from_secs)
}

fn unsolicited(value: &str) -> Option<Unsolicited> {
    Some(match value {
        "drop" => Unsolicited::Silent,
        "reset" => Unsolicited::Reset,
        "admin" => Unsolicited::Icmp(IcmpError::AdminProhibited),
        "port" => Unsolicited::Icmp(IcmpError::PortUnreachable),
        "open" => Unsolicited::OwnStack,
        "late" => Unsolicited::Late,
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
        "band" => band(),
        "parity" => Allocation::Parity,
        _ => return None,
    })
}
