//! How exact and how fast the lab's lines are: errors of the delay, and TCP through plain, delayed
//! and translated paths. `cargo bench -p ntcp-lab --bench lines`

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use ntcp_lab::kernel::{Form, Lab, Result, SERVER_ADDRESSES};

/// Bytes in each direction.
const SIZE: usize = 100_000_000;
/// Packets for the error of the delay.
const PACKETS: usize = 200;

fn main() -> Result<()> {
    println!("one-way delay over two lines, error in ms");
    for delay in [5, 10, 25, 50] {
        let delay = Duration::from_millis(delay);
        let mut errors = delay_errors(delay)?;
        errors.sort_by(f64::total_cmp);
        let at = |share: usize| errors[errors.len() * share / 100];
        let (p50, p95, p99) = (at(50), at(95), at(99));
        println!("  {:>5} ms   p50 {p50:.3}   p95 {p95:.3}   p99 {p99:.3}", delay.as_millis() * 2);
    }
    println!("TCP, 100 MB both ways at once, Mbit/s each way");
    for (name, site, form, delay) in [
        ("netfilter", "linux-masq", Form::Netfilter, 0),
        ("netfilter, 10 ms lines", "linux-masq", Form::Netfilter, 10),
        ("endpoint-independent", "port-restricted", Form::Netfilter, 0),
        ("the lab's own NAT", "linux-masq", Form::User, 0),
        ("the lab's own NAT, 10 ms lines", "linux-masq", Form::User, 10),
    ] {
        let delay = Duration::from_millis(delay);
        let lab = Lab::builder().delay(delay).home("a", site).form(form).start()?;
        let rate = transfer(&lab)?;
        println!("  {name:<32} {rate:>7.0}   frames lost by the lab itself: {}", lab.overruns()?);
    }
    Ok(())
}

fn delay_errors(delay: Duration) -> Result<Vec<f64>> {
    let lab = Lab::builder().delay(delay).home("a", "public").start()?;
    let target: SocketAddr = (SERVER_ADDRESSES[0], 9000).into();
    let inside = lab.udp_socket("a", (lab.host("a")?.address, 0))?;
    let outside = lab.udp_socket("server", target)?;
    let one = || {
        let start = Instant::now();
        inside.send_to(b"x", target).expect("send");
        outside.recv_from(&mut [0; 1]).expect("receive");
        (start.elapsed().as_secs_f64() - 2.0 * delay.as_secs_f64()) * 1000.0
    };
    Ok((0..PACKETS).map(|_| one()).collect())
}

fn transfer(lab: &Lab) -> Result<f64> {
    let target: SocketAddr = (SERVER_ADDRESSES[0], 9000).into();
    let listener = lab.tcp_listener("server", target)?;
    let socket = lab.tcp_socket("a", (lab.host("a")?.address, 0))?;
    socket.connect(&target.into()).expect("connect");
    let near = TcpStream::from(socket);
    let (far, _) = listener.accept().expect("accept");
    let start = Instant::now();
    thread::scope(|scope| {
        for end in [&near, &far] {
            scope.spawn(move || send(end));
            scope.spawn(move || receive(end));
        }
    });
    Ok(SIZE as f64 * 8.0 / 1e6 / start.elapsed().as_secs_f64())
}

fn send(mut stream: &TcpStream) {
    let block = vec![7; 250_000];
    for _ in 0..SIZE / block.len() {
        stream.write_all(&block).expect("write");
    }
    stream.shutdown(Shutdown::Write).expect("shutdown");
}

fn receive(mut stream: &TcpStream) {
    let mut block = vec![0; 250_000];
    let mut left = SIZE;
    while left > 0 {
        left -= stream.read(&mut block).expect("read");
    }
}
