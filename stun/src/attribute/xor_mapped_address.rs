//! XOR-MAPPED-ADDRESS (RFC 8489, section 14.2).

use super::address::address_attribute;

address_attribute! {
    /// The address the request came from, obscured from middleboxes that rewrite payloads.
    XorMappedAddress, XOR_MAPPED_ADDRESS, xor
}
