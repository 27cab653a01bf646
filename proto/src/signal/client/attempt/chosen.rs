//! Asking the broker on the one link that answered first.

use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::{Done, MAX_STALE_NONCES};
use crate::signal::Ladder;
use crate::signal::client::core::{Core, Profile, Standing, Way};
use crate::signal::client::{Link, LinkError, RegistrationError};
use crate::signal::message::{Body, Message, Nonce, Registered};
use crate::uri::HostPort;

/// First wait before a taken name is asked for again; grows by half each time.
const FIRST_CONFLICT_WAIT: Duration = Duration::from_millis(100);

/// Asking the broker on the link that answered first.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) way: Way,
    nonce: Option<Nonce>,
    /// What peers will see; the same in every sending, of which the broker keeps one.
    profile: Profile,
    /// How many nonces the broker has called stale in a row.
    stale: u8,
    pub(super) transaction: TransactionId,
    pub(super) ladder: Ladder,
    conflict: Option<Conflict>,
}

/// Somebody else holds the name.
#[derive(Debug)]
struct Conflict {
    until: Instant,
    wait: Duration,
    /// `None` while an answer is awaited.
    again_at: Option<Instant>,
}

impl Chosen {
    /// Asks on `way` with the nonce that is needed there.
    pub(super) fn start(core: &mut Core, way: Way, nonce: Option<Nonce>, now: Instant) -> Self {
        let mut chosen = Self {
            way,
            nonce,
            profile: core.profile.clone(),
            stale: 0,
            transaction: core.transaction(),
            ladder: way.ladder(core.rtt),
            conflict: None,
        };
        chosen.send(core, now);
        chosen
    }

    /// Takes the nonce that the broker wants instead; `false` if it wants another one each time.
    pub(super) fn on_stale_nonce(&mut self, core: &mut Core, nonce: &Nonce, now: Instant) -> bool {
        if self.stale == MAX_STALE_NONCES {
            return false;
        }
        self.stale += 1;
        self.nonce = Some(nonce.clone());
        self.restart(core, now);
        true
    }

    pub(super) fn next(&self) -> Option<Instant> {
        match &self.conflict {
            Some(Conflict { again_at: Some(at), .. }) => Some(*at),
            Some(Conflict { again_at: None, .. }) | None => self.ladder.next(),
        }
    }

    pub(super) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        match &mut self.conflict {
            Some(Conflict { again_at: again_at @ Some(_), .. }) => {
                if again_at.is_some_and(|at| at <= now) {
                    *again_at = None;
                    self.restart(core, now);
                }
            }
            Some(Conflict { again_at: None, .. }) | None => {
                if self.ladder.is_due(now) {
                    self.send(core, now);
                }
            }
        }
    }

    fn send(&mut self, core: &mut Core, now: Instant) {
        let transmit = self.ladder.sent(now);
        let message = Message::new(self.transaction, Body::Register(core.register(&self.profile)));
        let message = Message { transmit: Some(transmit), nonce: self.nonce.clone(), ..message };
        core.send_unsigned(self.way, &message);
    }

    /// The same once more as a new transaction.
    fn restart(&mut self, core: &mut Core, now: Instant) {
        self.transaction = core.transaction();
        self.profile.clone_from(&core.profile);
        self.ladder = self.way.ladder(core.rtt);
        self.send(core, now);
    }

    /// Schedules the next asking for a taken name, and tells until when it is asked for; `None`
    /// when that is over.
    pub(super) fn on_conflict(&mut self, core: &mut Core, now: Instant) -> Option<Instant> {
        let grace = core.config.name_taken_grace;
        let conflict = self.conflict.get_or_insert_with(|| Conflict {
            until: now + grace,
            wait: FIRST_CONFLICT_WAIT,
            again_at: None,
        });
        if conflict.until <= now {
            return None;
        }
        if conflict.again_at.is_none() {
            let jitter = core.entropy.jitter(conflict.wait / 4);
            conflict.again_at = Some((now + conflict.wait + jitter).min(conflict.until));
            conflict.wait = conflict.wait * 3 / 2;
        }
        Some(conflict.until + core.config.registration_timeout)
    }

    pub(super) fn done(&self, registered: &Registered, udp_ways: Vec<Way>) -> Done {
        Done {
            standing: Standing {
                way: self.way,
                registration: registered.registration,
                key: registered.key,
                nonce: None,
            },
            observed: registered.observed,
            lease: registered.lease,
            shown: self.profile.clone(),
            udp_ways,
        }
    }

    pub(super) fn expired(&self, core: &Core, waited: Duration) -> RegistrationError {
        let Way { link, remote, .. } = self.way;
        let configured = match link {
            Link::Udp => &core.config.udp_broker,
            Link::Tcp => &core.config.tcp_broker,
        };
        let broker = configured.clone().unwrap_or_else(|| HostPort {
            host: remote.ip().to_string(),
            port: Some(remote.port()),
        });
        RegistrationError::Unreachable(vec![LinkError::Silent { link, broker, remote, waited }])
    }
}
