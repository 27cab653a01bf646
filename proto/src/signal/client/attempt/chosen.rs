//! Asking the broker on the one link that answered first.

use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::{Done, MAX_STALE_NONCES, Progress};
use crate::secrecy::{Initiation, PublicKey};
use crate::signal::client::core::{Core, Profile, Standing, Way};
use crate::signal::client::{BrokerIdentity, Link, LinkError, RegistrationError, Secrecy, Trust};
use crate::signal::envelope::prologue;
use crate::signal::message::{Body, Message, Nonce, Refused, Registered, Secure};
use crate::signal::{Ladder, Pace};
use crate::uri::HostPort;

/// First wait before a taken name is asked for again; grows by half each time.
const FIRST_CONFLICT_WAIT: Duration = Duration::from_millis(100);

/// What the broker has given to those who have nothing yet: a nonce, and the key that it shows.
pub(super) type Given = (Option<Nonce>, Option<PublicKey>);

/// Asking the broker on the link that answered first.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) way: Way,
    given: Given,
    /// Pinned keys that the broker has said are not its own.
    refused_keys: usize,
    /// The handshake under way.
    shaking: Option<Shaking>,
    /// What peers will see; the same in every sending, of which the broker keeps one.
    profile: Profile,
    /// How many nonces the broker has called stale in a row.
    stale: u8,
    pub(super) transaction: TransactionId,
    pub(super) ladder: Ladder,
    conflict: Option<Conflict>,
}

/// A handshake that waits for its answer.
#[derive(Debug)]
struct Shaking {
    initiation: Initiation,
    request: Secure,
    key: PublicKey,
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
    /// Asks on `way` with what the broker has given already.
    pub(super) fn start(core: &mut Core, way: Way, given: Given, now: Instant) -> Self {
        core.channel = None;
        core.broker = BrokerIdentity::Unknown;
        let mut chosen = Self {
            way,
            given,
            refused_keys: 0,
            shaking: None,
            profile: core.profile.clone(),
            stale: 0,
            transaction: core.transaction(),
            ladder: way.ladder(core.rtt),
            conflict: None,
        };
        chosen.begin_shaking(core);
        chosen.send(core, now);
        chosen
    }

    /// Takes the nonce that the broker wants instead; `false` if it wants another one each time.
    ///
    /// # Errors
    ///
    /// It shows no key that would do.
    pub(super) fn on_stale_nonce(
        &mut self,
        core: &mut Core,
        (nonce, shown): (&Nonce, Option<PublicKey>),
        now: Instant,
    ) -> Result<bool, RegistrationError> {
        if self.stale == MAX_STALE_NONCES {
            return Ok(false);
        }
        self.stale += 1;
        self.given = (Some(nonce.clone()), shown);
        if core.is_sealed() && core.broker_key(shown, self.refused_keys).is_none() {
            return Err(self.wrong_broker());
        }
        self.restart(core, now);
        Ok(true)
    }

    /// The broker says that the key which was meant is not one of its own: the next one that was
    /// pinned may be.
    pub(super) fn on_unknown_key(
        &mut self,
        core: &mut Core,
        (refused, nonce): (&Refused, Option<&Nonce>),
        now: Instant,
    ) -> Progress {
        self.refused_keys += 1;
        if let Some(nonce) = nonce {
            self.given = (Some(nonce.clone()), refused.identity);
        }
        if core.broker_key(self.given.1, self.refused_keys).is_none() {
            return Progress::Failed(self.wrong_broker());
        }
        self.restart(core, now);
        Progress::Going
    }

    fn wrong_broker(&self) -> RegistrationError {
        RegistrationError::BrokerKey { broker: self.way.remote, shown: self.given.1 }
    }

    /// Draws the handshake for this transaction, if there is what it needs.
    fn begin_shaking(&mut self, core: &mut Core) {
        self.shaking = None;
        let key = core.broker_key(self.given.1, self.refused_keys);
        let (Some(key), Some(nonce)) = (key, &self.given.0) else { return };
        let Secrecy::Sealed { identity, .. } = core.config.secrecy.clone() else { return };
        let register =
            Message::new(self.transaction, Body::Register(core.register(&self.profile, Some(key))));
        let register = core.signed_register(&register);
        let seed = core.entropy.seed();
        let (initiation, noise) =
            Initiation::begin(&identity, &key, &prologue(nonce), &register, seed);
        self.shaking =
            Some(Shaking { initiation, request: Secure { hint: key.hint(), noise }, key });
    }

    /// The other half of the handshake, and the message in it; `None` if it is not the answer to
    /// ours.
    pub(super) fn finish(&mut self, core: &mut Core, noise: &[u8]) -> Option<Message> {
        let shaking = self.shaking.as_mut()?;
        let (payload, channel) = shaking.initiation.finish(noise).ok()?;
        let key = shaking.key;
        self.shaking = None;
        let message = Message::parse(&payload).ok()?.message;
        if message.transaction != self.transaction {
            return None;
        }
        if let Body::Registered(registered) = &message.body {
            let pinned =
                matches!(&core.config.secrecy, Secrecy::Sealed { trust: Trust::Pinned(_), .. });
            let newest = registered.identity.unwrap_or(key);
            core.channel = Some(channel);
            core.broker = BrokerIdentity::Proven { key, newest, pinned };
            core.pin([newest, key]);
        }
        Some(message)
    }

    /// Whether what was asked last should have been answered on a path with this round-trip time.
    pub(super) fn is_late(&self, rtt: Option<Duration>, now: Instant) -> bool {
        self.ladder.since().is_some_and(|at| at + Pace::of(rtt).first <= now)
    }

    /// Whether the broker has said that somebody else holds the name.
    pub(super) fn is_contested(&self) -> bool {
        self.conflict.is_some()
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
        let (body, nonce) = match (&core.config.secrecy, &self.shaking) {
            (Secrecy::Plain, _) => {
                (Body::Register(core.register(&self.profile, None)), self.given.0.clone())
            }
            (Secrecy::Sealed { .. }, Some(shaking)) => {
                (Body::Secure(shaking.request.clone()), self.given.0.clone())
            }
            (Secrecy::Sealed { .. }, None) => (Body::Hello, None),
        };
        let message = Message::new(self.transaction, body);
        let message = Message { transmit: Some(transmit), nonce, ..message };
        match message.body {
            // What lets us in is shown to nobody who has not said what it is good for.
            Body::Register(_) if message.nonce.is_some() => {
                let bytes = core.signed_register(&message);
                core.send_bytes(self.way, bytes);
            }
            _ => drop(core.send_unsigned(self.way, &message)),
        }
    }

    /// The same once more as a new transaction.
    fn restart(&mut self, core: &mut Core, now: Instant) {
        self.transaction = core.transaction();
        self.profile.clone_from(&core.profile);
        self.ladder = self.way.ladder(core.rtt);
        self.begin_shaking(core);
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
