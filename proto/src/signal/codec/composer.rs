//! From a message to attributes.

use std::net::SocketAddr;

use ntcp_stun::attribute::{ErrorCode as StunErrorCode, UnknownAttributes};
use ntcp_stun::{AttributeType, Class, Key, TransactionId, WriteError, Writer};

use crate::access::{AccessDenied, AccountName};
use crate::candidate::Candidate;
use crate::secrecy::PublicKey;
use crate::signal::attribute::{
    ACCOUNT, ANSWERED_SYN, BARE, CANDIDATES, CAPABILITIES, CERTIFICATE, CONSENT, DATAGRAM, ERRAND,
    HANDSHAKE, HINTS, IDENTITY, LEASE, NAME, NAT_SUMMARY, NEWS, NOTE, OUTCOMES, PEER_ADDRESS,
    PEER_ROUND_TRIP_TIME, REFUSAL, REGISTRATION, REGISTRATION_KEY, ROLE, ROUND, ROUND_TRIP_TIME,
    SESSION, SESSION_SECRET, SOURCE_ADDRESS, START_AFTER, SYN, TRANSACTION_TRANSMIT_COUNTER,
    TRANSPORTS, VERSION, WAIT, candidates_bytes, micros_bytes, millis_bytes, role_bytes,
    small_bytes, transports_bytes, xor_address_bytes,
};
use crate::signal::message::{
    self, Answer, Body, CalleeAnswer, Connect, Forge, Forged, Found, Gather, Message, Nonce,
    Outcome, Refresh, Refreshed, Refused, Register, Registered, Relay, Secure, TransmitCount,
};
use crate::signal::outcome::{hints_bytes, outcomes_bytes};
use crate::signal::{Capabilities, Errand, ErrorCode, NatSummary, Packet, Punch, RegistrationKey};

/// Makes a Hello longer than what it provokes, the longest NONCE included: nobody answers somebody
/// who may have forged its address with more than came.
const HELLO_PADDING: [u8; 104] = [0; 104];

/// Writes attributes.
pub(super) struct Composer<'b> {
    writer: Writer<'b>,
    transaction: TransactionId,
}

impl<'b> Composer<'b> {
    /// Writes the whole message and returns its length.
    pub(super) fn write(
        message: &Message,
        key: Option<&RegistrationKey>,
        buffer: &'b mut [u8],
    ) -> Result<usize, WriteError> {
        let (class, method) = message.body.kind();
        let transaction = message.transaction;
        let writer = Writer::new(buffer, class, method.to_stun(), transaction)?;
        let mut composer = Self { writer, transaction };
        if matches!(class, Class::Request | Class::Indication) {
            composer.put(VERSION, &small_bytes(message::VERSION))?;
        }
        if let Some(TransmitCount { request, response }) = message.transmit {
            composer.put(TRANSACTION_TRANSMIT_COUNTER, &[0, 0, request, response])?;
        }
        composer.put_some(REGISTRATION, message.registration.map(|it| it.0))?;
        composer.put_some(AttributeType::NONCE, message.nonce.as_ref().map(Nonce::as_bytes))?;
        composer.body(&message.body)?;
        let mut writer = composer.writer;
        if let Some(key) = key {
            writer.integrity_sha256(&Key::short_term(&key.0))?;
        }
        writer.fingerprint()?;
        Ok(writer.finish())
    }

    fn put(&mut self, attribute: AttributeType, value: &[u8]) -> Result<(), WriteError> {
        self.writer.raw_attribute(attribute, value)
    }

    fn put_some(
        &mut self,
        attribute: AttributeType,
        value: Option<impl AsRef<[u8]>>,
    ) -> Result<(), WriteError> {
        value.map_or(Ok(()), |value| self.put(attribute, value.as_ref()))
    }

    fn body(&mut self, body: &Body) -> Result<(), WriteError> {
        match body {
            Body::Hello => self.put(AttributeType::PADDING, &HELLO_PADDING),
            Body::Secure(Secure { hint, noise }) => {
                self.put(HANDSHAKE, &[&hint[..], noise].concat())
            }
            Body::Secured(noise) => self.put(HANDSHAKE, noise),
            Body::Register(register) => self.register(register),
            Body::Registered(registered) => self.registered(registered),
            Body::Refresh(refresh) => self.refresh(refresh),
            Body::Refreshed(Refreshed { observed, lease, capabilities }) => {
                self.observed(*observed)?;
                self.put(LEASE, &millis_bytes(*lease))?;
                self.capabilities(*capabilities)
            }
            Body::Lookup(name) => self.put(NAME, name.as_str().as_bytes()),
            Body::Found(Found { fingerprint, nat, identity }) => {
                self.put(CERTIFICATE, &fingerprint.0)?;
                self.put(NAT_SUMMARY, &nat.to_bytes())?;
                self.identity(*identity)
            }
            Body::Connect(connect) => self.connect(connect),
            Body::Connected(punch) | Body::Invite(punch) | Body::Punch(punch) => self.punch(punch),
            Body::Gather(gather) => self.gather(gather),
            Body::Answer(Answer { session, candidates }) => {
                self.put(SESSION, &session.0)?;
                self.candidates(candidates)
            }
            Body::CalleeAnswer(CalleeAnswer { session, result }) => {
                self.put(SESSION, &session.0)?;
                match result {
                    Ok(candidates) => self.candidates(candidates),
                    Err(code) => self.error_code(*code),
                }
            }
            Body::Relay(relay) => self.relay(relay),
            Body::Forge(forge) => self.forge(forge),
            Body::Forged(Forged { session, result }) => {
                self.put(SESSION, &session.0)?;
                result.map_or_else(|code| self.error_code(code), Ok)
            }
            Body::Probe(peer) => self.address(PEER_ADDRESS, *peer),
            Body::Outcome(Outcome { session, outcomes }) => {
                self.put(SESSION, &session.0)?;
                self.put(OUTCOMES, &outcomes_bytes(outcomes))
            }
            Body::Errand(errand) => self.errand(errand),
            Body::Refused(refused) => self.refused(refused),
            Body::Unregister
            | Body::Unregistered
            | Body::Dismissed
            | Body::Punching
            | Body::Ping
            | Body::Pong
            | Body::Forging
            | Body::Probing
            | Body::Probed => Ok(()),
        }
    }

    fn register(&mut self, register: &Register) -> Result<(), WriteError> {
        let Register {
            name,
            candidates,
            nat,
            fingerprint,
            lease,
            rtt,
            consents,
            offers_to_forge,
            bare,
            account,
            meant_for,
        } = register;
        self.put_some(NAME, name.as_ref().map(crate::uri::PeerName::as_str))?;
        self.put(CERTIFICATE, &fingerprint.0)?;
        self.put(LEASE, &millis_bytes(*lease))?;
        self.candidates(candidates)?;
        self.put(NAT_SUMMARY, &nat.to_bytes())?;
        self.put_some(ROUND_TRIP_TIME, rtt.map(micros_bytes))?;
        let bits = u8::from(*consents) | u8::from(*offers_to_forge) << 1;
        self.put_some(CONSENT, (bits != 0).then_some(small_bytes(bits)))?;
        self.bare(*bare)?;
        self.put_some(ACCOUNT, account.as_ref().map(AccountName::as_str))?;
        self.identity(*meant_for)
    }

    fn bare(&mut self, bare: bool) -> Result<(), WriteError> {
        self.put_some(BARE, bare.then_some(small_bytes(1)))
    }

    fn registered(&mut self, registered: &Registered) -> Result<(), WriteError> {
        let Registered { registration, key, observed, lease, capabilities, identity } = registered;
        self.put(REGISTRATION, &registration.0)?;
        self.put(REGISTRATION_KEY, &key.0)?;
        self.observed(*observed)?;
        self.put(LEASE, &millis_bytes(*lease))?;
        self.capabilities(*capabilities)?;
        self.identity(*identity)
    }

    fn identity(&mut self, identity: Option<PublicKey>) -> Result<(), WriteError> {
        self.put_some(IDENTITY, identity.map(|it| it.0))
    }

    fn capabilities(&mut self, capabilities: Option<Capabilities>) -> Result<(), WriteError> {
        self.put_some(CAPABILITIES, capabilities.map(Capabilities::to_bytes))
    }

    fn refresh(&mut self, refresh: &Refresh) -> Result<(), WriteError> {
        let Refresh { lease, candidates, nat, rtt } = refresh;
        self.put(LEASE, &millis_bytes(*lease))?;
        if let Some(candidates) = candidates {
            self.candidates(candidates)?;
        }
        self.put_some(NAT_SUMMARY, nat.map(NatSummary::to_bytes))?;
        self.put_some(ROUND_TRIP_TIME, rtt.map(micros_bytes))
    }

    fn connect(&mut self, connect: &Connect) -> Result<(), WriteError> {
        let Connect { callee, transport, round, candidates, nat, fingerprint, rtt, wait, bare } =
            connect;
        self.put(NAME, callee.as_str().as_bytes())?;
        self.put(TRANSPORTS, &transports_bytes(*transport))?;
        self.put(ROUND, &small_bytes(round.0))?;
        self.put(CERTIFICATE, &fingerprint.0)?;
        self.put(WAIT, &millis_bytes(*wait))?;
        self.candidates(candidates)?;
        self.put(NAT_SUMMARY, &nat.to_bytes())?;
        self.put_some(ROUND_TRIP_TIME, rtt.map(micros_bytes))?;
        self.bare(*bare)
    }

    fn punch(&mut self, punch: &Punch) -> Result<(), WriteError> {
        self.put(SESSION, &punch.session.0)?;
        self.put(SESSION_SECRET, &punch.secret.0)?;
        self.put(ROLE, &role_bytes(punch.role))?;
        self.put(ROUND, &small_bytes(punch.round.0))?;
        self.put(TRANSPORTS, &transports_bytes(punch.transport))?;
        self.put_some(NAME, punch.peer.as_ref().map(crate::uri::PeerName::as_str))?;
        self.put(CERTIFICATE, &punch.fingerprint.0)?;
        self.identity(punch.identity)?;
        self.put(START_AFTER, &micros_bytes(punch.start_after))?;
        self.candidates(&punch.candidates)?;
        self.put(NAT_SUMMARY, &punch.nat.to_bytes())?;
        self.put_some(PEER_ROUND_TRIP_TIME, punch.peer_rtt.map(micros_bytes))?;
        self.bare(punch.bare)?;
        let hints = Some(hints_bytes(&punch.hints)).filter(|value| !value.is_empty());
        self.put_some(HINTS, hints)
    }

    fn gather(&mut self, gather: &Gather) -> Result<(), WriteError> {
        let Gather { session, round, transport, caller } = gather;
        self.put(SESSION, &session.0)?;
        self.put(ROUND, &small_bytes(round.0))?;
        self.put(TRANSPORTS, &transports_bytes(*transport))?;
        self.put_some(NAME, caller.as_ref().map(crate::uri::PeerName::as_str))
    }

    fn relay(&mut self, relay: &Relay) -> Result<(), WriteError> {
        let Relay { session, serial, heard, wants_answer, candidates, note } = relay;
        let ([s0, s1], [h0, h1]) = (serial.to_be_bytes(), heard.to_be_bytes());
        self.put(SESSION, &session.0)?;
        self.put(NEWS, &[s0, s1, h0, h1, u8::from(*wants_answer), 0, 0, 0])?;
        self.candidates(candidates)?;
        self.put(NOTE, note.as_bytes())
    }

    fn forge(&mut self, forge: &Forge) -> Result<(), WriteError> {
        self.put(SESSION, &forge.session.0)?;
        let Some(handshake) = forge.handshake else { return Ok(()) };
        self.address(PEER_ADDRESS, handshake.remote)?;
        self.put(SYN, &handshake.syn.to_bytes())
    }

    fn errand(&mut self, errand: &Errand) -> Result<(), WriteError> {
        self.put(ERRAND, &errand.serial.to_be_bytes())?;
        self.address(SOURCE_ADDRESS, errand.source)?;
        self.address(PEER_ADDRESS, errand.destination)?;
        match &errand.packet {
            Packet::SynAck { syn, answered } => {
                self.put(SYN, &syn.to_bytes())?;
                self.put(ANSWERED_SYN, &answered.to_bytes())
            }
            Packet::Datagram(payload) => self.put(DATAGRAM, payload),
        }
    }

    fn refused(&mut self, refused: &Refused) -> Result<(), WriteError> {
        self.error_code(refused.code)?;
        if !refused.unknown.is_empty() {
            self.writer
                .attribute(&refused.unknown.iter().copied().collect::<UnknownAttributes>())?;
        }
        self.put_some(VERSION, refused.version.map(small_bytes))?;
        self.identity(refused.identity)?;
        self.put_some(REFUSAL, refused.access.map(AccessDenied::to_bytes))
    }

    /// ERROR-CODE (RFC 8489 section 14.8) without a reason phrase: the number says it all, and an
    /// answer shall not be longer than what provoked it.
    fn error_code(&mut self, code: ErrorCode) -> Result<(), WriteError> {
        let code = StunErrorCode::new(code.number(), "").unwrap_or(StunErrorCode::SERVER_ERROR);
        self.writer.attribute(&code)
    }

    fn candidates(&mut self, candidates: &[Candidate]) -> Result<(), WriteError> {
        self.put(CANDIDATES, &candidates_bytes(candidates, self.transaction))
    }

    fn observed(&mut self, observed: SocketAddr) -> Result<(), WriteError> {
        self.address(AttributeType::XOR_MAPPED_ADDRESS, observed)
    }

    /// An address in the XOR form (RFC 8489 section 14.2).
    fn address(&mut self, attribute: AttributeType, address: SocketAddr) -> Result<(), WriteError> {
        self.put(attribute, &xor_address_bytes(address, self.transaction))
    }
}
