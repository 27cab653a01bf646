//! `ntcp-lab run`: commands in the hosts of a laboratory.

use std::io::{BufReader, IsTerminal as _, Write as _};
use std::process::{ExitCode, ExitStatus};
use std::thread;
use std::time::Duration;

use ntcp_lab::kernel::{Capture, Child, Lab, Layout, Stream, User, ladder};
use serde::Serialize;

use super::{Failure, Site, print_layout};

/// Build a laboratory, run commands in its hosts, and take it away again.
///
/// The command after `--` runs in host a and decides when the lab ends. Those of `--on` start before
/// it, in their order; without a command after `--`, the lab ends with the last of them.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    site: Site,
    /// A shell command in a host or box, such as `server=ntcp-broker`; repeatable
    #[arg(long = "on", value_name = "HOST=COMMAND", value_parser = place)]
    on: Vec<(String, String)>,
    /// A host whose commands run as an ordinary user; repeatable
    #[arg(long, value_name = "HOST")]
    unprivileged: Vec<String>,
    /// Draw every packet between these two hosts in the end
    #[arg(long, value_name = "HOST,HOST", num_args = 0..=1, default_missing_value = "a,b",
        require_equals = true, value_parser = pair)]
    ladder: Option<(String, String)>,
    /// Print addresses, exit statuses, output and ladder as JSON in the end
    #[arg(long)]
    json: bool,
    /// The command in host a, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn place(text: &str) -> Result<(String, String), String> {
    let split =
        text.split_once('=').filter(|(host, command)| !host.is_empty() && !command.is_empty());
    let (host, command) = split.ok_or_else(|| format!("`{text}` is not HOST=COMMAND"))?;
    Ok((host.into(), command.into()))
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (one, other) = text.split_once(',').ok_or_else(|| format!("`{text}` is not HOST,HOST"))?;
    Ok((one.into(), other.into()))
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    layout: &'a Layout,
    commands: Vec<Finished>,
    /// Frames lost because the lab itself was too slow.
    overruns: u64,
    ladder: Option<String>,
}

/// A command that ended.
#[derive(Debug, Serialize)]
struct Finished {
    host: String,
    command: String,
    /// Exit status; `null` if a signal ended it.
    status: Option<i32>,
    stdout: Option<String>,
    stderr: Option<String>,
}

/// A command that runs.
struct Running {
    host: String,
    command: String,
    child: Child,
    output: [Option<thread::JoinHandle<String>>; 2],
}

impl Run {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        if self.on.is_empty() && self.command.is_empty() {
            let hint = "nothing to run: give a command after `--`, or `--on HOST=COMMAND`";
            return Err(Failure::Usage(hint.into()));
        }
        let lab = self.site.start()?;
        if !self.json {
            print_layout(&lab);
        }
        let watch = self.watch(&lab)?;
        let mut running = Vec::new();
        for (host, command) in &self.on {
            running.push(self.start(&lab, host, &["sh", "-c", command], Role::Side)?);
        }
        let finished = self.finish(&lab, running)?;
        let success = finished.iter().all(|it| it.status == Some(0));
        let ladder = watch.map(|watch| self.draw(watch));
        self.report(&lab, finished, ladder)?;
        Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn watch(&self, lab: &Lab) -> Result<Option<Capture>, Failure> {
        let Some((one, other)) = &self.ladder else { return Ok(None) };
        lab.host(one)?;
        lab.host(other)?;
        Ok(Some(lab.capture(&ladder::taps(lab.layout(), one, other))?))
    }

    fn draw(&self, watch: Capture) -> String {
        // Two lines lie between neighbouring interfaces at most.
        let longest = (self.site.delay + self.site.jitter) * 5 / 2 + Duration::from_millis(20);
        let taps = watch.taps().to_vec();
        let (trace, left_out) = ladder::trace(&taps, &watch.stop(), longest);
        let mut text = trace.ladder();
        if left_out > 0 {
            text.push_str(&format!("          … and {left_out} more packets of the same flows\n"));
        }
        text
    }

    fn start(
        &self,
        lab: &Lab,
        host: &str,
        command: &[&str],
        role: Role,
    ) -> Result<Running, Failure> {
        let (name, arguments) = command.split_first().unwrap_or((&"true", &[]));
        let user =
            if self.unprivileged.iter().any(|it| it == host) { User::Nobody } else { User::Root };
        let prefixed = role == Role::Side && !self.json;
        let stream = || if prefixed || self.json { Stream::Piped } else { Stream::Inherit };
        let input = if role == Role::Main { Stream::Inherit } else { Stream::Null };
        let mut program = lab
            .command(host, *name)
            .args(arguments)
            .user(user)
            .stdin(input)
            .stdout(stream())
            .stderr(stream());
        if role == Role::Main && std::io::stdin().is_terminal() {
            program = program.foreground();
        }
        let mut child = program.spawn()?;
        let prefix = prefixed.then(|| format!("{host:>8} | "));
        let output = [child.stdout.take(), child.stderr.take()].map(|pipe| {
            let prefix = prefix.clone();
            pipe.map(|pipe| thread::spawn(move || pass_on(BufReader::new(pipe), prefix.as_deref())))
        });
        Ok(Running { host: host.into(), command: command.join(" "), child, output })
    }

    /// Waits for the main command, or for all; the others are then ended.
    fn finish(&self, lab: &Lab, mut running: Vec<Running>) -> Result<Vec<Finished>, Failure> {
        if self.command.is_empty() {
            return running.into_iter().map(|it| it.wait().map_err(Failure::from)).collect();
        }
        let command: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let main = self.start(lab, "a", &command, Role::Main)?.wait()?;
        for side in &mut running {
            // Those still running were waiting for nothing else.
            side.child.kill()?;
        }
        Ok(vec![main])
    }

    fn report(
        &self,
        lab: &Lab,
        commands: Vec<Finished>,
        ladder: Option<String>,
    ) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        if self.json {
            let layout = lab.layout();
            let outcome = Outcome { layout, commands, overruns: lab.overruns()?, ladder };
            let text = serde_json::to_string_pretty(&outcome).map_err(std::io::Error::other)?;
            writeln!(out, "{text}")?;
        } else if let Some(ladder) = ladder {
            write!(out, "\n{ladder}")?;
        }
        Ok(())
    }
}

/// What a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The lab ends with it, and it has the standard streams.
    Main,
    /// It runs beside it.
    Side,
}

impl Running {
    fn wait(mut self) -> Result<Finished, ntcp_lab::kernel::Error> {
        let status: ExitStatus = self.child.wait()?;
        let [stdout, stderr] =
            self.output.map(|reader| reader.and_then(|reader| reader.join().ok()));
        Ok(Finished {
            host: self.host,
            command: self.command,
            status: status.code(),
            stdout,
            stderr,
        })
    }
}

/// Reads to the end; with a prefix, every line is also shown at once.
fn pass_on(lines: impl std::io::BufRead, prefix: Option<&str>) -> String {
    let mut text = String::new();
    for line in lines.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        match prefix {
            // A closed terminal is no reason to stop the command.
            Some(prefix) => drop(writeln!(std::io::stderr(), "{prefix}{line}")),
            None => {
                text.push_str(&line);
                text.push('\n');
            }
        }
    }
    text
}
