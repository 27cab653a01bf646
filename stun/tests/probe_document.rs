//! `doc/protocol.md` shows the bytes of the discovery of TCP; they are made here, so they cannot rot.

use ntcp_stun::TransactionId;
use ntcp_stun::probe::{self, Interval, Met, Outcome, Reply, Test, Wish};
use std::path::PathBuf;
use std::time::Duration;

const ID: TransactionId =
    TransactionId::new([0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab]);

fn document() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../doc/protocol.md");
    std::fs::read_to_string(path).expect("the document")
}

/// The bytes of the block of that name: those of each line before its words.
fn shown(document: &str, name: &str) -> Vec<u8> {
    let block = document.split(&format!("<!-- probe: {name} -->\n```text\n")).nth(1);
    let block = block.and_then(|it| it.split("```").next()).expect(name);
    let bytes = block.lines().flat_map(|line| {
        let bytes = line.split("  ").next().unwrap_or_default();
        bytes.split(' ').map(|it| u8::from_str_radix(it, 16).expect("a byte")).collect::<Vec<_>>()
    });
    bytes.collect()
}

#[test]
fn the_document_shows_the_bytes_of_the_tests() {
    let document = document();
    let patience = Interval::of(Duration::from_millis(280));
    let request = probe::order(ID, Wish { test: Test::OtherAddress, patience });
    assert_eq!(shown(&document, "request"), request);
    let outcome = Outcome {
        result: Met::Icmp { kind: 3, code: 13 },
        ttl: None,
        elapsed: Duration::from_millis(40),
    };
    let from = Some("203.0.113.7:40224".parse().expect("an address"));
    assert_eq!(shown(&document, "outcome"), Reply::Ended { outcome, from }.write(ID));
    assert_eq!(shown(&document, "token"), probe::token(ID));
}

#[test]
fn the_document_names_every_test_and_attribute() {
    let document = document();
    for test in Test::ALL {
        assert!(document.contains(&format!("\n| {} | ", test.number())), "{test:?}");
    }
    for attribute in [probe::PROBE, probe::OUTCOME, probe::PROBE_ADDRESS, probe::OFFER, probe::SEEN]
    {
        let row = format!("\n| 0x{:04X} | PROBE-", attribute.number());
        assert!(document.contains(&row), "{row}");
    }
}
