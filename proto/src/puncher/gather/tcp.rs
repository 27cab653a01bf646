//! One TCP port number: a listener, and the connections from the same port that learn its mapping.
//!
//! Two servers are asked side by side: one that is silent, or whose answers get lost, then delays
//! nothing, and two answers tell whether the mapping depends on the destination. The broker's
//! connection, or else that of the first one that answers, is kept and holds the mapping; the other is
//! left again. A broker does not end idle connections, and may be asked for more on one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::Servers;
use super::probe::{are_one_host, binding_request, binding_response, other_address};
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
/// Servers asked at once.
const SIDE_BY_SIDE: usize = 2;
/// Failures after which a second opinion is done without.
const ENOUGH_FAILURES: u32 = 3;

#[derive(Debug)]
pub(super) struct TcpEnd {
    pub(super) family: Family,
    pub(super) listener: SocketId,
    listening: CommandId,
    pub(super) local: Option<Result<SocketAddr, IoFailure>>,
    /// What each server called us last, the first to answer first.
    told: Vec<(SocketAddr, SocketAddr)>,
    questions: Vec<Question>,
    /// The other address of the only server's.
    alternate: Option<SocketAddr>,
    /// Servers given to a question so far; decides whose turn it is.
    turn: usize,
}

/// One server, and how far asking it is.
#[derive(Debug)]
struct Question {
    server: SocketAddr,
    /// Failures since one answered; decides the pause.
    failures: u32,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Idle {
        from: Option<Instant>,
    },
    Connecting {
        command: CommandId,
        socket: SocketId,
        until: Instant,
    },
    /// The question follows at once.
    Connected {
        socket: SocketId,
    },
    Asking {
        socket: SocketId,
        id: TransactionId,
        until: Instant,
    },
    /// This connection holds the mapping.
    Held {
        socket: SocketId,
        again: Instant,
    },
    /// It has answered, and another one holds.
    Leaving {
        socket: SocketId,
    },
    Left,
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
            told: Vec::new(),
            questions: Vec::new(),
            alternate: None,
            turn: 0,
        };
        (end, Command::ListenTcp { id, socket, local })
    }

    /// The listener, and the connections to servers.
    pub(super) fn sockets(&self) -> impl Iterator<Item = SocketId> {
        let asking = self.questions.iter().filter_map(|question| question.state.socket());
        std::iter::once(self.listener).chain(asking)
    }

    /// The connection that holds the mapping, if it is one to a broker.
    pub(super) fn broker_stream(&self, brokers: &[SocketAddr]) -> Option<SocketId> {
        let to_broker = self.questions.iter().filter(|it| brokers.contains(&it.server));
        to_broker.into_iter().find_map(|it| match it.state {
            State::Held { socket, .. } => Some(socket),
            // It is being asked again.
            State::Asking { socket, .. } if it.failures == 0 => Some(socket),
            _ => None,
        })
    }

    /// What each server that answered calls us. As long as one at another address may answer, those at
    /// one address are one: a NAT may well give a port to each address.
    pub(super) fn answers(&self) -> Vec<SocketAddr> {
        let elsewhere = |it: &Question| Some(it.server) == self.alternate && it.failures == 0;
        let waits = self.questions.iter().any(elsewhere) && are_one_host(self.answered());
        let count = if waits { 1 } else { self.told.len() };
        self.told.iter().take(count).map(|(_, address)| *address).collect()
    }

    /// The servers that answered.
    pub(super) fn answered(&self) -> impl Iterator<Item = SocketAddr> {
        self.told.iter().map(|(server, _)| *server)
    }

    /// What the servers call us, each name once.
    pub(super) fn mapped(&self) -> Vec<SocketAddr> {
        let mut mapped = Vec::new();
        for (_, address) in &self.told {
            if !mapped.contains(address) {
                mapped.push(*address);
            }
        }
        mapped
    }

    /// Whether it knows its mapping, or has been turned away by the servers, or cannot ask.
    pub(super) fn is_settled(&self, servers: &[SocketAddr]) -> bool {
        match self.local {
            None => false,
            Some(Err(_)) => true,
            Some(Ok(_)) if self.questions.is_empty() => self.servers(servers).next().is_none(),
            Some(Ok(_)) => !self.told.is_empty() || self.questions.iter().all(|it| it.failures > 0),
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
        let ours = |it: &&mut Question| matches!(it.state, State::Connecting { command, .. } if command == id);
        let Some(question) = self.questions.iter_mut().find(ours) else { return };
        let State::Connecting { socket, .. } = question.state else { return };
        match connected {
            Ok(_) => question.state = State::Connected { socket },
            Err(_) => question.fail(now),
        }
    }

    /// Whether the message told something new.
    pub(super) fn on_message(
        &mut self,
        brokers: &[SocketAddr],
        (from, payload): (SocketId, &[u8]),
        now: Instant,
    ) -> bool {
        let Some((answered, mapped)) = binding_response(payload) else { return false };
        let is_broker = |it: &Question| brokers.contains(&it.server);
        let holder = self.questions.iter().position(|it| matches!(it.state, State::Held { .. }));
        let by_broker = holder.is_some_and(|at| is_broker(&self.questions[at]));
        let ours = |it: &&mut Question| matches!(it.state, State::Asking { id, socket, .. } if id == answered && socket == from);
        let Some(question) = self.questions.iter_mut().find(ours) else { return false };
        question.failures = 0;
        let takes_over = holder.is_none() || (is_broker(question) && !by_broker);
        question.state = if takes_over {
            State::Held { socket: from, again: now + KEEPALIVE }
        } else {
            State::Leaving { socket: from }
        };
        let server = question.server;
        if let (Some(at), true) = (holder, takes_over)
            && let State::Held { socket, .. } = self.questions[at].state
        {
            self.questions[at].state = State::Leaving { socket };
        }
        if self.alternate.is_none() && are_one_host(self.questions.iter().map(|it| it.server)) {
            self.alternate = other_address(server, payload);
            let state = State::Idle { from: None };
            let question = |server| Question { server, failures: 0, state };
            self.questions.extend(self.alternate.map(question));
        }
        let before = self.mapped();
        match self.told.iter_mut().find(|(told_by, _)| *told_by == server) {
            Some((_, address)) => *address = mapped,
            None => self.told.push((server, mapped)),
        }
        self.mapped() != before
    }

    pub(super) fn on_closed(&mut self, socket: SocketId, now: Instant) {
        let ours = |it: &Question| it.state.socket() == Some(socket);
        let Some(at) = self.questions.iter().position(ours) else { return };
        let held = matches!(self.questions[at].state, State::Held { .. });
        self.questions[at].fail(now);
        if held {
            // Who has been left takes over at once.
            let left = self.questions.iter_mut().find(|it| matches!(it.state, State::Left));
            left.into_iter().for_each(|it| it.state = State::Idle { from: None });
        }
    }

    /// The servers that this end can ask.
    fn servers<'a>(&self, servers: &'a [SocketAddr]) -> impl Iterator<Item = SocketAddr> + 'a {
        let family = self.family;
        servers.iter().copied().filter(move |server| Family::of(server.ip()) == family)
    }

    /// The next server in turn that no question is about.
    fn next_server(&mut self, servers: &[SocketAddr]) -> Option<SocketAddr> {
        let of_family: Vec<_> = self.servers(servers).collect();
        for _ in 0..of_family.len() {
            let server = of_family[self.turn % of_family.len()];
            self.turn = self.turn.wrapping_add(1);
            if self.questions.iter().all(|question| question.server != server) {
                return Some(server);
            }
        }
        None
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let Some(Ok(_)) = self.local else { return None };
        self.questions.iter().filter(|it| self.is_worth_asking(it)).filter_map(Question::next).min()
    }

    /// Whether more is to be learned from it: the mapping is known, and the server has failed often.
    fn is_worth_asking(&self, question: &Question) -> bool {
        let holds = |it: &Question| matches!(it.state, State::Held { .. });
        question.failures < ENOUGH_FAILURES || !self.questions.iter().any(holds)
    }

    pub(super) fn drive(
        &mut self,
        servers: &Servers,
        names: &mut Names,
        entropy: &mut Entropy,
        now: Instant,
    ) -> Vec<Command> {
        let Some(Ok(local)) = self.local else { return Vec::new() };
        let Servers { tcp: servers, brokers, broker_wanted, .. } = servers;
        let question = |server| Question { server, failures: 0, state: State::Idle { from: None } };
        while self.questions.len() < SIDE_BY_SIDE {
            let Some(server) = self.next_server(servers) else { break };
            self.questions.push(question(server));
        }
        let is_broker = |it: &Question| brokers.contains(&it.server);
        if *broker_wanted && !self.questions.iter().any(is_broker) {
            let broker = self.servers(brokers).next();
            self.questions.extend(broker.map(question));
        }
        let mut commands = Vec::new();
        for at in 0..self.questions.len() {
            let retries = self.questions[at].is_due_again(now);
            if retries && self.is_worth_asking(&self.questions[at]) {
                // A server that ends idle connections soon is no place to hold a mapping either.
                let stays = *broker_wanted && is_broker(&self.questions[at]);
                if let (Some(server), false) = (self.next_server(servers), stays) {
                    self.questions[at].server = server;
                }
            } else if retries {
                continue;
            }
            commands.extend(self.questions[at].drive(local, names, entropy, now));
        }
        commands
    }
}

impl Question {
    fn fail(&mut self, now: Instant) {
        let rounds = self.failures.min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << rounds).min(LONGEST_PAUSE);
        self.failures += 1;
        self.state = State::Idle { from: Some(now + pause) };
    }

    /// Whether a pause after a failure is over.
    fn is_due_again(&self, now: Instant) -> bool {
        matches!(self.state, State::Idle { from: Some(from) } if from <= now)
    }

    fn next(&self) -> Option<Instant> {
        match self.state {
            State::Idle { from } => from,
            State::Connecting { until, .. } | State::Asking { until, .. } => Some(until),
            State::Held { again, .. } => Some(again),
            State::Connected { .. } | State::Leaving { .. } | State::Left => None,
        }
    }

    fn drive(
        &mut self,
        local: SocketAddr,
        names: &mut Names,
        entropy: &mut Entropy,
        now: Instant,
    ) -> Option<Command> {
        match self.state {
            State::Idle { from } if from.is_none_or(|from| from <= now) => {
                let (id, socket) = (names.command(), names.socket());
                self.state = State::Connecting { command: id, socket, until: now + PATIENCE };
                Some(Command::connect_tcp(id, socket, local, self.server))
            }
            State::Connecting { socket, until, .. } | State::Asking { socket, until, .. }
                if until <= now =>
            {
                self.fail(now);
                Some(Command::Close { id: names.command(), socket })
            }
            State::Connected { socket } => Some(self.ask(socket, names, entropy, now)),
            State::Held { socket, again } if again <= now => {
                Some(self.ask(socket, names, entropy, now))
            }
            State::Leaving { socket } => {
                self.state = State::Left;
                Some(Command::Close { id: names.command(), socket })
            }
            State::Idle { .. }
            | State::Connecting { .. }
            | State::Asking { .. }
            | State::Held { .. }
            | State::Left => None,
        }
    }

    fn ask(
        &mut self,
        socket: SocketId,
        names: &mut Names,
        entropy: &mut Entropy,
        now: Instant,
    ) -> Command {
        let id = entropy.transaction_id();
        self.state = State::Asking { socket, id, until: now + PATIENCE };
        Command::SendTcp { id: names.command(), socket, payload: binding_request(id) }
    }
}

impl State {
    fn socket(self) -> Option<SocketId> {
        match self {
            Self::Idle { .. } | Self::Left => None,
            Self::Connecting { socket, .. }
            | Self::Connected { socket }
            | Self::Asking { socket, .. }
            | Self::Held { socket, .. }
            | Self::Leaving { socket } => Some(socket),
        }
    }
}
