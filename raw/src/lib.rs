//! What a socket can do beyond the standard library.
//!
//! Everything here is Linux' own and stands behind a safe function; elsewhere each says that it is
//! not supported. This is the one room of the programs with unsafe code: each block is one system
//! call, with a `// SAFETY:` comment.
//!
//! | module | what it is | privilege |
//! |---|---|---|
//! | [`batch`] | many datagrams a system call | none |
//! | [`filter`] | which SYN a capture is for | none |
//! | [`helper`] | the program that has privileges so that applications need none | its own |
//! | [`hops`] | how far packets travel, and which ones a socket hears | none |
//! | [`inherited`] | sockets that the service manager opened | none |
//! | [`injector`] | whole packets from bytes | `CAP_NET_RAW` |
//! | [`privileged`] | the privileged operations, here or through the helper | |
//! | [`repair`] | sequence numbers of one's choice, connections without a handshake | `CAP_NET_ADMIN` |
//! | [`saved_syn`] | the SYN of an accepted connection, as it arrived | none |
//! | [`sniffer`] | the SYN of a handshake that has just begun | `CAP_NET_RAW` |
//! | [`transparent`] | UDP sockets that send in the name of an address that is not this host's | `CAP_NET_RAW` |
//! | [`tcp_info`] | what the kernel knows of a connection | none |
//! | [`xdp`] | STUN answers from the network driver | `CAP_BPF`, `CAP_NET_ADMIN` |
//!
//! It decides nothing: which option is set when, and which packet is sent, is decided elsewhere.
#![warn(unsafe_op_in_unsafe_fn)]

pub mod batch;
#[cfg(target_os = "linux")]
pub mod filter;
#[cfg(target_os = "linux")]
pub mod helper;
#[cfg(target_os = "linux")]
mod holder;
pub mod hops;
#[cfg(unix)]
pub mod inherited;
#[cfg(target_os = "linux")]
pub mod injector;
mod option;
#[cfg(target_os = "linux")]
pub mod privileged;
#[cfg(target_os = "linux")]
pub mod repair;
pub mod saved_syn;
#[cfg(target_os = "linux")]
pub mod sniffer;
pub mod tcp_info;
pub mod transparent;
#[cfg(target_os = "linux")]
pub mod xdp;

/// Which privileged operations this process can do, and through what; see [`privileged`]. Takes a few
/// milliseconds if a helper has to be started for it.
#[cfg(target_os = "linux")]
pub fn privileges() -> privileged::Privileges {
    privileged::Powers::shared().privileges().clone()
}
