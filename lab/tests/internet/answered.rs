//! Spoofed SYN-ACKs by the broker, between NATs that let no SYN in.

use std::time::Duration;

use ntcp_lab::host::Privileges;
use ntcp_lab::meeting::{Meeting, Outcome, Setup};
use ntcp_proto::puncher::report::Strategy;
use ntcp_proto::rendezvous::{Config, ForgeLimits, Forging};
use ntcp_proto::uri::TransportChoice;

const RAW: Privileges = Privileges { raw: true, admin: false };

fn forging() -> Config {
    Config { forging: Forging::Within(ForgeLimits::default()), ..Config::default() }
}

fn setup(a: &str, b: &str, privileges: Privileges) -> Setup {
    let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
    let transport = TransportChoice::Tcp;
    Setup { transport, privileges, broker: forging(), ..Setup::new(&a, &b) }
}

fn strategy(outcome: &Outcome) -> Option<Strategy> {
    outcome.caller.as_ref().and_then(|it| it.report.strategy)
}

#[test]
fn two_nats_that_let_no_syn_in_are_passed() {
    for nat in ["masq,syn=strict", "port-restricted,syn=strict", "masq,syn=strict,in=reset"] {
        let outcome = Meeting::new(&setup(nat, nat, RAW)).call();
        assert_eq!(strategy(&outcome), Some(Strategy::SpoofedSynAck), "{nat}: {outcome:#?}");
        assert!(outcome.elapsed.is_some_and(|it| it < Duration::from_secs(2)), "{nat}");
    }
}

#[test]
fn a_fixed_sequence_number_does_as_well_as_a_capture() {
    // Without window scale and timestamps: such a host can also assume connections, but not here.
    let admin = Privileges { raw: false, admin: true };
    let setup = setup("masq,syn=strict,loose=no", "masq,syn=strict,loose=no", admin);
    let outcome = Meeting::new(&setup).call();
    assert_eq!(strategy(&outcome), Some(Strategy::SpoofedSynAck), "{outcome:#?}");
}

#[test]
fn without_a_broker_that_forges_or_without_privileges_it_is_left_out() {
    let strict = "masq,syn=strict";
    let none = Setup { broker: Config::default(), ..setup(strict, strict, RAW) };
    assert_ne!(strategy(&Meeting::new(&none).call()), Some(Strategy::SpoofedSynAck));
    assert!(Meeting::new(&setup(strict, strict, Privileges::NONE)).call().caller.is_none());
}

#[test]
fn a_nat_that_rewrites_sequence_numbers_is_not_passed_and_nothing_hangs() {
    let rewriting = setup("masq,syn=strict,isn=rewrite", "masq,syn=strict", RAW);
    let outcome = Meeting::new(&rewriting).call();
    assert!(outcome.caller.is_none() && outcome.report.is_some());
}

#[test]
fn where_syns_pass_nothing_is_forged() {
    let outcome = Meeting::new(&setup("masq", "masq", RAW)).call();
    assert_eq!(strategy(&outcome), Some(Strategy::SimultaneousOpen));
}

#[test]
fn what_came_through_comes_first_the_next_time() {
    let strict = "masq,syn=strict";
    let mut meeting = Meeting::new(&setup(strict, strict, RAW));
    let first = meeting.call().elapsed.unwrap();
    meeting.world.advance(Duration::from_secs(5));
    let second = meeting.call();
    assert_eq!(strategy(&second), Some(Strategy::SpoofedSynAck));
    let second = second.elapsed.unwrap();
    assert!(second + Duration::from_millis(500) < first, "{second:?} after {first:?}");
}
