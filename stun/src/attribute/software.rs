//! SOFTWARE (RFC 8489, section 14.14).

use super::text::text_attribute;

text_attribute! {
    /// What the sender runs; for people, never for decisions.
    Software, SOFTWARE, write <= 509, read <= 763
}
