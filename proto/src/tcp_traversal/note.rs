//! What two peers tell each other while they punch: a [`Standing`], signed, through the broker.
//!
//! A note is a state, not an event: each one replaces all earlier ones, so that losing or repeating
//! some does no harm. The broker passes it on without understanding it, and cannot make one up: the
//! bytes are authenticated with a key of the sender's role, derived from the session's secret.
//! (The broker hands that secret out and so could compute the key; what this guards against is
//! everybody else on the way, and one peer's note taken for the other's.)
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  version = 1  |     ports     |            serial             |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      low port, or step        |           high port           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          next port            |     count     |     round     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |    opened     |  privileges   |     facts     |  spare family |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          spare port           |   spare address, 16 bytes ... |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                   optional parts, see below                   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                  first 16 bytes of HMAC-SHA256                |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! `ports`: 0 unknown, 1 steady, 2 sequential, 3 random. `facts`: bit 0 the answer to strangers is
//! known, bit 1 it is one; bit 2 the fate of an inbound SYN is known, bit 3 it is let in; bit 4 the
//! sender waits as an opener; bit 5 it asks for connect, close and listen; bit 6 it has given up.
//!
//! A part begins with its kind and its length without these two bytes; one of an unknown kind or
//! length is passed over. Kind 1 is the [`Stand`] of what is made by hand, at most one of it:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   kind = 1    |  length = 36  |     state     |    family     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |             port              |         address, 16 bytes ... |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |           SYN, 16 bytes, as in the SYN attribute ...          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! `state`: bit 0 there is a SYN, bit 1 the sender listens. Kind 2, of two bytes, says that the sender's
//! budget of new connections is spent, and after how many tenths of a second it is full again. Kind 3, of 26
//! bytes, has the sender's round trip to a server in tenths of milliseconds, and 12 fresh ports of the address
//! of `spare` for a staggered crossing; 0 is none. Kind 4, of one byte, has four more facts: bits 0 and 1 whether a
//! listener of the sender is reached after an RST, bits 2 and 3 whether a hole outlives the end of a TTL, bits 4 and 5
//! whether it outlives an RST, bits 6 and 7 whether a SYN-ACK gets out after a SYN.
//! Kind 5 is about [`Datagrams`]:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   kind = 5    |  length = 28  |     ports     |     round     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      low port, or step        |           high port           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          next port            |    opened     |    family     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |             port              |         address, 16 bytes ... |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Kind 6 is about the port of a ghost, kind 7 about the [reserve](super::reserve), a [`Meet`] each: 20 bytes, a state
//! with bit 0 for "has opened", and family, port and address as above.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::crossing::PAIRS;
use super::plan::Privileges;
use super::survey::Ports;
use crate::signal::{Role, SessionSecret, Syn};

/// The version of this layout; another one is not understood.
const VERSION: u8 = 1;
/// Bytes before the signature.
const BODY: usize = 34;
/// Bytes of the signature: half of HMAC-SHA256 (RFC 2104 section 5 asks for half at least).
const SIGNATURE: usize = 16;
/// Length of a note without parts.
pub const LENGTH: usize = BODY + SIGNATURE;
/// Kind and length of the part about the stand.
const STAND: [u8; 2] = [1, 36];
/// Kind and length of the part about the budget.
const SPENT: [u8; 2] = [2, 2];
/// Kind and length of the part with further fresh ports.
const CROWD: [u8; 2] = [3, 2 + 2 * PAIRS as u8];
/// Kind and length of the part with further facts.
const MANNERS: [u8; 2] = [4, 1];
/// Kind and length of the part about UDP.
const DATAGRAMS: [u8; 2] = [5, 28];
/// Kind and length of the part about a ghost.
const HAUNT: [u8; 2] = [6, 20];
/// Kind and length of the part about the reserve.
const RESERVE: [u8; 2] = [7, 20];
const HAS_SYN: u8 = 1;
const LISTENS: u8 = 2;
/// Most ports that a forecast may span: each costs the peer a SYN.
pub const MAX_FORECAST: u8 = 12;

/// The ports that the next new mappings will have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// The first of them.
    pub first: u16,
    /// From one to the next.
    pub step: i16,
    /// How many are worth trying, at least 1; 1 is an exact forecast.
    pub count: u8,
}

impl Forecast {
    /// The ports, likeliest first.
    pub fn ports(&self) -> impl Iterator<Item = u16> + use<> {
        let Self { first, step, count } = *self;
        let port = move |index: u8| first.wrapping_add_signed(step.wrapping_mul(i16::from(index)));
        (0..count.min(MAX_FORECAST)).map(port).filter(|port| *port != 0)
    }
}

/// The fresh port of one side for what is made by hand (see [`forgery`](super::forgery)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stand {
    /// How the outside sees it; `None` while that is being asked.
    pub mapped: Option<SocketAddr>,
    /// The SYN that has left from there.
    pub syn: Option<Syn>,
    /// Instead of a connecting socket it has a listening one.
    pub listens: bool,
}

/// A port of one side that nobody has sent anything to, for a [ghost](super::ghost_handshake) or from the
/// [reserve](super::reserve).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meet {
    /// How the outside sees it.
    pub mapped: SocketAddr,
    /// The own NAT is open, and the socket hears.
    pub opened: bool,
}

/// Where one side stands with UDP, once checks between the announced ends have come to nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Datagrams {
    /// What the outside sees of its ports.
    pub ports: Ports,
    /// The round it is at; 0 before the first.
    pub round: u8,
    /// The last round in which it has opened its own NAT.
    pub opened: u8,
    /// How a server sees its fresh port of this round; `None` while that is being asked.
    pub mapped: Option<SocketAddr>,
    /// The port that it will have towards the next destination, if ports follow one another; else 0.
    pub next: u16,
}

/// Fresh ports for a [staggered crossing](super::crossing), all of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// How the outside sees them; the first `count` of these.
    ports: [u16; PAIRS],
    count: u8,
    /// Round trip to a server, in tenths of milliseconds.
    rtt: u16,
}

impl Crowd {
    /// The first of these ports, and the round trip.
    pub fn new(all: &[u16], rtt: Duration) -> Self {
        let mut ports = [0; PAIRS];
        let count = all.len().min(PAIRS);
        ports[..count].copy_from_slice(&all[..count]);
        let rtt = u16::try_from(rtt.as_micros() / 100).unwrap_or(u16::MAX);
        Self { ports, count: u8::try_from(count).unwrap_or_default(), rtt }
    }

    /// The ports.
    pub fn ports(&self) -> &[u16] {
        &self.ports[..usize::from(self.count).min(PAIRS)]
    }

    /// The round trip.
    pub fn rtt(&self) -> Duration {
        Duration::from_micros(100) * u32::from(self.rtt)
    }
}

/// Where one side of a session stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Counts the changes, from 1.
    pub serial: u16,
    /// What the outside sees of its ports.
    pub ports: Ports,
    /// The ports of its next mappings.
    pub forecast: Option<Forecast>,
    /// The round of port prediction that the forecast is for; 0 before the first.
    pub round: u8,
    /// The last round for which it has opened its own NAT and waits to be dialled.
    pub opened: u8,
    /// It waits as a shielded opener at its announced end.
    pub waits: bool,
    /// It asks for connect, close and listen.
    pub classic: bool,
    /// It has given up: nothing more will come of this.
    pub over: bool,
    /// What it may do; `None` was not told.
    pub privileges: Option<Privileges>,
    /// Whether its NAT answers strangers.
    pub answers: Option<bool>,
    /// Whether its NAT lets a SYN in after one went out.
    pub admits_syn: Option<bool>,
    /// Whether a listener of it is reached after an RST.
    pub listener_reached: Option<bool>,
    /// Whether a hole of its NAT outlives the end of a TTL.
    pub hole_outlives_ttl: Option<bool>,
    /// Whether a hole of its NAT outlives an RST.
    pub hole_outlives_rst: Option<bool>,
    /// Whether its NAT lets a SYN-ACK out after a SYN.
    pub answers_early: Option<bool>,
    /// The mapped address of a port that no SYN has left from towards the peer.
    pub spare: Option<SocketAddr>,
    /// It wants to go on by hand, or does.
    pub stand: Option<Stand>,
    /// It waits for a ghost, or has one.
    pub haunt: Option<Meet>,
    /// More such ports for a staggered crossing.
    pub crowd: Option<Crowd>,
    /// Its budget is spent, and full again after so many tenths of a second.
    pub spent: Option<u16>,
    /// Its reserve.
    pub reserve: Option<Meet>,
    /// How it goes on over UDP.
    pub datagrams: Option<Datagrams>,
}

/// Signs our notes and checks the peer's.
#[derive(Debug, Clone)]
pub struct Notary {
    ours: [u8; 32],
    theirs: [u8; 32],
}

impl Notary {
    /// For our `role` in the session of that secret.
    pub fn new(secret: &SessionSecret, role: Role) -> Self {
        let (ours, theirs) = match role {
            Role::Controlling => (Role::Controlling, Role::Controlled),
            Role::Controlled => (Role::Controlled, Role::Controlling),
        };
        Self { ours: key(secret, ours), theirs: key(secret, theirs) }
    }

    /// Our standing as bytes.
    pub fn write(&self, standing: &Standing) -> Vec<u8> {
        let mut bytes = body(standing).to_vec();
        bytes.extend(standing.stand.iter().flat_map(stand_part));
        bytes.extend(manners_part(standing).iter().flatten());
        bytes.extend(standing.crowd.iter().flat_map(crowd_part));
        bytes.extend(standing.spent.iter().flat_map(spent_part));
        bytes.extend(standing.datagrams.iter().flat_map(datagrams_part));
        bytes.extend(standing.haunt.into_iter().flat_map(|it| meet_part(HAUNT, it)));
        bytes.extend(standing.reserve.into_iter().flat_map(|it| meet_part(RESERVE, it)));
        self.sign(&bytes)
    }

    /// Any bytes of ours, signed: whether they say anything is the reader's question.
    pub fn sign(&self, told: &[u8]) -> Vec<u8> {
        [told, &signature(&self.ours, told)].concat()
    }

    /// The peer's standing; `None` if the peer did not write that.
    pub fn read(&self, bytes: &[u8]) -> Option<Standing> {
        let (told, signed) = bytes.split_at(bytes.len().checked_sub(SIGNATURE)?);
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.theirs).ok()?;
        mac.update(told);
        mac.verify_truncated_left(signed).ok()?;
        let (body, parts) = told.split_first_chunk::<BODY>()?;
        let manners = part_of(parts, MANNERS).and_then(|part| part.first().copied()).unwrap_or(0);
        Some(Standing {
            listener_reached: known(manners),
            hole_outlives_ttl: known(manners >> 2),
            hole_outlives_rst: known(manners >> 4),
            answers_early: known(manners >> 6),
            stand: stand_of(parts),
            haunt: meet_of(HAUNT, parts),
            reserve: meet_of(RESERVE, parts),
            crowd: crowd_of(parts),
            spent: spent_of(parts),
            datagrams: datagrams_of(parts),
            ..parse(body)?
        })
    }
}

fn key(secret: &SessionSecret, role: Role) -> [u8; 32] {
    let label: &[u8] = match role {
        Role::Controlling => b"ntcp note controlling",
        Role::Controlled => b"ntcp note controlled",
    };
    hmac(&secret.0, label)
}

/// HMAC-SHA256.
pub(super) fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn signature(key: &[u8; 32], body: &[u8]) -> [u8; SIGNATURE] {
    let mut short = [0; SIGNATURE];
    short.copy_from_slice(&hmac(key, body)[..SIGNATURE]);
    short
}

/// A kind and two numbers.
fn ports_numbers(ports: Ports) -> (u8, u16, u16) {
    match ports {
        Ports::Unknown => (0, 0, 0),
        Ports::Steady => (1, 0, 0),
        Ports::Sequential { step } => (2, step.cast_unsigned(), 0),
        Ports::Random { low, high } => (3, low, high),
    }
}

/// The reverse; `None` of what nobody means.
fn ports_of(kind: u8, low: u16, high: u16) -> Option<Ports> {
    match kind {
        0 => Some(Ports::Unknown),
        1 => Some(Ports::Steady),
        2 if low != 0 => Some(Ports::Sequential { step: low.cast_signed() }),
        3 if low <= high => Some(Ports::Random { low, high }),
        _ => None,
    }
}

fn body(standing: &Standing) -> [u8; BODY] {
    let (kind, low, high) = ports_numbers(standing.ports);
    let forecast = standing.forecast.filter(|_| kind == 2);
    let (next, count) = forecast.map_or((0, 0), |it| (it.first, it.count));
    let mut bytes = [0; BODY];
    (bytes[0], bytes[1]) = (VERSION, kind);
    bytes[2..4].copy_from_slice(&standing.serial.to_be_bytes());
    bytes[4..6].copy_from_slice(&low.to_be_bytes());
    bytes[6..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..10].copy_from_slice(&next.to_be_bytes());
    (bytes[10], bytes[11], bytes[12]) = (count, standing.round, standing.opened);
    bytes[13] = standing.privileges.map_or(0, |held| 0x80 | held.to_bits());
    bytes[14] = fact(standing.answers)
        | fact(standing.admits_syn) << 2
        | u8::from(standing.waits) << 4
        | u8::from(standing.classic) << 5
        | u8::from(standing.over) << 6;
    bytes[15..34].copy_from_slice(&address_bytes(standing.spare));
    bytes
}

/// Family, port and address.
fn address_bytes(address: Option<SocketAddr>) -> [u8; 19] {
    let mut bytes = [0; 19];
    let Some(address) = address else { return bytes };
    bytes[1..3].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes[0] = 4;
            bytes[3..7].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes[0] = 6;
            bytes[3..].copy_from_slice(&ip.octets());
        }
    }
    bytes
}

/// The reverse.
fn address_of(bytes: &[u8; 19]) -> Option<SocketAddr> {
    let [family, p0, p1, octets @ ..] = *bytes;
    let [a, b, c, d, ..] = octets;
    let ip: IpAddr = match family {
        4 => Ipv4Addr::new(a, b, c, d).into(),
        6 => Ipv6Addr::from(octets).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([p0, p1]))).filter(|it| it.port() != 0)
}

fn stand_part(stand: &Stand) -> Vec<u8> {
    let bit = |holds: bool, bit: u8| if holds { bit } else { 0 };
    let mut bytes = STAND.to_vec();
    bytes.push(bit(stand.syn.is_some(), HAS_SYN) | bit(stand.listens, LISTENS));
    bytes.extend(address_bytes(stand.mapped));
    bytes.extend(stand.syn.map_or([0; 16], Syn::to_bytes));
    bytes
}

/// What follows the kind and the length of the first part of this kind and length.
fn part_of(mut parts: &[u8], wanted: [u8; 2]) -> Option<&[u8]> {
    while let Some(([kind, length], rest)) = parts.split_first_chunk() {
        let (part, others) = rest.split_at_checked(usize::from(*length))?;
        if [*kind, *length] == wanted {
            return Some(part);
        }
        parts = others;
    }
    None
}

/// The stand among these parts, if it is there and whole.
fn stand_of(parts: &[u8]) -> Option<Stand> {
    let (state, rest) = part_of(parts, STAND)?.split_first()?;
    let (address, rest) = rest.split_first_chunk()?;
    let syn = Syn::from_bytes(*rest.first_chunk()?).ok();
    Some(Stand {
        mapped: address_of(address),
        syn: syn.filter(|_| state & HAS_SYN != 0),
        listens: state & LISTENS != 0,
    })
}

fn meet_part(kind: [u8; 2], meet: Meet) -> Vec<u8> {
    let mut bytes = kind.to_vec();
    bytes.push(u8::from(meet.opened));
    bytes.extend(address_bytes(Some(meet.mapped)));
    bytes
}

fn meet_of(kind: [u8; 2], parts: &[u8]) -> Option<Meet> {
    let (state, address) = part_of(parts, kind)?.split_first()?;
    let mapped = address_of(address.first_chunk()?)?;
    Some(Meet { mapped, opened: state & 1 != 0 })
}

fn manners_part(standing: &Standing) -> Option<[u8; 3]> {
    let [kind, length] = MANNERS;
    let facts = fact(standing.listener_reached)
        | fact(standing.hole_outlives_ttl) << 2
        | fact(standing.hole_outlives_rst) << 4
        | fact(standing.answers_early) << 6;
    (facts != 0).then_some([kind, length, facts])
}

fn crowd_part(crowd: &Crowd) -> Vec<u8> {
    let mut bytes = CROWD.to_vec();
    bytes.extend(crowd.rtt.to_be_bytes());
    bytes.extend(crowd.ports.iter().flat_map(|port| port.to_be_bytes()));
    bytes
}

/// A port 0 is none.
fn crowd_of(parts: &[u8]) -> Option<Crowd> {
    let mut numbers = part_of(parts, CROWD)?.chunks_exact(2);
    let mut next = || numbers.next().map(|it| u16::from_be_bytes([it[0], it[1]]));
    let rtt = next()?;
    let ports: Vec<u16> = std::iter::from_fn(next).filter(|port| *port != 0).collect();
    Some(Crowd { rtt, ..Crowd::new(&ports, Duration::ZERO) })
}

fn spent_part(spent: &u16) -> [u8; 4] {
    let ([kind, length], [high, low]) = (SPENT, spent.to_be_bytes());
    [kind, length, high, low]
}

fn spent_of(parts: &[u8]) -> Option<u16> {
    part_of(parts, SPENT)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn datagrams_part(datagrams: &Datagrams) -> Vec<u8> {
    let (kind, low, high) = ports_numbers(datagrams.ports);
    let mut bytes = DATAGRAMS.to_vec();
    bytes.extend([kind, datagrams.round]);
    bytes.extend([low, high, datagrams.next].into_iter().flat_map(u16::to_be_bytes));
    bytes.push(datagrams.opened);
    bytes.extend(address_bytes(datagrams.mapped));
    bytes
}

/// What is told of UDP, if it is there and makes sense.
fn datagrams_of(parts: &[u8]) -> Option<Datagrams> {
    let ([kind, round, l0, l1, h0, h1, n0, n1, opened], address) =
        part_of(parts, DATAGRAMS)?.split_first_chunk()?;
    let (low, high) = (u16::from_be_bytes([*l0, *l1]), u16::from_be_bytes([*h0, *h1]));
    Some(Datagrams {
        ports: ports_of(*kind, low, high)?,
        round: *round,
        opened: *opened,
        mapped: address_of(address.first_chunk()?),
        next: u16::from_be_bytes([*n0, *n1]),
    })
}

fn parse(bytes: &[u8; BODY]) -> Option<Standing> {
    let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let ports = ports_of(bytes[1], number(4), number(6))?;
    if bytes[0] != VERSION {
        return None;
    }
    let forecast = match (ports, bytes[10]) {
        (Ports::Sequential { step }, count @ 1..=MAX_FORECAST) => {
            Some(Forecast { first: number(8), step, count })
        }
        _ => None,
    };
    Some(Standing {
        serial: number(2),
        ports,
        forecast,
        round: bytes[11],
        opened: bytes[12],
        waits: bytes[14] & 0x10 != 0,
        classic: bytes[14] & 0x20 != 0,
        over: bytes[14] & 0x40 != 0,
        privileges: (bytes[13] & 0x80 != 0).then(|| Privileges::from_bits(bytes[13])),
        answers: known(bytes[14]),
        admits_syn: known(bytes[14] >> 2),
        listener_reached: None,
        hole_outlives_ttl: None,
        hole_outlives_rst: None,
        answers_early: None,
        spare: bytes.last_chunk().and_then(address_of),
        stand: None,
        haunt: None,
        reserve: None,
        crowd: None,
        spent: None,
        datagrams: None,
    })
}

fn fact(fact: Option<bool>) -> u8 {
    match fact {
        None => 0,
        Some(false) => 1,
        Some(true) => 3,
    }
}

fn known(bits: u8) -> Option<bool> {
    (bits & 1 != 0).then_some(bits & 2 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notaries() -> [Notary; 2] {
        let secret = SessionSecret([7; 32]);
        [Role::Controlling, Role::Controlled].map(|role| Notary::new(&secret, role))
    }

    fn full() -> Standing {
        Standing {
            serial: 300,
            ports: Ports::Sequential { step: -4 },
            forecast: Some(Forecast { first: 20_004, step: -4, count: 5 }),
            round: 2,
            opened: 1,
            waits: true,
            classic: true,
            over: true,
            privileges: Some(Privileges { assume: true, ..Privileges::NONE }),
            answers: Some(true),
            admits_syn: Some(false),
            listener_reached: Some(false),
            hole_outlives_ttl: Some(true),
            hole_outlives_rst: Some(false),
            answers_early: Some(true),
            spare: Some("198.51.100.7:4242".parse().unwrap()),
            stand: Some(Stand {
                mapped: Some("198.51.100.7:4243".parse().unwrap()),
                syn: Some(crate::tcp_traversal::forgery::tests::full(u32::MAX, 7)),
                listens: true,
            }),
            haunt: Some(Meet { mapped: "[2001:db8::1]:7".parse().unwrap(), opened: true }),
            reserve: Some(Meet { mapped: "192.0.2.9:9".parse().unwrap(), opened: false }),
            crowd: Some(Crowd::new(&[1, 2, u16::MAX], Duration::from_micros(40_300))),
            spent: Some(599),
            datagrams: Some(Datagrams {
                ports: Ports::Random { low: 30_000, high: 30_511 },
                round: 3,
                opened: 2,
                mapped: Some("198.51.100.7:4244".parse().unwrap()),
                next: 4245,
            }),
        }
    }

    fn standings() -> [Standing; 7] {
        let random = Ports::Random { low: 1024, high: 65_535 };
        let spare = Some("[2001:db8::1]:9".parse().unwrap());
        [
            Standing::default(),
            Standing { ports: Ports::Steady, ..Standing::default() },
            Standing { ports: random, spare, ..Standing::default() },
            Standing { stand: Some(Stand::default()), ..Standing::default() },
            Standing { spent: Some(u16::MAX), ..Standing::default() },
            Standing { datagrams: Some(Datagrams::default()), ..Standing::default() },
            full(),
        ]
    }

    /// With `NTCP_BLESS=1` in the environment the corpus is rewritten instead of compared.
    #[test]
    fn the_corpus_of_the_fuzz_target_holds_every_standing() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/peer");
        let [caller, _] = notaries();
        for (number, standing) in standings().iter().enumerate() {
            let (path, note) = (format!("{folder}/note-{number}"), caller.write(standing));
            let (body, _) = note.split_at(note.len() - SIGNATURE);
            if std::env::var_os("NTCP_BLESS").is_some() {
                std::fs::write(&path, body).unwrap();
            }
            assert_eq!(std::fs::read(&path).unwrap(), body, "{path}");
        }
    }

    #[test]
    fn a_standing_survives_the_way_through_the_broker() {
        let [caller, callee] = notaries();
        for standing in standings() {
            assert_eq!(callee.read(&caller.write(&standing)), Some(standing));
            assert_eq!(caller.read(&callee.write(&standing)), Some(standing));
        }
    }

    #[test]
    fn what_the_peer_did_not_write_is_not_read() {
        let [caller, callee] = notaries();
        let bytes = caller.write(&full());
        assert_eq!(caller.read(&bytes), None, "an echo of our own");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(callee.read(&changed), None, "byte {at}");
            assert_eq!(callee.read(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn every_signed_body_parses_or_is_refused_without_a_panic() {
        for at in 0..BODY {
            for value in 0..=255 {
                let mut bytes = body(&full());
                bytes[at] = value;
                if let Some(standing) = parse(&bytes) {
                    assert!(standing.forecast.is_none_or(|it| it.ports().count() <= 12));
                }
            }
        }
    }

    #[test]
    fn every_part_is_understood_or_passed_over_without_a_panic() {
        let stand = full().stand.unwrap();
        let part = stand_part(&stand);
        assert_eq!(part.len(), 2 + usize::from(STAND[1]));
        assert_eq!(stand_of(&[&[9, 3, 1, 2, 3, 0, 0][..], &part].concat()), Some(stand));
        for at in 0..part.len() {
            assert_eq!(stand_of(&part[..at]), None, "cut at {at}");
            for value in 0..=255 {
                let mut bytes = part.clone();
                bytes[at] = value;
                let scale = |it: Stand| it.syn.and_then(|syn| syn.options.window_scale);
                assert!(stand_of(&bytes).and_then(scale).is_none_or(|scale| scale <= 14));
            }
        }
    }

    #[test]
    fn a_note_without_parts_is_as_long_as_ever_and_one_with_fits_the_brokers_message() {
        let [caller, _] = notaries();
        assert_eq!(caller.write(&Standing::default()).len(), LENGTH);
        assert!(caller.write(&full()).len() <= crate::signal::message::MAX_NOTE_BYTES);
    }

    #[test]
    fn a_forecast_names_its_ports_in_order_and_never_port_zero() {
        let forecast = Forecast { first: 65_534, step: 1, count: 4 };
        assert_eq!(forecast.ports().collect::<Vec<_>>(), [65_534, 65_535, 1]);
    }
}
