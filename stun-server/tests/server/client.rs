//! A STUN client for tests: it sends what it is told and shows what comes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use ntcp_stun::attribute::{
    ChangeRequest, ErrorCode, OtherAddress, ResponseOrigin, XorMappedAddress,
};
use ntcp_stun::framing::Deframer;
use ntcp_stun::{Attribute, Class, Message, Method, TransactionId, Writer};
use ntcp_stun_server::{Config, Running, Server};

/// Long enough for any answer on a busy machine; nothing that is expected to come waits for it to pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// An address from its text.
pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

/// A server in the background on these addresses.
pub(crate) fn serve(listen: &str) -> Running {
    start(&Config::new([at(listen)]))
}

/// One with four addresses: the loopback net has as many IPs as one likes.
pub(crate) fn serve_four() -> Running {
    start(&Config::new([at("127.0.0.1:0")]).with_alternate([at("127.0.0.2:0")]))
}

pub(crate) fn start(config: &Config) -> Running {
    Server::bind(config).and_then(Server::start).expect("a server")
}

/// A Binding request with this number in its transaction id.
pub(crate) fn binding(number: u8) -> Vec<u8> {
    request(number, |_| {})
}

/// A Binding request with CHANGE-REQUEST.
pub(crate) fn change(number: u8, change: ChangeRequest) -> Vec<u8> {
    request(number, |writer| writer.attribute(&change).expect("room"))
}

pub(crate) fn request(number: u8, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    message(Class::Request, number, write)
}

/// A message of the method Binding.
pub(crate) fn message(class: Class, number: u8, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let id = TransactionId::new([number; 12]);
    let mut writer = Writer::new(&mut buffer, class, Method::BINDING, id).expect("room");
    write(&mut writer);
    let length = writer.finish();
    buffer.truncate(length);
    buffer
}

/// Says that a test could not be made here, past the capture of passing tests' output.
pub(crate) fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED {test}: {why} ***");
}

/// A reply, read.
#[derive(Debug)]
pub(crate) struct Reply(pub(crate) Vec<u8>);

impl Reply {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse_classic(&self.0).expect("a STUN message")
    }

    /// The number of the request it answers.
    pub(crate) fn number(&self) -> u8 {
        self.message().transaction_id().as_bytes()[0]
    }

    pub(crate) fn is_success(&self) -> bool {
        self.message().class() == Class::Success
    }

    pub(crate) fn mapped(&self) -> SocketAddr {
        self.attribute::<XorMappedAddress>().expect("XOR-MAPPED-ADDRESS").0
    }

    pub(crate) fn other(&self) -> Option<SocketAddr> {
        self.attribute::<OtherAddress>().map(|it| it.0)
    }

    pub(crate) fn origin(&self) -> Option<SocketAddr> {
        self.attribute::<ResponseOrigin>().map(|it| it.0)
    }

    pub(crate) fn error(&self) -> Option<u16> {
        self.attribute::<ErrorCode<'_>>().map(|it| it.code())
    }

    pub(crate) fn attribute<'a, A: Attribute<'a>>(&'a self) -> Option<A> {
        self.message().attribute().expect("a readable attribute")
    }
}

/// A UDP client.
pub(crate) struct Udp(pub(crate) UdpSocket);

impl Udp {
    pub(crate) fn new(local: &str) -> Self {
        let socket = UdpSocket::bind(at(local)).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }

    pub(crate) fn send(&self, bytes: &[u8], to: SocketAddr) {
        self.0.send_to(bytes, to).expect("sent");
    }

    /// The next datagram and where it came from.
    pub(crate) fn receive(&self) -> (Reply, SocketAddr) {
        let mut buffer = vec![0; 1 << 16];
        let (length, from) = self.0.recv_from(&mut buffer).expect("a reply");
        buffer.truncate(length);
        (Reply(buffer), from)
    }

    pub(crate) fn ask(&self, bytes: &[u8], to: SocketAddr) -> (Reply, SocketAddr) {
        self.send(bytes, to);
        self.receive()
    }

    /// Asks until this request is answered: a kernel may lose what is sent to an IPv6 address that it has had for an
    /// instant only.
    pub(crate) fn ask_again(&self, bytes: &[u8], to: SocketAddr) -> (Reply, SocketAddr) {
        let often = Duration::from_millis(100);
        self.0.set_read_timeout(Some(often)).expect("a timeout");
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..PATIENCE.as_millis() / often.as_millis() {
            self.send(bytes, to);
            while let Ok((length, from)) = self.0.recv_from(&mut buffer) {
                let reply = Reply(buffer[..length].to_vec());
                if reply.number() == bytes[8] {
                    return (reply, from);
                }
            }
        }
        panic!("no reply from {to}");
    }
}

/// A TCP client.
pub(crate) struct Tcp {
    pub(crate) stream: TcpStream,
    deframer: Deframer,
}

impl Tcp {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, deframer: Deframer::new(2048) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("an address")
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// The next reply; `None` once the server has closed the connection.
    pub(crate) fn receive(&mut self) -> Option<Reply> {
        loop {
            if let Some(message) = self.deframer.next_message().expect("STUN") {
                return Some(Reply(message.to_vec()));
            }
            match self.stream.read(self.deframer.spare()) {
                Ok(0) => return None,
                Ok(length) => self.deframer.filled(length),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("neither a reply nor an end: {error}"),
            }
        }
    }

    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Reply {
        self.send(bytes);
        self.receive().expect("a reply")
    }
}
