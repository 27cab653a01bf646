//! Each attribute's bytes, there and back, and what it refuses.

use ntcp_stun::attribute::{Algorithm, PasswordAlgorithm, PasswordAlgorithms};
use ntcp_stun::attribute::{
    AlternateDomain, AlternateServer, ChangeRequest, ChangedAddress, ErrorCode, IceControlled,
    IceControlling, MAX_UNKNOWN_ATTRIBUTES, MappedAddress, Nonce, OtherAddress, Padding, Priority,
    Problem, Realm, ReflectedFrom, ResponseAddress, ResponseOrigin, ResponsePort, Software,
    SourceAddress, UnknownAttributes, UseCandidate, Userhash, Username, XorMappedAddress,
};
use ntcp_stun::{Attribute, AttributeType, TransactionId};
use proptest::prelude::*;
use std::fmt::Debug;
use std::net::SocketAddr;

const ID: TransactionId = TransactionId::new([0xA5; 12]);

fn encoded<'a, A: Attribute<'a>>(attribute: &A) -> Vec<u8> {
    let mut value = vec![0xEE; attribute.encoded_len()];
    attribute.encode(&mut value, ID);
    value
}

/// Asserts that the attribute is written as `value` and read from it.
fn assert_wire<'a, A: Attribute<'a> + PartialEq + Debug>(attribute: &A, value: &'a [u8]) {
    assert_eq!(encoded(attribute), value, "{}", A::TYPE);
    assert_eq!(A::decode(value, ID).as_ref(), Ok(attribute), "{}", A::TYPE);
}

/// What is wrong with a value.
fn problem<'a, A: Attribute<'a>>(value: &'a [u8]) -> Option<Problem> {
    let error = A::decode(value, ID).err()?;
    assert_eq!(error.attribute, A::TYPE);
    Some(error.problem)
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn plain_addresses_stand_in_the_clear() {
    let ipv4 = [0, 1, 0x0D, 0x96, 192, 0, 2, 1];
    let at = address("192.0.2.1:3478");
    assert_wire(&MappedAddress(at), &ipv4);
    assert_wire(&ResponseAddress(at), &ipv4);
    assert_wire(&SourceAddress(at), &ipv4);
    assert_wire(&ChangedAddress(at), &ipv4);
    assert_wire(&ReflectedFrom(at), &ipv4);
    assert_wire(&AlternateServer(at), &ipv4);
    assert_wire(&ResponseOrigin(at), &ipv4);
    let ipv6 = [0, 2, 0x0D, 0x96, 0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    assert_wire(&OtherAddress(address("[2001:db8::7]:3478")), &ipv6);
}

#[test]
fn the_xor_address_hides_behind_cookie_and_transaction_id() {
    // 0x0D96 ^ 0x2112, 192.0.2.1 ^ 0x2112A442
    let ipv4 = [0, 1, 0x2C, 0x84, 0xE1, 0x12, 0xA6, 0x43];
    assert_wire(&XorMappedAddress(address("192.0.2.1:3478")), &ipv4);
    let ipv6 = [
        0, 2, 0x2C, 0x84, // 0x0D96 ^ 0x2112
        0x01, 0x13, 0xA9, 0xFA, // 2001:0db8 ^ 0x2112A442
        0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA5, 0xA2, // ::7 ^ id
    ];
    assert_wire(&XorMappedAddress(address("[2001:db8::7]:3478")), &ipv6);
}

#[test]
fn an_address_of_a_wrong_family_or_length_is_refused() {
    for length in (0..40).filter(|length| *length != 8) {
        let mut value = vec![1; length];
        assert_eq!(problem::<MappedAddress>(&value), Some(Problem::Length(length)));
        value.iter_mut().skip(1).take(1).for_each(|family| *family = 2);
        let right = length == 20;
        assert_eq!(problem::<XorMappedAddress>(&value).is_none(), right, "{length}");
    }
    assert_eq!(problem::<MappedAddress>(&[0, 3, 0, 0, 1, 2, 3, 4]), Some(Problem::Family(3)));
    assert_eq!(problem::<MappedAddress>(&[0, 0, 0, 0, 1, 2, 3, 4]), Some(Problem::Family(0)));
    // The first byte is to be ignored (RFC 8489, section 14.1).
    assert_eq!(problem::<MappedAddress>(&[9, 1, 0, 0, 1, 2, 3, 4]), None);
}

#[test]
fn change_request_sets_bits_2_and_1() {
    assert_wire(&ChangeRequest::Nothing, &[0, 0, 0, 0]);
    assert_wire(&ChangeRequest::Port, &[0, 0, 0, 2]);
    assert_wire(&ChangeRequest::Ip, &[0, 0, 0, 4]);
    assert_wire(&ChangeRequest::IpAndPort, &[0, 0, 0, 6]);
    let other_bits = ChangeRequest::decode(&[0xFF, 0xFF, 0xFF, 0xF9], ID);
    assert_eq!(other_bits, Ok(ChangeRequest::Nothing), "other bits do not count");
    assert_eq!(problem::<ChangeRequest>(&[0, 6]), Some(Problem::Length(2)));
}

#[test]
fn error_code_has_hundreds_and_rest() {
    assert_wire(&ErrorCode::UNKNOWN_ATTRIBUTE, b"\0\0\x04\x14Unknown Attribute");
    assert_wire(&ErrorCode::new(699, "").expect("in range"), &[0, 0, 6, 99]);
    assert_eq!(ErrorCode::decode(&[0xFF, 0xFF, 0xFC, 1], ID).map(|it| it.code()), Ok(401));
    assert_eq!(problem::<ErrorCode>(&[0, 0, 4]), Some(Problem::Length(3)));
    assert_eq!(problem::<ErrorCode>(&[0, 0, 2, 0]), Some(Problem::Value(200)));
    assert_eq!(problem::<ErrorCode>(&[0, 0, 7, 0]), Some(Problem::Value(700)));
    assert_eq!(problem::<ErrorCode>(&[0, 0, 4, 100]), Some(Problem::Value(500)));
    assert_eq!(problem::<ErrorCode>(&[0, 0, 4, 0, 0xFF]), Some(Problem::Utf8));
    assert_eq!(problem::<ErrorCode>(&[b'4'; 768]), Some(Problem::Length(768)));
    assert!(ErrorCode::new(299, "").is_err() && ErrorCode::new(700, "").is_err());
    assert!(ErrorCode::new(400, &"x".repeat(510)).is_err());
}

#[test]
fn numbers_are_in_network_order() {
    assert_wire(&Priority(0x6E00_01FF), &[0x6E, 0, 1, 0xFF]);
    assert_wire(&IceControlled(1), &[0, 0, 0, 0, 0, 0, 0, 1]);
    assert_wire(&IceControlling(u64::MAX), &[0xFF; 8]);
    assert_eq!(problem::<Priority>(&[0; 3]), Some(Problem::Length(3)));
    assert_eq!(problem::<IceControlled>(&[0; 9]), Some(Problem::Length(9)));
    assert_wire(&UseCandidate, &[]);
    assert_eq!(problem::<UseCandidate>(&[0]), Some(Problem::Length(1)));
}

#[test]
fn response_port_is_written_with_two_bytes_and_read_with_two_or_four() {
    assert_wire(&ResponsePort(3478), &[0x0D, 0x96]);
    assert_eq!(ResponsePort::decode(&[0x0D, 0x96, 0, 0], ID), Ok(ResponsePort(3478)));
    for length in [0, 1, 3, 5, 8] {
        assert_eq!(problem::<ResponsePort>(&vec![0; length]), Some(Problem::Length(length)));
    }
}

#[test]
fn padding_is_as_long_as_it_says() {
    assert_wire(&Padding { length: 0 }, &[]);
    assert_wire(&Padding { length: 5 }, &[0; 5]);
    assert_eq!(Padding::decode(&[7; 1500], ID), Ok(Padding { length: 1500 }));
}

#[test]
fn texts_keep_to_their_limits() {
    assert_wire(&Username::new("evtj:h6vY").expect("short"), b"evtj:h6vY");
    assert_wire(&Realm::new("example.org").expect("short"), b"example.org");
    assert_wire(&Software::new("").expect("short"), b"");
    assert_wire(&AlternateDomain::new("a.example").expect("short"), b"a.example");
    assert_wire(&Nonce::new(b"\xFF\x00").expect("short"), b"\xFF\x00");
    let long = "x".repeat(764);
    assert!(Username::new(&long[..508]).is_ok() && Username::new(&long[..509]).is_err());
    assert!(Realm::new(&long[..509]).is_ok() && Realm::new(&long[..510]).is_err());
    assert!(Software::new(&long[..509]).is_ok() && Software::new(&long[..510]).is_err());
    assert!(AlternateDomain::new(&long[..255]).is_ok());
    assert!(AlternateDomain::new(&long[..256]).is_err());
    assert!(Nonce::new(&long.as_bytes()[..509]).is_ok());
    assert!(Nonce::new(&long.as_bytes()[..510]).is_err());
    // What others write may be longer than what we do.
    assert_eq!(problem::<Realm>(&long.as_bytes()[..763]), None);
    assert_eq!(problem::<Realm>(long.as_bytes()), Some(Problem::Length(764)));
    assert_eq!(problem::<Nonce>(long.as_bytes()), Some(Problem::Length(764)));
    assert_eq!(problem::<Username>(&[0xC3, 0x28]), Some(Problem::Utf8));
}

#[test]
fn unknown_attributes_names_each_type_once_and_no_more_than_fit() {
    let types = [0x0003, 0x7FFF, 0x0003].map(AttributeType::new);
    let list: UnknownAttributes = types.into_iter().collect();
    assert_wire(&list, &[0, 3, 0x7F, 0xFF]);
    let all: UnknownAttributes = (0..0x8000).map(AttributeType::new).collect();
    assert_eq!(all.as_slice().len(), MAX_UNKNOWN_ATTRIBUTES);
    assert_eq!(problem::<UnknownAttributes>(&[0, 3, 0]), Some(Problem::Length(3)));
    assert_eq!(UnknownAttributes::decode(&[], ID).map(|it| it.is_empty()), Ok(true));
}

#[test]
fn password_algorithms_are_read_in_the_servers_order() {
    assert_wire(&PasswordAlgorithm(Algorithm::Md5), &[0, 1, 0, 0]);
    assert_wire(&PasswordAlgorithms::SHA256_AND_MD5, &[0, 2, 0, 0, 0, 1, 0, 0]);
    assert_eq!(problem::<PasswordAlgorithm>(&[0, 9, 0, 0]), Some(Problem::Value(9)));
    assert_eq!(problem::<PasswordAlgorithm>(&[0, 1, 0, 1, 7]), Some(Problem::Length(5)));
    // An unknown algorithm with five bytes of parameters, then SHA-256.
    let list = [0, 9, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0, 2, 0, 0];
    let algorithms = PasswordAlgorithms::decode(&list, ID).map(|it| it.iter().collect::<Vec<_>>());
    assert_eq!(algorithms, Ok(vec![Algorithm::Sha256]));
    for length in [1, 2, 3, 5, 8, 13, 14, 15] {
        let problem = problem::<PasswordAlgorithms>(&list[..length]);
        assert_eq!(problem, Some(Problem::Length(length)));
    }
    // Padding of the last parameters may be missing.
    assert_eq!(problem::<PasswordAlgorithms>(&list[..9]), None);
}

#[test]
fn userhash_has_32_bytes() {
    assert_wire(&Userhash([7; 32]), &[7; 32]);
    assert_eq!(problem::<Userhash>(&[7; 31]), Some(Problem::Length(31)));
}

#[test]
fn attribute_types_know_their_names_and_their_range() {
    assert_eq!(AttributeType::OTHER_ADDRESS.to_string(), "OTHER-ADDRESS");
    assert_eq!(AttributeType::new(0x7FFF).to_string(), "0x7fff");
    assert!(AttributeType::new(0x7FFF).is_comprehension_required());
    assert!(!AttributeType::new(0x8000).is_comprehension_required());
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    any::<(std::net::IpAddr, u16)>().prop_map(SocketAddr::from)
}

proptest! {
    #[test]
    fn every_address_survives_both_forms(address in any_address(), id in any::<[u8; 12]>()) {
        let id = TransactionId::new(id);
        let mut value = vec![0; XorMappedAddress(address).encoded_len()];
        XorMappedAddress(address).encode(&mut value, id);
        prop_assert_eq!(XorMappedAddress::decode(&value, id), Ok(XorMappedAddress(address)));
        MappedAddress(address).encode(&mut value, id);
        prop_assert_eq!(MappedAddress::decode(&value, id), Ok(MappedAddress(address)));
    }

    #[test]
    fn whatever_is_read_is_written_the_same(value in prop::collection::vec(any::<u8>(), 0..40)) {
        // Compared as values: reserved bits and trailing padding of the original are not kept.
        macro_rules! check {
            ($($attribute:ident)*) => {$(
                if let Ok(attribute) = $attribute::decode(&value, ID) {
                    let again = encoded(&attribute);
                    prop_assert_eq!($attribute::decode(&again, ID), Ok(attribute));
                }
            )*};
        }
        check! {
            AlternateDomain ChangeRequest ErrorCode IceControlled MappedAddress Nonce Padding
            PasswordAlgorithm PasswordAlgorithms Priority Realm ResponsePort Software
            UnknownAttributes UseCandidate Userhash Username XorMappedAddress
        }
    }
}
