//! The effects that machines ask for, and what comes back.
//!
//! One vocabulary serves all peer-side machines (discovery, signalling, punching), so that one
//! driver can run any of them, alone or composed. Each command names its [`CommandId`]; the shell
//! answers each exactly once with [`Input::Answer`]. Sockets are named by the machine
//! ([`SocketId`]), so that it can speak of a socket in the same breath as it asks for it.
//!
//! TCP streams carry STUN-framed messages only as long as a machine owns them (RFC 8489 section
//! 6.2.2): the shell cuts the stream into messages with `ntcp_stun::framing`, never reading a byte
//! past the end of a message, so that a stream can be handed to the application at any message
//! boundary.

use std::net::{IpAddr, SocketAddr};

use crate::segment::{Options, Segment};

/// Which machine of a composition a command or a socket belongs to.
///
/// A composed machine hands each part an owner of its own and routes answers back by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u32);

/// Names one command; unique within the life of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId {
    /// The part that asked.
    pub owner: Owner,
    /// Counts that part's commands.
    pub serial: u64,
}

/// Names one socket; unique within the life of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    /// The part that opened it.
    pub owner: Owner,
    /// Counts that part's sockets; the top bit is set on sockets a listener accepted, which the
    /// shell names (see [`SocketId::accepted`]).
    pub serial: u64,
}

impl SocketId {
    const ACCEPTED: u64 = 1 << 63;

    /// The name a shell gives to the `count`th socket that any listener accepted: it belongs to the
    /// owner of that listener.
    pub fn accepted(listener: Self, count: u64) -> Self {
        Self { owner: listener.owner, serial: Self::ACCEPTED | count }
    }
}

/// Hands out command and socket names of one owner.
#[derive(Debug, Clone)]
pub struct Names {
    owner: Owner,
    commands: u64,
    sockets: u64,
}

impl Names {
    /// A fresh sequence of names for `owner`.
    pub fn new(owner: Owner) -> Self {
        Self { owner, commands: 0, sockets: 0 }
    }

    /// Whose names these are.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// A command name never given before.
    pub fn command(&mut self) -> CommandId {
        self.commands += 1;
        CommandId { owner: self.owner, serial: self.commands }
    }

    /// A socket name never given before.
    pub fn socket(&mut self) -> SocketId {
        self.sockets += 1;
        SocketId { owner: self.owner, serial: self.sockets }
    }
}

/// What a machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Open a UDP socket on `local`; port 0 takes any free one. Answered by [`Answer::Bound`].
    BindUdp {
        /// The name of this command.
        id: CommandId,
        /// The name of the new socket.
        socket: SocketId,
        /// Address to bind; the unspecified address listens on all of its family.
        local: SocketAddr,
    },
    /// Send one datagram. Answered by [`Answer::Sent`].
    SendUdp {
        /// The name of this command.
        id: CommandId,
        /// From this socket.
        socket: SocketId,
        /// To this address.
        remote: SocketAddr,
        /// IP TTL or IPv6 hop limit of this datagram only; `None` is the system's default.
        ttl: Option<u8>,
        /// The datagram.
        payload: Vec<u8>,
    },
    /// Listen for TCP connections on `local`, sharing the port with sockets that connect from it
    /// (`SO_REUSEADDR` and `SO_REUSEPORT` before bind). Answered by [`Answer::Bound`]; each
    /// connection arrives as [`Input::TcpAccepted`].
    ListenTcp {
        /// The name of this command.
        id: CommandId,
        /// The name of the listening socket.
        socket: SocketId,
        /// Address to bind; port 0 takes any free one.
        local: SocketAddr,
    },
    /// Connect over TCP from `local`, sharing its port likewise. Answered by
    /// [`Answer::Connected`] once, when the handshake ended; until then the attempt stays pending
    /// and must not be given up but by [`Command::Close`].
    ConnectTcp {
        /// The name of this command.
        id: CommandId,
        /// The name of the new socket.
        socket: SocketId,
        /// Address to bind; port 0 takes any free one.
        local: SocketAddr,
        /// Address to connect to.
        remote: SocketAddr,
        /// How its packets travel.
        hops: Hops,
        /// Initial sequence number of its SYN; `None` leaves it to the system. Needs a privilege:
        /// without it the answer is [`IoFailure::NotPermitted`].
        sequence: Option<u32>,
    },
    /// Change how the packets of a TCP socket travel, connecting or connected. Answered by
    /// [`Answer::Done`].
    AdjustTcp {
        /// The name of this command.
        id: CommandId,
        /// The socket.
        socket: SocketId,
        /// From now on.
        hops: Hops,
    },
    /// Begin a pending connect anew, from the same end and under the same names: its SYN is taken back without a
    /// word, and a fresh one leaves as `hops` say, before the system repeats the first. Nothing happens if a
    /// SYN has come in answer, as the handshake is under way then. Answered by [`Answer::Done`], with
    /// [`IoFailure::Closed`] if there is no such connect; how the connect fares is still told as it would be.
    RenewTcp {
        /// The name of this command.
        id: CommandId,
        /// The socket.
        socket: SocketId,
        /// How the packets travel from now on.
        hops: Hops,
    },
    /// Open a connection without a handshake: the socket stands as if one had taken place
    /// (`TCP_REPAIR`). One empty ACK leaves at once, as far as `hops` carries it: it opens the own
    /// NAT. Without timestamps. Answered by [`Answer::Connected`], or [`IoFailure::NotPermitted`] without
    /// the privilege.
    AssumeTcp {
        /// The name of this command.
        id: CommandId,
        /// The name of the new socket.
        socket: SocketId,
        /// Its ends; the local one is bound like that of [`Command::ConnectTcp`].
        ends: Ends,
        /// What the handshake would have agreed on.
        agreed: Agreed,
        /// How its packets travel.
        hops: Hops,
    },
    /// Watch for the first SYN that leaves from one end for the other. Answered by
    /// [`Answer::Done`] once the capture is open, which must be before the connect; the SYN comes
    /// as [`Input::Captured`]. [`Command::Close`] ends it.
    Capture {
        /// The name of this command.
        id: CommandId,
        /// The name of the capture.
        socket: SocketId,
        /// From where to where.
        ends: Ends,
    },
    /// Send one raw segment that belongs to a pair of ends this machine connects or captures.
    /// Answered by [`Answer::Sent`].
    Inject {
        /// The name of this command.
        id: CommandId,
        /// What to send. A segment for this host's own address is handed to its own stack.
        segment: Segment,
        /// IP TTL or hop limit.
        ttl: u8,
    },
    /// Send one raw packet in another host's name, as a peer that offered to forge is asked to.
    /// Answered by [`Answer::Sent`].
    InjectPacket {
        /// The name of this command.
        id: CommandId,
        /// The packet, from its IP header on.
        packet: Vec<u8>,
    },
    /// Send one STUN-framed message on a TCP stream. Answered by [`Answer::Sent`].
    SendTcp {
        /// The name of this command.
        id: CommandId,
        /// The stream.
        socket: SocketId,
        /// The message, whole.
        payload: Vec<u8>,
    },
    /// Close a socket of any kind; what it was still waiting for is answered with
    /// [`IoFailure::Closed`]. Answered by [`Answer::Closed`], also for unknown sockets.
    Close {
        /// The name of this command.
        id: CommandId,
        /// The socket.
        socket: SocketId,
    },
    /// Close a TCP stream with an RST instead of a FIN (`SO_LINGER` of 0; RFC 9293 section 3.10.5), so
    /// that its pair of ends is free at once. Answered by [`Answer::Closed`] when it is, also for
    /// unknown sockets.
    Abort {
        /// The name of this command.
        id: CommandId,
        /// The stream.
        socket: SocketId,
    },
    /// Look a host name up. Answered by [`Answer::Resolved`].
    Resolve {
        /// The name of this command.
        id: CommandId,
        /// Host name or literal address, without brackets.
        host: String,
        /// Port to put into the results.
        port: u16,
    },
    /// List this host's own unicast addresses, without loopback and link-local ones. Answered by
    /// [`Answer::Interfaces`].
    ListInterfaces {
        /// The name of this command.
        id: CommandId,
    },
}

impl Command {
    /// A [`Command::ConnectTcp`] without any wish.
    pub fn connect_tcp(
        id: CommandId,
        socket: SocketId,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Self {
        Self::ConnectTcp { id, socket, local, remote, hops: Hops::USUAL, sequence: None }
    }

    /// The name of this command.
    pub fn id(&self) -> CommandId {
        match self {
            Self::BindUdp { id, .. }
            | Self::SendUdp { id, .. }
            | Self::ListenTcp { id, .. }
            | Self::ConnectTcp { id, .. }
            | Self::AdjustTcp { id, .. }
            | Self::RenewTcp { id, .. }
            | Self::AssumeTcp { id, .. }
            | Self::Capture { id, .. }
            | Self::Inject { id, .. }
            | Self::InjectPacket { id, .. }
            | Self::SendTcp { id, .. }
            | Self::Close { id, .. }
            | Self::Abort { id, .. }
            | Self::Resolve { id, .. }
            | Self::ListInterfaces { id } => *id,
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The socket's local address, its port filled in.
    Bound(Result<SocketAddr, IoFailure>),
    /// Handed to the system, or not.
    Sent(Result<(), IoFailure>),
    /// The stream's local and remote address.
    Connected(Result<Ends, IoFailure>),
    /// Carried out, or not.
    Done(Result<(), IoFailure>),
    /// It is gone.
    Closed,
    /// The addresses of the name, best first; never empty.
    Resolved(Result<Vec<SocketAddr>, IoFailure>),
    /// The host's own addresses.
    Interfaces(Vec<IpAddr>),
}

/// Both ends of a TCP stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Our end, as the system names it.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
}

/// How the packets of a TCP socket travel, and which of the others' it hears.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hops {
    /// `IP_TTL` or the IPv6 hop limit of its segments; `None` is the system's default. With 0 nothing
    /// leaves, no repetition and no keepalive, until it is set otherwise.
    pub ttl: Option<u8>,
    /// `IP_MINTTL` or `IPV6_MINHOPCOUNT`: a segment that arrives with less is not for this socket,
    /// and in IPv4 neither is an ICMP error whose quoted packet has less. `None` hears everything.
    pub least: Option<u8>,
}

impl Hops {
    /// The system's default, hearing everything.
    pub const USUAL: Self = Self { ttl: None, least: None };

    /// Silent.
    pub const MUTE: Self = Self { ttl: Some(0), least: None };
}

/// What the two ends of a connection without a handshake assume (RFC 9293 section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Our initial sequence number.
    pub sequence: u32,
    /// The peer's.
    pub peer_sequence: u32,
    /// Our options: the window scale is the shift that the peer applies to our windows.
    pub options: Options,
    /// The peer's options.
    pub peer_options: Options,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// A command ended.
    Answer {
        /// Which.
        id: CommandId,
        /// How.
        answer: Answer,
    },
    /// A datagram arrived.
    UdpReceived {
        /// At this socket.
        socket: SocketId,
        /// From this address.
        source: SocketAddr,
        /// The datagram.
        payload: &'a [u8],
    },
    /// A listener accepted a stream.
    TcpAccepted {
        /// The listener.
        listener: SocketId,
        /// The new stream, named by [`SocketId::accepted`].
        socket: SocketId,
        /// Its ends.
        ends: Ends,
    },
    /// One whole STUN-framed message arrived on a stream.
    TcpReceived {
        /// The stream.
        socket: SocketId,
        /// The message.
        payload: &'a [u8],
    },
    /// A capture saw the SYN it waited for.
    Captured {
        /// The capture.
        socket: SocketId,
        /// The SYN, as it left this host.
        segment: Segment,
    },
    /// A stream ended: closed by the peer, reset, or it carried no STUN framing. The socket is gone.
    TcpClosed {
        /// The stream.
        socket: SocketId,
        /// Why.
        reason: IoFailure,
    },
}

/// Why the system could not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum IoFailure {
    /// `ECONNREFUSED`: an RST, or an ICMP port unreachable, came back.
    #[error("refused (RST or ICMP port unreachable)")]
    Refused,
    /// `EHOSTUNREACH`: ICMP host unreachable, administratively prohibited or time exceeded.
    #[error("host unreachable (ICMP unreachable, prohibited or time exceeded)")]
    HostUnreachable,
    /// `ENETUNREACH`: no route of that family.
    #[error("no route to that network")]
    NetworkUnreachable,
    /// `ETIMEDOUT`: the system gave up.
    #[error("timed out")]
    TimedOut,
    /// `ECONNRESET`: an RST ended an established stream.
    #[error("reset by the peer")]
    Reset,
    /// `EADDRINUSE`: another program holds the port.
    #[error("address in use")]
    AddressInUse,
    /// `EADDRNOTAVAIL`: not an address of this host, or the same pair of ends is still in use.
    #[error("address not available")]
    AddressNotAvailable,
    /// `EACCES`, `EPERM`: not permitted, by privilege or by a local firewall.
    #[error("not permitted")]
    NotPermitted,
    /// `EMSGSIZE`: longer than the path or the socket takes.
    #[error("message too long")]
    MessageTooLong,
    /// `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`: this process or host ran out of something.
    #[error("out of system resources")]
    OutOfResources,
    /// The node has begun as many connections, or checked silent addresses as often, as its budget allows;
    /// nothing was sent.
    #[error("over the budget of this node")]
    OverBudget,
    /// The other side ended the stream, or [`Command::Close`] did.
    #[error("closed")]
    Closed,
    /// The stream carried something that is not STUN framing.
    #[error("not a STUN message")]
    Garbled,
    /// A name without addresses.
    #[error("unknown host name")]
    UnknownHost,
    /// Anything else, by the system's error number.
    #[error("system error {0}")]
    Other(i32),
}
