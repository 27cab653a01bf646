//! Behaviour discovery, scripted: what each test sends when, and what it makes of the answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::attribute::{
    ChangeRequest, ChangedAddress, ErrorCode, MappedAddress, OtherAddress, XorMappedAddress,
};
use ntcp_stun::behavior::mapping::MAX_SERVERS;
use ntcp_stun::behavior::{
    Alternate, Change, Datagram, Exchange, Filtering, FilteringTest, HairpinTest, HonestyTest,
    Ladder, Mapping, MappingTest, Passage, PortTest, RequestSeed, ServerState, Slot, Test,
    Transmit, filtering,
};
use ntcp_stun::{AttributeType, Class, Message, WriteError, Writer};

const SEED: RequestSeed = RequestSeed([7; 10]);
const RTT: Duration = Duration::from_millis(40);

fn server() -> SocketAddr {
    "203.0.113.10:3478".parse().unwrap()
}

fn alternate() -> Alternate {
    Alternate::accept(server(), "203.0.113.11:3479".parse().unwrap()).unwrap()
}

fn mapped() -> SocketAddr {
    "198.51.100.1:40000".parse().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test needs some origin of its instants")]
fn start() -> Instant {
    Instant::now()
}

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// The answer of `class` to `request`, with what `fill` adds.
fn answer(
    request: &[u8],
    class: Class,
    fill: impl FnOnce(&mut Writer<'_>) -> Result<(), WriteError>,
) -> Vec<u8> {
    let request = Message::parse(request).unwrap();
    let mut buffer = [0; 256];
    let mut writer = Writer::reply(&mut buffer, class, &request).unwrap();
    fill(&mut writer).unwrap();
    let length = writer.finish();
    buffer[..length].to_vec()
}

fn success(request: &[u8]) -> Vec<u8> {
    seen(request, mapped())
}

fn seen(request: &[u8], by: SocketAddr) -> Vec<u8> {
    answer(request, Class::Success, |writer| writer.attribute(&XorMappedAddress(by)))
}

fn two_addresses(request: &[u8], by: SocketAddr) -> Vec<u8> {
    answer(request, Class::Success, |writer| {
        writer.attribute(&XorMappedAddress(by))?;
        writer.attribute(&OtherAddress(alternate().other_both()))
    })
}

fn refusal(request: &[u8], code: u16) -> Vec<u8> {
    answer(request, Class::Error, |writer| writer.attribute(&ErrorCode::new(code, "no")?))
}

fn plain(ladder: Ladder, now: Instant) -> Exchange {
    Exchange::plain(SEED, 0, server(), ladder, now)
}

/// Everything a test wants sent now.
fn drain(test: &mut impl Test) -> Vec<Transmit> {
    std::iter::from_fn(|| test.poll_transmit()).collect()
}

/// Lets a test run without answers until `until`, and lists what it sent when.
fn silence(test: &mut impl Test, from: Instant, until: Option<Duration>) -> Vec<(u128, Transmit)> {
    let mut sent: Vec<_> = drain(test).into_iter().map(|it| (0, it)).collect();
    while let Some(at) = test.poll_timeout() {
        if until.is_some_and(|until| at > from + until) {
            break;
        }
        test.handle_timeout(at);
        sent.extend(drain(test).into_iter().map(|it| ((at - from).as_millis(), it)));
    }
    sent
}

fn hear(test: &mut impl Test, slot: u8, source: SocketAddr, payload: &[u8], now: Instant) {
    test.handle_datagram(Datagram { slot: Slot(slot), source, payload }, now);
}

fn change_of(request: &[u8]) -> ChangeRequest {
    let message = Message::parse(request).unwrap();
    message.attribute().unwrap().unwrap_or(ChangeRequest::Nothing)
}

#[test]
fn a_request_is_sent_seven_times_each_time_with_an_id_of_its_own() {
    let now = start();
    let mut exchange = plain(Ladder::silence(RTT), now);
    let mut ids: Vec<_> = std::iter::from_fn(|| exchange.poll_transmit()).collect();
    let mut instants = vec![0];
    while let Some(at) = exchange.poll_timeout() {
        exchange.handle_timeout(at);
        instants.push((at - now).as_millis());
        ids.extend(std::iter::from_fn(|| exchange.poll_transmit()));
    }
    assert_eq!(instants, [0, 40, 80, 120, 160, 200, 240, 430]);
    assert_eq!(ids.len(), 7);
    assert!(ids.iter().all(|it| it.len() == 20), "nothing but a header");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 7);
    assert!(exchange.is_settled() && exchange.answer().is_none());
}

#[test]
fn the_round_trip_counts_from_the_transmission_that_is_answered() {
    let now = start();
    let mut exchange = plain(Ladder::contact(), now);
    let _first = exchange.poll_transmit().unwrap();
    exchange.handle_timeout(now + ms(150));
    let second = exchange.poll_transmit().unwrap();
    assert!(exchange.handle_datagram(server(), &success(&second), now + ms(190)));
    assert_eq!(exchange.answer().unwrap().rtt, ms(40));
    assert_eq!(exchange.answer().unwrap().binding.mapped, mapped());
}

#[test]
fn an_answer_after_silence_is_better_than_none_and_a_second_one_changes_nothing() {
    let now = start();
    let mut exchange = plain(Ladder::silence(RTT), now);
    let request = exchange.poll_transmit().unwrap();
    while let Some(at) = exchange.poll_timeout() {
        exchange.handle_timeout(at);
    }
    exchange.handle_datagram(server(), &success(&request), now + ms(2_000));
    let first = exchange.answer();
    assert_eq!(first.unwrap().rtt, ms(2_000));
    exchange.handle_datagram(server(), &seen(&request, server()), now + ms(2_100));
    assert_eq!(exchange.answer(), first);
}

#[test]
fn an_answer_from_elsewhere_is_evidence_but_no_answer() {
    let now = start();
    let mut exchange = plain(Ladder::contact(), now);
    let request = exchange.poll_transmit().unwrap();
    let other = alternate().other_both();
    assert!(exchange.handle_datagram(other, &success(&request), now));
    assert_eq!((exchange.answer(), exchange.elsewhere()), (None, Some(other)));
    assert!(!exchange.is_settled());
}

#[test]
fn an_error_ends_the_exchange_with_its_code() {
    let now = start();
    let mut exchange = plain(Ladder::contact(), now);
    let request = exchange.poll_transmit().unwrap();
    exchange.handle_datagram(server(), &refusal(&request, 401), now);
    assert_eq!(exchange.refusal(), Some(401));
    assert!(exchange.is_settled());
}

#[test]
fn what_is_no_answer_is_ignored() {
    let now = start();
    let mut exchange = plain(Ladder::contact(), now);
    let request = exchange.poll_transmit().unwrap();
    let foreign =
        Exchange::plain(RequestSeed([8; 10]), 0, server(), Ladder::contact(), now).poll_transmit();
    let other_number = Exchange::plain(SEED, 1, server(), Ladder::contact(), now).poll_transmit();
    let unsent = {
        let mut twin = plain(Ladder::contact(), now);
        twin.handle_timeout(now + ms(150));
        twin.poll_transmit();
        twin.poll_transmit().unwrap()
    };
    let mut damaged = answer(&request, Class::Success, |writer| {
        writer.attribute(&XorMappedAddress(mapped()))?;
        writer.fingerprint()
    });
    *damaged.last_mut().unwrap() ^= 1;
    let unknown = answer(&request, Class::Success, |writer| {
        writer.attribute(&XorMappedAddress(mapped()))?;
        writer.raw_attribute(AttributeType::new(0x7ABC), &[0; 4])
    });
    let empty = answer(&request, Class::Success, |_| Ok(()));
    let six = seen(&request, "[2001:db8::1]:5".parse().unwrap());
    let no_port = seen(&request, "198.51.100.1:0".parse().unwrap());
    let answers = [
        success(&foreign.unwrap()),
        success(&other_number.unwrap()),
        success(&unsent),
        damaged,
        unknown,
        empty,
        six,
        no_port,
        request.clone(),
        b"hello".to_vec(),
        Vec::new(),
    ];
    for payload in answers {
        exchange.handle_datagram(server(), &payload, now);
        assert!(!exchange.is_settled() && exchange.elsewhere().is_none(), "{payload:02x?}");
    }
    exchange.handle_datagram(server(), &success(&request), now);
    assert!(exchange.is_settled());
}

#[test]
fn the_plain_address_counts_where_there_is_no_other_and_a_difference_is_noticed() {
    let read = |fill: fn(&mut Writer<'_>) -> Result<(), WriteError>| {
        let mut exchange = plain(Ladder::contact(), start());
        let request = exchange.poll_transmit().unwrap();
        let payload = answer(&request, Class::Success, fill);
        exchange.handle_datagram(server(), &payload, start());
        exchange.answer().unwrap().binding
    };
    let classic = read(|writer| {
        writer.attribute(&MappedAddress(mapped()))?;
        writer.attribute(&ChangedAddress(alternate().other_both()))
    });
    assert_eq!((classic.mapped, classic.rewritten), (mapped(), false));
    assert_eq!(classic.other, Some(alternate().other_both()));
    let rewritten = read(|writer| {
        writer.attribute(&MappedAddress("10.0.0.2:5".parse().unwrap()))?;
        writer.attribute(&XorMappedAddress(mapped()))
    });
    assert_eq!((rewritten.mapped, rewritten.rewritten), (mapped(), true));
}

#[test]
fn the_mapping_test_goes_on_to_the_other_addresses_as_soon_as_it_knows_them() {
    let now = start();
    let mut test = MappingTest::new(SEED);
    test.contact(server(), now);
    test.contact(server(), now);
    let first = drain(&mut test);
    assert_eq!(first.len(), 1, "one server is asked once");
    hear(&mut test, 0, server(), &two_addresses(&first[0].payload, mapped()), now + RTT);
    assert_eq!(test.verdict(), None);
    assert!(!test.is_settled_with(server()));
    let others = drain(&mut test);
    let asked: Vec<_> = others.iter().map(|it| it.destination).collect();
    let expected = [alternate().other_ip(), alternate().other_port(), alternate().other_both()];
    assert_eq!(asked, expected);
    for Transmit { destination, payload, .. } in &others {
        hear(&mut test, 0, *destination, &success(payload), now + RTT * 2);
    }
    assert_eq!(test.verdict(), Some(Mapping::EndpointIndependent));
    assert!(test.is_settled() && test.poll_timeout().is_none());
    let servers: Vec<_> = test.servers().collect();
    assert_eq!(servers, [(server(), ServerState::TwoAddresses(alternate()), Some(RTT))]);
}

#[test]
fn servers_that_have_not_answered_are_asked_at_a_known_pace_once_one_has() {
    let now = start();
    let mut test = MappingTest::new(SEED);
    let dead: SocketAddr = "203.0.113.99:3478".parse().unwrap();
    test.contact(server(), now);
    test.contact(dead, now);
    let first = drain(&mut test);
    hear(&mut test, 0, server(), &success(&first[0].payload), now + RTT);
    let instants: Vec<_> = silence(&mut test, now, None).into_iter().map(|it| it.0).collect();
    assert_eq!(instants, [150, 300, 450, 600, 750, 900]);
    assert!(test.is_settled());
}

#[test]
fn no_more_servers_are_asked_than_the_limit() {
    let now = start();
    let mut test = MappingTest::new(SEED);
    for number in 0..100u8 {
        test.contact(SocketAddr::new([203, 0, 113, number].into(), 3478), now);
    }
    assert_eq!(drain(&mut test).len(), MAX_SERVERS);
}

/// A filtering test whose opening request has just been answered.
fn opened(change: Change, now: Instant) -> FilteringTest {
    let mut test = FilteringTest::new(SEED, alternate(), change, RTT, now);
    let opening = drain(&mut test);
    assert_eq!(change_of(&opening[0].payload), ChangeRequest::Nothing);
    hear(&mut test, 0, server(), &success(&opening[0].payload), now);
    test
}

#[test]
fn the_filtering_test_believes_silence_after_seven_requests_and_a_last_word_of_the_server() {
    let now = start();
    let mut test = opened(Change::IpAndPort, now);
    let sent = silence(&mut test, now, Some(ms(249)));
    let instants: Vec<_> = sent.iter().map(|it| it.0).collect();
    // With the seventh goes the question whether the server is still there.
    assert_eq!(instants, [0, 40, 80, 120, 160, 200, 240, 240]);
    let changes: Vec<_> = sent.iter().map(|it| change_of(&it.1.payload)).collect();
    assert_eq!(changes[..7], [ChangeRequest::IpAndPort; 7]);
    assert_eq!(changes[7], ChangeRequest::Nothing);
    assert!(sent.iter().all(|it| it.1.destination == server()));
    hear(&mut test, 0, server(), &success(&sent[7].1.payload), now + ms(280));
    assert_eq!(test.finding(), None, "silence is not believed yet");
    test.handle_timeout(now + ms(430));
    assert_eq!(test.finding(), Some(Passage::Blocked));
    assert!(test.is_settled() && test.poll_timeout().is_none());
}

#[test]
fn a_changed_reply_counts_only_from_where_it_was_asked_for() {
    let both = alternate().other_both();
    let port = alternate().other_port();
    let cases = [
        (Change::IpAndPort, both, Passage::Passed),
        (Change::Port, port, Passage::Passed),
        (Change::IpAndPort, port, Passage::Elsewhere(port)),
        (Change::IpAndPort, server(), Passage::Elsewhere(server())),
        (Change::Port, both, Passage::Elsewhere(both)),
        (Change::Port, server(), Passage::Elsewhere(server())),
    ];
    for (change, source, expected) in cases {
        let now = start();
        let mut test = opened(change, now);
        let probe = drain(&mut test);
        hear(&mut test, 0, source, &success(&probe[0].payload), now);
        assert_eq!(test.finding(), Some(expected), "{change:?} from {source}");
    }
}

#[test]
fn a_server_that_refuses_or_falls_silent_tells_nothing() {
    let now = start();
    let mut test = opened(Change::Port, now);
    let probe = drain(&mut test);
    hear(&mut test, 0, server(), &refusal(&probe[0].payload, 420), now);
    assert_eq!(test.finding(), Some(Passage::Refused(420)));

    let mut test = opened(Change::Port, now);
    silence(&mut test, now, None);
    assert_eq!(test.finding(), Some(Passage::ServerSilent));

    let mut test = FilteringTest::new(SEED, alternate(), Change::Port, RTT, now);
    silence(&mut test, now, None);
    assert_eq!(test.finding(), Some(Passage::ServerSilent));
}

#[test]
fn a_late_changed_reply_beats_the_servers_last_word() {
    let now = start();
    let mut test = opened(Change::IpAndPort, now);
    let sent = silence(&mut test, now, Some(ms(430)));
    let last_word = sent.iter().find(|it| change_of(&it.1.payload) == ChangeRequest::Nothing);
    let both = alternate().other_both();
    hear(&mut test, 0, both, &success(&sent[0].1.payload), now + ms(431));
    hear(&mut test, 0, server(), &success(&last_word.unwrap().1.payload), now + ms(432));
    assert_eq!(test.finding(), Some(Passage::Passed));
}

#[test]
fn every_pair_of_passages_has_its_verdict() {
    use Filtering as F;
    use Passage::{Blocked, Elsewhere, Passed, Refused, ServerSilent};
    let faults = [Elsewhere(server()), Refused(420), ServerSilent];
    let honest = |_: Change| true;
    let liar = |_: Change| false;
    let eim = Some(Mapping::EndpointIndependent);
    let apdm = Some(Mapping::AddressAndPortDependent);
    for port in faults.into_iter().chain([Passed, Blocked]) {
        assert_eq!(filtering::judge(eim, Passed, port, liar), Some(F::EndpointIndependent));
        for fault in faults {
            assert_eq!(filtering::judge(eim, fault, port, honest), None);
        }
    }
    let told = |mapping, port, honest: fn(Change) -> bool| {
        filtering::judge(mapping, Blocked, port, honest)
    };
    assert_eq!(told(eim, Passed, honest), Some(F::AddressDependent));
    assert_eq!(told(eim, Blocked, honest), Some(F::AddressAndPortDependent));
    for fault in faults {
        assert_eq!(told(eim, fault, honest), None);
    }
    // A server never seen to send changed replies tells nothing by silence, where that could be seen.
    assert_eq!(told(eim, Passed, liar), None);
    assert_eq!(told(eim, Blocked, liar), None);
    assert_eq!(told(apdm, Blocked, liar), Some(F::AddressAndPortDependent));
    assert_eq!(told(None, Passed, liar), Some(F::AddressDependent));
    let only = |wanted: Change| move |change: Change| change == wanted;
    let judged = |change| filtering::judge(eim, Blocked, Blocked, only(change));
    assert_eq!((judged(Change::Port), judged(Change::IpAndPort)), (None, None));
}

#[test]
fn the_honesty_test_tells_each_change_by_itself() {
    let now = start();
    let mut test = HonestyTest::new(SEED, alternate(), RTT, now);
    let sent = drain(&mut test);
    let changes: Vec<_> = sent.iter().map(|it| change_of(&it.payload)).collect();
    assert_eq!(changes, [ChangeRequest::IpAndPort, ChangeRequest::Port]);
    hear(&mut test, 0, alternate().other_port(), &success(&sent[1].payload), now + RTT);
    assert_eq!(test.finding(Change::Port), Some(Passage::Passed));
    assert_eq!(test.finding(Change::IpAndPort), None);
    silence(&mut test, now, None);
    assert!(test.is_settled());
    assert_eq!(test.finding(Change::IpAndPort), None);
}

/// A hairpin test whose sockets have learned that they are seen as these.
fn learned(now: Instant) -> (HairpinTest, [SocketAddr; 2]) {
    let addresses = ["198.51.100.1:41000", "198.51.100.1:42000"].map(|it| it.parse().unwrap());
    let mut test = HairpinTest::new(SEED, server(), RTT, now);
    for Transmit { slot, payload, .. } in drain(&mut test) {
        let by = addresses[usize::from(slot.0)];
        hear(&mut test, slot.0, server(), &seen(&payload, by), now);
    }
    (test, addresses)
}

#[test]
fn a_hairpin_is_either_socket_hearing_the_other() {
    for listener in [0u8, 1] {
        let now = start();
        let (mut test, addresses) = learned(now);
        let sent = drain(&mut test);
        let route: Vec<_> = sent.iter().map(|it| (it.slot.0, it.destination)).collect();
        assert_eq!(route, [(0, addresses[1]), (1, addresses[0])]);
        let (own, other) = (usize::from(listener), usize::from(1 - listener));
        hear(&mut test, listener, addresses[own], &sent[own].payload, now);
        assert_eq!(test.finding(), None, "one's own request is no proof");
        hear(&mut test, listener, addresses[other], &sent[other].payload, now);
        assert_eq!(test.finding(), Some(true));
        assert!(test.is_settled());
    }
}

#[test]
fn no_hairpin_is_believed_after_seven_attempts_each_way() {
    let now = start();
    let (mut test, _) = learned(now);
    let sent = silence(&mut test, now, None);
    let instants: Vec<_> = sent.iter().map(|it| it.0).collect();
    assert_eq!(instants, [0, 40, 80, 120, 160, 200, 240].map(|it| [it, it]).concat());
    assert_eq!((test.finding(), test.is_settled()), (Some(false), true));
    let mut unanswered = HairpinTest::new(SEED, server(), RTT, now);
    silence(&mut unanswered, now, None);
    assert_eq!((unanswered.finding(), unanswered.is_settled()), (None, true));
}

#[test]
fn port_samples_come_in_the_order_of_sending_whatever_the_order_of_answers() {
    let now = start();
    let mut test = PortTest::new(SEED, server(), 8, RTT, now);
    let mut sent = drain(&mut test);
    let slots: Vec<_> = sent.iter().map(|it| it.slot.0).collect();
    assert_eq!(slots, [0, 1, 2, 3, 4, 5, 6, 7]);
    sent.reverse();
    for Transmit { slot, payload, .. } in &sent {
        let by = SocketAddr::new(mapped().ip(), 40_000 + u16::from(slot.0));
        // An answer at another socket than the one that asked is none.
        hear(&mut test, 7 - slot.0, server(), &seen(payload, mapped()), now + RTT);
        hear(&mut test, slot.0, server(), &seen(payload, by), now + RTT);
    }
    let ports: Vec<_> = test.samples().map(|it| it.1.port()).collect();
    assert_eq!(ports, [40_000, 40_001, 40_002, 40_003, 40_004, 40_005, 40_006, 40_007]);
    assert!(test.is_settled());
}
