//! ERROR-CODE (RFC 8489, section 14.8).

use super::{Attribute, AttributeError, AttributeType, Problem};
use crate::TransactionId;

/// The longest reason phrase that may be written: 127 characters in up to 509 bytes.
const MAX_WRITTEN: usize = 509;
/// The longest reason phrase that must be read.
const MAX_READ: usize = 763;

/// Why a request was refused.
///
/// ```text
///  0                   1                   2                   3
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
/// +-----------------------------------------+-----+---------------+
/// |                    0                    |class| number 0 - 99 |
/// +-----------------------------------------+-----+---------------+
/// |                   reason, UTF-8, for people ...               |
/// +---------------------------------------------------------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode<'a> {
    code: u16,
    reason: &'a str,
}

impl<'a> ErrorCode<'a> {
    /// Try the ALTERNATE-SERVER.
    pub const TRY_ALTERNATE: ErrorCode<'static> = ErrorCode { code: 300, reason: "Try Alternate" };
    /// The request is malformed.
    pub const BAD_REQUEST: ErrorCode<'static> = ErrorCode { code: 400, reason: "Bad Request" };
    /// The request lacks valid credentials.
    pub const UNAUTHENTICATED: ErrorCode<'static> =
        ErrorCode { code: 401, reason: "Unauthenticated" };
    /// The UNKNOWN-ATTRIBUTES were not understood.
    pub const UNKNOWN_ATTRIBUTE: ErrorCode<'static> =
        ErrorCode { code: 420, reason: "Unknown Attribute" };
    /// The NONCE is no longer valid; the response has a new one.
    pub const STALE_NONCE: ErrorCode<'static> = ErrorCode { code: 438, reason: "Stale Nonce" };
    /// Both sides of an ICE check claim the same role (RFC 8445, section 16.2).
    pub const ROLE_CONFLICT: ErrorCode<'static> = ErrorCode { code: 487, reason: "Role Conflict" };
    /// The server failed for now.
    pub const SERVER_ERROR: ErrorCode<'static> = ErrorCode { code: 500, reason: "Server Error" };

    /// The error `code`, 300 to 699, with a reason of at most 509 bytes.
    ///
    /// # Errors
    ///
    /// [`Problem::Value`] for another code, [`Problem::Length`] for a longer reason.
    pub fn new(code: u16, reason: &'a str) -> Result<Self, AttributeError> {
        if !(300..=699).contains(&code) {
            return Err(Self::TYPE.error(Problem::Value(code.into())));
        }
        if reason.len() > MAX_WRITTEN {
            return Err(Self::TYPE.error(Problem::Length(reason.len() + 4)));
        }
        Ok(Self { code, reason })
    }

    /// The same error without words, which makes a short response.
    pub const fn without_reason(self) -> ErrorCode<'static> {
        ErrorCode { code: self.code, reason: "" }
    }

    /// The code, 300 to 699.
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// What the sender says to people about it.
    pub const fn reason(&self) -> &'a str {
        self.reason
    }
}

impl<'a> Attribute<'a> for ErrorCode<'a> {
    const TYPE: AttributeType = AttributeType::ERROR_CODE;

    fn decode(value: &'a [u8], _: TransactionId) -> Result<Self, AttributeError> {
        let Some((&[_, _, class, number], reason)) = value.split_first_chunk() else {
            return Err(Self::TYPE.error(Problem::Length(value.len())));
        };
        if reason.len() > MAX_READ {
            return Err(Self::TYPE.error(Problem::Length(value.len())));
        }
        let code = u16::from(class & 7) * 100 + u16::from(number);
        if !(3..=6).contains(&(class & 7)) || number > 99 {
            return Err(Self::TYPE.error(Problem::Value(code.into())));
        }
        let reason = std::str::from_utf8(reason).map_err(|_| Self::TYPE.error(Problem::Utf8))?;
        Ok(Self { code, reason })
    }

    fn encoded_len(&self) -> usize {
        4 + self.reason.len()
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        // Both fit into a byte: the code is below 700.
        value[..4].copy_from_slice(&[0, 0, (self.code / 100) as u8, (self.code % 100) as u8]);
        value[4..].copy_from_slice(self.reason.as_bytes());
    }
}
