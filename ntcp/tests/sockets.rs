//! Nothing is left open. A program of its own: it counts the sockets of the whole process.

#[path = "node/common.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Running, exchange};
use futures::{FutureExt, StreamExt};
use ntcp::Node;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    async_io::block_on(future)
}

/// One test, so that nothing else opens sockets meanwhile.
#[test]
fn no_socket_is_left_behind() {
    let broker = Running::start();
    block_on(async {
        let alice = Node::builder().config(broker.config()).start().await.unwrap();
        let bob = Node::builder().config(broker.config()).name("bob").start().await.unwrap();
        let mut incoming = bob.incoming();
        // What the nodes ask in the background has been answered, and its sockets are closed.
        let before = settled_sockets().await;
        calls_that_are_dropped(&alice).await;
        back_to(before).await;
        for transport in ["tcp", "udp"].into_iter().cycle().take(10) {
            let uri = format!("ntcp://bob?transport={transport}");
            let (called, caller) =
                futures::join!(incoming.next().map(Option::unwrap), alice.connect_by_uri(&uri));
            let (mut called, mut caller) = (called, caller.unwrap());
            futures::join!(exchange(&mut caller, b"1"), exchange(&mut called, b"2"));
        }
        back_to(before).await;
    });
}

async fn calls_that_are_dropped(alice: &Node) {
    for _ in 0..8 {
        let call = alice.connect_by_uri("ntcp://nobody");
        let given_up = async_io::Timer::after(Duration::from_millis(20));
        futures::pin_mut!(call);
        drop(futures::future::select(call, given_up).await);
    }
}

/// How many sockets there are once the number has not changed for a while.
async fn settled_sockets() -> usize {
    let (mut count, mut since) = (sockets(), Instant::now());
    while since.elapsed() < Duration::from_secs(2) {
        async_io::Timer::after(Duration::from_millis(50)).await;
        if sockets() != count {
            (count, since) = (sockets(), Instant::now());
        }
    }
    count
}

async fn back_to(before: usize) {
    let patience = Instant::now() + Duration::from_secs(20);
    while sockets() > before && Instant::now() < patience {
        async_io::Timer::after(Duration::from_millis(50)).await;
    }
    let after = sockets();
    assert!(after <= before, "{before} sockets before, {after} after");
}
/// How many sockets this process has open.
fn sockets() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("Linux tells");
    let targets = descriptors.filter_map(|it| std::fs::read_link(it.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}
