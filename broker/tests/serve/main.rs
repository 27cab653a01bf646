//! The server on loopback, spoken to by hand over real sockets.

#[cfg(target_os = "linux")]
mod access;
#[cfg(all(target_os = "linux", feature = "redis"))]
mod cluster;
mod operations;
mod peer;
#[path = "../../../service/testing/program.rs"]
mod program;
#[cfg(all(target_os = "linux", feature = "redis"))]
mod soak;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt;
use futures::channel::oneshot;
use ntcp_broker::{BindError, Broker, Options, SocketError, Transport};
use ntcp_proto::rendezvous::Counters;
use ntcp_proto::rendezvous::{Config as Limits, InTheClear};
use ntcp_proto::signal::message::{Body, Message};
use ntcp_proto::signal::{ErrorCode, Punch, Role};
use ntcp_stun::TransactionId;

use peer::{Peer, Socket, connect, register};

/// Nothing on loopback takes this long; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(10);

struct Server {
    udp: SocketAddr,
    tcp: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Counters>,
}

impl Server {
    fn start() -> Self {
        Self::with(&loopback())
    }

    fn with(options: &Options) -> Self {
        let broker = Broker::bind(options).unwrap();
        let (udp, tcp) = (broker.udp_addresses()[0], broker.tcp_addresses()[0]);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = stopped.map(drop);
        let thread = std::thread::spawn(|| async_io::block_on(broker.run(stopped)));
        Self { udp, tcp, stop, thread }
    }

    fn stop(self) -> Counters {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

fn loopback() -> Options {
    let any_port = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    // These peers are made by hand, and speak in the clear.
    let limits = Limits { in_the_clear: InTheClear::Allowed, ..Limits::default() };
    Options { udp: any_port.clone(), tcp: any_port, limits, ..Options::default() }
}

#[test]
fn peers_on_udp_and_tcp_are_brought_together() {
    let server = Server::start();
    let mut alice = Peer::register(Socket::udp(server.udp), "alice");
    let mut bob = Peer::register(Socket::tcp(server.tcp), "bob");
    let Body::Connected(caller) = alice.ask(connect("bob")) else { panic!() };
    let invite = bob.receive();
    let Body::Invite(callee) = &invite.body else { panic!("{invite:?}") };
    assert_eq!((caller.role, callee.role), (Role::Controlling, Role::Controlled));
    assert_eq!((caller.session, caller.secret), (callee.session, callee.secret));
    let Punch { session, .. } = caller;
    let answer = ntcp_proto::signal::message::Answer { session, candidates: Vec::new() };
    bob.socket.send(&invite.answer(Body::Answer(answer)).emit(Some(&bob.key)));
    // The order came twice, and so does what the callee said.
    assert!(matches!(alice.receive().body, Body::Connected(_)));
    assert!(matches!(alice.receive().body, Body::CalleeAnswer(it) if it.session == session));
    let counters = server.stop();
    assert_eq!((counters.registered, counters.ordered, counters.accepted), (2, 1, 1));
}

#[test]
fn a_peer_whose_stream_ends_is_gone() {
    let server = Server::start();
    let mut alice = Peer::register(Socket::udp(server.udp), "alice");
    let bob = Peer::register(Socket::tcp(server.tcp), "bob");
    let bobs_name = || Body::Lookup("bob".parse().unwrap());
    assert!(matches!(alice.ask(bobs_name()), Body::Found(_)));
    drop(bob);
    // The end of the stream travels beside the lookups: ask until it has arrived.
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match alice.ask(bobs_name()) {
            Body::Refused(refused) if refused.code == ErrorCode::UnknownPeer => break,
            Body::Refused(refused) if refused.code == ErrorCode::TooManyRequests => {}
            Body::Found(_) => {}
            other => panic!("{other:?}"),
        }
        assert!(std::time::Instant::now() < deadline, "bob is still there");
    }
    server.stop();
}

#[test]
fn messages_that_come_in_pieces_or_together_are_all_answered() {
    let server = Server::start();
    let mut peer = Peer::register(Socket::tcp(server.tcp), "alice");
    let message = |serial: u8, peer: &Peer| {
        let message = Message::new(TransactionId::new([serial; 12]), Body::Ping);
        let message = Message { registration: Some(peer.registration), ..message };
        message.emit(Some(&peer.key))
    };
    let whole = message(10, &peer);
    for split in 1..whole.len() {
        peer.socket.send(&whole[..split]);
        peer.socket.send(&whole[split..]);
        let answer = Message::parse(&peer.socket.receive()).unwrap().message;
        // There are more splits than requests allowed in a burst.
        assert!(matches!(answer.body, Body::Pong | Body::Refused(_)), "split at {split}");
    }
    let three: Vec<u8> = (20..23).flat_map(|serial| message(serial, &peer)).collect();
    peer.socket.send(&three);
    for serial in 20..23 {
        let answer = Message::parse(&peer.socket.receive()).unwrap().message;
        assert_eq!(answer.transaction, TransactionId::new([serial; 12]));
    }
    server.stop();
}

#[test]
fn a_stream_that_carries_something_else_is_closed() {
    let server = Server::start();
    let mut socket = Socket::tcp(server.tcp);
    socket.send(b"GET / HTTP/1.1\r\nHost: broker.example\r\n\r\n");
    assert!(socket.is_closed());
    let mut alice = Peer::register(Socket::tcp(server.tcp), "alice");
    assert_eq!(alice.ask(Body::Ping), Body::Pong, "the others do not notice");
    server.stop();
}

#[test]
fn a_stream_that_says_nothing_is_closed() {
    let options = Options { first_message: Duration::from_millis(20), ..loopback() };
    let server = Server::with(&options);
    assert!(Socket::tcp(server.tcp).is_closed());
    server.stop();
}

#[test]
fn streams_beyond_the_limit_are_closed_and_make_room_when_they_end() {
    let options = Options { max_streams: 1, ..loopback() };
    let server = Server::with(&options);
    let first = Peer::register(Socket::tcp(server.tcp), "alice");
    assert!(Socket::tcp(server.tcp).is_closed());
    drop(first);
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut socket = Socket::tcp(server.tcp);
        socket.send(&register("bob", 1, None));
        let Socket::Tcp(stream) = &mut socket else { unreachable!() };
        let mut header = [0; 20];
        if stream.read_exact(&mut header).is_ok() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the place is still taken");
    }
    server.stop();
}

#[test]
fn one_address_cannot_take_all_streams() {
    let options = Options { max_streams_per_address: 2, ..loopback() };
    let server = Server::with(&options);
    let from = |last| Socket::tcp_from(Ipv4Addr::new(127, 0, 0, last), server.tcp);
    let mut greedy: Vec<_> = (0..4).map(|_| from(2)).collect();
    let mut other = from(3);
    let ask = |socket: &mut Socket| {
        socket.send(&register("anybody", 1, None));
        Message::parse(&socket.receive()).unwrap().message
    };
    ask(&mut other);
    assert!(greedy.split_off(2).iter_mut().all(Socket::is_closed));
    greedy.iter_mut().for_each(|socket| drop(ask(socket)));
    drop(greedy);
    let deadline = std::time::Instant::now() + PATIENCE;
    // Its places are free again.
    while from(2).is_closed_after(&register("anybody", 1, None)) {
        assert!(std::time::Instant::now() < deadline, "the places are still taken");
    }
    server.stop();
}

#[test]
fn halves_of_messages_on_several_streams_are_kept_apart() {
    let server = Server::start();
    let mut sockets: Vec<_> = (0..5).map(|_| Socket::tcp(server.tcp)).collect();
    let message = |serial| register("anybody", serial, None);
    for (serial, socket) in (1..).zip(&mut sockets) {
        socket.send(&message(serial)[..10 + usize::from(serial)]);
    }
    // Somebody else is answered in between, so that what is half there has been read.
    Peer::register(Socket::tcp(server.tcp), "alice");
    for (serial, socket) in (1..).zip(&mut sockets) {
        socket.send(&message(serial)[10 + usize::from(serial)..]);
        let answer = Message::parse(&socket.receive()).unwrap().message;
        assert_eq!(answer.transaction, TransactionId::new([serial; 12]));
    }
    server.stop();
}

#[test]
fn half_a_message_does_not_keep_a_stream_open() {
    let options = Options { first_message: Duration::from_millis(100), ..loopback() };
    let server = Server::with(&options);
    let mut socket = Socket::tcp(server.tcp);
    socket.send(&register("anybody", 1, None)[..30]);
    assert!(socket.is_closed());
    server.stop();
}

#[test]
fn a_peer_that_does_not_read_is_closed() {
    let mut options = Options { max_unread: 4096, ..loopback() };
    options.limits.burst = u32::MAX;
    let server = Server::with(&options);
    let mut peer = Peer::register(Socket::tcp(server.tcp), "alice");
    let message = Message::new(TransactionId::new([9; 12]), Body::Ping);
    let message = Message { registration: Some(peer.registration), ..message };
    let bytes = message.emit(Some(&peer.key)).repeat(64);
    let Socket::Tcp(stream) = &mut peer.socket else { unreachable!() };
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // The kernel's buffers hold some thousand answers; then the broker gives up on the peer.
    let refused = (0..100_000).find_map(|_| stream.write_all(&bytes).err());
    let kind = refused.map(|error| error.kind());
    let broken = [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::BrokenPipe];
    assert!(kind.is_some_and(|kind| broken.contains(&kind)), "{kind:?}");
    server.stop();
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let server = Server::start();
    for (options, transport) in [
        (Options { udp: vec![server.udp], ..loopback() }, Transport::Udp),
        (Options { tcp: vec![server.tcp], ..loopback() }, Transport::Tcp),
    ] {
        let Err(error) = Broker::bind(&options) else { panic!("bound twice") };
        assert!(
            matches!(error, BindError::Socket(SocketError::InUse { transport: it, .. }) if it == transport)
        );
        let text = error.to_string();
        assert!(text.contains("in use by another program") && text.contains("--"), "{text}");
    }
    server.stop();
}

#[test]
fn nothing_to_listen_on_is_an_error() {
    let options = Options { udp: Vec::new(), tcp: Vec::new(), ..Options::default() };
    assert!(matches!(Broker::bind(&options), Err(BindError::Nothing)));
}

#[test]
fn a_host_with_several_addresses_answers_from_the_one_that_was_asked() {
    let everywhere = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))];
    let options = Options { udp: everywhere, ..loopback() };
    let server = Server::with(&options);
    let asked = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 77), server.udp.port()));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&register("alice", 0, None), asked).unwrap();
    let mut buffer = [0; 2048];
    let (_, source) = socket.recv_from(&mut buffer).unwrap();
    if cfg!(target_os = "linux") {
        assert_eq!(source, asked);
    }
    server.stop();
}
