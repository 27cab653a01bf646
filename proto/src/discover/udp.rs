//! The UDP half of a discovery: which tests run, with which server, in which order.
//!
//! ```text
//!  0 RTT   mapping     one socket to every server                        test I
//!  1 RTT   mapping     the same socket to the other addresses            tests II, III
//!          ports       eight fresh sockets to the first server that answered
//!          hairpin     two fresh sockets learn their addresses
//!  2 RTT   filtering   two fresh sockets for each of up to three servers, mapping settled
//!          honesty     the socket of the mapping test asks for changed replies
//!          hairpin     both sockets send to each other
//!  3 RTT   filtering   seven requests for a changed reply each, then the last control
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use ntcp_stun::behavior::{
    self, Alternate, Change, MappingTest, Passage, RequestSeed, ServerState,
};

use super::outbox::Outbox;
use super::ports::{PortPattern, PortSample};
use super::station::{Job, Running, Station};
use crate::address::Family;
use crate::command::{CommandId, IoFailure, SocketId};
use crate::entropy::Entropy;
use crate::machine::Deadline;

/// Samples of the port test: at least eight tell a sequence from chance.
const PORT_SAMPLES: u8 = 8;
/// Most servers asked for changed replies; each costs two sockets and about twenty datagrams.
const MAX_FILTERING_SERVERS: usize = 3;

/// The unspecified address of a family, any port.
pub(super) fn any(family: Family) -> SocketAddr {
    let ip = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}

/// What one server's filtering tests found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FilteringFinding {
    pub(super) alternate: Alternate,
    pub(super) ip_and_port: Option<Passage>,
    pub(super) port: Option<Passage>,
    /// The same through a hole that is open for them, if that was tried.
    pub(super) open_ip_and_port: Option<Passage>,
    pub(super) open_port: Option<Passage>,
}

impl FilteringFinding {
    /// What this server's word is worth.
    pub(super) fn verdict(
        &self,
        mapping: Option<behavior::Mapping>,
    ) -> Option<behavior::Filtering> {
        let honest = |change| match change {
            Change::IpAndPort => self.open_ip_and_port == Some(Passage::Passed),
            Change::Port => self.open_port == Some(Passage::Passed),
        };
        let port = self.port.unwrap_or(Passage::ServerSilent);
        behavior::filtering::judge(mapping, self.ip_and_port?, port, honest)
    }
}

/// The survey.
#[derive(Debug)]
pub(super) struct UdpSurvey {
    family: Family,
    entropy: Entropy,
    /// The mapping test is the first.
    stations: Vec<Station>,
    /// Servers to ask once the first socket is bound.
    waiting: Vec<SocketAddr>,
    hint: Option<Duration>,
    send_failure: Option<IoFailure>,
}

impl UdpSurvey {
    pub(super) fn new(family: Family, entropy: Entropy, outbox: &mut Outbox) -> Self {
        let mut survey = Self {
            family,
            entropy,
            stations: Vec::new(),
            waiting: Vec::new(),
            hint: None,
            send_failure: None,
        };
        survey.open(Job::Mapping, outbox);
        survey
    }

    /// Asks one more server.
    pub(super) fn contact(&mut self, server: SocketAddr, outbox: &mut Outbox, now: Instant) {
        self.waiting.push(server);
        self.advance(outbox, now);
    }

    /// The round-trip time over TCP: silence is believed sooner.
    pub(super) fn hint(&mut self, rtt: Duration, outbox: &mut Outbox, now: Instant) {
        self.hint = Some(rtt);
        self.advance(outbox, now);
    }

    pub(super) fn on_bound(
        &mut self,
        id: CommandId,
        result: Result<SocketAddr, IoFailure>,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        self.stations.iter_mut().for_each(|it| it.on_bound(id, result, now));
        self.advance(outbox, now);
    }

    /// A datagram could not be sent.
    pub(super) fn on_send_failure(&mut self, failure: IoFailure) {
        self.send_failure.get_or_insert(failure);
    }

    pub(super) fn on_datagram(
        &mut self,
        socket: SocketId,
        (source, payload): (SocketAddr, &[u8]),
        outbox: &mut Outbox,
        now: Instant,
    ) {
        self.stations.iter_mut().for_each(|it| it.on_datagram(socket, source, payload, now));
        self.advance(outbox, now);
    }

    pub(super) fn handle_timeout(&mut self, outbox: &mut Outbox, now: Instant) {
        self.stations.iter_mut().for_each(|it| it.handle_timeout(now));
        self.advance(outbox, now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let deadline = |it: &Station| Some(Deadline::new(it.poll_timeout()?, it.job().reason()));
        self.stations.iter().filter_map(deadline).min()
    }

    /// Whether nothing more is to come that would change the verdict.
    pub(super) fn is_settled(&self) -> bool {
        let (mapping, others) = self.stations.split_first().expect("the mapping test is there");
        // A server that has not answered yet is waited for only if it could still tell something.
        let verdict = self.mapping_test().and_then(MappingTest::verdict);
        let is_told = verdict.is_some() && self.is_filtering_told(verdict);
        others.iter().all(Station::is_settled) && (mapping.is_settled() || is_told)
    }

    fn is_filtering_told(&self, mapping: Option<behavior::Mapping>) -> bool {
        self.filtering().any(|it| it.verdict(mapping).is_some())
    }

    /// The mapping test, once its socket is bound.
    pub(super) fn mapping_test(&self) -> Option<&MappingTest> {
        match self.stations.first()?.running()? {
            Running::Mapping(test) => Some(test),
            Running::Ports(_)
            | Running::Hairpin(_)
            | Running::Filtering(_)
            | Running::Honesty(_) => None,
        }
    }

    /// Why nothing could be sent, if so.
    pub(super) fn failure(&self) -> Option<IoFailure> {
        self.stations.iter().find_map(Station::failure).or(self.send_failure)
    }

    /// How external ports are chosen.
    pub(super) fn pattern(&self) -> Option<PortPattern> {
        self.stations.iter().find_map(|station| {
            let Some(Running::Ports(test)) = station.running() else { return None };
            let sample = |(slot, external): (_, SocketAddr)| {
                let internal = station.local(slot)?.port();
                Some(PortSample { internal, external: external.port() })
            };
            PortPattern::of(&test.samples().filter_map(sample).collect::<Vec<_>>())
        })
    }

    /// Whether the host reaches itself through its external address.
    pub(super) fn hairpin(&self) -> Option<bool> {
        self.stations.iter().find_map(|station| match station.running() {
            Some(Running::Hairpin(test)) => test.finding(),
            _ => None,
        })
    }

    /// What each server that can tell has told about filtering.
    pub(super) fn filtering(&self) -> impl Iterator<Item = FilteringFinding> {
        self.stations.iter().filter_map(|station| match station.job() {
            Job::Filtering { alternate, change: Change::IpAndPort, .. } => Some(FilteringFinding {
                alternate,
                ip_and_port: self.passage(alternate, Change::IpAndPort),
                port: self.passage(alternate, Change::Port),
                open_ip_and_port: self.open_passage(alternate, Change::IpAndPort),
                open_port: self.open_passage(alternate, Change::Port),
            }),
            Job::Filtering { change: Change::Port, .. }
            | Job::Mapping
            | Job::Ports { .. }
            | Job::Hairpin { .. }
            | Job::Honesty { .. } => None,
        })
    }

    fn passage(&self, of: Alternate, which: Change) -> Option<Passage> {
        self.stations.iter().find_map(|station| match (station.job(), station.running()) {
            (Job::Filtering { alternate, change, .. }, Some(Running::Filtering(test)))
                if alternate == of && change == which =>
            {
                test.finding()
            }
            _ => None,
        })
    }

    fn open_passage(&self, of: Alternate, change: Change) -> Option<Passage> {
        self.stations.iter().find_map(|station| match (station.job(), station.running()) {
            (Job::Honesty { alternate, .. }, Some(Running::Honesty(test))) if alternate == of => {
                test.finding(change)
            }
            _ => None,
        })
    }

    /// Starts what can start, and sends what is to be sent.
    fn advance(&mut self, outbox: &mut Outbox, now: Instant) {
        let (hint, waiting) = (self.hint, &mut self.waiting);
        if let Some(Running::Mapping(test)) =
            self.stations.first_mut().and_then(Station::running_mut)
        {
            hint.into_iter().for_each(|rtt| test.hint(rtt));
            waiting.drain(..).for_each(|server| test.contact(server, now));
        }
        self.flush(outbox);
        self.open_ports_and_hairpin(outbox);
        self.open_filtering(outbox, now);
        self.flush(outbox);
    }

    fn flush(&mut self, outbox: &mut Outbox) {
        self.stations.iter_mut().for_each(|it| it.flush(outbox));
    }

    fn open_ports_and_hairpin(&mut self, outbox: &mut Outbox) {
        let Some(test) = self.mapping_test().filter(|_| self.stations.len() == 1) else { return };
        let Some((server, rtt)) = test.servers().find_map(|(server, _, rtt)| Some((server, rtt?)))
        else {
            return;
        };
        self.open(Job::Ports { server, rtt, sockets: PORT_SAMPLES }, outbox);
        self.open(Job::Hairpin { server, rtt }, outbox);
    }

    /// Opens the filtering tests with each server whose other address has answered.
    fn open_filtering(&mut self, outbox: &mut Outbox, now: Instant) {
        let Some(test) = self.mapping_test() else { return };
        let verdict = test.verdict();
        let able: Vec<(Alternate, Duration)> = test
            .servers()
            .filter(|(server, _, _)| test.is_settled_with(*server))
            .filter_map(|(_, state, rtt)| match state {
                ServerState::TwoAddresses(alternate) => Some((alternate, rtt?)),
                ServerState::Silent
                | ServerState::Refused(_)
                | ServerState::SingleAddress
                | ServerState::Incredible { .. }
                | ServerState::Announced(_) => None,
            })
            .take(MAX_FILTERING_SERVERS)
            .collect();
        let is_told = self.is_filtering_told(verdict);
        for (alternate, rtt) in able {
            if !is_told && !self.has_job(|it| it.is_filtering_of(alternate)) {
                for change in [Change::IpAndPort, Change::Port] {
                    self.open(Job::Filtering { alternate, rtt, change }, outbox);
                }
            }
            let honesty = Job::Honesty { alternate, rtt };
            let can_show = verdict == Some(behavior::Mapping::EndpointIndependent);
            if can_show && !is_told && !self.has_job(|it| it == honesty) {
                let seed = self.request_seed();
                self.stations.push(Station::share(honesty, seed, &self.stations[0], now));
            }
        }
    }

    fn has_job(&self, is: impl Fn(Job) -> bool) -> bool {
        self.stations.iter().any(|it| is(it.job()))
    }

    fn open(&mut self, job: Job, outbox: &mut Outbox) {
        let (seed, local) = (self.request_seed(), any(self.family));
        let entropy = &mut self.entropy;
        let order = |places: usize| entropy.below(places as u64) as usize;
        let station = Station::open(job, seed, local, order, outbox);
        self.stations.push(station);
    }

    fn request_seed(&mut self) -> RequestSeed {
        RequestSeed(self.entropy.bytes())
    }
}
