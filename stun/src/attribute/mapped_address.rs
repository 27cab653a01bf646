//! MAPPED-ADDRESS (RFC 8489, section 14.1).

use super::address::address_attribute;

address_attribute! {
    /// The address the request came from, in the clear; what servers answer to RFC 3489 clients.
    MappedAddress, MAPPED_ADDRESS, plain
}
