//! Two ends on this machine, and a wire between them that reorders. Tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use async_io::{Timer, block_on};
use futures::channel::oneshot;
use futures::future::{Either, join, select};
use futures::{AsyncReadExt, AsyncWriteExt};
use ntcp_proto::signal::Role;

use super::*;
use crate::identity::Identity;
use crate::quic::{self, EarlyDatagrams};

/// Bytes of the stream that is sent, and how long packets are that carry them, and only those.
const STREAM_BYTES: usize = 800;
const PACKETS: std::ops::RangeInclusive<usize> = 700..=1000;
/// Far more than any of it takes.
const LIMIT: Duration = Duration::from_secs(20);

fn bound() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    socket
}

/// Carries datagrams between two sockets. The caller's first packet that carries stream data arrives late: after it
/// was sent again. What is sent again is lost.
struct Wire {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Also the sockets of the caller and the callee, and what tells that the packet is being held.
    fn new() -> (Self, [UdpSocket; 2], oneshot::Receiver<()>) {
        let [caller, callee, near, far] = [bound(), bound(), bound(), bound()];
        caller.connect(near.local_addr().unwrap()).unwrap();
        callee.connect(far.local_addr().unwrap()).unwrap();
        near.connect(caller.local_addr().unwrap()).unwrap();
        far.connect(callee.local_addr().unwrap()).unwrap();
        let (tell, told) = oneshot::channel();
        let (mut tell, mut held) = (Some(tell), None::<Vec<u8>>);
        let copies = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let ends = Arc::new(AtomicBool::new(false));
        let there = carry(near, ends.clone(), move |packet| {
            if !PACKETS.contains(&packet.len()) {
                let _ = far.send(packet);
            } else if let Some(tell) = tell.take() {
                held = Some(packet.to_vec());
                let _ = tell.send(());
            } else if let Some(first) = held.take() {
                let _ = far.send(&first);
            }
        });
        let (near, far) = copies;
        let back = carry(far, ends.clone(), move |packet| {
            let _ = near.send(packet);
        });
        (Self { ends, threads: vec![there, back] }, [caller, callee], told)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn carry(
    from: UdpSocket,
    ends: Arc<AtomicBool>,
    mut to: impl FnMut(&[u8]) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while !ends.load(Ordering::Acquire) {
            // Nothing for a while, or an end that has gone.
            let Ok(length) = from.recv(&mut buffer) else { continue };
            to(&buffer[..length]);
        }
    })
}

async fn end(socket: UdpSocket, role: Role, own: &Identity, peer: &Identity) -> Connection {
    let (copy, remote) = (socket.try_clone().unwrap(), socket.peer_addr().unwrap());
    socket.set_nonblocking(true).unwrap();
    let rtt = Some(Duration::from_millis(5));
    let early = EarlyDatagrams::new(remote);
    let secured = quic::secure(socket, remote, role, own, peer.fingerprint, rtt, early).await;
    let report = Report::failed(String::new(), Vec::new());
    Connection::udp(secured.expect("QUIC"), copy, None, report)
}

/// What is to be done within the limit.
fn run<T>(work: impl Future<Output = T>) -> T {
    match block_on(select(Box::pin(work), Timer::after(LIMIT))) {
        Either::Left((done, _)) => done,
        Either::Right(_) => panic!("it hangs"),
    }
}

#[test]
fn who_has_read_everything_and_gone_leaves_no_error_behind() {
    let (wire, [one, other], held) = Wire::new();
    let (caller, callee) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let calling = end(one, Role::Controlling, &caller, &callee);
    let called = end(other, Role::Controlled, &callee, &caller);
    let (mut calling, mut called) = run(join(calling, called));
    let sending = async {
        calling.write_all(&[7; STREAM_BYTES]).await.unwrap();
        held.await.unwrap();
        // Their acknowledgements show that what went before them is late, so that it counts as lost.
        for _ in 0..4 {
            calling.send_datagram(&[0; 100]).unwrap();
        }
        calling.close().await
    };
    let reading = async move {
        let mut read = Vec::new();
        called.read_to_end(&mut read).await.unwrap();
        drop(called);
        read.len()
    };
    let (closed, read) = run(join(sending, reading));
    assert_eq!(read, STREAM_BYTES);
    closed.expect("everything has arrived");
    drop(wire);
}
