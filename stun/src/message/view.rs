//! [`Message`]: received bytes, checked once, read in place.

use super::header::{HEADER_LENGTH, MAGIC_COOKIE, class_of, method_of};
use super::{Class, Method, TransactionId, padded};
use crate::attribute::{Attribute, AttributeError, AttributeType};
use crate::integrity::{self, Key};
use std::num::NonZeroU32;

/// Length of an attribute's header: type and length (RFC 8489, section 14).
const ATTRIBUTE_HEADER_LENGTH: usize = 4;

/// A well-formed STUN message, borrowed from the bytes it came in.
///
/// Well-formed means: the two top bits are zero, the length is that of the bytes and a multiple of four, the
/// attributes fill it exactly, and FINGERPRINT, if there is one, is the last. The values of the attributes are
/// checked when they are read. Two kinds of attributes are not there for any reader, as RFC 8489, sections 14.5
/// and 14.6 demand: those behind MESSAGE-INTEGRITY other than MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, and those
/// behind MESSAGE-INTEGRITY-SHA256 other than FINGERPRINT.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    trailer: Trailer,
}

/// Where the attributes that end a message start, counted from the first byte of the header.
///
/// Small on purpose: a [`Message`] of 32 bytes moves in registers, which is most of the cost of reading one.
#[derive(Clone, Copy, Default)]
struct Trailer {
    integrity: Option<NonZeroU32>,
    integrity_sha256: Option<NonZeroU32>,
    fingerprint: Option<NonZeroU32>,
}

/// One attribute as it stands in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// Its type.
    pub attribute_type: AttributeType,
    /// Its value without padding.
    pub value: &'a [u8],
}

/// The outcome of comparing a check value in a message with one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The message does not carry this check.
    Absent,
    /// The value is right.
    Valid,
    /// The value is wrong, or of a wrong length.
    Invalid,
}

/// Why some bytes are not a STUN message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Fewer bytes than a header has.
    #[error("{length} bytes are too short for a STUN header of 20")]
    Truncated {
        /// Bytes given.
        length: usize,
    },
    /// One of the two top bits is set: another protocol (RFC 7983).
    #[error("the first byte {first:#04x} is not that of a STUN message")]
    NotStun {
        /// The first byte.
        first: u8,
    },
    /// Bytes 4 to 8 are not the magic cookie: an RFC 3489 message, or none at all.
    #[error("no magic cookie")]
    NoCookie,
    /// The length field is not a multiple of four.
    #[error("the length {length} is not a multiple of 4")]
    Unaligned {
        /// The length field.
        length: usize,
    },
    /// The length field tells of more or of fewer bytes than there are.
    #[error("the header tells of {expected} bytes, there are {actual}")]
    WrongLength {
        /// Length of the whole message by its header.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// An attribute reaches beyond the end of the message.
    #[error("attribute {attribute} overruns the message")]
    Overrun {
        /// The attribute's type.
        attribute: AttributeType,
    },
    /// FINGERPRINT is not the last attribute (RFC 8489, section 14.7).
    #[error("something follows FINGERPRINT")]
    FingerprintNotLast,
}

impl<'a> Message<'a> {
    /// Checks `bytes`, which must hold one whole message with the magic cookie and nothing else.
    ///
    /// # Errors
    ///
    /// A [`ParseError`] for anything else.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let message = Self::parse_classic(bytes)?;
        if message.is_classic() { Err(ParseError::NoCookie) } else { Ok(message) }
    }

    /// Like [`Message::parse`], but takes messages of RFC 3489 as well, which have no cookie but a transaction id
    /// of 16 bytes.
    ///
    /// # Errors
    ///
    /// A [`ParseError`] for anything else.
    pub fn parse_classic(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_LENGTH>() else {
            return Err(ParseError::Truncated { length: bytes.len() });
        };
        if header[0] & 0xC0 != 0 {
            return Err(ParseError::NotStun { first: header[0] });
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if !length.is_multiple_of(4) {
            return Err(ParseError::Unaligned { length });
        }
        if length != body.len() {
            return Err(ParseError::WrongLength {
                expected: HEADER_LENGTH + length,
                actual: bytes.len(),
            });
        }
        Ok(Self { bytes, trailer: Trailer::find(body)? })
    }

    /// The class.
    pub fn class(&self) -> Class {
        class_of(self.message_type())
    }

    /// The method.
    pub fn method(&self) -> Method {
        method_of(self.message_type())
    }

    /// The transaction id; for a classic message the last 12 of its 16 bytes.
    #[inline]
    pub fn transaction_id(&self) -> TransactionId {
        TransactionId::new(self.header_chunk::<12>(8))
    }

    /// Bytes 4 to 8: the magic cookie, or the first four bytes of a classic message's transaction id.
    pub fn cookie(&self) -> [u8; 4] {
        self.header_chunk::<4>(4)
    }

    /// Whether this is a message of RFC 3489, without the magic cookie.
    pub fn is_classic(&self) -> bool {
        self.cookie() != MAGIC_COOKIE
    }

    /// The whole message.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The attributes in their order, without those that must be ignored.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { rest: &self.bytes[HEADER_LENGTH..], past: Past::Nothing }
    }

    /// The value of the first attribute of this type; later ones do not count (RFC 8489, section 14).
    #[inline]
    pub fn raw_attribute(&self, attribute_type: AttributeType) -> Option<&'a [u8]> {
        self.attributes().find(|it| it.attribute_type == attribute_type).map(|it| it.value)
    }

    /// The first attribute of type `A`, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// An [`AttributeError`] if its value is malformed.
    #[inline]
    pub fn attribute<A: Attribute<'a>>(&self) -> Result<Option<A>, AttributeError> {
        self.raw_attribute(A::TYPE).map(|value| A::decode(value, self.transaction_id())).transpose()
    }

    /// The comprehension-required attributes that are not in `known`, in their order, for a 420 response
    /// (RFC 8489, section 6.3.1). An attribute that occurs twice is named twice.
    pub fn unknown_required<'k>(
        &self,
        known: &'k [AttributeType],
    ) -> impl Iterator<Item = AttributeType> + use<'a, 'k> {
        self.attributes()
            .map(|it| it.attribute_type)
            .filter(|it| it.is_comprehension_required() && !known.contains(it))
    }

    /// Checks FINGERPRINT (RFC 8489, section 14.7).
    pub fn fingerprint(&self) -> Check {
        self.check(self.trailer.fingerprint, integrity::fingerprint_matches)
    }

    /// Checks MESSAGE-INTEGRITY, the HMAC-SHA1 (RFC 8489, section 14.5).
    pub fn integrity(&self, key: &Key) -> Check {
        self.check(self.trailer.integrity, |covered, value| key.verifies_sha1(covered, value))
    }

    /// Checks MESSAGE-INTEGRITY-SHA256 (RFC 8489, section 14.6). A truncated value of at least 16 bytes counts.
    pub fn integrity_sha256(&self, key: &Key) -> Check {
        self.check(self.trailer.integrity_sha256, |covered, value| {
            key.verifies_sha256(covered, value)
        })
    }

    /// Compares the check value that starts at `offset` by `matches(covered bytes, value)`.
    fn check(&self, offset: Option<NonZeroU32>, matches: impl Fn(&[u8], &[u8]) -> bool) -> Check {
        let Some(offset) = offset else { return Check::Absent };
        let Some((covered, attribute)) = self.bytes.split_at_checked(offset.get() as usize) else {
            return Check::Invalid;
        };
        match split_attribute(attribute) {
            Ok((RawAttribute { value, .. }, _)) if matches(covered, value) => Check::Valid,
            Ok(_) | Err(_) => Check::Invalid,
        }
    }

    fn message_type(&self) -> u16 {
        u16::from_be_bytes(self.header_chunk::<2>(0))
    }

    /// `N` bytes of the header; `parse` has made sure that they are there.
    fn header_chunk<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut chunk = [0; N];
        chunk.copy_from_slice(&self.bytes[offset..offset + N]);
        chunk
    }
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({} {:?} {}", self.method(), self.class(), self.transaction_id())?;
        for RawAttribute { attribute_type, value } in self.attributes() {
            write!(f, ", {attribute_type}[{}]", value.len())?;
        }
        f.write_str(")")
    }
}

impl Trailer {
    /// Walks all attributes of `body`, ignored ones too.
    fn find(mut body: &[u8]) -> Result<Self, ParseError> {
        let length = body.len();
        let mut trailer = Self::default();
        while !body.is_empty() {
            if trailer.fingerprint.is_some() {
                return Err(ParseError::FingerprintNotLast);
            }
            // At most 20 + 65,532: the body's length came out of 16 bits.
            let offset = NonZeroU32::new((HEADER_LENGTH + length - body.len()) as u32);
            let (attribute, rest) = split_attribute(body)?;
            body = rest;
            trailer.note(attribute.attribute_type, offset);
        }
        Ok(trailer)
    }

    fn note(&mut self, attribute_type: AttributeType, offset: Option<NonZeroU32>) {
        match attribute_type {
            AttributeType::FINGERPRINT => self.fingerprint = offset,
            AttributeType::MESSAGE_INTEGRITY
                if self.integrity.is_none() && self.integrity_sha256.is_none() =>
            {
                self.integrity = offset;
            }
            AttributeType::MESSAGE_INTEGRITY_SHA256 if self.integrity_sha256.is_none() => {
                self.integrity_sha256 = offset;
            }
            _ => {}
        }
    }
}

/// Splits the first attribute, with its padding, off `bytes`.
#[inline]
fn split_attribute(bytes: &[u8]) -> Result<(RawAttribute<'_>, &[u8]), ParseError> {
    let Some((header, rest)) = bytes.split_first_chunk::<ATTRIBUTE_HEADER_LENGTH>() else {
        return Err(ParseError::Overrun { attribute: AttributeType::new(0) });
    };
    let attribute_type = AttributeType::new(u16::from_be_bytes([header[0], header[1]]));
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let Some((value, rest)) = rest.split_at_checked(padded(length)) else {
        return Err(ParseError::Overrun { attribute: attribute_type });
    };
    Ok((RawAttribute { attribute_type, value: &value[..length] }, rest))
}

/// The iterator of [`Message::attributes`].
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
    past: Past,
}

/// Which integrity attribute has been passed; it decides what is still to be seen.
#[derive(Clone, Copy, Debug)]
enum Past {
    Nothing,
    Integrity,
    IntegritySha256,
}

impl Past {
    /// Whether an attribute at this place counts.
    fn admits(self, attribute_type: AttributeType) -> bool {
        match self {
            Self::Nothing => true,
            Self::Integrity => {
                attribute_type == AttributeType::MESSAGE_INTEGRITY_SHA256
                    || attribute_type == AttributeType::FINGERPRINT
            }
            Self::IntegritySha256 => attribute_type == AttributeType::FINGERPRINT,
        }
    }

    fn after(self, attribute_type: AttributeType) -> Self {
        match attribute_type {
            AttributeType::MESSAGE_INTEGRITY => Self::Integrity,
            AttributeType::MESSAGE_INTEGRITY_SHA256 => Self::IntegritySha256,
            _ => self,
        }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = RawAttribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (attribute, rest) = split_attribute(self.rest).ok()?;
            self.rest = rest;
            if self.past.admits(attribute.attribute_type) {
                self.past = self.past.after(attribute.attribute_type);
                return Some(attribute);
            }
        }
    }
}
