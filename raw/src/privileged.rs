//! The operations that take privileges, whoever has them.
//!
//! ```text
//!                       ┌── Own ──▶ the system             this process has the capability
//!  Powers ─ Privileged ─┤
//!                       └── Helper ──▶ ntcp-helper ──▶ the system      the helper has it
//! ```
//!
//! [`Powers::acquire`] finds out what this process may do itself, by trying, and asks the helper for
//! the rest. Each operation says for which TCP socket it is: what is captured and injected has that
//! socket's local end as one of its two. `doc/privileges.md` tells what each capability adds and how to
//! grant it.

mod access;
mod own;
mod powers;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use ntcp_proto::command::Agreed;
use ntcp_proto::segment::Segment;

pub use crate::repair::Departure;
use crate::sniffer::Sniffer;
pub use access::{Abilities, Access, Lack, Privileges};
pub use own::Own;
pub use powers::{HELPER_VARIABLE, Powers};

/// What takes privileges. Without the one that it takes, each operation fails with
/// [`io::ErrorKind::PermissionDenied`].
///
/// None of them waits for the network. Through the helper each takes one exchange with another
/// process of this host.
pub trait Privileged: fmt::Debug + Send + Sync {
    /// Has the SYN of a later `connect` carry this sequence number, which is not 0.
    ///
    /// # Errors
    ///
    /// As [`crate::repair::pin_sequence`].
    fn pin_sequence(&self, socket: BorrowedFd<'_>, sequence: u32) -> io::Result<()>;

    /// Makes a bound socket an established connection to `remote` without a handshake.
    ///
    /// # Errors
    ///
    /// As [`crate::repair::assume`].
    fn assume(
        &self,
        socket: BorrowedFd<'_>,
        remote: SocketAddr,
        agreed: &Agreed,
        departure: Departure,
    ) -> io::Result<()>;

    /// Watches for SYNs from the local end of `holder`, a bound TCP socket, to `remote`, whose port may
    /// be 0 for any. The capture is open when this returns.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::PermissionDenied`] also if `holder` is no such socket.
    fn capture(&self, holder: BorrowedFd<'_>, remote: SocketAddr) -> io::Result<Box<dyn Sniffer>>;

    /// Sends one segment that has the local end of `holder`, a bound TCP socket, as source or as
    /// destination.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::PermissionDenied`] also if it has not; [`io::ErrorKind::WouldBlock`] when
    /// too many are sent at once.
    fn inject(&self, holder: BorrowedFd<'_>, segment: &Segment, ttl: u8) -> io::Result<()>;
}
