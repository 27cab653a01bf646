//! The privilege helper: one small program that has the capabilities, so that applications need none.
//!
//! ```text
//!  application ──starts──▶ ntcp-helper          with one end of a socket pair as standard input
//!      │──hello──────────────▶│                 what are you capable of?
//!      │◀──abilities──────────│
//!      │──request + socket───▶│                 checks, carries out
//!      │◀──outcome (+ relay)──│
//!      ╳ end of the socket ──▶│ exits
//! ```
//!
//! The application passes the TCP socket that a request is for (`SCM_RIGHTS`), and with it proves that
//! it holds the local end. The helper does these things and nothing else:
//!
//! - pins the sequence number of that socket, or makes it an assumed connection;
//! - relays the SYNs that leave from its local end for one remote end;
//! - sends segments that have that local end as source or destination, and that carry no data, at
//!   most [`Allowance::BURST`] at once and [`Allowance::PER_SECOND`] after that.
//!
//! It leaves nothing behind: what it holds are sockets, which end with it, and it ends with the
//! application.

mod allowance;
mod client;
mod confine;
mod message;
mod passing;
mod server;

pub use allowance::Allowance;
pub use client::Helper;
pub use server::{Refusal, run};
