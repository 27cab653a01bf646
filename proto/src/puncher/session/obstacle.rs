//! Why no path came about, as far as this side can know it, and what would help.

use std::fmt;

use super::*;
use crate::nat::{Filtering, NatReport};

/// How long two sides without a common family wait for news of further addresses: a host knows its own
/// families before it registers, so that nothing but a change of its network brings another.
const NEWS: Duration = Duration::from_secs(2);
/// Refusals that may be chance.
const CHANCE: u32 = 1;

/// Whose network it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Here,
    There,
    Both,
}

impl Side {
    fn of(here: bool, there: bool) -> Option<Self> {
        match (here, there) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Here),
            (false, true) => Some(Self::There),
            (false, false) => None,
        }
    }

    fn network(self) -> &'static str {
        match self {
            Self::Here => "this host's network",
            Self::There => "the peer's network",
            Self::Both => "either host's network",
        }
    }
}

/// One thing that stood in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// All addresses of this host are of this family, and all of the peer's of the other one.
    NoCommonFamily(Family),
    /// Servers answer over TCP, and none over UDP.
    UdpBlocked(Side),
    /// SYNs are refused that neither the peer nor its NAT refuses.
    SynsRefused,
    /// NATs of these sides let no SYN in, and it is not known that another one does.
    NoSynPasses(Side),
}

impl Obstacle {
    fn transport(self) -> Option<Transport> {
        match self {
            Self::NoCommonFamily(_) => None,
            Self::UdpBlocked(_) => Some(Transport::Udp),
            Self::SynsRefused | Self::NoSynPasses(_) => Some(Transport::Tcp),
        }
    }

    fn advice(self) -> String {
        match self {
            Self::NoCommonFamily(ours) => {
                let (ours, theirs) = names(ours);
                format!(
                    "{theirs} on this host or {ours} on the peer's makes this pair connect; nobody \
                     translates between the two"
                )
            }
            Self::UdpBlocked(side) => {
                let network = side.network();
                format!("let UDP out at the firewall of {network}, if that is in your hands")
            }
            Self::SynsRefused => {
                "let TCP out to ports above 1023, or UDP, at the firewall of this \
                                  host's network, or call from another network"
                    .into()
            }
            Self::NoSynPasses(_) => "over TCP such NATs are passed with privileges only: give \
                                     `ntcp-helper` CAP_NET_RAW and CAP_NET_ADMIN on both hosts"
                .into(),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommonFamily(ours) => {
                let (ours, theirs) = names(*ours);
                write!(f, "this host has only {ours} addresses, and the peer only {theirs} ones")
            }
            Self::UdpBlocked(side) => write!(f, "UDP does not get out of {}", side.network()),
            Self::SynsRefused => f.write_str(
                "TCP connections from here are refused before they reach the peer, as by a firewall \
                 that lets only some ports out",
            ),
            Self::NoSynPasses(Side::Both) => {
                f.write_str("neither NAT lets a SYN in, so that TCP needs privileges to pass")
            }
            Self::NoSynPasses(side) => {
                let (whose, other) = match side {
                    Side::Here | Side::Both => ("this host's", "the peer's"),
                    Side::There => ("the peer's", "this host's"),
                };
                write!(
                    f,
                    "{whose} NAT lets no SYN in, nor perhaps does {other}, so that TCP needs \
                     privileges to pass"
                )
            }
        }
    }
}

/// The family and the other one.
fn names(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::V4 => ("IPv4", "IPv6"),
        Family::V6 => ("IPv6", "IPv4"),
    }
}

impl Session {
    /// What stood in the way.
    pub(super) fn obstacles(&self, now: Instant) -> Vec<Obstacle> {
        if let Some(ours) = self.no_common_family() {
            return vec![Obstacle::NoCommonFamily(ours)];
        }
        let choice = self.introduction.transport;
        let udp = self.udp_blocked().filter(|_| choice.allows_udp()).map(Obstacle::UdpBlocked);
        let tcp = match self.refused_on_the_way(now) {
            true => Some(Obstacle::SynsRefused),
            false => self.no_syn_gets_in(now).map(Obstacle::NoSynPasses),
        };
        let tcp = tcp.filter(|_| choice.allows_tcp());
        udp.into_iter().chain(tcp).collect()
    }

    /// These in a sentence, with what is left to say of the transport that none of them is about.
    pub(super) fn in_words(&self, obstacles: &[Obstacle]) -> String {
        let mut words: Vec<_> = obstacles.iter().map(Obstacle::to_string).collect();
        let about = |transport| obstacles.iter().any(|it| it.transport() == Some(transport));
        let choice = self.introduction.transport;
        let silent = match (about(Transport::Udp), about(Transport::Tcp)) {
            (true, false) if choice.allows_tcp() => Some("TCP"),
            (false, true) if choice.allows_udp() => Some("UDP"),
            (true, _) | (_, true) | (false, false) => None,
        };
        words.extend(silent.map(|over| format!("nothing of the peer's arrived here over {over}")));
        words.join(", and ")
    }

    /// What would help against these, and whether all transports are worth a try.
    pub(super) fn advice_against(&self, obstacles: &[Obstacle], now: Instant) -> Vec<String> {
        let helped = |it: &&Obstacle| match it {
            Obstacle::NoSynPasses(_) => !self.is_privileged(now),
            Obstacle::NoCommonFamily(_) | Obstacle::UdpBlocked(_) | Obstacle::SynsRefused => true,
        };
        obstacles.iter().filter(helped).map(|it| it.advice()).collect()
    }

    /// Whether what the choice of a transport has ruled out might have come through.
    pub(super) fn is_choice_to_blame(&self, obstacles: &[Obstacle]) -> bool {
        let parted = matches!(obstacles, [Obstacle::NoCommonFamily(_)]);
        match self.introduction.transport {
            TransportChoice::Any => false,
            TransportChoice::Tcp => !parted && self.udp_blocked().is_none(),
            TransportChoice::Udp => !parted,
        }
    }

    /// When the session gives up.
    pub(super) fn ends_at(&self) -> Instant {
        match self.no_common_family() {
            Some(_) => self.deadline.min(self.introduction.start + NEWS),
            None => self.deadline,
        }
    }

    /// Our only family, if the peer's only one is the other.
    fn no_common_family(&self) -> Option<Family> {
        let theirs = &self.introduction.candidates;
        // What did not fit into the broker's message may be of the other family.
        let complete = theirs.len() < MAX_CANDIDATES;
        let (ours, theirs) = (only_family(&self.resources.own)?, only_family(theirs)?);
        (complete && ours != theirs && self.streams.all.is_empty()).then_some(ours)
    }

    fn udp_blocked(&self) -> Option<Side> {
        let heard = self.checklist.pairs.iter().any(|pair| pair.heard);
        let told = !self.resources.udp_told.is_empty();
        let here = !told && is_udp_blocked(self.resources.nat.as_ref(), &self.resources.own);
        let (nat, candidates) = (self.introduction.nat.as_ref(), &self.introduction.candidates);
        Side::of(here, is_udp_blocked(nat, candidates)).filter(|_| !heard)
    }

    /// Whether SYNs to the peer come back refused, though it is there and its NAT is silent or lets
    /// everybody in.
    fn refused_on_the_way(&self, now: Instant) -> bool {
        let filtering = self.introduction.nat.as_ref().and_then(|nat| nat.tcp.filtering);
        let innocent = self.their_facts(now).answers == Some(false)
            || filtering == Some(Filtering::EndpointIndependent);
        let public = |it: &&Dialer| !address::is_private(it.remote.ip());
        let dialers = || self.dialers.iter().filter(public);
        let refused: u32 = dialers().map(|it| it.failures.of(IoFailure::Refused)).sum();
        let pending = |it: &Dialer| u32::from(it.pending().is_some());
        let ended: u32 = dialers().map(|it| it.tries.saturating_sub(pending(it))).sum();
        let is_there = self.engine.theirs.is_some();
        innocent && is_there && refused > CHANCE && refused == ended
    }

    fn no_syn_gets_in(&self, now: Instant) -> Option<Side> {
        let (ours, theirs) = (self.our_facts(now).admits_syn, self.their_facts(now).admits_syn);
        let open = [ours, theirs].contains(&Some(true));
        Side::of(ours == Some(false), theirs == Some(false)).filter(|_| !open)
    }

    /// Whether both hosts may do what passes NATs that let no SYN in.
    fn is_privileged(&self, now: Instant) -> bool {
        let held = [self.our_facts(now), self.their_facts(now)].map(|it| it.privileges);
        let all = |may: fn(Privileges) -> bool| held.iter().all(|it| it.is_some_and(may));
        all(|it| it.assume) || all(|it| it.capture && it.inject)
    }
}

/// The family of all these; `None` if there are both, or none at all.
fn only_family(candidates: &[Candidate]) -> Option<Family> {
    let usable = candidates.iter().filter(|it| address::is_usable(it.address));
    let mut families = usable.map(|it| Family::of(it.address.ip()));
    let first = families.next()?;
    families.all(|it| it == first).then_some(first)
}

/// Whether servers have answered a host over TCP and none over UDP, from what it knows, or else from what
/// addresses it has learned from them.
fn is_udp_blocked(nat: Option<&NatReport>, candidates: &[Candidate]) -> bool {
    let told = |transport| {
        let learned = |it: &&Candidate| it.kind == CandidateKind::ServerReflexive;
        candidates.iter().filter(learned).any(|it| it.transport == transport)
    };
    let measured = nat.filter(|nat| nat.nat.is_some());
    let (udp, tcp) = measured.map_or((false, false), |nat| (nat.udp.reachable, nat.tcp.reachable));
    !udp && !told(Transport::Udp) && (tcp || told(Transport::Tcp))
}

#[cfg(test)]
mod tests;
