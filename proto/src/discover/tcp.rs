//! The TCP half of a discovery: mapping and port allocation, over real connections.
//!
//! ```text
//!  0 RTT   contact    one connection to every server, each from a fresh port
//!  1 RTT              connected: the request goes out
//!  2 RTT   samples    eight fresh ports to the first server that answered, to its ports by turns
//!          mapping    the port of that first connection to the other addresses of the servers
//!                     and to the other servers
//!  4 RTT              all answered; or else
//!          mapping    once more, from the port of a sample, and then from those of two others
//! ```
//!
//! A Binding request on a connection is not repeated (RFC 8489 section 6.2.2): TCP does that. What
//! it does about a lost SYN takes a second (RFC 6298 section 2.1). While no server has answered, each
//! is therefore tried again with a fresh connection, which costs a socket instead of a second, and so
//! is a mapping that is not told yet. The survey as a whole waits for one such repetition where
//! something would be missing otherwise, and never for a second one.
//!
//! Beside it run, each on ports of its own: whether a second connection between the same ends gets
//! another port ([`again`]), whether this host reaches itself ([`hairpin`]), how its SYNs arrive
//! ([`sequence`]), and what only a server that connects back can tell ([`probes`]), if one offers to.

mod again;
#[cfg(test)]
mod bench;
mod ghost;
mod hairpin;
mod probes;
mod reserved;
mod sequence;
mod stream;
mod syn_ack;
mod timers;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::attribute::ChangeRequest;
use ntcp_stun::behavior::exchange::{parse, request};
use ntcp_stun::behavior::{Alternate, Binding, Dependence, Mapping, Observation};
use ntcp_stun::probe::{Offer, Seen, Test};

pub(super) use stream::Contact;
use stream::{Lead, Purpose, State, Stream};

use super::outbox::Outbox;
use super::ports::{PortPattern, PortSample};
use super::udp::any;
use crate::address::{Family, canonical};
use crate::command::{CommandId, Ends, IoFailure, SocketId};
use crate::entropy::Entropy;
use crate::machine::Deadline;
use crate::nat;
use again::Again;
use ghost::Ghost;
use hairpin::{Hairpin, Side};
use probes::Probes;
use sequence::Sequence;
use syn_ack::SynAck;
use timers::Timers;

/// Fresh ports to sample: at least eight tell a sequence from chance.
const PORT_SAMPLES: usize = 8;
/// Most connections of one survey; what would come after is not asked.
const MAX_STREAMS: usize = 96;
/// Samples that may be missing when the survey stops waiting early.
const MAY_MISS: usize = 1;
/// How often servers are tried until one answers, with one more connection each time: at 5 % loss on
/// each access link two round trips in a row are spoilt in one of three cases, but all six connections
/// in less than one of five hundred.
const CONTACT_ATTEMPTS: u8 = 3;
/// Ports from which the mapping is tried until it is told, twice as many each time.
const TRIALS: usize = 4;
/// When a lost SYN is sent again (RFC 6298 section 2.1: the first timeout is one second).
const SYN_REPEATED: Duration = Duration::from_secs(1);
/// The round trip to expect of a server about which nothing is known: beyond most of the earth.
const UNKNOWN_RTT: Duration = Duration::from_millis(400);
/// What a queue adds to the two round trips of an answer before its server is tried again.
const RETRY_SLACK: Duration = Duration::from_millis(100);
/// What a busy host, a queue or a delayed acknowledgement may add to a few round trips.
const SLACK: Duration = Duration::from_millis(250);

/// What depends on the host, and on who asks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes {
    /// How long the system's initial sequence numbers take from one to the next.
    pub(super) sequence_clock: Option<Duration>,
    /// Up to what times timers are measured.
    pub(super) timers: Option<Duration>,
}

/// The survey.
#[derive(Debug)]
pub(super) struct TcpSurvey {
    family: Family,
    entropy: Entropy,
    started: Instant,
    /// How often every server has been tried, and when last.
    attempts: u8,
    attempted: Instant,
    servers: Vec<SocketAddr>,
    streams: Vec<Stream>,
    /// The ports of the mapping test, first come first.
    leads: Vec<Lead>,
    /// Servers known over UDP to have two addresses.
    announced: Vec<Alternate>,
    /// The round-trip time over UDP.
    hint: Option<Duration>,
    again: Again,
    hairpin: Option<Hairpin>,
    probes: Option<Probes>,
    sequence: Option<Sequence>,
    ghost: Option<Ghost>,
    syn_ack: Option<SynAck>,
    timers: Option<Timers>,
    wishes: Wishes,
    is_over: bool,
}

impl TcpSurvey {
    pub(super) fn new(family: Family, wishes: Wishes, entropy: Entropy, now: Instant) -> Self {
        Self {
            family,
            entropy,
            started: now,
            attempts: 1,
            attempted: now,
            servers: Vec::new(),
            streams: Vec::new(),
            leads: Vec::new(),
            announced: Vec::new(),
            hint: None,
            again: Again::default(),
            hairpin: None,
            probes: None,
            sequence: None,
            ghost: None,
            syn_ack: None,
            timers: None,
            wishes,
            is_over: false,
        }
    }

    /// Connects to one more server.
    pub(super) fn contact(&mut self, server: SocketAddr, outbox: &mut Outbox, now: Instant) {
        if !self.servers.contains(&server) {
            self.servers.push(server);
            self.connect(Purpose::Contact, any(self.family), server, outbox, now);
        }
        self.advance(outbox, now);
    }

    /// A server has two addresses, by its answers over UDP, and the path to it takes about `rtt`.
    pub(super) fn announce(
        &mut self,
        alternate: Alternate,
        rtt: Duration,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        self.hint.get_or_insert(rtt);
        if !self.announced.contains(&alternate) {
            self.announced.push(alternate);
            self.advance(outbox, now);
        }
    }

    /// The round-trip time over UDP: a server that refuses TCP by silence is given up sooner.
    pub(super) fn hint(&mut self, rtt: Duration) {
        self.hint.get_or_insert(rtt);
    }

    pub(super) fn on_connected(
        &mut self,
        id: CommandId,
        result: Result<Ends, IoFailure>,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let Some(stream) = self.streams.iter_mut().find(|it| it.connect == id) else {
            if let Some(hairpin) = &mut self.hairpin {
                hairpin.on_connected(id, &result);
            }
            if let Some(probes) = &mut self.probes {
                probes.on_connected(id, &result, outbox);
            }
            if let Some(sequence) = &mut self.sequence {
                sequence.on_connected(id, &result, outbox, now);
            }
            if let Some(ghost) = &mut self.ghost {
                ghost.on_connected(id, &result, outbox, now);
            }
            if let Some(syn_ack) = &mut self.syn_ack {
                syn_ack.on_connected(id, &result, outbox);
            }
            if let Some(timers) = &mut self.timers {
                timers.on_connected(id, &result, outbox, now);
            }
            return;
        };
        if !matches!(stream.state, State::Connecting) {
            return;
        }
        match result {
            Ok(ends) => {
                let id = self.entropy.transaction_id();
                stream.rtt = Some(now.saturating_duration_since(stream.started));
                stream.state = State::Asked { local: canonical(ends.local), id };
                outbox.send_tcp(stream.socket, request(id, ChangeRequest::Nothing));
            }
            Err(failure) => {
                stream.state = State::Failed(failure);
                outbox.forget(stream.socket);
            }
        }
        self.advance(outbox, now);
    }

    pub(super) fn on_bound(
        &mut self,
        id: CommandId,
        result: &Result<SocketAddr, IoFailure>,
        outbox: &mut Outbox,
    ) {
        if let Some(hairpin) = &mut self.hairpin {
            hairpin.on_bound(id, result, outbox);
        }
        if let Some(probes) = &mut self.probes {
            probes.on_bound(id, result, outbox);
        }
    }

    pub(super) fn on_done(
        &mut self,
        id: CommandId,
        result: Result<(), IoFailure>,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        if let Some(sequence) = &mut self.sequence {
            sequence.on_done(id, result, outbox, now);
        }
    }

    /// Something was not sent.
    pub(super) fn on_send_failure(&mut self, id: CommandId) {
        if let Some(syn_ack) = &mut self.syn_ack {
            syn_ack.on_send_failure(id);
        }
    }

    /// A capture saw a SYN with this number leave.
    pub(super) fn on_captured(&mut self, socket: SocketId, number: u32) {
        if let Some(sequence) = &mut self.sequence {
            sequence.on_captured(socket, number);
        }
    }

    pub(super) fn on_accepted(&mut self, ends: (SocketId, SocketId), outbox: &mut Outbox) {
        let (listener, socket) = ends;
        outbox.adopt(socket);
        if let Some(probes) = &mut self.probes {
            probes.on_accepted(listener, socket);
        }
    }

    /// A socket has been closed as asked for: its pair of ends is free.
    pub(super) fn on_ended(&mut self, id: CommandId, outbox: &mut Outbox, now: Instant) {
        if let Some(sequence) = &mut self.sequence {
            sequence.on_ended(id, outbox, now);
        }
        let Some([local, remote]) = self.again.on_closed(id) else { return };
        if !self.is_over {
            self.connect(Purpose::Again, local, remote, outbox, now);
        }
    }

    /// A whole message arrived on a stream.
    pub(super) fn on_message(
        &mut self,
        socket: SocketId,
        payload: &[u8],
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let Some(stream) = self.streams.iter_mut().find(|it| it.socket == socket) else {
            if let Some(probes) = &mut self.probes {
                probes.on_message(socket, payload, outbox, now);
            }
            if let Some(sequence) = &mut self.sequence {
                sequence.on_message(socket, payload, outbox, now);
            }
            if let Some(ghost) = &mut self.ghost {
                ghost.on_message(socket, payload, outbox);
            }
            if let Some(syn_ack) = &mut self.syn_ack {
                syn_ack.on_message(socket, payload, outbox, now);
            }
            if let Some(timers) = &mut self.timers {
                timers.on_message(socket, payload, outbox, now);
            }
            self.begin_reach(outbox, now);
            return;
        };
        let State::Asked { local, id } = stream.state else { return };
        let message = parse(payload).filter(|message| message.transaction_id() == id);
        let binding = message.and_then(|message| Binding::read(&message, stream.remote));
        let Some(binding) = binding else { return };
        stream.offer = message.and_then(|it| it.attribute::<Offer>().ok().flatten());
        stream.state = State::Answered { local, binding };
        if stream.purpose == Purpose::Again {
            self.again.on_answered(local.port(), binding.mapped);
        }
        self.advance(outbox, now);
    }

    /// A stream ended by itself.
    pub(super) fn on_closed(
        &mut self,
        socket: SocketId,
        reason: IoFailure,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        outbox.forget(socket);
        let Some(stream) = self.streams.iter_mut().find(|it| it.socket == socket) else {
            if let Some(probes) = &mut self.probes {
                probes.on_closed(socket);
            }
            if let Some(sequence) = &mut self.sequence {
                sequence.on_closed(socket);
            }
            if let Some(ghost) = &mut self.ghost {
                ghost.on_closed(socket, reason);
            }
            if let Some(syn_ack) = &mut self.syn_ack {
                syn_ack.on_closed(socket);
            }
            if let Some(timers) = &mut self.timers {
                timers.on_closed(socket);
            }
            return;
        };
        if stream.is_pending() {
            stream.state = State::Failed(reason);
            self.advance(outbox, now);
        }
    }

    pub(super) fn handle_timeout(&mut self, outbox: &mut Outbox, now: Instant) {
        if let Some(hairpin) = &mut self.hairpin {
            hairpin.handle_timeout(now);
        }
        if let Some(probes) = &mut self.probes {
            probes.handle_timeout(outbox, now);
        }
        if let Some(sequence) = &mut self.sequence {
            sequence.handle_timeout(now);
        }
        if let Some(ghost) = &mut self.ghost {
            ghost.handle_timeout(now);
        }
        if let Some(syn_ack) = &mut self.syn_ack {
            syn_ack.handle_timeout(outbox, now);
        }
        if let Some(timers) = &mut self.timers {
            timers.handle_timeout(outbox, now);
        }
        let Some(deadline) = self.own_timeout().filter(|it| it.at <= now) else { return };
        if deadline.at >= self.end().at {
            self.is_over = true;
        } else if self.leads.is_empty() {
            self.retry_contacts(outbox, now);
        } else {
            self.start_trial(now);
            self.advance(outbox, now);
        }
    }

    /// When something is to be done about what has not come.
    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let hairpin = self.hairpin.as_ref().and_then(Hairpin::poll_timeout);
        let probes = self.probes.as_ref().and_then(Probes::poll_timeout);
        let sequence = self.sequence.as_ref().and_then(Sequence::poll_timeout);
        let ghost = self.ghost.as_ref().and_then(Ghost::poll_timeout);
        let syn_ack = self.syn_ack.as_ref().and_then(SynAck::poll_timeout);
        let timers = self.timers.as_ref().and_then(Timers::poll_timeout);
        let timers = Deadline::earlier(syn_ack, timers);
        let beside = Deadline::earlier(hairpin, Deadline::earlier(probes, sequence));
        let beside = Deadline::earlier(beside, Deadline::earlier(ghost, timers));
        Deadline::earlier(self.own_timeout(), beside)
    }

    fn own_timeout(&self) -> Option<Deadline> {
        if self.has_ended() { None } else { Deadline::earlier(self.retry(), Some(self.end())) }
    }

    /// When something is tried once more: every server, or the mapping.
    fn retry(&self) -> Option<Deadline> {
        match self.leads.last() {
            None if self.attempts < CONTACT_ATTEMPTS => {
                let patience = self.hint.map_or(UNKNOWN_RTT, |rtt| rtt * 2) + RETRY_SLACK;
                Some(Deadline::new(self.attempted + patience, "try the servers again"))
            }
            Some(last) if !self.is_mapping_told() && self.fresh_lead(last.since).is_some() => {
                let patience = last.rtt * 2 + RETRY_SLACK;
                Some(Deadline::new(last.since + patience, "try the TCP mapping again"))
            }
            None | Some(_) => None,
        }
    }

    /// When the survey stops waiting.
    fn end(&self) -> Deadline {
        let Some(lead) = self.leads.first() else {
            let patience = SYN_REPEATED + self.hint.unwrap_or(UNKNOWN_RTT) * 3 + SLACK;
            return Deadline::new(self.started + patience, "give up on servers over TCP");
        };
        if self.is_enough() {
            Deadline::new(lead.since + lead.rtt * 3 + SLACK, "end the TCP survey")
        } else {
            let patience = SYN_REPEATED + lead.rtt * 4 + SLACK;
            Deadline::new(lead.since + patience, "end the TCP survey incomplete")
        }
    }

    fn retry_contacts(&mut self, outbox: &mut Outbox, now: Instant) {
        self.attempts += 1;
        self.attempted = now;
        for server in self.servers.clone() {
            let is_silent = self.contacted(server) == Contact::Silent;
            for _ in 0..if is_silent { self.attempts } else { 0 } {
                self.connect(Purpose::Contact, any(self.family), server, outbox, now);
            }
        }
    }

    fn start_trial(&mut self, now: Instant) {
        for _ in 0..self.leads.len() {
            self.leads.extend(self.fresh_lead(now));
        }
    }

    /// The port of a sample that has been answered, for another trial of the mapping.
    fn fresh_lead(&self, now: Instant) -> Option<Lead> {
        let rtt = self.leads.first().filter(|_| self.leads.len() < TRIALS)?.rtt;
        let samples = self.streams.iter().filter(|it| it.purpose == Purpose::Sample);
        let fresh = |local: &SocketAddr| {
            let is_lead = self.leads.iter().any(|it| it.local == *local);
            !is_lead && !self.is_busy(local.port())
        };
        let local = samples.filter_map(|it| Some(it.answered()?.0)).find(fresh)?;
        Some(Lead { local, rtt, since: now })
    }

    /// Whether a test beside uses this port.
    fn is_busy(&self, port: u16) -> bool {
        self.again.uses(port)
            || self.hairpin.as_ref().is_some_and(|it| it.uses(port))
            || self.sequence.as_ref().is_some_and(|it| it.uses(port))
    }

    /// Whether nothing more is to come that would change the verdict.
    pub(super) fn is_settled(&self) -> bool {
        self.has_ended()
            && self.hairpin.as_ref().is_none_or(Hairpin::is_settled)
            && self.probes.as_ref().is_none_or(Probes::is_settled)
            && self.sequence.as_ref().is_none_or(Sequence::is_settled)
            && self.ghost.as_ref().is_none_or(Ghost::is_settled)
            && self.syn_ack.as_ref().is_none_or(SynAck::is_settled)
            && self.timers.as_ref().is_none_or(Timers::is_settled)
    }

    /// Whether all that these connections tell is told.
    fn has_ended(&self) -> bool {
        let is_pending = self.streams.iter().any(Stream::is_pending) || self.again.is_ending();
        self.is_over || !is_pending
    }

    /// How each server took it, in the order of contact.
    pub(super) fn contacts(&self) -> impl Iterator<Item = (SocketAddr, Contact)> {
        self.servers.iter().map(|server| (*server, self.contacted(*server)))
    }

    /// The best that came of all attempts on a server.
    fn contacted(&self, server: SocketAddr) -> Contact {
        let attempts = self.streams.iter().filter(|it| it.purpose == Purpose::Contact);
        let attempts = attempts.filter(|it| it.remote == server);
        attempts.map(Stream::contact).min().unwrap_or(Contact::Silent)
    }

    /// The round-trip time to the first server that answered.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.leads.first().map(|it| it.rtt)
    }

    /// What the destinations saw of the first port of the mapping test.
    pub(super) fn observations(&self) -> Vec<Observation> {
        self.leads.first().map(|lead| self.seen_of(*lead)).unwrap_or_default()
    }

    fn seen_of(&self, lead: Lead) -> Vec<Observation> {
        let is_of = |it: &&Stream| it.is_of(lead) && it.purpose != Purpose::Again;
        let streams = self.streams.iter().filter(is_of);
        streams.filter_map(Stream::observation).collect()
    }

    fn dependence(&self) -> Dependence {
        let told = self.leads.iter().map(|lead| Dependence::of(&self.seen_of(*lead)));
        told.fold(Dependence::default(), Dependence::or)
    }

    /// What the external port depends on.
    pub(super) fn mapping(&self) -> Option<nat::Mapping> {
        self.verdict().map(nat::Mapping::from)
    }

    /// Whether a second connection between the same ends has another external port, after an RST has
    /// ended the first.
    pub(super) fn new_port_each_time(&self) -> Option<bool> {
        self.again.differs()
    }

    /// Whose SYNs come in.
    pub(super) fn filtering(&self) -> Option<nat::Filtering> {
        self.probes.as_ref()?.filtering()
    }

    /// Whether this host reaches itself through its external address.
    pub(super) fn hairpin(&self) -> Option<bool> {
        self.hairpin.as_ref()?.finding()
    }

    /// What a SYN that nobody asked for meets with.
    pub(super) fn unsolicited_syn(&self) -> Option<nat::UnsolicitedSyn> {
        self.probes.as_ref()?.unsolicited_syn()
    }

    /// The least TTL with which a SYN opens the NAT.
    pub(super) fn opener_ttl(&self) -> Option<u8> {
        self.probes.as_ref()?.opener_ttl()
    }

    /// How a SYN of this host arrived.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.sequence.as_ref()?.seen()
    }

    /// Whether sequence numbers pass unchanged.
    pub(super) fn initial_sequence(&self) -> Option<nat::InitialSequence> {
        self.sequence.as_ref()?.finding()
    }

    /// Whether the numbers of two connections are as far apart as they left.
    pub(super) fn follows_clock(&self) -> Option<bool> {
        self.sequence.as_ref()?.follows_clock()
    }

    /// What becomes of a SYN that comes in after an RST did.
    pub(super) fn inbound_syn_after_rst(&self) -> Option<nat::InboundSynAfterSyn> {
        self.probes.as_ref()?.inbound_syn_after_rst(self.mapping())
    }

    /// What becomes of a SYN that comes in after the one that went out died on the way.
    pub(super) fn inbound_syn_after_icmp(&self) -> Option<nat::InboundSynAfterSyn> {
        self.probes.as_ref()?.inbound_syn_after_icmp()
    }

    /// The fate of a connection that begins in the middle.
    pub(super) fn mid_stream(&self) -> Option<nat::MidStream> {
        self.ghost.as_ref()?.finding()
    }

    /// The fate of a SYN-ACK that goes out after a SYN.
    pub(super) fn syn_ack_after_syn(&self) -> Option<nat::OutboundSynAck> {
        self.syn_ack.as_ref()?.finding()
    }

    /// How long a hole stays open at least.
    pub(super) fn hole(&self) -> Option<Duration> {
        self.timers.as_ref()?.hole()
    }

    /// How long an idle connection lives at least.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        self.timers.as_ref()?.lifetime()
    }

    /// Whether a listening port is reached from an end that has just refused it.
    pub(super) fn reached_after_rst(&self) -> Option<bool> {
        self.probes.as_ref()?.reached_after_rst(self.mapping())
    }

    /// What becomes of a SYN that comes in after one went out.
    pub(super) fn inbound_syn_after_syn(&self) -> Option<nat::InboundSynAfterSyn> {
        self.probes.as_ref()?.inbound_syn_after_syn(self.mapping())
    }

    /// What the external port depends on, as far as different destinations tell. As long as an
    /// answer from another port of a server is missing, the weaker kind would be a guess.
    fn verdict(&self) -> Option<Mapping> {
        let dependence = self.dependence();
        let is_missing = |it: &Stream| it.purpose == Purpose::Mapping && it.is_pending();
        let is_guess = dependence.on_port.is_none() && self.streams.iter().any(is_missing);
        match dependence.mapping() {
            Some(Mapping::AddressDependent) if is_guess => None,
            verdict => verdict,
        }
    }

    /// Whether the mapping is known as well as it will be, also from one connection to the next.
    fn is_told(&self) -> bool {
        let is_pending = |it: &Stream| it.purpose == Purpose::Again && it.is_pending();
        let is_repeating = self.again.is_ending() || self.streams.iter().any(is_pending);
        let is_repeated = self.again.differs().is_some() || !is_repeating;
        self.is_mapping_told() && is_repeated
    }

    /// Whether it is known as well as different destinations tell.
    fn is_mapping_told(&self) -> bool {
        let Dependence { on_address, on_port } = self.dependence();
        let is_pending = |it: &Stream| it.purpose == Purpose::Mapping && it.is_pending();
        let is_told = on_address == Some(false) || (on_address.is_some() && on_port.is_some());
        is_told || !self.streams.iter().any(is_pending)
    }

    /// How external ports are chosen.
    pub(super) fn pattern(&self) -> Option<PortPattern> {
        let samples = self.streams.iter().filter(|it| it.purpose == Purpose::Sample);
        let sample = |it: &Stream| {
            let (local, binding) = it.answered()?;
            Some(PortSample { internal: local.port(), external: binding.mapped.port() })
        };
        PortPattern::of(&samples.filter_map(sample).collect::<Vec<_>>())
    }

    /// Whether so little is missing that it does not matter.
    fn is_enough(&self) -> bool {
        let missing = |it: &&Stream| it.purpose == Purpose::Sample && it.is_pending();
        self.streams.iter().filter(missing).count() <= MAY_MISS && self.is_told()
    }

    /// Takes the first answer as lead, and opens what follows from it.
    fn advance(&mut self, outbox: &mut Outbox, now: Instant) {
        if self.is_over {
            return;
        }
        if self.leads.is_empty() {
            let Some(lead) = self.find_lead(now) else { return };
            self.leads.push(lead);
            self.open_samples(outbox, now);
        }
        self.begin_probes(outbox, now);
        self.begin_hairpin(outbox, now);
        self.begin_sequence(outbox, now);
        self.begin_again(outbox);
        for lead in self.leads.clone() {
            for destination in self.destinations() {
                if !self.streams.iter().any(|it| it.remote == destination && it.is_of(lead)) {
                    let local = SocketAddr::new(any(self.family).ip(), lead.local.port());
                    self.connect(Purpose::Mapping, local, destination, outbox, now);
                }
            }
        }
    }

    /// Asks the first server that offers it to connect back.
    fn begin_probes(&mut self, outbox: &mut Outbox, now: Instant) {
        let (None, Some(lead)) = (&self.probes, self.leads.first()) else { return };
        let offers = self.streams.iter().filter(|it| it.purpose == Purpose::Contact);
        let Some((server, offer)) = offers.filter_map(|it| Some((it.remote, it.offer?))).next()
        else {
            return;
        };
        let rtt = lead.rtt;
        let place = (server, offer, rtt);
        self.probes = Some(Probes::new(self.family, place, &mut self.entropy, outbox, now));
        if offer.includes(Test::Refuse) {
            let place = (server, rtt);
            self.ghost = Some(Ghost::new(self.family, place, &mut self.entropy, outbox, now));
        }
        if offer.includes(Test::Deaf) {
            let place = (server, rtt);
            self.syn_ack = Some(SynAck::new(self.family, place, &mut self.entropy, outbox, now));
        }
        if let Some(longest) = self.wishes.timers {
            let entropy = &mut self.entropy;
            self.timers = Some(Timers::new(self.family, place, longest, entropy, (outbox, now)));
        }
    }

    fn begin_reach(&mut self, outbox: &mut Outbox, now: Instant) {
        let mapping = self.mapping();
        if let Some(probes) = &mut self.probes {
            probes.begin_reach(mapping, &mut self.entropy, outbox, now);
            if let Some(hops) = self.sequence.as_ref().and_then(Sequence::seen).map(hops) {
                probes.begin_dying(mapping, hops, &mut self.entropy, outbox, now);
            }
        }
    }

    /// The samples whose ports serve nothing else.
    fn idle_samples(&self) -> impl Iterator<Item = (&Stream, SocketAddr, SocketAddr)> {
        let samples = self.streams.iter().filter(|it| it.purpose == Purpose::Sample);
        let answered = samples.filter_map(|it| {
            let (local, binding) = it.answered()?;
            Some((it, SocketAddr::new(any(self.family).ip(), local.port()), binding.mapped))
        });
        answered.filter(|(_, local, _)| {
            let port = local.port();
            let leads = self.leads.iter().any(|it| it.local.port() == port);
            !leads && !self.is_busy(port)
        })
    }

    fn begin_hairpin(&mut self, outbox: &mut Outbox, now: Instant) {
        let (None, Some(lead)) = (&self.hairpin, self.leads.first()) else { return };
        let mut idle = self.idle_samples().map(|(_, local, mapped)| Side { local, mapped });
        let (Some(one), Some(other)) = (idle.next(), idle.next()) else { return };
        let rtt = lead.rtt;
        drop(idle);
        self.hairpin = Some(Hairpin::new([one, other], rtt, outbox, now));
    }

    /// Looks at a SYN from a port that is known already to an address that is new to it.
    fn begin_sequence(&mut self, outbox: &mut Outbox, now: Instant) {
        let (None, Some(lead)) = (&self.sequence, self.leads.first()) else { return };
        let looks = |it: &&Stream| it.offer.is_some_and(|it| it.includes(Test::Look));
        let Some(server) = self.streams.iter().find(looks) else { return };
        let Some((_, binding)) = server.answered() else { return };
        let Some(alternate) = self.alternate(server.remote, &binding) else { return };
        let Some((idle, ..)) = self.idle_samples().next() else { return };
        let Some((local, _)) = idle.answered() else { return };
        let addresses = [server.remote, alternate.other_port()];
        let Some(remote) = addresses.into_iter().find(|it| *it != idle.remote) else { return };
        let (ends, times) = (Ends { local, remote }, (lead.rtt, self.wishes.sequence_clock));
        let requests = [self.entropy.transaction_id(), self.entropy.transaction_id()];
        self.sequence = Some(Sequence::new(ends, times, requests, outbox, now));
    }

    fn begin_again(&mut self, outbox: &mut Outbox) {
        let is_due = self.verdict() == Some(Mapping::AddressAndPortDependent);
        if !is_due || self.again.has_begun() {
            return;
        }
        let idle = self.idle_samples().map(|(it, local, mapped)| {
            let ends = [local, it.remote];
            (it.socket, ends, mapped)
        });
        let idle: Vec<_> = idle.collect();
        self.again.begin(idle.into_iter(), outbox);
    }

    fn find_lead(&self, now: Instant) -> Option<Lead> {
        self.streams.iter().find_map(|stream| {
            let ((local, _), rtt) = stream.answered().zip(stream.rtt)?;
            // A handshake whose SYN was lost took a second more than the path.
            let rtt = self.hint.map_or(rtt, |hint| rtt.min(hint));
            Some(Lead { local, rtt, since: now })
        })
    }

    /// Fresh ports to the server of the lead, which is the only one that has answered: by turns to two
    /// of its ports if it surely has two, as peers have different ports.
    fn open_samples(&mut self, outbox: &mut Outbox, now: Instant) {
        let answered = self.streams.iter().find(|it| it.answered().is_some());
        let Some((stream, (_, binding))) = answered.and_then(|it| Some((it, it.answered()?)))
        else {
            return;
        };
        let server = stream.remote;
        let other = self.alternate(server, &binding).filter(|_| stream.offer.is_some());
        let servers = [server, other.map_or(server, |it| it.other_port())];
        for server in servers.into_iter().cycle().take(PORT_SAMPLES) {
            self.connect(Purpose::Sample, any(self.family), server, outbox, now);
        }
    }

    /// The servers that have answered, and their other addresses.
    fn destinations(&self) -> Vec<SocketAddr> {
        let mut destinations = Vec::new();
        for stream in self.streams.iter().filter(|it| it.purpose == Purpose::Contact) {
            let Some((_, binding)) = stream.answered() else { continue };
            destinations.push(stream.remote);
            if let Some(alternate) = self.alternate(stream.remote, &binding) {
                let others = [alternate.other_ip(), alternate.other_port(), alternate.other_both()];
                destinations.extend(others);
            }
        }
        destinations
    }

    /// The other address of a server, by its answers.
    fn alternate(&self, server: SocketAddr, binding: &Binding) -> Option<Alternate> {
        let own = binding.other.and_then(|it| Alternate::accept(server, it).ok());
        let known = self.announced.iter().find(|it| it.primary() == server).copied();
        known.or(own)
    }

    fn connect(
        &mut self,
        purpose: Purpose,
        local: SocketAddr,
        remote: SocketAddr,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        if self.streams.len() >= MAX_STREAMS {
            return;
        }
        let (connect, socket) = outbox.connect_tcp(local, remote);
        let state = State::Connecting;
        self.streams.push(Stream {
            purpose,
            connect,
            socket,
            bound: local,
            remote,
            started: now,
            rtt: None,
            offer: None,
            state,
        });
    }
}

/// The routers that a SYN passed: systems send with 64, 128 or 255.
fn hops(seen: Seen) -> u8 {
    let sent = [64, 128, u8::MAX].into_iter().find(|it| *it >= seen.ttl).unwrap_or(u8::MAX);
    sent - seen.ttl
}
