//! `ntcp-stun-server`: the STUN server.
#![forbid(unsafe_code)]

mod arguments;
mod descriptors;
mod stop;

use anyhow::Context;
use arguments::Arguments;
use clap::Parser;
use ntcp_settings::{Config, LogLevel};
use ntcp_stun_server::{Options, Server};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Bad flags end the program with status 2 here.
    let arguments = Arguments::parse();
    let config = match arguments.config() {
        Ok(config) => config,
        Err(error) => return complain(&error, 2),
    };
    let options = match Options::load(&config.stun) {
        Ok(options) => options,
        Err(error) => return complain(&error.into(), 2),
    };
    if arguments.check {
        println!("configuration is good: {}", arguments::describe(&options));
        return ExitCode::SUCCESS;
    }
    log_to_stderr(&arguments, &config);
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, 1),
    }
}

fn complain(error: &anyhow::Error, status: u8) -> ExitCode {
    eprintln!("ntcp-stun-server: {error:#}");
    ExitCode::from(status)
}

fn serve(mut options: Options) -> anyhow::Result<()> {
    let stop = stop::signals().context("signals cannot be waited for")?;
    descriptors::make_room_for(&mut options);
    let server = Server::bind(&options)?;
    announce(&server);
    let counters = async_io::block_on(server.run(stop));
    tracing::info!(?counters, "stopped");
    Ok(())
}

/// The line that says it is ready: each address, and whether clients can learn how their NAT filters.
fn announce(server: &Server) {
    let addresses = server.addresses();
    let mut families: Vec<_> = addresses.iter().map(family).collect();
    families.dedup();
    let change_requests = families.into_iter().map(|name| {
        let is_served = server.quartets().iter().any(|it| family(&it.addresses()[0]) == name);
        if is_served {
            format!("served over {name}")
        } else {
            format!("refused over {name} (no alternate address)")
        }
    });
    let change_requests: Vec<_> = change_requests.collect();
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    tracing::info!(
        "mode {}, listening on UDP and TCP {}; change requests: {}",
        server.mode(),
        addresses.join(", "),
        change_requests.join(", ")
    );
}

fn family(address: &SocketAddr) -> &'static str {
    match address {
        SocketAddr::V4(_) => "IPv4",
        SocketAddr::V6(_) => "IPv6",
    }
}

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
