//! One message of every kind, with fixed contents.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ntcp_proto::access::{AccessDenied, AccountName, Credentials};
use ntcp_proto::candidate::{Candidate, CandidateKind, Transport};
use ntcp_proto::entropy::Seed;
use ntcp_proto::nat::{Filtering, Mapping, PortAllocation};
use ntcp_proto::puncher::report::Strategy;
use ntcp_proto::secrecy::{Channel, Initiation, PublicKey, Reception, SecretKey};
use ntcp_proto::segment::{Options, Timestamps};
use ntcp_proto::signal::envelope::Envelope;
use ntcp_proto::signal::message::{
    Answer, Body, CalleeAnswer, Connect, Forge, Forged, Found, Gather, Message, Nonce, Note,
    Outcome, Refresh, Refreshed, Refused, Register, Registered, Relay, Secure, TransmitCount,
};
use ntcp_proto::signal::{
    Capabilities, Errand, ErrorCode, Fingerprint, Handshake, Hint, NatSummary, Packet, Punch,
    RegistrationId, RegistrationKey, Role, Round, SessionId, SessionSecret, SignalMethod, Spoofing,
    StrategyOutcome, Syn, UdpSummary,
};
use ntcp_proto::uri::{PeerName, TransportChoice};
use ntcp_stun::{AttributeType, TransactionId};

/// The key of the peer in the samples: the bytes 0x40 to 0x5f.
pub(crate) fn key() -> RegistrationKey {
    RegistrationKey(counting(0x40))
}

/// A message, its name in the document, and what signs it: mostly [`key`].
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) message: Message,
    pub(crate) signed_with: Option<RegistrationKey>,
    /// Whether it goes in an envelope, the first of its direction.
    pub(crate) is_sealed: bool,
}

impl Sample {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let bytes = self.message.emit(self.signed_with.as_ref());
        if !self.is_sealed {
            return bytes;
        }
        let (mut channel, _) = channel();
        let registration = RegistrationId(counting(0x30));
        Envelope::seal(&mut channel, registration, self.message.transaction, bytes)
    }
}

/// Every sample, in the order of the document.
pub(crate) fn all() -> Vec<Sample> {
    let sample =
        |name, message, signed_with| Sample { name, message, signed_with, is_sealed: false };
    let unsigned = |name, message| sample(name, message, None);
    let signed = |name, message| sample(name, message, Some(key()));
    let admitted = |name, credentials: Credentials| {
        sample(name, register_with(credentials.account), Some(credentials.key))
    };
    let account = Credentials::of_account("alice".parse().unwrap(), "a password");
    let token = Credentials::of_token(TOKEN).unwrap();
    let challenge = Refused::new(SignalMethod::Register, ErrorCode::Unauthenticated);
    let unknown = Refused {
        unknown: vec![AttributeType::new(0x4EFF)],
        ..Refused::new(SignalMethod::Lookup, ErrorCode::UnknownAttribute)
    };
    let version = Refused {
        version: Some(1),
        ..Refused::new(SignalMethod::Register, ErrorCode::UnsupportedVersion)
    };
    let expired = Refused {
        access: Some(AccessDenied::Expired { ago: Duration::from_secs(86_400) }),
        ..Refused::new(SignalMethod::Register, ErrorCode::Unauthenticated)
    };
    let declined = Refused::new(SignalMethod::Invite, ErrorCode::Declined);
    let failure = Err(ErrorCode::NoAnswer);
    let unproved = Refused::new(SignalMethod::Forge, ErrorCode::Unauthenticated);
    let forbidden = Refused::new(SignalMethod::Forge, ErrorCode::Forbidden);
    let (initiation, secure, secured) = handshake_messages();
    drop(initiation);
    let shown = Refused { identity: Some(broker_key().public()), ..challenge.clone() };
    vec![
        unsigned("hello", first(Body::Hello)),
        unsigned("hello-401", answer(Body::Refused(shown)).with_nonce(nonce())),
        unsigned("secure", first(Body::Secure(secure)).with_nonce(nonce())),
        unsigned("secured", answer(Body::Secured(secured))),
        Sample { is_sealed: true, ..signed("sealed", by_peer(Body::Unregister)) },
        unsigned("register-1", first(Body::Register(register(None)))),
        unsigned("register-401", answer(Body::Refused(challenge)).with_nonce(nonce())),
        unsigned("register-2", first(Body::Register(register(Some(40)))).with_nonce(nonce())),
        unsigned("registered", answer(Body::Registered(registered()))),
        signed("refresh", by_peer(Body::Refresh(refresh()))),
        signed("refreshed", answer(Body::Refreshed(refreshed()))),
        signed("unregister", by_peer(Body::Unregister)),
        signed("unregistered", answer(Body::Unregistered)),
        signed("dismissed", plain(Body::Dismissed)),
        signed("lookup", by_peer(Body::Lookup(name("bob")))),
        signed("found", answer(Body::Found(found()))),
        signed("connect", by_peer(Body::Connect(connect()))),
        signed("connected", answer(Body::Connected(punch(Role::Controlling, Round::FIRST)))),
        signed("invite", first(Body::Invite(punch(Role::Controlled, Round::FIRST)))),
        signed("answer", answer(Body::Answer(Answer { session: session(), candidates: vec![] }))),
        signed("declined", answer(Body::Refused(declined))),
        signed("callee-answered", plain(Body::CalleeAnswer(callee_answer(Ok(Vec::new()))))),
        signed("callee-silent", plain(Body::CalleeAnswer(callee_answer(Err(ErrorCode::NoAnswer))))),
        signed("gather", first(Body::Gather(gather()))),
        signed("punch", first(Body::Punch(punch(Role::Controlled, Round(2))))),
        signed("punching", answer(Body::Punching)),
        signed("relay", by_sender(Body::Relay(relay(1, 0, true)))),
        signed("relayed", plain(Body::Relay(relay(1, 0, true)))),
        signed(
            "relay-heard",
            by_sender(Body::Relay(Relay {
                candidates: vec![],
                note: Note::default(),
                ..relay(0, 1, false)
            })),
        ),
        unsigned("register-consenting", register_consenting()),
        signed("refreshed-capable", answer(Body::Refreshed(capable()))),
        signed("connected-hints", answer(Body::Connected(hinted()))),
        signed("forge-challenge", answer(Body::Refused(unproved)).with_nonce(nonce())),
        signed("forge", by_peer(forge(Some(handshake()))).with_nonce(nonce())),
        signed("forge-prepare", by_peer(forge(None))),
        signed("forging", answer(Body::Forging)),
        signed("forge-refused", answer(Body::Refused(forbidden))),
        signed("forged", plain(Body::Forged(Forged { session: session(), result: Ok(()) }))),
        signed("forged-alone", plain(Body::Forged(Forged { session: session(), result: failure }))),
        signed("probe", first(Body::Probe(peer_address()))),
        signed("probing", answer(Body::Probing)),
        signed("probe-forged", plain(Body::Probed).with_nonce(nonce())),
        signed("probed", by_sender(Body::Probed).with_nonce(nonce())),
        unsigned("register-offering", register_offering()),
        admitted("register-account", account),
        admitted("register-token", token),
        unsigned("refused-access", answer(Body::Refused(expired))),
        signed("errand", plain(errand(syn_ack()))),
        signed("errand-probe", plain(errand(forged_probe()))),
        signed("outcome", by_sender(outcome())),
        signed("ping", first(Body::Ping)),
        signed("pong", answer(Body::Pong)),
        unsigned("refused-420", answer(Body::Refused(unknown))),
        unsigned("refused-505", answer(Body::Refused(version))),
    ]
}

fn nonce() -> Nonce {
    Nonce::new(b"0000002a9f86d081884c7d659a2feaa0c55ad015").unwrap()
}

fn broker_key() -> SecretKey {
    SecretKey::from_bytes(counting(0xC0))
}

fn peer_key() -> PublicKey {
    SecretKey::from_bytes(counting(0xE0)).public()
}

/// The handshake of the document: around the Register and the success that it shows in the clear.
fn handshake_messages() -> (Initiation, Secure, Vec<u8>) {
    let inner = plain(Body::Register(register(Some(40))));
    let broker = broker_key();
    let prologue = b"ntcp broker 10000002a9f86d081884c7d659a2feaa0c55ad015";
    let (initiation, noise) = Initiation::begin(
        &SecretKey::from_bytes(counting(0xE0)),
        &broker.public(),
        prologue,
        &inner.emit(None),
        Seed::from_number(1),
    );
    let reception = Reception::read(&broker, prologue, &noise, Seed::from_number(2)).unwrap();
    let success = inner
        .answer(Body::Registered(Registered { identity: Some(broker.public()), ..registered() }));
    let (secured, _) = reception.answer(&success.emit(None));
    (initiation, Secure { hint: broker.public().hint(), noise }, secured)
}

/// The peer's end of the channel after that handshake, and what the success said.
pub(crate) fn channel() -> (Channel, Message) {
    let (mut initiation, _, secured) = handshake_messages();
    let (payload, channel) = initiation.finish(&secured).unwrap();
    (channel, Message::parse(&payload).unwrap().message)
}

fn counting<const N: usize>(start: u8) -> [u8; N] {
    std::array::from_fn(|place| start.wrapping_add(place as u8))
}

fn plain(body: Body) -> Message {
    Message::new(TransactionId::new(counting(0xA0)), body)
}

/// A request, sent for the first time.
fn first(body: Body) -> Message {
    Message { transmit: Some(TransmitCount { request: 1, response: 0 }), ..plain(body) }
}

/// A request of a registered peer.
fn by_peer(body: Body) -> Message {
    Message { registration: Some(RegistrationId(counting(0x30))), ..first(body) }
}

/// An indication of a registered peer.
fn by_sender(body: Body) -> Message {
    Message { registration: Some(RegistrationId(counting(0x30))), ..plain(body) }
}

fn relay(serial: u16, heard: u16, wants_answer: bool) -> Relay {
    Relay {
        session: session(),
        serial,
        heard,
        wants_answer,
        candidates: candidates(),
        note: Note::new(&counting::<6>(1)).unwrap(),
    }
}

fn answer(body: Body) -> Message {
    Message { transmit: Some(TransmitCount { request: 1, response: 1 }), ..plain(body) }
}

fn name(text: &str) -> PeerName {
    text.parse().unwrap()
}

fn session() -> SessionId {
    SessionId(counting(0x10))
}

fn candidates() -> Vec<Candidate> {
    let mapped = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 7), 40_000));
    let host = SocketAddr::from((Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 7), 50_000));
    vec![
        Candidate { kind: CandidateKind::Host, transport: Transport::Tcp, address: host },
        Candidate {
            kind: CandidateKind::ServerReflexive,
            transport: Transport::Udp,
            address: mapped,
        },
    ]
}

fn nat() -> NatSummary {
    let udp = UdpSummary {
        reachable: Some(true),
        mapping: Some(Mapping::EndpointIndependent),
        filtering: Some(Filtering::AddressAndPortDependent),
        port_allocation: Some(PortAllocation::Preserved),
        hairpin: None,
    };
    NatSummary { nat: Some(true), udp, ..NatSummary::default() }
}

/// A token made with the key 000102…1f.
const TOKEN: &str =
    "t1:2026a:1796000000:alice:4a9da4d3fee1e75c2008b2277e6be237d2a4af44ef8f33cbb8268ac58bcc983e";

fn register_with(account: AccountName) -> Message {
    let (account, meant_for) = (Some(account), Some(broker_key().public()));
    first(Body::Register(Register { account, meant_for, ..register(None) }))
}

fn register(rtt_ms: Option<u64>) -> Register {
    Register {
        name: Some(name("alice")),
        candidates: candidates(),
        nat: nat(),
        fingerprint: Fingerprint(counting(0x80)),
        lease: Duration::from_secs(60),
        rtt: rtt_ms.map(Duration::from_millis),
        consents: false,
        offers_to_forge: false,
        account: None,
        meant_for: None,
        bare: false,
    }
}

fn register_consenting() -> Message {
    first(Body::Register(Register { consents: true, ..register(None) }))
}

fn register_offering() -> Message {
    first(Body::Register(Register { offers_to_forge: true, ..register(None) }))
}

fn errand(packet: Packet) -> Body {
    let source = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 7), 40_000));
    Body::Errand(Errand { serial: 1, source, destination: peer_address(), packet })
}

fn syn_ack() -> Packet {
    let syn = handshake().syn;
    Packet::SynAck { syn: Syn { sequence: 0x5566_7788, ..syn }, answered: syn }
}

fn forged_probe() -> Packet {
    Packet::Datagram(plain(Body::Probed).with_nonce(nonce()).emit(Some(&key())))
}

fn registered() -> Registered {
    Registered {
        registration: RegistrationId(counting(0x30)),
        key: key(),
        observed: SocketAddr::from((Ipv4Addr::new(203, 0, 113, 7), 40_000)),
        lease: Duration::from_secs(60),
        capabilities: None,
        identity: None,
    }
}

fn refresh() -> Refresh {
    Refresh {
        lease: Duration::from_secs(60),
        candidates: Some(candidates()),
        nat: Some(nat()),
        rtt: Some(Duration::from_millis(40)),
    }
}

fn refreshed() -> Refreshed {
    Refreshed {
        observed: SocketAddr::from((Ipv4Addr::new(203, 0, 113, 7), 40_000)),
        lease: Duration::from_secs(60),
        capabilities: None,
    }
}

fn capable() -> Refreshed {
    let v4 = Spoofing::Possible { age: Duration::from_secs(300) };
    let capabilities = Capabilities { forges: true, v4, v6: Spoofing::Unknown };
    Refreshed { capabilities: Some(capabilities), ..refreshed() }
}

fn hinted() -> Punch {
    let hint =
        |strategy, percent, millis| Hint { strategy, percent, took: Duration::from_millis(millis) };
    let hints =
        vec![hint(Strategy::ShieldedOpener, 95, 80), hint(Strategy::SimultaneousOpen, 10, 60)];
    Punch { hints, ..punch(Role::Controlling, Round::FIRST) }
}

fn peer_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 45_000))
}

fn handshake() -> Handshake {
    let options = Options {
        max_segment_size: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 0x0102_0304, echo: 0 }),
    };
    let syn = Syn { sequence: 0x1122_3344, window: 64_240, options };
    Handshake { remote: peer_address(), syn }
}

fn forge(handshake: Option<Handshake>) -> Body {
    Body::Forge(Forge { session: session(), handshake })
}

fn outcome() -> Body {
    let outcomes = vec![
        StrategyOutcome { strategy: Strategy::SimultaneousOpen, took: None },
        StrategyOutcome {
            strategy: Strategy::SpoofedSynAck,
            took: Some(Duration::from_millis(120)),
        },
    ];
    Body::Outcome(Outcome { session: session(), outcomes })
}

fn found() -> Found {
    Found { fingerprint: Fingerprint(counting(0x80)), nat: nat(), identity: Some(peer_key()) }
}

fn connect() -> Connect {
    Connect {
        callee: name("bob"),
        transport: TransportChoice::Any,
        round: Round::FIRST,
        candidates: candidates(),
        nat: nat(),
        fingerprint: Fingerprint(counting(0x80)),
        rtt: Some(Duration::from_millis(40)),
        wait: Duration::from_secs(2),
        bare: false,
    }
}

fn punch(role: Role, round: Round) -> Punch {
    Punch {
        session: session(),
        secret: SessionSecret(counting(0x60)),
        role,
        round,
        transport: TransportChoice::Any,
        peer: Some(name(if role == Role::Controlling { "bob" } else { "alice" })),
        candidates: candidates(),
        nat: nat(),
        fingerprint: Fingerprint(counting(0x80)),
        identity: Some(peer_key()),
        start_after: Duration::from_millis(15),
        peer_rtt: Some(Duration::from_millis(40)),
        bare: false,
        hints: Vec::new(),
    }
}

fn gather() -> Gather {
    Gather {
        session: session(),
        round: Round(2),
        transport: TransportChoice::Any,
        caller: Some(name("alice")),
    }
}

fn callee_answer(result: Result<Vec<Candidate>, ErrorCode>) -> CalleeAnswer {
    CalleeAnswer { session: session(), result }
}
