//! RESPONSE-ADDRESS (RFC 3489, section 11.2.2).

use super::address::address_attribute;

address_attribute! {
    /// Where a classic client wants the response sent. RFC 8489 reserves it: answering there makes a reflector.
    ResponseAddress, RESPONSE_ADDRESS, plain
}
