//! SOURCE-ADDRESS (RFC 3489, section 11.2.5).

use super::address::address_attribute;

address_attribute! {
    /// Where a classic response was sent from.
    SourceAddress, SOURCE_ADDRESS, plain
}
