//! The broker's limits, and what happens at each.

use std::collections::BTreeMap;
use std::time::Duration;

use super::access::Access;
use super::cluster::BrokerId;
use super::forging::{ForgeLimits, Forging};
use crate::secrecy::{PublicKey, SecretKey};
use crate::uri::PeerName;

/// Whether peers may register in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InTheClear {
    /// They are refused with 426.
    Refused,
    /// They may, and whoever reads along can act as them.
    Allowed,
}

/// Which names are for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// These are for the owners of these keys, for good. Default none.
    pub reserved: BTreeMap<PeerName, Vec<PublicKey>>,
    /// Whether nobody else may register: a Register with another key is refused with 403. Default
    /// `false`: any name that is not reserved is for whoever registers it first.
    pub only_reserved: bool,
}

/// Every limit of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Peers registered at once. A further Register is refused with 503. Default 65536.
    pub max_registrations: usize,
    /// Peers registered at once from one IPv4 address or one IPv6 /64. A further Register is
    /// refused with 429. Default 256: homes and offices behind one NAT, and smaller carriers'.
    pub max_registrations_per_address: usize,
    /// Calls of one peer that wait for their callee. A further Connect is refused with 429.
    /// Default 8.
    pub max_pending_calls_per_peer: usize,
    /// Invitations that one peer has not answered. A further Connect to it is refused with 429.
    /// Default 16.
    pub max_pending_invitations_per_peer: usize,
    /// Meetings remembered at once. A further Connect is refused with 503. Default 16384.
    pub max_sessions: usize,
    /// Calls at once that wait for a callee to register. A further one is refused with 404 at
    /// once. Default 4096.
    pub max_parked: usize,
    /// The longest that a call may wait for a callee to register; a longer wish is shortened.
    /// Default 5 s.
    pub longest_wait: Duration,
    /// Requests that one registered peer may send in a burst. Default 100.
    pub burst: u32,
    /// Requests a second that one registered peer may send in the long run; one above it is
    /// refused with 429. Default 50.
    pub requests_per_second: u32,
    /// The shortest lease; a shorter wish is lengthened. Default 5 s.
    pub shortest_lease: Duration,
    /// The longest lease; a longer wish is shortened. Default 5 min.
    pub longest_lease: Duration,
    /// What may be sent in peers' names. Default nothing.
    pub forging: Forging,
    /// Its keys: the first is shown, handshakes with any are accepted. Default none, which draws one.
    pub keys: Vec<SecretKey>,
    /// Whether peers may register in the clear. Default they may not.
    pub in_the_clear: InTheClear,
    /// Which names are for whom.
    pub names: Names,
    /// Whom it lets in, if it is closed to outsiders: others are refused with 401, or 403 for a name that what they show is not
    /// good for. Default `None`: it is open.
    pub access: Option<Access>,
    /// Whether peers that offer it and are seen to be able to forge do so in this broker's place, where
    /// it may not or its network lets nothing forged out; and the limits of that. Default `None`: they do not.
    pub forgers: Option<ForgeLimits>,
    /// This broker's name among others with which it shares a directory. Default none: it is alone.
    pub cluster: Option<BrokerId>,
}

impl Config {
    /// The limits on what is forged here or by others; `None` where nothing is.
    pub(super) fn forge_limits(&self) -> Option<&ForgeLimits> {
        match &self.forging {
            Forging::Within(limits) => Some(limits),
            Forging::Off => self.forgers.as_ref(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_registrations: 65_536,
            max_registrations_per_address: 256,
            max_pending_calls_per_peer: 8,
            max_pending_invitations_per_peer: 16,
            max_sessions: 16_384,
            max_parked: 4_096,
            longest_wait: Duration::from_secs(5),
            burst: 100,
            requests_per_second: 50,
            shortest_lease: Duration::from_secs(5),
            longest_lease: Duration::from_secs(300),
            forging: Forging::Off,
            keys: Vec::new(),
            in_the_clear: InTheClear::Refused,
            names: Names::default(),
            access: None,
            cluster: None,
            forgers: None,
        }
    }
}
