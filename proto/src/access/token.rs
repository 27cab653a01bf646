//! Tokens: credentials that somebody mints who has a key, for some names and some time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{AccessError, AccountName, MAX_ACCOUNT_BYTES, NamePattern};

/// What every token begins with; no account does.
const VERSION: &str = "t1";
/// Longest [`KeyId`].
const MAX_KEY_ID_BYTES: usize = 16;

/// The name of a key: 1 to 16 letters, digits, `-` or `_`. Keys are changed by adding one with another name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(String);

impl FromStr for KeyId {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let fits = (1..=MAX_KEY_ID_BYTES).contains(&text.len());
        let good = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if fits && text.chars().all(good) { Ok(Self(text.into())) } else { Err(AccessError::KeyId) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key that tokens are minted with, 32 bytes; never shown. Written as 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// HMAC-SHA-256 (RFC 2104) over the claims, in lower-case hexadecimal digits.
    pub(crate) fn password(&self, claims: &TokenClaims) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            unreachable!("HMAC takes keys of any length (RFC 2104 section 2)")
        };
        mac.update(claims.to_string().as_bytes());
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl FromStr for TokenKey {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        crate::secrecy::parse_hex(text).map(Self).ok_or(AccessError::Key)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

/// What a token is good for: everything in it but its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    key: KeyId,
    expires: Duration,
    names: NamePattern,
}

impl TokenClaims {
    /// Made with the key of that name, good for `names` until `expires`, a time since 1970-01-01 00:00 UTC of which whole seconds
    /// count.
    ///
    /// # Errors
    ///
    /// The whole is longer than [`MAX_ACCOUNT_BYTES`].
    pub fn new(key: KeyId, expires: Duration, names: NamePattern) -> Result<Self, AccessError> {
        let claims = Self { key, expires: Duration::from_secs(expires.as_secs()), names };
        let fits = claims.to_string().len() <= MAX_ACCOUNT_BYTES;
        fits.then_some(claims).ok_or(AccessError::TooLong)
    }

    /// Which key it was made with, as it says.
    pub fn key(&self) -> &KeyId {
        &self.key
    }

    /// Until when it is good: time since 1970-01-01 00:00 UTC.
    pub fn expires(&self) -> Duration {
        self.expires
    }

    /// Which names it is good for.
    pub fn names(&self) -> &NamePattern {
        &self.names
    }

    /// As the name of an account.
    pub(crate) fn account(&self) -> AccountName {
        AccountName(self.to_string())
    }

    /// Whether this is written like the claims of a token; an account is not.
    pub(crate) fn is_meant_by(account: &AccountName) -> bool {
        account.as_str().split(':').next() == Some(VERSION)
    }
}

impl FromStr for TokenClaims {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let mut parts = text.split(':');
        let mut next = || parts.next().ok_or(AccessError::Token);
        if next()? != VERSION {
            return Err(AccessError::Token);
        }
        let (key, seconds, names) = (next()?.parse()?, next()?, next()?.parse()?);
        let digits = seconds.bytes().all(|byte| byte.is_ascii_digit());
        // One way of writing each token: "+1" and "01" are none.
        let canonical = digits && (seconds == "0" || !seconds.starts_with('0'));
        let seconds: Option<u64> = seconds.parse().ok().filter(|_| canonical);
        let expires = Duration::from_secs(seconds.ok_or(AccessError::Token)?);
        if parts.next().is_some() {
            return Err(AccessError::Token);
        }
        Self::new(key, expires, names)
    }
}

impl fmt::Display for TokenClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, expires, names } = self;
        write!(f, "{VERSION}:{key}:{}:{names}", expires.as_secs())
    }
}

/// A token, its password included. Shown in full by [`Display`](fmt::Display) alone.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use ntcp_proto::access::{Token, TokenClaims, TokenKey};
///
/// let key: TokenKey = "8f".repeat(32).parse()?;
/// let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
/// let claims = TokenClaims::new("2026a".parse()?, now + Duration::from_secs(3600), "bob".parse()?)?;
/// let token = Token::mint(&key, claims).to_string();
/// assert!(token.starts_with("t1:2026a:"));
/// # Ok::<(), ntcp_proto::access::AccessError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub(super) claims: TokenClaims,
    password: String,
}

impl Token {
    /// Makes a token.
    pub fn mint(key: &TokenKey, claims: TokenClaims) -> Self {
        Self { password: key.password(&claims), claims }
    }

    /// What it is good for.
    pub fn claims(&self) -> &TokenClaims {
        &self.claims
    }

    pub(super) fn password(&self) -> &str {
        &self.password
    }
}

impl FromStr for Token {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let (claims, password) = text.rsplit_once(':').ok_or(AccessError::Token)?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if password.len() != 64 || !password.bytes().all(is_digit) {
            return Err(AccessError::Token);
        }
        Ok(Self { claims: claims.parse()?, password: password.into() })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.claims, self.password)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}:…)", self.claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn token() -> Token {
        let claims = "t1:2026a:1796000000:bob-*".parse().unwrap();
        Token::mint(&KEY.parse().unwrap(), claims)
    }

    /// `printf %s t1:2026a:1796000000:bob-\* | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f`
    #[test]
    fn a_token_is_what_openssl_makes() {
        assert_eq!(token().to_string(), EXPECTED);
        assert_eq!(EXPECTED.parse(), Ok(token()));
    }

    const EXPECTED: &str = "t1:2026a:1796000000:bob-*:bfc5a2bff0b3046b29655ebbb4b95c70b73cd6bd2657ca320493bf3ed5453526";

    #[test]
    fn every_token_has_one_way_of_being_written() {
        let good = token().to_string();
        let password = good.rsplit(':').next().unwrap();
        for claims in [
            "",
            "t1",
            "t2:2026a:1:bob",
            "t1::1:bob",
            "t1:a b:1:bob",
            "t1:2026a::bob",
            "t1:2026a:+1:bob",
            "t1:2026a:01:bob",
            "t1:2026a:-1:bob",
            "t1:2026a:99999999999999999999:bob",
            "t1:2026a:1:",
            "t1:2026a:1:b*b",
            "t1:2026a:1:bob:more",
            &format!("t1:2026a:1:{}", "b".repeat(MAX_ACCOUNT_BYTES)),
        ] {
            assert!(format!("{claims}:{password}").parse::<Token>().is_err(), "{claims}");
        }
        for odd in [password.to_uppercase(), password[1..].to_owned(), format!("{password}0")] {
            assert!(format!("t1:2026a:1:bob:{odd}").parse::<Token>().is_err(), "{odd}");
        }
    }

    #[test]
    fn neither_password_nor_key_is_shown_by_accident() {
        let key: TokenKey = KEY.parse().unwrap();
        assert_eq!(format!("{key:?}"), "TokenKey(…)");
        assert_eq!(format!("{:?}", token()), "Token(t1:2026a:1796000000:bob-*:…)");
    }
}
