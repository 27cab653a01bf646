//! Two homes behind NATs, a public server, and two programs that connect by URI: what `./demo` shows.
//!
//! It builds the laboratory, starts `ntcp-stun-server` and `ntcp-broker` on their defaults, asks
//! `ntcp doctor` in each home, then lets `ntcp listen` and `ntcp connect` meet and exchange data. It
//! measures from outside: what it prints is what anybody could see who ran the same commands.

#![forbid(unsafe_code)]

mod conversation;
mod pattern;
mod stage;
mod words;

use clap::Parser;
use conversation::Conversation;
use ntcp_lab::presets::{PRESETS, Site};
use stage::Stage;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Two programs behind two NATs connect by URI, in network namespaces of this machine.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// The NAT of the caller, alice: a preset, with settings and carriers.
    #[arg(value_name = "A", default_value = "linux-masq")]
    alice: Site,
    /// The NAT of the callee, bob.
    #[arg(value_name = "B", default_value = "port-restricted")]
    bob: Site,
    /// One-way delay of each of the three lines, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=500))]
    delay: u64,
    /// How much to move each way, in megabytes.
    #[arg(long, value_name = "MB", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1000))]
    data: u64,
    /// List the NAT presets.
    #[arg(long)]
    list: bool,
    /// Show the servers' logs.
    #[arg(short, long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let shown = if arguments.list { list() } else { show(&arguments) };
    match shown {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> anyhow::Result<bool> {
    for preset in PRESETS {
        writeln!(io::stdout(), "{:<22}{}", preset.name, preset.about)?;
    }
    Ok(true)
}

/// Whether the two connected, over any transport.
fn show(arguments: &Arguments) -> anyhow::Result<bool> {
    let line = Duration::from_millis(arguments.delay);
    let out = &mut io::stdout().lock();
    words::opening(out, &arguments.alice, &arguments.bob, line)?;
    let stage = Stage::build(&arguments.alice, &arguments.bob, line, arguments.verbose)?;
    words::nats(out, &stage.doctor("alice")?, &stage.doctor("bob")?)?;

    let mut connected = false;
    for transport in ["any", "tcp", "udp"] {
        words::call(out, transport, stage.server())?;
        let conversation = Conversation::hold(&stage, transport, arguments.data * 1_000_000)?;
        words::outcome(out, &conversation, limit(line), transport == "any")?;
        connected |= conversation.is_connected() && conversation.is_whole();
        if !connected {
            // What did not come about with both has no better chance with one.
            break;
        }
    }
    words::closing(out, connected)?;
    Ok(connected)
}

/// No path that was verified both ways can stand earlier after the call. With one-way delays a
/// (caller to broker), b (broker to callee) and d (caller to callee) that is max(2a, a + b) + 2d; here
/// each of the three crosses two lines.
fn limit(line: Duration) -> Duration {
    let between_hosts = 2 * line;
    4 * between_hosts
}
