//! What holds for all messages, and for all bytes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ntcp_proto::access::{AccessDenied, MAX_ACCOUNT_BYTES};
use ntcp_proto::candidate::{Candidate, CandidateKind, MAX_CANDIDATES, Transport};
use ntcp_proto::nat::{
    Filtering, InboundSynAfterSyn, InitialSequence, Mapping, MidStream, PortAllocation,
    UnsolicitedSyn,
};
use ntcp_proto::puncher::report::Strategy as Way;
use ntcp_proto::secrecy::PublicKey;
use ntcp_proto::segment::{Options, Timestamps};
use ntcp_proto::signal::codec::{MAX_MESSAGE_BYTES, ParseError};
use ntcp_proto::signal::envelope::Envelope;
use ntcp_proto::signal::message::{
    Answer, Body, CalleeAnswer, Connect, Forge, Forged, Found, Gather, MAX_HANDSHAKE_BYTES,
    MAX_NOTE_BYTES, Message, Nonce, Note, Outcome, Refresh, Refreshed, Refused, Register,
    Registered, Relay, Secure, TransmitCount,
};
use ntcp_proto::signal::{
    Capabilities, Errand, ErrorCode, Fingerprint, Handshake, Hint, MAX_DATAGRAM_BYTES, MAX_ENTRIES,
    NatSummary, Packet, Punch, RegistrationId, RegistrationKey, Role, Round, SessionId,
    SessionSecret, SignalMethod, Spoofing, StrategyOutcome, Syn, TcpSummary, UdpSummary,
};
use ntcp_proto::uri::{PeerName, TransportChoice};
use ntcp_stun::{AttributeType, Class, TransactionId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::samples;

fn name() -> impl Strategy<Value = PeerName> {
    "[A-Za-z0-9_.~-]{1,255}".prop_map(|text| text.parse().unwrap())
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn candidate() -> impl Strategy<Value = Candidate> {
    let kinds = [
        CandidateKind::Host,
        CandidateKind::Mapped,
        CandidateKind::ServerReflexive,
        CandidateKind::PeerReflexive,
    ];
    let transports = [Transport::Tcp, Transport::Udp];
    (select(kinds.to_vec()), select(transports.to_vec()), address())
        .prop_map(|(kind, transport, address)| Candidate { kind, transport, address })
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    vec(candidate(), 0..=MAX_CANDIDATES)
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(
    values: &[T],
) -> impl Strategy<Value = Option<T>> + use<T> {
    option::of(select(values.to_vec()))
}

fn nat() -> impl Strategy<Value = NatSummary> {
    let mappings = [
        Mapping::EndpointIndependent,
        Mapping::AddressDependent,
        Mapping::AddressAndPortDependent,
        Mapping::ConnectionDependent,
    ];
    let filterings = [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
        Filtering::Unknown,
    ];
    let allocations = [
        PortAllocation::Preserved,
        PortAllocation::Offset,
        PortAllocation::Sequential,
        PortAllocation::Block,
        PortAllocation::Random,
    ];
    let unsolicited = [UnsolicitedSyn::Silent, UnsolicitedSyn::Rst, UnsolicitedSyn::Icmp];
    let inbound = [
        InboundSynAfterSyn::Accepted,
        InboundSynAfterSyn::Dropped,
        InboundSynAfterSyn::Rst,
        InboundSynAfterSyn::Unknown,
    ];
    let isns = [InitialSequence::Preserved, InitialSequence::Rewritten];
    let udp = || {
        let each = (
            any::<Option<bool>>(),
            one_of(&mappings),
            one_of(&filterings),
            one_of(&allocations),
            any::<Option<bool>>(),
        );
        each.prop_map(|(reachable, mapping, filtering, port_allocation, hairpin)| UdpSummary {
            reachable,
            mapping,
            filtering,
            port_allocation,
            hairpin,
        })
    };
    let mid_streams = [MidStream::PickedUp, MidStream::Dropped];
    // "Could not be told" is told as "not measured" of these two.
    let fates = || one_of(&inbound[..3]);
    let more = (one_of(&unsolicited), one_of(&inbound), one_of(&isns), one_of(&mid_streams));
    let more = (more, fates(), fates());
    (any::<Option<bool>>(), udp(), udp(), more).prop_map(|(nat, udp, like, more)| {
        let (more, inbound_syn_after_rst, inbound_syn_after_icmp) = more;
        let (unsolicited_syn, inbound_syn_after_syn, isn, mid_stream) = more;
        let UdpSummary { reachable, mapping, filtering, port_allocation, hairpin } = like;
        let tcp = TcpSummary {
            reachable,
            mapping,
            filtering,
            port_allocation,
            hairpin,
            unsolicited_syn,
            inbound_syn_after_syn,
            isn,
            mid_stream,
            inbound_syn_after_rst,
            inbound_syn_after_icmp,
        };
        NatSummary { nat, udp, tcp }
    })
}

fn micros() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|micros| Duration::from_micros(micros.into()))
}

fn millis() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|millis| Duration::from_millis(millis.into()))
}

fn transport() -> impl Strategy<Value = TransportChoice> {
    select(vec![TransportChoice::Tcp, TransportChoice::Udp, TransportChoice::Any])
}

fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    any::<[u8; 32]>().prop_map(Fingerprint)
}

fn session() -> impl Strategy<Value = SessionId> {
    any::<[u8; 16]>().prop_map(SessionId)
}

fn identity() -> impl Strategy<Value = Option<PublicKey>> {
    option::of(any::<[u8; 32]>().prop_map(PublicKey))
}

fn secure() -> impl Strategy<Value = Body> {
    (any::<[u8; 8]>(), vec(any::<u8>(), 0..=MAX_HANDSHAKE_BYTES))
        .prop_map(|(hint, noise)| Body::Secure(Secure { hint, noise }))
}

fn code() -> impl Strategy<Value = ErrorCode> {
    (300u16..700).prop_map(ErrorCode::from_number)
}

fn seconds() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|seconds| Duration::from_secs(seconds.into()))
}

fn spoofing() -> impl Strategy<Value = Spoofing> {
    prop_oneof![
        Just(Spoofing::Unknown),
        seconds().prop_map(|age| Spoofing::Possible { age }),
        seconds().prop_map(|age| Spoofing::Filtered { age }),
    ]
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    (any::<bool>(), spoofing(), spoofing()).prop_map(|(forges, v4, v6)| Capabilities {
        forges,
        v4,
        v6,
    })
}

fn way() -> impl Strategy<Value = Way> {
    select(vec![
        Way::Direct,
        Way::SimultaneousOpen,
        Way::ConnectListen,
        Way::ShieldedOpener,
        Way::PortPrediction,
        Way::PortCoverage,
        Way::GhostHandshake,
        Way::SpoofedSynAck,
        Way::ConnectCloseListen,
        Way::UdpHolePunch,
    ])
}

fn hints() -> impl Strategy<Value = Vec<Hint>> {
    let took = any::<u16>().prop_map(|millis| Duration::from_millis(millis.into()));
    let hint = (way(), 0u8..=100, took);
    let hint = hint.prop_map(|(strategy, percent, took)| Hint { strategy, percent, took });
    vec(hint, 0..=MAX_ENTRIES)
}

fn outcome() -> impl Strategy<Value = StrategyOutcome> {
    (way(), option::of(micros())).prop_map(|(strategy, took)| StrategyOutcome { strategy, took })
}

fn handshake() -> impl Strategy<Value = Handshake> {
    let timestamps = option::of(any::<u32>());
    let options = (option::of(1u16..), option::of(0u8..=14), any::<bool>(), timestamps);
    (address(), any::<(u32, u16)>(), options).prop_map(|(remote, (sequence, window), options)| {
        let (max_segment_size, window_scale, sack_permitted, timestamps) = options;
        let timestamps = timestamps.map(|value| Timestamps { value, echo: 0 });
        let options = Options { max_segment_size, window_scale, sack_permitted, timestamps };
        Handshake { remote, syn: Syn { sequence, window, options } }
    })
}

fn punch(rounds: std::ops::RangeInclusive<u8>) -> impl Strategy<Value = Punch> {
    let names = (session(), any::<[u8; 32]>(), option::of(name()), fingerprint(), identity());
    let choices = (any::<(bool, bool)>(), rounds, transport());
    let rest = (candidates(), nat(), micros(), option::of(micros()), hints());
    (names, choices, rest).prop_map(|(names, choices, rest)| {
        let (session, secret, peer, fingerprint, identity) = names;
        let ((controlling, bare), round, transport) = choices;
        let (candidates, nat, start_after, peer_rtt, hints) = rest;
        Punch {
            session,
            secret: SessionSecret(secret),
            role: if controlling { Role::Controlling } else { Role::Controlled },
            round: Round(round),
            transport,
            peer,
            candidates,
            nat,
            fingerprint,
            identity,
            start_after,
            peer_rtt,
            bare,
            hints,
        }
    })
}

fn register() -> impl Strategy<Value = Body> {
    let all = (option::of(name()), candidates(), nat(), fingerprint(), millis());
    let agrees = any::<(bool, bool, bool)>();
    let shown = (option::of("[!-~]{1,128}"), identity());
    (all, option::of(micros()), agrees, shown).prop_map(|(all, rtt, agrees, shown)| {
        let (name, candidates, nat, fingerprint, lease) = all;
        let ((consents, offers_to_forge, bare), (account, meant_for)) = (agrees, shown);
        Body::Register(Register {
            name,
            candidates,
            nat,
            fingerprint,
            lease,
            rtt,
            consents,
            offers_to_forge,
            bare,
            account: account.map(|it| it.parse().unwrap()),
            meant_for,
        })
    })
}

fn errand() -> impl Strategy<Value = Body> {
    let syn = || handshake().prop_map(|it| it.syn);
    let packet = prop_oneof![
        (syn(), syn()).prop_map(|(syn, answered)| Packet::SynAck { syn, answered }),
        vec(any::<u8>(), 1..=MAX_DATAGRAM_BYTES).prop_map(Packet::Datagram),
    ];
    (any::<u32>(), address(), address(), packet).prop_map(
        |(serial, source, destination, packet)| {
            Body::Errand(Errand { serial, source, destination, packet })
        },
    )
}

fn registered() -> impl Strategy<Value = Body> {
    let who = (any::<[u8; 8]>(), any::<[u8; 32]>());
    (who, address(), millis(), option::of(capabilities()), identity()).prop_map(
        |((registration, key), observed, lease, capabilities, identity)| {
            Body::Registered(Registered {
                registration: RegistrationId(registration),
                key: RegistrationKey(key),
                observed,
                lease,
                capabilities,
                identity,
            })
        },
    )
}

fn refresh() -> impl Strategy<Value = Body> {
    (millis(), option::of(candidates()), option::of(nat()), option::of(micros())).prop_map(
        |(lease, candidates, nat, rtt)| Body::Refresh(Refresh { lease, candidates, nat, rtt }),
    )
}

fn connect() -> impl Strategy<Value = Body> {
    let who = (name(), transport(), 1u8..=255, fingerprint());
    let how = (candidates(), nat(), option::of(micros()), millis(), any::<bool>());
    (who, how).prop_map(|(who, how)| {
        let (callee, transport, round, fingerprint) = who;
        let (candidates, nat, rtt, wait, bare) = how;
        let round = Round(round);
        Body::Connect(Connect {
            callee,
            transport,
            round,
            candidates,
            nat,
            fingerprint,
            rtt,
            wait,
            bare,
        })
    })
}

fn refused() -> impl Strategy<Value = Body> {
    // The codec keeps sixteen at most, each once.
    let unknown = proptest::collection::btree_set(0u16..0x8000, 0..=16);
    let access = option::of(prop_oneof![
        Just(AccessDenied::Wrong),
        any::<u32>().prop_map(|s| AccessDenied::Expired { ago: Duration::from_secs(s.into()) }),
    ]);
    let method = select(SignalMethod::ALL.to_vec());
    (method, code(), unknown, any::<Option<u8>>(), identity(), access).prop_map(
        |(method, code, unknown, version, identity, access)| {
            let unknown = unknown.into_iter().map(AttributeType::new).collect();
            Body::Refused(Refused { method, code, unknown, version, identity, access })
        },
    )
}

fn relay() -> impl Strategy<Value = Body> {
    let note = vec(any::<u8>(), 0..=MAX_NOTE_BYTES);
    (session(), any::<(u16, u16, bool)>(), candidates(), note).prop_map(
        |(session, (serial, heard, wants_answer), candidates, note)| {
            let note = Note::new(&note).unwrap();
            Body::Relay(Relay { session, serial, heard, wants_answer, candidates, note })
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let gather = (session(), 2u8..=255, transport(), option::of(name())).prop_map(
        |(session, round, transport, caller)| {
            Body::Gather(Gather { session, round: Round(round), transport, caller })
        },
    );
    let callee = (session(), prop_oneof![candidates().prop_map(Ok), code().prop_map(Err)]);
    prop_oneof![
        register(),
        registered(),
        secure(),
        vec(any::<u8>(), 0..=MAX_HANDSHAKE_BYTES).prop_map(Body::Secured),
        refresh(),
        (address(), millis(), option::of(capabilities())).prop_map(
            |(observed, lease, capabilities)| {
                Body::Refreshed(Refreshed { observed, lease, capabilities })
            }
        ),
        name().prop_map(Body::Lookup),
        (fingerprint(), nat(), identity()).prop_map(|(fingerprint, nat, identity)| {
            Body::Found(Found { fingerprint, nat, identity })
        }),
        connect(),
        punch(1..=255).prop_map(Body::Connected),
        punch(1..=1).prop_map(Body::Invite),
        gather,
        (session(), candidates())
            .prop_map(|(session, candidates)| Body::Answer(Answer { session, candidates })),
        callee.prop_map(|(session, result)| Body::CalleeAnswer(CalleeAnswer { session, result })),
        punch(1..=255).prop_map(Body::Punch),
        relay(),
        (session(), option::of(handshake()))
            .prop_map(|(session, handshake)| Body::Forge(Forge { session, handshake })),
        (session(), prop_oneof![Just(Ok(())), code().prop_map(Err)])
            .prop_map(|(session, result)| Body::Forged(Forged { session, result })),
        address().prop_map(Body::Probe),
        errand(),
        (session(), vec(outcome(), 0..=MAX_ENTRIES))
            .prop_map(|(session, outcomes)| Body::Outcome(Outcome { session, outcomes })),
        refused(),
        select(vec![
            Body::Hello,
            Body::Unregister,
            Body::Unregistered,
            Body::Dismissed,
            Body::Punching,
            Body::Ping,
            Body::Pong,
            Body::Forging,
            Body::Probing,
            Body::Probed,
        ]),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let transmit = option::of(any::<(u8, u8)>());
    let nonce = option::of(vec(any::<u8>(), 1..=64));
    (any::<[u8; 12]>(), transmit, any::<Option<[u8; 8]>>(), nonce, body()).prop_map(
        |(transaction, transmit, registration, nonce, body)| {
            let (class, method) = body.kind();
            let carries_registration = matches!(class, Class::Request | Class::Indication)
                && method != SignalMethod::Register;
            Message {
                transaction: TransactionId::new(transaction),
                transmit: transmit.map(|(request, response)| TransmitCount { request, response }),
                registration: registration.filter(|_| carries_registration).map(RegistrationId),
                nonce: nonce.map(|bytes| Nonce::new(&bytes).unwrap()),
                body,
            }
        },
    )
}

proptest! {
    #[test]
    fn every_message_survives_its_bytes(message in message(), key in any::<Option<[u8; 32]>>()) {
        let key = key.map(RegistrationKey);
        let bytes = message.emit(key.as_ref());
        prop_assert!(bytes.len() <= MAX_MESSAGE_BYTES);
        let received = Message::parse(&bytes).unwrap();
        prop_assert_eq!(&received.message, &message);
        if let Some(key) = key {
            prop_assert!(received.is_signed_by(&key));
        }
        prop_assert!(!received.is_signed_by(&samples::key()));
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_survive(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(received) = Message::parse(&bytes) {
            let again = received.message.emit(None);
            prop_assert_eq!(&Message::parse(&again).unwrap().message, &received.message);
        }
    }
}

#[test]
fn the_longest_message_fits() {
    let longest: PeerName = "x".repeat(255).parse().unwrap();
    let address = SocketAddr::from(([0x2001, 0xDB8, 1, 2, 3, 4, 5, 6], 65_535));
    let one = Candidate { kind: CandidateKind::Host, transport: Transport::Udp, address };
    let candidates = vec![one; MAX_CANDIDATES];
    let (strategy, took) = (Way::Direct, Duration::ZERO);
    let hint = Hint { strategy, percent: 1, took };
    let outcome = StrategyOutcome { strategy, took: Some(took) };
    for mut sample in samples::all() {
        sample.message.nonce = Nonce::new(&[b'0'; 64]);
        sample.message.registration = Some(RegistrationId([0; 8]));
        match &mut sample.message.body {
            Body::Register(it) => {
                it.name = Some(longest.clone());
                it.candidates.clone_from(&candidates);
                it.account = Some("x".repeat(MAX_ACCOUNT_BYTES).parse().unwrap());
                it.meant_for = Some(PublicKey([0; 32]));
            }
            Body::Refresh(it) => it.candidates = Some(candidates.clone()),
            Body::Connect(it) => {
                it.callee.clone_from(&longest);
                it.candidates.clone_from(&candidates);
            }
            Body::Connected(it) | Body::Invite(it) | Body::Punch(it) => {
                it.peer = Some(longest.clone());
                it.candidates.clone_from(&candidates);
                it.hints = vec![hint; MAX_ENTRIES];
            }
            Body::Outcome(it) => it.outcomes = vec![outcome; MAX_ENTRIES],
            Body::Gather(it) => it.caller = Some(longest.clone()),
            Body::Relay(it) => {
                it.note = Note::new(&[0; MAX_NOTE_BYTES]).unwrap();
                it.candidates.clone_from(&candidates);
            }
            _ => {}
        }
        let bytes = sample.message.emit(Some(&samples::key()));
        assert!(bytes.len() <= MAX_MESSAGE_BYTES, "{}: {}", sample.name, bytes.len());
        if !matches!(sample.message.body, Body::Secure(_) | Body::Secured(_)) {
            // What stands for itself fits into an envelope too, and a Register into a handshake.
            let (mut channel, _) = samples::channel();
            let registration = RegistrationId([0; 8]);
            let transaction = sample.message.transaction;
            let sealed = Envelope::seal(&mut channel, registration, transaction, bytes.clone());
            assert!(sealed.len() <= MAX_MESSAGE_BYTES, "{}: {}", sample.name, sealed.len());
            let goes_inside = matches!(
                sample.message.body,
                Body::Register(_) | Body::Registered(_) | Body::Refused(_)
            );
            (sample.message.nonce, sample.message.registration) = (None, None);
            let bytes = sample.message.emit(Some(&samples::key()));
            assert!(!goes_inside || bytes.len() + 96 <= MAX_HANDSHAKE_BYTES, "{}", sample.name);
        }
    }
}

#[test]
fn candidates_beyond_the_limit_are_cut_off_worst_kind_first() {
    let candidate = |kind, port| Candidate {
        kind,
        transport: Transport::Udp,
        address: SocketAddr::from(([192, 0, 2, 1], port)),
    };
    let mut candidates: Vec<Candidate> =
        (0..4).map(|port| candidate(CandidateKind::PeerReflexive, port)).collect();
    candidates.extend((10..26).map(|port| candidate(CandidateKind::Host, port)));
    let answer = Answer { session: SessionId([0; 16]), candidates };
    let message = Message::new(TransactionId::new([0; 12]), Body::Answer(answer));
    let bytes = message.emit(None);
    let Body::Answer(read) = Message::parse(&bytes).unwrap().message.body else { panic!() };
    assert_eq!(read.candidates.len(), MAX_CANDIDATES);
    assert!(read.candidates.iter().all(|it| it.kind == CandidateKind::Host));
}

#[test]
fn every_truncation_of_every_message_is_refused() {
    for sample in samples::all() {
        let bytes = sample.bytes();
        for length in 0..bytes.len() {
            assert_eq!(
                Message::parse(&bytes[..length]).unwrap_err(),
                ParseError::NotStun,
                "{} cut to {length}",
                sample.name
            );
        }
    }
}

#[test]
fn every_flipped_bit_of_every_message_is_noticed() {
    for sample in samples::all() {
        let bytes = sample.bytes();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let result = Message::parse(&flipped);
            assert!(result.is_err(), "{} with bit {bit} flipped", sample.name);
        }
    }
}

/// `bytes` with FINGERPRINT made anew.
fn with_fingerprint(bytes: &[u8]) -> Vec<u8> {
    let covered = &bytes[..bytes.len() - 8];
    let crc = crc32fast::hash(covered) ^ 0x5354_554E;
    [covered, &bytes[bytes.len() - 8..bytes.len() - 4], &crc.to_be_bytes()].concat()
}

#[test]
fn no_flipped_bit_of_a_signed_message_passes_even_with_a_new_fingerprint() {
    for sample in samples::all().into_iter().filter(|it| !it.is_sealed) {
        let Some(key) = &sample.signed_with else { continue };
        let bytes = sample.bytes();
        for bit in 0..(bytes.len() - 8) * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(received) = Message::parse(&with_fingerprint(&flipped)) {
                let passes = received.is_signed_by(key);
                assert!(!passes, "{} with bit {bit} flipped", sample.name);
            }
        }
    }
}

/// A sample with one more attribute.
fn with_attribute(sample: &samples::Sample, attribute: u16) -> Vec<u8> {
    let bytes = sample.message.emit(None);
    let (body, fingerprint) = bytes.split_at(bytes.len() - 8);
    let more = [attribute.to_be_bytes(), 4u16.to_be_bytes(), [1, 2], [3, 4]].concat();
    let mut longer = [body, &more, fingerprint].concat();
    let length = u16::try_from(longer.len() - 20).unwrap();
    longer[2..4].copy_from_slice(&length.to_be_bytes());
    with_fingerprint(&longer)
}

#[test]
fn an_unknown_optional_attribute_is_ignored() {
    for sample in samples::all() {
        let bytes = with_attribute(&sample, 0xCEFF);
        assert_eq!(Message::parse(&bytes).unwrap().message, sample.message, "{}", sample.name);
    }
}

#[test]
fn an_unknown_required_attribute_is_refused_with_420_and_named() {
    for sample in samples::all() {
        let bytes = with_attribute(&sample, 0x4EFF);
        match Message::parse(&bytes).unwrap_err() {
            ParseError::Refused { transaction, refused, .. } => {
                assert_eq!(transaction, sample.message.transaction);
                assert_eq!(refused.code, ErrorCode::UnknownAttribute, "{}", sample.name);
                assert_eq!(refused.unknown, [AttributeType::new(0x4EFF)]);
            }
            other => panic!("{}: {other}", sample.name),
        }
    }
}

#[test]
fn another_version_is_refused_with_505_and_ours() {
    let sample = samples::all().remove(0);
    let mut bytes = sample.bytes();
    assert_eq!(bytes[20..28], [0x4E, 0, 0, 4, 1, 0, 0, 0], "VERSION comes first");
    bytes[24] = 2;
    match Message::parse(&with_fingerprint(&bytes)).unwrap_err() {
        ParseError::Refused { refused, .. } => {
            assert_eq!(refused.code, ErrorCode::UnsupportedVersion);
            assert_eq!(refused.version, Some(1));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_class_that_a_method_does_not_have_is_refused() {
    let message = Message::new(TransactionId::new([0; 12]), Body::Ping);
    let mut bytes = message.emit(None);
    // C0 makes the request an indication.
    bytes[1] |= 0x10;
    let bytes = with_fingerprint(&bytes);
    let result = Message::parse(&bytes);
    assert!(matches!(result, Err(ParseError::Method(_))), "{result:?}");
}
