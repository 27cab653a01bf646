//! TCP simultaneous open (RFC 9293 section 3.5), with connect-and-listen and instant retry.
//!
//! ```text
//!  A             NA                              NB             B
//!  |--SYN isnA-->|----------------. .------------|<--SYN isnB--|     t0, agreed through the broker
//!  |             |                 X             |             |
//!  |<--SYN isnB--|<---------------' '----------->|--SYN isnA-->|     each passes the hole of the other
//!  |--SYN+ACK--->|----------------. .------------|<--SYN+ACK---|     with the ISN of the own SYN
//!  |<------------|<---------------' '----------->|------------>|     t0 + 2d: ESTABLISHED
//! ```
//!
//! When one SYN is early, the far NAT meets it with silence, RST or ICMP:
//!
//! - silence: the socket stays pending, and the late side's SYN finds the hole (t0 + skew + 2d);
//! - RST or ICMP: the kernel ends the connect; the next socket connects **at once**. A gap without a
//!   socket is what kills the attempt: the peer's SYN then passes the hole, our own kernel answers
//!   it with an RST, and the flow is ruined (measured: instant retry 100 % at every skew tried; a
//!   pause of 15–45 ms, 0 to 1 of 3).
//!
//! - an ICMP error leaves the flow in the own NAT, and on a path so short that an instant retry would
//!   be a flood, a socket whose SYN dies on the way bridges the time until the next one: what the
//!   listener took meanwhile would have a sequence number of its own, and be INVALID from then on.
//!
//! - refused again and again: on one of the two sides (see [`Dialer::yields`]) the next socket is a
//!   [shielded opener](super::shielded_opener), which waits while the other side goes on.
//!
//! A pending socket is never closed: its ISN must not change once the peer's SYN has passed a Linux
//! NAT, or every later segment is INVALID there.
//!
//! The listener on the same port takes what the connecting sockets cannot: a SYN from a port that
//! nobody could announce (a peer behind a NAT with a new port for each destination, when our own
//! filter lets it in).
//!
//! Preconditions: a mapping that is endpoint-independent or port-preserving on both sides, and at
//! least one NAT that lets a SYN in after one went out. No privilege, nothing captured or forged.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::direct;
use super::shielded_opener::{self, OPENER_TTL};
use crate::candidate::CandidateKind;
use crate::puncher::report::{Failures, Strategy};
use crate::{Hops, IoFailure, SocketId};

/// Least time between two SYNs towards one address. On paths shorter than this, an instant retry
/// would only be a flood.
const LEAST_INTERVAL: Duration = Duration::from_millis(5);
/// Refusals after which the retries slow down: the NATs would have let one through by now, so the
/// peer is late or absent.
pub const INSTANT_RETRIES: u32 = 24;
/// Time between two SYNs from then on.
const SLOW_INTERVAL: Duration = Duration::from_millis(100);
/// The same where each of these times is bridged by another SYN, of which the budget has to know.
const SLOW_BRIDGED_INTERVAL: Duration = Duration::from_millis(250);
/// Time between two SYNs towards a port that was only foretold, likewise.
const FORETOLD_INTERVAL: Duration = Duration::from_millis(40);
/// Time between the first two SYNs towards an address of the peer's own host: a refusal comes from a
/// host without such a listener, not from a NAT. It doubles with each refusal, since every SYN is one
/// of those that the budget has.
const HOST_INTERVAL: Duration = Duration::from_millis(100);
/// How often it doubles: 3.2 s at last.
const HOST_DOUBLINGS: u32 = 5;

/// What one dialer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Will connect then.
    Waiting { at: Instant },
    /// Will connect when it is told to.
    Held,
    /// A SYN is out.
    Connecting { socket: SocketId, since: Instant },
    /// The handshake ended.
    Established,
    /// No more is tried: somebody else answers there, or there have been tries enough.
    GivenUp,
    /// This host cannot reach that address at all.
    Impossible,
}

/// Connects to one address of the peer for as long as it takes.
#[derive(Debug)]
pub struct Dialer {
    /// The peer's address.
    pub remote: SocketAddr,
    /// The own end, if it is not the punching port.
    pub local: Option<SocketAddr>,
    /// How it was learned.
    pub kind: CandidateKind,
    /// When the first SYN was to go out.
    pub started: Instant,
    /// Sockets that have connected so far: one SYN each, the kernel's repeats not counted.
    pub tries: u32,
    /// How they ended.
    pub failures: Failures,
    /// The strategy it serves.
    pub strategy: Strategy,
    /// Resets after which it becomes a shielded opener; `None` for never.
    pub yields: Option<u32>,
    /// How its first SYN leaves as an opener.
    pub opens: Stance,
    /// Whether a failed connect is the last one until the dialer is [scheduled](Self::schedule).
    pub suspended: bool,
    /// How the next SYN leaves, or the last one did.
    pub stance: Stance,
    /// How many rounds with other ports came before it.
    pub earlier: u8,
    /// Until then a SYN that dies on the way keeps a socket there, or is about to.
    bridged_until: Option<Instant>,
    phase: Phase,
}

/// How a dialer's SYN leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// All the way.
    Dial,
    /// With this TTL, and shielded.
    Open(u8),
    /// All the way, and deaf to refusals: the own NAT forgets a SYN that dies on the way.
    OpenAllTheWay,
    /// All the way, for a peer that is deaf to all that is not loud.
    DialLoud,
}

impl Stance {
    /// How the SYN travels.
    pub fn hops(self) -> Hops {
        match self {
            Self::Dial => Hops::USUAL,
            Self::Open(ttl) => shielded_opener::opening(ttl),
            Self::OpenAllTheWay => shielded_opener::DEAF,
            Self::DialLoud => shielded_opener::LOUD,
        }
    }

    /// Whether it waits for the peer.
    pub fn opens(self) -> bool {
        match self {
            Self::Open(_) | Self::OpenAllTheWay => true,
            Self::Dial | Self::DialLoud => false,
        }
    }

    /// How the next SYN of an opener leaves.
    fn further(self) -> Self {
        match self {
            Self::Open(ttl) => Self::Open(shielded_opener::next_ttl(ttl)),
            Self::Dial | Self::OpenAllTheWay | Self::DialLoud => self,
        }
    }
}

impl Dialer {
    /// A dialer to `remote` that begins at `start`.
    pub fn new(remote: SocketAddr, kind: CandidateKind, start: Instant) -> Self {
        let strategy =
            if direct::applies(kind) { Strategy::Direct } else { Strategy::SimultaneousOpen };
        Self {
            remote,
            local: None,
            kind,
            started: start,
            tries: 0,
            failures: Failures::default(),
            strategy,
            yields: None,
            opens: Stance::Open(OPENER_TTL),
            suspended: false,
            stance: Stance::Dial,
            earlier: 0,
            bridged_until: None,
            phase: Phase::Waiting { at: start },
        }
    }

    /// The strategy that a connection of the pending socket, or the last one, belongs to.
    pub fn strategy(&self) -> Strategy {
        match (self.strategy, self.stance) {
            (Strategy::SimultaneousOpen, Stance::Open(_) | Stance::OpenAllTheWay) => {
                Strategy::ShieldedOpener
            }
            (strategy, _) => strategy,
        }
    }

    /// Connects at `at` and not before, unless a socket is pending.
    pub fn schedule(&mut self, at: Instant) {
        self.suspended = false;
        if matches!(self.phase, Phase::Waiting { .. } | Phase::Held) {
            self.phase = Phase::Waiting { at };
        }
    }

    /// Sends no further SYN until it is [scheduled](Self::schedule); a pending socket stays.
    pub fn hold(&mut self) {
        self.suspended = true;
        self.bridged_until = self.bridged_until.filter(|_| self.pending().is_some());
        if matches!(self.phase, Phase::Waiting { .. }) {
            self.phase = Phase::Held;
        }
    }

    /// Whether it waits to be told.
    pub fn is_held(&self) -> bool {
        self.phase == Phase::Held
    }

    /// How the next SYN leaves, or the last one did, bridges included.
    pub fn posture(&self) -> Stance {
        if self.bridged_until.is_some() { self.opens } else { self.stance }
    }

    /// Ends the bridge, if its time is over: the socket that it was, which makes room for the next SYN.
    pub fn leave_bridge(&mut self, now: Instant) -> Option<SocketId> {
        self.bridged_until.take_if(|until| *until <= now)?;
        let socket = self.pending()?;
        self.phase = Phase::Waiting { at: now };
        Some(socket)
    }

    /// When the next connect is due; `None` while one is pending or no more will come.
    pub fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { at } => Some(at),
            Phase::Connecting { .. } if !self.suspended => self.bridged_until,
            Phase::Held
            | Phase::Connecting { .. }
            | Phase::Established
            | Phase::GivenUp
            | Phase::Impossible => None,
        }
    }

    /// A connect of `socket` is being started.
    pub fn connecting(&mut self, socket: SocketId, now: Instant) {
        self.tries += 1;
        self.phase = Phase::Connecting { socket, since: now };
    }

    /// The socket whose connect is pending.
    pub fn pending(&self) -> Option<SocketId> {
        match self.phase {
            Phase::Connecting { socket, .. } => Some(socket),
            Phase::Waiting { .. }
            | Phase::Held
            | Phase::Established
            | Phase::GivenUp
            | Phase::Impossible => None,
        }
    }

    /// When the pending SYN left.
    pub fn since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Connecting { since, .. } => Some(since),
            Phase::Waiting { .. }
            | Phase::Held
            | Phase::Established
            | Phase::GivenUp
            | Phase::Impossible => None,
        }
    }

    /// Whether a connection may still come of it.
    pub fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. } | Phase::Held | Phase::Connecting { .. })
    }

    /// Whether this host has no way to that address.
    pub fn is_impossible(&self) -> bool {
        self.phase == Phase::Impossible
    }

    /// The handshake of the pending socket ended well.
    pub fn established(&mut self) {
        self.bridged_until = None;
        self.phase = Phase::Established;
    }

    /// The stream that this dialer had brought about is gone; more are tried unless it was `final`ly
    /// shown to lead elsewhere.
    ///
    /// A pending socket stays: the stream was another's, such as one to the same end that the listener
    /// accepted, or from another port of ours.
    pub fn lost(&mut self, leads_elsewhere: LeadsElsewhere, now: Instant) {
        if matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        self.bridged_until = None;
        self.phase = match leads_elsewhere {
            LeadsElsewhere::Yes => Phase::GivenUp,
            LeadsElsewhere::No => Phase::Waiting { at: now + SLOW_INTERVAL },
        };
    }

    /// The pending connect did not leave: there is room for it then.
    pub fn postponed(&mut self, until: Instant) {
        self.bridged_until = None;
        if matches!(self.phase, Phase::Connecting { .. }) {
            self.tries = self.tries.saturating_sub(1);
            self.phase = if self.suspended { Phase::Held } else { Phase::Waiting { at: until } };
        }
    }

    /// The pending connect failed.
    pub fn failed(&mut self, failure: IoFailure, now: Instant) {
        let Phase::Connecting { since, .. } = self.phase else { return };
        self.failures.count(failure);
        self.phase = match failure {
            IoFailure::NetworkUnreachable | IoFailure::NotPermitted => Phase::Impossible,
            IoFailure::Refused
            | IoFailure::HostUnreachable
            | IoFailure::Reset
            | IoFailure::TimedOut => match self.bridged_until.take() {
                // What was to die on the way has not.
                Some(until) => Phase::Waiting { at: until.max(now) },
                None => {
                    self.yield_way();
                    let at = (since + self.interval()).max(now);
                    let bridges = at > now && leaves_flow(failure) && self.can_bridge();
                    self.bridged_until = bridges.then_some(at);
                    Phase::Waiting { at: self.bridged_until.map_or(at, |_| now) }
                }
            },
            IoFailure::OverBudget => Phase::GivenUp,
            // The pair of ends is in use, or the host is out of something: a fresh try may do.
            IoFailure::AddressInUse
            | IoFailure::AddressNotAvailable
            | IoFailure::MessageTooLong
            | IoFailure::OutOfResources
            | IoFailure::Closed
            | IoFailure::Garbled
            | IoFailure::UnknownHost
            | IoFailure::Other(_) => Phase::Waiting { at: now + SLOW_INTERVAL },
        };
        if self.suspended && matches!(self.phase, Phase::Waiting { .. }) {
            self.phase = Phase::Held;
        }
    }

    /// Whether a SYN that dies on the way can keep a socket there: not where the NAT forgets it then, nor
    /// in IPv6, and not for a host of the peer's own network, which no NAT of ours is before.
    fn can_bridge(&self) -> bool {
        let near = self.kind == CandidateKind::Host;
        let dies = matches!(self.opens, Stance::Open(_));
        self.stance == Stance::Dial && dies && !near && self.remote.is_ipv4() && !self.suspended
    }

    /// After some refusals the far NAT shall not hear of us any more.
    ///
    /// An ICMP error leaves the flow in the NATs on the way, unlike an RST. Behind a carrier's NAT the
    /// opener would change the sequence number that the home's has seen and not the carrier's, so
    /// that retries that go all the way are better for long.
    fn yield_way(&mut self) {
        let resets = self.failures.of(IoFailure::Refused) + self.failures.of(IoFailure::Reset);
        let enough = |most: u32| resets >= most || self.failures.total() >= INSTANT_RETRIES;
        self.stance = match self.stance {
            Stance::Dial if self.yields.is_some_and(enough) => self.opens,
            stance => stance.further(),
        };
    }

    fn interval(&self) -> Duration {
        if self.strategy == Strategy::PortPrediction {
            return FORETOLD_INTERVAL;
        }
        match self.kind {
            CandidateKind::Host => {
                let earlier = self.failures.total().saturating_sub(1);
                HOST_INTERVAL * (1 << earlier.min(HOST_DOUBLINGS))
            }
            CandidateKind::Mapped
            | CandidateKind::ServerReflexive
            | CandidateKind::PeerReflexive
            | CandidateKind::Reserve => {
                if self.failures.total() < INSTANT_RETRIES {
                    LEAST_INTERVAL
                } else if self.failures.each().any(|(it, _)| leaves_flow(it)) && self.can_bridge() {
                    SLOW_BRIDGED_INTERVAL
                } else {
                    SLOW_INTERVAL
                }
            }
        }
    }
}

/// Whether the NATs on the way may remember the flow of a connect that ended so. An ICMP error leaves
/// it; of "port unreachable" the system says the same as of an RST.
fn leaves_flow(failure: IoFailure) -> bool {
    matches!(failure, IoFailure::HostUnreachable | IoFailure::Refused)
}

/// Whether a lost stream showed that its address does not lead to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeadsElsewhere {
    /// Somebody else answered there.
    Yes,
    /// It broke.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Names, Owner};
    use crate::machine::any_instant;

    fn refused_after(rtt: Duration, kind: CandidateKind, tries: u32) -> Vec<u128> {
        let start = any_instant();
        let mut names = Names::new(Owner(1));
        let mut dialer = Dialer::new("203.0.113.9:1".parse().unwrap(), kind, start);
        // Nothing dies on the way to bridge the pauses.
        dialer.opens = Stance::OpenAllTheWay;
        let mut instants = Vec::new();
        for _ in 0..tries {
            let at = dialer.due().unwrap();
            instants.push((at - start).as_millis());
            dialer.connecting(names.socket(), at);
            assert_eq!(dialer.due(), None, "a pending socket is left alone");
            dialer.failed(IoFailure::Refused, at + rtt);
        }
        instants
    }

    #[test]
    fn a_refused_connect_is_repeated_without_a_gap() {
        let instants = refused_after(Duration::from_millis(40), CandidateKind::ServerReflexive, 4);
        assert_eq!(instants, [0, 40, 80, 120]);
    }

    #[test]
    fn who_yields_becomes_an_opener_when_it_has_been_refused_three_times() {
        let (mut names, mut now) = (Names::new(Owner(1)), any_instant());
        let address = "203.0.113.9:1".parse().unwrap();
        let mut dialer = Dialer::new(address, CandidateKind::ServerReflexive, now);
        dialer.yields = Some(3);
        let mut ttls = Vec::new();
        for _ in 0..6 {
            ttls.push(dialer.stance.hops().ttl);
            dialer.connecting(names.socket(), now);
            now += Duration::from_millis(20);
            dialer.failed(IoFailure::Refused, now);
        }
        assert_eq!(ttls, [None, None, None, Some(2), Some(3), Some(4)]);
        assert_eq!(dialer.strategy(), Strategy::ShieldedOpener);
    }

    #[test]
    fn a_held_dialer_waits_until_it_is_scheduled() {
        let now = any_instant();
        let address = "203.0.113.9:1".parse().unwrap();
        let mut dialer = Dialer::new(address, CandidateKind::ServerReflexive, now);
        dialer.hold();
        assert_eq!(dialer.due(), None);
        dialer.schedule(now);
        assert_eq!(dialer.due(), Some(now));
    }

    #[test]
    fn on_a_path_without_delay_the_retries_are_paced() {
        let instants = refused_after(Duration::ZERO, CandidateKind::ServerReflexive, 27);
        assert_eq!(instants[..4], [0, 5, 10, 15]);
        assert_eq!(instants[23..], [115, 215, 315, 415]);
    }

    #[test]
    fn on_a_short_path_a_socket_is_there_between_two_syns_that_icmp_refuses() {
        let start = any_instant();
        let at = |millis| start + Duration::from_millis(millis);
        let (mut names, address) = (Names::new(Owner(1)), "203.0.113.9:1".parse().unwrap());
        let mut dialer = Dialer::new(address, CandidateKind::ServerReflexive, start);
        for round in 0..3 {
            let begun = round * 5;
            assert_eq!((dialer.due(), dialer.posture()), (Some(at(begun)), Stance::Dial));
            dialer.connecting(names.socket(), at(begun));
            dialer.failed(IoFailure::HostUnreachable, at(begun + 1));
            assert_eq!(dialer.due(), Some(at(begun + 1)), "at once");
            assert_eq!(dialer.posture(), Stance::Open(OPENER_TTL), "no SYN that would be a flood");
            let bridge = names.socket();
            dialer.connecting(bridge, at(begun + 1));
            assert_eq!(dialer.due(), Some(at(begun + 5)));
            assert_eq!(dialer.leave_bridge(at(begun + 4)), None);
            assert_eq!(dialer.leave_bridge(at(begun + 5)), Some(bridge));
        }
        assert_eq!(dialer.failures.total(), 3);
        assert_eq!(dialer.strategy(), Strategy::SimultaneousOpen);
        dialer.connecting(names.socket(), at(15));
        dialer.failed(IoFailure::HostUnreachable, at(16));
        dialer.connecting(names.socket(), at(16));
        dialer.failed(IoFailure::HostUnreachable, at(17));
        assert_eq!(dialer.due(), Some(at(20)), "a bridge that is refused as well is not repeated");
        assert_eq!(dialer.posture(), Stance::Dial);
    }

    #[test]
    fn no_bridge_where_it_would_not_hold_or_is_not_needed() {
        let start = any_instant();
        let mut names = Names::new(Owner(1));
        let mut refused = |remote: &str, kind, failure, after: u64, opens| {
            let mut dialer = Dialer::new(remote.parse().unwrap(), kind, start);
            dialer.opens = opens;
            dialer.connecting(names.socket(), start);
            dialer.failed(failure, start + Duration::from_millis(after));
            dialer.posture().opens()
        };
        let (v4, v6) = ("203.0.113.9:1", "[2001:db8::9]:1");
        let (near, outside) = (CandidateKind::Host, CandidateKind::ServerReflexive);
        let (icmp, rst) = (IoFailure::HostUnreachable, IoFailure::Refused);
        assert!(refused(v4, outside, icmp, 1, Stance::Open(3)));
        assert!(!refused(v4, outside, icmp, 20, Stance::Open(3)), "the next SYN is due");
        assert!(refused(v4, outside, rst, 1, Stance::Open(3)), "it may have been ICMP");
        assert!(!refused(v4, outside, IoFailure::TimedOut, 1, Stance::Open(3)), "nobody answered");
        assert!(!refused(v4, near, icmp, 1, Stance::Open(3)));
        assert!(!refused(v6, outside, icmp, 1, Stance::Open(3)));
        assert!(!refused(v4, outside, icmp, 1, Stance::OpenAllTheWay));
    }

    #[test]
    fn a_host_that_refuses_is_not_flooded() {
        let instants = refused_after(Duration::ZERO, CandidateKind::Host, 9);
        assert_eq!(instants, [0, 100, 300, 700, 1500, 3100, 6300, 9500, 12_700]);
    }

    #[test]
    fn an_address_without_route_is_given_up() {
        let now = any_instant();
        let address = "203.0.113.9:1".parse().unwrap();
        let mut dialer = Dialer::new(address, CandidateKind::ServerReflexive, now);
        dialer.connecting(Names::new(Owner(1)).socket(), now);
        dialer.failed(IoFailure::NetworkUnreachable, now);
        assert!(dialer.is_impossible() && !dialer.is_alive());
    }

    #[test]
    fn an_address_that_somebody_else_has_was_possible_to_try() {
        let now = any_instant();
        let address = "203.0.113.9:1".parse().unwrap();
        let mut dialer = Dialer::new(address, CandidateKind::ServerReflexive, now);
        dialer.lost(LeadsElsewhere::Yes, now);
        assert!(!dialer.is_alive() && !dialer.is_impossible());
    }

    #[test]
    fn what_the_budget_has_no_room_for_leaves_when_it_has() {
        let now = any_instant();
        let address = "203.0.113.9:1".parse().unwrap();
        let mut dialer = Dialer::new(address, CandidateKind::ServerReflexive, now);
        dialer.connecting(Names::new(Owner(1)).socket(), now);
        let later = now + Duration::from_secs(7);
        dialer.postponed(later);
        assert_eq!((dialer.due(), dialer.tries), (Some(later), 0));
    }

    #[test]
    fn a_late_answer_changes_nothing() {
        let now = any_instant();
        let address = "203.0.113.9:1".parse().unwrap();
        let mut dialer = Dialer::new(address, CandidateKind::ServerReflexive, now);
        dialer.connecting(Names::new(Owner(1)).socket(), now);
        dialer.established();
        dialer.failed(IoFailure::Refused, now);
        assert!(!dialer.is_alive() && dialer.failures.total() == 0);
    }
}
