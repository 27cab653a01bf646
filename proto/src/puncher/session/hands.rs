//! In which family of addresses a ghost and what is made by hand have their ports: in that of the ends at
//! which servers have seen the two sides, and in the other one if nothing comes of that.
//!
//! What was measured of the NATs is about the first. Where addresses of the other family are announced, they are
//! the hosts' own: its ports are steady, and nothing else is known.

use super::*;
use crate::puncher::session::ghost::Ghost;
use crate::tcp_traversal::note::Standing;
use crate::tcp_traversal::plan::{Facts, Plan, Verdict};
use crate::tcp_traversal::survey::Ports;

/// How long the first family is tried.
const FIRST_FAMILY: Duration = Duration::from_secs(3);

/// Where they are tried.
#[derive(Debug, Default)]
pub(super) struct Hands {
    /// When they began.
    pub(super) since: Option<Instant>,
    /// The plan in the other family, once they have gone there.
    elsewhere: Option<Plan>,
}

fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

/// The family of the port that the peer has told for them.
fn told(standing: &Standing) -> Option<Family> {
    let stand = standing.stand.and_then(|stand| stand.mapped);
    let mapped = stand.or(standing.haunt.map(|haunt| haunt.mapped));
    mapped.map(|mapped| Family::of(mapped.ip()))
}

impl Session {
    /// The family in which fresh ports are met. None while the pattern of our ports is being found out: each port
    /// that is used would change it.
    pub(super) fn stands_family(&self) -> Option<Family> {
        let surveys = self.engine.survey.is_some() && self.engine.ports == Ports::Unknown;
        let first = Family::of(self.announced_end()?.ip());
        let family = if self.engine.hands.elsewhere.is_some() { other(first) } else { first };
        (!surveys && self.tcp_local(family).is_some()).then_some(family)
    }

    /// What becomes of a strategy with ports of its own.
    pub(super) fn verdict_by_hand(&self, strategy: Strategy) -> Option<Verdict> {
        let plan = self.engine.hands.elsewhere.as_ref().unwrap_or(&self.engine.plan);
        plan.verdict(strategy)
    }

    /// The other family, if both sides have addresses of it.
    fn other_family(&self) -> Option<Family> {
        let family = other(Family::of(self.announced_end()?.ip()));
        let both = self.tcp_local(family).is_some() && self.end_in(family).is_some();
        both.then_some(family)
    }

    /// Goes to the other family, where that is better: the first one's ports are not steady, or nothing came of
    /// it, or the peer has gone.
    pub(super) fn change_hands(&mut self, now: Instant) {
        let assuming = matches!(self.engine.ghost, Some(Ghost::Assuming { .. }));
        if self.engine.hands.elsewhere.is_some() || assuming || self.streams.are_hopeful() {
            return;
        }
        let Some(family) = self.other_family() else { return };
        let [ours, theirs] = [self.our_facts(now), self.their_facts(now)];
        let unsteady = ours.ports.is_unsteady() || theirs.ports.is_unsteady();
        let gone = self.engine.theirs.as_ref().and_then(told) == Some(family);
        let vain = self.engine.hands.since.is_some_and(|since| since + FIRST_FAMILY <= now);
        if !unsteady && !gone && !vain {
            return;
        }
        self.drop_hands();
        let there = |facts: Facts| Facts {
            ports: Ports::Steady,
            privileges: facts.privileges,
            classic: facts.classic,
            broker_forges: facts.broker_forges,
            ..Facts::default()
        };
        let plan = Plan::of(self.introduction.role, &there(ours), &there(theirs));
        self.engine.hands.elsewhere = Some(plan);
    }

    /// What was begun in the first family ends.
    fn drop_hands(&mut self) {
        self.end_forging();
        if let Some(socket) = self.ghost_socket() {
            self.abort(socket);
        }
        let asked: Vec<_> = self.engine.inquiries.drain(..).filter_map(|it| it.socket()).collect();
        asked.into_iter().for_each(|socket| self.close(socket));
        (self.engine.ghost, self.engine.forging) = (None, None);
    }

    /// When [`change_hands`](Self::change_hands) has something to do.
    pub(super) fn hands_due(&self) -> Option<Deadline> {
        let waits = self.engine.hands.elsewhere.is_none() && !self.streams.are_hopeful();
        let since = self.engine.hands.since.filter(|_| waits && self.other_family().is_some())?;
        Some(Deadline::new(since + FIRST_FAMILY, "the other family of addresses"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{session, socket_address};
    use super::*;
    use crate::machine::any_instant;
    use crate::tcp_traversal::note::Notary;
    use crate::tcp_traversal::plan::Privileges;

    const ALL: Privileges = Privileges { assume: true, capture: true, inject: true };

    /// A caller with addresses of both families, whose peer has both as well and ports like these over IPv4.
    fn dual_stack(ports: Ports, now: Instant) -> Session {
        let candidate = |kind, address| {
            let (transport, address) = (Transport::Tcp, socket_address(address));
            Candidate { kind, transport, address }
        };
        let theirs = vec![
            candidate(CandidateKind::ServerReflexive, "203.0.113.2:2001"),
            candidate(CandidateKind::Host, "[2001:db8:2::1]:2001"),
        ];
        let mut session = session(Role::Controlling, TransportChoice::Tcp, theirs, now);
        session.resources.tcp.push(socket_address("[2001:db8:1::1]:1001"));
        session.resources.own.push(candidate(CandidateKind::Host, "[2001:db8:1::1]:1001"));
        session.resources.privileges = Some(ALL);
        session.line_up(now);
        let privileges = Some(ALL);
        let told = Standing { serial: 1, ports, privileges, ..Standing::default() };
        session.on_note(&note(&told), now);
        session
    }

    fn note(told: &Standing) -> Vec<u8> {
        Notary::new(&SessionSecret([7; 32]), Role::Controlled).write(told)
    }

    /// The families of our ghost and of our stand.
    fn families(session: &Session) -> [Option<Family>; 2] {
        let ghost = session.our_haunt().map(|haunt| haunt.mapped);
        let stand = session.our_stand().and_then(|stand| stand.mapped);
        [ghost, stand].map(|mapped| mapped.map(|it| Family::of(it.ip())))
    }

    #[test]
    fn steady_ports_are_tried_where_servers_see_them_and_then_in_the_other_family() {
        let now = any_instant();
        let mut session = dual_stack(Ports::Steady, now);
        session.handle_timeout(now + SYNS_FIRST);
        assert_eq!(families(&session), [Some(Family::V4); 2]);
        session.handle_timeout(now + SYNS_FIRST + FIRST_FAMILY - Duration::from_millis(1));
        assert_eq!(families(&session), [Some(Family::V4); 2]);
        session.handle_timeout(now + SYNS_FIRST + FIRST_FAMILY);
        assert_eq!(families(&session), [Some(Family::V6); 2]);
    }

    #[test]
    fn where_ports_are_random_the_other_family_comes_first() {
        let now = any_instant();
        let mut session = dual_stack(Ports::ANYWHERE, now);
        session.handle_timeout(now + SYNS_FIRST);
        assert_eq!(families(&session), [Some(Family::V6); 2]);
    }

    #[test]
    fn who_hears_that_the_peer_has_gone_to_the_other_family_follows() {
        let now = any_instant();
        let mut session = dual_stack(Ports::Steady, now);
        session.handle_timeout(now + SYNS_FIRST);
        assert_eq!(families(&session), [Some(Family::V4); 2]);
        let mapped = socket_address("[2001:db8:2::1]:50000");
        let haunt = Some(crate::tcp_traversal::note::Meet { mapped, opened: false });
        let privileges = Some(ALL);
        let told =
            Standing { serial: 2, ports: Ports::Steady, privileges, haunt, ..Standing::default() };
        session.on_note(&note(&told), now + SYNS_FIRST);
        assert_eq!(families(&session), [Some(Family::V6); 2]);
        let left = |it: Command| match it {
            Command::AssumeTcp { ends, .. } => Some(ends.remote),
            _ => None,
        };
        let assumed = std::iter::from_fn(|| session.poll_command()).find_map(left);
        assert_eq!(assumed, Some(mapped));
    }
}
