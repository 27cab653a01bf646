//! `ntcp spoof-check`: does this network let packets out whose source is forged?

use crate::arguments::SpoofCheck;
use crate::failure::Failure;
use ntcp::discover::Spoofing;
use ntcp_settings::{Endpoint, Host};
use ntcp_stun_server::{Forged, sources_beside, spoof_check};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;

/// Runs `ntcp spoof-check` to its end: the verdicts go to standard output.
///
/// # Errors
/// The server cannot be asked or does not offer the check, or the verdict cannot be written.
pub fn run(arguments: &SpoofCheck) -> Result<(), Failure> {
    let (own, found) = check(&arguments.server)?;
    let words = if arguments.json { json(own, &found) } else { words(own, &found) };
    let unwritten = |source| Failure::Write { path: PathBuf::from("standard output"), source };
    writeln!(io::stdout(), "{words}").map_err(unwritten)
}

/// What one word says of it, for `ntcp doctor`.
///
/// # Errors
/// As [`run`].
pub fn verdict(server: &Endpoint) -> Result<Spoofing, Failure> {
    let (_, found) = check(server)?;
    let arrived = |(source, outcome): &(IpAddr, Forged)| match outcome {
        Forged::Arrived(seen) => Some(seen.ip() == *source),
        _ => None,
    };
    let is_denied = |(_, outcome): &(IpAddr, Forged)| match outcome {
        Forged::NotSent(error) => error.kind() == io::ErrorKind::PermissionDenied,
        _ => false,
    };
    Ok(match found.iter().map(arrived).collect::<Vec<_>>()[..] {
        [.., Some(true)] => Spoofing::Possible,
        ref some if some.contains(&Some(true)) => Spoofing::Nearby,
        ref some if some.contains(&Some(false)) => Spoofing::Translated,
        _ if found.iter().any(is_denied) => Spoofing::NotPermitted,
        _ => Spoofing::Filtered,
    })
}

/// The own address, and what became of packets from each source, the farthest last.
fn check(endpoint: &Endpoint) -> Result<(IpAddr, Vec<(IpAddr, Forged)>), Failure> {
    let failed = |source| Failure::SpoofCheck { server: endpoint.clone(), source };
    let server = resolve(endpoint).map_err(failed)?;
    let own = own_ip(server).map_err(failed)?;
    Ok((own, spoof_check(server, &sources_beside(own)).map_err(failed)?))
}

fn resolve(server: &Endpoint) -> io::Result<SocketAddr> {
    let mut addresses = match server.host() {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, server.port())],
        Host::Name(name) => (name.as_str(), server.port()).to_socket_addrs()?.collect(),
    };
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.into_iter().next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The address that this machine sends from.
fn own_ip(server: SocketAddr) -> io::Result<IpAddr> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    Ok(socket.local_addr()?.ip())
}

fn words(own: IpAddr, found: &[(IpAddr, Forged)]) -> String {
    let line = |(source, outcome): &(IpAddr, Forged)| {
        let outcome = match outcome {
            Forged::Arrived(seen) if seen.ip() == *source => "arrived".to_owned(),
            Forged::Arrived(seen) => format!("arrived as {seen}: a NAT put in its own address"),
            Forged::NotSent(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "not sent: it needs CAP_NET_RAW; run it as root".to_owned()
            }
            Forged::NotSent(error) => format!("not sent: {error}"),
            _ => "lost: this network does not let it out, or the server's does not let it in"
                .to_owned(),
        };
        format!("source {source}: {outcome}")
    };
    let lines: Vec<_> = found.iter().map(line).collect();
    format!("sent from {own}\n{}", lines.join("\n"))
}

fn json(own: IpAddr, found: &[(IpAddr, Forged)]) -> String {
    let entry = |(source, outcome): &(IpAddr, Forged)| {
        let (result, seen, error) = match outcome {
            Forged::Arrived(seen) => ("arrived", Some(seen.to_string()), None),
            Forged::NotSent(error) => ("not_sent", None, Some(error.to_string())),
            _ => ("lost", None, None),
        };
        serde_json::json!({"source": source, "result": result, "seen": seen, "error": error})
    };
    let sources: Vec<_> = found.iter().map(entry).collect();
    serde_json::json!({"own": own, "sources": sources}).to_string()
}
