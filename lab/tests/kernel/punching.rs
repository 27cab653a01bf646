//! The lab behaves as real networks do: what is known of punching through netfilter happens here,
//! in real kernels with nothing but plain sockets.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ntcp_lab::kernel::{Form, Lab, SERVER_ADDRESSES};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use super::{PATIENCE, address, carry, server, udp};

/// One-way delay of each line; from home to home it is twice that.
const LINE: Duration = Duration::from_millis(10);

fn target() -> SocketAddr {
    (SERVER_ADDRESSES[0], 9000).into()
}

pub(super) fn homes(a: &str, b: &str, form: Form) -> Lab {
    Lab::builder().delay(LINE).home("a", a).form(form).home("b", b).form(form).start().unwrap()
}

/// A home's end of a TCP punch: a local port, and the address others see it with.
pub(super) struct End {
    pub(super) host: &'static str,
    pub(super) own: SocketAddr,
    pub(super) public: SocketAddr,
    /// Keeps the mapping.
    _rendezvous: [std::net::TcpStream; 2],
}

impl End {
    pub(super) fn new(lab: &Lab, host: &'static str) -> Self {
        let listener = lab.tcp_listener("server", target()).unwrap();
        let socket = lab.tcp_socket(host, (address(lab, host), 0)).unwrap();
        socket.connect(&target().into()).unwrap();
        let (outside, public) = listener.accept().unwrap();
        let own = socket.local_addr().unwrap().as_socket().unwrap();
        Self { host, own, public, _rendezvous: [socket.into(), outside] }
    }

    pub(super) fn connect(&self, lab: &Lab, to: SocketAddr) -> Socket {
        self.connect_with(lab, to, |_| {})
    }

    /// Connects from a socket that was prepared so.
    pub(super) fn connect_with(
        &self,
        lab: &Lab,
        to: SocketAddr,
        prepare: impl FnOnce(&Socket),
    ) -> Socket {
        let socket = lab.tcp_socket(self.host, self.own).unwrap();
        prepare(&socket);
        socket.set_nonblocking(true).unwrap();
        let outcome = socket.connect(&to.into()).unwrap_err();
        assert_eq!(outcome.raw_os_error(), Some(libc::EINPROGRESS));
        socket
    }
}

/// Whether the attempt succeeds; `None` if it hangs for so long.
pub(super) fn connected(socket: &Socket, limit: Duration) -> Option<bool> {
    let timeout = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    let ready = poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&timeout)).unwrap();
    (ready > 0).then(|| socket.take_error().unwrap().is_none())
}

#[test]
fn simultaneous_open_succeeds_through_nats_that_let_the_crossing_syn_in() {
    for form in [Form::Netfilter, Form::User] {
        for (a, b) in [
            ("linux-masq", "linux-masq"),
            ("port-restricted", "restricted"),
            ("masq,udp=block", "masq,in=reset"),
            ("masq,syn=strict", "linux-masq"),
        ] {
            let lab = homes(a, b, form);
            let (one, other) = (End::new(&lab, "a"), End::new(&lab, "b"));
            let start = Instant::now();
            let first = one.connect(&lab, other.public);
            let second = other.connect(&lab, one.public);
            for socket in [&first, &second] {
                assert_eq!(connected(socket, PATIENCE), Some(true), "{a} x {b} as {form:?}");
            }
            // A SYN there and a SYN-ACK back, over two lines each.
            assert!(start.elapsed() >= LINE * 4);
        }
    }
}

#[test]
fn two_nats_that_never_let_a_syn_in_defeat_simultaneous_open() {
    for form in [Form::Netfilter, Form::User] {
        let lab = homes("masq,syn=strict", "masq,syn=strict", form);
        let (one, other) = (End::new(&lab, "a"), End::new(&lab, "b"));
        let first = one.connect(&lab, other.public);
        let second = other.connect(&lab, one.public);
        // By then both SYNs have come and were dropped.
        fence(&lab);
        for socket in [&first, &second] {
            assert_eq!(connected(socket, Duration::ZERO), None, "{form:?}");
        }
    }
}

#[test]
fn a_listener_on_a_full_cone_is_reached_from_behind_a_random_symmetric_nat() {
    let lab = homes("full-cone", "linux-random", Form::Netfilter);
    let open = End::new(&lab, "a");
    let listener = lab.tcp_listener("a", open.own).unwrap();
    let socket = lab.tcp_socket("b", (address(&lab, "b"), 0)).unwrap();
    socket.connect(&open.public.into()).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), lab.host("b").unwrap().public);
}

/// A home's end of a UDP punch.
fn udp_end(lab: &Lab, host: &str) -> (UdpSocket, SocketAddr) {
    let socket = udp(lab, host, address(lab, host), 0);
    let public = carry(&socket, &server(lab, 9000), target());
    (socket, public)
}

/// Lets the packets of both ends cross, `a` being first by more than a packet's journey; whether
/// they reach each other after that.
fn late_punch(lab: &Lab, opener_ttl: Option<u32>) -> bool {
    let ((one, one_public), (other, other_public)) = (udp_end(lab, "a"), udp_end(lab, "b"));
    if let Some(ttl) = opener_ttl {
        for (socket, peer) in [(&one, other_public), (&other, one_public)] {
            socket.set_ttl(ttl).unwrap();
            socket.send_to(b"open", peer).unwrap();
            socket.set_ttl(64).unwrap();
        }
    }
    one.send_to(b"early", other_public).unwrap();
    fence(lab);
    other.send_to(b"late", one_public).unwrap();
    one.send_to(b"again", other_public).unwrap();
    fence(lab);
    let heard = |socket: &UdpSocket| {
        socket.set_nonblocking(true).unwrap();
        socket.recv_from(&mut [0; 16]).is_ok()
    };
    heard(&one) && heard(&other)
}

/// Whatever was sent before has arrived or never will: lines keep their order, and what is sent here
/// travels behind it on each of them.
pub(super) fn fence(lab: &Lab) {
    let outside = server(lab, 9000);
    for host in ["a", "b", "a", "b"] {
        let inside = udp(lab, host, address(lab, host), 0);
        let seen = carry(&inside, &outside, target());
        carry(&outside, &inside, seen);
    }
}

#[test]
fn a_nat_without_a_firewall_is_haunted_by_packets_that_come_too_early() {
    for form in [Form::Netfilter, Form::User] {
        assert!(late_punch(&homes("linux-masq", "linux-masq", form), None), "{form:?}");
        let open = || homes("masq,in=open", "masq,in=open", form);
        assert!(!late_punch(&open(), None), "{form:?}: the ghost holds the port");
        assert!(
            late_punch(&open(), Some(3)),
            "{form:?}: an opener that dies on the way prevents it"
        );
    }
}
