//! Direct connections between any two programs, TCP or UDP, through any NAT.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use futures::AsyncWriteExt;
//!
//! let mut connection = ntcp::connect_by_uri("ntcp://bob@broker.example.org").await?;
//! connection.write_all(b"hello").await?;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Node`] registers with a broker and waits for callers, or calls others by name. The broker
//! only introduces the two; what they say travels on a path of their own, which both open at one
//! agreed instant, over TCP and UDP at once. A [`Connection`] is an ordinary byte stream: the
//! kernel's own TCP socket, or a QUIC stream over the punched UDP path. It tells how it came about
//! in its [`Report`], and so does an [`Error`].
//!
//! # Runtimes
//!
//! Every future here runs under async-std, smol, tokio or a bare `block_on`: sockets and timers
//! come from `async-io`, which belongs to no executor. The library's own work runs on one thread of
//! its own. With the feature `tokio` a [`Connection`] has tokio's own traits besides, and gives up its
//! socket as tokio's; with `async-std`, as async-std's (whose traits are those of `futures`).
//!
//! # Map
//!
//! | item | what it is |
//! |---|---|
//! | [`Node`], [`connect_by_uri`] | be found and find others |
//! | [`Connection`], [`Incoming`] | what comes of it |
//! | [`Report`], [`Error`] | how it came about, or why not |
//! | [`discover`](discover()) | what NAT this host is behind, without a node |
//! | [`puncher`] | open a path without a broker, with a signalling of one's own |
//! | [`tcp_traversal`] | open a TCP connection with addresses known by other means |
//! | [`Config`] | `p2pNetwork.toml` |
//!
//! What this crate does *not* do: decide anything about a protocol. Every decision is made by the
//! machines of `ntcp-proto`, and the driver here carries it out.
#![forbid(unsafe_code)]

mod access;
mod connection;
pub mod discover;
mod driver;
mod error;
mod identity;
mod io;
mod node;
mod path;
pub mod puncher;
mod quic;
mod runtime;
mod sealed;
pub mod tcp_traversal;
mod trust;

use std::time::Instant;

pub use connection::Connection;
pub use discover::discover;
pub use error::{Error, ErrorKind};
pub use node::{Builder, Incoming, Node};
pub use ntcp_proto::candidate::Transport;
pub use ntcp_proto::nat::NatReport;
pub use ntcp_proto::puncher::report::{self, Report, Strategy};
pub use ntcp_proto::secrecy::PublicKey;
pub use ntcp_proto::uri::{PeerName, PeerUri, TransportChoice};
pub use ntcp_settings::Config;

/// Connects to the peer of `uri` with a node of its own, configured by the first file that
/// [`Config::find`] finds. The node lives as long as the connection needs it. Starting it and
/// connecting together take no longer than `[node] deadline`, or little more where no broker answers.
///
/// # Errors
///
/// As [`Builder::start`] and [`Node::connect_by_uri`].
pub async fn connect_by_uri(uri: &str) -> Result<Connection, Error> {
    let uri: PeerUri = uri.parse()?;
    let config = Config::find()?;
    let (began, patience) = (Instant::now(), config.node.deadline);
    let node = Node::builder().config(config).broker_of(&uri).start().await?;
    node.connect_within(&uri, patience.saturating_sub(began.elapsed())).await
}
