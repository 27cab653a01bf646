//! The real programs in a laboratory: a server, a peer that listens and a peer that connects.
//!
//! A [`Stage`] starts the STUN server and the broker in the lab's server host and a listener in one
//! home; [`Stage::connect`] then runs `ntcp connect` in another home as often as wanted and hands out
//! its report. Everything ends with the stage.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::kernel::{Child, Lab, SERVER_ADDRESSES, Stream, User};

/// How long a program may take to say that it is ready.
const READY: Duration = Duration::from_secs(10);
/// How long `ntcp connect` may take in all: its own deadline, the start of its node, and a margin.
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

/// What the listener does with each peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Sends back what it receives.
    Echo,
    /// Ends after the first, which gets what is on its input.
    Once,
}

/// Server, broker and listener, running.
#[derive(Debug)]
pub struct Stage<'lab> {
    lab: &'lab Lab,
    programs: Programs,
    user: User,
    // Ended when dropped.
    _servers: Vec<Child>,
    listener: Child,
}

impl<'lab> Stage<'lab> {
    /// Starts everything; `bob` in host `home` listens.
    ///
    /// # Errors
    ///
    /// What did not start, with what it said.
    pub fn set(lab: &'lab Lab, home: &str, user: User) -> Result<Self> {
        let programs = Programs::beside_this_one()?;
        let [primary, alternate, ..] = SERVER_ADDRESSES;
        let stun = lab
            .command("server", programs.path("ntcp-stun-server"))
            .args(["--listen", &format!("{primary}:3478")])
            .args(["--alternate", &format!("{alternate}:3479")])
            .stderr(Stream::Piped)
            .spawn()?;
        let broker = lab
            .command("server", programs.path("ntcp-broker"))
            .arg("all")
            .stderr(Stream::Piped)
            .spawn()?;
        let servers = vec![ready(stun, "listening")?, ready(broker, "listening")?];
        let listener = lab
            .command(home, programs.path("ntcp"))
            .args(["listen", "bob", "--exec", "cat"])
            .args(Self::server_flags())
            .user(user)
            .stderr(Stream::Piped)
            .spawn()?;
        let listener = ready(listener, "listening")?;
        Ok(Self { lab, programs, user, _servers: servers, listener })
    }

    /// The flags that lead a peer to the stage's servers.
    pub fn server_flags() -> [String; 4] {
        let [server, ..] = SERVER_ADDRESSES;
        ["--broker".into(), server.to_string(), "--stun".into(), format!("{server}:3478")]
    }

    /// Connects from host `home`; the report, whatever came of it.
    ///
    /// # Errors
    ///
    /// If the program hangs, or leaves no report.
    pub fn connect(&self, home: &str, transport: &str) -> Result<Value> {
        let uri = format!("ntcp://bob?transport={transport}");
        let mut child = self
            .lab
            .command(home, self.programs.path("ntcp"))
            .args(["connect", &uri, "--report", "/dev/stdout"])
            .args(Self::server_flags())
            .user(self.user)
            .stdout(Stream::Piped)
            .stderr(Stream::Null)
            .spawn()?;
        let output = child.stdout.take();
        if child.wait_timeout(CONNECT)?.is_none() {
            child.kill()?;
            bail!("ntcp connect {uri} hangs");
        }
        let mut text = String::new();
        if let Some(mut output) = output {
            output.read_to_string(&mut text).context("reading the report")?;
        }
        serde_json::from_str(&text).with_context(|| format!("no report but {text:?}"))
    }

    /// The listener.
    pub fn listener(&mut self) -> &mut Child {
        &mut self.listener
    }
}

/// Waits for a program to say `word` on its standard error, and reads the rest away.
fn ready(mut child: Child, word: &str) -> Result<Child> {
    let Some(errors) = child.stderr.take() else { bail!("no standard error to read") };
    let (told, heard) = std::sync::mpsc::channel();
    let wanted = word.to_owned();
    std::thread::spawn(move || {
        let mut said = String::new();
        let mut announced = false;
        for line in BufReader::new(errors).lines().map_while(Result::ok) {
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
