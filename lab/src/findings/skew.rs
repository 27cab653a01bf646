//! Set-up times, skew, and refusals that are met with a retry: T1 to T6.

use std::time::Duration;

use ntcp_proto::IoFailure;

use crate::probe::Told;
use crate::town::{LOCAL_A, LOCAL_B, Town, ms};

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
