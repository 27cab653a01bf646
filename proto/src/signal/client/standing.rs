//! A registration that stands, and how it is kept standing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::attempt::{Done, MAX_STALE_NONCES};
use super::core::{Core, Profile, Standing, Way, earlier};
use super::upgrade::Upgrade;
use super::{Event, LossReason};
use crate::candidate::Candidate;
use crate::signal::codec::Received;
use crate::signal::message::{Body, Message, Refresh, Refreshed};
use crate::signal::{ErrorCode, Ladder};

/// A registration that stands.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) standing: Standing,
    observed: SocketAddr,
    lease: Duration,
    refresh_at: Instant,
    refresh: Option<Refreshing>,
    /// Nonces that the broker has called stale since the last success.
    stale: u8,
    /// What the broker shows to others.
    shown: Profile,
    /// Better ways than the one it stands on.
    upgrade: Upgrade,
}

/// A refresh under way.
#[derive(Debug)]
struct Refreshing {
    started: Instant,
    transaction: TransactionId,
    ladder: Ladder,
    profile: Option<Profile>,
    /// The round-trip time that it tells.
    rtt: Option<Duration>,
}

/// How a registration stands after something happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Health {
    Stands,
    Lost(LossReason),
}

impl Registration {
    /// Our candidates, if they are others than the broker shows: a caller has been told the old ones.
    pub(super) fn news(&self, core: &Core) -> Vec<Candidate> {
        let current = &core.profile.candidates;
        if self.shown.candidates == *current { Vec::new() } else { current.clone() }
    }

    pub(super) fn new(core: &mut Core, done: Done, now: Instant) -> Self {
        let Done { standing, observed, lease, shown, udp_ways } = done;
        let refresh_at = now + interval(core, lease);
        let upgrade = Upgrade::over(udp_ways);
        let mut registration =
            Self { standing, observed, lease, refresh_at, refresh: None, stale: 0, shown, upgrade };
        registration.tell_registered(core);
        registration.upgrade.knock(core, &registration.standing, now);
        registration.show(core, now);
        registration
    }

    fn tell_registered(&self, core: &mut Core) {
        core.tell(Event::Registered {
            observed: self.observed,
            link: self.standing.way.link,
            broker: self.standing.way.remote,
            rtt: core.rtt.unwrap_or_default(),
            lease: self.lease,
            identity: core.broker,
        });
    }

    /// Whether a message on `way` may concern us.
    pub(super) fn uses(&self, way: Way) -> bool {
        self.standing.way == way || self.upgrade.uses(way)
    }

    /// Whether `source` is an address that we ask over UDP.
    pub(super) fn asks(&self, source: SocketAddr) -> bool {
        self.standing.way.remote == source || self.upgrade.asks(source)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let refresh = match &self.refresh {
            Some(refresh) => earlier(refresh.ladder.next(), Some(self.silent_at(refresh))),
            None => Some(self.refresh_at),
        };
        earlier(refresh, self.upgrade.next())
    }

    /// When a broker that has not answered the refresh counts as gone: well before the lease ends,
    /// and after so many repeats that loss alone does not explain it.
    fn silent_at(&self, refresh: &Refreshing) -> Instant {
        refresh.started + self.lease / 6
    }

    pub(super) fn handle_timeout(&mut self, core: &mut Core, now: Instant) -> Health {
        self.upgrade.handle_timeout(core, &self.standing, now);
        match &self.refresh {
            None if self.refresh_at <= now => {
                self.upgrade.knock(core, &self.standing, now);
                let profile = (self.shown != core.profile).then(|| core.profile.clone());
                self.start_refresh(core, profile, now);
            }
            None => {}
            Some(refresh) => {
                if self.silent_at(refresh) <= now {
                    let silent = now.saturating_duration_since(refresh.started);
                    return Health::Lost(LossReason::Silent(silent));
                }
                if refresh.ladder.is_due(now) {
                    self.send_refresh(core, now);
                }
            }
        }
        Health::Stands
    }

    /// Tells the broker what others shall see, if that has changed: at once, or when it has
    /// answered what it was told before, lest the two overtake each other.
    pub(super) fn show(&mut self, core: &mut Core, now: Instant) {
        let is_telling = self.refresh.as_ref().is_some_and(|it| it.profile.is_some());
        if !is_telling && self.shown != core.profile {
            let profile = core.profile.clone();
            self.start_refresh(core, Some(profile), now);
        }
    }

    fn start_refresh(&mut self, core: &mut Core, profile: Option<Profile>, now: Instant) {
        self.refresh = Some(Refreshing {
            started: now,
            transaction: core.transaction(),
            ladder: self.standing.way.ladder(core.rtt),
            profile,
            rtt: core.rtt,
        });
        self.send_refresh(core, now);
    }

    fn send_refresh(&mut self, core: &mut Core, now: Instant) {
        let Some(refresh) = &mut self.refresh else { return };
        let transmit = refresh.ladder.sent(now);
        let body = Body::Refresh(Refresh {
            lease: core.config.lease,
            candidates: refresh.profile.as_ref().map(|it| it.candidates.clone()),
            nat: refresh.profile.as_ref().map(|it| it.nat),
            rtt: refresh.rtt,
        });
        let message = Message::new(refresh.transaction, body);
        core.send(&self.standing, &self.standing.request(message, transmit));
    }

    /// An answer to a refresh; `true` if it is one.
    pub(super) fn handle_answer(
        &mut self,
        core: &mut Core,
        message: &Message,
        now: Instant,
    ) -> bool {
        let Some(refresh) = self.refresh.take_if(|it| it.transaction == message.transaction) else {
            return false;
        };
        core.note_round_trip(refresh.ladder.round_trip(message.transmit, now));
        match (&message.body, &message.nonce) {
            (Body::Refreshed(refreshed), _) => self.on_refreshed(core, refresh, refreshed, now),
            (Body::Refused(refused), Some(_))
                if refused.code == ErrorCode::StaleNonce && self.stale < MAX_STALE_NONCES =>
            {
                self.on_stale_nonce(message);
                self.start_refresh(core, refresh.profile, now);
            }
            // Too busy, or not to its liking: what it has still holds for a while.
            (_, _) => self.refresh_at = now + interval(core, self.lease) / 4,
        }
        true
    }

    fn on_refreshed(
        &mut self,
        core: &mut Core,
        refresh: Refreshing,
        refreshed: &Refreshed,
        now: Instant,
    ) {
        core.capabilities = refreshed.capabilities.unwrap_or_default();
        self.lease = refreshed.lease;
        self.refresh_at = now + interval(core, refreshed.lease);
        self.standing.nonce = None;
        self.stale = 0;
        let told = refresh.rtt;
        self.shown = refresh.profile.unwrap_or_else(|| self.shown.clone());
        if self.observed != refreshed.observed {
            let (before, after) = (self.observed, refreshed.observed);
            self.observed = after;
            core.tell(Event::ObservedAddressChanged { before, after });
        }
        self.show(core, now);
        if self.refresh.is_none() && is_much_shorter(core.rtt, told) {
            self.start_refresh(core, None, now);
        }
    }

    /// Whether the refresh under way asks in this transaction.
    pub(super) fn asked_in(&self, transaction: TransactionId) -> bool {
        self.refresh.as_ref().is_some_and(|it| it.transaction == transaction)
    }

    /// A message on a way that the registration does not stand on yet; `false` if it is about
    /// something else than the move.
    pub(super) fn handle_elsewhere(
        &mut self,
        core: &mut Core,
        (way, received): (Way, &Received<'_>),
        now: Instant,
    ) -> bool {
        let message = &received.message;
        let vouched = received.is_signed_by(&self.standing.key)
            && received.is_sealed() == core.channel.is_some();
        if !vouched {
            return self.upgrade.handle_refusal(core, &self.standing, (way, message), now);
        }
        let Body::Refreshed(refreshed) = &message.body else { return false };
        if !self.upgrade.has_moved(way, message) {
            return false;
        }
        core.close(self.standing.way);
        self.standing.way = way;
        self.upgrade = Upgrade::over(Vec::new());
        self.observed = refreshed.observed;
        self.lease = refreshed.lease;
        self.refresh_at = now + interval(core, self.lease);
        // What was asked on the stream may be lost with it.
        self.refresh = None;
        self.tell_registered(core);
        self.show(core, now);
        true
    }

    /// Takes a nonce that the broker wants to see.
    pub(super) fn on_stale_nonce(&mut self, message: &Message) {
        self.stale = self.stale.saturating_add(1);
        self.standing.nonce.clone_from(&message.nonce);
    }

    /// Ends what is open; nothing is said to the broker.
    pub(super) fn abandon(self, core: &mut Core) {
        core.close(self.standing.way);
    }
}

/// Whether a round trip turned out so much shorter than the broker believes that a caller should not wait
/// as long as it says: both sides start by what the broker knows. The first one is measured while a node
/// that has just come up has much else to do, and the next refresh may be far off.
fn is_much_shorter(rtt: Option<Duration>, told: Option<Duration>) -> bool {
    const SLACK: Duration = Duration::from_millis(1);
    rtt.is_some_and(|rtt| told.is_none_or(|told| rtt + SLACK < told * 7 / 8))
}

/// Three refreshes fit into a lease, so that two may fail.
fn interval(core: &Core, lease: Duration) -> Duration {
    core.config.refresh.min(lease / 3)
}
