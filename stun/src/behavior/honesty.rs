//! Whether a server sends changed replies at all.
//!
//! Run on the socket of the mapping test after all four addresses of the server have answered
//! there: every hole is open then, so that a changed reply that is sent also arrives, if the mapping
//! is endpoint-independent. Without this, a server that ignores CHANGE-REQUEST would make every NAT
//! look closed.

use std::time::{Duration, Instant};

use super::{
    Alternate, Change, Datagram, Exchange, Ladder, Passage, RequestSeed, Slot, Test, Transmit,
    filtering,
};

/// The test; both changes are asked for at once.
#[derive(Debug, Clone)]
pub struct HonestyTest {
    probes: [(Change, Exchange); 2],
}

impl HonestyTest {
    /// Asks the server of `alternate`, `rtt` away, for both kinds of changed replies.
    pub fn new(seed: RequestSeed, alternate: Alternate, rtt: Duration, now: Instant) -> Self {
        let probe = |number, change: Change| {
            let question = (alternate.primary(), change.request(), change.source(alternate));
            (change, Exchange::changed(seed, number, question, Ladder::silence(rtt), now))
        };
        Self { probes: [probe(0, Change::IpAndPort), probe(1, Change::Port)] }
    }

    /// What came of the request for this change; `None` for silence.
    pub fn finding(&self, change: Change) -> Option<Passage> {
        let probe = self.probes.iter().find(|(it, _)| *it == change)?;
        filtering::outcome(&probe.1)
    }
}

impl Test for HonestyTest {
    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) {
        let Datagram { source, payload, .. } = datagram;
        for (_, probe) in &mut self.probes {
            probe.handle_datagram(source, payload, now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.probes.iter_mut().for_each(|(_, probe)| probe.handle_timeout(now));
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.probes.iter_mut().find_map(|(_, it)| {
            let (destination, payload) = (it.destination(), it.poll_transmit()?);
            Some(Transmit { slot: Slot(0), destination, payload })
        })
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.probes.iter().filter_map(|(_, it)| it.poll_timeout()).min()
    }

    fn is_settled(&self) -> bool {
        self.probes.iter().all(|(_, it)| it.is_settled())
    }
}
