//! USERHASH (RFC 8489, section 14.4).

use super::{Attribute, AttributeError, AttributeType, Problem};
use crate::TransactionId;
use crate::integrity::digest;
use sha2::Sha256;

/// A hash that names the user instead of USERNAME, so that the name does not travel in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Userhash(pub [u8; 32]);

impl Userhash {
    /// SHA-256(username ":" realm).
    pub fn of(username: &str, realm: &str) -> Self {
        Self(digest::<Sha256>(&[username, realm]).into())
    }
}

impl Attribute<'_> for Userhash {
    const TYPE: AttributeType = AttributeType::USERHASH;

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        value.try_into().map(Self).map_err(|_| Self::TYPE.error(Problem::Length(value.len())))
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        value.copy_from_slice(&self.0);
    }
}
