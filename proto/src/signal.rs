//! What peers and brokers say to each other, and the peer's half of it.
//!
//! A peer registers with a broker under a name, keeps the registration fresh, and calls other peers
//! by their names. The broker answers a call at once with an order to punch for the caller and an
//! invitation with the same order for the callee, each with the delay that makes both start at one
//! moment. All messages are STUN messages (RFC 8489) of methods of this protocol's own, so that one
//! socket can carry STUN, signalling, punching and data, over UDP and over TCP.
//!
//! `doc/protocol.md` specifies every message with its bytes; the broker's half is
//! `rendezvous`.
//!
//! | module | what it is |
//! |---|---|
//! | [`client`] | [`client::Client`], the machine of a peer |

pub mod client;
mod error_code;
mod nat_summary;
mod punch;
mod secret;

pub use error_code::ErrorCode;
pub use nat_summary::{NatSummary, TcpSummary, UdpSummary};
pub use punch::{Punch, Role, Round, TimedPunch};
pub use secret::{Fingerprint, RegistrationId, RegistrationKey, SessionId, SessionSecret};
