//! This host's own addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

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

/// The router that IPv4 packets for everybody else go to; `None` where the system does not say it in a file.
pub(crate) fn gateway() -> Option<Ipv4Addr> {
    default_gateway(&std::fs::read_to_string("/proc/net/route").ok()?)
}

/// Of Linux' table of routes: interface, destination, gateway and so on, in hexadecimal digits as the
/// processor keeps them.
fn default_gateway(table: &str) -> Option<Ipv4Addr> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok().filter(|it| *it != 0)?;
        (destination == "00000000").then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_that_of_the_default_route() {
        let number = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let header = "Iface\tDestination\tGateway \tFlags\n";
        let local = format!("eth0\t{}\t00000000\t0001\n", number([192, 168, 1, 0]));
        let default = format!("eth0\t00000000\t{}\t0003\n", number([192, 168, 1, 254]));
        let gateway = Some(Ipv4Addr::new(192, 168, 1, 254));
        assert_eq!(default_gateway(&format!("{header}{local}{default}")), gateway);
        assert_eq!(default_gateway(&format!("{header}{local}")), None);
        assert_eq!(default_gateway(&format!("{header}eth0\t00000000\tnonsense\n")), None);
        assert_eq!(default_gateway(""), None);
    }
}
