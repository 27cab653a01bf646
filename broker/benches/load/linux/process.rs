//! The processes that are measured, and what the kernel says of them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::sockets::Over;
use anyhow::{Context as _, Result, ensure};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// How long a process may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much the measured processes and the generator are preferred to others, where that is permitted.
const PRECEDENCE: i32 = -19;

/// A process that ends with its owner.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Starts it on one processor.
    pub(crate) fn start(command: &mut Command, processor: usize) -> Result<Self> {
        let name = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let process = Self(child.with_context(|| format!("{} cannot be started", name.display()))?);
        prefer(Some(process.pid()?), processor)?;
        Ok(process)
    }

    fn pid(&self) -> Result<Pid> {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).context("a process has a number")
    }

    /// Ends it at once.
    fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        Ok(rustix::process::kill_process(self.pid()?, signal)?)
    }

    /// Processor time of all its threads so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanos +=
                text.split_whitespace().next().context("schedstat is empty")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Bytes of its memory that are in the machine's.
    pub(crate) fn resident(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|it| it.split_whitespace().next()).context("no VmRSS")?;
        Ok(kib.parse::<u64>()? * 1024)
    }
}

/// Pins a process, or this thread, to one processor.
pub(crate) fn prefer(pid: Option<Pid>, processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor % std::thread::available_parallelism()?.get().max(1));
    sched_setaffinity(pid, &set)?;
    // Only a privileged user may; the ratios hold without.
    let _ = rustix::process::setpriority_process(pid, PRECEDENCE);
    Ok(())
}

/// Has the kernel prefer this session's processes to those of others, where it weighs sessions (autogroup).
pub(crate) fn prefer_session() {
    // As above.
    let _ = fs::write("/proc/self/autogroup", PRECEDENCE.to_string());
}

/// A port of the loopback that nobody has.
pub(crate) fn free_udp() -> Result<SocketAddr> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Waits until somebody accepts connections there, which nothing else tells.
fn until_accepted(address: SocketAddr) -> Result<()> {
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        ensure!(began.elapsed() < PATIENCE, "nobody accepts at {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn free_tcp() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A database in memory, of whose keys nothing is stored.
pub(crate) struct Database {
    pub(crate) process: Process,
    address: SocketAddr,
    processor: usize,
}

impl Database {
    pub(crate) fn start(processor: usize) -> Result<Self> {
        let address = free_tcp()?;
        Ok(Self { process: Self::spawn(address, processor)?, address, processor })
    }

    fn spawn(address: SocketAddr, processor: usize) -> Result<Process> {
        let port = address.port().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
        let process = Process::start(&mut command, processor)?;
        until_accepted(address)?;
        Ok(process)
    }

    /// Ends it and starts an empty one in its place.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = Self::spawn(self.address, self.processor)?;
        Ok(())
    }

    /// Forgets everything.
    pub(crate) fn wipe(&self) -> Result<()> {
        let client = redis::Client::open(self.url())?;
        Ok(redis::cmd("FLUSHALL").query(&mut client.get_connection()?)?)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// A number of the database's INFO.
    pub(crate) fn number(&self, name: &str) -> Result<u64> {
        let client = redis::Client::open(self.url())?;
        let info: String =
            redis::cmd("INFO").arg("everything").query(&mut client.get_connection()?)?;
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.with_context(|| format!("INFO has no {name}"))?.trim().parse()?)
    }

    /// How many keys it has.
    pub(crate) fn keys(&self) -> Result<u64> {
        let client = redis::Client::open(self.url())?;
        Ok(redis::cmd("DBSIZE").query(&mut client.get_connection()?)?)
    }
}

/// A broker, the very program.
pub(crate) struct Broker {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Broker {
    /// One for this many peers; with the others of `database` if there is one.
    pub(crate) fn start(
        peers: usize,
        over: Over,
        database: Option<&Database>,
        processor: usize,
    ) -> Result<Self> {
        let (address, service) = match over {
            Over::Udp => (free_udp()?, ["udp", "--udp"]),
            Over::Tcp => (free_tcp()?, ["tcp", "--tcp"]),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_ntcp-broker"));
        command.args(service).arg(address.to_string()).env_clear();
        command.current_dir(env!("CARGO_TARGET_TMPDIR"));
        // All brokers of a cluster have one key.
        command.env("NTCP_SECURITY__KEY", format!("{}/load.key", env!("CARGO_TARGET_TMPDIR")));
        command.env("NTCP_SECURITY__PLAIN", "true");
        command.env("NTCP_REGISTRY__PEERS", peers.max(65_536).to_string());
        // What it writes for every peer is no part of what is measured.
        command.env("NTCP_LOG__LEVEL", "error");
        if let Some(database) = database {
            command.env("NTCP_REGISTRY__URL", database.url());
        }
        let process = Process::start(&mut command, processor)?;
        if over == Over::Tcp {
            until_accepted(address)?;
        }
        Ok(Self { process, address })
    }
}

/// The batched echo.
pub(crate) struct Echo {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Echo {
    pub(crate) fn start(processor: usize) -> Result<Self> {
        let address = free_udp()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--echo", &address.to_string()]);
        Ok(Self { process: Process::start(&mut command, processor)?, address })
    }
}
