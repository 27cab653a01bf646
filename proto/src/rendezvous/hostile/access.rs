//! What outsiders, impostors and those with old tokens get from a closed broker.

use super::*;
use crate::access::{
    AccessDenied, Credentials, NamePattern, Token, TokenClaims, TokenKey, long_term_key,
};
use crate::rendezvous::{Access, Account, Names};
use crate::secrecy::SecretKey;
use crate::signal::client::RegistrationError;
use crate::signal::message::Nonce;

/// What the clock of the broker says at first.
const NOON: Duration = Duration::from_secs(1_800_000_000);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn key(number: u8) -> TokenKey {
    TokenKey::from_bytes([number; 32])
}

/// A token of the key `number`, which it calls `id`.
fn token(number: u8, id: &str, expires: Duration, names: &str) -> Credentials {
    let claims = TokenClaims::new(id.parse().unwrap(), expires, names.parse().unwrap()).unwrap();
    Credentials::of_token(&Token::mint(&key(number), claims).to_string()).unwrap()
}

fn account(user: &str, password: &str) -> Credentials {
    Credentials::of_account(user.parse().unwrap(), password)
}

fn access(keys: &[(&str, u8)]) -> Access {
    let names: Vec<NamePattern> = vec!["alice".parse().unwrap(), "alice-*".parse().unwrap()];
    let alice = Account { key: long_term_key("alice", "right"), names };
    let token_keys = keys.iter().map(|(id, number)| (id.parse().unwrap(), key(*number)));
    Access {
        accounts: [("alice".parse().unwrap(), alice)].into(),
        token_keys: token_keys.collect(),
    }
}

/// A broker that lets in alice, and who has a token of the key "one".
fn closed(sealed: bool) -> World {
    let access = Some(access(&[("one", 1)]));
    let mut world = World::with_config(1, Config { access, ..Config::default() });
    world.sealed = sealed;
    set_clock(&mut world, NOON);
    world
}

fn set_clock(world: &mut World, unix: Duration) {
    let now = world.now;
    world.broker.as_mut().unwrap().set_wall_clock(unix, now);
}

/// Starts a peer with these credentials.
fn comes(world: &mut World, wanted: Option<&str>, shown: Option<Credentials>) -> usize {
    let peer = world.peer(wanted, ms(20));
    world.with(peer, |client, _| client.set_credentials(shown));
    world.start(peer);
    peer
}

fn is_in(world: &World, peer: usize) -> bool {
    world.has_told(peer, |it| matches!(it, client::Event::Registered { .. })) > 0
}

fn reason(world: &World, peer: usize) -> Option<AccessDenied> {
    world.peers[peer].events.iter().find_map(|(_, event)| match event {
        client::Event::RegistrationFailed {
            error: RegistrationError::Access { reason, .. },
            ..
        } => Some(*reason),
        _ => None,
    })
}

#[test]
fn a_closed_broker_lets_in_who_shows_an_account_or_a_token_and_tells_others_why_not() {
    let hour = NOON + seconds(3600);
    let ago = seconds(7);
    for sealed in [true, false] {
        for (wanted, shown, expected) in [
            (Some("alice"), Some(account("alice", "right")), None),
            (Some("alice-2"), Some(account("alice", "right")), None),
            (None, Some(account("alice", "right")), None),
            (Some("bob-1"), Some(token(1, "one", hour, "bob-*")), None),
            (Some("anybody"), Some(token(1, "one", hour, "*")), None),
            (None, None, Some(AccessDenied::Needed)),
            (Some("alice"), Some(account("alice", "wrong")), Some(AccessDenied::Wrong)),
            (Some("alice"), Some(account("nobody", "right")), Some(AccessDenied::Wrong)),
            (Some("bob"), Some(account("alice", "right")), Some(AccessDenied::NameNotCovered)),
            (Some("bob"), Some(token(1, "two", hour, "bob")), Some(AccessDenied::UnknownKey)),
            (Some("bob"), Some(token(2, "one", hour, "bob")), Some(AccessDenied::Forged)),
            (Some("eve"), Some(token(1, "one", hour, "bob")), Some(AccessDenied::NameNotCovered)),
            (
                Some("bob"),
                Some(token(1, "one", NOON - ago, "bob")),
                // A hundredth of a second has passed in between.
                Some(AccessDenied::Expired { ago }),
            ),
        ] {
            let mut world = closed(sealed);
            let what = format!("{wanted:?} {shown:?} {sealed}");
            let peer = comes(&mut world, wanted, shown);
            world.run_for(ms(900));
            assert_eq!(reason(&world, peer), expected, "{what}");
            assert_eq!(is_in(&world, peer), expected.is_none(), "{what}");
            assert_eq!(world.broker.as_ref().unwrap().registered(), is_in(&world, peer).into());
        }
    }
}

#[test]
fn outsiders_do_not_learn_whether_a_name_is_taken_nor_disturb_its_holder() {
    let mut world = closed(true);
    let alice = comes(&mut world, Some("alice"), Some(account("alice", "right")));
    world.run_for(seconds(1));
    assert!(is_in(&world, alice));
    let thief = comes(&mut world, Some("alice"), Some(account("alice", "wrong")));
    world.run_for(seconds(1));
    assert_eq!(reason(&world, thief), Some(AccessDenied::Wrong));
    let counters = world.broker.as_ref().unwrap().counters();
    assert_eq!(counters.name_conflicts, 0);
    assert!(counters.kept_out > 0);
}

#[test]
fn what_was_shown_to_an_impostor_lets_nobody_in_at_the_broker_itself() {
    let mut world = closed(true);
    let address = stranger(1);
    let impostor = SecretKey::from_bytes([66; 32]);
    // This is what alice, who trusts on first use, has said to the owner of another key.
    let Body::Register(said) = register("alice") else { unreachable!() };
    let shown = account("alice", "right");
    for (meant_for, expected) in [
        (Some(impostor.public()), Some(AccessDenied::OtherBroker)),
        (None, Some(AccessDenied::OtherBroker)),
        (Some(world.keys[0].public()), None),
    ] {
        let register = Register { account: Some(shown.account.clone()), meant_for, ..said.clone() };
        let inner = Message::new(transaction(1), Body::Register(register)).emit(Some(&shown.key));
        let (nonce, key) = secrecy::challenge(&mut world, address);
        let seed = Seed::from_number(u64::from(meant_for.is_some()) + 7);
        let prologue = crate::signal::envelope::prologue(&nonce);
        let (initiation, noise) =
            crate::secrecy::Initiation::begin(&impostor, &key, &prologue, &inner, seed);
        let secure = crate::signal::message::Secure { hint: key.hint(), noise };
        let message = Message::new(transaction(1), Body::Secure(secure)).with_nonce(nonce);
        let answers = world.ask_broker(address, &message.emit(None));
        match (secrecy::inside(initiation, &answers[0]), expected) {
            (Body::Refused(refused), Some(_)) => assert_eq!(refused.access, expected),
            (Body::Registered(_), None) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
}

/// Says a Register in the clear, signed with `key`.
fn say(world: &mut World, link: Link, nonce: Option<Nonce>, shown: &Credentials) -> Message {
    let Body::Register(said) = register("alice") else { unreachable!() };
    let body = Body::Register(Register { account: Some(shown.account.clone()), ..said });
    let message = Message { nonce, ..Message::new(transaction(1), body) };
    let answers = world.ask_broker_on(link, &message.emit(Some(&shown.key)));
    Message::parse(&answers[0]).unwrap().message
}

#[test]
fn a_register_that_was_recorded_lets_nobody_in_from_another_address_nor_on_another_stream() {
    let mut world = closed(false);
    let shown = account("alice", "right");
    let streams = [1, 2].map(|it| Link::Tcp { stream: StreamId(it), remote: stranger(1) });
    let datagrams = [1, 2].map(|port| Link::Udp { local: None, remote: stranger(port) });
    for [own, others] in [streams, datagrams] {
        let challenge = say(&mut world, own, None, &shown);
        assert_eq!(code_of(&challenge), Some(ErrorCode::Unauthenticated));
        let nonce = challenge.nonce;
        assert_eq!(
            code_of(&say(&mut world, others, nonce.clone(), &shown)),
            Some(ErrorCode::StaleNonce)
        );
        assert_eq!(world.broker.as_ref().unwrap().registered(), 0);
        world.now += seconds(61);
        let late = say(&mut world, own, nonce, &shown);
        assert_eq!(code_of(&late), Some(ErrorCode::StaleNonce), "an expired nonce");
    }
}

#[test]
fn no_changed_bit_of_what_is_shown_lets_anybody_in() {
    let mut world = closed(false);
    let shown = token(1, "one", NOON + seconds(60), "alice");
    let Body::Register(said) = register("alice") else { unreachable!() };
    let body = Body::Register(Register { account: Some(shown.account.clone()), ..said });
    let signed = |world: &mut World, link| {
        let nonce = say(world, link, None, &shown).nonce;
        let message = Message::new(transaction(1), body.clone());
        Message { nonce, ..message }.emit(Some(&shown.key))
    };
    // Not more from one address than it may try.
    let link = |bit: usize| Link::Udp {
        local: None,
        remote: SocketAddr::from(([10, 0, (bit / 200) as u8, 1], 1)),
    };
    let bits = (signed(&mut world, link(0)).len() - 8) * 8;
    for bit in 0..bits {
        let mut changed = signed(&mut world, link(bit));
        changed[bit / 8] ^= 1 << (bit % 8);
        world.ask_broker_on(link(bit), &secrecy::with_fingerprint(&changed));
        assert_eq!(world.broker.as_ref().unwrap().registered(), 0, "bit {bit}");
    }
    assert_eq!(world.broker.as_ref().unwrap().counters().rate_limited, 0);
    let unchanged = signed(&mut world, link(bits));
    world.ask_broker_on(link(bits), &unchanged);
    assert_eq!(world.broker.as_ref().unwrap().registered(), 1, "unchanged it is good");
}

#[test]
fn passwords_are_guessed_a_few_hundred_times_and_then_slowly() {
    let mut world = closed(false);
    let link = Link::Udp { local: None, remote: stranger(1) };
    let right = account("alice", "right");
    let nonce = say(&mut world, link, None, &right).nonce;
    let guess = |number: u32| account("alice", &number.to_string());
    let guessed =
        (0..1000).map(|number| code_of(&say(&mut world, link, nonce.clone(), &guess(number))));
    let wrong = guessed.filter(|code| *code == Some(ErrorCode::Unauthenticated)).count();
    assert_eq!(wrong, 256);
    assert_eq!(code_of(&say(&mut world, link, nonce, &right)), Some(ErrorCode::TooManyRequests));
}

#[test]
fn keys_accounts_and_names_change_under_living_peers_and_nobody_is_dropped() {
    let mut world = closed(true);
    let day = NOON + seconds(86_400);
    let old = comes(&mut world, Some("old"), Some(token(1, "one", day, "old")));
    let alice = comes(&mut world, Some("alice"), Some(account("alice", "right")));
    world.run_for(seconds(1));
    assert!(is_in(&world, old) && is_in(&world, alice));
    // A second key beside the first: tokens of both are good.
    let broker = world.broker.as_mut().unwrap();
    broker.set_access(Some(access(&[("one", 1), ("two", 2)])));
    broker.set_keys(vec![SecretKey::from_bytes([0xB1; 32]), world.keys[0].clone()]);
    let new = comes(&mut world, Some("new"), Some(token(2, "two", day, "new")));
    let still = comes(&mut world, Some("still"), Some(token(1, "one", day, "still")));
    world.run_for(seconds(1));
    assert!(is_in(&world, new) && is_in(&world, still));
    // The first one goes, and with it alice's account; her name is reserved for somebody else.
    let only_two = Access { accounts: [].into(), ..access(&[("two", 2)]) };
    let reserved = [(name("alice"), vec![SecretKey::from_bytes([99; 32]).public()])].into();
    let broker = world.broker.as_mut().unwrap();
    broker.set_access(Some(only_two));
    broker.set_names(Names { reserved, only_reserved: false });
    let late = comes(&mut world, Some("late"), Some(token(1, "one", day, "late")));
    world.run_for(seconds(180));
    assert_eq!(reason(&world, late), Some(AccessDenied::UnknownKey));
    for peer in [old, alice, new, still] {
        let lost = world.has_told(peer, |it| matches!(it, client::Event::RegistrationLost { .. }));
        assert_eq!((is_in(&world, peer), lost), (true, 0), "peer {peer}");
    }
    world.call(old, "alice");
    world.run_for(seconds(1));
    assert_eq!(world.punches(old).len(), 1, "and they meet as before");
}

#[test]
fn a_clock_that_jumps_ends_no_registration_and_tells_only_tokens_apart() {
    let mut world = closed(true);
    let hour = NOON + seconds(3600);
    let bob = comes(&mut world, Some("bob"), Some(token(1, "one", hour, "bob")));
    world.run_for(seconds(1));
    assert!(is_in(&world, bob));
    for (unix, expected) in [
        (NOON + seconds(100_000), Some(AccessDenied::Expired { ago: seconds(96_400) })),
        (seconds(0), None),
        (Duration::MAX, Some(AccessDenied::Expired { ago: seconds(u32::MAX.into()) })),
        (NOON, None),
    ] {
        set_clock(&mut world, unix);
        let carol = comes(&mut world, Some("carol"), Some(token(1, "one", hour, "carol")));
        let alice = comes(&mut world, Some("alice"), Some(account("alice", "right")));
        world.run_for(ms(900));
        assert_eq!(reason(&world, carol), expected, "{unix:?}");
        assert!(is_in(&world, alice), "accounts do not expire: {unix:?}");
        for peer in [carol, alice] {
            world.with(peer, client::Client::unregister);
        }
        world.run_for(seconds(90));
    }
    assert_eq!(world.has_told(bob, |it| matches!(it, client::Event::RegistrationLost { .. })), 0);
}

#[test]
fn without_a_clock_no_token_is_good() {
    let access = Some(access(&[("one", 1)]));
    let mut world = World::with_config(1, Config { access, ..Config::default() });
    world.sealed = true;
    let bob = comes(&mut world, Some("bob"), Some(token(1, "one", NOON, "bob")));
    world.run_for(seconds(1));
    assert!(matches!(reason(&world, bob), Some(AccessDenied::Expired { .. })));
}
