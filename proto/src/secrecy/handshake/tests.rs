//! Vectors, and what must not be taken. Tests.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|it| it.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn key(text: &str) -> SecretKey {
    SecretKey::from_bytes(hex(text).try_into().unwrap())
}

fn seed(number: u64) -> Seed {
    Seed::from_number(number)
}

/// A whole handshake between two keys.
fn shaken() -> (Initiation, Reception, Vec<u8>) {
    let (one, other) = (SecretKey::from_bytes([1; 32]), SecretKey::from_bytes([2; 32]));
    let (initiation, first) =
        Initiation::begin(&one, &other.public(), b"prologue", b"who I am", seed(1));
    let reception = Reception::read(&other, b"prologue", &first, seed(2)).unwrap();
    assert_eq!((reception.remote(), reception.payload()), (one.public(), &b"who I am"[..]));
    (initiation, reception, first)
}

/// The vector of the Cacophony project for this suite, with its ephemeral keys.
#[test]
fn the_messages_are_those_of_the_vector_and_so_is_the_channel() {
    let vector = |ephemeral: &'static str| {
        let suite: NoiseParams = SUITE.parse().unwrap();
        let bytes: &'static [u8] = Box::leak(hex(ephemeral).into_boxed_slice());
        Builder::with_resolver(suite, Box::new(Primitives(seed(0))))
            .fixed_ephemeral_key_for_testing_only(bytes)
            .prologue(b"John Galt")
            .unwrap()
    };
    let one = key("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1");
    let other = key("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893");
    let remote = other.public();
    let mut begun = vector("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")
        .local_private_key(one.as_bytes())
        .unwrap()
        .remote_public_key(&remote.0)
        .unwrap()
        .build_initiator()
        .unwrap();
    let mut asked = vector("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")
        .local_private_key(other.as_bytes())
        .unwrap()
        .build_responder()
        .unwrap();
    let first = write(&mut begun, b"Ludwig von Mises");
    assert_eq!(
        first,
        hex("ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944718da798efbcd91528\
             520204f904b9bd6c7413dccdc214d951e15253e39987f18146e8cd0873654207148333479d4d16c289\
             f0294b29960a72f48e0b7bba2e89083169825e59642148d492020664ccf7")
    );
    assert_eq!(read(&mut asked, &first).as_deref(), Ok(&b"Ludwig von Mises"[..]));
    let second = write(&mut asked, b"Murray Rothbard");
    assert_eq!(
        second,
        hex("95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088435361e70b2ed446e6c9\
             ec387d1d6b3b840f194e373979d241b203c4acafccf5")
    );
    let mut initiation = Initiation(begun);
    let (payload, mut ours) = initiation.finish(&second).unwrap();
    assert_eq!(payload, b"Murray Rothbard");
    let (initiators, responders) = asked.dangerously_get_raw_split();
    let mut theirs = Channel::new(responders, initiators);
    let sealed = |channel: &mut Channel, text: &[u8]| {
        let mut message = text.to_vec();
        channel.seal(&[], &mut message);
        message
    };
    let message = sealed(&mut ours, b"F. A. Hayek");
    assert_eq!(message, hex("050e9f3c8fac16b68dbce8f8c4bfbf6617c897f9ada4aa29aa19c8"));
    let message = sealed(&mut theirs, b"Carl Menger");
    assert_eq!(message, hex("344233a6cabb7141d80f3da2fedc311d9646bbb0f505afe403a667"));
    let message = sealed(&mut ours, b"Jean-Baptiste Say");
    assert_eq!(message, hex("62cdeeb172ad7ade7aa7d9e069da5790f12331bfa00177787a1d0810c67dc3b2b4"));
}

#[test]
fn both_ends_have_one_channel_then() {
    let (mut initiation, reception, _) = shaken();
    let (second, mut theirs) = reception.answer(b"welcome");
    let (payload, mut ours) = initiation.finish(&second).unwrap();
    assert_eq!(payload, b"welcome");
    let mut message = b"ping".to_vec();
    let counter = ours.seal(b"", &mut message);
    assert_eq!(theirs.open(counter, b"", &message).as_deref(), Ok(&b"ping"[..]));
    let mut message = b"pong".to_vec();
    let counter = theirs.seal(b"", &mut message);
    assert_eq!(ours.open(counter, b"", &message).as_deref(), Ok(&b"pong"[..]));
}

#[test]
fn equal_seeds_make_equal_messages_and_others_do_not() {
    let (one, other) = (SecretKey::from_bytes([1; 32]), SecretKey::from_bytes([2; 32]).public());
    let first = |number| Initiation::begin(&one, &other, b"", b"payload", seed(number)).1;
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
}

#[test]
fn no_name_and_no_key_can_be_read_in_the_first_message() {
    let (_, _, first) = shaken();
    let own = SecretKey::from_bytes([1; 32]).public();
    for secret in [&b"who I am"[..], &own.0] {
        assert!(!first.windows(secret.len()).any(|it| it == secret));
    }
}

#[test]
fn nothing_changed_and_nothing_cut_is_taken() {
    let other = SecretKey::from_bytes([2; 32]);
    let (mut initiation, reception, first) = shaken();
    let (second, _) = reception.answer(b"welcome");
    for (place, length) in (0..first.len()).zip(0..) {
        let mut changed = first.clone();
        changed[place] ^= 0x40;
        assert!(Reception::read(&other, b"prologue", &changed, seed(2)).is_err(), "{place}");
        assert!(Reception::read(&other, b"prologue", &first[..length], seed(2)).is_err());
    }
    for place in 0..second.len() {
        let mut changed = second.clone();
        changed[place] ^= 0x40;
        assert!(initiation.finish(&changed).is_err(), "{place}");
        assert!(initiation.finish(&second[..place]).is_err());
    }
    assert!(initiation.finish(&second).is_ok(), "the right one is taken all the same");
}

#[test]
fn another_key_and_another_prologue_are_not_taken() {
    let (_, _, first) = shaken();
    let (other, third) = (SecretKey::from_bytes([2; 32]), SecretKey::from_bytes([3; 32]));
    assert!(Reception::read(&third, b"prologue", &first, seed(2)).is_err());
    assert!(Reception::read(&other, b"another", &first, seed(2)).is_err());
}
