//! What a reader of every wire learns of a session between the real programs: no name, no key of a peer, no address behind a NAT
//! and nothing of what the two say. And what a reader inside the operator's own network sees between broker and database.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ntcp_lab::kernel::{Capture, Child, Frame, Lab, SERVER_ADDRESSES, Stream, Tap};
use ntcp_lab::scratch::Scratch;
use ntcp_lab::trial::{Call, Programs, ready};

use super::{PATIENCE, homes};

/// Long enough that no chance brings it about.
const CALLEE: &str = "bob-the-builder-of-bridges";
const CALLER: &str = "alice-in-wonderland-again";
const SAID: &str = "what-the-two-say-is-for-nobody-else";
/// A capture is at its end after so much silence.
const QUIET: Duration = Duration::from_millis(500);
const ENOUGH: usize = 20_000;
/// The magic cookie of STUN, by which addresses are obscured (RFC 8489 section 14.2).
const COOKIE: u32 = 0x2112_A442;
const DATABASE: &str = "6379";

/// Servers, a listening bob, and a call of alice's over one transport; the report.
struct Session<'lab> {
    lab: &'lab Lab,
    _servers: Vec<Child>,
    keys: [Scratch; 2],
}

impl<'lab> Session<'lab> {
    /// A STUN server, and a broker with this environment.
    fn set(lab: &'lab Lab, environment: &[(&str, &str)]) -> Self {
        let programs = Programs::beside_this_one().unwrap();
        let stun = lab
            .command("server", programs.path("ntcp-stun-server"))
            .args(["--listen", &format!("{}:3478", SERVER_ADDRESSES[0])]);
        let broker = lab.command("server", programs.path("ntcp-broker")).args(["all"]);
        let broker = environment.iter().fold(broker, |it, (key, value)| it.env(key, value));
        let servers = vec![
            ready(stun, "listening").unwrap(),
            ready(broker, "the key of this broker").unwrap(),
        ];
        Self { lab, _servers: servers, keys: ["callee-key", "caller-key"].map(Scratch::new) }
    }

    fn flags(&self) -> Vec<String> {
        let server = SERVER_ADDRESSES[0];
        ["--broker", &server.to_string(), "--stun", &format!("{server}:3478")]
            .map(String::from)
            .to_vec()
    }

    /// Bob says back what alice says.
    fn listen(&self) -> Child {
        let program = Programs::beside_this_one().unwrap().path("ntcp");
        let listener = self
            .lab
            .command("b", program)
            .args(["listen", CALLEE, "--exec", "cat"])
            .args(self.flags())
            .env("NTCP_SECURITY__KEY", self.keys[0].path());
        ready(listener, "listening").unwrap()
    }

    /// Alice calls, says something and hears it back; the report.
    fn call(&self, transport: &str) -> serde_json::Value {
        let mut flags = self.flags();
        flags.extend(["--name", CALLER].map(String::from));
        flags.extend(["--key".into(), self.keys[1].path().to_owned()]);
        let report = Scratch::new("secrecy-report");
        flags.extend(["--report".into(), report.path().to_owned()]);
        let uri = format!("ntcp://{CALLEE}?transport={transport}");
        let call = Call { uri, flags, ..Call::bob("a", transport) };
        let command = call.command(self.lab).unwrap().stdin(Stream::Piped).stdout(Stream::Piped);
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{SAID}").unwrap();
        let mut back = String::new();
        output.read_line(&mut back).unwrap();
        drop(input);
        assert_eq!(back.trim_end(), SAID);
        assert!(child.wait_timeout(PATIENCE).unwrap().is_some_and(|it| it.success()));
        report.json().unwrap()
    }
}

/// What nobody on a wire shall read: it, and what to call it.
fn secrets(lab: &Lab, report: &serde_json::Value) -> Vec<(&'static str, Vec<u8>)> {
    let key = report["secrecy"]["peer_key"].as_str().unwrap();
    let digits = |at: usize| u8::from_str_radix(&key[at..at + 2], 16).unwrap();
    let key: Vec<u8> = (0..key.len()).step_by(2).map(digits).collect();
    let mut secrets = vec![
        ("the callee's name", CALLEE.into()),
        ("the caller's name", CALLER.into()),
        ("what is said", SAID.into()),
        ("the callee's key", key),
    ];
    for host in ["a", "b"] {
        let IpAddr::V4(own) = IpAddr::from(lab.host(host).unwrap().address) else { continue };
        secrets.push(("an address behind a NAT", own.octets().to_vec()));
        let obscured = Ipv4Addr::from(u32::from(own) ^ COOKIE);
        secrets.push(("an address behind a NAT, obscured", obscured.octets().to_vec()));
    }
    secrets
}

/// What an IP packet carries behind its own header, whose addresses routing needs. An ICMP error carries
/// the header of the packet that it is about, and nothing of ours.
fn payload(frame: &Frame) -> &[u8] {
    const ICMP: u8 = 1;
    let header = match frame.packet.first().map(|it| it >> 4) {
        Some(4) if frame.packet.get(9) == Some(&ICMP) => return &[],
        Some(4) => usize::from(frame.packet[0] & 0x0F) * 4,
        _ => 40,
    };
    frame.packet.get(header..).unwrap_or_default()
}

fn shows(frame: &Frame, secret: &[u8]) -> bool {
    payload(frame).windows(secret.len()).any(|it| it == secret)
}

fn tap(space: &str, interface: &str) -> Tap {
    Tap { space: space.into(), interface: interface.into() }
}

fn captured(capture: &Capture) -> Vec<Frame> {
    std::iter::from_fn(|| capture.next(QUIET)).take(ENOUGH).collect()
}

#[test]
fn a_reader_of_every_wire_learns_no_name_no_key_no_address_and_nothing_that_is_said() {
    let lab = homes("port-restricted", "linux-masq").start().unwrap();
    let session = Session::set(&lab, &[]);
    let capture = lab.capture(&["server", "a", "b"].map(|host| tap(host, "eth0"))).unwrap();
    let _bob = session.listen();
    for transport in ["udp", "tcp"] {
        let report = session.call(transport);
        let frames = captured(&capture);
        assert!(frames.len() > 20, "the capture sees the session: {} packets", frames.len());
        for (what, secret) in secrets(&lab, &report) {
            let seen: Vec<_> = frames.iter().filter(|it| shows(it, &secret)).collect();
            // An address is four bytes, which also come about by chance; it would be told often.
            let by_chance = if secret.len() == 4 { 1 } else { 0 };
            assert!(seen.len() <= by_chance, "{what} is to be seen over {transport}: {seen:?}");
        }
    }
}

#[test]
fn a_peer_that_speaks_in_the_clear_shows_what_a_sealed_one_hides() {
    let lab = homes("port-restricted", "linux-masq").start().unwrap();
    let session = Session::set(&lab, &[("NTCP_SECURITY__PLAIN", "true")]);
    let capture = lab.capture(&[tap("server", "eth0")]).unwrap();
    let program = Programs::beside_this_one().unwrap().path("ntcp");
    let listener = lab.command("b", program).args(["listen", CALLEE]).args(session.flags());
    let _bob = ready(listener.env("NTCP_SECURITY__PLAIN", "true"), "listening").unwrap();
    let frames = captured(&capture);
    assert!(frames.iter().any(|it| shows(it, CALLEE.as_bytes())), "the test sees what there is");
}

#[test]
fn between_broker_and_database_names_are_in_the_clear_and_what_is_said_is_not() {
    let lab = homes("port-restricted", "linux-masq").start().unwrap();
    let database = SERVER_ADDRESSES[0].to_string();
    let redis = lab
        .command("server", "redis-server")
        .args(["--bind", &database, "--port", DATABASE, "--protected-mode", "no"])
        .args(["--save", "", "--appendonly", "no"])
        .stdout(Stream::Null);
    let _redis = redis.spawn().unwrap();
    let url = format!("redis://{database}:{DATABASE}/");
    let session = Session::set(&lab, &[("NTCP_REGISTRY__URL", &url)]);
    let capture = lab.capture(&[tap("server", "lo")]).unwrap();
    let _bob = session.listen();
    let report = session.call("tcp");
    let frames = captured(&capture);
    for (what, secret) in secrets(&lab, &report) {
        let seen = frames.iter().any(|it| shows(it, &secret));
        match what {
            "the callee's name" | "the callee's key" => {
                assert!(seen, "{what} stands in the directory");
            }
            "what is said" => assert!(!seen, "{what}"),
            _ => {}
        }
    }
}
