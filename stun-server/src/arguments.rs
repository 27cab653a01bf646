//! The command line.

use anyhow::Context;
use clap::{ArgAction, Parser};
use ntcp_settings::{Config, PublicAddress, STUN_PORT, StunMode};
use ntcp_stun_server::{AlternateHost, Options};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// A STUN server (RFC 8489) over UDP and TCP, with behaviour discovery (RFC 5780) if it has a second address; it answers
/// classic clients (RFC 3489) too.
///
/// Exit status: 0 stopped as told, 1 failed, 2 wrong usage or configuration.
#[derive(Debug, Parser)]
#[command(name = "ntcp-stun-server", version)]
pub(crate) struct Arguments {
    /// Where to listen over UDP and TCP; repeatable, one address of each family [default: 0.0.0.0:3478 and [::]:3478].
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// The alternate address for behaviour discovery, another IP and another port than the one to listen on; repeatable,
    /// one address of each family. Without a port: the port after the one to listen on.
    #[arg(long, value_name = "IP[:PORT]")]
    alternate: Vec<Alternate>,
    /// Under which address clients know one of this machine's, if a NAT with a public address for each of them stands before it,
    /// as clouds have it; repeatable.
    #[arg(long, value_name = "LOCAL=PUBLIC")]
    public: Vec<PublicAddress>,
    /// How the server comes by its alternate address: auto, basic, dual, forged or partner [default: auto].
    #[arg(long, value_name = "MODE")]
    mode: Option<StunMode>,
    /// A file with the secret that both hosts of mode "partner" share.
    #[arg(long, value_name = "FILE")]
    partner_key: Option<PathBuf>,
    /// A network interface on which plain requests are answered in the driver, if possible; repeatable.
    #[arg(long, value_name = "INTERFACE")]
    xdp: Vec<String>,
    /// Where to listen for TLS; repeatable, one address of each family [default: nowhere].
    #[arg(long, value_name = "IP:PORT")]
    tls: Vec<SocketAddr>,
    /// Where to listen for DTLS; repeatable, one address of each family [default: nowhere].
    #[arg(long, value_name = "IP:PORT")]
    dtls: Vec<SocketAddr>,
    /// A PEM file with the certificate.
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// A PEM file with the certificate's private key.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Where to answer HTTP with metrics and health [default: nowhere].
    #[arg(long, value_name = "IP:PORT")]
    metrics: Option<SocketAddr>,
    /// Configuration file [default: $NTCP_CONFIG, ./p2pNetwork.toml, or ntcp/p2pNetwork.toml in the user's
    /// configuration folder].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration and exit.
    #[arg(long)]
    pub(crate) check: bool,
    /// Log more; twice for every message.
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// An address whose port may be missing.
#[derive(Clone, Copy, Debug)]
struct Alternate {
    ip: IpAddr,
    port: Option<u16>,
}

impl FromStr for Alternate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { ip: address.ip(), port: Some(address.port()) });
        }
        let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
        let ip = bare.parse().map_err(|_| {
            "expected IP or IP:PORT, for example 192.0.2.2:3479 or [2001:db8::2]:3479".to_owned()
        })?;
        Ok(Self { ip, port: None })
    }
}

impl Arguments {
    /// The configuration with all its layers, the flags on top.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::find()?,
        };
        if !self.listen.is_empty() {
            config.stun.listen.clone_from(&self.listen);
            if self.alternate.is_empty() {
                // A configured alternate belongs to a configured listener of its family.
                let families = self.listen.clone();
                let has_family =
                    |it: &SocketAddr| families.iter().any(|own| own.is_ipv4() == it.is_ipv4());
                config.stun.alternate.retain(has_family);
            }
        }
        config.metrics.listen = self.metrics.or(config.metrics.listen);
        if !self.alternate.is_empty() {
            let listen = &config.stun.listen;
            let alternate = self.alternate.iter().map(|it| it.beside(listen));
            config.stun.alternate = alternate.collect::<anyhow::Result<_>>()?;
        }
        if !self.public.is_empty() {
            config.stun.public.clone_from(&self.public);
        }
        config.stun.mode = self.mode.unwrap_or(config.stun.mode);
        if !self.xdp.is_empty() {
            config.stun.xdp.clone_from(&self.xdp);
        }
        if !self.tls.is_empty() {
            config.stun.tls_listen.clone_from(&self.tls);
        }
        if !self.dtls.is_empty() {
            config.stun.dtls_listen.clone_from(&self.dtls);
        }
        for (flag, key) in [
            (&self.partner_key, &mut config.stun.partner_key),
            (&self.tls_certificate, &mut config.stun.tls_certificate),
            (&self.tls_key, &mut config.stun.tls_key),
        ] {
            if flag.is_some() {
                key.clone_from(flag);
            }
        }
        config.check()?;
        Ok(config)
    }
}

impl Alternate {
    /// With the port after that of the listener of its family.
    fn beside(self, listen: &[SocketAddr]) -> anyhow::Result<SocketAddr> {
        let port = match (self.port, listen.iter().find(|it| it.is_ipv4() == self.ip.is_ipv4())) {
            (Some(port), _) => Some(port),
            (None, Some(primary)) => primary.port().checked_add(1),
            (None, None) => Some(STUN_PORT + 1),
        };
        let port = port.with_context(|| {
            format!("--alternate {}: there is no port after 65535, write one", self.ip)
        })?;
        Ok(SocketAddr::new(self.ip, port))
    }
}

/// What it would do and where it would listen, for `--check`.
pub(crate) fn describe(options: &Options, config: &Config) -> String {
    let list = |addresses: &[SocketAddr]| {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        addresses.join(" and ")
    };
    let listen = list(&options.listen);
    let known = options.public.iter().map(|it| format!(", {} known as {}", it.local, it.public));
    let listen = listen + &known.collect::<String>();
    let metrics = match config.metrics.listen {
        Some(address) => format!("metrics on {address}"),
        None => "no metrics".to_owned(),
    };
    let metrics = match &options.tls {
        Some(tls) => {
            let spoken = [("TLS", &tls.listen), ("DTLS", &tls.dtls)];
            let spoken = spoken.into_iter().filter(|(_, listen)| !listen.is_empty());
            let spoken = spoken.map(|(name, listen)| format!("{name} on {}, ", list(listen)));
            spoken.collect::<String>() + &metrics
        }
        None => metrics,
    };
    match &options.alternate[..] {
        [] => format!("mode basic, UDP and TCP on {listen}, no alternate address, {metrics}"),
        some => {
            let some = list(some);
            let (mode, some) = match options.alternate_host {
                AlternateHost::ThisOne => ("dual", format!("alternate {some}")),
                AlternateHost::Forged => ("forged", format!("in the name of the alternate {some}")),
                AlternateHost::Partner(_) => {
                    ("partner", format!("together with the host at {some}"))
                }
            };
            format!("mode {mode}, UDP and TCP on {listen}, {some}, {metrics}")
        }
    }
}
