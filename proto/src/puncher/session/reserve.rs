//! The pair of [reserves](crate::tcp_traversal::reserve), carried out: each is told, one side opens, and the other dials.

use super::*;
use crate::tcp_traversal::note::Meet;
use crate::tcp_traversal::plan::{Part, Reason, Verdict};
use crate::tcp_traversal::reserve::Reserve;
use crate::tcp_traversal::rounds::{Purpose, Rounds};
use crate::tcp_traversal::simultaneous_open::Stance;
use crate::tcp_traversal::survey::{Ports, Sample};

/// What two programs may take longer than the path does.
const SLACK: Duration = Duration::from_millis(5);

impl Session {
    /// The port that this node has in reserve, and whether several servers call it so. Once a SYN has left the last
    /// one, that stays.
    pub fn set_reserve(&mut self, (sample, is_sure): (Sample, bool), now: Instant) {
        let same = |it: Reserve| it.sample == sample && it.is_sure == is_sure;
        let known = self.engine.reserve.is_some_and(|it| it.sent.is_some() || same(it));
        if !known && self.is_racing() && sample.mapped.is_ipv4() {
            self.engine.reserve = Some(Reserve::new(sample, is_sure));
            self.pursue(now);
        }
    }

    /// Our end of the reserve, once a SYN has left it: it is this session's from then on.
    pub fn used_reserve(&self) -> Option<SocketAddr> {
        let reserve = self.engine.reserve?;
        reserve.sent.map(|_| reserve.sample.local)
    }

    /// What the peer is told of it.
    pub(super) fn our_reserve(&self) -> Option<Meet> {
        let reserve = self.engine.reserve?;
        let told = reserve.sent.is_some() || self.may_use_reserves();
        let opened = reserve.sent.is_some_and(Stance::opens);
        told.then_some(Meet { mapped: reserve.sample.mapped, opened })
    }

    /// Whether both sides' ports are met where they were told, as far as is known. What servers say of the port
    /// that punches may be in doubt because a NAT has given that up.
    fn may_use_reserves(&self) -> bool {
        let start = self.introduction.start;
        let [ours, theirs] = [self.our_facts(start), self.their_facts(start)].map(|it| it.ports);
        let is_sure = self.engine.reserve.is_some_and(|it| it.is_sure);
        let in_doubt = self.engine.survey.is_some() && ours == Ports::Unknown && !is_sure;
        let steady = !ours.is_unsteady() && !theirs.is_unsteady() && !in_doubt;
        steady && self.introduction.transport.allows_tcp() && !self.streams.are_hopeful()
    }

    /// Our SYN leaves as soon as it may.
    pub(super) fn use_reserve(&mut self, now: Instant) {
        let Some((remote, stance, at)) = self.next_from_reserve() else { return };
        let Some(reserve) = self.engine.reserve.filter(|_| at <= now) else { return };
        let mut dialer = Dialer::new(remote, CandidateKind::ServerReflexive, now);
        dialer.local = Some(reserve.sample.local);
        dialer.strategy = Strategy::ShieldedOpener;
        dialer.stance = stance;
        // One SYN: what is refused has lost its port.
        dialer.suspended = true;
        self.dialers.push(dialer);
        self.engine.reserve = Some(Reserve { sent: Some(stance), ..reserve });
        self.race(now);
    }

    /// Where our SYN is to go, how, and when.
    fn next_from_reserve(&self) -> Option<(SocketAddr, Stance, Instant)> {
        let unused = self.engine.reserve.is_some_and(|it| it.sent.is_none());
        let theirs = self.their_reserve()?;
        let part = self.part_in_reserve()?;
        let reached = theirs.mapped.is_ipv4() && self.is_worth_trying(theirs.mapped);
        if !unused || !reached || !self.may_use_reserves() {
            return None;
        }
        // A discovery that has ended meanwhile may have changed the parts; who has opened waits all the same.
        let (stance, at) = match (theirs.opened, part) {
            (true, _) if self.their_opener_is_deaf() => (Stance::DialLoud, self.called),
            (true, _) => (Stance::Dial, self.called),
            (false, Part::Opener) => (self.usual_opening(), self.reserve_start()),
            (false, Part::Both | Part::Dialer | Part::Cover | Part::Draw) => return None,
        };
        Some((theirs.mapped, stance, at))
    }

    /// When our opener leaves: what crosses is there by then, and a SYN that is not needed costs the node its
    /// reserve.
    fn reserve_start(&self) -> Instant {
        // One way by the broker takes as long as there and back between two sides that are as far from each other
        // as from it.
        let path = self.introduction.path.unwrap_or(self.engine.rtt);
        self.introduction.start.max(self.called) + path + SLACK
    }

    /// When [`use_reserve`](Self::use_reserve) has something to do.
    pub(super) fn reserve_due(&self) -> Option<Deadline> {
        self.next_from_reserve().map(|(.., at)| Deadline::new(at, "the reserve"))
    }

    /// The peer's, as it told last, or as it came with the call.
    fn their_reserve(&self) -> Option<Meet> {
        let called =
            |it: &&Candidate| it.kind == CandidateKind::Reserve && it.transport == Transport::Tcp;
        let with_call = || self.introduction.candidates.iter().find(called);
        let told = self.engine.theirs.and_then(|it| it.reserve);
        told.or_else(|| with_call().map(|it| Meet { mapped: it.address, opened: false }))
    }

    /// What has left from there was refused, though the peer had opened: its NAT has given up the port. The first
    /// round would only repeat that, in the second one we open.
    pub(super) fn lose_reserve(&mut self, local: Option<SocketAddr>, now: Instant) {
        let opened = self.engine.theirs.and_then(|it| it.reserve).is_some_and(|it| it.opened);
        let ours = local.is_some() && local == self.used_reserve();
        let first = self.engine.rounds.is_none_or(|it| it.round == 1);
        let steady = self.may_use_reserves() && self.engine.may_recover;
        if opened && ours && first && steady && !self.no_opener_helps() {
            self.begin_round(Rounds::first(Purpose::Recovery, 2), now);
        }
    }

    /// Who opens; nobody, if no hole lasts.
    fn part_in_reserve(&self) -> Option<Part> {
        match self.engine.plan.verdict(Strategy::ShieldedOpener)? {
            Verdict::Run(part) | Verdict::AfterRefusals(part) | Verdict::AfterSilence(part) => {
                Some(part)
            }
            Verdict::Skip(Reason::HoleEnds) => None,
            Verdict::Skip(_) => Some(match self.introduction.role {
                Role::Controlling => Part::Dialer,
                Role::Controlled => Part::Opener,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{session, socket_address};
    use super::*;
    use crate::machine::any_instant;
    use crate::tcp_traversal::note::{Notary, Standing};
    use crate::tcp_traversal::shielded_opener::OPENER_TTL;
    use crate::{Answer, IoFailure};

    const OURS: &str = "10.0.0.1:1002";
    const THEIRS: &str = "203.0.113.2:2002";

    /// A session with a reserve, whose peer tells this.
    fn told(role: Role, standing: Standing, now: Instant) -> Session {
        let address = socket_address("203.0.113.2:2001");
        let (kind, transport) = (CandidateKind::ServerReflexive, Transport::Tcp);
        let candidates = vec![Candidate { kind, transport, address }];
        let mut session = session(role, TransportChoice::Tcp, candidates, now);
        session.resources.stun = vec![socket_address("192.0.2.1:3478")];
        let mapped = socket_address("203.0.113.1:1002");
        session.set_reserve((Sample { local: socket_address(OURS), mapped }, true), now);
        session.handle_timeout(now);
        hear(&mut session, standing, now);
        session
    }

    fn hear(session: &mut Session, standing: Standing, now: Instant) {
        let theirs = match session.introduction.role {
            Role::Controlling => Role::Controlled,
            Role::Controlled => Role::Controlling,
        };
        session.on_note(&Notary::new(&SessionSecret([7; 32]), theirs).write(&standing), now);
    }

    fn waits(opened: bool) -> Standing {
        let reserve = Some(Meet { mapped: socket_address(THEIRS), opened });
        let serial = 1 + u16::from(opened);
        Standing { serial, ports: Ports::Steady, reserve, ..Standing::default() }
    }

    /// The SYNs that have left the reserve: their commands, ends and TTLs.
    fn syns(session: &mut Session) -> Vec<(CommandId, SocketAddr, Option<u8>)> {
        let of_reserve = |it: Command| match it {
            Command::ConnectTcp { id, local, remote, hops, .. }
                if local == socket_address(OURS) =>
            {
                Some((id, remote, hops.ttl))
            }
            _ => None,
        };
        std::iter::from_fn(|| session.poll_command()).filter_map(of_reserve).collect()
    }

    /// When what crosses is there.
    fn later(now: Instant) -> Instant {
        now + Duration::from_millis(20) + SLACK
    }

    #[test]
    fn the_callee_opens_when_what_crosses_is_not_there_and_says_so() {
        let now = any_instant();
        let mut session = told(Role::Controlled, waits(false), now);
        assert!(syns(&mut session).is_empty());
        assert!(session.poll_timeout().is_some_and(|it| it.at <= later(now)));
        session.handle_timeout(later(now));
        let left = syns(&mut session);
        let [(_, remote, ttl)] = left[..] else { panic!("{left:?}") };
        assert_eq!((remote, ttl), (socket_address(THEIRS), Some(OPENER_TTL)));
        assert_eq!(session.used_reserve(), Some(socket_address(OURS)));
        let told = session.poll_note().unwrap();
        let told = Notary::new(&SessionSecret([7; 32]), Role::Controlling).read(&told).unwrap();
        assert!(told.reserve.is_some_and(|it| it.opened));
        assert!(!told.waits, "the announced port does not wait");
        session.handle_timeout(later(now) + Duration::from_millis(100));
        assert!(syns(&mut session).is_empty(), "one SYN");
    }

    #[test]
    fn a_reserve_that_came_with_the_call_is_as_good_and_nobody_dials_it_before() {
        let now = any_instant();
        let ports = Ports::Steady;
        let silent = Standing { serial: 1, ports, ..Standing::default() };
        let mut session = told(Role::Controlled, silent, now);
        let (kind, transport) = (CandidateKind::Reserve, Transport::Tcp);
        let theirs = Candidate { kind, transport, address: socket_address(THEIRS) };
        session.add_candidates(&[theirs], now);
        let dialled = |it: &Dialer| it.remote == theirs.address;
        assert!(!session.dialers.iter().any(dialled));
        session.handle_timeout(later(now));
        assert_eq!(syns(&mut session).len(), 1);
    }

    #[test]
    fn without_tcp_nothing_leaves() {
        let now = any_instant();
        let mut session = told(Role::Controlled, waits(false), now);
        session.introduction.transport = TransportChoice::Udp;
        session.handle_timeout(later(now));
        assert!(syns(&mut session).is_empty());
        assert!(session.reserve_due().is_none());
    }

    #[test]
    fn the_caller_dials_when_the_callee_has_opened() {
        let now = any_instant();
        let mut session = told(Role::Controlling, waits(false), now);
        assert!(syns(&mut session).is_empty());
        assert_eq!(session.used_reserve(), None);
        hear(&mut session, waits(true), now);
        let left = syns(&mut session);
        let [(id, remote, ttl)] = left[..] else { panic!("{left:?}") };
        assert_eq!((remote, ttl), (socket_address(THEIRS), None));
        let ends = Ends { local: socket_address(OURS), remote };
        session.handle_input(Input::Answer { id, answer: Answer::Connected(Ok(ends)) }, now);
        let strategy = session.streams.all.first().map(|it| it.strategy);
        assert_eq!(strategy, Some(Strategy::ShieldedOpener));
    }

    #[test]
    fn a_refusal_of_what_should_be_open_has_the_parts_change() {
        let now = any_instant();
        let mut session = told(Role::Controlling, waits(true), now);
        let (id, ..) = syns(&mut session)[0];
        let refused = Answer::Connected(Err(IoFailure::Refused));
        session.handle_input(Input::Answer { id, answer: refused }, now);
        assert_eq!(session.engine.rounds.map(|it| it.round), Some(2));
        assert_eq!(session.engine.rounds.map(Rounds::earlier), Some(1));
    }

    #[test]
    fn where_ports_change_with_the_destination_the_reserve_is_left_alone() {
        let now = any_instant();
        for ports in [Ports::ANYWHERE, Ports::Sequential { step: 1 }] {
            let mut session = told(Role::Controlled, Standing { ports, ..waits(true) }, now);
            session.handle_timeout(later(now));
            assert!(syns(&mut session).is_empty());
        }
    }

    #[test]
    fn a_reserve_that_a_syn_has_left_is_not_exchanged() {
        let now = any_instant();
        let mapped = socket_address("203.0.113.1:1003");
        let other = Sample { local: socket_address("10.0.0.1:1003"), mapped };
        let mut unused = told(Role::Controlling, waits(false), now);
        unused.set_reserve((other, true), now);
        assert_eq!(unused.our_reserve().map(|it| it.mapped), Some(mapped));
        let mut used = told(Role::Controlling, waits(true), now);
        used.set_reserve((other, true), now);
        assert_eq!(used.used_reserve(), Some(socket_address(OURS)));
    }
}
