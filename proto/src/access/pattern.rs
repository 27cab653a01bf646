//! Which names something is good for.

use std::fmt;
use std::str::FromStr;

use super::AccessError;
use crate::uri::PeerName;

/// A name (`bob`), the beginning of names (`bob-*`), or every name (`*`). A caller without a name is covered by each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePattern(Kind);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Exactly(PeerName),
    Beginning(PeerName),
    Every,
}

impl NamePattern {
    /// Every name.
    pub const EVERY: Self = Self(Kind::Every);

    /// Whether it is good for `name`.
    pub fn covers(&self, name: Option<&PeerName>) -> bool {
        let Some(name) = name else { return true };
        match &self.0 {
            Kind::Exactly(own) => own == name,
            Kind::Beginning(own) => name.as_str().starts_with(own.as_str()),
            Kind::Every => true,
        }
    }
}

impl FromStr for NamePattern {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let name = |text: &str| text.parse().map_err(|_| AccessError::Pattern);
        Ok(Self(match text.strip_suffix('*') {
            Some("") => Kind::Every,
            Some(beginning) => Kind::Beginning(name(beginning)?),
            None => Kind::Exactly(name(text)?),
        }))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Exactly(name) => write!(f, "{name}"),
            Kind::Beginning(name) => write!(f, "{name}*"),
            Kind::Every => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_its_names_and_no_others() {
        for (pattern, covered, not) in [
            ("bob", vec!["bob"], vec!["bo", "bobby", "Bob"]),
            ("bob-*", vec!["bob-", "bob-1"], vec!["bob", "alice-1"]),
            ("*", vec!["bob", "x"], vec![]),
        ] {
            let parsed: NamePattern = pattern.parse().unwrap();
            assert_eq!(parsed.to_string(), pattern);
            let covers = |name: &&str| parsed.covers(Some(&name.parse().unwrap()));
            assert!(covered.iter().all(covers), "{pattern}");
            assert!(!not.iter().any(covers), "{pattern}");
            assert!(parsed.covers(None), "a caller without a name");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "a b", "b*b", "**", "bob:"] {
            assert_eq!(text.parse::<NamePattern>(), Err(AccessError::Pattern), "{text}");
        }
    }
}
