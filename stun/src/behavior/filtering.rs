//! The filtering test: whose packets come in through a mapping (RFC 5780 section 4.4).
//!
//! ```text
//! fresh socket ──► IP1:p1   opens a mapping; answered
//! fresh socket ──► IP1:p1   "answer from IP2:p2" (test II) or "from IP1:p2" (test III)  ×7
//!              ◄── IP2:p2   passed, or silence
//! fresh socket ──► IP1:p1   is the server still there? answered
//! ```
//!
//! Each of the two runs on a socket of its own, at the same time. The last request keeps a server
//! that falls silent in the middle from looking like a NAT that filters.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Alternate, Datagram, Exchange, Ladder, Mapping, RequestSeed, Slot, Test, Transmit};
use crate::attribute::ChangeRequest;

/// Whose packets a mapping lets in (RFC 4787 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filtering {
    /// Everybody's.
    EndpointIndependent,
    /// Those of addresses sent to before.
    AddressDependent,
    /// Those of addresses and ports sent to before.
    AddressAndPortDependent,
}

/// From where an answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// From the other port of the same address (test III).
    Port,
    /// From the other port of the other address (test II).
    IpAndPort,
}

impl Change {
    /// The attribute that asks for it.
    pub fn request(self) -> ChangeRequest {
        match self {
            Self::Port => ChangeRequest::Port,
            Self::IpAndPort => ChangeRequest::IpAndPort,
        }
    }

    /// Where the answer must come from.
    pub fn source(self, alternate: Alternate) -> SocketAddr {
        match self {
            Self::Port => alternate.other_port(),
            Self::IpAndPort => alternate.other_both(),
        }
    }
}

/// How a changed reply fared; what says more about the server is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Passage {
    /// It came in from where it was asked for.
    Passed,
    /// It did not, though the server was there before and after.
    Blocked,
    /// The server answered no plain request on this socket, before or after.
    ServerSilent,
    /// The server refused, with this error code.
    Refused(u16),
    /// The server answered from here instead: it does not do what it was asked.
    Elsewhere(SocketAddr),
}

#[derive(Debug, Clone)]
enum Stage {
    /// Waits for the answer that shows the mapping to be open.
    Opening(Box<Exchange>),
    /// Waits for the changed reply; with the last request for it goes the one that shows whether
    /// the server is still there.
    Probing {
        probe: Box<Exchange>,
        control: Option<Box<Exchange>>,
    },
    Done(Passage),
}

/// The test of one kind of change, on a fresh socket.
#[derive(Debug, Clone)]
pub struct FilteringTest {
    seed: RequestSeed,
    alternate: Alternate,
    change: Change,
    rtt: Duration,
    stage: Stage,
}

impl FilteringTest {
    /// Asks the server of `alternate`, `rtt` away, for an answer from elsewhere.
    pub fn new(
        seed: RequestSeed,
        alternate: Alternate,
        change: Change,
        rtt: Duration,
        now: Instant,
    ) -> Self {
        let ladder = Ladder::answer(rtt);
        let opening = Exchange::plain(seed, 0, alternate.primary(), ladder, now);
        Self { seed, alternate, change, rtt, stage: Stage::Opening(Box::new(opening)) }
    }

    /// The finding; `None` as long as there is none.
    pub fn finding(&self) -> Option<Passage> {
        match self.stage {
            Stage::Done(passage) => Some(passage),
            Stage::Opening(_) | Stage::Probing { .. } => None,
        }
    }

    /// The request for a changed reply, exchange 1 of the test.
    fn probe(&self, now: Instant) -> Exchange {
        let (server, ladder) = (self.alternate.primary(), Ladder::silence(self.rtt));
        let question = (server, self.change.request(), self.change.source(self.alternate));
        Exchange::changed(self.seed, 1, question, ladder, now)
    }

    /// Moves on if the present stage, or a part of it, is over.
    fn advance(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Opening(opening) if opening.answer().is_some() => {
                self.stage = Stage::Probing { probe: Box::new(self.probe(now)), control: None };
            }
            Stage::Opening(opening) => {
                if let Some(passage) = ended(opening) {
                    self.stage = Stage::Done(passage);
                }
            }
            Stage::Probing { probe, control } => {
                let silence = || silence(probe, control.as_deref());
                if let Some(passage) = outcome(probe).or_else(silence) {
                    self.stage = Stage::Done(passage);
                } else if probe.is_last_sent() && control.is_none() {
                    let (server, ladder) = (self.alternate.primary(), Ladder::answer(self.rtt));
                    let exchange = Exchange::plain(self.seed, 2, server, ladder, now);
                    *control = Some(Box::new(exchange));
                }
            }
            Stage::Done(_) => {}
        }
    }

    fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        let (first, second) = match &self.stage {
            Stage::Opening(opening) => (Some(&**opening), None),
            Stage::Probing { probe, control } => (Some(&**probe), control.as_deref()),
            Stage::Done(_) => (None, None),
        };
        first.into_iter().chain(second)
    }

    fn exchanges_mut(&mut self) -> impl Iterator<Item = &mut Exchange> {
        let (first, second) = match &mut self.stage {
            Stage::Opening(opening) => (Some(&mut **opening), None),
            Stage::Probing { probe, control } => (Some(&mut **probe), control.as_deref_mut()),
            Stage::Done(_) => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// How a plain request ended that was not answered.
fn ended(plain: &Exchange) -> Option<Passage> {
    let silent = || plain.is_settled().then_some(Passage::ServerSilent);
    plain.refusal().map(Passage::Refused).or_else(silent)
}

/// What the silence after `probe` means, once it is believed and the server's presence is known.
fn silence(probe: &Exchange, control: Option<&Exchange>) -> Option<Passage> {
    let control = control.filter(|_| probe.is_settled())?;
    control.answer().map(|_| Passage::Blocked).or_else(|| ended(control))
}

/// What a request for a changed reply has led to, unless it is silence.
pub(super) fn outcome(probe: &Exchange) -> Option<Passage> {
    let passed = probe.answer().map(|_| Passage::Passed);
    let elsewhere = || probe.elsewhere().map(Passage::Elsewhere);
    passed.or_else(elsewhere).or_else(|| probe.refusal().map(Passage::Refused))
}

impl Test for FilteringTest {
    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) {
        let Datagram { source, payload, .. } = datagram;
        if self.exchanges_mut().any(|it| it.handle_datagram(source, payload, now)) {
            self.advance(now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.exchanges_mut().for_each(|it| it.handle_timeout(now));
        self.advance(now);
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
        self.finding().is_some()
    }
}

/// What one server's two tests say, given whether it has been seen to send changed replies through
/// a hole that was open for them ([`HonestyTest`](super::HonestyTest)).
///
/// Through an endpoint-independent mapping an honest server's changed reply must pass such a hole,
/// so that a server whose replies do not has told nothing by its silence. Other mappings have no
/// such hole; there silence is taken as it is. `None` if the server cannot tell.
pub fn judge(
    mapping: Option<Mapping>,
    ip_and_port: Passage,
    port: Passage,
    honest: impl Fn(Change) -> bool,
) -> Option<Filtering> {
    let telling = |change| match mapping {
        Some(Mapping::EndpointIndependent) => honest(change),
        Some(Mapping::AddressDependent | Mapping::AddressAndPortDependent) | None => true,
    };
    match (ip_and_port, port) {
        (Passage::Passed, _) => Some(Filtering::EndpointIndependent),
        (Passage::Blocked, Passage::Passed) => {
            telling(Change::IpAndPort).then_some(Filtering::AddressDependent)
        }
        (Passage::Blocked, Passage::Blocked) => (telling(Change::IpAndPort)
            && telling(Change::Port))
        .then_some(Filtering::AddressAndPortDependent),
        (Passage::Blocked, Passage::Elsewhere(_) | Passage::Refused(_) | Passage::ServerSilent)
        | (Passage::Elsewhere(_) | Passage::Refused(_) | Passage::ServerSilent, _) => None,
    }
}
