//! Why something did not work.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ntcp_proto::IoFailure;
use ntcp_proto::candidate::Transport;
use ntcp_proto::puncher::Report;
use ntcp_proto::signal::client::{ConnectError, RegistrationError};
use ntcp_proto::uri::{PeerName, UriError};

/// Why an operation failed, and for a call everything that was tried.
#[derive(Debug)]
pub struct Error {
    kind: Box<ErrorKind>,
    report: Option<Box<Report>>,
}

/// What went wrong: who is at fault, where, and what to do.
///
/// `doc/troubleshooting.md` has an entry for each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] ntcp_settings::Error),
    /// The URI cannot be read.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// There is no STUN server to ask.
    #[error(
        "no STUN server: write --stun HOST[:PORT], set [stun] servers, or name a broker whose host runs one"
    )]
    NoStunServer,
    /// A local port cannot be had.
    #[error("{}", no_port(transport, *port, *failure))]
    Port {
        /// UDP or TCP.
        transport: &'static str,
        /// The port number; 0 if any would have done.
        port: u16,
        /// Why.
        failure: IoFailure,
    },
    /// The broker does not know us.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// The broker could not bring us and the peer together.
    #[error(transparent)]
    Signalling(#[from] ConnectError),
    /// No direct path to the peer came about.
    #[error("{reason}")]
    NoPath {
        /// Why, in a sentence.
        reason: String,
    },
    /// The time was up.
    #[error(
        "{what} took longer than {limit:?}: the network or the broker is too slow, or raise [node] deadline"
    )]
    Deadline {
        /// What was not finished.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The path stood, but the peer could not be secured on it.
    #[error("the path to {remote} stood, but it could not be secured: {reason}")]
    Secure {
        /// The peer's address.
        remote: SocketAddr,
        /// Why not.
        reason: String,
    },
    /// The peer is not the one whose key was pinned.
    #[error(
        "the peer `{name}` has another key than the one in the URI: {shown}. Either it has a new one, which its owner must be asked for, or it is somebody else"
    )]
    PeerKey {
        /// The peer.
        name: PeerName,
        /// The key that was announced.
        shown: String,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The node has been stopped.
    #[error("the node has been stopped")]
    Stopped,
}

/// Why a port cannot be had, and what to do: whoever named none cannot choose another.
fn no_port(transport: &str, port: u16, failure: IoFailure) -> String {
    match (port, failure) {
        (0, IoFailure::AddressInUse | IoFailure::AddressNotAvailable) => format!(
            "the system has no free {transport} port left ({failure}): all of net.ipv4.ip_local_port_range are in use, \
             or were a minute ago (TIME_WAIT). Widen that range, or wait, or end programs that hold many connections"
        ),
        (0, _) => format!("cannot open a {transport} port: {failure}"),
        (1.., _) => format!(
            "cannot open {transport} port {port}: {failure}. Choose another with [hole_punch] port, or stop the \
             program that uses it"
        ),
    }
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Everything that was tried, if it came to trying.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_deref()
    }

    pub(crate) fn with_report(kind: ErrorKind, report: Box<Report>) -> Self {
        Self { kind: Box::new(kind), report: Some(report) }
    }

    pub(crate) fn port(transport: Transport, port: u16, failure: IoFailure) -> Self {
        let transport = match transport {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        };
        ErrorKind::Port { transport, port, failure }.into()
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| ErrorKind::System { what, source }.into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        let advice = self.report.iter().flat_map(|report| &report.advice);
        for line in advice {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

impl<K: Into<ErrorKind>> From<K> for Error {
    fn from(kind: K) -> Self {
        Self { kind: Box::new(kind.into()), report: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_named_no_port_is_not_told_to_choose_another() {
        let said = |port, failure| Error::port(Transport::Tcp, port, failure).to_string();
        let none_left = said(0, IoFailure::AddressInUse);
        assert!(none_left.contains("no free TCP port left"), "{none_left}");
        assert!(none_left.contains("ip_local_port_range"), "{none_left}");
        for failure in [IoFailure::AddressInUse, IoFailure::NotPermitted] {
            assert!(!said(0, failure).contains("[hole_punch] port"), "{failure}");
            let named = said(5000, failure);
            assert!(named.contains("TCP port 5000"), "{named}");
            assert!(named.contains("[hole_punch] port"), "{named}");
        }
    }
}
