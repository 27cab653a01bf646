//! The messages as values. [`codec`](super::codec) turns them into bytes and back.

use std::net::SocketAddr;
use std::time::Duration;

use ntcp_stun::{AttributeType, Class, TransactionId};

use super::{
    Capabilities, Errand, ErrorCode, Fingerprint, Handshake, NatSummary, Punch, RegistrationId,
    RegistrationKey, Round, SessionId, SignalMethod, StrategyOutcome,
};
use crate::access::{AccessDenied, AccountName};
use crate::candidate::Candidate;
use crate::secrecy::PublicKey;
use crate::uri::{PeerName, TransportChoice};

/// The version of this protocol.
pub const VERSION: u8 = 1;

/// Longest NONCE in bytes; ours has 40, another broker's may differ.
pub const MAX_NONCE_BYTES: usize = 64;

/// Longest [`Note`] in bytes.
pub const MAX_NOTE_BYTES: usize = 512;

/// One message: what every message may carry, and the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Pairs a response with its request.
    pub transaction: TransactionId,
    /// Which sending of the request this is, or answers; it makes round-trip times unambiguous.
    pub transmit: Option<TransmitCount>,
    /// Who asks; in requests to the broker other than Register.
    pub registration: Option<RegistrationId>,
    /// The broker's proof that the sender receives at its address.
    pub nonce: Option<Nonce>,
    /// What the message says.
    pub body: Body,
}

impl Message {
    /// A message with this body and none of the optional parts.
    pub fn new(transaction: TransactionId, body: Body) -> Self {
        Self { transaction, transmit: None, registration: None, nonce: None, body }
    }

    /// The answer to this message with `body`, which repeats what answers repeat.
    pub fn answer(&self, body: Body) -> Self {
        let transmit = self.transmit.map(|it| TransmitCount { response: 1, ..it });
        Self { transaction: self.transaction, transmit, registration: None, nonce: None, body }
    }

    /// The same with `nonce`.
    pub fn with_nonce(self, nonce: Nonce) -> Self {
        Self { nonce: Some(nonce), ..self }
    }
}

/// TRANSACTION-TRANSMIT-COUNTER (RFC 7982 section 3): the number of this request among its
/// retransmissions, and that of the response to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransmitCount {
    /// 1 for the first sending of a request; a response repeats it.
    pub request: u8,
    /// 0 in a request, 1 for the first response.
    pub response: u8,
}

/// What proves the return path; opaque to a client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(Vec<u8>);

impl Nonce {
    /// A nonce of at most [`MAX_NONCE_BYTES`]; `None` for a longer or an empty one.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=MAX_NONCE_BYTES).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Register request that only asks for a NONCE and the broker's key.
    Hello,
    /// Register request with a handshake, which has a Register inside.
    Secure(Secure),
    /// Register success with the other half of the handshake, which has the answer inside.
    Secured(Vec<u8>),
    /// Register request, in the clear or inside a handshake.
    Register(Register),
    /// Register success, likewise.
    Registered(Registered),
    /// Refresh request.
    Refresh(Refresh),
    /// Refresh success.
    Refreshed(Refreshed),
    /// Unregister request.
    Unregister,
    /// Unregister success.
    Unregistered,
    /// Unregister indication: the broker stops and lets the peer go.
    Dismissed,
    /// Lookup request.
    Lookup(PeerName),
    /// Lookup success.
    Found(Found),
    /// Connect request.
    Connect(Connect),
    /// Connect success: the caller's order.
    Connected(Punch),
    /// Invite request of the first round: the callee's order.
    Invite(Punch),
    /// Invite request of a later round: gather first.
    Gather(Gather),
    /// Invite success: the callee's answer.
    Answer(Answer),
    /// Invite indication: what became of the invitation.
    CalleeAnswer(CalleeAnswer),
    /// Punch request: the callee's order after it gathered.
    Punch(Punch),
    /// Punch success.
    Punching,
    /// Ping request.
    Ping,
    /// Ping success.
    Pong,
    /// Relay indication: from a peer to the broker, and from the broker to the other peer.
    Relay(Relay),
    /// Forge request: a peer's half of a handshake, on a stream from the port of its SYN.
    Forge(Forge),
    /// Forge success: it is known now.
    Forging,
    /// Forge indication: what became of it.
    Forged(Forged),
    /// Probe request: the receiver is to open its NAT for this address of a peer that agreed.
    Probe(SocketAddr),
    /// Probe success: it has.
    Probing,
    /// Probe indication with a NONCE: forged, from the broker in the name of that peer; and from
    /// the receiver to the broker, which shows that it arrived.
    Probed,
    /// Outcome indication: from a peer to the broker.
    Outcome(Outcome),
    /// Errand indication: from the broker to a peer that offered to forge.
    Errand(Errand),
    /// Error response to a request of any method.
    Refused(Refused),
}

impl Body {
    /// The class and method that a message with this body has.
    pub fn kind(&self) -> (Class, SignalMethod) {
        match self {
            Self::Hello | Self::Secure(_) | Self::Register(_) => {
                (Class::Request, SignalMethod::Register)
            }
            Self::Secured(_) | Self::Registered(_) => (Class::Success, SignalMethod::Register),
            Self::Refresh(_) => (Class::Request, SignalMethod::Refresh),
            Self::Refreshed(_) => (Class::Success, SignalMethod::Refresh),
            Self::Unregister => (Class::Request, SignalMethod::Unregister),
            Self::Unregistered => (Class::Success, SignalMethod::Unregister),
            Self::Dismissed => (Class::Indication, SignalMethod::Unregister),
            Self::Lookup(_) => (Class::Request, SignalMethod::Lookup),
            Self::Found(_) => (Class::Success, SignalMethod::Lookup),
            Self::Connect(_) => (Class::Request, SignalMethod::Connect),
            Self::Connected(_) => (Class::Success, SignalMethod::Connect),
            Self::Invite(_) | Self::Gather(_) => (Class::Request, SignalMethod::Invite),
            Self::Answer(_) => (Class::Success, SignalMethod::Invite),
            Self::CalleeAnswer(_) => (Class::Indication, SignalMethod::Invite),
            Self::Punch(_) => (Class::Request, SignalMethod::Punch),
            Self::Punching => (Class::Success, SignalMethod::Punch),
            Self::Ping => (Class::Request, SignalMethod::Ping),
            Self::Pong => (Class::Success, SignalMethod::Ping),
            Self::Relay(_) => (Class::Indication, SignalMethod::Relay),
            Self::Forge(_) => (Class::Request, SignalMethod::Forge),
            Self::Forging => (Class::Success, SignalMethod::Forge),
            Self::Forged(_) => (Class::Indication, SignalMethod::Forge),
            Self::Probe(_) => (Class::Request, SignalMethod::Probe),
            Self::Probing => (Class::Success, SignalMethod::Probe),
            Self::Probed => (Class::Indication, SignalMethod::Probe),
            Self::Outcome(_) => (Class::Indication, SignalMethod::Outcome),
            Self::Errand(_) => (Class::Indication, SignalMethod::Errand),
            Self::Refused(refused) => (Class::Error, refused.method),
        }
    }
}

/// Longest message of a handshake in bytes: the longest Register and what Noise adds.
pub const MAX_HANDSHAKE_BYTES: usize = 1024;

/// "Here is who I am, for the owner of that key only."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secure {
    /// Which of the broker's keys it is meant for: [`PublicKey::hint`].
    pub hint: [u8; 8],
    /// The first message of the handshake, at most [`MAX_HANDSHAKE_BYTES`].
    pub noise: Vec<u8>,
}

/// "Know me by this name, at these addresses."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// The name; `None` for a caller whom nobody calls.
    pub name: Option<PeerName>,
    /// Where the peer may be reached.
    pub candidates: Vec<Candidate>,
    /// What its NAT does.
    pub nat: NatSummary,
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// How long it wants to be remembered.
    pub lease: Duration,
    /// Its round-trip time to the broker, once measured.
    pub rtt: Option<Duration>,
    /// Whether the broker may test with this peer what its network lets out: one datagram to it in
    /// another consenting peer's name, and the reverse.
    pub consents: bool,
    /// Whether its TCP paths are to be the kernel's bare socket.
    pub bare: bool,
    /// Whether the broker may have this peer send packets in others' names, where those agreed.
    pub offers_to_forge: bool,
    /// The account or the token that lets it in, whose key signs the message.
    pub account: Option<AccountName>,
    /// The key of the broker that it is meant for, with an account inside a handshake: nobody who was taken for that broker can
    /// pass it on.
    pub meant_for: Option<PublicKey>,
}

/// "You are known."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Names the registration in later requests.
    pub registration: RegistrationId,
    /// Signs later messages in both directions.
    pub key: RegistrationKey,
    /// What the broker sees as the peer's address.
    pub observed: SocketAddr,
    /// How long the peer is remembered.
    pub lease: Duration,
    /// What the broker can do, if it says.
    pub capabilities: Option<Capabilities>,
    /// The broker's newest key, to be used from the next registration on.
    pub identity: Option<PublicKey>,
}

/// "I am still here", and what changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    /// How long the peer wants to be remembered from now on.
    pub lease: Duration,
    /// Replaces the candidates, also by none.
    pub candidates: Option<Vec<Candidate>>,
    /// Replaces the summary.
    pub nat: Option<NatSummary>,
    /// The round-trip time to the broker, as measured last.
    pub rtt: Option<Duration>,
}

/// "Good."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refreshed {
    /// What the broker sees as the peer's address.
    pub observed: SocketAddr,
    /// How long the peer is remembered from now on.
    pub lease: Duration,
    /// What the broker can do, if it says.
    pub capabilities: Option<Capabilities>,
}

/// "That peer is here."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// What its NAT does.
    pub nat: NatSummary,
    /// Its key; `None` for one that registered in the clear.
    pub identity: Option<PublicKey>,
}

/// "Bring me together with that peer."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Whom to call.
    pub callee: PeerName,
    /// Which transports to use.
    pub transport: TransportChoice,
    /// The round.
    pub round: Round,
    /// Where the caller may be reached for this call.
    pub candidates: Vec<Candidate>,
    /// What the caller's NAT does.
    pub nat: NatSummary,
    /// The caller's certificate.
    pub fingerprint: Fingerprint,
    /// The caller's round-trip time to the broker.
    pub rtt: Option<Duration>,
    /// How long to wait for a callee that is not registered yet.
    pub wait: Duration,
    /// Whether the caller's TCP paths are to be the kernel's bare socket.
    pub bare: bool,
}

/// "Somebody calls you and wants fresh candidates."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gather {
    /// Names the meeting.
    pub session: SessionId,
    /// The round.
    pub round: Round,
    /// Which transports the caller wants.
    pub transport: TransportChoice,
    /// Who calls; `None` for a caller without a name.
    pub caller: Option<PeerName>,
}

/// The callee accepts an invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The meeting.
    pub session: SessionId,
    /// The fresh candidates, or what the callee adds to the registered ones.
    pub candidates: Vec<Candidate>,
}

/// What the broker tells the caller about the callee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalleeAnswer {
    /// The meeting.
    pub session: SessionId,
    /// The callee's additional candidates, or why it will not punch.
    pub result: Result<Vec<Candidate>, ErrorCode>,
}

/// What one peer of a meeting has to tell the other one at this moment. The last one counts: it
/// replaces all earlier ones, so that losing some does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// The meeting.
    pub session: SessionId,
    /// Counts what the sender had to tell, from 1; 0 before it had anything.
    pub serial: u16,
    /// The last serial that the sender has heard from the other peer.
    pub heard: u16,
    /// Whether the sender has not been told yet that its `serial` was heard.
    pub wants_answer: bool,
    /// Where the sender may be reached, as far as it has learned since it was introduced.
    pub candidates: Vec<Candidate>,
    /// Anything else; the broker does not look into it.
    pub note: Note,
}

/// What two peers tell each other past the broker's understanding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note(Vec<u8>);

impl Note {
    /// A note of at most [`MAX_NOTE_BYTES`]; `None` for a longer one.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= MAX_NOTE_BYTES).then(|| Self(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// "Answer my SYN in the peer's name."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forge {
    /// The meeting.
    pub session: SessionId,
    /// This side's half; `None` only asks for the NONCE that the half will need.
    pub handshake: Option<Handshake>,
}

/// What became of a forgery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forged {
    /// The meeting.
    pub session: SessionId,
    /// The SYN-ACKs have left, or why they will not.
    pub result: Result<(), ErrorCode>,
}

/// How the strategies of a meeting fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The meeting.
    pub session: SessionId,
    /// Each that was tried, once.
    pub outcomes: Vec<StrategyOutcome>,
}

/// A request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Of which method the request was.
    pub method: SignalMethod,
    /// Why.
    pub code: ErrorCode,
    /// With [`ErrorCode::UnknownAttribute`]: which.
    pub unknown: Vec<AttributeType>,
    /// With [`ErrorCode::UnsupportedVersion`]: the version the sender speaks.
    pub version: Option<u8>,
    /// To a [`Body::Hello`] or [`Body::Secure`]: the broker's key.
    pub identity: Option<PublicKey>,
    /// By a broker that is closed to outsiders: what is wrong with what it was shown.
    pub access: Option<AccessDenied>,
}

impl Refused {
    /// A refusal without further details.
    pub fn new(method: SignalMethod, code: ErrorCode) -> Self {
        Self { method, code, unknown: Vec::new(), version: None, identity: None, access: None }
    }
}
