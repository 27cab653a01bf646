//! The sections of the file as typed structs. A key is a field; its comment is its documentation.

use crate::endpoint::{self, Endpoint};
use crate::log_format::LogFormat;
use crate::log_level::LogLevel;
use crate::node_name::NodeName;
use crate::public_address::PublicAddress;
use crate::registry_url::RegistryUrl;
use crate::secret::Secret;
use crate::service_user::ServiceUser;
use crate::stun_words::{StunAccess, StunAmplification, StunMode};
use crate::{duration, list, number, switch};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Port of a STUN server (RFC 8489 section 18.6, the service `stun`).
pub const STUN_PORT: u16 = 3478;
/// Port of a STUN server over TLS (RFC 8489 section 18.6, the service `stuns`).
pub const STUNS_PORT: u16 = 5349;
/// UDP port of the connection broker, kept from the first NTCP.
pub const BROKER_PORT: u16 = 6060;
/// TCP port of the connection broker, kept from the first NTCP.
pub const TCP_BROKER_PORT: u16 = 9999;

/// Everything that `p2pNetwork.toml` can say.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Config {
    /// `[node]`: this peer.
    pub node: Node,
    /// `[stun]`: which STUN servers a peer asks, and where a STUN server listens.
    pub stun: Stun,
    /// `[hole_punch]`: signalling over UDP, for peers and for the broker.
    pub hole_punch: HolePunch,
    /// `[tcp]`: signalling over TCP, for peers and for the broker, and how much peers may connect.
    pub tcp: Tcp,
    /// `[registry]`: where a broker keeps its peers, and how many.
    pub registry: Registry,
    /// `[spoof]`: packets in other hosts' names, for the broker, and a peer's consent.
    pub spoof: Spoof,
    /// `[security]`: keys, for peers and for the broker.
    pub security: Security,
    /// `[access]`: who may use a broker.
    pub access: Access,
    /// `[log]`: what goes to standard error.
    pub log: Log,
    /// `[metrics]`: where a server tells its numbers and its health.
    pub metrics: Metrics,
    /// `[service]`: how a server lives on its machine.
    pub service: Service,
    /// The file that was read, for messages.
    #[serde(skip)]
    pub(crate) file: Option<PathBuf>,
}

/// `[node]`: this peer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Node {
    /// The name under which others find this peer: 1 to 255 letters, digits, `-`, `.`, `_` or `~`.
    /// Default: none, which is enough for connecting but not for listening.
    pub name: Option<NodeName>,
    /// How long a connection attempt may last altogether before it ends with a report: a duration
    /// from 1 s to 10 min. Default: `"10 s"`.
    #[serde(deserialize_with = "duration::seconds::<_, 1, 600>")]
    pub deadline: Duration,
    /// After how much silence a keepalive is sent on a UDP path: a duration from 1 s to 10 min.
    /// Default: `"15 s"` (RFC 8445 section 11); NATs forget a UDP path after 30 s or more.
    #[serde(deserialize_with = "duration::seconds::<_, 1, 600>")]
    pub keepalive: Duration,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: None, deadline: Duration::from_secs(10), keepalive: Duration::from_secs(15) }
    }
}

/// `[stun]`: which STUN servers a peer asks, and where a STUN server listens.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Stun {
    /// Peers: the STUN servers to ask, a list of `host:port`; the port may be left out and is then
    /// 3478. Default: empty, which means the broker's own host on port 3478.
    #[serde(deserialize_with = "endpoint::list::<_, STUN_PORT>")]
    pub servers: Vec<Endpoint>,
    /// Server: where to listen, UDP and TCP, a list of `IP:port`, at most one for each address
    /// family. Default: `["0.0.0.0:3478", "[::]:3478"]`.
    #[serde(deserialize_with = "list::socket_addresses")]
    pub listen: Vec<SocketAddr>,
    /// Server: the alternate address of RFC 5780, a list of `IP:port`, at most one for each family.
    /// Its address and its port both differ from those in `listen`, which must then be a concrete
    /// address. Default: empty, a server that cannot tell how a NAT filters.
    #[serde(deserialize_with = "list::socket_addresses")]
    pub alternate: Vec<SocketAddr>,
    /// Server: under which addresses clients know it, if a NAT with a public address for each of its own stands before it: a
    /// list of `LOCAL=PUBLIC`, for addresses in `listen` and `alternate`. Default: empty, its own.
    #[serde(deserialize_with = "list::public_addresses")]
    pub public: Vec<PublicAddress>,
    /// Server: whether clients over TCP may have it connect back to their own address, so that they
    /// learn how their NAT treats TCP; few times, and never to anybody else. Default: `true`.
    pub probes: bool,
    /// Server: how it comes by `alternate`: `auto`, `basic` (it has none), `dual` (an address of this machine), `forged`
    /// (an address of another machine, in whose name this one sends; needs `CAP_NET_RAW`) or `partner` (an address of
    /// another machine that runs this program too and sends itself). Default: `auto`, which is `dual` with an
    /// alternate address and `basic` without.
    pub mode: StunMode,
    /// Server in mode `partner`: a file with a secret of 32 bytes or more, the same on both machines. Default: none.
    pub partner_key: Option<PathBuf>,
    /// Server: how much longer than its request a reply over UDP may be: `standard` (as RFC 5780 has it, within a budget),
    /// `low` (1.6 times) or `none` (not at all: bare requests are not answered). Default: `standard`.
    pub amplification: StunAmplification,
    /// Server: threads that answer datagrams, 0 to 64. Default: 0, one for each core.
    #[serde(deserialize_with = "list::number::<_, 64>")]
    pub shards: u32,
    /// Server: network interfaces on which plain requests are answered in the driver (XDP), a list of names; where that is
    /// not possible the sockets answer. Needs `CAP_BPF` and `CAP_NET_ADMIN`. Default: empty.
    #[serde(deserialize_with = "list::names")]
    pub xdp: Vec<String>,
    /// Server: replies over UDP a second for each network (an IPv4 /24, an IPv6 /48), twice as many at once;
    /// 0 to 1000000000, where 0 bounds nothing. Default: 10000.
    #[serde(deserialize_with = "list::number::<_, 1_000_000_000>")]
    pub replies_per_second: u32,
    /// Server: whether RESPONSE-PORT is believed without proof that its source is there, as clients that know RFC 5780 only
    /// need it. Anybody can then have the reply sent to another port of the address a request came from, or seemed to. Default: `true`.
    pub trusts_response_port: bool,
    /// Server: whom it answers: `open`, `short-term` or `long-term`. Default: `open`.
    pub access: StunAccess,
    /// Server: the realm of long-term credentials, 1 to 127 letters. Default: none.
    pub realm: Option<String>,
    /// Server: a file with a `name:password` on each line, for `access`. Default: none.
    pub credentials: Option<PathBuf>,
    /// Server: the servers to which all clients are sent instead, `IP:port`, at most one for each family. Default: empty.
    #[serde(deserialize_with = "list::socket_addresses")]
    pub redirect: Vec<SocketAddr>,
    /// Server: the name in the certificate of those servers. Default: none.
    pub redirect_domain: Option<String>,
    /// Server: where to listen for TLS, a list of `IP:port`, at most one for each family. Default: empty.
    #[serde(deserialize_with = "list::socket_addresses")]
    pub tls_listen: Vec<SocketAddr>,
    /// Server: where to listen for DTLS, a list of `IP:port`, at most one for each family; the key must be for ECDSA. Default: empty.
    #[serde(deserialize_with = "list::socket_addresses")]
    pub dtls_listen: Vec<SocketAddr>,
    /// Server: a PEM file with its certificate and those up to, but without, the authority's. Default: none.
    pub tls_certificate: Option<PathBuf>,
    /// Server: a PEM file with the certificate's private key. Default: none.
    pub tls_key: Option<PathBuf>,
    /// Server: what it calls itself in each reply, up to 127 letters. Default: none, since it makes replies longer.
    pub software: Option<String>,
}

impl Default for Stun {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            listen: everywhere(STUN_PORT),
            alternate: Vec::new(),
            public: Vec::new(),
            probes: true,
            mode: StunMode::Auto,
            partner_key: None,
            amplification: StunAmplification::Standard,
            shards: 0,
            xdp: Vec::new(),
            replies_per_second: 10_000,
            trusts_response_port: true,
            access: StunAccess::Open,
            realm: None,
            credentials: None,
            redirect: Vec::new(),
            redirect_domain: None,
            tls_listen: Vec::new(),
            dtls_listen: Vec::new(),
            tls_certificate: None,
            tls_key: None,
            software: None,
        }
    }
}

/// `[hole_punch]`: signalling over UDP, for peers and for the broker.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HolePunch {
    /// Peers: the connection broker, `host:port` over UDP; the port may be left out and is then
    /// 6060. Default: none; a URI may name the broker instead.
    #[serde(deserialize_with = "endpoint::optional::<_, BROKER_PORT>")]
    pub broker: Option<Endpoint>,
    /// Peers: the local UDP port to punch from, 0 to 65535. Default: 0, a free one.
    #[serde(deserialize_with = "endpoint::local_port")]
    pub port: u16,
    /// Broker: where to listen, a list of `IP:port`. Default: `["0.0.0.0:6060", "[::]:6060"]`.
    #[serde(deserialize_with = "list::socket_addresses")]
    pub listen: Vec<SocketAddr>,
}

impl Default for HolePunch {
    fn default() -> Self {
        Self { broker: None, port: 0, listen: everywhere(BROKER_PORT) }
    }
}

/// `[tcp]`: signalling over TCP, for peers and for the broker.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Tcp {
    /// Peers: the connection broker, `host:port` over TCP, for networks that block UDP; the port
    /// may be left out and is then 9999. Default: none, which means the host of
    /// `[hole_punch] broker` on port 9999.
    #[serde(deserialize_with = "endpoint::optional::<_, TCP_BROKER_PORT>")]
    pub broker: Option<Endpoint>,
    /// Broker: where to listen, a list of `IP:port`. Default: `["0.0.0.0:9999", "[::]:9999"]`.
    #[serde(deserialize_with = "list::socket_addresses")]
    pub listen: Vec<SocketAddr>,
    /// Peers: connections begun in one attempt to pass NATs, at most, a number. Default: 256.
    pub connects_per_attempt: u32,
    /// Peers: connections begun in one minute, at most, a number. Default: 1200.
    pub connects_per_minute: u32,
    /// Peers: also try connect, close and listen, if the peer asks for it as well: `true` or `false`. It
    /// fails at every NAT that follows sequence numbers. Default: `false`.
    #[serde(deserialize_with = "switch::switch")]
    pub connect_close_listen: bool,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            broker: None,
            listen: everywhere(TCP_BROKER_PORT),
            connects_per_attempt: 256,
            connects_per_minute: 1200,
            connect_close_listen: false,
        }
    }
}

/// `[registry]`: where a broker keeps its peers, and how many.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Registry {
    /// Broker: the Redis or Valkey database that makes this broker one of several, which all name the same one:
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER]`. Whoever can write there is believed by all of them. Default:
    /// none; this broker is alone and keeps its peers in memory.
    pub url: Option<RegistryUrl>,
    /// Broker: peers registered at once, 1 to 16777216; a further one is refused. A quarter as many calls are
    /// arranged in 15 s, and twice as many TCP streams are open, as far as there are descriptors. Default: 65536.
    #[serde(deserialize_with = "number::within::<_, 1, 16_777_216>")]
    pub peers: u32,
    /// Broker: peers registered at once from one IPv4 address or IPv6 /64, 1 to 65536; a further one is
    /// refused. As many may shake hands at once, and an eighth of that each second. Default: 256.
    #[serde(deserialize_with = "number::within::<_, 1, 65_536>")]
    pub peers_per_address: u32,
}

impl Default for Registry {
    fn default() -> Self {
        Self { url: None, peers: 65_536, peers_per_address: 256 }
    }
}

/// `[spoof]`: packets in other hosts' names, for the broker, and a peer's consent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Spoof {
    /// Broker: answer the SYNs of two peers that both ask for it in each other's name: `true` or
    /// `false`. Needs `CAP_NET_RAW`, and a network that lets such packets out. Default: `false`.
    #[serde(deserialize_with = "switch::switch")]
    pub enabled: bool,
    /// Broker: let peers without a NAT do that in its place that offer it and were seen to be able to,
    /// where it may not itself or its network lets nothing forged out: `true` or `false`. Such a peer
    /// gets to know the addresses of the two. Default: `false`.
    #[serde(deserialize_with = "switch::switch")]
    pub forgers: bool,
    /// Broker: forged packets a second in all, 6 to 10000; a connection takes six. Default: 60.
    #[serde(deserialize_with = "number::within::<_, 6, 10_000>")]
    pub packets_per_second: u32,
    /// Broker: forged packets a second to one IPv4 address or IPv6 /64, 3 to 1000; a connection
    /// takes three to each side. Default: 6.
    #[serde(deserialize_with = "number::within::<_, 3, 1_000>")]
    pub packets_per_second_per_address: u32,
    /// Broker: meetings at once whose peers have asked, 1 to 16384. Default: 64.
    #[serde(deserialize_with = "number::within::<_, 1, 16_384>")]
    pub sessions: u32,
    /// Peers: let a broker find out with this peer whether forged packets get out of its network:
    /// `true` or `false`. It costs a datagram to and from this peer now and then. Default: `false`.
    #[serde(deserialize_with = "switch::switch")]
    pub consent: bool,
    /// Peers: offer the broker to send such packets in its place: `true` or `false`. Needs
    /// `CAP_NET_RAW` of the program itself, a host without a NAT, and a network that lets them out.
    /// Default: `false`.
    #[serde(deserialize_with = "switch::switch")]
    pub offer: bool,
}

impl Default for Spoof {
    fn default() -> Self {
        Self {
            enabled: false,
            forgers: false,
            packets_per_second: 60,
            packets_per_second_per_address: 6,
            sessions: 64,
            consent: false,
            offer: false,
        }
    }
}

/// `[security]`: keys, for peers and for the broker.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Security {
    /// Peers and broker: the file with the private key, made at the first start if it is not there. Default: none,
    /// which means `node.key` or `broker.key` in the user's configuration folder, for the broker
    /// rather in the folder that systemd gives it; a node of the library makes a key for its own life.
    pub key: Option<PathBuf>,
    /// Broker: files with private keys that are accepted beside `key`, while peers learn the new one: a list of
    /// files. Default: empty.
    #[serde(deserialize_with = "list::paths")]
    pub old_keys: Vec<PathBuf>,
    /// Peers: the public keys that the broker may have, a list of 64 hexadecimal digits each. Default:
    /// empty, which trusts the broker at its first use.
    #[serde(deserialize_with = "list::keys")]
    pub broker_keys: Vec<String>,
    /// Peers: the file in which the keys of brokers are noted at their first use. Default: none, which means
    /// `known_brokers` in the user's configuration folder for the `ntcp` command, and nowhere for the library.
    /// That of a broker at a loopback address is not noted: it may be another one each time.
    pub known_brokers: Option<PathBuf>,
    /// Broker: a file with a name and a public key on each line: those names are for those keys. Default: none.
    pub names: Option<PathBuf>,
    /// Broker: refuse whoever is not in `names`: `true` or `false`. Default: `false`.
    #[serde(deserialize_with = "switch::switch")]
    pub only_names: bool,
    /// Peers: speak to the broker in the clear. Broker: also serve peers that do: `true` or `false`. Whoever
    /// reads along can then act as such a peer. Default: `false`.
    #[serde(deserialize_with = "switch::switch")]
    pub plain: bool,
    /// Peers: hand out TCP paths as the kernel's bare socket, without encryption, to peers that want the same:
    /// `true` or `false`. Default: `false`.
    #[serde(deserialize_with = "switch::switch")]
    pub plain_paths: bool,
}

/// `[access]`: who may use a broker that is closed to outsiders.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Access {
    /// Peers: a token of the broker's operator or of an application's own backend, or a file with one, read at the start.
    /// Goes before `user`. Default: none.
    pub token: Option<Secret>,
    /// Peers: the account to use instead. Default: none.
    pub user: Option<String>,
    /// Peers: its password. Default: none.
    pub password: Option<Secret>,
    /// Broker: a file with accounts; with it, the broker is closed to outsiders. Default: none.
    pub accounts: Option<PathBuf>,
    /// Broker: a file with the keys that tokens are minted with; with it, the broker is closed to outsiders. Default: none.
    pub token_keys: Option<PathBuf>,
}

/// `[log]`: what goes to standard error.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Log {
    /// How much to log: `off`, `error`, `warn`, `info`, `debug` or `trace`.
    /// Default: none, which means `info` in the servers and `warn` in the `ntcp` command.
    pub level: Option<LogLevel>,
    /// Servers: how a line of the log is written, `text` or `json`. Default: `text`.
    pub format: LogFormat,
}

/// `[metrics]`: where a server tells its numbers and its health.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Metrics {
    /// Servers: where to answer HTTP with metrics, health and a status page, one `IP:port`. Whoever
    /// can reach it can read it, so it should be a loopback address or one inside the operator's own network.
    /// Default: none.
    #[serde(deserialize_with = "list::optional_socket_address")]
    pub listen: Option<SocketAddr>,
}

/// `[service]`: how a server lives on its machine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Service {
    /// Servers that are started as root: the user to become once every socket is open, a name, or numbers as in
    /// `65534` or `65534:65534`; `root` stays root, without capabilities. Default: none, which means
    /// `nobody`.
    pub user: Option<ServiceUser>,
    /// Broker: how long it may take to let its peers go when it is told to stop: a duration from 0 s to
    /// 1 min. Default: `"5 s"`.
    #[serde(deserialize_with = "duration::seconds::<_, 0, 60>")]
    pub drain: Duration,
}

impl Default for Service {
    fn default() -> Self {
        Self { user: None, drain: Duration::from_secs(5) }
    }
}

impl Config {
    /// The file this configuration came from, if there was one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The STUN servers to ask: those configured, or else the broker's own host on port 3478.
    #[must_use]
    pub fn stun_servers(&self) -> Vec<Endpoint> {
        if !self.stun.servers.is_empty() {
            return self.stun.servers.clone();
        }
        self.hole_punch.broker.iter().map(|broker| broker.with_port(STUN_PORT)).collect()
    }

    /// The broker's TCP side: as configured, or else the host of the UDP broker on port 9999.
    #[must_use]
    pub fn tcp_broker(&self) -> Option<Endpoint> {
        let configured = self.tcp.broker.clone();
        configured.or_else(|| Some(self.hole_punch.broker.as_ref()?.with_port(TCP_BROKER_PORT)))
    }
}

/// Every address of this machine, IPv4 first.
fn everywhere(port: u16) -> Vec<SocketAddr> {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    any.map(|ip| SocketAddr::new(ip, port)).to_vec()
}
