//! OTHER-ADDRESS (RFC 5780, section 7.4).

use super::address::address_attribute;

address_attribute! {
    /// The server's other IP address and other port; absent unless it answers from there.
    OtherAddress, OTHER_ADDRESS, plain
}
