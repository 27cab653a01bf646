//! The mapping test: what the external port of one socket depends on (RFC 5780 section 4.3).
//!
//! ```text
//! socket ──► IP1:p1   test I     learns the mapped address and the server's other address
//! socket ──► IP2:p1   test II    another address
//! socket ──► IP1:p2              another port
//! socket ──► IP2:p2   test III   another address and port
//! ```
//!
//! The RFC asks one after the other and stops early. Here the last three go out together as soon as
//! test I is answered, since a round trip costs more than a datagram. All servers are asked from the
//! same socket, so that two servers of one address each tell as much as one of two.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{
    Alternate, AlternateRefusal, Datagram, Exchange, Ladder, RequestSeed, Slot, Test, Transmit,
};

/// Most servers one test asks; more are ignored. Each takes up to four exchanges.
pub const MAX_SERVERS: usize = 8;

/// Once one server has answered, the others are taken to be no nearer than this: they may be on
/// another continent.
const FARTHER: Duration = Duration::from_millis(100);

/// What the external port of an internal one depends on (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mapping {
    /// The same towards everybody.
    EndpointIndependent,
    /// Another for each destination address.
    AddressDependent,
    /// Another for each destination address and port.
    AddressAndPortDependent,
}

/// What one destination saw of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Observation {
    /// Where the socket sent to.
    pub destination: SocketAddr,
    /// The address it was seen from there.
    pub mapped: SocketAddr,
}

/// What is known about one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// It has not answered, or not yet.
    Silent,
    /// It refused to answer, with this error code.
    Refused(u16),
    /// It answered and announced no other address.
    SingleAddress,
    /// It answered and announced an address that is not believed.
    Incredible {
        /// What it announced.
        other: SocketAddr,
        /// What is wrong with it.
        refusal: AlternateRefusal,
    },
    /// Its other address is being asked, or was asked in vain.
    Announced(Alternate),
    /// It answered from its other address and port, too.
    TwoAddresses(Alternate),
}

/// One server's part in the test.
#[derive(Debug, Clone)]
struct Server {
    primary: Exchange,
    /// What followed from the announcement in the first answer.
    alternate: Option<Result<Alternate, (SocketAddr, AlternateRefusal)>>,
}

/// The test; it is settled whenever no request is waiting for its answer.
#[derive(Debug, Clone)]
pub struct MappingTest {
    seed: RequestSeed,
    servers: Vec<Server>,
    /// Requests to the other addresses, each address once.
    others: Vec<Exchange>,
    /// The time of a round trip on another transport, for servers that have not answered yet.
    hint: Option<Duration>,
}

impl MappingTest {
    /// A test that asks nobody yet.
    pub fn new(seed: RequestSeed) -> Self {
        Self { seed, servers: Vec::new(), others: Vec::new(), hint: None }
    }

    /// Asks one more server.
    pub fn contact(&mut self, server: SocketAddr, now: Instant) {
        let known = self.exchanges().any(|it| it.destination() == server);
        if known || self.servers.len() >= MAX_SERVERS {
            return;
        }
        let ladder = self.hint.map_or_else(Ladder::contact, Ladder::answer);
        let primary = Exchange::plain(self.seed, self.next_number(), server, ladder, now);
        self.servers.push(Server { primary, alternate: None });
    }

    /// The path's round-trip time is about `rtt`, by other evidence: servers that have not answered
    /// are asked at that pace from now on, or as if they were 100 ms away if that is slower. The
    /// first hint counts.
    pub fn hint(&mut self, rtt: Duration) {
        if self.hint.is_none() {
            let rtt = rtt.max(FARTHER);
            self.hint = Some(rtt);
            self.servers.iter_mut().for_each(|it| it.primary.adopt(Ladder::answer(rtt)));
        }
    }

    /// The servers asked, in their order, with their round-trip times.
    pub fn servers(&self) -> impl Iterator<Item = (SocketAddr, ServerState, Option<Duration>)> {
        self.servers.iter().map(|server| {
            let rtt = server.primary.answer().map(|it| it.rtt);
            (server.primary.destination(), self.state(server), rtt)
        })
    }

    /// Whether nothing more is to come from this server.
    pub fn is_settled_with(&self, server: SocketAddr) -> bool {
        let Some(entry) = self.servers.iter().find(|it| it.primary.destination() == server) else {
            return true;
        };
        let others = |alternate: Alternate| {
            alternates(alternate).into_iter().all(|address| {
                self.exchanges().filter(|it| it.destination() == address).all(Exchange::is_settled)
            })
        };
        entry.primary.is_settled() && entry.alternate.and_then(Result::ok).is_none_or(others)
    }

    /// What each address that answered has seen, servers first.
    pub fn observations(&self) -> Vec<Observation> {
        let seen = |exchange: &Exchange| {
            let mapped = exchange.answer()?.binding.mapped;
            Some(Observation { destination: exchange.destination(), mapped })
        };
        self.exchanges().filter_map(seen).collect()
    }

    /// Whether an answer showed that something on the path rewrites addresses in payloads.
    pub fn is_rewritten(&self) -> bool {
        self.exchanges().filter_map(Exchange::answer).any(|it| it.binding.rewritten)
    }

    /// Where answers came from that should have come from elsewhere, with the address asked.
    pub fn strays(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        self.exchanges().filter_map(|it| Some((it.destination(), it.elsewhere()?)))
    }

    /// The verdict so far; `None` as long as the answers do not tell.
    pub fn verdict(&self) -> Option<Mapping> {
        classify(&self.observations())
    }

    fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.servers.iter().map(|it| &it.primary).chain(&self.others)
    }

    fn exchanges_mut(&mut self) -> impl Iterator<Item = &mut Exchange> {
        self.servers.iter_mut().map(|it| &mut it.primary).chain(&mut self.others)
    }

    fn next_number(&self) -> u8 {
        // At most four exchanges for each of the few servers.
        u8::try_from(self.exchanges().count()).unwrap_or(u8::MAX)
    }

    fn state(&self, server: &Server) -> ServerState {
        match (server.primary.refusal(), server.alternate) {
            (Some(code), _) => ServerState::Refused(code),
            (None, _) if server.primary.answer().is_none() => ServerState::Silent,
            (None, None) => ServerState::SingleAddress,
            (None, Some(Err((other, refusal)))) => ServerState::Incredible { other, refusal },
            (None, Some(Ok(alternate))) if self.answered(alternate.other_both()) => {
                ServerState::TwoAddresses(alternate)
            }
            (None, Some(Ok(alternate))) => ServerState::Announced(alternate),
        }
    }

    fn answered(&self, address: SocketAddr) -> bool {
        self.exchanges().any(|it| it.destination() == address && it.answer().is_some())
    }

    /// Follows the announcements of servers that have just answered.
    fn follow_announcements(&mut self, now: Instant) {
        for index in 0..self.servers.len() {
            let server = &self.servers[index];
            let Some(answer) = server.primary.answer() else { continue };
            let (None, Some(other)) = (server.alternate, answer.binding.other) else { continue };
            let primary = server.primary.destination();
            let alternate = Alternate::accept(primary, other).map_err(|refusal| (other, refusal));
            self.servers[index].alternate = Some(alternate);
            if let Ok(alternate) = alternate {
                self.ask(alternate, Ladder::answer(answer.rtt), now);
            }
        }
        if let Some(rtt) = self.servers.iter().find_map(|it| Some(it.primary.answer()?.rtt)) {
            self.hint(rtt);
        }
    }

    fn ask(&mut self, alternate: Alternate, ladder: Ladder, now: Instant) {
        for address in alternates(alternate) {
            if !self.exchanges().any(|it| it.destination() == address) {
                let number = self.next_number();
                self.others.push(Exchange::plain(self.seed, number, address, ladder, now));
            }
        }
    }
}

/// The addresses of tests II and III and the one between.
fn alternates(alternate: Alternate) -> [SocketAddr; 3] {
    [alternate.other_ip(), alternate.other_port(), alternate.other_both()]
}

impl Test for MappingTest {
    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) {
        let Datagram { source, payload, .. } = datagram;
        if self.exchanges_mut().any(|it| it.handle_datagram(source, payload, now)) {
            self.follow_announcements(now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.exchanges_mut().for_each(|it| it.handle_timeout(now));
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.exchanges_mut().find_map(|it| {
            let (destination, payload) = (it.destination(), it.poll_transmit()?);
            Some(Transmit { slot: Slot(0), destination, payload })
        })
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.exchanges().filter_map(Exchange::poll_timeout).min()
    }

    fn is_settled(&self) -> bool {
        self.exchanges().all(Exchange::is_settled)
    }
}

/// What the external port of a socket depends on, one kind at a time; `None` where the observations
/// do not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dependence {
    /// On the destination's address.
    pub on_address: Option<bool>,
    /// On the destination's port.
    pub on_port: Option<bool>,
}

impl Dependence {
    /// What the observations of one socket say.
    ///
    /// The port counts as dependent on the address unless more than half of all destination
    /// addresses saw the same: one server that sees something else, over another path or by mistake,
    /// is outvoted by two. Destinations of one address only cannot tell.
    pub fn of(observations: &[Observation]) -> Self {
        let mut seen: BTreeMap<IpAddr, BTreeSet<SocketAddr>> = BTreeMap::new();
        let mut asked: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
        for Observation { destination, mapped } in observations {
            seen.entry(destination.ip()).or_default().insert(*mapped);
            asked.entry(destination.ip()).or_default().insert(destination.port());
        }
        let on_address = depends_on_address(&seen);
        Self { on_address, on_port: depends_on_port(&seen, &asked, on_address) }
    }

    /// What two sockets together say; the first one counts where both do.
    pub fn or(self, other: Self) -> Self {
        Self {
            on_address: self.on_address.or(other.on_address),
            on_port: self.on_port.or(other.on_port),
        }
    }

    /// The kind of mapping; `None` if it cannot be told. If the addresses differ and no address was
    /// asked at two ports, it is the weaker kind.
    pub fn mapping(self) -> Option<Mapping> {
        match (self.on_address, self.on_port) {
            (_, Some(true)) => Some(Mapping::AddressAndPortDependent),
            (Some(false), Some(false) | None) => Some(Mapping::EndpointIndependent),
            (Some(true), Some(false) | None) => Some(Mapping::AddressDependent),
            (None, Some(false) | None) => None,
        }
    }
}

/// What the observations of one socket say; `None` if that is too little.
pub fn classify(observations: &[Observation]) -> Option<Mapping> {
    Dependence::of(observations).mapping()
}

/// The observations that differ from what the majority of addresses saw, where there is a majority.
pub fn outvoted(observations: &[Observation]) -> Vec<Observation> {
    if classify(observations) != Some(Mapping::EndpointIndependent) {
        return Vec::new();
    }
    let mut votes: BTreeMap<SocketAddr, BTreeSet<IpAddr>> = BTreeMap::new();
    for Observation { destination, mapped } in observations {
        votes.entry(*mapped).or_default().insert(destination.ip());
    }
    let winner = votes.iter().max_by_key(|(_, voters)| voters.len()).map(|(mapped, _)| *mapped);
    observations.iter().copied().filter(|it| Some(it.mapped) != winner).collect()
}

fn depends_on_address(by_ip: &BTreeMap<IpAddr, BTreeSet<SocketAddr>>) -> Option<bool> {
    let mut votes: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for mapped in by_ip.values().flatten() {
        *votes.entry(*mapped).or_default() += 1;
    }
    let most = votes.values().copied().max().unwrap_or(0);
    (by_ip.len() >= 2).then_some(2 * most <= by_ip.len())
}

/// Whether most of the addresses that were asked at several ports saw several things. Half of them is
/// enough where the addresses disagree: of random ports, two are the same now and then (of 20,000
/// times four ports of nftables' `fully-random`, 2 had a pair), and such NATs are far more common
/// than those that give each address a port.
fn depends_on_port(
    by_ip: &BTreeMap<IpAddr, BTreeSet<SocketAddr>>,
    asked: &BTreeMap<IpAddr, BTreeSet<u16>>,
    on_address: Option<bool>,
) -> Option<bool> {
    let telling = asked.iter().filter(|(_, ports)| ports.len() >= 2).map(|(ip, _)| ip);
    let (mut differing, mut all) = (0, 0);
    for ip in telling {
        all += 1;
        differing += usize::from(by_ip.get(ip).is_some_and(|mapped| mapped.len() >= 2));
    }
    let is_tie = 2 * differing == all;
    (all > 0).then_some(2 * differing > all || is_tie && on_address == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EIM: Option<Mapping> = Some(Mapping::EndpointIndependent);
    const ADM: Option<Mapping> = Some(Mapping::AddressDependent);
    const APDM: Option<Mapping> = Some(Mapping::AddressAndPortDependent);

    /// Observations written as `server:port=external port`.
    fn verdict(text: &str) -> Option<Mapping> {
        classify(&observations(text))
    }

    fn observations(text: &str) -> Vec<Observation> {
        let one = |it: &str| {
            let (destination, port) = it.split_once('=').unwrap();
            Observation {
                destination: format!("203.0.113.{destination}").parse().unwrap(),
                mapped: format!("198.51.100.1:{port}").parse().unwrap(),
            }
        };
        text.split_whitespace().map(one).collect()
    }

    #[test]
    fn four_addresses_of_one_server_tell_all_three_apart() {
        assert_eq!(verdict("1:1=7 2:1=7 1:2=7 2:2=7"), EIM);
        assert_eq!(verdict("1:1=7 2:1=8 1:2=7 2:2=8"), ADM);
        assert_eq!(verdict("1:1=7 2:1=8 1:2=9 2:2=10"), APDM);
    }

    #[test]
    fn one_address_alone_tells_only_a_dependence_on_the_port() {
        assert_eq!(verdict(""), None);
        assert_eq!(verdict("1:1=7"), None);
        assert_eq!(verdict("1:1=7 1:2=7"), None);
        assert_eq!(verdict("1:1=7 1:2=8"), APDM);
    }

    #[test]
    fn two_servers_of_one_address_each_tell_dependence_on_the_address() {
        assert_eq!(verdict("1:1=7 2:1=7"), EIM);
        assert_eq!(verdict("1:1=7 2:1=8"), ADM);
    }

    #[test]
    fn a_lost_answer_does_not_change_the_verdict() {
        for text in ["1:1=7 2:1=8 1:2=9", "1:1=7 1:2=9 2:2=10", "2:1=8 1:2=9 2:2=10"] {
            assert_eq!(verdict(text), APDM, "{text}");
        }
        for text in ["1:1=7 2:1=8 1:2=7", "1:1=7 1:2=7 2:2=8", "2:1=8 1:2=7 2:2=8"] {
            assert_eq!(verdict(text), ADM, "{text}");
        }
    }

    #[test]
    fn two_random_ports_that_are_the_same_by_chance_do_not_change_the_verdict() {
        for text in
            ["1:1=7 2:1=8 1:2=7 2:2=10", "1:1=7 2:1=8 1:2=9 2:2=8", "1:1=7 2:1=8 1:2=8 2:2=9"]
        {
            assert_eq!(verdict(text), APDM, "{text}");
        }
        // One mapping that could not keep its port, of a NAT that gives everybody the same.
        assert_eq!(verdict("1:1=7 2:1=7 1:2=7 2:2=9"), EIM);
    }

    #[test]
    fn one_server_that_sees_something_else_is_outvoted_by_two() {
        let text = "1:1=7 2:1=7 3:1=9";
        assert_eq!(verdict(text), EIM);
        assert_eq!(outvoted(&observations(text)), observations("3:1=9"));
        assert_eq!(verdict("1:1=7 2:1=8 3:1=9"), ADM);
        assert_eq!(outvoted(&observations("1:1=7 2:1=8 3:1=9")), []);
    }
}
