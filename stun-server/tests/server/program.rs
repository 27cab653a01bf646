//! The program as its users meet it: flags, files, exit status, signals, and what it says.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use crate::client::{Tcp, Udp, at, binding, serve};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The program, with no configuration from outside.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ntcp-stun-server"));
    for name in ["NTCP_CONFIG", "XDG_CONFIG_HOME", "HOME", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.current_dir(env!("CARGO_TARGET_TMPDIR"));
    command
}

fn run(flags: &str) -> Output {
    program().args(flags.split_whitespace()).output().expect("it starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The program, serving. Ended when dropped.
struct Serving {
    child: Child,
    log: BufReader<ChildStderr>,
    /// What it said when it was ready.
    ready: String,
}

impl Serving {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("its log"));
        let mut said = String::new();
        while !said.contains("listening on") {
            assert_ne!(log.read_line(&mut said).expect("text"), 0, "it ended: {said}");
        }
        let ready = said.lines().last().unwrap_or_default().to_owned();
        Self { child, log, ready }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let (_, rest) = self.ready.split_once("UDP and TCP ").expect(&self.ready);
        let (addresses, _) = rest.split_once(';').expect(rest);
        addresses.split(", ").map(at).collect()
    }

    /// Sends a signal, and returns exit status and the rest of the log.
    fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        let process = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        kill(process, signal).expect("signalled");
        let status = self.child.wait().expect("ended");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("text");
        (status.code(), rest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file for one test.
fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("written");
    path
}

#[test]
fn it_says_where_it_listens_serves_and_ends_well_on_either_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = program();
        // Of IPs that nobody else uses, a fixed port is as good as a free one.
        command.args(["--listen", "127.77.0.1:0", "--listen", "[::1]:0"]);
        let serving = Serving::start(command.args(["--alternate", "127.77.0.2:34790"]));
        assert!(serving.ready.contains("served over IPv4, refused over IPv6"), "{}", serving.ready);
        let addresses = serving.addresses();
        assert_eq!(addresses.len(), 5);
        for address in addresses {
            let any = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
            assert!(Udp::new(any).ask(&binding(1), address).0.is_success());
            assert!(Tcp::connect(address).ask(&binding(1)).is_success());
        }
        let (status, log) = serving.end(signal);
        assert_eq!(status, Some(0), "{log}");
        assert!(log.contains("stopped") && log.contains("udp: 5, tcp: 5"), "{log}");
    }
}

#[test]
fn peers_addresses_are_in_the_log_only_on_request() {
    for (flags, is_told) in [(&[][..], false), (&["-v"][..], true)] {
        let mut command = program();
        let serving = Serving::start(command.args(["--listen", "127.0.0.1:0"]).args(flags));
        let mut client = Tcp::connect(serving.addresses()[0]);
        assert!(client.ask(&binding(1)).is_success());
        let (_, log) = serving.end(Signal::SIGTERM);
        assert_eq!(log.contains(&client.address().to_string()), is_told, "{log}");
    }
}

#[test]
fn an_alternate_address_without_a_port_takes_the_one_after_the_primarys() {
    let output = run("--check --listen 192.0.2.10:3478 --alternate 192.0.2.11 --listen [::]:3478");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("alternate 192.0.2.11:3479"), "{text}");
    let output = run("--check --listen [2001:db8::1]:5000 --alternate [2001:db8::2]");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("alternate [2001:db8::2]:5001"), "{text}");
}

#[test]
fn flags_override_the_environment_and_that_the_file() {
    let path = file("layers.toml", "[stun]\nlisten = ['192.0.2.1:1']\nalternate = ['192.0.2.2:2']");
    let mut command = program();
    command.arg("--check").arg("--config").arg(path);
    let checked = |command: &mut Command| {
        String::from_utf8_lossy(&command.output().expect("it starts").stdout).into_owned()
    };
    assert!(checked(&mut command).contains("on 192.0.2.1:1, alternate 192.0.2.2:2"));
    command.env("NTCP_STUN__LISTEN", "192.0.2.3:3");
    assert!(checked(&mut command).contains("on 192.0.2.3:3, alternate 192.0.2.2:2"));
    command.args(["--listen", "192.0.2.4:4"]);
    assert!(checked(&mut command).contains("on 192.0.2.4:4, alternate 192.0.2.2:2"));
}

#[test]
fn a_check_opens_nothing() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = taken.local_addr().expect("an address");
    assert!(run(&format!("--check --listen {address}")).status.success());
}

#[test]
fn wrong_usage_and_configuration_end_with_status_2_and_say_where() {
    let unknown = file("unknown.toml", "[stun]\nlisen = ['0.0.0.0:1']");
    let figures = file("figures.toml", "[metrics]\nlisten = '127.0.0.1:9100'");
    for (flags, part) in [
        ("--listen nonsense".to_owned(), "--listen"),
        ("--nonsense".to_owned(), "--nonsense"),
        ("--alternate 127.0.0.2".to_owned(), "concrete"),
        ("--alternate one:two".to_owned(), "192.0.2.11:3479"),
        ("--listen 127.0.0.1:1 --alternate ::1".to_owned(), "::1"),
        ("--listen 127.0.0.1:1 --listen 127.0.0.2:1".to_owned(), "two addresses"),
        ("--listen 127.0.0.1:1 --alternate 127.0.0.1:2".to_owned(), "two different IP"),
        ("--config nowhere.toml".to_owned(), "nowhere.toml"),
        (format!("--config {}", unknown.display()), "did you mean listen"),
        (format!("--config {}", figures.display()), "figures"),
    ] {
        let output = run(&flags);
        assert_eq!(output.status.code(), Some(2), "{flags}: {}", said(&output));
        assert!(said(&output).contains(part), "{flags}: {}", said(&output));
    }
}

#[test]
fn what_cannot_be_bound_ends_with_status_1_and_says_what_to_do() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let taken = taken.local_addr().expect("an address");
    let server = serve(&taken.to_string().replace(&taken.port().to_string(), "0"));
    let address = server.local_addresses()[0];
    for (flags, part) in [
        (format!("--listen {address}"), format!("UDP {address} is in use by another program")),
        ("--listen 192.0.2.1:3478".to_owned(), "no such address".to_owned()),
    ] {
        let output = run(&flags);
        assert_eq!(output.status.code(), Some(1), "{flags}: {}", said(&output));
        assert!(said(&output).contains(&part), "{flags}: {}", said(&output));
    }
}
