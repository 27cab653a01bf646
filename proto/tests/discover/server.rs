//! STUN servers: our own, and what others make of it.

use std::net::SocketAddr;

use ntcp_proto::candidate::Transport;
use ntcp_stun::attribute::{
    ChangeRequest, ChangedAddress, ErrorCode, MappedAddress, OtherAddress, SourceAddress,
    XorMappedAddress,
};
use ntcp_stun::server::{Quartet, Request, Server as Stun, Transport as StunTransport};
use ntcp_stun::{Class, Message, Method, WriteError, Writer};

/// How a server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// RFC 5780.
    Honest,
    /// RFC 3489: MAPPED-ADDRESS and CHANGED-ADDRESS, nothing newer.
    Classic,
    /// One address; refuses CHANGE-REQUEST.
    Single,
    /// One address; answers CHANGE-REQUEST from the same place.
    SingleSamePlace,
    /// Two addresses; answers CHANGE-REQUEST from the same place all the same.
    SamePlace,
    /// Announces its own IP address with another port, and answers from there.
    SameIp,
    /// Two addresses; takes no notice of CHANGE-REQUEST, and does not answer then.
    Ignores,
    /// Two addresses; changes only the port, whatever it is asked.
    PortOnly,
    /// Two addresses; refuses CHANGE-REQUEST.
    Refuses,
    /// Announces another address where nobody answers.
    DeadAlternate,
    /// Falls silent after this many requests.
    SilentAfter(u32),
    /// Reports an address of its own invention.
    WrongView,
    /// Answers with damaged bytes.
    Garbled,
    /// Answers every request with an error.
    Unauthorized,
    /// Never answers over UDP.
    Mute,
}

/// Whether it serves TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tcp {
    Serves,
    Refuses,
    Silent,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) primary: SocketAddr,
    pub(crate) alternate: SocketAddr,
    pub(crate) conduct: Conduct,
    pub(crate) tcp: Tcp,
    stun: Stun,
    answered: u32,
}

impl Server {
    pub(crate) fn new(primary: &str, alternate: &str, conduct: Conduct) -> Self {
        let (primary, alternate): (SocketAddr, SocketAddr) =
            (primary.parse().unwrap(), alternate.parse().unwrap());
        let mut stun = Stun::new();
        if !matches!(conduct, Conduct::Single | Conduct::SingleSamePlace) {
            stun.add_quartet(Quartet::new(primary, alternate).unwrap());
        }
        Self { primary, alternate, conduct, tcp: Tcp::Serves, stun, answered: 0 }
    }

    pub(crate) fn with_tcp(mut self, tcp: Tcp) -> Self {
        self.tcp = tcp;
        self
    }

    fn has_two(&self) -> bool {
        !matches!(
            self.conduct,
            Conduct::Single | Conduct::SingleSamePlace | Conduct::SameIp | Conduct::DeadAlternate
        )
    }

    /// Whether it listens there.
    pub(crate) fn owns(&self, address: SocketAddr) -> bool {
        let ports = [self.primary.port(), self.alternate.port()];
        let own_ip = address.ip() == self.primary.ip()
            || (self.has_two() && address.ip() == self.alternate.ip());
        own_ip && ports.contains(&address.port())
    }

    /// What it answers to `request`, which came from `from` to `at`, and from where.
    pub(crate) fn answer(
        &mut self,
        transport: Transport,
        at: SocketAddr,
        from: SocketAddr,
        request: &[u8],
    ) -> Option<(SocketAddr, Vec<u8>)> {
        self.answered += 1;
        let message = Message::parse_classic(request).ok()?;
        let change: ChangeRequest =
            message.attribute().ok().flatten().unwrap_or(ChangeRequest::Nothing);
        let asks = change != ChangeRequest::Nothing;
        let mut honest = |bytes: &[u8], source| {
            let transport = match transport {
                Transport::Tcp => StunTransport::Tcp,
                Transport::Udp => StunTransport::Udp,
            };
            let mut buffer = [0; 256];
            let request = Request { bytes, source, local: at, transport };
            let reply = self.stun.handle_request(request, &mut buffer).ok()?;
            Some((reply.from, buffer[..reply.length].to_vec()))
        };
        match self.conduct {
            Conduct::Mute if transport == Transport::Udp => None,
            Conduct::SilentAfter(limit) if self.answered > limit => None,
            Conduct::Ignores if asks => None,
            Conduct::Refuses if asks => Some((at, refusal(&message, 420))),
            Conduct::Unauthorized => Some((at, refusal(&message, 401))),
            Conduct::SamePlace => honest(request, from).map(|(_, bytes)| (at, bytes)),
            Conduct::SingleSamePlace => honest(&plain(&message), from),
            Conduct::PortOnly if asks => {
                let (_, bytes) = honest(request, from)?;
                Some((SocketAddr::new(at.ip(), self.other(at).port()), bytes))
            }
            Conduct::WrongView => honest(request, "192.0.2.77:7777".parse().unwrap()),
            Conduct::Garbled => {
                let (source, bytes) = honest(request, from)?;
                Some((source, bytes[..bytes.len() - 3].to_vec()))
            }
            Conduct::Classic => {
                let source = self.changed(at, change);
                Some((source, self.classic(&message, at, source, from)))
            }
            Conduct::SameIp => {
                let port = if change.changes_port() { self.other(at).port() } else { at.port() };
                let source = SocketAddr::new(at.ip(), port);
                Some((source, self.same_ip(&message, at, from)))
            }
            Conduct::Honest
            | Conduct::Single
            | Conduct::DeadAlternate
            | Conduct::Mute
            | Conduct::SilentAfter(_)
            | Conduct::Ignores
            | Conduct::Refuses
            | Conduct::PortOnly => honest(request, from),
        }
    }

    /// The address that differs from `at` in both parts.
    fn other(&self, at: SocketAddr) -> SocketAddr {
        let (one, two) = (self.primary, self.alternate);
        let ip = if at.ip() == one.ip() { two.ip() } else { one.ip() };
        SocketAddr::new(ip, if at.port() == one.port() { two.port() } else { one.port() })
    }

    fn changed(&self, at: SocketAddr, change: ChangeRequest) -> SocketAddr {
        let other = self.other(at);
        let ip = if change.changes_ip() { other.ip() } else { at.ip() };
        SocketAddr::new(ip, if change.changes_port() { other.port() } else { at.port() })
    }

    /// A success as servers of RFC 3489 wrote it, who took the cookie for a part of the id.
    fn classic(
        &self,
        request: &Message<'_>,
        at: SocketAddr,
        source: SocketAddr,
        from: SocketAddr,
    ) -> Vec<u8> {
        success(request, |writer| {
            writer.attribute(&MappedAddress(from))?;
            writer.attribute(&SourceAddress(source))?;
            writer.attribute(&ChangedAddress(self.other(at)))
        })
    }

    fn same_ip(&self, request: &Message<'_>, at: SocketAddr, from: SocketAddr) -> Vec<u8> {
        let other = SocketAddr::new(at.ip(), self.other(at).port());
        success(request, |writer| {
            writer.attribute(&XorMappedAddress(from))?;
            writer.attribute(&OtherAddress(other))
        })
    }
}

fn success(
    request: &Message<'_>,
    fill: impl FnOnce(&mut Writer<'_>) -> Result<(), WriteError>,
) -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut writer = Writer::reply(&mut buffer, Class::Success, request).unwrap();
    fill(&mut writer).unwrap();
    let length = writer.finish();
    buffer[..length].to_vec()
}

/// The request without its attributes.
fn plain(request: &Message<'_>) -> Vec<u8> {
    let mut buffer = [0; 20];
    let id = request.transaction_id();
    let length = Writer::new(&mut buffer, Class::Request, Method::BINDING, id).unwrap().finish();
    buffer[..length].to_vec()
}

fn refusal(request: &Message<'_>, code: u16) -> Vec<u8> {
    let mut buffer = [0; 64];
    let mut writer = Writer::reply(&mut buffer, Class::Error, request).unwrap();
    writer.attribute(&ErrorCode::new(code, "no").unwrap()).unwrap();
    let length = writer.finish();
    buffer[..length].to_vec()
}
