//! The `ntcp` command as a person or a script uses it, on this host, with a broker of its own.

use ntcp_broker::{Broker, Options};
use ntcp_proto::rendezvous::Config;
use ntcp_proto::secrecy::SecretKey;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;

/// A broker that runs until the test has ended.
struct Introducer {
    udp: SocketAddr,
    tcp: SocketAddr,
    stop: Option<futures::channel::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Introducer {
    fn start() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::start_at((any, any), &SecretKey::from_bytes([1; 32]))
    }

    /// At these addresses, with this key.
    fn start_at((udp, tcp): (SocketAddr, SocketAddr), key: &SecretKey) -> Self {
        let limits = Config { keys: vec![key.clone()], ..Config::default() };
        let options = Options { udp: vec![udp], tcp: vec![tcp], limits, ..Options::default() };
        let broker = Broker::bind(&options).unwrap();
        let (udp, tcp) = (broker.udp_addresses()[0], broker.tcp_addresses()[0]);
        let (stop, stopped) = futures::channel::oneshot::channel::<()>();
        let run = move || {
            async_io::block_on(broker.run(async move {
                // Dropped or told, either way it is over.
                let _ = stopped.await;
            }));
        };
        Self { udp, tcp, stop: Some(stop), thread: Some(thread::spawn(run)) }
    }

    /// `ntcp` with this broker, and nothing from the user's own configuration.
    fn ntcp(&self, words: &[&str]) -> Command {
        let mut command = ntcp(words);
        command.env("NTCP_HOLE_PUNCH__BROKER", self.udp.to_string());
        command.env("NTCP_TCP__BROKER", self.tcp.to_string());
        command
    }

    /// A listener that is registered by now.
    fn listen(&self, words: &[&str]) -> Listener {
        let (listener, mut words) = self.listen_to(words);
        // Nobody reads the rest, but it must not fill the pipe.
        thread::spawn(move || std::io::copy(&mut words, &mut std::io::sink()));
        listener
    }

    /// The same, and what it goes on to say.
    fn listen_to(&self, words: &[&str]) -> (Listener, BufReader<ChildStderr>) {
        let mut child = self.ntcp(words).stderr(Stdio::piped()).spawn().unwrap();
        let mut words = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.lines().any(|line| line.starts_with("listening as ntcp://")) {
            assert_ne!(words.read_line(&mut said).unwrap(), 0, "it ended: {said}");
        }
        (Listener(child), words)
    }
}

impl Drop for Introducer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Ended with its test.
struct Listener(Child);

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ntcp(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ntcp"));
    command.args(words).current_dir(env!("CARGO_TARGET_TMPDIR"));
    for variable in ["NTCP_CONFIG", "XDG_CONFIG_HOME", "APPDATA", "HOME"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end, with this input.
fn talk(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A command that ends early need not have read everything.
    let _ = writer.join();
    output
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Bytes without a pattern that a lost or doubled chunk could hide in.
fn bytes(count: u32, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(count as usize).collect()
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}

/// Both ways over one transport; the report of the caller.
fn exchange(transport: &str) -> Value {
    let introducer = Introducer::start();
    let mut listener = introducer.listen(&["listen", "bob"]);
    let (question, answer) = (bytes(3_000_000, 1), bytes(2_000_000, 2));
    let mut stdin = listener.0.stdin.take().unwrap();
    let mut stdout = listener.0.stdout.take().unwrap();
    let sent = answer.clone();
    let writer = thread::spawn(move || stdin.write_all(&sent));
    let reader = thread::spawn(move || {
        let mut heard = Vec::new();
        stdout.read_to_end(&mut heard).map(|_| heard)
    });
    let path = file(&format!("{transport}.json"));
    let report = path.to_str().unwrap();
    let flags = ["connect", "ntcp://bob", "--transport", transport, "--report", report];
    let output = talk(introducer.ntcp(&flags), &question);
    assert!(output.status.success(), "{}", words(&output));
    writer.join().unwrap().unwrap();
    assert!(reader.join().unwrap().unwrap() == question, "what bob heard is not what was said");
    assert!(output.stdout == answer, "what was heard is not what bob said");
    assert!(listener.0.wait().unwrap().success());
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn both_directions_arrive_whole_over_tcp() {
    let report = exchange("tcp");
    assert_eq!(report["outcome"], "connected");
    assert_eq!(report["transport"], "tcp");
    assert_eq!(report["relayed"], false);
    assert!(report["elapsed_ms"].as_f64() <= report["secured_ms"].as_f64());
    let won = report["attempts"].as_array().unwrap().iter().filter(|it| it["result"] == "won");
    assert_eq!(won.count(), 1);
}

#[test]
fn both_directions_arrive_whole_over_udp() {
    let report = exchange("udp");
    assert_eq!(report["outcome"], "connected");
    assert_eq!(report["transport"], "udp");
}

#[test]
fn a_command_serves_every_peer_and_knows_its_name() {
    let introducer = Introducer::start();
    let _listener = introducer.listen(&["listen", "bob", "--exec", "echo $NTCP_PEER_NAME; cat"]);
    for name in ["alice", "carol"] {
        let flags = ["connect", "ntcp://bob", "--name", name];
        let output = talk(introducer.ntcp(&flags), b"hello");
        assert!(output.status.success(), "{}", words(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{name}\nhello"));
    }
}

#[test]
fn a_local_port_leads_to_the_peers_service() {
    let introducer = Introducer::start();
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = service.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in service.incoming() {
            let mut stream = stream.unwrap();
            let mut question = String::new();
            stream.read_to_string(&mut question).unwrap();
            write!(stream, "{question}?").unwrap();
        }
    });
    let _listener = introducer.listen(&["listen", "bob", "--forward", &address]);
    let flags = ["connect", "ntcp://bob", "--forward", "0"];
    let mut child = introducer.ntcp(&flags).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let forwarder = Listener(child);
    let line = lines.by_ref().lines().map(Result::unwrap).find(|it| it.starts_with("forwarding "));
    let port = line.as_deref().and_then(|line| line.split(' ').nth(1));
    let port: SocketAddr = port.unwrap().parse().unwrap();
    thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    for question in ["one", "two"] {
        let mut client = TcpStream::connect(port).unwrap();
        client.write_all(question.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("{question}?"));
    }
    drop(forwarder);
}

#[test]
fn a_peer_that_is_not_there_is_a_failure_with_a_report() {
    let introducer = Introducer::start();
    let path = file("nobody.json");
    let report = path.to_str().unwrap();
    let output = talk(introducer.ntcp(&["connect", "ntcp://nobody", "--report", report]), b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output).contains("no peer `nobody` is registered"), "{}", words(&output));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["outcome"], "failed");
    assert!(report["reason"].as_str().unwrap().contains("nobody"), "{report}");
}

#[test]
fn usage_and_configuration_end_with_status_2_and_the_fix() {
    let bad = file("bad.toml");
    std::fs::write(&bad, "[node]\nnmae = 'x'\n").unwrap();
    let bad_path = bad.to_str().unwrap();
    for (flags, expected) in [
        (vec!["connect", "http://bob"], "write ntcp://NAME"),
        (vec!["connect", "ntcp://bob"], "write --broker HOST[:PORT]"),
        (vec!["listen"], "write ntcp listen NAME"),
        (vec!["doctor"], "write --stun HOST[:PORT]"),
        (vec!["doctor", "--config", bad_path], "did you mean name?"),
        (vec!["doctor", "--config", "/nonexistent.toml"], "check the path"),
        (vec!["listen", "x", "--exec", "a", "--forward", "b:1"], "cannot be used with"),
    ] {
        let output = talk(ntcp(&flags), b"");
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {}", words(&output));
        assert!(words(&output).contains(expected), "{flags:?}: {}", words(&output));
    }
    std::fs::remove_file(&bad).unwrap();
}

#[test]
fn a_check_looks_and_does_nothing() {
    let output = talk(ntcp(&["listen", "bob", "--broker", "nowhere.invalid", "--check"]), b"");
    assert!(output.status.success(), "{}", words(&output));
    assert!(output.stderr.is_empty());
}

#[test]
fn a_doctor_without_servers_that_answer_says_so_in_json_and_fails() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = talk(ntcp(&["doctor", "--json", "--stun", &closed]), b"");
    assert_eq!(output.status.code(), Some(1));
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["nat"], Value::Null);
    assert_eq!(verdict["udp"]["reachable"], false);
    assert_eq!(verdict["tcp"]["mapping"], Value::Null);
    assert!(!verdict["advice"].as_array().unwrap().is_empty());
}

#[test]
fn a_listener_that_is_asked_to_end_gives_its_name_back() {
    let broker = Introducer::start();
    for _ in 0..2 {
        let mut listener = broker.listen(&["listen", "bob", "--exec", "cat"]);
        let id = listener.0.id().to_string();
        // The shell's own: a minimal system has no program of that name.
        let asked = Command::new("sh").args(["-c", "kill -TERM $0", &id]).status().unwrap();
        assert!(asked.success());
        assert!(listener.0.wait().unwrap().success(), "asked to end is no failure");
    }
}

#[test]
fn a_listener_that_nobody_can_reach_any_more_says_why_and_when_it_is_over() {
    let first = Introducer::start();
    let at = (first.udp, first.tcp);
    let (_listener, mut words) = first.listen_to(&["listen", "bob", "--exec", "cat"]);
    let mut until = |phrase: &str| {
        let mut said = String::new();
        while !said.contains(phrase) {
            assert_ne!(words.read_line(&mut said).unwrap(), 0, "it ended: {said}");
        }
        said
    };
    drop(first);
    let said = until("not registered any more");
    assert!(said.contains("no broker reached") && said.contains("goes on trying"), "{said}");
    let impostor = Introducer::start_at(at, &SecretKey::from_bytes([2; 32]));
    until("is not the one that was pinned");
    drop(impostor);
    let again = Introducer::start_at(at, &SecretKey::from_bytes([1; 32]));
    until("registered again");
    let call = again.ntcp(&["connect", &format!("ntcp://bob@{}", again.udp)]);
    assert_eq!(talk(call, b"hello").stdout, b"hello");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_without_room_for_messages_stops_nobody() {
    let broker = Introducer::start();
    let _listener = broker.listen(&["listen", "bob", "--exec", "cat"]);
    let mut call = broker.ntcp(&["connect", "-vv", &format!("ntcp://bob@{}", broker.udp)]);
    call.stderr(std::fs::File::create("/dev/full").unwrap());
    let output = talk(call, b"hello");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"hello");
}
