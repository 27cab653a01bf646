//! [`Binding`]: the answer to one Binding request.

use super::access::{Asking, Denial, Signature};
use super::token::TOKEN_LENGTH;
use super::{Budget, Policy, Prober, Quartet, Reply, Request, Silence, Transport, is_long};
use crate::attribute::{
    AlternateDomain, AlternateServer, ChangeRequest, ChangedAddress, ErrorCode, MappedAddress,
    Nonce, OtherAddress, Padding, ResponseOrigin, ResponsePort, Software, SourceAddress,
    UnknownAttributes, XorMappedAddress,
};
use crate::probe::Offer;
use crate::{AttributeError, AttributeType, Check, Class, Message, WriteError, Writer};
use std::net::SocketAddr;

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

/// A reply and what the counters want to know of it.
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) kind: Kind,
    pub(super) is_classic: bool,
}

/// What kind of reply it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Success,
    Changed,
    BadRequest,
    UnknownAttributes,
    Unauthenticated,
    StaleNonce,
    Redirected,
    ServerError,
    SpoofCheck,
}

impl Kind {
    const fn of_denial(denial: Denial) -> Self {
        match denial {
            Denial::BadRequest => Self::BadRequest,
            Denial::Unauthenticated => Self::Unauthenticated,
            Denial::StaleNonce => Self::StaleNonce,
        }
    }
}

/// Why a request gets an error response.
enum Refusal {
    BadRequest,
    UnknownAttributes(UnknownAttributes),
    /// It lacks credentials, or proof of its source.
    Denied(Denial),
    /// Another server is to be asked: this one.
    TryAlternate(SocketAddr),
    /// There is no room for the answer there would be.
    ServerError,
}

/// A Binding request.
#[derive(Clone, Copy)]
pub(super) struct Binding<'a> {
    policy: &'a Policy,
    message: Message<'a>,
    request: Request<'a>,
    quartet: Option<&'a Quartet>,
    offer: Option<Offer>,
    extent: Extent,
    /// The partner has had it, and has let its client in.
    is_forwarded: bool,
}

/// How much a success tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All that RFC 5780 or RFC 3489 has it tell.
    Full,
    /// The mapped address and the other one.
    Short,
    /// The mapped address alone.
    Bare,
}

/// What a Binding request asks for beyond an answer.
struct Wishes {
    change: Option<ChangeRequest>,
    padding: Option<Padding>,
    port: Option<ResponsePort>,
}

impl<'a> Binding<'a> {
    pub(super) fn new(policy: &'a Policy, message: Message<'a>, request: Request<'a>) -> Self {
        let quartet = policy.quartets.iter().find(|it| it.contains(request.local));
        let offers = policy.probes && request.transport == Transport::Tcp && !message.is_classic();
        let offer =
            offers.then(|| Prober::offer(quartet.is_some() && policy.withholds_other.is_none()));
        let (extent, is_forwarded) = (Extent::Full, false);
        Self { policy, message, request, quartet, offer, extent, is_forwarded }
    }

    /// The same, as the partner has forwarded it.
    pub(super) fn forwarded(self) -> Self {
        Self { is_forwarded: true, ..self }
    }

    /// A reply that the budget admits: the one there is to give, else the longest that is not too long, else none.
    pub(super) fn answer_within(
        self,
        budget: Option<&mut Budget>,
        reply: &mut [u8],
    ) -> Result<Answer, Silence> {
        let to = self.mapped().ip();
        let (mut budget, amplification) = (budget, self.policy.amplification);
        if budget.as_mut().is_some_and(|it| !it.admits(to)) {
            return Err(Silence::OverBudget);
        }
        let asked = self.request.bytes.len();
        let answer = self.answer(reply)?;
        let length = answer.reply.length;
        if amplification.admits(length, asked, to)
            && (!is_long(length, asked, to) || budget.is_none_or(|it| it.admits_long(to)))
        {
            return Ok(answer);
        }
        for extent in [Extent::Short, Extent::Bare] {
            let answer = Self { extent, ..self }.answer(reply)?;
            let length = answer.reply.length;
            if amplification.admits(length, asked, to) && !is_long(length, asked, to) {
                return Ok(answer);
            }
        }
        // An error is not made shorter.
        Err(Silence::OverBudget)
    }

    /// A reply, or else 500 if there is no room for it (RFC 8489, section 14.8).
    pub(super) fn answer(&self, reply: &mut [u8]) -> Result<Answer, Silence> {
        let answer = self.try_answer(reply);
        let answer = answer.or_else(|_| self.refuse(&Refusal::ServerError, None, reply));
        answer.map_err(Silence::NoRoom)
    }

    fn try_answer(&self, reply: &mut [u8]) -> Result<Answer, WriteError> {
        let signature = match self.enter() {
            Ok(signature) => signature,
            Err(denial) => return self.refuse(&Refusal::Denied(denial), None, reply),
        };
        match self.wishes() {
            Ok(wishes) => self.succeed(&wishes, signature, reply),
            Err(refusal) => self.refuse(&refusal, signature, reply),
        }
    }

    /// Lets the request in, if there is a door.
    fn enter(&self) -> Result<Option<Signature<'a>>, Denial> {
        let Some(access) = &self.policy.access else { return Ok(None) };
        if self.is_forwarded {
            // Its nonce is one of the partner's.
            return access.check_forwarded(&self.message).map(Some);
        }
        access.check(&self.message, self.asking()).map(Some)
    }

    fn asking(&self) -> Option<Asking<'a>> {
        let mint = self.policy.mint.as_ref()?;
        let now = self.policy.now.unwrap_or(mint.origin());
        Some(Asking { mint, source: self.mapped(), now })
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
        if !unknown.is_empty() {
            return Err(Refusal::UnknownAttributes(unknown));
        }
        if let Some(server) = self.elsewhere() {
            return Err(Refusal::TryAlternate(server));
        }
        let aims_elsewhere = wishes.port.is_some_and(|it| it.0 != self.request.source.port());
        if aims_elsewhere && !self.has_proof() {
            return Err(Refusal::Denied(Denial::StaleNonce));
        }
        Ok(wishes)
    }

    /// The server that the client is to ask instead.
    fn elsewhere(&self) -> Option<SocketAddr> {
        let redirect = self.policy.redirect.as_ref().filter(|_| !self.is_forwarded);
        let servers = &redirect?.servers;
        let is_v4 = self.mapped().is_ipv4();
        servers.iter().find(|it| it.is_ipv4() == is_v4).copied()
    }

    /// Whether the source has shown a token that was sent to it, if that is asked for.
    fn has_proof(&self) -> bool {
        if self.policy.trusts_response_port || self.is_forwarded {
            return true;
        }
        let Some(Asking { mint, source, now }) = self.asking() else { return true };
        let Ok(Some(nonce)) = self.message.attribute::<Nonce<'_>>() else { return false };
        // Alone, or behind the cookie of a challenge.
        let nonce = nonce.as_bytes();
        let token = nonce.len().saturating_sub(TOKEN_LENGTH);
        mint.knows(&nonce[token..], source, now)
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
                let is_served = self.quartet.is_some() && !self.lacks_partner(wishes.change);
                is_served || (self.message.is_classic() && asks_nothing)
            }
            _ => false,
        }
    }

    /// Whether an answer is asked for that only the partner can give, which is not there.
    fn lacks_partner(&self, change: Option<ChangeRequest>) -> bool {
        let is_needed = self.policy.forwards && !self.is_forwarded;
        is_needed
            && self.policy.withholds_other == Some(true)
            && change.is_some_and(ChangeRequest::changes_ip)
    }

    fn succeed(
        &self,
        wishes: &Wishes,
        signature: Option<Signature<'_>>,
        reply: &mut [u8],
    ) -> Result<Answer, WriteError> {
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
            self.write_addresses(from, &mut writer)?;
        }
        if let Some(padding) = wishes.padding {
            writer.attribute(&padding)?;
        }
        if let Some(offer) = self.offer {
            writer.attribute(&offer)?;
        }
        let kind = if change == ChangeRequest::Nothing { Kind::Success } else { Kind::Changed };
        self.finish(writer, kind, signature, (from, to))
    }

    /// RFC 5780, section 6.1; where it has nothing to tell, XOR-MAPPED-ADDRESS alone.
    fn write_addresses(&self, from: SocketAddr, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        writer.attribute(&XorMappedAddress(self.mapped()))?;
        if self.extent == Extent::Bare {
            return Ok(());
        }
        if self.quartet.is_none() {
            return Ok(());
        }
        if self.extent == Extent::Full {
            writer.attribute(&MappedAddress(self.mapped()))?;
            if !from.ip().is_unspecified() {
                writer.attribute(&ResponseOrigin(from))?;
            }
        }
        self.other().map_or(Ok(()), |other| writer.attribute(&OtherAddress(other)))
    }

    /// RFC 3489, section 8.1.
    fn write_classic(&self, from: SocketAddr, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        writer.attribute(&MappedAddress(self.mapped()))?;
        if self.extent == Extent::Bare {
            return Ok(());
        }
        if self.extent == Extent::Full && !from.ip().is_unspecified() {
            writer.attribute(&SourceAddress(from))?;
        }
        self.other().map_or(Ok(()), |other| writer.attribute(&ChangedAddress(other)))
    }

    fn refuse(
        &self,
        refusal: &Refusal,
        signature: Option<Signature<'_>>,
        reply: &mut [u8],
    ) -> Result<Answer, WriteError> {
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
            Refusal::Denied(denial) => {
                writer.attribute(&denial.code())?;
                self.write_challenge(*denial, signature.is_some(), &mut writer)?;
                Kind::of_denial(*denial)
            }
            Refusal::TryAlternate(server) => {
                writer.attribute(&ErrorCode::TRY_ALTERNATE.without_reason())?;
                writer.attribute(&AlternateServer(*server))?;
                let domain = self.policy.redirect.as_ref().and_then(|it| it.domain.as_deref());
                if let Some(domain) = domain {
                    writer.attribute(&AlternateDomain::new(domain)?)?;
                }
                Kind::Redirected
            }
            Refusal::ServerError => {
                writer.attribute(&ErrorCode::SERVER_ERROR.without_reason())?;
                Kind::ServerError
            }
        };
        self.finish(writer, kind, signature, (self.request.local, self.request.source))
    }

    /// What the client needs to come back with: all of a challenge at the door, behind it a token alone.
    fn write_challenge(
        &self,
        denial: Denial,
        is_inside: bool,
        writer: &mut Writer<'_>,
    ) -> Result<(), WriteError> {
        let Some(asking) = self.asking() else { return Ok(()) };
        match &self.policy.access {
            Some(access) if !is_inside => access.write_challenge(denial, asking, writer),
            _ => {
                let token = asking.mint.token(asking.source, asking.now);
                writer.attribute(&Nonce::new(&token)?)
            }
        }
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
        signature: Option<Signature<'_>>,
        (from, to): (SocketAddr, SocketAddr),
    ) -> Result<Answer, WriteError> {
        if let (Some(software), Extent::Full) = (&self.policy.software, self.extent) {
            writer.attribute(&Software::new(software)?)?;
        }
        if let Some(signature) = signature {
            signature.write(&mut writer)?;
        }
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
        let is_withheld = self.policy.withholds_other == Some(true) && !self.is_forwarded;
        let quartet = self.quartet.filter(|_| !is_withheld)?;
        quartet.changed(self.request.local, ChangeRequest::IpAndPort)
    }
}
