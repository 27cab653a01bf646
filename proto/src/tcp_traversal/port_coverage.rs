//! Port coverage × draws: one side's port is steady, the other's is anybody's guess.
//!
//! ```text
//!  draw side A (random)      NA                            NB      cover side B (steady, port b)
//!                             |      x <---SYN(ttl)---------|<--- b to A*:p1 ┐ holes: one local port,
//!                             |      x <---SYN(ttl)---------|<--- b to A*:p2 ┘ many ports of A
//!  a1 to B* ------ port q1 -->|---------------------------->| q1 is no hole: dropped
//!  a2 to B* ------ port p2 -->|---------------------------->| p2 is one ------------------> b
//!  a2 <-----------------------|<----------------------------|<--- SYN+ACK, same ISN --------- b
//! ```
//!
//! With k holes and m draws among N = 64,512 ports, k·m / N hits are expected, and none comes with a
//! probability of exp(-k·m / N). Both grow together, so that n SYNs on each side miss with
//! exp(-n² / N): 64 % come through within 256, 98 % within 512, 99.99 % within 768. The SYNs leave in
//! small groups rather than all at once: the first hit ends it. The caller's leave faster than the
//! callee's, which costs no time, since only the product counts, and spares the side that many call.
//!
//! A draw that meets no hole is not lost, but met again only when the kernel repeats it after a second.
//! So a caller opens its 768 holes within half a second, and a callee draws little until then: with all of
//! them open it needs 84 draws on average. A callee that covers keeps its holes for the next call
//! (`beside` below), so that the more it is called by one peer the fewer it opens.
//!
//! The holes' SYNs have a low TTL, so that the far NAT, should it answer strangers, does not
//! answer these; the socket stays pending, and what it says afterwards travels all the way. What becomes
//! of the kernel's repeats is told in `upkeep`. What the draw side has sent keeps its mapping, and
//! the kernel repeats it after a second, when more holes are open.
//!
//! Where the steady side's NAT lets no SYN in, the roles change: the draws' SYNs die on the way and stay pending, as
//! holes do, and those of the steady side go all the way, while the other draws.
//!
//! Preconditions: one side steady, the other random; the steady one's filter lets a port of an
//! address in that it has sent to. No privilege.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::plan::Part;
use super::shielded_opener::OPENED;
use crate::entropy::Entropy;
use crate::puncher::report::Failures;
use crate::signal::Role;
use crate::{Hops, IoFailure, SocketId};

mod upkeep;

use upkeep::Upkeep;
pub use upkeep::{Opener, RENEWAL};

/// Draws of the caller that leave together.
const CALLERS_DRAWS: u32 = 12;
/// Holes of the caller that are opened together.
pub const CALLERS_HOLES: u32 = 24;
/// SYNs of the callee that leave together.
const CALLEES_GROUP: u32 = 4;
/// How long the callee sends its draws one by one: the caller opens its holes in that time.
const HOLES_FIRST: Duration = Duration::from_millis(500);
/// Refusals after which draws slow down: the far NAT answers each that does not hit at once, so that
/// it is gone before more holes are open.
const REFUSALS: u32 = 8;
/// Draws that leave together from then on: they last until a second after the callee's last hole.
const REFUSED_GROUP: u32 = 3;
/// With fewer SYNs left of the minute than this, groups are smaller in proportion: who is called again
/// and again has more time than SYNs.
const THRIFT: u32 = 600;
/// From one group to the next: 250 SYNs of the callee in a second, 750 draws or 1,500 holes of the
/// caller.
pub const PAUSE: Duration = Duration::from_millis(16);
/// Attempts, each with as many SYNs as the budget allows for one.
pub const ATTEMPTS: u32 = 3;
/// One more, all the way, where perhaps no SYN gets in and each of ours is answered and gone before most of the
/// peer's draws are open.
const STRICT_ATTEMPTS: u32 = ATTEMPTS + 1;
/// When it begins: the peer has drawn its ports.
const LAST_ATTEMPT: Duration = Duration::from_millis(2800);

/// Where the SYNs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// From our one port to any of these ports of the peer.
    Holes {
        /// The peer's address.
        ip: IpAddr,
        /// Lowest port.
        low: u16,
        /// Highest port.
        high: u16,
    },
    /// From fresh ports of ours to this one end of the peer.
    Draws {
        /// That end.
        remote: SocketAddr,
    },
}

/// One side's half.
#[derive(Debug)]
pub struct Coverage {
    target: Target,
    per_attempt: u32,
    group: u32,
    /// How long only one SYN leaves at a time.
    one_by_one: Duration,
    /// How long nothing leaves between two attempts.
    rest: Duration,
    upkeep: Upkeep,
    /// Ports of the peer that were open when it began.
    pub standing: u32,
    /// SYNs so far.
    pub sent: u32,
    /// The same, and what was left of attempts that the budget has ended.
    spent: u32,
    /// SYNs that the budget has refused.
    pub refused: u32,
    /// How those ended that did.
    pub failures: Failures,
    /// When the first left.
    pub started: Instant,
    next: Option<Instant>,
    tried: BTreeSet<u16>,
    pending: Vec<(SocketId, SocketAddr)>,
    /// The one that was settled last was opened by a SYN that dies on the way, if that was known to be right.
    was_low: bool,
}

impl Coverage {
    /// Begins now, with so many SYNs in each attempt.
    pub fn new(target: Target, role: Role, per_attempt: u32, now: Instant) -> Self {
        let group = match (role, target) {
            (Role::Controlling, Target::Holes { .. }) => CALLERS_HOLES,
            (Role::Controlling, Target::Draws { .. }) => CALLERS_DRAWS,
            (Role::Controlled, _) => CALLEES_GROUP,
        };
        let waits = role == Role::Controlled && matches!(target, Target::Draws { .. });
        let one_by_one = if waits { HOLES_FIRST } else { Duration::ZERO };
        Self {
            target,
            per_attempt: per_attempt.max(1),
            group,
            one_by_one,
            rest: PAUSE,
            upkeep: Upkeep::new(now),
            standing: 0,
            sent: 0,
            spent: 0,
            refused: 0,
            failures: Failures::default(),
            started: now,
            next: Some(now),
            tried: BTreeSet::new(),
            pending: Vec::new(),
            was_low: false,
        }
    }

    /// The same, in groups of this size from the first on, and with this rest between attempts.
    pub fn paced(self, group: u32, rest: Duration) -> Self {
        Self { group, one_by_one: Duration::ZERO, rest: rest.max(PAUSE), ..self }
    }

    /// The same, beside holes that are open for these ends of the peer already.
    pub fn beside(mut self, holes: &[SocketAddr]) -> Self {
        let Target::Holes { ip, .. } = self.target else { return self };
        for hole in holes.iter().filter(|hole| hole.ip() == ip) {
            self.standing += u32::from(self.tried.insert(hole.port()));
        }
        self
    }

    /// Our part.
    pub fn part(&self) -> Part {
        match self.target {
            Target::Holes { .. } => Part::Cover,
            Target::Draws { .. } => Part::Draw,
        }
    }

    /// Whom it is about.
    pub fn remote(&self) -> SocketAddr {
        match self.target {
            Target::Holes { ip, low, .. } => SocketAddr::new(ip, low),
            Target::Draws { remote } => remote,
        }
    }

    /// The attempt that the last SYN belongs to, from 0.
    pub fn attempt(&self) -> u32 {
        self.spent.saturating_sub(1) / self.per_attempt
    }

    /// The attempt that the next SYN belongs to, from 0.
    pub fn upcoming(&self) -> u32 {
        self.spent / self.per_attempt
    }

    /// No more leaves.
    pub fn stop(&mut self, failure: IoFailure) {
        self.failures.count(failure);
        self.next = None;
    }

    /// When the next group leaves, or a hole's SYN is due anew.
    pub fn due(&self) -> Option<Instant> {
        self.next.into_iter().chain(self.upkeep.due()).min()
    }

    /// The next hole whose SYN is due anew, and how it leaves.
    pub fn renew(&mut self, now: Instant) -> Option<(SocketId, Hops)> {
        self.upkeep.renew(now)
    }

    /// The group that is due, if so many may still leave in this minute.
    pub fn group(
        &mut self,
        left: Option<u32>,
        entropy: &mut Entropy,
        now: Instant,
    ) -> Vec<SocketAddr> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let thrift = left.map_or(u32::MAX, |left| (left * self.group / THRIFT).max(1));
        let may_be_strict = self.part() == Part::Cover && self.upkeep.may_be_strict();
        let attempts = if may_be_strict { STRICT_ATTEMPTS } else { ATTEMPTS };
        let left = (attempts * self.per_attempt).saturating_sub(self.spent);
        // Within one attempt, so that the budget counts each group in the right one.
        let left = left.min(self.per_attempt - self.spent % self.per_attempt);
        let alone = self.started + self.one_by_one > now;
        let is_strict = self.part() == Part::Cover && self.upkeep.is_strict();
        let pace = match (alone, is_strict) {
            (true, _) => 1,
            // Each is answered at once: they leave while the peer draws.
            (false, true) => self.group.min(CALLEES_GROUP),
            (false, false) => self.group,
        };
        let group = pace.min(left).min(thrift);
        let group: Vec<_> = (0..group).filter_map(|_| self.draw(entropy)).collect();
        let sent = u32::try_from(group.len()).unwrap_or(u32::MAX);
        let spent = self.spent.saturating_add(sent);
        let is_last = spent.is_multiple_of(self.per_attempt);
        let next = now + if is_last { self.rest } else { PAUSE };
        let last = self.started + LAST_ATTEMPT;
        let waits = spent >= ATTEMPTS * self.per_attempt && may_be_strict;
        self.next = (sent > 0).then_some(if waits { next.max(last) } else { next });
        group
    }

    /// What is known of the NATs by now; at first it is nothing, and SYNs go all the way. A draw has an opener where the peer's NAT lets no SYN in: then the peer is
    /// the one who dials.
    pub fn learn(&mut self, opener: Option<Opener>) {
        self.upkeep.learn(opener);
    }

    fn draw(&mut self, entropy: &mut Entropy) -> Option<SocketAddr> {
        match self.target {
            Target::Draws { remote } => Some(remote),
            Target::Holes { ip, low, high } => {
                let span = u64::from(high.saturating_sub(low)) + 1;
                if u64::try_from(self.tried.len()).unwrap_or(u64::MAX) >= span {
                    return None;
                }
                loop {
                    let port = low + u16::try_from(entropy.below(span)).unwrap_or_default();
                    if self.tried.insert(port) {
                        return Some(SocketAddr::new(ip, port));
                    }
                }
            }
        }
    }

    /// How the next SYN of ours travels.
    pub fn hops(&self) -> Hops {
        match self.target {
            Target::Draws { .. } if !self.upkeep.opens() => Hops::USUAL,
            Target::Holes { .. } if self.upcoming() >= ATTEMPTS => OPENED,
            Target::Holes { .. } | Target::Draws { .. } => self.upkeep.next(self.goes_further()),
        }
    }

    /// Every second attempt opens what stands behind a carrier's NAT as well.
    fn goes_further(&self) -> bool {
        self.upcoming() % 2 == 1
    }

    /// A SYN leaves.
    pub fn connecting(&mut self, socket: SocketId, remote: SocketAddr, now: Instant) {
        if self.part() == Part::Cover || self.upkeep.opens() {
            self.upkeep.opened(socket, self.goes_further(), now);
        }
        self.sent += 1;
        self.spent += 1;
        self.pending.push((socket, remote));
    }

    /// A socket of ours has stopped being pending; whether it was one.
    pub fn settle(&mut self, socket: SocketId) -> bool {
        self.was_low = self.upkeep.closed(socket);
        let at = self.pending.iter().position(|(pending, _)| *pending == socket);
        at.map(|at| self.pending.swap_remove(at)).is_some()
    }

    /// The budget has refused the last SYN: until then if the minute is spent, or else what was left of
    /// this attempt, which went into other strategies.
    pub fn refused(&mut self, until: Option<Instant>) {
        self.refused += 1;
        self.sent = self.sent.saturating_sub(1);
        match until {
            Some(until) => {
                self.spent = self.spent.saturating_sub(1);
                self.next = Some(until);
            }
            None => self.spent = self.spent.next_multiple_of(self.per_attempt),
        }
    }

    /// The connect that was settled last has failed.
    pub fn failed(&mut self, failure: IoFailure) {
        self.failures.count(failure);
        match failure {
            IoFailure::NetworkUnreachable => self.next = None,
            IoFailure::Refused | IoFailure::HostUnreachable if self.was_low => {
                self.upkeep.refused();
            }
            _ if self.part() == Part::Draw
                && self.failures.total() >= REFUSALS
                && !self.upkeep.opens() =>
            {
                self.group = REFUSED_GROUP;
            }
            _ => {}
        }
    }

    /// The end that this socket of ours connects to, if it is one and pending.
    pub fn pending_remote(&self, socket: SocketId) -> Option<SocketAddr> {
        let pending = self.pending.iter().rev().find(|(pending, _)| *pending == socket);
        pending.map(|(_, remote)| *remote)
    }

    /// The same of a hole, and how a SYN to it leaves that dies on the way.
    pub fn pending_hole(&self, socket: SocketId) -> Option<(SocketAddr, Hops)> {
        self.pending_remote(socket).zip(self.upkeep.of(socket))
    }

    /// The sockets that are pending.
    pub fn pending(&self) -> impl Iterator<Item = SocketId> {
        self.pending.iter().map(|(socket, _)| *socket)
    }

    /// Whether a connection may still come of it.
    pub fn is_alive(&self) -> bool {
        self.next.is_some() || !self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Names, Owner};
    use crate::entropy::Seed;
    use crate::machine::any_instant;

    fn run(target: Target, role: Role) -> (Coverage, Vec<(u128, SocketAddr, Hops)>) {
        let start = any_instant();
        let mut entropy = Entropy::new(Seed::from_number(1));
        let mut names = Names::new(Owner(1));
        let silent = Opener { answered: Some(false), ..Opener::default() };
        let mut coverage = Coverage::new(target, role, 256, start);
        coverage.learn(matches!(target, Target::Holes { .. }).then_some(silent));
        let mut sent = Vec::new();
        while let Some(now) = coverage.due() {
            for remote in coverage.group(None, &mut entropy, now) {
                sent.push(((now - start).as_millis(), remote, coverage.hops()));
                coverage.connecting(names.socket(), remote, now);
            }
        }
        (coverage, sent)
    }

    fn holes(low: u16, high: u16) -> Target {
        Target::Holes { ip: "203.0.113.9".parse().unwrap(), low, high }
    }

    #[test]
    fn three_attempts_of_256_leave_in_small_groups() {
        let (coverage, sent) = run(holes(1024, u16::MAX), Role::Controlled);
        assert_eq!((sent.len(), coverage.sent), (768, 768));
        let instants: Vec<u128> = sent.iter().map(|(at, ..)| *at).collect();
        assert_eq!(instants[..9], [0, 0, 0, 0, 16, 16, 16, 16, 32]);
        assert_eq!(instants[767], 191 * 16);
        let ports: BTreeSet<u16> = sent.iter().map(|(_, remote, _)| remote.port()).collect();
        assert_eq!(ports.len(), 768, "no port twice");
    }

    #[test]
    fn holes_are_opened_by_syns_that_die_on_the_way_and_scouts_and_every_other_attempt_go_further()
    {
        let (_, sent) = run(holes(1024, u16::MAX), Role::Controlled);
        let ttls = [0, 3, 4, 255, 256, 511, 512].map(|at: usize| sent[at].2.ttl);
        assert_eq!(ttls, [3, 3, 2, 2, 3, 3, 2].map(Some));
    }

    #[test]
    fn where_perhaps_no_syn_gets_in_one_more_attempt_goes_all_the_way_when_the_peer_has_drawn() {
        let (mut entropy, start) = (Entropy::new(Seed::from_number(1)), any_instant());
        let mut left = |admits_syn| {
            let mut names = Names::new(Owner(1));
            let opener = Opener { answered: Some(true), admits_syn, ..Opener::default() };
            let mut coverage = Coverage::new(holes(1024, u16::MAX), Role::Controlling, 256, start);
            coverage.learn(Some(opener));
            let mut sent = Vec::new();
            while let Some(now) = coverage.next {
                for remote in coverage.group(None, &mut entropy, now) {
                    sent.push(((now - start).as_millis(), coverage.hops().ttl));
                    coverage.connecting(names.socket(), remote, now);
                }
            }
            sent
        };
        assert_eq!(left(Some(true)).len(), 768);
        let unknown = left(None);
        assert_eq!(unknown.len(), 1024);
        assert!(unknown[767].0 < 600 && unknown[768] == (2800, None), "{:?}", &unknown[767..769]);
        let strict = left(Some(false));
        assert!(strict.len() == 1024 && strict.iter().all(|it| it.1.is_none()), "{strict:?}");
        let [middle, last] = [512, 1023].map(|at: usize| strict[at].0);
        assert!(
            (2000..2100).contains(&middle) && last > 4000,
            "while the peer draws: {middle} {last}"
        );
    }

    #[test]
    fn draws_all_go_to_the_one_end_that_is_known() {
        let remote = "203.0.113.9:4000".parse().unwrap();
        let (coverage, sent) = run(Target::Draws { remote }, Role::Controlling);
        assert!(sent.iter().all(|(_, to, hops)| *to == remote && *hops == Hops::USUAL));
        assert_eq!(coverage.part(), Part::Draw);
        // 256 are 21 groups of twelve and one of four: an attempt begins with a group of its own.
        let last = sent.last().map(|(at, ..)| *at);
        assert_eq!(last, Some((3 * 22 - 1) * 16), "the caller is three times as fast");
    }

    #[test]
    fn datagrams_leave_in_equal_groups_and_rest_between_attempts_until_there_is_no_socket() {
        let (mut entropy, start) = (Entropy::new(Seed::from_number(1)), any_instant());
        let mut names = Names::new(Owner(1));
        let target = Target::Draws { remote: "203.0.113.9:4000".parse().unwrap() };
        let rest = Duration::from_secs(1);
        let mut coverage = Coverage::new(target, Role::Controlled, 256, start).paced(100, rest);
        let mut sent = Vec::new();
        while let Some(now) = coverage.due().filter(|_| sent.len() < 5) {
            let attempt = coverage.upcoming();
            let group = coverage.group(None, &mut entropy, now);
            group.iter().for_each(|remote| coverage.connecting(names.socket(), *remote, now));
            sent.push(((now - start).as_millis(), attempt, group.len()));
        }
        let first = [(0, 0, 100), (16, 0, 100), (32, 0, 56)];
        let second = [(1032, 1, 100), (1048, 1, 100)];
        assert_eq!(sent, [&first[..], &second].concat());
        coverage.stop(IoFailure::OutOfResources);
        assert_eq!((coverage.due(), coverage.failures.total()), (None, 1));
    }

    #[test]
    fn draws_for_a_peer_whose_nat_lets_no_syn_in_die_on_the_way_and_are_sent_anew() {
        let (mut entropy, start) = (Entropy::new(Seed::from_number(1)), any_instant());
        let mut names = Names::new(Owner(1));
        let target = Target::Draws { remote: "203.0.113.9:4000".parse().unwrap() };
        let mut coverage = Coverage::new(target, Role::Controlling, 256, start);
        let mut draw = |coverage: &mut Coverage| {
            let (socket, hops) = (names.socket(), coverage.hops());
            let now = coverage.next.unwrap();
            let group = coverage.group(None, &mut entropy, now);
            coverage.connecting(socket, group[0], now);
            (socket, hops.ttl)
        };
        assert_eq!(draw(&mut coverage).1, None, "nobody knows yet");
        let opener = Opener { is_measured: true, answered: Some(true), ..Opener::default() };
        coverage.learn(Some(opener));
        let (socket, ttl) = draw(&mut coverage);
        assert_eq!(ttl, Some(2));
        let later = start + Duration::from_secs(1);
        assert_eq!(coverage.renew(later).map(|it| (it.0, it.1.ttl)), Some((socket, Some(2))));
        assert_eq!(coverage.renew(later), None, "what went all the way is left alone");
    }

    #[test]
    fn draws_that_are_refused_slow_down() {
        let (mut entropy, now) = (Entropy::new(Seed::from_number(1)), any_instant());
        let target = Target::Draws { remote: "203.0.113.9:4000".parse().unwrap() };
        let mut coverage = Coverage::new(target, Role::Controlling, 256, now);
        assert_eq!(coverage.group(None, &mut entropy, now).len(), 12);
        (0..REFUSALS).for_each(|_| coverage.failed(IoFailure::Refused));
        assert_eq!(coverage.group(None, &mut entropy, now + PAUSE).len(), 3);
    }

    #[test]
    fn a_small_band_is_covered_once_and_no_more() {
        let (coverage, sent) = run(holes(30_000, 30_099), Role::Controlling);
        assert_eq!(sent.len(), 100);
        assert!(coverage.is_alive(), "they stay open");
    }

    #[test]
    fn who_is_over_the_budget_goes_on_with_the_next_attempt_until_there_is_none() {
        let now = any_instant();
        let mut entropy = Entropy::new(Seed::from_number(1));
        let mut names = Names::new(Owner(1));
        let mut coverage = Coverage::new(holes(1024, u16::MAX), Role::Controlling, 256, now);
        let mut attempts = Vec::new();
        while let Some(due) = coverage.due() {
            for remote in coverage.group(None, &mut entropy, due) {
                coverage.connecting(names.socket(), remote, due);
                attempts.push(coverage.attempt());
            }
            coverage.refused(None);
        }
        attempts.dedup();
        assert_eq!(attempts, [0, 1, 2]);
        assert!(coverage.sent < 3 * CALLERS_HOLES, "one group in each");
    }

    #[test]
    fn who_has_spent_the_minute_waits_for_the_next_one_and_asks_with_one_syn() {
        let now = any_instant();
        let mut entropy = Entropy::new(Seed::from_number(1));
        let mut names = Names::new(Owner(1));
        let mut coverage = Coverage::new(holes(1024, u16::MAX), Role::Controlling, 256, now);
        let mut send = |coverage: &mut Coverage, left, now| {
            let group = coverage.group(left, &mut entropy, now);
            group.iter().for_each(|remote| coverage.connecting(names.socket(), *remote, now));
            group.len()
        };
        assert_eq!(send(&mut coverage, Some(75), now), 3, "little is left");
        let later = now + Duration::from_secs(3);
        coverage.refused(Some(later));
        assert_eq!((coverage.due(), coverage.sent, coverage.refused), (Some(later), 2, 1));
        assert_eq!(send(&mut coverage, Some(0), later), 1);
        assert_eq!(coverage.sent, 3);
    }

    #[test]
    fn holes_that_are_open_already_are_not_opened_again() {
        let open = (30_000..30_090).map(|port| SocketAddr::from(([203, 0, 113, 9], port)));
        let elsewhere = "203.0.113.8:30095".parse().unwrap();
        let open: Vec<_> = open.chain([elsewhere]).collect();
        let now = any_instant();
        let target = holes(30_000, 30_099);
        let mut coverage = Coverage::new(target, Role::Controlling, 256, now).beside(&open);
        assert_eq!(coverage.standing, 90);
        let ports = coverage.group(None, &mut Entropy::new(Seed::from_number(1)), now);
        assert!(ports.len() == 10 && ports.iter().all(|it| it.port() >= 30_090), "{ports:?}");
    }
}
