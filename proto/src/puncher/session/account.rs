//! The report of a session: each attempt, what was seen, and what it means.

use super::*;
use crate::nat::{Mapping, NatReport};
use crate::node::MAX_SESSIONS;
use crate::puncher::checklist::Pair;
use crate::puncher::report::{
    Attempt, AttemptResult, Evidence, Nats, Outcome, milliseconds, milliseconds_since,
};
use crate::puncher::session::obstacle::Obstacle;
use crate::puncher::streams::{Proof, Stream};
use crate::tcp_traversal::simultaneous_open::Stance;

impl Session {
    /// The report of a session that ended with `path`, verified at `at`.
    pub(super) fn success(
        &self,
        path: Path,
        strategy: Strategy,
        at: Instant,
        now: Instant,
    ) -> Report {
        let (transport, local, remote, rtt) = match path {
            Path::Tcp { ends, .. } => (Transport::Tcp, Some(ends.local), ends.remote, None),
            Path::Udp { socket, remote, rtt } => {
                let local = self.resources.udp.iter().find(|(it, _)| *it == socket);
                let local = local.map(|(_, local)| *local).or(self.udp_local(socket));
                (Transport::Udp, local, remote, rtt)
            }
        };
        Report {
            outcome: Outcome::Connected,
            transport: Some(transport),
            strategy: Some(strategy),
            relayed: false,
            elapsed_ms: Some(milliseconds_since(self.called, at)),
            secured_ms: None,
            rtt_ms: rtt.map(milliseconds),
            local,
            remote: Some(remote),
            secrecy: None,
            attempts: self.attempts(Some((transport, remote)), now),
            nat: self.nats(),
            retry_after_ms: None,
            reason: None,
            advice: Vec::new(),
        }
    }

    /// The report of a session that ended without a path.
    pub(super) fn failure(&self, now: Instant) -> Report {
        let obstacles = self.obstacles(now);
        let (reason, advice) = (self.reason(&obstacles, now), self.advice(&obstacles, now));
        let mut report = Report::failed(reason, advice);
        report.attempts = self.attempts(None, now);
        let retry = self.engine.spending.retry_at().filter(|_| self.engine.coverage.is_some());
        report.retry_after_ms = retry.map(|at| milliseconds_since(now, at));
        report.nat = self.nats();
        report
    }

    fn nats(&self) -> Nats {
        Nats { local: self.resources.nat.clone(), remote: self.introduction.nat.clone() }
    }

    fn attempts(&self, winner: Option<(Transport, SocketAddr)>, now: Instant) -> Vec<Attempt> {
        let won = |transport, remote| winner == Some((transport, remote));
        let ended = winner.is_some();
        let mut attempts: Vec<_> = self
            .checklist
            .pairs
            .iter()
            .filter(|pair| self.udp_strategy(pair).0 != Strategy::PortCoverage)
            .map(|pair| self.udp_attempt(pair, won(Transport::Udp, pair.remote), ended, now))
            .collect();
        for dialer in &self.dialers {
            attempts.push(self.tcp_attempt(dialer, won(Transport::Tcp, dialer.remote), ended, now));
        }
        attempts.extend(self.coverage_attempt(winner, now));
        attempts.extend(self.udp_coverage_attempt(winner, now));
        attempts.extend(self.forging_attempt(winner, now));
        let unannounced = |stream: &&Stream| stream.strategy == Strategy::ConnectListen;
        for stream in self.streams.all.iter().filter(unannounced) {
            let won = won(Transport::Tcp, stream.ends.remote);
            attempts.push(self.accepted_attempt(stream, won, now));
        }
        attempts.sort_by(|one, other| one.started_ms.total_cmp(&other.started_ms));
        for attempt in &mut attempts {
            let hint = self.engine.plan.hint(attempt.strategy);
            attempt.evidence.extend(hint.map(Evidence::Hinted));
        }
        attempts.extend(self.skipped_attempts(now));
        attempts
    }

    fn udp_attempt(&self, pair: &Pair, won: bool, ended: bool, now: Instant) -> Attempt {
        let (strategy, earlier) = self.udp_strategy(pair);
        let mut evidence = vec![Evidence::Sent(pair.sent)];
        if earlier > 0 {
            evidence.push(Evidence::Try(earlier + 1));
        }
        evidence.extend(pair.failures.each().map(|(it, count)| Evidence::SendFailed(it, count)));
        if pair.kind == CandidateKind::PeerReflexive {
            evidence.push(Evidence::UnannouncedSource(pair.remote));
        }
        if pair.heard {
            evidence.push(Evidence::Heard);
        }
        if pair.verified.is_some() {
            evidence.push(Evidence::Answered);
        }
        let impossible = pair.sent > 0 && pair.failures.total() >= pair.sent;
        let result = match (won, pair.verified, impossible) {
            (true, _, _) => AttemptResult::Won,
            (false, Some(_), _) => AttemptResult::Verified,
            (false, None, true) => AttemptResult::Impossible,
            (false, None, false) => unfinished(ended, pair.sent),
        };
        Attempt {
            strategy,
            transport: Transport::Udp,
            role: self.introduction.role,
            remote: pair.remote,
            candidate: pair.kind,
            started_ms: milliseconds_since(self.called, pair.started),
            ended_ms: milliseconds_since(self.called, pair.verified.map_or(now, |it| it.at)),
            result,
            evidence,
        }
    }

    fn tcp_attempt(&self, dialer: &Dialer, won: bool, ended: bool, now: Instant) -> Attempt {
        let stream = self.streams.all.iter().find(|it| it.ends.remote == dialer.remote);
        let mut evidence = vec![Evidence::Sent(dialer.tries)];
        if dialer.earlier > 0 {
            evidence.push(Evidence::Try(dialer.earlier + 1));
        }
        if dialer.local.is_some() && dialer.local == self.used_reserve() {
            evidence.push(Evidence::FromReserve);
        }
        evidence.extend(match dialer.stance {
            Stance::Open(ttl) => Some(Evidence::Opened(ttl)),
            Stance::OpenAllTheWay => Some(Evidence::OpenedAllTheWay),
            Stance::Dial | Stance::DialLoud => None,
        });
        let failures = dialer.failures.each();
        evidence.extend(failures.map(|(it, count)| Evidence::ConnectFailed(it, count)));
        evidence.extend(stream.into_iter().flat_map(stream_evidence));
        let refused = dialer.failures.total() > 0;
        let result = match (won, stream.is_some_and(Stream::is_open)) {
            (true, _) => AttemptResult::Won,
            (false, true) => AttemptResult::Verified,
            (false, false) if dialer.is_impossible() => AttemptResult::Impossible,
            (false, false) if refused && !ended => AttemptResult::Refused,
            (false, false) => unfinished(ended, dialer.tries),
        };
        Attempt {
            strategy: self.named(dialer.strategy()),
            transport: Transport::Tcp,
            role: self.introduction.role,
            remote: dialer.remote,
            candidate: dialer.kind,
            started_ms: milliseconds_since(self.called, dialer.started),
            ended_ms: milliseconds_since(self.called, stream.map_or(now, |it| it.established)),
            result,
            evidence,
        }
    }

    fn accepted_attempt(&self, stream: &Stream, won: bool, now: Instant) -> Attempt {
        let mut evidence = vec![Evidence::UnannouncedSource(stream.ends.remote)];
        evidence.extend(stream_evidence(stream));
        let result = match (won, stream.is_open()) {
            (true, _) => AttemptResult::Won,
            (false, true) => AttemptResult::Verified,
            (false, false) => AttemptResult::Refused,
        };
        Attempt {
            strategy: self.named(stream.strategy),
            transport: Transport::Tcp,
            role: self.introduction.role,
            remote: stream.ends.remote,
            candidate: stream.kind,
            started_ms: milliseconds_since(self.called, stream.established),
            ended_ms: milliseconds_since(self.called, now),
            result,
            evidence,
        }
    }

    fn reason(&self, obstacles: &[Obstacle], now: Instant) -> String {
        let peer = self.introduction.peer.as_ref();
        let peer = peer.map_or("the peer", |name| name.as_str());
        match self.refusal {
            Some(ErrorCode::Declined) => return format!("{peer} declined the call"),
            Some(ErrorCode::NoAnswer) => {
                return format!("{peer} is registered, but did not answer the broker");
            }
            Some(code) => return format!("{peer} was not reached by the broker: {code}"),
            None => {}
        }
        let tried = self.checklist.pairs.len() + self.dialers.len() + self.streams.all.len();
        if tried == 0 && obstacles.is_empty() {
            let choice = self.introduction.transport;
            return format!(
                "{peer} and this host have no address in common to try (transport {choice})"
            );
        }
        let heard = self.checklist.pairs.iter().any(|pair| pair.heard);
        let waited = milliseconds_since(self.called, now) / 1e3;
        let detail = if self.engine.spending.retry_at().is_some() {
            "the budget of new TCP connections was spent".into()
        } else if !obstacles.is_empty() && !heard {
            self.in_words(obstacles)
        } else if self.engine.theirs.is_some_and(|standing| standing.over) {
            "it has given up".into()
        } else if heard {
            "the peer's packets arrive here, but ours do not reach it".into()
        } else {
            "nothing of the peer's arrived here".to_owned()
        };
        format!("no direct path to {peer} within {waited:.1} s: {detail}")
    }

    fn advice(&self, obstacles: &[Obstacle], now: Instant) -> Vec<String> {
        let mut advice = Vec::new();
        match self.refusal {
            Some(ErrorCode::Declined) => {
                return vec![format!(
                    "call again in some seconds: a node declines while it stops, and while it opens \
                     {MAX_SESSIONS} paths already"
                )];
            }
            Some(_) => {
                return vec![
                    "look whether it still runs: a peer that has gone without a word is registered \
                     until its lease ends"
                        .into(),
                ];
            }
            None => {}
        }
        if let Some(at) = self.engine.spending.retry_at() {
            let seconds = milliseconds_since(now, at) / 1e3;
            advice.push(format!(
                "try again in {seconds:.0} s, when there is budget for a whole attempt, or allow more \
                 with `connects_per_minute` in `[tcp]` on the side whose budget was spent"
            ));
        }
        advice.extend(self.advice_against(obstacles, now));
        if let [Obstacle::NoCommonFamily(_)] = obstacles {
            return advice;
        }
        let depends = |nat: &Option<NatReport>, of: fn(&NatReport) -> Option<Mapping>| {
            let mapping = nat.as_ref().and_then(of);
            mapping.is_some_and(|mapping| mapping != Mapping::EndpointIndependent)
        };
        let (ours, theirs) = (&self.resources.nat, &self.introduction.nat);
        let udp: fn(&NatReport) -> Option<Mapping> = |nat| nat.udp.mapping;
        let tcp: fn(&NatReport) -> Option<Mapping> = |nat| nat.tcp.mapping;
        for (whose, nat) in [("this host's", ours), ("the peer's", theirs)] {
            if depends(nat, udp) || depends(nat, tcp) {
                advice.push(format!(
                    "{whose} NAT gives each destination another port: a port forwarding or PCP \
                     mapping on it, or a peer without such a NAT, makes this pair connect"
                ));
            }
        }
        if let Some(address) = self.shared_address() {
            advice.push(format!(
                "both hosts are seen as {address}: the NAT that has this address, a carrier's or a \
                 router's, leads none of its hosts to another, and their own addresses do not reach \
                 each other either; one network for both, or IPv6, makes this pair connect"
            ));
        }
        if self.is_choice_to_blame(obstacles) {
            let only = self.introduction.transport;
            advice.push(format!("only {only} was allowed: try transport any"));
        }
        if advice.is_empty() {
            advice.push(
                "run `ntcp doctor` on both hosts: it tells what each NAT lets through".into(),
            );
        }
        advice
    }

    /// The address under which servers see both sides.
    fn shared_address(&self) -> Option<IpAddr> {
        let mapped = |it: &&Candidate| it.kind == CandidateKind::ServerReflexive;
        let own: Vec<IpAddr> =
            self.resources.own.iter().filter(mapped).map(|it| it.address.ip()).collect();
        let theirs = self.introduction.candidates.iter().filter(mapped);
        theirs.map(|it| it.address.ip()).find(|ip| own.contains(ip))
    }
}

pub(super) fn unfinished(ended: bool, tries: u32) -> AttemptResult {
    match (ended, tries) {
        (true, _) => AttemptResult::Cancelled,
        (false, 0) => AttemptResult::Skipped,
        (false, _) => AttemptResult::NoAnswer,
    }
}

pub(super) fn stream_evidence(stream: &Stream) -> Vec<Evidence> {
    let proof = match stream.proof {
        Proof::Awaited => None,
        Proof::Given => Some(Evidence::Answered),
        Proof::Failed => Some(Evidence::NotThePeer),
        Proof::Ended(failure) => Some(Evidence::StreamEnded(failure)),
    };
    std::iter::once(Evidence::Established).chain(proof).collect()
}
