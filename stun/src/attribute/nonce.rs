//! NONCE (RFC 8489, section 14.10).

use super::{Attribute, AttributeError, AttributeType, Problem};
use crate::TransactionId;

/// The longest nonce that may be written: 127 characters in up to 509 bytes.
const MAX_WRITTEN: usize = 509;
/// The longest nonce that must be read.
const MAX_READ: usize = 763;

/// What the server wants repeated in the next request; opaque to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce<'a>(&'a [u8]);

impl<'a> Nonce<'a> {
    /// These bytes, at most 509.
    ///
    /// # Errors
    ///
    /// [`Problem::Length`] if there are more.
    pub fn new(bytes: &'a [u8]) -> Result<Self, AttributeError> {
        Self::within(MAX_WRITTEN, bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    fn within(maximum: usize, bytes: &'a [u8]) -> Result<Self, AttributeError> {
        if bytes.len() > maximum {
            return Err(Self::TYPE.error(Problem::Length(bytes.len())));
        }
        Ok(Self(bytes))
    }
}

impl<'a> Attribute<'a> for Nonce<'a> {
    const TYPE: AttributeType = AttributeType::NONCE;

    fn decode(value: &'a [u8], _: TransactionId) -> Result<Self, AttributeError> {
        Self::within(MAX_READ, value)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        value.copy_from_slice(self.0);
    }
}
