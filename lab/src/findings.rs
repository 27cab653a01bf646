//! What was measured on real kernels and netfilter NATs happens here too: rows of the punching
//! matrix, the plain-socket experiments T1–T10b and T18, and what decides success.
//!
//! No machine of ours takes part: the sockets are driven by hand, so that what is proven here is the
//! simulated internet itself. One-way delay is 20 ms throughout.

use std::net::SocketAddr;
use std::time::Duration;

use ntcp_proto::IoFailure;

use crate::link::Quality;
use crate::probe::{Handle, Told};
use crate::town::{LOCAL_A, LOCAL_B, SERVER, Town, ms};
use crate::world::World;

/// Past the own NAT, not to the peer's.
const LOW_TTL: u8 = 3;

// --- the matrix at skew 0 ------------------------------------------------------------------------

const KINDS: [&str; 14] = [
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
    "symmetric-seq",
    "linux-random",
    "masq@linux-random",
    "masq,udp=block",
];

/// The measured matrix: U where UDP punches without prediction, S where TCP simultaneous open
/// without a listener and without prediction does. One row for each kind, from itself on.
const MEASURED: [&str; 14] = [
    "US US US US US US US US US US U. U. U. .S",
    "US US US US US US US US US .. .. .. .S",
    "US US US US US US US US U. U. U. .S",
    "US US US US US US US U. U. U. .S",
    "US US US US US US .. .. .. .S",
    "US US US US US .. .. .. .S",
    "US US US US .. .. .. .S",
    "US US US .. .. .. .S",
    "US US .. .. .. .S",
    "U. .. .. .. .S",
    ".. .. .. ..",
    ".. .. ..",
    ".. ..",
    ".S",
];

#[test]
fn the_measured_matrix_of_plain_punching_comes_out() {
    let mut wrong = Vec::new();
    for (row, (a, cells)) in KINDS.iter().zip(MEASURED).enumerate() {
        for (b, cell) in KINDS[row..].iter().zip(cells.split(' ')) {
            let udp = Town::named(a, b).udp_punch(ms(0), None).is_some();
            let ends = Town::named(a, b).simultaneous_open(ms(0), 200);
            let tcp = ends.iter().all(Option::is_some);
            let got: String = [(udp, 'U'), (tcp, 'S')]
                .map(|(works, letter)| if works { letter } else { '.' })
                .into_iter()
                .collect();
            if got != cell {
                wrong.push(format!("{a} × {b}: measured {cell}, here {got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

// --- set-up times and skew -----------------------------------------------------------------------

#[test]
fn a_punch_at_skew_0_takes_two_one_way_delays_and_a_strict_side_one_more() {
    for (a, b, delays) in [
        ("masq", "masq", 2),
        ("port-restricted", "port-restricted", 2),
        ("masq,in=reset", "masq,in=reset", 2),
        ("masq,syn=strict", "masq", 3),
    ] {
        let ends = Town::named(a, b).simultaneous_open(ms(0), 200).map(Option::unwrap);
        assert_eq!(ends.into_iter().max(), Some(ms(20 * delays)), "{a} × {b}");
        let udp = Town::named(a, b).udp_punch(ms(0), None).unwrap();
        assert_eq!(udp, ms(40), "{a} × {b}");
    }
}

#[test]
fn skew_costs_itself_and_two_or_three_one_way_delays() {
    // At exactly 100 ms each SYN would meet the other NAT in the instant of a RST, for ever: no real
    // network is that exact.
    let skew = ms(99);
    let silent = Town::named("masq", "masq").simultaneous_open(skew, 200).map(Option::unwrap);
    assert_eq!(silent.into_iter().max(), Some(ms(159)));
    let answering = Town::named("masq,in=reset", "masq,in=reset");
    let answering = { answering }.simultaneous_open(skew, 200).map(Option::unwrap);
    assert_eq!(answering.into_iter().max(), Some(ms(139)), "one retry crosses the late SYN");
    assert_eq!(Town::named("masq", "masq").udp_punch(ms(100), None), Some(ms(140)));
}

#[test]
fn an_instant_retry_meets_every_skew_against_every_answer() {
    for kind in ["masq", "port-restricted"] {
        for answer in ["drop", "reset", "admin", "open"] {
            for skew in [0, 30, 99, 307] {
                let site = format!("{kind},in={answer}");
                let ends = Town::named(&site, &site).simultaneous_open(ms(skew), 500);
                assert!(ends.iter().all(Option::is_some), "{site} at {skew} ms: {ends:?}");
            }
        }
    }
}

#[test]
fn a_gap_without_a_socket_ruins_the_flow() {
    // a is refused by b's NAT and waits; b's SYN passes a's NAT in the meantime, a's kernel answers
    // a RST that connection tracking calls invalid, and a's next SYN has another number.
    let mut town = Town::named("masq,in=admin", "masq,in=admin");
    let a = town.tcp_mapping(town.a, LOCAL_A);
    let b = town.tcp_mapping(town.b, LOCAL_B);
    let first = town.a.connect(&mut town.world, LOCAL_A, b);
    town.world.advance(ms(50));
    let refused = town.a.outcome(&mut town.world, first).unwrap().1;
    assert_eq!(refused, Err(IoFailure::HostUnreachable));
    let second = town.b.connect(&mut town.world, LOCAL_B, a);
    town.world.advance(ms(30));
    town.a.retry(&mut town.world, 100);
    let again = town.a.connect(&mut town.world, LOCAL_A, b);
    town.world.advance(Duration::from_secs(5));
    for (handle, socket) in [(town.a, again), (town.b, second)] {
        let outcome = handle.outcome(&mut town.world, socket);
        assert!(outcome.is_none_or(|(_, result)| result.is_err()));
    }
}

#[test]
fn without_a_retry_a_refusal_at_skew_is_the_end() {
    // T5, and the control T22b.
    let ends = Town::named("masq", "masq,in=reset").simultaneous_open(ms(100), 0);
    assert_eq!(ends[0], None, "a is refused");
    // T5b, T5d, T6: with one, it works.
    for (a, b) in [
        ("masq", "masq,in=reset"),
        ("masq,in=reset", "masq,in=reset"),
        ("masq", "masq,in=port"),
        ("masq,in=admin", "masq,in=reset"),
    ] {
        let ends = Town::named(a, b).simultaneous_open(ms(99), 200);
        assert!(ends.iter().all(Option::is_some), "{a} × {b}");
    }
}

#[test]
fn a_late_side_costs_its_lateness_against_silent_nats() {
    // T2: a's first SYN dies at b's NAT, b's SYN 300 ms later meets a's waiting socket.
    let ends = Town::named("masq", "masq").simultaneous_open(ms(300), 0).map(Option::unwrap);
    assert_eq!(ends, [ms(360), ms(340)]);
}

#[test]
fn listeners_on_the_same_ports_change_nothing_on_linux() {
    // T3, T4: it is always connect() that succeeds, never accept().
    let mut town = Town::named("masq", "masq");
    town.a.listen(&mut town.world, LOCAL_A);
    town.b.listen(&mut town.world, LOCAL_B);
    let ends = town.simultaneous_open(ms(100), 0);
    assert!(ends.iter().all(Option::is_some));
    for handle in [town.a, town.b] {
        let told = handle.told(&mut town.world);
        assert!(!told.iter().any(|told| matches!(told, Told::Accepted { .. })));
    }
}

// --- low TTL, and the initial sequence number ----------------------------------------------------

#[test]
fn a_low_ttl_syn_ends_in_host_unreachable_and_leaves_the_peer_waiting() {
    // T7.
    let mut town = Town::named("masq", "masq");
    let a = town.tcp_mapping(town.a, LOCAL_A);
    let b = town.tcp_mapping(town.b, LOCAL_B);
    let low = town.a.connect_ttl(&mut town.world, LOCAL_A, b, Some(LOW_TTL));
    town.world.advance(ms(50));
    let outcome = town.a.outcome(&mut town.world, low).unwrap().1;
    assert_eq!(outcome, Err(IoFailure::HostUnreachable));
    let late = town.b.connect(&mut town.world, LOCAL_B, a);
    town.world.advance(ms(900));
    // Connection tracking calls the RST of a's kernel invalid, so b goes on waiting.
    assert_eq!(town.b.outcome(&mut town.world, late), None);
}

#[test]
fn a_low_ttl_datagram_harms_no_udp_socket() {
    let mut town = Town::named("masq", "masq");
    assert!(town.udp_punch(ms(0), Some(LOW_TTL)).is_some());
}

/// The classic recipe: connect, give up, listen; the peer connects. Whether the peer gets through.
fn connect_close_listen(a: &str, ttl: Option<u8>) -> bool {
    let mut town = Town::named(a, "masq");
    let seen = town.tcp_mapping(town.a, LOCAL_A);
    let peer = town.tcp_mapping(town.b, LOCAL_B);
    let opener = town.a.connect_ttl(&mut town.world, LOCAL_A, peer, ttl);
    town.world.advance(ms(30));
    town.a.close(&mut town.world, opener);
    town.a.listen(&mut town.world, LOCAL_A);
    let dial = town.b.connect(&mut town.world, LOCAL_B, seen);
    town.world.advance(Duration::from_secs(5));
    town.b.outcome(&mut town.world, dial).is_some_and(|(_, result)| result.is_ok())
}

#[test]
fn connect_close_listen_dies_of_its_new_sequence_number_where_windows_are_tracked() {
    for ttl in [None, Some(LOW_TTL)] {
        // T8, T9.
        assert!(!connect_close_listen("masq", ttl), "{ttl:?}");
        assert!(!connect_close_listen("masq,invalid=leak", ttl), "{ttl:?}");
        // T18.
        assert!(connect_close_listen("masq,window=liberal", ttl), "{ttl:?}");
        assert!(connect_close_listen("masq,window=off", ttl), "{ttl:?}");
    }
}

#[test]
fn a_redial_after_the_peers_syn_has_passed_is_refused_by_connection_tracking() {
    // T10b: the opener is gone when b's SYN passes a's NAT; a dials again with a new number.
    let mut town = Town::named("masq", "masq");
    let seen = town.tcp_mapping(town.a, LOCAL_A);
    let peer = town.tcp_mapping(town.b, LOCAL_B);
    let opener = town.a.connect(&mut town.world, LOCAL_A, peer);
    town.world.advance(ms(30));
    town.a.close(&mut town.world, opener);
    let dial = town.b.connect(&mut town.world, LOCAL_B, seen);
    town.world.advance(ms(21));
    let again = town.a.connect(&mut town.world, LOCAL_A, peer);
    town.world.advance(ms(900));
    for (handle, socket) in [(town.a, again), (town.b, dial)] {
        let outcome = handle.outcome(&mut town.world, socket);
        assert!(outcome.is_none_or(|(_, result)| result.is_err()));
    }
    // An early one, before that SYN, is learnt.
    let mut town = Town::named("masq", "masq");
    let seen = town.tcp_mapping(town.a, LOCAL_A);
    let peer = town.tcp_mapping(town.b, LOCAL_B);
    let opener = town.a.connect(&mut town.world, LOCAL_A, peer);
    town.world.advance(ms(30));
    town.a.close(&mut town.world, opener);
    let again = town.a.connect(&mut town.world, LOCAL_A, peer);
    let dial = town.b.connect(&mut town.world, LOCAL_B, seen);
    town.world.advance(ms(900));
    for (handle, socket) in [(town.a, again), (town.b, dial)] {
        assert!(handle.outcome(&mut town.world, socket).unwrap().1.is_ok());
    }
}

// --- ghosts and RSTs -----------------------------------------------------------------------------

#[test]
fn two_open_input_chains_poison_udp_above_one_delay_of_skew_unless_an_opener_went_first() {
    let kind = "masq,in=open";
    assert!(Town::named(kind, kind).udp_punch(ms(0), None).is_some());
    assert!(Town::named(kind, kind).udp_punch(ms(10), None).is_some());
    for skew in [30, 100, 300] {
        assert_eq!(Town::named(kind, kind).udp_punch(ms(skew), None), None, "{skew} ms");
        assert!(Town::named(kind, kind).udp_punch(ms(skew), Some(LOW_TTL)).is_some(), "{skew} ms");
        // One such NAT alone is met by the peer that answers the source it sees.
        assert!(Town::named(kind, "full-cone").udp_punch(ms(skew), None).is_some(), "{skew} ms");
    }
    for other in ["masq,in=reset", "masq,in=admin", "masq"] {
        assert!(Town::named(other, other).udp_punch(ms(100), None).is_some(), "{other}");
    }
}

#[test]
fn where_a_rst_costs_the_port_only_a_small_skew_works() {
    let kind = "port-restricted,in=reset,rst=kill";
    let near = Town::named(kind, kind).simultaneous_open(ms(10), 200);
    assert!(near.iter().all(Option::is_some));
    let far = Town::named(kind, kind).simultaneous_open(ms(100), 200);
    assert!(far.iter().any(Option::is_none), "{far:?}");
}

#[test]
fn a_listener_on_the_punching_port_lets_a_random_nat_in_over_tcp() {
    for open in ["full-cone", "restricted", "public"] {
        let mut town = Town::named("linux-random", open);
        let a = town.tcp_mapping(town.a, LOCAL_A);
        let b = town.tcp_mapping(town.b, LOCAL_B);
        town.b.listen(&mut town.world, LOCAL_B);
        let start = town.world.clock();
        town.a.retry(&mut town.world, 200);
        town.b.retry(&mut town.world, 200);
        let dial = town.a.connect(&mut town.world, LOCAL_A, b);
        town.b.connect(&mut town.world, LOCAL_B, a);
        town.world.advance(ms(200));
        let (when, result) = town.a.outcome(&mut town.world, dial).unwrap();
        assert!(result.is_ok(), "{open}");
        assert!(when - start <= ms(60), "{open}");
        let told = town.b.told(&mut town.world);
        assert!(told.iter().any(|told| matches!(told, Told::Accepted { .. })), "{open}");
    }
}

#[test]
fn a_changed_source_is_answered_by_open_filters_only() {
    // Address-dependent mapping, an arbitrary pool, a random port for each destination.
    for (kind, partner, works) in [
        ("address-dependent", "full-cone", true),
        ("address-dependent", "restricted", true),
        ("address-dependent", "port-restricted", false),
        ("pool-arbitrary", "full-cone", true),
        ("linux-random", "restricted", true),
        ("linux-random", "port-restricted", false),
    ] {
        let punched = Town::named(kind, partner).udp_punch(ms(0), None);
        assert_eq!(punched.is_some(), works, "{kind} × {partner}");
        if let Some(time) = punched {
            assert!(time <= ms(60), "{kind} × {partner}: {time:?}");
        }
    }
}

// --- topology ------------------------------------------------------------------------------------

#[test]
fn two_levels_of_endpoint_independent_nats_are_like_one() {
    let udp = Town::named("masq@port-restricted", "port-restricted").udp_punch(ms(0), None);
    assert_eq!(udp, Some(ms(40)));
    let ends = Town::named("masq@port-restricted", "masq").simultaneous_open(ms(0), 0);
    assert!(ends.iter().all(Option::is_some));
}

#[test]
fn two_homes_of_one_carrier_meet_at_its_outer_address_only_if_it_hairpins() {
    for (carrier, works) in [("port-restricted", false), ("hairpin-cone", true)] {
        let mut town = Town::named("public", "public");
        let access = Quality::delay(ms(10));
        let carrier = town.world.site("carrier", &carrier.parse().unwrap(), access);
        let homes = ["left", "right"].map(|name| {
            let home = town.world.site_behind(carrier, name, &"masq".parse().unwrap());
            let host = town.world.host(home, name);
            Handle::start(&mut town.world, host)
        });
        [town.a, town.b] = homes;
        assert_eq!(town.udp_punch(ms(0), None).is_some(), works);
        let ends = town.simultaneous_open(ms(0), 20);
        assert_eq!(ends.iter().all(Option::is_some), works);
    }
}

#[test]
fn hosts_of_one_home_reach_each_other_without_its_nat() {
    let mut town = Town::named("masq", "masq");
    let host = town.world.host(town.sites[0], "a2");
    let address = town.world.addresses(host)[0];
    let neighbour = Handle::start(&mut town.world, host);
    neighbour.listen(&mut town.world, LOCAL_B);
    let start = town.world.clock();
    let dial = town.a.connect(&mut town.world, LOCAL_A, SocketAddr::new(address, 6000));
    town.world.advance(ms(1));
    let (when, result) = town.a.outcome(&mut town.world, dial).unwrap();
    assert!(result.is_ok());
    assert_eq!(when, start);
}

#[test]
fn a_private_source_that_leaks_dies_at_the_provider() {
    let mut town = Town::named("masq,invalid=leak", "public");
    let peer = town.tcp_mapping(town.b, LOCAL_B);
    let seen = town.tcp_mapping(town.a, LOCAL_A);
    let opener = town.a.connect(&mut town.world, LOCAL_A, peer);
    town.a.close(&mut town.world, opener);
    town.a.listen(&mut town.world, LOCAL_A);
    town.b.connect(&mut town.world, LOCAL_B, seen);
    town.world.advance(ms(900));
    let dropped = |journey: &&crate::trace::Journey| {
        journey.fate == crate::trace::Fate::Dropped("foreign source address".into())
    };
    assert!(town.world.trace().journeys().iter().any(|journey| dropped(&journey)));
}

#[test]
fn loss_is_survived_by_repetition() {
    let mut connected = 0;
    for _ in 0..20 {
        let mut town = Town::named("masq", "port-restricted");
        for site in town.sites {
            town.world.set_access(site, Quality::delay(ms(10)).with_loss(0.05));
        }
        connected += usize::from(town.udp_punch(ms(0), None).is_some());
    }
    assert_eq!(connected, 20);
}

#[test]
fn equal_seeds_give_equal_traces_and_others_do_not() {
    let run = |seed: u64| {
        let mut world = World::new(seed);
        world.record();
        let quality = Quality {
            jitter: ms(5),
            loss: 0.1,
            duplication: 0.05,
            reordering: 0.1,
            hold: ms(3),
            ..Quality::delay(ms(10))
        };
        let site = world.site("a", &"port-restricted".parse().unwrap(), quality);
        let [a, b] = [("a", site), ("b", site)].map(|(name, site)| {
            let host = world.host(site, name);
            Handle::start(&mut world, host)
        });
        let server = world.public_host("s1", &[SERVER], quality);
        let server = Handle::start(&mut world, server);
        server.listen(&mut world, "0.0.0.0:3478");
        let to = SocketAddr::new(SERVER.parse().unwrap(), 3478);
        for handle in [a, b] {
            handle.connect(&mut world, LOCAL_A, to);
            let socket = handle.bind(&mut world, "0.0.0.0:0");
            (0..20).for_each(|_| handle.send(&mut world, socket, to, b"ping"));
        }
        world.advance(Duration::from_secs(20));
        world.trace().fingerprint()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
