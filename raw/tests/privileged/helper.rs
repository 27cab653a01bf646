//! The privilege helper and an application that has no privilege.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use ntcp_proto::command::Agreed;
use ntcp_proto::segment::{Options, Segment, flag};
use ntcp_raw::helper::{Allowance, Helper};
use ntcp_raw::privileged::{Abilities, Departure, HELPER_VARIABLE, Own, Powers, Privileged};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use socket2::{Domain, Socket, Type};

use super::namespace::inside;
use super::sniffers::{bound, seen};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ntcp-helper");

/// A helper with privileges for this process, which has none any more.
fn helper() -> Helper {
    let helper = Helper::start(Path::new(PROGRAM)).unwrap();
    drop_capabilities();
    helper
}

fn drop_capabilities() {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).unwrap();
    assert_eq!(Abilities::own(), Abilities::default());
}

fn syn(source: SocketAddr, destination: SocketAddr) -> Segment {
    Segment {
        source,
        destination,
        flags: flag::SYN,
        sequence: 77,
        acknowledgment: 0,
        window: 1000,
        options: Options::default(),
    }
}

#[test]
fn an_application_without_privilege_pins_and_captures() {
    if !inside("helper::an_application_without_privilege_pins_and_captures") {
        return;
    }
    let helper = helper();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = listener.local_addr().unwrap();
    let (socket, local) = bound([127, 0, 0, 1]);
    let error = Own::default().pin_sequence(socket.as_fd(), 0x1234_5678).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);

    let mut sniffer = helper.capture(socket.as_fd(), remote).unwrap();
    helper.pin_sequence(socket.as_fd(), 0x1234_5678).unwrap();
    socket.connect(&remote.into()).unwrap();
    let captured = seen(&mut *sniffer);
    assert_eq!((captured.segment.source, captured.segment.sequence), (local, 0x1234_5678));
    drop(sniffer);
    let again = helper.pin_sequence(socket.as_fd(), 5).unwrap_err();
    assert_eq!(again.raw_os_error(), Some(libc::EPERM), "it is connected");
}

#[test]
fn an_application_without_privilege_assumes_connections() {
    if !inside("helper::an_application_without_privilege_assumes_connections") {
        return;
    }
    let helper = helper();
    let ((one, one_end), (other, other_end)) = (bound([127, 0, 0, 1]), bound([127, 0, 0, 1]));
    let options = Options {
        max_segment_size: Some(1220),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: None,
    };
    let agreed = |sequence, peer_sequence| Agreed {
        sequence,
        peer_sequence,
        options,
        peer_options: options,
    };
    helper.assume(one.as_fd(), other_end, &agreed(1, 9), Departure::Silent).unwrap();
    helper.assume(other.as_fd(), one_end, &agreed(9, 1), Departure::Probe).unwrap();
    let (one, other): (TcpStream, TcpStream) = (one.into(), other.into());
    for (mut from, mut to) in [(&one, &other), (&other, &one)] {
        from.write_all(b"through").unwrap();
        let mut bytes = [0; 7];
        to.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"through");
    }
}

#[test]
fn segments_of_the_own_ends_go_and_no_others() {
    if !inside("helper::segments_of_the_own_ends_go_and_no_others") {
        return;
    }
    let helper = helper();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = listener.local_addr().unwrap();
    let (socket, local) = bound([127, 0, 0, 1]);
    let mut sniffer = helper.capture(socket.as_fd(), remote).unwrap();
    helper.inject(socket.as_fd(), &syn(local, remote), 64).unwrap();
    assert_eq!(seen(&mut *sniffer).segment, syn(local, remote));
    // For its own stack, in the name of another.
    let stranger = "192.0.2.7:80".parse().unwrap();
    helper.inject(socket.as_fd(), &syn(stranger, local), 64).unwrap();
    // Bound to no particular address: any that this host would use.
    let (unspecific, end) = bound([0, 0, 0, 0]);
    let source = SocketAddr::new(local.ip(), end.port());
    helper.inject(unspecific.as_fd(), &syn(source, remote), 64).unwrap();

    let other_port = SocketAddr::new(local.ip(), local.port() ^ 1);
    let other_host = SocketAddr::new([192, 0, 2, 1].into(), local.port());
    let refused = |holder: &dyn AsFd, segment: &Segment| {
        let error = helper.inject(holder.as_fd(), segment, 64).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{segment:?}");
    };
    refused(&socket, &syn(other_port, remote));
    refused(&socket, &syn(other_host, remote));
    refused(&socket, &syn(remote, other_port));
    refused(&unspecific, &syn(other_host, remote));
    refused(&UdpSocket::bind(local).unwrap(), &syn(local, remote));
    refused(&UnixStream::pair().unwrap().0, &syn(local, remote));
    refused(&Socket::new(Domain::IPV4, Type::STREAM, None).unwrap(), &syn(local, remote));
}

/// Anybody may bind to an address that is not this host's.
#[test]
fn a_foreign_address_makes_nobody_its_holder() {
    if !inside("helper::a_foreign_address_makes_nobody_its_holder") {
        return;
    }
    let route = ["route", "add", "203.0.113.0/24", "dev", "lo"];
    assert!(Command::new("ip").args(route).status().unwrap().success());
    let helper = helper();
    let foreign: SocketAddr = "203.0.113.5:443".parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_freebind_v4(true).unwrap();
    let port = SocketAddr::new(foreign.ip(), 4443);
    socket.bind(&port.into()).unwrap();
    let victim = "127.0.0.1:9".parse().unwrap();
    assert!(helper.inject(socket.as_fd(), &syn(port, victim), 64).is_err());
    assert!(helper.inject(socket.as_fd(), &syn(victim, port), 64).is_err());
    assert!(helper.capture(socket.as_fd(), victim).is_err());
}

#[test]
fn there_is_a_limit_to_what_is_sent() {
    if !inside("helper::there_is_a_limit_to_what_is_sent") {
        return;
    }
    let helper = helper();
    let (socket, local) = bound([127, 0, 0, 1]);
    let remote = SocketAddr::new(local.ip(), 1);
    let sent = (0..10 * Allowance::BURST)
        .map(|_| helper.inject(socket.as_fd(), &syn(local, remote), 64))
        .take_while(Result::is_ok)
        .count();
    // More than a burst only if it took so long that more was earned.
    assert!((Allowance::BURST as usize..2 * Allowance::BURST as usize).contains(&sent), "{sent}");
    let error = helper.inject(socket.as_fd(), &syn(local, remote), 64);
    assert!(error.is_ok() || error.unwrap_err().kind() == ErrorKind::WouldBlock);
}

#[test]
fn it_keeps_nothing_but_what_it_needs() {
    if !inside("helper::it_keeps_nothing_but_what_it_needs") {
        return;
    }
    let inherited = rustix::io::dup(UnixStream::pair().unwrap().0).unwrap();
    let helper = helper();
    drop(inherited);
    let threads = std::fs::read_dir(format!("/proc/{}/task", helper.process_id())).unwrap();
    let threads: Vec<_> = threads.map(|thread| thread.unwrap().path()).collect();
    assert_eq!(threads.len(), 2, "the loop, and what closes captures");
    for thread in threads {
        let status = std::fs::read_to_string(thread.join("status")).unwrap();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap_or_else(|| panic!("{name} in {status}")).trim().to_owned()
        };
        for sets in ["CapEff:", "CapPrm:"] {
            assert_eq!(u64::from_str_radix(&field(sets), 16), Ok(0x3000), "{sets}");
        }
        assert_eq!(u64::from_str_radix(&field("CapInh:"), 16), Ok(0));
        assert_eq!(u64::from_str_radix(&field("CapAmb:"), 16), Ok(0));
        assert_eq!(field("NoNewPrivs:"), "1");
    }
}

#[test]
fn it_ends_with_the_application() {
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    let mut helper =
        Command::new(PROGRAM).stdin(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
    drop(ours);
    assert!(helper.wait().unwrap().success());
}

#[test]
fn it_does_not_listen_to_nonsense() {
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    let mut helper =
        Command::new(PROGRAM).stdin(Stdio::from(OwnedFd::from(theirs))).spawn().unwrap();
    ours.send(b"nonsense").unwrap();
    helper.wait().unwrap();
    assert_eq!((&ours).read(&mut [0; 8]).unwrap_or(0), 0, "no answer");
}

#[test]
fn started_by_hand_it_says_what_it_is() {
    let output = Command::new(PROGRAM).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("setcap cap_net_raw,cap_net_admin+ep")
    );
}

#[test]
fn a_helper_without_capabilities_is_found_out() {
    if !inside("helper::a_helper_without_capabilities_is_found_out") {
        return;
    }
    let own = Powers::acquire();
    assert_eq!(own.privileges().capture.to_string(), "this program's own capabilities");
    // Root of the namespace gets capabilities back when it starts a program; not without this.
    rustix::thread::set_no_new_privs(true).unwrap();
    rustix::thread::set_capabilities_secure_bits(rustix::thread::CapabilitiesSecureBits::NO_ROOT)
        .unwrap();
    drop_capabilities();
    // SAFETY: this test has the process for itself, and no other thread reads the environment.
    unsafe { std::env::set_var(HELPER_VARIABLE, PROGRAM) };
    let none = Powers::acquire();
    let advice = none.privileges().repair.to_string();
    assert_eq!(
        advice,
        format!("needs CAP_NET_ADMIN: sudo setcap cap_net_raw,cap_net_admin+ep {PROGRAM}")
    );
    let (socket, _) = bound([127, 0, 0, 1]);
    let error = none.pin_sequence(socket.as_fd(), 5).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}
