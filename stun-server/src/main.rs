//! `ntcp-stun-server`: the STUN server.
#![forbid(unsafe_code)]

mod arguments;
mod stop;

use anyhow::Context;
use arguments::Arguments;
use clap::Parser;
use ntcp_settings::{Config, LogLevel};
use ntcp_stun_server::{Options, Server};
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Bad flags end the program with status 2 here.
    let arguments = Arguments::parse();
    let config = match arguments.config() {
        Ok(config) => config,
        Err(error) => return complain(&error, 2),
    };
    let options = Options::from(&config.stun);
    if arguments.check {
        println!("configuration is good: {}", arguments::describe(&options));
        return ExitCode::SUCCESS;
    }
    log_to_stderr(&arguments, &config);
    match serve(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, 1),
    }
}

fn complain(error: &anyhow::Error, status: u8) -> ExitCode {
    eprintln!("ntcp-stun-server: {error:#}");
    ExitCode::from(status)
}

fn serve(options: &Options) -> anyhow::Result<()> {
    let stop = stop::signals().context("signals cannot be waited for")?;
    allow_many_streams();
    let server = Server::bind(options)?;
    for address in server.addresses() {
        tracing::info!(%address, "listening on UDP and TCP");
    }
    if options.alternate.is_empty() {
        tracing::info!(
            "no alternate address: clients learn their mapping, not how their NAT filters"
        );
    }
    let counters = async_io::block_on(server.run(stop));
    tracing::info!(?counters, "stopped");
    Ok(())
}

/// Each stream is a descriptor, and the usual limit of 1024 is soft.
#[cfg(target_os = "linux")]
fn allow_many_streams() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

#[cfg(not(target_os = "linux"))]
fn allow_many_streams() {}

fn log_to_stderr(arguments: &Arguments, config: &Config) {
    let level = match arguments.verbose {
        0 => config.log.level.unwrap_or(LogLevel::Info),
        1 => LogLevel::Debug,
        _ => LogLevel::Trace,
    };
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level.to_string()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
