//! What goes wrong, and what is said about it.

use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use crate::common::{Running, exchange};
use futures::{FutureExt, StreamExt};
use ntcp::{Config, ErrorKind, Node};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    async_io::block_on(future)
}

#[test]
fn a_peer_that_is_not_registered_is_named() {
    let broker = Running::start();
    block_on(async {
        let alice = Node::builder().config(broker.config()).start().await.unwrap();
        let error = alice.connect_by_uri("ntcp://nobody").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Signalling(_)), "{error:?}");
        assert!(error.to_string().contains("`nobody`"), "{error}");
    });
}

#[test]
fn a_peer_that_registers_a_moment_later_is_reached() {
    let broker = Running::start();
    block_on(async {
        let alice = Node::builder().config(broker.config()).start().await.unwrap();
        let call = alice.connect_by_uri("ntcp://late");
        let late = async {
            async_io::Timer::after(Duration::from_millis(300)).await;
            let late = Node::builder().config(broker.config()).name("late").start().await.unwrap();
            late.incoming().next().await.unwrap()
        };
        let (called, caller) = futures::join!(call, late);
        called.unwrap();
        assert!(caller.report().elapsed_ms.is_some());
    });
}

#[test]
fn a_silent_broker_is_an_error_that_names_it() {
    // Bound, and never read.
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    let text = format!("[hole_punch]\nbroker = \"{udp_at}\"\n[tcp]\nbroker = \"{tcp_at}\"\n");
    block_on(async {
        let config = Config::from_toml(&text).unwrap();
        let error = Node::builder().config(config).start().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Registration(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&udp_at.to_string()) && text.contains(&tcp_at.to_string()), "{text}");
    });
}

#[test]
fn a_name_that_somebody_holds_is_refused_by_name() {
    let broker = Running::start();
    block_on(async {
        let first = Node::builder().config(broker.config()).name("bob").start().await.unwrap();
        let second = Node::builder().config(broker.config()).name("bob").start().await;
        assert!(second.unwrap_err().to_string().contains("`bob` is taken"));
        first.stop().await;
        Node::builder().config(broker.config()).name("bob").start().await.expect("free again");
    });
}

#[test]
fn a_port_in_use_is_named() {
    let broker = Running::start();
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    block_on(async {
        let mut config = broker.config();
        config.hole_punch.port = port;
        let error = Node::builder().config(config).start().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Port { port: named, .. } if *named == port));
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    });
}

#[test]
fn a_uri_that_does_not_parse_is_refused_before_anything_is_sent() {
    let broker = Running::start();
    block_on(async {
        let alice = Node::builder().config(broker.config()).start().await.unwrap();
        let error = alice.connect_by_uri("ntcp://bo b").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Uri(_)));
    });
}

#[test]
fn a_connect_ends_at_its_deadline_when_the_broker_goes_away() {
    let broker = Running::start();
    let deadline = Duration::from_secs(2);
    block_on(async {
        let mut config = broker.config();
        config.node.deadline = deadline;
        let alice = Node::builder().config(config).start().await.unwrap();
        drop(broker);
        let called = Instant::now();
        alice.connect_by_uri("ntcp://bob").await.unwrap_err();
        assert!(called.elapsed() < deadline + Duration::from_secs(1));
    });
}

#[test]
fn a_connection_does_not_notice_that_the_broker_restarts_and_the_peers_register_again() {
    let broker = Running::start();
    let (udp, tcp) = (broker.udp.port(), broker.tcp.port());
    block_on(async {
        let mut config = broker.config();
        config.node.keepalive = Duration::from_secs(1);
        let bob = Node::builder().config(config.clone()).name("bob").start().await.unwrap();
        let alice = Node::builder().config(config).start().await.unwrap();
        let mut incoming = bob.incoming();
        let (called, caller) =
            futures::join!(incoming.next().map(Option::unwrap), alice.connect_by_uri("ntcp://bob"));
        let (mut called, mut caller) = (called, caller.unwrap());
        drop(broker);
        let _again = Running::start_on(udp, tcp, None);
        let (one, other) =
            futures::join!(exchange(&mut caller, b"still"), exchange(&mut called, b"here"));
        assert_eq!((one.as_slice(), other.as_slice()), (&b"here"[..], &b"still"[..]));
        // Each notices with its next refresh; the call waits for that.
        let second = async {
            loop {
                if let Ok(connection) = alice.connect_by_uri("ntcp://bob").await {
                    return connection;
                }
            }
        };
        let limit = async_io::Timer::after(Duration::from_secs(20));
        futures::pin_mut!(second);
        match futures::future::select(second, limit).await {
            futures::future::Either::Left((connection, _)) => {
                assert!(connection.report().elapsed_ms.is_some());
            }
            futures::future::Either::Right(_) => panic!("the peers did not register again"),
        }
    });
}

#[test]
fn a_stopped_node_stops_again_refuses_calls_and_has_no_more_callers() {
    let broker = Running::start();
    block_on(async {
        let alice = Node::builder().config(broker.config()).start().await.unwrap();
        let first = alice.incoming();
        let ((), ()) = futures::join!(alice.stop(), alice.stop());
        alice.stop().await;
        let error = alice.connect_by_uri("ntcp://bob").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Stopped), "{error:?}");
        assert_eq!(first.count().await + alice.incoming().count().await, 0);
    });
}

#[test]
fn patience_without_end_is_no_overflow() {
    let broker = Running::start();
    block_on(async {
        let alice = Node::builder().config(broker.config()).start().await.unwrap();
        let uri = "ntcp://nobody".parse().unwrap();
        let error = alice.connect_within(&uri, Duration::MAX).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Signalling(_)), "{error:?}");
    });
}
