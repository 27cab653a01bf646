//! Other people's clients against this server: coturn's two, and the classic one of Vovida.
//!
//! On Debian: `apt install coturn stun-client`. A test whose program is missing says so loudly and passes.

use crate::support::{Running, options};
use ntcp_stun_server::{Options, Policy};
use std::process::{Command, Stdio};

/// What the program printed, or `None` if there is no such program.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: {program} is not installed, so the server was not tried with it");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Some(text.into_owned())
}

/// Runs one of coturn's clients against a server with four addresses.
fn coturn(program: &str, flags: &[&str]) -> Option<(String, Running)> {
    // It knows of no proof for RESPONSE-PORT, and waits for its answer for ever.
    let policy = Policy { trusts_response_port: true, ..Policy::default() };
    let two = options(&["127.0.0.1:0"], &["127.0.0.2:0"]);
    let server = Running::start(&Options { policy, ..two });
    let port = server.primary().port().to_string();
    let mut arguments = flags.to_vec();
    arguments.extend(["-p", &port, "127.0.0.1"]);
    Some((output(program, &arguments)?, server))
}

#[test]
fn turnutils_stunclient_gets_all_its_answers() {
    for flags in [&[][..], &["-f"]] {
        let Some((text, server)) = coturn("turnutils_stunclient", flags) else { return };
        let [first, .., last] = server.addresses[..] else { panic!("four addresses") };
        assert!(text.contains(&format!("Response origin: : {first}")), "{text}");
        assert!(text.contains(&format!("Response origin: : {last}")), "{text}");
        assert!(text.contains(&format!("Other addr: : {last}")), "{text}");
        assert!(text.contains("RFC 5780 response 3"), "RESPONSE-PORT and PADDING: {text}");
        assert!(!text.to_lowercase().contains("error"), "{text}");
    }
}

#[test]
fn turnutils_natdiscovery_finds_that_there_is_nothing_in_between() {
    for (flag, verdict) in [
        ("-m", "NAT with Endpoint Independent Mapping!"),
        ("-f", "NAT with Endpoint Independent Filtering!"),
    ] {
        // Without its local address it takes every host for one behind a NAT.
        let Some((text, server)) = coturn("turnutils_natdiscovery", &[flag]) else { return };
        assert!(text.contains(verdict), "{text}");
        assert!(text.contains("No ALG: Mapped == XOR-Mapped"), "{text}");
        let expected = if flag == "-f" { server.addresses[3] } else { server.addresses[2] };
        assert!(text.contains(&format!("Response origin: : {expected}")), "{text}");
    }
}

#[test]
fn the_classic_client_finds_an_open_host() {
    let server = Running::quartet();
    let Some(text) = output("stun", &[&server.primary().to_string()]) else { return };
    assert!(text.contains("Primary: Open"), "{text}");
    let counters = server.stop();
    assert!(counters.classic > 0 && counters.classic == counters.successes, "{counters:?}");
}
