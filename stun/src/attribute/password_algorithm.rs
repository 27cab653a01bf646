//! PASSWORD-ALGORITHM (RFC 8489, section 14.12).

use super::{Attribute, AttributeError, AttributeType, Problem};
use crate::TransactionId;

/// How a long-term key is made from a password (RFC 8489, section 18.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256 (number 2); the better one, hence the lesser.
    Sha256,
    /// MD5 (number 1).
    Md5,
}

impl Algorithm {
    /// The registered number.
    pub const fn number(self) -> u16 {
        match self {
            Self::Md5 => 1,
            Self::Sha256 => 2,
        }
    }

    /// The algorithm of this number, if it is known.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Md5),
            2 => Some(Self::Sha256),
            _ => None,
        }
    }
}

/// The algorithm that the client chose from the server's list. Neither known one has parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PasswordAlgorithm(pub Algorithm);

impl Attribute<'_> for PasswordAlgorithm {
    const TYPE: AttributeType = AttributeType::PASSWORD_ALGORITHM;

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        let &[a, b, 0, 0] = value else {
            return Err(Self::TYPE.error(Problem::Length(value.len())));
        };
        let number = u16::from_be_bytes([a, b]);
        Algorithm::from_number(number)
            .map(Self)
            .ok_or_else(|| Self::TYPE.error(Problem::Value(number.into())))
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        value[..2].copy_from_slice(&self.0.number().to_be_bytes());
        value[2..].fill(0);
    }
}
