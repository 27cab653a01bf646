//! Tests towards clients, on loopback addresses.

use crate::support::{PATIENCE, Running, options, request};
use crate::udp::outside;
use ntcp_stun::framing::Deframer;
use ntcp_stun::probe::{self, Interval, Met, Offer, Outcome, Reply, Test, Wish};
use ntcp_stun::{Message, TransactionId};
use ntcp_stun_server::{Limits, Options};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const WAIT: Duration = Duration::from_millis(300);

/// A stream whose port others may share.
struct Client {
    stream: TcpStream,
    deframer: Deframer,
    asked: u8,
}

/// A socket that shares its port.
fn bound(local: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.set_reuse_address(true).expect("shared");
    socket.set_reuse_port(true).expect("shared");
    socket.bind(&local.into()).expect("bound");
    socket
}

impl Client {
    fn connect(server: SocketAddr) -> Self {
        let socket = bound("127.0.0.1:0".parse().expect("an address"));
        socket.connect(&server.into()).expect("connected");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { stream, deframer: Deframer::new(4096), asked: 0 }
    }

    fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("bound")
    }

    /// Listens on the same port.
    fn listen(&self) -> TcpListener {
        let socket = bound(self.local());
        socket.listen(8).expect("listening");
        socket.into()
    }

    fn ask(&mut self, test: Test) -> TransactionId {
        self.asked += 1;
        let id = TransactionId::new([self.asked; 12]);
        let wish = Wish { test, patience: Interval::of(WAIT) };
        self.stream.write_all(&probe::order(id, wish)).expect("sent");
        id
    }

    /// A test of some seconds.
    fn ask_for_long(&mut self, test: Test, seconds: u64) -> TransactionId {
        self.asked += 1;
        let id = TransactionId::new([self.asked; 12]);
        let patience = Interval::of_seconds(Duration::from_secs(seconds));
        self.stream.write_all(&probe::order(id, Wish { test, patience })).expect("sent");
        id
    }

    fn reply(&mut self) -> Reply {
        let bytes = receive(&mut self.stream, &mut self.deframer).expect("a reply");
        Reply::read(&Message::parse(&bytes).expect("well-formed")).expect("one for a test")
    }

    /// Whether nothing has come since the last message.
    fn is_silent(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a mode");
        let is_silent = self.stream.peek(&mut [0]).is_err();
        self.stream.set_nonblocking(false).expect("a mode");
        is_silent
    }

    fn ended(&mut self) -> (Outcome, Option<SocketAddr>) {
        match self.reply() {
            Reply::Ended { outcome, from } => (outcome, from),
            other => panic!("{other:?}"),
        }
    }
}

/// The next message, or `None` at the end of the stream.
fn receive(stream: &mut TcpStream, deframer: &mut Deframer) -> Option<Vec<u8>> {
    loop {
        if let Some(message) = deframer.next_message().expect("framed") {
            return Some(message.to_vec());
        }
        match stream.read(deframer.spare()) {
            Ok(0) => return None,
            Ok(length) => deframer.filled(length),
            Err(error) => panic!("neither a message nor an end: {error}"),
        }
    }
}

/// The token on a connection of the server's, which then ends.
fn token(mut stream: TcpStream) -> Option<TransactionId> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut deframer = Deframer::new(4096);
    let bytes = receive(&mut stream, &mut deframer)?;
    assert_eq!(receive(&mut stream, &mut deframer), None, "nothing but the token");
    probe::read_token(&Message::parse(&bytes).expect("well-formed"))
}

#[test]
fn a_listening_client_is_reached_from_another_port_and_from_another_address() {
    check_connecting_back(&Running::quartet(), |address| address);
}

#[test]
fn a_client_is_told_a_public_address_it_was_reached_from_where_a_nat_hides_the_servers_own() {
    check_connecting_back(&Running::hidden_quartet(), outside);
}

fn check_connecting_back(server: &Running, outside: impl Fn(SocketAddr) -> SocketAddr) {
    let [primary, .., alternate] = server.addresses[..] else { panic!("four addresses") };
    for (test, ip) in [(Test::OtherPort, primary.ip()), (Test::OtherAddress, alternate.ip())] {
        let mut client = Client::connect(primary);
        let listener = client.listen();
        let id = client.ask(test);
        // The server tries twice at once; who comes second is given up.
        let connected = std::iter::repeat_with(|| listener.accept().expect("the server connects"));
        let told = connected.take(2).find_map(|(stream, source)| {
            assert_eq!(source.ip(), ip, "{test:?}");
            assert!(server.addresses.iter().all(|it| it.port() != source.port()), "{source}");
            token(stream)
        });
        assert_eq!(told, Some(id));
        let (outcome, from) = client.ended();
        assert_eq!(outcome.result, Met::Connected);
        assert_eq!(from.map(|it| it.ip()), Some(outside(SocketAddr::new(ip, 0)).ip()));
    }
}

#[test]
fn a_client_is_told_how_its_syn_arrived_as_often_as_it_asks() {
    let server = Running::single();
    let mut client = Client::connect(server.primary());
    client.ask(Test::Look);
    let Reply::Seen(seen) = client.reply() else { panic!("the SYN was kept") };
    assert!(seen.ttl > 0 && seen.mss.is_some() && seen.window > 0, "{seen:?}");
    client.ask(Test::Look);
    assert_eq!(client.reply(), Reply::Seen(seen));
}

#[test]
fn a_client_that_was_refused_is_reached_from_the_port_that_refused_it() {
    let server = Running::single();
    let mut client = Client::connect(server.primary());
    let listener = client.listen();
    client.ask(Test::Refuse);
    let Reply::Reserved(refusing) = client.reply() else { panic!("no port was reserved") };
    let refused = bound(client.local()).connect(&refusing.into());
    assert_eq!(refused.map_err(|it| it.kind()), Err(ErrorKind::ConnectionRefused));
    let id = client.ask(Test::Cross);
    let (stream, source) = listener.accept().expect("the server connects");
    assert_eq!((source, token(stream)), (refusing, Some(id)));
    assert_eq!(client.ended().0.result, Met::Connected);
}

#[test]
fn a_client_that_does_not_listen_refuses() {
    let server = Running::single();
    let mut client = Client::connect(server.primary());
    client.ask(Test::OtherPort);
    let (outcome, _) = client.ended();
    assert_eq!(outcome.result, Met::Reset);
    assert!(outcome.elapsed < WAIT, "{outcome:?}");
    // Three draws: somebody may listen on one of them.
    let unused = (0..3).any(|_| {
        client.ask(Test::Unused);
        client.ended().0.result == Met::Reset
    });
    assert!(unused, "loopback answers with an RST where nobody listens");
}

#[test]
fn a_reserved_port_is_quiet_until_the_server_connects_from_it() {
    let server = Running::single();
    let mut client = Client::connect(server.primary());
    client.ask(Test::Reserve);
    let Reply::Reserved(quiet) = client.reply() else { panic!("no port was reserved") };
    let error = TcpStream::connect_timeout(&quiet, WAIT).expect_err("it does not answer");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "it does not refuse either: {error}");

    let crossing = bound(client.local());
    crossing.set_nonblocking(true).expect("set");
    assert!(crossing.connect(&quiet.into()).is_err(), "not at once");
    let id = client.ask(Test::Cross);
    let (outcome, from) = client.ended();
    assert_eq!((outcome.result, from), (Met::Connected, Some(quiet)));
    crossing.set_nonblocking(false).expect("set");
    assert_eq!(token(crossing.into()), Some(id), "both SYNs made one connection");

    client.ask(Test::Cross);
    assert_eq!(client.reply(), Reply::Refused(400), "a reserved port serves once");
}

#[test]
fn a_deaf_port_hears_only_what_left_with_a_high_ttl() {
    let server = Running::single();
    let mut client = Client::connect(server.primary());
    client.ask(Test::Deaf);
    let Reply::Reserved(deaf) = client.reply() else { panic!("no port was reserved") };
    let error = TcpStream::connect_timeout(&deaf, WAIT).expect_err("it does not hear that");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "it does not refuse either: {error}");
    let loud = bound("127.0.0.1:0".parse().expect("an address"));
    loud.set_ttl_v4(255).expect("set");
    loud.connect(&deaf.into()).expect("it hears that");
}

#[test]
fn one_source_may_ask_for_so_much_and_no_more() {
    let limits = Limits { burst: 2, refill: Duration::from_secs(3600), ..Limits::default() };
    let server =
        Running::start(&Options { probe_limits: limits, ..options(&["127.0.0.1:0"], &[]) });
    for expected in [false, false, true] {
        let mut client = Client::connect(server.primary());
        client.ask(Test::OtherPort);
        assert_eq!(client.reply() == Reply::Refused(486), expected);
    }
}

#[test]
fn tests_are_offered_where_they_are_served_and_nowhere_else() {
    let offer = |server: &Running| {
        let mut client = Client::connect(server.primary());
        client.stream.write_all(&request(1, None)).expect("sent");
        let bytes = receive(&mut client.stream, &mut client.deframer).expect("a reply");
        Message::parse(&bytes).expect("well-formed").attribute::<Offer>().expect("well-formed")
    };
    let includes = |offer: Option<Offer>| offer.map(|it| it.includes(Test::OtherAddress));
    assert_eq!(includes(offer(&Running::quartet())), Some(true));
    assert_eq!(includes(offer(&Running::single())), Some(false));

    let off = Running::start(&Options { probes: false, ..options(&["127.0.0.1:0"], &[]) });
    assert_eq!(offer(&off), None);
    let mut client = Client::connect(off.primary());
    client.ask(Test::OtherPort);
    client.stream.write_all(&request(9, None)).expect("sent");
    let bytes = receive(&mut client.stream, &mut client.deframer).expect("a reply");
    let answered = Message::parse(&bytes).expect("well-formed").transaction_id();
    assert_eq!(answered, TransactionId::new([9; 12]), "the test was not answered at all");
}

#[test]
fn an_answer_comes_as_late_as_asked() {
    let server = Running::single();
    let mut client = Client::connect(server.primary());
    let began = std::time::Instant::now();
    client.ask_for_long(Test::Wait, 1);
    let (outcome, _) = client.ended();
    assert_eq!((outcome.result, outcome.elapsed), (Met::Connected, Duration::from_secs(1)));
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_wait_ends_with_its_stream() {
    // It asks until it is answered otherwise, as often as that takes.
    let (burst, per_second) = (1_000_000, 1_000_000);
    let probe_limits = Limits { long: 1, burst, per_second, ..Limits::default() };
    let server = Running::start(&Options { probe_limits, ..options(&["127.0.0.1:0"], &[]) });
    let refused = |client: &mut Client| {
        client.ask_for_long(Test::Hold, 900);
        match client.reply() {
            Reply::Refused(code) => Some(code),
            Reply::Reserved(_) => None,
            other => panic!("{other:?}"),
        }
    };
    let began = std::time::Instant::now();
    // Until the server has read what the first one asked for before the second one's request.
    let (first, mut second) = loop {
        let [mut first, mut second] = [0; 2].map(|_| Client::connect(server.primary()));
        first.ask_for_long(Test::Wait, 900);
        if refused(&mut second).is_some() && first.is_silent() {
            break (first, second);
        }
        assert!(began.elapsed() < PATIENCE, "the second one always comes first");
    };
    drop(first);
    while let Some(code) = refused(&mut second) {
        assert_eq!(code, 508);
        assert!(began.elapsed() < PATIENCE, "the place is never free again");
        std::thread::yield_now();
    }
}

#[test]
fn a_port_that_is_held_keeps_quiet_and_is_crossed_from() {
    let server = Running::single();
    let mut client = Client::connect(server.primary());
    client.ask_for_long(Test::Hold, 60);
    let Reply::Reserved(quiet) = client.reply() else { panic!("a port") };
    let listener = client.listen();
    let id = client.ask(Test::CrossFar);
    let (stream, source) = listener.accept().expect("the server connects");
    assert_eq!(source, quiet);
    assert_eq!(token(stream), Some(id));
    assert_eq!(client.ended().0.result, Met::Connected);
}
