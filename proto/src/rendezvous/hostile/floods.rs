//! Many at once, too much at once, and time that leaps.

use std::net::IpAddr;

use super::*;
use crate::signal::codec::MAX_MESSAGE_BYTES;

#[test]
fn a_flood_from_many_addresses_leaves_nothing_behind_and_others_their_answers() {
    let mut world = World::sealed(21);
    let alice = world.registered(Some("alice"), ms(20));
    let before = known(&world);
    let hello = Message::new(transaction(0), Body::Hello).emit(None);
    for number in 0..20_000_u32 {
        let ip = IpAddr::from((0x0A00_0000 + number).to_be_bytes());
        let answers = world.ask_broker(SocketAddr::new(ip, 1), &hello);
        assert!(answers.iter().map(Vec::len).sum::<usize>() <= hello.len());
    }
    assert_eq!(known(&world), before);
    let bob = world.registered(Some("bob"), ms(20));
    world.call(bob, "alice");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.punches(alice).len(), 1);
}

#[test]
fn what_is_longer_than_any_message_is_dropped_whatever_it_is() {
    let mut world = World::sealed(22);
    let alice = world.registered(Some("alice"), ms(20));
    let address = world.peers[alice].address;
    let before = known(&world);
    for sent in everything(&mut World::new(23)) {
        let mut payload = sent.payload;
        payload.resize(MAX_MESSAGE_BYTES + 1, 0);
        let length = u16::try_from(payload.len() - 20).unwrap() & !3;
        payload[2..4].copy_from_slice(&length.to_be_bytes());
        for source in [address, stranger(1)] {
            assert_eq!(world.ask_broker(source, &payload), Vec::<Vec<u8>>::new());
        }
    }
    assert_eq!(known(&world), before);
    assert!(world.broker.as_ref().unwrap().counters().oversized > 0);
}

#[test]
fn a_machine_that_slept_for_a_day_forgets_everybody_and_they_come_back() {
    let mut world = World::sealed(24);
    let peers = ["alice", "bob"].map(|name| world.registered(Some(name), ms(20)));
    world.call(peers[0], "bob");
    world.now += Duration::from_secs(86_400);
    world.run_for(Duration::from_secs(60));
    let broker = world.broker.as_ref().unwrap();
    assert_eq!((broker.registered(), broker.sessions()), (2, 0));
    world.call(peers[0], "bob");
    world.run_for(Duration::from_secs(1));
    assert!(!world.punches(peers[1]).is_empty());
}
