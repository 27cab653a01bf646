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

/// A connection that is answered by an echo, over each transport in turn; over TCP it is bare.
async fn echoed(transport: &str) -> (Running, Connection) {
    let broker = Running::start();
    let mut config = broker.config();
    config.security.plain_paths = true;
    let bob = Node::builder().config(config.clone()).name("bob").start().await.unwrap();
    let alice = Node::builder().config(config).start().await.unwrap();
    let mut incoming = bob.incoming();
    let uri = format!("ntcp://bob?transport={transport}");
    let (called, caller) =
        futures::join!(incoming.next().map(Option::unwrap), alice.connect_by_uri(&uri));
    std::thread::spawn(move || {
        let (mut reader, mut writer) = futures::AsyncReadExt::split(called);
        async_io::block_on(async move {
            futures::io::copy(&mut reader, &mut writer).await.unwrap();
            futures::AsyncWriteExt::close(&mut writer).await.unwrap();
        });
    });
    (broker, caller.unwrap())
}

#[test]
fn tokio_reads_and_writes_with_its_own_traits_and_takes_the_socket() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for transport in ["tcp", "udp"] {
            let (_broker, mut connection) = echoed(transport).await;
            connection.write_all(b"over tokio").await.unwrap();
            connection.shutdown().await.unwrap();
            let mut back = Vec::new();
            connection.read_to_end(&mut back).await.unwrap();
            assert_eq!(back, b"over tokio", "{transport}");
            let taken = connection.into_tokio_tcp_stream();
            assert_eq!(taken.is_ok(), transport == "tcp", "{taken:?}");
        }
        let (_broker, connection) = echoed("tcp").await;
        let mut stream = connection.into_tokio_tcp_stream().unwrap();
        stream.write_all(b"bare").await.unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"bare");
    });
}

#[test]
fn async_std_takes_the_socket() {
    use async_std::io::prelude::{ReadExt, WriteExt};

    async_std::task::block_on(async {
        let (_broker, connection) = echoed("tcp").await;
        let mut stream = connection.into_async_std_tcp_stream().unwrap();
        stream.write_all(b"bare").await.unwrap();
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"bare");
    });
}
