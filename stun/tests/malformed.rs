//! No bytes from the network do harm: the corpus of the fuzz targets, every truncation of it, every single bit
//! flipped, bytes drawn at random; and the rules by which messages are refused.

#[expect(unreachable_pub, reason = "the fuzz targets call it from another crate")]
#[path = "../../fuzz/src/message.rs"]
mod any_message;
#[expect(unreachable_pub, reason = "the fuzz targets call it from another crate")]
#[path = "../../fuzz/src/server.rs"]
mod any_request;

use ntcp_stun::attribute::{Software, Username};
use ntcp_stun::{
    AttributeType, Check, Class, Key, Message, Method, ParseError, TransactionId, WriteError,
    Writer,
};
use proptest::prelude::*;
use std::path::Path;

/// The files of one fuzz target's corpus.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut seeds: Vec<_> = files
        .map(|file| file.and_then(|it| std::fs::read(it.path())).expect("a readable seed"))
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 10, "the corpus of {target} is there");
    seeds
}

#[test]
fn the_corpus_its_truncations_and_its_flipped_bits_do_no_harm() {
    let check = |bytes: &[u8]| {
        any_message::check(bytes);
        any_request::check(bytes);
    };
    for seed in corpus("message") {
        check(&seed);
        for length in 0..seed.len() {
            check(&seed[..length]);
        }
        let mut flipped = seed;
        for bit in 0..flipped.len() * 8 {
            flipped[bit / 8] ^= 1 << (bit % 8);
            check(&flipped);
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_truncated_message_is_never_a_message() {
    for seed in corpus("message").iter().filter(|it| Message::parse_classic(it).is_ok()) {
        for length in 0..seed.len() {
            assert!(Message::parse_classic(&seed[..length]).is_err());
        }
    }
}

#[test]
fn a_flipped_bit_never_passes_fingerprint_or_integrity() {
    let key = Key::short_term(b"secret");
    let mut bytes = signed(&key);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(message) = Message::parse_classic(&bytes) {
            assert_ne!(message.fingerprint(), Check::Valid, "bit {bit}");
            let covered = bit / 8 < bytes.len() - 8;
            let checks = [message.integrity(&key), message.integrity_sha256(&key)];
            assert!(!covered || checks != [Check::Valid; 2], "bit {bit}");
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    let message = Message::parse(&bytes).expect("the last flip is undone");
    assert_eq!(message.fingerprint(), Check::Valid);
}

/// A message with both integrity attributes and FINGERPRINT.
fn signed(key: &Key) -> Vec<u8> {
    let mut buffer = vec![0; 200];
    let id = TransactionId::new([3; 12]);
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
    writer.attribute(&Username::new("user").expect("short")).expect("room");
    writer.integrity(key).expect("room");
    writer.integrity_sha256(key).expect("room");
    writer.fingerprint().expect("room");
    let length = writer.finish();
    buffer.truncate(length);
    buffer
}

/// A Binding request with these attributes, not checked by the writer.
fn request(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (attribute_type, value) in attributes {
        body.extend(attribute_type.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut bytes = vec![0, 1];
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend([0x21, 0x12, 0xA4, 0x42]);
    bytes.extend([9; 12]);
    bytes.extend(body);
    bytes
}

#[test]
fn each_fault_of_the_header_has_its_name() {
    let good = request(&[]);
    let error = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Message::parse(&bytes).err()
    };
    assert_eq!(error(|_| {}), None);
    assert_eq!(error(|it| it.truncate(19)), Some(ParseError::Truncated { length: 19 }));
    assert_eq!(error(|it| it[0] = 0x40), Some(ParseError::NotStun { first: 0x40 }));
    assert_eq!(error(|it| it[0] = 0x80), Some(ParseError::NotStun { first: 0x80 }));
    assert_eq!(error(|it| it[7] = 0), Some(ParseError::NoCookie));
    assert_eq!(error(|it| it[3] = 2), Some(ParseError::Unaligned { length: 2 }));
    let longer = ParseError::WrongLength { expected: 24, actual: 20 };
    assert_eq!(error(|it| it[3] = 4), Some(longer));
    let shorter = ParseError::WrongLength { expected: 20, actual: 24 };
    assert_eq!(error(|it| it.extend([0; 4])), Some(shorter));
}

#[test]
fn an_attribute_may_not_overrun_the_message() {
    let mut bytes = request(&[(0x8022, b"abcd")]);
    bytes[23] = 5;
    let attribute = AttributeType::SOFTWARE;
    assert_eq!(Message::parse(&bytes).err(), Some(ParseError::Overrun { attribute }));
    bytes[22] = 0xFF;
    assert_eq!(Message::parse(&bytes).err(), Some(ParseError::Overrun { attribute }));
}

#[test]
fn fingerprint_must_be_last() {
    let bytes = request(&[(0x8028, &[0; 4]), (0x8022, b"late")]);
    assert_eq!(Message::parse(&bytes).err(), Some(ParseError::FingerprintNotLast));
    let bytes = request(&[(0x8028, &[0; 4]), (0x8028, &[0; 4])]);
    assert_eq!(Message::parse(&bytes).err(), Some(ParseError::FingerprintNotLast));
}

#[test]
fn a_check_value_of_a_wrong_length_is_invalid_not_absent() {
    let key = Key::short_term(b"secret");
    let bytes = request(&[(0x0008, &[0; 16]), (0x001C, &[0; 12]), (0x8028, &[0; 8])]);
    let message = Message::parse(&bytes).expect("well-formed");
    assert_eq!(message.integrity(&key), Check::Invalid);
    assert_eq!(message.integrity_sha256(&key), Check::Invalid);
    assert_eq!(message.fingerprint(), Check::Invalid);
}

#[test]
fn a_truncated_sha256_counts_from_sixteen_bytes_on() {
    let key = Key::short_term(b"secret");
    for length in 0..=36 {
        // The length field is covered, so the HMAC of the message with this truncation is needed.
        let mut bytes = request(&[(0x8022, b"abcd"), (0x001C, &vec![0; length])]);
        let full = {
            // An independent computation, straight from the definition.
            use hmac::{Hmac, Mac};
            let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"secret").expect("any length");
            mac.update(&bytes[..28]);
            mac.finalize().into_bytes()
        };
        for (place, byte) in bytes[32..].iter_mut().zip(full).take(length) {
            *place = byte;
        }
        let expected = if (16..=32).contains(&length) && length % 4 == 0 {
            Check::Valid
        } else {
            Check::Invalid
        };
        let message = Message::parse(&bytes).expect("well-formed");
        assert_eq!(message.integrity_sha256(&key), expected, "{length} bytes");
    }
}

#[test]
fn what_follows_integrity_is_not_there_except_what_may_follow_it() {
    let hmac = [0; 20];
    let bytes = request(&[
        (0x8022, b"seen"),
        (0x0008, &hmac),
        (0x0006, b"hidden"),
        (0x001C, &[0; 32]),
        (0x0008, &hmac),
        (0x7FFF, b"hidden"),
        (0x8028, &[0; 4]),
    ]);
    let message = Message::parse(&bytes).expect("well-formed");
    let types: Vec<_> = message.attributes().map(|it| it.attribute_type.number()).collect();
    assert_eq!(types, [0x8022, 0x0008, 0x001C, 0x8028]);
    assert_eq!(message.attribute::<Username>(), Ok(None));
    assert_eq!(message.unknown_required(&[AttributeType::MESSAGE_INTEGRITY]).count(), 1);
}

#[test]
fn of_two_attributes_of_one_type_the_first_counts() {
    let bytes = request(&[(0x8022, b"first"), (0x8022, b"second")]);
    let message = Message::parse(&bytes).expect("well-formed");
    let software = message.attribute::<Software>().expect("text").map(|it| it.as_str());
    assert_eq!(software, Some("first"));
    assert_eq!(message.attributes().count(), 2);
}

#[test]
fn unknown_required_attributes_are_listed_in_their_order() {
    let bytes = request(&[(0x7FFF, b""), (0x8FFF, b""), (0x0006, b"u"), (0x0030, b"")]);
    let message = Message::parse(&bytes).expect("well-formed");
    let unknown: Vec<_> = message.unknown_required(&[AttributeType::USERNAME]).collect();
    assert_eq!(unknown, [0x7FFF, 0x0030].map(AttributeType::new));
}

#[test]
fn a_classic_message_is_read_only_where_it_is_expected() {
    let mut bytes = request(&[]);
    bytes[4..8].copy_from_slice(&[1, 2, 3, 4]);
    assert_eq!(Message::parse(&bytes).err(), Some(ParseError::NoCookie));
    let message = Message::parse_classic(&bytes).expect("well-formed");
    assert!(message.is_classic());
    assert_eq!(message.cookie(), [1, 2, 3, 4]);
    let mut reply = [0; 20];
    let writer = Writer::reply(&mut reply, Class::Success, &message).expect("room");
    assert_eq!(writer.finish(), 20);
    assert_eq!(&reply[4..], &bytes[4..], "all 16 bytes of the id come back");
}

#[test]
fn the_writer_refuses_what_it_cannot_write() {
    fn new(buffer: &mut [u8]) -> Result<Writer<'_>, WriteError> {
        Writer::new(buffer, Class::Request, Method::BINDING, TransactionId::new([0; 12]))
    }
    let too_small = |needed, available| WriteError::BufferTooSmall { needed, available };
    assert_eq!(new(&mut [0; 19]).err(), Some(too_small(20, 19)));

    let mut buffer = [0; 27];
    let mut writer = new(&mut buffer).expect("room");
    assert_eq!(writer.raw_attribute(AttributeType::SOFTWARE, b"a"), Err(too_small(28, 27)));
    assert_eq!(writer.fingerprint(), Err(too_small(28, 27)));
    assert_eq!(writer.finish(), 20, "what did not fit has left no trace");

    let mut buffer = vec![0; 70_000];
    let mut writer = new(&mut buffer).expect("room");
    let attribute = AttributeType::SOFTWARE;
    let too_long = Err(WriteError::TooLong { attribute });
    assert_eq!(writer.raw_attribute(attribute, &[0; 0xFFF9]), too_long);
    assert_eq!(writer.raw_attribute(attribute, &[0; 0xFFF8]), Ok(()));
    assert_eq!(writer.raw_attribute(attribute, &[]), too_long);
    let length = writer.finish();
    assert_eq!(length, 20 + 0xFFFC);
    assert!(Message::parse(&buffer[..length]).is_ok());
}

#[test]
fn the_writer_keeps_the_order_of_what_ends_a_message() {
    let id = TransactionId::new([0; 12]);
    let key = Key::short_term(b"secret");
    let mut buffer = [0; 200];
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
    let late = |attribute| Err(WriteError::OutOfOrder { attribute });
    writer.integrity(&key).expect("room");
    assert_eq!(writer.raw_attribute(AttributeType::SOFTWARE, b""), late(AttributeType::SOFTWARE));
    assert_eq!(writer.integrity(&key), late(AttributeType::MESSAGE_INTEGRITY));
    writer.integrity_sha256(&key).expect("room");
    assert_eq!(writer.integrity_sha256(&key), late(AttributeType::MESSAGE_INTEGRITY_SHA256));
    writer.fingerprint().expect("room");
    assert_eq!(writer.fingerprint(), late(AttributeType::FINGERPRINT));
    let length = writer.finish();
    let message = Message::parse(&buffer[..length]).expect("well-formed");
    assert_eq!(message.integrity(&key), Check::Valid);
    assert_eq!(message.integrity_sha256(&key), Check::Valid);
    assert_eq!(message.fingerprint(), Check::Valid);
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        any_message::check(&bytes);
    }

    #[test]
    fn random_attributes_do_no_harm(
        attributes in prop::collection::vec(
            (0_u16..0x30, any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)),
            0..12,
        )
    ) {
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(number, optional, value)| (number | u16::from(*optional) << 15, &value[..]))
            .collect();
        any_message::check(&request(&attributes));
        any_request::check(&request(&attributes));
    }
}
