//! What programs ask of their host's kernel.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ntcp_proto::command::Ends;
use ntcp_proto::{Hops, IoFailure};

use super::connection::{Connection, Origin};
use super::queues::MTU;
use super::{DEFAULT_TTL, EPHEMERAL, Host, MAX_CONNECTIONS, Socket, User, pair};
use crate::packet;

impl Host {
    /// Binds a UDP socket; port 0 takes any free one.
    ///
    /// # Errors
    ///
    /// An address that is not the host's, or a port in use.
    pub fn bind_udp(&mut self, local: SocketAddr) -> Result<(Socket, SocketAddr), IoFailure> {
        self.check_local(local.ip())?;
        let used: Vec<SocketAddr> = self.datagram_sockets.values().copied().collect();
        let local = self.with_port(local, &used)?;
        let socket = self.name();
        self.datagram_sockets.insert(socket, local);
        Ok((socket, local))
    }

    /// Sends one datagram.
    ///
    /// # Errors
    ///
    /// An unknown socket, no address of that family, or more than the link carries: there are no
    /// fragments here.
    pub fn send_udp(
        &mut self,
        socket: Socket,
        remote: SocketAddr,
        ttl: Option<u8>,
        payload: &[u8],
    ) -> Result<(), IoFailure> {
        let local = *self.datagram_sockets.get(&socket).ok_or(IoFailure::Closed)?;
        let source = self.source_for(local, remote)?;
        let headers = if remote.is_ipv4() { 28 } else { 48 };
        if payload.len() + headers > MTU {
            return Err(IoFailure::MessageTooLong);
        }
        let ttl = ttl.unwrap_or(DEFAULT_TTL).max(1);
        self.outgoing.push_back(packet::udp(source, remote, ttl, payload));
        Ok(())
    }

    /// Listens for TCP connections, sharing the port with whoever else has it.
    ///
    /// # Errors
    ///
    /// An address that is not the host's.
    pub fn listen_tcp(&mut self, local: SocketAddr) -> Result<(Socket, SocketAddr), IoFailure> {
        self.check_local(local.ip())?;
        let local = self.with_stream_port(local)?;
        let socket = self.name();
        self.listeners.insert(socket, local);
        Ok((socket, local))
    }

    /// Connects over TCP from `local`, sharing its port. The initial sequence number is the
    /// system's choice, or `sequence`, which needs [`Privileges::admin`](super::Privileges::admin).
    ///
    /// # Errors
    ///
    /// No privilege, an address that is not the host's, no address of that family, or a pair of ends in use.
    pub fn connect_tcp(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        hops: Hops,
        sequence: Option<u32>,
        now: Instant,
    ) -> Result<Socket, IoFailure> {
        if sequence.is_some() && !self.privileges.admin {
            return Err(IoFailure::NotPermitted);
        }
        let ends = self.free_ends(local, remote)?;
        let initial = sequence.unwrap_or_else(|| self.initial_sequence(ends, now));
        let mut connection = Connection::new(Origin::Connect, ends, initial, now);
        connection.set_hops(hops);
        if connection.is_dead() {
            return Err(IoFailure::AddressNotAvailable);
        }
        Ok(self.dial(connection, now))
    }

    /// The ends of a new connection from `local` to `remote`, which no other may have.
    pub(super) fn free_ends(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Ends, IoFailure> {
        self.check_local(local.ip())?;
        if remote.ip().is_unspecified() || remote.port() == 0 {
            return Err(IoFailure::AddressNotAvailable);
        }
        let bound = self.with_stream_port(local)?;
        let ends = Ends { local: self.source_for(bound, remote)?, remote };
        if self.connections.len() >= MAX_CONNECTIONS {
            return Err(IoFailure::OutOfResources);
        }
        if self.connections.contains_key(&pair(ends)) {
            return Err(IoFailure::AddressNotAvailable);
        }
        Ok(ends)
    }

    /// Lets a connection go its way, for a new socket.
    pub(super) fn dial(&mut self, connection: Connection, now: Instant) -> Socket {
        let (socket, key) = (self.name(), pair(connection.ends()));
        self.connections.insert(key, (connection, User::Dialer(socket)));
        self.streams.insert(socket, key);
        self.advance_connection(key, now);
        socket
    }

    /// Sends bytes on a stream.
    ///
    /// # Errors
    ///
    /// An unknown socket, or one that is not connected yet.
    pub fn send_tcp(
        &mut self,
        socket: Socket,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), IoFailure> {
        /// `ENOTCONN` of Linux.
        const NOT_CONNECTED: i32 = 107;
        let key = *self.streams.get(&socket).ok_or(IoFailure::Closed)?;
        let (connection, _) = self.connections.get_mut(&key).ok_or(IoFailure::Closed)?;
        if connection.is_opening() {
            return Err(IoFailure::Other(NOT_CONNECTED));
        }
        connection.send(bytes);
        self.advance_connection(key, now);
        Ok(())
    }

    /// Changes how a stream's segments travel from now on, and which ones it hears; of a listener,
    /// which ones it hears.
    pub fn set_hops(&mut self, socket: Socket, hops: Hops) {
        if self.listeners.contains_key(&socket) {
            self.shielded.insert(socket, hops.least.unwrap_or_default());
        }
        let connection = self.streams.get(&socket).and_then(|key| self.connections.get_mut(key));
        if let Some((connection, _)) = connection {
            connection.set_hops(hops);
        }
    }

    /// The ends of a connect whose SYN nobody has answered, with one of their own either.
    pub fn unanswered(&self, socket: Socket) -> Option<Ends> {
        let (connection, _) = self.connections.get(self.streams.get(&socket)?)?;
        connection.is_syn_sent().then(|| connection.ends())
    }

    /// Closes a socket of any kind. A pending connection vanishes without a word.
    pub fn close(&mut self, socket: Socket, now: Instant) {
        self.datagram_sockets.remove(&socket);
        self.listeners.remove(&socket);
        self.shielded.remove(&socket);
        self.saved.remove(&socket);
        self.captures.remove(&socket);
        if let Some(key) = self.streams.remove(&socket) {
            if let Some((connection, user)) = self.connections.get_mut(&key) {
                connection.close();
                *user = User::Nobody;
            }
            self.advance_connection(key, now);
        }
    }

    /// The SYN that opened an accepted stream, as it arrived.
    pub fn saved_syn(&self, socket: Socket) -> Option<&[u8]> {
        self.saved.get(&socket).map(Vec::as_slice)
    }

    /// Closes a stream with a RST: its pair of ends is free at once.
    pub fn abort(&mut self, socket: Socket, now: Instant) {
        let Some(key) = self.streams.remove(&socket) else { return };
        self.saved.remove(&socket);
        if let Some((connection, user)) = self.connections.get_mut(&key) {
            connection.abort();
            *user = User::Nobody;
        }
        self.advance_connection(key, now);
    }

    pub(super) fn name(&mut self) -> Socket {
        self.names += 1;
        Socket(self.names)
    }

    fn check_local(&self, ip: IpAddr) -> Result<(), IoFailure> {
        if ip.is_unspecified() || self.addresses.contains(&ip) {
            return Ok(());
        }
        Err(IoFailure::AddressNotAvailable)
    }

    /// `bound` with the address a packet to `remote` leaves from.
    fn source_for(&self, bound: SocketAddr, remote: SocketAddr) -> Result<SocketAddr, IoFailure> {
        if !bound.ip().is_unspecified() {
            let fits = bound.is_ipv4() == remote.is_ipv4();
            return if fits { Ok(bound) } else { Err(IoFailure::NetworkUnreachable) };
        }
        let ip = self.addresses.iter().find(|ip| ip.is_ipv4() == remote.is_ipv4());
        ip.map(|ip| SocketAddr::new(*ip, bound.port())).ok_or(IoFailure::NetworkUnreachable)
    }

    /// `local` with a port, none of `used`.
    fn with_port(
        &mut self,
        local: SocketAddr,
        used: &[SocketAddr],
    ) -> Result<SocketAddr, IoFailure> {
        let clashes = |candidate: SocketAddr| {
            used.iter().any(|other| {
                let same_ip = other.ip() == candidate.ip()
                    || other.ip().is_unspecified()
                    || candidate.ip().is_unspecified();
                other.port() == candidate.port()
                    && other.is_ipv4() == candidate.is_ipv4()
                    && same_ip
            })
        };
        if local.port() != 0 {
            return if clashes(local) { Err(IoFailure::AddressInUse) } else { Ok(local) };
        }
        let span = u64::from(EPHEMERAL.end() - EPHEMERAL.start()) + 1;
        let first = u16::try_from(self.entropy.below(span)).unwrap_or_default();
        let (low, high) = (*EPHEMERAL.start(), *EPHEMERAL.end());
        (low + first..=high)
            .chain(low..low + first)
            .map(|port| SocketAddr::new(local.ip(), port))
            .find(|candidate| !clashes(*candidate))
            .ok_or(IoFailure::AddressInUse)
    }

    /// TCP ports are shared by those who name them; an unnamed one is fresh.
    fn with_stream_port(&mut self, local: SocketAddr) -> Result<SocketAddr, IoFailure> {
        if local.port() != 0 {
            return Ok(local);
        }
        let connected = self.connections.keys().map(|(local, _)| *local);
        let used: Vec<SocketAddr> = self.listeners.values().copied().chain(connected).collect();
        self.with_port(local, &used)
    }

    /// RFC 6528 with the 64 ns clock of Linux: later connections of a pair have later numbers.
    pub(super) fn initial_sequence(&self, ends: Ends, now: Instant) -> u32 {
        let clock = now.saturating_duration_since(self.epoch).as_nanos() / 64;
        let hash = fingerprint(self.sequence_secret, &format!("{} {}", ends.local, ends.remote));
        (hash as u32).wrapping_add(clock as u32)
    }
}

/// FNV-1a over `text`, keyed; spreads sequence numbers, protects nothing.
fn fingerprint(key: u64, text: &str) -> u64 {
    text.bytes().fold(key ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
