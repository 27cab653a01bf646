//! `ntcp-broker`: the connection broker.
#![forbid(unsafe_code)]

mod arguments;
mod descriptors;
mod stop;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use ntcp_broker::{Broker, Options};
use ntcp_settings::{Config, LogLevel};
use tracing_subscriber::EnvFilter;

use arguments::Arguments;

/// What ended the program: the status tells scripts whose fault it was.
enum Failure {
    /// 1: it could not run.
    Running(anyhow::Error),
    /// 2: it was not told right what to do.
    Configuration(anyhow::Error),
}

fn main() -> ExitCode {
    // Bad flags end the program with status 2 here.
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Running(error)) => complain(&error, 1),
        Err(Failure::Configuration(error)) => complain(&error, 2),
    }
}

fn complain(error: &anyhow::Error, status: u8) -> ExitCode {
    eprintln!("ntcp-broker: {error:#}");
    ExitCode::from(status)
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.config().map_err(Failure::Configuration)?;
    let mut options = arguments.options(&config).map_err(Failure::Configuration)?;
    if arguments.check {
        println!("configuration is good: {}", arguments::describe(&options));
        return Ok(());
    }
    log_to_stderr(arguments, &config);
    descriptors::make_room_for(&mut options);
    serve(&options).map_err(Failure::Running)
}

fn serve(options: &Options) -> anyhow::Result<()> {
    let stop = stop::signals().context("signals cannot be waited for")?;
    let broker = Broker::bind(options)?;
    for address in broker.udp_addresses() {
        tracing::info!(%address, "listening on UDP");
    }
    for address in broker.tcp_addresses() {
        tracing::info!(%address, "listening on TCP");
    }
    let counters = async_io::block_on(broker.run(stop));
    tracing::info!(?counters, "stopped");
    Ok(())
}

fn log_to_stderr(arguments: &Arguments, config: &Config) {
    let level = match arguments.verbose {
        0 => config.log.level.unwrap_or(LogLevel::Info),
        1 => LogLevel::Debug,
        _ => LogLevel::Trace,
    };
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level.to_string()));
    let is_terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal);
    log.with_writer(std::io::stderr).init();
}
