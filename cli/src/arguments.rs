//! What can be written after `ntcp`. The comments of the fields are the help that `--help` prints.
#![expect(
    rustdoc::broken_intra_doc_links,
    reason = "help is read in a terminal, where brackets mean what may be left out"
)]

use clap::{ArgAction, Args, Parser, Subcommand};
use ntcp::{PeerUri, TransportChoice};
use ntcp_settings::{BROKER_PORT, Config, Endpoint, EndpointError, LogLevel, NodeName};
use ntcp_settings::{STUN_PORT, TCP_BROKER_PORT};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Direct connections between any two programs, TCP or UDP, through any NAT.
#[derive(Debug, Parser)]
#[command(name = "ntcp", version, after_help = EXIT_STATUS)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "Exit status: 0 done, 1 failed, 2 usage or configuration.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find out what NAT this machine is behind, for UDP and for TCP, and what will work.
    Doctor(Doctor),
    /// Accept peers: the first one gets standard input and output, or each one a command or a forward.
    Listen(Listen),
    /// Connect to a peer: standard input and output, or a local port that is forwarded.
    Connect(Connect),
    /// Find out, with a server that consents, whether this network lets packets with a forged source out.
    SpoofCheck(SpoofCheck),
}

/// Arguments of `ntcp spoof-check`.
#[derive(Debug, Args)]
pub struct SpoofCheck {
    /// The STUN server to send to, an ntcp-stun-server; nobody else receives anything.
    #[arg(value_name = "SERVER", value_parser = stun_server)]
    pub server: Endpoint,
    /// Print the verdict as JSON.
    #[arg(long)]
    pub json: bool,
    /// Flags that all commands share.
    #[command(flatten)]
    pub peer: Peer,
}

/// Arguments of `ntcp doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print the verdict as JSON.
    #[arg(long)]
    pub json: bool,
    /// Also write the verdict as a page to look at.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Also measure how long holes and idle TCP connections live, for times up to this, 3 to 900; it
    /// takes as long.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(3..=900))]
    pub timers: Option<u32>,
    /// Also find out whether packets with a forged source leave this network: sends some to the first STUN
    /// server, which must consent, as an ntcp-stun-server does.
    #[arg(long)]
    pub spoof_check: bool,
    /// Flags that all commands share.
    #[command(flatten)]
    pub peer: Peer,
}

/// Arguments of `ntcp listen`.
#[derive(Debug, Args)]
pub struct Listen {
    /// The name under which others find this peer, as in ntcp://NAME; default: [node] name.
    #[arg(value_name = "NAME", conflicts_with = "name")]
    pub registered_name: Option<NodeName>,
    /// Run this shell command for each peer; its standard input and output are the connection, and
    /// NTCP_PEER_NAME, NTCP_PEER_ADDRESS and NTCP_PEER_TRANSPORT tell it who is there.
    #[arg(long, value_name = "CMD", conflicts_with = "forward")]
    pub exec: Option<String>,
    /// Connect each peer to this TCP service.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub forward: Option<Endpoint>,
    /// Flags that all commands share.
    #[command(flatten)]
    pub peer: Peer,
}

/// Arguments of `ntcp connect`.
#[derive(Debug, Args)]
pub struct Connect {
    /// Whom to connect to: ntcp://NAME or ntcp://NAME@BROKER[:PORT][?transport=tcp|udp|any].
    pub uri: PeerUri,
    /// Which transports may be used, tcp, udp or any; default: what the URI says, or else any.
    #[arg(long)]
    pub transport: Option<TransportChoice>,
    /// Write how the connection was made, or why it was not, as JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Listen on [IP:]PORT (127.0.0.1 if only a port) and connect each local client to the peer.
    #[arg(long, value_name = "LOCAL", value_parser = local_address)]
    pub forward: Option<SocketAddr>,
    /// Flags that all commands share.
    #[command(flatten)]
    pub peer: Peer,
}

/// Flags that all commands of a peer share. They override the configuration.
#[derive(Debug, Default, Args)]
pub struct Peer {
    /// Read this file instead of $NTCP_CONFIG, ./p2pNetwork.toml or the user's own.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check flags and configuration, then exit.
    #[arg(long)]
    pub check: bool,
    /// Ask this STUN server (repeatable) instead of the configured ones.
    #[arg(long, value_name = "HOST:PORT", value_parser = stun_server)]
    pub stun: Vec<Endpoint>,
    /// Use this connection broker over UDP.
    #[arg(long, value_name = "HOST:PORT", value_parser = broker)]
    pub broker: Option<Endpoint>,
    /// Use this connection broker over TCP, where UDP is blocked.
    #[arg(long, value_name = "HOST:PORT", value_parser = tcp_broker)]
    pub tcp_broker: Option<Endpoint>,
    /// Register under this name.
    #[arg(long)]
    pub name: Option<NodeName>,
    /// Read this peer's private key from this file, or make it there
    /// [default: node.key in the user's configuration folder].
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The public key that the broker must have; repeatable while it changes.
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    pub broker_key: Vec<String>,
    /// A token (t1:...) for a broker that is closed to outsiders, or better a file with one: others on this machine can
    /// see what is written here.
    #[arg(long, value_name = "TOKEN|FILE", conflicts_with = "user")]
    pub token: Option<String>,
    /// An account at such a broker; its password is taken from NTCP_ACCESS__PASSWORD or [access] password.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Hand out TCP paths without encryption, if the peer wants the same.
    #[arg(long)]
    pub plain: bool,
    /// Log more: -v outcomes, -vv decisions and addresses, -vvv every packet.
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

impl Peer {
    /// The configuration with these flags as its last layer.
    ///
    /// # Errors
    /// What is wrong with the file, the environment or the combination.
    pub fn config(&self) -> Result<Config, ntcp_settings::Error> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::find()?,
        };
        self.override_in(&mut config);
        in_users_folder(&mut config);
        config.check()?;
        Ok(config)
    }

    fn override_in(&self, config: &mut Config) {
        if !self.stun.is_empty() {
            config.stun.servers.clone_from(&self.stun);
        }
        if self.broker.is_some() {
            config.hole_punch.broker.clone_from(&self.broker);
        }
        if self.tcp_broker.is_some() {
            config.tcp.broker.clone_from(&self.tcp_broker);
        }
        if self.name.is_some() {
            config.node.name.clone_from(&self.name);
        }
        let security = &mut config.security;
        if self.key.is_some() {
            security.key.clone_from(&self.key);
        }
        if !self.broker_key.is_empty() {
            security.broker_keys.clone_from(&self.broker_key);
        }
        security.plain_paths |= self.plain;
        let access = &mut config.access;
        if let Some(token) = &self.token {
            access.token = Some(token.clone().into());
        }
        if self.user.is_some() {
            access.token = None;
            access.user.clone_from(&self.user);
        }
        let configured = config.log.level.unwrap_or(LogLevel::Warn);
        config.log.level = Some(match self.verbose {
            0 => configured,
            1 => configured.max(LogLevel::Info),
            2 => configured.max(LogLevel::Debug),
            3.. => LogLevel::Trace,
        });
    }
}

/// Who this user is, and whom it trusts, is the same from one run to the next.
fn in_users_folder(config: &mut Config) {
    let Some(folder) = ntcp_settings::user_folder() else { return };
    let security = &mut config.security;
    security.key.get_or_insert_with(|| folder.join("node.key"));
    security.known_brokers.get_or_insert_with(|| folder.join("known_brokers"));
}

fn public_key(text: &str) -> Result<String, String> {
    let key: Result<ntcp::PublicKey, _> = text.parse();
    key.map(|key| key.to_string()).map_err(|error| error.to_string())
}

fn stun_server(text: &str) -> Result<Endpoint, EndpointError> {
    Endpoint::parse(text, STUN_PORT)
}

fn broker(text: &str) -> Result<Endpoint, EndpointError> {
    Endpoint::parse(text, BROKER_PORT)
}

fn tcp_broker(text: &str) -> Result<Endpoint, EndpointError> {
    Endpoint::parse(text, TCP_BROKER_PORT)
}

/// A service has no usual port: it must be written.
fn host_and_port(text: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::parse(text, 1).map_err(|error| error.to_string())?;
    if endpoint.to_string() != text && Endpoint::parse(text, 2) != Ok(endpoint.clone()) {
        return Err(format!("the port is missing; write HOST:PORT, for example {text}:22"));
    }
    Ok(endpoint)
}

fn local_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    text.parse().map_err(|_| "write PORT or IP:PORT, for example 127.0.0.1:8022".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn connect(words: &str) -> Result<Connect, String> {
        let words = ["ntcp", "connect"].into_iter().chain(words.split_whitespace());
        match Arguments::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Connect(connect) => Ok(connect),
            Command::Doctor(_) | Command::Listen(_) | Command::SpoofCheck(_) => {
                unreachable!("the word was connect")
            }
        }
    }

    #[test]
    fn the_grammar_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_are_the_last_layer() {
        let connect = connect(
            "ntcp://bob --stun a --stun b:1 --broker c --tcp-broker d --name me -vv --forward 8022",
        )
        .unwrap();
        let mut config = Config::from_toml("stun.servers = ['x']\nnode.name = 'y'").unwrap();
        connect.peer.override_in(&mut config);
        let servers: Vec<_> = config.stun.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["a:3478", "b:1"]);
        assert_eq!(config.hole_punch.broker.unwrap().to_string(), "c:6060");
        assert_eq!(config.tcp.broker.unwrap().to_string(), "d:9999");
        assert_eq!(config.node.name.unwrap().as_str(), "me");
        assert_eq!(config.log.level, Some(LogLevel::Debug));
        assert_eq!(connect.forward, Some("127.0.0.1:8022".parse().unwrap()));
    }

    #[test]
    fn without_flags_the_configuration_stands() {
        let text = "stun.servers = ['x']\nhole_punch.broker = 'b'\nlog.level = 'debug'";
        let mut config = Config::from_toml(text).unwrap();
        let before = config.clone();
        connect("ntcp://bob -v").unwrap().peer.override_in(&mut config);
        assert_eq!(config, before);
    }

    #[test]
    fn a_wrong_flag_is_a_usage_error_that_says_what_to_write() {
        for (words, expected) in [
            ("ntcp://bob --stun host:0", "write a number from 1 to 65535"),
            ("ntcp://bob --name a/b", "a name cannot contain '/'"),
            ("ntcp://bob --transport sctp", "write tcp, udp or any"),
            ("http://bob", "write ntcp://NAME or ntcp://NAME@BROKER[:PORT]"),
            ("ntcp://bob --forward x", "write PORT or IP:PORT"),
            ("", "<URI>"),
        ] {
            let message = connect(words).unwrap_err();
            assert!(message.contains(expected), "{words:?} gave {message}");
        }
    }

    #[test]
    fn a_forwarded_service_needs_its_port() {
        assert_eq!(host_and_port("localhost:22").unwrap().to_string(), "localhost:22");
        assert_eq!(host_and_port("[::1]:1").unwrap().to_string(), "[::1]:1");
        assert!(host_and_port("localhost").unwrap_err().contains("localhost:22"));
        assert!(host_and_port("::1").is_err());
    }
}
