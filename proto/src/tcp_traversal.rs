//! Opening TCP connections through NATs: one file for each strategy.
//!
//! | strategy | what it does | privileges |
//! |---|---|---|
//! | direct | an ordinary connect to an address of the peer's own host, in the race with the others | none |
//! | [`simultaneous_open`] | both sides connect from their punching ports at the agreed instant, retry without a gap, and listen on the same ports | none |
//!
//! All sockets of a session share one local port with the connection that discovered its mapping.

pub mod simultaneous_open;
