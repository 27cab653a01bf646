//! `TCP_REPAIR` on this kernel.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use ntcp_proto::command::{Agreed, Ends};
use ntcp_proto::segment::Options;
use ntcp_raw::filter::SynFilter;
use ntcp_raw::repair::{self, Departure};
use ntcp_raw::sniffer::packet_socket;
use socket2::{SockRef, Socket};

use super::namespace::inside;
use super::sniffers::{bound, seen};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn the_syn_carries_the_number_that_was_pinned() {
    if !inside("repairs::the_syn_carries_the_number_that_was_pinned") {
        return;
    }
    for ip in ["127.0.0.1", "::1"] {
        let ip: IpAddr = ip.parse().unwrap();
        for sequence in [1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            let listener = TcpListener::bind(SocketAddr::new(ip, 0)).unwrap();
            let remote = listener.local_addr().unwrap();
            let (socket, local) = bound(ip);
            let filter = SynFilter::new(Ends { local, remote }).unwrap();
            let mut sniffer = packet_socket(filter).unwrap();
            repair::pin_sequence(&socket, sequence).unwrap();
            assert!(socket.reuse_address().unwrap(), "others may still share its port");
            socket.connect(&remote.into()).unwrap();
            assert_eq!(seen(&mut sniffer).segment.sequence, sequence);
            exchange(socket, listener.accept().unwrap().0);
        }
    }
    let (socket, _) = bound([127, 0, 0, 1]);
    let error = repair::pin_sequence(&socket, 0).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

/// Both directions carry more than an unscaled window.
fn exchange(one: impl Into<TcpStream>, other: impl Into<TcpStream>) {
    const LENGTH: usize = 1 << 20;
    let (one, other): (TcpStream, TcpStream) = (one.into(), other.into());
    for (mut from, mut to) in [(&one, &other), (&other, &one)] {
        to.set_read_timeout(Some(PATIENCE)).unwrap();
        from.set_write_timeout(Some(PATIENCE)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || from.write_all(&vec![7; LENGTH]).unwrap());
            let mut bytes = vec![0; LENGTH];
            to.read_exact(&mut bytes).unwrap();
            assert!(bytes.iter().all(|&byte| byte == 7));
        });
    }
}

fn mirrored(agreed: Agreed) -> Agreed {
    Agreed {
        sequence: agreed.peer_sequence,
        peer_sequence: agreed.sequence,
        options: agreed.peer_options,
        peer_options: agreed.options,
    }
}

fn options(max_segment_size: u16, window_scale: Option<u8>) -> Options {
    Options {
        max_segment_size: Some(max_segment_size),
        window_scale,
        sack_permitted: true,
        timestamps: None,
    }
}

fn assumed(ip: IpAddr, agreed: Agreed, departure: Departure) -> [Socket; 2] {
    let ((one, one_end), (other, other_end)) = (bound(ip), bound(ip));
    // The packets of a silent departure come when both sockets are there; a probe may come before.
    repair::assume(&one, other_end, &agreed, Departure::Silent).unwrap();
    repair::assume(&other, one_end, &mirrored(agreed), departure).unwrap();
    [one, other]
}

#[test]
fn two_assumed_connections_are_one() {
    if !inside("repairs::two_assumed_connections_are_one") {
        return;
    }
    for ip in ["127.0.0.1", "::1"] {
        for (ours, theirs) in [(Some(7), Some(9)), (Some(7), None), (None, None)] {
            for departure in [Departure::Silent, Departure::Probe] {
                let agreed = Agreed {
                    sequence: u32::MAX,
                    peer_sequence: 0x8000_0000,
                    options: options(1400, ours),
                    peer_options: options(1200, theirs),
                };
                let [one, other] = assumed(ip.parse().unwrap(), agreed, departure);
                // The system has set 12 bytes aside for timestamps, which nobody agreed on.
                assert_eq!(SockRef::from(&one).tcp_mss().unwrap(), 1200 - 12);
                assert_eq!(SockRef::from(&other).tcp_mss().unwrap(), 1400 - 12);
                exchange(one, other);
            }
        }
    }
}

/// Bytes written that have not left yet (`SIOCOUTQNSD` of `linux/sockios.h`).
fn unsent(stream: &TcpStream) -> libc::c_int {
    const SIOCOUTQNSD: libc::c_ulong = 0x894b;
    let mut bytes: libc::c_int = -1;
    // SAFETY: the descriptor is open, and the request writes one integer.
    let status = unsafe { libc::ioctl(stream.as_raw_fd(), SIOCOUTQNSD, &raw mut bytes) };
    assert_eq!(status, 0);
    bytes
}

/// A window of the peer is assumed as well: otherwise the first segment waits for the answer to a
/// probe, which nobody has sent here.
#[test]
fn the_first_data_leaves_at_once() {
    if !inside("repairs::the_first_data_leaves_at_once") {
        return;
    }
    let agreed = Agreed {
        sequence: 5,
        peer_sequence: 6,
        options: options(1220, Some(7)),
        peer_options: options(1220, Some(7)),
    };
    let [one, other] = assumed([127, 0, 0, 1].into(), agreed, Departure::Silent);
    let (mut one, mut other): (TcpStream, TcpStream) = (one.into(), other.into());
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    one.write_all(b"first").unwrap();
    assert_eq!(unsent(&one), 0);
    let mut bytes = [0; 5];
    other.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"first");
}

#[test]
fn a_failed_attempt_leaves_an_ordinary_socket() {
    if !inside("repairs::a_failed_attempt_leaves_an_ordinary_socket") {
        return;
    }
    let agreed = Agreed {
        sequence: 5,
        peer_sequence: 6,
        options: Options::default(),
        peer_options: Options::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (socket, _) = bound([127, 0, 0, 1]);
    let unreachable = "192.0.2.1:9".parse().unwrap();
    assert!(repair::assume(&socket, unreachable, &agreed, Departure::Silent).is_err());
    drop(socket);
    let (socket, _) = bound([127, 0, 0, 1]);
    socket.connect(&listener.local_addr().unwrap().into()).unwrap();
    let error = repair::pin_sequence(&socket, 9).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "it is connected");
    exchange(socket, listener.accept().unwrap().0);
}
