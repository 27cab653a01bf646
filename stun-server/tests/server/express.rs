//! Plain requests answered in the network driver, between two namespaces. That takes root itself, not root of a user namespace.

use crate::support::{PATIENCE, options, request};
use futures::channel::oneshot;
use ntcp_raw::xdp::{Responder, Terms};
use ntcp_stun_server::{BudgetLimits, Counters, Options, Server};
use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

const SERVER: &str = "198.51.100.1";
const CLIENT: &str = "198.51.100.2";

/// Two namespaces with a link between them, gone when dropped.
struct Link {
    names: [String; 2],
}

impl Link {
    /// `None` where they cannot be made.
    fn new(test: &str) -> Option<Self> {
        let names = ["s", "c"].map(|end| format!("ntcp-{test}-{}{end}", std::process::id()));
        let link = Self { names };
        let [server, client] = &link.names;
        let commands = [
            format!("netns add {server}"),
            format!("netns add {client}"),
            format!("link add vs netns {server} type veth peer name vc netns {client}"),
            format!("-n {server} address add {SERVER}/24 dev vs"),
            format!("-n {client} address add {CLIENT}/24 dev vc"),
            format!("-n {server} link set vs up"),
            format!("-n {client} link set vc up"),
        ];
        let run = |it: &String| Command::new("ip").args(it.split(' ')).output();
        let are_made = commands.iter().all(|it| run(it).is_ok_and(|it| it.status.success()));
        are_made.then_some(link)
    }

    /// Runs something in the namespace of one end, in a thread of its own.
    fn enter<T: Send>(&self, end: usize, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.names[end])).expect("a namespace");
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                rustix::thread::move_into_link_name_space(file.as_fd(), kind).expect("entered");
                work()
            });
            inside.join().expect("it went well")
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", name]).output();
        }
    }
}

/// Runs `play` with a client's sockets, the server having these options; what the server counted, or `None` where that
/// is not possible.
fn between(
    test: &str,
    changes: Options,
    play: impl FnOnce(&dyn Fn() -> UdpSocket) + Send,
) -> Option<Counters> {
    let Some(link) = Link::new(test) else {
        // Not by a macro, whose output is hidden as long as tests pass.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED express::{test}: `ip netns` does not work here");
        return None;
    };
    // A veth sends back only what its other end can take in the driver too.
    let nobody = Terms {
        address: "192.0.2.1:9".parse().expect("an address"),
        budget: None,
        neighbours: None,
        key: 0,
    };
    let other_end = link.enter(1, || Responder::attach("vc", &nobody));
    if let Err(error) = other_end {
        let _ = writeln!(std::io::stderr(), "SKIPPED express::{test}: no XDP here: {error}");
        return None;
    }
    let listen = format!("{SERVER}:3478");
    let with_xdp = Options { xdp: vec!["vs".to_owned()], listen: vec![at(&listen)], ..changes };
    let server = link.enter(0, || Server::bind(&with_xdp).expect("the server binds"));
    let (stop, stopped) = oneshot::channel();
    let run = move || async_io::block_on(server.run(async { stopped.await.unwrap_or_default() }));
    let thread = std::thread::spawn(run);
    link.enter(1, || {
        let socket = || {
            let socket = UdpSocket::bind((CLIENT, 0)).expect("a free port");
            socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            socket.connect(at(&listen)).expect("a route");
            socket
        };
        play(&socket);
    });
    stop.send(()).expect("it runs");
    let counters = thread.join().expect("it ran");
    // Nobody is there any more, in the driver either.
    link.enter(1, || {
        let socket = UdpSocket::bind((CLIENT, 0)).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        socket.connect(at(&listen)).expect("a route");
        let _ = socket.send(&request(1, None));
        assert!(socket.recv(&mut [0; 64]).is_err(), "it goes on answering");
    });
    drop(other_end);
    Some(counters)
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

/// The answer to a datagram.
fn ask(socket: &UdpSocket, datagram: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 2048];
    socket.send(datagram).expect("sent");
    let length = socket.recv(&mut buffer).expect("an answer");
    buffer[..length].to_vec()
}

#[test]
fn the_driver_answers_what_the_sockets_would_byte_for_byte() {
    let counters = between("bytes", options(&[], &[]), |client| {
        for id in 0..50 {
            let socket = client();
            let port = socket.local_addr().expect("bound").port();
            let plain = ask(&socket, &request(id, None));
            // An optional attribute has the sockets answer, which is the only difference.
            let mut longer = request(id, None);
            longer[3] = 8;
            longer.extend([0x80, 0x29, 0, 4, 1, 2, 3, 4]);
            assert_eq!(plain, ask(&socket, &longer), "from port {port}");
        }
        // What is not plain is not answered there, or not at all.
        let socket = client();
        let mut classic = request(1, None);
        classic[4..8].copy_from_slice(b"3489");
        assert_eq!(ask(&socket, &classic).len(), 44);
        for wrong in [&request(1, None)[..19], &[&request(1, None)[..], &[0; 4]].concat()] {
            socket.send(wrong).expect("sent");
        }
        assert_eq!(ask(&socket, &request(9, None))[8..20], [9; 12], "the next one is answered");
    });
    let Some(counters) = counters else { return };
    assert_eq!((counters.in_driver, counters.successes, counters.malformed), (51, 102, 2));
}

#[test]
fn what_is_beyond_the_budget_is_left_to_the_sockets() {
    let mut limits = BudgetLimits::of_network(1);
    (limits.network.burst, limits.neighbours.burst) = (10, 30);
    let strict = Options { budget: Some(limits), ..options(&[], &[]) };
    let counters = between("budget", strict, |client| {
        let socket = client();
        for id in 0..100 {
            ask(&socket, &request(id, None));
        }
    });
    let Some(counters) = counters else { return };
    // A neighbour has thirty; then each second gives one.
    assert!((30..40).contains(&counters.in_driver), "{counters:?}");
    assert_eq!(
        (counters.udp, counters.successes),
        (100, 100),
        "the sockets have a budget of their own"
    );
}

#[test]
fn where_it_cannot_be_the_sockets_answer() {
    let nowhere =
        Options { xdp: vec!["no-such-link".to_owned()], ..options(&["127.0.0.1:0"], &[]) };
    let server = crate::support::Running::start(&nowhere);
    let socket = crate::support::client("127.0.0.1");
    socket.connect(server.primary()).expect("a route");
    assert_eq!(ask(&socket, &request(1, None)).len(), 32);
    let counters = server.stop();
    assert_eq!((counters.in_driver, counters.successes), (0, 1));
}
