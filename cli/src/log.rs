//! Logs go to standard error; what is above the level of our own crates is not asked of others.

use ntcp_settings::LogLevel;
use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;

/// Starts logging. Other people's crates log from `warn` on, ours from `level` on.
pub fn start(level: LogLevel) {
    let others = level.min(LogLevel::Warn);
    let directives = format!("{others},ntcp={level}");
    let filter = EnvFilter::builder().parse_lossy(directives);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // To say that a line could not be written would take another one, and a full disk would end whoever says it.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // A second start, as in tests, keeps the first subscriber.
    let _ = subscriber.try_init();
}
