//! One TCP connection: smoltcp, made to behave like Linux where hole punching can see a difference.
//!
//! Each connection has a smoltcp interface and socket of its own, so that the host decides which
//! connection a segment belongs to. Segments are adjusted on their way in and out:
//!
//! * **Initial sequence number.** smoltcp draws it at random; Linux derives it from the pair of ends
//!   and adds a 64 ns clock, so that a reconnect has a *later* one, which connection tracking on the
//!   way insists on. All sequence numbers are shifted by the difference.
//! * **SYN retransmission.** smoltcp doubles a timer of one second; Linux repeats the SYN four times
//!   at a distance of a second before it doubles. smoltcp's repetitions are swallowed and the first
//!   SYN is sent again by [`SYN_SCHEDULE`].
//! * **Simultaneous open.** smoltcp answers a SYN-ACK in SYN-RECEIVED with a challenge ACK and waits
//!   for an ACK, which takes another round trip; Linux (since July 2024) takes it for the ACK that it
//!   contains. Such a SYN-ACK is turned into that ACK, and answered with one.
//! * **Timestamps** are added on the way out and judged on the way in, see [`super::clock`].
//! * **No handshake.** smoltcp knows no `TCP_REPAIR`. [`Connection::assume`] lets it shake hands with
//!   a SYN-ACK made up from what both ends agreed on, and nothing of that leaves the host.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ntcp_proto::command::{Agreed, Ends};
use ntcp_proto::segment::{self, Options};
use ntcp_proto::{Hops, IoFailure};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint};

use super::DEFAULT_TTL;
use super::clock::Clock;
use super::queues::Queues;
use crate::packet::{Packet, flag};

mod segments;

/// When the SYN is sent again, after it was first sent: measured on Linux 6.18 with
/// `tcp_syn_linear_timeouts` = 4 and `tcp_syn_retries` = 6.
pub const SYN_SCHEDULE: [Duration; 10] = [
    Duration::from_millis(1_000),
    Duration::from_millis(2_050),
    Duration::from_millis(3_070),
    Duration::from_millis(4_100),
    Duration::from_millis(5_100),
    Duration::from_millis(7_100),
    Duration::from_millis(11_200),
    Duration::from_millis(19_400),
    Duration::from_millis(35_800),
    Duration::from_millis(68_600),
];

/// When connecting is given up.
const SYN_TIMEOUT: Duration = Duration::from_secs(134);

/// When a handshake that somebody else began is given up: `tcp_synack_retries` = 5 of Linux.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(63);

/// Bytes buffered by the system in each direction.
const BUFFER: usize = 65_535;

/// How a connection came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Somebody here connects.
    Connect,
    /// A SYN arrived for a listener.
    Accept,
}

/// What a connection has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happening {
    /// The handshake is over.
    Established,
    /// Bytes arrived.
    Data(Vec<u8>),
    /// The handshake failed.
    Failed(IoFailure),
    /// It is over.
    Ended(IoFailure),
}

/// The SYN that is being repeated.
#[derive(Debug)]
struct Repetition {
    syn: Vec<u8>,
    first: Instant,
    sent: usize,
}

/// The life of a connection as its user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
    Ended,
}

/// One connection.
pub(super) struct Connection {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    queues: Queues,
    ends: Ends,
    /// The initial sequence number on the wire.
    initial: u32,
    /// Segments and errors with a lower TTL are not heard (`IP_MINTTL`).
    least_ttl: u8,
    /// Nothing is repeated.
    is_mute: bool,
    /// What is added to smoltcp's sequence numbers; known from its first SYN on.
    offset: Option<u32>,
    repetition: Option<Repetition>,
    phase: Phase,
    /// Bytes that did not fit into the system's buffer.
    unsent: VecDeque<u8>,
    /// The last segment told the peer's window scale, or the SYN before it did.
    peer_scale: u8,
    /// How far windows are shifted on their way out: smoltcp itself never does.
    own_scale: u8,
    /// Close once everything was handed to the system.
    closing: bool,
    /// When an accepted handshake is given up.
    accept_by: Option<Instant>,
    epoch: Instant,
    /// None in a connection that was assumed: nobody knows the peer's clock.
    clock: Option<Clock>,
    happenings: VecDeque<Happening>,
}

impl Connection {
    /// A connection on its way; [`Connection::advance`] sends its SYN.
    pub(super) fn new(origin: Origin, ends: Ends, initial: u32, now: Instant) -> Self {
        let mut queues = Queues::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = u64::from(initial);
        let mut interface = Interface::new(config, &mut queues, SmolInstant::ZERO);
        let prefix = if ends.local.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|addresses| {
            // One address always fits.
            let _ = addresses.push(IpCidr::new(ends.local.ip().into(), prefix));
        });
        add_default_route(&mut interface, ends.local.ip());
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_hop_limit(Some(DEFAULT_TTL));
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        let local = IpEndpoint::from(ends.local);
        // Both fail only for a socket in use or without a port: this one is fresh and has one.
        let _ = match origin {
            Origin::Connect => socket.connect(interface.context(), ends.remote, local).is_ok(),
            Origin::Accept => socket.listen(local).is_ok(),
        };
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self {
            interface,
            sockets,
            handle,
            queues,
            ends,
            initial,
            least_ttl: 0,
            is_mute: false,
            offset: None,
            repetition: None,
            phase: Phase::Opening,
            unsent: VecDeque::new(),
            peer_scale: 0,
            own_scale: 0,
            closing: false,
            accept_by: (origin == Origin::Accept).then_some(now + ACCEPT_TIMEOUT),
            epoch: now,
            clock: Some(Clock::new(initial.rotate_left(7), now)),
            happenings: VecDeque::new(),
        }
    }

    /// An established connection without a handshake; `None` if its ends make none. It sends one ACK
    /// whose sequence number lies before everything, as the window probe does with which Linux leaves
    /// repair mode.
    pub(super) fn assume(ends: Ends, agreed: Agreed, hops: Hops, now: Instant) -> Option<Self> {
        let mut connection = Self::new(Origin::Connect, ends, agreed.sequence, now);
        connection.set_hops(hops);
        connection.clock = None;
        connection.poll(now);
        let syn = connection.queues.outgoing.pop()?;
        let number = Packet::parse(&syn).ok()?.tcp()?.sequence;
        connection.offset = Some(agreed.sequence.wrapping_sub(number));
        let answer = segment::Segment {
            source: ends.remote,
            destination: ends.local,
            flags: flag::SYN | flag::ACK,
            sequence: agreed.peer_sequence,
            acknowledgment: number.wrapping_add(1),
            window: u16::MAX,
            options: Options { timestamps: None, ..agreed.peer_options },
        };
        connection.queues.incoming.push_back(answer.emit(DEFAULT_TTL)?);
        connection.poll(now);
        let scales = agreed.options.window_scale.zip(agreed.peer_options.window_scale);
        connection.own_scale = scales.map_or(0, |(own, _)| own.min(14));
        let probe = connection.ack(agreed.sequence, agreed.peer_sequence.wrapping_add(1));
        connection.queues.outgoing = probe.into_iter().collect();
        (connection.state() == tcp::State::Established).then_some(connection)
    }

    pub(super) fn ends(&self) -> Ends {
        self.ends
    }

    /// Whether the handshake is still going on.
    pub(super) fn is_opening(&self) -> bool {
        self.phase == Phase::Opening
    }

    /// Whether nothing is left to do, so that the pair of ends is free again.
    pub(super) fn is_dead(&self) -> bool {
        // An accepting socket falls back to listening when its SYN is taken back.
        matches!(self.state(), tcp::State::Closed | tcp::State::Listen)
    }

    /// Whether a SYN has left, and none has come.
    pub(super) fn is_syn_sent(&self) -> bool {
        self.state() == tcp::State::SynSent
    }

    /// Waiting for stray segments after a close; a new SYN may take the pair of ends over.
    pub(super) fn is_waiting(&self) -> bool {
        self.state() == tcp::State::TimeWait
    }

    fn state(&self) -> tcp::State {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).state()
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// The next thing to tell.
    pub(super) fn next_happening(&mut self) -> Option<Happening> {
        self.happenings.pop_front()
    }

    /// How segments travel from now on, and which ones are heard.
    pub(super) fn set_hops(&mut self, hops: Hops) {
        self.socket().set_hop_limit(Some(hops.ttl.unwrap_or(DEFAULT_TTL).max(1)));
        self.least_ttl = hops.least.unwrap_or_default();
        self.is_mute = hops.ttl == Some(0);
    }

    /// Queues bytes for the peer.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
    }

    /// Ends it: politely if it is open, without a word if it is not.
    pub(super) fn close(&mut self) {
        match self.phase {
            Phase::Opening => {
                self.repetition = None;
                self.sockets.remove(self.handle);
                let empty = || tcp::SocketBuffer::new(Vec::new());
                self.handle = self.sockets.add(tcp::Socket::new(empty(), empty()));
            }
            Phase::Open | Phase::Ended => self.closing = true,
        }
        self.phase = Phase::Ended;
    }

    /// Ends it with a RST, if it is open.
    pub(super) fn abort(&mut self) {
        match self.phase {
            Phase::Opening => self.close(),
            Phase::Open | Phase::Ended => {
                self.socket().abort();
                self.phase = Phase::Ended;
            }
        }
    }

    /// Ends the handshake from this side.
    fn give_up(&mut self, failure: IoFailure) {
        self.close();
        self.happenings.push_back(Happening::Failed(failure));
    }

    /// Lets time pass and takes what is to be sent.
    pub(super) fn advance(&mut self, now: Instant) -> Vec<Vec<u8>> {
        if self.phase == Phase::Opening && self.accept_by.is_some_and(|by| by <= now) {
            self.give_up(IoFailure::TimedOut);
        }
        self.feed();
        self.poll(now);
        self.observe();
        // What was read has made room, which is told at once.
        self.poll(now);
        let mut packets = Vec::new();
        for bytes in std::mem::take(&mut self.queues.outgoing) {
            packets.extend(self.on_the_wire(&bytes, now));
        }
        packets.extend(self.repeat_syn(now));
        packets
    }

    /// When [`Connection::advance`] is to be called again.
    pub(super) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let repetition = self.repetition.as_ref().map(Repetition::due);
        let clock = self.moment(now);
        let at = self.interface.poll_at(clock, &self.sockets);
        let own = at.map(|at| {
            let micros = u64::try_from(at.total_micros()).unwrap_or_default();
            self.epoch + Duration::from_micros(micros)
        });
        let accept = self.accept_by.filter(|_| self.phase == Phase::Opening);
        // While the SYN is repeated here, smoltcp's own timer is not needed.
        let own = repetition.or(own);
        own.into_iter().chain(accept).min()
    }

    fn moment(&self, now: Instant) -> SmolInstant {
        let micros = now.saturating_duration_since(self.epoch).as_micros();
        SmolInstant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn poll(&mut self, now: Instant) {
        let clock = self.moment(now);
        self.interface.poll(clock, &mut self.queues, &mut self.sockets);
    }

    /// Hands queued bytes to the system.
    fn feed(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        while socket.can_send() && !self.unsent.is_empty() {
            let (front, _) = self.unsent.as_slices();
            let Ok(sent) = socket.send_slice(front) else { break };
            if sent == 0 {
                break;
            }
            self.unsent.drain(..sent);
        }
        if self.closing && self.unsent.is_empty() {
            socket.close();
        }
    }

    /// Finds out what has changed.
    fn observe(&mut self) {
        if self.phase == Phase::Opening && self.socket().may_send() {
            self.phase = Phase::Open;
            self.repetition = None;
            self.happenings.push_back(Happening::Established);
        }
        let mut data = Vec::new();
        let socket = self.socket();
        while socket.can_recv() {
            let taken = socket.recv(|bytes| {
                data.extend_from_slice(bytes);
                (bytes.len(), bytes.len())
            });
            if taken.unwrap_or_default() == 0 {
                break;
            }
        }
        if !data.is_empty() && self.phase == Phase::Open {
            self.happenings.push_back(Happening::Data(data));
        }
        if self.phase == Phase::Open && !self.socket().may_recv() {
            self.end(IoFailure::Closed);
        }
    }

    fn end(&mut self, failure: IoFailure) {
        let happening = match self.phase {
            Phase::Opening => Happening::Failed(failure),
            Phase::Open => Happening::Ended(failure),
            Phase::Ended => return,
        };
        self.phase = Phase::Ended;
        self.repetition = None;
        self.closing = true;
        self.happenings.push_back(happening);
    }
}

/// Without a route nothing would leave; where it leads does not matter on a link of two ends.
fn add_default_route(interface: &mut Interface, local: IpAddr) {
    let routes = interface.routes_mut();
    // The table has room for one route of each family.
    let _ = match local {
        IpAddr::V4(ip) => routes.add_default_ipv4_route(ip).is_ok(),
        IpAddr::V6(ip) => routes.add_default_ipv6_route(ip).is_ok(),
    };
}

/// The pair of ends of a segment as seen by the host it arrives at.
pub(super) fn ends_of(packet: &Packet) -> Option<Ends> {
    let (remote, local): (SocketAddr, SocketAddr) = packet.source().zip(packet.destination())?;
    Some(Ends { local, remote })
}
