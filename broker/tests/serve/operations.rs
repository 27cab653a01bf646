//! The program as its operator meets it: signals, systemd, metrics, logs, privileges.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use ntcp_proto::signal::ErrorCode;
use ntcp_proto::signal::message::{Body, Message};

use crate::PATIENCE;
use crate::peer::{Peer, Socket, connect, register};
use crate::program::{Folder, Program, get, request, sample};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ntcp-broker");
const ANYWHERE: [&str; 6] =
    ["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];

/// A running broker and where it listens.
struct Running {
    program: Program,
    metrics: SocketAddr,
    udp: SocketAddr,
    tcp: SocketAddr,
}

fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Running {
    let arguments = [&ANYWHERE[..], arguments].concat();
    // The peers of these tests are made by hand, and speak in the clear.
    let environment = [&[("NTCP_SECURITY__PLAIN", "true")], environment].concat();
    let mut program = Program::start(PROGRAM, &arguments, &environment);
    let metrics = program.address_after("status on http://");
    let udp = program.address_after("listening on UDP address=");
    let tcp = program.address_after("listening on TCP address=");
    Running { program, metrics, udp, tcp }
}

#[test]
fn metrics_health_and_page_tell_what_happened() {
    let broker = start(&[], &[]);
    let mut alice = Peer::register(Socket::udp(broker.udp), "alice");
    let mut bob = Peer::register(Socket::tcp(broker.tcp), "bob");
    assert!(matches!(alice.ask(connect("bob")), Body::Connected(_)));
    let invite = bob.receive();
    let Body::Invite(punch) = &invite.body else { panic!("{invite:?}") };
    let answer =
        ntcp_proto::signal::message::Answer { session: punch.session, candidates: Vec::new() };
    bob.socket.send(&invite.answer(Body::Answer(answer)).emit(Some(&bob.key)));
    while !matches!(alice.receive().body, Body::CalleeAnswer(_)) {}

    let (status, head, metrics) = get(broker.metrics, "/metrics");
    assert_eq!(status, 200);
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    for (name, value) in [
        ("ntcp_broker_peers", 2),
        ("ntcp_broker_streams", 1),
        ("ntcp_broker_sessions", 1),
        ("ntcp_broker_registrations_total", 2),
        ("ntcp_broker_calls_total", 1),
        ("ntcp_broker_invitations_total{result=\"accepted\"}", 1),
        ("ntcp_broker_invitation_duration_seconds_count", 1),
    ] {
        assert_eq!(sample(&metrics, name), value, "{name}");
    }
    let families = metrics.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(metrics.lines().filter(|line| line.starts_with("# HELP ")).count(), families);
    let (status, head, page) = get(broker.metrics, "/");
    assert_eq!(status, 200);
    assert!(head.contains("default-src 'none'"), "{head}");
    assert!(page.contains("<b>2</b><span class=\"soft\">peers registered</span>"), "{page}");
    for private in ["alice", "bob", "127.0.0.1"] {
        assert!(!page.contains(private) && !metrics.contains(private), "{private}");
    }
    assert_eq!(get(broker.metrics, "/healthz").0, 200);
    assert_eq!(get(broker.metrics, "/readyz").0, 200);
}

#[test]
fn bad_requests_for_metrics_are_refused_and_silent_ones_hold_up_nobody() {
    let broker = start(&[], &[]);
    let silent: Vec<_> =
        (0..8).map(|_| TcpStream::connect(broker.metrics).expect("accepted")).collect();
    assert_eq!(get(broker.metrics, "/nowhere").0, 404);
    assert_eq!(request(broker.metrics, "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n").0, 405);
    assert_eq!(request(broker.metrics, "nonsense\r\n\r\n").0, 400);
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(5000));
    assert_eq!(request(broker.metrics, &long).0, 431);
    let (status, _, body) = request(broker.metrics, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert_eq!((status, body.as_str()), (200, ""));
    drop(silent);
}

#[test]
fn a_reload_takes_over_what_it_can_and_names_the_rest() {
    let folder = Folder::new("broker-reload");
    let path = folder.configure("[log]\nlevel = 'info'\n");
    let mut broker = start(&["--config", path.to_str().unwrap()], &[]);
    folder.configure("[log]\nlevel = 'debug'\nformat = 'json'\n[service]\ndrain = '1 s'\n");
    broker.program.signal(Signal::SIGHUP);
    assert!(broker.program.wait_for("but not while the server runs").contains("[log] format"));
    let taken_over = broker.program.wait_for("configuration read again");
    assert!(taken_over.contains("[log] level, [service] drain"), "{taken_over}");
    let _alice = Peer::register(Socket::udp(broker.udp), "alice");
    broker.program.wait_for("registered from");
}

#[test]
fn what_cannot_be_read_any_more_stays_and_the_log_says_so_once_with_the_way_out() {
    let folder = Folder::new("broker-unreadable-key");
    let key = folder.0.join("broker.key");
    let mut broker = start(&[], &[("NTCP_SECURITY__KEY", key.to_str().unwrap())]);
    let nobody = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    std::fs::set_permissions(&key, nobody).unwrap();
    broker.program.signal(Signal::SIGHUP);
    let refused = broker.program.wait_for("the broker's keys stay as they are");
    assert_eq!(refused.matches("ermission denied").count(), 1, "{refused}");
    assert!(refused.contains("[service] user") && refused.contains("restart"), "{refused}");
    broker.program.wait_for("taken over: names, access; as before: keys");
}

#[test]
fn a_broker_that_cannot_keep_its_key_warns_and_another_one_does_not() {
    let mut broker = start(&[], &[]);
    let warned = broker.program.wait_for("no place to keep this key in");
    assert!(warned.contains("WARN") && warned.contains("[security] key"), "{warned}");
    let folder = Folder::new("broker-kept-key");
    let key = folder.0.join("broker.key");
    let broker = start(&[], &[("NTCP_SECURITY__KEY", key.to_str().unwrap())]);
    broker.program.signal(Signal::SIGTERM);
    let (_, said) = broker.program.end();
    assert!(said.iter().any(|it| it.contains("lasting=true")), "{said:#?}");
    assert!(!said.iter().any(|it| it.contains("no place to keep")), "{said:#?}");
}

#[test]
fn a_bad_configuration_is_refused_with_the_reason_and_changes_nothing() {
    let folder = Folder::new("broker-bad-reload");
    let path = folder.configure("[log]\nlevel = 'info'\n");
    let mut broker = start(&["--config", path.to_str().unwrap()], &[]);
    folder.configure("[log]\nlevel = 'debug'\n[tcp]\nlisten = ['nowhere']\n");
    broker.program.signal(Signal::SIGHUP);
    let refused = broker.program.wait_for("the configuration stays as it was");
    for part in ["p2pNetwork.toml", "[tcp] listen", "\"nowhere\"", "write an IP address"] {
        assert!(refused.contains(part), "{part} is missing in {refused}");
    }
    let _alice = Peer::register(Socket::udp(broker.udp), "alice");
    broker.program.signal(Signal::SIGTERM);
    let (status, said) = broker.program.end();
    assert_eq!(status, Some(0));
    assert!(!said.iter().any(|line| line.contains("registered from")), "{said:#?}");
}

#[test]
fn nothing_but_the_configuration_can_be_read_and_no_privilege_is_left() {
    let folder = Folder::new("broker-confined");
    let path = folder.configure("");
    let mut broker = start(&["--config", path.to_str().unwrap()], &[]);
    let confined = broker.program.wait_for("capabilities=none");
    for key in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        for set in broker.program.of_all_threads(key) {
            assert_eq!(u64::from_str_radix(&set, 16), Ok(0), "{key} {set}");
        }
    }
    assert!(broker.program.of_all_threads("NoNewPrivs:").iter().all(|it| it == "1"));
    if geteuid().is_root() {
        assert!(
            broker
                .program
                .of_all_threads("CapBnd:")
                .iter()
                .all(|it| it.trim_matches('0').is_empty())
        );
        let users = broker.program.of_all_threads("Uid:");
        assert!(users.iter().all(|it| !it.split(' ').any(|user| user == "0")), "{users:?}");
        assert!(broker.program.of_all_threads("Groups:").iter().all(String::is_empty));
    }
    if confined.contains("no landlock") {
        return;
    }
    // Everybody may read this file; a process without landlock would complain about its contents.
    folder.link_configuration_to("/etc/passwd");
    broker.program.signal(Signal::SIGHUP);
    let refused = broker.program.wait_for("the configuration stays as it was");
    assert!(refused.contains("Permission denied"), "{refused}");
    folder.configure("");
    broker.program.signal(Signal::SIGHUP);
    broker.program.wait_for("configuration read again");
}

#[test]
fn a_user_that_does_not_exist_ends_it_and_root_stays_without_capabilities() {
    if !geteuid().is_root() {
        return;
    }
    let program =
        Program::start(PROGRAM, &ANYWHERE, &[("NTCP_SERVICE__USER", "nobody-of-this-name")]);
    let (status, said) = program.end();
    assert_eq!(status, Some(1));
    assert!(said.iter().any(|it| it.contains("[service] user = \"nobody-of-this-name\"")));
    let mut broker = start(&[], &[("NTCP_SERVICE__USER", "root")]);
    broker.program.wait_for("user=0 capabilities=none");
    assert!(
        broker.program.of_all_threads("CapEff:").iter().all(|it| it.trim_matches('0').is_empty())
    );
}

#[test]
fn a_stop_lets_the_peers_go_and_says_so_to_the_service_manager() {
    let folder = Folder::new("broker-notify");
    let path = folder.configure("");
    let place = path.with_file_name("notify");
    let manager = UnixDatagram::bind(&place).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    // Whoever the broker becomes may tell it.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777)).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).expect("the service manager is told");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let environment = [("NOTIFY_SOCKET", place.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let broker = start(&[], &environment);
    assert!(told().starts_with("READY=1"));
    let mut alice = Peer::register(Socket::udp(broker.udp), "alice");
    let mut bob = Peer::register(Socket::tcp(broker.tcp), "bob");
    let expected = "WATCHDOG=1\nSTATUS=2 peers, 0 sessions";
    while !told().starts_with(expected) {}
    broker.program.signal(Signal::SIGHUP);
    while !told().starts_with("RELOADING=1\nMONOTONIC_USEC=") {}
    while !told().starts_with("READY=1") {}
    broker.program.signal(Signal::SIGTERM);
    while !told().starts_with("STOPPING=1") {}
    assert!(matches!(alice.receive().body, Body::Dismissed));
    assert!(matches!(bob.receive().body, Body::Dismissed));
    assert!(bob.socket.is_closed());
    assert_eq!(broker.program.end().0, Some(0));
}

#[test]
fn while_a_call_is_arranged_it_waits_is_not_ready_and_a_second_signal_ends_it_at_once() {
    let mut broker = start(&[], &[]);
    let mut alice = Peer::register(Socket::udp(broker.udp), "alice");
    let mut silent = Peer::register(Socket::udp(broker.udp), "silent");
    assert!(matches!(alice.ask(connect("silent")), Body::Connected(_)));
    assert!(matches!(silent.receive().body, Body::Invite(_)));
    broker.program.signal(Signal::SIGTERM);
    broker.program.wait_for("stopping");
    assert_eq!(get(broker.metrics, "/readyz").0, 503);
    assert_eq!(get(broker.metrics, "/healthz").0, 200);
    // Over TCP no nonce is needed: the answer is the final one.
    let mut late = Socket::tcp(broker.tcp);
    late.send(&register("late", 1, None));
    let answer = Message::parse(&late.receive()).unwrap().message.body;
    assert!(matches!(answer, Body::Refused(it) if it.code == ErrorCode::TableFull));
    broker.program.signal(Signal::SIGTERM);
    let (status, said) = broker.program.end();
    assert_eq!(status, Some(143), "{said:#?}");
}

#[test]
fn sockets_of_the_service_manager_are_used_and_must_agree_with_the_configuration() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [udp.local_addr().unwrap(), tcp.local_addr().unwrap()];
    let [at_udp, at_tcp] = addresses.map(|it| it.to_string());
    let folder = Folder::new("broker-sockets");
    let path = folder.configure("[security]\nplain = true\n");
    let configuration = ["--config", path.to_str().unwrap()];
    let arguments = [&["--udp", &at_udp, "--tcp", &at_tcp], &configuration[..]].concat();
    let sockets = [udp.try_clone().unwrap().into(), tcp.into()];
    let mut program = Program::start_with_sockets(PROGRAM, &arguments, &sockets);
    program.wait_for("listening on TCP");
    let _alice = Peer::register(Socket::udp(addresses[0]), "alice");
    let _bob = Peer::register(Socket::tcp(addresses[1]), "bob");
    drop(program);

    let arguments = ["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"];
    let program = Program::start_with_sockets(PROGRAM, &arguments, &[udp.into()]);
    let (status, said) = program.end();
    assert_eq!(status, Some(1));
    let complaint = format!("listens on UDP {at_udp}, but the configuration does not");
    assert!(said.iter().any(|line| line.contains(&complaint)), "{said:#?}");
}

#[test]
fn a_log_that_nobody_reads_stops_neither_serving_nor_the_end() {
    let folder = Folder::new("broker-unread-log");
    let fifo = folder.0.join("log");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let mut options = std::fs::OpenOptions::new();
    let both_ends = options.read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let mut both_ends = both_ends.open(&fifo).unwrap();
    while both_ends.write(b"full").is_ok() {}

    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let metrics = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at_udp, at_metrics) = (udp.local_addr().unwrap(), metrics.local_addr().unwrap());
    let path = folder.configure("[security]\nplain = true\n");
    let script = format!("exec \"$0\" \"$@\" 2>{}", fifo.display());
    let [udp_text, metrics_text] = [at_udp, at_metrics].map(|it| it.to_string());
    let arguments = ["-c", &script, PROGRAM, "udp", "-vv", "--config", path.to_str().unwrap()];
    let arguments = [&arguments[..], &["--udp", &udp_text, "--metrics", &metrics_text]].concat();
    let sockets = [udp.into(), metrics.into()];
    let program = Program::start_with_sockets("bash", &arguments, &sockets);

    let mut alice = Peer::register(Socket::udp(at_udp), "alice");
    for _ in 0..100 {
        assert!(matches!(alice.ask(connect("nobody")), Body::Refused(_)));
    }
    assert_eq!(get(at_metrics, "/healthz").0, 200);
    program.signal(Signal::SIGTERM);
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(program.end().0));
    assert_eq!(ended.recv_timeout(PATIENCE).expect("it ends"), Some(0));
}

#[test]
fn the_log_of_a_call_names_no_address_above_debug_and_can_be_json() {
    let broker = start(&[], &[("NTCP_LOG__FORMAT", "text")]);
    let peers = a_failed_call(&broker);
    broker.program.signal(Signal::SIGTERM);
    let (_, said) = broker.program.end();
    assert!(said.iter().any(|line| line.contains("called")), "{said:#?}");
    for peer in &peers {
        assert!(!said.iter().any(|line| line.contains(&peer.to_string())), "{peer}: {said:#?}");
    }
    let environment = [("NTCP_LOG__FORMAT", "json"), ("NTCP_LOG__LEVEL", "debug")];
    let arguments = ["tcp", "--tcp", "127.0.0.1:0"];
    let mut program = Program::start(PROGRAM, &arguments, &environment);
    let line = program.wait_for("listening on TCP");
    assert!(line.starts_with("{\"timestamp\":\"") && line.ends_with('}'), "{line}");
    assert!(line.contains("\"level\":\"INFO\",\"message\":\"listening on TCP\""), "{line}");
}

/// Two peers of which one does not want to be called; their addresses.
fn a_failed_call(broker: &Running) -> [SocketAddr; 2] {
    let mut alice = Peer::register(Socket::udp(broker.udp), "alice");
    let bob = Peer::register(Socket::udp(broker.udp), "bob");
    assert!(matches!(alice.ask(connect("bob")), Body::Connected(_)));
    [alice.socket.address(), bob.socket.address()]
}
