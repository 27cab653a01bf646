//! A broker without raw packets has another public node answer SYNs in peers' names.
//!
//! ```text
//!  a ── strict NAT ──┬── server: STUN, a broker that forges nothing itself, and a node that offers to
//!  b ── strict NAT ──┤
//!  p ── public ──────┤   consents to probes, as q does
//!  q ── public ──────┤
//!  f ── public ──────┘   offers to forge, but its ISP lets no foreign source out
//! ```

use std::net::{IpAddr, Ipv4Addr};

use ntcp_lab::kernel::{Child, Frame, Lab, SERVER_ADDRESSES, Tap, User};
use ntcp_lab::trial::{Call, Listener, Programs, Servers, ready, server_flags};
use ntcp_proto::segment::{Segment, flag};

use super::LINE;

/// It does not pick connections up in the middle either: a ghost handshake would pass.
const STRICT: &str = "masq,syn=strict,loose=no";
/// Calls until the forger is proven: the first probe follows when all are registered and know their NATs.
const CALLS: usize = 12;
/// Calls after which a forger would have been proven.
const ENOUGH: usize = 4;
const FORGERS: (&str, &str) = ("NTCP_SPOOF__FORGERS", "true");
const OFFER: (&str, &str) = ("NTCP_SPOOF__OFFER", "true");
const CONSENT: (&str, &str) = ("NTCP_SPOOF__CONSENT", "true");

fn lab() -> Lab {
    let homes = Lab::builder().delay(LINE).home("a", STRICT).home("b", STRICT);
    homes.home("p", "public").home("q", "public").home("f", "public").start().unwrap()
}

/// A peer in the host of its name, once it is registered.
fn peer(lab: &Lab, host: &str, settings: &[(&str, &str)]) -> Child {
    let program = Programs::beside_this_one().unwrap().path("ntcp");
    let listener = lab.command(host, program).args(["listen", host, "--exec", "cat"]);
    let listener = listener.args(server_flags()).env("NTCP_NODE__KEEPALIVE", "1s");
    let listener = settings.iter().fold(listener, |it, (name, value)| it.env(name, value));
    ready(listener, "listening").unwrap()
}

/// Who takes part, and what they are told.
struct Play<'a> {
    broker: &'a [(&'a str, &'a str)],
    /// Where the forger is.
    host: &'a str,
    forger: &'a [(&'a str, &'a str)],
}

impl Play<'_> {
    /// Calls until a forged answer brings the path about, or so often; the last strategy, and what left
    /// the forger in others' names.
    fn call(&self, lab: &Lab, calls: usize) -> (String, Vec<Frame>) {
        let _servers = Servers::start_with(lab, self.broker).unwrap();
        let tap = Tap { space: self.host.into(), interface: "eth0".into() };
        let capture = lab.capture(&[tap]).unwrap();
        let _peers = ["p", "q"].map(|host| peer(lab, host, &[CONSENT]));
        let _forger = peer(lab, self.host, self.forger);
        let _bob = Listener::start(lab, "b", User::Root).unwrap();
        let mut last = String::new();
        for _ in 0..calls {
            let report = Call::bob("a", "tcp").run(lab).unwrap().report;
            assert_eq!(report["outcome"], "connected", "{report:#}");
            last = report["strategy"].as_str().unwrap().to_owned();
            if last == "spoofed_syn_ack" {
                break;
            }
        }
        let own: Vec<IpAddr> = match self.host {
            "server" => SERVER_ADDRESSES.map(IpAddr::from).into(),
            other => vec![public(lab, other).into()],
        };
        let frames = capture.stop().into_iter().filter(|frame| frame.outgoing);
        let foreign = |frame: &Frame| ends(frame).is_some_and(|(source, _)| !own.contains(&source));
        (last, frames.filter(foreign).collect())
    }
}

fn public(lab: &Lab, host: &str) -> Ipv4Addr {
    lab.host(host).unwrap().public
}

/// The addresses of an IPv4 packet.
fn ends(frame: &Frame) -> Option<(IpAddr, IpAddr)> {
    let header = frame.packet.first_chunk::<20>().filter(|it| it[0] >> 4 == 4)?;
    let ip = |at: usize| IpAddr::from([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    Some((ip(12), ip(16)))
}

#[test]
fn a_public_node_that_was_seen_to_be_able_to_answers_both_syns() {
    let lab = lab();
    let play = Play { broker: &[FORGERS], host: "server", forger: &[OFFER] };
    let (strategy, foreign) = play.call(&lab, CALLS);
    assert_eq!(strategy, "spoofed_syn_ack");
    let [a, b, p, q] = ["a", "b", "p", "q"].map(|host| IpAddr::from(public(&lab, host)));
    let (segments, probes): (Vec<_>, Vec<_>) =
        foreign.iter().partition(|frame| Segment::parse(&frame.packet).is_some());
    assert!((2..=6 * CALLS).contains(&segments.len()), "{segments:?}");
    for frame in segments {
        let (segment, _) = Segment::parse(&frame.packet).unwrap();
        assert_eq!(segment.flags, flag::SYN | flag::ACK, "{segment:?}");
        let ends = ends(frame).unwrap();
        assert!(ends == (a, b) || ends == (b, a), "{segment:?}");
    }
    assert!(!probes.is_empty());
    for frame in probes {
        let ends = ends(frame).unwrap();
        assert!(ends == (p, q) || ends == (q, p), "{ends:?}");
    }
}

#[test]
fn without_the_brokers_setting_or_the_nodes_offer_nothing_is_forged() {
    for (broker, forger) in [(&[][..], &[OFFER][..]), (&[FORGERS], &[]), (&[FORGERS], &[CONSENT])] {
        let lab = lab();
        let play = Play { broker, host: "server", forger };
        let (strategy, foreign) = play.call(&lab, ENOUGH);
        // What the callee brings about by itself: one of two, whichever its race ends with.
        assert_ne!(strategy, "spoofed_syn_ack", "{broker:?} {forger:?}");
        assert!(foreign.is_empty(), "{broker:?} {forger:?}: {foreign:?}");
    }
}

#[test]
fn a_node_whose_network_filters_is_asked_for_nothing_but_probes() {
    let lab = lab();
    let play = Play { broker: &[FORGERS], host: "f", forger: &[OFFER] };
    let (strategy, foreign) = play.call(&lab, ENOUGH);
    assert_ne!(strategy, "spoofed_syn_ack");
    assert!(!foreign.is_empty(), "it was probed");
    let [p, q] = ["p", "q"].map(|host| IpAddr::from(public(&lab, host)));
    for frame in &foreign {
        let ends = ends(frame).unwrap();
        assert!(ends == (p, q) || ends == (q, p), "{ends:?}");
    }
}
