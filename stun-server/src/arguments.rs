//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use clap::{ArgAction, Parser};
use ntcp_settings::{Config as Settings, LogLevel};
use ntcp_stun_server::Config;

/// A STUN server (RFC 8489, RFC 5780, RFC 3489) over UDP and TCP, IPv4 and IPv6.
///
/// With an alternate address it listens on two IPs with two ports each, and clients learn how their NAT filters;
/// both IPs must be this host's own.
#[derive(Debug, Parser)]
#[command(
    name = "ntcp-stun-server",
    version,
    after_help = "Exit status: 0 stopped as told, 1 failed, 2 wrong usage or configuration."
)]
pub(crate) struct Arguments {
    /// Listen here; once for each address family [default: 0.0.0.0:3478 and [::]:3478].
    #[arg(long, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// Also listen on this second IP and port of the same family; once for each [default port: the one after the
    /// primary address's].
    #[arg(long, value_name = "IP[:PORT]", value_parser = alternate)]
    alternate: Vec<Alternate>,
    /// Read this file instead of $NTCP_CONFIG, ./p2pNetwork.toml or the user's own.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check flags and configuration, then exit.
    #[arg(long)]
    pub(crate) check: bool,
    /// Log more: -v decisions and addresses, -vv every packet.
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

/// An alternate address, whose port may follow from the primary one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Alternate {
    ip: IpAddr,
    port: Option<u16>,
}

fn alternate(text: &str) -> Result<Alternate, String> {
    let address =
        text.parse().map(|it: SocketAddr| Alternate { ip: it.ip(), port: Some(it.port()) });
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    address
        .or_else(|_| bare.parse().map(|ip| Alternate { ip, port: None }))
        .map_err(|_| "write IP or IP:PORT, for example 192.0.2.11:3479".to_owned())
}

impl Arguments {
    /// The configuration, with these flags as its last layer.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let mut settings = match &self.config {
            Some(path) => Settings::load(path)?,
            None => Settings::find()?,
        };
        self.override_in(&mut settings)?;
        settings.check()?;
        Ok(settings)
    }

    fn override_in(&self, settings: &mut Settings) -> anyhow::Result<()> {
        if !self.listen.is_empty() {
            settings.stun.listen.clone_from(&self.listen);
        }
        if !self.alternate.is_empty() {
            let beside = self.alternate.iter().map(|it| it.beside(&settings.stun.listen));
            settings.stun.alternate = beside.collect::<anyhow::Result<_>>()?;
        }
        let configured = settings.log.level.unwrap_or(LogLevel::Info);
        settings.log.level = Some(match self.verbose {
            0 => configured,
            1 => configured.max(LogLevel::Debug),
            2.. => LogLevel::Trace,
        });
        Ok(())
    }
}

impl Alternate {
    /// The address that stands beside the primary one of its family.
    fn beside(self, listen: &[SocketAddr]) -> anyhow::Result<SocketAddr> {
        let port = self.port.or_else(|| {
            let primary = listen.iter().find(|it| it.is_ipv4() == self.ip.is_ipv4())?;
            primary.port().checked_add(1)
        });
        let port = port.with_context(|| {
            format!(
                "--alternate {0}: no port follows from --listen; write one, for example {0}:3479",
                self.ip
            )
        })?;
        Ok(SocketAddr::new(self.ip, port))
    }
}

/// Where it would listen, for `--check`.
pub(crate) fn describe(config: &Config) -> String {
    let list = |addresses: &[SocketAddr]| {
        let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        texts.join(" and ")
    };
    let alternate = match config.alternate.as_slice() {
        [] => "no alternate address".to_owned(),
        some => format!("alternate {}", list(some)),
    };
    format!("UDP and TCP on {}, {alternate}", list(&config.listen))
}
