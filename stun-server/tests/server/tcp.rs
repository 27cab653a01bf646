//! The server over TCP, on loopback addresses.

use crate::support::{PATIENCE, Running, client, options, receive, request};
use ntcp_stun::attribute::{
    ChangeRequest, OtherAddress, Padding, ResponseOrigin, UnknownAttributes, XorMappedAddress,
};
use ntcp_stun::framing::Deframer;
use ntcp_stun::{AttributeType, Class, Message, Method, TransactionId, Writer};
use ntcp_stun_server::Options;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

struct Stream {
    socket: TcpStream,
    deframer: Deframer,
}

impl Stream {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("a stream");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_nodelay(true).expect("no delay");
        Self { socket, deframer: Deframer::new(4096) }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("sent");
    }

    /// The next message, or `None` at the end of the stream.
    fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(message) = self.deframer.next_message().expect("framed") {
                return Some(message.to_vec());
            }
            match self.socket.read(self.deframer.spare()) {
                Ok(0) => return None,
                Ok(length) => self.deframer.filled(length),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("neither a message nor an end: {error}"),
            }
        }
    }
}

#[test]
fn each_of_four_addresses_answers_on_the_same_stream() {
    let server = Running::quartet();
    for (index, address) in server.addresses.iter().enumerate() {
        let mut stream = Stream::connect(*address);
        stream.send(&request(1, None));
        let bytes = stream.receive().expect("a reply");
        let message = Message::parse(&bytes).expect("well-formed");
        let mapped = XorMappedAddress(stream.socket.local_addr().expect("bound"));
        assert_eq!(message.attribute(), Ok(Some(mapped)));
        assert_eq!(message.attribute(), Ok(Some(ResponseOrigin(*address))));
        let other = OtherAddress(server.addresses[3 - index]);
        assert_eq!(message.attribute(), Ok(Some(other)), "where TCP is served too");
    }
    assert_eq!(server.stop().tcp, 4);
}

#[test]
fn requests_are_answered_in_order_however_the_stream_is_cut() {
    let server = Running::single();
    let stream_of_requests: Vec<u8> = (1..=20).flat_map(|id| request(id, None)).collect();
    for size in [1, 7, 19, 20, 21, 400] {
        let mut stream = Stream::connect(server.primary());
        for piece in stream_of_requests.chunks(size) {
            stream.send(piece);
        }
        for id in 1..=20 {
            let bytes = stream.receive().expect("a reply");
            let message = Message::parse(&bytes).expect("well-formed");
            assert_eq!(message.transaction_id(), TransactionId::new([id; 12]), "cut at {size}");
        }
        stream.socket.shutdown(Shutdown::Write).expect("open");
        assert_eq!(stream.receive(), None, "the server closes too");
    }
}

#[test]
fn a_reply_cannot_come_from_elsewhere() {
    let server = Running::quartet();
    let mut stream = Stream::connect(server.primary());
    stream.send(&request(2, Some(ChangeRequest::IpAndPort)));
    let bytes = stream.receive().expect("a reply");
    let message = Message::parse(&bytes).expect("well-formed");
    assert_eq!(message.class(), Class::Error);
    let unknown = message.attribute::<UnknownAttributes>().expect("well-formed").expect("a list");
    assert_eq!(unknown.as_slice(), [AttributeType::CHANGE_REQUEST]);
    stream.send(&request(3, None));
    assert!(stream.receive().is_some(), "and the stream goes on");
}

#[test]
fn what_is_not_stun_ends_the_stream_at_once() {
    let server = Running::single();
    let mut overrun = request(4, Some(ChangeRequest::Nothing));
    overrun[23] = 8;
    let mut too_long = request(5, None);
    too_long[2] = 0x10;
    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 2, 0, 1, 0, 1], &overrun, &too_long]
    {
        let mut stream = Stream::connect(server.primary());
        let start = Instant::now();
        stream.send(junk);
        assert_eq!(stream.receive(), None);
        assert!(start.elapsed() < PATIENCE / 2, "not by a time-out");
    }
}

#[test]
fn an_indication_is_ignored_and_the_stream_goes_on() {
    let server = Running::single();
    let mut stream = Stream::connect(server.primary());
    let mut indication = request(6, None);
    indication[1] = 0x11;
    stream.send(&indication);
    stream.send(&request(7, None));
    let bytes = stream.receive().expect("a reply");
    let message = Message::parse(&bytes).expect("well-formed");
    assert_eq!(message.transaction_id(), TransactionId::new([7; 12]));
    assert_eq!(server.stop().not_requests, 1);
}

#[test]
fn by_default_a_stream_that_asks_every_half_minute_is_kept() {
    let options = Options::default();
    assert!(options.next_message >= Duration::from_secs(120));
    assert!(options.first_message >= Duration::from_secs(10));
}

#[test]
fn a_silent_stream_is_closed_and_one_that_trickles_too() {
    let patience = Duration::from_millis(200);
    let server = Running::start(&Options {
        first_message: patience,
        next_message: patience,
        ..options(&["127.0.0.1:0"], &[])
    });
    let mut silent = Stream::connect(server.primary());
    assert_eq!(silent.receive(), None);

    let mut trickling = Stream::connect(server.primary());
    trickling.send(&request(8, None));
    assert!(trickling.receive().is_some());
    let start = Instant::now();
    // A byte now and then is no message.
    let bytes = request(9, None);
    let sent = bytes[..19].iter().position(|byte| {
        std::thread::sleep(patience / 8);
        trickling.socket.write_all(&[*byte]).is_err()
    });
    assert!(sent.is_some() || trickling.receive().is_none());
    assert!(start.elapsed() >= patience);
}

#[test]
fn beyond_the_limit_a_stream_is_closed_and_a_place_that_gets_free_is_used() {
    let server = Running::start(&Options { max_streams: 2, ..options(&["127.0.0.1:0"], &[]) });
    let ask = |stream: &mut Stream| {
        // The server may have closed it before this is written.
        let _ = stream.socket.write_all(&request(10, None));
        stream.receive().is_some()
    };
    let mut streams: Vec<_> = (0..2).map(|_| Stream::connect(server.primary())).collect();
    assert!(streams.iter_mut().all(ask));
    assert!(!ask(&mut Stream::connect(server.primary())), "a third one");
    let leaving = streams.remove(0);
    leaving.socket.shutdown(Shutdown::Write).expect("open");
    assert_eq!({ leaving }.receive(), None, "the server has closed it too");
    assert!(ask(&mut streams[0]), "the other one is still served");
    let start = Instant::now();
    while !ask(&mut Stream::connect(server.primary())) {
        assert!(start.elapsed() < PATIENCE, "the place is never free again");
    }
}

#[test]
fn a_peer_that_does_not_read_is_not_read_from_and_then_closed() {
    let server = Running::start(&Options {
        unread_reply: Duration::from_millis(300),
        ..options(&["127.0.0.1:0"], &[])
    });
    let mut buffer = vec![0; 1500];
    let id = TransactionId::new([11; 12]);
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
    writer.attribute(&Padding { length: 1400 }).expect("room");
    let length = writer.finish();
    let many = buffer[..length].repeat(100);
    let mut greedy = Stream::connect(server.primary());
    greedy.socket.set_write_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let start = Instant::now();
    let ended = loop {
        match greedy.socket.write(&many) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => break error.kind(),
        }
        assert!(start.elapsed() < PATIENCE * 3, "it is never closed");
    };
    assert!(matches!(ended, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{ended}");
    let mut polite = Stream::connect(server.primary());
    polite.send(&request(12, None));
    assert!(polite.receive().is_some(), "others are served");
}

#[test]
fn a_peer_that_never_stops_asking_keeps_nobody_waiting() {
    let server = Running::single();
    let greedy = Stream::connect(server.primary()).socket;
    let (mut asking, mut reading) =
        (greedy.try_clone().expect("a clone"), greedy.try_clone().expect("a clone"));
    let asks = std::thread::spawn(move || {
        // Indications, since replies would have to be waited for.
        let mut many = request(13, None).repeat(10_000);
        many.chunks_exact_mut(20).for_each(|it| it[1] = 0x11);
        while asking.write_all(&many).is_ok() {}
    });
    let reads = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while reading.read(&mut buffer).is_ok_and(|length| length > 0) {}
    });
    for id in 0..50 {
        let mut polite = Stream::connect(server.primary());
        polite.send(&request(id, None));
        assert!(polite.receive().is_some());
        let socket = client("127.0.0.1");
        socket.send_to(&request(id, None), server.primary()).expect("sent");
        receive(&socket);
    }
    greedy.shutdown(Shutdown::Both).expect("open");
    asks.join().expect("it asked");
    reads.join().expect("it read");
}
