//! A gatherer with scripted answers.

use std::time::Duration;

use ntcp_stun::attribute::XorMappedAddress;
use ntcp_stun::{Class, Message, Writer};

use super::*;
use crate::Owner;
use crate::machine::any_instant;

const HOST: &str = "192.168.1.5";
const SERVER: &str = "203.0.113.10:3478";
const SECOND: &str = "203.0.113.11:3478";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A Binding success to `request` that says `mapped`.
fn success(request: &[u8], mapped: SocketAddr) -> Vec<u8> {
    let request = Message::parse(request).unwrap();
    let mut buffer = [0; 64];
    let mut writer = Writer::reply(&mut buffer, Class::Success, &request).unwrap();
    writer.attribute(&XorMappedAddress(mapped)).unwrap();
    let length = writer.finish();
    buffer[..length].to_vec()
}

/// A gatherer whose system answers at once: names resolve to the two servers, UDP is bound to port
/// 4000 and TCP to 5000.
struct Bench {
    gatherer: Gatherer,
    port: PortId,
    now: Instant,
    start: Instant,
    asked_udp: Vec<(Duration, SocketAddr, Vec<u8>)>,
    connects: Vec<(Duration, CommandId, SocketId, SocketAddr, SocketAddr)>,
    asked_tcp: Vec<(Duration, SocketId, Vec<u8>)>,
    answered_tcp: usize,
    closed: usize,
}

impl Bench {
    fn new(interfaces: &[&str]) -> Self {
        Self::asking(&["stun.example.org".parse().unwrap()], interfaces)
    }

    /// One that asks these servers; the name of a slow one is never found.
    fn asking(servers: &[HostPort], interfaces: &[&str]) -> Self {
        let start = any_instant();
        let mut gatherer =
            Gatherer::new(servers, None, None, Names::new(Owner(1)), Seed::from_number(1));
        let port = gatherer.open_port(0, start);
        let mut bench = Self {
            gatherer,
            port,
            now: start,
            start,
            asked_udp: Vec::new(),
            connects: Vec::new(),
            asked_tcp: Vec::new(),
            answered_tcp: 0,
            closed: 0,
        };
        bench.drain(&interfaces.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<_>>());
        bench
    }

    fn answer(&mut self, id: CommandId, answer: Answer) {
        self.gatherer.handle_input(Input::Answer { id, answer }, self.now);
    }

    fn drain(&mut self, interfaces: &[IpAddr]) {
        let after = self.now - self.start;
        while let Some(command) = self.gatherer.poll_command() {
            match command {
                Command::ListInterfaces { id } => {
                    self.answer(id, Answer::Interfaces(interfaces.to_vec()));
                }
                Command::Resolve { host, .. } if host.starts_with("slow") => {}
                Command::Resolve { id, .. } => {
                    self.answer(id, Answer::Resolved(Ok(vec![at(SERVER), at(SECOND)])));
                }
                Command::BindUdp { id, local, .. } => {
                    let bound = SocketAddr::new(local.ip(), 4000);
                    self.answer(id, Answer::Bound(Ok(bound)));
                }
                Command::ListenTcp { id, local, .. } => {
                    let bound = SocketAddr::new(local.ip(), 5000);
                    self.answer(id, Answer::Bound(Ok(bound)));
                }
                Command::SendUdp { remote, payload, .. } => {
                    self.asked_udp.push((after, remote, payload));
                }
                Command::ConnectTcp { id, socket, local, remote, .. } => {
                    self.connects.push((after, id, socket, local, remote));
                }
                Command::SendTcp { socket, payload, .. } => {
                    self.asked_tcp.push((after, socket, payload));
                }
                Command::Close { .. } => self.closed += 1,
                other => panic!("a gatherer does not want {other:?}"),
            }
        }
    }

    fn connects_to(&self) -> Vec<SocketAddr> {
        self.connects.iter().map(|it| it.4).collect()
    }

    fn has_tcp(&self, address: &str) -> bool {
        let address = at(address);
        self.gatherer.candidates(self.port).iter().any(|it| it.address == address)
    }

    fn pass(&mut self) {
        let deadline = self.gatherer.poll_timeout().unwrap();
        self.now = self.now.max(deadline.at);
        self.gatherer.handle_timeout(self.now);
        self.drain(&[]);
    }

    fn pass_until(&mut self, after: Duration) {
        while self.gatherer.poll_timeout().is_some_and(|it| it.at <= self.start + after) {
            self.pass();
        }
    }

    /// Server `index` of those asked over UDP answers its last request.
    fn answer_udp(&mut self, server: &str, mapped: &str) {
        let asked = self.asked_udp.iter().rfind(|(_, remote, _)| *remote == at(server)).unwrap();
        let payload = success(&asked.2, at(mapped));
        let socket = self.gatherer.udp_sockets(self.port)[0].0;
        let input = Input::UdpReceived { socket, source: at(server), payload: &payload };
        self.gatherer.handle_input(input, self.now);
    }

    /// The first TCP connection that has not been answered stands, and the server answers the
    /// question on it.
    fn answer_tcp(&mut self, mapped: &str) {
        let (_, id, socket, local, remote) = self.connects[self.answered_tcp];
        self.answered_tcp += 1;
        self.answer(id, Answer::Connected(Ok(crate::command::Ends { local, remote })));
        self.drain(&[]);
        let payload = success(&self.asked_tcp.last().unwrap().2, at(mapped));
        self.gatherer.handle_input(Input::TcpReceived { socket, payload: &payload }, self.now);
        self.drain(&[]);
    }
}

#[test]
fn a_silent_server_is_asked_ever_more_slowly() {
    let mut bench = Bench::new(&[HOST]);
    bench.pass_until(Duration::from_secs(45));
    let of_first = bench.asked_udp.iter().filter(|(_, remote, _)| *remote == at(SERVER));
    let instants: Vec<_> = of_first.map(|(after, ..)| after.as_millis()).collect();
    assert_eq!(instants, [0, 100, 300, 600, 1000, 2000, 4000, 24000, 44000]);
}

#[test]
fn a_mapping_is_learned_and_kept_by_asking_every_20_seconds() {
    let mut bench = Bench::new(&[HOST]);
    bench.answer_udp(SERVER, "198.51.100.7:40000");
    bench.answer_udp(SECOND, "198.51.100.7:40000");
    bench.pass_until(Duration::from_secs(20));
    let of_first = bench.asked_udp.iter().filter(|(_, remote, _)| *remote == at(SERVER));
    let instants: Vec<_> = of_first.map(|(after, ..)| after.as_secs()).collect();
    assert_eq!(instants, [0, 20]);
    let udp: Vec<_> = bench.gatherer.candidates(bench.port);
    let udp: Vec<_> = udp.iter().filter(|it| it.transport == Transport::Udp).collect();
    assert_eq!(udp.len(), 2, "the host's own and one mapped: {udp:?}");
    assert_eq!(udp[0].address, at("192.168.1.5:4000"));
    assert_eq!(udp[1].address, at("198.51.100.7:40000"));
}

#[test]
fn two_servers_tell_the_tcp_mapping_of_the_listening_port_and_one_holds_it() {
    let mut bench = Bench::new(&[HOST]);
    assert_eq!(bench.connects_to(), [at(SERVER), at(SECOND)], "side by side");
    assert_eq!(bench.connects[0].3.port(), 5000, "from the port that listens");
    assert!(!bench.gatherer.is_settled(bench.port));
    bench.answer_tcp("198.51.100.7:50000");
    assert!(bench.has_tcp("198.51.100.7:50000"));
    bench.answer_tcp("198.51.100.7:50000");
    assert_eq!(bench.closed, 1, "the second opinion is not held");
    bench.pass_until(Duration::from_secs(26));
    let instants: Vec<_> = bench.asked_tcp.iter().map(|(after, ..)| after.as_secs()).collect();
    assert_eq!(instants, [0, 0, 25], "asked again on the held connection");
    assert_eq!(bench.connects.len(), 2);
}

#[test]
fn a_mapping_that_depends_on_the_destination_has_two_addresses() {
    let mut bench = Bench::new(&[HOST]);
    bench.answer_tcp("198.51.100.7:50000");
    bench.answer_tcp("198.51.100.7:50001");
    assert!(bench.has_tcp("198.51.100.7:50000") && bench.has_tcp("198.51.100.7:50001"));
}

#[test]
fn a_silent_server_does_not_delay_what_the_other_one_tells() {
    let mut bench = Bench::new(&[HOST]);
    bench.answered_tcp = 1;
    bench.answer_tcp("198.51.100.7:50000");
    assert!(bench.has_tcp("198.51.100.7:50000"));
    bench.answer_udp(SERVER, "198.51.100.7:40000");
    bench.answer_udp(SECOND, "198.51.100.7:40000");
    assert!(bench.gatherer.is_settled(bench.port));
    bench.pass_until(Duration::from_secs(24));
    let silent = bench.connects_to().iter().filter(|it| **it == at(SERVER)).count();
    assert_eq!(silent, 3, "and it is not asked for ever");
}

#[test]
fn a_server_that_refuses_is_asked_again_after_a_pause_that_grows() {
    let mut bench = Bench::new(&[HOST]);
    for tries in 0..3 {
        let (_, id, ..) = *bench.connects.iter().rfind(|it| it.4 == at(SERVER)).unwrap();
        bench.answer(id, Answer::Connected(Err(IoFailure::Refused)));
        bench.pass_until(Duration::from_millis(1000 * ((1 << (tries + 1)) - 1)));
    }
    let to_first = bench.connects.iter().filter(|it| it.4 == at(SERVER));
    let instants: Vec<_> = to_first.map(|it| it.0.as_secs()).collect();
    assert_eq!(instants, [0, 1, 3, 7]);
}

#[test]
fn a_held_connection_that_ends_is_made_anew_at_the_other_server() {
    let mut bench = Bench::new(&[HOST]);
    bench.answer_tcp("198.51.100.7:50000");
    bench.answer_tcp("198.51.100.7:50000");
    let (_, _, socket, ..) = bench.connects[0];
    let closed = Input::TcpClosed { socket, reason: IoFailure::Reset };
    bench.gatherer.handle_input(closed, bench.now);
    bench.drain(&[]);
    assert_eq!(bench.connects_to(), [at(SERVER), at(SECOND), at(SECOND)]);
    assert!(bench.has_tcp("198.51.100.7:50000"), "still known");
}

#[test]
fn a_host_without_nat_has_no_mapped_candidates() {
    let mut bench = Bench::new(&["203.0.113.77"]);
    bench.answer_udp(SERVER, "203.0.113.77:4000");
    bench.answer_tcp("203.0.113.77:5000");
    let candidates = bench.gatherer.candidates(bench.port);
    assert!(candidates.iter().all(|it| it.kind == CandidateKind::Host), "{candidates:?}");
}

#[test]
fn a_closed_port_closes_its_sockets_and_is_forgotten() {
    let mut bench = Bench::new(&[HOST]);
    bench.answer_tcp("198.51.100.7:50000");
    bench.gatherer.close_port(bench.port);
    bench.drain(&[]);
    assert_eq!(bench.closed, 4, "the UDP socket, the listener and the connections to two servers");
    assert_eq!(bench.gatherer.poll_timeout(), None);
}

#[test]
fn very_many_interfaces_do_not_crowd_out_the_mapped_addresses() {
    let many: Vec<_> = (1..60).map(|n| format!("10.0.0.{n}")).collect();
    let mut bench = Bench::new(&many.iter().map(String::as_str).collect::<Vec<_>>());
    bench.answer_udp(SERVER, "198.51.100.7:40000");
    bench.answer_tcp("198.51.100.7:50000");
    let candidates = bench.gatherer.candidates(bench.port);
    assert_eq!(candidates.len(), MAX_CANDIDATES);
    assert!(candidates.iter().any(|it| it.address == at("198.51.100.7:40000")));
    assert!(candidates.iter().any(|it| it.address == at("198.51.100.7:50000")));
}

#[test]
fn while_no_server_has_told_the_tcp_mapping_is_guessed_from_that_of_udp() {
    let mut bench = Bench::new(&[HOST]);
    bench.answer_udp(SERVER, "198.51.100.7:40000");
    let guess = at("198.51.100.7:5000");
    let guessed =
        |bench: &Bench| bench.gatherer.candidates(bench.port).iter().any(|it| it.address == guess);
    assert!(guessed(&bench));
    bench.answer_tcp("198.51.100.7:50000");
    assert!(!guessed(&bench));
}

#[test]
fn an_address_that_the_broker_sees_no_more_is_forgotten() {
    let mut bench = Bench::new(&[HOST]);
    for port in 1..100 {
        bench.gatherer.observed(bench.port, SocketAddr::from(([203, 0, 113, 1], port)));
    }
    let candidates = bench.gatherer.candidates(bench.port);
    let mapped = candidates
        .iter()
        .filter(|it| it.transport == Transport::Udp && it.kind == CandidateKind::ServerReflexive);
    let mapped: Vec<_> = mapped.map(|it| it.address).collect();
    assert_eq!(mapped, [at("203.0.113.1:99")]);
    assert!(
        candidates.iter().any(|it| it.kind == CandidateKind::Host),
        "hosts are not crowded out"
    );
}

/// A gatherer on a host of both families whose binds end as `bound` says, and its events.
fn events_of_binding(bound: impl Fn(SocketAddr) -> Result<SocketAddr, IoFailure>) -> Vec<Event> {
    let now = any_instant();
    let mut gatherer = Gatherer::new(&[], None, None, Names::new(Owner(1)), Seed::from_number(1));
    gatherer.open_port(0, now);
    while let Some(command) = gatherer.poll_command() {
        let answer = match command {
            Command::ListInterfaces { .. } => {
                Answer::Interfaces(vec![HOST.parse().unwrap(), "2001:db8::5".parse().unwrap()])
            }
            Command::BindUdp { local, .. } | Command::ListenTcp { local, .. } => {
                Answer::Bound(bound(local))
            }
            _ => continue,
        };
        gatherer.handle_input(Input::Answer { id: command.id(), answer }, now);
    }
    std::iter::from_fn(|| gatherer.poll_event()).collect()
}

#[test]
fn a_family_that_the_system_has_by_name_only_is_done_without() {
    let failure = IoFailure::AddressNotAvailable;
    let v4_only = |local: SocketAddr| if local.is_ipv4() { Ok(local) } else { Err(failure) };
    let failed = |event: &Event| matches!(event, Event::BindFailed { .. });
    let events = events_of_binding(v4_only);
    assert!(!events.iter().any(failed), "{events:?}");
    assert!(events.iter().any(|it| matches!(it, Event::Bound(_))), "{events:?}");
    let events = events_of_binding(|_| Err(failure));
    assert_eq!(
        events.iter().filter(|it| failed(it)).count(),
        2,
        "one of each transport: {events:?}"
    );
}

#[test]
fn a_port_in_use_is_told_whatever_the_other_family_does() {
    let failure = IoFailure::AddressInUse;
    let v6_in_use = |local: SocketAddr| if local.is_ipv4() { Ok(local) } else { Err(failure) };
    let events = events_of_binding(v6_in_use);
    assert!(events.iter().any(|it| matches!(it, Event::BindFailed { .. })), "{events:?}");
}

#[test]
fn a_server_whose_name_takes_long_delays_nothing_once_another_one_has_told() {
    let servers = ["stun.example.org".parse().unwrap(), "slow.example.org".parse().unwrap()];
    let mut bench = Bench::asking(&servers, &[HOST]);
    assert!(!bench.gatherer.is_settled(bench.port));
    bench.answer_udp(SERVER, "198.51.100.7:40000");
    bench.answer_udp(SECOND, "198.51.100.7:40000");
    assert!(!bench.gatherer.is_settled(bench.port), "TCP is not told yet");
    bench.answer_tcp("198.51.100.7:50000");
    assert!(bench.gatherer.is_settled(bench.port));
}
