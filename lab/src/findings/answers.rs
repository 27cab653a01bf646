//! What boxes do with packets of strangers, and what a listener is good for.

use crate::probe::Told;
use crate::town::{LOCAL_A, LOCAL_B, Town, ms};

use super::LOW_TTL;

#[test]
fn two_open_input_chains_poison_udp_above_one_delay_of_skew_unless_an_opener_went_first() {
    let kind = "masq,in=open";
    assert!(Town::named(kind, kind).udp_punch(ms(0), None).is_some());
    assert!(Town::named(kind, kind).udp_punch(ms(10), None).is_some());
    for skew in [30, 100, 300] {
        assert_eq!(Town::named(kind, kind).udp_punch(ms(skew), None), None, "{skew} ms");
        assert!(Town::named(kind, kind).udp_punch(ms(skew), Some(LOW_TTL)).is_some(), "{skew} ms");
        // One such NAT alone is met by the peer that answers the source it sees.
        assert!(Town::named(kind, "full-cone").udp_punch(ms(skew), None).is_some(), "{skew} ms");
    }
    for other in ["masq,in=reset", "masq,in=admin", "masq"] {
        assert!(Town::named(other, other).udp_punch(ms(100), None).is_some(), "{other}");
    }
}

#[test]
fn where_a_rst_costs_the_port_only_a_small_skew_works() {
    let kind = "port-restricted,in=reset,rst=kill";
    let near = Town::named(kind, kind).simultaneous_open(ms(10), 200);
    assert!(near.iter().all(Option::is_some));
    let far = Town::named(kind, kind).simultaneous_open(ms(100), 200);
    assert!(far.iter().any(Option::is_none), "{far:?}");
}

#[test]
fn a_listener_on_the_punching_port_lets_a_random_nat_in_over_tcp() {
    for open in ["full-cone", "restricted", "public"] {
        let mut town = Town::named("linux-random", open);
        let a = town.tcp_mapping(town.a, LOCAL_A);
        let b = town.tcp_mapping(town.b, LOCAL_B);
        town.b.listen(&mut town.world, LOCAL_B);
        let start = town.world.clock();
        town.a.retry(&mut town.world, 200);
        town.b.retry(&mut town.world, 200);
        let dial = town.a.connect(&mut town.world, LOCAL_A, b);
        town.b.connect(&mut town.world, LOCAL_B, a);
        town.world.advance(ms(200));
        let (when, result) = town.a.outcome(&mut town.world, dial).unwrap();
        assert!(result.is_ok(), "{open}");
        assert!(when - start <= ms(60), "{open}");
        let told = town.b.told(&mut town.world);
        assert!(told.iter().any(|told| matches!(told, Told::Accepted { .. })), "{open}");
    }
}

#[test]
fn a_changed_source_is_answered_by_open_filters_only() {
    // Address-dependent mapping, an arbitrary pool, a random port for each destination.
    for (kind, partner, works) in [
        ("address-dependent", "full-cone", true),
        ("address-dependent", "restricted", true),
        ("address-dependent", "port-restricted", false),
        ("pool-arbitrary", "full-cone", true),
        ("linux-random", "restricted", true),
        ("linux-random", "port-restricted", false),
    ] {
        let punched = Town::named(kind, partner).udp_punch(ms(0), None);
        assert_eq!(punched.is_some(), works, "{kind} × {partner}");
        if let Some(time) = punched {
            assert!(time <= ms(60), "{kind} × {partner}: {time:?}");
        }
    }
}
