//! One attempt to register: find the broker, prove our address, be told a key.
//!
//! ```text
//!  t = 0          UDP: Register without NONCE to every address of the broker, repeated
//!                 TCP: only the name is resolved
//!  t = 300 ms     TCP: connect to every address, unless UDP was answered
//!                 whichever is answered (401) or connected first is the link from then on
//!  one trip later Register with NONCE (UDP) and the round-trip time
//!  one more       Registered; or 409: ask again until a dead holder of the name is found out
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::core::{Core, Standing, Way, earlier};
use super::{DEFAULT_TCP_PORT, DEFAULT_UDP_PORT, Link, LinkError, RegistrationError};
use crate::address::{Family, canonical};
use crate::command::{Answer, CommandId, Ends, IoFailure};
use crate::signal::message::{self, Body, Message, Nonce, Refused, Registered, TransmitCount};
use crate::signal::{ErrorCode, Ladder, Pace};
use crate::uri::HostPort;
use crate::{Command, SocketId};

/// Most addresses of a broker that are tried on one link.
const MAX_ADDRESSES: usize = 4;
/// First wait before a taken name is asked for again; grows by half each time.
const FIRST_CONFLICT_WAIT: Duration = Duration::from_millis(100);
/// Most nonces that a broker may call stale in a row; more, and it does not know its own.
pub(super) const MAX_STALE_NONCES: u8 = 4;

/// How an attempt stands after something happened.
#[derive(Debug)]
pub(super) enum Progress {
    /// It goes on.
    Going,
    /// The broker knows us.
    Done(Box<Done>),
    /// It does not, on any link.
    Failed(RegistrationError),
}

/// A registration just made.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) standing: Standing,
    pub(super) observed: SocketAddr,
    pub(super) lease: Duration,
}

#[derive(Debug)]
pub(super) struct Attempt {
    started: Instant,
    deadline: Instant,
    udp: UdpSide,
    tcp: TcpSide,
    /// When TCP is tried beside UDP.
    tcp_at: Instant,
    chosen: Option<Chosen>,
}

/// Asking over UDP.
#[derive(Debug)]
enum UdpSide {
    Unused,
    Resolving { command: CommandId, broker: HostPort },
    Probing(Probe),
    Failed(LinkError),
}

#[derive(Debug)]
struct Probe {
    broker: HostPort,
    ways: Vec<Way>,
    transaction: TransactionId,
    ladder: Ladder,
    /// Sendings that the system has not confirmed yet.
    sending: BTreeSet<CommandId>,
    /// Whether the system took any datagram at all.
    taken: bool,
}

/// Connecting over TCP.
#[derive(Debug)]
enum TcpSide {
    Unused,
    Resolving { command: CommandId, broker: HostPort },
    Resolved { broker: HostPort, addresses: Vec<SocketAddr> },
    Connecting { broker: HostPort, dials: Vec<Dial>, last: LinkError },
    Failed(LinkError),
}

#[derive(Debug)]
struct Dial {
    command: CommandId,
    way: Way,
    started: Instant,
}

/// Asking the broker on the link that answered first.
#[derive(Debug)]
struct Chosen {
    way: Way,
    nonce: Option<Nonce>,
    /// How many nonces the broker has called stale in a row.
    stale: u8,
    transaction: TransactionId,
    ladder: Ladder,
    conflict: Option<Conflict>,
}

/// Somebody else holds the name.
#[derive(Debug)]
struct Conflict {
    until: Instant,
    wait: Duration,
    /// `None` while an answer is awaited.
    again_at: Option<Instant>,
}

impl Attempt {
    /// Starts from the names of the broker.
    pub(super) fn start(core: &mut Core, now: Instant) -> (Self, Progress) {
        let udp = core.config.udp_broker.clone();
        let tcp = core.config.tcp_broker.clone();
        let has_socket = !core.sockets.is_empty();
        let udp = match udp {
            None => UdpSide::Unused,
            Some(broker) if !has_socket => {
                UdpSide::Failed(LinkError::NoCommonFamily { link: Link::Udp, broker })
            }
            Some(broker) => {
                UdpSide::Resolving { command: resolve(core, &broker, DEFAULT_UDP_PORT), broker }
            }
        };
        let tcp = match tcp {
            None => TcpSide::Unused,
            Some(broker) => {
                TcpSide::Resolving { command: resolve(core, &broker, DEFAULT_TCP_PORT), broker }
            }
        };
        let patience = core.config.registration_timeout;
        let silence = core.config.udp_silence;
        let mut attempt = Self {
            started: now,
            deadline: now + patience,
            udp,
            tcp,
            tcp_at: now + silence,
            chosen: None,
        };
        let progress = attempt.advance(core, now);
        (attempt, progress)
    }

    /// Starts on a way that works, with a nonce that the broker has just given.
    pub(super) fn start_again(
        core: &mut Core,
        way: Way,
        nonce: Option<Nonce>,
        now: Instant,
    ) -> Self {
        let mut attempt = Self {
            started: now,
            deadline: now + core.config.registration_timeout,
            udp: UdpSide::Unused,
            tcp: TcpSide::Unused,
            tcp_at: now,
            chosen: None,
        };
        attempt.choose(core, way, nonce, now);
        attempt
    }

    /// Whether `source` is an address that we asked over UDP.
    pub(super) fn asks(&self, source: SocketAddr) -> bool {
        let probed = match &self.udp {
            UdpSide::Probing(probe) => probe.ways.iter().any(|way| way.remote == source),
            UdpSide::Unused | UdpSide::Resolving { .. } | UdpSide::Failed(_) => false,
        };
        probed || self.chosen.as_ref().is_some_and(|it| it.way.remote == source)
    }

    /// The link that answered first.
    pub(super) fn chosen_way(&self) -> Option<Way> {
        self.chosen.as_ref().map(|it| it.way)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let waits_for_tcp = self.chosen.is_none() && matches!(self.tcp, TcpSide::Resolved { .. });
        let tcp = waits_for_tcp.then_some(self.tcp_at);
        let asking = match (&self.chosen, &self.udp) {
            (Some(chosen), _) => chosen.next(),
            (None, UdpSide::Probing(probe)) => probe.ladder.next(),
            (None, UdpSide::Unused | UdpSide::Resolving { .. } | UdpSide::Failed(_)) => None,
        };
        earlier(earlier(tcp, asking), Some(self.deadline))
    }

    pub(super) fn handle_timeout(&mut self, core: &mut Core, now: Instant) -> Progress {
        if self.deadline <= now {
            let error = self.expired(core, now);
            return Progress::Failed(error);
        }
        match (&mut self.chosen, &mut self.udp) {
            (Some(chosen), _) => chosen.handle_timeout(core, now),
            (None, UdpSide::Probing(probe)) if probe.ladder.is_due(now) => probe.send(core, now),
            (None, _) => {}
        }
        self.advance(core, now)
    }

    /// A command of ours ended.
    pub(super) fn handle_answer(
        &mut self,
        core: &mut Core,
        id: CommandId,
        answer: Answer,
        now: Instant,
    ) -> Progress {
        match answer {
            Answer::Resolved(result) => self.on_resolved(core, id, result, now),
            Answer::Sent(result) => self.on_sent(id, result),
            Answer::Connected(result) => self.on_connected(core, id, result, now),
            Answer::Bound(_) | Answer::Closed | Answer::Interfaces(_) => {}
        }
        self.advance(core, now)
    }

    /// A message that nobody has signed yet, from an address we asked.
    pub(super) fn handle_message(
        &mut self,
        core: &mut Core,
        way: Way,
        message: &Message,
        now: Instant,
    ) -> Progress {
        match (&mut self.chosen, &self.udp) {
            (None, UdpSide::Probing(probe)) if probe.transaction == message.transaction => {
                if let (Body::Refused(refused), true) = (&message.body, probe.ways.contains(&way)) {
                    let sample = probe.ladder.round_trip(message.transmit, now);
                    core.note_round_trip(sample);
                    return self.on_probed(core, way, refused, message.nonce.clone(), now);
                }
            }
            (Some(chosen), _) if chosen.way == way && chosen.transaction == message.transaction => {
                let sample = chosen.ladder.round_trip(message.transmit, now);
                core.note_round_trip(sample);
                return self.on_answered(core, message, now);
            }
            (Some(_) | None, _) => {}
        }
        Progress::Going
    }

    /// A stream ended.
    pub(super) fn handle_closed(
        &mut self,
        core: &mut Core,
        socket: SocketId,
        reason: IoFailure,
        now: Instant,
    ) -> Progress {
        if let Some(chosen) = self.chosen.take_if(|it| it.way.socket == socket) {
            self.tcp = match core.config.tcp_broker.clone() {
                Some(broker) => {
                    let remote = chosen.way.remote;
                    TcpSide::Failed(LinkError::Failed { link: Link::Tcp, broker, remote, reason })
                }
                None => TcpSide::Unused,
            };
        }
        self.advance(core, now)
    }

    /// Gives up, without an event.
    pub(super) fn abandon(self, core: &mut Core) {
        self.close_dials(core, None);
        if let Some(chosen) = self.chosen {
            core.close(chosen.way);
        }
    }

    /// Does what has become possible, and tells whether anything is left to try.
    fn advance(&mut self, core: &mut Core, now: Instant) -> Progress {
        if self.chosen.is_some() {
            return Progress::Going;
        }
        if matches!(self.udp, UdpSide::Unused | UdpSide::Failed(_)) {
            self.tcp_at = self.tcp_at.min(now);
        }
        if self.tcp_at <= now {
            self.dial(core, now);
        }
        match (&self.udp, &self.tcp) {
            (UdpSide::Unused, TcpSide::Unused) => Progress::Failed(RegistrationError::NoBroker),
            (UdpSide::Unused | UdpSide::Failed(_), TcpSide::Unused | TcpSide::Failed(_)) => {
                let error = self.expired(core, now);
                Progress::Failed(error)
            }
            _ => Progress::Going,
        }
    }

    fn on_resolved(
        &mut self,
        core: &mut Core,
        id: CommandId,
        result: Result<Vec<SocketAddr>, IoFailure>,
        now: Instant,
    ) {
        match (&self.udp, &self.tcp) {
            (UdpSide::Resolving { command, broker }, _) if *command == id => {
                self.udp = Probe::start(core, broker.clone(), result, now);
            }
            (_, TcpSide::Resolving { command, broker }) if *command == id => {
                let broker = broker.clone();
                self.tcp = match result {
                    Ok(addresses) => TcpSide::Resolved { broker, addresses: first(addresses) },
                    Err(reason) => {
                        TcpSide::Failed(LinkError::Unresolved { link: Link::Tcp, broker, reason })
                    }
                };
            }
            _ => {}
        }
    }

    fn on_sent(&mut self, id: CommandId, result: Result<(), IoFailure>) {
        let UdpSide::Probing(probe) = &mut self.udp else { return };
        if !probe.sending.remove(&id) {
            return;
        }
        match result {
            Ok(()) => probe.taken = true,
            // The system took nothing, on no address: there is no use in waiting.
            Err(reason) if probe.sending.is_empty() && !probe.taken && self.chosen.is_none() => {
                self.udp = UdpSide::Failed(LinkError::Failed {
                    link: Link::Udp,
                    broker: probe.broker.clone(),
                    remote: probe.ways[0].remote,
                    reason,
                });
            }
            Err(_) => {}
        }
    }

    fn dial(&mut self, core: &mut Core, now: Instant) {
        let TcpSide::Resolved { broker, addresses } = &self.tcp else { return };
        let broker = broker.clone();
        let dials = addresses.iter().map(|remote| Dial::start(core, *remote, now)).collect();
        let last = LinkError::NoCommonFamily { link: Link::Tcp, broker: broker.clone() };
        self.tcp = TcpSide::Connecting { broker, dials, last };
    }

    fn on_connected(
        &mut self,
        core: &mut Core,
        id: CommandId,
        result: Result<Ends, IoFailure>,
        now: Instant,
    ) {
        let TcpSide::Connecting { broker, dials, last } = &mut self.tcp else { return };
        let Some(place) = dials.iter().position(|dial| dial.command == id) else { return };
        let dial = dials.remove(place);
        match result {
            Ok(_) => {
                core.note_round_trip(Some(now.saturating_duration_since(dial.started)));
                self.choose(core, dial.way, None, now);
            }
            Err(reason) => {
                let (broker, remote) = (broker.clone(), dial.way.remote);
                *last = LinkError::Failed { link: Link::Tcp, broker, remote, reason };
                if dials.is_empty() {
                    self.tcp = TcpSide::Failed(last.clone());
                }
            }
        }
    }

    /// From now on this link only.
    fn choose(&mut self, core: &mut Core, way: Way, nonce: Option<Nonce>, now: Instant) {
        self.close_dials(core, Some(way));
        let mut chosen = Chosen {
            way,
            nonce,
            stale: 0,
            transaction: core.transaction(),
            ladder: way.ladder(core.rtt),
            conflict: None,
        };
        chosen.send(core, now);
        self.chosen = Some(chosen);
    }

    fn close_dials(&self, core: &mut Core, but: Option<Way>) {
        let TcpSide::Connecting { dials, .. } = &self.tcp else { return };
        for dial in dials.iter().filter(|dial| Some(dial.way) != but) {
            core.close(dial.way);
        }
    }

    /// The broker answered the Register without a nonce.
    fn on_probed(
        &mut self,
        core: &mut Core,
        way: Way,
        refused: &Refused,
        nonce: Option<Nonce>,
        now: Instant,
    ) -> Progress {
        match (refused.code, nonce) {
            (ErrorCode::Unauthenticated | ErrorCode::StaleNonce, Some(nonce)) => {
                self.choose(core, way, Some(nonce), now);
                self.tcp = TcpSide::Unused;
                Progress::Going
            }
            _ => {
                let error = refusal(core, way, refused);
                Progress::Failed(error)
            }
        }
    }

    /// The broker answered the Register on the chosen link.
    fn on_answered(&mut self, core: &mut Core, message: &Message, now: Instant) -> Progress {
        let Some(chosen) = &mut self.chosen else { return Progress::Going };
        match &message.body {
            Body::Registered(registered) => {
                let done = chosen.done(registered);
                Progress::Done(Box::new(done))
            }
            Body::Refused(refused) => match (refused.code, &message.nonce) {
                (ErrorCode::StaleNonce | ErrorCode::Unauthenticated, Some(nonce))
                    if chosen.stale < MAX_STALE_NONCES =>
                {
                    chosen.stale += 1;
                    chosen.nonce = Some(nonce.clone());
                    chosen.restart(core, now);
                    Progress::Going
                }
                (ErrorCode::NameTaken, _) => {
                    let deadline = chosen.on_conflict(core, now);
                    match deadline {
                        Some(deadline) => {
                            self.deadline = self.deadline.max(deadline);
                            Progress::Going
                        }
                        None => {
                            let error = refusal(core, chosen.way, refused);
                            Progress::Failed(error)
                        }
                    }
                }
                _ => {
                    let error = refusal(core, chosen.way, refused);
                    Progress::Failed(error)
                }
            },
            _ => Progress::Going,
        }
    }

    /// What happened on each link until now, when nothing more will.
    fn expired(&self, core: &Core, now: Instant) -> RegistrationError {
        let waited = now.saturating_duration_since(self.started);
        if let Some(chosen) = &self.chosen {
            return chosen.expired(core, waited);
        }
        let silent = |link, broker: &HostPort, remote| LinkError::Silent {
            link,
            broker: broker.clone(),
            remote,
            waited,
        };
        let unresolved = |link, broker: &HostPort| LinkError::Unresolved {
            link,
            broker: broker.clone(),
            reason: IoFailure::TimedOut,
        };
        let udp = match &self.udp {
            UdpSide::Unused => None,
            UdpSide::Resolving { broker, .. } => Some(unresolved(Link::Udp, broker)),
            UdpSide::Probing(probe) => Some(silent(Link::Udp, &probe.broker, probe.ways[0].remote)),
            UdpSide::Failed(error) => Some(error.clone()),
        };
        let tcp = match &self.tcp {
            TcpSide::Unused => None,
            TcpSide::Resolving { broker, .. } => Some(unresolved(Link::Tcp, broker)),
            TcpSide::Resolved { broker, addresses } => {
                addresses.first().map(|remote| silent(Link::Tcp, broker, *remote))
            }
            TcpSide::Connecting { broker, dials, last } => Some(match dials.first() {
                Some(dial) => silent(Link::Tcp, broker, dial.way.remote),
                None => last.clone(),
            }),
            TcpSide::Failed(error) => Some(error.clone()),
        };
        RegistrationError::Unreachable(udp.into_iter().chain(tcp).collect())
    }
}

impl Probe {
    /// Asks every address that a lent socket can reach.
    fn start(
        core: &mut Core,
        broker: HostPort,
        result: Result<Vec<SocketAddr>, IoFailure>,
        now: Instant,
    ) -> UdpSide {
        let addresses = match result {
            Ok(addresses) => addresses,
            Err(reason) => {
                return UdpSide::Failed(LinkError::Unresolved { link: Link::Udp, broker, reason });
            }
        };
        let way = |remote: SocketAddr| {
            let socket = core.sockets.get(&Family::of(remote.ip()))?;
            Some(Way { link: Link::Udp, socket: *socket, remote })
        };
        let ways: Vec<Way> =
            addresses.into_iter().map(canonical).filter_map(way).take(MAX_ADDRESSES).collect();
        if ways.is_empty() {
            return UdpSide::Failed(LinkError::NoCommonFamily { link: Link::Udp, broker });
        }
        let mut probe = Self {
            broker,
            ways,
            transaction: core.transaction(),
            ladder: Ladder::repeating(Pace::of(None)),
            sending: BTreeSet::new(),
            taken: false,
        };
        probe.send(core, now);
        UdpSide::Probing(probe)
    }

    fn send(&mut self, core: &mut Core, now: Instant) {
        let transmit = self.ladder.sent(now);
        let message = Message::new(self.transaction, Body::Register(core.register()));
        let message = Message { transmit: Some(transmit), ..message };
        for way in &self.ways {
            self.sending.insert(core.send_unsigned(*way, &message));
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
        core.commands.push_back(Command::ConnectTcp {
            id: command,
            socket,
            local,
            remote,
            ttl: None,
        });
        Self { command, way: Way { link: Link::Tcp, socket, remote }, started: now }
    }
}

impl Chosen {
    fn next(&self) -> Option<Instant> {
        match &self.conflict {
            Some(Conflict { again_at: Some(at), .. }) => Some(*at),
            Some(Conflict { again_at: None, .. }) | None => self.ladder.next(),
        }
    }

    fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        match &mut self.conflict {
            Some(Conflict { again_at: again_at @ Some(_), .. }) => {
                if again_at.is_some_and(|at| at <= now) {
                    *again_at = None;
                    self.restart(core, now);
                }
            }
            Some(Conflict { again_at: None, .. }) | None => {
                if self.ladder.is_due(now) {
                    self.send(core, now);
                }
            }
        }
    }

    fn send(&mut self, core: &mut Core, now: Instant) {
        let transmit: TransmitCount = self.ladder.sent(now);
        let message = Message::new(self.transaction, Body::Register(core.register()));
        let message = Message { transmit: Some(transmit), nonce: self.nonce.clone(), ..message };
        core.send_unsigned(self.way, &message);
    }

    /// The same once more as a new transaction.
    fn restart(&mut self, core: &mut Core, now: Instant) {
        self.transaction = core.transaction();
        self.ladder = self.way.ladder(core.rtt);
        self.send(core, now);
    }

    /// Schedules the next asking for a taken name, and tells until when it is asked for; `None`
    /// when that is over.
    fn on_conflict(&mut self, core: &mut Core, now: Instant) -> Option<Instant> {
        let grace = core.config.name_taken_grace;
        let conflict = self.conflict.get_or_insert_with(|| Conflict {
            until: now + grace,
            wait: FIRST_CONFLICT_WAIT,
            again_at: None,
        });
        if conflict.until <= now {
            return None;
        }
        if conflict.again_at.is_none() {
            let jitter = core.entropy.jitter(conflict.wait / 4);
            conflict.again_at = Some((now + conflict.wait + jitter).min(conflict.until));
            conflict.wait = conflict.wait * 3 / 2;
        }
        Some(conflict.until + core.config.registration_timeout)
    }

    fn done(&self, registered: &Registered) -> Done {
        Done {
            standing: Standing {
                way: self.way,
                registration: registered.registration,
                key: registered.key,
                nonce: None,
            },
            observed: registered.observed,
            lease: registered.lease,
        }
    }

    fn expired(&self, core: &Core, waited: Duration) -> RegistrationError {
        let Way { link, remote, .. } = self.way;
        let configured = match link {
            Link::Udp => &core.config.udp_broker,
            Link::Tcp => &core.config.tcp_broker,
        };
        let broker = configured.clone().unwrap_or_else(|| HostPort {
            host: remote.ip().to_string(),
            port: Some(remote.port()),
        });
        RegistrationError::Unreachable(vec![LinkError::Silent { link, broker, remote, waited }])
    }
}

fn resolve(core: &mut Core, broker: &HostPort, default_port: u16) -> CommandId {
    let id = core.names.command();
    let port = broker.port.unwrap_or(default_port);
    core.commands.push_back(Command::Resolve { id, host: broker.host.clone(), port });
    id
}

fn first(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.into_iter().map(canonical).take(MAX_ADDRESSES).collect()
}

fn refusal(core: &Core, way: Way, refused: &Refused) -> RegistrationError {
    let broker = way.remote;
    match (refused.code, refused.version, &core.config.name) {
        (ErrorCode::NameTaken, _, Some(name)) => {
            RegistrationError::NameTaken { name: name.clone(), broker }
        }
        (ErrorCode::UnsupportedVersion, Some(theirs), _) => {
            RegistrationError::Version { broker, theirs, ours: message::VERSION }
        }
        (code, _, _) => RegistrationError::Refused { broker, code },
    }
}
