//! Any bytes sent to a STUN server.

use ntcp_stun::server::{Quartet, Request, Server, Transport};
use ntcp_stun::{Check, Class, Message};
use std::net::SocketAddr;

/// What a reply may be longer than its request: four IPv6 addresses, each with its header.
const MOST_ADDED: usize = 4 * 24;

/// Sends `bytes` to servers with one and with two addresses, over both transports.
///
/// # Panics
///
/// If anything that must hold does not.
pub fn check(bytes: &[u8]) {
    for (source, primary, alternate) in [
        ("198.51.100.7:40000", "192.0.2.1:3478", "192.0.2.2:3479"),
        ("[2001:db8::7]:40000", "[2001:db8::1]:3478", "[2001:db8::2]:3479"),
    ] {
        let [source, local, alternate] =
            [source, primary, alternate].map(|it| it.parse::<SocketAddr>().expect("an address"));
        let quartet = Quartet::new(local, alternate).expect("a quartet");
        let mut server = Server::new();
        for _ in 0..2 {
            for transport in [Transport::Udp, Transport::Tcp] {
                ask(&mut server, &quartet, Request { bytes, source, local, transport });
            }
            server.add_quartet(quartet);
        }
        let counters = server.counters();
        assert_eq!((counters.udp, counters.tcp), (2, 2));
    }
}

fn ask(server: &mut Server, quartet: &Quartet, request: Request<'_>) {
    let mut buffer = vec![0xEE; request.bytes.len() + MOST_ADDED + 20];
    let Ok(reply) = server.handle_request(request, &mut buffer) else { return };
    let message = Message::parse_classic(&buffer[..reply.length]).expect("well-formed");
    assert!(matches!(message.class(), Class::Success | Class::Error));
    assert_ne!(message.fingerprint(), Check::Invalid);
    assert_eq!(buffer[4..20], request.bytes[4..20], "the transaction id");
    assert!(reply.length <= request.bytes.len() + MOST_ADDED, "no amplifier");
    assert_eq!(reply.to.ip(), request.source.ip());
    assert!(quartet.contains(reply.from));
    if request.transport == Transport::Tcp {
        assert_eq!((reply.from, reply.to), (request.local, request.source));
    }
}
