//! What is made by hand, carried out: a fresh port each, two SYNs that die on the way, a word about
//! each, and then the volleys of the planned strategies.
//!
//! ```text
//!  begun ──▶ Sampling ──▶ Standing ──────▶ Opening ──────▶ Armed ──▶ a stream, or nothing
//!             a server     the peer's       our SYN is      the peer's
//!             is asked     stand awaited    awaited         is known as well
//! ```
//!
//! A side begins when its strategies say so, or when the peer has begun: both have the same plan.
//!
//! Connect, close and listen takes the same steps with a listener instead: the callee's SYN opens its NAT
//! and its socket makes room for a listener, which the caller dials from its stand.

mod account;
mod classic;
#[cfg(test)]
mod tests;

use super::*;
use crate::puncher::report::Failures;
use crate::puncher::streams::Stream;
use crate::signal::Syn;
use crate::tcp_traversal::forgery::{Means, TTL, Volley};
use crate::tcp_traversal::note::Stand;
use crate::tcp_traversal::plan::{Part, Verdict};
use crate::tcp_traversal::shielded_opener::{OPENED, OPENER_TTL, opening};
use crate::tcp_traversal::simultaneous_open::Stance;
use crate::tcp_traversal::spoofed_syn_ack::{Knowledge, pinned, pinned_sequence};
use crate::tcp_traversal::survey::Sample;
use crate::tcp_traversal::{connect_close_listen, syn_ack_injection, syn_injection, syn_replay};
use crate::{Hops, IoFailure};
use inquiry::{Asker, Told};

/// How long an instant retry and a shielded opener are given, once somebody was refused.
const OPENERS_FIRST: Duration = Duration::from_millis(200);
/// Least time from the first copies to the answers.
const LEAST_CROSSING: Duration = Duration::from_millis(150);

/// What there is of it.
#[derive(Debug)]
pub(super) struct Forging {
    started: Instant,
    stage: Stage,
    /// The capture of our SYN.
    capture: Option<(CommandId, SocketId)>,
    /// Our SYN, as it left.
    syn: Option<Syn>,
    /// The peer's, as it was told last: it may not be taken back.
    their_syn: Option<Syn>,
    moves: Vec<(Strategy, Volley)>,
    /// The strategy of the last segment that left.
    last: Strategy,
    injected: u32,
    /// Segments whose fate is not known yet.
    sends: Vec<CommandId>,
    failures: Failures,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The mapping of the stand is being asked about.
    Sampling,
    /// The peer's stand is awaited.
    Standing(Sample),
    /// Our SYN has left, and both sides' SYNs are awaited.
    Opening(Sample, Pending),
    /// Our SYN has left and makes room for a listener then.
    Making(Sample, Pending, Instant),
    /// A listener waits for the peer.
    Listening(Sample, SocketId),
    /// Both are known.
    Armed(Sample, Pending),
    /// Nothing more will come of it, or has.
    Over(Option<Sample>),
}

/// The socket that connects from the stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pending {
    socket: SocketId,
    ends: Ends,
}

impl Forging {
    fn begin(now: Instant) -> Self {
        Self {
            started: now,
            stage: Stage::Sampling,
            capture: None,
            syn: None,
            their_syn: None,
            moves: Vec::new(),
            last: Strategy::SynReplay,
            injected: 0,
            sends: Vec::new(),
            failures: Failures::default(),
        }
    }

    fn pending(&self) -> Option<Pending> {
        match self.stage {
            Stage::Opening(_, pending)
            | Stage::Making(_, pending, _)
            | Stage::Armed(_, pending) => Some(pending),
            Stage::Sampling | Stage::Standing(_) | Stage::Listening(..) | Stage::Over(_) => None,
        }
    }

    /// Its sockets that are not a stream's.
    pub(super) fn sockets(&self) -> impl Iterator<Item = SocketId> {
        let capture = self.capture.map(|(_, socket)| socket);
        let capture = capture.into_iter().chain(self.listener());
        self.pending().map(|it| it.socket).into_iter().chain(capture)
    }

    fn listener(&self) -> Option<SocketId> {
        match self.stage {
            Stage::Listening(_, listener) => Some(listener),
            Stage::Sampling
            | Stage::Standing(_)
            | Stage::Opening(..)
            | Stage::Making(..)
            | Stage::Armed(..)
            | Stage::Over(_) => None,
        }
    }

    fn sample(&self) -> Option<Sample> {
        match self.stage {
            Stage::Sampling => None,
            Stage::Standing(sample)
            | Stage::Opening(sample, _)
            | Stage::Making(sample, ..)
            | Stage::Listening(sample, _)
            | Stage::Armed(sample, _) => Some(sample),
            Stage::Over(sample) => sample,
        }
    }

    /// Whether a connection may still come of it.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.stage, Stage::Over(_))
    }

    /// What the peer is told.
    fn stand(&self) -> Stand {
        let mapped = self.sample().map(|it| it.mapped);
        Stand { mapped, syn: self.syn, listens: self.listener().is_some() }
    }

    fn finish(&mut self) {
        self.stage = Stage::Over(self.sample());
    }

    fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Armed(..) => self.moves.iter().filter_map(|(_, volley)| volley.due()).min(),
            Stage::Making(_, _, until) => Some(until),
            Stage::Sampling
            | Stage::Standing(_)
            | Stage::Opening(..)
            | Stage::Listening(..)
            | Stage::Over(_) => None,
        }
    }
}

impl Session {
    /// Takes the next step, if one is due.
    pub(super) fn forge(&mut self, now: Instant) {
        if !self.forging_planned() {
            return;
        }
        let Some(forging) = &self.engine.forging else {
            let asked = self.theirs_stand().is_some();
            let due = self.forging_start().is_some_and(|at| at <= now);
            let family = self.stands_family().filter(|_| !self.streams.are_hopeful());
            if let (true, Some(family)) = (asked || due, family) {
                self.engine.forging = Some(Forging::begin(now));
                self.inquire(Asker::Stand, family, now);
                self.take_stand(now);
            }
            return;
        };
        match forging.stage {
            Stage::Sampling => self.take_stand(now),
            Stage::Standing(sample) => match self.stand_verdict(Strategy::ConnectCloseListen) {
                Some(part) => self.open_classic(part, sample, now),
                None => self.open_stand(sample),
            },
            Stage::Making(sample, _, until) if until <= now => self.listen_instead(sample),
            Stage::Opening(..) if forging.last == Strategy::ConnectCloseListen => {}
            Stage::Opening(sample, pending) => self.arm(sample, pending, now),
            Stage::Armed(_, pending) => self.inject_for(pending, now),
            Stage::Making(..) | Stage::Listening(..) | Stage::Over(_) => {}
        }
    }

    /// When [`forge`](Self::forge) begins by itself, or goes on.
    pub(super) fn forging_due(&self) -> Option<Deadline> {
        // What the peer has told since may have changed the plan.
        if !self.forging_planned() {
            return None;
        }
        let at = match &self.engine.forging {
            Some(forging) => forging.due(),
            None if self.stands_family().is_none() => None,
            None => self.forging_start().filter(|_| !self.streams.are_hopeful()),
        };
        at.map(|at| Deadline::new(at, "segments made by hand"))
    }

    /// What is told of our stand.
    pub(super) fn our_stand(&self) -> Option<Stand> {
        self.engine.forging.as_ref().map(Forging::stand)
    }

    fn theirs_stand(&self) -> Option<Stand> {
        self.engine.theirs.and_then(|standing| standing.stand)
    }

    pub(super) fn verdict(&self, strategy: Strategy) -> Option<Part> {
        part_in(self.engine.plan.verdict(strategy)?)
    }

    /// Our part in a strategy whose port is a stand.
    fn stand_verdict(&self, strategy: Strategy) -> Option<Part> {
        part_in(self.verdict_by_hand(strategy)?)
    }

    fn forging_planned(&self) -> bool {
        let planned = [
            Strategy::SynReplay,
            Strategy::SynAckInjection,
            Strategy::SynInjection,
            Strategy::ConnectCloseListen,
        ];
        planned.into_iter().any(|strategy| self.stand_verdict(strategy).is_some())
    }

    /// When we begin, as far as it is known by now.
    fn forging_start(&self) -> Option<Instant> {
        let start = self.introduction.start;
        let injects = [Strategy::SynAckInjection, Strategy::SynInjection]
            .into_iter()
            .any(|strategy| self.stand_verdict(strategy).is_some());
        let hinted = [Strategy::SynReplay, Strategy::SynAckInjection, Strategy::SynInjection];
        let hinted = hinted.into_iter().any(|strategy| self.is_hinted(strategy));
        let at_once = hinted || self.no_syn_passes();
        let patience = if at_once { Duration::ZERO } else { SYNS_FIRST };
        let injection = injects.then_some(start + patience);
        let replay = self.stand_verdict(Strategy::SynReplay).and(self.engine.refused_at);
        let replay = replay.map(|refused| refused.max(start) + OPENERS_FIRST);
        let classic = self.stand_verdict(Strategy::ConnectCloseListen).is_some();
        let classic = classic.then_some(start + connect_close_listen::OTHERS_FIRST);
        injection.into_iter().chain(replay).chain(classic).min()
    }

    /// A server has told the mapping of a fresh port: that is our stand.
    fn take_stand(&mut self, now: Instant) {
        let told = self.inquired(Asker::Stand);
        let Some(forging) = &mut self.engine.forging else { return };
        match told {
            Told::Waiting => return,
            Told::At(sample) => forging.stage = Stage::Standing(sample),
            Told::Nothing => forging.finish(),
        }
        self.forge(now);
    }

    /// Between our stand and the peer's, if that is known and the peer's indeed.
    fn ends_of_stands(&self, sample: Sample) -> Option<Ends> {
        let remote = self.theirs_stand()?.mapped?;
        let end = self.end_in(Family::of(remote.ip()));
        let same_host = end.is_some_and(|end| end.ip() == remote.ip());
        let same_family = Family::of(sample.local.ip()) == Family::of(remote.ip());
        (same_host && same_family).then_some(Ends { local: sample.local, remote })
    }

    /// Both stands are known: our SYN leaves, as far as past our own NAT.
    fn open_stand(&mut self, sample: Sample) {
        let Some(ends) = self.ends_of_stands(sample) else { return };
        let held = self.resources.privileges.unwrap_or(Privileges::NONE);
        let (secret, role) = (self.introduction.secret, self.introduction.role);
        let (mut sequence, mut syn, mut capture) = (None, None, None);
        match Knowledge::with(held) {
            Some(Knowledge::Captured) => {
                let (id, socket) = (self.names.command(), self.names.socket());
                capture = Some((id, socket));
                self.commands.push_back(Command::Capture { id, socket, ends });
            }
            Some(Knowledge::Pinned) => {
                sequence = Some(pinned_sequence(&secret, role));
                syn = Some(pinned(&secret, role));
            }
            None => {}
        }
        let hops = if ends.remote.is_ipv4() { self.stand_hops() } else { Hops::USUAL };
        let socket = self.connect_with(ends.local, ends.remote, hops, sequence);
        let Some(forging) = &mut self.engine.forging else { return };
        (forging.capture, forging.syn) = (capture, syn);
        forging.stage = Stage::Opening(sample, Pending { socket, ends });
    }

    /// How the SYN of a stand leaves: so that nobody answers it.
    fn stand_hops(&self) -> Hops {
        let silent = self.their_facts(self.introduction.start).answers == Some(false);
        match self.usual_opening() {
            Stance::OpenAllTheWay if silent => OPENED,
            _ => opening(self.resources.opener_ttl.unwrap_or(OPENER_TTL)),
        }
    }

    /// Whether this was the capture of our SYN.
    pub(super) fn on_stand_captured(
        &mut self,
        capture: SocketId,
        segment: &Segment,
        now: Instant,
    ) -> bool {
        let Some(forging) = &mut self.engine.forging else { return false };
        if forging.capture.take_if(|(_, socket)| *socket == capture).is_none() {
            return false;
        }
        forging.syn = Some(Syn::of(segment));
        self.close(capture);
        self.pursue(now);
        true
    }

    /// Whether this was the answer to the capture: without it our SYN stays unknown.
    pub(super) fn on_stand_capture(
        &mut self,
        id: CommandId,
        opened: Result<(), IoFailure>,
        now: Instant,
    ) -> bool {
        let Some(forging) = &mut self.engine.forging else { return false };
        if forging.capture.is_none_or(|(command, _)| command != id) {
            return false;
        }
        if let Err(failure) = opened {
            forging.capture = None;
            forging.failures.count(failure);
            if let Some(held) = &mut self.resources.privileges {
                held.capture = false;
            }
            self.end_forging();
            self.pursue(now);
        }
        true
    }

    /// Both SYNs are known: what is planned begins. Our own is only needed where we tell it, or copy it.
    fn arm(&mut self, sample: Sample, pending: Pending, now: Instant) {
        let theirs = self.theirs_stand().and_then(|stand| stand.syn);
        let Some(forging) = &self.engine.forging else { return };
        if theirs.is_none() || (forging.syn.is_none() && forging.capture.is_some()) {
            return;
        }
        let crossing = self.crossing_time();
        let own = forging.syn.is_some();
        let injects = Means::of(self.resources.privileges).injects;
        let mut moves = Vec::new();
        if own && injects {
            moves.push((Strategy::SynReplay, Volley::new(now, &syn_replay::AT_MS)));
        }
        if own && self.stand_verdict(Strategy::SynAckInjection).is_some() {
            let volley = Volley::new(now + crossing, &syn_ack_injection::AT_MS);
            moves.push((Strategy::SynAckInjection, volley));
        } else if matches!(
            self.stand_verdict(Strategy::SynInjection),
            Some(Part::Both | Part::Dialer)
        ) {
            let volley = Volley::new(now + crossing, &syn_injection::AT_MS);
            moves.push((Strategy::SynInjection, volley));
        }
        if let Some(forging) = &mut self.engine.forging {
            if moves.is_empty() {
                // Who sends nothing waits for what the peer puts into its own stack.
                forging.last = Strategy::SynInjection;
            }
            forging.moves = moves;
            forging.stage = Stage::Armed(sample, pending);
        }
        self.inject_for(pending, now);
    }

    /// How long SYN-ACKs wait for the SYNs to have met the far NATs: not at all where both NATs let them out before.
    fn crossing_time(&self) -> Duration {
        let now = self.introduction.start;
        let facts = [self.our_facts(now), self.their_facts(now)];
        if facts.iter().all(|it| it.answers_early == Some(true)) {
            return Duration::ZERO;
        }
        LEAST_CROSSING.max(self.engine.rtt + syn_ack_injection::CROSSING)
    }

    /// Sends the segments that are due.
    fn inject_for(&mut self, Pending { ends, .. }: Pending, now: Instant) {
        let told = self.theirs_stand().and_then(|stand| stand.syn);
        let held = self.engine.theirs.and_then(|standing| standing.privileges);
        let pinned = held.and_then(Knowledge::with) == Some(Knowledge::Pinned);
        let Some(forging) = &mut self.engine.forging else { return };
        forging.their_syn = told.or(forging.their_syn);
        let Some(theirs) = forging.their_syn else { return };
        // Who cannot tell its own SYN needs only offer what the peer does.
        let own = forging.syn.unwrap_or(theirs);
        let supposed = if pinned { syn_injection::supposed(&theirs, &own) } else { theirs };
        for (strategy, volley) in &mut forging.moves {
            if !volley.fire(now) {
                continue;
            }
            let arrival = syn_injection::arrival(&own, &supposed, ends);
            let segments = match strategy {
                Strategy::SynAckInjection => {
                    let answer = syn_ack_injection::answer(&own, &theirs, ends);
                    [Some(answer), Some(arrival)]
                }
                Strategy::SynInjection => {
                    let answer = |own| syn_ack_injection::answer(&own, &supposed, ends);
                    [Some(arrival), forging.syn.map(answer)]
                }
                _ => [Some(syn_replay::copy(&own, &theirs, ends)), None],
            };
            if *strategy != Strategy::SynReplay {
                forging.last = *strategy;
            }
            for segment in segments.into_iter().flatten() {
                let id = self.names.command();
                forging.injected += 1;
                forging.sends.push(id);
                self.commands.push_back(Command::Inject { id, segment, ttl: TTL });
            }
        }
    }

    /// Whether this was the fate of a segment.
    pub(super) fn on_injected(&mut self, id: CommandId, sent: Result<(), IoFailure>) -> bool {
        let Some(forging) = &mut self.engine.forging else { return false };
        let Some(at) = forging.sends.iter().position(|command| *command == id) else {
            return false;
        };
        forging.sends.swap_remove(at);
        if let Err(failure) = sent {
            forging.failures.count(failure);
            if failure == IoFailure::NotPermitted {
                forging.moves.clear();
            }
        }
        true
    }

    /// Whether this was the stand's socket.
    pub(super) fn on_stand_connected(
        &mut self,
        socket: SocketId,
        connected: Result<Ends, IoFailure>,
        now: Instant,
    ) -> bool {
        let Some(forging) = &mut self.engine.forging else { return false };
        if forging.pending().is_none_or(|pending| pending.socket != socket) {
            return false;
        }
        if let (Stage::Making(sample, ..), Err(_)) = (forging.stage, connected) {
            // The router has told, or the peer's NAT has refused: the own one is open.
            forging.finish();
            self.listen_instead(sample);
            self.pursue(now);
            return true;
        }
        forging.finish();
        let strategy = forging.last;
        match connected {
            Ok(ends) => {
                self.end_forging();
                self.unshield(socket);
                let kind = CandidateKind::ServerReflexive;
                self.established(socket, ends, (kind, strategy), now);
            }
            Err(failure) => {
                forging.failures.count(failure);
                if failure == IoFailure::NotPermitted
                    && let Some(held) = &mut self.resources.privileges
                {
                    held.assume = false;
                }
                self.end_forging();
                self.pursue(now);
            }
        }
        true
    }

    /// No more segments; the capture, if one is open, ends.
    pub(super) fn end_forging(&mut self) {
        let Some(forging) = &mut self.engine.forging else { return };
        let pending = forging.pending().map(|it| it.socket);
        let capture = forging.capture.take().map(|(_, socket)| socket);
        forging.moves.clear();
        forging.finish();
        pending.into_iter().chain(capture).for_each(|socket| self.close(socket));
    }
}

/// Our part, if the strategy is not left out.
fn part_in(verdict: Verdict) -> Option<Part> {
    match verdict {
        Verdict::Run(part) | Verdict::AfterRefusals(part) | Verdict::AfterSilence(part) => {
            Some(part)
        }
        Verdict::Skip(_) => None,
    }
}
