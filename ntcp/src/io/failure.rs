//! What the system's error numbers mean to the machines.

use std::io;

use ntcp_proto::IoFailure;

/// The machines' word for a system error.
pub(crate) fn classify(error: &io::Error) -> IoFailure {
    let Some(number) = error.raw_os_error() else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => IoFailure::Closed,
            io::ErrorKind::InvalidData => IoFailure::Garbled,
            io::ErrorKind::TimedOut => IoFailure::TimedOut,
            io::ErrorKind::PermissionDenied => IoFailure::NotPermitted,
            _ => IoFailure::Other(0),
        };
    };
    match number {
        libc::ECONNREFUSED => IoFailure::Refused,
        libc::EHOSTUNREACH | libc::EHOSTDOWN => IoFailure::HostUnreachable,
        libc::ENETUNREACH | libc::ENETDOWN | libc::EAFNOSUPPORT => IoFailure::NetworkUnreachable,
        libc::ETIMEDOUT => IoFailure::TimedOut,
        libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED => IoFailure::Reset,
        libc::EADDRINUSE => IoFailure::AddressInUse,
        libc::EADDRNOTAVAIL => IoFailure::AddressNotAvailable,
        libc::EACCES | libc::EPERM => IoFailure::NotPermitted,
        libc::EMSGSIZE => IoFailure::MessageTooLong,
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => IoFailure::OutOfResources,
        other => IoFailure::Other(other),
    }
}
