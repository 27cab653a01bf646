//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use ntcp_broker::{DirectoryAddress, Options};
use ntcp_proto::rendezvous::{Config as Limits, ForgeLimits, Forging, InTheClear};
use ntcp_settings::{Config, Registry, Spoof};

use crate::access::Wanted;

/// The connection broker: peers register under names and call each other; the broker tells both
/// when and where to open a direct path. It relays no data.
///
/// Exit status: 0 stopped as told, 1 failed, 2 wrong usage or configuration.
#[derive(Debug, Parser)]
#[command(name = "ntcp-broker", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// Something else than serving.
    #[command(subcommand)]
    pub(crate) errand: Option<Errand>,
    /// What to serve.
    #[arg(value_enum, default_value_t = Service::All)]
    service: Service,
    /// UDP address to listen on; repeatable [default: 0.0.0.0:6060 and [::]:6060].
    #[arg(long, value_name = "IP:PORT")]
    udp: Vec<SocketAddr>,
    /// TCP address to listen on; repeatable [default: 0.0.0.0:9999 and [::]:9999].
    #[arg(long, value_name = "IP:PORT")]
    tcp: Vec<SocketAddr>,
    /// Where to answer HTTP with metrics, health and a status page [default: nowhere].
    #[arg(long, value_name = "IP:PORT")]
    metrics: Option<SocketAddr>,
    /// Configuration file [default: $NTCP_CONFIG, ./p2pNetwork.toml, or ntcp/p2pNetwork.toml in
    /// the user's configuration folder].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and exit.
    #[arg(long)]
    pub(crate) check: bool,
    /// Log more; twice for every message.
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Something else than serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Errand {
    /// Mint a token that lets a peer use a broker that is closed to outsiders, and print it.
    Token(Wanted),
}

/// Which brokers to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Service {
    /// The UDP broker alone.
    Udp,
    /// The TCP broker alone.
    Tcp,
    /// Both.
    All,
}

impl Arguments {
    /// The configuration with all its layers, the flags on top.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::find()?,
        };
        let or = |configured: &mut Vec<SocketAddr>, flags: &[SocketAddr]| {
            if !flags.is_empty() {
                configured.clear();
                configured.extend_from_slice(flags);
            }
        };
        or(&mut config.hole_punch.listen, &self.udp);
        or(&mut config.tcp.listen, &self.tcp);
        config.metrics.listen = self.metrics.or(config.metrics.listen);
        Ok(config)
    }

    /// Where to listen, and what limits.
    pub(crate) fn options(&self, config: &Config) -> anyhow::Result<Options> {
        let (udp, tcp) = (config.hole_punch.listen.clone(), config.tcp.listen.clone());
        let (udp, tcp) = match self.service {
            Service::All => (udp, tcp),
            Service::Udp if !self.tcp.is_empty() => {
                bail!("--tcp makes no sense with `udp`: leave it out, or write `all`")
            }
            Service::Tcp if !self.udp.is_empty() => {
                bail!("--udp makes no sense with `tcp`: leave it out, or write `all`")
            }
            Service::Udp => (udp, Vec::new()),
            Service::Tcp => (Vec::new(), tcp),
        };
        let in_the_clear = match config.security.plain {
            true => InTheClear::Allowed,
            false => InTheClear::Refused,
        };
        let (forging, forgers) = forging(&config.spoof);
        let limits = Limits { forging, forgers, in_the_clear, ..limits(&config.registry) };
        let url = config.registry.url.as_ref();
        let directory = url.map(|url| DirectoryAddress::find(url.as_str())).transpose()?;
        let drain = config.service.drain;
        let options = Options { udp, tcp, limits, directory, drain, ..Options::default() };
        Ok(options.with_room_for_streams())
    }
}

/// How many peers, and calls in the same proportion.
fn limits(registry: &Registry) -> Limits {
    let whole = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let (default, peers) = (Limits::default(), whole(registry.peers));
    let share = |most: usize| (peers / (default.max_registrations / most)).max(most);
    Limits {
        max_registrations: peers,
        max_registrations_per_address: whole(registry.peers_per_address),
        max_sessions: share(default.max_sessions),
        max_parked: share(default.max_parked),
        ..default
    }
}

/// What may be forged here, and by peers that offer it, by the configuration.
fn forging(spoof: &Spoof) -> (Forging, Option<ForgeLimits>) {
    let limits = ForgeLimits {
        packets_per_second: spoof.packets_per_second,
        packets_per_second_per_address: spoof.packets_per_second_per_address,
        max_sessions: usize::try_from(spoof.sessions).unwrap_or(usize::MAX),
    };
    let own = if spoof.enabled { Forging::Within(limits.clone()) } else { Forging::Off };
    (own, spoof.forgers.then_some(limits))
}

/// Where it would listen, for `--check`.
pub(crate) fn describe(options: &Options, config: &Config) -> String {
    let list = |name: &str, addresses: &[SocketAddr]| match addresses {
        [] => format!("no {name}"),
        some => {
            let some: Vec<String> = some.iter().map(ToString::to_string).collect();
            format!("{name} on {}", some.join(" and "))
        }
    };
    let forging = match &options.limits.forging {
        Forging::Off => "",
        Forging::Within(_) => ", forging SYN-ACKs for peers that both ask",
    };
    let registry = match &config.registry.url {
        Some(url) => format!(", one of several at {url}"),
        None => String::new(),
    };
    let access = match &options.limits.access {
        None => String::new(),
        Some(access) => format!(
            ", closed: {} accounts and {} keys of tokens",
            access.accounts.len(),
            access.token_keys.len()
        ),
    };
    let metrics: Vec<_> = config.metrics.listen.into_iter().collect();
    let [udp, tcp] = [list("UDP", &options.udp), list("TCP", &options.tcp)];
    format!("{udp}, {tcp}, {}{forging}{registry}{access}", list("metrics", &metrics))
}
