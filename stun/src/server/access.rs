//! [`Access`]: who may ask, by the short-term or the long-term credentials of RFC 8489, section 9.
//!
//! ```text
//!  short-term (9.1.3)                              long-term (9.2.4)
//!  no integrity or no USERNAME ........... 400     no integrity ............................. 401 + challenge
//!  unknown USERNAME, wrong integrity ..... 401     no USERNAME or USERHASH, REALM, NONCE ..... 400
//!                                                  algorithms changed on the way ............. 400
//!                                                  unknown user, wrong integrity ............. 401 + challenge
//!                                                  NONCE not fresh ........................... 438 + challenge
//! ```
//!
//! The challenge is REALM, NONCE and PASSWORD-ALGORITHMS. The nonce begins with the cookie of
//! [`crate::nonce_cookie`], so a client that knows RFC 8489 notices when somebody in between takes the better algorithm
//! or USERHASH away; one that only knows RFC 5389 sees a nonce, and is served by MD5 and SHA-1. The rest of the nonce is a
//! [`Mint`]'s token.

use super::token::{Mint, TOKEN_LENGTH};
use crate::attribute::{
    Algorithm, ErrorCode, Nonce, PasswordAlgorithm, PasswordAlgorithms, Realm, Userhash, Username,
};
use crate::message::WriteError;
use crate::nonce_cookie::{NONCE_COOKIE_LENGTH, SecurityFeatures};
use crate::{AttributeError, AttributeType, Check, Key, Message, Writer};
use std::net::SocketAddr;
use std::time::Instant;

/// What the server's nonces announce.
const FEATURES: SecurityFeatures =
    SecurityFeatures::PASSWORD_ALGORITHMS.with(SecurityFeatures::USERNAME_ANONYMITY);
/// The algorithms it takes, best first.
const ALGORITHMS: PasswordAlgorithms<'static> = PasswordAlgorithms::SHA256_AND_MD5;

/// Whom a server answers.
#[derive(Clone, Debug)]
pub enum Access {
    /// Short-term credentials: each user's password is the key.
    ShortTerm(Vec<(String, Key)>),
    /// Long-term credentials.
    LongTerm {
        /// Where the users are users.
        realm: String,
        /// Who they are.
        users: Vec<User>,
    },
}

/// A user with long-term credentials.
#[derive(Clone, Debug)]
pub struct User {
    name: String,
    hash: Userhash,
    md5: Key,
    sha256: Key,
}

impl User {
    /// The user of this name in `realm`.
    pub fn new(name: &str, realm: &str, password: &str) -> Self {
        Self {
            name: name.to_owned(),
            hash: Userhash::of(name, realm),
            md5: Key::long_term_md5(name, realm, password),
            sha256: Key::long_term_sha256(name, realm, password),
        }
    }
}

/// How a reply is signed: as its request was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature<'a> {
    key: &'a Key,
    is_sha256: bool,
}

impl Signature<'_> {
    pub(super) fn write(self, writer: &mut Writer<'_>) -> Result<(), WriteError> {
        if self.is_sha256 { writer.integrity_sha256(self.key) } else { writer.integrity(self.key) }
    }
}

/// Why somebody is not answered as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// 400.
    BadRequest,
    /// 401.
    Unauthenticated,
    /// 438.
    StaleNonce,
}

impl From<AttributeError> for Denial {
    fn from(_: AttributeError) -> Self {
        Self::BadRequest
    }
}

/// When and from whom a request came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    pub(super) mint: &'a Mint,
    pub(super) source: SocketAddr,
    pub(super) now: Instant,
}

impl Access {
    /// Users with short-term credentials, by name and password.
    pub fn short_term<'t>(users: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        let key = |password: &str| Key::short_term(password.as_bytes());
        Self::ShortTerm(users.into_iter().map(|it| (it.0.to_owned(), key(it.1))).collect())
    }

    /// Users with long-term credentials in `realm`, by name and password.
    pub fn long_term<'t>(realm: &str, users: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        let users = users.into_iter().map(|it| User::new(it.0, realm, it.1)).collect();
        Self::LongTerm { realm: realm.to_owned(), users }
    }

    /// Lets a request in, or says why not.
    pub(super) fn check(
        &self,
        message: &Message<'_>,
        asking: Option<Asking<'_>>,
    ) -> Result<Signature<'_>, Denial> {
        match self {
            Self::ShortTerm(users) => check_short_term(users, message),
            Self::LongTerm { users, .. } => {
                let asking = asking.ok_or(Denial::Unauthenticated)?;
                let (signature, nonce) = check_long_term(users, message)?;
                let token = nonce.as_bytes().get(NONCE_COOKIE_LENGTH..).unwrap_or_default();
                let is_fresh = SecurityFeatures::of_nonce(nonce.as_bytes()) == Some(FEATURES)
                    && asking.mint.knows(token, asking.source, asking.now);
                if is_fresh { Ok(signature) } else { Err(Denial::StaleNonce) }
            }
        }
    }

    /// The same for a request whose nonce somebody else has minted and found fresh.
    pub(super) fn check_forwarded(&self, message: &Message<'_>) -> Result<Signature<'_>, Denial> {
        match self {
            Self::ShortTerm(users) => check_short_term(users, message),
            Self::LongTerm { users, .. } => check_long_term(users, message).map(|it| it.0),
        }
    }

    /// What goes with a denial, so that the client can do better.
    pub(super) fn write_challenge(
        &self,
        denial: Denial,
        asking: Asking<'_>,
        writer: &mut Writer<'_>,
    ) -> Result<(), WriteError> {
        let (Self::LongTerm { realm, .. }, false) = (self, denial == Denial::BadRequest) else {
            return Ok(());
        };
        writer.attribute(&Realm::new(realm)?)?;
        let mut nonce = [0; NONCE_COOKIE_LENGTH + TOKEN_LENGTH];
        nonce[..NONCE_COOKIE_LENGTH].copy_from_slice(&FEATURES.nonce_prefix());
        let token = asking.mint.token(asking.source, asking.now);
        nonce[NONCE_COOKIE_LENGTH..].copy_from_slice(&token);
        writer.attribute(&Nonce::new(&nonce)?)?;
        writer.attribute(&ALGORITHMS)
    }
}

impl Denial {
    pub(super) const fn code(self) -> ErrorCode<'static> {
        match self {
            Self::BadRequest => ErrorCode::BAD_REQUEST.without_reason(),
            Self::Unauthenticated => ErrorCode::UNAUTHENTICATED.without_reason(),
            Self::StaleNonce => ErrorCode::STALE_NONCE.without_reason(),
        }
    }
}

fn has_integrity(message: &Message<'_>) -> bool {
    let has = |it| message.raw_attribute(it).is_some();
    has(AttributeType::MESSAGE_INTEGRITY) || has(AttributeType::MESSAGE_INTEGRITY_SHA256)
}

/// The better of the two integrities that the message has, if it is right (RFC 8489, sections 9.1.3 and 9.2.4).
fn verify<'k>(message: &Message<'_>, key: &'k Key) -> Result<Signature<'k>, Denial> {
    let (check, is_sha256) = match message.integrity_sha256(key) {
        Check::Absent => (message.integrity(key), false),
        check => (check, true),
    };
    if check == Check::Valid {
        Ok(Signature { key, is_sha256 })
    } else {
        Err(Denial::Unauthenticated)
    }
}

fn check_short_term<'k>(
    users: &'k [(String, Key)],
    message: &Message<'_>,
) -> Result<Signature<'k>, Denial> {
    let name = message.attribute::<Username<'_>>()?;
    let (Some(name), true) = (name, has_integrity(message)) else {
        return Err(Denial::BadRequest);
    };
    let user = users.iter().find(|it| it.0 == name.as_str());
    verify(message, &user.ok_or(Denial::Unauthenticated)?.1)
}

/// The user's signature, and the nonce, which is to be found fresh yet.
fn check_long_term<'k, 'm>(
    users: &'k [User],
    message: &Message<'m>,
) -> Result<(Signature<'k>, Nonce<'m>), Denial> {
    if !has_integrity(message) {
        return Err(Denial::Unauthenticated);
    }
    let (name, hash) = (message.attribute::<Username<'_>>()?, message.attribute::<Userhash>()?);
    let (nonce, realm) = (message.attribute::<Nonce<'m>>()?, message.attribute::<Realm<'_>>()?);
    let (Some(nonce), Some(_), true) = (nonce, realm, name.is_some() || hash.is_some()) else {
        return Err(Denial::BadRequest);
    };
    let algorithm = algorithm(message, nonce)?;
    let is_user = |it: &&User| match (name, hash) {
        (_, Some(hash)) => it.hash == hash,
        (name, None) => name.is_some_and(|name| it.name == name.as_str()),
    };
    let user = users.iter().find(is_user).ok_or(Denial::Unauthenticated)?;
    let key = match algorithm {
        Algorithm::Md5 => &user.md5,
        Algorithm::Sha256 => &user.sha256,
    };
    Ok((verify(message, key)?, nonce))
}

/// The algorithm of the client's choice, unless somebody has tampered with the choice it had.
fn algorithm(message: &Message<'_>, nonce: Nonce<'_>) -> Result<Algorithm, Denial> {
    let features = SecurityFeatures::of_nonce(nonce.as_bytes()).unwrap_or_default();
    if !features.contains(SecurityFeatures::PASSWORD_ALGORITHMS) {
        return Ok(Algorithm::Md5);
    }
    let offered = message.attribute::<PasswordAlgorithms<'_>>()?;
    let chosen = message.raw_attribute(AttributeType::PASSWORD_ALGORITHM).is_some();
    match (offered, chosen) {
        (None, false) => Ok(Algorithm::Md5),
        (Some(offered), true) if offered == ALGORITHMS => {
            let chosen = message.attribute::<PasswordAlgorithm>()?;
            let is_offered = |it: &PasswordAlgorithm| ALGORITHMS.iter().any(|own| own == it.0);
            chosen.filter(is_offered).map(|it| it.0).ok_or(Denial::BadRequest)
        }
        _ => Err(Denial::BadRequest),
    }
}
