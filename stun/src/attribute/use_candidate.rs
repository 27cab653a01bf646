//! USE-CANDIDATE (RFC 8445, section 7.1.2).

use super::{Attribute, AttributeError, AttributeType, Problem};
use crate::TransactionId;

/// The controlling side nominates the pair that this check runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UseCandidate;

impl Attribute<'_> for UseCandidate {
    const TYPE: AttributeType = AttributeType::USE_CANDIDATE;

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        if value.is_empty() {
            Ok(Self)
        } else {
            Err(Self::TYPE.error(Problem::Length(value.len())))
        }
    }

    fn encoded_len(&self) -> usize {
        0
    }

    fn encode(&self, _: &mut [u8], _: TransactionId) {}
}
