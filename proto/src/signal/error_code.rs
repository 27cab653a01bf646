//! Why a broker or a peer refuses a request.

use std::fmt;

/// The number of ERROR-CODE (RFC 8489 section 14.8) and what it means here.
///
/// 400, 401, 420, 438 and 500 mean what RFC 8489 section 14.8 says. The others are this protocol's
/// own, with the numbers that HTTP (RFC 9110 section 15, RFC 6585) and SIP (RFC 3261 section 21)
/// give to the same thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorCode {
    /// 400: the request lacks an attribute or has a malformed one.
    BadRequest,
    /// 401: no NONCE, or no valid MESSAGE-INTEGRITY-SHA256; the answer has a NONCE.
    Unauthenticated,
    /// 403: not a peer of that meeting, the two peers do not ask for the same connection, or the name
    /// is not for this key.
    Forbidden,
    /// 404: nobody is registered by that name.
    UnknownPeer,
    /// 409: somebody else is registered by that name.
    NameTaken,
    /// 420: the UNKNOWN-ATTRIBUTES were not understood.
    UnknownAttribute,
    /// 426: this broker speaks to nobody in the clear.
    SecrecyRequired,
    /// 429: more requests than allowed; later ones may pass.
    TooManyRequests,
    /// 438: the NONCE is too old or of another address; the answer has a new one.
    StaleNonce,
    /// 470: a handshake with a key that is not this broker's; the answer has the one that is.
    UnknownKey,
    /// 480: the callee did not answer in time.
    NoAnswer,
    /// 481: the broker does not know the registration (it was restarted, or the lease ended); the
    /// answer has a NONCE for a new one.
    UnknownRegistration,
    /// 500: the broker failed for now.
    ServerError,
    /// 501: this broker forges nothing: it is not configured to, or not permitted to.
    DoesNotForge,
    /// 503: a table is full.
    TableFull,
    /// 505: the broker does not speak this VERSION; the answer has the one it speaks.
    UnsupportedVersion,
    /// 603: the callee does not want to be called now.
    Declined,
    /// Any other number.
    Other(u16),
}

impl ErrorCode {
    /// Every code that has a name.
    pub const NAMED: [Self; 17] = [
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::UnknownPeer,
        Self::NameTaken,
        Self::UnknownAttribute,
        Self::SecrecyRequired,
        Self::TooManyRequests,
        Self::StaleNonce,
        Self::UnknownKey,
        Self::NoAnswer,
        Self::UnknownRegistration,
        Self::ServerError,
        Self::DoesNotForge,
        Self::TableFull,
        Self::UnsupportedVersion,
        Self::Declined,
    ];

    /// The code with this number.
    pub fn from_number(number: u16) -> Self {
        let named = Self::NAMED.into_iter().find(|code| code.number() == number);
        named.unwrap_or(Self::Other(number))
    }

    /// Its number, 300 to 699 for every code that can be sent.
    pub fn number(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::UnknownPeer => 404,
            Self::NameTaken => 409,
            Self::UnknownAttribute => 420,
            Self::SecrecyRequired => 426,
            Self::TooManyRequests => 429,
            Self::StaleNonce => 438,
            Self::UnknownKey => 470,
            Self::NoAnswer => 480,
            Self::UnknownRegistration => 481,
            Self::ServerError => 500,
            Self::DoesNotForge => 501,
            Self::TableFull => 503,
            Self::UnsupportedVersion => 505,
            Self::Declined => 603,
            Self::Other(number) => number,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self {
            Self::BadRequest => "bad request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "not allowed",
            Self::UnknownPeer => "unknown peer",
            Self::NameTaken => "name taken",
            Self::UnknownAttribute => "unknown attribute",
            Self::SecrecyRequired => "nothing in the clear",
            Self::TooManyRequests => "too many requests",
            Self::StaleNonce => "stale nonce",
            Self::UnknownKey => "not a key of this broker",
            Self::NoAnswer => "no answer from the callee",
            Self::UnknownRegistration => "unknown registration",
            Self::ServerError => "server error",
            Self::DoesNotForge => "the broker forges nothing",
            Self::TableFull => "table full",
            Self::UnsupportedVersion => "unsupported version",
            Self::Declined => "declined by the callee",
            Self::Other(_) => "error",
        };
        write!(f, "{} {meaning}", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_code_survives_its_number() {
        for code in ErrorCode::NAMED {
            assert_eq!(ErrorCode::from_number(code.number()), code);
            assert!((300..700).contains(&code.number()));
        }
        assert_eq!(ErrorCode::from_number(499), ErrorCode::Other(499));
    }
}
