//! Attributes: one file for each, and the trait by which others define their own.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+-------------------------------+
//! |             type              |  length of value, no padding  |
//! +-------------------------------+-------------------------------+
//! |                 value, padded to 32 bits ...                  |
//! +---------------------------------------------------------------+
//! ```
//!
//! (RFC 8489, section 14.) MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT are values for nobody but
//! the check itself, so they are methods of [`Message`](crate::Message) and [`Writer`](crate::Writer) instead.
//!
//! # Attributes of one's own
//!
//! ```
//! use ntcp_stun::attribute::{Attribute, AttributeError, AttributeType, Problem};
//! use ntcp_stun::TransactionId;
//!
//! /// How long the sender wants to be remembered, in seconds.
//! struct Lease(u32);
//!
//! impl Attribute<'_> for Lease {
//!     const TYPE: AttributeType = AttributeType::new(0x4000);
//!
//!     fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
//!         let bytes = value.try_into().map_err(|_| Self::TYPE.error(Problem::Length(value.len())))?;
//!         Ok(Self(u32::from_be_bytes(bytes)))
//!     }
//!
//!     fn encoded_len(&self) -> usize {
//!         4
//!     }
//!
//!     fn encode(&self, value: &mut [u8], _: TransactionId) {
//!         value.copy_from_slice(&self.0.to_be_bytes());
//!     }
//! }
//! ```

pub mod address;
mod attribute_type;
mod number;
mod text;

mod alternate_domain;
mod alternate_server;
mod change_request;
mod changed_address;
mod error_code;
mod ice_controlled;
mod ice_controlling;
mod mapped_address;
mod nonce;
mod other_address;
mod padding;
mod password_algorithm;
mod password_algorithms;
mod priority;
mod realm;
mod reflected_from;
mod response_address;
mod response_origin;
mod response_port;
mod software;
mod source_address;
mod unknown_attributes;
mod use_candidate;
mod userhash;
mod username;
mod xor_mapped_address;

pub use alternate_domain::AlternateDomain;
pub use alternate_server::AlternateServer;
pub use attribute_type::AttributeType;
pub use change_request::ChangeRequest;
pub use changed_address::ChangedAddress;
pub use error_code::ErrorCode;
pub use ice_controlled::IceControlled;
pub use ice_controlling::IceControlling;
pub use mapped_address::MappedAddress;
pub use nonce::Nonce;
pub use other_address::OtherAddress;
pub use padding::Padding;
pub use password_algorithm::{Algorithm, PasswordAlgorithm};
pub use password_algorithms::PasswordAlgorithms;
pub use priority::Priority;
pub use realm::Realm;
pub use reflected_from::ReflectedFrom;
pub use response_address::ResponseAddress;
pub use response_origin::ResponseOrigin;
pub use response_port::ResponsePort;
pub use software::Software;
pub use source_address::SourceAddress;
pub use unknown_attributes::{MAX_UNKNOWN_ATTRIBUTES, UnknownAttributes};
pub use use_candidate::UseCandidate;
pub use userhash::Userhash;
pub use username::Username;
pub use xor_mapped_address::XorMappedAddress;

use crate::TransactionId;

/// A typed attribute: how its value is read from a message and written into one.
pub trait Attribute<'a>: Sized {
    /// Its number.
    const TYPE: AttributeType;

    /// Reads the value, given without padding.
    ///
    /// # Errors
    ///
    /// An [`AttributeError`] if `value` is malformed; decoding never panics.
    fn decode(value: &'a [u8], transaction_id: TransactionId) -> Result<Self, AttributeError>;

    /// Length of the value in bytes, without padding.
    fn encoded_len(&self) -> usize;

    /// Writes the value; `value` has [`Attribute::encoded_len`] bytes, all of which must be set.
    fn encode(&self, value: &mut [u8], transaction_id: TransactionId);
}

/// A value that the attribute may not have, in a message or in one's own hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{attribute}: {problem}")]
pub struct AttributeError {
    /// The attribute.
    pub attribute: AttributeType,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with an attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A value cannot have this length in bytes.
    #[error("a length of {0} bytes is not possible")]
    Length(usize),
    /// The address family is neither IPv4 (1) nor IPv6 (2).
    #[error("address family {0} is unknown")]
    Family(u8),
    /// Text that is not UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// A number out of its range.
    #[error("the value {0} is out of range")]
    Value(u32),
}
