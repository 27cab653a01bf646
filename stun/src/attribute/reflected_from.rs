//! REFLECTED-FROM (RFC 3489, section 11.2.11).

use super::address::address_attribute;

address_attribute! {
    /// Who asked for a classic response that RESPONSE-ADDRESS sent elsewhere.
    ReflectedFrom, REFLECTED_FROM, plain
}
