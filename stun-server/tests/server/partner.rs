//! Two servers with one address each that are one server of RFC 5780 together.

use crate::support::{PATIENCE, Running, client, options, receive, request};
use ntcp_stun::attribute::ChangeRequest::{self, Ip, IpAndPort, Nothing, Port};
use ntcp_stun::attribute::{ErrorCode, OtherAddress, XorMappedAddress};
use ntcp_stun::partner::{self, Epoch, Said, VERSION};
use ntcp_stun::{Key, Message, TransactionId};
use ntcp_stun_server::{AlternateHost, Options, PartnerKey};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// The options of one of them; the other one's have the addresses exchanged.
fn half(own: SocketAddr, other: SocketAddr, secret: &[u8]) -> Options {
    let key = PartnerKey::new(secret).expect("long enough");
    Options {
        alternate_host: AlternateHost::Partner(key),
        ..options(&[&own.to_string()], &[&other.to_string()])
    }
}

/// Two first addresses that no other test has: of each test its own, so that no port can be taken meanwhile.
fn addresses() -> (SocketAddr, SocketAddr) {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let (process, count) = (std::process::id() as u8, COUNT.fetch_add(1, Ordering::Relaxed));
    let at = |last, port| SocketAddr::from(([127, 1 + process / 2, count, last], port));
    (at(1, 3478), at(2, 3479))
}

/// Asks; the error code, whether another address is told, and where it came from.
fn ask(to: SocketAddr, change: ChangeRequest) -> (Option<u16>, Option<SocketAddr>, SocketAddr) {
    let socket = client("127.0.0.1");
    socket.send_to(&request(7, Some(change)), to).expect("sent");
    let (bytes, from) = receive(&socket);
    let message = Message::parse(&bytes).expect("well-formed");
    let code = message.attribute::<ErrorCode<'_>>().expect("well-formed").map(|it| it.code());
    if code.is_none() {
        let mapped = XorMappedAddress(socket.local_addr().expect("bound"));
        assert_eq!(message.attribute(), Ok(Some(mapped)));
    }
    let other = message.attribute::<OtherAddress>().expect("well-formed").map(|it| it.0);
    (code, other, from)
}

/// Waits until a server says, or no longer says, that it has a partner.
fn until_told(server: SocketAddr, partner: Option<SocketAddr>) {
    let end = Instant::now() + PATIENCE;
    while ask(server, Nothing).1 != partner {
        assert!(Instant::now() < end, "{server} does not tell of {partner:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn each_of_two_partners_answers_for_the_other() {
    let (own, other) = addresses();
    let first = Running::start(&half(own, other, SECRET));
    let second = Running::start(&half(other, own, SECRET));
    until_told(own, Some(other));
    until_told(other, Some(own));
    let at = SocketAddr::new;
    for (asked, theirs) in [(own, other), (other, own)] {
        for (change, from) in [
            (Nothing, asked),
            (Port, at(asked.ip(), theirs.port())),
            (Ip, at(theirs.ip(), asked.port())),
            (IpAndPort, theirs),
        ] {
            assert_eq!(ask(asked, change), (None, Some(theirs), from), "{asked} {change:?}");
        }
        let second_port = at(asked.ip(), theirs.port());
        assert_eq!(ask(second_port, IpAndPort).2, at(theirs.ip(), asked.port()));
    }
    let (first, second) = (first.stop(), second.stop());
    assert_eq!((first.forwarded, second.forwarded), (3, 3), "of clients; proofs are not counted");
    assert!(first.answered_for_partner > 3 && second.answered_for_partner > 3);
    assert_eq!((first.link_refused, second.link_refused, first.lost, second.lost), (0, 0, 0, 0));
}

#[test]
fn a_partner_that_goes_is_no_longer_told_of_and_one_that_comes_back_is() {
    let (own, other) = addresses();
    let _first = Running::start(&half(own, other, SECRET));
    assert_eq!(ask(own, Nothing), (None, None, own), "nobody is there yet");
    for _ in 0..2 {
        let second = Running::start(&half(other, own, SECRET));
        until_told(own, Some(other));
        assert_eq!(ask(own, IpAndPort), (None, Some(other), other));
        drop(second);
        until_told(own, None);
        // Silence would look like a NAT that filters.
        assert_eq!(ask(own, IpAndPort), (Some(420), None, own));
        assert_eq!(ask(own, Ip), (Some(420), None, own));
        let port = SocketAddr::new(own.ip(), other.port());
        assert_eq!(ask(own, Port), (None, None, port));
    }
}

#[test]
fn partners_with_different_secrets_stay_alone() {
    let (own, other) = addresses();
    let first = Running::start(&half(own, other, SECRET));
    let second = Running::start(&half(other, own, &[b'x'; 32]));
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        assert_eq!(ask(own, IpAndPort), (Some(420), None, own));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(first.stop().link_refused > 0 && second.stop().link_refused > 0);
}

/// Somebody at the partner's address, with or without the secret.
#[test]
fn nobody_at_the_partners_address_can_have_anything_sent_to_others() {
    let (own, other) = addresses();
    let server = Running::start(&half(own, other, SECRET));
    let (liar, victim) = (UdpSocket::bind(other).expect("its address"), client("127.0.0.1"));
    let victims = victim.local_addr().expect("bound");
    victim.set_nonblocking(true).expect("not blocking");
    liar.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let forward = |run, count, secret: &[u8], change| {
        let mut buffer = [0; 400];
        let request = request(9, Some(change));
        let epoch = Epoch { run, count };
        let said = Said::Forward { epoch, client: victims, asked: other, request: &request };
        let key = (other, &Key::short_term(secret));
        let length = partner::write(&mut buffer, &said, TransactionId::new([1; 12]), key);
        buffer[..length.expect("room")].to_vec()
    };
    // What the server itself says holds its run only for who has the secret and is asked.
    for count in 1..50 {
        liar.send_to(&forward(count, count, SECRET, Ip), own).expect("sent");
        liar.send_to(&forward(count, count, &[b'x'; 32], Ip), own).expect("sent");
        liar.send_to(&request(3, Some(IpAndPort)), own).expect("sent");
        liar.send_to(&[0xE2; 60], own).expect("sent");
    }
    let mut buffer = [0; 600];
    while let Ok((length, _)) = liar.recv_from(&mut buffer) {
        let message = Message::parse(&buffer[..length]).expect("well-formed");
        assert_eq!(message.method(), partner::METHOD, "but its own questions nothing comes");
        assert_eq!(message.class(), ntcp_stun::Class::Request);
    }
    assert!(victim.recv_from(&mut buffer).is_err(), "nothing comes to the victim");
    let counters = server.stop();
    assert_eq!((counters.link_refused, counters.answered_for_partner), (4 * 49, 0));
}

#[test]
fn a_partner_of_another_version_is_not_told_of() {
    let (own, other) = addresses();
    let server = Running::start(&half(own, other, SECRET));
    let old = UdpSocket::bind(other).expect("its address");
    old.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let key = Key::short_term(SECRET);
    for _ in 0..3 {
        let (mut buffer, mut answer) = ([0; 400], [0; 400]);
        let (length, from) = loop {
            // The port was free a moment ago: what still looks for its last user is not meant.
            let (length, from) = old.recv_from(&mut buffer).expect("a question each second");
            if from == own {
                break (length, from);
            }
        };
        let message = Message::parse(&buffer[..length]).expect("well-formed");
        assert_eq!(
            partner::read(&message, own, &key),
            Some(Said::AreYouThere { version: VERSION })
        );
        let said = Said::Here { version: VERSION + 1, epoch: Epoch::default() };
        let id = message.transaction_id();
        let length = partner::write(&mut answer, &said, id, (other, &key)).expect("room");
        old.send_to(&answer[..length], from).expect("sent");
        assert_eq!(ask(own, IpAndPort), (Some(420), None, own));
    }
    assert_eq!(server.stop().forwarded, 0);
}
