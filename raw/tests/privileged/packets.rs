//! Whole packets on their way.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use async_io::block_on;
use ntcp_proto::segment::{Options, Segment, flag};
use ntcp_proto::{command::Ends, datagram};
use ntcp_raw::filter::SynFilter;
use ntcp_raw::injector::Injector;
use ntcp_raw::saved_syn;
use ntcp_raw::sniffer::packet_socket;

use super::namespace::inside;
use super::sniffers::seen;

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_datagram_arrives_with_the_source_it_was_given() {
    if !inside("packets::a_datagram_arrives_with_the_source_it_was_given") {
        return;
    }
    let injector = Injector::open().unwrap();
    for (own, foreign) in [("127.0.0.1:0", "127.9.9.9:53"), ("[::1]:0", "[2001:db8::9]:53")] {
        let receiver = UdpSocket::bind(own).unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let source: SocketAddr = foreign.parse().unwrap();
        let packet = datagram::emit(source, receiver.local_addr().unwrap(), 9, b"forged").unwrap();
        block_on(injector.send(&packet)).unwrap();
        let mut bytes = [0; 16];
        let (length, from) = receiver.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..length], from), (&b"forged"[..], source));
    }
}

#[test]
fn a_syn_for_this_host_reaches_its_own_stack() {
    if !inside("packets::a_syn_for_this_host_reaches_its_own_stack") {
        return;
    }
    let injector = Injector::open().unwrap();
    for ip in ["127.0.0.1", "::1"] {
        let ip: IpAddr = ip.parse().unwrap();
        let listener = TcpListener::bind(SocketAddr::new(ip, 0)).unwrap();
        saved_syn::keep(&listener).unwrap();
        let (socket, local) = super::sniffers::bound(ip);
        let remote = listener.local_addr().unwrap();
        let mut sniffer = packet_socket(SynFilter::new(Ends { local, remote }).unwrap()).unwrap();
        let syn = Segment {
            source: local,
            destination: remote,
            flags: flag::SYN,
            sequence: 0xfeed_beef,
            acknowledgment: 0,
            window: 1000,
            options: Options { max_segment_size: Some(1400), ..Options::default() },
        };
        // The kernel's own answer to the listener's SYN-ACK would be RST; nobody asks it here.
        injector.try_send(&syn.emit(200).unwrap()).unwrap();
        let captured = seen(&mut sniffer);
        assert_eq!((captured.segment, captured.ttl), (syn, 200));
        drop(socket);
    }
}

#[test]
fn what_is_no_packet_is_refused() {
    if !inside("packets::what_is_no_packet_is_refused") {
        return;
    }
    let injector = Injector::open().unwrap();
    for bytes in [&b""[..], &[0x45], &[0x60; 39], &[0x10; 60]] {
        let error = injector.try_send(bytes).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}
