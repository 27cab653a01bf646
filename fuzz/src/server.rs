//! Any bytes sent to a STUN server.

use ntcp_stun::server::{Heeded, Link, Quartet, Request, Server, Transport};
use ntcp_stun::{Check, Class, Message};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Instant;

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
        forward(server, bytes, source, &quartet);
        hear(bytes, local, alternate);
    }
}

/// The same bytes, as a partner would forward them.
fn forward(mut server: Server, bytes: &[u8], source: SocketAddr, quartet: &Quartet) {
    server.forward_changes();
    server.withhold_other_address(true);
    let [own, _, _, partner] = quartet.addresses();
    let request = Request { bytes, source, local: partner, transport: Transport::Udp };
    let mut buffer = vec![0xEE; bytes.len() + MOST_ADDED + 20];
    let Ok(reply) = server.handle_forwarded(request, &mut buffer) else { return };
    let message = Message::parse_classic(&buffer[..reply.length]).expect("well-formed");
    assert_eq!((message.class(), reply.from.ip()), (Class::Success, own.ip()));
    assert_eq!(reply.to.ip(), source.ip());
    assert!(reply.length <= bytes.len() + MOST_ADDED, "no amplifier");
}

/// The same bytes, from the partner's address, without its signature.
#[expect(clippy::disallowed_methods, reason = "a link wants to be told some instant")]
fn hear(bytes: &[u8], own: SocketAddr, partner: SocketAddr) {
    thread_local! {
        /// Making one costs more than all that it is asked here.
        static LINKS: RefCell<Vec<Link>> = const { RefCell::new(Vec::new()) };
    }
    LINKS.with_borrow_mut(|links| {
        let place = links.iter().position(|it| it.own() == own).unwrap_or(links.len());
        if place == links.len() {
            links.push(Link::new(own, partner, &[7; 32], [1, 2, 3]));
        }
        let heeded = links[place].handle(bytes, (partner, own), &mut [0; 400], Instant::now());
        assert!(matches!(heeded, Heeded::Refused | Heeded::Nothing), "{heeded:?}");
    });
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
