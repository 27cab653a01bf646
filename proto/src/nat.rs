//! What a NAT does, in the terms of RFC 4787 and RFC 5382, and the report of a discovery.
//!
//! Two verdicts, one for UDP and one for TCP, never one for both. What was not measured is `None`,
//! never guessed. The serialised form is the contract of `ntcp doctor --json`.

use std::net::SocketAddr;

use serde::Serialize;

/// RFC 4787 section 4.1: what the external port of an internal one depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapping {
    /// The same towards everybody.
    EndpointIndependent,
    /// Another for each destination address.
    AddressDependent,
    /// Another for each destination address and port.
    AddressAndPortDependent,
    /// Another for each connection, even between the same ends, whatever became of the last one. No term
    /// of the RFCs, and never a verdict of a discovery: from outside a NAT that forgets a mapping with
    /// its connection looks the same.
    ConnectionDependent,
}

/// RFC 4787 section 5: whose packets a mapping lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Filtering {
    /// Everybody's.
    EndpointIndependent,
    /// Those of addresses sent to before.
    AddressDependent,
    /// Those of addresses and ports sent to before.
    AddressAndPortDependent,
    /// The server could not tell.
    Unknown,
}

/// How external ports are chosen (RFC 4787 section 4.2.1, RFC 6056).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PortAllocation {
    /// The internal port's number.
    Preserved,
    /// The internal port's number plus a constant.
    Offset,
    /// One after the other, with a constant step.
    Sequential,
    /// Within one contiguous block.
    Block,
    /// Without a pattern.
    Random,
}

/// What a NAT answers to a SYN nobody asked for (RFC 5382 REQ-4 wants silence).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnsolicitedSyn {
    /// Nothing.
    Silent,
    /// An RST.
    Rst,
    /// An ICMP error.
    Icmp,
}

/// What a NAT does with a SYN that comes in for a connection whose own SYN went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InboundSynAfterSyn {
    /// Lets it in: simultaneous open works (RFC 5382 REQ-2).
    Accepted,
    /// Drops it.
    Dropped,
    /// Answers with an RST.
    Rst,
    /// Could not be told.
    Unknown,
}

/// Whether TCP sequence numbers pass unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InitialSequence {
    /// Unchanged.
    Preserved,
    /// Another outside than inside.
    Rewritten,
}

/// What a NAT does with a connection that begins with an ACK, its SYN never seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MidStream {
    /// It makes a mapping for it, and lets the answer in.
    PickedUp,
    /// It drops it.
    Dropped,
}

/// What a NAT does with a SYN-ACK that goes out for a connection whose own SYN went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboundSynAck {
    /// Lets it out, translated.
    Passed,
    /// Drops it, or lets it out untranslated, which comes to the same.
    Dropped,
}

/// How a SYN of this host looked when it arrived at a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SynSeen {
    /// IP TTL or hop limit.
    pub ttl: u8,
    /// Window, not scaled.
    pub window: u16,
    /// Maximum segment size, if it named one.
    pub mss: Option<u16>,
    /// Window scale, if it offered one.
    pub window_scale: Option<u8>,
    /// Selective acknowledgements were permitted.
    pub sack: bool,
    /// It carried a timestamp.
    pub timestamps: bool,
}

/// What was found out about UDP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UdpReport {
    /// A STUN server answered over UDP.
    pub reachable: bool,
    /// The address the outside sees.
    pub public_address: Option<SocketAddr>,
    /// What the external port depends on.
    pub mapping: Option<Mapping>,
    /// Whose packets come in.
    pub filtering: Option<Filtering>,
    /// How external ports are chosen.
    pub port_allocation: Option<PortAllocation>,
    /// Whether a host can reach itself through its own external address.
    pub hairpin: Option<bool>,
    /// How long an idle mapping lives, in seconds.
    pub lifetime_s: Option<u32>,
}

/// What was found out about TCP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TcpReport {
    /// A STUN server answered over TCP.
    pub reachable: bool,
    /// The address the outside sees.
    pub public_address: Option<SocketAddr>,
    /// What the external port depends on.
    pub mapping: Option<Mapping>,
    /// Whose SYNs come in.
    pub filtering: Option<Filtering>,
    /// How external ports are chosen.
    pub port_allocation: Option<PortAllocation>,
    /// Whether a host can reach itself through its own external address.
    pub hairpin: Option<bool>,
    /// How long an idle connection lives at least, in seconds.
    pub lifetime_s: Option<u32>,
    /// The answer to a SYN nobody asked for.
    pub unsolicited_syn: Option<UnsolicitedSyn>,
    /// The fate of a SYN that comes in after one went out.
    pub inbound_syn_after_syn: Option<InboundSynAfterSyn>,
    /// Whether sequence numbers pass unchanged.
    pub isn: Option<InitialSequence>,
    /// Whether the initial sequence numbers of two connections between the same ends arrived as far apart
    /// as the system's clock had them leave: then nobody rewrites them anew for each connection. Told
    /// where no capture is permitted.
    pub isn_follows_clock: Option<bool>,
    /// Whether a second connection between the same ends comes from another external port, after an
    /// RST has ended the first. RFC 4787 section 4.1 and RFC 5382 section 4.1 speak of a mapping only
    /// "while it is still active": so this does not change the verdict on the mapping, which stays
    /// [`Mapping::AddressAndPortDependent`].
    pub new_port_each_connection: Option<bool>,
    /// As `inbound_syn_after_syn`, where an RST came in between, which the host did not hear.
    pub inbound_syn_after_rst: Option<InboundSynAfterSyn>,
    /// As `inbound_syn_after_syn`, where the SYN that went out died on the way beyond the NAT, so that
    /// an ICMP error came back or was to come.
    pub inbound_syn_after_icmp: Option<InboundSynAfterSyn>,
    /// The fate of a connection that begins in the middle.
    pub mid_stream: Option<MidStream>,
    /// The fate of a SYN-ACK that goes out after a SYN went out.
    pub syn_ack_after_syn: Option<OutboundSynAck>,
    /// The least IP TTL with which a SYN opens the outermost NAT.
    pub opener_ttl: Option<u8>,
    /// How long a hole that a SYN made stays open at least, in seconds.
    pub hole_s: Option<u32>,
    /// How a SYN arrived at a server.
    pub syn: Option<SynSeen>,
}

/// What kind of NAT stands between this host and the internet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NatReport {
    /// Whether the outside sees another address than the host has; `None` when nobody answered.
    pub nat: Option<bool>,
    /// The verdict for UDP.
    pub udp: UdpReport,
    /// The verdict for TCP.
    pub tcp: TcpReport,
}
