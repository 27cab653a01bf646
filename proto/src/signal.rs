//! What peers and brokers say to each other, and the peer's half of it.
//!
//! A peer registers with a broker under a name, keeps the registration fresh, and calls other peers
//! by their names. The broker answers a call at once with an order to punch for the caller and an
//! invitation with the same order for the callee, each with the delay that makes both start at one
//! moment. All messages are STUN messages (RFC 8489) of methods of this protocol's own, so that one
//! socket can carry STUN, signalling, punching and data, over UDP and over TCP.
//!
//! `doc/protocol.md` specifies every message with its bytes; the broker's half is
//! [`rendezvous`](crate::rendezvous).
//!
//! | module | what it is |
//! |---|---|
//! | [`message`] | the messages as values |
//! | [`codec`] | messages to bytes and back |
//! | [`envelope`] | sealed ones |
//! | [`client`] | [`client::Client`], the machine of a peer |

mod attribute;
mod capabilities;
pub mod client;
pub mod codec;
pub mod envelope;
mod errand;
mod error_code;
mod forge;
mod ladder;
pub mod message;
mod method;
mod nat_summary;
mod outcome;
mod punch;
mod secret;

pub use capabilities::{Capabilities, Spoofing};
pub use errand::{Errand, MAX_DATAGRAM_BYTES, Packet};
pub use error_code::ErrorCode;
pub use forge::{Handshake, Syn};
pub(crate) use ladder::{Ladder, Pace};
pub use method::SignalMethod;
pub use nat_summary::{NatSummary, TcpSummary, UdpSummary};
pub use outcome::{Hint, MAX_ENTRIES, StrategyOutcome};
pub use punch::{Punch, Role, Round, TimedPunch};
pub use secret::{Fingerprint, RegistrationId, RegistrationKey, SessionId, SessionSecret};
