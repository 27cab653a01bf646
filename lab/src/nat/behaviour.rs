//! What a NAT does, axis by axis. Every combination is allowed, also those nobody sells.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::packet::IcmpError;

/// What the external port of an internal one depends on (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mapping {
    /// No translation at all: a firewall that only keeps state.
    Identity,
    /// The same towards everybody (EIM).
    EndpointIndependent,
    /// Another for each remote address (ADM).
    AddressDependent,
    /// Another for each remote address and port (APDM).
    AddressAndPortDependent,
    /// Another for each connection, even between the same ends (CDM).
    ConnectionDependent,
}

/// Whose packets come in through a mapping (RFC 4787 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filtering {
    /// Everybody's (EIF).
    EndpointIndependent,
    /// Those of addresses sent to before (ADF).
    AddressDependent,
    /// Those of addresses and ports sent to before (APDF).
    AddressAndPortDependent,
}

/// How the external port is chosen (RFC 4787 section 4.2.1, RFC 6056, RFC 7422).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Allocation {
    /// The internal port if it is free, a random one otherwise.
    Preserved,
    /// The internal port plus this, wrapping around within 1024–65535.
    Offset(u16),
    /// One counter for all hosts: `first`, `first + step`, …
    Sequential {
        /// The first port given.
        first: u16,
        /// The distance of consecutive ones.
        step: u16,
    },
    /// Each inside host has one block of `size` ports from `first` on; random within it.
    Block {
        /// First port of the first block.
        first: u16,
        /// Ports per block.
        size: u16,
    },
    /// Any free port that is even or odd as the internal one is (RFC 4787 section 4.2.2).
    Parity,
    /// Any free port of `low..=high`.
    Random {
        /// Lowest port given.
        low: u16,
        /// Highest port given.
        high: u16,
    },
}

/// Whether one external port serves several mappings at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// A port belongs to one mapping.
    Exclusive,
    /// Two mappings may share a port towards different remote ends, as netfilter does.
    PerDestination,
}

/// Mapping, allocation and filtering of one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Translation {
    /// What the external port depends on.
    pub mapping: Mapping,
    /// How it is chosen.
    pub allocation: Allocation,
    /// Whether several mappings share it.
    pub sharing: Sharing,
    /// Whose packets come in.
    pub filtering: Filtering,
}

/// What is answered to a packet from outside that no mapping lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unsolicited {
    /// Nothing.
    Silent,
    /// A RST to TCP, ICMP port unreachable to UDP (netfilter's `reject with tcp reset`).
    Reset,
    /// This ICMP error.
    Icmp(IcmpError),
    /// Nothing to UDP. A SYN waits for six seconds and is answered with ICMP port unreachable then,
    /// unless the inside has opened that connection in the meantime (RFC 5382 REQ-4).
    Late,
    /// No firewall stands before the box's own stack: it answers RST to TCP and ICMP port
    /// unreachable to UDP. Netfilter then remembers the UDP flow as one of the box itself, and
    /// that ghost takes the port away from a mapping which would need the same one.
    OwnStack,
}

/// What happens to an inbound SYN of a flow that the inside opened with a SYN of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InboundSyn {
    /// It comes in (RFC 5382 REQ-2).
    Accept,
    /// It is dropped, after connection tracking has noticed it.
    Drop,
    /// It is dropped likewise and answered with a RST.
    Reset,
}

/// How closely TCP flows are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tracking {
    /// Netfilter's state table and window check.
    StrictWindow,
    /// Netfilter's state table without the window check (`nf_conntrack_tcp_be_liberal`).
    LiberalWindow,
    /// Addresses, ports and rough states only.
    None,
}

/// What becomes of packets that connection tracking calls invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Invalid {
    /// They are dropped.
    Drop,
    /// Outbound ones leave untranslated, with their private source; inbound ones are dropped.
    Leak,
}

/// Whether a flow may begin with something else than a SYN (`nf_conntrack_tcp_loose`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MidStream {
    /// An ACK without a SYN makes an established flow.
    PickUp,
    /// It is invalid.
    Refuse,
}

/// What an inbound RST does to the flow, besides being passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RstEffect {
    /// Nothing.
    Ignore,
    /// The flow lives only for the closing timer from then on.
    Shorten,
    /// An unanswered flow is deleted, an answered one shortened: what netfilter does.
    Delete,
    /// The flow and the mapping under it are deleted.
    DeleteMapping,
}

/// What an inbound ICMP error does to the flow it quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IcmpEffect {
    /// It is translated and passed on; the flow stays (RFC 5508 REQ-4).
    Forward,
    /// It is passed on, and the flow and the mapping under it are deleted.
    DeleteMapping,
    /// It is dropped.
    Block,
}

/// Whether TCP sequence numbers are rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SequenceNumbers {
    /// They pass unchanged.
    Preserved,
    /// Each flow gets a random offset.
    Rewritten,
}

/// What becomes of a packet from inside to the box's own outside address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hairpin {
    /// It is dropped.
    Drop,
    /// The box's own stack answers it: RST or ICMP port unreachable.
    Refuse,
    /// It reaches the mapping's owner from the sender's external address (RFC 4787 REQ-9).
    Translated,
    /// It reaches the mapping's owner from the sender's internal address.
    Untranslated,
}

/// What becomes of the TTL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// One less; a packet without any left is dropped.
    Decrement,
    /// Unchanged: the box is invisible on the path.
    Keep,
    /// Set to this.
    Reset(u8),
}

/// Whether an expired TTL is reported to the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeExceeded {
    /// With ICMP time exceeded.
    Report,
    /// Not at all.
    Silent,
}

/// How external addresses are given to inside hosts (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// One host always gets the same.
    Paired,
    /// Each mapping takes the next.
    Arbitrary,
}

/// Whether UDP passes at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Passage {
    /// It passes.
    Open,
    /// It is dropped in both directions.
    Blocked,
}

/// How UDP is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UdpBehaviour {
    /// Mapping, allocation, filtering.
    pub translation: Translation,
    /// Whether it passes.
    pub passage: Passage,
    /// The answer to what nobody asked for.
    pub unsolicited: Unsolicited,
    /// Idle time of a flow that was never answered. Netfilter: 30 s.
    pub unanswered: Duration,
    /// Idle time of an answered flow. Netfilter: 120 s; RFC 4787 REQ-5 asks for 2 minutes.
    pub answered: Duration,
    /// The effect of ICMP errors.
    pub icmp: IcmpEffect,
}

/// How TCP is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpBehaviour {
    /// Mapping, allocation, filtering.
    pub translation: Translation,
    /// The answer to what nobody asked for.
    pub unsolicited: Unsolicited,
    /// The fate of an inbound SYN after an outbound one.
    pub inbound_syn: InboundSyn,
    /// How closely flows are watched.
    pub tracking: Tracking,
    /// The fate of invalid packets.
    pub invalid: Invalid,
    /// Whether flows are picked up in the middle.
    pub mid_stream: MidStream,
    /// The effect of an inbound RST.
    pub rst: RstEffect,
    /// The effect of ICMP time exceeded.
    pub time_exceeded: IcmpEffect,
    /// The effect of ICMP unreachable errors.
    pub unreachable: IcmpEffect,
    /// Whether sequence numbers are rewritten.
    pub sequence_numbers: SequenceNumbers,
    /// Idle times, by state.
    pub timers: TcpTimers,
}

impl TcpBehaviour {
    /// Whether a SYN-ACK from inside gets out, as from its mapping, after a SYN did and before one came in: who watches
    /// TCP calls it invalid, and what passes untranslated gets nowhere unless nothing is translated.
    pub fn answers_early(&self) -> bool {
        let transparent = self.translation.mapping == Mapping::Identity;
        self.tracking == Tracking::None || transparent && self.invalid == Invalid::Leak
    }
}

/// Idle times of TCP flows. The defaults are netfilter's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpTimers {
    /// One or two SYNs seen. 120 s.
    pub syn_sent: Duration,
    /// A SYN-ACK seen. 60 s.
    pub syn_received: Duration,
    /// Established. 5 days.
    pub established: Duration,
    /// A FIN seen. 120 s.
    pub closing: Duration,
    /// Closed by RST or by both FINs. 10 s.
    pub closed: Duration,
}

impl Default for TcpTimers {
    fn default() -> Self {
        Self {
            syn_sent: Duration::from_secs(120),
            syn_received: Duration::from_secs(60),
            established: Duration::from_secs(5 * 24 * 3600),
            closing: Duration::from_secs(120),
            closed: Duration::from_secs(10),
        }
    }
}

/// How much one inside host may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Mappings of one inside host; a packet that would need more is dropped.
    pub mappings_per_host: usize,
    /// Flows one inside host may begin in each second.
    pub new_flows_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { mappings_per_host: 65_536, new_flows_per_second: 1_000_000 }
    }
}

/// Everything a NAT does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Behaviour {
    /// UDP.
    pub udp: UdpBehaviour,
    /// TCP.
    pub tcp: TcpBehaviour,
    /// How external addresses are given out.
    pub pooling: Pooling,
    /// Packets from inside to the outside address.
    pub hairpin: Hairpin,
    /// The TTL of forwarded packets.
    pub ttl: Ttl,
    /// Whether an expired TTL is reported.
    pub time_exceeded: TimeExceeded,
    /// How much one host may have.
    pub limits: Limits,
}

impl Behaviour {
    /// What `nft masquerade` behind an input chain that drops does: one entry per flow, the port
    /// preserved wherever it is free towards that destination, strict window tracking.
    pub fn masquerade() -> Self {
        let translation = Translation {
            mapping: Mapping::AddressAndPortDependent,
            allocation: Allocation::Preserved,
            sharing: Sharing::PerDestination,
            filtering: Filtering::AddressAndPortDependent,
        };
        Self {
            udp: UdpBehaviour {
                translation,
                passage: Passage::Open,
                unsolicited: Unsolicited::Silent,
                unanswered: Duration::from_secs(30),
                answered: Duration::from_secs(120),
                icmp: IcmpEffect::Forward,
            },
            tcp: TcpBehaviour {
                translation,
                unsolicited: Unsolicited::Silent,
                inbound_syn: InboundSyn::Accept,
                tracking: Tracking::StrictWindow,
                invalid: Invalid::Drop,
                mid_stream: MidStream::PickUp,
                rst: RstEffect::Delete,
                time_exceeded: IcmpEffect::Forward,
                unreachable: IcmpEffect::Forward,
                sequence_numbers: SequenceNumbers::Preserved,
                timers: TcpTimers::default(),
            },
            pooling: Pooling::Paired,
            hairpin: Hairpin::Refuse,
            ttl: Ttl::Decrement,
            time_exceeded: TimeExceeded::Report,
            limits: Limits::default(),
        }
    }

    /// Both transports' translation changed.
    pub fn with_translation(mut self, change: impl Fn(&mut Translation)) -> Self {
        change(&mut self.udp.translation);
        change(&mut self.tcp.translation);
        self
    }
}

/// The addresses of the box itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// On its inner side; ICMP errors to hosts there come from these.
    pub inside: Vec<IpAddr>,
    /// On its outer side; mappings are made on these. A family without any is not translated.
    pub outside: Vec<IpAddr>,
}

impl Addresses {
    /// One inner and one outer address.
    pub fn new(inside: IpAddr, outside: IpAddr) -> Self {
        Self { inside: vec![inside], outside: vec![outside] }
    }

    /// The box's inner address of that family.
    pub(super) fn inner(&self, like: IpAddr) -> Option<IpAddr> {
        self.inside.iter().copied().find(|ip| ip.is_ipv4() == like.is_ipv4())
    }

    /// The box's outer addresses of that family.
    pub(super) fn outer(&self, like: IpAddr) -> impl Iterator<Item = IpAddr> + '_ {
        let v4 = like.is_ipv4();
        self.outside.iter().copied().filter(move |ip| ip.is_ipv4() == v4)
    }
}

/// Whose packet it is: an inside end and a remote one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Its transport.
    pub transport: Transport,
    /// The inside end.
    pub inside: SocketAddr,
    /// The remote end.
    pub remote: SocketAddr,
}

/// A transport with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}
