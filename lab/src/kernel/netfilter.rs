//! A [`Behaviour`] as rules of netfilter: a pure function from a box to the text that `nft` reads.
//!
//! What masquerade does by itself needs few rules. Endpoint-independent and address-dependent
//! mappings are made from dynamic maps:
//!
//! ```text
//! prerouting   (dstnat)   destination := @inside[public port]            inbound, new flows
//! forward                 in only if @permit holds the sender            filtering
//! postrouting  (srcnat)   source port := @public[inside end], or a new one
//! record       (after it) @public, @inside, @permit learn what was done
//! ```
//!
//! A packet refused in `forward` never becomes a connection-tracking entry, so it leaves no trace.
//! What these means cannot express is named in [`Error::NotInNetfilter`]; the lab's own NAT does it.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::nat::behaviour::{
    Allocation, Behaviour, Filtering, Hairpin, IcmpEffect, InboundSyn, Invalid, Mapping, MidStream,
    Passage, Pooling, RstEffect, SequenceNumbers, TcpTimers, TimeExceeded, Tracking, Translation,
    Ttl, Unsolicited,
};
use crate::packet::IcmpError;

use super::error::{Error, Result};
use super::plan::{BoxPlan, LAN, WAN};

/// Ports that sequential allocation goes through before it begins again. An unprivileged process
/// cannot send a larger table to the kernel in one message.
const SEQUENCE: u16 = 1024;
/// The mark of packets that came from inside.
const FROM_INSIDE: &str = "0x1";

/// What makes a namespace a box.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// What `nft -f -` reads.
    pub(super) ruleset: String,
    /// Files below `/proc/sys/net`, and what to write there, where it is not the default.
    pub(super) settings: Vec<(&'static str, String)>,
}

/// The rules of a box.
///
/// # Errors
/// [`Error::NotInNetfilter`] names the first axis that is out of reach.
pub(super) fn rules(nat: &BoxPlan) -> Result<Rules> {
    if let Some(axis) = out_of_reach(&nat.behaviour) {
        return Err(Error::NotInNetfilter { preset: nat.preset.clone(), axis });
    }
    let sides = [Side::new("udp", nat), Side::new("tcp", nat)];
    let mut text = String::from("table ip ntcp {\n");
    for side in sides.iter().filter(|side| side.records()) {
        side.tables(&mut text);
    }
    let chains =
        [prerouting(&sides), forward(nat, &sides), input(nat), postrouting(&sides), record(&sides)];
    for chain in chains {
        text.push_str(&chain);
    }
    text.push_str(&refuse(&nat.behaviour));
    text.push_str(&output(&nat.behaviour));
    text.push_str("}\n");
    text.push_str(FIREWALL_V6);
    Ok(Rules { ruleset: text, settings: settings(&nat.behaviour) })
}

/// IPv6 is never translated here; the box lets in only what was asked for.
pub(super) const FIREWALL_V6: &str = "\
table ip6 ntcp {
  chain forward { type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname \"lan\" accept
  }
}
";

/// The first axis that netfilter cannot do, in words.
pub(super) fn out_of_reach(nat: &Behaviour) -> Option<String> {
    let (udp, tcp) = (&nat.udp, &nat.tcp);
    let wrong = [udp.translation, tcp.translation].into_iter().find_map(|translation| {
        match (translation.mapping, translation.allocation) {
            (Mapping::ConnectionDependent, _) => Some("a mapping per connection".to_owned()),
            (_, Allocation::Offset(offset)) => Some(format!("ports moved by {offset}")),
            (_, Allocation::Sequential { step, .. }) if step > 32 => Some(format!("step {step}")),
            _ => None,
        }
    });
    let others = [
        (nat.pooling == Pooling::Arbitrary, "several outside addresses"),
        (udp.icmp == IcmpEffect::DeleteMapping, "ICMP errors that delete a UDP mapping"),
        (tcp.time_exceeded == IcmpEffect::DeleteMapping, "ICMP errors that delete a mapping"),
        (tcp.unreachable == IcmpEffect::DeleteMapping, "ICMP errors that delete a mapping"),
        (tcp.rst != RstEffect::Delete, "another effect of RST than conntrack's"),
        (tcp.tracking == Tracking::None, "TCP without tracking of states"),
        (tcp.sequence_numbers == SequenceNumbers::Rewritten, "rewriting of sequence numbers"),
        (nat.ttl != Ttl::Decrement, "another TTL than one less"),
        (nat.limits != Default::default(), "limits per host"),
    ];
    let other = others.into_iter().find(|(it, _)| *it).map(|(_, axis)| axis.to_owned());
    wrong.or(other)
}

/// One transport's part of a box.
struct Side<'a> {
    transport: &'static str,
    translation: Translation,
    nat: &'a BoxPlan,
}

impl<'a> Side<'a> {
    fn new(transport: &'static str, nat: &'a BoxPlan) -> Self {
        let behaviour = &nat.behaviour;
        let translation = match transport {
            "udp" => behaviour.udp.translation,
            _ => behaviour.tcp.translation,
        };
        Self { transport, translation, nat }
    }

    fn translates(&self) -> bool {
        self.translation.mapping != Mapping::Identity
    }

    /// Connection tracking alone gives a mapping and a filter per remote end; all else is recorded.
    fn records(&self) -> bool {
        self.keeps_mapping()
            || self.translation.filtering != Filtering::AddressAndPortDependent
            || self.hairpins()
    }

    /// A mapping outlives the flow that made it.
    fn keeps_mapping(&self) -> bool {
        matches!(self.translation.mapping, Mapping::EndpointIndependent | Mapping::AddressDependent)
    }

    fn hairpins(&self) -> bool {
        matches!(self.nat.behaviour.hairpin, Hairpin::Translated | Hairpin::Untranslated)
    }

    /// Seconds after which a mapping nobody uses is forgotten.
    fn lifetime(&self) -> u64 {
        let behaviour = &self.nat.behaviour;
        match self.transport {
            "udp" => behaviour.udp.answered.as_secs(),
            // A mapping per endpoint has no state of its own; two hours and four minutes is the
            // least that RFC 5382 REQ-5 grants an established connection.
            _ => behaviour.tcp.timers.established.as_secs().min(7440),
        }
    }

    /// The maps and sets.
    fn tables(&self, text: &mut String) {
        let t = self.transport;
        let timeout = format!("flags dynamic,timeout; timeout {}s; size 65535;", self.lifetime());
        let end = "ipv4_addr . inet_service";
        let key = match self.translation.mapping {
            Mapping::AddressDependent => format!("{end} . ipv4_addr"),
            _ => end.to_owned(),
        };
        let permit = match self.translation.filtering {
            Filtering::EndpointIndependent => end.to_owned(),
            Filtering::AddressDependent => format!("{end} . ipv4_addr"),
            Filtering::AddressAndPortDependent => format!("{end} . {end}"),
        };
        let _ = write!(
            text,
            "  map public_{t} {{ type {key} : inet_service; {timeout} }}
  map inside_{t} {{ type inet_service : {end}; {timeout} }}
  set known_{t} {{ type {key}; {timeout} }}
  set taken_{t} {{ type inet_service; {timeout} }}
  set permit_{t} {{ type {permit}; {timeout} }}
"
        );
    }

    /// The key of the public port, once the source is translated.
    fn key_of_original(&self) -> &'static str {
        match self.translation.mapping {
            Mapping::AddressDependent => {
                "ct original ip saddr . ct original proto-src . ct original ip daddr"
            }
            _ => "ct original ip saddr . ct original proto-src",
        }
    }

    /// The same before it is translated.
    fn key_of_packet(&self) -> String {
        let t = self.transport;
        match self.translation.mapping {
            Mapping::AddressDependent => format!("ip saddr . {t} sport . ip daddr"),
            _ => format!("ip saddr . {t} sport"),
        }
    }

    /// What the permission of a packet to come in is looked up by.
    fn permit_of_packet(&self) -> String {
        let t = self.transport;
        match self.translation.filtering {
            Filtering::EndpointIndependent => format!("ip daddr . {t} dport"),
            Filtering::AddressDependent => format!("ip daddr . {t} dport . ip saddr"),
            Filtering::AddressAndPortDependent => {
                format!("ip daddr . {t} dport . ip saddr . {t} sport")
            }
        }
    }

    /// The statements that give a new flow its public port, as right-hand sides of a rule.
    fn allocations(&self) -> Vec<String> {
        let (t, outside) = (self.transport, self.nat.outside);
        let snat = |ports: &str| format!("snat ip to {outside} : {ports}");
        match self.translation.allocation {
            Allocation::Preserved if self.keeps_mapping() => vec![
                format!("{t} sport != @taken_{t} snat ip to {outside}"),
                snat("1024-65535 fully-random"),
            ],
            Allocation::Preserved | Allocation::Offset(_) => vec![format!("snat ip to {outside}")],
            Allocation::Random { low, high } => vec![snat(&format!("{low}-{high} fully-random"))],
            Allocation::Sequential { first, step } => {
                vec![snat(&format!("numgen inc mod {SEQUENCE} map {{ {} }}", steps(first, step)))]
            }
            Allocation::Block { first, size } => self.blocks(first, size),
        }
    }

    /// One block of ports for each host behind the box.
    fn blocks(&self, first: u16, size: u16) -> Vec<String> {
        let outside = self.nat.outside;
        let block = |(n, host): (usize, &Ipv4Addr)| {
            let low = usize::from(first) + n * usize::from(size);
            let high = low + usize::from(size) - 1;
            format!("ip saddr {host} snat ip to {outside} : {low}-{high} fully-random")
        };
        self.nat.members.iter().enumerate().map(block).collect()
    }
}

/// The elements of the map from a counter to ports.
fn steps(first: u16, step: u16) -> String {
    let port = |n: u16| format!("{n} : {}", u32::from(first) + u32::from(n) * u32::from(step));
    (0..SEQUENCE).map(port).collect::<Vec<_>>().join(", ")
}

fn prerouting(sides: &[Side<'_>]) -> String {
    let mut text = String::from(
        "  chain origin { type filter hook prerouting priority mangle;\n    \
         iifname \"lan\" meta mark set 0x1\n  }\n  \
         chain prerouting { type nat hook prerouting priority dstnat;\n",
    );
    for side in sides.iter().filter(|side| side.records() && side.translates()) {
        let (t, outside) = (side.transport, side.nat.outside);
        let from = if side.hairpins() { "" } else { "iifname \"wan\" " };
        let _ = writeln!(
            text,
            "    {from}ip daddr {outside} meta l4proto {t} dnat ip to {t} dport map @inside_{t}"
        );
    }
    text + "  }\n"
}

fn forward(nat: &BoxPlan, sides: &[Side<'_>]) -> String {
    let behaviour = &nat.behaviour;
    let mut text =
        String::from("  chain forward { type filter hook forward priority filter; policy drop;\n");
    let mut rule = |rule: &str| {
        let _ = writeln!(text, "    {rule}");
    };
    if behaviour.udp.passage == Passage::Blocked {
        rule("meta l4proto udp drop");
    }
    if behaviour.tcp.invalid == Invalid::Drop {
        rule("ct state invalid drop");
    } else {
        rule("iifname \"lan\" ct state invalid accept");
    }
    let crossing = "iifname \"wan\" ct direction reply tcp flags & (syn | ack) == syn";
    match behaviour.tcp.inbound_syn {
        InboundSyn::Accept => {}
        InboundSyn::Drop => rule(&format!("{crossing} drop")),
        InboundSyn::Reset => rule(&format!("{crossing} reject with tcp reset")),
    }
    for (effect, kind) in [
        (behaviour.tcp.time_exceeded, "time-exceeded"),
        (behaviour.tcp.unreachable, "destination-unreachable"),
    ] {
        if effect == IcmpEffect::Block {
            rule(&format!("iifname \"wan\" icmp type {kind} drop"));
        }
    }
    rule("ct state established,related accept");
    rule("iifname \"lan\" oifname \"wan\" accept");
    for side in sides.iter().filter(|side| side.records()) {
        let (t, permit) = (side.transport, side.permit_of_packet());
        let mapped = if side.translates() { "ct status dnat " } else { "" };
        rule(&format!("iifname \"wan\" {mapped}meta l4proto {t} {permit} @permit_{t} accept"));
        if side.hairpins() {
            // The sender's public port is known only further on, in `record`.
            rule(&format!(
                "iifname \"lan\" oifname \"lan\" ct status dnat meta l4proto {t} accept"
            ));
        }
    }
    rule("iifname \"wan\" jump refuse");
    text + "  }\n"
}

fn input(nat: &BoxPlan) -> String {
    let outside = nat.outside;
    let hairpin = match nat.behaviour.hairpin {
        Hairpin::Drop => format!("iifname \"{LAN}\" ip daddr {outside} drop\n    "),
        Hairpin::Refuse | Hairpin::Translated | Hairpin::Untranslated => String::new(),
    };
    let own_stack = |answer| answer == Unsolicited::OwnStack;
    let mut accept = String::new();
    for (t, answer) in
        [("udp", nat.behaviour.udp.unsolicited), ("tcp", nat.behaviour.tcp.unsolicited)]
    {
        if own_stack(answer) {
            let _ = write!(accept, "meta l4proto {t} accept\n    ");
        }
    }
    format!(
        "  chain input {{ type filter hook input priority filter; policy drop;
    iifname \"lo\" accept
    ct state established,related accept
    {hairpin}iifname \"{LAN}\" accept
    {accept}iifname \"{WAN}\" jump refuse
  }}\n"
    )
}

fn postrouting(sides: &[Side<'_>]) -> String {
    let mut text =
        String::from("  chain postrouting { type nat hook postrouting priority srcnat;\n");
    for side in sides.iter().filter(|side| side.translates()) {
        let (t, outside) = (side.transport, side.nat.outside);
        let hairpin = side.nat.behaviour.hairpin == Hairpin::Translated;
        // Only flows between two inside hosts leave towards `lan` with this mark.
        let ways: &[&str] = if hairpin && side.records() { &[WAN, LAN] } else { &[WAN] };
        for way in ways {
            let new = format!("oifname \"{way}\" meta mark {FROM_INSIDE} meta l4proto {t}");
            if side.keeps_mapping() {
                let key = side.key_of_packet();
                let _ = writeln!(text, "    {new} snat ip to {outside} : {key} map @public_{t}");
            }
            for allocation in side.allocations() {
                let _ = writeln!(text, "    {new} {allocation}");
            }
        }
    }
    if let Some(side) = sides.iter().find(|side| side.translates()) {
        let outside = side.nat.outside;
        let _ = writeln!(text, "    oifname \"{WAN}\" meta l4proto icmp snat ip to {outside}");
    }
    text + "  }\n"
}

fn record(sides: &[Side<'_>]) -> String {
    let mut text =
        String::from("  chain record { type filter hook postrouting priority srcnat + 50;\n");
    for side in sides.iter().filter(|side| side.records()) {
        let t = side.transport;
        let _ = writeln!(text, "    meta mark {FROM_INSIDE} meta l4proto {t} jump record_{t}");
    }
    text.push_str("  }\n");
    let mut chains = String::new();
    for side in sides.iter().filter(|side| side.records()) {
        chains.push_str(&record_side(side));
    }
    chains + &text
}

/// What is learnt from a packet of one transport that came from inside.
fn record_side(side: &Side<'_>) -> String {
    let t = side.transport;
    let key = side.key_of_original();
    let original = "ct original ip saddr . ct original proto-src";
    let to = match side.translation.filtering {
        Filtering::EndpointIndependent => "",
        Filtering::AddressDependent => " . ct original ip daddr",
        Filtering::AddressAndPortDependent => " . ct original ip daddr . ct original proto-dst",
    };
    // In a flow begun outside, the inside end is the source of the reply direction.
    let back = match side.translation.filtering {
        Filtering::EndpointIndependent => "",
        Filtering::AddressDependent => " . ct original ip saddr",
        Filtering::AddressAndPortDependent => " . ct original ip saddr . ct original proto-src",
    };
    let mut text = format!("  chain record_{t} {{\n");
    let mut rule = |rule: String| {
        let _ = writeln!(text, "    {rule}");
    };
    let reply = "ct reply ip saddr . ct reply proto-src";
    rule(format!("meta l4proto {t} ct direction reply update @permit_{t} {{ {reply}{back} }}"));
    rule("ct direction reply return".into());
    if side.translates() {
        if side.keeps_mapping() {
            // Two inside ends must not share a port. The refused packet leaves no trace, and its
            // repetition tries another port.
            rule(format!("meta l4proto {t} {key} != @known_{t} {t} sport @taken_{t} drop"));
            rule(format!("meta l4proto {t} update @public_{t} {{ {key} : {t} sport }}"));
            rule(format!("meta l4proto {t} update @known_{t} {{ {key} }}"));
            rule(format!("meta l4proto {t} update @taken_{t} {{ {t} sport }}"));
        }
        if side.nat.behaviour.hairpin == Hairpin::Untranslated {
            rule("oifname \"lan\" return".into());
        }
        rule(format!("meta l4proto {t} update @inside_{t} {{ {t} sport : {original} }}"));
    }
    rule(format!("meta l4proto {t} update @permit_{t} {{ {original}{to} }}"));
    if side.hairpins() {
        let permit = side.permit_of_packet();
        rule(format!("meta l4proto {t} oifname \"lan\" {permit} != @permit_{t} drop"));
    }
    text + "  }\n"
}

/// The answer to what nobody asked for.
fn refuse(nat: &Behaviour) -> String {
    let mut text = String::from("  chain refuse {\n");
    for (t, answer) in [("udp", nat.udp.unsolicited), ("tcp", nat.tcp.unsolicited)] {
        let statement = match (answer, t) {
            (Unsolicited::Silent, _) => "drop",
            (Unsolicited::Reset | Unsolicited::OwnStack, "tcp") => "reject with tcp reset",
            (Unsolicited::Reset | Unsolicited::OwnStack, _) => {
                "reject with icmp type port-unreachable"
            }
            (Unsolicited::Icmp(error), _) => match error {
                IcmpError::AdminProhibited => "reject with icmp type admin-prohibited",
                IcmpError::PortUnreachable => "reject with icmp type port-unreachable",
                _ => "reject with icmp type host-unreachable",
            },
        };
        let _ = writeln!(text, "    meta l4proto {t} {statement}");
    }
    text + "  }\n"
}

fn output(nat: &Behaviour) -> String {
    match nat.time_exceeded {
        TimeExceeded::Report => String::new(),
        TimeExceeded::Silent => "  chain output { type filter hook output priority filter;\n    \
             icmp type time-exceeded drop\n  }\n"
            .to_owned(),
    }
}

fn settings(nat: &Behaviour) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    if nat.tcp.tracking == Tracking::LiberalWindow {
        settings.push(("netfilter/nf_conntrack_tcp_be_liberal", "1".to_owned()));
    }
    if nat.tcp.mid_stream == MidStream::Refuse {
        settings.push(("netfilter/nf_conntrack_tcp_loose", "0".to_owned()));
    }
    let usual = Behaviour::masquerade();
    let timers = TcpTimers::default();
    let own = nat.tcp.timers;
    for (file, usual, own) in [
        ("netfilter/nf_conntrack_udp_timeout", usual.udp.unanswered, nat.udp.unanswered),
        ("netfilter/nf_conntrack_udp_timeout_stream", usual.udp.answered, nat.udp.answered),
        ("netfilter/nf_conntrack_tcp_timeout_syn_sent", timers.syn_sent, own.syn_sent),
        ("netfilter/nf_conntrack_tcp_timeout_syn_recv", timers.syn_received, own.syn_received),
        ("netfilter/nf_conntrack_tcp_timeout_established", timers.established, own.established),
        ("netfilter/nf_conntrack_tcp_timeout_fin_wait", timers.closing, own.closing),
        ("netfilter/nf_conntrack_tcp_timeout_close", timers.closed, own.closed),
    ] {
        if own != usual {
            settings.push((file, own.as_secs().to_string()));
        }
    }
    settings
}
