//! PADDING (RFC 5780, section 7.6).

use super::{Attribute, AttributeError, AttributeType};
use crate::TransactionId;

/// Bytes without meaning that make a message long enough to be fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Padding {
    /// How many bytes.
    pub length: u16,
}

impl Attribute<'_> for Padding {
    const TYPE: AttributeType = AttributeType::PADDING;

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        // The length came out of 16 bits of an attribute header.
        Ok(Self { length: u16::try_from(value.len()).unwrap_or(u16::MAX) })
    }

    fn encoded_len(&self) -> usize {
        self.length.into()
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        value.fill(0);
    }
}
