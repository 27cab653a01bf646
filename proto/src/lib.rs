//! Every decision of ntcp, as values that perform no I/O.
//!
//! A peer learns what its NATs do ([`discover`]), registers with a broker and asks it for another
//! peer ([`signal`]), and both then open a direct path to each other ([`puncher`],
//! [`tcp_traversal`]). The broker's half is [`rendezvous`]. Each of these is a [`Machine`]: a shell
//! tells it what happened and what time it is, and carries out the commands it answers with. The
//! shells are the `ntcp` crate (real sockets) and the `lab` crate (a simulated internet in virtual
//! time); both run the very same machines.
//!
//! # The contract
//!
//! 1. **After each `handle_*`, drain `poll_command` and `poll_event` until both are empty.**
//! 2. **Time never goes backwards.**
//! 3. **Every command is answered by exactly one [`Answer`] with its id, success or failure.**
//! 4. Inputs may be late, duplicated or unknown: they are ignored, at `trace`.
//! 5. Equal seed and equal inputs give equal outputs, byte for byte.
//! 6. A finished machine has no deadline and no commands.
//!
//! This crate opens nothing, reads no clock, draws no entropy and spawns nothing; `clippy.toml`
//! beside it and the dependency law in CI hold it to that.
#![forbid(unsafe_code)]

pub mod access;
pub mod address;
pub mod candidate;
pub mod command;
pub mod datagram;
pub mod discover;
pub mod entropy;
pub mod machine;
pub mod nat;
pub mod node;
pub mod puncher;
pub mod rendezvous;
pub mod secrecy;
pub mod segment;
pub mod signal;
pub mod tcp_traversal;
pub mod uri;

pub use command::{Answer, Command, CommandId, Hops, Input, IoFailure, Owner, SocketId};
pub use machine::{Deadline, Machine};
