//! Two and three brokers with one directory, in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use ntcp_stun::TransactionId;

use super::*;
use crate::entropy::Seed;
use crate::machine::{Machine, any_instant};
use crate::rendezvous::{Config, InTheClear, Input};
use crate::signal::message::{CalleeAnswer, Connect, Note, Outcome, Refresh, Registered, Relay};
use crate::signal::{Punch, Role, Round};
use crate::uri::TransportChoice;

const PATIENT: Duration = Duration::from_secs(2);

struct Peer {
    broker: usize,
    link: Link,
    key: RegistrationKey,
    id: RegistrationId,
}

/// Brokers, what they share, and what their peers were sent.
struct Town {
    now: Instant,
    brokers: Vec<Option<Broker>>,
    /// Who has it, as what, and since when.
    names: BTreeMap<PeerName, (usize, Listing, Instant)>,
    wanted: BTreeMap<PeerName, Vec<usize>>,
    is_away: bool,
    loses_letters: usize,
    inboxes: BTreeMap<(usize, Link), VecDeque<Vec<u8>>>,
    transactions: u8,
}

fn broker_id(index: usize) -> BrokerId {
    BrokerId([index as u8; 8])
}

fn name(text: &str) -> PeerName {
    text.parse().unwrap()
}

fn udp(last: u8) -> Link {
    Link::Udp { local: None, remote: SocketAddr::from(([192, 0, 2, last], 40_000)) }
}

impl Town {
    fn of(count: usize) -> Self {
        let mut town = Self {
            now: any_instant(),
            brokers: Vec::new(),
            names: BTreeMap::new(),
            wanted: BTreeMap::new(),
            is_away: false,
            loses_letters: 0,
            inboxes: BTreeMap::new(),
            transactions: 0,
        };
        for index in 0..count {
            // These peers are made by hand, and speak in the clear.
            let in_the_clear = InTheClear::Allowed;
            let cluster = Some(broker_id(index));
            let config = Config { cluster, in_the_clear, ..Config::default() };
            let seed = Seed::from_number(index as u64 + 1);
            town.brokers.push(Some(Broker::new(config, seed, town.now)));
        }
        town
    }

    fn broker(&self, index: usize) -> &Broker {
        self.brokers[index].as_ref().unwrap()
    }

    fn input(&mut self, index: usize, input: Input<'_>) {
        let now = self.now;
        let Some(broker) = &mut self.brokers[index] else { return };
        broker.handle_input(input, now);
        self.carry_out(index);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) =
            self.brokers.iter().flatten().filter_map(Machine::poll_timeout).map(|it| it.at).min()
        {
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            for index in 0..self.brokers.len() {
                let now = self.now;
                if let Some(broker) = &mut self.brokers[index] {
                    broker.handle_timeout(now);
                    self.carry_out(index);
                }
            }
        }
        self.now = end;
    }

    fn carry_out(&mut self, index: usize) {
        while let Some(command) = self.brokers[index].as_mut().and_then(Machine::poll_command) {
            match command {
                Command::Send { link, payload } => {
                    self.inboxes.entry((index, link)).or_default().push_back(payload);
                }
                Command::Claim { name, listing, stay, .. } => {
                    self.claim(index, name, (listing, stay));
                }
                Command::Release { name } => {
                    if self.names.get(&name).is_some_and(|held| held.0 == index) {
                        self.names.remove(&name);
                    }
                }
                Command::Find { name, wait } => self.find(index, name, wait),
                Command::Post { broker, letter } => {
                    if self.loses_letters > 0 {
                        self.loses_letters -= 1;
                    } else {
                        self.letter(index, usize::from(broker.0[0]), &letter);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn letter(&mut self, from: usize, to: usize, letter: &[u8]) {
        self.input(to, Input::Letter { from: broker_id(from), letter });
    }

    fn claim(
        &mut self,
        index: usize,
        name: PeerName,
        (listing, stay): (Listing, Option<Duration>),
    ) {
        let since = self.now - stay.unwrap_or_default();
        let other = self.names.get(&name).copied().filter(|held| held.0 != index);
        let mut wanted_by = Vec::new();
        let claim = match other {
            _ if self.is_away => Claim::Unknown,
            Some(held) if !self.takes((listing, since, stay.is_some()), held) => {
                Claim::Held(broker_id(held.0))
            }
            Some(_) | None => {
                self.names.insert(name.clone(), (index, listing, since));
                let waiting = self.wanted.remove(&name).unwrap_or_default();
                let told = waiting.into_iter().chain(other.map(|held| held.0));
                wanted_by.extend(told.map(broker_id));
                Claim::Ours
            }
        };
        self.input(index, Input::Claimed { name, claim, wanted_by });
    }

    /// Whether a name goes over from another broker.
    fn takes(
        &self,
        (listing, since, is_in): (Listing, Instant, bool),
        (holder, held, before): (usize, Listing, Instant),
    ) -> bool {
        let is_same = held.identity == listing.identity;
        match listing.identity {
            _ if is_same && self.brokers[holder].is_none() => true,
            _ if !is_in => false,
            Some(_) if is_same => since > before,
            Some(_) | None => since < before,
        }
    }

    fn find(&mut self, index: usize, name: PeerName, wait: Duration) {
        let at = self.names.get(&name).filter(|_| !self.is_away).map(|(holder, listing, _)| {
            Whereabouts { broker: broker_id(*holder), listing: *listing }
        });
        if at.is_none() && !wait.is_zero() {
            self.wanted.entry(name.clone()).or_default().push(index);
        }
        self.input(index, Input::Found { name, at });
    }

    fn transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        TransactionId::new([self.transactions; 12])
    }

    /// The messages sent on a link since the last call.
    fn inbox(&mut self, broker: usize, link: Link) -> Vec<Message> {
        let bytes = self.inboxes.remove(&(broker, link)).unwrap_or_default();
        bytes.iter().map(|it| Message::parse(it).unwrap().message).collect()
    }

    fn said_to(&mut self, peer: &Peer) -> Vec<Body> {
        let inbox = self.inboxes.remove(&(peer.broker, peer.link)).unwrap_or_default();
        let signed = |bytes: &Vec<u8>| {
            let received = Message::parse(bytes).unwrap();
            assert!(received.is_signed_by(&peer.key), "{:?}", received.message);
            received.message.body
        };
        inbox.iter().map(signed).collect()
    }

    /// Registers, and says what the broker answers in the end; nothing while the directory is asked.
    fn ask_to_register(&mut self, broker: usize, last: u8, text: Option<&str>) -> Option<Body> {
        let (link, transaction) = (udp(last), self.transaction());
        let register = Register {
            name: text.map(name),
            candidates: Vec::new(),
            nat: NatSummary::default(),
            fingerprint: Fingerprint([last; 32]),
            lease: Duration::from_secs(60),
            rtt: None,
            consents: false,
            offers_to_forge: false,
            account: None,
            meant_for: None,
            bare: false,
        };
        let message = Message::new(transaction, Body::Register(register));
        self.input(broker, Input::Received { link, payload: &message.emit(None) });
        let nonce = self.inbox(broker, link).pop()?.nonce?;
        let payload = message.with_nonce(nonce).emit(None);
        self.input(broker, Input::Received { link, payload: &payload });
        let mut said = self.inbox(broker, link).into_iter().map(|it| it.body);
        said.find(|it| matches!(it, Body::Registered(_) | Body::Refused(_)))
    }

    fn register(&mut self, broker: usize, last: u8, text: Option<&str>) -> Peer {
        let answer = self.ask_to_register(broker, last, text);
        let Some(Body::Registered(Registered { registration: id, key, .. })) = answer else {
            panic!("{answer:?}")
        };
        Peer { broker, link: udp(last), key, id }
    }

    fn send(&mut self, peer: &Peer, message: &Message) {
        let message = Message { registration: Some(peer.id), ..message.clone() };
        let payload = message.emit(Some(&peer.key));
        self.input(peer.broker, Input::Received { link: peer.link, payload: &payload });
    }

    fn say(&mut self, peer: &Peer, body: Body) -> Message {
        let message = Message::new(self.transaction(), body);
        self.send(peer, &message);
        message
    }

    fn call(&mut self, caller: &Peer, callee: &str, wait: Duration) -> Message {
        self.say(
            caller,
            Body::Connect(Connect {
                callee: name(callee),
                transport: TransportChoice::Any,
                round: Round::FIRST,
                candidates: Vec::new(),
                nat: NatSummary::default(),
                fingerprint: Fingerprint([7; 32]),
                rtt: None,
                wait,
                bare: false,
            }),
        )
    }
}

fn connected(said: &[Body]) -> &Punch {
    match said {
        [Body::Connected(punch), ..] => punch,
        other => panic!("{other:?}"),
    }
}

fn note(punch: &Punch, text: &str) -> Relay {
    Relay {
        session: punch.session,
        serial: 1,
        heard: 0,
        wants_answer: true,
        candidates: Vec::new(),
        note: Note::new(text.as_bytes()).unwrap(),
    }
}

/// Alice at one broker calls Bob at another.
fn met() -> (Town, [Peer; 2], Punch) {
    let mut town = Town::of(2);
    let alice = town.register(0, 1, Some("alice"));
    let bob = town.register(1, 2, Some("bob"));
    town.call(&alice, "bob", Duration::ZERO);
    let said = town.said_to(&alice);
    let punch = connected(&said).clone();
    (town, [alice, bob], punch)
}

#[test]
fn peers_of_two_brokers_meet_and_talk_through_both() {
    let (mut town, [alice, bob], punch) = met();
    assert_eq!((punch.role, punch.peer.clone()), (Role::Controlling, Some(name("bob"))));
    let said = town.inbox(1, bob.link);
    let Some(Message { transaction, body: Body::Invite(invited), .. }) = said.first() else {
        panic!("{said:?}")
    };
    assert_eq!((invited.session, &invited.secret), (punch.session, &punch.secret));
    assert_eq!(invited.peer, Some(name("alice")));

    let answer = Body::Answer(crate::signal::message::Answer {
        session: punch.session,
        candidates: Vec::new(),
    });
    town.send(&bob, &Message::new(*transaction, answer));
    let told = town.said_to(&alice);
    assert!(
        matches!(&told[..], [Body::CalleeAnswer(CalleeAnswer { session, result: Ok(_) }), ..]
            if *session == punch.session),
        "{told:?}"
    );

    let relay = |text| Body::Relay(note(&punch, text));
    town.say(&alice, relay("from alice"));
    assert_eq!(town.said_to(&bob), [relay("from alice")]);
    town.say(&bob, relay("from bob"));
    assert_eq!(town.said_to(&alice), [relay("from bob")]);

    town.say(&alice, Body::Outcome(Outcome { session: punch.session, outcomes: Vec::new() }));
    assert_eq!(town.broker(1).counters().outcomes, 1);
    assert_eq!((town.broker(0).sessions(), town.broker(1).sessions()), (0, 1));
}

#[test]
fn a_stranger_tells_nothing_of_a_meeting_elsewhere() {
    let (mut town, [_, bob], punch) = met();
    let eve = town.register(0, 66, Some("eve"));
    town.said_to(&bob);
    town.say(&eve, Body::Relay(note(&punch, "from eve")));
    assert_eq!(town.said_to(&bob), []);
    assert_eq!(town.broker(0).counters().unexpected, 1);
}

#[test]
fn a_repeated_call_gets_its_answer_though_letters_get_lost() {
    for lost in 1..=4 {
        let mut town = Town::of(2);
        let alice = town.register(0, 1, Some("alice"));
        town.register(1, 2, Some("bob"));
        town.loses_letters = lost;
        let message = town.call(&alice, "bob", PATIENT);
        let mut repeats = 0;
        let said = loop {
            let said = town.said_to(&alice);
            if !said.is_empty() {
                break said;
            }
            repeats += 1;
            assert!(repeats <= 4, "{lost} letters lost");
            town.pass(Duration::from_millis(100));
            town.send(&alice, &message);
        };
        connected(&said);
        assert_eq!(town.broker(1).sessions(), 1, "one meeting, whatever was lost");
        town.send(&alice, &message);
        connected(&town.said_to(&alice));
    }
}

#[test]
fn a_call_waits_for_a_callee_that_comes_to_another_broker() {
    let mut town = Town::of(3);
    let alice = town.register(0, 1, Some("alice"));
    town.call(&alice, "bob", PATIENT);
    town.pass(Duration::from_millis(500));
    assert_eq!(town.said_to(&alice), []);
    town.register(2, 2, Some("bob"));
    connected(&town.said_to(&alice));
}

#[test]
fn who_is_nowhere_is_unknown_at_once_or_when_the_wait_is_over() {
    let mut town = Town::of(2);
    let alice = town.register(0, 1, Some("alice"));
    let unknown = |said: Vec<Body>| matches!(&said[..], [Body::Refused(it)] if it.code == ErrorCode::UnknownPeer);
    town.call(&alice, "nobody", Duration::ZERO);
    assert!(unknown(town.said_to(&alice)));
    town.call(&alice, "nobody", PATIENT);
    town.pass(PATIENT - Duration::from_millis(1));
    assert_eq!(town.said_to(&alice), []);
    town.pass(Duration::from_millis(1));
    assert!(unknown(town.said_to(&alice)));
    town.say(&alice, Body::Lookup(name("nobody")));
    assert!(unknown(town.said_to(&alice)));
}

#[test]
fn a_listing_is_read_as_it_was_written_and_not_when_it_is_cut() {
    let (fingerprint, nat) = (Fingerprint([7; 32]), NatSummary::default());
    for identity in [None, Some(PublicKey([9; 32]))] {
        let listing = Listing { fingerprint, nat, identity };
        let bytes = listing.emit();
        assert_eq!(Listing::parse(&bytes), Some(listing));
        for length in 0..bytes.len() {
            assert_eq!(Listing::parse(&bytes[..length]), None);
        }
    }
}

#[test]
fn a_lookup_finds_a_peer_of_another_broker() {
    let mut town = Town::of(2);
    let alice = town.register(0, 1, Some("alice"));
    town.register(1, 2, Some("bob"));
    town.say(&alice, Body::Lookup(name("bob")));
    let said = town.said_to(&alice);
    assert!(
        matches!(&said[..], [Body::Found(it)] if it.fingerprint == Fingerprint([2; 32])),
        "{said:?}"
    );
}

#[test]
fn a_name_is_one_peers_in_the_whole_cluster() {
    let mut town = Town::of(2);
    let bob = town.register(0, 1, Some("bob"));
    let taken = |answer: Option<Body>| matches!(answer, Some(Body::Refused(it)) if it.code == ErrorCode::NameTaken);
    assert!(taken(town.ask_to_register(1, 2, Some("bob"))));
    // Its holder is asked whether it lives.
    let pinged = town.inbox(0, bob.link);
    let Some(Message { transaction, body: Body::Ping, .. }) = pinged.first() else {
        panic!("{pinged:?}")
    };
    town.send(&bob, &Message::new(*transaction, Body::Pong));
    town.pass(PATIENT);
    assert!(taken(town.ask_to_register(1, 2, Some("bob"))), "it does");
    town.pass(PATIENT * 2);
    // This time it does not answer.
    town.register(1, 2, Some("bob"));
    assert_eq!((town.broker(0).registered(), town.broker(1).registered()), (0, 1));
}

#[test]
fn a_peer_that_leaves_or_whose_broker_dies_is_free_to_come_elsewhere() {
    let mut town = Town::of(3);
    let bob = town.register(0, 1, Some("bob"));
    town.say(&bob, Body::Unregister);
    assert!(town.names.is_empty());
    town.register(1, 1, Some("bob"));
    town.brokers[1] = None;
    town.register(2, 1, Some("bob"));
    assert_eq!(town.names[&name("bob")].0, 2);
}

#[test]
fn a_broker_that_stops_frees_its_names_and_leaves_newcomers_to_the_others() {
    let mut town = Town::of(2);
    let bob = town.register(0, 1, Some("bob"));
    let now = town.now;
    town.brokers[0].as_mut().unwrap().dismiss_all(now);
    town.carry_out(0);
    assert_eq!(town.said_to(&bob).first(), Some(&Body::Dismissed));
    assert!(town.names.is_empty());
    assert_eq!(town.ask_to_register(0, 2, Some("carol")), None);
    town.register(1, 1, Some("bob"));
}

#[test]
fn a_lease_that_ends_frees_the_name_and_guests_are_forgotten() {
    let (mut town, _, _) = met();
    town.pass(Duration::from_secs(61));
    assert!(town.names.is_empty());
    assert_eq!((town.broker(1).registered(), town.broker(1).counters().expired), (0, 1));
    let guests = |index: usize| town.broker(index).cluster.as_ref().map(|it| it.guests);
    assert_eq!((guests(0), guests(1)), (Some(0), Some(0)));
    assert!(town.broker(0).cluster.as_ref().unwrap().away.is_empty());
}

#[test]
fn without_the_directory_brokers_go_on_and_enter_their_names_when_it_is_back() {
    let mut town = Town::of(2);
    let alice = town.register(0, 1, Some("alice"));
    town.is_away = true;
    town.names.clear();
    town.register(0, 2, Some("bob"));
    town.call(&alice, "bob", Duration::ZERO);
    connected(&town.said_to(&alice));
    for last in 3..=250 {
        town.register(1, last, Some(&format!("peer{last}")));
    }
    let refresh =
        Refresh { lease: Duration::from_secs(60), rtt: None, candidates: None, nat: None };
    town.say(&alice, Body::Refresh(refresh));
    assert!(town.names.is_empty());
    town.is_away = false;
    town.input(0, Input::Reunited);
    town.input(1, Input::Reunited);
    town.pass(Duration::from_millis(50));
    assert_eq!(town.names.len(), 250);
    town.call(&alice, "peer250", Duration::ZERO);
    town.pass(Duration::ZERO);
    assert!(town.said_to(&alice).iter().any(|it| matches!(it, Body::Connected(_))));
}

#[test]
fn of_two_that_took_a_name_while_the_directory_was_away_one_stays() {
    for order in [[0, 1], [1, 0]] {
        let mut town = Town::of(2);
        town.is_away = true;
        town.register(0, 1, Some("bob"));
        town.pass(Duration::from_secs(1));
        town.register(1, 2, Some("bob"));
        town.is_away = false;
        for index in order {
            town.input(index, Input::Reunited);
            town.pass(Duration::from_millis(10));
        }
        let registered = (town.broker(0).registered(), town.broker(1).registered());
        assert_eq!(registered, (1, 0), "the one that came first, whoever enters it first");
        assert_eq!(town.names[&name("bob")].0, 0);
    }
}

/// Bob has been at one broker for a while, the directory forgets him, and somebody else takes his name at another.
fn robbed() -> (Town, [Peer; 2]) {
    let mut town = Town::of(2);
    let bob = town.register(0, 1, Some("bob"));
    town.pass(Duration::from_secs(10));
    town.names.clear();
    let thief = town.register(1, 2, Some("bob"));
    assert_eq!(town.names[&name("bob")].0, 1);
    (town, [bob, thief])
}

fn bob_has_his_name(town: &mut Town) {
    assert_eq!((town.broker(0).registered(), town.broker(1).registered()), (1, 0));
    assert_eq!(town.names[&name("bob")].0, 0);
    let answer = town.ask_to_register(1, 2, Some("bob"));
    assert!(
        matches!(&answer, Some(Body::Refused(it)) if it.code == ErrorCode::NameTaken),
        "{answer:?}"
    );
}

#[test]
fn a_peer_keeps_its_name_though_the_directory_forgets_it_and_another_one_comes() {
    let (mut town, _) = robbed();
    town.input(0, Input::Reunited);
    town.pass(Duration::from_millis(10));
    bob_has_his_name(&mut town);

    let (mut town, [bob, _]) = robbed();
    let refresh =
        Refresh { lease: Duration::from_secs(60), rtt: None, candidates: None, nat: None };
    town.say(&bob, Body::Refresh(refresh));
    bob_has_his_name(&mut town);
}

#[test]
fn who_lost_a_name_and_was_not_told_hears_when_its_broker_enters_it_again() {
    let (mut town, _) = robbed();
    town.loses_letters = 1;
    town.input(0, Input::Reunited);
    town.pass(Duration::from_millis(10));
    assert_eq!(town.broker(1).registered(), 1, "the letter was lost");
    town.input(1, Input::Reunited);
    town.pass(Duration::from_millis(10));
    bob_has_his_name(&mut town);
}

#[test]
fn a_peer_that_registers_once_more_on_its_link_has_had_its_name_all_the_time() {
    let (mut town, _) = robbed();
    town.pass(Duration::from_secs(1));
    town.register(0, 1, Some("bob"));
    bob_has_his_name(&mut town);
}

#[test]
fn a_name_is_not_taken_back_when_the_lease_has_ended() {
    let (mut town, _) = robbed();
    // The lease has ended, and its broker has not come to look at it yet.
    town.now += Duration::from_secs(51);
    town.letter(1, 0, &Letter::Wake { name: name("bob") }.emit());
    assert_eq!(town.names[&name("bob")].0, 1);
    assert_eq!(town.broker(1).registered(), 1);
}

#[test]
fn letters_that_make_no_sense_change_nothing() {
    let (mut town, [alice, bob], punch) = met();
    town.said_to(&bob);
    let pong = |id| Letter::Deliver {
        to: id,
        message: Message::new(TransactionId::new([1; 12]), Body::Pong),
    };
    town.letter(1, 0, &pong(alice.id).emit());
    town.letter(1, 0, b"no letter at all");
    // A guest is only heard through its own broker.
    let relay = Message::new(TransactionId::new([2; 12]), Body::Relay(note(&punch, "x")));
    town.letter(1, 1, &Letter::Tell { from: alice.id, message: relay.clone() }.emit());
    town.letter(0, 1, &Letter::Tell { from: bob.id, message: relay }.emit());
    assert_eq!((town.said_to(&alice), town.said_to(&bob)), (vec![], vec![]));
    assert_eq!(town.broker(0).counters().illegible_letters, 2);
}
