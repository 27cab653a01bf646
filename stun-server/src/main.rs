//! `ntcp-stun-server`: the STUN server.
#![forbid(unsafe_code)]

mod arguments;
mod descriptors;
mod signals;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use ntcp_settings::LogLevel;
use ntcp_stun_server::{Config, Server};
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
    eprintln!("ntcp-stun-server: {error:#}");
    ExitCode::from(status)
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = arguments.settings().map_err(Failure::Configuration)?;
    let config = Config::from(&settings.stun);
    if arguments.check {
        println!("configuration is good: {}", arguments::describe(&config));
        return Ok(());
    }
    log_to_stderr(settings.log.level.unwrap_or(LogLevel::Info));
    serve(config).map_err(Failure::Running)
}

fn serve(mut config: Config) -> anyhow::Result<()> {
    let signals = signals::block().context("signals cannot be waited for")?;
    descriptors::make_room_for(&mut config.limits);
    let server = Server::bind(&config)?;
    announce(&server);
    signals.stop_on_arrival(server.stopper()).context("signals cannot be waited for")?;
    let served = server.run()?;
    tracing::info!(
        connections = served.connections,
        refused_connections = served.refused_connections,
        messages = ?served.messages,
        "stopped"
    );
    Ok(())
}

/// The line that says it is ready: each address, and whether requests for a reply from elsewhere are served.
fn announce(server: &Server) {
    let addresses: Vec<_> = server.local_addresses().iter().map(ToString::to_string).collect();
    let is_served =
        |family: &str| server.quartets().iter().any(|it| family_of(&it.addresses()[0]) == family);
    let mut families: Vec<_> = server.local_addresses().iter().map(family_of).collect();
    families.dedup();
    let change_requests = families.into_iter().map(|family| match is_served(family) {
        true => format!("served over {family}"),
        false => format!("refused over {family} (no alternate address)"),
    });
    tracing::info!(
        "listening on UDP and TCP {}; change requests: {}",
        addresses.join(", "),
        change_requests.collect::<Vec<_>>().join(", ")
    );
}

fn family_of(address: &SocketAddr) -> &'static str {
    match address {
        SocketAddr::V4(_) => "IPv4",
        SocketAddr::V6(_) => "IPv6",
    }
}

fn log_to_stderr(level: LogLevel) {
    // Other people's crates only from `warn` on.
    let others = level.min(LogLevel::Warn);
    let ours = format!("{others},ntcp_stun_server={level},ntcp_stun={level}");
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(ours));
    let is_colourful = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    log.with_ansi(is_colourful).init();
}
