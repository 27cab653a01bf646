//! A broker that answers SYNs in peers' names, between netfilter NATs that let no SYN in.

use std::net::IpAddr;
use std::time::Duration;

use ntcp_lab::kernel::{Lab, SERVER_ADDRESSES, Tap, User};
use ntcp_lab::trial::Stage;
use ntcp_proto::segment::{Segment, flag};

use super::homes;

/// It does not pick connections up in the middle either: a ghost handshake would pass.
const STRICT: &str = "masq,syn=strict,loose=no";
/// Nothing more is forged after so much silence of the server.
const QUIET: Duration = Duration::from_millis(500);
/// Frames that are looked at.
const ENOUGH: usize = 5000;
const ENABLED: (&str, &str) = ("NTCP_SPOOF__ENABLED", "true");

/// TCP segments that left the server with a source that is not its own.
fn forged(lab: &Lab, play: impl FnOnce()) -> Vec<Segment> {
    let server = Tap { space: "server".into(), interface: "eth0".into() };
    let capture = lab.capture(&[server]).unwrap();
    play();
    let own = |ip: IpAddr| SERVER_ADDRESSES.iter().any(|server| IpAddr::from(*server) == ip);
    // The last of three leaves 250 ms after the first.
    let mut frames: Vec<_> = std::iter::from_fn(|| capture.next(QUIET)).take(ENOUGH).collect();
    frames.extend(capture.stop());
    let frames = frames.into_iter().filter(|frame| frame.outgoing);
    let segments = frames.filter_map(|frame| Segment::parse(&frame.packet));
    segments.map(|(segment, _)| segment).filter(|it| !own(it.source.ip())).collect()
}

#[test]
fn two_nats_that_let_no_syn_in_are_passed_and_forged_packets_go_to_these_two_only() {
    let lab = homes(STRICT, STRICT).start().unwrap();
    let stage = Stage::set_with(&lab, "b", User::Root, &[ENABLED]).unwrap();
    let mut report = serde_json::Value::Null;
    let forged = forged(&lab, || report = stage.connect("a", "tcp").unwrap());
    assert_eq!(report["outcome"], "connected", "{report:#}");
    assert_eq!(report["strategy"], "spoofed_syn_ack", "{report:#}");
    let [a, b] = ["a", "b"].map(|name| IpAddr::from(lab.host(name).unwrap().public));
    assert!((2..=6).contains(&forged.len()), "{forged:#?}");
    for segment in &forged {
        let ends = (segment.source.ip(), segment.destination.ip());
        assert!(ends == (a, b) || ends == (b, a), "{segment:?}");
        assert_eq!(segment.flags, flag::SYN | flag::ACK, "{segment:?}");
    }
}

#[test]
fn without_the_setting_nothing_is_forged() {
    let lab = homes(STRICT, STRICT).start().unwrap();
    let stage = Stage::set(&lab, "b", User::Root).unwrap();
    let mut report = serde_json::Value::Null;
    let forged = forged(&lab, || report = stage.connect("a", "tcp").unwrap());
    assert_eq!(report["outcome"], "failed", "{report:#}");
    assert_eq!(forged, []);
}
