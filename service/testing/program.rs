//! A server program that runs for a test: started, listened to, signalled, ended. Test code of both servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Nothing on loopback takes this long; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running program; dropping it ends it.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Program {
    /// Neither a file nor a variable of whoever runs the tests.
    pub(crate) fn start(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn(command, environment)
    }

    /// With sockets that its service manager opened.
    pub(crate) fn start_with_sockets(
        program: &str,
        arguments: &[&str],
        sockets: &[OwnedFd],
    ) -> Self {
        let mut script = "LISTEN_PID=$$ exec \"$0\" \"$@\"".to_owned();
        for (index, socket) in sockets.iter().enumerate() {
            fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            script.push_str(&format!(" {}<&{}", index + 3, socket.as_raw_fd()));
        }
        let mut command = Command::new("bash");
        command.args(["-c", &script, program]).args(arguments);
        Self::spawn(command, &[("LISTEN_FDS", &sockets.len().to_string())])
    }

    fn spawn(mut command: Command, environment: &[(&str, &str)]) -> Self {
        command.env_clear().current_dir("/").stderr(Stdio::piped());
        let mut child = command.envs(environment.iter().copied()).spawn().expect("it starts");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, said: Vec::new() }
    }

    /// The next line that contains `words`.
    pub(crate) fn wait_for(&mut self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("never said {words:?}, but: {:#?}", self.said)
            };
            self.said.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The address that stands after `words` in the next line that contains them.
    pub(crate) fn address_after(&mut self, words: &str) -> SocketAddr {
        let line = self.wait_for(words);
        let rest = line.split(words).nth(1).unwrap().trim_start();
        let end = rest.find(|c: char| !c.is_ascii_hexdigit() && !"[]:.".contains(c));
        rest[..end.unwrap_or(rest.len())].parse().unwrap_or_else(|_| panic!("{line}"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// The status with which it ends by itself, and everything it said.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) =
            self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.said.push(line);
        }
        assert!(Instant::now() < deadline, "it does not end: {:#?}", self.said);
        let status = self.child.wait().unwrap();
        (status.code(), std::mem::take(&mut self.said))
    }

    /// What `/proc` says of each of its threads under `key`.
    pub(crate) fn of_all_threads(&self, key: &str) -> Vec<String> {
        let tasks = format!("/proc/{}/task", self.pid());
        let status = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("status")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("{key} in {text}")).trim().replace('\t', " ")
        };
        std::fs::read_dir(tasks).unwrap().map(|task| status(task.unwrap())).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks over HTTP; the status line's number, the head and the body.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String, String) {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
}

/// Sends a request as it is.
pub(crate) fn request(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).expect("metrics are served");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    (status.unwrap_or_else(|| panic!("{head}")), head.to_owned(), body.to_owned())
}

/// The value of a sample in the text that Prometheus reads.
pub(crate) fn sample(metrics: &str, name: &str) -> u64 {
    let of = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(of).unwrap_or_else(|| panic!("{name} in {metrics}"))
}

/// A folder of its own for each test, which everybody can read, removed at its end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("ntcp-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    /// Writes the configuration as editors do: a new file takes the old one's place.
    pub(crate) fn configure(&self, toml: &str) -> PathBuf {
        let (new, path) = (self.0.join("new"), self.0.join("p2pNetwork.toml"));
        std::fs::write(&new, toml).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path
    }

    /// Puts a link to `target` in the configuration's place.
    pub(crate) fn link_configuration_to(&self, target: impl AsRef<Path>) {
        let (new, path) = (self.0.join("new"), self.0.join("p2pNetwork.toml"));
        std::os::unix::fs::symlink(target, &new).unwrap();
        std::fs::rename(&new, &path).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
