//! A STUN server: sockets around [`ntcp_stun::server`].
//!
//! A [`Server`] is bound to its addresses, then run until it is told to stop. It answers over UDP and TCP, IPv4 and
//! IPv6; with an alternate address of a family it answers from four addresses of that family, as behaviour discovery
//! needs (RFC 5780). What is answered how is all in [`ntcp_stun::server`]; this crate decides nothing about the
//! protocol. What it does bound are sockets: how many streams, how long one may say nothing, how long its peer may not
//! read.
//!
//! ```no_run
//! use ntcp_stun_server::{Options, Server};
//!
//! let server = Server::bind(&Options::default())?;
//! println!("listening on {:?}", server.addresses());
//! let counters = async_io::block_on(server.run(std::future::pending::<()>()));
//! println!("{counters:?}");
//! # Ok::<(), ntcp_stun_server::BindError>(())
//! ```
//!
//! # Addresses
//!
//! ```text
//!  --listen 192.0.2.1:3478 --alternate 192.0.2.2:3479       --listen [::]:3478
//!
//!               3478     3479                               one socket each for UDP and TCP; a reply leaves
//!  192.0.2.1     ●        ●                                 from the address that its request was sent to
//!  192.0.2.2     ●        ●    one socket each for UDP and TCP
//! ```
//!
//! Datagrams are answered by *shards*: threads, one for each core, that share nothing while they work. Streams are
//! served by the task that runs the server: a future for each listener and one for each stream.
#![forbid(unsafe_code)]

mod bind;
mod connect_back;
#[cfg(feature = "dtls")]
mod dtls;
mod express;
mod live;
mod neighbours;
mod numbers;
mod options;
mod other;
mod outside;
mod partner;
mod policy;
mod probes;
mod run;
mod shard;
mod spoof_check;
mod streams;
mod tls;

pub use bind::{BindError, Sockets};
pub use live::{Reloader, TakenOver};
pub use ntcp_service::bind::{BindError as SocketError, Transport};
pub use ntcp_stun::server::{Allowance, Amplification, BudgetLimits, Counters, Limits, Redirect};
pub use options::{AlternateHost, Options, TlsOptions};
pub use partner::PartnerKey;
pub use policy::{Credentials, Policy, PolicyError};
pub use run::{Meter, Server};
pub use spoof_check::{Forged, sources_beside, spoof_check};
pub use tls::{CertificateFiles, TlsError};
