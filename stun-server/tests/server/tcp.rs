//! TCP on loopback: framing, patience, and what is too much.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use crate::client::{
    PATIENCE, Tcp, at, binding, change, message, request, serve, serve_four, start,
};
use ntcp_stun::Class;
use ntcp_stun::attribute::ChangeRequest::IpAndPort;
use ntcp_stun::attribute::Software;
use ntcp_stun_server::{Config, Limits, Running};
use socket2::{Domain, Socket, Type};

fn serve_with(limits: Limits) -> (Running, SocketAddr) {
    let server = start(&Config::new([at("127.0.0.1:0")]).with_limits(limits));
    let address = server.local_addresses()[0];
    (server, address)
}

#[test]
fn each_address_of_the_four_answers_over_tcp_and_announces_its_opposite() {
    let server = serve_four();
    let addresses = server.local_addresses();
    for to in addresses {
        let mut client = Tcp::connect(*to);
        let reply = client.ask(&binding(1));
        assert_eq!((reply.mapped(), reply.origin()), (client.address(), Some(*to)));
        let other = reply.other().expect("OTHER-ADDRESS");
        assert!(addresses.contains(&other) && other.ip() != to.ip() && other.port() != to.port());
        assert_eq!(client.ask(&change(2, IpAndPort)).error(), Some(420));
    }
}

#[test]
fn ipv6_is_served_over_tcp() {
    let server = serve("[::]:0");
    let to = SocketAddr::new(at("[::1]:0").ip(), server.local_addresses()[0].port());
    let mut client = Tcp::connect(to);
    assert_eq!(client.ask(&binding(1)).mapped(), client.address());
}

#[test]
fn a_request_may_be_split_at_every_byte() {
    let server = serve("127.0.0.1:0");
    let request = request(9, |it| it.attribute(&Software::new("split").unwrap()).unwrap());
    for split in 1..request.len() {
        let mut client = Tcp::connect(server.local_addresses()[0]);
        // That the first part arrived alone is likely, not certain; it must be right either way.
        client.send(&request[..split]);
        client.send(&request[split..]);
        assert_eq!(client.receive().expect("a reply").number(), 9, "{split}");
    }
    let mut client = Tcp::connect(server.local_addresses()[0]);
    for byte in &request {
        client.send(&[*byte]);
    }
    assert_eq!(client.receive().expect("a reply").number(), 9);
}

#[test]
fn requests_sent_together_are_answered_in_order_though_the_client_ends_its_side() {
    let server = serve("127.0.0.1:0");
    let mut client = Tcp::connect(server.local_addresses()[0]);
    let requests: Vec<u8> = (0..100).flat_map(binding).collect();
    client.send(&requests);
    client.stream.shutdown(Shutdown::Write).expect("ended");
    for number in 0..100 {
        assert_eq!(client.receive().expect("a reply").number(), number);
    }
    assert!(client.receive().is_none());
}

#[test]
fn what_needs_no_reply_is_passed_over() {
    let server = serve("127.0.0.1:0");
    let mut client = Tcp::connect(server.local_addresses()[0]);
    client.send(&message(Class::Indication, 1, |_| {}));
    client.send(&message(Class::Success, 2, |_| {}));
    assert_eq!(client.ask(&binding(3)).number(), 3);
}

#[test]
fn what_is_not_stun_closes_the_connection() {
    let server = serve("127.0.0.1:0");
    let too_long = [&[0, 1, 0xFF, 0xFC][..], b"\x21\x12\xA4\x42sixteen bytes id"].concat();
    let without_cookie = b"\x00\x01\x00\x00sixteen bytes id";
    let garbage: [&[u8]; 5] =
        [b"GET / HTTP/1.1\r\n\r\n", &[0xFF], &[0; 20], &too_long, without_cookie];
    for bytes in garbage {
        let mut client = Tcp::connect(server.local_addresses()[0]);
        assert_eq!(client.ask(&binding(1)).number(), 1);
        // The server may have closed before all is sent.
        let _ = client.stream.write_all(bytes);
        assert!(client.receive().is_none(), "{bytes:?}");
    }
}

#[test]
fn a_connection_without_a_whole_message_is_closed_in_time() {
    let limits = Limits {
        first_message: Duration::from_millis(50),
        idle: Duration::from_millis(50),
        ..Limits::default()
    };
    let (_server, address) = serve_with(limits);
    for sent in [&[][..], &binding(1)[..19]] {
        let mut client = Tcp::connect(address);
        client.send(sent);
        assert!(client.receive().is_none(), "{sent:?}");
    }
    let mut client = Tcp::connect(address);
    if let Some(reply) = {
        client.send(&binding(2));
        client.receive()
    } {
        assert_eq!(reply.number(), 2);
        // Silence after a message ends it as well.
        assert!(client.receive().is_none());
    }
}

#[test]
fn a_connection_that_has_asked_may_be_silent_for_longer() {
    let first_message = Duration::from_secs(1);
    let (_server, address) = serve_with(Limits { first_message, ..Limits::default() });
    let mut held = Tcp::connect(address);
    assert_eq!(held.ask(&binding(1)).number(), 1);
    // Once this one is closed, the time that a first message may take has passed for the other too.
    assert!(Tcp::connect(address).receive().is_none());
    assert_eq!(held.ask(&binding(2)).number(), 2);
}

#[test]
fn the_default_patience_outlasts_what_peers_that_hold_a_mapping_need() {
    assert!(Limits::default().idle >= Duration::from_secs(120));
}

#[test]
fn one_connection_too_many_is_closed_and_a_place_that_is_left_is_free_again() {
    let (server, address) = serve_with(Limits { max_connections: 2, ..Limits::default() });
    let mut clients = [Tcp::connect(address), Tcp::connect(address)];
    for client in &mut clients {
        assert!(client.ask(&binding(1)).is_success());
    }
    for _ in 0..3 {
        assert!(Tcp::connect(address).receive().is_none());
    }
    let [first, mut second] = clients;
    assert!(second.ask(&binding(2)).is_success());
    drop(first);
    // The server hears of it in its own time.
    let mut attempts = 0;
    loop {
        let mut client = Tcp::connect(address);
        let _ = client.stream.write_all(&binding(3));
        if client.receive().is_some() {
            break;
        }
        attempts += 1;
        assert!(attempts < 1000, "the place stays taken");
    }
    let served = server.stop().expect("stopped");
    assert_eq!((served.connections, served.refused_connections), (3, 3 + attempts));
}

/// A client that sends as much as it can and reads nothing.
struct Deaf {
    socket: Socket,
    requests: Vec<u8>,
    sent: usize,
}

impl Deaf {
    fn connect(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(2048).expect("a small buffer");
        socket.connect(&address.into()).expect("a connection");
        socket.set_nonblocking(true).expect("non-blocking");
        Self { socket, requests: (0..200).flat_map(binding).collect(), sent: 0 }
    }

    /// Sends until there is no more room, and returns why: there is none, or the connection has ended.
    fn send(&mut self) -> ErrorKind {
        loop {
            let at = self.sent % binding(0).len();
            match self.socket.write(&self.requests[at..]) {
                Ok(length) => self.sent += length,
                Err(error) => return error.kind(),
            }
            assert!(self.sent < 100 << 20, "the server reads on though it cannot reply");
        }
    }
}

#[test]
fn a_client_that_does_not_read_is_closed_and_the_others_do_not_wait_for_it() {
    let write = Duration::from_millis(300);
    let (_server, address) = serve_with(Limits { write, ..Limits::default() });
    let (mut deaf, mut other) = (Deaf::connect(address), Tcp::connect(address));
    let end = loop {
        match deaf.send() {
            // Each round trip of another client gives the server time to read on, if it would.
            ErrorKind::WouldBlock => assert!(other.ask(&binding(1)).is_success()),
            end => break end,
        }
    };
    assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&end), "{end}");
    assert!(other.ask(&binding(2)).is_success());
}

#[test]
fn stopping_does_not_wait_for_a_client_that_does_not_read() {
    let write = Duration::from_secs(3600);
    let (server, address) = serve_with(Limits { write, ..Limits::default() });
    let (mut deaf, mut other) = (Deaf::connect(address), Tcp::connect(address));
    for _ in 0..100 {
        assert_eq!(deaf.send(), ErrorKind::WouldBlock);
        assert!(other.ask(&binding(1)).is_success());
    }
    assert_eq!(server.stop().expect("stopped").connections, 2);
}

#[test]
fn a_client_that_never_stops_asking_does_not_keep_others_waiting() {
    let server = serve("127.0.0.1:0");
    let address = server.local_addresses()[0];
    let busy = Tcp::connect(address);
    let mut writing = busy.stream.try_clone().expect("a clone");
    let mut reading = busy.stream.try_clone().expect("a clone");
    let writer = std::thread::spawn(move || {
        let requests: Vec<u8> = (0..100).flat_map(binding).collect();
        while writing.write_all(&requests).is_ok() {}
    });
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while reading.read(&mut buffer).is_ok_and(|length| length > 0) {}
    });
    for number in 0..20 {
        let mut client = Tcp::connect(address);
        client.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        assert_eq!(client.ask(&binding(number)).number(), number);
    }
    busy.stream.shutdown(Shutdown::Both).expect("ended");
    writer.join().expect("the writer");
    reader.join().expect("the reader");
}
