//! The server's half of the discovery of TCP ([`crate::probe`]).
//!
//! A [`Prober`] is told each PROBE request that came on a stream and says what to do about it: answer
//! at once, reserve a port, or connect. It never names another destination than the address that the
//! stream's handshake proved, and there only the stream's own port or one of its own drawing. It
//! keeps the bounds: tests under way, tests of one source, tests in all, and how long silence is
//! waited for.
//!
//! ```text
//!  handle_request ──► Reply      bytes for the stream
//!                 ├─► Reserve    the shell binds a quiet port ──► Reservation::reply
//!                 ├─► Look       the shell looks at the SYN ────► Look::reply
//!                 ├─► Wait       the shell lets time pass ──────► Wait::reply
//!                 └─► Connect    the shell connects ────────────► Order::reply, Prober::release
//! ```

mod rate;

use super::{Quartet, Request, Transport};
use crate::attribute::{ChangeRequest, UnknownAttributes};
use crate::probe::{self, Met, Offer, Outcome, PROBE, Reply, Seen, Test, Wish};
use crate::{Check, Class, Message, TransactionId};
use rate::Rates;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Bounds of what a server does for its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tests under way at once, each with one or two sockets; more are refused with 508.
    pub concurrent: usize,
    /// Tests of one source address (IPv6: of one /64) at once; [`Limits::refill`] gives one more. A
    /// discovery asks for some forty. More are refused with 486.
    pub burst: u32,
    /// After how long a source may ask for one test more.
    pub refill: Duration,
    /// Tests in each second, all sources together; more are refused with 508.
    pub per_second: u32,
    /// Tests at once that last longer than a moment ([`Test::Hold`], [`Test::Wait`]), each with a socket;
    /// more are refused with 508.
    pub long: usize,
    /// Of those, the ones of one source address (IPv6: of one /64); more are refused with 486.
    pub long_per_source: usize,
    /// How long one may last at most; a longer wish is shortened.
    pub longest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent: 256,
            burst: 128,
            refill: Duration::from_millis(250),
            per_second: 500,
            long: 256,
            long_per_source: 16,
            longest: Duration::from_secs(900),
        }
    }
}

/// Sockets that connect for one test at once: a SYN that is lost is only sent again after a second.
const ATTEMPTS: usize = 2;
/// How long a reserved port is kept for its client.
pub const RESERVATION: Duration = Duration::from_secs(3);
/// How long silence is waited for: less than a second, before the system sends a SYN again (RFC 6298
/// section 2.1), so that what comes in answers the first one.
const PATIENCE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_millis(900);
/// The least distance of a port that nobody uses from one in use, so that neither the next mapping
/// nor one of the same host lies there.
const DISTANCE: u16 = 1500;
/// How far beyond that it may lie.
const SPAN: u64 = 4000;
/// Lowest port that is tried.
const LOWEST: u16 = 1024;

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this.
    Reply(Vec<u8>),
    /// Reserve a port.
    Reserve(Reservation),
    /// Connect.
    Connect(Order),
    /// Tell how the SYN of the stream arrived.
    Look(Look),
    /// Let time pass.
    Wait(Wait),
}

/// What a test takes of the server's room until [`Prober::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease(Option<IpAddr>);

impl Lease {
    /// Of a test that is over in a moment.
    pub const SHORT: Self = Self(None);
}

/// An answer that is to come late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    id: TransactionId,
    /// After so long, unless the client says something before: then never.
    pub time: Duration,
    /// What it takes.
    pub lease: Lease,
}

impl Wait {
    /// The reply, when the time has passed.
    pub fn reply(self) -> Vec<u8> {
        let outcome = Outcome { result: Met::Connected, ttl: None, elapsed: self.time };
        Reply::Ended { outcome, from: None }.write(self.id)
    }
}

/// A look at the SYN of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    id: TransactionId,
}

impl Look {
    /// The reply: what was seen, or `None` where the system does not tell.
    pub fn reply(self, seen: Option<Seen>) -> Vec<u8> {
        seen.map_or(Reply::Refused(SERVER_ERROR), Reply::Seen).write(self.id)
    }
}

/// What a reserved port does about a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// Nothing.
    Quiet,
    /// It refuses with an RST.
    Refusing,
    /// It does not hear what arrives with a TTL below [`LOUD`](probe::LOUD), and listens to the rest.
    Deaf,
}

/// A port that is to be reserved. It is given up after its time unless a test takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    id: TransactionId,
    /// On this address.
    pub ip: IpAddr,
    /// What it does about SYNs.
    pub conduct: Conduct,
    /// How long it is kept for its client.
    pub time: Duration,
    /// What it takes.
    pub lease: Lease,
}

impl Reservation {
    /// The reply: the address that was reserved, or `None` if that failed.
    pub fn reply(self, reserved: Option<SocketAddr>) -> Vec<u8> {
        reserved.map_or(Reply::Refused(INSUFFICIENT), Reply::Reserved).write(self.id)
    }
}

/// A connect that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    id: TransactionId,
    /// From here; port 0 is any free one. A port that is not 0 has been reserved.
    pub from: SocketAddr,
    /// To there.
    pub to: SocketAddr,
    /// With this TTL or hop limit; `None` is the system's default.
    pub ttl: Option<u8>,
    /// How many sockets try at once; each needs a port of its own.
    pub attempts: usize,
    /// How long an answer is waited for.
    pub patience: Duration,
}

impl Order {
    /// What is sent on the connection if there is one, before it is closed.
    pub fn token(&self) -> Vec<u8> {
        probe::token(self.id)
    }

    /// The reply: what came of it, and from which end.
    pub fn reply(&self, outcome: Outcome, from: Option<SocketAddr>) -> Vec<u8> {
        Reply::Ended { outcome, from }.write(self.id)
    }
}

/// 400: malformed, or what cannot be done for this request.
const BAD_REQUEST: u16 = 400;
/// 486 (RFC 8656 section 18.1): this source asked for too much.
const QUOTA: u16 = 486;
/// 500 (RFC 8489 section 14.8): the system does not tell.
const SERVER_ERROR: u16 = 500;
/// 508 (RFC 8656 section 18.1): the server has its hands full.
const INSUFFICIENT: u16 = 508;

/// The server's half.
#[derive(Clone, Debug)]
pub struct Prober {
    quartets: Vec<Quartet>,
    limits: Limits,
    running: usize,
    /// The sources of long tests, one for each.
    long: Vec<IpAddr>,
    rates: Rates,
    draws: u64,
}

impl Prober {
    /// A server with these bounds; `seed` decides which unused ports it tries and is not to be
    /// guessed by clients.
    pub fn new(limits: Limits, seed: u64) -> Self {
        let rates = Rates::new(limits);
        Self { quartets: Vec::new(), limits, running: 0, long: Vec::new(), rates, draws: seed }
    }

    /// The tests that are served at an address, which may be one of a quartet.
    pub fn offer(has_other_address: bool) -> Offer {
        let served = |it: &Test| has_other_address || *it != Test::OtherAddress;
        Offer::of(&Test::ALL.into_iter().filter(served).collect::<Vec<_>>())
    }

    /// Makes [`Test::OtherAddress`] work on these addresses.
    pub fn add_quartet(&mut self, quartet: Quartet) {
        self.quartets.push(quartet);
    }

    /// Whether a request is one that [`Prober::handle_request`] has an answer for.
    pub fn is_asked(request: &Request<'_>) -> bool {
        Message::parse(request.bytes).is_ok_and(|it| {
            it.method() == probe::METHOD
                && it.class() == Class::Request
                && request.transport == Transport::Tcp
        })
    }

    /// A PROBE request came on a stream whose reserved port is `reserved`. `None` for any other
    /// message. After any step but [`Step::Reply`], [`Prober::release`] is due once.
    pub fn handle_request(
        &mut self,
        request: Request<'_>,
        reserved: Option<SocketAddr>,
        now: Instant,
    ) -> Option<Step> {
        let message = Message::parse(request.bytes).ok().filter(|_| Self::is_asked(&request))?;
        let id = message.transaction_id();
        let step = wish(&message).and_then(|wish| self.decide(id, wish, request, reserved));
        let step = step.and_then(|step| self.admit(request.source.ip(), &step, now).map(|()| step));
        Some(step.unwrap_or_else(|code| Step::Reply(Reply::Refused(code).write(id))))
    }

    /// A test is over, or a reserved port given up, with what it took.
    pub fn release(&mut self, Lease(source): Lease) {
        match source {
            None => self.running = self.running.saturating_sub(1),
            Some(source) => {
                let found = self.long.iter().position(|it| *it == source);
                found.map(|found| self.long.swap_remove(found));
            }
        }
    }

    fn decide(
        &mut self,
        id: TransactionId,
        wish: Wish,
        request: Request<'_>,
        reserved: Option<SocketAddr>,
    ) -> Result<Step, u16> {
        let (local, to) = (canonical(request.local), canonical(request.source));
        if local.ip().is_unspecified() || to.port() == 0 {
            return Err(BAD_REQUEST);
        }
        let patience = wish.patience.duration().clamp(*PATIENCE.start(), *PATIENCE.end());
        let order = |from: SocketAddr, to: SocketAddr, attempts: usize| {
            Ok(Step::Connect(Order { id, from, to, ttl: None, attempts, patience }))
        };
        let reserve = |conduct| {
            let (ip, time, lease) = (local.ip(), RESERVATION, Lease::SHORT);
            Step::Reserve(Reservation { id, ip, conduct, time, lease })
        };
        let long = wish.patience.seconds().clamp(Duration::from_secs(1), self.limits.longest);
        let lease = Lease(Some(rate::network(to.ip())));
        let any = |ip: IpAddr| SocketAddr::new(ip, 0);
        match wish.test {
            Test::OtherPort => order(any(local.ip()), to, ATTEMPTS),
            Test::OtherAddress => {
                let other =
                    self.quartets.iter().find_map(|it| it.changed(local, ChangeRequest::Ip));
                order(any(other.ok_or(BAD_REQUEST)?.ip()), to, ATTEMPTS)
            }
            Test::Unused => {
                let port = self.unused(to.port());
                order(any(local.ip()), SocketAddr::new(to.ip(), port), ATTEMPTS)
            }
            Test::Reserve => Ok(reserve(Conduct::Quiet)),
            Test::Refuse => Ok(reserve(Conduct::Refusing)),
            Test::Deaf => Ok(reserve(Conduct::Deaf)),
            Test::Look => Ok(Step::Look(Look { id })),
            Test::Cross => order(reserved.ok_or(BAD_REQUEST)?, to, 1),
            Test::CrossFar => {
                let from = reserved.ok_or(BAD_REQUEST)?;
                let ttl = Some(u8::MAX);
                Ok(Step::Connect(Order { id, from, to, ttl, attempts: 1, patience }))
            }
            Test::Hold => {
                let (ip, conduct) = (local.ip(), Conduct::Quiet);
                Ok(Step::Reserve(Reservation { id, ip, conduct, time: long, lease }))
            }
            Test::Wait => Ok(Step::Wait(Wait { id, time: long, lease })),
        }
    }

    fn admit(&mut self, source: IpAddr, step: &Step, now: Instant) -> Result<(), u16> {
        let Lease(long) = match step {
            Step::Reserve(Reservation { lease, .. }) | Step::Wait(Wait { lease, .. }) => *lease,
            Step::Reply(_) | Step::Connect(_) | Step::Look(_) => Lease::SHORT,
        };
        let of_source = |source: IpAddr| self.long.iter().filter(|it| **it == source).count();
        match long {
            None if self.running >= self.limits.concurrent => return Err(INSUFFICIENT),
            Some(_) if self.long.len() >= self.limits.long => return Err(INSUFFICIENT),
            Some(source) if of_source(source) >= self.limits.long_per_source => return Err(QUOTA),
            None | Some(_) => {}
        }
        self.rates.admit(source.to_canonical(), now)?;
        match long {
            None => self.running += 1,
            Some(source) => self.long.push(source),
        }
        Ok(())
    }

    /// A port far enough from one in use.
    fn unused(&mut self, used: u16) -> u16 {
        let draw = self.draw();
        // Below 4000, which fits.
        let distance = DISTANCE + (draw % SPAN) as u16;
        let above = used.checked_add(distance);
        let below = used.checked_sub(distance).filter(|port| *port >= LOWEST);
        match draw >> 63 {
            0 => above.or(below),
            _ => below.or(above),
        }
        // One of both exists: the range is more than twice as wide as the longest distance.
        .unwrap_or(LOWEST)
    }

    /// The next number of splitmix64 (Steele, Lea, Flood, 2014).
    fn draw(&mut self) -> u64 {
        self.draws = self.draws.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.draws;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What a request asks for.
fn wish(message: &Message<'_>) -> Result<Wish, u16> {
    let damaged = message.fingerprint() == Check::Invalid;
    let unknown: UnknownAttributes = message.unknown_required(&[PROBE]).collect();
    if damaged || !unknown.is_empty() {
        return Err(BAD_REQUEST);
    }
    message.attribute::<Wish>().ok().flatten().ok_or(BAD_REQUEST)
}

/// An IPv4 address in its own form, whatever the socket's.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
