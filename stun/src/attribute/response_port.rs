//! RESPONSE-PORT (RFC 5780, section 7.5).

use super::{Attribute, AttributeError, AttributeType, Problem};
use crate::TransactionId;

/// The port of the client's address to which the response shall go, instead of the one the request came from.
///
/// Written with a length of 2, as the RFC has it. A length of 4, with two bytes of zeros behind the port, is read as
/// well, because a client in wide use sends that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResponsePort(pub u16);

impl Attribute<'_> for ResponsePort {
    const TYPE: AttributeType = AttributeType::RESPONSE_PORT;

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        match *value {
            [high, low] | [high, low, _, _] => Ok(Self(u16::from_be_bytes([high, low]))),
            _ => Err(Self::TYPE.error(Problem::Length(value.len()))),
        }
    }

    fn encoded_len(&self) -> usize {
        2
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        value.copy_from_slice(&self.0.to_be_bytes());
    }
}
