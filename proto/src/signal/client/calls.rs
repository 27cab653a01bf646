//! The calls of this peer, from the wish to the order to punch.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::attempt::MAX_STALE_NONCES;
use super::core::{Core, Standing, earlier};
use super::{Call, ConnectError, Event, MAX_CALLS, RegistrationError, RequestId};
use crate::signal::message::{Body, CalleeAnswer, Connect, Message};
use crate::signal::{ErrorCode, Ladder, Punch, SessionId, TimedPunch};
use crate::uri::PeerName;

/// How long a call is remembered after its order, to pass on what the callee says. The broker gives
/// up on a callee earlier.
const MEMORY: Duration = Duration::from_secs(15);

/// All calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    given: u64,
    calls: BTreeMap<RequestId, Entry>,
}

#[derive(Debug)]
struct Entry {
    callee: PeerName,
    call: Call,
    started: Instant,
    /// When the call fails, or is forgotten once answered.
    deadline: Instant,
    /// Nonces that the broker has called stale.
    stale: u8,
    state: State,
}

#[derive(Debug)]
enum State {
    /// There is no registration yet.
    Waiting,
    /// The broker was asked.
    Asking { transaction: TransactionId, ladder: Ladder },
    /// The broker does not know the callee; it may come up.
    Pausing { until: Instant },
    /// The order was told.
    Answered { session: SessionId, settled: bool },
}

impl Calls {
    pub(super) fn start(
        &mut self,
        core: &mut Core,
        callee: &PeerName,
        call: Call,
        now: Instant,
    ) -> RequestId {
        self.given += 1;
        let request = RequestId(self.given);
        if self.open() >= MAX_CALLS {
            let error = ConnectError::TooManyCalls { limit: MAX_CALLS };
            core.tell(Event::ConnectFailed { request, error });
            return request;
        }
        self.forget_oldest();
        let deadline = now + core.config.connect_timeout;
        let callee = callee.clone();
        let entry = Entry { callee, call, started: now, deadline, stale: 0, state: State::Waiting };
        self.calls.insert(request, entry);
        request
    }

    /// Calls that wait for their order.
    fn open(&self) -> usize {
        self.calls.values().filter(|it| !matches!(it.state, State::Answered { .. })).count()
    }

    /// Keeps what is only remembered within the same bound as what is open.
    fn forget_oldest(&mut self) {
        let answered = |entry: &Entry| matches!(entry.state, State::Answered { .. });
        if self.calls.values().filter(|it| answered(it)).count() >= MAX_CALLS {
            let oldest = self.calls.iter().find(|(_, it)| answered(it)).map(|(id, _)| *id);
            oldest.and_then(|id| self.calls.remove(&id));
        }
    }

    pub(super) fn cancel(&mut self, request: RequestId) {
        self.calls.remove(&request);
    }

    /// There is a registration: asks for everything that waited for it.
    pub(super) fn ask_waiting(&mut self, core: &mut Core, standing: &Standing, now: Instant) {
        for entry in self.calls.values_mut() {
            if matches!(entry.state, State::Waiting) {
                entry.ask(core, standing, now);
            }
        }
    }

    /// There is no registration any more: what was asked has to be asked again.
    pub(super) fn wait_again(&mut self) {
        for entry in self.calls.values_mut() {
            match entry.state {
                State::Asking { .. } | State::Pausing { .. } => entry.state = State::Waiting,
                State::Waiting | State::Answered { .. } => {}
            }
        }
    }

    /// There will be no registration.
    pub(super) fn fail_waiting(&mut self, core: &mut Core, error: &RegistrationError) {
        self.fail(core, |entry| matches!(entry.state, State::Waiting), |_| error.clone().into());
    }

    /// The client ends.
    pub(super) fn fail_all(&mut self, core: &mut Core) {
        let open = |entry: &Entry| !matches!(entry.state, State::Answered { .. });
        self.fail(core, open, |_| ConnectError::NotRunning);
        self.calls.clear();
    }

    fn fail(
        &mut self,
        core: &mut Core,
        which: impl Fn(&Entry) -> bool,
        error: impl Fn(&Entry) -> ConnectError,
    ) {
        self.calls.retain(|request, entry| {
            if !which(entry) {
                return true;
            }
            core.tell(Event::ConnectFailed { request: *request, error: error(entry) });
            false
        });
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.calls.values().filter_map(Entry::next).min()
    }

    pub(super) fn handle_timeout(
        &mut self,
        core: &mut Core,
        standing: Option<&Standing>,
        now: Instant,
    ) {
        self.calls
            .retain(|_, it| !(matches!(it.state, State::Answered { .. }) && it.deadline <= now));
        self.fail(core, |it| it.deadline <= now, |it| it.timed_out(standing, now));
        let Some(standing) = standing else { return };
        for entry in self.calls.values_mut() {
            match &mut entry.state {
                State::Asking { ladder, .. } if ladder.is_due(now) => {
                    entry.send(core, standing, now);
                }
                State::Pausing { until } if *until <= now => entry.ask(core, standing, now),
                State::Waiting
                | State::Asking { .. }
                | State::Pausing { .. }
                | State::Answered { .. } => {}
            }
        }
    }

    /// Whether a call has asked in this transaction.
    pub(super) fn asked_in(&self, transaction: TransactionId) -> bool {
        self.find(transaction).is_some()
    }

    fn find(&self, transaction: TransactionId) -> Option<RequestId> {
        let asked = |entry: &Entry| match &entry.state {
            State::Asking { transaction: ours, .. } => *ours == transaction,
            State::Waiting | State::Pausing { .. } | State::Answered { .. } => false,
        };
        self.calls.iter().find(|(_, it)| asked(it)).map(|(request, _)| *request)
    }

    /// The broker answered a call.
    pub(super) fn handle_answer(
        &mut self,
        core: &mut Core,
        standing: &Standing,
        message: &Message,
        now: Instant,
    ) {
        let Some(request) = self.find(message.transaction) else { return };
        let Some(entry) = self.calls.get_mut(&request) else { return };
        match &message.body {
            Body::Connected(punch) => {
                entry.on_punch(core, request, punch, now);
            }
            Body::Refused(refused) => {
                let Some(error) = entry.on_refused(core, standing, refused.code, now) else {
                    return;
                };
                self.calls.remove(&request);
                core.tell(Event::ConnectFailed { request, error });
            }
            _ => {}
        }
    }

    /// The broker tells what a callee said.
    pub(super) fn handle_callee(&mut self, core: &mut Core, answer: &CalleeAnswer) {
        for (request, entry) in &mut self.calls {
            match &mut entry.state {
                State::Answered { session, settled: settled @ false }
                    if *session == answer.session =>
                {
                    *settled = true;
                    let (request, session) = (*request, *session);
                    core.tell(match answer.result.clone() {
                        Ok(candidates) => Event::PeerAnswered { request, session, candidates },
                        Err(code) => Event::PeerRefused { request, session, code },
                    });
                }
                State::Waiting
                | State::Asking { .. }
                | State::Pausing { .. }
                | State::Answered { .. } => {}
            }
        }
    }
}

impl Entry {
    fn next(&self) -> Option<Instant> {
        let step = match &self.state {
            State::Waiting | State::Answered { .. } => None,
            State::Asking { ladder, .. } => ladder.next(),
            State::Pausing { until } => Some(*until),
        };
        earlier(step, Some(self.deadline))
    }

    fn ask(&mut self, core: &mut Core, standing: &Standing, now: Instant) {
        let transaction = core.transaction();
        self.state = State::Asking { transaction, ladder: standing.way.ladder(core.rtt) };
        self.send(core, standing, now);
    }

    fn send(&mut self, core: &mut Core, standing: &Standing, now: Instant) {
        let grace_left = self.grace_left(core, now);
        let State::Asking { transaction, ladder } = &mut self.state else { return };
        let transmit = ladder.sent(now);
        let body = Body::Connect(Connect {
            callee: self.callee.clone(),
            transport: self.call.transport,
            round: self.call.round,
            candidates: self.call.candidates.clone(),
            nat: core.profile.nat,
            fingerprint: core.config.fingerprint,
            rtt: core.rtt,
            wait: grace_left,
            bare: core.config.bare,
        });
        let message = standing.request(Message::new(*transaction, body), transmit);
        core.send_surely(standing, &message);
    }

    fn grace_left(&self, core: &Core, now: Instant) -> Duration {
        (self.started + core.config.connect_grace).saturating_duration_since(now)
    }

    fn on_punch(&mut self, core: &mut Core, request: RequestId, punch: &Punch, now: Instant) {
        self.state = State::Answered { session: punch.session, settled: false };
        self.deadline = now + MEMORY;
        let punch = TimedPunch { punch: punch.clone(), start_at: now + punch.start_after };
        core.tell(Event::Punch { request: Some(request), punch });
    }

    /// Why the call ends; `None` if it goes on.
    fn on_refused(
        &mut self,
        core: &mut Core,
        standing: &Standing,
        code: ErrorCode,
        now: Instant,
    ) -> Option<ConnectError> {
        let name = self.callee.clone();
        let broker = standing.way.remote;
        match code {
            ErrorCode::UnknownPeer if self.grace_left(core, now) > Duration::ZERO => {
                self.pause(core, now);
                None
            }
            ErrorCode::UnknownPeer => {
                let waited = now.saturating_duration_since(self.started);
                Some(ConnectError::UnknownPeer { name, broker, waited })
            }
            ErrorCode::TooManyRequests => {
                self.pause(core, now);
                None
            }
            ErrorCode::StaleNonce if self.stale < MAX_STALE_NONCES => {
                self.stale += 1;
                self.ask(core, standing, now);
                None
            }
            ErrorCode::NoAnswer => Some(ConnectError::NoAnswer { name, broker }),
            ErrorCode::Declined => Some(ConnectError::Declined { name }),
            code => Some(ConnectError::Refused { name, broker, code }),
        }
    }

    /// Asks again after about one round trip.
    fn pause(&mut self, core: &mut Core, now: Instant) {
        let wait = core.rtt.unwrap_or_default().clamp(LEAST_PAUSE, MOST_PAUSE);
        let until = now + wait + core.entropy.jitter(wait / 2);
        self.state = State::Pausing { until };
    }

    fn timed_out(&self, standing: Option<&Standing>, now: Instant) -> ConnectError {
        match standing {
            Some(standing) => ConnectError::BrokerSilent {
                name: self.callee.clone(),
                broker: standing.way.remote,
                waited: now.saturating_duration_since(self.started),
            },
            None => ConnectError::NotRegistered {
                name: self.callee.clone(),
                waited: now.saturating_duration_since(self.started),
            },
        }
    }
}

/// Bounds of the pause before a callee that is not there yet is asked for again.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
const MOST_PAUSE: Duration = Duration::from_millis(250);
