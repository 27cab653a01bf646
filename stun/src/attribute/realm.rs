//! REALM (RFC 8489, section 14.9).

use super::text::text_attribute;

text_attribute! {
    /// The domain of a long-term credential; fewer than 128 characters.
    Realm, REALM, write <= 509, read <= 763
}
