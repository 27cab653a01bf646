//! The engine: what is known of both sides becomes a plan, and the plan becomes connects.
//!
//! It runs again whenever something became known: a survey ended, the peer told something, a connect
//! was refused. What it finds already under way it leaves alone.

use super::*;
use crate::nat::{Mapping, NatReport, PortAllocation};
use crate::puncher::report::{Attempt, AttemptResult, Evidence, milliseconds_since};
use crate::signal::Role;
use crate::tcp_traversal::note::{Notary, Standing};
use crate::tcp_traversal::plan::{Facts, Part, Plan};
use crate::tcp_traversal::port_coverage::Coverage;
use crate::tcp_traversal::reserve::Reserve;
use crate::tcp_traversal::rounds::{Purpose, Rounds};
use crate::tcp_traversal::shielded_opener::{OPENER_TTL, REFUSALS};
use crate::tcp_traversal::simultaneous_open::{INSTANT_RETRIES, Stance};
use crate::tcp_traversal::survey::{Ports, SAMPLES, Sample, is_steady};

/// How long after the start a side whose ports nobody has told about is taken for a steady one.
const GUESS_AFTER: Duration = Duration::from_millis(1500);

/// How long a stream may be silent before other ways are tried beside it: the kernel repeats the last
/// segment of a handshake after a second.
const STALE_AFTER: Duration = Duration::from_millis(1500);

/// How long SYNs are given, where nobody knows that they do not pass.
pub(super) const SYNS_FIRST: Duration = Duration::from_millis(700);

/// Round-trip time that is assumed as long as none was measured.
const LIKELY_RTT: Duration = Duration::from_millis(200);

/// What a session knows and does beyond simultaneous open.
#[derive(Debug)]
pub(super) struct Engine {
    notary: Notary,
    pub(super) plan: Plan,
    /// What the outside sees of our ports, as measured for this session.
    pub(super) ports: Ports,
    pub(super) survey: Option<survey::Survey>,
    /// Surveys that were repeated because too few servers had answered.
    pub(super) surveys_again: u32,
    /// Whether the present survey has been judged.
    pub(super) judged: bool,
    /// The port of the last sample, and the connects of the session at that time.
    pub(super) last: Option<(u16, u32)>,
    /// What the peer told last.
    pub(super) theirs: Option<Standing>,
    /// What we told last.
    told: Standing,
    outbox: Option<Vec<u8>>,
    pub(super) rounds: Option<Rounds>,
    /// When the forecast of the present round was told.
    pub(super) told_at: Instant,
    /// Round-trip time to a server: the shortest of a handshake, if there was one.
    pub(super) rtt: Duration,
    pub(super) least_rtt: Option<Duration>,
    /// The last round in which we have opened our NAT.
    pub(super) opened: u8,
    pub(super) coverage: Option<Coverage>,
    pub(super) ghost: Option<ghost::Ghost>,
    /// The family of addresses of what needs ports of its own.
    pub(super) hands: hands::Hands,
    /// Fresh ports that servers are asked about, aside from the survey.
    pub(super) inquiries: Vec<inquiry::Inquiry>,
    /// A port that no SYN has left from towards the peer, and how the outside sees it.
    pub(super) spare: Option<Sample>,
    /// Another one that the node has at hand.
    pub(super) reserve: Option<Reserve>,
    /// All such ports of the last survey.
    pub(super) crowd: Vec<Sample>,
    /// Shortest time in which a NAT on the way to the peer has refused a SYN: a round trip to it.
    pub(super) path: Option<Duration>,
    /// What is made by hand.
    pub(super) forging: Option<forging::Forging>,
    /// The broker's answer to our SYN.
    pub(super) answered: answered::Answered,
    /// What the budget refused.
    pub(super) spending: spending::Spending,
    /// Connects so far.
    pub(super) connects: u32,
    /// Those before the first survey.
    pub(super) before: u32,
    /// When a NAT on the way to the peer refused a SYN for the first time.
    pub(super) refused_at: Option<Instant>,
    /// Whether rounds would be of use, should nothing come of what goes on.
    pub(super) may_recover: bool,
}

impl Engine {
    pub(super) fn new(introduction: &Introduction, resources: &Resources) -> Self {
        let ours = Facts::of(resources.nat.as_ref());
        let theirs = Facts::of(introduction.nat.as_ref());
        Self {
            notary: Notary::new(&introduction.secret, introduction.role),
            plan: Plan::of(introduction.role, &ours, &theirs).reordered(&introduction.hints),
            ports: Ports::Unknown,
            survey: None,
            surveys_again: 0,
            judged: false,
            last: None,
            theirs: None,
            told: Standing::default(),
            outbox: None,
            rounds: None,
            told_at: introduction.start,
            rtt: LIKELY_RTT,
            least_rtt: None,
            opened: 0,
            coverage: None,
            ghost: None,
            hands: hands::Hands::default(),
            inquiries: Vec::new(),
            forging: None,
            answered: answered::Answered::default(),
            spare: None,
            reserve: None,
            crowd: Vec::new(),
            path: None,
            spending: spending::Spending::default(),
            connects: 0,
            before: 0,
            refused_at: None,
            may_recover: false,
        }
    }

    /// The sockets that are neither a dialer's nor a stream's, nor kept.
    pub(super) fn sockets(&self, kept: &[Hole]) -> Vec<SocketId> {
        let survey = self.survey.iter().flat_map(survey::Survey::sockets);
        let keeps = !kept.is_empty();
        let coverage = self.coverage.iter().filter(|_| !keeps).flat_map(Coverage::pending);
        let forging = self.forging.iter().flat_map(forging::Forging::sockets);
        let inquiries = self.inquiries.iter().filter_map(inquiry::Inquiry::socket);
        let engine = survey.chain(coverage).chain(self.answered.capture());
        engine.chain(forging).chain(inquiries).collect()
    }

    /// A handshake with a server took so long. One whose SYN was lost takes a second more than the path.
    pub(super) fn took(&mut self, rtt: Duration) {
        let least = self.least_rtt.map_or(rtt, |least| least.min(rtt));
        (self.least_rtt, self.rtt) = (Some(least), least);
    }

    /// Whether something of it may still bring a connection about.
    pub(super) fn is_busy(&self) -> bool {
        self.coverage.as_ref().is_some_and(Coverage::is_alive)
            || self.forging.as_ref().is_some_and(forging::Forging::is_alive)
    }

    /// The peer's ports, as it told.
    pub(super) fn their_ports(&self) -> Ports {
        self.theirs.map_or(Ports::Unknown, |standing| standing.ports)
    }
}

impl Session {
    /// A discovery has found out more about our NATs.
    pub fn set_nat(
        &mut self,
        nat: NatReport,
        (opener_ttl, listener_reached): (Option<u8>, Option<bool>),
        now: Instant,
    ) {
        self.resources.nat = Some(nat);
        (self.resources.opener_ttl, self.resources.listener_reached) =
            (opener_ttl, listener_reached);
        if matches!(self.state, State::Racing) {
            self.begin_engine();
            self.pursue(now);
        }
    }

    /// What the peer should be told through the broker, if that has changed.
    pub fn poll_note(&mut self) -> Option<Vec<u8>> {
        self.engine.outbox.take()
    }

    /// The peer told this through the broker. What it did not sign is ignored, and what is older than
    /// the last.
    pub fn on_note(&mut self, note: &[u8], now: Instant) {
        let Some(standing) = self.engine.notary.read(note) else {
            tracing::trace!(session = %self.id(), "a note that the peer did not write");
            return;
        };
        let newer = |last: &Standing| last.serial < standing.serial;
        if matches!(self.state, State::Racing) && self.engine.theirs.as_ref().is_none_or(newer) {
            self.engine.theirs = Some(standing);
            self.engine.spending.heard(standing.spent, now);
            if standing.over {
                return self.fail(now);
            }
            self.pursue(now);
            self.race(now);
        }
    }

    /// What servers call our TCP port by now, an answer each.
    pub fn set_told(&mut self, told: Vec<SocketAddr>, now: Instant) {
        if self.resources.told != told && matches!(self.state, State::Racing) {
            self.resources.told = told;
            self.begin_engine();
            self.pursue(now);
        }
    }

    /// Judges our own ports from what servers have told, and takes samples where that is needed.
    pub(super) fn begin_engine(&mut self) {
        if !self.introduction.transport.allows_tcp() || self.engine.ports != Ports::Unknown {
            return;
        }
        let local = self.resources.tcp.first().copied();
        let is_public = local.is_some_and(|_| self.has_no_nat());
        let steady = local.and_then(|local| is_steady(local, &self.resources.told));
        // Servers at one address may all see the port that is for that address.
        let steady = if self.is_reported_unsteady() { Some(false) } else { steady };
        match steady.or(is_public.then_some(true)) {
            Some(true) => self.engine.ports = Ports::Steady,
            Some(false) if !self.is_learning() => {
                // Rounds that began without this knowledge announce ports where nobody is met.
                (self.engine.rounds, self.engine.judged) = (None, false);
                self.begin_survey(SAMPLES, None);
            }
            Some(false) | None => {}
        }
    }

    /// Whether a discovery has found that each destination sees another port.
    fn is_reported_unsteady(&self) -> bool {
        let Some(NatReport { nat, tcp, .. }) = &self.resources.nat else { return false };
        let depends = tcp.mapping.is_some_and(|it| it != Mapping::EndpointIndependent);
        let keeps = [Some(PortAllocation::Preserved), Some(PortAllocation::Offset)];
        *nat == Some(true) && depends && !keeps.contains(&tcp.port_allocation)
    }

    /// Whether servers see an address of this host's own.
    fn has_no_nat(&self) -> bool {
        let own = |address: &SocketAddr| {
            let same = |it: &Candidate| it.kind == CandidateKind::Host && it.address == *address;
            self.resources.own.iter().any(same)
        };
        !self.resources.told.is_empty() && self.resources.told.iter().all(own)
    }

    /// Does what the plan says by now.
    pub(super) fn pursue(&mut self, now: Instant) {
        if !matches!(self.state, State::Racing) {
            return;
        }
        self.pursue_udp(now);
        if !self.introduction.transport.allows_tcp() {
            if self.our_datagrams().is_some() {
                self.tell();
            }
            return;
        }
        self.streams.grow_stale(STALE_AFTER, now);
        if self.engine.survey.as_ref().is_some_and(|it| it.due().is_some_and(|at| at <= now)) {
            self.conclude_survey(now);
        }
        self.repeat_inquiries(now);
        let plan = Plan::of(self.introduction.role, &self.our_facts(now), &self.their_facts(now));
        self.engine.plan = plan.reordered(&self.introduction.hints);
        self.yield_where_needed();
        self.use_reserve(now);
        self.go_round(now);
        self.predict(now);
        self.cover(now);
        self.change_hands(now);
        self.haunt(now);
        self.seek_answer(now);
        self.forge(now);
        self.tell();
    }

    /// When [`pursue`](Self::pursue) has something to do.
    pub(super) fn engine_due(&self) -> Option<Deadline> {
        let survey = self.engine.survey.as_ref().and_then(survey::Survey::due);
        let survey = survey.map(|at| Deadline::new(at, "end of a survey"));
        let coverage = self.coverage_due();
        let round = self.round_due().map(|at| Deadline::new(at, "end of a round of prediction"));
        let inquiry = self.engine.inquiries.iter().filter_map(inquiry::Inquiry::due).min();
        let inquiry = inquiry.map(|at| Deadline::new(at, "answer about a fresh port"));
        let stale = self.streams.stale_at(STALE_AFTER);
        let stale = stale.map(|at| Deadline::new(at, "silence of a stream"));
        [
            stale,
            inquiry,
            self.hands_due(),
            self.reserve_due(),
            coverage,
            round,
            self.guess_due(),
            self.ghost_due(),
            self.answer_due(),
            self.forging_due(),
            self.udp_due(),
        ]
        .into_iter()
        .fold(survey, Deadline::earlier)
    }

    /// When a guess would change the plan.
    fn guess_due(&self) -> Option<Deadline> {
        let waits = matches!(self.engine.ports, Ports::Random { .. })
            && self.engine.coverage.is_none()
            && self.engine.their_ports() == Ports::Unknown;
        waits.then(|| Deadline::new(self.introduction.start + GUESS_AFTER, "guess of the peer"))
    }

    pub(super) fn our_facts(&self, now: Instant) -> Facts {
        let told = Facts::of(self.resources.nat.as_ref());
        let measured = self.engine.ports;
        let ports = if measured == Ports::Unknown { told.ports } else { measured };
        let ports = self.or_guess(ports, now);
        let broker_forges = Some(!self.resources.forges.is_empty());
        Facts {
            ports,
            privileges: self.resources.privileges,
            classic: self.resources.classic,
            broker_forges,
            listener_reached: self.resources.listener_reached,
            // The SYN that has measured it died on the way.
            hole_outlives_ttl: self.resources.opener_ttl.map(|_| true).or(told.hole_outlives_ttl),
            ..told
        }
    }

    /// How a SYN of ours leaves that opens our NAT and provokes nothing beyond, at `ttl`: where the NAT forgets
    /// it when it dies, it goes all the way.
    pub(super) fn opening_stance(&self, ttl: u8) -> Stance {
        let known = Facts::of(self.resources.nat.as_ref()).hole_outlives_ttl;
        match (self.resources.opener_ttl, known) {
            (None, Some(false)) => Stance::OpenAllTheWay,
            (None, Some(true) | None) | (Some(_), _) => Stance::Open(ttl),
        }
    }

    /// The same with the TTL that was measured, or else the usual one.
    pub(super) fn usual_opening(&self) -> Stance {
        self.opening_stance(self.resources.opener_ttl.unwrap_or(OPENER_TTL))
    }

    pub(super) fn their_facts(&self, now: Instant) -> Facts {
        let reported = Facts::of(self.introduction.nat.as_ref());
        let Some(standing) = self.engine.theirs else {
            return Facts { ports: self.or_guess(reported.ports, now), ..reported };
        };
        let ports = match standing.ports {
            Ports::Unknown => reported.ports,
            known => known,
        };
        Facts {
            ports: self.or_guess(ports, now),
            answers: standing.answers.or(reported.answers),
            admits_syn: standing.admits_syn.or(reported.admits_syn),
            privileges: standing.privileges,
            classic: standing.classic,
            listener_reached: standing.listener_reached,
            hole_outlives_ttl: standing.hole_outlives_ttl.or(reported.hole_outlives_ttl),
            hole_outlives_rst: standing.hole_outlives_rst.or(reported.hole_outlives_rst),
            answers_early: standing.answers_early,
            ..reported
        }
    }

    /// Whether both NATs are known to let no SYN in.
    pub(super) fn no_syn_passes(&self) -> bool {
        let start = self.introduction.start;
        let facts = [self.our_facts(start), self.their_facts(start)];
        facts.iter().all(|it| it.admits_syn == Some(false))
    }

    fn or_guess(&self, ports: Ports, now: Instant) -> Ports {
        let late = now >= self.introduction.start + GUESS_AFTER;
        if ports == Ports::Unknown && late { Ports::Steady } else { ports }
    }

    /// A new dialer's part.
    pub(super) fn assign(&self, dialer: &mut Dialer) {
        // In IPv6 the shield does not hold (see `shielded_opener`).
        let counts = |rounds: Rounds| rounds.purpose == Purpose::Foretold;
        if self.engine.rounds.is_some_and(counts) {
            dialer.hold();
        }
        if dialer.kind == CandidateKind::Host || dialer.remote.is_ipv6() {
            return;
        }
        dialer.yields = self.yields();
        dialer.opens = self.usual_opening();
        let planned = self.engine.plan.part(Strategy::ShieldedOpener) == Some(Part::Opener);
        if planned && matches!(dialer.opens, Stance::Open(_)) {
            dialer.stance = dialer.opens;
            dialer.schedule(self.called);
        }
    }

    /// After how many refusals a dialer of ours becomes an opener. Not if that would shut our NAT; first, if the
    /// peer's openers would shut its own. Else the caller goes on for longer, but not with gaps: a SYN of
    /// the peer that meets no socket here would be answered by this host's own RST.
    fn yields(&self) -> Option<u32> {
        let start = self.introduction.start;
        let [ours, theirs] =
            [self.our_facts(start), self.their_facts(start)].map(|it| it.can_open());
        let callee = self.introduction.role == Role::Controlled;
        let first = callee || self.engine.ports.is_unsteady() || theirs == Some(false);
        let refusals = if first { REFUSALS } else { INSTANT_RETRIES };
        // Who opens all the way hears only a peer that knows it.
        let quietly = matches!(self.usual_opening(), Stance::Open(_));
        (ours != Some(false) && quietly).then_some(refusals)
    }

    /// Each refusal costs an unsteady side the port that the peer was told.
    fn yield_where_needed(&mut self) {
        if self.engine.ports.is_unsteady() {
            let of_nat = |it: &&mut Dialer| it.kind != CandidateKind::Host && it.remote.is_ipv4();
            self.dialers
                .iter_mut()
                .filter(of_nat)
                .for_each(|dialer| dialer.yields = Some(REFUSALS));
        }
    }

    /// Tells the peer where we stand, if that has changed.
    pub(super) fn tell(&mut self) {
        let facts = Facts::of(self.resources.nat.as_ref());
        let reserve = self.used_reserve();
        let announced = |it: &Dialer| reserve.is_none() || it.local != reserve;
        let waits = |it: &Dialer| it.pending().is_some() && it.stance.opens() && announced(it);
        let standing = Standing {
            serial: self.engine.told.serial,
            ports: self.engine.ports,
            forecast: self.our_forecast(),
            round: self.engine.rounds.map_or(0, |rounds| rounds.round),
            opened: self.engine.opened,
            waits: self.dialers.iter().any(waits),
            classic: self.resources.classic,
            over: false,
            privileges: self.resources.privileges,
            answers: facts.answers,
            admits_syn: facts.admits_syn,
            listener_reached: self.resources.listener_reached,
            hole_outlives_ttl: self.resources.opener_ttl.map(|_| true).or(facts.hole_outlives_ttl),
            hole_outlives_rst: facts.hole_outlives_rst,
            answers_early: facts.answers_early,
            spare: self.engine.spare.map(|sample| sample.mapped),
            stand: self.our_stand(),
            haunt: self.our_haunt(),
            crowd: self.our_crowd(),
            spent: self.engine.spending.told(),
            reserve: self.our_reserve(),
            datagrams: self.our_datagrams(),
        };
        if standing != self.engine.told {
            let standing = Standing { serial: standing.serial.saturating_add(1), ..standing };
            self.engine.told = standing;
            self.engine.outbox = Some(self.engine.notary.write(&standing));
        }
    }

    /// Tells the peer that nothing more will come of this side.
    pub(super) fn tell_the_end(&mut self) {
        let serial = self.engine.told.serial.saturating_add(1);
        self.engine.told = Standing { serial, over: true, ..self.engine.told };
        self.engine.outbox = Some(self.engine.notary.write(&self.engine.told));
    }

    /// The name of what brought a stream about: an opener at the peer made a shielded opener of it.
    pub(super) fn named(&self, strategy: Strategy) -> Strategy {
        let waits = self.engine.theirs.is_some_and(|standing| standing.waits);
        let planned = self.engine.plan.part(Strategy::ShieldedOpener).is_some();
        match strategy {
            Strategy::SimultaneousOpen if waits || planned => Strategy::ShieldedOpener,
            other => other,
        }
    }

    /// What was left out, and why.
    pub(super) fn skipped_attempts(&self, now: Instant) -> Vec<Attempt> {
        let reached =
            |it: &&Candidate| it.transport == Transport::Tcp && it.kind != CandidateKind::Reserve;
        let Some(peer) = self.introduction.candidates.iter().filter(reached).max() else {
            return Vec::new();
        };
        let at = milliseconds_since(self.called, now);
        let skipped = |(strategy, reason)| Attempt {
            strategy,
            transport: Transport::Tcp,
            role: self.introduction.role,
            remote: peer.address,
            candidate: peer.kind,
            started_ms: at,
            ended_ms: at,
            result: AttemptResult::Skipped,
            evidence: vec![Evidence::Skipped(reason)],
        };
        if !self.introduction.transport.allows_tcp() {
            return Vec::new();
        }
        self.engine.plan.skipped().map(skipped).collect()
    }
}
