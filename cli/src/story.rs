//! What happened, in words for people.

use ntcp::report::{Attempt, AttemptResult};
use ntcp::{Connection, Report, Strategy, Transport};
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

/// Writes to standard error, in colour if that is a terminal and `NO_COLOR` is not set.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    colour: bool,
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Good,
    Bad,
    Quiet,
}

impl Terminal {
    /// The terminal of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colour: wanted && io::stderr().is_terminal() }
    }

    /// Something is going on; nothing is written if there is nothing to say.
    pub fn progress(self, text: &str) {
        for line in text.lines() {
            say(&self.paint(Tone::Quiet, line));
        }
    }

    /// Something worked.
    pub fn success(self, line: &str) {
        say(&self.paint(Tone::Good, line));
    }

    /// Something failed.
    pub fn failure(self, line: &str) {
        say(&format!("{} {line}", self.paint(Tone::Bad, "error:")));
    }

    fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => 32,
            Tone::Bad => 31,
            Tone::Quiet => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn say(line: &str) {
    // Nobody listens to standard error any more: then there is nobody to tell that either.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Who was reached, how, and how fast.
#[must_use]
pub fn connected(connection: &Connection) -> String {
    let report = connection.report();
    let peer = connection.peer_name().map_or("a peer without a name", |name| name.as_str());
    let mut line = format!("connected with {peer} over {}", transport(connection.transport()));
    if let Some(strategy) = connection.strategy() {
        let _ = write!(line, " ({})", plain(strategy));
    }
    if let Some(remote) = connection.peer_addr() {
        let _ = write!(line, " at {remote}");
    }
    if let Some(elapsed) = report.elapsed_ms {
        let _ = write!(line, ", path after {elapsed:.0} ms");
    }
    if let Some(rtt) = report.rtt_ms {
        let _ = write!(line, ", round trip {rtt:.1} ms");
    }
    line
}

/// The ladder of what was tried, one line for each attempt.
#[must_use]
pub fn attempts(report: &Report) -> String {
    let mut lines = String::new();
    for attempt in &report.attempts {
        let _ = writeln!(lines, "  {}", self::attempt(attempt));
    }
    lines.trim_end().to_owned()
}

fn attempt(attempt: &Attempt) -> String {
    let evidence: Vec<_> = attempt.evidence.iter().map(ToString::to_string).collect();
    format!(
        "{:>7.1} to {:>7.1} ms  {:<10} {} {} to {}{}{}",
        attempt.started_ms,
        attempt.ended_ms,
        result(attempt.result),
        transport(attempt.transport),
        plain(attempt.strategy),
        attempt.remote,
        if evidence.is_empty() { "" } else { ": " },
        evidence.join(", "),
    )
}

/// The transport stands beside it already.
fn plain(strategy: Strategy) -> String {
    let words = strategy.to_string();
    words.strip_prefix("UDP ").unwrap_or(&words).to_owned()
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    }
}

fn result(result: AttemptResult) -> &'static str {
    match result {
        AttemptResult::Won => "won",
        AttemptResult::Verified => "verified",
        AttemptResult::Cancelled => "cancelled",
        AttemptResult::NoAnswer => "no answer",
        AttemptResult::Refused => "refused",
        AttemptResult::Impossible => "impossible",
        AttemptResult::Skipped => "skipped",
    }
}
