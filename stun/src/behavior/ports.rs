//! The port test: which external ports fresh sockets get, one after the other (RFC 4787 section
//! 4.2.1).
//!
//! All sockets ask the same server at the same instant, in the order of their slots, so that a NAT
//! that counts its ports shows it. What the samples mean is for their reader to say.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Datagram, Exchange, Ladder, RequestSeed, Slot, Test, Transmit};

/// The test, on as many fresh sockets as samples are wanted.
#[derive(Debug, Clone)]
pub struct PortTest {
    exchanges: Vec<Exchange>,
}

impl PortTest {
    /// Asks `server`, `rtt` away, from `sockets` sockets.
    pub fn new(
        seed: RequestSeed,
        server: SocketAddr,
        sockets: u8,
        rtt: Duration,
        now: Instant,
    ) -> Self {
        let ask = |number| Exchange::plain(seed, number, server, Ladder::answer(rtt), now);
        Self { exchanges: (0..sockets).map(ask).collect() }
    }

    /// The external address of each socket whose request was answered, in the order of sending.
    pub fn samples(&self) -> impl Iterator<Item = (Slot, SocketAddr)> {
        let slots = (0u8..).map(Slot);
        slots
            .zip(&self.exchanges)
            .filter_map(|(slot, exchange)| Some((slot, exchange.answer()?.binding.mapped)))
    }
}

impl Test for PortTest {
    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) {
        if let Some(exchange) = self.exchanges.get_mut(usize::from(datagram.slot.0)) {
            exchange.handle_datagram(datagram.source, datagram.payload, now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.exchanges.iter_mut().for_each(|it| it.handle_timeout(now));
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        (0u8..).zip(&mut self.exchanges).find_map(|(slot, exchange)| {
            let payload = exchange.poll_transmit()?;
            Some(Transmit { slot: Slot(slot), destination: exchange.destination(), payload })
        })
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.exchanges.iter().filter_map(Exchange::poll_timeout).min()
    }

    fn is_settled(&self) -> bool {
        self.exchanges.iter().all(Exchange::is_settled)
    }
}
