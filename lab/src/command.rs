//! The commands of `ntcp-lab`.
//!
//! Exit status: 0 done, 1 failed, 2 usage or an impossible topology.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ntcp_lab::kernel::{Access, Builder, Error, Form, Lab, Topology};

mod classify;
mod list;
mod matrix;
mod pairs;
mod run;
mod shell;
mod simulate;

/// NATs by name, laboratories of real kernels, and what happens in them. No root needed.
#[derive(Debug, Parser)]
#[command(name = "ntcp-lab", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the NAT presets and the settings that change them.
    List(list::List),
    /// Build a laboratory, run commands in its hosts, and take it away again.
    Run(run::Run),
    /// Build a laboratory and open a shell in one of its hosts.
    Shell(shell::Shell),
    /// Measure what a NAT preset really does, from both sides of it.
    Classify(classify::Classify),
    /// Let two nodes call each other in the simulated internet, and show every packet.
    Simulate(simulate::Simulate),
    /// Let every NAT try every other in the simulated internet, by each way through, and show how
    /// long each took.
    Matrix(matrix::ShowMatrix),
    /// Let the real programs call each other between real kernels, pair after pair.
    Pairs(pairs::ShowPairs),
}

impl Arguments {
    /// Does it.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Run(run) => run.run(),
            Command::Shell(shell) => shell.run(),
            Command::Classify(classify) => classify.run(),
            Command::Simulate(simulate) => simulate.run(),
            Command::Matrix(matrix) => matrix.run(),
            Command::Pairs(pairs) => pairs.run(),
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] Error),
    /// A topology file.
    #[error("{path}: {detail}")]
    File {
        /// Which.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The arguments.
    #[error("{0}")]
    Usage(String),
    /// Printing.
    #[error("{0}")]
    Output(#[from] std::io::Error),
}

impl Failure {
    /// Nobody reads what is printed any more.
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The exit status.
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Self::Lab(Error::Topology { .. } | Error::NotInNetfilter { .. })
            | Self::Lab(Error::UnknownSpace { .. })
            | Self::File { .. }
            | Self::Usage(_) => ExitCode::from(2),
            Self::Lab(_) | Self::Output(_) => ExitCode::FAILURE,
        }
    }
}

/// Who does the translating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Nat {
    /// Netfilter where it can, the lab's own NAT where it cannot.
    Auto,
    /// The kernel's netfilter.
    Netfilter,
    /// The lab's own NAT, as a router in user space.
    User,
}

impl From<Nat> for Form {
    fn from(nat: Nat) -> Self {
        match nat {
            Nat::Auto => Self::Auto,
            Nat::Netfilter => Self::Netfilter,
            Nat::User => Self::User,
        }
    }
}

/// What a laboratory consists of.
#[derive(Debug, Args)]
struct Site {
    /// What host `a` is behind: a preset, settings after commas, a carrier after `@`
    #[arg(long, value_name = "PRESET", default_value = "linux-masq")]
    a: String,
    /// What host `b` is behind
    #[arg(long, value_name = "PRESET", default_value = "linux-masq")]
    b: String,
    /// Who does the translating
    #[arg(long, value_enum, default_value = "auto")]
    nat: Nat,
    /// One-way delay of each access line (a packet from a to b takes twice this)
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = humantime::parse_duration)]
    delay: Duration,
    /// Up to this much more delay on each access line
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = humantime::parse_duration)]
    jitter: Duration,
    /// Share of packets lost on each access line, such as 5% or 0.05
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    loss: f64,
    /// Share of packets that fall behind their successors
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    reorder: f64,
    /// Share of packets that arrive twice
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    duplicate: f64,
    /// Seed of everything random in the lab's own routers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A topology as JSON instead; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["a", "b", "nat", "delay", "jitter", "loss",
        "reorder", "duplicate", "seed"])]
    topology: Option<String>,
}

/// `5%` or `0.05`.
fn share(text: &str) -> Result<f64, String> {
    let (digits, scale) = match text.strip_suffix('%') {
        Some(digits) => (digits, 100.0),
        None => (text, 1.0),
    };
    let value: f64 = digits.trim().parse().map_err(|_| format!("`{text}` is not a share"))?;
    let value = value / scale;
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(format!("`{text}` is not between 0 and 1, or 0 % and 100 %"))
    }
}

impl Site {
    fn start(&self) -> Result<Lab, Failure> {
        match &self.topology {
            Some(path) => Ok(Lab::start(&read_topology(path)?)?),
            None => Ok(self.builder().start()?),
        }
    }

    fn builder(&self) -> Builder {
        let access = Access {
            delay: self.delay,
            jitter: self.jitter,
            loss: self.loss,
            reorder: self.reorder,
            duplicate: self.duplicate,
            lag: Duration::ZERO,
        };
        let form = Form::from(self.nat);
        Lab::builder()
            .seed(self.seed)
            .server_access(access)
            .home("a", &self.a)
            .form(form)
            .access(access)
            .home("b", &self.b)
            .form(form)
            .access(access)
    }
}

fn read_topology(path: &str) -> Result<Topology, Failure> {
    let wrong = |detail: String| Failure::File { path: path.into(), detail };
    let text = match path {
        "-" => std::io::read_to_string(std::io::stdin()),
        path => std::fs::read_to_string(path),
    };
    let text = text.map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

/// Who has which address, for people.
fn print_layout(lab: &Lab) {
    for host in &lab.layout().hosts {
        let seen = if host.public == std::net::IpAddr::from(host.address) {
            String::new()
        } else {
            format!(", seen from outside as {}", host.public)
        };
        let v6 = host.address_v6.map(|address| format!(", {address}")).unwrap_or_default();
        eprintln!("  {:<10} {}{v6}{seen}", host.name, host.address);
    }
    for nat in &lab.layout().boxes {
        let form = format!("{:?}", nat.form).to_lowercase();
        eprintln!("  {:<10} {} | {}: {} ({form})", nat.name, nat.inside, nat.outside, nat.preset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_share_is_a_number_or_a_percentage() {
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("0.05"), Ok(0.05));
        assert!(share("150%").is_err());
        assert!(share("some").is_err());
        assert!(share("-1").is_err());
    }
}
