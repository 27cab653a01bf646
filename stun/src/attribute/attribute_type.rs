//! [`AttributeType`]: the numbers of the attributes.

use super::{AttributeError, Problem};
use std::fmt;

/// The type of an attribute (RFC 8489, sections 14 and 18.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributeType(u16);

impl AttributeType {
    /// The type with this number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The type's number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Whether a receiver that does not know the attribute must refuse the message: numbers below 0x8000
    /// (RFC 8489, section 14).
    pub const fn is_comprehension_required(self) -> bool {
        self.0 < 0x8000
    }

    /// The error that this attribute's value has `problem`.
    pub const fn error(self, problem: Problem) -> AttributeError {
        AttributeError { attribute: self, problem }
    }
}

/// Declares the known types once: their constants and their names.
macro_rules! attribute_types {
    ($($number:literal $constant:ident $name:literal $section:literal)*) => {
        impl AttributeType {
            $(
                #[doc = concat!($name, " (", $section, ").")]
                pub const $constant: Self = Self($number);
            )*

            /// The name the RFCs give to this type, if it is one of theirs.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some($name),)*
                    Self(_) => None,
                }
            }
        }
    };
}

attribute_types! {
    0x0001 MAPPED_ADDRESS "MAPPED-ADDRESS" "RFC 8489, section 14.1"
    0x0002 RESPONSE_ADDRESS "RESPONSE-ADDRESS" "RFC 3489, section 11.2.2"
    0x0003 CHANGE_REQUEST "CHANGE-REQUEST" "RFC 5780, section 7.2"
    0x0004 SOURCE_ADDRESS "SOURCE-ADDRESS" "RFC 3489, section 11.2.5"
    0x0005 CHANGED_ADDRESS "CHANGED-ADDRESS" "RFC 3489, section 11.2.3"
    0x0006 USERNAME "USERNAME" "RFC 8489, section 14.3"
    0x0008 MESSAGE_INTEGRITY "MESSAGE-INTEGRITY" "RFC 8489, section 14.5"
    0x0009 ERROR_CODE "ERROR-CODE" "RFC 8489, section 14.8"
    0x000A UNKNOWN_ATTRIBUTES "UNKNOWN-ATTRIBUTES" "RFC 8489, section 14.13"
    0x000B REFLECTED_FROM "REFLECTED-FROM" "RFC 3489, section 11.2.11"
    0x0014 REALM "REALM" "RFC 8489, section 14.9"
    0x0015 NONCE "NONCE" "RFC 8489, section 14.10"
    0x001C MESSAGE_INTEGRITY_SHA256 "MESSAGE-INTEGRITY-SHA256" "RFC 8489, section 14.6"
    0x001D PASSWORD_ALGORITHM "PASSWORD-ALGORITHM" "RFC 8489, section 14.12"
    0x001E USERHASH "USERHASH" "RFC 8489, section 14.4"
    0x0020 XOR_MAPPED_ADDRESS "XOR-MAPPED-ADDRESS" "RFC 8489, section 14.2"
    0x0024 PRIORITY "PRIORITY" "RFC 8445, section 16.1"
    0x0025 USE_CANDIDATE "USE-CANDIDATE" "RFC 8445, section 16.1"
    0x0026 PADDING "PADDING" "RFC 5780, section 7.6"
    0x0027 RESPONSE_PORT "RESPONSE-PORT" "RFC 5780, section 7.5"
    0x8002 PASSWORD_ALGORITHMS "PASSWORD-ALGORITHMS" "RFC 8489, section 14.11"
    0x8003 ALTERNATE_DOMAIN "ALTERNATE-DOMAIN" "RFC 8489, section 14.16"
    0x8022 SOFTWARE "SOFTWARE" "RFC 8489, section 14.14"
    0x8023 ALTERNATE_SERVER "ALTERNATE-SERVER" "RFC 8489, section 14.15"
    0x8028 FINGERPRINT "FINGERPRINT" "RFC 8489, section 14.7"
    0x8029 ICE_CONTROLLED "ICE-CONTROLLED" "RFC 8445, section 16.1"
    0x802A ICE_CONTROLLING "ICE-CONTROLLING" "RFC 8445, section 16.1"
    0x802B RESPONSE_ORIGIN "RESPONSE-ORIGIN" "RFC 5780, section 7.3"
    0x802C OTHER_ADDRESS "OTHER-ADDRESS" "RFC 5780, section 7.4"
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#06x}", self.0),
        }
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttributeType({self})")
    }
}
