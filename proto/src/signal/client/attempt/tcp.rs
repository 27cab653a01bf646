//! Connecting to the broker over TCP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::MAX_ADDRESSES;
use crate::Command;
use crate::address::{Family, canonical};
use crate::command::{CommandId, Ends, IoFailure};
use crate::signal::client::core::{Core, Way};
use crate::signal::client::{Link, LinkError};
use crate::signal::{Ladder, Pace};
use crate::uri::HostPort;

/// Between the first connecting and the next, which a lost SYN waits for a second for otherwise
/// (RFC 6298 section 2.1); twice as long each time, as long as the broker has said nothing.
const AGAIN: Pace =
    Pace { first: Duration::from_millis(400), longest: Duration::from_millis(1600) };
/// Most times that every address is connected to.
const MAX_ROUNDS: usize = 4;

/// Connecting over TCP.
#[derive(Debug)]
pub(super) enum TcpSide {
    Unused,
    Resolving { command: CommandId, broker: HostPort },
    Resolved { broker: HostPort, addresses: Vec<SocketAddr> },
    Connecting(Connecting),
    Failed(LinkError),
}

/// Connections under way, until the broker has said something on one of them.
#[derive(Debug)]
pub(super) struct Connecting {
    broker: HostPort,
    addresses: Vec<SocketAddr>,
    dials: Vec<Dial>,
    last: LinkError,
    rounds: Ladder,
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
        let (broker, addresses) = (broker.clone(), std::mem::take(addresses));
        let last = LinkError::NoCommonFamily { link: Link::Tcp, broker: broker.clone() };
        let rounds = Ladder::repeating(AGAIN);
        let mut connecting = Connecting { broker, addresses, dials: Vec::new(), last, rounds };
        connecting.dial(core, now);
        *self = Self::Connecting(connecting);
    }

    /// When to connect once more.
    pub(super) fn next(&self) -> Option<Instant> {
        match self {
            Self::Connecting(connecting) => connecting.next(),
            Self::Unused | Self::Resolving { .. } | Self::Resolved { .. } | Self::Failed(_) => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        if let Self::Connecting(connecting) = self
            && connecting.next().is_some_and(|at| at <= now)
        {
            connecting.dial(core, now);
        }
    }

    /// A handshake ended: the way it has opened, and how long it took.
    pub(super) fn on_connected(
        &mut self,
        id: CommandId,
        result: Result<Ends, IoFailure>,
        now: Instant,
    ) -> Option<(Way, Duration)> {
        let Self::Connecting(connecting) = self else { return None };
        let place = connecting.dials.iter().position(|dial| dial.command == id)?;
        let dial = connecting.dials.remove(place);
        match result {
            Ok(_) => Some((dial.way, now.saturating_duration_since(dial.started))),
            Err(reason) => {
                let (broker, remote) = (connecting.broker.clone(), dial.way.remote);
                connecting.last = LinkError::Failed { link: Link::Tcp, broker, remote, reason };
                None
            }
        }
    }

    /// Fails if every connection has, and none has opened.
    pub(super) fn fail_if_nothing_is_left(&mut self) {
        if let Self::Connecting(Connecting { dials, last, .. }) = self
            && dials.is_empty()
        {
            *self = Self::Failed(last.clone());
        }
    }

    /// Closes what is still being connected; more may follow.
    pub(super) fn close(&mut self, core: &mut Core) {
        if let Self::Connecting(connecting) = self {
            connecting.dials.drain(..).for_each(|dial| core.close(dial.way));
        }
    }

    /// The broker has said something on a stream: no other is needed.
    pub(super) fn stop(&mut self, core: &mut Core) {
        self.close(core);
        if let Self::Connecting(_) = self {
            *self = Self::Unused;
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
            Self::Connecting(Connecting { broker, dials, last, .. }) => match dials.first() {
                Some(dial) => silent(broker, dial.way.remote),
                None => Some(last.clone()),
            },
            Self::Failed(error) => Some(error.clone()),
        }
    }
}

impl Connecting {
    fn next(&self) -> Option<Instant> {
        self.rounds.next().filter(|_| self.rounds.sendings() < MAX_ROUNDS)
    }

    fn dial(&mut self, core: &mut Core, now: Instant) {
        self.rounds.sent(now);
        let dials = self.addresses.iter().map(|remote| Dial::start(core, *remote, now));
        self.dials.extend(dials);
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
