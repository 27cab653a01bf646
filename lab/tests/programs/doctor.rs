//! The doctor's verdict is the lab's, at our own STUN server and at other people's.

use std::process::Command as Here;

use ntcp_lab::kernel::{Child, Command, Lab, SERVER_ADDRESSES, Stream};
use ntcp_lab::presets::Site;
use ntcp_lab::trial::{Programs, Servers};
use serde_json::Value;

use super::{LINE, PATIENCE};

const SITES: [&str; 14] = [
    "public",
    "firewall",
    "full-cone",
    "restricted",
    "port-restricted",
    "linux-masq",
    "linux-random",
    "symmetric-seq",
    "masq,in=reset",
    "masq,in=admin",
    "masq,in=open",
    "masq,syn=strict",
    "masq,udp=block",
    "masq@port-restricted",
];

/// What must agree, of each transport.
const AXES: [&str; 6] =
    ["reachable", "mapping", "filtering", "hairpin", "unsolicited_syn", "inbound_syn_after_syn"];

pub(super) fn diagnose(lab: &Lab) -> Value {
    let program = Programs::beside_this_one().unwrap().path("ntcp");
    let doctor = lab.command("a", program).args(["doctor", "--json", "--stun", "server.lab"]);
    let output = doctor.output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {output:?}");
    })
}

/// What a perfect classifier says about a site.
pub(super) fn declared(site: &str) -> Value {
    serde_json::to_value(site.parse::<Site>().unwrap().declared()).unwrap()
}

/// Where the doctor contradicts the lab; an axis that a server cannot measure may be left out.
pub(super) fn contradictions(site: &str, found: &Value, server: Server) -> Vec<String> {
    let declared = declared(site);
    let mut wrong = Vec::new();
    for transport in server.transports() {
        for axis in AXES {
            let (is, said) = (&declared[transport][axis], &found[transport][axis]);
            let unmeasured = said.is_null() && !server.measures(&declared[transport], axis);
            if is != said && !unmeasured {
                wrong.push(format!("{site}: {transport} {axis} is {is}, the doctor says {said}"));
            }
        }
    }
    wrong
}

/// Whose STUN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Ours,
    Coturn,
    /// Of RFC 3489: no TCP.
    Stund,
    /// Ours with one address, in the name of another host or with that host as its partner: no connection comes from there.
    OneAddress,
}

impl Server {
    fn transports(self) -> &'static [&'static str] {
        match self {
            Self::Ours | Self::Coturn => &["udp", "tcp"],
            Self::Stund | Self::OneAddress => &["udp"],
        }
    }

    /// Whether the axis can be told with this server of what stands there.
    fn measures(self, declared: &Value, axis: &str) -> bool {
        let is_tcp = declared.get("isn").is_some();
        match axis {
            // RFC 5780 section 4.4 has no filtering test for TCP: a server must connect back.
            "filtering" => {
                self == Self::Ours || (!is_tcp && matches!(self, Self::Stund | Self::OneAddress))
            }
            "unsolicited_syn" => self == Self::Ours,
            // The server must know where the client's SYN came from without having seen it.
            "inbound_syn_after_syn" => {
                self == Self::Ours && declared["mapping"] != "address_and_port_dependent"
            }
            _ => true,
        }
    }
}

fn agree(site: &str, server: Server) -> Vec<String> {
    let lab = Lab::builder().delay(LINE).home("a", site).start().unwrap();
    let _ours = (server == Server::Ours).then(|| Servers::start(&lab).unwrap());
    let _other = (server != Server::Ours).then(|| start(&lab, server));
    contradictions(site, &diagnose(&lab), server)
}

/// Starts somebody else's server and waits until it answers.
fn start(lab: &Lab, server: Server) -> Child {
    let [primary, alternate, ..] = SERVER_ADDRESSES.map(|address| address.to_string());
    let command: Command<'_> = match server {
        Server::Coturn => lab
            .command("server", "turnserver")
            .args(["-n", "-S", "-L", &primary, "-L", &alternate, "--no-tls", "--no-dtls"])
            .args(["--no-cli", "--pidfile", "/dev/null", "--log-file", "/dev/null"]),
        Server::Stund | Server::Ours | Server::OneAddress => lab
            .command("server", "stund")
            .args(["-h", &primary, "-a", &alternate, "-p", "3478", "-o", "3479"]),
    };
    let child = command.stdout(Stream::Null).stderr(Stream::Null).spawn().unwrap();
    answers(lab);
    child
}

/// Asks until there is an answer: a Binding request without attributes (RFC 8489 section 5).
fn answers(lab: &Lab) {
    const BETWEEN: std::time::Duration = std::time::Duration::from_millis(50);
    let request = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let socket = lab.udp_socket("server", (SERVER_ADDRESSES[3], 0)).unwrap();
    socket.set_read_timeout(Some(BETWEEN)).unwrap();
    let began = std::time::Instant::now();
    while began.elapsed() < PATIENCE {
        socket.send_to(&request, (SERVER_ADDRESSES[0], 3478)).unwrap();
        if socket.recv(&mut [0; 1500]).is_ok() {
            return;
        }
    }
    panic!("the server does not answer");
}

pub(super) fn installed(program: &str) -> bool {
    let there = Here::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let there = there.is_ok_and(|found| found.status.success());
    if !there {
        eprintln!("SKIPPED: {program} is not installed, so nothing is tried with it");
    }
    there
}

fn check(sites: &[&str], server: Server) {
    let wrong: Vec<_> = sites.iter().flat_map(|site| agree(site, server)).collect();
    assert!(wrong.is_empty(), "at {server:?}: {wrong:#?}");
}

#[test]
fn the_doctor_counts_the_hops_to_the_outermost_nat() {
    for (site, expected) in [("masq", Some(2)), ("masq@port-restricted", Some(3)), ("public", None)]
    {
        let lab = Lab::builder().delay(LINE).home("a", site).start().unwrap();
        let _servers = Servers::start(&lab).unwrap();
        let program = Programs::beside_this_one().unwrap().path("ntcp");
        let doctor = lab.command("a", program).args(["doctor", "--stun", "server.lab"]);
        let output = doctor.output().unwrap();
        let page = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = page.contains("a packet with a TTL of ");
        assert_eq!(told, expected.is_some(), "{site}: {page}");
        if let Some(ttl) = expected {
            let words = format!("a packet with a TTL of {ttl} opens the outermost NAT");
            assert!(page.contains(&words), "{site}: {page}");
        }
    }
}

#[test]
fn the_doctor_is_right_about_open_homes() {
    check(&SITES[..6], Server::Ours);
}

#[test]
fn the_doctor_is_right_about_difficult_homes() {
    check(&SITES[6..], Server::Ours);
}

#[test]
fn the_doctor_is_right_at_coturn() {
    if installed("turnserver") {
        check(&["public", "full-cone", "restricted", "linux-masq", "linux-random"], Server::Coturn);
    }
}

#[test]
fn the_doctor_is_right_at_a_server_of_rfc_3489() {
    if installed("stund") {
        check(&["public", "full-cone", "restricted", "linux-masq", "linux-random"], Server::Stund);
    }
}
