//! Where brokers keep what they share.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The address of a Redis or Valkey database: `redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER]`. Shown without the
/// password.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryUrl(String);

/// Why a text is no such address. It does not repeat the text, which may have a password in it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegistryUrlError {
    /// Something else, or nothing, before the first colon.
    #[error("an address of a shared registry begins with redis://, for example redis://127.0.0.1/")]
    Scheme,
    /// Nothing where the host should be.
    #[error("the host is missing: write redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER]")]
    NoHost,
}

impl RegistryUrl {
    /// The whole address, password included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host, port and number.
    fn place(&self) -> &str {
        self.0.rsplit_once('@').or_else(|| self.0.split_once("//")).map_or("", |(_, place)| place)
    }
}

impl FromStr for RegistryUrl {
    type Err = RegistryUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.starts_with("redis://") {
            return Err(RegistryUrlError::Scheme);
        }
        let url = Self(text.to_owned());
        let host = url.place();
        if host.is_empty() || host.starts_with([':', '/']) {
            return Err(RegistryUrlError::NoHost);
        }
        Ok(url)
    }
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis://{}", self.place())
    }
}

impl fmt::Debug for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryUrl({self})")
    }
}

impl<'de> Deserialize<'de> for RegistryUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::list::text(deserializer, "an address")?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let url: RegistryUrl = "redis://ntcp:p@ss@db.example:6379/2".parse().unwrap();
        assert_eq!(url.as_str(), "redis://ntcp:p@ss@db.example:6379/2");
        assert_eq!(url.to_string(), "redis://db.example:6379/2");
        assert_eq!(format!("{url:?}"), "RegistryUrl(redis://db.example:6379/2)");
        assert_eq!("redis://[::1]/".parse::<RegistryUrl>().unwrap().to_string(), "redis://[::1]/");
    }

    #[test]
    fn anything_else_is_refused_without_being_repeated() {
        for (text, why) in [
            ("", RegistryUrlError::Scheme),
            ("db.example:6379", RegistryUrlError::Scheme),
            ("rediss://:secret@db.example", RegistryUrlError::Scheme),
            ("redis://", RegistryUrlError::NoHost),
            ("redis://:secret@:6379", RegistryUrlError::NoHost),
            ("redis://:secret@/2", RegistryUrlError::NoHost),
        ] {
            let error = text.parse::<RegistryUrl>().unwrap_err();
            assert_eq!(error, why, "{text}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
