//! UNKNOWN-ATTRIBUTES (RFC 8489, section 14.13).

use super::{Attribute, AttributeError, AttributeType, Problem};
use crate::TransactionId;

/// How many types one [`UnknownAttributes`] holds. A hostile request can carry thousands; a client learns enough
/// from the first few, and the response stays shorter than the request that provoked it.
pub const MAX_UNKNOWN_ATTRIBUTES: usize = 16;

/// The comprehension-required attributes that a server did not understand; comes with the error 420.
///
/// Holds each type once and no more than [`MAX_UNKNOWN_ATTRIBUTES`] of them; further ones are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnknownAttributes {
    types: [AttributeType; MAX_UNKNOWN_ATTRIBUTES],
    length: usize,
}

impl UnknownAttributes {
    /// The types, in their order.
    pub fn as_slice(&self) -> &[AttributeType] {
        &self.types[..self.length]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl FromIterator<AttributeType> for UnknownAttributes {
    fn from_iter<I: IntoIterator<Item = AttributeType>>(types: I) -> Self {
        let none = [AttributeType::new(0); MAX_UNKNOWN_ATTRIBUTES];
        let mut unknown = Self { types: none, length: 0 };
        for attribute_type in types {
            if unknown.length == MAX_UNKNOWN_ATTRIBUTES {
                break;
            }
            if !unknown.as_slice().contains(&attribute_type) {
                unknown.types[unknown.length] = attribute_type;
                unknown.length += 1;
            }
        }
        unknown
    }
}

impl Attribute<'_> for UnknownAttributes {
    const TYPE: AttributeType = AttributeType::UNKNOWN_ATTRIBUTES;

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        let (types, rest) = value.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Self::TYPE.error(Problem::Length(value.len())));
        }
        Ok(types.iter().map(|bytes| AttributeType::new(u16::from_be_bytes(*bytes))).collect())
    }

    fn encoded_len(&self) -> usize {
        2 * self.length
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        for (place, attribute_type) in value.chunks_exact_mut(2).zip(self.as_slice()) {
            place.copy_from_slice(&attribute_type.number().to_be_bytes());
        }
    }
}
