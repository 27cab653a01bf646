//! STUN as values: messages, transactions, a server and behaviour discovery, none of which performs any I/O.
//!
//! Session Traversal Utilities for NAT (RFC 8489) is the language in which a host asks the outside "what do I
//! look like from there?". This crate speaks it completely and does nothing else: it opens no socket, reads no
//! clock and draws no randomness. Bytes, instants, transaction ids and addresses are arguments; bytes,
//! deadlines and addresses are results. Whoever owns a socket drives it.
//!
//! # Map
//!
//! | module | what it is |
//! |---|---|
//! | [`message`] | [`Message`], a checked view of received bytes, and [`Writer`], which builds one in the caller's buffer |
//! | [`attribute`] | the [`Attribute`] trait and one file for each attribute of RFC 8489, 5780, 3489 and 8445 |
//! | [`integrity`] | [`Key`] for MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256 |
//! | [`nonce_cookie`] | the security features that a server announces in its NONCE |
//! | [`transaction`] | the client's side of a request: when to send it again, what ends it |
//! | [`server`] | [`Server`]: a request in, the reply out, and from which of up to four addresses to send it |
//! | [`behavior`] | the client of RFC 5780: what a NAT does, as one machine for each test |
//! | [`probe`] | discovery of TCP: what a server tries towards its client, and what came of it |
//! | [`partner`] | what two hosts with one address each say to each other to be one server of RFC 5780 |
//! | [`spoof`] | whether a network lets forged sources out, found out with a consenting server |
//! | [`framing`] | where one message ends and the next begins on a byte stream |
//!
//! # Life of a message
//!
//! ```
//! use ntcp_stun::attribute::{Software, XorMappedAddress};
//! use ntcp_stun::{Check, Class, Message, Method, TransactionId, Writer};
//!
//! // A request is written into a buffer of ours ...
//! let mut buffer = [0; 128];
//! let id = TransactionId::new([7; 12]);
//! let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id)?;
//! writer.attribute(&Software::new("ntcp")?)?;
//! writer.fingerprint()?;
//! let length = writer.finish();
//!
//! // ... and read at the other end without copying.
//! let request = Message::parse(&buffer[..length])?;
//! assert_eq!(request.transaction_id(), id);
//! assert_eq!(request.fingerprint(), Check::Valid);
//! assert_eq!(request.attribute::<Software>()?.map(|it| it.as_str()), Some("ntcp"));
//! assert_eq!(request.attribute::<XorMappedAddress>()?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What this crate is not
//!
//! It holds no TURN, no ICE agent and no policy about which server to ask. Strings are not normalised: user
//! names, realms and passwords are taken as the caller has prepared them (RFC 8265).
#![forbid(unsafe_code)]

pub mod attribute;
pub mod behavior;
pub mod framing;
pub mod integrity;
pub mod message;
pub mod nonce_cookie;
pub mod partner;
pub mod probe;
pub mod server;
pub mod spoof;
pub mod transaction;

pub use attribute::{Attribute, AttributeError, AttributeType};
pub use integrity::Key;
pub use message::{
    Check, Class, MAGIC_COOKIE, Message, Method, ParseError, RawAttribute, TransactionId,
    WriteError, Writer,
};
pub use server::Server;
pub use transaction::{Schedule, Transaction};
