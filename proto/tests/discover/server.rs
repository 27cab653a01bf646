//! STUN servers, honest and otherwise.

use std::net::SocketAddr;

use ntcp_stun::attribute::{
    ChangeRequest, ChangedAddress, ErrorCode, MappedAddress, OtherAddress, SourceAddress,
    XorMappedAddress,
};
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
    pub(crate) answered: u32,
}

impl Server {
    pub(crate) fn new(primary: &str, alternate: &str, conduct: Conduct) -> Self {
        let (primary, alternate) = (primary.parse().unwrap(), alternate.parse().unwrap());
        Self { primary, alternate, conduct, tcp: Tcp::Serves, answered: 0 }
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
        at: SocketAddr,
        from: SocketAddr,
        request: &[u8],
    ) -> Option<(SocketAddr, Vec<u8>)> {
        let message = Message::parse_classic(request).ok()?;
        if message.class() != Class::Request || message.method() != Method::BINDING {
            return None;
        }
        let change: ChangeRequest =
            message.attribute().ok().flatten().unwrap_or(ChangeRequest::Nothing);
        self.answered += 1;
        if change != ChangeRequest::Nothing {
            match self.conduct {
                Conduct::Ignores => return None,
                Conduct::Refuses | Conduct::Single => return Some((at, refuse(&message, 420))),
                _ => {}
            }
        }
        match self.conduct {
            Conduct::Mute => return None,
            Conduct::SilentAfter(limit) if self.answered > limit => return None,
            Conduct::Unauthorized => return Some((at, refuse(&message, 401))),
            _ => {}
        }
        let source = self.source(at, change);
        Some((source, self.success(&message, at, source, from)))
    }

    fn source(&self, at: SocketAddr, change: ChangeRequest) -> SocketAddr {
        let other_ip =
            if at.ip() == self.primary.ip() { self.alternate.ip() } else { self.primary.ip() };
        let other_port = if at.port() == self.primary.port() {
            self.alternate.port()
        } else {
            self.primary.port()
        };
        let (ip, port) = match self.conduct {
            Conduct::SamePlace | Conduct::SingleSamePlace => (false, false),
            Conduct::PortOnly => (false, change != ChangeRequest::Nothing),
            Conduct::SameIp => (false, change.changes_port()),
            _ => (change.changes_ip(), change.changes_port()),
        };
        let ip = if ip { other_ip } else { at.ip() };
        SocketAddr::new(ip, if port { other_port } else { at.port() })
    }

    fn success(
        &self,
        request: &Message<'_>,
        at: SocketAddr,
        source: SocketAddr,
        from: SocketAddr,
    ) -> Vec<u8> {
        let mut buffer = [0; 256];
        let write = |buffer: &mut [u8]| -> Result<usize, WriteError> {
            let mut writer = Writer::reply(buffer, Class::Success, request)?;
            let other = self.announced(at);
            let seen = match self.conduct {
                Conduct::WrongView => "192.0.2.77:7777".parse().unwrap(),
                _ => from,
            };
            if self.conduct == Conduct::Classic {
                writer.attribute(&MappedAddress(seen))?;
                writer.attribute(&SourceAddress(source))?;
                writer.attribute(&ChangedAddress(other.unwrap()))?;
            } else {
                writer.attribute(&XorMappedAddress(seen))?;
                if let Some(other) = other {
                    writer.attribute(&OtherAddress(other))?;
                }
            }
            Ok(writer.finish())
        };
        let length = write(&mut buffer).unwrap();
        let length = if self.conduct == Conduct::Garbled { length - 3 } else { length };
        buffer[..length].to_vec()
    }

    fn announced(&self, at: SocketAddr) -> Option<SocketAddr> {
        match self.conduct {
            Conduct::Single | Conduct::SingleSamePlace => None,
            Conduct::SameIp => Some(SocketAddr::new(at.ip(), self.alternate.port())),
            _ => Some(self.source_of_both(at)),
        }
    }

    fn source_of_both(&self, at: SocketAddr) -> SocketAddr {
        let ip = if at.ip() == self.primary.ip() { self.alternate.ip() } else { self.primary.ip() };
        let primary_port = self.primary.port();
        let port = if at.port() == primary_port { self.alternate.port() } else { primary_port };
        SocketAddr::new(ip, port)
    }
}

fn refuse(request: &Message<'_>, code: u16) -> Vec<u8> {
    let mut buffer = [0; 64];
    let mut writer = Writer::reply(&mut buffer, Class::Error, request).unwrap();
    writer.attribute(&ErrorCode::new(code, "no").unwrap()).unwrap();
    let length = writer.finish();
    buffer[..length].to_vec()
}
