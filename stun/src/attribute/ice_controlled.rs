//! ICE-CONTROLLED (RFC 8445, section 7.1.3).

use super::number::number_attribute;

number_attribute! {
    /// The sender takes the controlled role; the number breaks ties.
    IceControlled(u64), ICE_CONTROLLED
}
