//! `ntcp doctor` in laboratories of real kernels: its verdict must be what the boxes are.

mod server;

use std::time::Duration;

use ntcp_lab::kernel::{Form, Lab, Stream};
use ntcp_lab::presets::{SITES, Site};
use serde_json::Value;
use server::Server;

/// What a discovery measures; the rest of the contract is `null`.
const MEASURED: [&str; 9] = [
    "/nat",
    "/udp/reachable",
    "/udp/mapping",
    "/udp/filtering",
    "/udp/port_allocation",
    "/udp/hairpin",
    "/tcp/reachable",
    "/tcp/mapping",
    "/tcp/port_allocation",
];
/// Telling connections between the same ends apart takes closing one without a trace, which an
/// ordinary socket cannot.
const TOLD_LESS: [(&str, &str, &str); 1] =
    [("connection-dependent", "/tcp/mapping", "address_and_port_dependent")];

/// A NAT that draws its ports from so few, 512, that two destinations now and then get the same one: what it is then cannot be
/// told from another kind, whoever asks.
const FEW_PORTS: &str = "symmetric-block";

/// What `ntcp doctor` says on host `a` of this lab, and the one server it asks is up.
fn doctor(lab: &Lab) -> Value {
    let _server = Server::start(lab);
    let address = Server::address().to_string();
    let program = lab.command("a", env!("CARGO_BIN_EXE_ntcp"));
    let program = program.args(["doctor", "--json", "--stun", &address]);
    let output = program.stdout(Stream::Piped).stderr(Stream::Piped).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {words}"))
}

/// Where the verdict on this site differs from what its boxes declare.
fn differences(site: &str, told: &Value) -> Vec<String> {
    let declared = site.parse::<Site>().unwrap().declared();
    let declared = serde_json::to_value(declared).unwrap();
    let wanted = |key: &str| {
        let less = TOLD_LESS.iter().find(|it| (it.0, it.1) == (site, key));
        less.map_or_else(|| declared.pointer(key).unwrap().clone(), |it| it.2.into())
    };
    let differs = |key: &str| told.pointer(key) != Some(&wanted(key));
    let say = |key: &str| format!("{site} {key}: {:?}, not {}", told.pointer(key), wanted(key));
    MEASURED.into_iter().filter(|key| differs(key)).map(say).collect()
}

/// A lab with one host behind `site`: netfilter where it can, else the lab's own NAT.
fn lab(site: &str, change: impl Fn(ntcp_lab::kernel::Builder) -> ntcp_lab::kernel::Builder) -> Lab {
    let start = |form| change(Lab::builder()).home("a", site).form(form).start();
    start(Form::Netfilter).or_else(|_| start(Form::User)).unwrap()
}

#[test]
fn the_doctor_sees_every_box_as_it_is() {
    let mut wrong = Vec::new();
    for site in SITES {
        let ask = || {
            let lab = lab(site, |builder| builder.delay(Duration::from_millis(5)));
            differences(site, &doctor(&lab))
        };
        let mut found = ask();
        if *site == FEW_PORTS && !found.is_empty() {
            found = ask();
        }
        wrong.extend(found);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_doctor_is_right_about_udp_on_a_long_path_that_loses_packets() {
    let mut wrong = Vec::new();
    for (seed, site) in (0..).zip(["restricted", "linux-masq", "symmetric-seq"]) {
        let lab =
            lab(site, |builder| builder.delay(Duration::from_millis(50)).loss(0.05).seed(seed));
        let told = differences(site, &doctor(&lab));
        wrong.extend(told.into_iter().filter(|it| !it.contains("/tcp")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
