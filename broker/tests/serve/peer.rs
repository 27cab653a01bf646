//! A peer made by hand.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use ntcp_proto::signal::message::{Body, Connect, Message, Nonce, Register, Registered};
use ntcp_proto::signal::{
    ErrorCode, Fingerprint, NatSummary, RegistrationId, RegistrationKey, Round,
};
use ntcp_proto::uri::TransportChoice;
use ntcp_stun::TransactionId;

use crate::PATIENCE;

/// A peer's socket.
pub(crate) enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Socket {
    pub(crate) fn udp(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::Udp(socket)
    }

    pub(crate) fn tcp(server: SocketAddr) -> Self {
        let socket = TcpStream::connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self::Tcp(socket)
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

/// A peer made by hand.
pub(crate) struct Peer {
    pub(crate) socket: Socket,
    serial: u8,
    pub(crate) registration: RegistrationId,
    pub(crate) key: RegistrationKey,
}

impl Peer {
    pub(crate) fn register(socket: Socket, name: &str) -> Self {
        Self::try_register(socket, name).unwrap()
    }

    pub(crate) fn try_register(mut socket: Socket, name: &str) -> Result<Self, ErrorCode> {
        let mut nonce = None;
        if let Socket::Udp(_) = socket {
            let first = register(name, 0, None);
            socket.send(&first);
            let challenge = socket.receive();
            assert!(challenge.len() <= first.len());
            nonce = Message::parse(&challenge).unwrap().message.nonce;
            assert!(nonce.is_some());
        }
        socket.send(&register(name, 1, nonce));
        let answer = socket.receive();
        let it = match Message::parse(&answer).unwrap().message.body {
            Body::Registered(it) => it,
            Body::Refused(refused) => return Err(refused.code),
            other => panic!("{other:?}"),
        };
        let Registered { registration, key, observed, .. } = it;
        assert_eq!(observed, socket.address());
        Ok(Self { socket, serial: 1, registration, key })
    }

    pub(crate) fn send(&mut self, body: Body) {
        self.serial = self.serial.wrapping_add(1);
        let message = Message::new(self.transaction(), body);
        let message = Message { registration: Some(self.registration), ..message };
        self.socket.send(&message.emit(Some(&self.key)));
    }

    /// That of the latest request.
    pub(crate) fn transaction(&self) -> TransactionId {
        TransactionId::new([self.serial; 12])
    }

    /// The next message, which must be signed.
    pub(crate) fn receive(&mut self) -> Message {
        let bytes = self.socket.receive();
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
    let body = Body::Register(Register {
        name: Some(name.parse().unwrap()),
        candidates: Vec::new(),
        nat: NatSummary::default(),
        fingerprint: Fingerprint([7; 32]),
        lease: Duration::from_secs(60),
        rtt: Some(Duration::from_millis(1)),
        consents: false,
        bare: false,
        offers_to_forge: false,
    });
    Message { nonce, ..Message::new(TransactionId::new([serial; 12]), body) }.emit(None)
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
