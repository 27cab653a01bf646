//! Nothing is forged without the consent of both, as captures on every host's wire show: two peers, and
//! a third one who has read everything they said.
//!
//! The peers are made of raw messages, since no program of ours asks for what it may not have.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use ntcp_lab::kernel::{Capture, Lab, SERVER_ADDRESSES, Tap};
use ntcp_lab::trial::Servers;
use ntcp_proto::segment::{Options, Segment, flag};
use ntcp_proto::signal::message::{Body, Connect, Forge, Message, Nonce, Register};
use ntcp_proto::signal::{
    ErrorCode, Fingerprint, Handshake, NatSummary, RegistrationId, RegistrationKey, Round,
    SessionId, Syn,
};
use ntcp_proto::uri::TransportChoice;
use ntcp_stun::TransactionId;

use super::{LINE, PATIENCE};

/// Nothing more is forged after so much silence: the last of three copies leaves 250 ms after the first,
/// unless the machine is busy.
const QUIET: Duration = Duration::from_secs(1);
/// Frames that are looked at.
const ENOUGH: usize = 5000;
const BROKER: u16 = 6060;
const STREAMS: u16 = 9999;
/// Copies of a forged packet.
const COPIES: usize = 3;

fn broker(port: u16) -> SocketAddr {
    (SERVER_ADDRESSES[0], port).into()
}

/// A registered peer.
struct Peer<'lab> {
    lab: &'lab Lab,
    host: &'static str,
    serial: u8,
    registration: RegistrationId,
    key: RegistrationKey,
    control: UdpSocket,
}

impl<'lab> Peer<'lab> {
    fn register(lab: &'lab Lab, host: &'static str) -> Self {
        let control = lab.udp_socket(host, (lab.host(host).unwrap().address, 0)).unwrap();
        control.connect(broker(BROKER)).unwrap();
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = Body::Register(Register {
            name: Some(format!("peer-{host}").parse().unwrap()),
            candidates: Vec::new(),
            nat: NatSummary::default(),
            fingerprint: Fingerprint([0; 32]),
            lease: Duration::from_secs(60),
            rtt: None,
            consents: false,
            offers_to_forge: false,
            account: None,
            meant_for: None,
            bare: false,
        });
        let serial = host.as_bytes()[0];
        let first = Message::new(TransactionId::new([serial; 12]), body.clone());
        let nonce = answer(&control, &first, None).nonce.expect("a challenge");
        let second = Message::new(TransactionId::new([serial ^ 0xff; 12]), body).with_nonce(nonce);
        match answer(&control, &second, None).body {
            Body::Registered(it) => {
                Self { lab, host, serial: 0, registration: it.registration, key: it.key, control }
            }
            other => panic!("{other:?}"),
        }
    }

    fn request(&mut self, body: Body, nonce: Option<Nonce>) -> Message {
        self.serial += 1;
        let mut transaction = [self.serial; 12];
        transaction[0] = self.host.as_bytes()[0];
        let registration = Some(self.registration);
        Message { registration, nonce, ..Message::new(TransactionId::new(transaction), body) }
    }

    /// Calls the peer in this host; the meeting.
    fn call(&mut self, host: &str) -> SessionId {
        let body = Body::Connect(Connect {
            callee: format!("peer-{host}").parse().unwrap(),
            transport: TransportChoice::Any,
            round: Round::FIRST,
            candidates: Vec::new(),
            nat: NatSummary::default(),
            fingerprint: Fingerprint([0; 32]),
            rtt: None,
            wait: Duration::ZERO,
            bare: false,
        });
        let request = self.request(body, None);
        match answer(&self.control, &request, Some(&self.key)).body {
            Body::Connected(punch) => punch.session,
            other => panic!("{other:?}"),
        }
    }

    /// A stream to the broker, from a port of its own.
    fn stream(&self) -> TcpStream {
        let own = self.lab.host(self.host).unwrap().address;
        let socket = self.lab.tcp_socket(self.host, (own, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(&broker(STREAMS).into()).unwrap();
        socket.into()
    }

    /// Fetches a NONCE on this stream and asks there to have its SYN to `remote` answered. What was
    /// sent, and what came of it.
    fn ask(
        &mut self,
        stream: &mut TcpStream,
        session: SessionId,
        remote: SocketAddr,
    ) -> (Vec<u8>, Message) {
        let handshake = Some(Handshake { remote, syn: syn(u32::from(self.serial)) });
        let body = Body::Forge(Forge { session, handshake });
        let first = self.request(body.clone(), None).emit(Some(&self.key));
        let challenge = exchange(stream, &first);
        let Some(nonce) = challenge.nonce else { return (first, challenge) };
        let second = self.request(body, Some(nonce)).emit(Some(&self.key));
        let answer = exchange(stream, &second);
        (second, answer)
    }
}

fn syn(sequence: u32) -> Syn {
    Syn { sequence, window: 64_240, options: Options::default() }
}

/// The answer to a datagram, among whatever else the broker says.
fn answer(control: &UdpSocket, request: &Message, key: Option<&RegistrationKey>) -> Message {
    control.send(&request.emit(key)).unwrap();
    let mut bytes = [0; 2048];
    loop {
        let length = control.recv(&mut bytes).unwrap();
        let message = Message::parse(&bytes[..length]).unwrap().message;
        if message.transaction == request.transaction {
            return message;
        }
    }
}

/// Says something on a stream and reads the answer: 20 bytes with the length of the rest.
fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Message {
    stream.write_all(bytes).unwrap();
    let mut answer = vec![0; 20];
    stream.read_exact(&mut answer).unwrap();
    let rest = u16::from_be_bytes([answer[2], answer[3]]);
    answer.resize(20 + usize::from(rest), 0);
    stream.read_exact(&mut answer[20..]).unwrap();
    Message::parse(&answer).unwrap().message
}

fn refused(message: &Message) -> Option<ErrorCode> {
    match &message.body {
        Body::Refused(refused) => Some(refused.code),
        _ => None,
    }
}

const HOSTS: [&str; 4] = ["server", "a", "b", "c"];

/// Every host's wire.
fn watch(lab: &Lab) -> Capture {
    let tap = |host: &str| Tap { space: host.into(), interface: "eth0".into() };
    lab.capture(&HOSTS.map(tap)).unwrap()
}

/// What has passed so far: segments that left a host whose address is not their source, and, for each
/// host, how many SYN-ACKs came in from elsewhere than the server.
fn forged(lab: &Lab, capture: &Capture) -> (Vec<Segment>, [usize; 4]) {
    let own = |tap: usize, ip: IpAddr| match HOSTS[tap] {
        "server" => SERVER_ADDRESSES.iter().any(|it| IpAddr::from(*it) == ip),
        host => IpAddr::from(lab.host(host).unwrap().address) == ip,
    };
    let (mut forged, mut answered) = (Vec::new(), [0; 4]);
    for frame in std::iter::from_fn(|| capture.next(QUIET)).take(ENOUGH) {
        let Some((segment, _)) = Segment::parse(&frame.packet) else { continue };
        if frame.outgoing && !own(frame.tap, segment.source.ip()) {
            forged.push(segment);
        } else if !frame.outgoing && segment.flags == flag::SYN | flag::ACK {
            answered[frame.tap] += usize::from(!own(0, segment.source.ip()));
        }
    }
    (forged, answered)
}

fn local(stream: &TcpStream) -> SocketAddr {
    stream.local_addr().unwrap()
}

#[test]
fn a_capture_on_every_wire_shows_forged_packets_for_the_consented_connection_only() {
    let lab = ["a", "b", "c"].iter().fold(Lab::builder(), |lab, home| lab.home(home, "public"));
    let lab = lab.delay(LINE).start().unwrap();
    let _servers = Servers::start_with(
        &lab,
        &[("NTCP_SPOOF__ENABLED", "true"), ("NTCP_SECURITY__PLAIN", "true")],
    )
    .unwrap();
    let [mut alice, mut bob, mut eve] = ["a", "b", "c"].map(|host| Peer::register(&lab, host));
    let session = alice.call("b");
    let capture = watch(&lab);
    let nothing = |what: &str| assert_eq!(forged(&lab, &capture).0, [], "{what}");

    let [mut ours, mut theirs] = [alice.stream(), bob.stream()];
    let (request, told) = alice.ask(&mut ours, session, local(&theirs));
    assert_eq!(told.body, Body::Forging);
    nothing("the peer has not asked");

    let mut third = eve.stream();
    let (_, told) = eve.ask(&mut third, session, local(&ours));
    assert_eq!(refused(&told), Some(ErrorCode::Forbidden));
    let (_, told) = bob.ask(&mut theirs, SessionId([7; 16]), local(&ours));
    assert_eq!(refused(&told), Some(ErrorCode::Forbidden));
    nothing("a third peer has asked, and one for a meeting that never was");

    // With what alice has sent, from elsewhere: the NONCE belongs to her stream's address.
    for replayer in [&eve, &alice] {
        let told = exchange(&mut replayer.stream(), &request);
        assert_eq!(refused(&told), Some(ErrorCode::StaleNonce), "from {}", replayer.host);
    }
    nothing("a request was replayed");

    // A busy machine may have taken longer than a half is waited for.
    assert_eq!(alice.ask(&mut ours, session, local(&theirs)).1.body, Body::Forging);
    let victim = SocketAddr::from((lab.host("c").unwrap().address, 80));
    let (_, told) = bob.ask(&mut theirs, session, victim);
    assert_eq!(refused(&told), Some(ErrorCode::Forbidden));
    nothing("the two name different connections");

    let session = alice.call("b");
    let [mut ours, mut theirs] = [alice.stream(), bob.stream()];
    let ends = (local(&ours), local(&theirs));
    assert_eq!(alice.ask(&mut ours, session, ends.1).1.body, Body::Forging);
    let (request, told) = bob.ask(&mut theirs, session, ends.0);
    assert_eq!(told.body, Body::Forging);
    let (seen, answered) = forged(&lab, &capture);
    assert_eq!(seen.len(), 2 * COPIES, "{seen:#?}");
    for segment in &seen {
        let way = (segment.source, segment.destination);
        assert!(way == ends || way == (ends.1, ends.0), "{segment:?}");
        assert_eq!(segment.flags, flag::SYN | flag::ACK, "{segment:?}");
    }
    assert_eq!(answered, [0, COPIES, COPIES, 0], "at {HOSTS:?}");

    // It counts as one side's wish for another one.
    assert_eq!(exchange(&mut theirs, &request).body, Body::Forging);
    nothing("one side asks again for what was served");
}
