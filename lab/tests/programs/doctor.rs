//! The doctor's verdict is the lab's, at our own STUN server and at other people's.

use std::process::Command as Here;

use ntcp_lab::kernel::{Child, Command, Lab, SERVER_ADDRESSES, Stream, User};
use ntcp_lab::presets::Site;
use ntcp_lab::trial::{Programs, Servers};
use serde_json::Value;

use super::{LINE, PATIENCE};

/// Open homes first.
pub(super) const SITES: [&str; 14] = [
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

/// Enough to see whether a server of others is asked as it wants to be.
const FEW: [&str; 5] = ["public", "full-cone", "restricted", "linux-masq", "linux-random"];

/// What must agree, of each transport.
const AXES: [&str; 6] =
    ["reachable", "mapping", "filtering", "hairpin", "unsolicited_syn", "inbound_syn_after_syn"];

pub(super) fn diagnose(lab: &Lab) -> Value {
    diagnose_as(lab, User::Root, &[])
}

/// What `ntcp doctor` in home `a` says to programs, with further flags.
fn diagnose_as(lab: &Lab, user: User, flags: &[&str]) -> Value {
    ask(lab, user, &[&["--stun", "server.lab"], flags].concat())
}

/// What it says to programs that has asked this server.
pub(super) fn diagnose_at(lab: &Lab, server: &str) -> Value {
    ask(lab, User::Root, &["--stun", server])
}

fn ask(lab: &Lab, user: User, flags: &[&str]) -> Value {
    let program = Programs::beside_this_one().unwrap().path("ntcp");
    let doctor = lab.command("a", program).args(["doctor", "--json"]);
    let output = doctor.args(flags).user(user).output().unwrap();
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
    let found = diagnose(&lab);
    let mut wrong = contradictions(site, &found, server);
    if !wrong.is_empty() {
        // What was seen, so that a rare contradiction can be understood from the test's output.
        wrong.push(format!("it said {found:#}"));
    }
    wrong
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

/// What the doctor says about TCP of a home, to this user.
fn tcp_of(site: &str, user: User) -> Value {
    let lab = Lab::builder().delay(LINE).home("a", site).start().unwrap();
    let _servers = Servers::start(&lab).unwrap();
    diagnose_as(&lab, user, &[])["tcp"].take()
}

#[test]
fn the_doctor_tells_what_an_rst_and_an_icmp_error_do_to_a_hole() {
    // Netfilter forgets an unanswered connection that was reset, and minds no ICMP error.
    let cases = [
        ("public", "accepted", "accepted"),
        ("full-cone", "accepted", "accepted"),
        ("masq", "dropped", "accepted"),
        ("masq,in=reset", "rst", "accepted"),
        ("masq@port-restricted", "dropped", "accepted"),
        ("port-restricted,ttlx=kill,in=reset", "rst", "dropped"),
        ("port-restricted,rst=kill,ttlx=kill,in=reset", "dropped", "dropped"),
    ];
    for (site, after_rst, after_icmp) in cases {
        let tcp = tcp_of(site, User::Nobody);
        assert_eq!(tcp["inbound_syn_after_rst"], after_rst, "{site}: {tcp:#}");
        assert_eq!(tcp["inbound_syn_after_icmp"], after_icmp, "{site}: {tcp:#}");
    }
    let strict = tcp_of("masq,syn=strict", User::Nobody);
    assert!(strict["inbound_syn_after_rst"].is_null(), "no SYN comes in at all: {strict:#}");
}

#[test]
fn the_doctor_tells_whether_a_connection_may_begin_in_the_middle() {
    let cases = [
        ("public", "picked_up"),
        ("masq", "picked_up"),
        ("masq,in=reset", "picked_up"),
        ("masq,loose=no", "dropped"),
    ];
    for (site, fate) in cases {
        let tcp = tcp_of(site, User::Root);
        assert_eq!(tcp["mid_stream"], fate, "{site}: {tcp:#}");
    }
    assert!(tcp_of("masq", User::Nobody)["mid_stream"].is_null());
}

#[test]
fn the_doctor_tells_whether_a_syn_ack_gets_out_after_a_syn() {
    // Netfilter calls it invalid. Where no rule drops what is, it leaves with the address of the home.
    let cases = [
        ("public", "passed"),
        ("masq", "dropped"),
        ("masq,invalid=leak", "dropped"),
        ("port-restricted", "dropped"),
    ];
    for (site, fate) in cases {
        let tcp = tcp_of(site, User::Raw);
        assert_eq!(tcp["syn_ack_after_syn"], fate, "{site}: {tcp:#}");
    }
    assert!(tcp_of("public", User::Nobody)["syn_ack_after_syn"].is_null());
}

#[test]
fn the_doctor_looks_at_its_syns_with_a_capture_and_without() {
    for (user, isn) in [(User::Raw, Value::from("preserved")), (User::Nobody, Value::Null)] {
        let tcp = tcp_of("masq", user);
        assert_eq!(tcp["isn"], isn, "{user:?}: {tcp:#}");
        assert_eq!(tcp["isn_follows_clock"] == true, isn.is_null(), "{user:?}: {tcp:#}");
        let syn = &tcp["syn"];
        assert!(syn["mss"].is_u64() && syn["timestamps"] == true, "{tcp:#}");
        assert!(syn["ttl"].as_u64().is_some_and(|it| (56..64).contains(&it)), "{tcp:#}");
    }
}

#[test]
fn a_mapping_is_told_in_the_terms_of_the_rfcs_whatever_a_second_connection_gets() {
    // A connection that was reset is forgotten, and the next one gets a port like any other.
    for site in ["linux-random", "symmetric-seq"] {
        let tcp = tcp_of(site, User::Nobody);
        assert_eq!(tcp["mapping"], "address_and_port_dependent", "{tcp:#}");
        assert_eq!(tcp["new_port_each_connection"], true, "{tcp:#}");
    }
    assert!(tcp_of("masq", User::Nobody)["new_port_each_connection"].is_null());
}

#[test]
fn the_doctor_measures_timers_if_asked_to() {
    // Netfilter keeps both far longer than this.
    let lab = Lab::builder().delay(LINE).home("a", "masq").start().unwrap();
    let _servers = Servers::start(&lab).unwrap();
    let found = diagnose_as(&lab, User::Nobody, &["--timers", "15"]);
    assert_eq!(found["tcp"]["hole_s"], 12, "{found:#}");
    assert_eq!(found["tcp"]["lifetime_s"], 15, "{found:#}");
}

#[test]
fn the_doctor_says_which_sources_leave_the_network_if_asked_to() {
    for (site, user, expected) in
        [("linux-masq", User::Root, "translated"), ("linux-masq", User::Nobody, "not_permitted")]
    {
        let lab = Lab::builder().delay(LINE).home("a", site).start().unwrap();
        let _servers = Servers::start(&lab).unwrap();
        let found = diagnose_as(&lab, user, &["--spoof-check"]);
        assert_eq!(found["spoofing"], expected, "{site}, {user:?}");
        assert!(diagnose_as(&lab, user, &[])["spoofing"].is_null());
    }
}

#[test]
fn the_doctor_finds_a_router_that_takes_orders() {
    let lab = Lab::builder().delay(LINE).home("a", "masq").start().unwrap();
    let _servers = Servers::start(&lab).unwrap();
    let none = diagnose(&lab)["port_control"].take();
    assert_eq!([&none["pcp"], &none["nat_pmp"], &none["upnp"]], [false; 3], "{none:#}");
    let router = lab.udp_socket("nat-a", (std::net::Ipv4Addr::UNSPECIFIED, 5351)).unwrap();
    router.set_read_timeout(Some(PATIENCE)).unwrap();
    let serve = std::thread::spawn(move || {
        let mut request = [0; 64];
        // NAT-PMP's answer (RFC 6886 section 3.2) to its own request, twice as it is asked.
        for _ in 0..4 {
            let (length, source) = router.recv_from(&mut request).unwrap();
            if length == 2 {
                let answer = [0, 128, 0, 0, 0, 0, 0, 1, 203, 0, 113, 9];
                router.send_to(&answer, source).unwrap();
            }
        }
    });
    let found = diagnose(&lab)["port_control"].take();
    serve.join().unwrap();
    assert_eq!([&found["pcp"], &found["nat_pmp"]], [false, true], "{found:#}");
    assert_eq!(found["external_address"], "203.0.113.9", "{found:#}");
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
        check(&FEW, Server::Coturn);
    }
}

#[test]
fn the_doctor_is_right_at_a_server_of_rfc_3489() {
    if installed("stund") {
        check(&FEW, Server::Stund);
    }
}
