//! USERNAME (RFC 8489, section 14.3).

use super::text::text_attribute;

text_attribute! {
    /// Who signs this message; fewer than 509 bytes.
    Username, USERNAME, write <= 508, read <= 508
}
