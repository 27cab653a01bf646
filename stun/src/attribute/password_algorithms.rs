//! PASSWORD-ALGORITHMS (RFC 8489, section 14.11).

use super::password_algorithm::Algorithm;
use super::{Attribute, AttributeError, AttributeType, Problem};
use crate::TransactionId;
use crate::message::padded;

/// The algorithms a server takes, best first.
///
/// Kept as it stands on the wire, because a client must repeat it unchanged (RFC 8489, section 9.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PasswordAlgorithms<'a>(&'a [u8]);

impl PasswordAlgorithms<'static> {
    /// SHA-256, then MD5.
    pub const SHA256_AND_MD5: Self = Self(&[0, 2, 0, 0, 0, 1, 0, 0]);
    /// SHA-256 only.
    pub const SHA256: Self = Self(&[0, 2, 0, 0]);
}

impl<'a> PasswordAlgorithms<'a> {
    /// The known algorithms in the server's order.
    pub fn iter(&self) -> impl Iterator<Item = Algorithm> + use<'a> {
        Entries(self.0).filter_map(|(number, _)| Algorithm::from_number(number))
    }
}

/// Numbers and parameters in a list; ends early if it is malformed, with the rest left over.
struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[a, b, c, d], rest) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([c, d]));
        // The last entry's parameters need no padding of their own.
        let end = padded(length).min(rest.len());
        let parameters = rest.get(..length)?;
        self.0 = &rest[end..];
        Some((u16::from_be_bytes([a, b]), parameters))
    }
}

impl<'a> Attribute<'a> for PasswordAlgorithms<'a> {
    const TYPE: AttributeType = AttributeType::PASSWORD_ALGORITHMS;

    fn decode(value: &'a [u8], _: TransactionId) -> Result<Self, AttributeError> {
        let mut entries = Entries(value);
        entries.by_ref().for_each(drop);
        if !entries.0.is_empty() {
            return Err(Self::TYPE.error(Problem::Length(value.len())));
        }
        Ok(Self(value))
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        value.copy_from_slice(self.0);
    }
}
