//! The budget as a session meets it: what may leave, what may not, and since when there is more.

use super::*;
use crate::puncher::report::{Evidence, milliseconds_since};
use crate::tcp_traversal::budget::{Budget, Purpose, Refusal, Spent};
use crate::{Answer, IoFailure};

/// The peer is told again when the time it was told has moved by this.
const MOVED: Duration = Duration::from_secs(1);
/// The unit in which it is told.
const UNIT: Duration = Duration::from_millis(100);
/// Requests for a forged segment cost one session each, as the SYN that it answers did.
const FORGED: Purpose = Purpose::Aimed;

/// What the budget has refused so far.
#[derive(Debug, Default)]
pub(super) struct Spending {
    /// The last refusal.
    last: Option<Refusal>,
    /// When a minute's share is there again.
    ours: Option<Spent>,
    /// Until when the peer was told to be patient, and in which words.
    told: Option<(Instant, u16)>,
    /// Until when the peer's budget is spent, as it told.
    theirs: Option<Instant>,
    /// Guesses that may still leave in this minute, when one left last.
    left: Option<u32>,
    /// The same over UDP.
    left_datagrams: Option<u32>,
}

impl Spending {
    /// When a connect that the minute has no room for may be tried again.
    pub(super) fn again(&self) -> Option<Instant> {
        match self.last? {
            Refusal::Minute(spent) => Some(spent.next),
            Refusal::Attempt => None,
        }
    }

    /// Guesses that may still leave in this minute, if any has left.
    pub(super) fn left(&self) -> Option<u32> {
        self.left
    }

    /// The same over UDP.
    pub(super) fn left_datagrams(&self) -> Option<u32> {
        self.left_datagrams
    }

    /// What the peer is told: how long our budget is spent, in tenths of seconds.
    pub(super) fn told(&self) -> Option<u16> {
        self.told.map(|(_, tenths)| tenths)
    }

    /// What the peer has told likewise.
    pub(super) fn heard(&mut self, tenths: Option<u16>, now: Instant) {
        self.theirs = tenths.map(|tenths| now + UNIT * u32::from(tenths));
    }

    /// When both sides have a whole attempt's share again, if one of them had not.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.ours.map(|spent| spent.full).max(self.theirs)
    }

    /// What the report says of it.
    pub(super) fn evidence(&self, now: Instant) -> impl Iterator<Item = Evidence> {
        let ours = self.ours.map(|spent| Evidence::BudgetSpent(until(spent.full, now)));
        ours.into_iter().chain(self.theirs.map(|at| Evidence::PeerBudgetSpent(until(at, now))))
    }

    fn refused(&mut self, refusal: Refusal, now: Instant) {
        self.last = Some(refusal);
        let Refusal::Minute(spent) = refusal else { return };
        (self.ours, self.left) = (Some(spent), Some(0));
        if self.told.is_none_or(|(until, _)| until + MOVED <= spent.full) {
            let tenths = spent.full.saturating_duration_since(now).as_millis() / UNIT.as_millis();
            self.told = Some((spent.full, u16::try_from(tenths + 1).unwrap_or(u16::MAX)));
        }
    }
}

fn until(at: Instant, now: Instant) -> f64 {
    milliseconds_since(now, at)
}

impl Session {
    /// What the session wants done, as far as the budget allows: what would go over it is answered at
    /// once, and nothing of it leaves.
    pub fn poll_admitted(&mut self, budget: &mut Budget, now: Instant) -> Option<Command> {
        loop {
            let command = self.poll_command()?;
            let Some(purpose) = self.purpose_of(&command) else { return Some(command) };
            match budget.admit(self.id(), self.attempt(purpose), purpose, now) {
                Ok(()) => {
                    let spending = &mut self.engine.spending;
                    spending.left = Some(budget.left(Purpose::Guess));
                    spending.left_datagrams = Some(budget.left(Purpose::Datagram));
                    return Some(command);
                }
                // The next one may leave: nothing that was planned is lost.
                Err(_) if purpose == Purpose::Check => self.refuse(&command, now),
                Err(refusal) => {
                    self.engine.spending.refused(refusal, now);
                    self.refuse(&command, now);
                }
            }
        }
    }

    /// What the broker is to answer, if there is something new to ask and the budget allows it.
    pub fn poll_admitted_forge(&mut self, budget: &mut Budget, now: Instant) -> Option<Handshake> {
        let handshake = self.poll_forge()?;
        match budget.admit(self.id(), self.attempt(FORGED), FORGED, now) {
            Ok(()) => Some(handshake),
            Err(refusal) => {
                self.engine.spending.refused(refusal, now);
                self.on_forged(Err(ErrorCode::TooManyRequests), now);
                None
            }
        }
    }

    /// What a command costs the NATs; `None` if nothing.
    fn purpose_of(&self, command: &Command) -> Option<Purpose> {
        match command {
            Command::ConnectTcp { socket, .. } => {
                let coverage = self.engine.coverage.as_ref();
                let guess = coverage.is_some_and(|it| it.pending_remote(*socket).is_some());
                Some(if guess { Purpose::Guess } else { Purpose::Aimed })
            }
            Command::AssumeTcp { .. } => Some(Purpose::Aimed),
            // What goes into our own stack passes no NAT.
            Command::Inject { segment, .. } => {
                let ours = |local: &SocketAddr| local.ip() == segment.destination.ip();
                (!self.resources.tcp.iter().any(ours)).then_some(Purpose::Aimed)
            }
            Command::BindUdp { .. } | Command::SendUdp { .. } => {
                let check = || self.is_unheard_check(command).then_some(Purpose::Check);
                self.is_udp_guess(command).then_some(Purpose::Datagram).or_else(check)
            }
            _ => None,
        }
    }

    /// Whether it goes to an address that was announced, and has said nothing yet.
    fn is_unheard_check(&self, command: &Command) -> bool {
        let Command::SendUdp { socket, remote, .. } = command else { return false };
        let pair = self.checklist.position(*socket, *remote).map(|at| &self.checklist.pairs[at]);
        pair.is_some_and(|it| !it.heard && it.verified.is_none())
    }

    fn refuse(&mut self, command: &Command, now: Instant) {
        let answer = match command {
            Command::Inject { .. } | Command::SendUdp { .. } => {
                Answer::Sent(Err(IoFailure::OverBudget))
            }
            Command::BindUdp { .. } => Answer::Bound(Err(IoFailure::OverBudget)),
            _ => Answer::Connected(Err(IoFailure::OverBudget)),
        };
        self.handle_input(Input::Answer { id: command.id(), answer }, now);
    }

    /// The number of the present attempt: each has its own share of the budget.
    fn attempt(&self, purpose: Purpose) -> u32 {
        match purpose {
            Purpose::Datagram => return self.udp_attempt_number(),
            // One share for all of a call.
            Purpose::Check => return 0,
            Purpose::Aimed | Purpose::Guess => {}
        }
        let covered = self.engine.coverage.as_ref().map_or(0, |it| it.attempt() + 1);
        covered + self.engine.rounds.map_or(0, |it| u32::from(it.round))
    }
}
