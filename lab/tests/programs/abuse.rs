//! What somebody gets who sends a STUN server requests in other people's names, as a capture sees it.
//!
//! ```text
//!  v: the name ┬── server ═══ b: its partner, or the host in whose name it answers
//!  a: forges ──┤
//!  c: a third ─┘      nothing must ever come to c
//! ```

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use ntcp_lab::kernel::{Child, Frame, Lab, SERVER_ADDRESSES, SocketKind, Tap};
use ntcp_lab::trial::{Programs, ready};

use super::forged::start;
use super::{LINE, PATIENCE};

/// The port that the victim has nothing to do with.
const PORT: u16 = 40_000;
/// Nothing more is answered after so much silence.
const QUIET: Duration = Duration::from_millis(400);

/// A STUN message of this type with these attributes.
fn message(kind: u16, cookie: bool, id: u64, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (attribute, value) in attributes {
        body.extend(attribute.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let cookie: [u8; 4] = if cookie { [0x21, 0x12, 0xA4, 0x42] } else { [3, 4, 8, 9] };
    let length = (body.len() as u16).to_be_bytes();
    [&kind.to_be_bytes()[..], &length, &cookie, &[0xAB; 4], &id.to_be_bytes(), &body].concat()
}

/// XOR'd as XOR-MAPPED-ADDRESS is (RFC 8489 section 14.2).
fn xor_address(address: SocketAddrV4) -> [u8; 8] {
    let [high, low] = (address.port() ^ 0x2112).to_be_bytes();
    let [a, b, c, d] = (u32::from(*address.ip()) ^ 0x2112_A442).to_be_bytes();
    [0, 1, high, low, a, b, c, d]
}

/// Each way to ask that has ever made a server send more, or elsewhere.
fn requests(third: Ipv4Addr) -> Vec<Vec<u8>> {
    let third = SocketAddrV4::new(third, PORT);
    let [high, low] = PORT.to_be_bytes();
    let [a, b, c, d] = third.ip().octets();
    let plain = [0, 1, high, low, a, b, c, d];
    let hidden = xor_address(third);
    let mut requests = Vec::new();
    let mut add = |kind, cookie, attributes: &[(u16, &[u8])]| {
        let id = requests.len() as u64;
        requests.push(message(kind, cookie, id, attributes));
    };
    for cookie in [true, false] {
        add(1, cookie, &[]);
        for flags in [0, 2, 4, 6] {
            add(1, cookie, &[(3, &[0, 0, 0, flags])]);
        }
        // RESPONSE-ADDRESS, REFLECTED-FROM, MAPPED-ADDRESS, XOR-MAPPED-ADDRESS, ALTERNATE-SERVER.
        for attribute in [2, 0xB, 1, 0x20, 0x8023] {
            add(1, cookie, &[(attribute, if attribute == 0x20 { &hidden } else { &plain })]);
        }
        add(1, cookie, &[(3, &[0, 0, 0, 6]), (2, &plain)]);
        for length in [0, 1, 64, 500, 1_400] {
            add(1, cookie, &[(0x26, &vec![0; length])]);
            add(1, cookie, &[(3, &[0, 0, 0, 6]), (0x26, &vec![0; length])]);
        }
        add(1, cookie, &[(0x27, &[high, low])]);
        add(1, cookie, &[(0x7FFF, &[])]);
        add(2, cookie, &[]);
    }
    // The spoof check's report, the connect-back of TCP, the partners' link: methods of this project.
    for kind in [0x0E1_u16, 0x0E0, 0x0E2] {
        for class in [0_u16, 0x0010, 0x0100] {
            let kind = (kind & 0x0F) | (kind & 0x70) << 1 | (kind & 0xF80) << 2 | class;
            let nonce: &[u8] = &[b'A'; 12];
            add(kind, true, &[(0x4C00, &hidden), (0x15, nonce)]);
            let inner = message(1, true, 7, &[(3, &[0, 0, 0, 4])]);
            add(
                kind,
                true,
                &[(0x4C01, &[0, 0, 0, 1]), (0x4C03, &[0; 16]), (0x4C04, &hidden), (0x4C06, &inner)],
            );
        }
    }
    requests
}

/// A UDP datagram as a whole packet, with any source (RFC 791, RFC 768); the kernel fills the sums in.
fn packet(source: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = (20 + 8 + payload.len()) as u16;
    let [high, low] = length.to_be_bytes();
    let mut packet = vec![0x45, 0, high, low, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(source.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend((length - 20).to_be_bytes());
    // No checksum, which RFC 768 allows.
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// What an outgoing frame carries, if it is whole UDP over IPv4: from, to, payload.
fn datagram(frame: &Frame) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
    let bytes = &frame.packet;
    let header = usize::from(bytes.first()? & 0xF) * 4;
    if bytes[0] >> 4 != 4 || *bytes.get(9)? != 17 {
        return None;
    }
    let address = |at: usize, port: usize| {
        let ip: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        let port = u16::from_be_bytes(bytes.get(port..port + 2)?.try_into().ok()?);
        Some(SocketAddr::new(IpAddr::from(ip), port))
    };
    let (from, to) = (address(12, header)?, address(16, header + 2)?);
    Some((from, to, bytes.get(header + 8..)?.to_vec()))
}

/// The lab, and who is who in it.
struct Scene {
    lab: Lab,
    victim: Ipv4Addr,
    third: Ipv4Addr,
    other: Ipv4Addr,
    _servers: Vec<Child>,
}

impl Scene {
    /// A server in this mode.
    fn set(mode: &str, amplification: &str) -> Self {
        // Its neighbour's name is one that the network lets a host have.
        let homes = Lab::builder().delay(LINE).home("v", "firewall").neighbour("a");
        let lab = homes.home("b", "public").home("c", "public").start().unwrap();
        let address = |name| lab.host(name).unwrap().address;
        let (victim, third, other) = (address("v"), address("c"), address("b"));
        let primary = format!("{}:3478", SERVER_ADDRESSES[0]);
        let second = format!("{}:3479", SERVER_ADDRESSES[1]);
        let there = format!("{other}:3479");
        let on = |host: &str, flags: &[&str], word: &str| {
            let program = Programs::beside_this_one().unwrap().path("ntcp-stun-server");
            let command = lab.command(host, program).args(flags);
            ready(command.env("NTCP_STUN__AMPLIFICATION", amplification), word).unwrap()
        };
        let server = |flags: &[&str], word: &str| {
            on("server", &[&["--listen", &primary], flags].concat(), word)
        };
        let servers = match mode {
            "basic" => vec![server(&[], "listening")],
            "dual" => vec![server(&["--alternate", &second], "listening")],
            "forged" => {
                let others = [3478, 3479].map(|port| {
                    start(&lab, "b", &["--listen", &format!("{other}:{port}")], "listening")
                });
                let flags = ["--mode", "forged", "--alternate", &there];
                let own = server(&flags, "forged sources leave this network");
                others.into_iter().chain([own]).collect()
            }
            "partner" => {
                let key = super::partners::secret("a key");
                let flags = ["--mode", "partner", "--partner-key", key.path()];
                let theirs = [&flags[..], &["--listen", &there, "--alternate", &primary]].concat();
                let theirs = on("b", &theirs, "listening");
                let flags = [&flags[..], &["--alternate", &there]].concat();
                vec![theirs, server(&flags, "the partner answers in its part")]
            }
            other => panic!("{other}"),
        };
        Self { lab, victim, third, other, _servers: servers }
    }

    /// All that the server and the other host send while `play` goes on, and the requests that it sends.
    fn watched(&self, play: impl FnOnce()) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        let tap = |space: &str| Tap { space: space.into(), interface: "eth0".into() };
        let capture = self.lab.capture(&[tap("server"), tap("b")]).unwrap();
        play();
        let began = Instant::now();
        let mut frames = Vec::new();
        while let Some(frame) = capture.next(QUIET) {
            frames.push(frame);
            // Partners and watchers go on talking to each other.
            if began.elapsed() > QUIET * 5 {
                break;
            }
        }
        frames.extend(capture.stop());
        frames.iter().filter(|it| it.outgoing).filter_map(datagram).collect()
    }

    /// Sends these requests in the victim's name, each to each port of the server.
    fn forge(&self, requests: &[Vec<u8>], times: usize) {
        let socket = self.lab.socket("a", SocketKind::Packets).unwrap();
        let source = SocketAddrV4::new(self.victim, PORT);
        for request in std::iter::repeat_n(requests, times).flatten() {
            for port in [3478, 3479] {
                let to = SocketAddrV4::new(SERVER_ADDRESSES[0], port);
                let packet = packet(source, to, request);
                socket.send_to(&packet, &SocketAddr::from(to).into()).unwrap();
            }
        }
    }

    /// Asks as the victim until there is an answer; how often it took.
    fn asks_itself(&self) -> usize {
        let socket = self.lab.udp_socket("v", (self.victim, 0)).unwrap();
        ask(&socket, 20)
    }
}

fn ask(socket: &UdpSocket, most: usize) -> usize {
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for attempt in 1..=most {
        let request = message(1, true, attempt as u64, &[]);
        socket.send_to(&request, (SERVER_ADDRESSES[0], 3478)).unwrap();
        if socket.recv(&mut [0; 600]).is_ok() {
            return attempt;
        }
    }
    panic!("no answer after {most} requests");
}

/// Nothing goes to anybody but the source of a request and the other host, and nothing is longer than it may be.
fn check(mode: &str, amplification: &str) {
    let scene = Scene::set(mode, amplification);
    let requests = requests(scene.third);
    let sent = scene.watched(|| scene.forge(&requests, 1));
    let lengths: HashMap<_, _> = requests.iter().map(|it| (it[4..20].to_vec(), it.len())).collect();
    let (mut answers, mut long) = (0, Vec::new());
    for (from, to, payload) in &sent {
        let what = format!("{mode}: {} bytes from {from} to {to}", payload.len());
        assert_ne!(to.ip(), IpAddr::from(scene.third), "{what}");
        if to.ip() != IpAddr::from(scene.victim) {
            // The two hosts to each other.
            let ours = [SERVER_ADDRESSES[0], SERVER_ADDRESSES[1], scene.other].map(IpAddr::from);
            assert!(ours.contains(&to.ip()) && ours.contains(&from.ip()), "{what}");
            continue;
        }
        assert_eq!(to.port(), PORT, "{what}");
        answers += 1;
        let asked = lengths.get(&payload[4..20]).unwrap_or_else(|| panic!("unasked: {what}"));
        if payload.len() * 10 > asked * 16 {
            long.push((*asked, payload.len()));
        }
    }
    assert!(answers > 20, "{mode}: {answers} answers of {}", sent.len());
    long.sort_unstable();
    long.dedup();
    if amplification == "low" {
        assert_eq!(long, [], "{mode}");
    } else {
        // What RFC 5780 and RFC 3489 have a server tell: three addresses of 12 bytes more, with IPv4.
        let most = if mode == "basic" { 24 } else { 48 };
        assert!(long.iter().all(|(asked, said)| said - asked <= most), "{mode}: {long:?}");
    }
}

#[test]
fn nothing_comes_to_anybody_who_did_not_ask_in_any_mode() {
    for mode in ["basic", "dual", "forged", "partner"] {
        check(mode, "standard");
    }
}

#[test]
fn with_low_amplification_no_reply_is_longer_than_1_6_times_its_request() {
    for mode in ["basic", "dual", "forged", "partner"] {
        check(mode, "low");
    }
}

#[test]
fn sixty_forged_requests_do_not_silence_a_victim_and_a_flood_does_so_for_a_moment_only() {
    let scene = Scene::set("dual", "standard");
    let bare = [message(1, true, 1, &[])];
    scene.watched(|| scene.forge(&bare, 30));
    assert_eq!(scene.asks_itself(), 1);
    // A flood: what comes of it is bounded, in number and in bytes.
    let flood: Vec<_> = (0..1_000).map(|it| message(1, true, it, &[])).collect();
    let sent = scene.watched(|| scene.forge(&flood, 20));
    let to_victim = sent.iter().filter(|it| it.1.ip() == IpAddr::from(scene.victim));
    let (count, bytes) = to_victim.fold((0, 0), |sum, it| (sum.0 + 1, sum.1 + it.2.len()));
    assert!((1_000..=40_000).contains(&count), "{count} replies to 40,000 requests");
    assert!(bytes * 10 <= 40_000 * 20 * 17, "{bytes} bytes for 800,000");
    scene.asks_itself();
}

#[test]
fn a_thousand_clients_behind_one_address_get_on() {
    let lab = Lab::builder().delay(LINE).home("a", "linux-masq").start().unwrap();
    let (primary, second) =
        (format!("{}:3478", SERVER_ADDRESSES[0]), format!("{}:3479", SERVER_ADDRESSES[1]));
    let _server =
        start(&lab, "server", &["--listen", &primary, "--alternate", &second], "listening");
    let host = lab.host("a").unwrap().address;
    let sockets: Vec<_> = (0..1_000).map(|_| lab.udp_socket("a", (host, 0)).unwrap()).collect();
    for round in 0..5 {
        for socket in &sockets {
            let request = message(1, true, round, &[]);
            socket.send_to(&request, (SERVER_ADDRESSES[0], 3478)).unwrap();
        }
        for socket in &sockets {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut reply = [0; 600];
            let length = socket.recv(&mut reply).unwrap();
            assert!(length >= 32 && reply[..2] == [1, 1]);
        }
    }
}

#[test]
fn a_load_from_next_door_is_not_held_up() {
    // More than the allowances of an address and its network together.
    const REQUESTS: u64 = 25_000;
    let lab = Lab::builder().home("a", "linux-masq").neighbour("b").start().unwrap();
    let address = |name| lab.host(name).unwrap().address;
    let _server = start(&lab, "a", &["--listen", &format!("{}:3478", address("a"))], "listening");
    let socket = lab.udp_socket("b", (address("b"), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let at_once = 100;
    for first in (0..REQUESTS).step_by(at_once) {
        for id in (first..).take(at_once) {
            socket.send_to(&message(1, true, id, &[]), (address("a"), 3478)).unwrap();
        }
        for id in (first..).take(at_once) {
            let received = socket.recv(&mut [0; 600]);
            received.unwrap_or_else(|error| panic!("request {id}: {error}"));
        }
    }
}
