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

use super::*;
use crate::puncher::report::{Attempt, AttemptResult, Evidence, Failures, milliseconds_since};
use crate::puncher::streams::{Proof, Stream};
use crate::signal::Syn;
use crate::tcp_traversal::forgery::{Means, TTL, Volley};
use crate::tcp_traversal::note::Stand;
use crate::tcp_traversal::plan::{Part, Verdict};
use crate::tcp_traversal::shielded_opener::{OPENER_TTL, opening};
use crate::tcp_traversal::spoofed_syn_ack::{Knowledge, pinned, pinned_sequence};
use crate::tcp_traversal::survey::Sample;
use crate::tcp_traversal::{connect_close_listen, syn_ack_injection, syn_injection, syn_replay};
use crate::{Hops, IoFailure};

/// How long a shielded opener is given, once somebody was refused.
const OPENERS_FIRST: Duration = Duration::from_millis(400);
/// How long SYNs are given, where nobody knows that they do not pass.
const SYNS_FIRST: Duration = Duration::from_millis(700);
/// How long a ghost is given before that, since it is quicker and may need the samples.
const GHOST_FIRST: Duration = Duration::from_millis(1500);
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
            if (asked || due) && self.is_alone() {
                self.engine.forging = Some(Forging::begin(now));
                (self.engine.judged, self.engine.spare) = (false, None);
                self.begin_survey(1, Some(now));
            }
            return;
        };
        match forging.stage {
            Stage::Sampling => self.take_stand(now),
            Stage::Standing(sample) => match self.verdict(Strategy::ConnectCloseListen) {
                Some(part) => self.open_classic(part, sample, now),
                None => self.open_stand(sample),
            },
            Stage::Making(sample, _, until) if until <= now => self.listen_instead(sample),
            Stage::Opening(..) if forging.last == Strategy::ConnectCloseListen => {}
            Stage::Opening(sample, pending) => self.arm(sample, pending, now),
            Stage::Armed(_, pending) => self.fire(pending, now),
            Stage::Making(..) | Stage::Listening(..) | Stage::Over(_) => {}
        }
    }

    /// When [`forge`](Self::forge) begins by itself, or goes on.
    pub(super) fn forging_due(&self) -> Option<Deadline> {
        let at = match &self.engine.forging {
            Some(forging) => forging.due(),
            None => {
                let wanted = self.is_alone() && self.forging_planned();
                self.forging_start().filter(|_| wanted)
            }
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

    fn verdict(&self, strategy: Strategy) -> Option<Part> {
        match self.engine.plan.verdict(strategy)? {
            Verdict::Run(part) | Verdict::AfterRefusals(part) => Some(part),
            Verdict::Skip(_) => None,
        }
    }

    fn forging_planned(&self) -> bool {
        let planned = [
            Strategy::SynReplay,
            Strategy::SynAckInjection,
            Strategy::SynInjection,
            Strategy::ConnectCloseListen,
        ];
        planned.into_iter().any(|strategy| self.verdict(strategy).is_some())
    }

    /// When we begin, as far as it is known by now.
    fn forging_start(&self) -> Option<Instant> {
        let start = self.introduction.start;
        let injects = [Strategy::SynAckInjection, Strategy::SynInjection]
            .into_iter()
            .any(|strategy| self.verdict(strategy).is_some());
        let ghost = self.engine.plan.part(Strategy::GhostHandshake).is_some()
            && self.engine.ghost != Some(ghost::Ghost::Impossible);
        let strict = [self.our_facts(start), self.their_facts(start)]
            .iter()
            .all(|facts| facts.admits_syn == Some(false));
        let patience = if strict { Duration::ZERO } else { SYNS_FIRST };
        let ghost = if ghost { SYNS_FIRST + GHOST_FIRST } else { Duration::ZERO };
        let patience = patience.max(ghost);
        let injection = injects.then_some(start + patience);
        let replay = self.verdict(Strategy::SynReplay).is_some() && self.was_refused();
        let replay = replay.then_some(start + OPENERS_FIRST.max(ghost));
        let classic = self.verdict(Strategy::ConnectCloseListen).is_some();
        let classic = classic.then_some(start + connect_close_listen::OTHERS_FIRST);
        injection.into_iter().chain(replay).chain(classic).min()
    }

    /// Whether nothing stands but what nobody has heard of, as a ghost whose NATs do not play along.
    fn is_alone(&self) -> bool {
        let unheard =
            |it: &Stream| it.strategy == Strategy::GhostHandshake && it.proof == Proof::Awaited;
        self.streams.open().all(unheard)
    }

    /// Whether a NAT has refused a SYN of ours.
    fn was_refused(&self) -> bool {
        let through_nat = |it: &&Dialer| it.kind != CandidateKind::Host;
        self.dialers.iter().filter(through_nat).any(|dialer| dialer.failures.total() > 0)
    }

    /// A server has told the mapping of a fresh port: that is our stand.
    fn take_stand(&mut self, now: Instant) {
        if !self.engine.judged {
            return;
        }
        let sample = self.engine.spare.take();
        let Some(forging) = &mut self.engine.forging else { return };
        match sample {
            Some(sample) => forging.stage = Stage::Standing(sample),
            None => forging.finish(),
        }
        self.forge(now);
    }

    /// Between our stand and the peer's, if that is known and the peer's indeed.
    fn ends_of_stands(&self, sample: Sample) -> Option<Ends> {
        let remote = self.theirs_stand()?.mapped?;
        let same_host = self.announced_end().is_some_and(|end| end.ip() == remote.ip());
        let same_family = Family::of(sample.local.ip()) == Family::of(remote.ip());
        (same_host && same_family).then_some(Ends { local: sample.local, remote })
    }

    /// Opens our NAT for the peer, or dials the peer once it listens.
    fn open_classic(&mut self, part: Part, sample: Sample, now: Instant) {
        let Some(ends) = self.ends_of_stands(sample) else { return };
        let listens = self.theirs_stand().is_some_and(|stand| stand.listens);
        let opens = part == Part::Opener;
        if !opens && !listens {
            return;
        }
        let hops = if opens { connect_close_listen::OPENING } else { Hops::USUAL };
        let socket = self.connect_with(ends.local, ends.remote, hops, None);
        let Some(forging) = &mut self.engine.forging else { return };
        forging.last = Strategy::ConnectCloseListen;
        let pending = Pending { socket, ends };
        forging.stage = if opens {
            Stage::Making(sample, pending, now + connect_close_listen::HOLE_TIME)
        } else {
            Stage::Opening(sample, pending)
        };
    }

    /// Our NAT is open: a listener takes the socket's place.
    fn listen_instead(&mut self, sample: Sample) {
        let pending = self.engine.forging.as_ref().and_then(Forging::pending);
        if let Some(pending) = pending {
            self.close(pending.socket);
        }
        let (id, socket) = (self.names.command(), self.names.socket());
        self.commands.push_back(Command::ListenTcp { id, socket, local: sample.local });
        if let Some(forging) = &mut self.engine.forging {
            forging.stage = Stage::Listening(sample, socket);
        }
    }

    /// The strategy of a stream that our listener has accepted.
    pub(super) fn strategy_at(&self, ends: Ends) -> Option<Strategy> {
        let Some(Forging { stage: Stage::Listening(sample, _), .. }) = &self.engine.forging else {
            return None;
        };
        (sample.local.port() == ends.local.port()).then_some(Strategy::ConnectCloseListen)
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
        let hops = if ends.remote.is_ipv4() { opening(OPENER_TTL) } else { Hops::USUAL };
        let socket = self.connect_with(ends.local, ends.remote, hops, sequence);
        let Some(forging) = &mut self.engine.forging else { return };
        (forging.capture, forging.syn) = (capture, syn);
        forging.stage = Stage::Opening(sample, Pending { socket, ends });
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
        if !forging.capture.is_some_and(|(command, _)| command == id) {
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
        let crossing = LEAST_CROSSING.max(self.engine.rtt + syn_ack_injection::CROSSING);
        let own = forging.syn.is_some();
        let injects = Means::of(self.resources.privileges).injects;
        let mut moves = Vec::new();
        if own && injects {
            moves.push((Strategy::SynReplay, Volley::new(now, &syn_replay::AT_MS)));
        }
        if own && self.verdict(Strategy::SynAckInjection).is_some() {
            let volley = Volley::new(now + crossing, &syn_ack_injection::AT_MS);
            moves.push((Strategy::SynAckInjection, volley));
        } else if matches!(self.verdict(Strategy::SynInjection), Some(Part::Both | Part::Dialer)) {
            let volley = Volley::new(now + crossing, &syn_injection::AT_MS);
            moves.push((Strategy::SynInjection, volley));
        }
        if let Some(forging) = &mut self.engine.forging {
            forging.moves = moves;
            forging.stage = Stage::Armed(sample, pending);
        }
        self.fire(pending, now);
    }

    /// Sends the segments that are due.
    fn fire(&mut self, Pending { ends, .. }: Pending, now: Instant) {
        let theirs = self.theirs_stand().and_then(|stand| stand.syn);
        let Some((forging, theirs)) = self.engine.forging.as_mut().zip(theirs) else { return };
        // Who cannot tell its own SYN needs only offer what the peer does.
        let own = forging.syn.unwrap_or(theirs);
        for (strategy, volley) in &mut forging.moves {
            if !volley.fire(now) {
                continue;
            }
            let arrival = syn_injection::arrival(&own, &theirs, ends);
            let segments = match strategy {
                Strategy::SynAckInjection => {
                    let answer = syn_ack_injection::answer(&own, &theirs, ends);
                    [Some(answer), Some(arrival)]
                }
                Strategy::SynInjection => [Some(arrival), None],
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
    fn end_forging(&mut self) {
        let Some(forging) = &mut self.engine.forging else { return };
        let pending = forging.pending().map(|it| it.socket);
        let capture = forging.capture.take().map(|(_, socket)| socket);
        forging.moves.clear();
        forging.finish();
        pending.into_iter().chain(capture).for_each(|socket| self.close(socket));
    }

    /// What became of it.
    pub(super) fn forging_attempt(
        &self,
        winner: Option<(Transport, SocketAddr)>,
        now: Instant,
    ) -> Option<Attempt> {
        let forging = self.engine.forging.as_ref()?;
        let remote = self.theirs_stand()?.mapped?;
        let stream = self.streams.all.iter().find(|it| it.ends.remote == remote);
        let mut evidence = vec![Evidence::Injected(forging.injected)];
        let opened = forging.last != Strategy::ConnectCloseListen || forging.listener().is_some();
        evidence.extend(opened.then_some(Evidence::Opened(OPENER_TTL)));
        evidence.extend(forging.failures.each().map(|(it, n)| Evidence::ConnectFailed(it, n)));
        evidence.extend(stream.into_iter().flat_map(account::stream_evidence));
        let won = winner == Some((Transport::Tcp, remote)) && stream.is_some();
        let result = match (won, stream.is_some_and(Stream::is_open)) {
            (true, _) => AttemptResult::Won,
            (false, true) => AttemptResult::Verified,
            (false, false) => account::unfinished(winner.is_some(), forging.injected),
        };
        Some(Attempt {
            strategy: stream.map_or(forging.last, |it| it.strategy),
            transport: Transport::Tcp,
            role: self.introduction.role,
            remote,
            candidate: CandidateKind::ServerReflexive,
            started_ms: milliseconds_since(self.called, forging.started),
            ended_ms: milliseconds_since(self.called, stream.map_or(now, |it| it.established)),
            result,
            evidence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{session, socket_address};
    use super::*;
    use crate::Answer;
    use crate::machine::any_instant;
    use crate::segment::{Options, flag};
    use crate::tcp_traversal::note::{Notary, Standing};
    use crate::tcp_traversal::survey::Ports;

    const RAW: Privileges = Privileges { assume: false, capture: true, inject: true };
    const PEER: &str = "203.0.113.2:2001";
    const STAND: &str = "203.0.113.2:2002";
    const CALLER_STAND: &str = "203.0.113.1:1003";

    fn syn(sequence: u32) -> Syn {
        Syn { sequence, window: 64_240, options: Options::default() }
    }

    /// The peer's word about its stand.
    fn note(serial: u16, syn: Option<Syn>) -> Vec<u8> {
        let stand = Stand { mapped: Some(socket_address(STAND)), syn, listens: false };
        let (ports, privileges) = (Ports::Steady, Some(RAW));
        let told =
            Standing { serial, ports, privileges, stand: Some(stand), ..Standing::default() };
        Notary::new(&SessionSecret([7; 32]), Role::Controlled).write(&told)
    }

    fn drained(session: &mut Session) -> Vec<Command> {
        std::iter::from_fn(|| session.poll_command()).collect()
    }

    /// A caller whose SYN has left from its stand; the capture and the socket.
    fn standing(now: Instant) -> (Session, SocketId, SocketId) {
        let address = socket_address(PEER);
        let (kind, transport) = (CandidateKind::ServerReflexive, Transport::Tcp);
        let candidates = vec![Candidate { kind, transport, address }];
        let mut session = session(Role::Controlling, TransportChoice::Tcp, candidates, now);
        session.resources.privileges = Some(RAW);
        session.handle_timeout(now);
        drained(&mut session);
        let local = socket_address("203.0.113.1:1002");
        let stage = Stage::Standing(Sample { local, mapped: local });
        session.engine.forging = Some(Forging { stage, ..Forging::begin(now) });
        session.on_note(&note(1, None), now);
        let commands = drained(&mut session);
        let [
            Command::Capture { socket: capture, ends, .. },
            Command::ConnectTcp { socket, local: from, remote, hops, sequence: None, .. },
            Command::AdjustTcp { .. },
        ] = commands[..]
        else {
            panic!("{commands:?}")
        };
        assert_eq!((from, remote), (local, socket_address(STAND)));
        assert_eq!(ends, Ends { local, remote });
        assert_eq!(hops, opening(OPENER_TTL), "the capture is open before it leaves");
        (session, capture, socket)
    }

    /// The same, once the SYN was seen and the peer's was told.
    fn armed(now: Instant) -> (Session, SocketId) {
        let (mut session, capture, socket) = standing(now);
        let ends = session.engine.forging.as_ref().and_then(Forging::pending).unwrap().ends;
        let segment = syn_replay::copy(&syn(77), &syn(1), ends);
        session.handle_input(Input::Captured { socket: capture, segment }, now);
        let commands = drained(&mut session);
        assert!(matches!(commands[..], [Command::Close { socket, .. }] if socket == capture));
        session.on_note(&note(2, Some(syn(99))), now);
        (session, socket)
    }

    fn injected(session: &mut Session) -> Vec<(u8, u32, u32)> {
        let segment = |command| match command {
            Command::Inject { segment, .. } => {
                Some((segment.flags, segment.sequence, segment.acknowledgment))
            }
            _ => None,
        };
        drained(session).into_iter().filter_map(segment).collect()
    }

    #[test]
    fn copies_leave_first_and_answers_when_they_have_crossed() {
        let now = any_instant();
        let (mut session, _) = armed(now);
        assert_eq!(injected(&mut session), [(flag::SYN, 77, 0)], "the own SYN once more");
        session.handle_timeout(now + Duration::from_millis(200));
        assert_eq!(injected(&mut session), []);
        // A round trip to a server is taken for 200 ms as long as none was measured.
        session.handle_timeout(now + Duration::from_millis(300));
        let answer = (flag::SYN | flag::ACK, 77, 100);
        let expected = [(flag::SYN, 77, 0), answer, (flag::SYN, 99, 0)];
        assert_eq!(injected(&mut session), expected, "a copy, the answer, the peer's SYN");
    }

    #[test]
    fn a_connection_ends_the_volleys_and_is_named_after_the_last() {
        let now = any_instant();
        let (mut session, socket) = armed(now);
        let ends = session.engine.forging.as_ref().and_then(Forging::pending).unwrap().ends;
        let id = session.connecting.iter().find(|(_, it)| *it == socket).unwrap().0;
        drained(&mut session);
        session.handle_input(Input::Answer { id, answer: Answer::Connected(Ok(ends)) }, now);
        let stream = session.streams.all.iter().find(|it| it.socket == socket).unwrap();
        assert_eq!(stream.strategy, Strategy::SynReplay);
        drained(&mut session);
        session.handle_timeout(now + Duration::from_secs(2));
        assert_eq!(injected(&mut session), []);
    }

    #[test]
    fn whenever_it_ends_the_capture_and_the_socket_are_closed_and_nothing_more_is_sent() {
        let now = any_instant();
        let (mut early, capture, socket) = standing(now);
        early.cancel();
        let closes = |commands: &[Command], socket: SocketId| {
            commands
                .iter()
                .any(|it| matches!(it, Command::Close { socket: it, .. } if *it == socket))
        };
        let commands = drained(&mut early);
        assert!(closes(&commands, capture) && closes(&commands, socket), "{commands:?}");
        let (mut late, socket) = armed(now);
        drained(&mut late);
        late.refused(now);
        assert!(closes(&drained(&mut late), socket));
        for session in [&mut early, &mut late] {
            assert_eq!(session.poll_timeout(), None);
            session.handle_timeout(now + Duration::from_secs(1));
            assert_eq!(drained(session), []);
        }
    }

    /// A session of the classic kind that has its stand, and has heard of the peer's.
    fn classic(role: Role, listens: bool, now: Instant) -> Session {
        let (kind, transport) = (CandidateKind::ServerReflexive, Transport::Tcp);
        let (address, end, other) = match role {
            Role::Controlling => (PEER, STAND, Role::Controlled),
            Role::Controlled => ("203.0.113.1:1001", CALLER_STAND, Role::Controlling),
        };
        let candidates = vec![Candidate { kind, transport, address: socket_address(address) }];
        let mut session = session(role, TransportChoice::Tcp, candidates, now);
        (session.resources.classic, session.deadline) = (true, now + Duration::from_secs(10));
        session.handle_timeout(now);
        drained(&mut session);
        let local = socket_address("203.0.113.9:1002");
        let stage = Stage::Standing(Sample { local, mapped: local });
        session.engine.forging = Some(Forging { stage, ..Forging::begin(now) });
        let mapped = Some(socket_address(end));
        let stand = Some(Stand { mapped, syn: None, listens });
        let ports = Ports::Steady;
        let told = Standing { serial: 1, ports, classic: true, stand, ..Standing::default() };
        let bytes = Notary::new(&SessionSecret([7; 32]), other).write(&told);
        session.on_note(&bytes, now);
        session
    }

    #[test]
    fn the_callee_opens_closes_and_listens_and_the_listener_ends_with_the_session() {
        let now = any_instant();
        let mut callee = classic(Role::Controlled, false, now);
        let commands = drained(&mut callee);
        let [Command::ConnectTcp { socket, local, hops, .. }, Command::AdjustTcp { .. }] =
            commands[..]
        else {
            panic!("{commands:?}")
        };
        assert_eq!(hops, connect_close_listen::OPENING);
        callee.handle_timeout(now + connect_close_listen::HOLE_TIME);
        let commands = drained(&mut callee);
        let Some(Command::ListenTcp { socket: listener, local: there, .. }) =
            commands.iter().find(|it| matches!(it, Command::ListenTcp { .. }))
        else {
            panic!("{commands:?}")
        };
        assert_eq!(*there, local);
        assert!(matches!(commands[0], Command::Close { socket: it, .. } if it == socket));
        let ends = Ends { local, remote: socket_address(CALLER_STAND) };
        assert_eq!(callee.strategy_at(ends), Some(Strategy::ConnectCloseListen));
        callee.cancel();
        let closes =
            |it: &Command| matches!(it, Command::Close { socket, .. } if socket == listener);
        assert!(drained(&mut callee).iter().any(closes));
    }

    #[test]
    fn the_caller_dials_only_who_listens() {
        let now = any_instant();
        let connects = |session: &mut Session| {
            drained(session).iter().any(|it| {
                matches!(it, Command::ConnectTcp { remote, .. } if *remote == socket_address(STAND))
            })
        };
        assert!(!connects(&mut classic(Role::Controlling, false, now)));
        assert!(connects(&mut classic(Role::Controlling, true, now)));
    }

    #[test]
    fn a_capture_that_is_not_permitted_ends_it_and_the_privilege_is_gone() {
        let now = any_instant();
        let (mut session, _, socket) = standing(now);
        let id = session.engine.forging.as_ref().unwrap().capture.unwrap().0;
        let answer = Answer::Done(Err(IoFailure::NotPermitted));
        session.handle_input(Input::Answer { id, answer }, now);
        assert!(!session.engine.forging.as_ref().unwrap().is_alive());
        assert_eq!(session.resources.privileges.map(|held| held.capture), Some(false));
        let commands = drained(&mut session);
        assert!(
            commands
                .iter()
                .any(|it| matches!(it, Command::Close { socket: it, .. } if *it == socket))
        );
    }

    #[test]
    fn a_stand_of_another_host_than_the_peers_is_not_dialled() {
        let now = any_instant();
        let (mut session, ..) = standing(now);
        let local = socket_address("203.0.113.1:1003");
        let stage = Stage::Standing(Sample { local, mapped: local });
        session.engine.forging = Some(Forging { stage, ..Forging::begin(now) });
        let stand = Stand { mapped: Some(socket_address("192.0.2.9:25")), ..Stand::default() };
        let told = Standing {
            serial: 7,
            ports: Ports::Steady,
            privileges: Some(RAW),
            stand: Some(stand),
            ..Standing::default()
        };
        let bytes = Notary::new(&SessionSecret([7; 32]), Role::Controlled).write(&told);
        session.on_note(&bytes, now);
        assert_eq!(drained(&mut session), []);
    }
}
