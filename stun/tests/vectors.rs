//! The test vectors of RFC 5769 and of RFC 8489, appendix B, byte for byte.

use ntcp_stun::attribute::{
    Algorithm, IceControlled, Nonce, PasswordAlgorithm, Priority, Realm, Software, Userhash,
    Username, XorMappedAddress,
};
use ntcp_stun::{Check, Class, Key, Message, Method, ParseError, TransactionId, Writer};
use std::error::Error;

type Outcome = Result<(), Box<dyn Error>>;

/// The password of the short-term vectors.
const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";
/// The user name of the long-term vectors: "Matrix" in katakana.
const USERNAME: &str = "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}";
/// The password of the long-term vectors, after preparation.
const LONG_TERM_PASSWORD: &str = "TheMatrIX";
const REALM: &str = "example.org";
const SHORT_TERM_ID: &str = "b7e7a701 bc34d686 fa87dfae";
const LONG_TERM_ID: &str = "78ad3433 c6ad72c0 29da412e";

/// RFC 5769, section 2.1: a request with short-term credentials.
const REQUEST: &str = "
    00010058 2112a442 b7e7a701 bc34d686 fa87dfae
    80220010 5354554e 20746573 7420636c 69656e74
    00240004 6e0001ff
    80290008 932ff9b1 51263b36
    00060009 6576746a 3a683676 59202020
    00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
    80280004 e57a3bcf";

/// RFC 5769, section 2.2: an IPv4 response.
const RESPONSE_IPV4: &str = "
    0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200008 0001a147 e112a643
    00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
    80280004 c07d4c96";

/// RFC 5769, section 2.3: an IPv6 response.
const RESPONSE_IPV6: &str = "
    01010048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
    80280004 c8fb0b4c";

/// RFC 5769, section 2.4: a request with long-term credentials.
const LONG_TERM_REQUEST: &str = "
    00010060 2112a442 78ad3433 c6ad72c0 29da412e
    00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000
    0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341
    0014000b 6578616d 706c652e 6f726700
    00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666";

/// RFC 8489, appendix B.1, with erratum 6268: the length corrected, PASSWORD-ALGORITHM added.
const SHA256_REQUEST: &str = "
    00010090 2112a442 78ad3433 c6ad72c0 29da412e
    001e0020 4a3cf38f ef6992bd a952c678 0417da0f 24819415 569e60b2 05c46e41 407f1704
    00150029 6f624d61 744a6f73 32414141 43662f2f 3439396b 39353464 364f4c33 346f4c39 46535476
             79363473 41000000
    0014000b 6578616d 706c652e 6f726700
    001d0004 00020000
    001c0020 b5c7bf00 5b6c52a2 1c51c5e8 92f81924 136296cb 927c4314 9309278c c6518e65";

/// RFC 8489, appendix B.1, as printed; its length field tells of 12 bytes that are not there.
const SHA256_REQUEST_AS_PRINTED: &str = "
    0001009c 2112a442 78ad3433 c6ad72c0 29da412e
    001e0020 4a3cf38f ef6992bd a952c678 0417da0f 24819415 569e60b2 05c46e41 407f1704
    00150029 6f624d61 744a6f73 32414141 43662f2f 3439396b 39353464 364f4c33 346f4c39 46535476
             79363473 41000000
    0014000b 6578616d 706c652e 6f726700
    001c0020 e4686c8f 0edeb590 13e07090 010a93ef ccbccc54 4c0a45d9 f830aa6d 6f735a01";

/// The bytes of hexadecimal digits and white space.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|it| it.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn id(text: &str) -> TransactionId {
    TransactionId::new(hex(text).try_into().expect("12 bytes"))
}

/// Asserts that both are one message except in the bytes named: padding, which may be anything, and what covers it.
fn assert_equal_but(written: &[u8], vector: &[u8], exempt: &[std::ops::Range<usize>]) {
    assert_eq!(written.len(), vector.len());
    for (offset, (ours, theirs)) in written.iter().zip(vector).enumerate() {
        if !exempt.iter().any(|range| range.contains(&offset)) {
            assert_eq!(ours, theirs, "byte {offset}");
        }
    }
}

#[test]
fn the_request_with_short_term_credentials_is_read() -> Outcome {
    let bytes = hex(REQUEST);
    let message = Message::parse(&bytes)?;
    assert_eq!((message.class(), message.method()), (Class::Request, Method::BINDING));
    assert_eq!(message.transaction_id(), id(SHORT_TERM_ID));
    assert_eq!(message.attribute()?, Some(Software::new("STUN test client")?));
    assert_eq!(message.attribute()?, Some(Priority(0x6E00_01FF)));
    assert_eq!(message.attribute()?, Some(IceControlled(0x932F_F9B1_5126_3B36)));
    assert_eq!(message.attribute()?, Some(Username::new("evtj:h6vY")?));
    assert_eq!(message.integrity(&Key::short_term(PASSWORD)), Check::Valid);
    assert_eq!(message.integrity(&Key::short_term(b"another")), Check::Invalid);
    assert_eq!(message.integrity_sha256(&Key::short_term(PASSWORD)), Check::Absent);
    assert_eq!(message.fingerprint(), Check::Valid);
    Ok(())
}

#[test]
fn the_request_with_short_term_credentials_is_written() -> Outcome {
    let mut buffer = [0; 108];
    let key = Key::short_term(PASSWORD);
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id(SHORT_TERM_ID))?;
    writer.attribute(&Software::new("STUN test client")?)?;
    writer.attribute(&Priority(0x6E00_01FF))?;
    writer.attribute(&IceControlled(0x932F_F9B1_5126_3B36))?;
    writer.attribute(&Username::new("evtj:h6vY")?)?;
    writer.integrity(&key)?;
    writer.fingerprint()?;
    let length = writer.finish();
    assert_equal_but(&buffer[..length], &hex(REQUEST), &[73..76, 80..100, 104..108]);
    let message = Message::parse(&buffer)?;
    assert_eq!((message.integrity(&key), message.fingerprint()), (Check::Valid, Check::Valid));
    Ok(())
}

#[test]
fn both_responses_are_read_and_written() -> Outcome {
    let key = Key::short_term(PASSWORD);
    for (vector, mapped) in [
        (RESPONSE_IPV4, "192.0.2.1:32853"),
        (RESPONSE_IPV6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ] {
        let bytes = hex(vector);
        let mapped = XorMappedAddress(mapped.parse()?);
        let message = Message::parse(&bytes)?;
        assert_eq!((message.class(), message.method()), (Class::Success, Method::BINDING));
        assert_eq!(message.attribute()?, Some(mapped));
        assert_eq!(message.attribute()?, Some(Software::new("test vector")?));
        assert_eq!(message.integrity(&key), Check::Valid);
        assert_eq!(message.fingerprint(), Check::Valid);

        let mut buffer = [0; 92];
        let mut writer =
            Writer::new(&mut buffer, Class::Success, Method::BINDING, id(SHORT_TERM_ID))?;
        writer.attribute(&Software::new("test vector")?)?;
        writer.attribute(&mapped)?;
        writer.integrity(&key)?;
        writer.fingerprint()?;
        let length = writer.finish();
        let end = bytes.len();
        let exempt = [35..36, end - 28..end - 8, end - 4..end];
        assert_equal_but(&buffer[..length], &bytes, &exempt);
    }
    Ok(())
}

#[test]
fn the_request_with_long_term_credentials_is_read_and_written() -> Outcome {
    let bytes = hex(LONG_TERM_REQUEST);
    let key = Key::long_term_md5(USERNAME, REALM, LONG_TERM_PASSWORD);
    let nonce = Nonce::new(b"f//499k954d6OL34oL9FSTvy64sA")?;
    let message = Message::parse(&bytes)?;
    assert_eq!(message.transaction_id(), id(LONG_TERM_ID));
    assert_eq!(message.attribute()?, Some(Username::new(USERNAME)?));
    assert_eq!(message.attribute()?, Some(nonce));
    assert_eq!(message.attribute()?, Some(Realm::new(REALM)?));
    assert_eq!(message.integrity(&key), Check::Valid);
    assert_eq!(message.fingerprint(), Check::Absent);

    let mut buffer = [0; 116];
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id(LONG_TERM_ID))?;
    writer.attribute(&Username::new(USERNAME)?)?;
    writer.attribute(&nonce)?;
    writer.attribute(&Realm::new(REALM)?)?;
    writer.integrity(&key)?;
    let length = writer.finish();
    assert_eq!(&buffer[..length], bytes);
    Ok(())
}

#[test]
fn the_request_of_rfc_8489_is_read_and_written() -> Outcome {
    let bytes = hex(SHA256_REQUEST);
    let key = Key::long_term_sha256(USERNAME, REALM, LONG_TERM_PASSWORD);
    let nonce = Nonce::new(b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA")?;
    let message = Message::parse(&bytes)?;
    assert_eq!(message.attribute()?, Some(Userhash::of(USERNAME, REALM)));
    assert_eq!(message.attribute()?, Some(nonce));
    assert_eq!(message.attribute()?, Some(Realm::new(REALM)?));
    assert_eq!(message.attribute()?, Some(PasswordAlgorithm(Algorithm::Sha256)));
    assert_eq!(message.integrity_sha256(&key), Check::Valid);
    let other = Key::long_term_md5(USERNAME, REALM, LONG_TERM_PASSWORD);
    assert_eq!(message.integrity_sha256(&other), Check::Invalid);

    let mut buffer = [0; 164];
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id(LONG_TERM_ID))?;
    writer.attribute(&Userhash::of(USERNAME, REALM))?;
    writer.attribute(&nonce)?;
    writer.attribute(&Realm::new(REALM)?)?;
    writer.attribute(&PasswordAlgorithm(Algorithm::Sha256))?;
    writer.integrity_sha256(&key)?;
    let length = writer.finish();
    assert_eq!(&buffer[..length], bytes);
    Ok(())
}

#[test]
fn the_request_of_rfc_8489_as_printed_is_not_a_message() {
    let bytes = hex(SHA256_REQUEST_AS_PRINTED);
    let expected = ParseError::WrongLength { expected: 20 + 0x9C, actual: bytes.len() };
    assert_eq!(Message::parse(&bytes).err(), Some(expected));
}
