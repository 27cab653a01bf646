//! One TCP port number: a listener, and the connection from the same port that learns its mapping.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::probe::{binding_request, binding_response};
use crate::address::Family;
use crate::command::{Ends, Names};
use crate::entropy::Entropy;
use crate::{Command, CommandId, IoFailure, SocketId};

/// How long a server may take to accept and answer before the next one is tried.
const PATIENCE: Duration = Duration::from_millis(2500);
/// How often the held connection carries a Binding request, so that neither the NAT (shortest
/// established timer seen: 4 minutes) nor the server ends it, and a changed mapping is noticed.
const KEEPALIVE: Duration = Duration::from_secs(25);
/// Pause before the next server is tried, doubled with each round of failures.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct TcpEnd {
    pub(super) family: Family,
    pub(super) listener: SocketId,
    listening: CommandId,
    pub(super) local: Option<Result<SocketAddr, IoFailure>>,
    pub(super) mapped: Option<SocketAddr>,
    /// Servers that were tried and did not hold; decides whose turn it is.
    turn: usize,
    /// Failures since one answered; decides the pause.
    failures: u32,
    probe: Probe,
}

#[derive(Debug)]
enum Probe {
    Idle { from: Option<Instant> },
    Connecting { command: CommandId, socket: SocketId, until: Instant },
    Asking { socket: SocketId, id: TransactionId, until: Instant },
    Held { socket: SocketId, again: Instant },
}

impl TcpEnd {
    /// An end of `family`, and the command that opens it on `local`.
    pub(super) fn open(family: Family, local: SocketAddr, names: &mut Names) -> (Self, Command) {
        let (id, socket) = (names.command(), names.socket());
        let end = Self {
            family,
            listener: socket,
            listening: id,
            local: None,
            mapped: None,
            turn: 0,
            failures: 0,
            probe: Probe::Idle { from: None },
        };
        (end, Command::ListenTcp { id, socket, local })
    }

    /// The listener, and the connection that holds the mapping.
    pub(super) fn sockets(&self) -> impl Iterator<Item = SocketId> {
        std::iter::once(self.listener).chain(self.probe.socket())
    }

    /// Whether it knows its mapping, or has been turned away by a server, or cannot ask.
    pub(super) fn is_settled(&self, servers: &[SocketAddr]) -> bool {
        match self.local {
            None => false,
            Some(Err(_)) => true,
            Some(Ok(_)) => {
                self.mapped.is_some() || self.failures > 0 || self.server(servers).is_none()
            }
        }
    }

    /// Whether this was the answer to our command.
    pub(super) fn on_bound(&mut self, id: CommandId, bound: Result<SocketAddr, IoFailure>) -> bool {
        if id == self.listening && self.local.is_none() {
            self.local = Some(bound);
            return true;
        }
        false
    }

    pub(super) fn on_connected(
        &mut self,
        id: CommandId,
        connected: Result<Ends, IoFailure>,
        now: Instant,
    ) {
        let Probe::Connecting { command, socket, .. } = self.probe else { return };
        if command != id {
            return;
        }
        match connected {
            // The question follows when the end is driven next, at once.
            Ok(_) => self.probe = Probe::Held { socket, again: now },
            Err(_) => self.fail(now),
        }
    }

    /// Whether the message told something new.
    pub(super) fn on_message(&mut self, from: SocketId, payload: &[u8], now: Instant) -> bool {
        let Probe::Asking { id, socket, .. } = self.probe else { return false };
        let Some((answered, mapped)) = binding_response(payload) else { return false };
        if from != socket || id != answered {
            return false;
        }
        self.failures = 0;
        self.probe = Probe::Held { socket, again: now + KEEPALIVE };
        self.mapped.replace(mapped) != Some(mapped)
    }

    pub(super) fn on_closed(&mut self, socket: SocketId, now: Instant) {
        if self.probe.socket() == Some(socket) {
            self.fail(now);
        }
    }

    fn fail(&mut self, now: Instant) {
        // A server that ends idle connections soon is no place to hold a mapping either.
        self.turn = self.turn.wrapping_add(1);
        let rounds = self.failures.min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << rounds).min(LONGEST_PAUSE);
        self.failures += 1;
        self.probe = Probe::Idle { from: Some(now + pause) };
    }

    /// The server whose turn it is.
    fn server(&self, servers: &[SocketAddr]) -> Option<SocketAddr> {
        let of_family: Vec<_> =
            servers.iter().filter(|server| Family::of(server.ip()) == self.family).collect();
        of_family.get(self.turn % of_family.len().max(1)).map(|server| **server)
    }

    pub(super) fn next(&self, servers: &[SocketAddr]) -> Option<Instant> {
        let (Some(Ok(_)), Some(_)) = (self.local, self.server(servers)) else { return None };
        match self.probe {
            Probe::Idle { from } => from,
            Probe::Connecting { until, .. } | Probe::Asking { until, .. } => Some(until),
            Probe::Held { again, .. } => Some(again),
        }
    }

    pub(super) fn drive(
        &mut self,
        servers: &[SocketAddr],
        names: &mut Names,
        entropy: &mut Entropy,
        now: Instant,
    ) -> Option<Command> {
        let (Some(Ok(local)), Some(remote)) = (self.local, self.server(servers)) else {
            return None;
        };
        match self.probe {
            Probe::Idle { from } if from.is_none_or(|from| from <= now) => {
                let (id, socket) = (names.command(), names.socket());
                self.probe = Probe::Connecting { command: id, socket, until: now + PATIENCE };
                Some(Command::connect_tcp(id, socket, local, remote))
            }
            Probe::Connecting { socket, until, .. } | Probe::Asking { socket, until, .. }
                if until <= now =>
            {
                self.fail(now);
                Some(Command::Close { id: names.command(), socket })
            }
            Probe::Held { socket, again } if again <= now => {
                let id = entropy.transaction_id();
                self.probe = Probe::Asking { socket, id, until: now + PATIENCE };
                let payload = binding_request(id);
                Some(Command::SendTcp { id: names.command(), socket, payload })
            }
            Probe::Idle { .. }
            | Probe::Connecting { .. }
            | Probe::Asking { .. }
            | Probe::Held { .. } => None,
        }
    }
}

impl Probe {
    fn socket(&self) -> Option<SocketId> {
        match self {
            Self::Idle { .. } => None,
            Self::Connecting { socket, .. }
            | Self::Asking { socket, .. }
            | Self::Held { socket, .. } => Some(*socket),
        }
    }
}
