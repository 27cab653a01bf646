//! The hairpin test: whether a host can reach itself through its external address (RFC 5780
//! section 4.5, RFC 4787 section 6).
//!
//! ```text
//! socket 0 ──► server        learns A0        socket 1 ──► server        learns A1
//! socket 0 ──► A1            ×7               socket 1 ──► A0            ×7
//! socket 1 ◄── from A0       or               socket 0 ◄── from A1       hairpin works
//! ```
//!
//! Both send, since that is what two peers behind one NAT do: each opens its filter for the other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::exchange::{parse, request};
use super::{Datagram, Exchange, Ladder, RequestSeed, Slot, Test, Transmit};
use crate::attribute::ChangeRequest;
use crate::{Class, Method};

/// Number of the request that goes from one socket to the other, in transaction ids.
const LOOP: u8 = 2;

#[derive(Debug, Clone)]
enum Stage {
    Learning(Box<[Exchange; 2]>),
    /// Socket 0 sends to the second address, socket 1 to the first.
    Looping {
        targets: [SocketAddr; 2],
        sent: u8,
        unsent: [u8; 2],
        next: Instant,
    },
    /// The finding; `None` if the server did not answer.
    Done(Option<bool>),
}

/// The test, on two fresh sockets.
#[derive(Debug, Clone)]
pub struct HairpinTest {
    seed: RequestSeed,
    ladder: Ladder,
    stage: Stage,
}

impl HairpinTest {
    /// Learns the external addresses from `server`, `rtt` away, and tries them.
    pub fn new(seed: RequestSeed, server: SocketAddr, rtt: Duration, now: Instant) -> Self {
        let learn = |number| Exchange::plain(seed, number, server, Ladder::answer(rtt), now);
        let stage = Stage::Learning(Box::new([learn(0), learn(1)]));
        Self { seed, ladder: Ladder::silence(rtt), stage }
    }

    /// Whether one socket reached the other; `None` if that is not known, or not yet.
    pub fn finding(&self) -> Option<bool> {
        match self.stage {
            Stage::Done(finding) => finding,
            Stage::Learning(_) | Stage::Looping { .. } => None,
        }
    }

    fn advance(&mut self, now: Instant) {
        let Stage::Learning(exchanges) = &self.stage else { return };
        let [first, second] = &**exchanges;
        if let (Some(first), Some(second)) = (first.answer(), second.answer()) {
            let targets = [second.binding.mapped, first.binding.mapped];
            let next = now + self.ladder.wait_after(1);
            self.stage = Stage::Looping { targets, sent: 1, unsent: [1, 1], next };
        } else if first.is_settled() && second.is_settled() {
            self.stage = Stage::Done(None);
        }
    }

    /// Whether `payload` is a request that the other socket sent.
    fn is_looped(&self, Datagram { slot, payload, .. }: Datagram<'_>) -> bool {
        let Some(message) = parse(payload) else { return false };
        let Some((number, _)) = self.seed.position(message.transaction_id()) else { return false };
        let is_request = message.class() == Class::Request && message.method() == Method::BINDING;
        is_request && number == LOOP + (1 - slot.0.min(1))
    }
}

impl Test for HairpinTest {
    fn handle_datagram(&mut self, datagram: Datagram<'_>, now: Instant) {
        let looped = self.is_looped(datagram);
        match &mut self.stage {
            Stage::Learning(exchanges) => {
                if let Some(exchange) = exchanges.get_mut(usize::from(datagram.slot.0)) {
                    exchange.handle_datagram(datagram.source, datagram.payload, now);
                }
                self.advance(now);
            }
            Stage::Looping { .. } if looped => self.stage = Stage::Done(Some(true)),
            Stage::Looping { .. } | Stage::Done(_) => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Learning(exchanges) => {
                exchanges.iter_mut().for_each(|it| it.handle_timeout(now));
                self.advance(now);
            }
            Stage::Looping { next, .. } if now < *next => {}
            Stage::Looping { sent, .. } if *sent >= self.ladder.transmissions() => {
                self.stage = Stage::Done(Some(false));
            }
            Stage::Looping { sent, unsent, next, .. } => {
                *sent += 1;
                *unsent = unsent.map(|it| it + 1);
                *next = now + self.ladder.wait_after(*sent);
            }
            Stage::Done(_) => {}
        }
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        for index in 0..2u8 {
            let (slot, position) = (Slot(index), usize::from(index));
            match &mut self.stage {
                Stage::Learning(exchanges) => {
                    let exchange = &mut exchanges[position];
                    if let Some(payload) = exchange.poll_transmit() {
                        return Some(Transmit {
                            slot,
                            destination: exchange.destination(),
                            payload,
                        });
                    }
                }
                Stage::Looping { targets, unsent, sent, .. } if unsent[position] > 0 => {
                    let id = self.seed.transaction_id(LOOP + index, *sent - unsent[position]);
                    unsent[position] -= 1;
                    let payload = request(id, ChangeRequest::Nothing);
                    return Some(Transmit { slot, destination: targets[position], payload });
                }
                Stage::Looping { .. } | Stage::Done(_) => {}
            }
        }
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Learning(exchanges) => exchanges.iter().filter_map(Exchange::poll_timeout).min(),
            Stage::Looping { next, .. } => Some(*next),
            Stage::Done(_) => None,
        }
    }

    fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Done(_))
    }
}
