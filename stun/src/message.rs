//! The STUN message: a header of 20 bytes and a list of attributes (RFC 8489, section 5).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---+---------------------------+-------------------------------+
//! |0 0|    STUN message type      |  length of what follows       |
//! +---+---------------------------+-------------------------------+
//! |                      magic cookie 0x2112A442                  |
//! +---------------------------------------------------------------+
//! |                                                               |
//! |                    transaction id (96 bits)                   |
//! |                                                               |
//! +---------------------------------------------------------------+
//! ```
//!
//! [`Message`] reads, [`Writer`] writes; both work on the caller's bytes and allocate nothing.

mod header;
mod view;
mod writer;

pub use header::{Class, HEADER_LENGTH, MAGIC_COOKIE, Method, TransactionId};
pub use view::{Attributes, Check, Message, ParseError, RawAttribute};
pub use writer::{WriteError, Writer};

/// Rounds an attribute's length up to the 32-bit boundary on which the next one starts (RFC 8489, section 14).
pub(crate) const fn padded(length: usize) -> usize {
    (length + 3) & !3
}
