//! The doctor at two hosts with one address each that are one STUN server of RFC 5780 together.
//!
//! ```text
//!  a ── NAT ──┬── server: 3478 and 3479 of its one address
//!             │     ║ the link
//!             └── b: 3479 and 3478 of its one address
//! ```

use ntcp_lab::kernel::{Child, Lab, SERVER_ADDRESSES};
use ntcp_lab::scratch::Scratch;
use ntcp_lab::trial::{Programs, ready};

use super::LINE;
use super::doctor::{SITES, Server, contradictions, diagnose};

/// A file with the secret that partners share.
pub(super) fn secret(words: &str) -> Scratch {
    Scratch::holding("partners", &words.repeat(8)).unwrap()
}

/// One of the two, once it says this.
fn start(lab: &Lab, (host, own, other): (&str, &str, &str), secret: &Scratch, word: &str) -> Child {
    let program = Programs::beside_this_one().unwrap().path("ntcp-stun-server");
    let flags = ["--mode", "partner", "--listen", own, "--alternate", other, "--partner-key"];
    let command = lab.command(host, program).args(flags).arg(secret.path());
    ready(command, word).unwrap()
}

/// A lab with host `b` on the open internet, and the first addresses of `server` and of `b`.
fn two_hosts(site: &str) -> (Lab, String, String) {
    let lab = Lab::builder().delay(LINE).home("a", site).home("b", "public").start().unwrap();
    let other = lab.host("b").unwrap().address;
    (lab, format!("{}:3478", SERVER_ADDRESSES[0]), format!("{other}:3479"))
}

/// Both of them, in touch.
pub(super) fn both(lab: &Lab, (own, other): (&str, &str), secret: &Scratch) -> Vec<Child> {
    let theirs = start(lab, ("b", other, own), secret, "listening");
    vec![theirs, start(lab, ("server", own, other), secret, "the partner answers in its part")]
}

#[test]
fn the_doctor_is_right_at_two_partners() {
    let secret = secret("two partners");
    for site in &SITES[..8] {
        let (lab, own, other) = two_hosts(site);
        let _both = both(&lab, (&own, &other), &secret);
        let wrong = contradictions(site, &diagnose(&lab), Server::OneAddress);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn without_its_partner_a_server_lets_the_doctor_say_nothing_wrong() {
    let (secret, wrong_secret) = (secret("one secret"), secret("another"));
    for (partner, word) in [
        (None, "the partner does not answer"),
        (Some(&wrong_secret), "the partner answers STUN but not the link"),
    ] {
        let (lab, own, other) = two_hosts("port-restricted");
        let _other = partner.map(|it| start(&lab, ("b", &other, &own), it, "listening"));
        let _own = start(&lab, ("server", &own, &other), &secret, word);
        let found = diagnose(&lab);
        assert_eq!(found["udp"]["reachable"], true, "{found:#}");
        for axis in ["mapping", "filtering"] {
            let said = &found["udp"][axis];
            assert!(said.is_null() || said == "unknown", "{word}: {axis} is {said}");
        }
    }
}
