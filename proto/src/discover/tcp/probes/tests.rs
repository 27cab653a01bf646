//! One test at a time, with a server of few words.

use super::*;
use crate::command::{Command, Owner};
use crate::entropy::Seed;

const RTT: Duration = Duration::from_millis(40);

/// The tests, and what they want done.
struct Bench {
    probes: Probes,
    outbox: Outbox,
    now: Instant,
    ports: u16,
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn server() -> SocketAddr {
    at("203.0.113.1:3478")
}

fn outcome(result: Met) -> Reply {
    let outcome = Outcome { result, ttl: None, elapsed: RTT };
    Reply::Ended { outcome, from: Some(at("203.0.113.1:40000")) }
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn new(tests: &[Test]) -> Self {
        let (mut outbox, now) = (Outbox::new(Owner(1)), Instant::now());
        let offer = (server(), Offer::of(tests), RTT);
        let mut entropy = Entropy::new(Seed::from_number(1));
        let probes = Probes::new(Family::V4, offer, &mut entropy, &mut outbox, now);
        Self { probes, outbox, now, ports: 50_000 }
    }

    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.outbox.poll()).collect()
    }

    /// Lets every connect to the server succeed and every listener open; the requests that are sent.
    fn proceed(&mut self) -> Vec<(SocketId, TransactionId, Test)> {
        let mut requests = Vec::new();
        loop {
            let commands = self.commands();
            if commands.is_empty() {
                return requests;
            }
            for command in commands {
                match command {
                    Command::ConnectTcp { id, remote, .. } if remote == server() => {
                        self.ports += 1;
                        let local = SocketAddr::new(at("10.0.0.2:0").ip(), self.ports);
                        let ends = Ok(Ends { local, remote });
                        self.probes.on_connected(id, &ends, &mut self.outbox);
                    }
                    Command::ListenTcp { id, local, .. } => {
                        self.probes.on_bound(id, &Ok(local), &mut self.outbox);
                    }
                    Command::SendTcp { socket, payload, .. } => {
                        let message = Message::parse(&payload).unwrap();
                        let wish = message.attribute::<Wish>().unwrap().unwrap();
                        requests.push((socket, message.transaction_id(), wish.test));
                    }
                    Command::ConnectTcp { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn reply(&mut self, socket: SocketId, id: TransactionId, reply: Reply) {
        self.probes.on_message(socket, &reply.write(id), &mut self.outbox, self.now);
    }

    /// All requests of one test are answered alike.
    fn answer(&mut self, test: Test, met: Met) {
        for (socket, id, asked) in self.proceed() {
            assert_eq!(asked, test);
            self.reply(socket, id, outcome(met));
        }
    }

    /// The server connects to the listener of the first probe, with this token.
    fn let_in(&mut self, token: TransactionId) {
        let listener = self.probes.probes[0].listener.expect("it listens");
        let socket = SocketId::accepted(listener, 1);
        self.probes.on_accepted(listener, socket);
        self.probes.on_message(socket, &probe::token(token), &mut self.outbox, self.now);
    }
}

#[test]
fn what_was_not_offered_is_neither_asked_nor_told() {
    let mut bench = Bench::new(&[Test::Cross, Test::Reserve]);
    assert!(bench.proceed().iter().all(|(_, _, test)| *test == Test::Reserve));
    let bench = Bench::new(&[]);
    assert!(bench.probes.is_settled());
    assert_eq!((bench.probes.filtering(), bench.probes.unsolicited_syn()), (None, None));
}

#[test]
fn a_connection_counts_as_let_in_by_its_token_and_by_nothing_else() {
    let mut bench = Bench::new(&[Test::OtherAddress]);
    let requests = bench.proceed();
    let (_, own, _) = requests[0];
    bench.let_in(TransactionId::new([0; 12]));
    for (socket, id, _) in requests {
        bench.reply(socket, id, outcome(Met::Connected));
    }
    assert_eq!(bench.probes.filtering(), None, "somebody was reached, but not this host");
    assert!(!bench.probes.is_settled(), "the token may still come");
    bench.let_in(own);
    assert_eq!(bench.probes.filtering(), Some(Filtering::EndpointIndependent));
}

#[test]
fn filtering_is_told_by_what_passes() {
    let cases = [
        (Met::Silence, Met::Silence, Some(Filtering::AddressAndPortDependent)),
        (Met::Reset, Met::Icmp { kind: 3, code: 13 }, Some(Filtering::AddressAndPortDependent)),
        (Met::NotTried, Met::Silence, Some(Filtering::AddressAndPortDependent)),
        (Met::Silence, Met::NotTried, None),
        (Met::Connected, Met::Connected, None),
    ];
    for (address, port, expected) in cases {
        let mut bench = Bench::new(&[Test::OtherAddress, Test::OtherPort]);
        for (socket, id, test) in bench.proceed() {
            let met = if test == Test::OtherAddress { address } else { port };
            bench.reply(socket, id, outcome(met));
        }
        assert_eq!(bench.probes.filtering(), expected, "{address:?} {port:?}");
    }
}

#[test]
fn one_silence_is_no_witness_and_a_word_is() {
    let mut bench = Bench::new(&[Test::Unused]);
    let requests = bench.proceed();
    let [(first, id, _), (second, other, _), ..] = requests[..] else { panic!("{requests:?}") };
    bench.reply(first, id, outcome(Met::Silence));
    assert_eq!(bench.probes.unsolicited_syn(), None);
    bench.reply(second, other, outcome(Met::Silence));
    assert_eq!(bench.probes.unsolicited_syn(), Some(UnsolicitedSyn::Silent));
    let mut bench = Bench::new(&[Test::Unused]);
    let (socket, id, _) = bench.proceed()[0];
    bench.reply(socket, id, outcome(Met::Icmp { kind: 3, code: 13 }));
    assert_eq!(bench.probes.unsolicited_syn(), Some(UnsolicitedSyn::Icmp));
}

/// Up to where the crossing SYNs have been asked for.
fn crossing(bench: &mut Bench, reserved: &str) -> Vec<(SocketId, TransactionId, Test)> {
    for (socket, id, test) in bench.proceed() {
        assert_eq!(test, Test::Reserve);
        bench.reply(socket, id, Reply::Reserved(at(reserved)));
    }
    assert!(bench.proceed().is_empty(), "the client's SYN goes first");
    let deadline = bench.probes.poll_timeout().expect("it waits");
    bench.now = deadline.at;
    bench.probes.handle_timeout(&mut bench.outbox, bench.now);
    bench.proceed()
}

#[test]
fn the_fate_of_a_crossing_syn_is_told_where_it_was_aimed() {
    let eim = Some(Mapping::EndpointIndependent);
    let apdm = Some(Mapping::AddressAndPortDependent);
    let cases = [
        (Met::Connected, eim, Some(InboundSynAfterSyn::Accepted)),
        (Met::Connected, apdm, Some(InboundSynAfterSyn::Accepted)),
        (Met::Silence, eim, Some(InboundSynAfterSyn::Dropped)),
        (Met::Silence, apdm, None),
        (Met::Silence, None, None),
        (Met::Reset, eim, Some(InboundSynAfterSyn::Rst)),
        (Met::NotTried, eim, None),
    ];
    for (met, mapping, expected) in cases {
        let mut bench = Bench::new(&[Test::Reserve, Test::Cross]);
        for (socket, id, test) in crossing(&mut bench, "203.0.113.1:5000") {
            assert_eq!(test, Test::Cross);
            bench.reply(socket, id, outcome(met));
        }
        assert_eq!(bench.probes.inbound_syn_after_syn(mapping), expected, "{met:?} {mapping:?}");
        assert!(bench.probes.is_settled());
    }
}

#[test]
fn no_syn_goes_to_anybody_but_the_server() {
    let mut bench = Bench::new(&[Test::Reserve, Test::Cross]);
    for (socket, id, _) in bench.proceed() {
        bench.reply(socket, id, Reply::Reserved(at("192.0.2.66:5000")));
    }
    assert_eq!(bench.commands(), []);
    assert!(bench.probes.is_settled());
}

#[test]
fn a_server_that_refuses_or_falls_silent_leaves_everything_untold_in_time() {
    let all = Test::ALL;
    let mut refused = Bench::new(&all);
    for (socket, id, _) in refused.proceed() {
        refused.reply(socket, id, Reply::Refused(486));
    }
    assert!(refused.probes.is_settled());
    let mut silent = Bench::new(&all);
    silent.proceed();
    let end = silent.probes.poll_timeout().expect("it waits").at;
    assert!(end - silent.now <= Duration::from_secs(1), "{:?}", end - silent.now);
    silent.probes.handle_timeout(&mut silent.outbox, end);
    for bench in [&refused, &silent] {
        assert!(bench.probes.is_settled() && bench.probes.poll_timeout().is_none());
        let eim = Some(Mapping::EndpointIndependent);
        assert_eq!(bench.probes.filtering(), None);
        assert_eq!(bench.probes.unsolicited_syn(), None);
        assert_eq!(bench.probes.inbound_syn_after_syn(eim), None);
        assert_eq!(bench.probes.reached_after_rst(eim), None);
    }
}

#[test]
fn silence_after_the_last_answer_is_not_waited_for() {
    let mut bench = Bench::new(&[Test::OtherPort]);
    bench.answer(Test::OtherPort, Met::Silence);
    assert!(bench.probes.is_settled());
    assert_eq!(bench.probes.poll_timeout(), None);
}

#[test]
fn a_port_that_is_lost_with_the_connection_that_asks_about_it_lets_no_syn_in() {
    let eim = Some(Mapping::EndpointIndependent);
    for (cut, expected) in [(3, Some(InboundSynAfterSyn::Dropped)), (2, None)] {
        let mut bench = Bench::new(&[Test::Refuse, Test::Reserve, Test::Cross, Test::CrossFar]);
        for (socket, id, _) in bench.proceed() {
            bench.reply(socket, id, Reply::Reserved(at("203.0.113.1:5000")));
        }
        bench.now = bench.probes.poll_timeout().expect("it waits").at;
        bench.probes.handle_timeout(&mut bench.outbox, bench.now);
        let mut deaf = Vec::new();
        for (socket, id, test) in bench.proceed() {
            match test {
                Test::CrossFar => deaf.push(socket),
                _ => bench.reply(socket, id, outcome(Met::Connected)),
            }
        }
        deaf.into_iter().take(cut).for_each(|socket| bench.probes.on_closed(socket));
        assert_eq!(bench.probes.inbound_syn_after_rst(eim), expected, "{cut}");
    }
}
