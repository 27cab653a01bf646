//! Two STUN servers whose addresses nobody else knows, as clouds have them: before each stands a NAT with a public address
//! for it alone, which lets everything pass.
//!
//! ```text
//!  a ── NAT ──┬── 1:1 ── b: 3478 and 3479 of its private address
//!             │              ║ the link
//!             └── 1:1 ── c: 3479 and 3478 of its private address
//! ```

use ntcp_lab::kernel::{Child, Form, Lab};
use ntcp_lab::scratch::Scratch;
use ntcp_lab::trial::{Programs, ready};

use super::LINE;
use super::doctor::{Server, contradictions, diagnose_at};
use super::partners;

/// Has the NAT of this home give all that comes to its host, and all that leaves its address.
fn open(lab: &Lab, home: &str) {
    let host = lab.host(home).unwrap();
    let rules = format!(
        "flush ruleset
         table ip cloud {{
           chain before {{ type nat hook prerouting priority dstnat; iifname \"wan\" dnat to {} ; }}
           chain after {{ type nat hook postrouting priority srcnat; oifname \"wan\" snat to {} ; }}
         }}",
        host.address, host.public
    );
    let nft = lab.command(&format!("nat-{home}"), "nft").args([rules]).status().unwrap();
    assert!(nft.success(), "{nft:?}");
}

/// The server in this home, once it says this.
fn start(lab: &Lab, (home, port): (&str, u16), other: &str, secret: &Scratch, word: &str) -> Child {
    let host = lab.host(home).unwrap();
    let listen = format!("{}:{port}", host.address);
    let public = format!("{}={}", host.address, host.public);
    let flags = ["--mode", "partner", "--listen", &listen, "--public", &public];
    let program = Programs::beside_this_one().unwrap().path("ntcp-stun-server");
    let command = lab.command(home, program).args(flags).args(["--alternate", other]);
    ready(command.args(["--partner-key", secret.path()]), word).unwrap()
}

#[test]
fn the_doctor_is_right_at_two_partners_in_clouds() {
    let secret = partners::secret("two clouds");
    for site in ["public", "full-cone", "restricted", "port-restricted", "symmetric-seq"] {
        let homes =
            Lab::builder().delay(LINE).home("a", site).home("b", "masq").form(Form::Netfilter);
        let lab = homes.home("c", "masq").form(Form::Netfilter).start().unwrap();
        open(&lab, "b");
        open(&lab, "c");
        let at = |home: &str, port: u16| format!("{}:{port}", lab.host(home).unwrap().public);
        let (own, other) = (at("b", 3478), at("c", 3479));
        let _other = start(&lab, ("c", 3479), &own, &secret, "listening");
        let _own = start(&lab, ("b", 3478), &other, &secret, "the partner answers in its part");
        let found = diagnose_at(&lab, &own);
        let wrong = contradictions(site, &found, Server::OneAddress);
        assert!(wrong.is_empty(), "{wrong:#?}");
        // What the server told of its own ports was right too: one that it kept for the doctor was found. It is not
        // looked for where each destination has a mapping of its own.
        let met = &found["tcp"]["inbound_syn_after_syn"];
        assert_eq!(met.is_null(), site == "symmetric-seq", "{site}: {:#}", found["tcp"]);
    }
}
