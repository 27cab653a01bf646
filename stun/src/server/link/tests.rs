use super::*;
use crate::attribute::{OtherAddress, ResponseOrigin};
use crate::server::{Quartet, Request, Server, Transport};

const SECRET: &[u8] = b"a secret of the two hosts alone";
const FIRST: &str = "192.0.2.1:3478";
const SECOND: &str = "198.51.100.1:3479";

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

#[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
fn start() -> Instant {
    Instant::now()
}

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A host: its end of the link and its server.
struct Host {
    link: Link,
    server: Server,
}

impl Host {
    fn new(own: &str, other: &str, secret: &[u8], run: u64) -> Self {
        let mut server = Server::new();
        server.add_quartet(Quartet::new(at(own), at(other)).expect("a quartet"));
        server.forward_changes();
        Self {
            link: Link::new(
                at(own),
                at(other),
                secret,
                [run, 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3211],
            ),
            server,
        }
    }

    /// What it says to its partner in a round, with the ids that it drew.
    fn round(&mut self, number: u8, now: Instant) -> Vec<Vec<u8>> {
        let id = |which: u8| TransactionId::new([number.wrapping_mul(3).wrapping_add(which); 12]);
        let mut buffer = [0; 400];
        let length = self.link.ask(id(0), &mut buffer, now).expect("room");
        let mut said = vec![buffer[..length].to_vec()];
        for which in 0..2 {
            let id = id(1 + which as u8);
            if let Some(length) = self.link.prove(which, id, &mut buffer, now) {
                said.push(buffer[..length].to_vec());
            }
        }
        said
    }

    /// What it sends when this comes from its partner's first port: bytes, from, to.
    fn hear(&mut self, bytes: &[u8], now: Instant) -> Option<(Vec<u8>, SocketAddr, SocketAddr)> {
        let (from, own, mut buffer) = (self.link.partner(), self.link.own(), [0; 400]);
        match self.link.handle(bytes, (from, own), &mut buffer, now) {
            Heeded::Nothing | Heeded::Refused => None,
            Heeded::Reply(length) => Some((buffer[..length].to_vec(), own, from)),
            Heeded::Forwarded { request, client, asked } => {
                let transport = Transport::Udp;
                let request = Request { bytes: request, source: client, local: asked, transport };
                let reply = self.server.handle_forwarded(request, &mut buffer).ok()?;
                Some((buffer[..reply.length].to_vec(), reply.from, reply.to))
            }
        }
    }
}

/// Two hosts that have found each other.
struct Pair {
    first: Host,
    second: Host,
    now: Instant,
    rounds: u8,
}

impl Pair {
    fn new() -> Self {
        let first = Host::new(FIRST, SECOND, SECRET, 11);
        let second = Host::new(SECOND, FIRST, SECRET, 22);
        Self { first, second, now: start(), rounds: 0 }
    }

    /// A round of the first host's, all of whose messages take `delay` there and back.
    fn round(&mut self, delay: Duration) {
        self.rounds += 1;
        let said = self.first.round(self.rounds, self.now);
        let back: Vec<_> =
            said.iter().filter_map(|it| self.second.hear(it, self.now + delay / 2)).collect();
        for (bytes, from, to) in back {
            let mut nothing = [0; 400];
            let then = self.now + delay;
            assert_ne!(
                self.first.link.handle(&bytes, (from, to), &mut nothing, then),
                Heeded::Refused
            );
        }
        self.now += ROUND;
    }

    fn up() -> Self {
        let mut pair = Self::new();
        pair.round(milliseconds(20));
        assert_eq!(pair.state(), PartnerState::Unproven, "it has answered, but proved nothing");
        pair.round(milliseconds(20));
        assert_eq!(pair.state(), PartnerState::Up);
        pair
    }

    fn state(&self) -> PartnerState {
        self.first.link.state(self.now)
    }

    /// What the first host forwards of a client's request.
    fn forwarded(&mut self, client: &str, change: ChangeRequest) -> Vec<u8> {
        let (mut request, mut buffer) = ([0; 28], [0; 400]);
        let id = TransactionId::new([0xC1; 12]);
        let mut writer =
            Writer::new(&mut request, Class::Request, Method::BINDING, id).expect("room");
        writer.attribute(&change).expect("room");
        let length = self.first.link.forward(&request, at(client), at(FIRST), &mut buffer);
        buffer[..length.expect("the partner is known")].to_vec()
    }
}

#[test]
fn a_partner_is_up_when_both_its_ports_have_answered_as_asked() {
    let pair = Pair::up();
    assert_eq!(Pair::new().state(), PartnerState::Silent);
    let later = |count| pair.first.link.state(pair.now + milliseconds(count));
    assert_eq!(later(2_000), PartnerState::Up, "two lost rounds are none");
    assert_eq!(later(4_000), PartnerState::Silent);
}

#[test]
fn a_forwarded_request_is_answered_from_where_the_client_asked() {
    let mut pair = Pair::up();
    for (change, from) in
        [(ChangeRequest::IpAndPort, SECOND), (ChangeRequest::Ip, "198.51.100.1:3478")]
    {
        let message = pair.forwarded("203.0.113.9:4000", change);
        let (reply, source, to) = pair.second.hear(&message, pair.now).expect("an answer");
        assert_eq!((source, to), (at(from), at("203.0.113.9:4000")));
        let reply = Message::parse(&reply).expect("well-formed");
        assert_eq!(reply.transaction_id(), TransactionId::new([0xC1; 12]));
        assert_eq!(reply.attribute(), Ok(Some(XorMappedAddress(to))));
        assert_eq!(reply.attribute(), Ok(Some(ResponseOrigin(source))));
        assert_eq!(reply.attribute(), Ok(Some(OtherAddress(at(SECOND)))), "other than the asked");
    }
    assert_eq!(pair.second.server.counters().answered_for_partner, 4);
}

#[test]
fn what_asks_for_no_answer_from_here_gets_none_from_here() {
    let mut pair = Pair::up();
    for change in [ChangeRequest::Nothing, ChangeRequest::Port] {
        let message = pair.forwarded("203.0.113.9:4000", change);
        assert_eq!(pair.second.hear(&message, pair.now), None, "{change:?}");
    }
    let mut buffer = [0; 400];
    let garbage = pair.first.link.forward(b"no STUN", at(FIRST), at(FIRST), &mut buffer);
    assert_eq!(pair.second.hear(&buffer[..garbage.expect("room")], pair.now), None);
}

#[test]
fn a_message_that_comes_again_does_nothing() {
    let mut pair = Pair::up();
    let early = pair.forwarded("203.0.113.9:4000", ChangeRequest::Ip);
    let late = pair.forwarded("203.0.113.9:4000", ChangeRequest::Ip);
    assert!(pair.second.hear(&late, pair.now).is_some());
    assert!(pair.second.hear(&early, pair.now).is_some(), "overtaken, but new");
    for again in [&early, &late] {
        assert_eq!(pair.second.hear(again, pair.now), None);
    }
    // Nor after either host has started again.
    pair.first = Host::new(FIRST, SECOND, SECRET, 12);
    pair.round(milliseconds(1));
    pair.round(milliseconds(1));
    assert_eq!(pair.state(), PartnerState::Up, "it goes on counting where it was");
    assert_eq!(pair.second.hear(&late, pair.now), None);
    pair.second = Host::new(SECOND, FIRST, SECRET, 23);
    assert_eq!(pair.second.hear(&late, pair.now), None);
    pair.round(milliseconds(1));
    pair.round(milliseconds(1));
    assert_eq!(pair.state(), PartnerState::Up);
    assert_eq!(pair.second.hear(&late, pair.now), None);
}

#[test]
fn no_message_works_for_others_or_the_other_way_round() {
    let mut pair = Pair::up();
    let message = pair.forwarded("203.0.113.9:4000", ChangeRequest::Ip);
    let mut stranger = Host::new("198.51.100.1:3479", "192.0.2.7:3478", SECRET, 22);
    assert_eq!(stranger.hear(&message, pair.now), None, "another pair with the same secret");
    assert_eq!(pair.first.hear(&message, pair.now), None, "sent back");
    let mut wrong = Host::new(SECOND, FIRST, b"another secret of sixteen bytes", 22);
    assert_eq!(wrong.hear(&message, pair.now), None);
    let hello = pair.first.round(99, pair.now).remove(0);
    assert_eq!(wrong.hear(&hello, pair.now), None, "not even told that it is there");
    let (elsewhere, mut buffer) = (at("198.51.100.1:3478"), [0; 400]);
    let from = at(FIRST);
    let heeded = pair.second.link.handle(&message, (from, elsewhere), &mut buffer, pair.now);
    assert_eq!(heeded, Heeded::Refused, "only the first ports speak");
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let mut pair = Pair::up();
    let hello = pair.first.round(99, pair.now).remove(0);
    let forwarded = pair.forwarded("203.0.113.9:4000", ChangeRequest::Ip);
    for mut message in [hello, forwarded] {
        for length in 0..message.len() {
            assert_eq!(pair.second.hear(&message[..length], pair.now), None);
        }
        for bit in 0..message.len() * 8 {
            message[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(pair.second.hear(&message, pair.now), None, "bit {bit}");
            message[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(pair.second.hear(&message, pair.now).is_some(), "the last flip is undone");
    }
}

#[test]
fn a_slow_partner_is_not_up() {
    let mut pair = Pair::new();
    for _ in 0..5 {
        pair.round(milliseconds(499));
    }
    assert_eq!(pair.state(), PartnerState::Up);
    for _ in 0..5 {
        pair.round(milliseconds(501));
    }
    assert_eq!(pair.state(), PartnerState::Slow);
}

#[test]
fn a_partner_that_answers_from_elsewhere_or_something_else_is_not_up() {
    let mut pair = Pair::new();
    pair.round(milliseconds(1));
    let said = pair.first.round(50, pair.now);
    let (now, mut buffer) = (pair.now, [0; 400]);
    for message in &said[1..] {
        let (mut reply, from, to) = pair.second.hear(message, now).expect("an answer");
        let other = SocketAddr::new(from.ip(), from.port() ^ 1);
        let stranger = at("192.0.2.200:3479");
        for liar in [other, stranger] {
            pair.first.link.handle(&reply, (liar, to), &mut buffer, now);
        }
        // The port in XOR-MAPPED-ADDRESS.
        reply[26] ^= 1;
        pair.first.link.handle(&reply, (from, to), &mut buffer, now);
    }
    assert_eq!(pair.state(), PartnerState::Unproven);
}

#[test]
fn a_partner_of_another_version_is_named_and_not_used() {
    let mut pair = Pair::new();
    let hello = pair.first.round(1, pair.now).remove(0);
    let id = Message::parse(&hello).expect("well-formed").transaction_id();
    let said = Said::Here { version: 7, epoch: Epoch { run: 1, count: 1 } };
    let (key, mut buffer) = (Key::short_term(SECRET), [0; 400]);
    let length = partner::write(&mut buffer, &said, id, (at(SECOND), &key)).expect("room");
    assert_eq!(pair.first.hear(&buffer[..length], pair.now), None);
    assert_eq!(pair.state(), PartnerState::Version(7));
    assert_eq!(pair.first.round(2, pair.now).len(), 1, "nothing is forwarded to it");
}

#[test]
fn a_partner_that_lies_about_its_clients_makes_no_flood() {
    let mut pair = Pair::up();
    let mut answered = |client: &str, count: usize| {
        let message = |_| pair.forwarded(client, ChangeRequest::Ip);
        let messages: Vec<_> = (0..count).map(message).collect();
        messages.iter().filter(|it| pair.second.hear(it, pair.now).is_some()).count()
    };
    assert_eq!(answered("203.0.113.9:4000", 5_000), 2_200);
    assert_eq!(answered("203.0.113.10:4000", 1_000), 200, "its neighbour has its own few");
    assert_eq!(answered("[2001:db8::9]:4000", 1), 0, "of another family");
    assert_eq!(answered("203.0.113.77:0", 1), 0, "to no port");
}

#[test]
fn the_window_admits_each_count_once() {
    let mut window = Window::default();
    assert!(!window.admits(0));
    for count in [1, 3, 2, 1_000, 999, 4, 1_026] {
        assert!(window.admits(count), "{count}");
        assert!(!window.admits(count), "{count} again");
    }
    assert!(!window.admits(1) && !window.admits(2), "too old");
    assert!(window.admits(5));
    assert!(window.admits(u64::MAX) && !window.admits(1_027) && !window.admits(u64::MAX));
    assert!(window.admits(u64::MAX - 1_023) && !window.admits(u64::MAX - 1_024));
}

/// Checks that a client learns nothing wrong while the partner is not there.
#[test]
fn without_its_partner_a_server_refuses_what_only_the_partner_could_answer() {
    let mut first = Host::new(FIRST, SECOND, SECRET, 11).server;
    let code = |server: &mut Server, change: ChangeRequest| {
        let (mut bytes, mut reply) = ([0; 28], [0; 400]);
        let id = TransactionId::new([1; 12]);
        let mut writer =
            Writer::new(&mut bytes, Class::Request, Method::BINDING, id).expect("room");
        writer.attribute(&change).expect("room");
        let (source, local) = (at("203.0.113.9:4000"), at(FIRST));
        let request = Request { bytes: &bytes, source, local, transport: Transport::Udp };
        let written = server.handle_request(request, &mut reply).expect("an answer");
        let message = Message::parse(&reply[..written.length]).expect("well-formed");
        let code = message.attribute::<crate::attribute::ErrorCode<'_>>().expect("well-formed");
        let has_other = message.attribute::<OtherAddress>() != Ok(None);
        (code.map(|it| it.code()), has_other, written.from)
    };
    use ChangeRequest::{Ip, IpAndPort, Nothing, Port};
    first.withhold_other_address(true);
    assert_eq!(code(&mut first, Nothing), (None, false, at(FIRST)));
    assert_eq!(code(&mut first, Port), (None, false, at("192.0.2.1:3479")));
    for change in [Ip, IpAndPort] {
        assert_eq!(code(&mut first, change), (Some(420), false, at(FIRST)));
    }
    first.withhold_other_address(false);
    assert_eq!(code(&mut first, IpAndPort), (None, true, at(SECOND)));
}
