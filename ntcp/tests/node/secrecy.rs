//! Who can read along, and who is on the other end.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use ntcp::report::Encryption;
use ntcp::{Config, Connection, ErrorKind, Node, PeerUri, Transport};
use ntcp_proto::access::{KeyId, NamePattern, Token, TokenClaims, TokenKey, long_term_key};
use ntcp_proto::rendezvous::{Access, Account};
use ntcp_proto::signal::client::RegistrationError;

use crate::common::{Running, exchange};

/// A node named bob that is called by one without a name, with these configurations.
async fn meet(
    (callee, caller): (Config, Config),
    uri: &str,
) -> Result<(Connection, Connection), ntcp::Error> {
    let bob = Node::builder().config(callee).name("bob").start().await?;
    let alice = Node::builder().config(caller).start().await?;
    let mut incoming = bob.incoming();
    let uri: PeerUri = uri.replace("BOB", &bob.key().to_string()).parse()?;
    let calling = alice.connect(&uri);
    let (called, caller) = futures::future::join(incoming.next(), async {
        let connection = calling.await;
        if connection.is_err() {
            bob.stop().await;
        }
        connection
    })
    .await;
    caller.map(|caller| (called.expect("who calls is there"), caller))
}

fn bare(broker: &Running) -> Config {
    let mut config = broker.config();
    config.security.plain_paths = true;
    config
}

#[test]
fn every_path_is_encrypted_between_the_two_nodes_and_the_report_says_by_what() {
    async_io::block_on(async {
        let broker = Running::start();
        for (transport, expected) in [("tcp", Encryption::Noise), ("udp", Encryption::Quic)] {
            let uri = format!("ntcp://bob?transport={transport}&key=BOB");
            let (called, mut caller) =
                meet((broker.config(), broker.config()), &uri).await.unwrap();
            let secrecy = caller.report().secrecy.clone().unwrap();
            assert_eq!((secrecy.encryption, secrecy.peer_pinned), (expected, true));
            assert!(secrecy.broker_key.is_some() && !secrecy.broker_pinned);
            assert!(caller.is_encrypted() && called.is_encrypted());
            let mut called = called;
            let theirs = std::thread::spawn(move || {
                async_io::block_on(exchange(&mut called, b"from the callee"))
            });
            assert_eq!(exchange(&mut caller, b"from the caller").await, b"from the callee");
            assert_eq!(theirs.join().unwrap(), b"from the caller");
            assert!(caller.into_tcp_stream().is_err(), "the bare socket has to be asked for");
        }
    });
}

#[test]
fn a_tcp_path_is_bare_only_if_both_nodes_want_it_so() {
    async_io::block_on(async {
        let broker = Running::start();
        let uri = "ntcp://bob?transport=tcp";
        let cases = [
            (bare(&broker), bare(&broker), false),
            (bare(&broker), broker.config(), true),
            (broker.config(), bare(&broker), true),
        ];
        for (callee, caller, encrypted) in cases {
            let (called, caller) = meet((callee, caller), uri).await.unwrap();
            assert_eq!(called.transport(), Transport::Tcp);
            assert_eq!((called.is_encrypted(), caller.is_encrypted()), (encrypted, encrypted));
            assert_eq!(caller.into_tcp_stream().is_ok(), !encrypted);
        }
    });
}

#[test]
fn a_peer_with_another_key_than_the_pinned_one_is_not_connected_to() {
    async_io::block_on(async {
        let broker = Running::start();
        let uri = format!("ntcp://bob?key={}", "31e0".repeat(16));
        let error = meet((broker.config(), broker.config()), &uri).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::PeerKey { .. }), "{error}");
    });
}

#[test]
fn a_broker_with_another_key_than_the_pinned_one_is_not_registered_with() {
    async_io::block_on(async {
        let broker = Running::start();
        let mut config = broker.config();
        config.security.broker_keys = vec!["31e0".repeat(16)];
        let error = Node::builder().config(config).name("bob").start().await.unwrap_err();
        let ErrorKind::Registration(error) = error.kind() else { panic!("{error}") };
        assert!(matches!(error, RegistrationError::BrokerKey { .. }), "{error}");
    });
}

#[test]
fn a_node_with_a_key_file_is_the_same_one_in_its_next_life() {
    async_io::block_on(async {
        let broker = Running::start();
        let folder = std::env::temp_dir().join(format!("ntcp-node-key-{}", std::process::id()));
        let mut config = broker.config();
        config.security.key = Some(folder.join("node.key"));
        let mut keys = Vec::new();
        for _ in 0..2 {
            let node = Node::builder().config(config.clone()).name("bob").start().await.unwrap();
            keys.push(node.key());
            node.stop().await;
        }
        assert_eq!(keys[0], keys[1]);
        let other = Node::builder().config(broker.config()).name("bob").start().await.unwrap();
        assert_ne!(other.key(), keys[0]);
        std::fs::remove_dir_all(&folder).unwrap();
    });
}

/// Stands between one node and its broker, and keeps a copy of every datagram.
struct Recorder {
    address: SocketAddr,
    recorded: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    /// Ends with the process: it waits for datagrams of nodes that may be gone.
    fn before(broker: SocketAddr) -> Self {
        let inside = UdpSocket::bind("127.0.0.1:0").unwrap();
        let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
        outside.connect(broker).unwrap();
        let address = inside.local_addr().unwrap();
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let node = Arc::new(Mutex::new(None));
        for outwards in [true, false] {
            let (inside, outside) = (inside.try_clone().unwrap(), outside.try_clone().unwrap());
            let (recorded, node) = (recorded.clone(), node.clone());
            std::thread::spawn(move || {
                let mut buffer = [0; 2048];
                loop {
                    let length = if outwards {
                        let Ok((length, source)) = inside.recv_from(&mut buffer) else { return };
                        *node.lock().unwrap() = Some(source);
                        let _ = outside.send(&buffer[..length]);
                        length
                    } else {
                        let Ok(length) = outside.recv(&mut buffer) else { continue };
                        let node = *node.lock().unwrap();
                        let _ = node.map(|node| inside.send_to(&buffer[..length], node));
                        length
                    };
                    recorded.lock().unwrap().push(buffer[..length].to_vec());
                }
            });
        }
        Self { address, recorded }
    }

    fn shows(&self, secret: &[u8]) -> bool {
        let recorded = self.recorded.lock().unwrap();
        recorded.iter().any(|it| it.windows(secret.len()).any(|it| it == secret))
    }
}

#[test]
fn what_passes_between_nodes_and_their_broker_shows_no_name_and_no_key() {
    for plain in [true, false] {
        async_io::block_on(async {
            let broker = Running::start();
            let recorders = [broker.udp, broker.udp].map(Recorder::before);
            let config = |recorder: &Recorder| {
                let mut config = broker.config();
                let address = recorder.address;
                config.hole_punch.broker =
                    Some(ntcp_settings::Endpoint::parse(&address.to_string(), 1).unwrap());
                config.tcp.broker = None;
                config.security.plain = plain;
                config
            };
            let bob = Node::builder().config(config(&recorders[0])).name("bob-the-builder");
            let bob = bob.start().await.unwrap();
            let alice = Node::builder().config(config(&recorders[1])).name("alice-of-wonderland");
            let alice = alice.start().await.unwrap();
            let mut incoming = bob.incoming();
            let (called, caller) = futures::future::join(
                incoming.next(),
                alice.connect_by_uri("ntcp://bob-the-builder?transport=udp"),
            )
            .await;
            assert_eq!(called.unwrap().peer_name().unwrap().as_str(), "alice-of-wonderland");
            drop(caller.unwrap());
            for recorder in &recorders {
                for secret in ["alice-of-wonderland", "bob-the-builder"] {
                    assert_eq!(recorder.shows(secret.as_bytes()), plain, "{secret}");
                }
                for key in [alice.key(), bob.key()] {
                    assert!(!recorder.shows(&key.0));
                }
                assert!(recorder.recorded.lock().unwrap().len() > 5);
            }
        });
    }
}

#[test]
fn a_closed_broker_takes_nodes_with_a_token_or_an_account_and_tells_others_why_not() {
    let key = TokenKey::from_bytes([7; 32]);
    let id: KeyId = "2026a".parse().unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let token = |expires, names: &str| {
        let claims = TokenClaims::new(id.clone(), expires, names.parse().unwrap()).unwrap();
        Token::mint(&key, claims).to_string()
    };
    let account = Account { key: long_term_key("alice", "hush"), names: vec![NamePattern::EVERY] };
    let access = Access {
        accounts: [("alice".parse().unwrap(), account)].into(),
        token_keys: [(id.clone(), key.clone())].into(),
    };
    let broker = Running::start_for(Some(access));
    let builder = || Node::builder().config(broker.config());
    let hour = Duration::from_secs(3600);
    async_io::block_on(async {
        let bob = builder().name("bob-1").token(token(now + hour, "bob-*")).start().await.unwrap();
        let alice = builder().account("alice", "hush").start().await.unwrap();
        let mut incoming = bob.incoming();
        let (called, calling) =
            futures::join!(incoming.next(), alice.connect_by_uri("ntcp://bob-1"));
        assert!(called.is_some() && calling.is_ok());
        assert!(alice.renew_token("nonsense").is_err());
        assert!(alice.renew_token(&token(now + hour, "*")).is_ok());
        for (builder, why) in [
            (builder(), "was shown none"),
            (builder().account("alice", "wrong"), "does not know this account"),
            (builder().token(token(now - hour, "*")), "expired 360"),
            (builder().name("eve").token(token(now + hour, "bob")), "not good for this name"),
        ] {
            let error = builder.start().await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            let kind =
                matches!(error.kind(), ErrorKind::Registration(RegistrationError::Access { .. }));
            assert!(kind, "{error:?}");
        }
    });
}
