//! The corpus of the fuzz target is replayed by every test run.

use std::path::PathBuf;
use std::time::Instant;

use ntcp_proto::Machine;
use ntcp_proto::entropy::Seed;
use ntcp_proto::rendezvous::{Broker, Config, Input, Link};
use ntcp_proto::signal::message::Message;

use crate::samples;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/signal")
}

/// What the fuzz target does with bytes.
fn exercise(bytes: &[u8], broker: &mut Broker, now: Instant) {
    if let Ok(received) = Message::parse(bytes) {
        let again = received.message.emit(None);
        assert_eq!(Message::parse(&again).unwrap().message, received.message);
    }
    let link = Link::Udp { local: None, remote: ([192, 0, 2, 1], 1).into() };
    broker.handle_input(Input::Received { link, payload: bytes }, now);
    while let Some(command) = broker.poll_command() {
        assert!(!format!("{command:?}").is_empty());
    }
}

#[test]
fn the_corpus_holds_every_sample_and_does_no_harm() {
    let is_blessing = std::env::var_os("NTCP_BLESS").is_some();
    for sample in samples::all() {
        let path = folder().join(sample.name);
        if is_blessing {
            std::fs::write(&path, sample.bytes()).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), sample.bytes(), "{}", path.display());
    }
    #[expect(clippy::disallowed_methods, reason = "there is no other way to make an Instant")]
    let now = Instant::now();
    let mut broker = Broker::new(Config::default(), Seed::from_number(1), now);
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        exercise(&std::fs::read(entry.unwrap().path()).unwrap(), &mut broker, now);
        replayed += 1;
    }
    assert!(replayed >= samples::all().len());
    assert_eq!(broker.registered(), 0, "no bytes from nowhere leave anything behind");
}
