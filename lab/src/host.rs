//! A host's kernel: UDP sockets, and TCP by smoltcp made to behave like Linux.
//!
//! The host is a value like every other in the lab. It is handed packets and system calls and the
//! time; packets to send and things to tell are taken from it. Which connection a segment belongs to
//! is decided here, as Linux decides it: an existing connection first (so that a connecting socket
//! wins over a listener on the same port), then a listener, and a RST if there is neither.
//!
//! It is not a router, never fragments, and knows one route: everything leaves through its one link.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ntcp_proto::IoFailure;
use ntcp_proto::command::Ends;
use ntcp_proto::entropy::{Entropy, Seed};
use ntcp_proto::segment::Segment;

use crate::packet::{self, IcmpError, Packet, Protocol};

mod clock;
mod connection;
mod privileged;
mod queues;
mod system_calls;
#[cfg(test)]
mod tests;

pub use connection::SYN_SCHEDULE;
use connection::{Connection, Happening, Origin};
pub use privileged::Privileges;

/// TTL of packets that ask for no other; Linux' default.
pub const DEFAULT_TTL: u8 = 64;

/// Ports given to sockets that ask for none: `ip_local_port_range` of Linux.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// Most connections in the hands of the system, so that a flood is bounded.
const MAX_CONNECTIONS: usize = 4096;

/// Names a socket of a host; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket(u64);

/// Something happened to a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A datagram arrived.
    Datagram {
        /// Where.
        socket: Socket,
        /// The address of the host it was sent to.
        local: SocketAddr,
        /// From whom.
        source: SocketAddr,
        /// Its bytes.
        payload: Vec<u8>,
    },
    /// Connecting ended.
    Connected {
        /// Which socket; gone if it failed.
        socket: Socket,
        /// How.
        result: Result<Ends, IoFailure>,
    },
    /// A listener accepted a stream.
    Accepted {
        /// The listener.
        listener: Socket,
        /// The new stream.
        socket: Socket,
        /// Its ends.
        ends: Ends,
    },
    /// Bytes arrived on a stream.
    Data {
        /// Which.
        socket: Socket,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A capture saw the SYN it waited for.
    Captured {
        /// The capture.
        socket: Socket,
        /// The SYN as it leaves.
        segment: Segment,
    },
    /// A stream ended; the socket is gone.
    Ended {
        /// Which.
        socket: Socket,
        /// Why.
        reason: IoFailure,
    },
}

/// Who is told about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    /// The one who connects.
    Dialer(Socket),
    /// The one who listens, once the handshake is over.
    Acceptor { listener: Socket, socket: Socket },
    /// The one who has the open stream.
    Owner(Socket),
    /// Nobody any more: it is being closed.
    Nobody,
}

/// The kernel of one host.
pub struct Host {
    addresses: Vec<IpAddr>,
    datagram_sockets: BTreeMap<Socket, SocketAddr>,
    listeners: BTreeMap<Socket, SocketAddr>,
    /// The SYNs of accepted streams (`TCP_SAVE_SYN`).
    saved: BTreeMap<Socket, Vec<u8>>,
    /// Listeners that hear nothing with a TTL below this (`IP_MINTTL`).
    shielded: BTreeMap<Socket, u8>,
    connections: BTreeMap<PairKey, (Connection, User)>,
    streams: BTreeMap<Socket, PairKey>,
    captures: BTreeMap<Socket, privileged::Capture>,
    privileges: Privileges,
    names: u64,
    entropy: Entropy,
    /// When the 64 ns clock of initial sequence numbers read 0.
    epoch: Instant,
    sequence_secret: u64,
    outgoing: VecDeque<Vec<u8>>,
    notices: VecDeque<Notice>,
}

/// A pair of ends, ordered.
type PairKey = (SocketAddr, SocketAddr);

fn pair(ends: Ends) -> PairKey {
    (ends.local, ends.remote)
}

impl Host {
    /// A host with these addresses; the first of a family is the source of what is sent from the
    /// unspecified address.
    pub fn new(addresses: Vec<IpAddr>, seed: Seed, epoch: Instant) -> Self {
        let mut entropy = Entropy::new(seed);
        let sequence_secret = entropy.number();
        Self {
            addresses,
            datagram_sockets: BTreeMap::new(),
            listeners: BTreeMap::new(),
            saved: BTreeMap::new(),
            shielded: BTreeMap::new(),
            connections: BTreeMap::new(),
            streams: BTreeMap::new(),
            captures: BTreeMap::new(),
            privileges: Privileges::NONE,
            names: 0,
            entropy,
            epoch,
            sequence_secret,
            outgoing: VecDeque::new(),
            notices: VecDeque::new(),
        }
    }

    /// Its own addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The next packet to send; those to the host itself have arrived.
    pub fn next_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
        loop {
            let bytes = self.outgoing.pop_front()?;
            let Ok(packet) = Packet::parse(&bytes) else { continue };
            self.show_to_captures(&packet);
            if !self.addresses.contains(&packet.destination_ip()) {
                return Some(bytes);
            }
            self.handle_packet(&bytes, now);
        }
    }

    /// The next thing to tell.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    // --- packets -----------------------------------------------------------------------------

    /// A packet arrived; those for others are ignored.
    pub fn handle_packet(&mut self, bytes: &[u8], now: Instant) {
        let Ok(packet) = Packet::parse(bytes) else { return };
        if !self.addresses.contains(&packet.destination_ip()) {
            return;
        }
        match packet.protocol() {
            Protocol::Udp => self.handle_datagram(&packet),
            Protocol::Tcp => self.handle_segment(packet, now),
            Protocol::Icmp => self.handle_icmp(&packet, now),
            Protocol::Other(_) => {}
        }
    }

    fn handle_datagram(&mut self, packet: &Packet) {
        let Some((source, local)) = packet.source().zip(packet.destination()) else { return };
        let socket = self
            .datagram_sockets
            .iter()
            .filter(|(_, bound)| is_bound(**bound, local))
            .max_by_key(|(_, bound)| !bound.ip().is_unspecified())
            .map(|(socket, _)| *socket);
        match socket {
            Some(socket) => {
                let payload = packet.payload().to_vec();
                self.notices.push_back(Notice::Datagram { socket, local, source, payload });
            }
            None => self.outgoing.extend(packet::icmp_error(
                local.ip(),
                packet,
                IcmpError::PortUnreachable,
            )),
        }
    }

    fn handle_segment(&mut self, packet: Packet, now: Instant) {
        let Some(ends) = connection::ends_of(&packet) else { return };
        let key = pair(ends);
        let syn = packet.tcp().is_some_and(|fields| fields.is_syn());
        if let Some((connection, _)) = self.connections.get_mut(&key) {
            if !(syn && connection.is_waiting()) {
                connection.handle_segment(packet, now);
                return self.advance_connection(key, now);
            }
            self.connections.remove(&key);
        }
        let listener = self
            .listeners
            .iter()
            .filter(|(_, bound)| is_bound(**bound, ends.local))
            .max_by_key(|(_, bound)| !bound.ip().is_unspecified())
            .map(|(socket, _)| *socket);
        match listener {
            Some(listener) if self.shielded.get(&listener).is_some_and(|it| packet.ttl() < *it) => {
            }
            Some(listener) if syn && self.connections.len() < MAX_CONNECTIONS => {
                let socket = self.name();
                self.saved.insert(socket, packet.clone().seal());
                let initial = self.initial_sequence(ends, now);
                let mut connection = Connection::new(Origin::Accept, ends, initial, now);
                connection.handle_segment(packet, now);
                self.connections.insert(key, (connection, User::Acceptor { listener, socket }));
                self.streams.insert(socket, key);
                self.advance_connection(key, now);
            }
            Some(_) | None => self.outgoing.extend(packet::refuse(&packet)),
        }
    }

    fn handle_icmp(&mut self, packet: &Packet, now: Instant) {
        // A UDP socket that is not connected does not hear of ICMP errors in Linux.
        let Some((error, quoted)) = packet.icmp() else { return };
        let (Protocol::Tcp, Some(sequence)) = (quoted.protocol, quoted.sequence) else { return };
        let key = (quoted.source, quoted.destination);
        if let Some((connection, _)) = self.connections.get_mut(&key) {
            let ttl = if packet.is_v4() { quoted.ttl } else { packet.ttl() };
            connection.handle_icmp(error, sequence, ttl);
            self.advance_connection(key, now);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<PairKey> = self
            .connections
            .iter_mut()
            .filter_map(|(key, (connection, _))| {
                connection.deadline(now).is_some_and(|at| at <= now).then_some(*key)
            })
            .collect();
        for key in due {
            self.advance_connection(key, now);
        }
    }

    /// When [`Host::handle_timeout`] is to be called.
    pub fn deadline(&mut self, now: Instant) -> Option<Instant> {
        /// smoltcp's clock has no finer step, so that an earlier call would change nothing.
        const TICK: Duration = Duration::from_micros(1);
        let deadlines =
            self.connections.values_mut().filter_map(|(connection, _)| connection.deadline(now));
        deadlines.min().map(|at| at.max(now + TICK))
    }

    fn advance_connection(&mut self, key: PairKey, now: Instant) {
        let Some((connection, user)) = self.connections.get_mut(&key) else { return };
        self.outgoing.extend(connection.advance(now));
        let ends = connection.ends();
        let mut gone = None;
        while let Some(happening) = connection.next_happening() {
            let notice = match (*user, happening) {
                (User::Dialer(socket), Happening::Established) => {
                    *user = User::Owner(socket);
                    Some(Notice::Connected { socket, result: Ok(ends) })
                }
                (User::Acceptor { listener, socket }, Happening::Established) => {
                    *user = User::Owner(socket);
                    Some(Notice::Accepted { listener, socket, ends })
                }
                (User::Dialer(socket), Happening::Failed(reason)) => {
                    gone = Some(socket);
                    Some(Notice::Connected { socket, result: Err(reason) })
                }
                (User::Owner(socket), Happening::Data(bytes)) => {
                    Some(Notice::Data { socket, bytes })
                }
                (User::Owner(socket), Happening::Ended(reason)) => {
                    gone = Some(socket);
                    Some(Notice::Ended { socket, reason })
                }
                (User::Acceptor { socket, .. }, Happening::Failed(_)) => {
                    gone = Some(socket);
                    None
                }
                (User::Nobody, _)
                | (User::Owner(_), Happening::Established | Happening::Failed(_))
                | (
                    User::Dialer(_) | User::Acceptor { .. },
                    Happening::Data(_) | Happening::Ended(_),
                ) => None,
            };
            self.notices.extend(notice);
        }
        if let Some(socket) = gone {
            self.streams.remove(&socket);
            self.saved.remove(&socket);
            *user = User::Nobody;
            self.outgoing.extend(connection.advance(now));
        }
        if connection.is_dead() {
            self.connections.remove(&key);
            self.streams.retain(|_, other| *other != key);
        }
    }
}

/// Whether a socket bound to `bound` gets what is sent to `local`.
fn is_bound(bound: SocketAddr, local: SocketAddr) -> bool {
    bound.port() == local.port()
        && bound.is_ipv4() == local.is_ipv4()
        && (bound.ip().is_unspecified() || bound.ip() == local.ip())
}
