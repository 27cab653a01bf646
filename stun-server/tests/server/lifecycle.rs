//! Binding, what prevents it, and stopping.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::client::{Tcp, Udp, at, binding, serve, serve_four, start};
use ntcp_stun::server::QuartetError;
use ntcp_stun_server::{Config, Error, Server, Transport};

fn refusal(listen: &[&str], alternate: &[&str]) -> Error {
    let addresses = |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|it| at(it)).collect() };
    let config = Config::new(addresses(listen)).with_alternate(addresses(alternate));
    Server::bind(&config).expect_err("an error")
}

#[test]
fn the_defaults_are_those_of_the_configuration_file() {
    let config = Config::default();
    assert_eq!(config.listen, [at("0.0.0.0:3478"), at("[::]:3478")]);
    assert_eq!(config.alternate, []);
}

#[test]
fn free_ports_are_the_same_at_both_ips_and_over_udp_and_tcp() {
    for _ in 0..20 {
        let server = serve_four();
        let [primary, alternate, third, fourth] = server.local_addresses() else {
            panic!("four addresses")
        };
        assert_eq!((primary.ip(), alternate.ip()), (third.ip(), fourth.ip()));
        assert_eq!((primary.port(), alternate.port()), (fourth.port(), third.port()));
        assert_ne!(primary.port(), alternate.port());
        for address in server.local_addresses() {
            assert!(UdpSocket::bind(address).is_err() && TcpListener::bind(address).is_err());
        }
    }
}

#[test]
fn a_port_in_use_is_named_with_its_transport_and_what_to_do() {
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let taken = udp.local_addr().expect("an address");
    let error = refusal(&[&taken.to_string()], &[]);
    assert!(
        matches!(error, Error::InUse { transport: Transport::Udp, address } if address == taken)
    );
    let text = error.to_string();
    for part in [format!("UDP {taken} is in use"), "--listen".into(), "ss -lnup".into()] {
        assert!(text.contains(&part), "{text}");
    }

    let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let taken = tcp.local_addr().expect("an address");
    let error = refusal(&[&taken.to_string()], &[]);
    assert!(
        matches!(error, Error::InUse { transport: Transport::Tcp, address } if address == taken)
    );
}

#[test]
fn two_servers_cannot_share_a_port() {
    let first = serve("127.0.0.1:0");
    let error = refusal(&[&first.local_addresses()[0].to_string()], &[]);
    assert!(matches!(error, Error::InUse { .. }));
}

#[test]
fn an_address_of_another_host_is_named_whichever_of_the_two_it_is() {
    for (listen, alternate, culprit) in [
        ("192.0.2.1:0", None, "192.0.2.1"),
        ("127.0.0.1:0", Some("192.0.2.1:0"), "192.0.2.1"),
        ("[2001:db8::1]:0", None, "2001:db8::1"),
    ] {
        let error = refusal(&[listen], alternate.as_slice());
        let Error::NotOurs { address, .. } = error else { panic!("{error}") };
        assert_eq!(address.ip().to_string(), culprit);
        assert!(error.to_string().contains("no such address"), "{error}");
    }
}

#[test]
fn addresses_that_cannot_work_together_are_refused() {
    assert!(matches!(refusal(&[], &[]), Error::NoAddress));
    let error = refusal(&["127.0.0.1:0", "127.0.0.2:0"], &[]);
    assert!(matches!(error, Error::TwoOfOneFamily { .. }), "{error}");
    let error = refusal(&["127.0.0.1:0"], &["[::1]:0"]);
    assert!(matches!(error, Error::NoPrimary { .. }), "{error}");
    let error = refusal(&["127.0.0.1:0"], &["127.0.0.1:0"]);
    assert!(matches!(error, Error::Quartet(QuartetError::SameIp { .. })), "{error}");
    let error = refusal(&["0.0.0.0:0"], &["127.0.0.2:0"]);
    assert!(matches!(error, Error::Quartet(QuartetError::NotConcrete { .. })), "{error}");
}

#[test]
fn stopping_frees_the_ports_at_once_though_a_client_was_connected() {
    let server = serve("127.0.0.1:0");
    let address = server.local_addresses()[0];
    let mut client = Tcp::connect(address);
    assert!(client.ask(&binding(1)).is_success());
    server.stop().expect("stopped");
    assert!(client.receive().is_none());
    let server = start(&Config::new([address]));
    assert!(Tcp::connect(address).ask(&binding(2)).is_success());
    assert!(Udp::new("127.0.0.1:0").ask(&binding(3), address).0.is_success());
    drop(server);
}

#[test]
fn a_server_stops_from_any_thread_and_tells_what_it_did() {
    let server = Server::bind(&Config::new([at("127.0.0.1:0")])).expect("a server");
    let (address, stopper) = (server.local_addresses()[0], server.stopper());
    let running = std::thread::spawn(|| server.run());
    assert!(Udp::new("127.0.0.1:0").ask(&binding(1), address).0.is_success());
    assert!(Tcp::connect(address).ask(&binding(2)).is_success());
    stopper.stop();
    stopper.stop();
    let served = running.join().expect("no panic").expect("stopped");
    assert_eq!((served.messages.udp, served.messages.tcp, served.connections), (1, 1, 1));
}

#[test]
fn a_dropped_server_is_a_stopped_one() {
    let server = serve("127.0.0.1:0");
    let address = server.local_addresses()[0];
    drop(server);
    UdpSocket::bind(address).expect("the port is free");
}
