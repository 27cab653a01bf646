//! The server's side: one request in, at most one reply out, and where it goes from and to.
//!
//! A [`Server`] keeps nothing about its clients. It is told the bytes that came, from whom and at which of its own
//! addresses, and writes the reply into the caller's buffer; the [`Reply`] says which socket must send it and to
//! whom. It answers Binding requests of RFC 8489, of RFC 5780 (behaviour discovery), and of RFC 3489.
//!
//! # What is answered how
//!
//! | request | answer |
//! |---|---|
//! | Binding | success with XOR-MAPPED-ADDRESS; on one of four addresses also MAPPED-ADDRESS, RESPONSE-ORIGIN and OTHER-ADDRESS |
//! | without magic cookie | the same in the words of RFC 3489: MAPPED-ADDRESS, SOURCE-ADDRESS, CHANGED-ADDRESS |
//! | CHANGE-REQUEST | from the address asked for, or 420 where there is no other address or over TCP, never from a wrong place |
//! | PADDING | padded exactly as far as the request itself was |
//! | RESPONSE-PORT | to that port of the same address; together with PADDING 400 |
//! | a malformed one of these three | 400 |
//! | unknown comprehension-required attribute | 420 and the list |
//! | any over TCP, if a [`Prober`] stands beside | with the tests of [`crate::probe`] that are served |
//! | FINGERPRINT | FINGERPRINT, if it is right; else nothing |
//! | anything else | nothing; a [`Silence`] says why |
//!
//! RFC 5780, section 7.6 would have a reply padded to the MTU whatever the request's length; that makes an amplifier
//! of 60 for everybody who forges a source, so this server deviates. For the same reason errors carry no phrase,
//! and RESPONSE-ADDRESS of RFC 3489 is refused.

mod budget;
mod counters;
mod prober;
mod quartet;

pub use budget::{Allowance, Budget, BudgetLimits, is_long};
pub use counters::Counters;
pub use prober::{Conduct, Limits, Look, Order, Prober, RESERVATION, Reservation, Step};
pub use quartet::{Quartet, QuartetError};

use crate::attribute::{
    ChangeRequest, ChangedAddress, ErrorCode, MappedAddress, OtherAddress, Padding, ResponseOrigin,
    ResponsePort, SourceAddress, UnknownAttributes, XorMappedAddress,
};
use crate::probe::Offer;
use crate::{
    AttributeError, AttributeType, Check, Class, Message, Method, ParseError, WriteError, Writer,
};
use std::net::SocketAddr;
use std::time::Instant;

/// The comprehension-required attributes that the server understands, though most are nothing to it: known ones where
/// they are not expected are ignored (RFC 8489, section 6.3). CHANGE-REQUEST and RESPONSE-PORT depend on the request.
const UNDERSTOOD: [AttributeType; 12] = [
    AttributeType::MAPPED_ADDRESS,
    AttributeType::USERNAME,
    AttributeType::MESSAGE_INTEGRITY,
    AttributeType::ERROR_CODE,
    AttributeType::UNKNOWN_ATTRIBUTES,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::MESSAGE_INTEGRITY_SHA256,
    AttributeType::PASSWORD_ALGORITHM,
    AttributeType::USERHASH,
    AttributeType::XOR_MAPPED_ADDRESS,
    AttributeType::PADDING,
];

/// A STUN server.
#[derive(Clone, Debug, Default)]
pub struct Server {
    quartets: Vec<Quartet>,
    counters: Counters,
    probes: bool,
    budget: Option<Budget>,
}

/// A message that came.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// One datagram, or one message out of a stream.
    pub bytes: &'a [u8],
    /// Who sent it, as seen from here.
    pub source: SocketAddr,
    /// Which of the server's own addresses it was sent to. An unspecified IP means that nobody knows.
    pub local: SocketAddr,
    /// How it came.
    pub transport: Transport,
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// As datagrams, which may be answered from another address.
    Udp,
    /// On a stream, which can be answered on that stream only.
    Tcp,
}

/// A reply that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its length in the buffer.
    pub length: usize,
    /// The server's address that must send it.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Silence {
    /// Not a STUN message.
    #[error("malformed: {0}")]
    Malformed(ParseError),
    /// Meant for another protocol, or damaged.
    #[error("wrong FINGERPRINT")]
    WrongFingerprint,
    /// An indication or a response.
    #[error("a {0:?} is not answered")]
    NotARequest(Class),
    /// A request that this server does not serve.
    #[error("unknown method {0}")]
    UnknownMethod(Method),
    /// Too many replies went to that source or its network lately.
    #[error("over the budget of its source")]
    OverBudget,
    /// From port 0, which nothing can be sent to.
    #[error("the source has no port")]
    Unanswerable,
    /// The caller's buffer is too short for the reply.
    #[error("no room for the reply: {0}")]
    NoRoom(WriteError),
}

/// Why a request gets an error response.
enum Refusal {
    BadRequest,
    UnknownAttributes(UnknownAttributes),
}

impl Server {
    /// A server whose requests all come to single addresses.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes CHANGE-REQUEST and OTHER-ADDRESS work on these four addresses. They replace an earlier quartet of which
    /// one address is the same.
    pub fn add_quartet(&mut self, quartet: Quartet) {
        self.quartets.retain(|it| it.addresses().iter().all(|own| !quartet.contains(*own)));
        self.quartets.push(quartet);
    }

    /// Says in its answers over TCP which tests of [`crate::probe`] are served: a [`Prober`] stands
    /// beside this server.
    pub fn offer_probes(&mut self) {
        self.probes = true;
    }

    /// Bounds the replies over UDP by where they go, from now on; [`Server::advance`] must tell the time then.
    pub fn limit(&mut self, budget: Budget) {
        self.budget = Some(budget);
    }

    /// Says what time it is. Where many requests come at once, once for all of them is enough.
    pub fn advance(&mut self, now: Instant) {
        if let Some(budget) = &mut self.budget {
            budget.advance(now);
        }
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Answers a request; a success of 76 bytes with IPv4 and of 124 with IPv6 fits into `reply` unless the request has
    /// PADDING, which is as long again in the reply.
    ///
    /// # Errors
    ///
    /// A [`Silence`] if nothing is to be sent.
    pub fn handle_request(
        &mut self,
        request: Request<'_>,
        reply: &mut [u8],
    ) -> Result<Reply, Silence> {
        let outcome = self.answer(request, reply);
        self.counters.note(&request, &outcome);
        outcome.map(|it| it.reply)
    }

    fn answer(&mut self, request: Request<'_>, reply: &mut [u8]) -> Result<Answer, Silence> {
        let message = Message::parse_classic(request.bytes).map_err(Silence::Malformed)?;
        if message.fingerprint() == Check::Invalid {
            return Err(Silence::WrongFingerprint);
        }
        match message.class() {
            Class::Request if message.method() == Method::BINDING => {}
            Class::Request => return Err(Silence::UnknownMethod(message.method())),
            class => return Err(Silence::NotARequest(class)),
        }
        if request.source.port() == 0 {
            return Err(Silence::Unanswerable);
        }
        let quartet = self.quartets.iter().find(|it| it.contains(request.local));
        let offers = self.probes && request.transport == Transport::Tcp && !message.is_classic();
        let offer = offers.then(|| Prober::offer(quartet.is_some()));
        let binding = Binding { message, request, quartet, offer, extent: Extent::Full };
        let Some(budget) = self.budget.as_mut().filter(|_| request.transport == Transport::Udp)
        else {
            return binding.answer(reply).map_err(Silence::NoRoom);
        };
        binding.answer_within(budget, reply)
    }
}

/// A reply and what the counters want to know of it.
struct Answer {
    reply: Reply,
    kind: Kind,
    is_classic: bool,
}

/// What kind of reply it is.
#[derive(Clone, Copy)]
enum Kind {
    Success,
    Changed,
    BadRequest,
    UnknownAttributes,
}

/// A Binding request.
struct Binding<'a> {
    message: Message<'a>,
    request: Request<'a>,
    quartet: Option<&'a Quartet>,
    offer: Option<Offer>,
    extent: Extent,
}

/// How much a success tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All that RFC 5780 or RFC 3489 has it tell.
    Full,
    /// The mapped address alone: the allowance for longer replies is used up.
    Bare,
}

/// What a Binding request asks for beyond an answer.
struct Wishes {
    change: Option<ChangeRequest>,
    padding: Option<Padding>,
    port: Option<ResponsePort>,
}

impl Binding<'_> {
    /// A reply that the budget admits: the one there is to give, else the mapped address alone, else none.
    fn answer_within(self, budget: &mut Budget, reply: &mut [u8]) -> Result<Answer, Silence> {
        let to = self.mapped().ip();
        if !budget.admits(to) {
            return Err(Silence::OverBudget);
        }
        let answer = self.answer(reply).map_err(Silence::NoRoom)?;
        let asked = self.request.bytes.len();
        if !is_long(answer.reply.length, asked) || budget.admits_long(to) {
            return Ok(answer);
        }
        let bare = Self { extent: Extent::Bare, ..self };
        let bare = bare.answer(reply).map_err(Silence::NoRoom)?;
        // An error is not made shorter; a success is, and what is left is what every client needs.
        if bare.reply.length < answer.reply.length { Ok(bare) } else { Err(Silence::OverBudget) }
    }

    fn answer(&self, reply: &mut [u8]) -> Result<Answer, WriteError> {
        match self.wishes() {
            Ok(wishes) => self.succeed(&wishes, reply),
            Err(refusal) => self.refuse(&refusal, reply),
        }
    }

    fn wishes(&self) -> Result<Wishes, Refusal> {
        let wishes = self.read_wishes().map_err(|_| Refusal::BadRequest)?;
        let together = wishes.padding.is_some() && wishes.port.is_some();
        if together || wishes.port == Some(ResponsePort(0)) {
            return Err(Refusal::BadRequest);
        }
        let unknown: UnknownAttributes = self
            .message
            .unknown_required(&UNDERSTOOD)
            .filter(|it| !self.serves(*it, &wishes))
            .collect();
        if unknown.is_empty() { Ok(wishes) } else { Err(Refusal::UnknownAttributes(unknown)) }
    }

    fn read_wishes(&self) -> Result<Wishes, AttributeError> {
        Ok(Wishes {
            change: self.message.attribute()?,
            padding: self.message.attribute()?,
            port: self.message.attribute()?,
        })
    }

    /// Whether an attribute that only some requests may have is understood in this one.
    fn serves(&self, attribute_type: AttributeType, wishes: &Wishes) -> bool {
        match (attribute_type, self.request.transport) {
            (AttributeType::RESPONSE_PORT, Transport::Udp) => true,
            (AttributeType::CHANGE_REQUEST, Transport::Udp) => {
                // Clients of RFC 3489 send the attribute always, with no flag set in the first test.
                let asks_nothing = wishes.change == Some(ChangeRequest::Nothing);
                self.quartet.is_some() || (self.message.is_classic() && asks_nothing)
            }
            _ => false,
        }
    }

    fn succeed(&self, wishes: &Wishes, reply: &mut [u8]) -> Result<Answer, WriteError> {
        let local = self.request.local;
        let change = wishes.change.unwrap_or(ChangeRequest::Nothing);
        let from = self.quartet.and_then(|it| it.changed(local, change)).unwrap_or(local);
        let mut to = self.request.source;
        if let Some(ResponsePort(port)) = wishes.port {
            to.set_port(port);
        }
        let mut writer = Writer::reply(reply, Class::Success, &self.message)?;
        if self.message.is_classic() {
            self.write_classic(from, &mut writer)?;
        } else {
            self.write_addresses(wishes, from, &mut writer)?;
        }
        if let Some(padding) = wishes.padding {
            writer.attribute(&padding)?;
        }
        if let Some(offer) = self.offer {
            writer.attribute(&offer)?;
        }
        let kind = if change == ChangeRequest::Nothing { Kind::Success } else { Kind::Changed };
        self.finish(writer, kind, from, to)
    }

    /// RFC 5780, section 6.1; where it has nothing to tell, XOR-MAPPED-ADDRESS alone.
    fn write_addresses(
        &self,
        wishes: &Wishes,
        from: SocketAddr,
        writer: &mut Writer<'_>,
    ) -> Result<(), WriteError> {
        writer.attribute(&XorMappedAddress(self.mapped()))?;
        if self.extent == Extent::Bare {
            return Ok(());
        }
        if self.quartet.is_none() && wishes.padding.is_none() && wishes.port.is_none() {
            return Ok(());
        }
        writer.attribute(&MappedAddress(self.mapped()))?;
        if !from.ip().is_unspecified() {
            writer.attribute(&ResponseOrigin(from))?;
        }
        self.other().map_or(Ok(()), |other| writer.attribute(&OtherAddress(other)))
    }

    /// RFC 3489, section 8.1.
    fn write_classic(&self, from: SocketAddr, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        writer.attribute(&MappedAddress(self.mapped()))?;
        if self.extent == Extent::Bare {
            return Ok(());
        }
        if !from.ip().is_unspecified() {
            writer.attribute(&SourceAddress(from))?;
        }
        self.other().map_or(Ok(()), |other| writer.attribute(&ChangedAddress(other)))
    }

    fn refuse(&self, refusal: &Refusal, reply: &mut [u8]) -> Result<Answer, WriteError> {
        let mut writer = Writer::reply(reply, Class::Error, &self.message)?;
        let kind = match refusal {
            Refusal::BadRequest => {
                writer.attribute(&ErrorCode::BAD_REQUEST.without_reason())?;
                Kind::BadRequest
            }
            Refusal::UnknownAttributes(unknown) => {
                writer.attribute(&ErrorCode::UNKNOWN_ATTRIBUTE.without_reason())?;
                self.write_unknown(unknown, &mut writer)?;
                Kind::UnknownAttributes
            }
        };
        self.finish(writer, kind, self.request.local, self.request.source)
    }

    fn write_unknown(
        &self,
        unknown: &UnknownAttributes,
        writer: &mut Writer<'_>,
    ) -> Result<(), WriteError> {
        let types = unknown.as_slice();
        if !self.message.is_classic() || types.len().is_multiple_of(2) {
            return writer.attribute(unknown);
        }
        // RFC 3489, section 11.2.10: an odd list repeats one of its types, since values were not padded then.
        let even = types.iter().chain(types.last());
        let value: Vec<u8> = even.flat_map(|it| it.number().to_be_bytes()).collect();
        writer.raw_attribute(AttributeType::UNKNOWN_ATTRIBUTES, &value)
    }

    fn finish(
        &self,
        mut writer: Writer<'_>,
        kind: Kind,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<Answer, WriteError> {
        if self.message.fingerprint() == Check::Valid {
            writer.fingerprint()?;
        }
        let reply = Reply { length: writer.finish(), from, to };
        Ok(Answer { reply, kind, is_classic: self.message.is_classic() })
    }

    /// The source as the client must see it: an IPv4 address in its own form, whatever the socket's.
    fn mapped(&self) -> SocketAddr {
        SocketAddr::new(self.request.source.ip().to_canonical(), self.request.source.port())
    }

    /// The address that differs from the request's in IP and port, if there is one.
    fn other(&self) -> Option<SocketAddr> {
        self.quartet?.changed(self.request.local, ChangeRequest::IpAndPort)
    }
}
