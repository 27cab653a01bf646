//! From attributes to a message.

use std::net::SocketAddr;

use ntcp_stun::attribute::{ErrorCode as StunErrorCode, Problem, UnknownAttributes, address};
use ntcp_stun::{Attribute, AttributeType, Class, Message as StunMessage};

use crate::access::{AccessDenied, AccountName};
use crate::candidate::Candidate;
use crate::secrecy::PublicKey;
use crate::signal::attribute::{
    self as values, ACCOUNT, ANSWERED_SYN, BARE, CANDIDATES, CAPABILITIES, CERTIFICATE, CONSENT,
    DATAGRAM, ERRAND, HANDSHAKE, HINTS, IDENTITY, KNOWN_REQUIRED, LEASE, NAME, NAT_SUMMARY, NEWS,
    NOTE, OUTCOMES, PEER_ADDRESS, PEER_ROUND_TRIP_TIME, REFUSAL, REGISTRATION, REGISTRATION_KEY,
    ROLE, ROUND, ROUND_TRIP_TIME, SESSION, SESSION_SECRET, SOURCE_ADDRESS, START_AFTER, SYN,
    TRANSACTION_TRANSMIT_COUNTER, TRANSPORTS, VERSION, WAIT, fixed, micros, millis, role, small,
    transports,
};
use crate::signal::message::{
    self, Answer, Body, CalleeAnswer, Connect, Forge, Forged, Found, Gather, Message, Nonce, Note,
    Outcome, Refresh, Refreshed, Refused, Register, Registered, Relay, Secure, TransmitCount,
};
use crate::signal::nat_summary;
use crate::signal::outcome;
use crate::signal::{
    Capabilities, Errand, ErrorCode, Fingerprint, Handshake, Hint, MAX_DATAGRAM_BYTES, NatSummary,
    Packet, Punch, RegistrationId, RegistrationKey, Round, SessionId, SessionSecret, SignalMethod,
    Syn,
};
use crate::uri::PeerName;

/// An attribute is absent that must be there, or has a wrong value.
struct Malformed;

impl From<Problem> for Malformed {
    fn from(_: Problem) -> Self {
        Self
    }
}

/// Reads attributes.
pub(super) struct Reader<'a> {
    view: StunMessage<'a>,
    method: SignalMethod,
}

impl<'a> Reader<'a> {
    pub(super) fn new(view: StunMessage<'a>, method: SignalMethod) -> Self {
        Self { view, method }
    }

    /// The message; `None` if its method has no such class.
    pub(super) fn message(&self) -> Result<Option<Message>, Refused> {
        self.check_version()?;
        self.check_attributes()?;
        self.read().map_err(|Malformed| self.refuse(ErrorCode::BadRequest))
    }

    fn refuse(&self, code: ErrorCode) -> Refused {
        Refused::new(self.method, code)
    }

    fn check_version(&self) -> Result<(), Refused> {
        if matches!(self.view.class(), Class::Success | Class::Error) {
            return Ok(());
        }
        match self.view.raw_attribute(VERSION).map(small) {
            Some(Ok(message::VERSION)) => Ok(()),
            Some(Ok(_)) => {
                let refused = self.refuse(ErrorCode::UnsupportedVersion);
                Err(Refused { version: Some(message::VERSION), ..refused })
            }
            Some(Err(_)) | None => Err(self.refuse(ErrorCode::BadRequest)),
        }
    }

    fn check_attributes(&self) -> Result<(), Refused> {
        let unknown: UnknownAttributes = self.view.unknown_required(&KNOWN_REQUIRED).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let refused = self.refuse(ErrorCode::UnknownAttribute);
        Err(Refused { unknown: unknown.as_slice().to_vec(), ..refused })
    }

    fn read(&self) -> Result<Option<Message>, Malformed> {
        let Some(body) = self.body()? else { return Ok(None) };
        let transmit = self.optional(TRANSACTION_TRANSMIT_COUNTER, fixed::<4>)?;
        let transmit =
            transmit.map(|[_, _, request, response]| TransmitCount { request, response });
        // Those who ask name their registration, and so does who sends a Relay to the broker.
        let names_sender = matches!(self.view.class(), Class::Request | Class::Indication);
        let registration = if names_sender { self.optional(REGISTRATION, fixed)? } else { None };
        let nonce = self.optional(AttributeType::NONCE, |value| {
            Nonce::new(value).ok_or(Problem::Length(value.len()))
        })?;
        Ok(Some(Message {
            transaction: self.view.transaction_id(),
            transmit,
            registration: registration.map(RegistrationId),
            nonce,
            body,
        }))
    }

    fn body(&self) -> Result<Option<Body>, Malformed> {
        use SignalMethod as M;
        Ok(Some(match (self.view.class(), self.method) {
            (Class::Request, M::Register) => self.any_register()?,
            (Class::Success, M::Register) => match self.optional(HANDSHAKE, bounded)? {
                Some(noise) => Body::Secured(noise),
                None => Body::Registered(self.registered()?),
            },
            (Class::Request, M::Refresh) => Body::Refresh(self.refresh()?),
            (Class::Success, M::Refresh) => Body::Refreshed(Refreshed {
                observed: self.observed()?,
                lease: self.required(LEASE, millis)?,
                capabilities: self.capabilities()?,
            }),
            (Class::Request, M::Unregister) => Body::Unregister,
            (Class::Success, M::Unregister) => Body::Unregistered,
            (Class::Indication, M::Unregister) => Body::Dismissed,
            (Class::Request, M::Lookup) => Body::Lookup(self.required(NAME, name)?),
            (Class::Success, M::Lookup) => Body::Found(Found {
                fingerprint: Fingerprint(self.required(CERTIFICATE, fixed)?),
                nat: self.nat()?,
                identity: self.identity()?,
            }),
            (Class::Request, M::Connect) => Body::Connect(self.connect()?),
            (Class::Success, M::Connect) => Body::Connected(self.punch()?),
            (Class::Request, M::Invite) if self.round()?.is_fresh() => Body::Gather(self.gather()?),
            (Class::Request, M::Invite) => Body::Invite(self.punch()?),
            (Class::Success, M::Invite) => {
                Body::Answer(Answer { session: self.session()?, candidates: self.candidates()? })
            }
            (Class::Indication, M::Invite) => Body::CalleeAnswer(self.callee_answer()?),
            (Class::Request, M::Punch) => Body::Punch(self.punch()?),
            (Class::Success, M::Punch) => Body::Punching,
            (Class::Request, M::Ping) => Body::Ping,
            (Class::Success, M::Ping) => Body::Pong,
            (Class::Indication, M::Relay) => Body::Relay(self.relay()?),
            (Class::Request, M::Forge) => Body::Forge(self.forge()?),
            (Class::Success, M::Forge) => Body::Forging,
            (Class::Indication, M::Forge) => Body::Forged(self.forged()?),
            (Class::Request, M::Probe) => Body::Probe(self.address(PEER_ADDRESS)?),
            (Class::Success, M::Probe) => Body::Probing,
            (Class::Indication, M::Probe) => Body::Probed,
            (Class::Indication, M::Outcome) => Body::Outcome(Outcome {
                session: self.session()?,
                outcomes: self.required(OUTCOMES, outcome::outcomes)?,
            }),
            (Class::Indication, M::Errand) => Body::Errand(self.errand()?),
            (Class::Error, method) => Body::Refused(self.refused(method)?),
            (Class::Request | Class::Success, M::Relay | M::Outcome | M::Sealed | M::Errand)
            | (Class::Indication, _) => {
                return Ok(None);
            }
        }))
    }

    fn any_register(&self) -> Result<Body, Malformed> {
        if let Some(value) = self.optional(HANDSHAKE, bounded)? {
            let (hint, noise) = value.split_first_chunk().ok_or(Malformed)?;
            return Ok(Body::Secure(Secure { hint: *hint, noise: noise.to_vec() }));
        }
        if self.view.raw_attribute(CERTIFICATE).is_none()
            && self.view.raw_attribute(AttributeType::PADDING).is_some()
        {
            return Ok(Body::Hello);
        }
        Ok(Body::Register(self.register()?))
    }

    fn identity(&self) -> Result<Option<PublicKey>, Malformed> {
        Ok(self.optional(IDENTITY, fixed)?.map(PublicKey))
    }

    fn bare(&self) -> Result<bool, Malformed> {
        Ok(self.optional(BARE, small)? == Some(1))
    }

    fn register(&self) -> Result<Register, Malformed> {
        let bits = self.optional(CONSENT, small)?.unwrap_or(0);
        Ok(Register {
            name: self.optional(NAME, name)?,
            candidates: self.candidates()?,
            nat: self.nat()?,
            fingerprint: Fingerprint(self.required(CERTIFICATE, fixed)?),
            lease: self.required(LEASE, millis)?,
            rtt: self.optional(ROUND_TRIP_TIME, micros)?,
            consents: bits & 1 != 0,
            offers_to_forge: bits & 2 != 0,
            bare: self.bare()?,
            account: self.optional(ACCOUNT, account)?,
            meant_for: self.identity()?,
        })
    }

    fn registered(&self) -> Result<Registered, Malformed> {
        Ok(Registered {
            registration: RegistrationId(self.required(REGISTRATION, fixed)?),
            key: RegistrationKey(self.required(REGISTRATION_KEY, fixed)?),
            observed: self.observed()?,
            lease: self.required(LEASE, millis)?,
            capabilities: self.capabilities()?,
            identity: self.identity()?,
        })
    }

    fn capabilities(&self) -> Result<Option<Capabilities>, Malformed> {
        Ok(self.optional(CAPABILITIES, fixed)?.map(Capabilities::from_bytes))
    }

    fn refresh(&self) -> Result<Refresh, Malformed> {
        let candidates = self.view.raw_attribute(CANDIDATES).is_some();
        Ok(Refresh {
            lease: self.required(LEASE, millis)?,
            candidates: if candidates { Some(self.candidates()?) } else { None },
            nat: self.optional(NAT_SUMMARY, fixed)?.map(NatSummary::from_bytes),
            rtt: self.optional(ROUND_TRIP_TIME, micros)?,
        })
    }

    fn connect(&self) -> Result<Connect, Malformed> {
        Ok(Connect {
            callee: self.required(NAME, name)?,
            transport: self.required(TRANSPORTS, transports)?,
            round: self.round()?,
            candidates: self.candidates()?,
            nat: self.nat()?,
            fingerprint: Fingerprint(self.required(CERTIFICATE, fixed)?),
            rtt: self.optional(ROUND_TRIP_TIME, micros)?,
            wait: self.required(WAIT, millis)?,
            bare: self.bare()?,
        })
    }

    fn punch(&self) -> Result<Punch, Malformed> {
        Ok(Punch {
            session: self.session()?,
            secret: SessionSecret(self.required(SESSION_SECRET, fixed)?),
            role: self.required(ROLE, role)?,
            round: self.round()?,
            transport: self.required(TRANSPORTS, transports)?,
            peer: self.optional(NAME, name)?,
            candidates: self.candidates()?,
            nat: self.nat()?,
            fingerprint: Fingerprint(self.required(CERTIFICATE, fixed)?),
            identity: self.identity()?,
            start_after: self.required(START_AFTER, micros)?,
            peer_rtt: self.optional(PEER_ROUND_TRIP_TIME, micros)?,
            bare: self.bare()?,
            hints: self.hints()?,
        })
    }

    fn hints(&self) -> Result<Vec<Hint>, Malformed> {
        Ok(self.optional(HINTS, outcome::hints)?.unwrap_or_default())
    }

    fn gather(&self) -> Result<Gather, Malformed> {
        Ok(Gather {
            session: self.session()?,
            round: self.round()?,
            transport: self.required(TRANSPORTS, transports)?,
            caller: self.optional(NAME, name)?,
        })
    }

    fn callee_answer(&self) -> Result<CalleeAnswer, Malformed> {
        let result = match self.optional(AttributeType::ERROR_CODE, error_code)? {
            Some(code) => Err(code),
            None => Ok(self.candidates()?),
        };
        Ok(CalleeAnswer { session: self.session()?, result })
    }

    fn relay(&self) -> Result<Relay, Malformed> {
        let [s0, s1, h0, h1, wants_answer, _, _, _] = self.required(NEWS, fixed)?;
        Ok(Relay {
            session: self.session()?,
            serial: u16::from_be_bytes([s0, s1]),
            heard: u16::from_be_bytes([h0, h1]),
            wants_answer: match wants_answer {
                0 => false,
                1 => true,
                _ => return Err(Malformed),
            },
            candidates: self.candidates()?,
            note: self
                .required(NOTE, |value| Note::new(value).ok_or(Problem::Length(value.len())))?,
        })
    }

    fn forge(&self) -> Result<Forge, Malformed> {
        let session = self.session()?;
        let syn = self.optional(SYN, |value| Syn::from_bytes(fixed(value)?))?;
        let handshake = match syn {
            Some(syn) => Some(Handshake { remote: self.address(PEER_ADDRESS)?, syn }),
            None => None,
        };
        Ok(Forge { session, handshake })
    }

    fn forged(&self) -> Result<Forged, Malformed> {
        let code = self.optional(AttributeType::ERROR_CODE, error_code)?;
        Ok(Forged { session: self.session()?, result: code.map_or(Ok(()), Err) })
    }

    fn errand(&self) -> Result<Errand, Malformed> {
        let syn = |value: &[u8]| Syn::from_bytes(fixed(value)?);
        let packet = match self.optional(DATAGRAM, datagram)? {
            Some(payload) => Packet::Datagram(payload),
            None => Packet::SynAck {
                syn: self.required(SYN, syn)?,
                answered: self.required(ANSWERED_SYN, syn)?,
            },
        };
        Ok(Errand {
            serial: u32::from_be_bytes(self.required(ERRAND, fixed)?),
            source: self.address(SOURCE_ADDRESS)?,
            destination: self.address(PEER_ADDRESS)?,
            packet,
        })
    }

    fn refused(&self, method: SignalMethod) -> Result<Refused, Malformed> {
        let unknown = self.view.attribute::<UnknownAttributes>().map_err(|_| Malformed)?;
        Ok(Refused {
            method,
            code: self.required(AttributeType::ERROR_CODE, error_code)?,
            unknown: unknown.map(|it| it.as_slice().to_vec()).unwrap_or_default(),
            version: self.optional(VERSION, small)?,
            identity: self.identity()?,
            access: self.optional(REFUSAL, fixed)?.and_then(AccessDenied::from_bytes),
        })
    }

    fn session(&self) -> Result<SessionId, Malformed> {
        Ok(SessionId(self.required(SESSION, fixed)?))
    }

    fn round(&self) -> Result<Round, Malformed> {
        self.required(ROUND, values::round)
    }

    /// An absent summary is one in which nothing was measured.
    fn nat(&self) -> Result<NatSummary, Malformed> {
        let bytes = self.optional(NAT_SUMMARY, fixed::<{ nat_summary::ENCODED_LENGTH }>)?;
        Ok(bytes.map(NatSummary::from_bytes).unwrap_or_default())
    }

    fn candidates(&self) -> Result<Vec<Candidate>, Malformed> {
        let transaction = self.view.transaction_id();
        self.required(CANDIDATES, |value| values::candidates(value, transaction))
    }

    fn observed(&self) -> Result<SocketAddr, Malformed> {
        self.address(AttributeType::XOR_MAPPED_ADDRESS)
    }

    /// An address in the XOR form (RFC 8489 section 14.2).
    fn address(&self, attribute: AttributeType) -> Result<SocketAddr, Malformed> {
        let transaction = self.view.transaction_id();
        self.required(attribute, |value| address::decode_xor(value, transaction))
    }

    fn required<T>(
        &self,
        attribute: AttributeType,
        read: impl FnOnce(&[u8]) -> Result<T, Problem>,
    ) -> Result<T, Malformed> {
        self.optional(attribute, read)?.ok_or(Malformed)
    }

    fn optional<T>(
        &self,
        attribute: AttributeType,
        read: impl FnOnce(&[u8]) -> Result<T, Problem>,
    ) -> Result<Option<T>, Malformed> {
        Ok(self.view.raw_attribute(attribute).map(read).transpose()?)
    }
}

/// A message of a handshake, and the eight bytes before it.
fn bounded(value: &[u8]) -> Result<Vec<u8>, Problem> {
    let fits = value.len() <= message::MAX_HANDSHAKE_BYTES + 8;
    if fits { Ok(value.to_vec()) } else { Err(Problem::Length(value.len())) }
}

fn datagram(value: &[u8]) -> Result<Vec<u8>, Problem> {
    let fits = (1..=MAX_DATAGRAM_BYTES).contains(&value.len());
    fits.then(|| value.to_vec()).ok_or(Problem::Length(value.len()))
}

fn name(value: &[u8]) -> Result<PeerName, Problem> {
    let text = std::str::from_utf8(value).map_err(|_| Problem::Utf8)?;
    text.parse().map_err(|_| Problem::Length(value.len()))
}

fn account(value: &[u8]) -> Result<AccountName, Problem> {
    let text = std::str::from_utf8(value).map_err(|_| Problem::Utf8)?;
    text.parse().map_err(|_| Problem::Length(value.len()))
}

fn error_code(value: &[u8]) -> Result<ErrorCode, Problem> {
    let code = StunErrorCode::decode(value, ntcp_stun::TransactionId::new([0; 12]));
    Ok(ErrorCode::from_number(code.map_err(|error| error.problem)?.code()))
}
