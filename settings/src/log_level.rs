//! How much is logged.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// How much is logged, from nothing to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What may fail soon or was refused.
    Warn,
    /// Outcomes: started, connected, stopped.
    Info,
    /// Decisions and peer addresses.
    Debug,
    /// Every packet.
    Trace,
}

/// The text is none of the six levels.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a log level; write off, error, warn, info, debug or trace")]
pub struct LogLevelError;

impl LogLevel {
    const ALL: [Self; 6] =
        [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The level as it is written in the file; also a directive for a `tracing` filter.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromStr for LogLevel {
    type Err = LogLevelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or(LogLevelError)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for LogLevel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::list::text(deserializer, "a log level")?.parse().map_err(D::Error::custom)
    }
}
