//! Who may register at a broker that is closed to outsiders.
//!
//! A Register says an account or the claims of a token and is signed with its key ([`access`](crate::access)). Inside a handshake
//! it also says which broker it is meant for, so that an impostor who was trusted on first use cannot pass it on; in the clear
//! its NONCE is under the signature. What is checked here is checked before anything else is looked at: whether a name is
//! taken is nothing for outsiders.
//!
//! Who is registered stays so, also when its token expires, its account is struck out or the key of its token is taken out
//! of use: each of these ends with the registration. So keys are changed under live peers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::cluster::Denial;
use super::{Broker, Link, Registry};
use crate::access::{
    AccessDenied, AccountName, KeyId, NamePattern, TokenClaims, TokenKey, long_term_key,
};
use crate::signal::codec::Received;
use crate::signal::message::{Message, Register};
use crate::signal::{ErrorCode, RegistrationKey};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What signs, made of the password ([`long_term_key`]).
    pub key: RegistrationKey,
    /// Which names it is good for; any of these.
    pub names: Vec<NamePattern>,
}

/// Whom a closed broker lets in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Accounts.
    pub accounts: BTreeMap<AccountName, Account>,
    /// What tokens may have been minted with.
    pub token_keys: BTreeMap<KeyId, TokenKey>,
}

impl Access {
    /// Looks at what a Register shows, at `unix`, the time since 1970 if anybody knows.
    fn check(
        &self,
        (register, received): (&Register, &Received<'_>),
        unix: Option<Duration>,
    ) -> Result<(), AccessDenied> {
        let account = register.account.as_ref().ok_or(AccessDenied::Needed)?;
        let covers = |names: &[NamePattern]| {
            let covered = names.iter().any(|it| it.covers(register.name.as_ref()));
            if covered { Ok(()) } else { Err(AccessDenied::NameNotCovered) }
        };
        if !TokenClaims::is_meant_by(account) {
            let known = self.accounts.get(account);
            let known = known.filter(|it| received.is_signed_by(&it.key));
            return covers(&known.ok_or(AccessDenied::Wrong)?.names);
        }
        let claims: TokenClaims = account.as_str().parse().map_err(|_| AccessDenied::Forged)?;
        let key = self.token_keys.get(claims.key()).ok_or(AccessDenied::UnknownKey)?;
        let key = long_term_key(account.as_str(), &key.password(&claims));
        if !received.is_signed_by(&key) {
            return Err(AccessDenied::Forged);
        }
        // Without a clock nothing is known to be good still.
        let unix = unix.unwrap_or(Duration::MAX);
        match unix.checked_sub(claims.expires()) {
            Some(ago) => Err(AccessDenied::Expired { ago }),
            None => covers(std::slice::from_ref(claims.names())),
        }
    }
}

/// What time it is, by a clock that people set.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WallClock(Option<(Instant, Duration)>);

impl WallClock {
    fn unix(self, now: Instant) -> Option<Duration> {
        self.0.map(|(at, unix)| unix.saturating_add(now.saturating_duration_since(at)))
    }
}

impl<R: Registry> Broker<R> {
    /// Says that `now` is `unix` after 1970-01-01 00:00 UTC: tokens expire by that, and nothing else happens by it. To be said at
    /// the start, and now and then, since clocks are set.
    pub fn set_wall_clock(&mut self, unix: Duration, now: Instant) {
        self.wall_clock = WallClock(Some((now, unix)));
    }

    /// Lets others in from now on; `None` is open to everybody. Whoever is registered stays so.
    pub fn set_access(&mut self, access: Option<Access>) {
        self.config.access = access;
    }

    /// Reserves other names from now on. Whoever is registered stays so.
    pub fn set_names(&mut self, names: super::Names) {
        self.config.names = names;
    }

    /// Whether a Register has to be signed on its own link, since nothing else about it is.
    pub(super) fn needs_nonce(&self, link: Link, message: &Message, now: Instant) -> bool {
        let proves = |nonce| self.cookies.is_ours(nonce, link, now);
        self.config.access.is_some() && !message.nonce.as_ref().is_some_and(proves)
    }

    /// Whether a Register comes from somebody who may register here.
    pub(super) fn let_in(
        &mut self,
        register: &Register,
        received: &Received<'_>,
        said: Said,
        now: Instant,
    ) -> Result<(), Denial> {
        let Some(access) = &self.config.access else { return Ok(()) };
        let unix = self.wall_clock.unix(now);
        let is_ours = register.meant_for.is_some_and(|key| self.keys.contain(key));
        let verdict = match (access.check((register, received), unix), said) {
            (Ok(()), Said::Sealed) if !is_ours => Err(AccessDenied::OtherBroker),
            (verdict, _) => verdict,
        };
        verdict.map_err(|reason| {
            self.counters.kept_out += 1;
            Denial::KeptOut(reason)
        })
    }
}

/// How a Register came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Inside a handshake, with a key that it names.
    Sealed,
    /// As it is, with a NONCE.
    InTheClear,
}

/// The code that goes with a reason.
pub(super) fn code(denied: AccessDenied) -> ErrorCode {
    match denied {
        AccessDenied::NameNotCovered => ErrorCode::Forbidden,
        AccessDenied::Needed
        | AccessDenied::Wrong
        | AccessDenied::UnknownKey
        | AccessDenied::Forged
        | AccessDenied::Expired { .. }
        | AccessDenied::OtherBroker => ErrorCode::Unauthenticated,
    }
}
