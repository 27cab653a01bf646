//! The real programs between real kernels: what a user gets.
//!
//! The programs are those of the last `cargo build --workspace`. Nothing here measures time: set-up
//! times have a benchmark of their own.

mod abuse;
mod answered;
mod clouds;
mod cluster;
mod consent;
mod data;
mod doctor;
mod endurance;
mod forged;
mod forgers;
mod forging;
mod killed;
mod outages;
mod pairs;
mod partners;
mod refusals;
mod secrecy;
mod skew;
mod strangers;
mod strategies;
mod users;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::ExitStatus;
use std::time::Duration;

use ntcp_lab::kernel::{Builder, Child, Lab, Stream, User};
use ntcp_lab::trial::{Call, Outcome, Stage};
use serde_json::Value;

/// Nothing takes this long in a lab that works.
const PATIENCE: Duration = Duration::from_secs(60);
/// One-way delay of each line.
const LINE: Duration = Duration::from_millis(10);

/// Two homes on such lines.
fn homes(a: &str, b: &str) -> Builder {
    Lab::builder().delay(LINE).home("a", a).home("b", b)
}

/// Calls bob from host `a`; the report of the connection that there must be.
fn connected(stage: &Stage<'_>, transport: &str, what: &str) -> Value {
    let report = stage.connect("a", transport).unwrap();
    assert_eq!(report["outcome"], "connected", "{what} over {transport}: {report:#}");
    assert_eq!(report["relayed"], false, "{what} over {transport}: {report:#}");
    if transport != "any" {
        assert_eq!(report["transport"], transport, "{what}: {report:#}");
    }
    report
}

/// The call must end with status 1 and tell why.
fn refused(outcome: &Outcome) -> String {
    let Outcome { status, report, errors } = outcome;
    assert_eq!(status.code(), Some(1), "{report:#} {errors}");
    assert_eq!(report["outcome"], "failed", "{report:#}");
    let reason = report["reason"].as_str().unwrap_or_default().to_owned();
    assert!(!reason.is_empty(), "{report:#}");
    assert!(errors.contains(&reason), "{errors} does not say {reason}");
    reason
}

/// `ntcp connect` in host `a`, with bob's `cat` at the other end.
struct Conversation {
    child: Child,
    output: BufReader<std::io::PipeReader>,
}

impl Conversation {
    fn start(lab: &Lab, transport: &str) -> Self {
        let mut child = Call::bob("a", transport)
            .command(lab)
            .unwrap()
            .env("NTCP_NODE__KEEPALIVE", "1s")
            .stdin(Stream::Piped)
            .stdout(Stream::Piped)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// A line goes there and comes back; waits for as long as the connection lives.
    fn exchange(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut back = String::new();
        self.output.read_line(&mut back).unwrap();
        assert_eq!(back.trim_end(), line);
    }

    /// Ends our direction, and waits for the other.
    fn end(mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        self.child.wait_timeout(PATIENCE).unwrap().expect("it ends when both directions have")
    }
}

/// A lab with a stage: bob listens in home `b`.
fn on_stage<T>(lab: Builder, play: impl FnOnce(&Lab, &mut Stage<'_>) -> T) -> T {
    on_stage_as(User::Root, lab, play)
}

/// The same with peers that run as this user.
fn on_stage_as<T>(user: User, lab: Builder, play: impl FnOnce(&Lab, &mut Stage<'_>) -> T) -> T {
    let lab = lab.start().unwrap();
    let mut stage = Stage::set(&lab, "b", user).unwrap();
    play(&lab, &mut stage)
}
