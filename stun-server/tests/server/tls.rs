//! The server over TLS.

use crate::support::{Authority, PATIENCE, Running, options, request};
use ntcp_stun::attribute::XorMappedAddress;
use ntcp_stun::framing::Deframer;
use ntcp_stun::{Message, TransactionId};
use ntcp_stun_server::{Options, TlsOptions};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

impl Authority {
    /// A server with this certificate, and where it speaks TLS.
    fn serve(&self) -> (Running, SocketAddr) {
        let listen = vec!["127.0.0.1:0".parse().expect("an address")];
        let tls = Some(TlsOptions { listen, files: self.files(), ..TlsOptions::default() });
        let server = Running::start(&Options { tls, ..options(&["127.0.0.1:0"], &[]) });
        let address = server.tls[0];
        (server, address)
    }

    fn connect(&self, server: SocketAddr, protocols: &[&str]) -> Secured {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("stun.example.org").expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        let stream = TcpStream::connect(server).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        StreamOwned::new(connection, stream)
    }
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// The ids of the next answers, each of which tells the client's address.
fn answers(stream: &mut Secured, count: usize) -> Vec<TransactionId> {
    let own = XorMappedAddress(stream.sock.local_addr().expect("bound"));
    let (mut deframer, mut ids) = (Deframer::new(2048), Vec::new());
    while ids.len() < count {
        let length = stream.read(deframer.spare()).expect("answers");
        assert_ne!(length, 0, "the stream ended after {} answers", ids.len());
        deframer.filled(length);
        while let Some(bytes) = deframer.next_message().expect("STUN") {
            let message = Message::parse(bytes).expect("well-formed");
            assert_eq!(message.attribute(), Ok(Some(own)));
            ids.push(message.transaction_id());
        }
    }
    ids
}

#[test]
fn requests_over_tls_are_answered_however_they_are_cut() {
    let authority = Authority::new("cut");
    let (server, address) = authority.serve();
    let mut stream = authority.connect(address, &["stun.nat-discovery"]);
    // One by one, in single bytes, and more at once than a record holds.
    stream.write_all(&request(1, None)).expect("sent");
    assert_eq!(answers(&mut stream, 1), [TransactionId::new([1; 12])]);
    for byte in request(2, None) {
        stream.write_all(&[byte]).expect("sent");
    }
    assert_eq!(answers(&mut stream, 1), [TransactionId::new([2; 12])]);
    let many: Vec<u8> = (0..1000).flat_map(|it| request(it as u8, None)).collect();
    stream.write_all(&many).expect("sent");
    let expected: Vec<_> = (0..1000).map(|it| TransactionId::new([it as u8; 12])).collect();
    assert_eq!(answers(&mut stream, 1000), expected);
    let protocol = stream.conn.alpn_protocol();
    assert_eq!(protocol, Some(&b"stun.nat-discovery"[..]), "RFC 7443");
    stream.conn.send_close_notify();
    stream.flush().expect("sent");
    assert_eq!(stream.read(&mut [0; 9]).unwrap_or(0), 0, "it ends as well");
    let counters = server.stop();
    assert_eq!((counters.tcp, counters.successes, counters.tls_refused), (1002, 1002, 0));
}

#[test]
fn a_client_has_the_first_protocol_it_offers_and_none_that_is_not_stun() {
    let authority = Authority::new("alpn");
    let (server, address) = authority.serve();
    for (offered, expected) in [
        (&["stun.turn"][..], Some("stun.turn")),
        (&["h2", "stun.turn", "stun.nat-discovery"], Some("stun.nat-discovery")),
        (&[], None),
    ] {
        let mut stream = authority.connect(address, offered);
        stream.write_all(&request(1, None)).expect("sent");
        answers(&mut stream, 1);
        assert_eq!(stream.conn.alpn_protocol(), expected.map(str::as_bytes), "{offered:?}");
    }
    let mut stream = authority.connect(address, &["h2"]);
    let refused = stream.write_all(&request(1, None)).and_then(|()| stream.read(&mut [0; 9]));
    let refused = refused.expect_err("no protocol in common").to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    assert_eq!(server.stop().tls_refused, 1);
}

#[test]
fn what_is_not_tls_is_closed_and_counted() {
    let authority = Authority::new("garbage");
    let (server, address) = authority.serve();
    for garbage in [&request(1, None)[..], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xFF, 0xFF]] {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(garbage).expect("sent");
        let mut said = Vec::new();
        // An alert, or nothing, or a reset; but an end.
        let end = stream.read_to_end(&mut said);
        assert!(!matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
        assert!(said.len() < 20, "{said:?}");
    }
    // Inside TLS the rules are those of TCP.
    let mut stream = authority.connect(address, &[]);
    stream.write_all(&[0xFF; 40]).expect("sent");
    assert!(matches!(stream.read(&mut [0; 9]), Ok(0) | Err(_)));
    let mut stream = authority.connect(address, &[]);
    stream.write_all(&request(1, None)).expect("sent");
    answers(&mut stream, 1);
    let counters = server.stop();
    assert_eq!((counters.tls_refused, counters.successes), (3, 1));
}

#[test]
fn a_handshake_that_is_never_finished_ends() {
    let authority = Authority::new("half");
    let listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let tls = Some(TlsOptions { listen, files: authority.files(), ..TlsOptions::default() });
    let first_message = Duration::from_millis(200);
    let plain = options(&["127.0.0.1:0"], &[]);
    let server = Running::start(&Options { tls, first_message, ..plain });
    let mut stream = TcpStream::connect(server.tls[0]).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(&[0x16, 3, 1]).expect("sent");
    assert!(matches!(stream.read(&mut [0; 9]), Ok(0)), "closed without a word");
    // Whoever has finished it and says nothing is closed too.
    let mut stream = authority.connect(server.tls[0], &[]);
    stream.conn.complete_io(&mut stream.sock).expect("a handshake");
    assert!(stream.sock.read(&mut [0; 9]).is_ok(), "closed");
}

#[test]
fn openssl_is_answered_too() {
    let authority = Authority::new("openssl");
    let (_server, address) = authority.serve();
    for version in ["-tls1_2", "-tls1_3"] {
        // With the mapped address and, since this is a stream, the tests that are offered.
        if !authority.ask_with_openssl(address, &[version, "-alpn", "stun.nat-discovery"], 40) {
            return;
        }
    }
}
