//! ALTERNATE-SERVER (RFC 8489, section 14.15).

use super::address::address_attribute;

address_attribute! {
    /// The server to try instead; comes with the error 300.
    AlternateServer, ALTERNATE_SERVER, plain
}
