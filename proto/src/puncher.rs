//! Opening a direct path to one peer.
//!
//! A [`Session`] begins when the broker has told both sides of each other ([`Introduction`]): who
//! the peer is, where it may be reached, a secret that only the two share, and when to start. From
//! that instant both sides send authenticated checks ([`check`]) from their UDP sockets to each
//! of the other's candidates, and connect TCP sockets to them as
//! [`tcp_traversal`](crate::tcp_traversal) plans. The caller picks one winner; both sides then hand
//! the winning path out with a [`Report`] of everything that was tried.
//!
//! ```text
//!  caller                broker               callee
//!    | Connect  ----------->| Invite  ----------->|
//!    |<---------- Punch ----|                     |
//!    |======== start ===================== start =|
//!    |-- check / SYN ------------------ X         |   the callee's NAT may drop the first ones ...
//!    |<------------------------- check / SYN -----|   ... while each opens its own NAT
//!    |-- response / SYN+ACK --------------------->|
//!    |<----------------- response / SYN+ACK ------|   the path is verified both ways
//!    |-- nomination ----------------------------->|   the caller has chosen
//! ```
//!
//! The [`Gatherer`](gather::Gatherer) keeps the sockets that sessions punch from, and learns what
//! the outside calls them.
//!
//! What is *not* here: talking to the broker ([`signal`](crate::signal)), and what the application
//! says over the path.

pub mod check;
mod checklist;
pub mod gather;
mod lone;
mod offer;
pub mod report;
pub mod session;
mod streams;

pub use lone::{Agreement, Event, Puncher};
pub use offer::{Offer, OfferError};
pub use report::Report;
pub use session::{Introduction, Session};
