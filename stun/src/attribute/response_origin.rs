//! RESPONSE-ORIGIN (RFC 5780, section 7.3).

use super::address::address_attribute;

address_attribute! {
    /// Where the server sent the response from, as it sees itself; a difference tells of a NAT before the server.
    ResponseOrigin, RESPONSE_ORIGIN, plain
}
