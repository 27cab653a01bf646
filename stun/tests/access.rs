//! Credentials, proofs and redirects: what a client must bring, what it gets when it does not, and what somebody in
//! between can do about it.

use ntcp_stun::attribute::{
    Algorithm, AlternateDomain, AlternateServer, ErrorCode, Nonce, PasswordAlgorithm,
    PasswordAlgorithms, Realm, ResponsePort, Software, Userhash, Username, XorMappedAddress,
};
use ntcp_stun::nonce_cookie::SecurityFeatures;
use ntcp_stun::server::{Access, Mint, Redirect, Reply, Request, Server, Silence, Transport};
use ntcp_stun::{
    AttributeType, Check, Class, Key, Message, Method, TransactionId, WriteError, Writer,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLIENT: &str = "198.51.100.7:40000";
const USERS: [(&str, &str); 2] = [("alice", "wonderland"), ("bob", "builder")];
const REALM: &str = "example.org";

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Instant {
    Instant::now()
}

fn mint(origin: Instant) -> Mint {
    Mint::new([1; 32], origin, Duration::from_secs(600))
}

fn long_term() -> (Server, Instant) {
    let (mut server, origin) = (Server::new(), start());
    server.demand_proof(mint(origin));
    server.restrict(Arc::new(Access::long_term(REALM, USERS)));
    server.advance(origin);
    (server, origin)
}

fn short_term() -> Server {
    let mut server = Server::new();
    server.restrict(Arc::new(Access::short_term(USERS)));
    server
}

type Writing<'w> = &'w dyn Fn(&mut Writer<'_>) -> Result<(), WriteError>;

fn request(write: Writing<'_>) -> Vec<u8> {
    let mut buffer = vec![0; 1024];
    let id = TransactionId::new([3; 12]);
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
    write(&mut writer).expect("room");
    let length = writer.finish();
    buffer.truncate(length);
    buffer
}

fn ask_from(server: &mut Server, bytes: &[u8], source: &str) -> Result<(Reply, Vec<u8>), Silence> {
    let mut buffer = vec![0; 2048];
    let (source, local) = (at(source), at("192.0.2.1:3478"));
    let request = Request { bytes, source, local, transport: Transport::Udp };
    let reply = server.handle_request(request, &mut buffer)?;
    buffer.truncate(reply.length);
    Ok((reply, buffer))
}

fn ask(server: &mut Server, write: Writing<'_>) -> Vec<u8> {
    ask_from(server, &request(write), CLIENT).expect("answered").1
}

/// 200 for a success, or the error's code.
fn code(bytes: &[u8]) -> u16 {
    let message = Message::parse(bytes).expect("well-formed");
    let code = message.attribute::<ErrorCode<'_>>().expect("well-formed");
    match (message.class(), code) {
        (Class::Success, None) => 200,
        (Class::Error, Some(code)) => code.code(),
        other => panic!("neither success nor error: {other:?}"),
    }
}

/// The nonce of a challenge that is complete and signed by nobody.
fn challenge(bytes: &[u8]) -> Vec<u8> {
    let message = Message::parse(bytes).expect("well-formed");
    assert_eq!(message.attribute(), Ok(Some(Realm::new(REALM).expect("short"))));
    assert_eq!(message.attribute(), Ok(Some(PasswordAlgorithms::SHA256_AND_MD5)));
    assert_eq!(message.raw_attribute(AttributeType::MESSAGE_INTEGRITY), None);
    let nonce = message.attribute::<Nonce<'_>>().expect("well-formed").expect("there");
    let features = SecurityFeatures::of_nonce(nonce.as_bytes()).expect("a cookie");
    assert!(features.contains(SecurityFeatures::PASSWORD_ALGORITHMS));
    assert!(features.contains(SecurityFeatures::USERNAME_ANONYMITY));
    assert!(nonce.as_bytes().len() < 128);
    nonce.as_bytes().to_vec()
}

/// How a long-term client signs.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// RFC 5389: MD5 and HMAC-SHA1, and not a word about algorithms.
    Old,
    /// The algorithm named, the integrity HMAC-SHA1 or HMAC-SHA256.
    New { algorithm: Algorithm, is_sha256: bool, is_hashed: bool },
}

const BEST: Way = Way::New { algorithm: Algorithm::Sha256, is_sha256: true, is_hashed: true };

fn key(way: Way, name: &str, password: &str) -> Key {
    match way {
        Way::New { algorithm: Algorithm::Sha256, .. } => {
            Key::long_term_sha256(name, REALM, password)
        }
        _ => Key::long_term_md5(name, REALM, password),
    }
}

fn sign(
    way: Way,
    (name, password): (&str, &str),
    nonce: &[u8],
    writer: &mut Writer<'_>,
) -> Result<(), WriteError> {
    let is_hashed = matches!(way, Way::New { is_hashed: true, .. });
    if is_hashed {
        writer.attribute(&Userhash::of(name, REALM))?;
    } else {
        writer.attribute(&Username::new(name)?)?;
    }
    writer.attribute(&Realm::new(REALM)?)?;
    writer.attribute(&Nonce::new(nonce)?)?;
    let is_sha256 = match way {
        Way::Old => false,
        Way::New { algorithm, is_sha256, .. } => {
            writer.attribute(&PasswordAlgorithms::SHA256_AND_MD5)?;
            writer.attribute(&PasswordAlgorithm(algorithm))?;
            is_sha256
        }
    };
    let key = key(way, name, password);
    if is_sha256 { writer.integrity_sha256(&key) } else { writer.integrity(&key) }
}

#[test]
fn long_term_clients_of_every_kind_are_let_in_after_a_challenge() {
    let (mut server, _) = long_term();
    let refused = ask(&mut server, &|_| Ok(()));
    assert_eq!(code(&refused), 401);
    let nonce = challenge(&refused);
    let new = |algorithm, is_sha256, is_hashed| Way::New { algorithm, is_sha256, is_hashed };
    for way in [
        Way::Old,
        new(Algorithm::Md5, false, false),
        new(Algorithm::Md5, true, true),
        new(Algorithm::Sha256, false, true),
        BEST,
    ] {
        for user in USERS {
            let reply = ask(&mut server, &|writer| sign(way, user, &nonce, writer));
            assert_eq!(code(&reply), 200, "{way:?}");
            let message = Message::parse(&reply).expect("well-formed");
            assert_eq!(message.attribute(), Ok(Some(XorMappedAddress(at(CLIENT)))));
            let key = key(way, user.0, user.1);
            let (sha1, sha256) = (message.integrity(&key), message.integrity_sha256(&key));
            let is_sha256 = matches!(way, Way::New { is_sha256: true, .. });
            let expected = if is_sha256 {
                (Check::Absent, Check::Valid)
            } else {
                (Check::Valid, Check::Absent)
            };
            assert_eq!((sha1, sha256), expected, "signed as the request was: {way:?}");
        }
    }
    assert_eq!((server.counters().unauthenticated, server.counters().successes), (1, 10));
}

#[test]
fn long_term_clients_with_anything_wrong_are_challenged_again() {
    let (mut server, _) = long_term();
    let nonce = challenge(&ask(&mut server, &|_| Ok(())));
    for (user, expected) in [
        (("alice", "wrong"), 401),
        (("mallory", "wonderland"), 401),
        (("alice", "wonderland"), 200),
    ] {
        for way in [Way::Old, BEST] {
            let reply = ask(&mut server, &|writer| sign(way, user, &nonce, writer));
            assert_eq!(code(&reply), expected, "{user:?}");
            if expected == 401 {
                challenge(&reply);
            }
        }
    }
}

#[test]
fn a_long_term_request_that_lacks_a_part_is_400() {
    let (mut server, _) = long_term();
    let nonce = challenge(&ask(&mut server, &|_| Ok(())));
    let key = Key::long_term_md5("alice", REALM, "wonderland");
    for missing in 0..3 {
        let reply = ask(&mut server, &|writer| {
            if missing != 0 {
                writer.attribute(&Username::new("alice")?)?;
            }
            if missing != 1 {
                writer.attribute(&Realm::new(REALM)?)?;
            }
            if missing != 2 {
                writer.attribute(&Nonce::new(&nonce)?)?;
            }
            writer.integrity(&key)
        });
        assert_eq!(code(&reply), 400, "{missing}");
        let message = Message::parse(&reply).expect("well-formed");
        assert_eq!(message.raw_attribute(AttributeType::NONCE), None);
    }
}

#[test]
fn nobody_in_between_can_take_the_better_algorithm_away() {
    let (mut server, _) = long_term();
    let nonce = challenge(&ask(&mut server, &|_| Ok(())));
    let alice = ("alice", "wonderland");
    // The list was changed on its way to the client, who repeats what it saw.
    for (list, algorithm) in [
        (Some(PasswordAlgorithms::SHA256), Some(Algorithm::Sha256)),
        (None, Some(Algorithm::Md5)),
        (Some(PasswordAlgorithms::SHA256_AND_MD5), None),
    ] {
        let reply = ask(&mut server, &|writer| {
            writer.attribute(&Username::new(alice.0)?)?;
            writer.attribute(&Realm::new(REALM)?)?;
            writer.attribute(&Nonce::new(&nonce)?)?;
            if let Some(list) = list {
                writer.attribute(&list)?;
            }
            if let Some(algorithm) = algorithm {
                writer.attribute(&PasswordAlgorithm(algorithm))?;
            }
            let way = Way::New {
                algorithm: algorithm.unwrap_or(Algorithm::Md5),
                is_sha256: true,
                is_hashed: false,
            };
            writer.integrity_sha256(&key(way, alice.0, alice.1))
        });
        assert_eq!(code(&reply), 400, "{list:?} {algorithm:?}");
    }
    // The cookie was taken off the nonce, so that the client believes that there is no choice.
    let bare = &nonce[13..];
    let reply = ask(&mut server, &|writer| sign(Way::Old, alice, bare, writer));
    assert_eq!(code(&reply), 438, "it is no nonce of ours then");
}

#[test]
fn a_nonce_is_stale_after_its_lifetime_and_elsewhere() {
    let (mut server, origin) = long_term();
    let nonce = challenge(&ask(&mut server, &|_| Ok(())));
    let alice = ("alice", "wonderland");
    let bytes = request(&|writer| sign(BEST, alice, &nonce, writer));
    let (_, elsewhere) = ask_from(&mut server, &bytes, "203.0.113.9:40000").expect("answered");
    assert_eq!(code(&elsewhere), 438, "the mapping has changed");
    server.advance(origin + Duration::from_secs(700));
    let (_, late) = ask_from(&mut server, &bytes, CLIENT).expect("answered");
    assert_eq!(code(&late), 438);
    let fresh = challenge(&late);
    assert_ne!(fresh, nonce);
    let reply = ask(&mut server, &|writer| sign(BEST, alice, &fresh, writer));
    assert_eq!(code(&reply), 200);
    let forged = request(&|writer| sign(BEST, ("alice", "wrong"), &nonce, writer));
    let (_, reply) = ask_from(&mut server, &forged, CLIENT).expect("answered");
    assert_eq!(code(&reply), 401, "stale and wrong is wrong (RFC 8489, section 9.2.4)");
}

#[test]
fn short_term_clients_bring_their_password_and_are_answered_with_it() {
    let mut server = short_term();
    let signed = |name: &str, password: &str, is_sha256: bool| {
        let key = Key::short_term(password.as_bytes());
        request(&|writer| {
            writer.attribute(&Username::new(name)?)?;
            if is_sha256 { writer.integrity_sha256(&key) } else { writer.integrity(&key) }
        })
    };
    for is_sha256 in [false, true] {
        for (name, password, expected) in
            [("alice", "wonderland", 200), ("alice", "builder", 401), ("carol", "wonderland", 401)]
        {
            let bytes = signed(name, password, is_sha256);
            let (_, reply) = ask_from(&mut server, &bytes, CLIENT).expect("answered");
            assert_eq!(code(&reply), expected, "{name} {password}");
            let message = Message::parse(&reply).expect("well-formed");
            let key = Key::short_term(b"wonderland");
            let check =
                if is_sha256 { message.integrity_sha256(&key) } else { message.integrity(&key) };
            assert_eq!(check == Check::Valid, expected == 200);
            assert_eq!(message.raw_attribute(AttributeType::NONCE), None);
        }
    }
    assert_eq!(code(&ask(&mut server, &|_| Ok(()))), 400);
    let no_name = ask(&mut server, &|writer| writer.integrity(&Key::short_term(b"wonderland")));
    assert_eq!(code(&no_name), 400);
}

#[test]
fn every_single_bit_of_a_signed_request_counts() {
    let (mut server, _) = long_term();
    let nonce = challenge(&ask(&mut server, &|_| Ok(())));
    let bytes = request(&|writer| sign(BEST, ("alice", "wonderland"), &nonce, writer));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok((_, reply)) = ask_from(&mut server, &flipped, CLIENT) {
            let reply = Message::parse_classic(&reply).expect("well-formed");
            assert_eq!(reply.class(), Class::Error, "bit {bit}");
        }
    }
    for length in 0..bytes.len() {
        let cut = ask_from(&mut server, &bytes[..length], CLIENT);
        assert!(matches!(cut, Err(Silence::Malformed(_))), "{length} bytes");
    }
}

#[test]
fn response_port_is_for_those_who_prove_that_they_are_there() {
    let (mut server, origin) = (Server::new(), start());
    server.demand_proof(mint(origin));
    server.advance(origin);
    let aimed = request(&|writer| writer.attribute(&ResponsePort(9)));
    let (reply, bytes) = ask_from(&mut server, &aimed, CLIENT).expect("answered");
    assert_eq!((code(&bytes), reply.to), (438, at(CLIENT)), "to the source itself");
    assert!(bytes.len() * 10 <= aimed.len() * 16, "{} for {}", bytes.len(), aimed.len());
    let message = Message::parse(&bytes).expect("well-formed");
    let nonce = message.attribute::<Nonce<'_>>().expect("well-formed").expect("there");
    let proven = request(&|writer| {
        writer.attribute(&ResponsePort(9))?;
        writer.attribute(&nonce)
    });
    let (reply, bytes) = ask_from(&mut server, &proven, CLIENT).expect("answered");
    assert_eq!((code(&bytes), reply.to), (200, at("198.51.100.7:9")));
    for source in ["198.51.100.7:40001", "198.51.100.8:40000"] {
        let (reply, bytes) = ask_from(&mut server, &proven, source).expect("answered");
        assert_eq!((code(&bytes), reply.to), (438, at(source)), "it proves nobody else");
    }
    let own = request(&|writer| writer.attribute(&ResponsePort(40_000)));
    let (reply, bytes) = ask_from(&mut server, &own, CLIENT).expect("answered");
    assert_eq!((code(&bytes), reply.to), (200, at(CLIENT)), "its own port needs no proof");
}

#[test]
fn clients_are_sent_to_the_other_server_of_their_family() {
    let mut server = Server::new();
    let domain = Some("stun.example.net".to_owned());
    server.redirect(Redirect { servers: vec![at("192.0.2.99:3478")], domain });
    let bytes = ask(&mut server, &|_| Ok(()));
    assert_eq!(code(&bytes), 300);
    let message = Message::parse(&bytes).expect("well-formed");
    assert_eq!(message.attribute(), Ok(Some(AlternateServer(at("192.0.2.99:3478")))));
    let domain = AlternateDomain::new("stun.example.net").expect("short");
    assert_eq!(message.attribute(), Ok(Some(domain)));
    let v6 = ask_from(&mut server, &request(&|_| Ok(())), "[2001:db8::7]:4000").expect("answered");
    assert_eq!(code(&v6.1), 200, "there is none for IPv6");
    assert_eq!(server.counters().redirected, 1);
    server.restrict(Arc::new(Access::short_term(USERS)));
    assert_eq!(code(&ask(&mut server, &|_| Ok(()))), 400, "strangers are told nothing");
}

#[test]
fn software_is_named_where_that_is_wanted() {
    let mut server = Server::new();
    assert_eq!(ask(&mut server, &|_| Ok(())).len(), 32);
    server.name_software("ntcp");
    let bytes = ask(&mut server, &|_| Ok(()));
    let message = Message::parse(&bytes).expect("well-formed");
    assert_eq!(message.attribute(), Ok(Some(Software::new("ntcp").expect("short"))));
}
