//! Why a closed broker lets somebody not in.

use std::time::Duration;

/// Length of the attribute REFUSAL.
pub(crate) const ENCODED_LENGTH: usize = 8;

/// Why a closed broker does not let somebody in. An account that does not exist and a wrong password are the same here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessDenied {
    /// 1: nothing was shown.
    #[error("it wants a token or an account, and was shown none")]
    Needed,
    /// 2: no such account, or a wrong password.
    #[error("it does not know this account with this password")]
    Wrong,
    /// 3: the token names a key that this broker does not have.
    #[error(
        "it does not have the key that the token was made with: it may have been taken out of use"
    )]
    UnknownKey,
    /// 4: the token was not made with the key it names, or was changed.
    #[error("the token was not made with the key that it names, or was changed")]
    Forged,
    /// 5: the token is over.
    #[error("the token expired {} s ago by the broker's clock", ago.as_secs())]
    Expired {
        /// For how long, by the broker's clock; whole seconds.
        ago: Duration,
    },
    /// 6: it is not good for this name.
    #[error("the token or account is not good for this name")]
    NameNotCovered,
    /// 7: they were shown to the owner of another key, who stands in between.
    #[error("they were shown to somebody with another key than this broker's")]
    OtherBroker,
}

impl AccessDenied {
    /// The value of REFUSAL: the number of the reason, three bytes of 0, and seconds.
    pub(crate) fn to_bytes(self) -> [u8; ENCODED_LENGTH] {
        let (number, seconds) = match self {
            Self::Needed => (1, 0),
            Self::Wrong => (2, 0),
            Self::UnknownKey => (3, 0),
            Self::Forged => (4, 0),
            Self::Expired { ago } => (5, u32::try_from(ago.as_secs()).unwrap_or(u32::MAX)),
            Self::NameNotCovered => (6, 0),
            Self::OtherBroker => (7, 0),
        };
        let [a, b, c, d] = seconds.to_be_bytes();
        [number, 0, 0, 0, a, b, c, d]
    }

    /// The reverse; `None` for a reason that a later version may have.
    pub(crate) fn from_bytes([number, _, _, _, a, b, c, d]: [u8; ENCODED_LENGTH]) -> Option<Self> {
        Some(match number {
            1 => Self::Needed,
            2 => Self::Wrong,
            3 => Self::UnknownKey,
            4 => Self::Forged,
            5 => {
                Self::Expired { ago: Duration::from_secs(u32::from_be_bytes([a, b, c, d]).into()) }
            }
            6 => Self::NameNotCovered,
            7 => Self::OtherBroker,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_its_bytes() {
        let expired = AccessDenied::Expired { ago: Duration::from_secs(3600) };
        for reason in [
            AccessDenied::Needed,
            AccessDenied::Wrong,
            AccessDenied::UnknownKey,
            AccessDenied::Forged,
            expired,
            AccessDenied::NameNotCovered,
            AccessDenied::OtherBroker,
        ] {
            assert_eq!(AccessDenied::from_bytes(reason.to_bytes()), Some(reason));
        }
        assert_eq!(AccessDenied::from_bytes([8, 0, 0, 0, 0, 0, 0, 0]), None);
        assert!(expired.to_string().contains("3600 s ago"));
    }
}
