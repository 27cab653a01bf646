//! What the report says of it.

use super::*;
use crate::puncher::report::{Attempt, AttemptResult, Evidence, milliseconds_since};
use crate::puncher::session::account::{stream_evidence, unfinished};

impl Session {
    /// What became of it.
    pub(in crate::puncher::session) fn forging_attempt(
        &self,
        winner: Option<(Transport, SocketAddr)>,
        now: Instant,
    ) -> Option<Attempt> {
        let forging = self.engine.forging.as_ref()?;
        let remote = self.theirs_stand()?.mapped?;
        let stream = self.streams.all.iter().find(|it| it.ends.remote == remote);
        let mut evidence = vec![Evidence::Injected(forging.injected)];
        let classic = forging.last == Strategy::ConnectCloseListen;
        let hops = if classic { connect_close_listen::OPENING } else { self.stand_hops() };
        let opened = !classic || forging.listener().is_some();
        evidence
            .extend(opened.then(|| hops.ttl.map_or(Evidence::OpenedAllTheWay, Evidence::Opened)));
        evidence.extend(forging.failures.each().map(|(it, n)| Evidence::ConnectFailed(it, n)));
        evidence.extend(stream.into_iter().flat_map(stream_evidence));
        let won = winner == Some((Transport::Tcp, remote)) && stream.is_some();
        let result = match (won, stream.is_some_and(Stream::is_open)) {
            (true, _) => AttemptResult::Won,
            (false, true) => AttemptResult::Verified,
            (false, false) => unfinished(winner.is_some(), forging.injected),
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
