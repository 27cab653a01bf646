//! ALTERNATE-DOMAIN (RFC 8489, section 14.16).

use super::text::text_attribute;

text_attribute! {
    /// The name against which the certificate of an ALTERNATE-SERVER is verified.
    AlternateDomain, ALTERNATE_DOMAIN, write <= 255, read <= 255
}
