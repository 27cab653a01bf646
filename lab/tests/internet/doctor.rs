//! What the discovery says about every site is what the site is.

use std::time::Duration;

use ntcp_lab::host::Privileges;
use ntcp_lab::link::Quality;
use ntcp_lab::meeting;
use ntcp_lab::presets::{SITES, Site};
use ntcp_lab::world::World;
use ntcp_proto::Owner;
use ntcp_proto::discover::{self, Config, Discovery, Event, Findings};
use ntcp_proto::nat::{Mapping, NatReport};
use ntcp_proto::uri::{HostPort, TransportChoice};

/// Captures are permitted.
const RAW: Privileges = Privileges { raw: true, admin: false };

fn clean() -> Quality {
    Quality::delay(Duration::from_millis(10))
}

fn lossy() -> Quality {
    clean().with_loss(0.03)
}

fn diagnose(site: &Site, seed: u64, access: Quality) -> (Findings, Duration) {
    diagnose_with(Privileges::NONE, site, seed, access)
}

fn diagnose_with(
    privileges: Privileges,
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
        servers: vec![server("stun1"), server("stun2")],
        transport: TransportChoice::Any,
        limit: discover::DEFAULT_LIMIT,
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
    world.advance_until(Duration::from_secs(10), |world| finished(world).is_some());
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
            assert_eq!(found.new_port_each_connection, Some(true), "{text}");
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
        let (found, _) = diagnose_with(RAW, &site, 3, clean());
        assert_eq!(found.report.tcp.isn, site.declared().tcp.isn, "{text}");
        let (found, _) = diagnose(&site, 3, clean());
        assert_eq!(found.report.tcp.isn, None, "{text}, without the privilege");
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
