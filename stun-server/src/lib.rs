//! A STUN server: RFC 8489, RFC 5780 and RFC 3489, over UDP and TCP, IPv4 and IPv6.
//!
//! What is answered, and how, is decided by [`ntcp_stun::server`], a value without any I/O. This crate gives it
//! sockets and threads, and nothing more: no message is built here.
//!
//! # Life cycle
//!
//! [`Server::bind`] opens every socket or says which one it could not open. [`Server::run`] then serves in the
//! calling thread's name until a [`Stopper`] says stop; [`Server::start`] serves in the background.
//!
//! ```
//! use ntcp_stun_server::{Config, Server};
//!
//! let config = Config::new(["127.0.0.1:0".parse()?]);
//! let server = Server::bind(&config)?.start()?;
//! assert_ne!(server.local_addresses()[0].port(), 0);
//! let served = server.stop()?;
//! assert_eq!(served.messages.successes, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Sockets and threads
//!
//! Each address has a UDP socket and a TCP listener. With an alternate address a family has four addresses, two
//! IPs with two ports each, and a reply that must come from another address leaves through that address's own
//! socket. On an unspecified address (`0.0.0.0`, `[::]`) replies leave from the IP that was asked; there is no
//! alternate then, and CHANGE-REQUEST is refused.
//!
//! Each UDP socket has a thread, which allocates nothing per datagram. All TCP connections share one thread;
//! [`Limits`] names what bounds them.
//!
//! It runs on Unix systems. Elsewhere than on Linux, a reply from an unspecified address leaves from whichever IP the
//! system chooses.
#![forbid(unsafe_code)]

mod config;
mod datagrams;
mod error;
mod grid;
#[cfg(target_os = "linux")]
mod packet_info;
mod server;
mod stop;
mod streams;

pub use config::{Config, Limits};
pub use error::{Error, Transport};
pub use server::{Running, Served, Server};
pub use stop::Stopper;
