//! `ntcp-lab simulate`: a call in the simulated internet, in virtual time.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use ntcp_lab::link::Quality;
use ntcp_lab::meeting::{Meeting, Outcome, Setup};
use ntcp_lab::presets::Site;
use ntcp_proto::uri::TransportChoice;

use super::{Failure, share};

/// What lies between two hosts.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Lines {
    /// One-way delay of each access line (a packet from a to b takes twice this)
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = humantime::parse_duration)]
    delay: Duration,
    /// Up to this much more delay on each access line
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = humantime::parse_duration)]
    jitter: Duration,
    /// Share of packets lost on each access line, such as 5% or 0.05
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    loss: f64,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

impl Lines {
    pub(super) fn quality(&self) -> Quality {
        Quality { jitter: self.jitter, ..Quality::delay(self.delay).with_loss(self.loss) }
    }
}

/// Let two nodes call each other in the simulated internet, and show every packet.
#[derive(Debug, clap::Args)]
pub(super) struct Simulate {
    /// What the caller is behind: a preset, settings after commas, a carrier after `@`
    #[arg(value_name = "PRESET", default_value = "linux-masq")]
    a: Site,
    /// What the callee is behind
    #[arg(value_name = "PRESET", default_value = "linux-masq")]
    b: Site,
    /// tcp, udp or any
    #[arg(long, default_value = "any")]
    transport: TransportChoice,
    #[command(flatten)]
    lines: Lines,
    /// Write what the caller's host sent and received to this file, as pcap
    #[arg(long, value_name = "FILE")]
    pcap: Option<String>,
}

impl Simulate {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let setup = Setup {
            access: self.lines.quality(),
            transport: self.transport,
            seed: self.lines.seed,
            record: true,
            ..Setup::new(&self.a, &self.b)
        };
        let mut meeting = Meeting::new(&setup);
        let called = meeting.world.clock();
        let outcome = meeting.call();
        // The rest of the conversation, for the ladder.
        meeting.world.advance(setup.limit());
        let mut out = std::io::stdout().lock();
        write!(out, "{}", meeting.world.ladder())?;
        writeln!(out, "\ncalled at {:.3} ms", called.as_secs_f64() * 1000.0)?;
        self.print(&mut out, &outcome, &setup)?;
        if let Some(path) = &self.pcap {
            let file = meeting.world.trace().pcap(meeting.world.place(meeting.hosts[0]));
            std::fs::write(path, file)
                .map_err(|error| Failure::File { path: path.clone(), detail: error.to_string() })?;
        }
        let connected = outcome.caller.is_some() && outcome.callee.is_some();
        Ok(if connected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn print(
        &self,
        out: &mut impl std::io::Write,
        outcome: &Outcome,
        setup: &Setup,
    ) -> Result<(), Failure> {
        let (a, b) = (&self.a, &self.b);
        let report = outcome.caller.as_ref().map(|caller| &caller.report);
        let story = report.and_then(|it| Some((it.strategy?, it.transport?, it.elapsed_ms?)));
        match story {
            Some((strategy, transport, elapsed)) => {
                let limit = setup.limit().as_secs_f64() * 1000.0;
                let transport = format!("{transport:?}").to_uppercase();
                writeln!(out, "{a} reached {b} over {transport} by {strategy}")?;
                writeln!(out, "after {elapsed:.1} ms; no path can be known before {limit:.1} ms")?;
            }
            None => {
                let reason = outcome.report.as_ref().and_then(|it| it.reason.as_deref());
                writeln!(out, "{a} did not reach {b}: {}", reason.unwrap_or("no report"))?;
            }
        }
        Ok(())
    }
}
