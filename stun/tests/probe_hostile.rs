//! Whatever bytes come as a test, as its answer or as a kept SYN, nothing panics.

use ntcp_stun::probe::{self, Reply, Seen};
use ntcp_stun::server::{Limits, Prober, Request, Transport};
use ntcp_stun::{Class, Message, TransactionId, Writer};
use proptest::prelude::*;
use std::time::Instant;

/// A message of the method with these attributes.
fn message(class: Class, attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let id = TransactionId::new([1; 12]);
    let mut writer = Writer::new(&mut buffer, class, probe::METHOD, id).expect("room");
    for (number, value) in attributes {
        let number = ntcp_stun::AttributeType::new(*number);
        writer.raw_attribute(number, value).expect("room");
    }
    let length = writer.finish();
    buffer.truncate(length);
    buffer
}

fn attributes() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    // A FINGERPRINT is checked when the message is parsed, and would not be right.
    let other = any::<u16>().prop_filter("a FINGERPRINT", |number| *number != 0x8028);
    let number = prop_oneof![Just(0x4D00), Just(0x4D01), Just(0x4D02), Just(0xCD01), other];
    prop::collection::vec((number, prop::collection::vec(any::<u8>(), 0..24)), 0..6)
}

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn now() -> Instant {
    Instant::now()
}

proptest! {
    #[test]
    fn any_request_has_one_answer_at_most_and_only_for_its_sender(
        attributes in attributes(),
        source in any::<(u32, u16)>(),
    ) {
        let bytes = message(Class::Request, &attributes);
        let mut prober = Prober::new(Limits::default(), 7);
        let source = std::net::SocketAddr::from((source.0.to_be_bytes(), source.1));
        let local = "192.0.2.1:3478".parse().expect("an address");
        let request = Request { bytes: &bytes, source, local, transport: Transport::Tcp };
        let step = prober.handle_request(request, None, now());
        if let Some(ntcp_stun::server::Step::Connect(order)) = step {
            prop_assert_eq!(order.to.ip(), source.ip());
            prop_assert!(order.to.port() != 0);
        }
    }

    #[test]
    fn any_answer_is_read_or_not(attributes in attributes()) {
        for class in [Class::Success, Class::Error, Class::Indication] {
            let bytes = message(class, &attributes);
            let message = Message::parse(&bytes).expect("framed well");
            let _ = Reply::read(&message);
            let _ = probe::read_token(&message);
        }
    }

    #[test]
    fn any_headers_are_a_syn_or_not(
        first in prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()],
        rest in prop::collection::vec(any::<u8>(), 0..140),
    ) {
        let headers: Vec<u8> = std::iter::once(first).chain(rest).collect();
        let _ = Seen::of_syn(&headers);
    }
}

#[test]
fn a_syn_is_read_with_its_options_in_both_families() {
    // Source port 5000, number 7, offset of 10 words, SYN, window 64240; MSS 1460, SACK, timestamps
    // with TSval 77, a NOP, window scale 7.
    let segment = [
        0x13, 0x88, 0x0d, 0x96, 0, 0, 0, 7, 0, 0, 0, 0, 0xa0, 2, 0xfa, 0xf0, 0, 0, 0, 0, 2, 4, 5,
        0xb4, 4, 2, 8, 10, 0, 0, 0, 77, 0, 0, 0, 0, 1, 3, 3, 7,
    ];
    let expected = Seen {
        sequence: 7,
        timestamp: Some(77),
        mss: Some(1460),
        window_scale: Some(7),
        selective: true,
        window: 64_240,
        ttl: 61,
    };
    let mut v4 = vec![0; 20];
    (v4[0], v4[8], v4[9]) = (0x45, 61, 6);
    let mut v6 = vec![0; 40];
    (v6[0], v6[6], v6[7]) = (0x60, 6, 61);
    for mut headers in [v4, v6] {
        headers.extend(segment);
        assert_eq!(Seen::of_syn(&headers), Some(expected));
        for length in 0..headers.len() {
            assert_eq!(Seen::of_syn(&headers[..length]), None, "cut after {length} bytes");
        }
    }
}
