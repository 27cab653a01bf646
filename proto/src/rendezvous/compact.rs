//! What of a peer is kept in fewer bytes than it is spoken of in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::bucket::Bucket;
use super::link::Link;
use crate::candidate::{Candidate, CandidateKind, Transport};
use crate::uri::PeerName;

/// How a peer is reached. Most are over UDP and IPv4; the others have a block of memory of their own.
#[derive(Debug)]
pub(super) enum KeptLink {
    Udp { local: Ipv4Addr, remote: Ipv4Addr, port: u16 },
    Other(Box<Link>),
}

impl From<Link> for KeptLink {
    fn from(link: Link) -> Self {
        match link {
            Link::Udp { local: Some(IpAddr::V4(local)), remote: SocketAddr::V4(remote) } => {
                Self::Udp { local, remote: *remote.ip(), port: remote.port() }
            }
            other => Self::Other(Box::new(other)),
        }
    }
}

impl KeptLink {
    pub(super) fn link(&self) -> Link {
        match self {
            Self::Udp { local, remote, port } => Link::Udp {
                local: Some(IpAddr::V4(*local)),
                remote: SocketAddr::from((*remote, *port)),
            },
            Self::Other(link) => **link,
        }
    }
}

/// A peer's name and candidates, in one block of memory.
///
/// ```text
///  length of the name | name | kind, transport, 4 or 6, port (2 bytes), IP address (4 or 16) | …
/// ```
#[derive(Debug)]
pub(super) struct Shown(Box<[u8]>);

const KINDS: [CandidateKind; 5] = [
    CandidateKind::Host,
    CandidateKind::Mapped,
    CandidateKind::ServerReflexive,
    CandidateKind::PeerReflexive,
    CandidateKind::Reserve,
];

impl Shown {
    pub(super) fn new(name: Option<&str>, candidates: &[Candidate]) -> Self {
        let name = name.unwrap_or_default();
        let mut bytes = Vec::with_capacity(1 + name.len() + 8 * candidates.len());
        // A name has at most 255 bytes.
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name.as_bytes());
        for candidate in candidates {
            let transport = u8::from(candidate.transport == Transport::Udp);
            bytes.extend_from_slice(&[candidate.kind as u8 * 2 + transport]);
            let port = candidate.address.port().to_be_bytes();
            match candidate.address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&port);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&port);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
        }
        Self(bytes.into())
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let (length, rest) = self.0.split_first().unwrap_or((&0, &[]));
        rest.split_at_checked(usize::from(*length)).unwrap_or_default()
    }

    /// Allocates nothing, other than [`Self::name`].
    pub(super) fn name_str(&self) -> Option<&str> {
        std::str::from_utf8(self.parts().0).ok().filter(|it| !it.is_empty())
    }

    pub(super) fn name(&self) -> Option<PeerName> {
        self.name_str()?.parse().ok()
    }

    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let (_, mut rest) = self.parts();
        let mut all = Vec::new();
        while let Some((&[kinds, family, a, b], after)) = rest.split_first_chunk() {
            let ip = if family == 4 {
                let Some((ip, after)) = after.split_first_chunk::<4>() else { break };
                rest = after;
                IpAddr::from(*ip)
            } else {
                let Some((ip, after)) = after.split_first_chunk::<16>() else { break };
                rest = after;
                IpAddr::from(*ip)
            };
            let Some(kind) = KINDS.get(usize::from(kinds / 2)).copied() else { break };
            let transport = if kinds % 2 == 1 { Transport::Udp } else { Transport::Tcp };
            let address = SocketAddr::new(ip, u16::from_be_bytes([a, b]));
            all.push(Candidate { kind, transport, address });
        }
        all
    }
}

/// A time as messages carry it: 32 bits of some unit. A longer one is kept as the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Millis(u32);

impl From<Duration> for Millis {
    fn from(time: Duration) -> Self {
        Self(u32::try_from(time.as_millis()).unwrap_or(u32::MAX))
    }
}

impl From<Millis> for Duration {
    fn from(Millis(millis): Millis) -> Self {
        Self::from_millis(millis.into())
    }
}

/// Likewise in microseconds, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Micros(Option<std::num::NonZeroU32>);

impl From<Option<Duration>> for Micros {
    fn from(time: Option<Duration>) -> Self {
        // One more than it is; the longest is an hour and some minutes.
        let kept = time.map(|it| u32::try_from(it.as_micros()).unwrap_or(u32::MAX));
        Self(kept.map(|it| std::num::NonZeroU32::MIN.saturating_add(it)))
    }
}

impl From<Micros> for Option<Duration> {
    fn from(Micros(kept): Micros) -> Self {
        kept.map(|it| Duration::from_micros(u64::from(it.get()) - 1))
    }
}

/// When a peer may send a whole burst of requests again: nanoseconds after the broker started, 0 if it has sent none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rested(u64);

impl Rested {
    /// Takes a token of the peer's, if there is one.
    pub(super) fn take(
        &mut self,
        (burst, per_second): (u32, u32),
        start: Instant,
        now: Instant,
    ) -> bool {
        let mut bucket = Bucket::full(start + Duration::from_nanos(self.0));
        let taken = bucket.take(burst, per_second, now);
        let nanos = bucket.full_at().saturating_duration_since(start).as_nanos();
        // 584 years of running are enough.
        self.0 = u64::try_from(nanos).unwrap_or(u64::MAX);
        taken
    }
}

/// How many of a peer's refreshes are remembered, so that a late copy does not undo a younger one.
const REMEMBERED_REFRESHES: usize = 8;

/// A peer's latest refreshes, each by 32 bits folded out of its transaction's 96 random ones. That another one has the same,
/// once in 500 million, delays what it says to the peer's next one.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    /// As bytes, which may lie anywhere.
    marks: [[u8; 4]; REMEMBERED_REFRESHES],
    /// How many of them there are, and which is the oldest once all are.
    count: u8,
    oldest: u8,
}

impl Refreshes {
    /// Notes a refresh; `false` if it is known already.
    pub(super) fn note(&mut self, transaction: TransactionId) -> bool {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *transaction.as_bytes();
        let mark = [a ^ e ^ i, b ^ f ^ j, c ^ g ^ k, d ^ h ^ l];
        let count = usize::from(self.count);
        if self.marks[..count].contains(&mark) {
            return false;
        }
        if count < REMEMBERED_REFRESHES {
            self.marks[count] = mark;
            self.count += 1;
        } else {
            self.marks[usize::from(self.oldest)] = mark;
            self.oldest = (self.oldest + 1) % REMEMBERED_REFRESHES as u8;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_shows_is_kept_whole() {
        let addresses = ["192.0.2.1:1", "[2001:db8::7]:65535", "203.0.113.255:0", "[::]:80"];
        let candidates: Vec<_> = addresses
            .iter()
            .zip(KINDS)
            .flat_map(|(address, kind)| {
                [Transport::Tcp, Transport::Udp].map(|transport| Candidate {
                    kind,
                    transport,
                    address: address.parse().unwrap(),
                })
            })
            .collect();
        let longest = "n".repeat(255);
        for name in [None, Some("a"), Some("bob.example-1~_"), Some(longest.as_str())] {
            for count in 0..=candidates.len() {
                let shown = Shown::new(name, &candidates[..count]);
                assert_eq!(shown.name_str(), name);
                assert_eq!(shown.name(), name.map(|it| it.parse().unwrap()));
                assert_eq!(shown.candidates(), candidates[..count]);
            }
        }
    }

    #[test]
    fn times_are_kept_as_messages_carry_them() {
        for millis in [0, 1, 300_000, u32::MAX] {
            let time = Duration::from_millis(millis.into());
            assert_eq!(Duration::from(Millis::from(time)), time);
        }
        for micros in [0, 1, 40_000, u32::MAX - 1] {
            let time = Some(Duration::from_micros(micros.into()));
            assert_eq!(Option::<Duration>::from(Micros::from(time)), time);
        }
        assert_eq!(Option::<Duration>::from(Micros::from(None)), None);
        let long = Some(Duration::from_secs(1 << 40));
        assert!(Option::<Duration>::from(Micros::from(long)) > Some(Duration::from_secs(4000)));
    }

    #[test]
    fn every_link_is_kept_as_it_is() {
        let remotes = ["192.0.2.1:7", "[2001:db8::1%3]:7"].map(|it| it.parse().unwrap());
        for remote in remotes {
            let locals = [None, Some(IpAddr::from([192, 0, 2, 9])), Some(IpAddr::from([1; 16]))];
            for local in locals {
                let link = Link::Udp { local, remote };
                assert_eq!(KeptLink::from(link).link(), link);
            }
            let link = Link::Tcp { stream: super::super::StreamId(7), remote };
            assert_eq!(KeptLink::from(link).link(), link);
        }
        assert_eq!(size_of::<KeptLink>(), 16);
    }

    #[test]
    fn a_peer_s_requests_are_counted_as_by_a_bucket() {
        let start = crate::machine::any_instant();
        let (mut rested, mut bucket) = (Rested::default(), Bucket::full(start));
        for step in 0..500_u64 {
            let now = start + Duration::from_millis(step * step % 977 + step * 9);
            let taken = rested.take((5, 50), start, now);
            assert_eq!(taken, bucket.take(5, 50, now), "step {step}");
        }
    }

    #[test]
    fn eight_refreshes_are_remembered() {
        let transaction =
            |serial: u8| TransactionId::new([serial, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9]);
        let mut refreshes = Refreshes::default();
        for serial in 0..12 {
            assert!(refreshes.note(transaction(serial)));
            for earlier in serial.saturating_sub(7)..=serial {
                assert!(!refreshes.note(transaction(earlier)), "{earlier} after {serial}");
            }
        }
        assert!(refreshes.note(transaction(2)), "forgotten by now");
    }
}
