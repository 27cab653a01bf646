//! The `ntcp` command.

use clap::Parser;
use ntcp_cli::arguments::{Arguments, Command, Peer};
use ntcp_cli::failure::Failure;
use ntcp_cli::story::Terminal;
use ntcp_cli::{connect, doctor, listen, log, spoof_check};
use ntcp_settings::{Config, LogLevel};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let terminal = Terminal::of_process();
    match run(&arguments, terminal) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.failure(&failure.to_string());
            ExitCode::from(failure.exit_status())
        }
    }
}

fn run(arguments: &Arguments, terminal: Terminal) -> Result<(), Failure> {
    let flags = match &arguments.command {
        Command::Doctor(doctor) => &doctor.peer,
        Command::Listen(listen) => &listen.peer,
        Command::Connect(connect) => &connect.peer,
        Command::SpoofCheck(check) => &check.peer,
    };
    let config = flags.config()?;
    if flags.check {
        println!("{}: correct", checked(flags, &config));
        return Ok(());
    }
    log::start(config.log.level.unwrap_or(LogLevel::Warn));
    match &arguments.command {
        Command::Doctor(arguments) => async_io::block_on(doctor::run(arguments, config, terminal)),
        Command::Listen(arguments) => async_io::block_on(listen::run(arguments, config, terminal)),
        Command::Connect(arguments) => {
            async_io::block_on(connect::run(arguments, config, terminal))
        }
        Command::SpoofCheck(arguments) => spoof_check::run(arguments),
    }
}

/// What `--check` has looked at.
fn checked(flags: &Peer, config: &Config) -> String {
    match config.file().or(flags.config.as_deref()) {
        Some(file) => file.display().to_string(),
        None => "defaults, environment and flags".to_owned(),
    }
}
