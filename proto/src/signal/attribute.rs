//! The attributes of this protocol, and how their values are written.
//!
//! Numbers from 0x4E00 must be understood, numbers from 0xCE00 may be ignored (RFC 8489 section
//! 14); both lie in the parts given out by expert review (section 18.3), where nothing near them is
//! assigned. A value is in network order; times are whole milliseconds or microseconds in 32 bits.
//!
//! | number | attribute | value |
//! |---|---|---|
//! | 0x4E00 | VERSION | version, 3 bytes of 0 |
//! | 0x4E01 | NAME | 1 to 255 characters |
//! | 0x4E02 | REGISTRATION | 8 bytes |
//! | 0x4E03 | REGISTRATION-KEY | 32 bytes |
//! | 0x4E04 | CERTIFICATE | 32 bytes, an Ed25519 public key |
//! | 0x4E05 | CANDIDATES | up to 16 candidates of 8 or 20 bytes |
//! | 0x4E06 | LEASE | milliseconds |
//! | 0x4E07 | TRANSPORTS | 1 TCP, 2 UDP, 3 any; 3 bytes of 0 |
//! | 0x4E08 | ROUND | from 1, 3 bytes of 0 |
//! | 0x4E09 | SESSION | 16 bytes |
//! | 0x4E0A | SESSION-SECRET | 32 bytes |
//! | 0x4E0B | ROLE | 1 controlling, 2 controlled; 3 bytes of 0 |
//! | 0x4E0C | START-AFTER | microseconds |
//! | 0x4E0D | WAIT | milliseconds |
//! | 0x4E0E | NEWS | serial and heard serial in 16 bits each, 1 if an answer is wanted or 0, 3 bytes of 0 |
//! | 0x4E0F | NOTE | up to 512 bytes |
//! | 0x4E10 | PEER-ADDRESS | an address, as in XOR-MAPPED-ADDRESS |
//! | 0x4E11 | SYN | 16 bytes: sequence number, window and options of a SYN |
//! | 0x4E12 | OUTCOMES | up to 16 entries of 8 bytes |
//! | 0x4E1C | ERRAND | serial number in 32 bits |
//! | 0x4E1D | SOURCE-ADDRESS | an address, as in XOR-MAPPED-ADDRESS |
//! | 0x4E1E | ANSWERED-SYN | as SYN |
//! | 0x4E1F | DATAGRAM | up to 192 bytes |
//! | 0x4E20 | HANDSHAKE | a message of Noise; in a request, 8 bytes of the key it is meant for before it |
//! | 0x4E21 | SEALED | REGISTRATION, counter (8 bytes), a sealed message |
//! | 0xCE00 | NAT-SUMMARY | 8 bytes, half a byte for each property |
//! | 0xCE01 | ROUND-TRIP-TIME | microseconds |
//! | 0xCE02 | PEER-ROUND-TRIP-TIME | microseconds |
//! | 0xCE04 | CAPABILITIES | 12 bytes: what the broker can do for TCP |
//! | 0xCE05 | HINTS | up to 16 entries of 4 bytes |
//! | 0xCE06 | CONSENT | bit 0: the broker may test its network with this peer, bit 1: this peer offers to forge; 3 bytes of 0 |
//! | 0xCE11 | IDENTITY | the public key of a peer or a broker, 32 bytes |
//! | 0xCE12 | ACCOUNT | 1 to 128 characters: the name of an account, or the claims of a token |
//! | 0xCE13 | BARE | 1: TCP paths are to be the bare socket; 3 bytes of 0 |
//! | 0xCE14 | REFUSAL | why a closed broker does not let somebody in; 3 bytes of 0; seconds |

use std::net::SocketAddr;
use std::time::Duration;

use ntcp_stun::attribute::{Problem, address};
use ntcp_stun::{AttributeType, TransactionId};

use super::{Role, Round};
use crate::candidate::{Candidate, CandidateKind, MAX_CANDIDATES, Transport};
use crate::uri::TransportChoice;

pub(super) const VERSION: AttributeType = AttributeType::new(0x4E00);
pub(super) const NAME: AttributeType = AttributeType::new(0x4E01);
pub(super) const REGISTRATION: AttributeType = AttributeType::new(0x4E02);
pub(super) const REGISTRATION_KEY: AttributeType = AttributeType::new(0x4E03);
pub(super) const CERTIFICATE: AttributeType = AttributeType::new(0x4E04);
pub(super) const CANDIDATES: AttributeType = AttributeType::new(0x4E05);
pub(super) const LEASE: AttributeType = AttributeType::new(0x4E06);
pub(super) const TRANSPORTS: AttributeType = AttributeType::new(0x4E07);
pub(super) const ROUND: AttributeType = AttributeType::new(0x4E08);
pub(super) const SESSION: AttributeType = AttributeType::new(0x4E09);
pub(super) const SESSION_SECRET: AttributeType = AttributeType::new(0x4E0A);
pub(super) const ROLE: AttributeType = AttributeType::new(0x4E0B);
pub(super) const START_AFTER: AttributeType = AttributeType::new(0x4E0C);
pub(super) const WAIT: AttributeType = AttributeType::new(0x4E0D);
pub(super) const NEWS: AttributeType = AttributeType::new(0x4E0E);
pub(super) const NOTE: AttributeType = AttributeType::new(0x4E0F);
pub(super) const PEER_ADDRESS: AttributeType = AttributeType::new(0x4E10);
pub(super) const SYN: AttributeType = AttributeType::new(0x4E11);
pub(super) const OUTCOMES: AttributeType = AttributeType::new(0x4E12);
pub(super) const ERRAND: AttributeType = AttributeType::new(0x4E1C);
pub(super) const SOURCE_ADDRESS: AttributeType = AttributeType::new(0x4E1D);
pub(super) const ANSWERED_SYN: AttributeType = AttributeType::new(0x4E1E);
pub(super) const DATAGRAM: AttributeType = AttributeType::new(0x4E1F);
pub(super) const HANDSHAKE: AttributeType = AttributeType::new(0x4E20);
pub(super) const SEALED: AttributeType = AttributeType::new(0x4E21);
pub(super) const NAT_SUMMARY: AttributeType = AttributeType::new(0xCE00);
pub(super) const ROUND_TRIP_TIME: AttributeType = AttributeType::new(0xCE01);
pub(super) const PEER_ROUND_TRIP_TIME: AttributeType = AttributeType::new(0xCE02);
pub(super) const CAPABILITIES: AttributeType = AttributeType::new(0xCE04);
pub(super) const HINTS: AttributeType = AttributeType::new(0xCE05);
pub(super) const CONSENT: AttributeType = AttributeType::new(0xCE06);
pub(super) const IDENTITY: AttributeType = AttributeType::new(0xCE11);
pub(super) const ACCOUNT: AttributeType = AttributeType::new(0xCE12);
pub(super) const BARE: AttributeType = AttributeType::new(0xCE13);
pub(super) const REFUSAL: AttributeType = AttributeType::new(0xCE14);
/// RFC 7982 section 3.
pub(super) const TRANSACTION_TRANSMIT_COUNTER: AttributeType = AttributeType::new(0x8025);

/// Every comprehension-required attribute that a message of this protocol may carry.
pub(super) const KNOWN_REQUIRED: [AttributeType; 31] = [
    VERSION,
    NAME,
    REGISTRATION,
    REGISTRATION_KEY,
    CERTIFICATE,
    CANDIDATES,
    LEASE,
    TRANSPORTS,
    ROUND,
    SESSION,
    SESSION_SECRET,
    ROLE,
    START_AFTER,
    WAIT,
    NEWS,
    NOTE,
    PEER_ADDRESS,
    SYN,
    OUTCOMES,
    ERRAND,
    SOURCE_ADDRESS,
    ANSWERED_SYN,
    DATAGRAM,
    HANDSHAKE,
    SEALED,
    AttributeType::PADDING,
    AttributeType::XOR_MAPPED_ADDRESS,
    AttributeType::ERROR_CODE,
    AttributeType::UNKNOWN_ATTRIBUTES,
    AttributeType::NONCE,
    AttributeType::MESSAGE_INTEGRITY_SHA256,
];

/// The value of an attribute that is `N` bytes.
pub(super) fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], Problem> {
    value.try_into().map_err(|_| Problem::Length(value.len()))
}

/// The value of an attribute that is one byte and three of padding.
pub(super) fn small(value: &[u8]) -> Result<u8, Problem> {
    let [number, _, _, _] = fixed(value)?;
    Ok(number)
}

/// The value for [`small`].
pub(super) fn small_bytes(number: u8) -> [u8; 4] {
    [number, 0, 0, 0]
}

/// A time in milliseconds.
pub(super) fn millis(value: &[u8]) -> Result<Duration, Problem> {
    Ok(Duration::from_millis(u32::from_be_bytes(fixed(value)?).into()))
}

/// The value for [`millis`]; what does not fit is the greatest that does, 49 days.
pub(super) fn millis_bytes(time: Duration) -> [u8; 4] {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).to_be_bytes()
}

/// A time in microseconds.
pub(super) fn micros(value: &[u8]) -> Result<Duration, Problem> {
    Ok(Duration::from_micros(u32::from_be_bytes(fixed(value)?).into()))
}

/// The value for [`micros`]; what does not fit is the greatest that does, 71 minutes.
pub(super) fn micros_bytes(time: Duration) -> [u8; 4] {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX).to_be_bytes()
}

/// The value of TRANSPORTS.
pub(super) fn transports(value: &[u8]) -> Result<TransportChoice, Problem> {
    match small(value)? {
        1 => Ok(TransportChoice::Tcp),
        2 => Ok(TransportChoice::Udp),
        3 => Ok(TransportChoice::Any),
        other => Err(Problem::Value(other.into())),
    }
}

/// The value for [`transports`].
pub(super) fn transports_bytes(choice: TransportChoice) -> [u8; 4] {
    small_bytes(match choice {
        TransportChoice::Tcp => 1,
        TransportChoice::Udp => 2,
        TransportChoice::Any => 3,
    })
}

/// The value of ROLE.
pub(super) fn role(value: &[u8]) -> Result<Role, Problem> {
    match small(value)? {
        1 => Ok(Role::Controlling),
        2 => Ok(Role::Controlled),
        other => Err(Problem::Value(other.into())),
    }
}

/// The value for [`role`].
pub(super) fn role_bytes(role: Role) -> [u8; 4] {
    small_bytes(match role {
        Role::Controlling => 1,
        Role::Controlled => 2,
    })
}

/// The value of ROUND.
pub(super) fn round(value: &[u8]) -> Result<Round, Problem> {
    match small(value)? {
        0 => Err(Problem::Value(0)),
        number => Ok(Round(number)),
    }
}

/// The value of CANDIDATES: entries one after the other.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-------+-------+---------------+-------------------------------+
/// | kind  |transp.| family 1 or 2 |            X-Port             |
/// +-------+-------+---------------+-------------------------------+
/// |          X-Address: 32 bits of IPv4 or 128 of IPv6            |
/// +---------------------------------------------------------------+
/// ```
///
/// Port and address are obscured as in XOR-MAPPED-ADDRESS (RFC 8489 section 14.2). An entry of an
/// unknown kind or transport is passed over, so that later versions may add some.
pub(super) fn candidates(
    value: &[u8],
    transaction: TransactionId,
) -> Result<Vec<Candidate>, Problem> {
    let mut candidates = Vec::new();
    let mut rest = value;
    while let Some(&[kinds, family, ..]) = rest.first_chunk::<4>() {
        let length = match family {
            1 => 8,
            2 => 20,
            other => return Err(Problem::Family(other)),
        };
        let (entry, after) = rest.split_at_checked(length).ok_or(Problem::Length(value.len()))?;
        rest = after;
        let address = address::decode_xor(entry, transaction)?;
        if let (Some(kind), Some(transport)) = (kind(kinds >> 4), transport(kinds & 0x0F)) {
            candidates.push(Candidate { kind, transport, address });
        }
    }
    if !rest.is_empty() || candidates.len() > MAX_CANDIDATES {
        return Err(Problem::Length(value.len()));
    }
    Ok(candidates)
}

/// The value for [`candidates`]; more than [`MAX_CANDIDATES`] are cut off, worst kind first.
pub(super) fn candidates_bytes(candidates: &[Candidate], transaction: TransactionId) -> Vec<u8> {
    let mut chosen: Vec<Candidate> = candidates.to_vec();
    if chosen.len() > MAX_CANDIDATES {
        chosen.sort_by_key(|it| it.kind);
        chosen.truncate(MAX_CANDIDATES);
    }
    let mut value = Vec::new();
    for candidate in chosen {
        let start = value.len();
        value.resize(start + address::encoded_len(candidate.address), 0);
        address::encode_xor(candidate.address, &mut value[start..], transaction);
        value[start] = kind_number(candidate.kind) << 4 | transport_number(candidate.transport);
    }
    value
}

fn kind(number: u8) -> Option<CandidateKind> {
    match number {
        1 => Some(CandidateKind::Host),
        2 => Some(CandidateKind::Mapped),
        3 => Some(CandidateKind::ServerReflexive),
        4 => Some(CandidateKind::PeerReflexive),
        5 => Some(CandidateKind::Reserve),
        _ => None,
    }
}

fn kind_number(kind: CandidateKind) -> u8 {
    match kind {
        CandidateKind::Host => 1,
        CandidateKind::Mapped => 2,
        CandidateKind::ServerReflexive => 3,
        CandidateKind::PeerReflexive => 4,
        CandidateKind::Reserve => 5,
    }
}

fn transport(number: u8) -> Option<Transport> {
    match number {
        1 => Some(Transport::Tcp),
        2 => Some(Transport::Udp),
        _ => None,
    }
}

fn transport_number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 1,
        Transport::Udp => 2,
    }
}

/// The value of an address attribute in the XOR form (RFC 8489 section 14.2).
pub(super) fn xor_address_bytes(address: SocketAddr, transaction: TransactionId) -> Vec<u8> {
    let mut value = vec![0; address::encoded_len(address)];
    address::encode_xor(address, &mut value, transaction);
    value
}
