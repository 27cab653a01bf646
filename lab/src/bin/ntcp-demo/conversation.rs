//! One call: `ntcp listen` in one home, `ntcp connect` in the other, data both ways at once.

use crate::pattern::{Heard, Pattern};
use crate::stage::Stage;
use anyhow::{Context, anyhow, bail};
use ntcp_lab::kernel::{Child, Stream};
use ntcp_lab::scratch::Scratch;
use ntcp_lab::trial::ready;
use serde_json::Value;
use std::io::Read;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a whole conversation may take, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How it went.
pub(crate) struct Conversation {
    /// The caller's report.
    pub(crate) report: Value,
    /// What the caller printed, if it failed.
    pub(crate) complaint: String,
    /// Bytes that each said.
    pub(crate) said: u64,
    /// What the callee heard.
    pub(crate) forth: Heard,
    /// What the caller heard.
    pub(crate) back: Heard,
}

impl Conversation {
    /// Lets the two meet once, over this transport.
    pub(crate) fn hold(stage: &Stage, transport: &str, bytes: u64) -> anyhow::Result<Self> {
        let server = stage.server().to_string();
        let bob = stage
            .ntcp("bob", &["listen", "bob", "--broker", &server])
            .stdin(Stream::Piped)
            .stdout(Stream::Piped);
        let mut bob = ready(bob, "listening").context("bob cannot register")?;
        let report = Scratch::new("demo-report");
        let uri = format!("ntcp://bob@{server}");
        let flags = ["connect", &uri, "--transport", transport, "--report", report.path()];
        let mut alice = stage
            .ntcp("alice", &flags)
            .stdin(Stream::Piped)
            .stdout(Stream::Piped)
            .stderr(Stream::Piped)
            .spawn()?;
        let mut errors = alice.stderr.take().context("no standard error")?;
        let complaint = thread::spawn(move || {
            let mut text = String::new();
            // What was written before a failure is all there is to show.
            let _ = errors.read_to_string(&mut text);
            text
        });
        let (question, answer) = (Pattern::new(1), Pattern::new(2));
        let back = converse(&mut alice, &question, &answer, bytes)?;
        let forth = converse(&mut bob, &answer, &question, bytes)?;
        let Some(status) = alice.wait_timeout(PATIENCE)? else {
            bail!("ntcp connect did not end within {PATIENCE:?}");
        };
        if !status.success() {
            // Nobody will come: what bob still has to say is not heard.
            bob.kill()?;
        }
        let complaint = joined(complaint)?;
        let report = report.json().with_context(|| format!("no report: {complaint}"))?;
        let (back, forth) = (joined(back)??, joined(forth)??);
        Ok(Self { report, complaint, said: bytes, forth, back })
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.report["outcome"] == "connected"
    }

    /// Whether both heard everything that was said.
    pub(crate) fn is_whole(&self) -> bool {
        self.forth.is_whole(self.said) && self.back.is_whole(self.said)
    }
}

/// Says `mine` to a program and hears `theirs` from it.
fn converse(
    program: &mut Child,
    mine: &Pattern,
    theirs: &Pattern,
    bytes: u64,
) -> anyhow::Result<JoinHandle<std::io::Result<Heard>>> {
    let input = program.stdin.take().context("no standard input")?;
    let output = program.stdout.take().context("no standard output")?;
    let (mine, theirs) = (mine.clone(), theirs.clone());
    // A program that fails does not listen to the end; its report tells why.
    thread::spawn(move || mine.say(input, bytes));
    Ok(thread::spawn(move || theirs.hear(output)))
}

fn joined<T>(thread: JoinHandle<T>) -> anyhow::Result<T> {
    thread.join().map_err(|_| anyhow!("a thread of the demo panicked"))
}
