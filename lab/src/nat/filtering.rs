//! Whose packets come in: a box of its own, built with the same trick as mapping.
//!
//! A remote end is admitted when some flow of the mapping went to a remote end which looks the same
//! once everything the filter ignores is blanked out.

use std::net::{IpAddr, SocketAddr};

use super::behaviour::Filtering;

/// A remote end as the filter sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permit {
    ip: Option<IpAddr>,
    port: Option<u16>,
}

impl Permit {
    /// `remote` without what `filtering` ignores.
    pub fn of(filtering: Filtering, remote: SocketAddr) -> Self {
        match filtering {
            Filtering::EndpointIndependent => Self { ip: None, port: None },
            Filtering::AddressDependent => Self { ip: Some(remote.ip()), port: None },
            Filtering::AddressAndPortDependent => {
                Self { ip: Some(remote.ip()), port: Some(remote.port()) }
            }
        }
    }

    /// Whether everybody has it, without any flow.
    pub fn is_universal(&self) -> bool {
        self.ip.is_none()
    }
}
