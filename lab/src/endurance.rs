//! One node that connects again and again, and what the machines hold meanwhile.
//!
//! `ntcp connect --forward` is a node that makes a connection of its own for each local client. An
//! [`Endurance`] is such a node in one home, `bob` in the other, and as many clients as wanted; each says a
//! word and hears it come back. [`Holdings`] are counted before and after: what is more afterwards is a
//! leak.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::kernel::{Child, Lab, SocketKind, Stream, User};
use crate::trial::{Call, Listener, Servers, UNMETERED, ready, server_flags};

/// Where clients are accepted.
const CLIENTS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8022);
/// One for each family.
const RAW_SOCKETS: u64 = 2;
/// Clients at a time: enough for connections to overlap, few enough for one core a side.
const AT_ONCE: usize = 2;
/// How long a client waits for its word.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long what ends late may take: a session lingers for a second, and a kernel's ends in closing
/// for a minute where the last segment was lost.
const SETTLING: Duration = Duration::from_secs(90);
/// Time between two counts.
const BETWEEN: Duration = Duration::from_millis(200);

/// What a program and its host hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holdings {
    /// Each sort of thing, and how many there are of it.
    pub counts: BTreeMap<&'static str, u64>,
    /// Resident memory in KiB.
    pub resident_kib: u64,
}

/// What is counted for process `$1`. TCP sockets that no process holds any more (inode 0) say farewell and end by
/// themselves: the kernel's own affair.
const COUNT: &str = r#"
p=/proc/$1
echo descriptors $(ls $p/fd | wc -l)
echo threads $(ls $p/task | wc -l)
echo children $(cat $p/task/*/children | wc -w)
echo resident $(awk '/^VmRSS/ {print $2}' $p/status)
echo tcp $(cat $p/net/tcp $p/net/tcp6 | awk '$10 != 0 && $1 != "sl"' | wc -l)
echo udp $(cat $p/net/udp $p/net/udp6 | awk '$1 != "sl"' | wc -l)
echo packet $(tail -n +2 $p/net/packet | wc -l)
echo raw $(cat $p/net/raw $p/net/raw6 | awk '$1 != "sl"' | wc -l)
echo rules $(nft list ruleset | wc -l)
echo routes $(ip route show table all | wc -l)
echo namespaces $(ls /run/netns | wc -l)
"#;

impl Holdings {
    /// Of this program in this host, now.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn of(lab: &Lab, host: &str, child: &Child) -> Result<Self> {
        let pid = child.id().to_string();
        let counting = lab.command(host, "sh").args(["-c", COUNT, "sh", &pid]).output()?;
        let text = String::from_utf8_lossy(&counting.stdout);
        let mut counts = BTreeMap::new();
        for name in [
            "descriptors",
            "threads",
            "children",
            "tcp",
            "udp",
            "packet",
            "raw",
            "rules",
            "routes",
            "namespaces",
            "resident",
        ] {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            let said = String::from_utf8_lossy(&counting.stderr).into_owned();
            counts.insert(name, value.with_context(|| format!("no {name} in {text}: {said}"))?);
        }
        let resident_kib = counts.remove("resident").unwrap_or_default();
        Ok(Self { counts, resident_kib })
    }

    /// What there is more of than before, by how much. A pool of threads may have grown by as many as
    /// had something to do at once, and who has sent a raw segment keeps the sockets for it.
    pub fn beyond(&self, before: &Self) -> BTreeMap<&'static str, u64> {
        let more = |(name, count): (&&'static str, &u64)| {
            let earlier = before.counts.get(name).copied().unwrap_or_default();
            let kept = match *name {
                "threads" => AT_ONCE as u64,
                "raw" if earlier == 0 => RAW_SOCKETS,
                _ => 0,
            };
            (*count > earlier + kept).then(|| (*name, count - earlier))
        };
        self.counts.iter().filter_map(more).collect()
    }
}

/// A node that connects whenever it is told to.
#[derive(Debug)]
pub struct Endurance<'lab> {
    lab: &'lab Lab,
    caller: Child,
    callee: Listener,
    _servers: Servers<'lab>,
}

impl<'lab> Endurance<'lab> {
    /// Starts the servers, `bob` in host `b`, and a node in host `a`.
    ///
    /// # Errors
    ///
    /// What did not start, with what it said.
    pub fn start(lab: &'lab Lab, transport: &str, user: User) -> Result<Self> {
        let servers = Servers::start(lab)?;
        let callee = Listener::start_with(lab, "b", user, &server_flags(), &[UNMETERED])?;
        let call = Call { user, ..Call::bob("a", transport) };
        // What it says about each connection is read away.
        let caller = call
            .command(lab)?
            .args(["--forward", &CLIENTS.to_string()])
            .env(UNMETERED.0, UNMETERED.1)
            .stdout(Stream::Null);
        Ok(Self { lab, caller: ready(caller, "forwarding")?, callee, _servers: servers })
    }

    /// Connects so many times; how long each took until its word was back.
    ///
    /// # Errors
    ///
    /// If a word does not come back.
    pub fn connect(&self, times: usize) -> Result<Vec<Duration>> {
        let left = AtomicUsize::new(times);
        let take = || {
            let next = |left: usize| left.checked_sub(1);
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
        };
        let client = || -> Result<Vec<Duration>> {
            let mut taken = Vec::new();
            while take() {
                let began = Instant::now();
                self.converse().with_context(|| format!("after {} of {times}", taken.len()))?;
                taken.push(began.elapsed());
            }
            Ok(taken)
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(client)).collect();
            let mut all = Vec::new();
            for client in clients {
                let Ok(taken) = client.join() else { bail!("a client panicked") };
                all.extend(taken?);
            }
            Ok(all)
        })
    }

    fn converse(&self) -> Result<()> {
        const WORD: &[u8] = b"there and back";
        let socket = self.lab.socket("a", SocketKind::Tcp)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(&CLIENTS.into())?;
        let mut stream = TcpStream::from(socket);
        stream.write_all(WORD)?;
        stream.shutdown(Shutdown::Write)?;
        let mut back = Vec::new();
        stream.read_to_end(&mut back)?;
        ensure!(back == WORD, "{} bytes came back", back.len());
        Ok(())
    }

    /// What both programs and their hosts hold now: the caller's, and the callee's.
    ///
    /// # Errors
    ///
    /// If one of them has ended.
    pub fn holdings(&self) -> Result<[Holdings; 2]> {
        Ok([
            Holdings::of(self.lab, "a", &self.caller)?,
            Holdings::of(self.lab, "b", self.callee.child())?,
        ])
    }

    /// Waits until nothing is held beyond `before`, but for as long as the latest ends may take and no
    /// longer; what is held then.
    ///
    /// # Errors
    ///
    /// If one of the programs has ended.
    pub fn settle(&self, before: &[Holdings; 2]) -> Result<[Holdings; 2]> {
        let began = Instant::now();
        loop {
            let now = self.holdings()?;
            let settled = now.iter().zip(before).all(|(now, before)| now.beyond(before).is_empty());
            if settled || began.elapsed() > SETTLING {
                return Ok(now);
            }
            std::thread::sleep(BETWEEN);
        }
    }
}
