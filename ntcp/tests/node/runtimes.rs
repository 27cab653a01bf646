//! The same program under async-std, smol and tokio: two nodes, a call over each transport, bytes
//! both ways, datagrams, and an orderly end.

use crate::common::{Running, exchange};
use futures::{FutureExt, StreamExt};
use ntcp::{Connection, Node, Transport};

/// What an application does, in the words of the library alone.
async fn two_nodes_meet() {
    let broker = Running::start();
    let bob = Node::builder().config(broker.config()).name("bob").start().await.unwrap();
    let alice = Node::builder().config(broker.config()).name("alice").start().await.unwrap();
    let mut incoming = bob.incoming();
    for (choice, transport) in [("tcp", Transport::Tcp), ("udp", Transport::Udp)] {
        let uri = format!("ntcp://bob?transport={choice}");
        let (called, caller) =
            futures::join!(incoming.next().map(Option::unwrap), alice.connect_by_uri(&uri));
        let caller = caller.unwrap();
        assert_eq!((caller.transport(), called.transport()), (transport, transport));
        assert_eq!(called.peer_name().map(ntcp::PeerName::as_str), Some("alice"));
        assert!(caller.report().elapsed_ms <= caller.report().secured_ms);
        if transport == Transport::Udp {
            datagrams_travel(&caller, &called).await;
        }
        streams_travel(caller, called).await;
    }
    alice.stop().await;
    bob.stop().await;
    assert!(incoming.next().await.is_none(), "a stopped node has no more callers");
}

async fn datagrams_travel(one: &Connection, other: &Connection) {
    one.send_datagram(b"ping").unwrap();
    assert_eq!(other.receive_datagram().await.unwrap(), b"ping");
    other.send_datagram(b"pong").unwrap();
    assert_eq!(one.receive_datagram().await.unwrap(), b"pong");
}

async fn streams_travel(mut one: Connection, mut other: Connection) {
    let (long, short) = (vec![7; 1 << 20], b"short".to_vec());
    let (at_one, at_other) =
        futures::join!(exchange(&mut one, &long), exchange(&mut other, &short));
    assert_eq!(at_one, short);
    assert!(at_other == long, "a megabyte arrives as it was sent");
}

#[test]
fn it_runs_under_async_std() {
    async_std::task::block_on(async_std::task::spawn(two_nodes_meet()));
}

#[test]
fn it_runs_under_smol() {
    smol::block_on(smol::spawn(two_nodes_meet()));
}

#[test]
fn it_runs_under_tokio() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { tokio::spawn(two_nodes_meet()).await.unwrap() });
}

#[test]
fn it_runs_without_any_runtime() {
    async_io::block_on(two_nodes_meet());
}
