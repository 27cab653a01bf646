//! PRIORITY (RFC 8445, section 7.1.1).

use super::number::number_attribute;

number_attribute! {
    /// The priority of the peer-reflexive candidate that this check may discover.
    Priority(u32), PRIORITY
}
