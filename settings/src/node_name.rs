//! The name of a peer, as others write it in a URI.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The name under which a peer registers: 1 to 255 letters, digits, `-`, `.`, `_` or `~`, which are
/// the characters that need no escape in a URI (RFC 3986 section 2.3). Upper and lower case differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

/// Why a text is not a name. Each message ends with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NodeNameError {
    /// No character at all, or more than 255.
    #[error("a name has 1 to 255 characters, this one has {0}")]
    BadLength(usize),
    /// A character that would need an escape in a URI.
    #[error("a name cannot contain {0:?}; write letters, digits, '-', '.', '_' or '~'")]
    BadCharacter(char),
}

impl NodeName {
    /// The longest name, in bytes.
    pub const MAX_LENGTH: usize = 255;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unreserved = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
        if let Some(character) = text.chars().find(|&c| !unreserved(c)) {
            return Err(NodeNameError::BadCharacter(character));
        }
        if !(1..=Self::MAX_LENGTH).contains(&text.len()) {
            return Err(NodeNameError::BadLength(text.len()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::list::text(deserializer, "a name")?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_a_uri_can_carry_unescaped() {
        assert_eq!("Bob-7.home_~".parse::<NodeName>().unwrap().as_str(), "Bob-7.home_~");
        assert_eq!("".parse::<NodeName>(), Err(NodeNameError::BadLength(0)));
        assert_eq!("a b".parse::<NodeName>(), Err(NodeNameError::BadCharacter(' ')));
        assert_eq!("bob@home".parse::<NodeName>(), Err(NodeNameError::BadCharacter('@')));
        assert!("n".repeat(255).parse::<NodeName>().is_ok());
        assert_eq!("n".repeat(256).parse::<NodeName>(), Err(NodeNameError::BadLength(256)));
    }
}
