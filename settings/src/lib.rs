//! `p2pNetwork.toml`: one configuration for peers and servers.
//!
//! A [`Config`] is built from layers, each overriding the one before:
//!
//! 1. the defaults, which are [`Config::default`];
//! 2. one file ([`Config::load`], or the first one that [`Config::find`] finds);
//! 3. the environment, `NTCP_SECTION__KEY=value`: two underscores between section and key, lists
//!    separated by commas, an empty value means "not set";
//! 4. flags: the caller sets fields, then calls [`Config::check`].
//!
//! ```
//! let config = ntcp_settings::Config::from_toml(r#"
//!     [node]
//!     name = "alice"
//!     [hole_punch]
//!     broker = "broker.example.org"
//! "#)?;
//! assert_eq!(config.node.name.as_ref().unwrap().as_str(), "alice");
//! assert_eq!(config.hole_punch.broker.as_ref().unwrap().port(), 6060);
//! # Ok::<(), ntcp_settings::Error>(())
//! ```
//!
//! Nothing is guessed and nothing is ignored: an unknown section or key, a value of the wrong
//! shape, an address that cannot be and a combination that cannot work are an [`Error`] that names
//! the place, the key, the value and the fix.
//!
//! What this crate does *not* do: resolve host names, open sockets, start anything.

#![forbid(unsafe_code)]

mod combination;
mod duration;
mod endpoint;
mod error;
pub mod key_file;
mod layer;
mod list;
mod log_format;
mod log_level;
mod node_name;
mod number;
mod public_address;
mod registry_url;
mod secret;
mod section;
mod service_user;
mod strict;
mod stun_words;
mod switch;

pub use endpoint::{Endpoint, EndpointError, Host};
pub use error::Error;
pub use layer::{FILE_NAME, Layers, user_folder};
pub use log_format::{LogFormat, LogFormatError};
pub use log_level::{LogLevel, LogLevelError};
pub use node_name::{NodeName, NodeNameError};
pub use public_address::{PublicAddress, PublicAddressError};
pub use registry_url::{RegistryUrl, RegistryUrlError};
pub use secret::Secret;
pub use section::{
    Access, BROKER_PORT, Config, HolePunch, Log, Metrics, Node, Registry, STUN_PORT, STUNS_PORT,
    Security, Service, Spoof, Stun, TCP_BROKER_PORT, Tcp,
};
pub use service_user::{ServiceUser, ServiceUserError};
pub use strict::sections;
pub use stun_words::{StunAccess, StunAmplification, StunMode, StunModeError};
