//! How two peers are brought together.
//!
//! The first round costs the callee's trip nothing: its registered candidates are good, so both
//! orders leave at once. A later round asks the callee for fresh candidates first.
//!
//! ```text
//!   caller                     broker                     callee
//!     │ Connect, round 2 ────────▶│── Invite, round 2 ───────▶│
//!     │                           │                           ┊ gathers
//!     │                           │◀───────────────── Answer ─┤
//!     │◀──────────── Connected ───┤── Punch ─────────────────▶│
//! ```

use std::time::Instant;

use ntcp_stun::TransactionId;

use super::parked::Parked;
use super::registry::{CallPlace, REMEMBERED_CALLS};
use super::session::{
    Ask, AskWhat, GATHER_PATIENCE, INVITATION_PATIENCE, MEMORY, Orders, STREAM_PATIENCE, Session,
    State, start_delays,
};
use super::timers::Timer;
use super::{Asked, Asker, Broker, Event, Link, Registration, Registry, refused};
use crate::candidate::Candidate;
use crate::signal::message::{Body, CalleeAnswer, Connect, Gather, Message, Refused};
use crate::signal::{
    ErrorCode, Ladder, Pace, Punch, RegistrationId, Role, SessionId, SessionSecret, SignalMethod,
};
use crate::uri::PeerName;

impl<R: Registry> Broker<R> {
    pub(super) fn on_connect(
        &mut self,
        caller: Asker,
        message: &Message,
        connect: &Connect,
        now: Instant,
    ) {
        let known = self.registry.get(caller.id).and_then(|it| it.call(message.transaction));
        if let Some(place) = known {
            self.counters.repeated += 1;
            self.repeat(caller, message, place, now);
            return;
        }
        if let Err(code) = self.check_call(caller.id, connect) {
            self.answer(caller, message, refused(message, code));
            return;
        }
        match self.registry.find(&connect.callee) {
            Some(callee) => self.bring_together(caller, callee, message, connect, now),
            None => self.park(caller, message, connect, now),
        }
    }

    /// A Connect that has been seen before gets the answer it got.
    fn repeat(&mut self, caller: Asker, message: &Message, place: CallPlace, now: Instant) {
        let id = match place {
            CallPlace::Session(id) => id,
            CallPlace::Away(broker) => {
                self.introduce(caller.id, broker, message.clone());
                return;
            }
            CallPlace::Parked(ticket) => {
                // A letter may have got lost.
                if let Body::Connect(connect) = &message.body
                    && self.parked.contains(ticket)
                {
                    self.seek(&connect.callee, connect.wait.min(self.config.longest_wait));
                }
                return;
            }
        };
        let body = match self.sessions.get(&id).map(|it| &it.state) {
            Some(State::Ordered { orders, .. }) => Body::Connected(orders.caller_at(now)),
            Some(State::Refused(code)) => refused(message, *code),
            // The answer is still to come, or the meeting is over: this is a replay.
            Some(State::Gathering { .. }) | None => return,
        };
        self.answer(caller, message, body);
    }

    /// Whether the caller may make this call now.
    fn check_call(&mut self, caller: RegistrationId, connect: &Connect) -> Result<(), ErrorCode> {
        let Some(registration) = self.registry.get(caller) else {
            return Err(ErrorCode::UnknownRegistration);
        };
        if registration.name_str() == Some(connect.callee.as_str()) {
            return Err(ErrorCode::BadRequest);
        }
        let pending =
            registration.affairs().calls.iter().filter(|(_, place)| self.is_pending(*place));
        if pending.count() >= self.config.max_pending_calls_per_peer {
            self.counters.at_limit += 1;
            return Err(ErrorCode::TooManyRequests);
        }
        if self.dismissal.is_some() {
            return Err(ErrorCode::TableFull);
        }
        if self.sessions.len() >= self.config.max_sessions {
            self.counters.at_limit += 1;
            return Err(ErrorCode::TableFull);
        }
        let callee = self.registry.find(&connect.callee).and_then(|it| self.registry.get(it));
        let invited = callee.map_or(0, |it| {
            let invited = it.affairs().invited.iter();
            invited.filter(|id| self.is_pending(CallPlace::Session(**id))).count()
        });
        if invited >= self.config.max_pending_invitations_per_peer {
            self.counters.at_limit += 1;
            return Err(ErrorCode::TooManyRequests);
        }
        Ok(())
    }

    /// Whether a call waits for its callee.
    pub(super) fn is_pending(&self, place: CallPlace) -> bool {
        match place {
            CallPlace::Parked(ticket) => self.parked.contains(ticket),
            CallPlace::Away(_) => false,
            CallPlace::Session(id) => self.sessions.get(&id).is_some_and(|it| it.ask().is_some()),
        }
    }

    /// The callee is not there: waits for it, if the caller wants to and there is room.
    fn park(&mut self, caller: Asker, message: &Message, connect: &Connect, now: Instant) {
        if caller.link.is_broker() {
            // Its own broker has it wait, and asks again.
            return;
        }
        let patience = connect.wait.min(self.config.longest_wait);
        let wait = patience.max(self.shortest_wait());
        if wait.is_zero() || self.parked.len() >= self.config.max_parked {
            self.counters.unknown_peers += 1;
            self.answer(caller, message, refused(message, ErrorCode::UnknownPeer));
            return;
        }
        if !connect.wait.is_zero() {
            self.counters.parked += 1;
        }
        let parked =
            Parked { caller: caller.id, message: message.clone(), connect: connect.clone() };
        let ticket = self.parked.park(parked);
        self.timers.set(Timer::Parked(ticket), now + wait);
        if let Some(registration) = self.registry.get_mut(caller.id) {
            registration.note_call(message.transaction, CallPlace::Parked(ticket));
        }
        self.seek(&connect.callee, patience);
    }

    /// The directory does not know the callee: who would not wait for it hears so.
    pub(super) fn parked_in_vain(&mut self, ticket: u64) {
        if self.parked.is_impatient(ticket) {
            self.timers.set(Timer::Parked(ticket), None);
            self.on_parked_timer(ticket);
        }
    }

    /// The callee has not come.
    pub(super) fn on_parked_timer(&mut self, ticket: u64) {
        let Some(Parked { caller, message, .. }) = self.parked.take(ticket) else { return };
        self.counters.unknown_peers += 1;
        let Some(registration) = self.registry.get_mut(caller) else { return };
        registration
            .affairs_mut()
            .calls
            .retain(|(transaction, _)| *transaction != message.transaction);
        let caller = Asker { id: caller, link: registration.link() };
        self.answer(caller, &message, refused(&message, ErrorCode::UnknownPeer));
    }

    /// `callee` is there now: everybody who waits for it meets it.
    pub(super) fn wake_parked(&mut self, callee: &PeerName, now: Instant) {
        for ticket in self.parked.waiting_for(callee) {
            self.timers.set(Timer::Parked(ticket), None);
            let Some(Parked { caller, message, connect }) = self.parked.take(ticket) else {
                continue;
            };
            let Some(link) = self.registry.get(caller).map(Registration::link) else { continue };
            let caller = Asker { id: caller, link };
            match self.check_call(caller.id, &connect) {
                Ok(()) => {
                    if let Some(id) = self.registry.find(callee) {
                        self.bring_together(caller, id, &message, &connect, now);
                    }
                }
                Err(code) => self.answer(caller, &message, refused(&message, code)),
            }
        }
    }

    fn bring_together(
        &mut self,
        caller: Asker,
        callee: RegistrationId,
        message: &Message,
        connect: &Connect,
        now: Instant,
    ) {
        let id = SessionId(self.entropy.bytes());
        let session = Session {
            caller: caller.id,
            callee,
            made_in: message.transaction,
            state: State::Refused(ErrorCode::ServerError),
            forget_at: now + MEMORY,
        };
        self.sessions.insert(id, session);
        if let Some(registration) = self.registry.get_mut(caller.id) {
            registration.note_call(message.transaction, CallPlace::Session(id));
        }
        if let Some(registration) = self.registry.get_mut(callee) {
            let invited = &mut registration.affairs_mut().invited;
            if invited.len() == REMEMBERED_CALLS {
                invited.pop_front();
            }
            invited.push_back(id);
        }
        let caller_name = self.registry.get(caller.id).and_then(Registration::name);
        let callee_name = connect.callee.clone();
        self.events.push_back(Event::Called {
            session: id,
            caller: caller_name,
            callee: callee_name,
        });
        if connect.round.is_fresh() {
            let ask = self.ask(id, callee, AskWhat::Gather, now + GATHER_PATIENCE);
            let connect = Box::new(connect.clone());
            self.set_state(id, State::Gathering { connect, ask });
            self.send_ask(id, now);
        } else {
            self.order(id, connect, None, now);
            let answer = self.sessions.get(&id).and_then(|it| match &it.state {
                State::Ordered { orders, .. } => Some(Body::Connected(orders.caller_at(now))),
                State::Gathering { .. } | State::Refused(_) => None,
            });
            if let Some(body) = answer {
                self.answer_surely(caller, message, body);
            }
            self.send_ask(id, now);
        }
    }

    fn set_state(&mut self, id: SessionId, state: State) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.state = state;
        }
    }

    /// Makes a request to the callee; nothing is sent yet.
    fn ask(&mut self, id: SessionId, callee: RegistrationId, what: AskWhat, until: Instant) -> Ask {
        let transaction = TransactionId::new(self.entropy.bytes());
        self.asked.insert(transaction, Asked::Session(id));
        let pace = match self.registry.get(callee).map(|it| (it.link(), it.rtt())) {
            Some((Link::Udp { .. }, rtt)) => Pace::of(rtt),
            Some(_) | None => Pace::STREAM,
        };
        Ask { transaction, what, ladder: Ladder::repeating(pace), until }
    }

    /// Draws the orders of both peers. `gathered` are the callee's fresh candidates.
    fn order(
        &mut self,
        id: SessionId,
        connect: &Connect,
        gathered: Option<Vec<Candidate>>,
        now: Instant,
    ) {
        let secret = SessionSecret(self.entropy.bytes());
        let Some(session) = self.sessions.get(&id) else { return };
        let (caller_id, callee_id) = (session.caller, session.callee);
        let what = if gathered.is_some() { AskWhat::Punch } else { AskWhat::Invite };
        let (Some(caller), Some(callee)) =
            (self.registry.get(caller_id), self.registry.get(callee_id))
        else {
            return;
        };
        let caller_rtt = connect.rtt.or(caller.rtt());
        let (caller_delay, callee_delay) = start_delays(caller_rtt, callee.rtt());
        let hints = self.memory.hints([callee.nat(), connect.nat], now);
        let for_caller = Punch {
            session: id,
            secret,
            role: Role::Controlling,
            round: connect.round,
            transport: connect.transport,
            peer: callee.name(),
            candidates: gathered.unwrap_or_else(|| callee.candidates()),
            nat: callee.nat(),
            fingerprint: callee.fingerprint,
            identity: callee.identity,
            start_after: caller_delay,
            peer_rtt: callee.rtt(),
            bare: callee.bare,
            hints,
        };
        let for_callee = Punch {
            role: Role::Controlled,
            peer: caller.name(),
            candidates: connect.candidates.clone(),
            nat: connect.nat,
            fingerprint: connect.fingerprint,
            identity: caller.identity,
            start_after: callee_delay,
            peer_rtt: caller_rtt,
            bare: connect.bare,
            ..for_caller.clone()
        };
        self.counters.ordered += 1;
        let orders = Box::new(Orders::new(for_caller, for_callee, now));
        let patience = match self.registry.get(callee_id).map(Registration::link) {
            Some(Link::Tcp { .. }) => STREAM_PATIENCE,
            Some(Link::Udp { .. } | Link::Broker { .. }) | None => INVITATION_PATIENCE,
        };
        let ask = self.ask(id, callee_id, what, now + patience);
        self.set_state(id, State::Ordered { orders, ask: Some(ask) });
    }

    /// Sends what the callee is asked; twice at first, where one datagram could get lost.
    fn send_ask(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let callee = session.callee;
        let Some(ask) = session.ask_mut() else { return };
        let transmit = ask.ladder.sent(now);
        let (transaction, what) = (ask.transaction, ask.what);
        let Some(body) = self.ask_body(id, what, now) else { return };
        let message = Message { transmit: Some(transmit), ..Message::new(transaction, body) };
        if transmit.request == 1 {
            self.send_surely(callee, &message);
        } else {
            self.send(callee, &message);
        }
        self.schedule(id);
    }

    fn ask_body(&self, id: SessionId, what: AskWhat, now: Instant) -> Option<Body> {
        let session = self.sessions.get(&id)?;
        match (&session.state, what) {
            (State::Gathering { connect, .. }, _) => Some(Body::Gather(Gather {
                session: id,
                round: connect.round,
                transport: connect.transport,
                caller: self.registry.get(session.caller).and_then(Registration::name),
            })),
            (State::Ordered { orders, .. }, AskWhat::Punch) => {
                Some(Body::Punch(orders.callee_at(now)))
            }
            (State::Ordered { orders, .. }, AskWhat::Invite | AskWhat::Gather) => {
                Some(Body::Invite(orders.callee_at(now)))
            }
            (State::Refused(_), _) => None,
        }
    }

    fn schedule(&mut self, id: SessionId) {
        let next = self.sessions.get(&id).map(Session::next);
        self.timers.set(Timer::Session(id), next);
    }

    pub(super) fn on_session_timer(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.forget_at <= now {
            self.drop_ask(id);
            self.forget_forgery(id);
            self.sessions.remove(&id);
            return;
        }
        let is_there = self.registry.get(session.callee).is_some();
        match session.ask() {
            Some(ask) if ask.until <= now || !is_there => {
                self.counters.unanswered += 1;
                self.settle(id, Err(ErrorCode::NoAnswer), now);
            }
            Some(ask) if ask.ladder.is_due(now) => self.send_ask(id, now),
            Some(_) | None => self.schedule(id),
        }
    }

    fn drop_ask(&mut self, id: SessionId) {
        if let Some(ask) = self.sessions.get(&id).and_then(Session::ask) {
            self.asked.remove(&ask.transaction);
        }
    }

    /// The callee said something to what it was asked.
    pub(super) fn on_callee(&mut self, id: SessionId, body: &Body, now: Instant) {
        let result = match body {
            Body::Answer(answer) if answer.session == id => Ok(answer.candidates.clone()),
            Body::Punching => Ok(Vec::new()),
            Body::Refused(refused) => Err(refused.code),
            _ => {
                self.counters.unexpected += 1;
                return;
            }
        };
        match &result {
            Ok(_) => self.counters.accepted += 1,
            Err(_) => self.counters.declined += 1,
        }
        self.settle(id, result, now);
    }

    /// What the callee was asked is done.
    fn settle(&mut self, id: SessionId, result: Result<Vec<Candidate>, ErrorCode>, now: Instant) {
        self.drop_ask(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (caller, made_in) = (session.caller, session.made_in);
        let told = result.as_ref().map(|_| ()).map_err(|code| *code);
        self.events.push_back(Event::Settled { session: id, result: told });
        match &mut session.state {
            State::Ordered { ask, .. } => {
                if let Some(Ask { what: AskWhat::Invite, .. }) | None = ask.take() {
                    self.tell_caller(caller, id, result);
                } else if let Err(code) = result {
                    self.tell_caller(caller, id, Err(code));
                }
            }
            State::Gathering { connect, .. } => {
                let connect = connect.clone();
                match result {
                    Ok(candidates) => self.order_gathered(id, made_in, &connect, candidates, now),
                    Err(code) => {
                        self.set_state(id, State::Refused(code));
                        let body = Body::Refused(Refused::new(SignalMethod::Connect, code));
                        self.send_surely(caller, &Message::new(made_in, body));
                    }
                }
            }
            State::Refused(_) => {}
        }
        self.schedule(id);
    }

    /// Tells the caller what the callee said to its order.
    fn tell_caller(
        &mut self,
        caller: RegistrationId,
        session: SessionId,
        result: Result<Vec<Candidate>, ErrorCode>,
    ) {
        let transaction = TransactionId::new(self.entropy.bytes());
        let body = Body::CalleeAnswer(CalleeAnswer { session, result });
        self.send_surely(caller, &Message::new(transaction, body));
    }

    /// The callee has gathered: both get their orders.
    fn order_gathered(
        &mut self,
        id: SessionId,
        made_in: TransactionId,
        connect: &Connect,
        candidates: Vec<Candidate>,
        now: Instant,
    ) {
        self.order(id, connect, Some(candidates), now);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.forget_at = now + MEMORY;
        let caller = session.caller;
        if let State::Ordered { orders, .. } = &session.state {
            let body = Body::Connected(orders.caller_at(now));
            self.counters.answered += 1;
            self.send_surely(caller, &Message::new(made_in, body));
        }
        self.send_ask(id, now);
    }
}
