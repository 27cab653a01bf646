//! What do the NATs between this host and the internet do, over UDP and over TCP?
//!
//! A [`Discovery`] asks STUN servers and draws the conclusions: is there a NAT, what does a mapping
//! depend on, whose packets come in, which ports are given, does the NAT turn packets back inside.
//! It keeps two verdicts, one for each transport, and says `None` where no server could tell.
//!
//! # Life cycle
//!
//! 1. [`Discovery::new`] asks for this host's own addresses and those of the servers.
//! 2. As soon as one server has an address of a family this host has (IPv4 before IPv6), both
//!    surveys start: UDP with the tests of RFC 5780 (`ntcp_stun::behavior`), TCP with connections
//!    from one port. Servers whose names take longer join in. Nothing of both answers? Then the
//!    other family is tried.
//! 3. [`Event::Reachable`] tells the first answer on each transport, one round trip after the start.
//! 4. [`Event::Finished`] brings the [`Findings`]: on a path of 40 ms after half a second, and never
//!    later than the limit given. All sockets are closed, and the machine is idle.
//!
//! # What it is not
//!
//! It measures how long holes and connections live only if it is asked to ([`Config::timers`]), since that
//! takes minutes, and tells whether sequence numbers are rewritten only where it may look at its own
//! SYNs, or the system's numbers are known to follow a clock. Whose SYNs come in, it asks servers
//! of this project only (`ntcp_stun::probe`). It never says anything about the ports a later attempt will
//! use, but the pattern of their numbers.

mod advice;
mod evidence;
mod findings;
mod outbox;
mod port_control;
mod ports;
mod station;
mod survey;
mod tcp;
mod udp;
mod words;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

pub use advice::{Advice, Reach};
pub use evidence::Evidence;
pub use findings::Findings;
use ntcp_stun::behavior::mapping::MAX_SERVERS;
use outbox::Outbox;
pub use port_control::PortControl;
use port_control::PortControlTest;
pub use ports::{PortPattern, PortSample};
use survey::Survey;
use tcp::Wishes;

use crate::address::{Family, canonical};
use crate::candidate::Transport;
use crate::command::{Answer, Command, CommandId, Input, IoFailure, Owner};
use crate::entropy::{Entropy, Seed};
use crate::machine::{Deadline, Machine};
use crate::uri::{HostPort, TransportChoice};

/// The port of a STUN server whose address names none (RFC 8489 section 18.6).
pub const DEFAULT_STUN_PORT: u16 = 3478;

/// How long one discovery may take, unless told otherwise. A path of 200 ms with a lost SYN takes
/// half of it.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(5);

/// Linux adds one to its initial sequence numbers every 64 ns (`secure_tcp_seq`, since version 2.6.23;
/// measured on 6.18).
pub const LINUX_SEQUENCE_CLOCK: Duration = Duration::from_nanos(64);

/// How long a server's IPv4 address is waited for once only IPv6 ones are known (as long as RFC 8305
/// section 8 waits for the other family's attempt).
const FAMILY_PATIENCE: Duration = Duration::from_millis(250);

/// Addresses of one server name that are used.
const ADDRESSES_PER_NAME: usize = 2;

/// Whom to ask, and over what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// STUN servers, most trusted first; the port defaults to [`DEFAULT_STUN_PORT`]. Up to eight
    /// addresses are used.
    pub servers: Vec<HostPort>,
    /// UDP, TCP or both.
    pub transport: TransportChoice,
    /// When to give up what is still unanswered; [`DEFAULT_LIMIT`] suits most.
    pub limit: Duration,
    /// How long this system's initial sequence numbers take from one to the next between the same ends,
    /// if it takes them from a clock (RFC 6528 section 3): [`LINUX_SEQUENCE_CLOCK`] on Linux. `None`
    /// where that is not known: then only a capture tells whether they are rewritten.
    pub sequence_clock: Option<Duration>,
    /// Up to what times it is measured how long holes and idle connections live; that takes as long,
    /// which `limit` must allow. Default `None`: it is not measured.
    pub timers: Option<Duration>,
    /// The router, to be asked whether it takes orders about its ports; takes a second. Default `None`.
    pub gateway: Option<Ipv4Addr>,
}

impl Config {
    /// These servers, both transports, the usual limit, and nothing known of this system.
    pub fn new(servers: Vec<HostPort>) -> Self {
        let (transport, limit) = (TransportChoice::Any, DEFAULT_LIMIT);
        Self { servers, transport, limit, sequence_clock: None, timers: None, gateway: None }
    }
}

/// What a discovery tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first server answered over this transport.
    Reachable {
        /// Over what.
        transport: Transport,
        /// The server.
        server: SocketAddr,
        /// How it sees the socket that asked.
        public_address: SocketAddr,
    },
    /// All is known that will be known.
    Finished(Box<Findings>),
}

/// A server as configured.
#[derive(Debug)]
struct Server {
    name: HostPort,
    resolve: CommandId,
    /// `None` until the name has been looked up.
    addresses: Option<Result<Vec<SocketAddr>, IoFailure>>,
}

#[derive(Debug)]
enum Stage {
    /// Waits for addresses.
    Preparing,
    Surveying(Box<Survey>),
    Done,
}

/// The machine; the module documentation tells its life.
#[derive(Debug)]
pub struct Discovery {
    config: Config,
    entropy: Entropy,
    outbox: Outbox,
    events: VecDeque<Event>,
    started: Instant,
    list: CommandId,
    interfaces: Option<Vec<IpAddr>>,
    servers: Vec<Server>,
    port_control: Option<PortControlTest>,
    stage: Stage,
    /// Families already surveyed in vain.
    failed: Vec<Family>,
    family_patience: FamilyPatience,
    evidence: Vec<Evidence>,
}

impl Discovery {
    /// Starts a discovery whose commands and sockets belong to `owner`.
    pub fn new(config: Config, owner: Owner, seed: Seed, now: Instant) -> Self {
        let mut outbox = Outbox::new(owner);
        let list = outbox.name();
        outbox.push(Command::ListInterfaces { id: list });
        let resolve = |name: &HostPort| {
            let (resolve, port) = (outbox.name(), name.port.unwrap_or(DEFAULT_STUN_PORT));
            outbox.push(Command::Resolve { id: resolve, host: name.host.clone(), port });
            Server { name: name.clone(), resolve, addresses: None }
        };
        let servers = config.servers.iter().take(MAX_SERVERS).map(resolve).collect();
        let port_control = config.gateway.map(|it| PortControlTest::new(it, &mut outbox));
        Self {
            config,
            entropy: Entropy::new(seed),
            outbox,
            events: VecDeque::new(),
            started: now,
            list,
            interfaces: None,
            servers,
            port_control,
            stage: Stage::Preparing,
            failed: Vec::new(),
            family_patience: FamilyPatience::Left,
            evidence: Vec::new(),
        }
    }

    /// Ends the discovery with what is known so far.
    pub fn stop(&mut self, now: Instant) {
        self.finish(now);
    }

    fn on_answer(&mut self, id: CommandId, answer: Answer, now: Instant) {
        match answer {
            Answer::Interfaces(addresses) if id == self.list => {
                let addresses = addresses.into_iter().map(|it| it.to_canonical());
                self.interfaces.get_or_insert(addresses.collect());
            }
            Answer::Resolved(result) => {
                let server = self.servers.iter_mut().find(|it| it.resolve == id);
                if let Some(server) = server.filter(|it| it.addresses.is_none()) {
                    server.addresses = Some(result);
                }
            }
            Answer::Bound(result) => {
                if let Some(test) = &mut self.port_control {
                    test.on_bound(id, &result, &mut self.outbox, now);
                }
                let Some((survey, outbox)) = self.surveying() else { return };
                if let Some(tcp) = &mut survey.tcp {
                    tcp.on_bound(id, &result, outbox);
                }
                if let Some(udp) = &mut survey.udp {
                    udp.on_bound(id, result, outbox, now);
                }
            }
            Answer::Closed => {
                if let Some((survey, outbox)) = self.surveying()
                    && let Some(tcp) = &mut survey.tcp
                {
                    tcp.on_ended(id, outbox, now);
                }
            }
            Answer::Connected(result) => {
                if let Some((survey, outbox)) = self.surveying()
                    && let Some(tcp) = &mut survey.tcp
                {
                    tcp.on_connected(id, result, outbox, now);
                }
            }
            Answer::Sent(Err(failure)) => {
                let Some((survey, _)) = self.surveying() else { return };
                if let Some(udp) = &mut survey.udp {
                    udp.on_send_failure(failure);
                }
                if let Some(tcp) = &mut survey.tcp {
                    tcp.on_send_failure(id);
                }
            }
            Answer::Done(result) => {
                if let Some((survey, outbox)) = self.surveying()
                    && let Some(tcp) = &mut survey.tcp
                {
                    tcp.on_done(id, result, outbox, now);
                }
            }
            Answer::Interfaces(_) | Answer::Sent(Ok(())) => {}
        }
    }

    fn surveying(&mut self) -> Option<(&mut Survey, &mut Outbox)> {
        match &mut self.stage {
            Stage::Surveying(survey) => Some((survey, &mut self.outbox)),
            Stage::Preparing | Stage::Done => None,
        }
    }

    /// Moves on as far as what is known allows.
    fn advance(&mut self, now: Instant) {
        if let Stage::Preparing = self.stage {
            match self.choose_family() {
                Choice::Wait => return,
                Choice::Take(family) => self.survey(family, now),
                Choice::Nothing => return self.finish(now),
            }
        }
        self.contact_servers(now);
        let Stage::Surveying(survey) = &mut self.stage else { return };
        survey.share_knowledge(&mut self.outbox, now);
        self.events.extend(survey.news());
        let is_answered = self.port_control.as_ref().is_none_or(PortControlTest::is_settled);
        if survey.is_settled() && is_answered {
            self.settle(now);
        }
    }

    /// Which family to survey: IPv4 as soon as a server has it, IPv6 once none will.
    fn choose_family(&self) -> Choice {
        let Some(interfaces) = &self.interfaces else { return Choice::Wait };
        let is_ours =
            |family| interfaces.is_empty() || interfaces.iter().any(|ip| Family::of(*ip) == family);
        let known = |family| self.addresses(family).next().is_some();
        let fresh = |family: &Family| !self.failed.contains(family);
        let candidates =
            || [Family::V4, Family::V6].into_iter().filter(fresh).filter(|it| known(*it));
        let is_resolving = self.servers.iter().any(|it| it.addresses.is_none());
        let may_wait = self.family_patience == FamilyPatience::Left && fresh(&Family::V4);
        match candidates().find(|it| is_ours(*it)) {
            Some(Family::V6) if is_resolving && may_wait => Choice::Wait,
            Some(family) => Choice::Take(family),
            None if is_resolving => Choice::Wait,
            // Perhaps the list of interfaces does not tell everything.
            None => candidates().next().map_or(Choice::Nothing, Choice::Take),
        }
    }

    /// All servers' addresses of one family: each server's first one, then each server's second.
    fn addresses(&self, family: Family) -> impl Iterator<Item = SocketAddr> {
        (0..ADDRESSES_PER_NAME).flat_map(move |rank| {
            self.servers.iter().filter_map(move |server| {
                let addresses = server.addresses.as_ref()?.as_ref().ok()?;
                let usable = |it: &SocketAddr| Family::of(it.ip()) == family && it.port() != 0;
                addresses.iter().map(|it| canonical(*it)).filter(usable).nth(rank)
            })
        })
    }

    fn survey(&mut self, family: Family, now: Instant) {
        let Config { transport, sequence_clock, timers, .. } = self.config;
        let wishes = Wishes { sequence_clock, timers };
        let place = (family, transport, wishes);
        let survey = Survey::new(place, &mut self.entropy, &mut self.outbox, now);
        self.stage = Stage::Surveying(Box::new(survey));
    }

    fn contact_servers(&mut self, now: Instant) {
        let Stage::Surveying(survey) = &self.stage else { return };
        let known: Vec<SocketAddr> = self.addresses(survey.family).take(MAX_SERVERS).collect();
        let Stage::Surveying(survey) = &mut self.stage else { return };
        for server in known {
            if !survey.contacted.contains(&server) && survey.contacted.len() < MAX_SERVERS {
                survey.contact(server, &mut self.outbox, now);
            }
        }
    }

    /// Both surveys have ended: that is all, unless nothing answered and there is another family.
    fn settle(&mut self, now: Instant) {
        let Stage::Surveying(survey) = &self.stage else { return };
        if !survey.has_answer() {
            self.failed.push(survey.family);
            match self.choose_family() {
                Choice::Take(_) | Choice::Wait => {
                    self.evidence.extend(self.conclude().evidence);
                    self.outbox.close_all();
                    self.stage = Stage::Preparing;
                    return self.advance(now);
                }
                Choice::Nothing => {}
            }
        }
        self.finish(now);
    }

    fn conclude(&self) -> Findings {
        let (udp, tcp) = match &self.stage {
            Stage::Surveying(survey) => (survey.udp.as_ref(), survey.tcp.as_ref()),
            Stage::Preparing | Stage::Done => (None, None),
        };
        Findings::conclude(udp, tcp, self.interfaces.as_deref().unwrap_or_default())
    }

    fn resolve_evidence(&self) -> Vec<Evidence> {
        let unresolved = |server: &Server| {
            let failure = match &server.addresses {
                Some(Ok(_)) => return None,
                Some(Err(failure)) => *failure,
                None => IoFailure::TimedOut,
            };
            Some(Evidence::Unresolved { server: server.name.clone(), failure })
        };
        self.servers.iter().filter_map(unresolved).collect()
    }

    fn finish(&mut self, now: Instant) {
        if let Stage::Done = self.stage {
            return;
        }
        let mut findings = self.conclude();
        findings.port_control = self.port_control.as_ref().and_then(PortControlTest::finding);
        let mut evidence = self.resolve_evidence();
        evidence.append(&mut self.evidence);
        evidence.append(&mut findings.evidence);
        if now >= self.ends() {
            evidence.push(Evidence::OutOfTime);
        }
        findings.evidence = evidence;
        tracing::debug!(report = ?findings.report, "discovery finished");
        self.stage = Stage::Done;
        self.outbox.close_all();
        self.events.push_back(Event::Finished(Box::new(findings)));
    }

    fn ends(&self) -> Instant {
        self.started + self.config.limit
    }
}

/// Whether a server's IPv4 address may still be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FamilyPatience {
    Left,
    Gone,
}

/// What to do about the address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Wait,
    Take(Family),
    Nothing,
}

impl Machine for Discovery {
    type Input<'a> = Input<'a>;
    type Command = Command;
    type Event = Event;

    fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        match (input, &mut self.stage) {
            (_, Stage::Done) => return,
            (Input::UdpReceived { socket, source, payload }, _)
                if self.port_control.as_ref().is_some_and(|it| it.owns(socket)) =>
            {
                if let Some(test) = &mut self.port_control {
                    test.on_datagram(canonical(source), payload);
                }
            }
            (Input::Answer { id, answer }, _) => self.on_answer(id, answer, now),
            (input, Stage::Surveying(survey)) => survey.handle_input(input, &mut self.outbox, now),
            (input, Stage::Preparing) => tracing::trace!(?input, "too early"),
        }
        self.advance(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if now >= self.started + FAMILY_PATIENCE {
            self.family_patience = FamilyPatience::Gone;
        }
        if let Stage::Surveying(survey) = &mut self.stage {
            survey.handle_timeout(&mut self.outbox, now);
        }
        if let Some(test) = &mut self.port_control {
            test.handle_timeout(&mut self.outbox, now);
        }
        self.advance(now);
        if now >= self.ends() {
            self.finish(now);
        }
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.outbox.poll()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let ends = Some(Deadline::new(self.ends(), "end the discovery"));
        let own = match &self.stage {
            Stage::Done => return None,
            Stage::Preparing => match self.family_patience {
                FamilyPatience::Left => {
                    Some(Deadline::new(self.started + FAMILY_PATIENCE, "settle for IPv6"))
                }
                FamilyPatience::Gone => None,
            },
            Stage::Surveying(survey) => survey.poll_timeout(),
        };
        let port_control = self.port_control.as_ref().and_then(PortControlTest::poll_timeout);
        Deadline::earlier(Deadline::earlier(own, port_control), ends)
    }
}
