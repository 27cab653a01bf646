//! Laboratories of real kernels.
//!
//! They need `ip`, `nft` and the right to make namespaces, which an ordinary user has on most
//! machines; the error says what is missing.

mod life;
mod lines;
mod paths;
mod presets;
mod punching;
mod rows;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use ntcp_lab::kernel::{Lab, SERVER_ADDRESSES};

/// Nothing takes this long in a lab that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// A UDP socket that does not wait for ever.
fn udp(lab: &Lab, space: &str, address: impl Into<std::net::IpAddr>, port: u16) -> UdpSocket {
    let socket = lab.udp_socket(space, SocketAddr::new(address.into(), port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The address of a host.
fn address(lab: &Lab, host: &str) -> Ipv4Addr {
    lab.host(host).unwrap().address
}

/// The server's socket on its first address.
fn server(lab: &Lab, port: u16) -> UdpSocket {
    udp(lab, "server", SERVER_ADDRESSES[0], port)
}

/// Sends, and where it came from as the other saw it.
fn carry(from: &UdpSocket, to: &UdpSocket, target: SocketAddr) -> SocketAddr {
    let mut bytes = [0; 16];
    from.send_to(b"across", target).unwrap();
    let (length, source) = to.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"across");
    source
}
