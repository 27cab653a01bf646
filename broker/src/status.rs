//! How a broker is: what it counted, and who may ask while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::channel::{mpsc, oneshot};
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::Stream;
use ntcp_proto::rendezvous::{Access, Counters, Event, Names};
use ntcp_proto::secrecy::SecretKey;
use ntcp_proto::signal::SessionId;
use ntcp_service::metrics::Durations;
use ntcp_service::{Subject, View};

use crate::{numbers, page};

/// Questions that may wait for the loop: the supervisor asks one at a time for each of its few connections.
const MAX_QUESTIONS: usize = 16;
/// Calls whose invitation is timed at once; a further one is not timed.
const MAX_TIMED: usize = 4096;

/// How a broker is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// What happened since it started.
    pub counters: Counters,
    /// Peers registered now.
    pub peers: usize,
    /// Of these, streams that are open (some may not have registered yet).
    pub streams: usize,
    /// Meetings remembered now.
    pub sessions: usize,
    /// How long it has been running.
    pub uptime: Duration,
    /// Whether the directory that it shares with others answers, if it shares one.
    pub directory: Option<bool>,
    /// Whether it lets its peers go.
    pub is_stopping: bool,
    /// From the dispatch of an invitation until the callee's answer.
    pub invitations: Durations,
    /// From the call until the direct path stood, as peers reported.
    pub set_up: Durations,
    /// How often each strategy made the path, as peers reported.
    pub won: BTreeMap<String, u64>,
}

/// Asks a running broker how it is. Clones ask the same one.
#[derive(Clone, Debug)]
pub struct Observer {
    ask: mpsc::Sender<Question>,
    drain_ms: Arc<AtomicU64>,
}

/// What a running broker takes over at once. Whoever is registered stays so.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Renewal {
    /// Its keys, the newest first; none keeps those that it has.
    pub keys: Vec<SecretKey>,
    /// Which names are for whom, if that has changed.
    pub names: Option<Names>,
    /// Whom it lets in, if that has changed.
    pub access: Option<Option<Access>>,
}

/// What comes to the loop from outside.
pub(crate) enum Question {
    /// Somebody waits for the answer.
    Status(oneshot::Sender<Status>),
    /// Something is new.
    Renewal(Renewal),
}

/// An observer, and what it asks.
pub(crate) fn channel(drain: Duration) -> (Observer, impl Stream<Item = Question>) {
    let (ask, questions) = mpsc::channel(MAX_QUESTIONS);
    let observer = Observer { ask, drain_ms: Arc::default() };
    observer.set_drain(drain);
    (observer, questions)
}

impl Observer {
    /// Changes [`Options::drain`](crate::Options::drain) of the running broker.
    pub fn set_drain(&self, drain: Duration) {
        let millis = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
        self.drain_ms.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms.load(Ordering::Relaxed))
    }

    /// Has the running broker take over what is new; `false` if it has ended, or does not come round to it.
    pub fn renew(&self, renewal: Renewal) -> bool {
        self.ask.clone().try_send(Question::Renewal(renewal)).is_ok()
    }

    /// How the broker is; `None` if it has ended, or does not come round to its questions.
    pub async fn status(&self) -> Option<Status> {
        let (answer, answered) = oneshot::channel();
        self.ask.clone().try_send(Question::Status(answer)).ok()?;
        answered.await.ok()
    }
}

impl Subject for Observer {
    fn look(&self) -> BoxFuture<'static, Option<View>> {
        let observer = self.clone();
        async move {
            let status = observer.status().await?;
            Some(View {
                metrics: numbers::of(&status),
                page: page::of(&status),
                summary: format!("{} peers, {} sessions", status.peers, status.sessions),
            })
        }
        .boxed()
    }
}

/// What the broker's events add up to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    invited: BTreeMap<SessionId, Instant>,
    pub(crate) invitations: Durations,
    pub(crate) set_up: Durations,
    pub(crate) won: BTreeMap<String, u64>,
}

impl Tally {
    /// Notes an event that happened at `now`.
    pub(crate) fn note(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Called { session, .. } if self.invited.len() < MAX_TIMED => {
                self.invited.insert(*session, now);
            }
            Event::Settled { session, result } => {
                let invited = self.invited.remove(session);
                if let (Some(at), Ok(())) = (invited, result) {
                    self.invitations.note(now.saturating_duration_since(at));
                }
            }
            Event::Stood { strategy, took } => {
                self.set_up.note(*took);
                *self.won.entry(strategy.to_string()).or_default() += 1;
            }
            Event::Called { .. }
            | Event::Forging { .. }
            | Event::Probed { .. }
            | Event::ForgerProbed { .. }
            | Event::Registered { .. }
            | Event::Moved { .. }
            | Event::Left { .. } => {}
        }
    }
}
