//! The real programs in a laboratory: a server, a peer that listens and a peer that connects.
//!
//! [`Servers`] are the STUN server and the broker in the lab's server host, which can be stopped and
//! started one by one. A [`Stage`] is both of them and a listener in one home; [`Stage::connect`]
//! then runs `ntcp connect` in another home as often as wanted and hands out its report, and a
//! [`Call`] is one such run with its own flags. Everything ends with its value.

use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::kernel::{
    Access, Child, Command, Lab, SERVER_ADDRESSES, SERVER_ADDRESSES_V6, Stream, User,
};
use crate::scratch::Scratch;

/// How long a program may take to say that it is ready.
const READY: Duration = Duration::from_secs(20);
/// How long `ntcp connect` may take in all: its own deadline, and a margin for a busy machine.
const CONNECT: Duration = Duration::from_secs(25);

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Beside this executable, where cargo and packages put them all.
    ///
    /// # Errors
    ///
    /// If one of them is not there, naming it.
    pub fn beside_this_one() -> Result<Self> {
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let folder = own.parent().context("this program has no folder")?;
        // Tests and examples are one folder below the others.
        let below = folder.ends_with("deps") || folder.ends_with("examples");
        let folder = if below { folder.parent().unwrap_or(folder) } else { folder };
        let programs = Self { folder: folder.to_owned() };
        for name in ["ntcp", "ntcp-broker", "ntcp-stun-server"] {
            let path = programs.path(name);
            ensure!(path.exists(), "{} is missing: run `cargo build --workspace`", path.display());
        }
        Ok(programs)
    }

    /// The file of one program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// A node with this in its environment may begin as many connections as it likes: where one makes
/// calls by the hundred, what a minute allows is not the question.
pub const UNMETERED: (&str, &str) = ("NTCP_TCP__CONNECTS_PER_MINUTE", "1000000");

/// The flags that lead a peer to [`Servers`].
pub fn server_flags() -> [String; 4] {
    let [server, ..] = SERVER_ADDRESSES;
    ["--broker".into(), server.to_string(), "--stun".into(), format!("{server}:3478")]
}

/// The same over IPv6, for a lab that has it.
pub fn server_flags_v6() -> [String; 4] {
    let [server, ..] = SERVER_ADDRESSES_V6;
    ["--broker".into(), server.to_string(), "--stun".into(), format!("[{server}]:3478")]
}

/// The STUN server and the broker.
#[derive(Debug)]
pub struct Servers<'lab> {
    lab: &'lab Lab,
    programs: Programs,
    stun: Option<Child>,
    broker: Option<Child>,
    /// What the broker's environment says beyond the usual.
    settings: Vec<(String, String)>,
    /// The broker's key, as long as these servers live.
    key: Scratch,
}

impl<'lab> Servers<'lab> {
    /// Starts both.
    ///
    /// # Errors
    ///
    /// What did not start, with what it said.
    pub fn start(lab: &'lab Lab) -> Result<Self> {
        Self::start_with(lab, &[])
    }

    /// Starts both; the broker's environment has these variables.
    ///
    /// # Errors
    ///
    /// What did not start, with what it said.
    pub fn start_with(lab: &'lab Lab, settings: &[(&str, &str)]) -> Result<Self> {
        let programs = Programs::beside_this_one()?;
        let settings =
            settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let key = Scratch::new("broker-key");
        let mut servers = Self { lab, programs, stun: None, broker: None, settings, key };
        servers.start_stun()?;
        servers.start_broker()?;
        Ok(servers)
    }

    /// The STUN server, with all that RFC 5780 asks for.
    fn start_stun(&mut self) -> Result<()> {
        let [primary, alternate, ..] = SERVER_ADDRESSES;
        let mut stun = self
            .lab
            .command("server", self.programs.path("ntcp-stun-server"))
            .args(["--listen", &format!("{primary}:3478")])
            .args(["--alternate", &format!("{alternate}:3479")]);
        if self.lab.host("server")?.address_v6.is_some() {
            let [primary, alternate] = SERVER_ADDRESSES_V6;
            stun = stun
                .args(["--listen", &format!("[{primary}]:3478")])
                .args(["--alternate", &format!("[{alternate}]:3479")]);
        }
        self.stun = Some(ready(stun, "listening")?);
        Ok(())
    }

    /// The broker, again if it was stopped.
    ///
    /// # Errors
    ///
    /// Why it did not start.
    pub fn start_broker(&mut self) -> Result<()> {
        let mut broker = self.lab.command("server", self.programs.path("ntcp-broker")).arg("all");
        // The key that it was known by before.
        broker = broker.env("NTCP_SECURITY__KEY", self.key.path());
        for (name, value) in &self.settings {
            broker = broker.env(name, value);
        }
        self.broker = Some(ready(broker, "listening")?);
        Ok(())
    }

    /// Kills the broker, as a crash would; it is gone afterwards.
    ///
    /// # Errors
    ///
    /// That the lab is gone.
    pub fn kill_broker(&mut self) -> Result<()> {
        end(self.broker.take())
    }

    /// Kills the STUN server; it is gone afterwards.
    ///
    /// # Errors
    ///
    /// That the lab is gone.
    pub fn kill_stun(&mut self) -> Result<()> {
        end(self.stun.take())
    }
}

/// One run of `ntcp connect`.
#[derive(Debug, Clone)]
pub struct Call {
    /// The host it runs in.
    pub host: String,
    /// Whom it calls.
    pub uri: String,
    /// As whom it runs.
    pub user: User,
    /// Its further flags, [`server_flags`] unless told otherwise.
    pub flags: Vec<String>,
    /// What its environment says beyond the usual.
    pub environment: Vec<(&'static str, &'static str)>,
}

/// What came of a [`Call`].
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Its report.
    pub report: Value,
    /// What it said to people.
    pub errors: String,
}

impl Call {
    /// `ntcp://bob`, from this host.
    pub fn bob(host: &str, transport: &str) -> Self {
        Self {
            host: host.into(),
            uri: format!("ntcp://bob?transport={transport}"),
            user: User::Root,
            flags: server_flags().into(),
            environment: Vec::new(),
        }
    }

    /// Runs it to its end, without any input.
    ///
    /// # Errors
    ///
    /// If the program hangs, or leaves no report.
    pub fn run(&self, lab: &Lab) -> Result<Outcome> {
        let (output, theirs) = std::io::pipe().context("making a pipe")?;
        // Opened anew by its name, the pipe asks for the rights of a file.
        rustix::fs::fchmod(&theirs, rustix::fs::Mode::from_raw_mode(0o622))
            .context("making a pipe writable for everybody")?;
        let mut child = self
            .command(lab)?
            .args(["--report", "/dev/stdout"])
            .stdout(Stream::Descriptor(theirs.into()))
            .stderr(Stream::Piped)
            .spawn()?;
        let (output, errors) = (gather(Some(output)), gather(child.stderr.take()));
        let Some(status) = child.wait_timeout(CONNECT)? else {
            end(Some(child))?;
            bail!("ntcp connect {} hangs: {}", self.uri, text(errors));
        };
        let (output, errors) = (text(output), text(errors));
        let report = serde_json::from_str(&output)
            .with_context(|| format!("no report but {output:?}, {errors}"))?;
        Ok(Outcome { status, report, errors })
    }

    /// The program and its flags, for those who need its streams.
    ///
    /// # Errors
    ///
    /// If the program is not there.
    pub fn command<'lab>(&self, lab: &'lab Lab) -> Result<Command<'lab>> {
        let program = Programs::beside_this_one()?.path("ntcp");
        let mut command = lab.command(&self.host, program).args(["connect", &self.uri]);
        for (name, value) in &self.environment {
            command = command.env(name, value);
        }
        Ok(command.args(&self.flags).user(self.user))
    }
}

/// `ntcp listen bob`, which sends back what it receives.
#[derive(Debug)]
pub struct Listener {
    child: Child,
}

impl Listener {
    /// Starts it in host `home` and waits until it can be called.
    ///
    /// # Errors
    ///
    /// If it did not start, with what it said.
    pub fn start(lab: &Lab, home: &str, user: User) -> Result<Self> {
        Self::start_with(lab, home, user, &server_flags(), &[])
    }

    /// The same with these flags, and with these variables in its environment.
    ///
    /// # Errors
    ///
    /// If it did not start, with what it said.
    pub fn start_with(
        lab: &Lab,
        home: &str,
        user: User,
        flags: &[String],
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let program = Programs::beside_this_one()?.path("ntcp");
        let mut listener = lab
            .command(home, program)
            .args(["listen", "bob", "--exec", "cat"])
            .args(flags)
            // So that it soon notices when the broker has forgotten it.
            .env("NTCP_NODE__KEEPALIVE", "1s")
            .user(user);
        for (name, value) in settings {
            listener = listener.env(name, value);
        }
        Ok(Self { child: ready(listener, "listening")? })
    }

    /// The program.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Ends it as Ctrl-C does, so that its name is free afterwards.
    ///
    /// # Errors
    ///
    /// If it does not end, or the lab is gone.
    pub fn end(mut self) -> Result<()> {
        self.child.signal(libc::SIGINT)?;
        let ended = self.child.wait_timeout(READY)?;
        ensure!(ended.is_some(), "a listener did not end within {READY:?}");
        Ok(())
    }
}

/// Servers and a listener, running.
#[derive(Debug)]
pub struct Stage<'lab> {
    lab: &'lab Lab,
    user: User,
    servers: Servers<'lab>,
    // Ended when dropped.
    _listener: Listener,
}

impl<'lab> Stage<'lab> {
    /// Starts everything; `bob` in host `home` listens, and sends back what it receives.
    ///
    /// # Errors
    ///
    /// What did not start, with what it said.
    pub fn set(lab: &'lab Lab, home: &str, user: User) -> Result<Self> {
        Self::set_with(lab, home, user, &[])
    }

    /// The same; the broker's environment has these variables.
    ///
    /// # Errors
    ///
    /// What did not start, with what it said.
    pub fn set_with(
        lab: &'lab Lab,
        home: &str,
        user: User,
        broker: &[(&str, &str)],
    ) -> Result<Self> {
        let servers = Servers::start_with(lab, broker)?;
        let listener = Listener::start(lab, home, user)?;
        Ok(Self { lab, user, servers, _listener: listener })
    }

    /// Connects from host `home`; the report, whatever came of it.
    ///
    /// # Errors
    ///
    /// If the program hangs, or leaves no report.
    pub fn connect(&self, home: &str, transport: &str) -> Result<Value> {
        let call = Call { user: self.user, ..Call::bob(home, transport) };
        Ok(call.run(self.lab)?.report)
    }

    /// From now on what the servers say arrives at `home` so much later, so that the peer there
    /// starts later than the one that calls. `access` is the line of that home as it was built; a line
    /// that was built plain cannot be changed.
    ///
    /// # Errors
    ///
    /// If the home has no line of its own, or a plain one.
    pub fn skew(&self, home: &str, access: Access, skew: Duration) -> Result<()> {
        if skew == access.lag {
            return Ok(());
        }
        Ok(self.lab.set_access(home, Access { lag: skew, ..access })?)
    }

    /// The servers, to be stopped and started.
    pub fn servers(&mut self) -> &mut Servers<'lab> {
        &mut self.servers
    }
}

/// Kills a program and waits until it is gone.
fn end(child: Option<Child>) -> Result<()> {
    if let Some(mut child) = child {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// Reads a stream to its end, beside everything else.
fn gather(stream: Option<PipeReader>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What was written before a failure is all there is to show.
            let _ = stream.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn text(gathered: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&gathered.join().unwrap_or_default()).into_owned()
}

/// Starts a program and waits for it to say `word` on its standard error; the rest is read away.
///
/// # Errors
///
/// What it said instead.
pub fn ready(command: Command<'_>, word: &str) -> Result<Child> {
    ready_overheard(command, word, |_| ())
}

/// The same; whatever it says, then and later, is given to `hear`, line by line.
///
/// # Errors
///
/// What it said instead.
pub fn ready_overheard(
    command: Command<'_>,
    word: &str,
    hear: impl Fn(&str) + Send + 'static,
) -> Result<Child> {
    let mut child = command.stderr(Stream::Piped).spawn()?;
    let Some(errors) = child.stderr.take() else { bail!("no standard error to read") };
    let (told, heard) = std::sync::mpsc::channel();
    let wanted = word.to_owned();
    std::thread::spawn(move || {
        let mut said = String::new();
        let mut announced = false;
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
            hear(&line);
            if line.contains(&wanted) && !announced {
                announced = true;
                // Nobody waits any more when the stage has been given up.
                let _ = told.send(Ok(()));
            } else if !announced {
                said.push_str(&line);
                said.push('\n');
            }
        }
        if !announced {
            let _ = told.send(Err(said));
        }
    });
    match heard.recv_timeout(READY) {
        Ok(Ok(())) => Ok(child),
        Ok(Err(said)) => bail!("a program ended at its start: {said}"),
        Err(_) => bail!("a program did not say `{word}` within {READY:?}"),
    }
}
