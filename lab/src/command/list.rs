//! `ntcp-lab list`: the presets with their axes in words.

use std::io::Write as _;
use std::process::ExitCode;

use ntcp_lab::presets::{PRESETS, Preset, Site};
use ntcp_proto::nat::{Filtering, Mapping, NatReport, PortAllocation};
use serde::Serialize;

use super::Failure;

/// Settings and their values, as they are written after a preset.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("in", "drop reset admin port open late", "the answer to what nobody asked for; late is 6 s"),
    ("syn", "accept strict reset", "an inbound SYN after an outbound one"),
    ("udp", "pass block", "whether UDP passes"),
    ("rst", "ignore shorten delete kill", "the effect of an inbound RST"),
    ("ttlx", "forward kill block", "the effect of ICMP time exceeded on TCP"),
    ("unreach", "forward kill block", "the effect of ICMP unreachable on TCP"),
    ("hairpin", "drop refuse yes raw", "packets from inside to the outside address"),
    ("isn", "keep rewrite", "TCP sequence numbers"),
    ("window", "strict liberal off", "how closely TCP is watched"),
    ("invalid", "drop leak", "what becomes of packets that tracking calls invalid"),
    ("loose", "yes no", "whether TCP is picked up in the middle"),
    ("map", "ei ad apd cd", "what the outside port depends on"),
    ("filter", "ei ad apd", "whose packets come in"),
    ("ports", "preserved offset seq block band parity random", "how outside ports are chosen"),
    ("share", "yes no", "one outside port towards several destinations"),
    ("hole", "56 120", "seconds an unanswered TCP flow lives; any number"),
    ("idle", "240 7440", "seconds an idle open TCP flow lives; any number"),
    ("limit", "64 512", "mappings of one host; any number"),
    ("pace", "20 200", "new flows of one host in a second; any number"),
    ("ttl", "decrement keep reset report silent", "the TTL, and whether its end is told"),
];

/// Show the NAT presets and the settings that change them.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A preset for programs.
#[derive(Debug, Serialize)]
struct Entry {
    name: &'static str,
    about: &'static str,
    declared: NatReport,
}

impl Entry {
    fn new(preset: &'static Preset) -> Option<Self> {
        let site: Site = preset.name.parse().ok()?;
        Some(Self { name: preset.name, about: preset.about, declared: site.declared() })
    }
}

impl List {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let entries: Vec<Entry> = PRESETS.iter().filter_map(Entry::new).collect();
        let mut out = std::io::stdout().lock();
        if self.json {
            let text = serde_json::to_string_pretty(&entries).map_err(std::io::Error::other)?;
            writeln!(out, "{text}")?;
            return Ok(ExitCode::SUCCESS);
        }
        writeln!(
            out,
            "{:<21} {:<14} {:<14} {:<11} what it is",
            "preset", "outside port", "lets in", "ports"
        )?;
        for entry in &entries {
            let told = &entry.declared.udp;
            writeln!(
                out,
                "{:<21} {:<14} {:<14} {:<11} {}",
                entry.name,
                told.mapping.map_or("", mapping),
                told.filtering.map_or("", filtering),
                told.port_allocation.map_or("", allocation),
                entry.about
            )?;
        }
        writeln!(out, "\nSettings follow a preset after commas, a carrier's box after @:")?;
        writeln!(out, "  masq,in=reset,syn=strict@linux-random\n")?;
        for (name, values, about) in SETTINGS {
            writeln!(out, "  {name:<8} {values:<46} {about}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn mapping(mapping: Mapping) -> &'static str {
    match mapping {
        Mapping::EndpointIndependent => "one for all",
        Mapping::AddressDependent => "per address",
        Mapping::AddressAndPortDependent => "per end",
        Mapping::ConnectionDependent => "per connection",
    }
}

fn filtering(filtering: Filtering) -> &'static str {
    match filtering {
        Filtering::EndpointIndependent => "everybody",
        Filtering::AddressDependent => "known address",
        Filtering::AddressAndPortDependent => "known end",
        Filtering::Unknown => "unknown",
    }
}

fn allocation(allocation: PortAllocation) -> &'static str {
    match allocation {
        PortAllocation::Preserved => "kept",
        PortAllocation::Offset => "moved",
        PortAllocation::Sequential => "sequential",
        PortAllocation::Block => "in a block",
        PortAllocation::Random => "random",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_shown_is_understood() {
        for (name, values, _) in SETTINGS {
            for value in values.split(' ') {
                let site = format!("masq,{name}={value}");
                assert!(site.parse::<Site>().is_ok(), "{site}");
            }
        }
    }
}
