//! Connecting to the broker over TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::MAX_ADDRESSES;
use crate::Command;
use crate::address::{Family, canonical};
use crate::command::{CommandId, Ends, IoFailure};
use crate::signal::client::core::{Core, Way};
use crate::signal::client::{Link, LinkError};
use crate::uri::HostPort;

/// Connecting over TCP.
#[derive(Debug)]
pub(super) enum TcpSide {
    Unused,
    Resolving { command: CommandId, broker: HostPort },
    Resolved { broker: HostPort, addresses: Vec<SocketAddr> },
    Connecting { broker: HostPort, dials: Vec<Dial>, last: LinkError },
    Failed(LinkError),
}

/// One connection under way.
#[derive(Debug)]
pub(super) struct Dial {
    command: CommandId,
    way: Way,
    started: Instant,
}

impl TcpSide {
    /// The broker's name was looked up.
    pub(super) fn on_resolved(
        &mut self,
        id: CommandId,
        result: Result<Vec<SocketAddr>, IoFailure>,
    ) {
        let Self::Resolving { command, broker } = self else { return };
        if *command != id {
            return;
        }
        let broker = broker.clone();
        *self = match result {
            Ok(addresses) => {
                let addresses = addresses.into_iter().map(canonical).take(MAX_ADDRESSES);
                Self::Resolved { broker, addresses: addresses.collect() }
            }
            Err(reason) => Self::Failed(LinkError::Unresolved { link: Link::Tcp, broker, reason }),
        };
    }

    /// Connects to every address at once; the first one counts.
    pub(super) fn dial(&mut self, core: &mut Core, now: Instant) {
        let Self::Resolved { broker, addresses } = self else { return };
        let broker = broker.clone();
        let dials = addresses.iter().map(|remote| Dial::start(core, *remote, now)).collect();
        let last = LinkError::NoCommonFamily { link: Link::Tcp, broker: broker.clone() };
        *self = Self::Connecting { broker, dials, last };
    }

    /// A handshake ended: the way it has opened, and how long it took.
    pub(super) fn on_connected(
        &mut self,
        id: CommandId,
        result: Result<Ends, IoFailure>,
        now: Instant,
    ) -> Option<(Way, Duration)> {
        let Self::Connecting { broker, dials, last } = self else { return None };
        let place = dials.iter().position(|dial| dial.command == id)?;
        let dial = dials.remove(place);
        match result {
            Ok(_) => Some((dial.way, now.saturating_duration_since(dial.started))),
            Err(reason) => {
                let (broker, remote) = (broker.clone(), dial.way.remote);
                *last = LinkError::Failed { link: Link::Tcp, broker, remote, reason };
                if dials.is_empty() {
                    *self = Self::Failed(last.clone());
                }
                None
            }
        }
    }

    /// Closes what is still being connected.
    pub(super) fn close(&mut self, core: &mut Core) {
        if let Self::Connecting { dials, .. } = self {
            dials.drain(..).for_each(|dial| core.close(dial.way));
        }
    }

    /// What happened until now, if nothing more will; `None` if TCP was not asked for.
    pub(super) fn error(&self, waited: Duration) -> Option<LinkError> {
        let link = Link::Tcp;
        let silent = |broker: &HostPort, remote| {
            Some(LinkError::Silent { link, broker: broker.clone(), remote, waited })
        };
        match self {
            Self::Unused => None,
            Self::Resolving { broker, .. } => {
                let (broker, reason) = (broker.clone(), IoFailure::TimedOut);
                Some(LinkError::Unresolved { link, broker, reason })
            }
            Self::Resolved { broker, addresses } => silent(broker, *addresses.first()?),
            Self::Connecting { broker, dials, last } => match dials.first() {
                Some(dial) => silent(broker, dial.way.remote),
                None => Some(last.clone()),
            },
            Self::Failed(error) => Some(error.clone()),
        }
    }
}

impl Dial {
    fn start(core: &mut Core, remote: SocketAddr, now: Instant) -> Self {
        let command = core.names.command();
        let socket = core.names.socket();
        let any: IpAddr = match Family::of(remote.ip()) {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let local = SocketAddr::new(any, 0);
        core.commands.push_back(Command::connect_tcp(command, socket, local, remote));
        Self { command, way: Way { link: Link::Tcp, socket, remote }, started: now }
    }
}
