//! Any bytes as a letter from another broker, and as what a directory says of a peer.

use std::time::Instant;

use ntcp_proto::Machine;
use ntcp_proto::entropy::Seed;
use ntcp_proto::rendezvous::{Broker, BrokerId, Command, Config, Input, Listing};

/// What one letter may provoke: the answers to its caller.
const MOST_ANSWERS: usize = 4;

/// Hands `bytes` to a broker that shares a directory and knows nobody.
///
/// # Panics
///
/// If anything that must hold does not.
pub fn check(bytes: &[u8], now: Instant) {
    if let Some(listing) = Listing::parse(bytes) {
        assert_eq!(Listing::parse(&listing.emit()), Some(listing));
    }
    let (own, other) = (BrokerId([1; 8]), BrokerId([2; 8]));
    let config = Config { cluster: Some(own), ..Config::default() };
    let mut broker = Broker::new(config, Seed::from_number(1), now);
    for _ in 0..2 {
        broker.handle_input(Input::Letter { from: other, letter: bytes }, now);
        let mut answers = 0;
        while let Some(command) = broker.poll_command() {
            match command {
                Command::Post { broker, .. } => assert_eq!(broker, other, "who wrote is answered"),
                Command::Find { .. } => {}
                other => panic!("nobody else hears of it: {other:?}"),
            }
            answers += 1;
        }
        assert!(answers <= MOST_ANSWERS, "{answers} answers");
        assert_eq!((broker.registered(), broker.sessions()), (0, 0), "nobody is registered by it");
    }
}
