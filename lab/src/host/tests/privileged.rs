//! Chosen sequence numbers, connections without a handshake, captures and raw segments.

use ntcp_proto::command::{Agreed, Ends};
use ntcp_proto::segment::{self, Options, Segment};

use super::*;
use crate::host::Privileges;

const MESSAGE: &[u8] = b"\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes";

fn privileged(privileges: Privileges) -> Pair {
    let mut pair = pair();
    for host in pair.hosts {
        pair.world.grant(host, privileges);
    }
    pair
}

/// What both ends say a handshake would have agreed on, as seen from a and from b.
fn agreed() -> [Agreed; 2] {
    let options = |scale| Options {
        max_segment_size: Some(1460),
        window_scale: Some(scale),
        sack_permitted: true,
        timestamps: None,
    };
    let a = Agreed {
        sequence: u32::MAX,
        peer_sequence: 77,
        options: options(7),
        peer_options: options(2),
    };
    let b = Agreed {
        sequence: a.peer_sequence,
        peer_sequence: a.sequence,
        options: a.peer_options,
        peer_options: a.options,
    };
    [a, b]
}

fn ends() -> [Ends; 2] {
    let (a, b) = (at(A, 5000), at(B, 6000));
    [Ends { local: a, remote: b }, Ends { local: b, remote: a }]
}

#[test]
fn without_privileges_everything_privileged_is_refused() {
    let mut pair = pair();
    let [ends, _] = ends();
    let Pair { world, a, .. } = &mut pair;
    let refused = IoFailure::NotPermitted;
    let numbered = a.connect_numbered(world, "0.0.0.0:5000", at(B, 6000), Hops::USUAL, 1);
    let assumed = a.assume(world, ends, agreed()[0], Hops::USUAL);
    for socket in [numbered, assumed] {
        assert_eq!(a.outcome(world, socket), Some((ms(0), Err(refused))));
    }
    a.capture(world, "0.0.0.0:5000", at(B, 6000));
    let answer = a.told(world).pop();
    assert!(matches!(answer, Some(Told::Answer(_, Answer::Done(Err(IoFailure::NotPermitted))))));
    a.connect(world, "0.0.0.0:5000", at(B, 6000));
    let segment = syn(at(A, 5000), at(B, 6000));
    assert_eq!(a.inject(world, segment, 64), Some(Answer::Sent(Err(refused))));
}

fn syn(source: SocketAddr, destination: SocketAddr) -> Segment {
    Segment {
        source,
        destination,
        flags: segment::flag::SYN,
        sequence: 4711,
        acknowledgment: 0,
        window: 64_240,
        options: Options::default(),
    }
}

#[test]
fn a_chosen_number_is_that_of_the_syn_and_of_every_repetition() {
    let mut pair = privileged(Privileges { raw: false, admin: true });
    let site = pair.world.site("silent", &"firewall".parse().unwrap(), Quality::delay(ms(10)));
    let host = pair.world.host(site, "c");
    let silent = SocketAddr::new(pair.world.addresses(host)[0], 7000);
    pair.a.connect_numbered(&mut pair.world, "0.0.0.0:5000", silent, Hops::USUAL, 4711);
    pair.world.advance(ms(2500));
    let numbers: Vec<u32> = segments(&pair, 0).iter().map(|it| it.2).collect();
    assert_eq!(numbers, [4711; 3]);
    // T24's other half: a fresh socket with the same number looks like a repetition to the path.
    pair.b.listen(&mut pair.world, "0.0.0.0:7000");
    let dial = pair.a.connect_numbered(
        &mut pair.world,
        "0.0.0.0:5000",
        at(B, 7000),
        Hops::USUAL,
        u32::MAX,
    );
    pair.world.advance(ms(100));
    assert!(pair.a.outcome(&mut pair.world, dial).unwrap().1.is_ok());
}

#[test]
fn a_capture_sees_the_first_syn_with_its_options_and_no_other() {
    let mut pair = privileged(Privileges { raw: true, admin: false });
    let Pair { world, a, b, .. } = &mut pair;
    let capture = a.capture(world, "0.0.0.0:5000", at(B, 6000));
    let other = a.capture(world, "0.0.0.0:5000", at(B, 6001));
    b.listen(world, "0.0.0.0:6000");
    a.connect(world, "0.0.0.0:5000", at(B, 6000));
    world.advance(ms(100));
    let seen = a.captured(world, capture).unwrap();
    assert_eq!((seen.source, seen.destination), (at(A, 5000), at(B, 6000)));
    assert_eq!((seen.flags, seen.acknowledgment), (segment::flag::SYN, 0));
    assert!(seen.options.max_segment_size.is_some() && seen.options.window_scale.is_some());
    assert_eq!(a.captured(world, other), None);
    let told = a.told(world);
    let count = told.iter().filter(|told| matches!(told, Told::Captured { .. })).count();
    assert_eq!(count, 1, "of a SYN, an ACK and whatever followed");
    assert_eq!(segments(&pair, 0)[0].2, seen.sequence);
}

#[test]
fn a_closed_capture_sees_nothing() {
    let mut pair = privileged(Privileges::ALL);
    let Pair { world, a, .. } = &mut pair;
    let capture = a.capture(world, "203.0.113.1:5000", at(B, 6000));
    a.close(world, capture);
    a.connect(world, "0.0.0.0:5000", at(B, 6000));
    world.advance(ms(100));
    assert_eq!(a.captured(world, capture), None);
}

#[test]
fn two_assumed_ends_are_connected_without_any_syn_and_carry_messages() {
    let mut pair = privileged(Privileges { raw: false, admin: true });
    let sockets = [0, 1].map(|side| {
        let handle = [pair.a, pair.b][side];
        handle.assume(&mut pair.world, ends()[side], agreed()[side], Hops::USUAL)
    });
    for (handle, socket) in [pair.a, pair.b].into_iter().zip(sockets) {
        let (when, result) = handle.outcome(&mut pair.world, socket).unwrap();
        assert_eq!((when, result.is_ok()), (ms(0), true));
    }
    pair.a.message(&mut pair.world, sockets[0], MESSAGE.to_vec());
    pair.world.advance(ms(20));
    let message = Told::Message { socket: sockets[1], payload: MESSAGE.to_vec() };
    assert!(pair.b.told(&mut pair.world).contains(&message), "after one delay");
    pair.b.message(&mut pair.world, sockets[1], MESSAGE.to_vec());
    pair.world.advance(ms(100));
    let message = Told::Message { socket: sockets[0], payload: MESSAGE.to_vec() };
    assert!(pair.a.told(&mut pair.world).contains(&message));
    for (side, initial) in [u32::MAX, 77].into_iter().enumerate() {
        let sent = segments(&pair, side);
        assert!(sent.iter().all(|it| it.1 & (flag::SYN | flag::RST) == 0), "{sent:?}");
        assert_eq!((sent[0].1, sent[0].2), (flag::ACK, initial), "the probe");
        assert_eq!(sent[1].2, initial.wrapping_add(1));
    }
    // Windows are told in the units that each side agreed to.
    let windows = |side: usize| {
        let place = pair.world.place(pair.hosts[side]);
        let journeys = pair.world.trace().journeys().iter();
        let own = journeys.filter(move |journey| journey.stations[0].place == place);
        own.filter_map(|journey| {
            Some(Packet::parse(&journey.stations[0].packet).ok()?.tcp()?.window)
        })
        .max()
    };
    assert_eq!([windows(0), windows(1)], [Some(65_535 >> 7), Some(65_535 >> 2)]);
}

#[test]
fn an_assumed_socket_has_a_pair_of_ends_to_itself_and_ends_with_a_rst() {
    let mut pair = privileged(Privileges::ALL);
    let Pair { world, a, .. } = &mut pair;
    let socket = a.assume(world, ends()[0], agreed()[0], Hops::USUAL);
    let twin = a.assume(world, ends()[0], agreed()[0], Hops::USUAL);
    assert_eq!(a.outcome(world, twin).unwrap().1, Err(IoFailure::AddressNotAvailable));
    // The other host has no such socket: its kernel says so.
    world.advance(ms(100));
    let ended = Told::Ended { socket, reason: IoFailure::Reset };
    assert!(a.told(world).contains(&ended));
}

#[test]
fn an_assumed_socket_survives_the_death_of_its_opener() {
    let mut pair = privileged(Privileges::ALL);
    let low = Hops { ttl: Some(1), least: None };
    let socket = pair.a.assume(&mut pair.world, ends()[0], agreed()[0], low);
    pair.world.advance(ms(100));
    let partner = pair.b.assume(&mut pair.world, ends()[1], agreed()[1], Hops::USUAL);
    pair.a.adjust(&mut pair.world, socket, Hops::USUAL);
    pair.a.message(&mut pair.world, socket, MESSAGE.to_vec());
    pair.world.advance(ms(100));
    let message = Told::Message { socket: partner, payload: MESSAGE.to_vec() };
    assert!(pair.b.told(&mut pair.world).contains(&message));
}

#[test]
fn a_forged_answer_to_both_syns_connects_two_sockets() {
    // STUNT #1 and NATBLASTER share this end: a SYN-ACK nobody's kernel sent.
    let mut pair = privileged(Privileges::ALL);
    let shield = Hops { ttl: Some(2), least: Some(2) };
    let [(a, seen_a), (b, seen_b)] =
        [(pair.a, "0.0.0.0:5000", at(B, 6000)), (pair.b, "0.0.0.0:6000", at(A, 5000))].map(
            |(handle, local, remote)| {
                let capture = handle.capture(&mut pair.world, local, remote);
                let socket = handle.connect_with(&mut pair.world, local, remote, shield);
                (socket, handle.captured(&mut pair.world, capture).unwrap())
            },
        );
    pair.world.advance(ms(50));
    for (handle, socket, own, other) in [(pair.a, a, seen_a, seen_b), (pair.b, b, seen_b, seen_a)] {
        handle.adjust(&mut pair.world, socket, Hops::USUAL);
        let answer = Segment {
            flags: segment::flag::SYN | segment::flag::ACK,
            acknowledgment: other.sequence.wrapping_add(1),
            ..own
        };
        assert_eq!(handle.inject(&mut pair.world, answer, 64), Some(Answer::Sent(Ok(()))));
    }
    pair.world.advance(ms(50));
    pair.a.message(&mut pair.world, a, MESSAGE.to_vec());
    pair.world.advance(ms(50));
    let message = Told::Message { socket: b, payload: MESSAGE.to_vec() };
    assert!(pair.b.told(&mut pair.world).contains(&message));
}

#[test]
fn a_segment_for_the_host_itself_goes_into_its_own_stack() {
    // SYNI: the peer's SYN never travels, and the kernel answers it.
    let mut pair = privileged(Privileges { raw: true, admin: false });
    let site = pair.world.site("silent", &"firewall".parse().unwrap(), Quality::delay(ms(10)));
    let host = pair.world.host(site, "c");
    let peer = SocketAddr::new(pair.world.addresses(host)[0], 6000);
    pair.a.connect(&mut pair.world, "0.0.0.0:5000", peer);
    let sent = pair.a.inject(&mut pair.world, syn(peer, at(A, 5000)), 64);
    assert_eq!(sent, Some(Answer::Sent(Ok(()))));
    let flags: Vec<u8> = segments(&pair, 0).iter().map(|it| it.1).collect();
    assert_eq!(flags, [flag::SYN, flag::SYN | flag::ACK]);
}

#[test]
fn nobody_elses_ends_can_be_forged() {
    let mut pair = privileged(Privileges::ALL);
    let Pair { world, a, .. } = &mut pair;
    a.connect(world, "0.0.0.0:5000", at(B, 6000));
    let refused = Some(Answer::Sent(Err(IoFailure::NotPermitted)));
    for (source, destination) in [
        (at(A, 5001), at(B, 6000)),
        (at(A, 5000), at(B, 6001)),
        (at("198.51.100.7", 5000), at(B, 6000)),
    ] {
        assert_eq!(a.inject(world, syn(source, destination), 64), refused);
    }
}
