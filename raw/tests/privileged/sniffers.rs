//! The same behaviour of every backend.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use async_io::{Timer, block_on};
use ntcp_proto::command::Ends;
use ntcp_proto::segment::flag;
use ntcp_raw::filter::SynFilter;
use ntcp_raw::hops::{self, Family};
use ntcp_raw::sniffer::{self, Captured, Sniffer};
use socket2::{Domain, Socket, Type};

use super::namespace::inside;

type Backend = fn(SynFilter) -> io::Result<Box<dyn Sniffer>>;

const BACKENDS: &[(&str, Backend)] = &[
    ("packet socket", |filter| Ok(Box::new(sniffer::packet_socket(filter)?))),
    #[cfg(feature = "pcap")]
    ("pcap", |filter| Ok(Box::new(sniffer::pcap(filter)?))),
];

const ADDRESSES: [&str; 2] = ["127.0.0.1", "::1"];
/// Nothing takes this long on a loopback interface.
const PATIENCE: Duration = Duration::from_secs(10);

/// A TCP socket bound to a free port.
pub(crate) fn bound(address: impl Into<IpAddr>) -> (Socket, SocketAddr) {
    let socket = sharing(SocketAddr::new(address.into(), 0));
    let local = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, local)
}

/// A TCP socket that shares its port.
fn sharing(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

/// What it sees within `PATIENCE`.
pub(crate) fn seen(sniffer: &mut dyn Sniffer) -> Captured {
    let patience = async {
        Timer::after(PATIENCE).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    block_on(futures::future::select(Box::pin(sniffer.syn()), Box::pin(patience)))
        .factor_first()
        .0
        .unwrap()
}

#[test]
fn the_first_syn_between_two_ends_is_seen_and_nothing_else() {
    if !inside("sniffers::the_first_syn_between_two_ends_is_seen_and_nothing_else") {
        return;
    }
    for (name, open) in BACKENDS {
        for address in ADDRESSES {
            let ip: IpAddr = address.parse().unwrap();
            let [listener, other] =
                [0, 1].map(|_| TcpListener::bind(SocketAddr::new(ip, 0)).unwrap());
            let (socket, local) = bound(ip);
            let remote = listener.local_addr().unwrap();
            let filter = SynFilter::new(Ends { local, remote }).unwrap();
            let mut sniffer = open(filter).unwrap();

            // Not between these ends: another local port, another remote port.
            let (stranger, _) = bound(ip);
            stranger.connect(&remote.into()).unwrap();
            sharing(local).connect(&other.local_addr().unwrap().into()).unwrap();
            let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
            hops::set_ttl(&socket, family, Some(77)).unwrap();
            ntcp_raw::saved_syn::keep(&listener).unwrap();
            socket.connect(&remote.into()).unwrap();

            let Captured { segment, ttl } = seen(&mut *sniffer);
            assert_eq!((segment.source, segment.destination), (local, remote), "{name}");
            assert_eq!(segment.flags & (flag::SYN | flag::ACK), flag::SYN);
            assert_eq!(ttl, 77, "{name} {address}");
            assert!(segment.options.max_segment_size.is_some());
            // The listener saw the same number.
            let arrived = std::iter::repeat_with(|| listener.accept().unwrap())
                .take(2)
                .find(|(_, from)| *from == local)
                .and_then(|(stream, _)| ntcp_raw::saved_syn::take(&stream).unwrap())
                .and_then(|packet| ntcp_proto::segment::Segment::parse(&packet))
                .unwrap();
            assert_eq!(arrived, (segment, 77), "{name}");
        }
    }
}

#[test]
fn a_local_port_towards_a_host_is_enough() {
    if !inside("sniffers::a_local_port_towards_a_host_is_enough") {
        return;
    }
    for (name, open) in BACKENDS {
        for address in ADDRESSES {
            let ip: IpAddr = address.parse().unwrap();
            let listener = TcpListener::bind(SocketAddr::new(ip, 0)).unwrap();
            let (socket, local) = bound(ip);
            let any: IpAddr = if ip.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let ends =
                Ends { local: SocketAddr::new(any, local.port()), remote: SocketAddr::new(ip, 0) };
            let mut sniffer = open(SynFilter::new(ends).unwrap()).unwrap();
            socket.connect(&listener.local_addr().unwrap().into()).unwrap();
            assert_eq!(seen(&mut *sniffer).segment.source, local, "{name} {address}");
        }
    }
}

#[test]
fn a_fake_shows_what_it_is_given() {
    let (local, remote) = ("192.0.2.1:4".parse().unwrap(), "198.51.100.2:5".parse().unwrap());
    let filter = SynFilter::new(Ends { local, remote }).unwrap();
    let (fake, mut sniffer) = sniffer::fake(filter).unwrap();
    let syn = ntcp_proto::segment::Segment {
        source: local,
        destination: remote,
        flags: flag::SYN,
        sequence: 7,
        acknowledgment: 0,
        window: 9,
        options: ntcp_proto::segment::Options::default(),
    };
    let answer = ntcp_proto::segment::Segment { flags: flag::SYN | flag::ACK, ..syn };
    fake.show(&answer, 64).unwrap();
    fake.show(&syn, 3).unwrap();
    assert_eq!(seen(&mut sniffer), Captured { segment: syn, ttl: 3 });
    drop(fake);
    let end = block_on((&mut sniffer as &mut dyn Sniffer).syn());
    assert!(end.is_err(), "the capture has ended");
}

#[test]
fn ends_that_say_too_little_are_no_filter() {
    for (local, remote) in [
        ("192.0.2.1:0", "192.0.2.2:1"),
        ("192.0.2.1:1", "0.0.0.0:1"),
        ("192.0.2.1:1", "[2001:db8::1]:1"),
    ] {
        let ends = Ends { local: local.parse().unwrap(), remote: remote.parse().unwrap() };
        assert_eq!(SynFilter::new(ends), None, "{ends:?}");
    }
}
