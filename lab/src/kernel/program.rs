//! Programs that run inside a lab's hosts.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Output};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::control::{Channel, Program, Reply, Request, Terminal, User, Word};
use super::error::{Error, Result};
use super::lab::{Lab, unexpected};
use super::sys;

/// Where a standard stream leads.
#[derive(Debug, Default)]
pub enum Stream {
    /// Nowhere: empty, or thrown away.
    #[default]
    Null,
    /// Where it leads in this process.
    Inherit,
    /// To the holder of the [`Child`].
    Piped,
    /// To this file.
    Descriptor(OwnedFd),
}

/// A program about to be started, much like [`std::process::Command`].
#[derive(Debug)]
#[must_use = "nothing runs before `spawn` or `output`"]
pub struct Command<'lab> {
    lab: &'lab Lab,
    program: Program,
    streams: [Stream; 3],
}

/// Where a user's own files are: a laboratory neither uses nor leaves any.
const PERSONAL: [&str; 2] = ["HOME", "XDG_CONFIG_HOME"];

impl<'lab> Command<'lab> {
    pub(super) fn new(lab: &'lab Lab, space: &str, program: PathBuf) -> Self {
        let program = Program {
            space: space.into(),
            program: absolute(program),
            arguments: Vec::new(),
            environment: PERSONAL.map(|name| (name.into(), None)).into(),
            directory: std::env::current_dir().unwrap_or_else(|_| "/".into()),
            user: User::Root,
            terminal: Terminal::None,
        };
        Self { lab, program, streams: [Stream::Null, Stream::Inherit, Stream::Inherit] }
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.program.arguments.push(argument.as_ref().to_string_lossy().into_owned());
        self
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// An environment variable; all others are inherited from the process that started the lab, save
    /// those that lead to the keys of whoever runs it.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.program.environment.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(mut self, name: &str) -> Self {
        self.program.environment.insert(name.into(), None);
        self
    }

    /// The working directory; the default is this process's.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.program.directory = directory.into();
        self
    }

    /// As whom it runs; the default is [`User::Root`].
    pub fn user(mut self, user: User) -> Self {
        self.program.user = user;
        self
    }

    /// Standard input; the default is [`Stream::Null`].
    pub fn stdin(mut self, stream: Stream) -> Self {
        self.streams[0] = stream;
        self
    }

    /// Standard output; the default is [`Stream::Inherit`].
    pub fn stdout(mut self, stream: Stream) -> Self {
        self.streams[1] = stream;
        self
    }

    /// Standard error; the default is [`Stream::Inherit`].
    pub fn stderr(mut self, stream: Stream) -> Self {
        self.streams[2] = stream;
        self
    }

    /// It gets the terminal on its standard input, as a shell needs it.
    pub fn foreground(mut self) -> Self {
        self.program.terminal = Terminal::Foreground;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Error::UnknownSpace`], or [`Error::System`] if the program cannot be started.
    pub fn spawn(self) -> Result<Child> {
        let failed = |error| Error::system("making a pipe", error);
        let [input, output, errors] = self.streams;
        let (input, stdin) = input_stream(input).map_err(failed)?;
        let (output, stdout) = output_stream(output, &io::stdout()).map_err(failed)?;
        let (errors, stderr) = output_stream(errors, &io::stderr()).map_err(failed)?;
        let with = [input.as_fd(), output.as_fd(), errors.as_fd()];
        let terminal = self.program.terminal;
        match self.lab.request(&Request::Run(self.program), &with)? {
            (channel, Reply::Started { pid }) => {
                Ok(Child { channel, pid, terminal, status: None, stdin, stdout, stderr })
            }
            (_, other) => Err(unexpected(Some(other))),
        }
    }

    /// Runs it to its end and collects what it writes.
    ///
    /// # Errors
    /// As [`Command::spawn`], and [`Error::Gone`].
    pub fn output(self) -> Result<Output> {
        self.stdout(Stream::Piped).stderr(Stream::Piped).spawn()?.wait_with_output()
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// As [`Command::spawn`], and [`Error::Gone`].
    pub fn status(self) -> Result<ExitStatus> {
        self.spawn()?.wait()
    }
}

/// The supervisor searches `PATH` for a bare name, and knows no other directory than ours.
fn absolute(program: PathBuf) -> PathBuf {
    let bare = program.components().count() == 1 && !program.is_absolute();
    if bare && !program.to_string_lossy().contains('/') {
        return program;
    }
    std::path::absolute(&program).unwrap_or(program)
}

fn input_stream(stream: Stream) -> io::Result<(OwnedFd, Option<PipeWriter>)> {
    Ok(match stream {
        Stream::Null => (File::open("/dev/null")?.into(), None),
        Stream::Inherit => (io::stdin().as_fd().try_clone_to_owned()?, None),
        Stream::Descriptor(descriptor) => (descriptor, None),
        Stream::Piped => {
            let (theirs, mine) = io::pipe()?;
            (theirs.into(), Some(mine))
        }
    })
}

fn output_stream(
    stream: Stream,
    own: &impl std::os::fd::AsFd,
) -> io::Result<(OwnedFd, Option<PipeReader>)> {
    Ok(match stream {
        Stream::Null => (File::options().write(true).open("/dev/null")?.into(), None),
        Stream::Inherit => (own.as_fd().try_clone_to_owned()?, None),
        Stream::Descriptor(descriptor) => (descriptor, None),
        Stream::Piped => {
            let (mine, theirs) = io::pipe()?;
            (theirs.into(), Some(mine))
        }
    })
}

/// A running program. Dropping it kills the program and its process group.
#[derive(Debug)]
pub struct Child {
    channel: Channel,
    pid: u32,
    terminal: Terminal,
    status: Option<ExitStatus>,
    /// The other end of its standard input, if piped.
    pub stdin: Option<PipeWriter>,
    /// The other end of its standard output, if piped.
    pub stdout: Option<PipeReader>,
    /// The other end of its standard error, if piped.
    pub stderr: Option<PipeReader>,
}

impl Child {
    /// Its process id within the lab, and that of its process group.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Sends a signal to its process group, by number; nothing happens if it has ended.
    ///
    /// # Errors
    /// [`Error::System`]. That the lab itself is gone shows in [`Child::wait`].
    pub fn signal(&self, number: i32) -> Result<()> {
        match self.channel.send(&Word::Signal(number), &[]) {
            // Its end is on the way here, or it is the lab's end.
            Err(Error::Gone { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Kills its process group.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn kill(&self) -> Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Waits for its end. Its standard input is closed before.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.stdin = None;
        if let Some(status) = self.status {
            return Ok(status);
        }
        match self.channel.receive::<Reply>()? {
            Some((Reply::Exited { status }, _)) => {
                let status = ExitStatus::from_raw(status);
                self.status = Some(status);
                if self.terminal == Terminal::Foreground {
                    // Without a terminal there was none to take away.
                    let _ = sys::claim_terminal();
                }
                Ok(status)
            }
            other => Err(unexpected(other.map(|(reply, _)| reply))),
        }
    }

    /// Waits for its end, but no longer than this; `None` if it still runs.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        while self.status.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut polled = [PollFd::new(&self.channel, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&timeout)) {
                Ok(0) => return Ok(None),
                Ok(_) => return self.wait().map(Some),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::system("poll", error)),
            }
        }
        Ok(self.status)
    }

    /// Collects what it writes, and waits for its end.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn wait_with_output(mut self) -> Result<Output> {
        self.stdin = None;
        let read = |pipe: Option<PipeReader>| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = pipe {
                    // What was written before a failure is all there is to show.
                    let _ = pipe.read_to_end(&mut bytes);
                }
                bytes
            })
        };
        let (stdout, stderr) = (read(self.stdout.take()), read(self.stderr.take()));
        let status = self.wait()?;
        let stdout = stdout.join().unwrap_or_default();
        let stderr = stderr.join().unwrap_or_default();
        Ok(Output { status, stdout, stderr })
    }
}
