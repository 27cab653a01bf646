//! The calls of others: each is told once and answered as often as the broker asks.

use std::collections::VecDeque;
use std::time::Instant;

use super::core::{Core, Standing};
use super::{Availability, Event};
use crate::candidate::Candidate;
use crate::signal::message::{Answer, Body, Gather, Message, Refused};
use crate::signal::{ErrorCode, Punch, SessionId, SignalMethod, TimedPunch};

/// How many of the last invitations are remembered, so that none is told twice; the broker repeats
/// one for a few seconds only.
const MEMORY: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Invitations {
    latest: VecDeque<Invitation>,
}

#[derive(Debug)]
struct Invitation {
    session: SessionId,
    /// What the Invite was answered; `None` as long as the owner gathers.
    answer: Option<Body>,
    /// The Invite as it came last.
    invite: Message,
    /// Whether the order was told.
    punched: bool,
}

impl Invitations {
    fn find(&mut self, session: SessionId) -> Option<&mut Invitation> {
        self.latest.iter_mut().find(|it| it.session == session)
    }

    fn remember(&mut self, invitation: Invitation) {
        if self.latest.len() == MEMORY {
            self.latest.pop_front();
        }
        self.latest.push_back(invitation);
    }

    /// An order that needs no gathering.
    pub(super) fn handle_invite(
        &mut self,
        core: &mut Core,
        standing: &Standing,
        (message, punch, news): (&Message, &Punch, Vec<Candidate>),
        availability: Availability,
        now: Instant,
    ) {
        if self.repeat(core, standing, message, punch.session) {
            return;
        }
        let body = match availability {
            Availability::Accepting => {
                tell_punch(core, punch, now);
                Body::Answer(Answer { session: punch.session, candidates: news })
            }
            Availability::Declining => declined(),
        };
        core.send(standing, &message.answer(body.clone()));
        self.remember(Invitation {
            session: punch.session,
            answer: Some(body),
            invite: message.clone(),
            punched: true,
        });
    }

    /// An order that needs fresh candidates first.
    pub(super) fn handle_gather(
        &mut self,
        core: &mut Core,
        standing: &Standing,
        (message, gather): (&Message, &Gather),
        availability: Availability,
    ) {
        if self.repeat(core, standing, message, gather.session) {
            return;
        }
        let Gather { session, round, transport, ref caller } = *gather;
        let answer = match availability {
            Availability::Accepting => {
                core.tell(Event::Gather { session, caller: caller.clone(), transport, round });
                None
            }
            Availability::Declining => {
                core.send(standing, &message.answer(declined()));
                Some(declined())
            }
        };
        let punched = answer.is_some();
        self.remember(Invitation { session, answer, invite: message.clone(), punched });
    }

    /// Answers a known invitation as before; `false` if it is a new one.
    fn repeat(
        &mut self,
        core: &mut Core,
        standing: &Standing,
        message: &Message,
        session: SessionId,
    ) -> bool {
        let Some(known) = self.find(session) else { return false };
        known.invite = message.clone();
        if let Some(answer) = &known.answer {
            core.send(standing, &message.answer(answer.clone()));
        }
        true
    }

    /// The owner has gathered.
    pub(super) fn answer(
        &mut self,
        core: &mut Core,
        standing: Option<&Standing>,
        session: SessionId,
        candidates: Vec<Candidate>,
    ) {
        let body = Body::Answer(Answer { session, candidates });
        self.settle(core, standing, session, body);
    }

    /// The owner does not want to.
    pub(super) fn decline(
        &mut self,
        core: &mut Core,
        standing: Option<&Standing>,
        session: SessionId,
    ) {
        self.settle(core, standing, session, declined());
    }

    fn settle(
        &mut self,
        core: &mut Core,
        standing: Option<&Standing>,
        session: SessionId,
        body: Body,
    ) {
        let Some(known) = self.find(session) else { return };
        if known.answer.is_some() {
            return;
        }
        if let Some(standing) = standing {
            core.send_surely(standing, &known.invite.answer(body.clone()));
        }
        known.answer = Some(body);
    }

    /// The order that follows fresh candidates.
    pub(super) fn handle_punch(
        &mut self,
        core: &mut Core,
        standing: &Standing,
        (message, punch): (&Message, &Punch),
        now: Instant,
    ) {
        let Some(known) = self.find(punch.session) else {
            let refused = Refused::new(SignalMethod::Punch, ErrorCode::BadRequest);
            core.send(standing, &message.answer(Body::Refused(refused)));
            return;
        };
        let first = !std::mem::replace(&mut known.punched, true);
        core.send(standing, &message.answer(Body::Punching));
        if first {
            tell_punch(core, punch, now);
        }
    }
}

fn tell_punch(core: &mut Core, punch: &Punch, now: Instant) {
    let punch = TimedPunch { punch: punch.clone(), start_at: now + punch.start_after };
    core.tell(Event::Punch { request: None, punch });
}

fn declined() -> Body {
    Body::Refused(Refused::new(SignalMethod::Invite, ErrorCode::Declined))
}
