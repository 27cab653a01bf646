//! Simultaneous open alone, over loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ntcp::{ErrorKind, tcp_traversal};

/// Two ports of loopback that were free a moment ago.
fn two_ports() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

fn talk(mut one: TcpStream, mut other: TcpStream) {
    for stream in [&one, &other] {
        stream.set_nonblocking(false).unwrap();
    }
    one.write_all(b"there").unwrap();
    let mut heard = [0; 5];
    other.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"there");
}

#[test]
fn both_sides_open_one_connection_between_them() {
    for late in [0, 30].map(Duration::from_millis) {
        let [one, other] = two_ports();
        let (start, patience) = (Instant::now(), Duration::from_secs(10));
        let (near, far) = async_io::block_on(async {
            let (to_other, to_one) = ([other], [one]);
            let near = tcp_traversal::open(one, &to_other, start, patience);
            let far = tcp_traversal::open(other, &to_one, start + late, patience);
            futures::join!(near, far)
        });
        let (near, far) = (near.unwrap(), far.unwrap());
        assert_eq!(near.local_addr().unwrap(), far.peer_addr().unwrap());
        talk(near, far);
    }
}

#[test]
fn nobody_there_is_told_with_what_was_tried() {
    let [one, other] = two_ports();
    let error = async_io::block_on(async {
        tcp_traversal::open(one, &[other], Instant::now(), Duration::from_millis(300)).await
    })
    .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoPath { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&other.to_string()) && text.contains("times refused"), "{text}");
    TcpListener::bind(one).expect("the port is free again");
}

#[test]
fn a_port_that_another_program_has_is_named() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = held.local_addr().unwrap();
    let error = async_io::block_on(async {
        tcp_traversal::open(local, &[], Instant::now(), Duration::from_secs(1)).await
    })
    .unwrap_err();
    assert!(error.to_string().contains(&format!("cannot listen on {local}")), "{error}");
}
