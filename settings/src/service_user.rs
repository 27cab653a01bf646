//! Whom a server becomes that was started as root.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A user of this machine. Whether it exists is not looked up here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceUser {
    /// By name.
    Name(String),
    /// By the numbers of user and group; without a number of its own the group's is the user's.
    Numbers(u32, u32),
}

/// The text cannot be a user.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a user; write a name such as nobody, or numbers such as 65534 or 65534:65534")]
pub struct ServiceUserError;

impl FromStr for ServiceUser {
    type Err = ServiceUserError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        if let (Ok(user), Ok(group)) = (user.parse(), group.parse()) {
            return Ok(Self::Numbers(user, group));
        }
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let is_name = text.len() <= 32
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(inner);
        if is_name { Ok(Self::Name(text.to_owned())) } else { Err(ServiceUserError) }
    }
}

impl fmt::Display for ServiceUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Numbers(user, group) => write!(f, "{user}:{group}"),
        }
    }
}

impl<'de> Deserialize<'de> for ServiceUser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::list::text(deserializer, "a user")?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_numbers() {
        assert_eq!("nobody".parse(), Ok(ServiceUser::Name("nobody".into())));
        assert_eq!("65534".parse(), Ok(ServiceUser::Numbers(65534, 65534)));
        assert_eq!("7:8".parse(), Ok(ServiceUser::Numbers(7, 8)));
        for bad in ["", "a b", "-x", "1:x", ":", "7:", "root:root", "-1"] {
            assert_eq!(bad.parse::<ServiceUser>(), Err(ServiceUserError), "{bad}");
        }
    }
}
