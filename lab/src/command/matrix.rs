//! `ntcp-lab matrix`: every NAT against every other, in virtual time.

use std::io::Write as _;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use ntcp_lab::chart::{self, Chart};
use ntcp_lab::matrix::Matrix;
use ntcp_lab::presets::{SITES, Site};
use ntcp_lab::technique::{Technique, UnknownTechnique};
use ntcp_proto::candidate::Transport;

use super::Failure;
use super::simulate::Lines;

/// What is tried between two sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    /// The product's own calls, over UDP and over TCP.
    Call,
    /// Plain or privileged sockets driven by hand.
    Technique(Technique),
    /// Everything.
    All,
}

impl FromStr for Strategy {
    type Err = UnknownTechnique;

    fn from_str(text: &str) -> Result<Self, UnknownTechnique> {
        match text {
            "call" => Ok(Self::Call),
            "all" => Ok(Self::All),
            name => name.parse().map(Self::Technique),
        }
    }
}

/// Let every NAT try every other, and show how long each took.
///
/// Without --strategy or --html these are calls of ntcp over UDP and over TCP. Techniques are sockets
/// driven by hand over lines of 10 ms: what the NATs allow, whatever ntcp makes of it.
#[derive(Debug, clap::Args)]
pub(super) struct ShowMatrix {
    /// The NATs; the lab's choice if none is named
    #[arg(value_name = "PRESET")]
    sites: Vec<Site>,
    /// call, all, or a technique: udp, simultaneous-open, shielded-opener, connect-close-listen,
    /// spoofed-syn-ack, own-syn-ack, own-syn-ack-after-crossing, syn-injection, ghost-handshake;
    /// repeatable
    #[arg(long, value_name = "NAME")]
    strategy: Vec<Strategy>,
    /// How much later the second side begins
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = humantime::parse_duration)]
    skew: Duration,
    /// Write heat maps to this file instead, as one page; of everything unless --strategy says less
    #[arg(long, value_name = "FILE")]
    html: Option<String>,
    #[command(flatten)]
    lines: Lines,
}

impl ShowMatrix {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        match &self.html {
            Some(path) => self.write(path)?,
            None => self.print()?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn has(&self, strategy: Strategy) -> bool {
        self.strategy.iter().any(|it| *it == strategy || *it == Strategy::All)
    }

    fn sites(&self, usual: &[&str]) -> Vec<Site> {
        if self.sites.is_empty() {
            return usual.iter().filter_map(|text| text.parse().ok()).collect();
        }
        self.sites.clone()
    }

    fn calls(&self, usual: &[&str]) -> Matrix {
        Matrix::run(&self.sites(usual), |setup| {
            setup.access = self.lines.quality();
            setup.seed = self.lines.seed;
            setup.skew = self.skew;
        })
    }

    fn techniques(&self) -> impl Iterator<Item = Chart> + '_ {
        let chosen = Technique::ALL.into_iter().filter(|it| self.has(Strategy::Technique(*it)));
        let sites = self.sites(chart::SITES);
        chosen.map(move |technique| Chart::of_technique(technique, &sites, self.skew))
    }

    fn print(&self) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        if self.strategy.is_empty() || self.has(Strategy::Call) {
            write!(out, "{}", self.calls(SITES))?;
            let what =
                "UDP/TCP, in one-way delays from the call to a verified path; 4 is the limit";
            writeln!(out, "\n{what}")?;
        }
        for chart in self.techniques() {
            writeln!(out, "\n{chart}")?;
        }
        Ok(())
    }

    fn write(&self, path: &str) -> Result<(), Failure> {
        let all =
            Self { strategy: vec![Strategy::All], sites: self.sites.clone(), html: None, ..*self };
        let wanted = if self.strategy.is_empty() { &all } else { self };
        let mut charts = Vec::new();
        if wanted.has(Strategy::Call) {
            let calls = wanted.calls(chart::SITES);
            charts.extend([Transport::Udp, Transport::Tcp].map(|it| calls.chart(it)));
        }
        charts.extend(wanted.techniques());
        std::fs::write(path, Chart::page(&charts))
            .map_err(|error| Failure::File { path: path.into(), detail: error.to_string() })
    }
}
