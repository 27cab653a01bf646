//! SYNs that die on the way, and initial sequence numbers that change: T7 to T10b, T18.

use std::time::Duration;

use ntcp_proto::IoFailure;

use crate::town::{LOCAL_A, LOCAL_B, Town, ms};

use super::LOW_TTL;

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
