//! A host's TCP as hole punching sees it: two hosts on a clean internet of 20 ms one way.

use std::net::SocketAddr;
use std::time::Duration;

use ntcp_proto::{Answer, Command, Hops, IoFailure};

use crate::link::Quality;
use crate::packet::{Packet, flag};
use crate::probe::{Handle, Told};
use crate::trace::Fate;
use crate::world::{HostId, World};

mod privileged;

const A: &str = "203.0.113.1";
const B: &str = "203.0.113.2";

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

struct Pair {
    world: World,
    a: Handle,
    b: Handle,
    hosts: [HostId; 2],
}

fn pair() -> Pair {
    let mut world = World::new(1);
    world.record();
    let access = Quality::delay(ms(10));
    let hosts = [("a", A), ("b", B)].map(|(name, ip)| world.public_host(name, &[ip], access));
    let [a, b] = hosts.map(|host| Handle::start(&mut world, host));
    Pair { world, a, b, hosts }
}

/// The TCP segments a host sent, as (time, flags, sequence number).
fn segments(pair: &Pair, host: usize) -> Vec<(Duration, u8, u32)> {
    let place = pair.world.place(pair.hosts[host]);
    let sent = |journey: &crate::trace::Journey| {
        let first = &journey.stations[0];
        let fields = Packet::parse(&first.packet).ok()?.tcp()?;
        (first.place == place).then_some((first.at, fields.flags, fields.sequence))
    };
    pair.world.trace().journeys().iter().filter_map(sent).collect()
}

#[test]
fn a_connection_is_made_in_one_round_trip_and_carries_messages_both_ways() {
    let mut pair = pair();
    let listener = pair.b.listen(&mut pair.world, "0.0.0.0:7000");
    let socket = pair.a.connect(&mut pair.world, "0.0.0.0:5000", at(B, 7000));
    pair.world.advance(ms(100));
    let (when, ends) = pair.a.outcome(&mut pair.world, socket).unwrap();
    let ends = ends.unwrap();
    assert_eq!(when, ms(40));
    assert_eq!((ends.local, ends.remote), (at(A, 5000), at(B, 7000)));
    let told = pair.b.told(&mut pair.world);
    let Some(Told::Accepted { listener: by, socket: accepted, ends }) = told.last().cloned() else {
        panic!("nothing accepted: {told:?}");
    };
    assert_eq!((by, ends.remote), (listener, at(A, 5000)));
    let message = b"\x00\x01\x00\x04\x21\x12\xa4\x42twelve bytesbody".to_vec();
    pair.a.message(&mut pair.world, socket, message.clone());
    pair.b.message(&mut pair.world, accepted, message.clone());
    pair.world.advance(ms(20));
    for (handle, socket) in [(pair.a, socket), (pair.b, accepted)] {
        let told = pair.world.events(handle.0).last().cloned().unwrap().1;
        assert_eq!(told, Told::Message { socket, payload: message.clone() });
    }
    pair.a.close(&mut pair.world, socket);
    pair.world.advance(ms(500));
    let ended = Told::Ended { socket: accepted, reason: IoFailure::Closed };
    assert!(pair.b.told(&mut pair.world).contains(&ended));
}

#[test]
fn crossing_syns_establish_both_sides_in_one_round_trip_with_the_same_numbers() {
    let mut pair = pair();
    let a = pair.a.connect(&mut pair.world, "0.0.0.0:5000", at(B, 6000));
    let b = pair.b.connect(&mut pair.world, "0.0.0.0:6000", at(A, 5000));
    pair.world.advance(ms(500));
    for (handle, socket) in [(pair.a, a), (pair.b, b)] {
        let (when, result) = handle.outcome(&mut pair.world, socket).unwrap();
        assert!(result.is_ok());
        assert_eq!(when, ms(40));
    }
    for host in [0, 1] {
        let sent = segments(&pair, host);
        let syns: Vec<u32> =
            sent.iter().filter(|(_, flags, _)| flags & flag::SYN != 0).map(|it| it.2).collect();
        assert_eq!(syns.len(), 2, "a SYN and a SYN-ACK: {sent:?}");
        assert_eq!(syns[0], syns[1], "of the same socket");
        assert!(sent.iter().all(|(_, flags, _)| flags & flag::RST == 0));
    }
    // The connection works.
    let message = b"\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes".to_vec();
    pair.a.message(&mut pair.world, a, message.clone());
    pair.b.message(&mut pair.world, b, message);
    pair.world.advance(ms(20));
    for handle in [pair.a, pair.b] {
        assert!(matches!(handle.told(&mut pair.world).last(), Some(Told::Message { .. })));
    }
}

#[test]
fn a_connecting_socket_wins_over_a_listener_on_its_port() {
    let mut pair = pair();
    pair.a.listen(&mut pair.world, "0.0.0.0:5000");
    pair.b.listen(&mut pair.world, "0.0.0.0:6000");
    let a = pair.a.connect(&mut pair.world, "0.0.0.0:5000", at(B, 6000));
    let b = pair.b.connect(&mut pair.world, "0.0.0.0:6000", at(A, 5000));
    pair.world.advance(ms(500));
    for (handle, socket) in [(pair.a, a), (pair.b, b)] {
        assert!(handle.outcome(&mut pair.world, socket).unwrap().1.is_ok());
        let told = handle.told(&mut pair.world);
        assert!(!told.iter().any(|told| matches!(told, Told::Accepted { .. })));
    }
}

#[test]
fn a_syn_to_nobody_is_refused_by_a_rst() {
    let mut pair = pair();
    let socket = pair.a.connect(&mut pair.world, "0.0.0.0:5000", at(B, 7000));
    pair.world.advance(ms(100));
    let outcome = pair.a.outcome(&mut pair.world, socket);
    assert_eq!(outcome, Some((ms(40), Err(IoFailure::Refused))));
    assert_eq!(segments(&pair, 1).len(), 1);
}

#[test]
fn a_refused_socket_frees_its_pair_of_ends_at_once_and_the_next_number_is_later() {
    let mut pair = pair();
    pair.a.retry(&mut pair.world, 5);
    pair.a.connect(&mut pair.world, "0.0.0.0:5000", at(B, 7000));
    pair.world.advance(ms(1000));
    let sent = segments(&pair, 0);
    let times: Vec<Duration> = sent.iter().map(|it| it.0).collect();
    assert_eq!(times, [0, 40, 80, 120, 160, 200].map(ms));
    assert!(sent.windows(2).all(|two| two[1].2.wrapping_sub(two[0].2) == 40_000_000 / 64));
}

#[test]
fn a_syn_into_silence_is_repeated_on_the_schedule_of_linux() {
    let mut pair = pair();
    let socket = pair.a.connect(&mut pair.world, "0.0.0.0:5000", at("198.51.100.99", 7000));
    pair.world.advance(Duration::from_secs(200));
    let sent: Vec<Duration> = segments(&pair, 0).iter().map(|it| it.0).collect();
    // 198.51.100.99 has no route at the core: the router's answer ends it at once.
    assert_eq!(sent, [ms(0)]);
    let outcome = pair.a.outcome(&mut pair.world, socket);
    assert_eq!(outcome, Some((ms(20), Err(IoFailure::HostUnreachable))));

    let site = "firewall".parse().unwrap();
    let silent = pair.world.site("silent", &site, Quality::delay(ms(10)));
    let host = pair.world.host(silent, "c");
    let target = SocketAddr::new(pair.world.addresses(host)[0], 7000);
    let start = pair.world.clock();
    let socket = pair.a.connect(&mut pair.world, "0.0.0.0:5000", target);
    pair.world.advance(Duration::from_secs(200));
    let sent: Vec<Duration> = segments(&pair, 0)[1..].iter().map(|it| it.0 - start).collect();
    let schedule = [0, 1000, 2050, 3070, 4100, 5100, 7100, 11_200, 19_400, 35_800, 68_600];
    assert_eq!(sent, schedule.map(ms));
    let outcome = pair.a.outcome(&mut pair.world, socket).unwrap();
    assert_eq!(outcome, (start + Duration::from_secs(134), Err(IoFailure::TimedOut)));
}

#[test]
fn time_exceeded_ends_connecting_at_once_and_says_nothing_to_an_open_stream() {
    let mut pair = pair();
    pair.b.listen(&mut pair.world, "0.0.0.0:7000");
    let low = pair.a.connect_ttl(&mut pair.world, "0.0.0.0:5000", at(B, 7000), Some(1));
    pair.world.advance(ms(100));
    let outcome = pair.a.outcome(&mut pair.world, low);
    assert_eq!(outcome, Some((ms(20), Err(IoFailure::HostUnreachable))));
    let open = pair.a.connect(&mut pair.world, "0.0.0.0:5000", at(B, 7000));
    pair.world.advance(ms(100));
    assert!(pair.a.outcome(&mut pair.world, open).unwrap().1.is_ok());
}

#[test]
fn each_icmp_error_ends_connecting_as_linux_names_it() {
    for (answer, failure) in [
        ("port", IoFailure::Refused),
        ("admin", IoFailure::HostUnreachable),
        ("reset", IoFailure::Refused),
    ] {
        let mut pair = pair();
        let site = format!("firewall,in={answer}").parse().unwrap();
        let site = pair.world.site("guarded", &site, Quality::delay(ms(10)));
        let host = pair.world.host(site, "c");
        let target = SocketAddr::new(pair.world.addresses(host)[0], 7000);
        let socket = pair.a.connect(&mut pair.world, "0.0.0.0:5000", target);
        pair.world.advance(ms(100));
        let outcome = pair.a.outcome(&mut pair.world, socket);
        assert_eq!(outcome, Some((ms(40), Err(failure))), "{answer}");
    }
}

#[test]
fn an_icmp_error_or_a_rst_ends_a_handshake_that_has_crossed_too() {
    for answer in ["ttl", "rst"] {
        let mut pair = pair();
        // a's segments die at the last router, whose error comes after b's SYN.
        let ttl = (answer == "ttl").then_some(3);
        pair.world.set_cable(pair.hosts[1], Quality::delay(ms(2)));
        let a = pair.a.connect_ttl(&mut pair.world, "0.0.0.0:5000", at(B, 6000), ttl);
        let b = pair.b.connect(&mut pair.world, "0.0.0.0:6000", at(A, 5000));
        if answer == "rst" {
            // b gives up at once; its kernel refuses a's SYN-ACK.
            pair.b.close(&mut pair.world, b);
        }
        pair.world.advance(ms(100));
        let failed = pair.a.outcome(&mut pair.world, a).map(|(_, result)| result.unwrap_err());
        let expected = if answer == "ttl" { IoFailure::HostUnreachable } else { IoFailure::Reset };
        assert_eq!(failed, Some(expected), "{answer}");
    }
}

#[test]
fn closing_a_pending_connection_sends_nothing_and_answers_it() {
    let mut pair = pair();
    let socket = pair.a.connect(&mut pair.world, "0.0.0.0:5000", at(B, 7000));
    pair.a.close(&mut pair.world, socket);
    let outcome = pair.a.outcome(&mut pair.world, socket);
    assert_eq!(outcome, Some((ms(0), Err(IoFailure::Closed))));
    pair.world.advance(ms(500));
    assert_eq!(segments(&pair, 0).len(), 1);
    pair.world.assert_finished(pair.a.0);
}

#[test]
fn the_same_pair_of_ends_cannot_be_used_twice_and_a_port_can() {
    let mut pair = pair();
    pair.b.listen(&mut pair.world, "0.0.0.0:7000");
    pair.b.listen(&mut pair.world, "0.0.0.0:7001");
    let first = pair.a.connect(&mut pair.world, "0.0.0.0:5000", at(B, 7000));
    let twin = pair.a.connect(&mut pair.world, "0.0.0.0:5000", at(B, 7000));
    let other = pair.a.connect(&mut pair.world, "0.0.0.0:5000", at(B, 7001));
    pair.world.advance(ms(100));
    let mut outcome = |socket| pair.a.outcome(&mut pair.world, socket).unwrap().1;
    assert!(outcome(first).is_ok());
    assert_eq!(outcome(twin), Err(IoFailure::AddressNotAvailable));
    assert!(outcome(other).is_ok());
}

#[test]
fn a_stream_that_carries_something_else_than_stun_is_closed() {
    let mut pair = pair();
    pair.b.listen(&mut pair.world, "0.0.0.0:7000");
    let socket = pair.a.connect(&mut pair.world, "0.0.0.0:5000", at(B, 7000));
    pair.world.advance(ms(100));
    let told = pair.b.told(&mut pair.world);
    let Some(Told::Accepted { socket: accepted, .. }) = told.last() else { panic!("{told:?}") };
    // Bytes that are no STUN message end the stream on the reading side.
    pair.a.message(&mut pair.world, socket, b"GET / HTTP/1.1\r\n\r\n".to_vec());
    pair.world.advance(ms(100));
    let garbled = Told::Ended { socket: *accepted, reason: IoFailure::Garbled };
    assert!(pair.b.told(&mut pair.world).contains(&garbled));
    let ended = Told::Ended { socket, reason: IoFailure::Closed };
    assert!(pair.a.told(&mut pair.world).contains(&ended));
}

#[test]
fn a_shielded_socket_outlives_the_death_of_its_syn() {
    let mut pair = pair();
    let hops = Hops { ttl: Some(1), least: Some(2) };
    let low = pair.a.connect_with(&mut pair.world, "0.0.0.0:5000", at(B, 7000), hops);
    pair.world.advance(ms(100));
    assert_eq!(pair.a.outcome(&mut pair.world, low), None, "the quoted packet had a TTL of 1");
    pair.b.listen(&mut pair.world, "0.0.0.0:7000");
    let hops = Hops { ttl: Some(255), least: Some(100) };
    pair.a.command(&mut pair.world, |id| Command::AdjustTcp { id, socket: low, hops });
    pair.world.advance(ms(1500));
    assert_eq!(pair.a.outcome(&mut pair.world, low), None, "the answer came with less than 64");
    let hops = Hops::USUAL;
    pair.a.command(&mut pair.world, |id| Command::AdjustTcp { id, socket: low, hops });
    pair.world.advance(ms(1000));
    let (when, ends) = pair.a.outcome(&mut pair.world, low).unwrap();
    assert_eq!((when, ends.is_ok()), (ms(2040), true), "the answer, repeated");
}

#[test]
fn a_connect_that_nobody_has_answered_begins_anew_with_a_later_syn() {
    let mut pair = pair();
    let hops = Hops { ttl: Some(1), least: Some(2) };
    let low = pair.a.connect_with(&mut pair.world, "0.0.0.0:5000", at(B, 7000), hops);
    pair.world.advance(ms(850));
    let hops = Hops::USUAL;
    pair.b.listen(&mut pair.world, "0.0.0.0:7000");
    let renewed = pair.a.command(&mut pair.world, |id| Command::RenewTcp { id, socket: low, hops });
    assert_eq!(renewed, Some(Answer::Done(Ok(()))));
    pair.world.advance(ms(150));
    let sent = segments(&pair, 0);
    let syns: Vec<_> = sent.iter().filter(|it| it.1 == flag::SYN).collect();
    assert_eq!([syns[0].0, syns[1].0], [0, 850].map(ms), "and none at one second");
    assert!(syns.len() == 2 && syns[1].2.wrapping_sub(syns[0].2) < 1 << 31);
    let (when, ends) = pair.a.outcome(&mut pair.world, low).unwrap();
    assert_eq!((when, ends.is_ok()), (ms(890), true), "under the name of the first");
    let again = pair.a.command(&mut pair.world, |id| Command::RenewTcp { id, socket: low, hops });
    assert_eq!(again, Some(Answer::Done(Err(IoFailure::Closed))), "it is no connect any more");
}

#[test]
fn datagrams_arrive_with_their_ttl_and_closed_ports_answer_icmp_that_nobody_hears() {
    let mut pair = pair();
    let from = pair.a.bind(&mut pair.world, "0.0.0.0:5000");
    pair.b.bind(&mut pair.world, "0.0.0.0:6000");
    pair.a.send(&mut pair.world, from, at(B, 6000), b"one");
    pair.a.send_ttl(&mut pair.world, from, at(B, 6000), b"short", Some(3));
    pair.a.send(&mut pair.world, from, at(B, 6001), b"closed");
    pair.world.advance(ms(100));
    assert_eq!(pair.b.datagrams(&mut pair.world), [(at(A, 5000), b"one".to_vec())]);
    let fates: Vec<&Fate> =
        pair.world.trace().journeys().iter().map(|journey| &journey.fate).collect();
    assert_eq!(fates[1], &Fate::Dropped("TTL expired".into()));
    assert_eq!(pair.world.trace().journeys().len(), 5, "three datagrams and two ICMP errors");
    assert!(pair.a.datagrams(&mut pair.world).is_empty());
}

#[test]
fn every_command_is_answered_with_what_linux_would_say() {
    let mut pair = pair();
    pair.world.add_name("broker.example", &[B.parse().unwrap()]);
    let Pair { world, a, .. } = &mut pair;
    let socket = a.bind(world, "0.0.0.0:5000");
    let told = |world: &mut World| match a.told(world).pop() {
        Some(Told::Answer(_, answer)) => answer,
        other => panic!("{other:?}"),
    };
    assert_eq!(told(world), Answer::Bound(Ok(at("0.0.0.0", 5000))));
    a.bind(world, "203.0.113.1:5000");
    assert_eq!(told(world), Answer::Bound(Err(IoFailure::AddressInUse)));
    a.bind(world, "203.0.113.77:5000");
    assert_eq!(told(world), Answer::Bound(Err(IoFailure::AddressNotAvailable)));
    a.listen(world, "203.0.113.77:5000");
    assert_eq!(told(world), Answer::Bound(Err(IoFailure::AddressNotAvailable)));
    a.send(world, socket, "[2001:db8::1]:1".parse().unwrap(), b"");
    assert_eq!(told(world), Answer::Sent(Err(IoFailure::NetworkUnreachable)));
    a.send(world, socket, at(B, 1), &[0; 1473]);
    assert_eq!(told(world), Answer::Sent(Err(IoFailure::MessageTooLong)));
    a.close(world, socket);
    assert_eq!(told(world), Answer::Closed);
    a.send(world, socket, at(B, 1), b"");
    assert_eq!(told(world), Answer::Sent(Err(IoFailure::Closed)));
    a.message(world, socket, Vec::new());
    assert_eq!(told(world), Answer::Sent(Err(IoFailure::Closed)));
    let resolve = |host: &str| {
        let host = host.to_owned();
        move |id| Command::Resolve { id, host, port: 6060 }
    };
    let answer = a.command(world, resolve("broker.example"));
    assert_eq!(answer, Some(Answer::Resolved(Ok(vec![at(B, 6060)]))));
    let answer = a.command(world, resolve("2001:db8::1"));
    assert_eq!(answer, Some(Answer::Resolved(Ok(vec!["[2001:db8::1]:6060".parse().unwrap()]))));
    let answer = a.command(world, resolve("nobody.example"));
    assert_eq!(answer, Some(Answer::Resolved(Err(IoFailure::UnknownHost))));
    let answer = a.command(world, |id| Command::ListInterfaces { id });
    assert_eq!(answer, Some(Answer::Interfaces(vec![A.parse().unwrap()])));
    world.assert_finished(a.0);
}

#[test]
fn ports_given_by_the_system_are_ephemeral_and_differ() {
    let mut pair = pair();
    let Pair { world, a, .. } = &mut pair;
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..50 {
        a.bind(world, "0.0.0.0:0");
        let Some(Told::Answer(_, Answer::Bound(Ok(local)))) = a.told(world).pop() else {
            panic!("not bound");
        };
        assert!(super::EPHEMERAL.contains(&local.port()));
        assert!(ports.insert(local.port()));
    }
}

#[test]
fn a_megabyte_arrives_whole_over_a_lossy_link() {
    let mut world = World::new(5);
    let access = Quality::delay(ms(5)).with_loss(0.02);
    let [a, b] = [("a", A), ("b", B)].map(|(name, ip)| {
        let host = world.public_host(name, &[ip], access);
        Handle::start(&mut world, host)
    });
    b.listen(&mut world, "0.0.0.0:7000");
    let dialer = a.connect(&mut world, "0.0.0.0:5000", at(B, 7000));
    let accepted = |world: &mut World| {
        b.told(world).into_iter().find_map(|told| match told {
            Told::Accepted { socket, .. } => Some(socket),
            _ => None,
        })
    };
    assert!(world.advance_until(Duration::from_secs(60), |world| accepted(world).is_some()));
    let acceptor = accepted(&mut world).unwrap();
    let out = world.take_stream(a.0, dialer).unwrap();
    let back = world.take_stream(b.0, acceptor).unwrap();
    let data: Vec<u8> = (0..1_000_000u32).map(|i| (i * 7 / 3) as u8).collect();
    world.send(out, &data);
    let mut received = Vec::new();
    for _ in 0..600 {
        world.advance(ms(200));
        received.extend(world.receive(back));
        if received.len() == data.len() {
            break;
        }
    }
    assert!(received == data, "{} of {} bytes", received.len(), data.len());
}
