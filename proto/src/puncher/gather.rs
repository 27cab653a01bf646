//! The sockets that sessions punch from, and what the outside calls them.
//!
//! A [`Gatherer`] owns punching ports: each is a UDP socket and a TCP port in every address family
//! of the host. It asks the STUN servers from those very sockets, since another socket's mapping
//! says nothing about theirs, and keeps each TCP connection that discovered a mapping open: closing
//! it would let the NAT forget the port.
//!
//! A node listens on one port for good and takes a fresh one for each call: two paths between the
//! same two peers need different ends.
//!
//! ```text
//!  UDP: bind ──▶ ask each server, again every 20 s
//!  TCP: listen ──▶ connect to two servers from the same port ──▶ ask ──▶ hold one, asking every 25 s
//!                        ▲  │ refused, silent or closed
//!                        └──┘ next server, after a pause that grows
//! ```

mod port;
pub(in crate::puncher) mod probe;
mod tcp;
mod udp;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use port::Port;
pub use port::PortId;

use crate::address::{self, Family};
use crate::candidate::{Candidate, CandidateKind, MAX_CANDIDATES, Transport};
use crate::command::Names;
use crate::entropy::{Entropy, Seed};
use crate::machine::{Deadline, Machine};
use crate::signal::client::{DEFAULT_TCP_PORT, DEFAULT_UDP_PORT};
use crate::tcp_traversal::survey::Sample;
use crate::uri::HostPort;
use crate::{Answer, Command, CommandId, Input, IoFailure, SocketId};

/// STUN's port (RFC 8489 section 18.6).
pub const STUN_PORT: u16 = 3478;
/// Most addresses of STUN servers that are asked.
const MAX_SERVERS: usize = 8;

/// What a gatherer tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The system has answered for every socket of a port.
    Bound(PortId),
    /// Some candidates came, went or changed.
    Changed(PortId),
    /// A socket of a port could not be opened.
    BindFailed {
        /// The port.
        port: PortId,
        /// UDP or TCP.
        transport: Transport,
        /// The port number asked for; 0 if any would have done.
        number: u16,
        /// Why.
        failure: IoFailure,
    },
}

/// Over what a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Both,
    Udp,
    Tcp,
}

/// The servers' addresses, best first.
#[derive(Debug, Default)]
struct Servers {
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
    /// Those of `tcp` that are brokers.
    brokers: Vec<SocketAddr>,
    /// Whether a connection to a broker is wanted whoever else is asked.
    broker_wanted: bool,
}

/// Owns the sockets and learns their addresses.
#[derive(Debug)]
pub struct Gatherer {
    names: Names,
    entropy: Entropy,
    interfaces: Option<Vec<IpAddr>>,
    resolving: BTreeMap<CommandId, Asked>,
    servers: Servers,
    ports: BTreeMap<PortId, Port>,
    opened: u32,
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
}

impl Gatherer {
    /// A gatherer that asks `servers`, best first, on port 3478 unless they say otherwise, and the
    /// brokers, which answer Binding requests as well: a call must not depend on a STUN server that
    /// is down, and a broker does not end idle TCP connections, which public STUN servers do after
    /// seconds.
    pub fn new(
        servers: &[HostPort],
        udp_broker: Option<&HostPort>,
        tcp_broker: Option<&HostPort>,
        mut names: Names,
        seed: Seed,
    ) -> Self {
        let id = names.command();
        let mut commands = VecDeque::from([Command::ListInterfaces { id }]);
        let mut resolving = BTreeMap::new();
        let both = servers.iter().map(|server| (server, STUN_PORT, Asked::Both));
        let udp = udp_broker.map(|broker| (broker, DEFAULT_UDP_PORT, Asked::Udp));
        let tcp = tcp_broker.map(|broker| (broker, DEFAULT_TCP_PORT, Asked::Tcp));
        for (server, default_port, asked) in both.chain(udp).chain(tcp) {
            let (id, port) = (names.command(), server.port.unwrap_or(default_port));
            resolving.insert(id, asked);
            commands.push_back(Command::Resolve { id, host: server.host.clone(), port });
        }
        Self {
            names,
            entropy: Entropy::new(seed),
            interfaces: None,
            resolving,
            servers: Servers::default(),
            ports: BTreeMap::new(),
            opened: 0,
            commands,
            events: VecDeque::new(),
        }
    }

    /// Opens a punching port. `udp` is the UDP port number; 0 takes any free one.
    pub fn open_port(&mut self, udp: u16, now: Instant) -> PortId {
        self.opened += 1;
        let id = PortId(self.opened);
        self.ports.insert(id, Port { wanted: udp, ..Port::default() });
        self.open_ends(now);
        id
    }

    /// From now on a broker is among those that every port asks over TCP, and holds its mapping.
    pub fn want_broker(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.servers.broker_wanted, true) {
            self.drive(now);
        }
    }

    /// Closes a port and the connections that held its mapping.
    pub fn close_port(&mut self, id: PortId) {
        let Some(port) = self.ports.remove(&id) else { return };
        for socket in port.sockets() {
            let id = self.names.command();
            self.commands.push_back(Command::Close { id, socket });
        }
    }

    /// The port that owns this UDP socket or listener.
    pub fn port_of(&self, socket: SocketId) -> Option<PortId> {
        let owns = |port: &Port| {
            let udp = port.udp.iter().any(|end| end.socket == socket);
            udp || port.tcp.iter().any(|end| end.listener == socket)
        };
        self.ports.iter().find(|(_, port)| owns(port)).map(|(id, _)| *id)
    }

    /// The UDP sockets of a port with their local addresses.
    pub fn udp_sockets(&self, id: PortId) -> Vec<(SocketId, SocketAddr)> {
        let ends = self.ports.get(&id).into_iter().flat_map(|port| &port.udp);
        ends.filter_map(|end| Some((end.socket, end.local?.ok()?))).collect()
    }

    /// What the servers call a port's UDP half, an answer each, in IPv4 or else in IPv6.
    pub fn udp_told(&self, id: PortId) -> Vec<SocketAddr> {
        let ends = self.ports.get(&id).into_iter().flat_map(|port| &port.udp);
        let told = |end: &udp::UdpEnd| end.answers().map(|(_, mapped)| mapped).collect();
        ends.min_by_key(|end| end.family).map(told).unwrap_or_default()
    }

    /// The servers to ask over UDP, those first that have answered from this port.
    pub fn udp_servers(&self, id: PortId) -> Vec<SocketAddr> {
        let ends = self.ports.get(&id).into_iter().flat_map(|port| &port.udp);
        let answered = ends.flat_map(udp::UdpEnd::answers).map(|(server, _)| server);
        with_others(answered.collect(), &self.servers.udp)
    }

    /// The local addresses of a port's TCP half.
    pub fn tcp_locals(&self, id: PortId) -> Vec<SocketAddr> {
        let ends = self.ports.get(&id).into_iter().flat_map(|port| &port.tcp);
        ends.filter_map(|end| end.local?.ok()).collect()
    }

    /// What the servers call a port's TCP half, an answer each, in IPv4 or else in IPv6.
    pub fn tcp_told(&self, id: PortId) -> Vec<SocketAddr> {
        let ends = self.ports.get(&id).into_iter().flat_map(|port| &port.tcp);
        ends.min_by_key(|end| end.family).map(tcp::TcpEnd::answers).unwrap_or_default()
    }

    /// A port's TCP half, and what the first server to answer calls it, in IPv4 or else in IPv6; and whether
    /// another server says the same.
    pub fn tcp_sample(&self, id: PortId) -> Option<(Sample, bool)> {
        let ends = self.ports.get(&id).into_iter().flat_map(|port| &port.tcp);
        let end = ends.min_by_key(|end| end.family)?;
        let answers = end.answers();
        let (local, mapped) = end.local?.ok().zip(answers.first().copied())?;
        let is_sure = answers.len() > 1 && answers.iter().all(|it| *it == mapped);
        Some((Sample { local, mapped }, is_sure))
    }

    /// The connection to a broker from a port's TCP half in `family`, if one is held.
    pub fn broker_stream(&self, id: PortId, family: Family) -> Option<SocketId> {
        let ends = self.ports.get(&id).into_iter().flat_map(|port| &port.tcp);
        let end = ends.into_iter().find(|end| end.family == family)?;
        end.broker_stream(&self.servers.brokers)
    }

    /// The servers to ask over TCP, those first that have answered from this port.
    pub fn tcp_servers(&self, id: PortId) -> Vec<SocketAddr> {
        let ends = self.ports.get(&id).into_iter().flat_map(|port| &port.tcp);
        with_others(ends.flat_map(tcp::TcpEnd::answered).collect(), &self.servers.tcp)
    }

    /// Every address at which a port may be reached, the host's own first.
    pub fn candidates(&self, id: PortId) -> Vec<Candidate> {
        let Some(port) = self.ports.get(&id) else { return Vec::new() };
        let mut candidates = Vec::new();
        for end in &port.udp {
            self.add_hosts(Transport::Udp, end.local, &mut candidates);
        }
        for end in &port.tcp {
            self.add_hosts(Transport::Tcp, end.local, &mut candidates);
        }
        let mut mapped = Vec::new();
        for address in port.udp.iter().flat_map(udp::UdpEnd::mapped) {
            add_mapped(Transport::Udp, address, &candidates, &mut mapped);
        }
        for address in port.tcp.iter().flat_map(tcp::TcpEnd::mapped) {
            add_mapped(Transport::Tcp, address, &candidates, &mut mapped);
        }
        for address in port.likely_tcp() {
            add_mapped(Transport::Tcp, address, &candidates, &mut mapped);
        }
        // A host with very many addresses announces fewer of them rather than no mapped one.
        candidates.truncate(MAX_CANDIDATES.saturating_sub(mapped.len()));
        candidates.extend(mapped);
        candidates.truncate(MAX_CANDIDATES);
        candidates
    }

    /// A broker saw the UDP half of a port at this address.
    pub fn observed(&mut self, id: PortId, address: SocketAddr) {
        let family = Family::of(address.ip());
        let Some(port) = self.ports.get_mut(&id) else { return };
        let Some(end) = port.udp.iter_mut().find(|end| end.family == family) else { return };
        if end.on_observed(address) {
            self.events.push_back(Event::Changed(id));
        }
    }

    /// Whether every question about a port has been answered, or is not worth waiting for.
    pub fn is_settled(&self, id: PortId) -> bool {
        let Some(port) = self.ports.get(&id) else { return true };
        // A name that takes long to be looked up is not worth waiting for once a server has told.
        let asked = self.resolving.is_empty() || port.is_told();
        self.interfaces.is_some() && asked && port.is_settled(&self.servers)
    }

    fn families(&self) -> Vec<Family> {
        let Some(interfaces) = &self.interfaces else { return Vec::new() };
        let v6 = interfaces.iter().any(IpAddr::is_ipv6);
        if v6 { vec![Family::V4, Family::V6] } else { vec![Family::V4] }
    }

    fn open_ends(&mut self, now: Instant) {
        let families = self.families();
        for port in self.ports.values_mut() {
            self.commands.extend(port.open(&families, &mut self.names));
        }
        self.drive(now);
    }

    fn drive(&mut self, now: Instant) {
        for port in self.ports.values_mut() {
            let more = port.drive(&self.servers, &mut self.names, &mut self.entropy, now);
            self.commands.extend(more);
        }
    }

    fn add_hosts(
        &self,
        transport: Transport,
        local: Option<Result<SocketAddr, IoFailure>>,
        candidates: &mut Vec<Candidate>,
    ) {
        let Some(Ok(local)) = local else { return };
        let family = Family::of(local.ip());
        let of_family = |ip: &&IpAddr| Family::of(**ip) == family;
        for ip in self.interfaces.iter().flatten().filter(of_family) {
            let address = SocketAddr::new(*ip, local.port());
            candidates.push(Candidate { kind: CandidateKind::Host, transport, address });
        }
    }

    fn on_resolved(&mut self, asked: Asked, addresses: &[SocketAddr], now: Instant) {
        let lists = match asked {
            Asked::Both => [Some(&mut self.servers.udp), Some(&mut self.servers.tcp)],
            Asked::Udp => [Some(&mut self.servers.udp), None],
            Asked::Tcp => [None, Some(&mut self.servers.tcp)],
        };
        for list in lists.into_iter().flatten() {
            for server in addresses.iter().map(|it| address::canonical(*it)) {
                if !list.contains(&server) && list.len() < MAX_SERVERS {
                    list.push(server);
                }
            }
        }
        if asked == Asked::Tcp {
            let brokers = addresses.iter().map(|it| address::canonical(*it)).take(MAX_SERVERS);
            self.servers.brokers = brokers.collect();
        }
        self.drive(now);
    }

    fn on_bound(
        &mut self,
        answered: CommandId,
        bound: Result<SocketAddr, IoFailure>,
        now: Instant,
    ) {
        for (id, port) in &mut self.ports {
            let udp = port.udp.iter_mut().any(|end| end.on_bound(answered, bound));
            let tcp = !udp && port.tcp.iter_mut().any(|end| end.on_bound(answered, bound));
            if !udp && !tcp {
                continue;
            }
            let transport = if udp { Transport::Udp } else { Transport::Tcp };
            let number = if udp { port.wanted } else { 0 };
            if let Err(failure) = bound
                && (is_ours_to_mend(failure) || !port.may_have(transport))
            {
                let port = *id;
                self.events.push_back(Event::BindFailed { port, transport, number, failure });
            }
            self.events.push_back(Event::Changed(*id));
            if port.is_bound() {
                self.events.push_back(Event::Bound(*id));
            }
        }
        self.drive(now);
    }

    fn on_answer(&mut self, id: CommandId, answer: Answer, now: Instant) {
        match answer {
            Answer::Bound(bound) => self.on_bound(id, bound, now),
            Answer::Interfaces(interfaces) => {
                if self.interfaces.is_none() {
                    self.interfaces = Some(interfaces);
                    self.open_ends(now);
                }
            }
            Answer::Resolved(resolved) => {
                if let Some(asked) = self.resolving.remove(&id) {
                    self.on_resolved(asked, &resolved.unwrap_or_default(), now);
                }
            }
            Answer::Connected(connected) => {
                for end in self.ports.values_mut().flat_map(|port| &mut port.tcp) {
                    end.on_connected(id, connected, now);
                }
                self.drive(now);
            }
            Answer::Sent(_) | Answer::Done(_) | Answer::Closed => {}
        }
    }
}

impl Machine for Gatherer {
    type Input<'a> = Input<'a>;
    type Command = Command;
    type Event = Event;

    fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Answer { id, answer } => self.on_answer(id, answer, now),
            Input::UdpReceived { socket, source, payload } => {
                for (id, port) in &mut self.ports {
                    let ours = port.udp.iter_mut().find(|end| end.socket == socket);
                    if ours.is_some_and(|end| end.on_datagram(source, payload, now)) {
                        self.events.push_back(Event::Changed(*id));
                    }
                }
            }
            Input::TcpReceived { socket, payload } => {
                for (id, port) in &mut self.ports {
                    let brokers = &self.servers.brokers;
                    let tells =
                        |end: &mut tcp::TcpEnd| end.on_message(brokers, (socket, payload), now);
                    if port.tcp.iter_mut().any(tells) {
                        self.events.push_back(Event::Changed(*id));
                    }
                }
                self.drive(now);
            }
            Input::TcpClosed { socket, .. } => {
                for end in self.ports.values_mut().flat_map(|port| &mut port.tcp) {
                    end.on_closed(socket, now);
                }
                self.drive(now);
            }
            Input::TcpAccepted { .. } | Input::Captured { .. } => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.drive(now);
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let next = self.ports.values().filter_map(Port::next).min();
        next.map(|at| Deadline::new(at, "STUN request"))
    }
}

/// The first ones, and all that are not among them.
fn with_others(mut first: Vec<SocketAddr>, all: &[SocketAddr]) -> Vec<SocketAddr> {
    let others: Vec<_> = all.iter().filter(|it| !first.contains(it)).copied().collect();
    first.extend(others);
    first
}

/// Whether a port that cannot be opened is a matter of configuration. Otherwise it may be that the
/// system has a family by name only, and the other one will do.
fn is_ours_to_mend(failure: IoFailure) -> bool {
    matches!(failure, IoFailure::AddressInUse | IoFailure::NotPermitted | IoFailure::OutOfResources)
}

/// Adds a mapped address, unless the host itself has it: then there is no NAT.
fn add_mapped(
    transport: Transport,
    address: SocketAddr,
    hosts: &[Candidate],
    mapped: &mut Vec<Candidate>,
) {
    let same = |it: &Candidate| it.transport == transport && it.address == address;
    if !hosts.iter().any(same) && !mapped.iter().any(same) {
        mapped.push(Candidate { kind: CandidateKind::ServerReflexive, transport, address });
    }
}

#[cfg(test)]
mod tests;
