//! What access lines do to packets.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ntcp_lab::kernel::{Access, Lab, SERVER_ADDRESSES};

use super::{address, carry, server, udp};

fn target() -> SocketAddr {
    (SERVER_ADDRESSES[0], 9000).into()
}

/// Packets that fit into a socket's buffer, wherever this runs.
const COUNT: u32 = 200;

/// A lab whose host `a` is public, and what it takes to send from there to the server.
struct Line {
    lab: Lab,
    inside: UdpSocket,
    outside: UdpSocket,
}

impl Line {
    fn new(seed: u64) -> Self {
        // Nearly plain, so that it can be changed once all addresses are resolved.
        let access = Access { delay: Duration::from_micros(1), ..Access::default() };
        let lab = Lab::builder().seed(seed).home("a", "public").access(access).start().unwrap();
        let (inside, outside) = (udp(&lab, "a", address(&lab, "a"), 0), server(&lab, 9000));
        carry(&inside, &outside, target());
        Self { lab, inside, outside }
    }

    /// Which of the numbered packets arrive on such a line, in the order of their arrival.
    fn arrivals(&self, access: Access, count: u32) -> Vec<u32> {
        self.lab.set_access("a", access).unwrap();
        for number in 0..count {
            self.inside.send_to(&number.to_be_bytes(), target()).unwrap();
        }
        self.outside.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut seen = Vec::new();
        let mut bytes = [0; 4];
        loop {
            match self.outside.recv_from(&mut bytes) {
                Ok(_) => match u32::from_be_bytes(bytes) {
                    u32::MAX => return seen,
                    number => seen.push(number),
                },
                // The last word may be lost, too; so it is repeated until it is heard.
                Err(_) => drop(self.inside.send_to(&u32::MAX.to_be_bytes(), target()).unwrap()),
            }
        }
    }
}

#[test]
fn a_packet_is_never_early_and_can_be_less_than_a_millisecond_late() {
    let lab = Lab::builder().delay(Duration::from_millis(10)).home("a", "public").start().unwrap();
    let (inside, outside) = (udp(&lab, "a", address(&lab, "a"), 0), server(&lab, 9000));
    let both_lines = Duration::from_millis(20);
    let mut least = Duration::MAX;
    // A busy machine may be late many times; a wrong router is late always.
    for _ in 0..500 {
        let start = Instant::now();
        carry(&inside, &outside, target());
        let taken = start.elapsed();
        assert!(taken >= both_lines, "{taken:?}");
        least = least.min(taken);
        if least < both_lines + Duration::from_millis(1) {
            return;
        }
    }
    panic!("at best {least:?}");
}

#[test]
fn loss_comes_from_the_seed_at_its_rate() {
    let lossy = Access { loss: 0.3, ..Access::default() };
    let first = Line::new(7).arrivals(lossy, COUNT);
    assert!((110..170).contains(&first.len()), "{} of {COUNT} arrived", first.len());
    assert_eq!(first, Line::new(7).arrivals(lossy, COUNT));
    assert_ne!(first, Line::new(8).arrivals(lossy, COUNT));
}

#[test]
fn jitter_keeps_the_order_of_packets() {
    let jittery = Access { jitter: Duration::from_millis(3), ..Access::default() };
    assert_eq!(Line::new(1).arrivals(jittery, COUNT), (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn reordering_and_duplication_do_what_they_say() {
    let line = Line::new(1);
    let order = line.arrivals(Access { reorder: 0.1, ..Access::default() }, COUNT);
    assert!(!order.is_sorted());
    let sorted: BTreeSet<u32> = order.into_iter().collect();
    assert!(sorted.into_iter().eq(0..COUNT));
    let twice = Line::new(1).arrivals(Access { duplicate: 1.0, ..Access::default() }, 50);
    assert_eq!(twice, (0..50).flat_map(|number| [number; 2]).collect::<Vec<_>>());
}

#[test]
fn a_line_can_be_cut_and_mended_while_it_is_used() {
    let line = Line::new(1);
    assert_eq!(
        line.arrivals(Access { delay: Duration::from_millis(1), ..Access::default() }, 3),
        [0, 1, 2]
    );
    line.lab.set_access("a", Access { loss: 1.0, ..Access::default() }).unwrap();
    line.inside.send_to(b"lost", target()).unwrap();
    assert!(line.outside.recv_from(&mut [0; 4]).is_err(), "a cut line carries nothing");
    assert_eq!(line.arrivals(Access::default(), 3), [0, 1, 2]);
    let error = line.lab.set_access("server", Access::default()).unwrap_err();
    assert!(error.to_string().contains("plain forwarding"), "{error}");
}

#[test]
fn a_delayed_line_carries_large_transfers_unharmed() {
    use std::io::{Read as _, Write as _};
    use std::thread;

    const SIZE: usize = 20 << 20;
    let delayed = Access { delay: Duration::from_millis(2), ..Access::default() };
    let lab = Lab::builder().home("a", "linux-masq").access(delayed).start().unwrap();
    let listener = lab.tcp_listener("server", target()).unwrap();
    let socket = lab.tcp_socket("a", (address(&lab, "a"), 0)).unwrap();
    socket.connect(&target().into()).unwrap();
    let (near, far): (std::net::TcpStream, _) = (socket.into(), listener.accept().unwrap().0);
    let pattern = |at: usize| (at / 7 + at / 251) as u8;
    let send = move |mut stream: std::net::TcpStream| {
        let bytes: Vec<u8> = (0..SIZE).map(pattern).collect();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    };
    let receive = move |mut stream: std::net::TcpStream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), SIZE);
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
    };
    thread::scope(|scope| {
        for end in [&near, &far] {
            let (writing, reading) = (end.try_clone().unwrap(), end.try_clone().unwrap());
            scope.spawn(move || send(writing));
            scope.spawn(move || receive(reading));
        }
    });
}
