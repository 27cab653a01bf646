//! Properties that hold whatever arrives.

use super::*;

#[test]
fn fragments_and_strange_protocols_are_dropped_by_name() {
    let mut bench = Bench::new("masq");
    let mut fragment = udp(at(INSIDE), at(SERVER), 64, b"x");
    fragment[6] = 0x20;
    assert_eq!(dropped(bench.out(&fragment)), DropReason::Fragment);
    let mut strange = udp(at(INSIDE), at(SERVER), 64, b"x");
    strange[9] = 47;
    assert_eq!(dropped(bench.out(&strange)), DropReason::Protocol);
    assert_eq!(dropped(bench.out(&[])), DropReason::Malformed);
}

fn some_packet() -> impl Strategy<Value = Vec<u8>> {
    let ends = (0u8..4, 0u16..4, 0u8..4, 0u16..4, 0u8..5, any::<u8>());
    let body = (any::<u8>(), 0u32..4, 0u32..4, proptest::collection::vec(any::<u8>(), 0..40));
    (ends, body).prop_map(|((host, port, remote, to, ttl, kind), (flags, seq, ack, payload))| {
        let inside = SocketAddr::new([192, 168, 1, host].into(), 5000 + port);
        let outside = SocketAddr::new([198, 51, 100, remote].into(), 5000 + to);
        let (source, destination) =
            if kind & 1 == 0 { (inside, outside) } else { (outside, inside) };
        match kind & 6 {
            0 => udp(source, destination, ttl, &payload),
            2 => tcp(&Segment {
                source,
                destination,
                ttl,
                flags,
                sequence: seq.wrapping_sub(2),
                acknowledgment: ack.wrapping_sub(2),
                payload,
            }),
            _ => {
                let cause = Packet::parse(&udp(destination, source, ttl, &payload)).unwrap();
                icmp_error(source.ip(), &cause, IcmpError::TimeExceeded).unwrap()
            }
        }
    })
}

/// A packet, perhaps with some bytes replaced and its end cut off.
fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let cut = any::<prop::sample::Index>();
    let damaged =
        (some_packet(), damage, cut, any::<bool>()).prop_map(|(mut bytes, damage, cut, whole)| {
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let length = if whole { bytes.len() } else { cut.index(bytes.len()) };
            bytes.truncate(length);
            bytes
        });
    prop_oneof![damaged, proptest::collection::vec(any::<u8>(), 0..120)]
}

fn some_behaviour() -> impl Strategy<Value = Behaviour> {
    let settings = prop::sample::subsequence(
        vec![
            "in=open",
            "in=reset",
            "in=admin",
            "syn=strict",
            "syn=reset",
            "rst=kill",
            "rst=ignore",
            "ttlx=kill",
            "hairpin=yes",
            "hairpin=raw",
            "isn=rewrite",
            "window=off",
            "window=liberal",
            "invalid=leak",
            "loose=no",
            "ttl=reset",
            "filter=ei",
        ],
        0..6,
    );
    let site = prop::sample::select(SITES.to_vec());
    (site, settings).prop_filter_map("public has no box", |(site, settings)| {
        let base = site.split('@').next().unwrap();
        let text = [&[base][..], &settings[..]].concat().join(",");
        text.parse::<Site>().ok()?.boxes.first().map(|nat| nat.behaviour)
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        behaviour in some_behaviour(),
        packets in proptest::collection::vec((some_bytes(), any::<bool>(), 0u64..40), 1..40),
    ) {
        let mut bench = Bench::of(behaviour);
        for (bytes, outwards, seconds) in packets {
            bench.wait(seconds);
            let verdict = if outwards { bench.out(&bytes) } else { bench.back(&bytes) };
            if let Verdict::Outside(bytes) | Verdict::Inside(bytes) = verdict {
                prop_assert!(Packet::parse(&bytes).is_ok());
            }
        }
    }

    #[test]
    fn equal_keys_share_an_external_end_and_exclusive_ends_have_one_key(
        behaviour in some_behaviour(),
        packets in proptest::collection::vec((some_packet(), any::<bool>(), 0u64..40), 1..60),
    ) {
        let mut bench = Bench::of(behaviour);
        for (bytes, outwards, seconds) in packets {
            bench.wait(seconds);
            let _ = if outwards { bench.out(&bytes) } else { bench.back(&bytes) };
            let alive: Vec<MappingView> = bench.nat.mappings(bench.now).collect();
            for (at, one) in alive.iter().enumerate() {
                for other in &alive[at + 1..] {
                    prop_assert_ne!(one.key, other.key);
                    let shared = one.external == other.external
                        && one.key.transport() == other.key.transport();
                    prop_assert!(!shared || !one.key.meets(&other.key));
                }
            }
        }
    }

    #[test]
    fn equal_seeds_give_equal_packets(
        behaviour in some_behaviour(),
        packets in proptest::collection::vec((some_packet(), any::<bool>()), 1..30),
    ) {
        let (mut one, mut other) = (Bench::of(behaviour), Bench::of(behaviour));
        for (bytes, outwards) in packets {
            let verdicts = [&mut one, &mut other].map(|bench| {
                if outwards { bench.out(&bytes) } else { bench.back(&bytes) }
            });
            prop_assert_eq!(&verdicts[0], &verdicts[1]);
        }
    }
}
