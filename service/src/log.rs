//! The log: lines of text, or of JSON, on standard error.
//!
//! | level | what is told |
//! |---|---|
//! | `error`, `warn` | what failed, what was refused by a limit; not more often than once in a while ([`Rarely`](crate::Rarely)) |
//! | `info` | outcomes: started, registered, called, stopped. No address of a peer |
//! | `debug` | decisions, with addresses |
//! | `trace` | every packet |
//!
//! Lines are written by a thread of their own: a reader that stands still delays nobody. What then finds no room is counted,
//! and told once it reads again.

use std::io::IsTerminal as _;

use ntcp_settings::{LogFormat, LogLevel};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

use crate::scribe::{Line, scribe};

/// The log of this process, once it has begun.
#[derive(Debug)]
pub struct Log {
    level: LogLevel,
    filter: reload::Handle<EnvFilter, Registry>,
    is_fixed: bool,
}

impl Log {
    /// Begins to log. `RUST_LOG`, if it is set, says what is logged instead of `level`.
    ///
    /// # Panics
    ///
    /// If the process has a log already.
    #[must_use]
    pub fn begin(level: LogLevel, format: LogFormat) -> Self {
        let from_environment = EnvFilter::try_from_default_env();
        let is_fixed = from_environment.is_ok();
        let filter = from_environment.unwrap_or_else(|_| EnvFilter::new(level.as_str()));
        let (filter, handle) = reload::Layer::new(filter);
        let lines = match format {
            LogFormat::Text => {
                let is_terminal = std::io::stderr().is_terminal();
                fmt::layer().with_ansi(is_terminal).with_writer(|| Line).boxed()
            }
            LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(|| Line).boxed(),
        };
        tracing_subscriber::registry().with(filter).with(lines).init();
        Self { level, filter: handle, is_fixed }
    }

    /// Logs as much as `level` from now on; `true` if that is another one than before. What `RUST_LOG` says stands.
    pub fn set_level(&mut self, level: LogLevel) -> bool {
        if self.is_fixed || level == self.level {
            return false;
        }
        self.level = level;
        self.filter.reload(EnvFilter::new(level.as_str())).is_ok()
    }
}

/// Has everything written that was logged, when it is dropped: the program keeps it until its end, also one by a panic. A
/// reader that stands still delays the end by a second.
#[derive(Debug)]
#[must_use = "it is kept until the end of the program"]
pub struct UntilWritten;

impl Drop for UntilWritten {
    fn drop(&mut self) {
        scribe().finish();
    }
}

/// The level by the flag `-v`, which may be given more than once, or else by the configuration.
#[must_use]
pub fn level(verbose: u8, configured: Option<LogLevel>) -> LogLevel {
    match verbose {
        0 => configured.unwrap_or(LogLevel::Info),
        1 => LogLevel::Debug,
        _ => LogLevel::Trace,
    }
}
