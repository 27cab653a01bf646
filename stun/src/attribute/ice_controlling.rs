//! ICE-CONTROLLING (RFC 8445, section 7.1.3).

use super::number::number_attribute;

number_attribute! {
    /// The sender takes the controlling role; the number breaks ties.
    IceControlling(u64), ICE_CONTROLLING
}
