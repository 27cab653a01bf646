//! Other people's clients at our STUN server, in every mode that can answer them, behind NATs of many kinds.
//!
//! On Debian: `apt install coturn stun-client`. `cargo test -p ntcp-lab --test programs strangers -- --nocapture` prints the
//! table of `doc/stun-server.md`.

use ntcp_lab::kernel::{Child, Lab, SERVER_ADDRESSES};
use ntcp_lab::scratch::Scratch;

use super::LINE;
use super::doctor::{declared, installed};
use super::forged;
use super::partners;

/// Has every site asked, not one of five.
const ALL_SITES: &str = "NTCP_TEST_ALL_SITES";
/// NATs between real kernels, all of them netfilter's where it can.
const SITES: [&str; 20] = [
    "full-cone",
    "restricted",
    "port-restricted",
    "linux-masq",
    "linux-random",
    "symmetric-seq",
    "masq",
    "masq,in=reset",
    "masq,in=admin",
    "masq,in=open",
    "masq,syn=strict",
    "masq@port-restricted",
    "masq@linux-masq",
    "masq@full-cone",
    "full-cone@full-cone",
    "restricted@linux-masq",
    "linux-random@linux-masq",
    "linux-masq@linux-random",
    "firewall",
    "public",
];

/// What a client said, in the words of `ntcp doctor`; `None` where it gives no verdict.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    mapping: Option<&'static str>,
    filtering: Option<&'static str>,
}

const INDEPENDENT: &str = "endpoint_independent";
const ADDRESS: &str = "address_dependent";
const PORT: &str = "address_and_port_dependent";

fn output(lab: &Lab, program: &str, arguments: &[&str]) -> String {
    let output = lab.command("a", program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    text.into_owned()
}

/// coturn's client (RFC 5780).
fn natdiscovery(lab: &Lab, server: &str) -> Verdict {
    let own = lab.host("a").unwrap().address.to_string();
    let ask = |flag, what: &str| {
        let text = output(lab, "turnutils_natdiscovery", &[flag, "-L", &own, server]);
        let said = |words: &str| text.contains(&format!("{words} {what}"));
        // What it says of a host without a NAT.
        if said("Address and Port Dependent") {
            Some(PORT)
        } else if said("Address Dependent") {
            Some(ADDRESS)
        } else if said("Endpoint Independent") || text.contains("No NAT") {
            Some(INDEPENDENT)
        } else {
            None
        }
    };
    Verdict { mapping: ask("-m", "Mapping"), filtering: ask("-f", "Filtering") }
}

/// The client of RFC 3489. It calls every mapping that is not independent symmetric, and then does not look further.
fn classic(lab: &Lab, server: &str) -> Verdict {
    let text = output(lab, "stun", &[server]);
    let (mapping, filtering) = [
        ("Independent Mapping, Independent Filter", Some(INDEPENDENT), Some(INDEPENDENT)),
        ("Independent Mapping, Address Dependent Filter", Some(INDEPENDENT), Some(ADDRESS)),
        ("Independent Mapping, Port Dependent Filter", Some(INDEPENDENT), Some(PORT)),
        ("Dependent Mapping", Some(PORT), None),
        ("Primary: Open", Some(INDEPENDENT), Some(INDEPENDENT)),
        ("Primary: Firewall", Some(INDEPENDENT), None),
    ]
    .into_iter()
    .find(|(words, ..)| text.contains(words))
    .map_or((None, None), |(_, mapping, filtering)| (mapping, filtering));
    Verdict { mapping, filtering }
}

/// Starts our server in this mode.
fn servers(lab: &Lab, mode: &str, secret: &Scratch) -> Vec<Child> {
    let other = lab.host("b").unwrap().address;
    let [primary, second] = [SERVER_ADDRESSES[0], SERVER_ADDRESSES[1]];
    let (own, there) = (format!("{primary}:3478"), format!("{other}:3479"));
    match mode {
        "dual" => {
            let flags = ["--listen", &own, "--alternate", &format!("{second}:3479")];
            vec![forged::start(lab, "server", &flags, "listening")]
        }
        "forged" => {
            let others = [3478, 3479].map(|port| {
                forged::start(lab, "b", &["--listen", &format!("{other}:{port}")], "listening")
            });
            let flags = ["--mode", "forged", "--listen", &own, "--alternate", &there];
            let word = "forged sources leave this network";
            others.into_iter().chain([forged::start(lab, "server", &flags, word)]).collect()
        }
        _ => partners::both(lab, (&own, &there), secret),
    }
}

/// What two verdicts disagree about: what is declared of the site, and what was said. A client that says nothing contradicts
/// nothing, but must say something at most sites.
fn disagreements(site: &str, said: &Verdict) -> Vec<String> {
    let declared = &declared(site)["udp"];
    let compare = |axis: &str, said: Option<&str>| {
        let is = &declared[axis];
        let differs = said.is_some() && is.as_str() != said;
        differs.then(|| format!("{site}: {axis} is {is}, it says {said:?}"))
    };
    [compare("mapping", said.mapping), compare("filtering", said.filtering)]
        .into_iter()
        .flatten()
        .collect()
}

fn check(mode: &str) {
    if !installed("turnutils_natdiscovery") || !installed("stun") {
        return;
    }
    let secret = partners::secret("two partners");
    let (mut wrong, mut silent) = (Vec::new(), Vec::new());
    // All of them take two minutes for each mode: one of five, unless this variable asks for more.
    let step = if std::env::var_os(ALL_SITES).is_some() { 1 } else { 5 };
    for site in SITES.into_iter().step_by(step) {
        let lab = Lab::builder().delay(LINE).home("a", site).home("b", "public").start().unwrap();
        let _servers = servers(&lab, mode, &secret);
        let server = SERVER_ADDRESSES[0].to_string();
        for (name, said) in
            [("natdiscovery", natdiscovery(&lab, &server)), ("stun", classic(&lab, &server))]
        {
            let Verdict { mapping, filtering } = &said;
            eprintln!("{mode} | {site} | {name} | {mapping:?} | {filtering:?}");
            let disagreements = disagreements(site, &said);
            wrong.extend(disagreements.into_iter().map(|it| format!("{name} at {it}")));
            silent.extend(said.mapping.is_none().then(|| format!("{name} at {site}")));
        }
    }
    assert!(wrong.is_empty(), "{mode}: {wrong:#?}");
    assert!(silent.is_empty(), "{mode}: {silent:#?}");
}

#[test]
fn other_peoples_clients_are_right_at_two_addresses() {
    check("dual");
}

#[test]
fn other_peoples_clients_are_right_at_one_address_that_answers_in_anothers_name() {
    check("forged");
}

#[test]
fn other_peoples_clients_are_right_at_two_partners() {
    check("partner");
}
