//! What this peer tells the peers it is meeting, and what they tell.
//!
//! For each meeting there is one thing that each side has to say at a moment: where it may be reached,
//! as far as it knows by now, and a note. What is new replaces what was. It is sent at once and
//! repeated, ever more slowly, until the other peer says that it heard it; so both sides know the
//! latest of each other however many datagrams are lost, and nothing is said when nothing changes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::core::{Core, Standing, earlier};
use super::{Event, Link};
use crate::candidate::Candidate;
use crate::signal::message::{Body, Message, Note, Relay};
use crate::signal::{Ladder, Pace, SessionId};

/// Meetings followed at once; a further one replaces the oldest.
const MAX_FOLLOWED: usize = 128;
/// Sendings of one piece of news that nobody answers.
const MAX_SENDINGS: usize = 32;

/// All meetings that are followed.
#[derive(Debug, Default)]
pub(super) struct News {
    meetings: BTreeMap<SessionId, Meeting>,
    followed: u64,
}

#[derive(Debug)]
struct Meeting {
    /// Counts meetings.
    age: u64,
    pace: Pace,
    candidates: Vec<Candidate>,
    note: Note,
    /// Counts our news.
    serial: u16,
    /// The other peer's last.
    heard: u16,
    /// Runs until the other peer has heard ours.
    ladder: Option<Ladder>,
}

impl News {
    /// News of this meeting count from now on. `peer_rtt` is the other peer's round-trip time to the
    /// broker.
    pub(super) fn follow(
        &mut self,
        core: &Core,
        session: SessionId,
        link: Option<Link>,
        peer_rtt: Option<Duration>,
    ) {
        if self.meetings.len() >= MAX_FOLLOWED {
            let oldest = self.meetings.iter().min_by_key(|(_, it)| it.age).map(|(id, _)| *id);
            oldest.and_then(|id| self.meetings.remove(&id));
        }
        self.followed += 1;
        let rtt = core.rtt.zip(peer_rtt).map(|(own, peer)| own + peer);
        let pace = match link {
            Some(Link::Tcp) => Pace::STREAM,
            Some(Link::Udp) | None => Pace::of(rtt),
        };
        self.meetings.entry(session).or_insert(Meeting {
            age: self.followed,
            pace,
            candidates: Vec::new(),
            note: Note::default(),
            serial: 0,
            heard: 0,
            ladder: None,
        });
    }

    /// The meeting is over.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.meetings.remove(&session);
    }

    /// Tells the other peer of a meeting.
    pub(super) fn publish(
        &mut self,
        core: &mut Core,
        standing: Option<&Standing>,
        session: SessionId,
        (candidates, note): (Vec<Candidate>, Note),
        now: Instant,
    ) {
        let Some(meeting) = self.meetings.get_mut(&session) else { return };
        if meeting.serial > 0 && meeting.candidates == candidates && meeting.note == note {
            return;
        }
        (meeting.candidates, meeting.note) = (candidates, note);
        meeting.serial = meeting.serial.saturating_add(1);
        meeting.ladder = Some(Ladder::repeating(meeting.pace));
        meeting.send(core, standing, session, now);
    }

    /// The other peer of a meeting tells.
    pub(super) fn handle(
        &mut self,
        core: &mut Core,
        standing: &Standing,
        relay: &Relay,
        now: Instant,
    ) {
        let Some(meeting) = self.meetings.get_mut(&relay.session) else { return };
        if relay.heard == meeting.serial {
            meeting.ladder = None;
        }
        let is_new = relay.serial > meeting.heard;
        if is_new {
            meeting.heard = relay.serial;
            let Relay { session, candidates, note, .. } = relay.clone();
            core.tell(Event::PeerNews { session, candidates, note });
        }
        // What was repeated has not heard of our answer.
        if is_new || (relay.wants_answer && relay.serial == meeting.heard) {
            meeting.answer(core, standing, relay.session, now);
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let next = |meeting: &Meeting| meeting.ladder.as_ref().and_then(Ladder::next);
        self.meetings.values().filter_map(next).fold(None, |one, other| earlier(one, Some(other)))
    }

    pub(super) fn handle_timeout(
        &mut self,
        core: &mut Core,
        standing: Option<&Standing>,
        now: Instant,
    ) {
        for (session, meeting) in &mut self.meetings {
            if meeting.ladder.as_ref().is_some_and(|ladder| ladder.is_due(now)) {
                meeting.send(core, standing, *session, now);
            }
        }
    }
}

impl Meeting {
    /// Says what is new once more.
    fn send(
        &mut self,
        core: &mut Core,
        standing: Option<&Standing>,
        session: SessionId,
        now: Instant,
    ) {
        let Some(ladder) = &mut self.ladder else { return };
        ladder.sent(now);
        if ladder.sendings() >= MAX_SENDINGS {
            self.ladder = None;
        }
        // Without a registration the next repeat may have one.
        if let Some(standing) = standing {
            self.relay(core, standing, session);
        }
    }

    /// Says that the other peer was heard.
    fn answer(&mut self, core: &mut Core, standing: &Standing, session: SessionId, now: Instant) {
        match self.ladder {
            Some(_) => self.send(core, Some(standing), session, now),
            None => self.relay(core, standing, session),
        }
    }

    fn relay(&self, core: &mut Core, standing: &Standing, session: SessionId) {
        let relay = Relay {
            session,
            serial: self.serial,
            heard: self.heard,
            wants_answer: self.ladder.is_some(),
            candidates: self.candidates.clone(),
            note: self.note.clone(),
        };
        let message = Message::new(core.transaction(), Body::Relay(relay));
        let message = Message { registration: Some(standing.registration), ..message };
        core.send(standing, &message);
    }
}
