//! What the server does about PROBE requests.

use super::*;
use crate::probe::{Interval, Met};

const ID: TransactionId = TransactionId::new([9; 12]);

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Instant {
    Instant::now()
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn prober(limits: Limits) -> Prober {
    let mut prober = Prober::new(limits, 1);
    let quartet = Quartet::new(at("192.0.2.1:3478"), at("192.0.2.2:3479")).expect("a quartet");
    prober.add_quartet(quartet);
    prober
}

fn ask(prober: &mut Prober, local: &str, test: Test, reserved: Option<SocketAddr>) -> Step {
    let wish = Wish { test, patience: Interval::of(Duration::from_millis(300)) };
    let bytes = probe::order(ID, wish);
    let (source, transport) = (at("198.51.100.7:40000"), Transport::Tcp);
    let request = Request { bytes: &bytes, source, local: at(local), transport };
    prober.handle_request(request, reserved, start()).expect("a request of ours")
}

fn order(step: Step) -> Order {
    match step {
        Step::Connect(order) => order,
        other => panic!("{other:?}"),
    }
}

fn refusal(step: Step) -> u16 {
    let Step::Reply(bytes) = step else { panic!("{step:?}") };
    let message = Message::parse(&bytes).expect("well-formed");
    match Reply::read(&message) {
        Some(Reply::Refused(code)) => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_test_connects_from_where_it_should_and_only_to_the_client() {
    let mut prober = prober(Limits::default());
    let client = at("198.51.100.7:40000");
    for (local, other) in [("192.0.2.1:3478", "192.0.2.2:0"), ("192.0.2.2:3479", "192.0.2.1:0")] {
        let own = SocketAddr::new(at(local).ip(), 0);
        let port = order(ask(&mut prober, local, Test::OtherPort, None));
        assert_eq!((port.from, port.to, port.attempts), (own, client, ATTEMPTS));
        assert_eq!(port.patience, Duration::from_millis(300));
        let ip = order(ask(&mut prober, local, Test::OtherAddress, None));
        assert_eq!((ip.from, ip.to), (at(other), client));
        let unused = order(ask(&mut prober, local, Test::Unused, None));
        assert_eq!((unused.from, unused.to.ip()), (own, client.ip()));
        assert!(unused.to.port().abs_diff(client.port()) >= DISTANCE, "{}", unused.to);
        let reserve = ask(&mut prober, local, Test::Reserve, None);
        assert_eq!(
            reserve,
            Step::Reserve(Reservation {
                id: ID,
                ip: at(local).ip(),
                conduct: Conduct::Quiet,
                time: RESERVATION,
                lease: Lease::SHORT,
            })
        );
        let refuse = ask(&mut prober, local, Test::Refuse, None);
        assert!(matches!(refuse, Step::Reserve(it) if it.conduct == Conduct::Refusing));
        let deaf = ask(&mut prober, local, Test::Deaf, None);
        assert!(matches!(deaf, Step::Reserve(it) if it.conduct == Conduct::Deaf));
        assert_eq!(ask(&mut prober, local, Test::Look, None), Step::Look(Look { id: ID }));
        let quiet = SocketAddr::new(at(local).ip(), 50_000);
        let cross = order(ask(&mut prober, local, Test::Cross, Some(quiet)));
        assert_eq!((cross.from, cross.to, cross.attempts), (quiet, client, 1));
    }
}

#[test]
fn an_unused_port_is_far_from_the_used_one_at_every_end_of_the_range() {
    let mut prober = prober(Limits::default());
    for used in [1, 1024, 2000, 30_000, 62_000, 65_535] {
        for _ in 0..200 {
            let port = prober.unused(used);
            assert!(port >= LOWEST && port.abs_diff(used) >= DISTANCE, "{used}: {port}");
        }
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let mut prober = prober(Limits::default());
    assert_eq!(refusal(ask(&mut prober, "192.0.2.9:3478", Test::OtherAddress, None)), 400);
    assert_eq!(refusal(ask(&mut prober, "192.0.2.1:3478", Test::Cross, None)), 400);
    assert_eq!(refusal(ask(&mut prober, "0.0.0.0:3478", Test::OtherPort, None)), 400);
    assert_eq!(prober.running, 0, "what is refused holds no place");
}

#[test]
fn places_and_sources_are_bounded_and_places_become_free() {
    let mut narrow = prober(Limits { concurrent: 1, ..Limits::default() });
    order(ask(&mut narrow, "192.0.2.1:3478", Test::OtherPort, None));
    assert_eq!(refusal(ask(&mut narrow, "192.0.2.1:3478", Test::OtherPort, None)), 508);
    narrow.release(Lease::SHORT);
    order(ask(&mut narrow, "192.0.2.1:3478", Test::OtherPort, None));
    let mut strict = prober(Limits { burst: 1, ..Limits::default() });
    order(ask(&mut strict, "192.0.2.1:3478", Test::OtherPort, None));
    assert_eq!(refusal(ask(&mut strict, "192.0.2.1:3478", Test::OtherPort, None)), 486);
}

#[test]
fn only_requests_of_this_method_over_tcp_are_taken() {
    let mut prober = prober(Limits::default());
    let wish = Wish { test: Test::OtherPort, patience: Interval::of(Duration::ZERO) };
    let bytes = probe::order(ID, wish);
    let (source, local) = (at("198.51.100.7:40000"), at("192.0.2.1:3478"));
    let request = |bytes, transport| Request { bytes, source, local, transport };
    let now = start();
    assert_eq!(prober.handle_request(request(&bytes, Transport::Udp), None, now), None);
    let token = probe::token(ID);
    for other in [&token[..], &bytes[..19], b"GET / HTTP/1.1\r\n\r\n"] {
        assert_eq!(prober.handle_request(request(other, Transport::Tcp), None, now), None);
    }
    let step = prober.handle_request(request(&bytes, Transport::Tcp), None, now);
    assert_eq!(order(step.expect("ours")).patience, *PATIENCE.start(), "patience has bounds");
}

#[test]
fn the_reply_tells_the_outcome_to_the_one_who_asked() {
    let mut prober = prober(Limits::default());
    let order = order(ask(&mut prober, "192.0.2.1:3478", Test::Unused, None));
    let outcome = Outcome { result: Met::Reset, ttl: None, elapsed: Duration::from_millis(40) };
    let from = Some(at("192.0.2.1:6000"));
    let bytes = order.reply(outcome, from);
    let message = Message::parse(&bytes).expect("well-formed");
    assert_eq!(message.transaction_id(), ID);
    assert_eq!(Reply::read(&message), Some(Reply::Ended { outcome, from }));
    let token = order.token();
    let token = Message::parse(&token).expect("well-formed");
    assert_eq!(probe::read_token(&token), Some(ID));
}

/// A test of some seconds, asked for from this address.
fn ask_for_long(prober: &mut Prober, source: &str, test: Test, seconds: u64) -> Step {
    let patience = Interval::of_seconds(Duration::from_secs(seconds));
    let bytes = probe::order(ID, Wish { test, patience });
    let (source, local) = (at(source), at("192.0.2.1:3478"));
    let request = Request { bytes: &bytes, source, local, transport: Transport::Tcp };
    prober.handle_request(request, None, start()).expect("a request of ours")
}

fn lease(step: &Step) -> Lease {
    match step {
        Step::Reserve(reservation) => reservation.lease,
        Step::Wait(wait) => wait.lease,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_long_test_lasts_as_long_as_asked_within_bounds() {
    let mut prober = prober(Limits::default());
    for (asked, granted) in [(0, 1), (30, 30), (65_000, 900)] {
        let granted = Duration::from_secs(granted);
        match ask_for_long(&mut prober, "198.51.100.7:1", Test::Hold, asked) {
            Step::Reserve(it) => assert_eq!((it.time, it.conduct), (granted, Conduct::Quiet)),
            other => panic!("{other:?}"),
        }
        match ask_for_long(&mut prober, "198.51.100.7:1", Test::Wait, asked) {
            Step::Wait(it) => assert_eq!(it.time, granted),
            other => panic!("{other:?}"),
        }
    }
    match ask_for_long(&mut prober, "198.51.100.7:1", Test::Reserve, 60) {
        Step::Reserve(it) => assert_eq!((it.time, it.lease), (RESERVATION, Lease::SHORT)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn long_tests_have_places_of_their_own_few_for_each_source() {
    let limits = Limits { long: 5, long_per_source: 2, concurrent: 1, ..Limits::default() };
    let mut prober = prober(limits);
    let one = "198.51.100.7:1";
    let first = ask_for_long(&mut prober, one, Test::Hold, 60);
    ask_for_long(&mut prober, one, Test::Wait, 60);
    assert_eq!(refusal(ask_for_long(&mut prober, one, Test::Wait, 60)), 486);
    // The others of a /64 are the same one.
    for last in [1, 2] {
        ask_for_long(&mut prober, &format!("[2001:db8::{last}]:1"), Test::Wait, 60);
    }
    assert_eq!(refusal(ask_for_long(&mut prober, "[2001:db8::3]:1", Test::Wait, 60)), 486);
    ask_for_long(&mut prober, "198.51.100.8:1", Test::Wait, 60);
    assert_eq!(refusal(ask_for_long(&mut prober, "198.51.100.9:1", Test::Wait, 60)), 508);
    order(ask(&mut prober, "192.0.2.1:3478", Test::OtherPort, None));
    prober.release(lease(&first));
    ask_for_long(&mut prober, one, Test::Hold, 60);
    assert_eq!(prober.running, 1, "a long one given up makes no room for a short one");
}

#[test]
fn a_far_crossing_leaves_with_the_highest_ttl_and_the_others_as_usual() {
    let mut prober = prober(Limits::default());
    let reserved = Some(at("192.0.2.1:7000"));
    let far = order(ask(&mut prober, "192.0.2.1:3478", Test::CrossFar, reserved));
    assert_eq!((far.from, far.to), (at("192.0.2.1:7000"), at("198.51.100.7:40000")));
    assert_eq!(far.ttl, Some(255));
    assert_eq!(order(ask(&mut prober, "192.0.2.1:3478", Test::Cross, reserved)).ttl, None);
    assert_eq!(refusal(ask(&mut prober, "192.0.2.1:3478", Test::CrossFar, None)), 400);
}
