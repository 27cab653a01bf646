//! A network namespace, and a thread that lives in it.
//!
//! A namespace of its own is a property of a thread. So everything that has to happen inside one,
//! opening a socket or starting a program, is handed to its thread as a closure; whatever the thread
//! starts inherits the namespace. It has no name outside the lab: within, it is bound to
//! `/run/netns/NAME` for the sake of `ip netns exec`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::thread::UnshareFlags;

use super::error::{Error, Result};
use super::sys;

type Job = Box<dyn FnOnce() + Send>;

/// A namespace. It lasts as long as this value or anything that was started in it.
#[derive(Debug, Clone)]
pub(super) struct Space {
    name: String,
    jobs: mpsc::Sender<Job>,
}

/// Where `ip` looks namespaces up by their names.
pub(super) const NAMES: &str = "/run/netns";

impl Space {
    /// Makes a namespace without any interface but `lo`.
    pub(super) fn create(name: &str) -> Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::channel();
        let path = Path::new(NAMES).join(name);
        let space = name.to_owned();
        thread::Builder::new()
            .name(format!("space {name}"))
            .spawn(move || {
                let outcome = enter_new(&path)
                    .map_err(|error| Error::system(format!("making namespace `{space}`"), error));
                let failed = outcome.is_err();
                if ready.send(outcome).is_err() || failed {
                    return;
                }
                for job in queue {
                    job();
                }
            })
            .map_err(|error| Error::system("starting a thread", error))?;
        let gone = |_| Error::Gone { detail: format!("namespace `{name}` was not made") };
        made.recv().map_err(gone)??;
        Ok(Self { name: name.to_owned(), jobs })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Does something inside, and waits for it.
    pub(super) fn enter<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = mpsc::channel();
        let job = Box::new(move || {
            // Nobody waits any more if the supervisor is on its way out.
            let _ = answer.send(job());
        });
        let gone = || Error::Gone { detail: format!("namespace `{}` has ended", self.name) };
        self.jobs.send(job).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }

    /// Runs a tool inside, with this on its standard input.
    pub(super) fn tool(&self, tool: Tool, arguments: &[&str], input: String) -> Result<()> {
        let space = self.name.clone();
        let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
        self.enter(move || tool.run(&space, &arguments, &input))
    }

    /// Writes kernel settings inside: files below `/proc/sys/net`.
    pub(super) fn set(&self, settings: Vec<(String, String)>) -> Result<()> {
        self.enter(move || {
            for (file, value) in settings {
                let path = Path::new("/proc/sys/net").join(&file);
                // A kernel without IPv6 has none of its settings and needs none.
                if file.starts_with("ipv6/") && !path.exists() {
                    continue;
                }
                fs::write(&path, value)
                    .map_err(|error| Error::system(format!("writing {}", path.display()), error))?;
            }
            Ok(())
        })
    }
}

fn enter_new(name: &Path) -> std::io::Result<()> {
    sys::leave(UnshareFlags::NEWNET)?;
    fs::write(name, "")?;
    rustix::mount::mount_bind("/proc/thread-self/ns/net", name)?;
    Ok(())
}

/// A program that sets up networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    /// Links, addresses, routes.
    Ip,
    /// Netfilter.
    Nft,
}

impl Tool {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::Ip, Self::Nft];

    fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Nft => "nft",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Ip => "iproute2",
            Self::Nft => "nftables",
        }
    }

    /// Where it is. An ordinary user's `PATH` often lacks the directories of system tools.
    pub(super) fn path(self) -> Result<PathBuf> {
        let searched = std::env::var_os("PATH").unwrap_or_default();
        let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
        std::env::split_paths(&searched)
            .chain(system)
            .map(|directory| directory.join(self.name()))
            .find(|path| path.is_file())
            .ok_or_else(|| Error::MissingTool {
                tool: self.name().into(),
                package: self.package().into(),
            })
    }

    fn run(self, space: &str, arguments: &[String], input: &str) -> Result<()> {
        let failed =
            |detail: String| Error::Tool { tool: self.name().into(), space: space.into(), detail };
        let mut child = Command::new(self.path()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A tool that stops reading has its reason, which it says on standard error.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
