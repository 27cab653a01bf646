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

use crate::nat::behaviour::{
    Allocation, Behaviour, Filtering, Hairpin, IcmpEffect, InboundSyn, Invalid, Mapping, MidStream,
    Passage, Pooling, RstEffect, SequenceNumbers, Sharing, TcpTimers, TimeExceeded, Tracking, Ttl,
    Unsolicited,
};
use crate::packet::IcmpError;

use super::error::{Error, Result};
use super::plan::{BoxPlan, LAN, WAN};
use super::topology::Ipv6;

mod side;

use side::Side;

/// The mark of packets that came from inside.
const FROM_INSIDE: &str = "0x1";

/// A SYN from outside in a flow that was begun inside.
macro_rules! crossing {
    () => {
        "iifname \"wan\" ct direction reply tcp flags & (syn | ack) == syn"
    };
}

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
    text.push_str(&firewall_v6(nat));
    Ok(Rules { ruleset: text, settings: settings(&nat.behaviour) })
}

/// IPv6 is never translated here; the box lets in only what was asked for, and treats SYNs, strangers and
/// what tracking calls invalid as it does over IPv4.
pub(super) fn firewall_v6(nat: &BoxPlan) -> String {
    if nat.ipv6 == Ipv6::Off {
        return String::new();
    }
    let (udp, tcp) = (&nat.behaviour.udp, &nat.behaviour.tcp);
    let mut rules = Vec::new();
    if udp.passage == Passage::Blocked {
        rules.push("meta l4proto udp drop");
    }
    if tcp.invalid == Invalid::Drop {
        rules.push("ct state invalid drop");
    }
    match tcp.inbound_syn {
        InboundSyn::Accept => {}
        InboundSyn::Drop => rules.push(concat!(crossing!(), " drop")),
        InboundSyn::Reset => rules.push(concat!(crossing!(), " reject with tcp reset")),
    }
    rules.extend(["ct state established,related accept", "iifname \"lan\" accept"]);
    match tcp.unsolicited {
        Unsolicited::Reset | Unsolicited::OwnStack => {
            rules.push("meta l4proto tcp reject with tcp reset");
        }
        Unsolicited::Icmp(_) => rules.push("meta l4proto tcp reject with icmpv6 admin-prohibited"),
        Unsolicited::Silent | Unsolicited::Late => {}
    }
    let rules = rules.join("\n    ");
    format!(
        "table ip6 ntcp {{
  chain forward {{ type filter hook forward priority filter; policy drop;
    {rules}
  }}
}}
"
    )
}

/// The first axis that netfilter cannot do, in words.
pub(super) fn out_of_reach(nat: &Behaviour) -> Option<String> {
    let (udp, tcp) = (&nat.udp, &nat.tcp);
    let wrong = [udp.translation, tcp.translation].into_iter().find_map(|translation| {
        match (translation.mapping, translation.allocation) {
            (Mapping::ConnectionDependent, _) => Some("a mapping per connection".to_owned()),
            (_, Allocation::Offset(offset)) => Some(format!("ports moved by {offset}")),
            (Mapping::AddressAndPortDependent, Allocation::Preserved)
                if translation.sharing == Sharing::Exclusive =>
            {
                Some("a kept port for one destination alone".to_owned())
            }
            (_, Allocation::Parity) => Some("ports of the same parity".to_owned()),
            (_, Allocation::Sequential { step, .. }) if step > 32 => Some(format!("step {step}")),
            _ => None,
        }
    });
    // The tables hold ports; of which address is known only while there is but one.
    let recorded = [udp.translation, tcp.translation].into_iter().any(|it| side::records(it, nat));
    let recorded_pool = recorded && nat.pooling == Pooling::Arbitrary;
    let others = [
        (recorded_pool, "several outside addresses for mappings that outlive their flow"),
        (udp.icmp == IcmpEffect::DeleteMapping, "ICMP errors that delete a UDP mapping"),
        (tcp.time_exceeded == IcmpEffect::DeleteMapping, "ICMP errors that delete a mapping"),
        (tcp.unreachable == IcmpEffect::DeleteMapping, "ICMP errors that delete a mapping"),
        (tcp.rst != RstEffect::Delete, "another effect of RST than conntrack's"),
        (tcp.tracking == Tracking::None, "TCP without tracking of states"),
        (tcp.sequence_numbers == SequenceNumbers::Rewritten, "rewriting of sequence numbers"),
        (nat.ttl != Ttl::Decrement, "another TTL than one less"),
        (tcp.unsolicited == Unsolicited::Late, "answers that come late"),
        (nat.limits != Default::default(), "limits per host"),
    ];
    let other = others.into_iter().find(|(it, _)| *it).map(|(_, axis)| axis.to_owned());
    wrong.or(other)
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
    match behaviour.tcp.inbound_syn {
        InboundSyn::Accept => {}
        InboundSyn::Drop => rule(concat!(crossing!(), " drop")),
        InboundSyn::Reset => rule(concat!(crossing!(), " reject with tcp reset")),
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
            // Answers that come late are out of reach.
            (Unsolicited::Silent | Unsolicited::Late, _) => "drop",
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::kernel::topology::Form;
    use crate::presets::Site;

    /// The rules of a preset.
    fn of(preset: &str) -> Result<Rules> {
        let site: Site = preset.parse().unwrap();
        rules(&BoxPlan {
            space: "nat-a".into(),
            preset: preset.into(),
            behaviour: site.boxes[0].behaviour,
            form: Form::Netfilter,
            ipv6: Ipv6::Off,
            inside: Ipv4Addr::new(192, 168, 1, 1),
            outside: Ipv4Addr::new(203, 0, 113, 18),
            spare: Vec::new(),
            members: vec![Ipv4Addr::new(192, 168, 1, 10), Ipv4Addr::new(192, 168, 1, 11)],
        })
    }

    /// One chain of the rules, without indentation.
    fn chain(preset: &str, name: &str) -> Vec<String> {
        let text = of(preset).unwrap().ruleset;
        let lines = text.lines().map(str::trim);
        let body = lines.skip_while(|line| !line.starts_with(&format!("chain {name} {{"))).skip(1);
        body.take_while(|line| *line != "}").map(str::to_owned).collect()
    }

    #[test]
    fn masquerade_needs_no_tables() {
        let text = of("linux-masq").unwrap().ruleset;
        assert!(!text.contains("map ") && !text.contains("set permit"), "{text}");
        assert_eq!(
            chain("linux-masq", "forward"),
            [
                "ct state invalid drop",
                "ct state established,related accept",
                "iifname \"lan\" oifname \"wan\" accept",
                "iifname \"wan\" jump refuse",
            ]
        );
        assert_eq!(
            chain("linux-masq", "refuse"),
            ["meta l4proto udp drop", "meta l4proto tcp drop"]
        );
    }

    #[test]
    fn answers_to_what_nobody_asked_for_follow_the_setting() {
        assert_eq!(
            chain("masq,in=reset", "refuse"),
            [
                "meta l4proto udp reject with icmp type port-unreachable",
                "meta l4proto tcp reject with tcp reset",
            ]
        );
        let admin = "meta l4proto tcp reject with icmp type admin-prohibited";
        assert_eq!(chain("masq,in=admin", "refuse")[1], admin);
        assert!(chain("masq,in=open", "input").contains(&"meta l4proto udp accept".to_owned()));
    }

    #[test]
    fn the_filter_of_a_cone_is_one_lookup() {
        for (preset, key) in [
            ("full-cone", "ip daddr . udp dport"),
            ("restricted", "ip daddr . udp dport . ip saddr"),
            ("port-restricted", "ip daddr . udp dport . ip saddr . udp sport"),
        ] {
            let rule =
                format!("iifname \"wan\" ct status dnat meta l4proto udp {key} @permit_udp accept");
            assert!(chain(preset, "forward").contains(&rule), "{preset}");
        }
    }

    #[test]
    fn each_host_has_a_block_of_its_own() {
        let rules = chain("symmetric-block", "postrouting").join(" ");
        assert!(rules.contains("ip saddr 192.168.1.10 snat ip to 203.0.113.18 : 30000-30511"));
        assert!(rules.contains("ip saddr 192.168.1.11 snat ip to 203.0.113.18 : 30512-31023"));
    }

    #[test]
    fn only_settings_that_differ_from_the_kernels_are_written() {
        assert_eq!(of("masq").unwrap().settings, []);
        assert_eq!(
            of("masq,window=liberal,loose=no").unwrap().settings,
            [
                ("netfilter/nf_conntrack_tcp_be_liberal", "1".to_owned()),
                ("netfilter/nf_conntrack_tcp_loose", "0".to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_out_of_reach_is_named() {
        for (preset, axis) in [
            ("connection-dependent", "per connection"),
            ("offset-cone", "moved by 10000"),
            ("pool-arbitrary,map=ei", "several outside addresses"),
            ("masq,isn=rewrite", "sequence numbers"),
            ("masq,rst=kill", "RST"),
            ("masq,ttlx=kill", "ICMP"),
            ("masq,ttl=keep", "TTL"),
            ("masq,window=off", "tracking"),
        ] {
            let error = of(preset).unwrap_err().to_string();
            assert!(error.contains(axis) && error.contains(preset), "{error}");
        }
    }
}
