//! What readers, writers, recorders and impostors get from a broker that speaks sealed.

use super::*;
use crate::secrecy::{Initiation, PublicKey, SecretKey};
use crate::signal::client::{BrokerIdentity, RegistrationError, Secrecy, Trust};
use crate::signal::envelope::prologue;
use crate::signal::message::{Nonce, Secure};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The key of a peer in a sealed world.
fn key_of(peer: usize) -> SecretKey {
    SecretKey::from_bytes([peer as u8 + 1; 32])
}

fn broker(world: &World) -> &Broker {
    world.broker.as_ref().unwrap()
}

fn is_registered(event: &client::Event) -> bool {
    matches!(event, client::Event::Registered { .. })
}

fn failure(world: &World, peer: usize) -> Option<&RegistrationError> {
    world.peers[peer].events.iter().find_map(|(_, event)| match event {
        client::Event::RegistrationFailed { error, .. } => Some(error),
        _ => None,
    })
}

/// A peer with a key of its own choice.
fn peer_with(world: &mut World, called: &str, identity: SecretKey, trust: Trust) -> usize {
    let secrecy = Secrecy::Sealed { identity, trust };
    let mut config = client::Config::new(Fingerprint([9; 32]), secrecy);
    config.name = Some(name(called));
    config.udp_broker = Some("broker.example".parse().unwrap());
    config.tcp_broker = Some("broker.example".parse().unwrap());
    world.peer_with(config, ms(20))
}

/// Registers, calls, tells news, moves on and leaves.
fn a_whole_life(world: &mut World) {
    let alice = world.registered(Some("alice-of-wonderland"), ms(20));
    let bob = world.registered(Some("bob-the-builder"), ms(30));
    world.call(alice, "bob-the-builder");
    world.run_for(seconds(1));
    let session = world.punches(alice)[0].1.session;
    let (candidates, note) = (world.candidates(alice), Note::new(b"a-secret-note").unwrap());
    for peer in [alice, bob] {
        world.with(peer, |client, _| client.follow(session, None));
    }
    world.with(alice, |client, now| client.publish(session, candidates, note, now));
    world.run_for(seconds(65));
    world.with(bob, client::Client::unregister);
    world.run_for(seconds(1));
}

/// What nobody on the path shall read.
fn secrets() -> Vec<Vec<u8>> {
    let mut secrets: Vec<Vec<u8>> =
        ["alice-of-wonderland", "bob-the-builder", "a-secret-note"].map(Vec::from).to_vec();
    secrets.extend((0..2).map(|peer| key_of(peer).public().0.to_vec()));
    // The certificate of peer 0 is all zeros in this world.
    secrets.push(vec![1; 32]);
    secrets
}

fn shows(sent: &Sent, secret: &[u8]) -> bool {
    sent.payload.windows(secret.len()).any(|it| it == secret)
}

#[test]
fn a_capture_shows_no_name_no_key_no_certificate_and_no_address() {
    let mut clear = World::new(1);
    a_whole_life(&mut clear);
    let told_in_the_clear = |secret: &&Vec<u8>| clear.sent.iter().any(|it| shows(it, secret));
    assert_eq!(
        secrets().iter().filter(told_in_the_clear).count(),
        4,
        "the test sees what there is"
    );
    for over_udp in [true, false] {
        let mut world = World::sealed(1);
        world.weather = Weather::default();
        let (alice, bob) = (world.peer(Some("alice-of-wonderland"), ms(20)), 1);
        world.peers[alice].udp = over_udp;
        world.start(alice);
        world.run_until_event(alice, is_registered);
        assert_eq!(world.registered(Some("bob-the-builder"), ms(30)), bob);
        world.call(alice, "bob-the-builder");
        world.run_for(seconds(30));
        assert_eq!(world.punches(alice).len(), 1);
        for sent in &world.sent {
            for secret in secrets() {
                assert!(!shows(sent, &secret), "{sent:?}");
            }
            // Neither a candidate, nor the address that the broker sees, obscured or not.
            let readable = Message::parse(&sent.payload).map(|it| it.message.body);
            let harmless = match &readable {
                Ok(Body::Hello | Body::Secure(_) | Body::Secured(_)) => true,
                Ok(Body::Refused(refused)) => refused.unknown.is_empty(),
                Err(_) => Envelope::parse(&sent.payload).is_some(),
                Ok(_) => false,
            };
            assert!(harmless, "{readable:?}");
        }
    }
}

#[test]
fn a_sealed_life_is_a_life_and_costs_no_round_trip_more() {
    let mut world = World::sealed(2);
    a_whole_life(&mut world);
    let told = |peer: usize, wanted: fn(&client::Event) -> bool| world.has_told(peer, wanted);
    assert_eq!(told(1, |it| matches!(it, client::Event::PeerNews { .. })), 1);
    assert_eq!(told(1, |it| matches!(it, client::Event::Unregistered)), 1);
    assert_eq!(broker(&world).registered(), 1);
    assert_eq!((broker(&world).counters().expired, world.punches(1).len()), (0, 1));
    assert_eq!(world.punches(0)[0].1.identity, Some(key_of(1).public()));
    assert_eq!(world.punches(1)[0].1.identity, Some(key_of(0).public()));
    let mut world = World::sealed(3);
    let peer = world.peer(Some("alice"), ms(20));
    world.start(peer);
    assert_eq!(world.run_until_event(peer, is_registered), ms(80), "as in the clear");
}

#[test]
fn bad_weather_harms_sealed_messages_no_more_than_others() {
    let weather = Weather { lost: 200, doubled: 200, jitter: ms(40) };
    for seed in 0..30 {
        let mut world = World::sealed(seed);
        world.weather = weather;
        world.registered(Some("alice"), ms(20));
        world.registered(Some("bob"), ms(20));
        world.call(0, "bob");
        world.run_until_event(0, |it| matches!(it, client::Event::Punch { .. }));
        world.run_for(seconds(90));
        assert_eq!(world.punches(1).len(), 1, "seed {seed}");
        let lost = |it: &client::Event| matches!(it, client::Event::RegistrationLost { .. });
        assert_eq!(world.has_told(0, lost) + world.has_told(1, lost), 0, "seed {seed}");
    }
}

#[test]
fn a_name_stays_with_its_key_until_the_lease_ends_even_if_its_owner_is_silent() {
    let mut world = World::sealed(4);
    let alice = world.registered(Some("alice"), ms(20));
    world.peers[alice].alive = false;
    let thief = peer_with(&mut world, "alice", SecretKey::from_bytes([66; 32]), Trust::FirstUse);
    world.start(thief);
    world.run_for(seconds(50));
    let taken = failure(&world, thief);
    assert!(matches!(taken, Some(RegistrationError::NameTaken { .. })), "{taken:?}");
    assert_eq!(world.has_told(thief, is_registered), 0);
    assert!(broker(&world).counters().name_conflicts > 2);
    assert_eq!(broker(&world).counters().dead_holders, 0);
    world.run_for(seconds(60));
    assert_eq!(world.has_told(thief, is_registered), 1, "the lease has ended");
}

#[test]
fn the_owner_of_a_key_gets_its_name_back_as_soon_as_it_is_known_to_have_crashed() {
    let mut world = World::sealed(5);
    let alice = world.registered(Some("alice"), ms(20));
    world.peers[alice].alive = false;
    let again = peer_with(&mut world, "alice", key_of(alice), Trust::FirstUse);
    world.start(again);
    let since = world.elapsed();
    assert!(world.run_until_event(again, is_registered) - since < seconds(3));
}

#[test]
fn reserved_names_are_for_their_keys_and_a_closed_broker_for_nobody_else() {
    for only_reserved in [false, true] {
        let keys = vec![key_of(0).public()];
        let reserved = [(name("alice"), keys)].into();
        let names = Names { reserved, only_reserved };
        let mut world = World::with_config(6, Config { names, ..Config::default() });
        world.sealed = true;
        world.registered(Some("alice"), ms(20));
        let thief =
            peer_with(&mut world, "alice", SecretKey::from_bytes([66; 32]), Trust::FirstUse);
        let other = world.peer(Some("carol"), ms(20));
        world.start(thief);
        world.start(other);
        world.run_for(seconds(3));
        let refused = failure(&world, thief);
        let key = SecretKey::from_bytes([66; 32]).public();
        assert!(
            matches!(refused, Some(RegistrationError::NotAllowed { key: it, .. }) if *it == key),
            "{refused:?}"
        );
        assert_eq!(world.has_told(other, is_registered), usize::from(!only_reserved));
    }
}

#[test]
fn nothing_that_was_recorded_is_worth_anything_a_second_time() {
    let mut world = World::sealed(7);
    a_whole_life(&mut world);
    let before = broker(&world).counters().clone();
    let recorded: Vec<Sent> = world.sent.iter().filter(|it| it.to_broker).cloned().collect();
    let addresses = [world.peers[0].address, world.peers[1].address, stranger(9)];
    for sent in &recorded {
        for address in addresses {
            for answer in world.ask_broker(address, &sent.payload) {
                assert!(answer.len() <= sent.payload.len(), "no amplification");
                let body = Message::parse(&answer).unwrap().message.body;
                assert!(matches!(body, Body::Refused(_)), "{body:?}");
            }
        }
        let link = Link::Tcp { stream: StreamId(77), remote: stranger(9) };
        for answer in world.ask_broker_on(link, &sent.payload) {
            let body = Message::parse(&answer).unwrap().message.body;
            assert!(matches!(body, Body::Refused(_)), "{body:?}");
        }
    }
    let after = broker(&world).counters().clone();
    assert_eq!(broker(&world).registered(), 1, "who has left stays away");
    assert_eq!((after.registered, after.ordered), (before.registered, before.ordered));
    assert_eq!(after.relayed, before.relayed);
    assert!(after.replayed > before.replayed);
}

#[test]
fn a_handshake_that_was_recorded_is_not_taken_within_the_minute_either() {
    let mut world = World::sealed(8);
    let alice = world.registered(Some("alice"), ms(20));
    let address = world.peers[alice].address;
    let is_handshake = |it: &&Sent| {
        let parsed = Message::parse(&it.payload);
        it.to_broker && matches!(parsed.map(|it| it.message.body), Ok(Body::Secure(_)))
    };
    let handshake = world.sent.iter().find(is_handshake).unwrap().payload.clone();
    world.run_for(seconds(1));
    let welcome = world.ask_broker(address, &handshake);
    world.run_for(seconds(21));
    assert_eq!(world.ask_broker(address, &handshake), Vec::<Vec<u8>>::new(), "it has spoken since");
    // Even when the registration is gone.
    world.with(alice, client::Client::unregister);
    world.run_for(seconds(1));
    let registered = broker(&world).counters().registered;
    assert_eq!(world.ask_broker(address, &handshake), Vec::<Vec<u8>>::new());
    assert_eq!((broker(&world).registered(), registered), (0, 1));
    assert_eq!(welcome.len(), 1, "the lost answer, as it was");
}

#[test]
fn no_changed_bit_and_no_missing_byte_of_a_sealed_message_has_an_effect() {
    let mut world = World::sealed(9);
    let alice = world.registered(Some("alice"), ms(20));
    world.run_for(seconds(21));
    let mut raw = SealedRaw::register(&mut world, "mallory", &key_of(40), stranger(1)).unwrap();
    let good = raw.seal(Body::Lookup(name("alice")));
    let lookups = broker(&world).counters().answered;
    for bit in 0..(good.len() - 8) * 8 {
        let mut changed = good.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        // A wrong FINGERPRINT would hide what comes behind it.
        let answers = world.ask_broker(stranger(1), &with_fingerprint(&changed));
        let harmless = |it: &Vec<u8>| {
            let refused = Message::parse(it).map(|it| it.message.body);
            it.len() <= changed.len() && matches!(refused, Ok(Body::Refused(_)))
        };
        assert!(answers.iter().all(harmless), "bit {bit}");
    }
    for length in 0..good.len() {
        assert!(world.ask_broker(stranger(1), &good[..length]).is_empty());
    }
    assert_eq!(broker(&world).counters().answered, lookups);
    assert!(broker(&world).counters().broken_seals > 1000);
    assert_eq!(world.ask_broker(stranger(1), &good).len(), 1, "the right one still passes");
    assert!(world.has_told(alice, is_registered) == 1);
}

#[test]
fn no_changed_bit_of_a_handshake_registers_anybody() {
    let mut world = World::sealed(10);
    let (nonce, shown) = challenge(&mut world, stranger(1));
    let (_, secure) = shake("mallory", &key_of(40), &nonce, shown);
    for bit in (0..secure.noise.len() * 8).step_by(7) {
        let mut noise = secure.noise.clone();
        noise[bit / 8] ^= 1 << (bit % 8);
        let message =
            Message::new(transaction(1), Body::Secure(Secure { noise, hint: secure.hint }));
        let bytes = message.with_nonce(nonce.clone()).emit(None);
        world.now += ms(100);
        assert!(world.ask_broker(stranger(1), &bytes).is_empty(), "bit {bit}");
    }
    assert_eq!(broker(&world).registered(), 0);
    assert!(broker(&world).counters().broken_handshakes > 100);
}

#[test]
fn nobody_who_has_shaken_hands_goes_back_to_speaking_in_the_clear() {
    let mut world = World::sealed(11);
    let mut raw = SealedRaw::register(&mut world, "mallory", &key_of(40), stranger(1)).unwrap();
    let signed = raw.request(Body::Unregister).emit(Some(&raw.key));
    let answers = world.ask_broker(stranger(1), &signed);
    let refused = Message::parse(&answers[0]).unwrap().message;
    assert_eq!(code_of(&refused), Some(ErrorCode::UnknownRegistration));
    assert_eq!(broker(&world).registered(), 1);
    let sealed = raw.seal(Body::Unregister);
    assert_eq!(world.ask_broker(stranger(1), &sealed).len(), 1);
    assert_eq!(broker(&world).registered(), 0);
}

#[test]
fn a_broker_that_is_not_told_otherwise_refuses_to_speak_in_the_clear() {
    let mut world = World::sealed(12);
    let seed = Seed::from_number(1);
    world.broker = Some(Broker::new(Config::default(), seed, world.now));
    let request = Message::new(transaction(1), register("mallory"));
    let answer = answer_to(&mut world, stranger(1), &request, None);
    assert_eq!(code_of(&answer), Some(ErrorCode::SecrecyRequired));
    assert_eq!(broker(&world).counters().in_the_clear, 1);
    world.sealed = false;
    let plain = world.peer(Some("alice"), ms(20));
    world.start(plain);
    world.run_for(seconds(1));
    let refused = failure(&world, plain);
    assert!(matches!(refused, Some(RegistrationError::SecrecyRequired { .. })), "{refused:?}");
}

#[test]
fn nothing_unproven_gets_more_bytes_than_it_sent() {
    let mut world = World::sealed(13);
    let hello = Message::new(transaction(1), Body::Hello).emit(None);
    let transmit = Some(TransmitCount { request: 255, response: 0 });
    let counted = Message { transmit, ..Message::new(transaction(1), Body::Hello) }.emit(None);
    let (nonce, shown) = challenge(&mut world, stranger(1));
    let (_, secure) = shake("mallory", &key_of(40), &nonce, shown);
    let stolen = Message::new(transaction(1), Body::Secure(secure)).with_nonce(nonce).emit(None);
    for bytes in [hello, counted, stolen] {
        let answers = world.ask_broker(stranger(2), &bytes);
        let lengths: Vec<usize> = answers.iter().map(Vec::len).collect();
        assert!(lengths.len() == 1 && lengths[0] <= bytes.len(), "{lengths:?}, {}", bytes.len());
    }
    assert_eq!((broker(&world).registered(), broker(&world).counters().handshakes), (0, 0));
}

#[test]
fn who_reads_and_writes_on_a_path_cannot_move_to_the_address_of_another_peer() {
    let mut world = World::sealed(14);
    let alice = world.registered(Some("alice"), ms(20));
    let address = world.peers[alice].address;
    let mut raw = SealedRaw::register(&mut world, "mallory", &key_of(40), stranger(1)).unwrap();
    // In alice's name, with the nonce that was sent to her.
    let (nonce, shown) = challenge(&mut world, address);
    let request = raw.request(refresh()).with_nonce(nonce.clone());
    let sealed = raw.seal_message(&request);
    world.ask_broker(address, &sealed);
    assert_eq!(broker(&world).registered(), 2);
    // Nor by registering there.
    let (initiation, secure) = shake("other", &key_of(40), &nonce, shown);
    let message = Message::new(transaction(1), Body::Secure(secure)).with_nonce(nonce);
    let answers = world.ask_broker(address, &message.emit(None));
    assert_eq!(
        inside(initiation, &answers[0]),
        Body::Refused(Refused::new(SignalMethod::Register, ErrorCode::NameTaken,))
    );
    world.run_for(seconds(65));
    let lost = |it: &client::Event| matches!(it, client::Event::RegistrationLost { .. });
    assert_eq!(world.has_told(alice, lost), 0);
}

#[test]
fn a_registration_moves_onto_a_stream_only_for_who_shows_a_nonce_of_that_stream() {
    let mut world = World::sealed(31);
    let mut raw = SealedRaw::register(&mut world, "mallory", &key_of(40), stranger(1)).unwrap();
    let link_of = |world: &World, raw: &SealedRaw| {
        broker(world).registry().get(raw.registration).map(Registration::link)
    };
    let at_home = link_of(&world, &raw);
    let stream = |number| Link::Tcp { stream: StreamId(number), remote: stranger(2) };
    // Somebody on the path has kept a Refresh from the broker, and writes it on a stream of its own.
    let held_back = raw.seal(refresh());
    let mut nonces = Vec::new();
    for number in [101, 102] {
        let answers = world.ask_broker_on(stream(number), &held_back);
        let refused = Message::parse(&answers[0]).unwrap().message;
        assert_eq!((answers.len(), code_of(&refused)), (1, Some(ErrorCode::StaleNonce)));
        assert_eq!(link_of(&world, &raw), at_home);
        nonces.push(refused.nonce.unwrap());
    }
    // A nonce of one stream, in a request that only the peer can seal, moves it there and nowhere else.
    let shown = raw.request(refresh()).with_nonce(nonces[0].clone());
    let shown = raw.seal_message(&shown);
    world.ask_broker_on(stream(102), &shown);
    assert_eq!(link_of(&world, &raw), at_home);
    assert_eq!(world.ask_broker_on(stream(101), &shown).len(), 1);
    assert_eq!(link_of(&world, &raw), Some(stream(101)));
    // There it goes on without one.
    let lookup = raw.seal(Body::Lookup(name("mallory")));
    let again = raw.seal(refresh());
    for bytes in [lookup, again] {
        let answers = world.ask_broker_on(stream(101), &bytes);
        assert!(Envelope::parse(&answers[0]).is_some(), "an answer, and no refusal");
    }
    assert_eq!(link_of(&world, &raw), Some(stream(101)));
}

#[test]
fn a_copy_that_was_sent_ahead_from_elsewhere_does_not_make_a_replay_of_the_original() {
    let mut world = World::sealed(32);
    let mut raw = SealedRaw::register(&mut world, "mallory", &key_of(40), stranger(1)).unwrap();
    let sealed = raw.seal(refresh());
    for _ in 0..3 {
        let answers = world.ask_broker(stranger(2), &sealed);
        let refused = Message::parse(&answers[0]).unwrap().message;
        assert_eq!(code_of(&refused), Some(ErrorCode::StaleNonce));
        assert!(answers.len() == 1 && answers[0].len() <= sealed.len());
    }
    let answers = world.ask_broker(stranger(1), &sealed);
    assert_eq!(answers.len(), 1);
    assert!(Envelope::parse(&answers[0]).is_some(), "the original is answered");
    let replayed = broker(&world).counters().replayed;
    for port in [1, 2] {
        assert!(world.ask_broker(stranger(port), &sealed).is_empty(), "and only once");
    }
    assert_eq!(broker(&world).counters().replayed, replayed + 2);
}

/// A Refresh that changes nothing.
fn refresh() -> Body {
    Body::Refresh(Refresh { lease: seconds(60), candidates: None, nat: None, rtt: None })
}

#[test]
fn a_pinned_key_is_believed_and_no_other_one() {
    let right = SecretKey::from_bytes([0xB0; 32]).public();
    let wrong = SecretKey::from_bytes([0xB1; 32]).public();
    for (pinned, works) in [(vec![right], true), (vec![wrong, right], true), (vec![wrong], false)] {
        let mut world = World::sealed(15);
        let trust = Trust::Pinned(pinned);
        let peer = peer_with(&mut world, "alice", key_of(0), trust);
        world.start(peer);
        world.run_for(seconds(3));
        let identity = world.peers[peer].events.iter().find_map(|(_, event)| match event {
            client::Event::Registered { identity, .. } => Some(*identity),
            _ => None,
        });
        if works {
            let proven = BrokerIdentity::Proven { key: right, newest: right, pinned: true };
            assert_eq!(identity, Some(proven));
        } else {
            let refused = failure(&world, peer);
            let shown = Some(right);
            assert!(
                matches!(refused, Some(RegistrationError::BrokerKey { shown: it, .. }) if *it == shown),
                "{refused:?}"
            );
            assert_eq!(broker(&world).registered(), 0);
        }
    }
}

#[test]
fn who_trusts_on_first_use_says_so_and_does_not_trust_another_one_later() {
    let mut world = World::sealed(16);
    let alice = world.registered(Some("alice"), ms(20));
    let right = SecretKey::from_bytes([0xB0; 32]).public();
    let identity = BrokerIdentity::Proven { key: right, newest: right, pinned: false };
    assert!(matches!(
        world.peers[alice].events[0].1,
        client::Event::Registered { identity: it, .. } if it == identity
    ));
    world.keys = vec![SecretKey::from_bytes([0xB1; 32])];
    world.restart_broker(3);
    world.run_for(seconds(30));
    let refused = failure(&world, alice);
    assert!(matches!(refused, Some(RegistrationError::BrokerKey { .. })), "{refused:?}");
    assert_eq!(broker(&world).registered(), 0);
}

#[test]
fn a_broker_changes_its_key_and_loses_nobody() {
    let mut world = World::sealed(17);
    let alice = world.registered(Some("alice"), ms(20));
    let (old, new) = (SecretKey::from_bytes([0xB0; 32]), SecretKey::from_bytes([0xB1; 32]));
    world.broker.as_mut().unwrap().set_keys(vec![new.clone(), old.clone()]);
    world.run_for(seconds(65));
    assert_eq!(world.has_told(alice, is_registered), 1, "who is registered notices nothing");
    // Who has pinned the old one gets in, and is told the new one.
    let trust = Trust::Pinned(vec![old.public()]);
    let bob = peer_with(&mut world, "bob", key_of(1), trust);
    world.start(bob);
    world.run_until_event(bob, is_registered);
    let (key, newest) = (old.public(), new.public());
    let expected = BrokerIdentity::Proven { key, newest, pinned: true };
    assert!(matches!(
        world.peers[bob].events[0].1,
        client::Event::Registered { identity, .. } if identity == expected
    ));
    // From then on the old one may go.
    world.keys = vec![new];
    world.restart_broker(5);
    world.run_until_event(bob, is_registered);
}

#[test]
fn a_restarted_broker_is_recognised_and_its_peers_come_back() {
    let mut world = World::sealed(18);
    for udp in [true, false] {
        let peer = world.peer(Some(if udp { "alice" } else { "bob" }), ms(20));
        world.peers[peer].udp = udp;
        world.start(peer);
        world.run_until_event(peer, is_registered);
    }
    world.restart_broker(4);
    world.run_for(seconds(25));
    assert_eq!(broker(&world).registered(), 2);
}

#[test]
fn handshakes_of_one_address_are_counted_and_others_go_on() {
    let mut world = World::sealed(19);
    let (nonce, shown) = challenge(&mut world, stranger(1));
    let mut refused = 0;
    for number in 0..400u16 {
        let port = 1000 + number;
        let (fresh, _) = challenge(&mut world, stranger(port));
        let (_, secure) = shake("x", &key_of(usize::from(number % 200)), &nonce, shown);
        let message = Message::new(transaction(1), Body::Secure(secure)).with_nonce(fresh);
        let answers = world.ask_broker(stranger(port), &message.emit(None));
        let answers = answers.iter().map(|it| Message::parse(it).unwrap().message);
        refused += answers.filter(|it| code_of(it) == Some(ErrorCode::TooManyRequests)).count();
    }
    assert_eq!(refused, 400 - 256);
    world.registered(Some("alice"), ms(20));
}

/// What a stranger is told first.
pub(super) fn challenge(world: &mut World, source: SocketAddr) -> (Nonce, PublicKey) {
    let hello = Message::new(transaction(0), Body::Hello).emit(None);
    let answers = world.ask_broker(source, &hello);
    let message = Message::parse(&answers[0]).unwrap().message;
    let Body::Refused(refused) = message.body else { panic!("{message:?}") };
    (message.nonce.unwrap(), refused.identity.unwrap())
}

fn shake(
    wanted: &str,
    identity: &SecretKey,
    nonce: &Nonce,
    broker: PublicKey,
) -> (Initiation, Secure) {
    let inner = Message::new(transaction(1), register(wanted)).emit(None);
    // Never the same ephemeral key twice.
    let mut seed = [0; 32];
    seed.copy_from_slice(&nonce.as_bytes()[8..40]);
    seed[0] ^= wanted.len() as u8;
    let seed = Seed(seed);
    let (initiation, noise) = Initiation::begin(identity, &broker, &prologue(nonce), &inner, seed);
    (initiation, Secure { hint: broker.hint(), noise })
}

/// What the answer to a handshake says inside.
pub(super) fn inside(mut initiation: Initiation, answer: &[u8]) -> Body {
    let Body::Secured(noise) = Message::parse(answer).unwrap().message.body else { panic!() };
    let (payload, _) = initiation.finish(&noise).unwrap();
    Message::parse(&payload).unwrap().message.body
}

/// The same bytes with a FINGERPRINT that fits.
pub(super) fn with_fingerprint(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let end = bytes.len() - 8;
    let crc = crc32fast::hash(&bytes[..end]) ^ 0x5354_554E;
    bytes[end + 4..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// A peer made of raw messages that has shaken hands.
struct SealedRaw {
    serial: u8,
    registration: RegistrationId,
    key: RegistrationKey,
    channel: crate::secrecy::Channel,
}

impl SealedRaw {
    fn register(
        world: &mut World,
        wanted: &str,
        identity: &SecretKey,
        address: SocketAddr,
    ) -> Result<Self, ErrorCode> {
        let (nonce, shown) = challenge(world, address);
        let (mut initiation, secure) = shake(wanted, identity, &nonce, shown);
        let message = Message::new(transaction(1), Body::Secure(secure)).with_nonce(nonce);
        let answers = world.ask_broker(address, &message.emit(None));
        let body = Message::parse(&answers[0]).unwrap().message.body;
        let Body::Secured(noise) = body else { panic!("{body:?}") };
        let (payload, channel) = initiation.finish(&noise).unwrap();
        match Message::parse(&payload).unwrap().message.body {
            Body::Registered(it) => {
                Ok(Self { serial: 1, registration: it.registration, key: it.key, channel })
            }
            Body::Refused(refused) => Err(refused.code),
            other => panic!("{other:?}"),
        }
    }

    fn request(&mut self, body: Body) -> Message {
        self.serial += 1;
        let registration = Some(self.registration);
        Message { registration, ..Message::new(transaction(self.serial), body) }
    }

    fn seal(&mut self, body: Body) -> Vec<u8> {
        let message = self.request(body);
        self.seal_message(&message)
    }

    fn seal_message(&mut self, message: &Message) -> Vec<u8> {
        let bytes = message.emit(Some(&self.key));
        Envelope::seal(&mut self.channel, self.registration, message.transaction, bytes)
    }
}
