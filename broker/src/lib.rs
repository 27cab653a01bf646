//! The connection broker as a server: sockets around [`ntcp_proto::rendezvous`].
//!
//! A [`Broker`] is bound to its addresses, then run until it is told to stop. One task does
//! everything: it reads what has arrived, hands it to the machine, and sends what the machine wants
//! sent before it looks at the next message, since two peers' set-up time stands on this. It decides
//! nothing about the protocol and keeps nothing of it; what it does bound are sockets: how many
//! streams, how much a slow reader may leave unread, how long a stream may say nothing.
//!
//! ```no_run
//! use ntcp_broker::{Broker, Options};
//!
//! let broker = Broker::bind(&Options::default())?;
//! println!("listening on {:?}", broker.udp_addresses());
//! async_io::block_on(broker.run(std::future::pending::<()>()));
//! # Ok::<(), ntcp_broker::BindError>(())
//! ```
#![forbid(unsafe_code)]

mod bind;
mod datagrams;
#[cfg_attr(
    not(feature = "redis"),
    expect(dead_code, unused_imports, reason = "without a database nothing is ordered nor told")
)]
mod directory;
mod forger;
mod numbers;
mod options;
mod page;
mod run;
mod status;
mod streams;

pub use bind::{BindError, Sockets};
pub use directory::{DirectoryAddress, DirectoryError};
pub use ntcp_service::bind::{BindError as SocketError, Transport};
pub use options::Options;
pub use run::{Broker, fill_with_entropy};
pub use status::{Observer, Renewal, Status};
