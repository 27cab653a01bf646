//! What a socket can do beyond the standard library.
//!
//! Everything here is Linux' own and stands behind a safe function; elsewhere each says that it is
//! not supported. This is the one room of the programs with unsafe code: each block is one system
//! call, with a `// SAFETY:` comment.
//!
//! | module | what it is | privilege |
//! |---|---|---|
//! | [`batch`] | many datagrams a system call | none |
//! | [`hops`] | how far packets travel, and which ones a socket hears | none |
//! | [`saved_syn`] | the SYN of an accepted connection, as it arrived | none |
//! | [`tcp_info`] | what the kernel knows of a connection | none |
//!
//! It decides nothing: which option is set when, and which packet is sent, is decided elsewhere.
#![warn(unsafe_op_in_unsafe_fn)]

pub mod batch;
pub mod hops;
mod option;
pub mod saved_syn;
pub mod tcp_info;
