//! Who may use a broker that is closed to outsiders: accounts, and tokens that an application's own backend mints.
//!
//! Both are long-term credentials (RFC 8489 section 9.2): a name and a password that are known to the peer and to the broker, of
//! which the name alone travels, and of the password a MESSAGE-INTEGRITY-SHA256 over the Register. The broker reads accounts in
//! a list. A token's name says what it is good for, and its password is a MAC over that name with a key that only the backend and
//! the broker have: so the broker finds it by computing, nothing has to be stored for it, and nobody who sees its name has it.
//!
//! ```text
//!   t1:2026a:1796000000:bob-*:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//!   │  │     │          │     └ the password: HMAC-SHA-256(key, everything before), in lower-case digits
//!   │  │     │          └ which names it is good for
//!   │  │     └ until when, in seconds since 1970
//!   │  └ which key
//!   └ the version of this format
//! ```
//!
//! The idea is that of the REST API for TURN (draft-uberti-behave-turn-rest-00), with the names, SHA-256 and the name of the key
//! added. What differs from RFC 8489: there is one realm, [`REALM`], which nobody has to be told; one password algorithm,
//! SHA-256, so that nothing can be negotiated down; and USERHASH hides nothing here, since the whole Register is sealed. A
//! broker checks them in [`rendezvous`](crate::rendezvous).

mod denial;
mod pattern;
mod token;

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::signal::RegistrationKey;

pub use denial::AccessDenied;
pub use pattern::NamePattern;
pub use token::{KeyId, Token, TokenClaims, TokenKey};

/// The realm of every broker (RFC 8489 section 14.9): it makes keys that are good for nothing else than this protocol.
pub const REALM: &str = "ntcp";
/// Longest name of an account, and longest claims of a token, in bytes: with it the longest Register fits into a handshake.
pub const MAX_ACCOUNT_BYTES: usize = 128;

/// The name of an account, or the claims of a token: printable ASCII without spaces, 1 to [`MAX_ACCOUNT_BYTES`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AccountName(String);

/// What was written is not what it should be. What it is stays unsaid: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// No name of an account.
    #[error(
        "the name of an account has 1 to {MAX_ACCOUNT_BYTES} letters, digits or marks, and no spaces"
    )]
    Account,
    /// No pattern of names.
    #[error("write a name, the beginning of one followed by `*`, or `*` for every name")]
    Pattern,
    /// No name of a key.
    #[error("the name of a key has 1 to 16 letters, digits, `-` or `_`")]
    KeyId,
    /// No key.
    #[error("a key is 64 hexadecimal digits, as `openssl rand -hex 32` makes them")]
    Key,
    /// No token.
    #[error("a token is t1:KEY:EXPIRES:NAMES:PASSWORD")]
    Token,
    /// More claims than fit.
    #[error(
        "the claims of a token are at most {MAX_ACCOUNT_BYTES} bytes: shorten the names it is good for"
    )]
    TooLong,
}

impl AccountName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let fits = (1..=MAX_ACCOUNT_BYTES).contains(&text.len());
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits && printable { Ok(Self(text.into())) } else { Err(AccessError::Account) }
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a peer shows to a broker: a name, and a key that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name of the account, or the claims of the token.
    pub account: AccountName,
    /// Signs the Register.
    pub key: RegistrationKey,
}

impl Credentials {
    /// Those of an account.
    pub fn of_account(account: AccountName, password: &str) -> Self {
        let key = long_term_key(account.as_str(), password);
        Self { account, key }
    }

    /// Those in a token.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn of_token(text: &str) -> Result<Self, AccessError> {
        let token: Token = text.parse()?;
        Ok(Self::of_account(token.claims.account(), token.password()))
    }
}

/// The key of long-term credentials: SHA-256 over name, realm and password with colons between them (RFC 8489 sections 9.2.2 and
/// 18.5.1.2). This is what a broker needs of a password.
pub fn long_term_key(account: &str, password: &str) -> RegistrationKey {
    RegistrationKey(Sha256::digest(format!("{account}:{REALM}:{password}")).into())
}

/// The same key where it was computed before, from 64 hexadecimal digits; `None` if they are none.
pub fn password_digest(digits: &str) -> Option<RegistrationKey> {
    crate::secrecy::parse_hex(digits).map(RegistrationKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf %s 'alice:ntcp:a password' | sha256sum`
    #[test]
    fn the_key_of_an_account_is_what_any_tool_computes() {
        let key = long_term_key("alice", "a password").0;
        assert_eq!(key[..4], [0xe9, 0x7f, 0xe3, 0x4a]);
    }

    #[test]
    fn names_of_accounts_are_printable_and_bounded() {
        assert_eq!("alice@example".parse::<AccountName>().unwrap().as_str(), "alice@example");
        for text in ["", "with space", "umläut", "line\n", &"x".repeat(MAX_ACCOUNT_BYTES + 1)] {
            assert_eq!(text.parse::<AccountName>(), Err(AccessError::Account), "{text}");
        }
    }

    #[test]
    fn no_password_is_ever_shown() {
        let credentials = Credentials::of_account("alice".parse().unwrap(), "secret");
        let shown = format!("{credentials:?}");
        assert!(shown.contains("alice") && !shown.contains("secret"), "{shown}");
    }
}
