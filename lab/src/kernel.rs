//! The same NATs under real kernels: laboratories of network namespaces.
//!
//! ```text
//!        ┌ home a ──────────┐                                    ┌ home b ──────────┐
//!        │ host a ─ nat-a ──┼─ isp-a ─(delay)─┐    ┌─(delay)─ isp-b ─┼── nat-b ─ host b │
//!        └──────────────────┘                 └ core ┘           └──────────────────┘
//!                                               │
//!                                            isp-server ─ server
//! ```
//!
//! A [`Lab`] is built from a [`Topology`] or with [`Lab::builder`]. Each host and router is a network
//! namespace; boxes are netfilter, or the pure NAT of [`crate::nat`] in a user-space router; a line
//! that delays or loses packets is carried by a user-space process, any other by the kernel alone.
//! Programs run inside with [`Lab::command`]. Dropping the lab, or killing its process in any way,
//! takes everything away.
//!
//! It runs as an ordinary user, in a user namespace of its own. As root it uses real privileges, in
//! namespaces of its own all the same. Any number of labs may run side by side.
//!
//! ```no_run
//! use std::time::Duration;
//! use ntcp_lab::kernel::Lab;
//!
//! let lab = Lab::builder()
//!     .delay(Duration::from_millis(10))
//!     .home("a", "linux-masq")
//!     .home("b", "port-restricted@linux-random")
//!     .start()?;
//! let pinged = lab.command("a", "ping").args(["-c1", "server.lab"]).status()?;
//! assert!(pinged.success());
//! # Ok::<(), ntcp_lab::kernel::Error>(())
//! ```
//!
//! # How a test becomes a laboratory
//!
//! Entering a user namespace takes a process with a single thread, which a test is not. So the
//! program starts its own executable again, and a hook that runs before `main` recognises such a
//! process and never lets it reach `main` (`entry`, `sys`). There is no helper program to build,
//! to find, or to be out of date.
//!
//! It is not: a model of a kernel's internals, nor a place for measurements of throughput beyond a
//! few hundred MB/s through a delayed line.

mod access;
mod capture;
mod capture_handle;
mod classify;
mod control;
mod entry;
mod error;
mod lab;
pub mod ladder;
mod layout;
mod netfilter;
mod plan;
mod program;
mod router;
mod space;
mod supervisor;
mod sys;
mod topology;
mod wire;

pub use access::Access;
pub use capture_handle::Capture;
pub use classify::classify;
pub use control::{Frame, SocketKind, Tap, User};
pub use error::{Error, Result};
pub use lab::{Builder, Lab};
pub use layout::{Box, Host, Layout, QUIET_ADDRESS, SERVER_ADDRESSES, SERVER_ADDRESSES_V6};
pub use program::{Child, Command, Stream};
pub use topology::{Carrier, Form, Home, Ipv6, Topology};
