//! [`Link`]: one host's end of the link to its partner ([`crate::partner`]).
//!
//! ```text
//!            ┌─ every second ─▶ request ── success in time? ──▶ run and count of the partner are known
//!   silent ──┤                                                          │
//!            └──────────────── two proofs, one for each port ◀──────────┘
//!                                       │ both came back within 500 ms, lately
//!                                       ▼
//!                                      up ──▶ OTHER-ADDRESS is told, CHANGE-REQUEST for another IP is forwarded
//! ```
//!
//! A *proof* is a request of this host's own, forwarded like any client's: it asks for an answer to this host's other port.
//! What comes back shows that the partner does what it says, from the address where it should, in a time in which a
//! client still waits (RFC 8489, section 6.2.1: 500 ms until the first retransmission). A partner that is down, slow, lies
//! or speaks another version is thus not told of, and clients get 420 for what it would have done: silence would
//! look like a NAT that filters.

use super::{Allowance, Budget, BudgetLimits};
use crate::attribute::{ChangeRequest, XorMappedAddress};
use crate::partner::{self, Epoch, OVERHEAD, Said, VERSION};
use crate::{Class, Key, Message, Method, TransactionId, WriteError, Writer};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between two requests to the partner, with proofs.
pub const ROUND: Duration = Duration::from_secs(1);
/// How long an answer may take: a client retransmits after that (RFC 8489, section 6.2.1).
pub const PATIENCE: Duration = Duration::from_millis(500);
/// For how long an answer counts: three rounds may be lost.
const MEMORY: Duration = Duration::from_millis(3_600);
/// How far behind the newest message another may arrive, since several threads send.
const WINDOW: u64 = 1024;
/// What the partner may have sent. An address has its own few, so that a partner that lies makes no flood; a network
/// many, since many clients may be behind one address.
const FORWARDED: BudgetLimits = BudgetLimits {
    address: Allowance { per_second: 20, burst: 200 },
    network: Allowance { per_second: 500, burst: 2_000 },
    long: Allowance { per_second: 500, burst: 2_000 },
    neighbours: Allowance { per_second: 0, burst: 0 },
};

/// One host's end of the link.
#[derive(Debug)]
pub struct Link {
    key: Key,
    own: SocketAddr,
    partner: SocketAddr,
    /// This host's.
    run: u64,
    seen: Window,
    budget: Budget,
    /// The partner's run, and the count of the last message to it.
    sending: Option<Epoch>,
    hello: Option<(TransactionId, Instant)>,
    heard: Heard,
    proofs: [Proof; 2],
}

/// When the partner last answered, and what version it spoke.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    at: Option<Instant>,
    version: u32,
}

/// A request of this host's own that the partner is to answer.
#[derive(Clone, Copy, Debug, Default)]
struct Proof {
    under_way: Option<(TransactionId, Instant)>,
    /// When the last one in time was sent.
    sent: Option<Instant>,
    /// When the last one too late was sent.
    late: Option<Instant>,
}

/// How the partner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PartnerState {
    /// It answers in the names of both its addresses, in time.
    Up,
    /// Nothing is heard of it that bears its signature.
    Silent,
    /// It speaks another version of the link.
    Version(u32),
    /// What is forwarded is answered too late for a client.
    Slow,
    /// It is there, but what is forwarded is not answered from where it should be.
    Unproven,
}

/// What came of a datagram from the partner's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heeded<'a> {
    /// Nothing is to be done.
    Nothing,
    /// It was not signed, not new, or over the budget.
    Refused,
    /// So many bytes of the buffer are to be sent to the partner.
    Reply(usize),
    /// This request is to be answered ([`super::Server::handle_forwarded`]).
    Forwarded {
        /// The request.
        request: &'a [u8],
        /// Whom it came from.
        client: SocketAddr,
        /// The partner's address that was asked.
        asked: SocketAddr,
    },
}

impl Link {
    /// The end at `own`, this host's first address, to `partner`, the other host's. Both need the same `secret`, of 16 bytes or
    /// more; `run` and the keys of the budget are drawn from a cryptographic source by the caller.
    pub fn new(own: SocketAddr, partner: SocketAddr, secret: &[u8], drawn: [u64; 3]) -> Self {
        let [run, keys @ ..] = drawn;
        Self {
            key: Key::short_term(secret),
            own,
            partner,
            run,
            seen: Window::default(),
            budget: Budget::new(FORWARDED, keys),
            sending: None,
            hello: None,
            heard: Heard::default(),
            proofs: [Proof::default(); 2],
        }
    }

    /// Where this end's messages leave from.
    pub fn own(&self) -> SocketAddr {
        self.own
    }

    /// Where they go.
    pub fn partner(&self) -> SocketAddr {
        self.partner
    }

    /// Writes the message of a round, and returns its length; due each [`ROUND`].
    ///
    /// # Errors
    ///
    /// The buffer is too short.
    pub fn ask(
        &mut self,
        id: TransactionId,
        buffer: &mut [u8],
        now: Instant,
    ) -> Result<usize, WriteError> {
        self.hello = Some((id, now));
        partner::write(buffer, &Said::AreYouThere { version: VERSION }, id, (self.own, &self.key))
    }

    /// Writes a proof: to be answered by the partner's first port (0) or by its other one (1), at this host's other
    /// port or its first one. `None` as long as the partner is not known.
    pub fn prove(
        &mut self,
        which: usize,
        id: TransactionId,
        buffer: &mut [u8],
        now: Instant,
    ) -> Option<usize> {
        let (asked, client) = self.corners(which);
        let mut request = [0; 28];
        let mut writer = Writer::new(&mut request, Class::Request, Method::BINDING, id).ok()?;
        writer.attribute(&ChangeRequest::IpAndPort).ok()?;
        let written = self.forward(&request, client, asked, buffer)?;
        self.proofs.get_mut(which)?.under_way = Some((id, now));
        Some(written)
    }

    /// Writes a client's request for the partner, and returns the message's length; `None` if the partner is not known or
    /// the request too long.
    pub fn forward(
        &mut self,
        request: &[u8],
        client: SocketAddr,
        asked: SocketAddr,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let epoch = self.sending.as_mut()?;
        epoch.count = epoch.count.checked_add(1)?;
        let said = Said::Forward { epoch: *epoch, client, asked, request };
        let mut id = [0; 12];
        id[4..].copy_from_slice(&epoch.count.to_be_bytes());
        let end = (request.len() + OVERHEAD).min(buffer.len());
        let id = TransactionId::new(id);
        partner::write(&mut buffer[..end], &said, id, (self.own, &self.key)).ok()
    }

    /// Heeds a datagram that came from one of the partner's two ports to `local`; what it answers goes to the partner alone.
    pub fn handle<'a>(
        &mut self,
        bytes: &'a [u8],
        (source, local): (SocketAddr, SocketAddr),
        buffer: &mut [u8],
        now: Instant,
    ) -> Heeded<'a> {
        self.budget.advance(now);
        let Ok(message) = Message::parse(bytes) else { return Heeded::Refused };
        if message.method() == Method::BINDING && message.class() == Class::Success {
            self.handle_proof(&message, source, local, now);
            return Heeded::Nothing;
        }
        let is_between_the_first_ports = source == self.partner && local == self.own;
        let said = partner::read(&message, self.partner, &self.key);
        match said.filter(|_| is_between_the_first_ports) {
            None => Heeded::Refused,
            Some(Said::AreYouThere { .. }) => self.welcome(message.transaction_id(), buffer),
            Some(Said::Here { version, epoch }) => {
                self.handle_welcome(message.transaction_id(), version, epoch, now)
            }
            Some(Said::Forward { epoch, client, asked, request }) => {
                let is_fresh = epoch.run == self.run && self.seen.admits(epoch.count);
                let may_be_asked = asked.ip() == self.partner.ip();
                let is_family = client.is_ipv4() == self.own.is_ipv4() && client.port() != 0;
                if is_fresh && may_be_asked && is_family && self.budget.admits(client.ip()) {
                    Heeded::Forwarded { request, client, asked }
                } else {
                    Heeded::Refused
                }
            }
        }
    }

    /// How the partner is.
    pub fn state(&self, now: Instant) -> PartnerState {
        let is_recent =
            |at: Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) < MEMORY);
        if !is_recent(self.heard.at) {
            PartnerState::Silent
        } else if self.heard.version != VERSION {
            PartnerState::Version(self.heard.version)
        } else if self.proofs.iter().all(|it| is_recent(it.sent)) {
            PartnerState::Up
        } else if self.proofs.iter().any(|it| is_recent(it.late)) {
            PartnerState::Slow
        } else {
            PartnerState::Unproven
        }
    }

    /// The address that a proof asks, and the one at which it is answered.
    fn corners(&self, which: usize) -> (SocketAddr, SocketAddr) {
        let first = self.own;
        let other = SocketAddr::new(self.own.ip(), self.partner.port());
        if which == 0 { (first, other) } else { (other, first) }
    }

    fn welcome(&self, id: TransactionId, buffer: &mut [u8]) -> Heeded<'static> {
        let epoch = Epoch { run: self.run, count: self.seen.newest };
        let said = Said::Here { version: VERSION, epoch };
        match partner::write(buffer, &said, id, (self.own, &self.key)) {
            Ok(length) => Heeded::Reply(length),
            Err(_) => Heeded::Nothing,
        }
    }

    fn handle_welcome(
        &mut self,
        id: TransactionId,
        version: u32,
        epoch: Epoch,
        now: Instant,
    ) -> Heeded<'static> {
        let Some((_, asked)) = self.hello.take_if(|it| it.0 == id) else { return Heeded::Refused };
        if now.saturating_duration_since(asked) < MEMORY {
            self.heard = Heard { at: Some(now), version };
            let count = match self.sending {
                Some(known) if known.run == epoch.run => known.count.max(epoch.count),
                _ => epoch.count,
            };
            self.sending = (version == VERSION).then_some(Epoch { run: epoch.run, count });
        }
        Heeded::Nothing
    }

    /// A Binding success from the partner's address: is it the one that a proof asked for, from where it asked for it?
    fn handle_proof(
        &mut self,
        message: &Message<'_>,
        source: SocketAddr,
        local: SocketAddr,
        now: Instant,
    ) {
        let other = SocketAddr::new(self.partner.ip(), self.own.port());
        for (which, from) in [self.partner, other].into_iter().enumerate() {
            let (_, client) = self.corners(which);
            let mapped = message.attribute::<XorMappedAddress>().ok().flatten();
            if source != from || local != client || mapped != Some(XorMappedAddress(client)) {
                continue;
            }
            let proof = &mut self.proofs[which];
            let is_it = |it: &mut (TransactionId, Instant)| it.0 == message.transaction_id();
            let Some((_, sent)) = proof.under_way.take_if(is_it) else { continue };
            if now.saturating_duration_since(sent) <= PATIENCE {
                proof.sent = Some(sent);
            } else {
                proof.late = Some(sent);
            }
        }
    }
}

/// Which of the partner's counts have arrived (as in RFC 4303, section 3.4.3): the newest, and what came of those just
/// behind it.
#[derive(Debug)]
struct Window {
    newest: u64,
    /// A bit for each count, by its remainder.
    bits: [u64; (WINDOW / 64) as usize],
}

impl Default for Window {
    fn default() -> Self {
        Self { newest: 0, bits: [0; (WINDOW / 64) as usize] }
    }
}

impl Window {
    /// Whether `count` has not arrived before; it has from now on.
    fn admits(&mut self, count: u64) -> bool {
        if count > self.newest {
            if count - self.newest >= WINDOW {
                self.bits.fill(0);
            } else {
                for between in self.newest + 1..count {
                    self.set(between, false);
                }
            }
            self.newest = count;
        } else if self.newest - count >= WINDOW || count == 0 || self.has(count) {
            return false;
        }
        self.set(count, true);
        true
    }

    fn place(count: u64) -> (usize, u64) {
        let place = count % WINDOW;
        ((place / 64) as usize, 1 << (place % 64))
    }

    fn has(&self, count: u64) -> bool {
        let (word, bit) = Self::place(count);
        self.bits[word] & bit != 0
    }

    fn set(&mut self, count: u64, is_set: bool) {
        let (word, bit) = Self::place(count);
        if is_set {
            self.bits[word] |= bit;
        } else {
            self.bits[word] &= !bit;
        }
    }
}

#[cfg(test)]
mod tests;
