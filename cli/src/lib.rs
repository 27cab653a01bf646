//! The `ntcp` command, as a library so that tests can reach its parts.
//!
//! [`arguments`] says what can be written, [`local`] joins a connection to its local end through
//! [`pump`]. What this room does *not* do: anything about NATs, which is the `ntcp` crate's.

#![forbid(unsafe_code)]

pub mod arguments;
pub mod local;
pub mod log;
pub mod pump;
pub mod stream;
