//! How a line of the log is written.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object in each line.
    Json,
}

/// The text is neither format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a log format; write text or json")]
pub struct LogFormatError;

impl FromStr for LogFormat {
    type Err = LogFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Text, Self::Json].into_iter().find(|it| it.to_string() == text).ok_or(LogFormatError)
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl<'de> Deserialize<'de> for LogFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::list::text(deserializer, "a log format")?.parse().map_err(D::Error::custom)
    }
}
