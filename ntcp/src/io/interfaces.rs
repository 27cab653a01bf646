//! This host's own addresses.

use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;
use ntcp_proto::address;

/// The unicast addresses of all interfaces that are up, without loopback and link-local ones, in
/// the system's order. Empty when the system will not tell.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let mut found = Vec::new();
    for interface in interfaces.filter(|it| it.flags.contains(InterfaceFlags::IFF_UP)) {
        let Some(ip) = interface.address.as_ref().and_then(ip_of) else { continue };
        // Any port will do: only the address is judged.
        if address::is_usable(SocketAddr::new(ip, 1)) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

fn ip_of(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}
