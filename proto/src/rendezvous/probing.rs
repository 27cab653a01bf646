//! Does this broker's network let forged sources out? It is measured, not believed.
//!
//! ```text
//!   P, consents                broker                       Q, consents
//!                                │── Probe, P* ─────────────────▶│
//!                 x - - - - - - - - - - - - - - - - - - - - - - ─┤  opens its NAT for P*, TTL 5
//!                                │◀──────────────────── success ─┤
//!                                │── P*→Q* Probe, NONCE ────────▶│  forged, three times
//!                                │◀─────────────── Probe, NONCE ─┤  it arrived
//! ```
//!
//! Only registered peers take part that have said so when they registered and have proved the
//! addresses that are used; only a Q whose NAT is known to let P's packet in, so that silence means
//! something. One echo proves that forged sources get out. Silence may be a liar or a loss: only
//! when [`QUORUM`] peers at different addresses, one after the other, have heard nothing does it
//! count. One probe runs at a time, and a family is probed again after [`PAUSE`], or
//! [`PAUSE_UNKNOWN`] as long as nothing is known of it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::forging::{FORGED_AT, FORGED_TTL, Forging};
use super::registry::site;
use super::timers::Timer;
use super::{Asked, Broker, Command, Event, Link, Registration, Registry};
use crate::address::Family;
use crate::nat::{Filtering, Mapping};
use crate::signal::codec::Received;
use crate::signal::message::{Body, Message, Nonce};
use crate::signal::{Capabilities, NatSummary, RegistrationId, Spoofing};

/// Silent peers, each at another address, after which a network counts as filtered.
const QUORUM: usize = 3;
/// Between two probes of a family about which something is known.
const PAUSE: Duration = Duration::from_secs(15 * 60);
/// Between two probes of a family about which nothing is known yet.
const PAUSE_UNKNOWN: Duration = Duration::from_secs(20);
/// From the registration of a peer that could be probed to the first probe.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// When the receiver is asked to open its NAT, until it says that it has.
const ASKED_AT: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_millis(900)];
/// How long an answer or an echo is waited for after the last sending.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Consenting peers that are remembered; a further one takes the oldest one's place.
const MAX_CONSENTING: usize = 64;

/// What is known, and how more becomes known.
#[derive(Debug, Default)]
pub(super) struct Prober {
    consenting: VecDeque<RegistrationId>,
    known: [Known; 2],
    probe: Option<Probe>,
}

/// What is known of one family.
#[derive(Debug, Default)]
struct Known {
    verdict: Option<Verdict>,
    /// Where it was silent since the last echo.
    silent: Vec<IpAddr>,
    /// Not probed before.
    rest_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Verdict {
    Possible(Instant),
    Filtered(Instant),
}

#[derive(Debug)]
struct Probe {
    family: Family,
    receiver: RegistrationId,
    /// Where the receiver is.
    to: SocketAddr,
    /// Whose name is used.
    from: SocketAddr,
    transaction: TransactionId,
    nonce: Nonce,
    stage: Stage,
    since: Instant,
}

/// So many of this have been sent.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Asking(usize),
    Forging(usize),
}

impl Prober {
    fn known(&mut self, family: Family) -> &mut Known {
        match family {
            Family::V4 => &mut self.known[0],
            Family::V6 => &mut self.known[1],
        }
    }
}

impl Known {
    fn spoofing(&self, now: Instant) -> Spoofing {
        let age = |at: Instant| Duration::from_secs(now.saturating_duration_since(at).as_secs());
        match self.verdict {
            None => Spoofing::Unknown,
            Some(Verdict::Possible(at)) => Spoofing::Possible { age: age(at) },
            Some(Verdict::Filtered(at)) => Spoofing::Filtered { age: age(at) },
        }
    }
}

impl<R: Registry> Broker<R> {
    /// What peers are told of this broker.
    pub(super) fn capabilities(&self, now: Instant) -> Option<Capabilities> {
        match self.config.forging {
            Forging::Off => None,
            Forging::Within(_) => {
                let [v4, v6] = &self.prober.known;
                let (v4, v6) = (v4.spoofing(now), v6.spoofing(now));
                Some(Capabilities { forges: true, v4, v6 })
            }
        }
    }

    /// A peer has registered that may be probed.
    pub(super) fn note_consent(&mut self, id: RegistrationId, now: Instant) {
        if self.config.forging == Forging::Off {
            return;
        }
        let consenting = &mut self.prober.consenting;
        if consenting.len() == MAX_CONSENTING {
            consenting.pop_front();
        }
        consenting.push_back(id);
        if self.prober.probe.is_none() {
            self.timers.set(Timer::Probe, now + FIRST_PAUSE);
        }
    }

    /// A probe goes on, or the next one begins.
    pub(super) fn on_probe_timer(&mut self, now: Instant) {
        match self.prober.probe.take() {
            Some(probe) => self.go_on(probe, now),
            None => self.begin_probe(now),
        }
    }

    fn begin_probe(&mut self, now: Instant) {
        let registry = &self.registry;
        self.prober.consenting.retain(|id| registry.get(*id).is_some());
        let families = [Family::V4, Family::V6];
        let rested = |known: &Known| known.rest_until.is_none_or(|until| until <= now);
        let due = families.into_iter().filter(|it| rested(self.prober.known(*it)));
        let found = due.collect::<Vec<_>>().into_iter().find_map(|family| self.choose(family));
        let Some((family, receiver, to, from)) = found else {
            // Nobody there can be probed: who registers later starts it again.
            let next = self.prober.known.iter().filter_map(|it| it.rest_until).min();
            let next = next.filter(|at| *at > now && self.prober.consenting.len() > 1);
            return self.timers.set(Timer::Probe, next);
        };
        let transaction = TransactionId::new(self.entropy.bytes());
        let Some(nonce) = Nonce::new(&self.entropy.bytes::<16>()) else { return };
        let (stage, since) = (Stage::Asking(0), now);
        self.asked.insert(transaction, Asked::Probe(receiver));
        self.go_on(Probe { family, receiver, to, from, transaction, nonce, stage, since }, now);
    }

    /// A receiver, where it is, and in whose name it will be probed. Everybody has a turn.
    fn choose(
        &mut self,
        family: Family,
    ) -> Option<(Family, RegistrationId, SocketAddr, SocketAddr)> {
        let address = |id: &RegistrationId| match self.registry.get(*id) {
            Some(Registration { link: Link::Udp { remote, .. }, nat, .. })
                if Family::of(remote.ip()) == family =>
            {
                Some((*remote, *nat))
            }
            Some(_) | None => None,
        };
        let silent = &self.prober.known[usize::from(family == Family::V6)].silent;
        let mut receivers =
            self.prober.consenting.iter().filter_map(|id| Some((*id, address(id)?)));
        let (receiver, (to, _)) =
            receivers.find(|(_, (to, nat))| lets_in(nat) && !silent.contains(&site(to.ip())))?;
        let elsewhere = |from: &SocketAddr| site(from.ip()) != site(to.ip());
        let (from, _) =
            self.prober.consenting.iter().filter_map(address).find(|(from, _)| elsewhere(from))?;
        self.prober.consenting.retain(|id| *id != receiver);
        self.prober.consenting.push_back(receiver);
        Some((family, receiver, to, from))
    }

    fn go_on(&mut self, mut probe: Probe, now: Instant) {
        let still = |it: &Registration| it.link.remote() == probe.to;
        if !self.registry.get(probe.receiver).is_some_and(still) {
            return self.end_probe(&probe, None, now);
        }
        let (instants, sent) = match probe.stage {
            Stage::Asking(sent) => (ASKED_AT, sent),
            Stage::Forging(sent) => (FORGED_AT, sent),
        };
        let Some(at) = instants.get(sent).map(|after| probe.since + *after) else {
            // It never opened its NAT, or it heard nothing.
            let heard = match probe.stage {
                Stage::Asking(_) => None,
                Stage::Forging(_) => Some(false),
            };
            return self.end_probe(&probe, heard, now);
        };
        if at <= now {
            probe.stage = match probe.stage {
                Stage::Asking(sent) => {
                    let body = Body::Probe(probe.from);
                    self.send(probe.receiver, &Message::new(probe.transaction, body));
                    Stage::Asking(sent + 1)
                }
                Stage::Forging(sent) => {
                    self.send_probe(&probe, now);
                    Stage::Forging(sent + 1)
                }
            };
        }
        let (Stage::Asking(sent) | Stage::Forging(sent)) = probe.stage;
        let next = match instants.get(sent) {
            Some(after) => probe.since + *after,
            None => now + PATIENCE,
        };
        self.timers.set(Timer::Probe, next);
        self.prober.probe = Some(probe);
    }

    /// The receiver has opened its NAT.
    pub(super) fn on_probing(&mut self, now: Instant) {
        let Some(mut probe) = self.prober.probe.take() else { return };
        if let Stage::Asking(_) = probe.stage {
            (probe.stage, probe.since) = (Stage::Forging(0), now);
        }
        self.go_on(probe, now);
    }

    fn send_probe(&mut self, probe: &Probe, now: Instant) {
        let Forging::Within(limits) = &self.config.forging else { return };
        let Some(receiver) = self.registry.get(probe.receiver) else { return };
        if !self.meters.take(limits, &[(probe.to.ip(), 1)], now) {
            self.counters.rate_limited += 1;
            return;
        }
        let message = Message::new(probe.transaction, Body::Probed);
        let payload = message.with_nonce(probe.nonce.clone()).emit(Some(&receiver.key));
        self.counters.probes += 1;
        self.commands.push_back(Command::InjectDatagram {
            source: probe.from,
            destination: probe.to,
            ttl: FORGED_TTL,
            payload,
        });
    }

    /// A peer says that a probe has arrived.
    pub(super) fn on_probed(&mut self, link: Link, received: &Received<'_>, now: Instant) {
        let Some(probe) = self.prober.probe.take() else {
            self.counters.unexpected += 1;
            return;
        };
        let message = &received.message;
        let receiver = self.registry.get(probe.receiver);
        let signed = receiver.is_some_and(|it| it.link == link && Self::vouches(it, received));
        let forged = matches!(probe.stage, Stage::Forging(_));
        if forged && signed && message.nonce.as_ref() == Some(&probe.nonce) {
            self.end_probe(&probe, Some(true), now);
        } else {
            self.counters.unexpected += 1;
            self.prober.probe = Some(probe);
        }
    }

    fn end_probe(&mut self, probe: &Probe, heard: Option<bool>, now: Instant) {
        self.asked.remove(&probe.transaction);
        let known = self.prober.known(probe.family);
        match heard {
            Some(true) => {
                known.verdict = Some(Verdict::Possible(now));
                known.silent.clear();
                self.counters.probes_heard += 1;
            }
            Some(false) => {
                known.silent.push(site(probe.to.ip()));
                if known.silent.len() >= QUORUM {
                    known.verdict = Some(Verdict::Filtered(now));
                    known.silent.clear();
                }
            }
            None => {}
        }
        // Silent ones are followed up soon, so that one loss is not believed for long.
        let settled = known.verdict.is_some() && known.silent.is_empty();
        let rest_until = now + if settled { PAUSE } else { PAUSE_UNKNOWN };
        known.rest_until = Some(rest_until);
        let spoofing = known.spoofing(now);
        self.events.push_back(Event::Probed { family: probe.family, spoofing });
        let next = self.prober.known.iter().filter_map(|it| it.rest_until).min();
        self.timers.set(Timer::Probe, next.map_or(rest_until, |at| at.max(now + FIRST_PAUSE)));
    }
}

/// Whether a peer's NAT certainly lets the packet of a peer in that it has sent to itself: it has
/// none, or its mapping is the one that the broker sees, or anybody may come in there.
fn lets_in(nat: &NatSummary) -> bool {
    nat.nat == Some(false)
        || nat.udp.mapping == Some(Mapping::EndpointIndependent)
        || nat.udp.filtering == Some(Filtering::EndpointIndependent)
}
