//! The doctor at a STUN server with one address, which answers in the name of another host.
//!
//! ```text
//!  a ── NAT ──┬── server, mode forged: 3478 and 3479 of its one address
//!             └── b: two ports of a plain STUN server, which know of nothing
//! ```

use ntcp_lab::kernel::{Child, Lab, SERVER_ADDRESSES};
use ntcp_lab::trial::{Programs, ready};

use super::LINE;
use super::doctor::{Server, contradictions, diagnose};

/// A STUN server in this host, once it says this.
pub(super) fn start(lab: &Lab, host: &str, flags: &[&str], word: &str) -> Child {
    let program = Programs::beside_this_one().unwrap().path("ntcp-stun-server");
    ready(lab.command(host, program).args(flags), word).unwrap()
}

#[test]
fn the_doctor_is_right_at_a_server_that_forges_in_the_name_of_one_that_answers() {
    for site in ["public", "full-cone", "restricted", "port-restricted", "symmetric-seq"] {
        let lab = Lab::builder().delay(LINE).home("a", site).home("b", "public").start().unwrap();
        let other = lab.host("b").unwrap().address;
        let _others = [3478, 3479]
            .map(|port| start(&lab, "b", &["--listen", &format!("{other}:{port}")], "listening"));
        let (own, other) = (format!("{}:3478", SERVER_ADDRESSES[0]), format!("{other}:3479"));
        let flags = ["--mode", "forged", "--listen", &own, "--alternate", &other];
        let _own = start(&lab, "server", &flags, "forged sources leave this network");
        let wrong = contradictions(site, &diagnose(&lab), Server::OneAddress);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn the_spoof_check_tells_an_open_network_from_one_that_rewrites_sources() {
    // A NAT puts its own address into whatever passes; the lab's open internet lets everything pass.
    for (site, expected) in
        [("public", ": arrived\n"), ("linux-masq", "a NAT put in its own address")]
    {
        let lab = Lab::builder().delay(LINE).home("a", site).start().unwrap();
        let own = format!("{}:3478", SERVER_ADDRESSES[0]);
        let _server = start(&lab, "server", &["--listen", &own], "listening");
        let program = Programs::beside_this_one().unwrap().path("ntcp");
        let output = lab.command("a", program).args(["spoof-check", &own]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(said.contains(expected), "{site}: {said}");
    }
}
