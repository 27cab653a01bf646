//! CHANGED-ADDRESS (RFC 3489, section 11.2.3).

use super::address::address_attribute;

address_attribute! {
    /// Where a classic response would have come from with both flags of CHANGE-REQUEST set.
    ChangedAddress, CHANGED_ADDRESS, plain
}
