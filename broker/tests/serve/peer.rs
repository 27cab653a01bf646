//! A peer made by hand.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use ntcp_proto::access::Credentials;
use ntcp_proto::entropy::Seed;
use ntcp_proto::secrecy::{Channel, Initiation, PublicKey, SecretKey};
use ntcp_proto::signal::envelope::{Envelope, prologue};
use ntcp_proto::signal::message::{
    Body, Connect, Message, Nonce, Refused, Register, Registered, Secure,
};
use ntcp_proto::signal::{
    ErrorCode, Fingerprint, NatSummary, RegistrationId, RegistrationKey, Round,
};
use ntcp_proto::uri::TransportChoice;
use ntcp_stun::TransactionId;
use socket2::{Domain, Type};

use crate::PATIENCE;

/// A peer's socket.
pub(crate) enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Socket {
    pub(crate) fn udp(server: SocketAddr) -> Self {
        Self::udp_from(Ipv4Addr::LOCALHOST, server)
    }

    pub(crate) fn udp_from(own: Ipv4Addr, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((own, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::Udp(socket)
    }

    pub(crate) fn tcp(server: SocketAddr) -> Self {
        Self::tcp_from(Ipv4Addr::LOCALHOST, server)
    }

    pub(crate) fn tcp_from(own: Ipv4Addr, server: SocketAddr) -> Self {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(own.into(), 0).into()).unwrap();
        socket.connect(&server.into()).unwrap();
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self::Tcp(socket)
    }

    pub(crate) fn is_closed_after(&mut self, bytes: &[u8]) -> bool {
        let Self::Tcp(socket) = self else { return false };
        // It may be closed already.
        let _ = socket.write_all(bytes);
        !matches!(socket.read(&mut [0; 20]), Ok(1..))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Udp(socket) => socket.local_addr().unwrap(),
            Self::Tcp(socket) => socket.local_addr().unwrap(),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Udp(socket) => drop(socket.send(bytes).unwrap()),
            Self::Tcp(socket) => socket.write_all(bytes).unwrap(),
        }
    }

    pub(crate) fn receive(&mut self) -> Vec<u8> {
        match self {
            Self::Udp(socket) => {
                let mut buffer = [0; 2048];
                let length = socket.recv(&mut buffer).unwrap();
                buffer[..length].to_vec()
            }
            Self::Tcp(socket) => {
                let mut bytes = vec![0; 20];
                socket.read_exact(&mut bytes).unwrap();
                bytes.resize(20 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 0);
                socket.read_exact(&mut bytes[20..]).unwrap();
                bytes
            }
        }
    }

    /// Whether the other end has closed the stream.
    pub(crate) fn is_closed(&mut self) -> bool {
        let Self::Tcp(socket) = self else { return false };
        let mut rest = Vec::new();
        match socket.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// As whom a peer comes.
#[derive(Clone)]
pub(crate) struct Manner {
    /// Its key; `None` speaks in the clear.
    pub(crate) identity: Option<SecretKey>,
    /// What it shows to a closed broker.
    pub(crate) credentials: Option<Credentials>,
    /// How long it wants to be remembered.
    pub(crate) lease: Duration,
}

impl Manner {
    pub(crate) const CLEAR: Self =
        Self { identity: None, credentials: None, lease: Duration::from_secs(60) };

    /// Sealed, with the key of this number.
    pub(crate) fn sealed(number: u8) -> Self {
        Self { identity: Some(SecretKey::from_bytes([number; 32])), ..Self::CLEAR }
    }
}

/// A peer made by hand.
pub(crate) struct Peer {
    pub(crate) socket: Socket,
    serial: u8,
    pub(crate) registration: RegistrationId,
    pub(crate) key: RegistrationKey,
    channel: Option<Channel>,
}

impl Peer {
    pub(crate) fn register(socket: Socket, name: &str) -> Self {
        Self::try_register(socket, name).unwrap()
    }

    /// Registers as somebody.
    pub(crate) fn register_as(
        socket: Socket,
        name: &str,
        manner: &Manner,
    ) -> Result<Self, Refused> {
        match &manner.identity {
            Some(identity) => Self::shake_hands(socket, name, (identity, manner)),
            None => Self::in_the_clear(socket, name, manner),
        }
    }

    /// What a broker gives to who says Hello: a nonce, and its key.
    fn hello(socket: &mut Socket) -> (Nonce, PublicKey) {
        let hello = Message::new(TransactionId::new([0; 12]), Body::Hello).emit(None);
        socket.send(&hello);
        let challenge = socket.receive();
        assert!(challenge.len() <= hello.len());
        let Message { nonce, body, .. } = Message::parse(&challenge).unwrap().message;
        let Body::Refused(Refused { identity: Some(key), .. }) = body else { panic!("{body:?}") };
        (nonce.unwrap(), key)
    }

    /// The key that a broker shows.
    pub(crate) fn shown_key(mut socket: Socket) -> PublicKey {
        Self::hello(&mut socket).1
    }

    fn shake_hands(
        mut socket: Socket,
        name: &str,
        (identity, manner): (&SecretKey, &Manner),
    ) -> Result<Self, Refused> {
        let (nonce, broker) = Self::hello(&mut socket);
        let mut seed = [0; 32];
        seed.copy_from_slice(&nonce.as_bytes()[8..]);
        // Never the same ephemeral key twice.
        seed.iter_mut().zip(name.bytes()).for_each(|(byte, letter)| *byte ^= letter);
        let inner = register_as(name, (1, None), manner, Some(broker));
        let (mut initiation, noise) =
            Initiation::begin(identity, &broker, &prologue(&nonce), &inner, Seed(seed));
        let secure = Body::Secure(Secure { hint: broker.hint(), noise });
        let message = Message::new(TransactionId::new([1; 12]), secure).with_nonce(nonce);
        socket.send(&message.emit(None));
        let noise = match Message::parse(&socket.receive()).unwrap().message.body {
            Body::Secured(noise) => noise,
            // It has come too often.
            Body::Refused(refused) => return Err(refused),
            other => panic!("{other:?}"),
        };
        let (payload, channel) = initiation.finish(&noise).unwrap();
        Self::registered(socket, Message::parse(&payload).unwrap().message.body, Some(channel))
    }

    fn registered(socket: Socket, answer: Body, channel: Option<Channel>) -> Result<Self, Refused> {
        let it = match answer {
            Body::Registered(it) => it,
            Body::Refused(refused) => return Err(refused),
            other => panic!("{other:?}"),
        };
        let Registered { registration, key, observed, .. } = it;
        assert_eq!(observed, socket.address());
        Ok(Self { socket, serial: 1, registration, key, channel })
    }

    pub(crate) fn try_register(socket: Socket, name: &str) -> Result<Self, ErrorCode> {
        Self::register_as(socket, name, &Manner::CLEAR).map_err(|refused| refused.code)
    }

    fn in_the_clear(mut socket: Socket, name: &str, manner: &Manner) -> Result<Self, Refused> {
        let mut nonce = None;
        if let Socket::Udp(_) = socket {
            let first = register(name, 0, None);
            socket.send(&first);
            let challenge = socket.receive();
            assert!(challenge.len() <= first.len());
            nonce = Message::parse(&challenge).unwrap().message.nonce;
            assert!(nonce.is_some());
        }
        socket.send(&register_as(name, (1, nonce), manner, None));
        let answer = socket.receive();
        Self::registered(socket, Message::parse(&answer).unwrap().message.body, None)
    }

    pub(crate) fn send(&mut self, body: Body) {
        self.serial = self.serial.wrapping_add(1);
        let message = Message::new(self.transaction(), body);
        let message = Message { registration: Some(self.registration), ..message };
        let mut bytes = message.emit(Some(&self.key));
        if let Some(channel) = &mut self.channel {
            bytes = Envelope::seal(channel, self.registration, message.transaction, bytes);
        }
        self.socket.send(&bytes);
    }

    /// That of the latest request.
    pub(crate) fn transaction(&self) -> TransactionId {
        TransactionId::new([self.serial; 12])
    }

    /// The next message, which must be signed.
    pub(crate) fn receive(&mut self) -> Message {
        let bytes = loop {
            let bytes = self.socket.receive();
            let Some(channel) = &mut self.channel else { break bytes };
            // What matters comes twice over UDP, and is opened once.
            let envelope = Envelope::parse(&bytes).expect("it is sealed");
            if let Ok(opened) = envelope.open(channel) {
                break opened;
            }
        };
        let received = Message::parse(&bytes).unwrap();
        assert!(received.is_signed_by(&self.key));
        received.message
    }

    pub(crate) fn ask(&mut self, body: Body) -> Body {
        self.send(body);
        self.receive().body
    }
}

pub(crate) fn register(name: &str, serial: u8, nonce: Option<Nonce>) -> Vec<u8> {
    register_as(name, (serial, nonce), &Manner::CLEAR, None)
}

fn register_as(
    name: &str,
    (serial, nonce): (u8, Option<Nonce>),
    manner: &Manner,
    meant_for: Option<PublicKey>,
) -> Vec<u8> {
    let credentials = manner.credentials.as_ref();
    let body = Body::Register(Register {
        name: Some(name.parse().unwrap()),
        candidates: Vec::new(),
        nat: NatSummary::default(),
        fingerprint: Fingerprint([7; 32]),
        lease: manner.lease,
        rtt: Some(Duration::from_millis(1)),
        consents: false,
        bare: false,
        offers_to_forge: false,
        account: credentials.map(|it| it.account.clone()),
        meant_for: meant_for.filter(|_| credentials.is_some()),
    });
    let message = Message { nonce, ..Message::new(TransactionId::new([serial; 12]), body) };
    message.emit(credentials.map(|it| &it.key))
}

pub(crate) fn connect(callee: &str) -> Body {
    Body::Connect(Connect {
        callee: callee.parse().unwrap(),
        transport: TransportChoice::Any,
        round: Round::FIRST,
        candidates: Vec::new(),
        nat: NatSummary::default(),
        fingerprint: Fingerprint([7; 32]),
        rtt: Some(Duration::from_millis(1)),
        wait: Duration::ZERO,
        bare: false,
    })
}
