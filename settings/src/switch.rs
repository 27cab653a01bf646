//! `true` or `false`; the environment can only say it as text.

use serde::de::{Deserializer, Error, Visitor};
use std::fmt;

/// Reads a switch, for serde.
pub(crate) fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    deserializer.deserialize_any(Switch)
}

struct Switch;

impl Visitor<'_> for Switch {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or false")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        text.trim().parse().map_err(|_| E::custom("not a switch; write true or false"))
    }
}
