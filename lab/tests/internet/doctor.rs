//! What the discovery says about every site is what the site is.

use std::time::Duration;

use ntcp_lab::host::Privileges;
use ntcp_lab::link::Quality;
use ntcp_lab::meeting;
use ntcp_lab::presets::{SITES, Site};
use ntcp_lab::world::World;
use ntcp_proto::Owner;
use ntcp_proto::discover::{self, Config, Discovery, Event, Findings};
use ntcp_proto::nat::{InboundSynAfterSyn, InitialSequence, Mapping, NatReport};
use ntcp_proto::uri::HostPort;

/// Captures are permitted.
const RAW: Privileges = Privileges { raw: true, admin: false };
/// Connections may be assumed.
const ADMIN: Privileges = Privileges { raw: false, admin: true };

fn clean() -> Quality {
    Quality::delay(Duration::from_millis(10))
}

fn lossy() -> Quality {
    clean().with_loss(0.03)
}

fn diagnose(site: &Site, seed: u64, access: Quality) -> (Findings, Duration) {
    diagnose_with((Privileges::NONE, None), site, seed, access)
}

fn diagnose_with(
    (privileges, timers): (Privileges, Option<Duration>),
    site: &Site,
    seed: u64,
    access: Quality,
) -> (Findings, Duration) {
    let mut world = World::new(seed);
    meeting::serve(&mut world, access);
    let site = world.site("a", site, access);
    let host = world.host(site, "a");
    world.grant(host, privileges);
    let server = |host: &str| HostPort { host: host.into(), port: None };
    let config = Config {
        // The hosts of the lab choose their numbers as Linux does.
        sequence_clock: Some(discover::LINUX_SEQUENCE_CLOCK),
        timers,
        limit: timers.map_or(discover::DEFAULT_LIMIT, |longest| longest + Duration::from_secs(10)),
        ..Config::new(vec![server("stun1"), server("stun2")])
    };
    let discovery = Discovery::new(config, Owner(1), world.draw_seed(), world.now());
    let process = world.run(host, discovery);
    let finished = |world: &mut World| {
        let event = world.events(process).last()?.clone();
        match event {
            (at, Event::Finished(findings)) => Some((*findings, at)),
            (_, Event::Reachable { .. }) => None,
        }
    };
    let patience = timers.unwrap_or_default() + Duration::from_secs(20);
    world.advance_until(patience, |world| finished(world).is_some());
    let found = finished(&mut world).expect("a discovery ends");
    world.assert_finished(process);
    found
}

/// What was found, as far as it contradicts what the site is.
fn contradictions(declared: &NatReport, found: &NatReport) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |what: &str, declared: String, found: Option<String>| {
        if let Some(found) = found
            && found != declared
        {
            wrong.push(format!("{what}: is {declared}, found {found}"));
        }
    };
    macro_rules! axis {
        ($($path:tt).+) => {
            if let Some(is) = &declared.$($path).+ {
                let found = found.$($path).+.as_ref().map(|it| format!("{it:?}"));
                check(stringify!($($path).+), format!("{is:?}"), found);
            }
        };
    }
    axis!(nat);
    axis!(udp.mapping);
    axis!(udp.filtering);
    axis!(udp.port_allocation);
    axis!(udp.hairpin);
    axis!(tcp.mapping);
    axis!(tcp.filtering);
    axis!(tcp.port_allocation);
    axis!(tcp.hairpin);
    axis!(tcp.unsolicited_syn);
    axis!(tcp.inbound_syn_after_syn);
    axis!(tcp.isn);
    check(
        "udp.reachable",
        format!("{}", declared.udp.reachable),
        Some(format!("{}", found.udp.reachable)),
    );
    wrong
}

/// What our own server lets be measured over TCP, and was not.
fn unmeasured(found: &NatReport) -> impl Iterator<Item = &'static str> {
    let tcp = &found.tcp;
    // The server's SYN can only be aimed where the port does not depend on the server's.
    let is_aimed =
        matches!(tcp.mapping, Some(Mapping::EndpointIndependent | Mapping::AddressDependent));
    let axes = [
        ("mapping", tcp.mapping.is_none()),
        ("filtering", tcp.filtering.is_none()),
        ("port_allocation", tcp.port_allocation.is_none()),
        ("hairpin", tcp.hairpin.is_none()),
        ("unsolicited_syn", tcp.unsolicited_syn.is_none()),
        ("inbound_syn_after_syn", is_aimed && tcp.inbound_syn_after_syn.is_none()),
    ];
    axes.into_iter().filter_map(|(axis, is_missing)| is_missing.then_some(axis))
}

#[test]
fn the_doctor_agrees_with_every_site() {
    let mut wrong = Vec::new();
    for text in SITES {
        let site: Site = text.parse().unwrap();
        let (found, at) = diagnose(&site, 3, clean());
        assert!(at <= Duration::from_millis(1200), "{text}: it took {at:?}");
        let mut declared = site.declared();
        if declared.tcp.mapping == Some(Mapping::ConnectionDependent) {
            // It looks like one that its NAT forgets with the connection, and is told like one.
            declared.tcp.mapping = Some(Mapping::AddressAndPortDependent);
            assert_eq!(found.report.tcp.new_port_each_connection, Some(true), "{text}");
        }
        let seen = found.syn.expect("the server keeps SYNs");
        assert!(seen.ttl < 64 && seen.mss.is_some(), "{text}: {seen:?}");
        for axis in unmeasured(&found.report) {
            wrong.push(format!("{text}: tcp.{axis} is not told"));
        }
        for contradiction in contradictions(&declared, &found.report) {
            wrong.push(format!("{text}: {contradiction}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn whether_a_listener_is_reached_after_an_rst_is_told() {
    let cases = [
        ("public", Some(true)),
        ("masq", Some(false)),
        // The listener's answer has another sequence number than the SYN that the box remembers.
        ("masq,rst=ignore", Some(false)),
        ("masq,rst=ignore,window=liberal", Some(true)),
        ("masq,window=liberal", Some(false)),
        ("full-cone", Some(true)),
        ("port-restricted", Some(false)),
        ("masq,syn=strict", None),
        ("symmetric-seq", None),
    ];
    for (text, expected) in cases {
        let (found, _) = diagnose(&text.parse().unwrap(), 3, clean());
        assert_eq!(found.reached_after_rst, expected, "{text}");
    }
}

#[test]
fn sequence_numbers_are_compared_where_a_capture_is_permitted() {
    for text in SITES {
        let site: Site = text.parse().unwrap();
        let (found, _) = diagnose_with((RAW, None), &site, 3, clean());
        assert_eq!(found.report.tcp.isn, site.declared().tcp.isn, "{text}");
    }
}

#[test]
fn without_a_capture_two_connections_show_numbers_that_are_rewritten_anew() {
    // Netfilter and its like remember a connection for a while in spite of the RST, and the lab's NATs then
    // add the same again; one that makes a new mapping for each connection does not.
    let remembers =
        ["masq,isn=rewrite", "port-restricted,isn=rewrite", "symmetric-seq,isn=rewrite"];
    let forgets = ["masq,isn=rewrite,map=cd,ports=random"];
    for text in SITES.iter().copied().chain(remembers).chain(forgets) {
        let site: Site = text.parse().unwrap();
        let tcp = diagnose(&site, 3, clean()).0.report.tcp;
        let expected = match forgets.contains(&text) {
            true => (Some(InitialSequence::Rewritten), Some(false)),
            false => (None, Some(true)),
        };
        assert_eq!((tcp.isn, tcp.isn_follows_clock), expected, "{text}");
    }
}

#[test]
fn whether_a_connection_may_begin_in_the_middle_is_told_to_who_may_try() {
    for text in SITES.iter().copied().chain(["masq,loose=no", "port-restricted,loose=no"]) {
        let site: Site = text.parse().unwrap();
        let (found, _) = diagnose_with((ADMIN, None), &site, 3, clean());
        assert_eq!(found.report.tcp.mid_stream, site.declared().tcp.mid_stream, "{text}");
        let (found, _) = diagnose(&site, 3, clean());
        assert_eq!(found.report.tcp.mid_stream, None, "{text}, without the privilege");
    }
}

#[test]
fn whether_a_syn_ack_gets_out_after_a_syn_is_told_to_who_may_send_one() {
    for text in SITES.iter().copied().chain(["public", "masq,syn=strict"]) {
        let site: Site = text.parse().unwrap();
        let (found, _) = diagnose_with((RAW, None), &site, 3, clean());
        let declared = site.declared().tcp.syn_ack_after_syn;
        assert_eq!(found.report.tcp.syn_ack_after_syn, declared, "{text}");
        let (found, _) = diagnose(&site, 3, clean());
        assert_eq!(found.report.tcp.syn_ack_after_syn, None, "{text}, without the privilege");
    }
}

#[test]
fn what_an_rst_or_an_icmp_error_does_to_a_syn_that_comes_in_is_told() {
    use InboundSynAfterSyn::{Accepted, Dropped, Rst};
    let cases = [
        ("public", Some(Accepted), Some(Accepted)),
        // Netfilter forgets an unanswered connection that was reset.
        ("masq", Some(Dropped), Some(Accepted)),
        ("masq,in=reset", Some(Rst), Some(Accepted)),
        ("masq,rst=ignore", Some(Accepted), Some(Accepted)),
        ("masq,ttlx=kill", Some(Dropped), Some(Dropped)),
        ("masq,ttlx=block", Some(Dropped), Some(Accepted)),
        ("full-cone", Some(Accepted), Some(Accepted)),
        ("masq@port-restricted", Some(Dropped), Some(Accepted)),
        // The connection over which it is told is lost with the port.
        ("port-restricted,rst=kill", Some(Dropped), Some(Accepted)),
        ("port-restricted,rst=ignore,ttlx=kill", Some(Accepted), Some(Dropped)),
        ("port-restricted,rst=kill,ttlx=kill,in=reset", Some(Dropped), Some(Dropped)),
        // Where none comes in anyway nothing is said.
        ("masq,syn=strict", None, None),
        ("symmetric-seq", None, None),
    ];
    for (text, after_rst, after_icmp) in cases {
        let (found, _) = diagnose(&text.parse().unwrap(), 3, clean());
        let tcp = found.report.tcp;
        let told = (tcp.inbound_syn_after_rst, tcp.inbound_syn_after_icmp);
        assert_eq!(told, (after_rst, after_icmp), "{text}");
    }
}

#[test]
fn how_long_holes_and_idle_connections_live_is_told_if_asked_for() {
    let cases = [
        ("masq,hole=20,idle=100", Some(12), Some(60)),
        ("port-restricted,hole=7,idle=40", Some(6), Some(30)),
        ("public", Some(120), Some(120)),
    ];
    for (text, hole, idle) in cases {
        let longest = Duration::from_secs(120);
        let (found, at) =
            diagnose_with((Privileges::NONE, Some(longest)), &text.parse().unwrap(), 3, clean());
        assert_eq!((found.report.tcp.hole_s, found.report.tcp.lifetime_s), (hole, idle), "{text}");
        assert!(at <= longest + Duration::from_secs(10), "{text}: it took {at:?}");
        let (found, _) = diagnose(&text.parse().unwrap(), 3, clean());
        assert_eq!((found.report.tcp.hole_s, found.report.tcp.lifetime_s), (None, None), "{text}");
    }
}

#[test]
fn the_ttl_of_an_opener_is_told_where_the_nat_needs_opening() {
    let cases = [
        ("masq", Some(2)),
        ("masq,in=reset", Some(2)),
        ("port-restricted", Some(2)),
        ("masq@port-restricted", Some(3)),
        // It keeps every TTL, so nothing expires at it.
        ("masq,ttl=keep", None),
        ("public", None),
        ("restricted", None),
        ("masq,syn=strict", None),
        ("symmetric-seq", None),
    ];
    for (text, expected) in cases {
        let (found, at) = diagnose(&text.parse().unwrap(), 3, clean());
        assert_eq!(found.opener_ttl, expected, "{text}");
        assert!(at <= Duration::from_secs(1), "{text}: it took {at:?}");
    }
}

#[test]
fn a_lossy_line_hides_a_little_and_never_turns_a_verdict_round() {
    const SEEDS: u64 = 40;
    let (mut wrong, mut missing) = (Vec::new(), 0);
    let sites = ["full-cone", "restricted", "masq,in=reset", "masq,syn=strict"];
    for text in sites {
        let site: Site = text.parse().unwrap();
        for seed in 0..SEEDS {
            let (found, _) = diagnose(&site, seed, lossy());
            let contradictions = contradictions(&site.declared(), &found.report);
            wrong.extend(contradictions.into_iter().map(|it| format!("{text}, {seed}: {it}")));
            missing += unmeasured(&found.report).count();
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let asked = 6 * sites.len() * usize::try_from(SEEDS).unwrap();
    assert!(10 * missing <= asked, "{missing} of {asked} not told");
}
