//! The server over DTLS.

#[expect(dead_code, reason = "cookies are the server's")]
#[path = "../../src/dtls/cryptography.rs"]
mod cryptography;

use crate::support::{Authority, PATIENCE, Running, options, request};
use dimpl::{Config, Dtls, DtlsCertificate, Output};
use ntcp_stun::attribute::{ChangeRequest, XorMappedAddress};
use ntcp_stun::{Class, Message, TransactionId};
use ntcp_stun_server::{Options, TlsOptions};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Length of a HelloVerifyRequest with its cookie.
const ASKING: usize = 60;

fn dtls(authority: &Authority) -> Options {
    let listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let tls = TlsOptions { dtls: listen, files: authority.files(), ..TlsOptions::default() };
    Options { tls: Some(tls), ..options(&["127.0.0.1:0"], &[]) }
}

/// A client, as far as it has come.
struct Client {
    socket: UdpSocket,
    dtls: Dtls,
    certificate: Vec<u8>,
    received: Vec<Vec<u8>>,
    is_up: bool,
    is_closed: bool,
}

impl Client {
    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.connect(server).expect("a route");
        Self::on(socket)
    }

    fn on(socket: UdpSocket) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let config = Config::builder().with_crypto_provider(cryptography::provider());
        let config = Arc::new(config.build().expect("a sound provider"));
        let own = rcgen::generate_simple_self_signed(Vec::new()).expect("a certificate");
        let own = DtlsCertificate {
            certificate: own.cert.der().to_vec(),
            private_key: own.signing_key.serialize_der(),
        };
        let now = Instant::now();
        let mut dtls = Dtls::new_12(config, own, now);
        dtls.set_active(true);
        dtls.handle_timeout(now).expect("a hello");
        let (certificate, received) = (Vec::new(), Vec::new());
        Self { socket, dtls, certificate, received, is_up: false, is_closed: false }
    }

    /// The datagrams that it has to send.
    fn said(&mut self) -> Vec<Vec<u8>> {
        let (mut buffer, mut said) = (vec![0; 4096], Vec::new());
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(bytes) => said.push(bytes.to_vec()),
                Output::PeerCert(bytes) => self.certificate = bytes.to_vec(),
                Output::Connected => self.is_up = true,
                Output::ApplicationData(bytes) => self.received.push(bytes.to_vec()),
                Output::CloseNotify => self.is_closed = true,
                Output::Timeout(_) => return said,
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                _ => {}
            }
        }
    }

    /// Sends what it has to, and takes in one datagram.
    fn step(&mut self) {
        for datagram in self.said() {
            self.socket.send(&datagram).expect("sent");
        }
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("an answer");
        self.dtls.handle_timeout(Instant::now()).expect("in time");
        self.dtls.handle_packet(&buffer[..length]).expect("DTLS");
        self.flush();
    }

    fn flush(&mut self) {
        for datagram in self.said() {
            self.socket.send(&datagram).expect("sent");
        }
    }

    fn shake_hands(mut self) -> Self {
        while !self.is_up {
            self.step();
        }
        self
    }

    /// Asks, and checks the answer's address; the answer.
    fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.dtls.send_application_data(request).expect("it is up");
        while self.received.is_empty() {
            self.step();
        }
        self.received.remove(0)
    }

    fn ask_and_check(&mut self, id: u8) {
        let answer = self.ask(&request(id, None));
        let message = Message::parse(&answer).expect("well-formed");
        let own = XorMappedAddress(self.socket.local_addr().expect("bound"));
        assert_eq!(message.transaction_id(), TransactionId::new([id; 12]));
        assert_eq!(message.attribute(), Ok(Some(own)));
    }
}

#[test]
fn requests_over_dtls_are_answered() {
    let authority = Authority::new("dtls");
    let server = Running::start(&dtls(&authority));
    let mut client = Client::new(server.dtls[0]).shake_hands();
    assert_eq!(client.certificate, authority.certificate.to_vec());
    client.ask_and_check(1);
    client.ask_and_check(2);
    // There is no other address to answer from in a session.
    let refused = client.ask(&request(3, Some(ChangeRequest::Port)));
    assert_eq!(Message::parse(&refused).expect("well-formed").class(), Class::Error);
    // What is no STUN is dropped, and the session goes on.
    client.dtls.send_application_data(b"GET /").expect("it is up");
    client.ask_and_check(4);
    client.dtls.close().expect("closed");
    client.flush();
    let counters = server.stop();
    assert_eq!((counters.dtls, counters.successes, counters.unknown_attributes), (5, 3, 1));
    assert_eq!((counters.dtls_cookies, counters.dtls_handshakes, counters.dtls_refused), (1, 1, 0));
}

#[test]
fn hellos_without_a_cookie_leave_nothing_and_gain_nothing() {
    let authority = Authority::new("dtls-flood");
    let server = Running::start(&Options { max_dtls_sessions: 32, ..dtls(&authority) });
    let mut client = Client::new(server.dtls[0]);
    let hello = client.said().remove(0);
    // A thousand sources; a bound of one session for each of them, and 32 in all, is not reached.
    for _ in 0..1000 {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.send_to(&hello, server.dtls[0]).expect("sent");
        let length = socket.recv(&mut [0; 4096]).expect("an answer");
        assert!(length == ASKING && length <= hello.len(), "{length} for {}", hello.len());
    }
    // Each bit wrong, each end too early: nothing, or as little.
    let flipped = (0..hello.len() * 8).map(|bit| {
        let mut wrong = hello.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        wrong
    });
    let cut = (0..hello.len()).map(|length| hello[..length].to_vec());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(server.dtls[0]).expect("a route");
    for wrong in flipped.chain(cut) {
        socket.send(&wrong).expect("sent");
    }
    // What it has said to that was said before it answers the next one.
    let mut client = Client::new(server.dtls[0]).shake_hands();
    socket.set_nonblocking(true).expect("a mode");
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        assert_eq!(length, ASKING, "not shorter than the shortest hello");
    }
    client.ask_and_check(1);
    let counters = server.stop();
    assert_eq!(counters.dtls_handshakes, 1);
    assert!(counters.dtls_cookies > 1000);
}

#[test]
fn a_cookie_is_good_for_one_source_and_one_hello() {
    let authority = Authority::new("dtls-cookie");
    let server = Running::start(&dtls(&authority));
    let mut client = Client::new(server.dtls[0]);
    client.step();
    // It has sent the hello with the cookie; from elsewhere the same is worth nothing.
    let (mut thief, mut buffer) = (Client::new(server.dtls[0]), [0; 4096]);
    let first = thief.said().remove(0);
    thief.socket.send(&first).expect("sent");
    let length = thief.socket.recv(&mut buffer).expect("a cookie");
    thief.dtls.handle_packet(&buffer[..length]).expect("DTLS");
    let with_cookie = thief.said().remove(0);
    let elsewhere = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    elsewhere.send_to(&with_cookie, server.dtls[0]).expect("sent");
    let mut changed = with_cookie.clone();
    *changed.last_mut().expect("long") ^= 1;
    thief.socket.send(&changed).expect("sent");
    let mut client = client.shake_hands();
    client.ask_and_check(1);
    let counters = server.stop();
    assert_eq!((counters.dtls_refused, counters.dtls_handshakes), (2, 1));
}

#[test]
fn sessions_are_bounded_for_each_source_and_make_room_when_they_end() {
    let authority = Authority::new("dtls-bound");
    // Two for each source.
    let server = Running::start(&Options { max_dtls_sessions: 64, ..dtls(&authority) });
    let mut first = Client::new(server.dtls[0]).shake_hands();
    let mut second = Client::new(server.dtls[0]).shake_hands();
    let mut third = Client::new(server.dtls[0]);
    third.step();
    second.ask_and_check(2);
    first.dtls.close().expect("closed");
    first.flush();
    second.ask_and_check(3);
    Client::new(server.dtls[0]).shake_hands().ask_and_check(4);
    // A client that has forgotten its session gets another on the same port, and is still two.
    let again = Client::on(second.socket.try_clone().expect("a socket"));
    again.shake_hands().ask_and_check(5);
    let counters = server.stop();
    assert_eq!((counters.dtls_handshakes, counters.dtls_refused), (4, 1));
}

#[test]
fn who_says_nothing_is_told_goodbye() {
    let authority = Authority::new("dtls-idle");
    let (first_message, next_message) = (Duration::from_secs(5), Duration::from_millis(200));
    let server = Running::start(&Options { first_message, next_message, ..dtls(&authority) });
    let mut client = Client::new(server.dtls[0]).shake_hands();
    client.ask_and_check(1);
    while !client.is_closed {
        client.step();
    }
    assert_eq!(server.stop().dtls_refused, 0);
}

#[test]
fn openssl_is_answered_over_dtls_too() {
    let authority = Authority::new("dtls-openssl");
    let server = Running::start(&dtls(&authority));
    for suite in [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ] {
        // The curve of the certificate must be among them.
        for group in ["X25519:P-256", "P-256", "P-384:P-256"] {
            let flags = ["-dtls1_2", "-cipher", suite, "-groups", group];
            if !authority.ask_with_openssl(server.dtls[0], &flags, 32) {
                return;
            }
        }
    }
    assert_eq!(server.stop().dtls_handshakes, 9);
}
