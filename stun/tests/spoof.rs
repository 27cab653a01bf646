//! The spoof check: a report goes to who asked for it, whatever is forged.

use ntcp_stun::server::{Mint, Reply, Request, Server, Silence, Transport};
use ntcp_stun::{Message, TransactionId, spoof};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const ID: TransactionId = TransactionId::new([4; 12]);

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn server() -> (Server, Instant) {
    let (mut server, origin) = (Server::new(), Instant::now());
    server.demand_proof(Mint::new([1; 32], origin, Duration::from_secs(600)));
    server.advance(origin);
    (server, origin)
}

fn send(server: &mut Server, bytes: &[u8], source: &str) -> Result<(Reply, Vec<u8>), Silence> {
    let mut buffer = vec![0; 256];
    let local =
        if source.starts_with('[') { at("[2001:db8::1]:3478") } else { at("192.0.2.1:3478") };
    let request = Request { bytes, source: at(source), local, transport: Transport::Udp };
    let reply = server.handle_request(request, &mut buffer)?;
    buffer.truncate(reply.length);
    assert!(reply.length <= bytes.len(), "{} for {}", reply.length, bytes.len());
    Ok((reply, buffer))
}

fn token(server: &mut Server, client: &str) -> Vec<u8> {
    let mut buffer = [0; 64];
    let length = spoof::write_request(&mut buffer, ID).expect("room");
    let (reply, bytes) = send(server, &buffer[..length], client).expect("a token");
    assert_eq!(reply.to, at(client));
    let message = Message::parse(&bytes).expect("well-formed");
    spoof::read_token(&message).expect("a token").to_vec()
}

fn forged(proven: &str, token: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 64];
    let length = spoof::write_forged(&mut buffer, ID, at(proven), token).expect("room");
    buffer.truncate(length);
    buffer
}

#[test]
fn who_asked_is_told_which_source_arrived() {
    for (client, neighbour) in
        [("198.51.100.7:4000", "198.51.100.6:4000"), ("[2001:db8::7]:4000", "[2001:db8::6]:4000")]
    {
        let (mut server, _) = server();
        let token = token(&mut server, client);
        let (reply, bytes) =
            send(&mut server, &forged(client, &token), neighbour).expect("a report");
        assert_eq!(reply.to, at(client), "never to the forged source");
        let message = Message::parse(&bytes).expect("well-formed");
        assert_eq!(message.transaction_id(), ID);
        assert_eq!(spoof::read_report(&message), Some(at(neighbour)));
        assert_eq!(server.counters().spoof_checks, 2);
    }
}

#[test]
fn nothing_is_sent_to_who_did_not_ask() {
    let (mut server, origin) = server();
    let (client, victim) = ("198.51.100.7:4000", "203.0.113.5:4000");
    let token = token(&mut server, client);
    for bytes in [
        forged(victim, &token),
        forged("198.51.100.7:4001", &token),
        forged(client, b"AAAAAAAAAAAA"),
        forged(client, b""),
        forged("[2001:db8::7]:4000", &token),
    ] {
        assert!(send(&mut server, &bytes, victim).is_err());
    }
    server.advance(origin + Duration::from_secs(3600));
    assert!(send(&mut server, &forged(client, &token), victim).is_err(), "too late");
    let short = [0x01, 0xC1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    assert!(send(&mut server, &short, victim).is_err(), "a token is longer than that");
    let mut buffer = [0; 64];
    let length = spoof::write_request(&mut buffer, ID).expect("room");
    let refused = send(&mut Server::new(), &buffer[..length], client).err();
    assert_eq!(refused, Some(Silence::UnknownMethod(spoof::METHOD)), "without a mint");
}
