//! How strategies have fared between two NATs, remembered for the next two behind the like.
//!
//! A NAT is recognised by its eight bytes of NAT-SUMMARY, as the broker itself had them when the
//! meeting was ordered; the pair is kept without order. For each pair and strategy there are votes:
//! the peer's address (an IPv6 /64), success or failure, how long it took, when. A vote loses half
//! its weight every [`HALF_LIFE`].
//!
//! What a liar can do is bounded: an address has one vote for a pair and strategy, the last one, and
//! [`MAX_VOTES_PER_SITE`] in all; there must be [`QUORUM`] addresses before anything is said; and
//! what is said reorders a plan, and excludes nothing from it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::session::State;
use super::{Broker, Event, Link, Registry};
use crate::address::site;
use crate::puncher::report::Strategy;
use crate::signal::codec::Received;
use crate::signal::message::{Message, Outcome};
use crate::signal::{Hint, MAX_ENTRIES, NatSummary, RegistrationId, SessionId, StrategyOutcome};

/// After this time a vote counts half. Long against the time in which one user tries again, short
/// against the time in which providers change their NATs.
const HALF_LIFE: Duration = Duration::from_secs(60 * 60);
/// Half-lives after which a vote is worth nothing.
const FORGOTTEN_AFTER: u32 = 24;
/// Votes for one pair and strategy; a further one replaces the oldest.
const MAX_VOTES: usize = 32;
/// Pairs and strategies remembered; a further one replaces the one with the fewest votes.
const MAX_CELLS: usize = 4096;
/// Votes of one address; a further one replaces its oldest.
const MAX_VOTES_PER_SITE: usize = 64;
/// Addresses that must agree to speak about a pair before anything is said of it.
const QUORUM: usize = 2;
/// Weight of a vote that was just given.
const WHOLE: u64 = 1 << 20;

/// Two NATs in their order, and a strategy.
type Place = ([u8; 8], [u8; 8], Strategy);

#[derive(Debug, Clone, Copy)]
struct Vote {
    site: IpAddr,
    took: Option<Duration>,
    at: Instant,
}

/// All votes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    cells: BTreeMap<Place, VecDeque<Vote>>,
    /// Where each address has voted, oldest first.
    voters: BTreeMap<IpAddr, VecDeque<Place>>,
}

impl Memory {
    /// Takes what a peer at `ip` tells of a meeting between these NATs.
    pub(super) fn vote(
        &mut self,
        nats: [NatSummary; 2],
        ip: IpAddr,
        outcome: StrategyOutcome,
        now: Instant,
    ) {
        let (site, place) = (site(ip), place(nats, outcome.strategy));
        self.retract(site, place);
        if self.voters.get(&site).is_some_and(|it| it.len() >= MAX_VOTES_PER_SITE)
            && let Some(oldest) = self.voters.get(&site).and_then(|it| it.front().copied())
        {
            self.retract(site, oldest);
        }
        if !self.cells.contains_key(&place) && self.cells.len() >= MAX_CELLS {
            self.forget_one();
        }
        let cell = self.cells.entry(place).or_default();
        if cell.len() >= MAX_VOTES
            && let Some(oldest) = cell.front().map(|it| it.site)
        {
            self.retract(oldest, place);
        }
        let vote = Vote { site, took: outcome.took, at: now };
        self.cells.entry(place).or_default().push_back(vote);
        self.voters.entry(site).or_default().push_back(place);
    }

    /// What is worth saying about two NATs, most promising first.
    pub(super) fn hints(&self, nats: [NatSummary; 2], now: Instant) -> Vec<Hint> {
        let (one, other, _) = place(nats, Strategy::Direct);
        let all = (one, other, Strategy::Direct)..=(one, other, Strategy::UdpHolePunch);
        let cells = self.cells.range(all);
        let mut hints: Vec<Hint> =
            cells.filter_map(|((.., strategy), votes)| hint(*strategy, votes, now)).collect();
        hints.sort_by_key(|hint| (std::cmp::Reverse(hint.percent), hint.took, hint.strategy));
        hints.truncate(MAX_ENTRIES);
        hints
    }

    fn retract(&mut self, site: IpAddr, place: Place) {
        if let Some(votes) = self.cells.get_mut(&place) {
            votes.retain(|vote| vote.site != site);
            if votes.is_empty() {
                self.cells.remove(&place);
            }
        }
        if let Some(places) = self.voters.get_mut(&site) {
            places.retain(|it| *it != place);
            if places.is_empty() {
                self.voters.remove(&site);
            }
        }
    }

    /// Makes room: what fewest have voted on goes first, and of those what was voted on first.
    fn forget_one(&mut self) {
        let rank = |votes: &VecDeque<Vote>| (votes.len(), votes.back().map(|it| it.at));
        let least = self.cells.iter().min_by_key(|(_, votes)| rank(votes));
        let Some((place, votes)) = least.map(|(place, votes)| (*place, votes.clone())) else {
            return;
        };
        votes.iter().for_each(|vote| self.retract(vote.site, place));
    }
}

/// What the votes for one strategy say, if there are enough.
fn hint(strategy: Strategy, votes: &VecDeque<Vote>, now: Instant) -> Option<Hint> {
    let weighed = votes.iter().map(|vote| (weight(vote, now), vote)).filter(|(it, _)| *it > 0);
    let weighed: Vec<_> = weighed.collect();
    if weighed.len() < QUORUM {
        return None;
    }
    let all: u64 = weighed.iter().map(|(weight, _)| weight).sum();
    let good: u64 = weighed.iter().filter(|(_, it)| it.took.is_some()).map(|(it, _)| it).sum();
    // The median: one liar's absurd figure is one figure.
    let mut took: Vec<Duration> = weighed.iter().filter_map(|(_, vote)| vote.took).collect();
    took.sort_unstable();
    let took = took.get(took.len() / 2).copied().unwrap_or_default();
    let percent = u8::try_from(good * 100 / all).unwrap_or(100);
    Some(Hint { strategy, percent, took })
}

/// The weight of a vote by now, between two half-lives on a straight line.
fn weight(vote: &Vote, now: Instant) -> u64 {
    let age = now.saturating_duration_since(vote.at).as_secs();
    let half = HALF_LIFE.as_secs();
    let halved = u32::try_from(age / half).unwrap_or(FORGOTTEN_AFTER);
    if halved >= FORGOTTEN_AFTER {
        return 0;
    }
    let weight = WHOLE >> halved;
    weight - weight * (age % half) / (2 * half)
}

fn place(nats: [NatSummary; 2], strategy: Strategy) -> Place {
    let [one, other] = nats.map(NatSummary::to_bytes);
    (one.min(other), one.max(other), strategy)
}

impl<R: Registry> Broker<R> {
    /// A peer tells how a meeting went: once for each meeting, the last word counts.
    pub(super) fn on_outcome(
        &mut self,
        link: Link,
        received: &Received<'_>,
        outcome: &Outcome,
        now: Instant,
    ) {
        let Some(sender) = self.paying_sender(link, received, now) else { return };
        self.outcome_from(sender, link, &received.message, outcome, now);
    }

    /// Notes what a peer tells of a meeting.
    pub(super) fn outcome_from(
        &mut self,
        sender: RegistrationId,
        link: Link,
        message: &Message,
        outcome: &Outcome,
        now: Instant,
    ) {
        let Some(nats) = self.nats_of(sender, outcome.session) else {
            if !self.tell_elsewhere(sender, outcome.session, message) {
                self.counters.unexpected += 1;
            }
            return;
        };
        self.counters.outcomes += 1;
        let is_caller = self.sessions.get(&outcome.session).is_some_and(|it| it.caller == sender);
        for told in &outcome.outcomes {
            self.memory.vote(nats, link.remote().ip(), *told, now);
            // Both peers tell of one path.
            if let Some(took) = told.took.filter(|_| is_caller) {
                self.events.push_back(Event::Stood { strategy: told.strategy, took });
            }
        }
    }

    /// The NATs of a meeting that `sender` takes part in, as they were when it was ordered.
    fn nats_of(&self, sender: RegistrationId, session: SessionId) -> Option<[NatSummary; 2]> {
        let session = self.sessions.get(&session)?;
        let takes_part = [session.caller, session.callee].contains(&sender);
        match &session.state {
            State::Ordered { orders, .. } if takes_part => Some(orders.nats()),
            State::Ordered { .. } | State::Gathering { .. } | State::Refused(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::any_instant;

    fn nats() -> [NatSummary; 2] {
        let one = NatSummary { nat: Some(true), ..NatSummary::default() };
        [one, NatSummary { nat: Some(false), ..NatSummary::default() }]
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn good(strategy: Strategy, millis: u64) -> StrategyOutcome {
        StrategyOutcome { strategy, took: Some(Duration::from_millis(millis)) }
    }

    fn bad(strategy: Strategy) -> StrategyOutcome {
        StrategyOutcome { strategy, took: None }
    }

    const OPEN: Strategy = Strategy::SimultaneousOpen;
    const GHOST: Strategy = Strategy::GhostHandshake;

    #[test]
    fn what_worked_comes_first_whichever_side_asks() {
        let (mut memory, now) = (Memory::default(), any_instant());
        for last in 1..=3 {
            memory.vote(nats(), ip(last), bad(OPEN), now);
            memory.vote(nats(), ip(last), good(GHOST, u64::from(last) * 10), now);
        }
        let [one, other] = nats();
        let hints = memory.hints([other, one], now);
        assert_eq!(hints, memory.hints([one, other], now));
        let took = Duration::from_millis(20);
        assert_eq!(hints[0], Hint { strategy: GHOST, percent: 100, took });
        assert_eq!((hints[1].strategy, hints[1].percent), (OPEN, 0));
        assert!(memory.hints([one, one], now).is_empty());
    }

    #[test]
    fn one_address_says_nothing_alone_and_has_one_voice_among_others() {
        let (mut memory, now) = (Memory::default(), any_instant());
        for _ in 0..1000 {
            memory.vote(nats(), ip(66), bad(OPEN), now);
        }
        assert!(memory.hints(nats(), now).is_empty());
        for last in 1..=9 {
            memory.vote(nats(), ip(last), good(OPEN, 50), now);
        }
        assert_eq!(memory.hints(nats(), now)[0].percent, 90);
    }

    #[test]
    fn old_votes_weigh_less_and_are_forgotten() {
        let (mut memory, start) = (Memory::default(), any_instant());
        memory.vote(nats(), ip(1), bad(OPEN), start);
        let later = start + HALF_LIFE;
        memory.vote(nats(), ip(2), good(OPEN, 50), later);
        assert_eq!(memory.hints(nats(), later)[0].percent, 66, "two to one");
        let much_later = start + HALF_LIFE * FORGOTTEN_AFTER;
        assert!(memory.hints(nats(), much_later).is_empty(), "one vote is left");
    }

    #[test]
    fn a_liar_with_many_stories_displaces_its_own_only() {
        let (mut memory, now) = (Memory::default(), any_instant());
        memory.vote(nats(), ip(1), good(OPEN, 50), now);
        memory.vote(nats(), ip(2), good(OPEN, 50), now);
        for number in 0..10_000_u64 {
            let story = NatSummary::from_bytes((number << 20).to_be_bytes());
            memory.vote([story, story], ip(66), good(OPEN, 1), now);
        }
        assert!(memory.cells.len() <= 1 + MAX_VOTES_PER_SITE);
        assert_eq!(memory.hints(nats(), now)[0].percent, 100);
    }

    #[test]
    fn what_many_have_voted_on_survives_a_crowd_of_liars() {
        let (mut memory, now) = (Memory::default(), any_instant());
        memory.vote(nats(), ip(1), good(OPEN, 50), now);
        memory.vote(nats(), ip(2), good(OPEN, 50), now);
        for number in 0..MAX_CELLS as u32 + 500 {
            let site = IpAddr::from((0x0A00_0000 + number).to_be_bytes());
            let bytes =
                [1, (number >> 8) as u8 & 0x0F, number as u8, 1, 1, 1, (number >> 12) as u8, 0];
            let story = NatSummary::from_bytes(bytes);
            memory.vote([story, nats()[0]], site, good(OPEN, 1), now);
        }
        assert!(memory.cells.len() <= MAX_CELLS);
        assert_eq!(memory.hints(nats(), now).len(), 1);
        let voices: usize = memory.voters.values().map(VecDeque::len).sum();
        assert_eq!(voices, memory.cells.values().map(VecDeque::len).sum::<usize>());
    }
}
