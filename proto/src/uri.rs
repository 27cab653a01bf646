//! `ntcp://name[@broker[:port]][?transport=tcp|udp|any][&key=KEY]`: whom to connect to, and how.

use std::fmt;
use std::str::FromStr;

use crate::secrecy::PublicKey;

/// Which transports an attempt may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TransportChoice {
    /// Only TCP.
    Tcp,
    /// Only UDP.
    Udp,
    /// Both race.
    #[default]
    Any,
}

impl TransportChoice {
    /// TCP may be used.
    pub fn allows_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Any)
    }

    /// UDP may be used.
    pub fn allows_udp(self) -> bool {
        matches!(self, Self::Udp | Self::Any)
    }
}

impl fmt::Display for TransportChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Any => "any",
        })
    }
}

impl FromStr for TransportChoice {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "any" => Ok(Self::Any),
            other => Err(UriError::Transport { value: other.into() }),
        }
    }
}

/// Longest peer name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;

/// A peer's name: 1 to 255 bytes of letters, digits, `-`, `_`, `.` and `~` (RFC 3986 unreserved),
/// compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(String);

impl PeerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PeerName {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let unreserved = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
        let fits = !text.is_empty() && text.len() <= MAX_NAME_BYTES;
        if fits && text.chars().all(unreserved) {
            Ok(Self(text.into()))
        } else {
            Err(UriError::Name { value: text.into() })
        }
    }
}

/// Host and port of a server; the port may be left to the default of its protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Host name or literal address, without brackets.
    pub host: String,
    /// Port, if given.
    pub port: Option<u16>,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

impl FromStr for HostPort {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let wrong = || UriError::Broker { value: text.into() };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                match after.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if after.is_empty() => (host, None),
                    None => return Err(wrong()),
                }
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let host_ok = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if host.is_empty() || !host.chars().all(host_ok) {
            return Err(wrong());
        }
        let parse =
            |port: &str| port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
        let port = port.map(parse).transpose()?;
        Ok(Self { host: host.into(), port })
    }
}

/// Whom to connect to, and how.
///
/// ```
/// use ntcp_proto::uri::{PeerUri, TransportChoice};
///
/// let uri: PeerUri = "ntcp://bob@broker.example.org:6060?transport=tcp".parse()?;
/// assert_eq!(uri.name.as_str(), "bob");
/// assert_eq!(uri.transport, Some(TransportChoice::Tcp));
/// # Ok::<(), ntcp_proto::uri::UriError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerUri {
    /// The peer's name.
    pub name: PeerName,
    /// The broker to ask; `None` asks the one the node is configured with.
    pub broker: Option<HostPort>,
    /// Which transports to use; `None` leaves it to the node.
    pub transport: Option<TransportChoice>,
    /// The only key that the peer may have; `None` believes the broker.
    pub key: Option<PublicKey>,
}

impl FromStr for PeerUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let rest =
            text.strip_prefix("ntcp://").ok_or_else(|| UriError::Scheme { uri: text.into() })?;
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query)),
            None => (rest, None),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (name, broker) = match authority.split_once('@') {
            Some((name, broker)) => (name, Some(broker.parse()?)),
            None => (authority, None),
        };
        let mut uri = Self { name: name.parse()?, broker, transport: None, key: None };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("transport", value)) => uri.transport = Some(value.parse()?),
                Some(("key", value)) => {
                    let key = value.parse().map_err(|_| UriError::Key { value: value.into() })?;
                    uri.key = Some(key);
                }
                _ => return Err(UriError::Parameter { value: pair.into() }),
            }
        }
        Ok(uri)
    }
}

impl fmt::Display for PeerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ntcp://{}", self.name)?;
        if let Some(broker) = &self.broker {
            write!(f, "@{broker}")?;
        }
        let transport = self.transport.map(|it| format!("transport={it}"));
        let key = self.key.map(|it| format!("key={it}"));
        let parameters: Vec<String> = transport.into_iter().chain(key).collect();
        match parameters.is_empty() {
            true => Ok(()),
            false => write!(f, "?{}", parameters.join("&")),
        }
    }
}

/// Why a URI or a part of one was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// Another scheme, or none.
    #[error("`{uri}` is not an ntcp URI: write ntcp://NAME or ntcp://NAME@BROKER[:PORT]")]
    Scheme {
        /// The whole text.
        uri: String,
    },
    /// A name that cannot be registered.
    #[error("`{value}` is not a peer name: 1 to 255 letters, digits, `-`, `_`, `.` or `~`")]
    Name {
        /// What stood there.
        value: String,
    },
    /// Not a host and port.
    #[error(
        "`{value}` is not a broker: write HOST, HOST:PORT or [IPV6]:PORT, with a port from 1 to 65535"
    )]
    Broker {
        /// What stood there.
        value: String,
    },
    /// Not a transport.
    #[error("`{value}` is not a transport: write tcp, udp or any")]
    Transport {
        /// What stood there.
        value: String,
    },
    /// Not a key.
    #[error("`{value}` is not a key: write the 64 hexadecimal digits that the peer shows")]
    Key {
        /// What stood there.
        value: String,
    },
    /// A parameter nobody knows.
    #[error(
        "`{value}` is not a parameter of an ntcp URI: only transport=tcp|udp|any and key=KEY are known"
    )]
    Parameter {
        /// What stood there.
        value: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_uri_is_read_and_written_back() {
        let texts = [
            "ntcp://bob",
            "ntcp://bob@broker.example.org",
            "ntcp://bob@203.0.113.1:6060?transport=udp",
            "ntcp://a.b-c_d~1@[2001:db8::1]:7000?transport=any",
            "ntcp://bob?key=31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62",
            "ntcp://bob@x?transport=tcp&key=31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62",
        ];
        for text in texts {
            assert_eq!(text.parse::<PeerUri>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_wrong_uri_is_refused_with_its_culprit() {
        let cases = [
            ("http://bob", "http://bob"),
            ("ntcp://", "``"),
            ("ntcp://bo b@x", "bo b"),
            ("ntcp://bob@", "``"),
            ("ntcp://bob@x:0", "x:0"),
            ("ntcp://bob@x:99999", "x:99999"),
            ("ntcp://bob@[::1", "[::1"),
            ("ntcp://bob?transport=sctp", "sctp"),
            ("ntcp://bob?speed=fast", "speed=fast"),
            ("ntcp://bob?key=31e0", "31e0"),
        ];
        for (text, culprit) in cases {
            let error = text.parse::<PeerUri>().unwrap_err().to_string();
            assert!(error.contains(culprit), "{text}: {error}");
        }
    }
}
