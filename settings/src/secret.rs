//! What nobody else may read.

use serde::Deserialize;
use serde::de::Deserializer;
use std::fmt;

/// A password or the like; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What it is.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::list::text(deserializer, "a text").map(Self)
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    #[test]
    fn a_secret_is_kept_but_not_shown() {
        let text = "access.user = 'alice'\naccess.password = 'hush'";
        let config = Config::from_toml(text).unwrap();
        assert_eq!(config.access.password.as_ref().unwrap().reveal(), "hush");
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn what_is_shown_to_a_broker_is_one_thing_and_whole() {
        for (text, fix) in [
            ("access.user = 'alice'", "NTCP_ACCESS__PASSWORD"),
            ("access.password = 'hush'", "add [access] user"),
        ] {
            let error = Config::from_toml(text).unwrap_err().to_string();
            assert!(error.contains(fix) && !error.contains("hush"), "{error}");
        }
    }
}
