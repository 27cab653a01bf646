//! Discovery against simulated NATs and servers, honest and otherwise, in virtual time.

mod dice;
mod nat;
mod server;
mod world;

use std::time::{Duration, Instant};

use nat::{Firewall, Linux, LinuxInput, Open, Textbook};
use ntcp_proto::Owner;
use ntcp_proto::candidate::Transport;
use ntcp_proto::discover::{
    Advice, Config, DEFAULT_LIMIT, Discovery, Event, Evidence, PortPattern, Reach,
};
use ntcp_proto::entropy::Seed;
use ntcp_proto::nat::{Filtering, Mapping, NatReport, PortAllocation};
use ntcp_proto::uri::TransportChoice;
use ntcp_stun::behavior::ClassicType;
use server::{Conduct, Server, Tcp};
use world::{Outcome, World};

const HOST: &str = "10.0.0.2";
const PUBLIC: &str = "198.51.100.1";
const S1: &str = "203.0.113.10:3478";
const S1_OTHER: &str = "203.0.113.11:3479";
const S2: &str = "203.0.113.20:3478";
const S2_OTHER: &str = "203.0.113.21:3479";
const S3: &str = "203.0.113.30:3478";
const S3_OTHER: &str = "203.0.113.31:3479";

const MAPPINGS: [Mapping; 3] =
    [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
const FILTERINGS: [Filtering; 3] = [
    Filtering::EndpointIndependent,
    Filtering::AddressDependent,
    Filtering::AddressAndPortDependent,
];

fn config(servers: &[&str]) -> Config {
    let servers = servers.iter().map(|it| it.parse().unwrap()).collect();
    Config::new(servers)
}

fn discover(world: &mut World, servers: &[&str], seed: u64) -> Outcome {
    discover_with(world, config(servers), seed)
}

fn discover_with(world: &mut World, config: Config, seed: u64) -> Outcome {
    world.run(|now: Instant| Discovery::new(config, Owner(7), Seed::from_number(seed), now))
}

fn honest() -> Server {
    Server::new(S1, S1_OTHER, Conduct::Honest)
}

/// A world with one server of this conduct behind this kind of NAT.
fn behind(
    mapping: Mapping,
    filtering: Filtering,
    ports: PortAllocation,
    conduct: Conduct,
) -> World {
    World::new(HOST, 1)
        .behind(Textbook::new(PUBLIC, mapping, filtering, ports, 1))
        .with(Server::new(S1, S1_OTHER, conduct))
}

/// A verdict on UDP in short.
fn udp(report: &NatReport) -> (Option<Mapping>, Option<Filtering>) {
    (report.udp.mapping, report.udp.filtering)
}

#[test]
fn every_combination_of_mapping_and_filtering_is_told_by_one_good_server() {
    use PortAllocation as P;
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            for ports in [P::Preserved, P::Offset, P::Sequential, P::Block, P::Random] {
                let mut world = behind(mapping, filtering, ports, Conduct::Honest);
                let outcome = discover(&mut world, &[S1], 5);
                let case = format!("{mapping:?} {filtering:?} {ports:?}: {outcome:?}");
                let report = &outcome.findings.report;
                assert_eq!(udp(report), (Some(mapping), Some(filtering)), "{case}");
                assert_eq!(report.udp.port_allocation, Some(ports), "{case}");
                assert_eq!(report.tcp.mapping, Some(mapping), "{case}");
                assert_eq!(report.tcp.port_allocation, Some(ports), "{case}");
                assert_eq!(report.nat, Some(true), "{case}");
                assert_eq!(report.udp.hairpin, Some(false), "{case}");
                assert_eq!(report.udp.public_address.unwrap().ip().to_string(), PUBLIC);
                assert_eq!(report.tcp.public_address.unwrap().ip().to_string(), PUBLIC);
            }
        }
    }
}

#[test]
fn half_a_second_suffices_on_a_path_of_40_ms() {
    let (eim, apdf) = (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    let mut world = behind(eim, apdf, PortAllocation::Preserved, Conduct::Honest);
    let outcome = discover(&mut world, &[S1], 5);
    // 0 to server, 40 to its other addresses, 80 opening, 120 first of seven requests 40 apart,
    // 360 the last one, 550 silence believed.
    assert_eq!(outcome.took, Duration::from_millis(550));
    assert!(outcome.datagrams < 60, "{}", outcome.datagrams);
}

#[test]
fn the_verdict_holds_at_200_ms_with_jitter_and_ten_percent_loss_each_way() {
    let mut missing = 0;
    for seed in 0..60 {
        let mapping = MAPPINGS[seed as usize % 3];
        let filtering = FILTERINGS[seed as usize / 3 % 3];
        let mut world = behind(mapping, filtering, PortAllocation::Random, Conduct::Honest);
        (world.delay, world.jitter) = (Duration::from_millis(100), Duration::from_millis(20));
        (world.loss, world.dice) = (10, dice::Dice::new(seed));
        let outcome = discover(&mut world, &[S1], seed);
        let report = &outcome.findings.report;
        let case = format!("seed {seed}: {outcome:?}");
        assert_eq!(udp(report), (Some(mapping), Some(filtering)), "{case}");
        assert_eq!(report.udp.port_allocation, Some(PortAllocation::Random), "{case}");
        assert!(outcome.took <= Duration::from_millis(3_500), "{case}");
        // A lost SYN takes a second, and two in a row are not waited for: then less is told about TCP,
        // but nothing wrong.
        match report.tcp.mapping {
            Some(told) => assert_eq!(told, mapping, "{case}"),
            None => missing += 1,
        }
    }
    assert!(missing <= 3, "{missing} of 60 without a verdict on TCP");
}

#[test]
fn a_sequence_is_told_under_loss_and_jitter() {
    for seed in 0..40 {
        let mapping = Mapping::AddressAndPortDependent;
        let filtering = Filtering::AddressAndPortDependent;
        let mut world = behind(mapping, filtering, PortAllocation::Sequential, Conduct::Honest);
        (world.loss, world.dice) = (5, dice::Dice::new(seed));
        let outcome = discover(&mut world, &[S1], seed);
        let pattern = outcome.findings.udp_ports;
        assert!(matches!(pattern, Some(PortPattern::Sequential { step: 2, .. })), "{outcome:?}");
    }
}

#[test]
fn an_open_host_and_a_firewall_are_told_apart() {
    let mut open = World::new(PUBLIC, 1).behind(Open(PUBLIC.parse().unwrap())).with(honest());
    let findings = discover(&mut open, &[S1], 1).findings;
    assert_eq!(findings.report.nat, Some(false));
    assert_eq!(udp(&findings.report), (Some(MAPPINGS[0]), Some(FILTERINGS[0])));
    assert_eq!(findings.report.udp.port_allocation, Some(PortAllocation::Preserved));
    assert_eq!(findings.report.udp.hairpin, Some(true));
    assert_eq!(findings.classic, Some(ClassicType::OpenInternet));
    let everyone = Advice::Reach { transport: Transport::Udp, reach: Reach::Everyone };
    assert_eq!(findings.advice[0], everyone);

    let mut firewall = World::new(PUBLIC, 1).behind(Firewall::new(PUBLIC)).with(honest());
    let findings = discover(&mut firewall, &[S1], 1).findings;
    assert_eq!(findings.report.nat, Some(false));
    assert_eq!(udp(&findings.report), (Some(MAPPINGS[0]), Some(FILTERINGS[2])));
    assert_eq!(findings.classic, Some(ClassicType::SymmetricFirewall));
}

#[test]
fn a_linux_nat_looks_the_same_whether_it_accepts_packets_for_itself_or_not() {
    for input in [LinuxInput::Drop, LinuxInput::Open] {
        for (ports, mapping) in [
            (PortAllocation::Preserved, Mapping::EndpointIndependent),
            (PortAllocation::Random, Mapping::AddressAndPortDependent),
        ] {
            let mut world =
                World::new(HOST, 1).behind(Linux::new(PUBLIC, input, ports, 3)).with(honest());
            let outcome = discover(&mut world, &[S1], 1);
            let report = &outcome.findings.report;
            let case = format!("{input:?} {outcome:?}");
            let expected = (Some(mapping), Some(Filtering::AddressAndPortDependent));
            assert_eq!(udp(report), expected, "{case}");
            assert_eq!(report.udp.port_allocation, Some(ports), "{case}");
            assert_eq!(report.tcp.mapping, Some(mapping), "{case}");
        }
    }
}

#[test]
fn two_nats_in_a_row_are_told_as_one() {
    use Filtering as F;
    use Mapping as M;
    let cases = [
        ((M::EndpointIndependent, F::EndpointIndependent), (MAPPINGS[0], FILTERINGS[2])),
        ((M::AddressAndPortDependent, F::AddressAndPortDependent), (MAPPINGS[2], FILTERINGS[2])),
    ];
    for ((mapping, filtering), expected) in cases {
        let carrier = Textbook::new("198.51.100.9", mapping, filtering, PortAllocation::Random, 4);
        let mut world = World::new(HOST, 1)
            .behind(Linux::new("100.64.0.2", LinuxInput::Drop, PortAllocation::Preserved, 3))
            .behind(carrier)
            .with(honest());
        let outcome = discover(&mut world, &[S1], 1);
        let report = &outcome.findings.report;
        assert_eq!(udp(report), (Some(expected.0), Some(expected.1)), "{outcome:?}");
        assert_eq!(report.udp.port_allocation, Some(PortAllocation::Random));
        assert_eq!(report.udp.public_address.unwrap().ip().to_string(), "198.51.100.9");
    }
}

#[test]
fn a_hairpin_is_found_where_there_is_one() {
    for filtering in FILTERINGS {
        let mapping = Mapping::EndpointIndependent;
        let nat = Textbook::new(PUBLIC, mapping, filtering, PortAllocation::Random, 1);
        let mut world = World::new(HOST, 1).behind(nat.with_hairpin()).with(honest());
        let outcome = discover(&mut world, &[S1], 1);
        assert_eq!(outcome.findings.report.udp.hairpin, Some(true), "{outcome:?}");
    }
}

/// What one server of each conduct makes a client believe about a port-restricted NAT.
fn told_by(conduct: Conduct) -> Outcome {
    let (eim, apdf) = (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    discover(&mut behind(eim, apdf, PortAllocation::Random, conduct), &[S1], 9)
}

#[test]
fn a_server_of_rfc_3489_tells_as_much_as_a_newer_one() {
    let findings = told_by(Conduct::Classic).findings;
    assert_eq!(udp(&findings.report), (Some(MAPPINGS[0]), Some(FILTERINGS[2])));
    assert_eq!(findings.classic, Some(ClassicType::PortRestrictedCone));
}

#[test]
fn a_liar_or_a_server_that_cannot_tell_leaves_filtering_unknown() {
    let server = S1.parse().unwrap();
    let other = S1_OTHER.parse().unwrap();
    let (eim, unknown) = (Some(MAPPINGS[0]), Some(Filtering::Unknown));
    let same_ip = "203.0.113.10:3479".parse().unwrap();
    let elsewhere = |source| Evidence::AnsweredFromElsewhere { server, source };
    let cases = [
        (Conduct::SamePlace, eim, elsewhere(server)),
        (Conduct::PortOnly, eim, elsewhere(same_ip)),
        (Conduct::Ignores, eim, Evidence::ChangeIgnored { server }),
        (Conduct::Refuses, eim, Evidence::ChangeRefused { server, code: 420 }),
        (Conduct::DeadAlternate, None, Evidence::SilentAlternate { server, other }),
        (Conduct::Single, None, Evidence::SingleAddress { server }),
        (Conduct::SingleSamePlace, None, Evidence::SingleAddress { server }),
    ];
    for (conduct, mapping, evidence) in cases {
        let outcome = told_by(conduct);
        assert_eq!(udp(&outcome.findings.report), (mapping, unknown), "{conduct:?} {outcome:?}");
        assert!(outcome.findings.evidence.contains(&evidence), "{conduct:?} {outcome:?}");
        assert!(outcome.findings.advice.contains(&Advice::AddTwoAddressServer), "{conduct:?}");
        assert!(outcome.took < Duration::from_millis(1_500), "{conduct:?} {outcome:?}");
    }
}

#[test]
fn another_port_of_the_same_address_is_not_another_address() {
    let outcome = told_by(Conduct::SameIp);
    assert_eq!(udp(&outcome.findings.report), (None, Some(Filtering::Unknown)), "{outcome:?}");
    let incredible = |it: &Evidence| matches!(it, Evidence::IncredibleAlternate { .. });
    assert!(outcome.findings.evidence.iter().any(incredible), "{outcome:?}");
}

#[test]
fn a_server_that_falls_silent_at_any_moment_never_makes_a_verdict_wrong() {
    let open = (Mapping::EndpointIndependent, Filtering::EndpointIndependent);
    for limit in 0..80 {
        let conduct = Conduct::SilentAfter(limit);
        let mut world = behind(open.0, open.1, PortAllocation::Random, conduct);
        let outcome = discover(&mut world, &[S1], 2);
        let (mapping, filtering) = udp(&outcome.findings.report);
        assert!(
            matches!(mapping, None | Some(Mapping::EndpointIndependent)),
            "{limit} {outcome:?}"
        );
        let told = [None, Some(Filtering::Unknown), Some(Filtering::EndpointIndependent)];
        assert!(told.contains(&filtering), "{limit} {outcome:?}");
        assert!(outcome.took <= DEFAULT_LIMIT, "{limit} {outcome:?}");
    }
}

#[test]
fn two_servers_of_one_address_each_tell_the_dependence_on_the_address() {
    let cases =
        [(MAPPINGS[0], MAPPINGS[0]), (MAPPINGS[1], MAPPINGS[1]), (MAPPINGS[2], MAPPINGS[1])];
    for (mapping, told) in cases {
        let filtering = Filtering::AddressAndPortDependent;
        let mut world = behind(mapping, filtering, PortAllocation::Random, Conduct::Single)
            .with(Server::new(S2, S2_OTHER, Conduct::SingleSamePlace));
        let outcome = discover(&mut world, &[S1, S2], 2);
        assert_eq!(udp(&outcome.findings.report), (Some(told), Some(Filtering::Unknown)));
        assert_eq!(outcome.findings.report.tcp.mapping, Some(told), "{outcome:?}");
    }
}

#[test]
fn one_honest_server_among_liars_is_believed() {
    let liars =
        [Conduct::SamePlace, Conduct::Ignores, Conduct::PortOnly, Conduct::Single, Conduct::Mute];
    for liar in liars {
        for filtering in FILTERINGS {
            let eim = Mapping::EndpointIndependent;
            let mut world = behind(eim, filtering, PortAllocation::Random, liar).with(Server::new(
                S2,
                S2_OTHER,
                Conduct::Honest,
            ));
            let outcome = discover(&mut world, &[S1, S2], 2);
            let told = udp(&outcome.findings.report);
            assert_eq!(told, (Some(eim), Some(filtering)), "{liar:?} {outcome:?}");
        }
    }
}

#[test]
fn a_server_with_a_view_of_its_own_is_outvoted_by_two() {
    let (eim, apdf) = (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    let mut world = behind(eim, apdf, PortAllocation::Preserved, Conduct::Single)
        .with(Server::new(S2, S2_OTHER, Conduct::Single))
        .with(Server::new(S3, S3_OTHER, Conduct::WrongView));
    let outcome = discover(&mut world, &[S1, S2, S3], 2);
    let report = &outcome.findings.report;
    assert_eq!(report.udp.public_address.unwrap().ip().to_string(), PUBLIC, "{outcome:?}");
    assert_eq!(report.nat, Some(true));
}

#[test]
fn blocked_udp_is_told_from_being_offline() {
    let (eim, apdf) = (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    let mut world = behind(eim, apdf, PortAllocation::Preserved, Conduct::Honest);
    world.udp_blocked = true;
    let outcome = discover(&mut world, &[S1], 2);
    let report = &outcome.findings.report;
    assert!(!report.udp.reachable && report.tcp.reachable, "{outcome:?}");
    assert_eq!(udp(report), (None, None));
    assert_eq!(report.tcp.mapping, Some(eim));
    assert_eq!(report.nat, Some(true));
    assert_eq!(outcome.findings.classic, Some(ClassicType::UdpBlocked));
    assert_eq!(outcome.findings.advice[0], Advice::UdpBlocked);
    assert!(outcome.took < Duration::from_millis(1_500), "{outcome:?}");

    let mut world = World::new(HOST, 1);
    let outcome = discover(&mut world, &[S1], 2);
    assert_eq!(outcome.findings.report, NatReport::default());
    assert_eq!(outcome.findings.advice, [Advice::Offline]);
    assert!(outcome.took <= DEFAULT_LIMIT);
}

#[test]
fn a_server_without_tcp_delays_little_and_is_not_guessed_about() {
    for tcp in [Tcp::Refuses, Tcp::Silent] {
        let mut world = World::new(HOST, 1)
            .behind(Linux::new(PUBLIC, LinuxInput::Drop, PortAllocation::Preserved, 3))
            .with(honest().with_tcp(tcp));
        let outcome = discover(&mut world, &[S1], 2);
        let report = &outcome.findings.report;
        assert_eq!(report.tcp, ntcp_proto::nat::TcpReport::default(), "{outcome:?}");
        assert!(report.udp.mapping.is_some());
        assert!(outcome.findings.advice.contains(&Advice::TcpUnknown));
        assert!(outcome.took <= Duration::from_millis(1_400), "{tcp:?} {outcome:?}");
    }
}

#[test]
fn damaged_and_refusing_servers_count_as_no_answer() {
    for conduct in [Conduct::Garbled, Conduct::Unauthorized] {
        let outcome = told_by(conduct);
        assert_eq!(outcome.findings.report, NatReport::default(), "{outcome:?}");
        assert_eq!(outcome.findings.advice, [Advice::Offline]);
    }
    let refused = Evidence::Refused { server: S1.parse().unwrap(), code: 401 };
    assert!(told_by(Conduct::Unauthorized).findings.evidence.contains(&refused));
}

#[test]
fn the_first_answers_are_told_after_one_round_trip_over_udp_and_two_over_tcp() {
    let (eim, apdf) = (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    let mut world = behind(eim, apdf, PortAllocation::Preserved, Conduct::Honest);
    let events = discover(&mut world, &[S1], 2).events;
    let transports: Vec<Transport> = events
        .iter()
        .filter_map(|it| match it {
            Event::Reachable { transport, server, .. } => {
                assert_eq!(server.to_string(), S1);
                Some(*transport)
            }
            Event::Finished(_) => None,
        })
        .collect();
    assert_eq!(transports, [Transport::Udp, Transport::Tcp]);
    assert!(matches!(events.last(), Some(Event::Finished(_))));
}

const HOST6: &str = "2001:db8:1::2";
const S6: &str = "[2001:db8:f::10]:3478";
const S6_OTHER: &str = "[2001:db8:f::11]:3479";

fn six() -> Server {
    Server::new(S6, S6_OTHER, Conduct::Honest)
}

#[test]
fn an_ipv6_host_is_surveyed_over_ipv6() {
    let mut world = World::new(HOST6, 1).behind(Firewall::new(HOST6)).with(six());
    let report = discover(&mut world, &[S6], 2).findings.report;
    assert_eq!(report.nat, Some(false));
    assert_eq!(udp(&report), (Some(MAPPINGS[0]), Some(FILTERINGS[2])));
}

#[test]
fn ipv4_is_preferred_and_ipv6_taken_if_it_alone_answers() {
    let dual = |world: World| {
        let mut world = world.with(six()).named("stun.example", 30, &[S6, S1]);
        world.interfaces = vec![HOST6.parse().unwrap(), HOST.parse().unwrap()];
        world
    };
    let address = |world: &mut World| {
        discover(world, &["stun.example"], 2).findings.report.udp.public_address
    };
    let mut both = dual(World::new(HOST, 1).with(honest()));
    assert!(address(&mut both).unwrap().is_ipv4());
    let mut one = dual(World::new(HOST, 1));
    assert!(address(&mut one).unwrap().is_ipv6());
}

#[test]
fn a_slow_name_does_not_hold_up_the_others_and_an_unknown_one_is_named() {
    let mut world = behind(MAPPINGS[0], FILTERINGS[2], PortAllocation::Random, Conduct::Honest)
        .named("slow.example", 60_000, &[S2]);
    let outcome = discover(&mut world, &["slow.example", "unknown.example", S1], 2);
    assert_eq!(outcome.took, Duration::from_millis(550), "{outcome:?}");
    let unresolved = outcome.findings.evidence.iter().filter_map(|it| match it {
        Evidence::Unresolved { server, failure } => Some((server.host.as_str(), *failure)),
        _ => None,
    });
    use ntcp_proto::IoFailure as F;
    let expected = [("slow.example", F::TimedOut), ("unknown.example", F::UnknownHost)];
    assert_eq!(unresolved.collect::<Vec<_>>(), expected);
}

#[test]
fn no_name_that_resolves_ends_the_discovery_at_once() {
    let mut world = World::new(HOST, 1);
    let outcome = discover(&mut world, &["unknown.example"], 2);
    assert_eq!(outcome.findings.advice, [Advice::Offline]);
    assert!(outcome.took <= Duration::from_millis(250), "{outcome:?}");
    let outcome = discover(&mut World::new(HOST, 1), &[], 2);
    assert_eq!(outcome.findings.advice, [Advice::Offline]);
}

#[test]
fn one_transport_alone_can_be_asked_for() {
    for (transport, is_udp) in [(TransportChoice::Udp, true), (TransportChoice::Tcp, false)] {
        let (eim, apdf) = (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
        let mut world = behind(eim, apdf, PortAllocation::Preserved, Conduct::Honest);
        let config = Config { transport, ..config(&[S1]) };
        let report = discover_with(&mut world, config, 2).findings.report;
        assert_eq!((report.udp.reachable, report.tcp.reachable), (is_udp, !is_udp));
        assert_eq!(report.nat, Some(true));
    }
}

#[test]
fn the_limit_ends_it_with_what_is_known() {
    let (eim, apdf) = (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    for limit in (0..560).step_by(10).map(Duration::from_millis) {
        let mut world = behind(eim, apdf, PortAllocation::Preserved, Conduct::Honest);
        let outcome = discover_with(&mut world, Config { limit, ..config(&[S1]) }, 2);
        assert!(outcome.took <= limit, "{limit:?} {outcome:?}");
        let (mapping, filtering) = udp(&outcome.findings.report);
        assert!([None, Some(eim)].contains(&mapping), "{limit:?} {outcome:?}");
        assert!([None, Some(Filtering::Unknown), Some(apdf)].contains(&filtering), "{limit:?}");
    }
}

#[test]
fn equal_seeds_give_equal_runs() {
    let run = |seed| {
        let (eim, apdf) = (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
        let mut world = behind(eim, apdf, PortAllocation::Random, Conduct::Honest);
        (world.loss, world.jitter) = (5, Duration::from_millis(3));
        discover(&mut world, &[S1], seed)
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).trace, run(2).trace);
}

#[test]
fn inputs_that_come_twice_or_broken_change_nothing() {
    let run = |echoes| {
        let (eim, adf) = (Mapping::EndpointIndependent, Filtering::AddressDependent);
        let mut world = behind(eim, adf, PortAllocation::Sequential, Conduct::Honest);
        world.echoes = echoes;
        discover(&mut world, &[S1], 3)
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn stopping_it_early_ends_it_with_what_is_known() {
    let config = config(&[S1]);
    let (eim, apdf) = (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    let mut world = behind(eim, apdf, PortAllocation::Preserved, Conduct::Honest);
    let outcome = world.run(|now| {
        let mut machine = Discovery::new(config, Owner(7), Seed::from_number(1), now);
        machine.stop(now);
        machine.stop(now);
        machine
    });
    assert_eq!(outcome.findings.report, NatReport::default());
    let finished = |it: &&Event| matches!(it, Event::Finished(_));
    assert_eq!(outcome.events.iter().filter(finished).count(), 1);
}

#[test]
fn the_findings_read_as_a_page() {
    let apdf = Filtering::AddressAndPortDependent;
    let mut world =
        behind(Mapping::EndpointIndependent, apdf, PortAllocation::Preserved, Conduct::Honest);
    let findings = discover(&mut world, &[S1], 3).findings;
    let udp = findings.report.udp.public_address.unwrap();
    let tcp = findings.report.tcp.public_address.unwrap();
    let expected = format!(
        "\
NAT   yes
UDP   the outside sees {udp}
      one external port for all destinations
      packets of addresses and ports sent to come in (RFC 3489: port restricted cone)
      external port numbers are the internal ones
      this host does not reach itself through its external address
TCP   the outside sees {tcp}
      one external port for all destinations
      external port numbers are the internal ones
      this host does not reach itself through its external address

What it means
  UDP: a direct path to peers whose NAT keeps one port for all destinations; with one that changes it, only by many tries.
  TCP: a direct path to peers whose NAT keeps one port for all destinations; with one that changes it, only by many tries.
  The NAT does not turn packets back inside: two hosts behind it reach each other by their local addresses only.

What was seen
  203.0.113.10:3478 answered over UDP after 40.0 ms
  203.0.113.10:3478 answered over TCP after 40.0 ms
"
    );
    assert_eq!(findings.to_string(), expected);
}
