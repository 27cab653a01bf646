//! `host:port`: where a server can be reached.

use crate::list;
use serde::de::{Deserializer, Error as _};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use thiserror::Error;

/// A host, by name or by address, and a port. It is not resolved here.
///
/// ```
/// use ntcp_settings::Endpoint;
/// assert_eq!(Endpoint::parse("stun.example.org", 3478)?.to_string(), "stun.example.org:3478");
/// assert_eq!(Endpoint::parse("[2001:db8::1]:99", 3478)?.to_string(), "[2001:db8::1]:99");
/// # Ok::<(), ntcp_settings::EndpointError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    host: Host,
    port: u16,
}

/// The host part of an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An address, usable at once.
    Ip(IpAddr),
    /// A name, still to be resolved: letters, digits, `-`, `_` and dots.
    Name(String),
}

/// Why a text is not `host:port`. Each message ends with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Nothing before the port.
    #[error("the host is missing; write host:port, for example \"broker.example.org:{0}\"")]
    NoHost(u16),
    /// The port is not a number from 1 to 65535.
    #[error("\"{0}\" is not a port; write a number from 1 to 65535 after the colon")]
    BadPort(String),
    /// Digits and dots that are no IPv4 address.
    #[error("\"{0}\" is not an IPv4 address; write four numbers from 0 to 255, or a host name")]
    BadIpv4(String),
    /// Brackets or colons that are no IPv6 address.
    #[error("\"{0}\" is not an IPv6 address; write for example \"[2001:db8::1]:3478\"")]
    BadIpv6(String),
    /// A host name with a character that no host name has.
    #[error(
        "the host name \"{host}\" contains {character:?}; write host:port, without scheme, path or user"
    )]
    BadHostName {
        /// The name as it was written.
        host: String,
        /// Its first character that cannot be.
        character: char,
    },
    /// A host name with an empty or overlong label, or longer than 253 bytes (RFC 1123 section 2.1).
    #[error("\"{0}\" is not a host name; between dots stand 1 to 63 characters, 253 altogether")]
    BadLabel(String),
}

impl Endpoint {
    /// An endpoint at a known address.
    #[must_use]
    pub fn new(host: Host, port: u16) -> Self {
        Self { host, port }
    }

    /// Reads `host`, `host:port`, `IPv6` or `[IPv6]:port`.
    ///
    /// # Errors
    /// Anything that can be neither a name nor an address, and port 0.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, EndpointError> {
        let text = text.trim();
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Ok(Self::new(Host::Ip(ip.into()), default_port));
        }
        let (host, port) = match text.rfind(':') {
            Some(colon) if !text.ends_with(']') => (&text[..colon], Some(&text[colon + 1..])),
            _ => (text, None),
        };
        if host.is_empty() {
            return Err(EndpointError::NoHost(default_port));
        }
        let host = Host::parse(host)?;
        let port = port.map_or(Ok(default_port), remote_port)?;
        Ok(Self::new(host, port))
    }

    /// The host, by name or by address.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, 1 to 65535.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same host on another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self::new(self.host.clone(), port)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::new(Host::Ip(address.ip()), address.port())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.starts_with('[') || text.contains(':') {
            let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            let ip = inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            return match ip {
                Some(ip) => Ok(Self::Ip(ip.into())),
                None if looks_like_ipv6(text) => Err(EndpointError::BadIpv6(text.to_owned())),
                None => Err(bad_character(text, ':')),
            };
        }
        if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            let ip = text.parse::<Ipv4Addr>();
            return ip
                .map(|ip| Self::Ip(ip.into()))
                .map_err(|_| EndpointError::BadIpv4(text.to_owned()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if let Some(character) = text.chars().find(|&c| !allowed(c)) {
            return Err(bad_character(text, character));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let labels_fit = name.split('.').all(|label| (1..=63).contains(&label.len()));
        if !labels_fit || name.len() > 253 {
            return Err(EndpointError::BadLabel(text.to_owned()));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

fn looks_like_ipv6(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit() || b"[]:.%".contains(&byte))
}

fn bad_character(host: &str, character: char) -> EndpointError {
    EndpointError::BadHostName { host: host.to_owned(), character }
}

fn remote_port(text: &str) -> Result<u16, EndpointError> {
    let port = text.parse().ok().filter(|&port| port != 0);
    port.ok_or_else(|| EndpointError::BadPort(text.to_owned()))
}

/// A list of endpoints, for serde.
pub(crate) fn list<'de, D: Deserializer<'de>, const DEFAULT_PORT: u16>(
    deserializer: D,
) -> Result<Vec<Endpoint>, D::Error> {
    let texts = list::texts(deserializer, "a list of \"host:port\"")?;
    texts.iter().map(|text| parse_quoting(text, DEFAULT_PORT)).collect()
}

/// One endpoint that may be absent, for serde.
pub(crate) fn optional<'de, D: Deserializer<'de>, const DEFAULT_PORT: u16>(
    deserializer: D,
) -> Result<Option<Endpoint>, D::Error> {
    let text = list::text(deserializer, "one \"host:port\"")?;
    Endpoint::parse(&text, DEFAULT_PORT).map(Some).map_err(D::Error::custom)
}

/// A local port, 0 for any, for serde.
pub(crate) fn local_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let text = list::text(deserializer, "a number from 0 to 65535")?;
    let complaint = "not a port; write a number from 0 to 65535, where 0 means any free port";
    text.parse().map_err(|_| D::Error::custom(complaint))
}

fn parse_quoting<E: serde::de::Error>(text: &str, default_port: u16) -> Result<Endpoint, E> {
    Endpoint::parse(text, default_port)
        .map_err(|error| E::custom(format!("in \"{text}\": {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_take_the_default_port_unless_they_bring_one() {
        for (text, expected) in [
            ("broker.example.org", "broker.example.org:6060"),
            ("broker.example.org:1", "broker.example.org:1"),
            ("localhost:65535", "localhost:65535"),
            ("192.0.2.7", "192.0.2.7:6060"),
            ("192.0.2.7:80", "192.0.2.7:80"),
            ("2001:db8::7", "[2001:db8::7]:6060"),
            ("[2001:db8::7]", "[2001:db8::7]:6060"),
            ("[2001:db8::7]:80", "[2001:db8::7]:80"),
            ("_stun.example.", "_stun.example.:6060"),
            (" padded ", "padded:6060"),
        ] {
            assert_eq!(Endpoint::parse(text, 6060).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn what_cannot_be_an_endpoint_says_why() {
        use EndpointError::{BadHostName, BadIpv4, BadIpv6, BadLabel, BadPort, NoHost};
        let bad_name = |host: &str, character| BadHostName { host: host.into(), character };
        for (text, expected) in [
            ("", NoHost(6060)),
            (":6060", NoHost(6060)),
            ("host:", BadPort(String::new())),
            ("host:0", BadPort("0".into())),
            ("host:65536", BadPort("65536".into())),
            ("host:stun", BadPort("stun".into())),
            ("300.1.1.1", BadIpv4("300.1.1.1".into())),
            ("1.2.3:4", BadIpv4("1.2.3".into())),
            ("[2001:db8::1", BadIpv6("[2001:db8:".into())),
            ("[::g]:1", bad_name("[::g]", ':')),
            ("stun:host:3478", bad_name("stun:host", ':')),
            ("bob@host:1", bad_name("bob@host", '@')),
            ("http://host", BadPort("//host".into())),
            ("a..b", BadLabel("a..b".into())),
        ] {
            assert_eq!(Endpoint::parse(text, 6060), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_label_has_at_most_63_characters_and_a_name_253() {
        let label = "a".repeat(63);
        assert!(Endpoint::parse(&label, 1).is_ok());
        assert!(Endpoint::parse(&format!("{label}a"), 1).is_err());
        let name = [label.as_str(); 4].join(".");
        assert!(Endpoint::parse(&name[..253], 1).is_ok());
        assert!(Endpoint::parse(&name[..254], 1).is_err());
    }
}
