//! Keys of `[stun]` whose value is one of a few words.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The text is none of the five modes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a mode; write auto, basic, dual, forged or partner")]
pub struct StunModeError;

/// How a STUN server comes by the second address of RFC 5780.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StunMode {
    /// As `alternate` says: `Dual` with one, `Basic` without.
    #[default]
    Auto,
    /// It has none, and says so.
    Basic,
    /// It is this machine's own.
    Dual,
    /// It is another machine's, in whose name this one sends.
    Forged,
    /// It is another machine's, which runs the same program and sends itself.
    Partner,
}

/// How much longer than its request a reply of a STUN server may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StunAmplification {
    /// As long as RFC 5780 has it.
    #[default]
    Standard,
    /// 1.6 times.
    Low,
    /// Not at all.
    None,
}

/// Whom a STUN server answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StunAccess {
    /// Everybody.
    #[default]
    Open,
    /// Who signs with the password of its name (RFC 8489 section 9.1).
    ShortTerm,
    /// Who answers a challenge with a name and a password (RFC 8489 section 9.2).
    LongTerm,
}

impl StunMode {
    const ALL: [Self; 5] = [Self::Auto, Self::Basic, Self::Dual, Self::Forged, Self::Partner];

    /// The mode as it is written in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Basic => "basic",
            Self::Dual => "dual",
            Self::Forged => "forged",
            Self::Partner => "partner",
        }
    }
}

impl StunAccess {
    const ALL: [Self; 3] = [Self::Open, Self::ShortTerm, Self::LongTerm];

    /// The access as it is written in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::ShortTerm => "short-term",
            Self::LongTerm => "long-term",
        }
    }
}

impl fmt::Display for StunMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for StunAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StunMode {
    type Err = StunModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or(StunModeError)
    }
}

impl<'de> Deserialize<'de> for StunMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = crate::list::text(deserializer, "a mode")?;
        text.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for StunAmplification {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = crate::list::text(deserializer, "an amplification")?;
        match text.as_str() {
            "standard" => Ok(Self::Standard),
            "low" => Ok(Self::Low),
            "none" => Ok(Self::None),
            _ => Err(D::Error::custom("not an amplification; write standard, low or none")),
        }
    }
}

impl<'de> Deserialize<'de> for StunAccess {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = crate::list::text(deserializer, "an access")?;
        Self::ALL
            .into_iter()
            .find(|it| it.as_str() == text)
            .ok_or_else(|| D::Error::custom("not an access; write open, short-term or long-term"))
    }
}
