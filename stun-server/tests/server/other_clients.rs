//! Other people's STUN clients ask this server: coturn's `turnutils_stunclient` and `turnutils_natdiscovery` (Debian
//! package coturn) for RFC 5780, vovida's `stun` (Debian package stun-client) for RFC 3489.
//!
//! Nothing stands between them on loopback, so the right verdicts are: no NAT, or mapping and filtering that depend on
//! nothing.

use std::io::ErrorKind;
use std::process::Command;

use crate::client::{serve, serve_four, skip};

/// What the program prints; `None`, said aloud, if it is not installed.
fn output_of(test: &str, program: &str, arguments: &[&str]) -> Option<(Option<i32>, String)> {
    let output = match Command::new(program).args(arguments).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip(test, &format!("{program} is not installed"));
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    Some((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

#[test]
fn coturn_stunclient() {
    let server = serve_four();
    let [primary, alternate, ..] = server.local_addresses() else { panic!("four addresses") };
    let (ip, port) = (primary.ip().to_string(), primary.port().to_string());
    let Some((status, text)) =
        output_of("coturn_stunclient", "turnutils_stunclient", &["-f", "-p", &port, &ip])
    else {
        return;
    };
    assert_eq!(status, Some(0), "{text}");
    // Asked plainly, with both change flags, and to answer to another port.
    for part in ["RFC 5780 response 1", "RFC 5780 response 2", "RFC 5780 response 3"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(text.contains(&format!("Response origin: : {primary}")), "{text}");
    assert!(text.contains(&format!("Response origin: : {alternate}")), "{text}");
    assert!(text.contains(&format!("Other addr: : {alternate}")), "{text}");
    assert!(text.contains("UDP reflexive addr: 127.0.0.1:"), "{text}");
}

#[test]
fn coturn_stunclient_over_ipv6() {
    let server = serve("[::1]:0");
    let port = server.local_addresses()[0].port().to_string();
    let arguments = ["-p", &port, "::1"];
    let test = "coturn_stunclient_over_ipv6";
    if let Some((status, text)) = output_of(test, "turnutils_stunclient", &arguments) {
        assert_eq!(status, Some(0), "{text}");
        assert!(text.contains("IPv6. UDP reflexive addr: ::1:"), "{text}");
    }
}

#[test]
fn coturn_natdiscovery() {
    let server = serve_four();
    let primary = server.local_addresses()[0];
    let (ip, port) = (primary.ip().to_string(), primary.port().to_string());
    let arguments = ["-m", "-f", "-L", "127.0.0.1", "-p", &port, &ip];
    let Some((_, text)) = output_of("coturn_natdiscovery", "turnutils_natdiscovery", &arguments)
    else {
        return;
    };
    assert!(text.contains("Endpoint Independent Filtering"), "{text}");
    assert!(text.contains("No NAT! (Endpoint Independent Mapping)"), "{text}");
}

#[test]
fn vovida_stun() {
    let server = serve_four();
    let primary = server.local_addresses()[0];
    let Some((status, text)) = output_of("vovida_stun", "stun", &[&primary.to_string()]) else {
        return;
    };
    assert!(text.contains("Primary: Open"), "{text}");
    assert_eq!(status, Some(1), "{text}");
}
