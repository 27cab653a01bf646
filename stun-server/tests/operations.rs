//! The program as its operator meets it: signals, systemd, metrics, privileges.

#[path = "../../service/testing/program.rs"]
mod program;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use ntcp_stun::attribute::{ErrorCode, Username};
use ntcp_stun::framing::Deframer;
use ntcp_stun::probe::{self, Interval, Test, Wish};
use ntcp_stun::{Class, Key, Message, Method, TransactionId, Writer};
use program::{Folder, Program, get, request, sample};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ntcp-stun-server");
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server, where it tells its metrics and where it listens.
fn start(arguments: &[&str]) -> (Program, SocketAddr, SocketAddr) {
    let arguments = [&["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"], arguments].concat();
    let mut program = Program::start(PROGRAM, &arguments, &[]);
    let metrics = program.address_after("status on http://");
    let address = program.address_after("listening on UDP and TCP");
    (program, metrics, address)
}

/// Asks for a binding over UDP, and has the answer.
fn ask(server: SocketAddr) {
    let mut buffer = [0; 64];
    let id = TransactionId::new([7; 12]);
    let writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id).unwrap();
    let length = writer.finish();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(&buffer[..length], server).unwrap();
    let mut answer = [0; 512];
    let length = client.recv(&mut answer).unwrap();
    assert_eq!(Message::parse(&answer[..length]).unwrap().class(), Class::Success);
}

#[test]
fn metrics_and_health_tell_what_happened() {
    let (_program, metrics, address) = start(&[]);
    ask(address);
    ask(address);
    // Shards count after they have answered.
    let deadline = std::time::Instant::now() + PATIENCE;
    let text = loop {
        let (status, _, text) = get(metrics, "/metrics");
        assert_eq!(status, 200);
        if sample(&text, "ntcp_stun_messages_received_total{transport=\"udp\"}") == 2 {
            break text;
        }
        assert!(std::time::Instant::now() < deadline, "{text}");
    };
    assert_eq!(sample(&text, "ntcp_stun_successes_total"), 2);
    assert_eq!(get(metrics, "/healthz").0, 200);
    assert_eq!(get(metrics, "/readyz").0, 200);
    assert!(get(metrics, "/").2.contains("ntcp_stun_successes_total 2"));
    assert_eq!(request(metrics, "DELETE / HTTP/1.1\r\n\r\n").0, 405);
}

#[test]
fn a_reload_is_taken_or_refused_with_the_reason() {
    let folder = Folder::new("stun-reload");
    let path = folder.configure("");
    let (mut program, _, address) = start(&["--config", path.to_str().unwrap()]);
    folder.configure("[log]\nlevel = 'loud'\n");
    program.signal(Signal::SIGHUP);
    let refused = program.wait_for("the configuration stays as it was");
    assert!(refused.contains("[log] level = \"loud\": not a log level; write off"), "{refused}");
    folder.configure("[log]\nlevel = 'debug'\n[metrics]\nlisten = '127.0.0.1:1'\n");
    program.signal(Signal::SIGHUP);
    // The flag --metrics stands above the file, so nothing needs a restart.
    assert!(program.wait_for("configuration read again").contains("[log] level"));
    ask(address);
    program.signal(Signal::SIGTERM);
    assert_eq!(program.end().0, Some(0));
}

/// Writes a file beside the configuration, and returns its path.
fn write(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.0.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The error code of what answers this request, if it is an error; the answer's length.
fn code(server: SocketAddr, request: &[u8]) -> (Option<u16>, usize) {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(request, server).unwrap();
    let mut answer = [0; 512];
    let length = client.recv(&mut answer).unwrap();
    let message = Message::parse(&answer[..length]).unwrap();
    (message.attribute::<ErrorCode<'_>>().unwrap().map(|it| it.code()), length)
}

/// A Binding request of a user with short-term credentials.
fn signed(name: &str, password: &str) -> Vec<u8> {
    let mut buffer = [0; 128];
    let id = TransactionId::new([7; 12]);
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id).unwrap();
    writer.attribute(&Username::new(name).unwrap()).unwrap();
    writer.integrity_sha256(&Key::short_term(password.as_bytes())).unwrap();
    let length = writer.finish();
    buffer[..length].to_vec()
}

#[test]
fn a_reload_takes_over_users_and_policy() {
    let folder = Folder::new("stun-users");
    let users = write(&folder, "users", "alice:wonderland\n");
    let short_term = format!("[stun]\naccess = 'short-term'\ncredentials = '{users}'\n");
    let path = folder.configure(&short_term);
    let (mut program, _, address) = start(&["--config", path.to_str().unwrap()]);
    let reloaded = |program: &mut Program| {
        program.signal(Signal::SIGHUP);
        program.wait_for("configuration read again")
    };
    assert_eq!(code(address, &signed("alice", "wonderland")).0, None);
    assert_eq!(code(address, &signed("bob", "builder")).0, Some(401));
    // The file of users alone.
    write(&folder, "users", "bob:builder\n");
    let said = reloaded(&mut program);
    assert!(said.contains("[stun] access, realm, credentials"), "{said}");
    assert_eq!(code(address, &signed("alice", "wonderland")).0, Some(401));
    assert_eq!(code(address, &signed("bob", "builder")).0, None);
    // Something broken in it changes nothing.
    write(&folder, "users", "bob\n");
    program.signal(Signal::SIGHUP);
    let refused = program.wait_for("the configuration stays as it was");
    assert!(refused.contains("line 1: a name or a password is missing"), "{refused}");
    assert_eq!(code(address, &signed("bob", "builder")).0, None);
    // Everybody again, elsewhere, by a name, and a key that needs a restart.
    folder.configure("[stun]\nredirect = ['192.0.2.9:3478']\nsoftware = 'us'\nshards = 1\n");
    program.signal(Signal::SIGHUP);
    let left = program.wait_for("needs_restart");
    assert!(left.contains("[stun] shards") && !left.contains("[stun] software"), "{left}");
    program.wait_for("configuration read again");
    assert_eq!(code(address, &signed("nobody", "at all")), (Some(300), 20 + 8 + 12 + 8));
    folder.configure("");
    let said = reloaded(&mut program);
    assert!(said.contains("[stun] redirect"), "{said}");
    ask(address);
}

/// The certificate that a server shows.
fn certificate(address: SocketAddr, protocol: &str) -> Vec<u8> {
    let shown = Command::new("openssl")
        .args(["s_client", protocol, "-connect", &address.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .stdout;
    let text = String::from_utf8_lossy(&shown);
    let begin = text.find("-----BEGIN").unwrap_or_else(|| panic!("{text}"));
    let end = text.find("-----END CERTIFICATE-----").unwrap();
    text[begin..end].replace('\r', "").into_bytes()
}

#[test]
fn a_reload_exchanges_the_certificate() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: openssl is not installed, so no certificate was looked at");
        return;
    }
    let folder = Folder::new("stun-certificate");
    let make = || {
        let made = rcgen::generate_simple_self_signed(vec!["stun.example.org".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let (first, second) = (make(), make());
    let files = [write(&folder, "chain.pem", &first.0), write(&folder, "key.pem", &first.1)];
    let dtls = if cfg!(feature = "dtls") { "dtls_listen = ['127.0.0.1:0']" } else { "" };
    let path = folder.configure(&format!(
        "[stun]\ntls_listen = ['127.0.0.1:0']\ntls_certificate = '{}'\ntls_key = '{}'\n{dtls}\n",
        files[0], files[1]
    ));
    let (mut program, _, plain) = start(&["--config", path.to_str().unwrap()]);
    let mut spoken = vec![(program.address_after("listening on TLS"), "-tls1_3")];
    if !dtls.is_empty() {
        spoken.push((program.address_after("listening on DTLS"), "-dtls1_2"));
    }
    let is_shown = |pem: &str| {
        let pem = pem.replace('\r', "");
        spoken.iter().all(|(at, protocol)| pem.as_bytes().starts_with(&certificate(*at, protocol)))
    };
    assert!(is_shown(&first.0));
    // Half of an exchange, and then the whole.
    write(&folder, "chain.pem", &second.0);
    program.signal(Signal::SIGHUP);
    let refused = program.wait_for("the configuration stays as it was");
    assert!(refused.contains("name a certificate and the key that it was made for"), "{refused}");
    assert!(is_shown(&first.0));
    write(&folder, "key.pem", &second.1);
    program.signal(Signal::SIGHUP);
    let said = program.wait_for("configuration read again");
    assert!(said.contains("tls_certificate"), "{said}");
    assert!(is_shown(&second.0));
    ask(plain);
}

#[test]
fn without_any_privilege_it_still_connects_back_to_clients() {
    let folder = Folder::new("stun-confined");
    let path = folder.configure("");
    let (mut program, _, address) = start(&["--config", path.to_str().unwrap()]);
    let confined = program.wait_for("capabilities=none");
    let none = |it: &String| it.trim_matches('0').is_empty();
    assert!(program.of_all_threads("CapEff:").iter().all(none));
    assert!(program.of_all_threads("NoNewPrivs:").iter().all(|it| it == "1"));
    if geteuid().is_root() {
        let users = program.of_all_threads("Uid:");
        assert!(users.len() > 2 && !users.iter().any(|it| it.starts_with("0 ")), "{users:?}");
    }
    ask(address);
    is_connected_back_to(address);
    if !confined.contains("no landlock") {
        folder.link_configuration_to("/etc/passwd");
        program.signal(Signal::SIGHUP);
        let refused = program.wait_for("the configuration stays as it was");
        assert!(refused.contains("Permission denied"), "{refused}");
    }
}

/// A client that listens on the port it asks from is reached from another port of the server.
fn is_connected_back_to(server: SocketAddr) {
    let bound = |local: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&local.into()).unwrap();
        socket
    };
    let socket = bound("127.0.0.1:0".parse().unwrap());
    socket.connect(&server.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let listening = bound(stream.local_addr().unwrap());
    listening.listen(1).unwrap();
    let listener = TcpListener::from(listening);
    let id = TransactionId::new([9; 12]);
    let wish = Wish { test: Test::OtherPort, patience: Interval::of(Duration::from_secs(2)) };
    stream.write_all(&probe::order(id, wish)).unwrap();
    let mut deframer = Deframer::new(4096);
    // Of several attempts those that are not needed any more are given up without a word.
    loop {
        let (mut back, source) = listener.accept().unwrap();
        assert_ne!(source, server);
        back.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = back.read(deframer.spare()).unwrap_or(0);
        deframer.filled(length);
        if length > 0 {
            break;
        }
    }
    let token = deframer.next_message().unwrap().unwrap();
    assert_eq!(probe::read_token(&Message::parse(token).unwrap()), Some(id));
}

#[test]
fn sockets_of_the_service_manager_serve_every_shard() {
    // A port that is free for UDP need not be free for TCP.
    let pair = |_| {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok()?;
        Some((udp, tcp))
    };
    let (udp, tcp) = (0..32).find_map(pair).expect("a port that is free for both");
    let address = udp.local_addr().unwrap();
    let listen = address.to_string();
    let sockets = [udp.into(), tcp.into()];
    let mut program = Program::start_with_sockets(PROGRAM, &["--listen", &listen], &sockets);
    program.wait_for("listening on UDP and TCP");
    drop(sockets);
    // From so many ports that each shard has its share, were the datagrams dealt out.
    (0..20).for_each(|_| ask(address));
    assert!(TcpStream::connect(address).is_ok());
}
