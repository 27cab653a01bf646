//! A broker on loopback, and nodes that use it.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread::JoinHandle;

use futures::channel::oneshot;
use futures::{AsyncReadExt, AsyncWriteExt};
use ntcp::{Config, Connection};
use ntcp_broker::{Broker, Options};
use ntcp_proto::rendezvous::Counters;
use ntcp_proto::rendezvous::{Access, Config as Limits, InTheClear};
use ntcp_proto::secrecy::SecretKey;

/// A broker that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Counters>>,
}

impl Running {
    /// On any port that is free over UDP and TCP, so that its address serves as a STUN server's too.
    pub(crate) fn start() -> Self {
        Self::start_for(None)
    }

    /// One that lets in these alone, if any are given.
    pub(crate) fn start_for(access: Option<Access>) -> Self {
        loop {
            let port = UdpSocket::bind("127.0.0.1:0").and_then(|it| it.local_addr());
            let port = port.expect("loopback has free ports").port();
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Self::start_on(port, port, access);
            }
        }
    }

    /// On these ports of 127.0.0.1.
    pub(crate) fn start_on(udp: u16, tcp: u16, access: Option<Access>) -> Self {
        let options = Options {
            udp: vec![SocketAddr::from(([127, 0, 0, 1], udp))],
            tcp: vec![SocketAddr::from(([127, 0, 0, 1], tcp))],
            // Nodes speak sealed unless a test wants to see what is seen otherwise.
            // One key for all: a broker that is started again is the same one.
            limits: Limits {
                keys: vec![SecretKey::from_bytes([0xB0; 32])],
                in_the_clear: InTheClear::Allowed,
                access,
                ..Limits::default()
            },
            ..Options::default()
        };
        let broker = Broker::bind(&options).expect("loopback has free ports");
        let (udp, tcp) = (broker.udp_addresses()[0], broker.tcp_addresses()[0]);
        let (stop, stopped) = oneshot::channel();
        let serve = async move {
            broker
                .run(async {
                    let _ = stopped.await;
                })
                .await
        };
        let thread = std::thread::spawn(move || async_io::block_on(serve));
        Self { udp, tcp, stop: Some(stop), thread: Some(thread) }
    }

    /// The configuration of a peer at this broker.
    pub(crate) fn config(&self) -> Config {
        let text = format!(
            "[hole_punch]\nbroker = \"{}\"\n[tcp]\nbroker = \"{}\"\n[stun]\nservers = [\"{}\"]\n",
            self.udp, self.tcp, self.udp
        );
        Config::from_toml(&text).expect("the configuration is right")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the broker does not panic");
        }
    }
}

/// Sends `ours`, ends our direction, and returns everything the peer sent.
pub(crate) async fn exchange(connection: &mut Connection, ours: &[u8]) -> Vec<u8> {
    connection.write_all(ours).await.expect("the path carries bytes");
    connection.close().await.expect("our direction ends");
    let mut theirs = Vec::new();
    connection.read_to_end(&mut theirs).await.expect("the peer's direction ends");
    theirs
}
