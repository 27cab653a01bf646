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
//! something. Likewise with the network of a peer that offers to forge: then it sends the probe. One echo proves that forged sources get out. Silence may be a liar or a loss: only
//! when [`QUORUM`] peers at different addresses, one after the other, have heard nothing does it
//! count. One probe runs at a time, and a family is probed again after [`PAUSE`], or
//! [`PAUSE_UNKNOWN`] as long as nothing is known of it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::forgers::{Forgers, Performer, may_be_public};
use super::forging::{FORGED_AT, FORGED_TTL, Forging};
use super::timers::Timer;
use super::{Asked, Broker, Command, Event, Link, Registration, Registry};
use crate::address::Family;
use crate::address::site;
use crate::nat::{Filtering, Mapping};
use crate::signal::codec::Received;
use crate::signal::message::{Body, Message, Nonce};
use crate::signal::{NatSummary, Packet, RegistrationId, Spoofing};

/// Silent peers, each at another address, after which a network counts as filtered.
const QUORUM: usize = 3;
/// Between two probes of a family about which something is known.
const PAUSE: Duration = Duration::from_secs(15 * 60);
/// Between two probes of a family about which nothing is known yet.
const PAUSE_UNKNOWN: Duration = Duration::from_secs(20);
/// From the registration of a peer that could be probed to the first probe.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
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
    /// Of this broker's own network, over IPv4 and IPv6.
    own: [Known; 2],
    forgers: Forgers,
    probe: Option<Probe>,
}

/// What is known of one network in one family.
#[derive(Debug, Default)]
pub(super) struct Known {
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
    /// Whose network is probed.
    performer: Performer,
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
    /// What is known of a network; `None` if its forger has left.
    fn known(&mut self, performer: Performer, family: Family) -> Option<&mut Known> {
        match performer {
            Performer::Own => Some(&mut self.own[usize::from(family == Family::V6)]),
            Performer::Forger(id) => self.forgers.known(id),
        }
    }

    pub(super) fn own(&self, family: Family) -> &Known {
        &self.own[usize::from(family == Family::V6)]
    }

    pub(super) fn forgers(&self) -> &Forgers {
        &self.forgers
    }

    pub(super) fn forgers_mut(&mut self) -> &mut Forgers {
        &mut self.forgers
    }

    /// When the rests of all networks end.
    fn rests(&self) -> impl Iterator<Item = Instant> {
        self.own.iter().chain(self.forgers.all_known()).filter_map(|it| it.rest_until)
    }
}

impl Known {
    /// Of a network that is to be probed from this moment on.
    pub(super) fn due(at: Instant) -> Self {
        Self { rest_until: Some(at), ..Self::default() }
    }

    /// Whether forged sources were seen to get out, and not known to be filtered since.
    pub(super) fn is_possible(&self) -> bool {
        matches!(self.verdict, Some(Verdict::Possible(_)))
    }

    /// Whether they were seen not to.
    pub(super) fn is_filtered(&self) -> bool {
        matches!(self.verdict, Some(Verdict::Filtered(_)))
    }

    pub(super) fn spoofing(&self, now: Instant) -> Spoofing {
        let age = |at: Instant| Duration::from_secs(now.saturating_duration_since(at).as_secs());
        match self.verdict {
            None => Spoofing::Unknown,
            Some(Verdict::Possible(at)) => Spoofing::Possible { age: age(at) },
            Some(Verdict::Filtered(at)) => Spoofing::Filtered { age: age(at) },
        }
    }
}

impl<R: Registry> Broker<R> {
    /// A peer has registered that may be probed.
    pub(super) fn note_consent(&mut self, id: RegistrationId, now: Instant) {
        if self.config.forge_limits().is_none() {
            return;
        }
        let consenting = &mut self.prober.consenting;
        if consenting.len() == MAX_CONSENTING {
            consenting.pop_front();
        }
        consenting.push_back(id);
        self.probe_soon(now);
    }

    /// Something else is known of a peer's NAT: perhaps it can be probed now, or its own network.
    pub(super) fn note_nat(&mut self, id: RegistrationId, now: Instant) {
        let offers = self.prober.forgers.iter().any(|(forger, _)| forger == id);
        if offers || self.prober.consenting.contains(&id) {
            self.probe_soon(now);
        }
    }

    /// Something may be probed that could not be before.
    pub(super) fn probe_soon(&mut self, now: Instant) {
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
        self.prober.forgers.retain(|id| registry.get(id).is_some_and(may_be_public));
        let found = self.due(now).into_iter().find_map(|(performer, family)| {
            let (receiver, to, from) = self.choose(performer, family)?;
            Some((performer, family, receiver, to, from))
        });
        let Some((performer, family, receiver, to, from)) = found else {
            // Nobody there can be probed: who registers later starts it again.
            let next = self.prober.rests().min();
            let next = next.filter(|at| *at > now && self.prober.consenting.len() > 1);
            return self.timers.set(Timer::Probe, next);
        };
        let transaction = TransactionId::new(self.entropy.bytes());
        let Some(nonce) = Nonce::new(&self.entropy.bytes::<16>()) else { return };
        let (stage, since) = (Stage::Asking(0), now);
        self.asked.insert(transaction, Asked::Probe(receiver));
        let probe =
            Probe { performer, family, receiver, to, from, transaction, nonce, stage, since };
        self.go_on(probe, now);
    }

    /// The networks that have rested.
    fn due(&self, now: Instant) -> Vec<(Performer, Family)> {
        let rested = |known: &Known| known.rest_until.is_none_or(|until| until <= now);
        let own = matches!(self.config.forging, Forging::Within(_));
        let families = [Family::V4, Family::V6].into_iter();
        let own = families.filter(|family| own && rested(self.prober.own(*family)));
        let others = self.prober.forgers.iter().filter(|(_, known)| rested(known));
        let others = others.filter_map(|(id, _)| {
            let forger = self.registry.get(id).filter(|it| it.nat().nat == Some(false))?;
            Some((Performer::Forger(id), Family::of(forger.link().remote().ip())))
        });
        own.map(|family| (Performer::Own, family)).chain(others).collect()
    }

    /// A receiver, where it is, and in whose name it will be probed. Everybody has a turn.
    fn choose(
        &mut self,
        performer: Performer,
        family: Family,
    ) -> Option<(RegistrationId, SocketAddr, SocketAddr)> {
        let forger = match performer {
            Performer::Own => None,
            Performer::Forger(id) => Some(site(self.registry.get(id)?.link().remote().ip())),
        };
        let known = |id| self.registry.get(id).map(|it| (it.link(), it.nat()));
        let address = |id: &RegistrationId| match known(*id) {
            Some((Link::Udp { remote, .. }, nat))
                // What stays inside the forger's own site says nothing.
                if Family::of(remote.ip()) == family && Some(site(remote.ip())) != forger =>
            {
                Some((remote, nat))
            }
            Some(_) | None => None,
        };
        let silent: Vec<IpAddr> = self.prober.known(performer, family)?.silent.clone();
        let mut receivers =
            self.prober.consenting.iter().filter_map(|id| Some((*id, address(id)?)));
        let (receiver, (to, _)) =
            receivers.find(|(_, (to, nat))| lets_in(nat) && !silent.contains(&site(to.ip())))?;
        let elsewhere = |from: &SocketAddr| site(from.ip()) != site(to.ip());
        let (from, _) =
            self.prober.consenting.iter().filter_map(address).find(|(from, _)| elsewhere(from))?;
        self.prober.consenting.retain(|id| *id != receiver);
        self.prober.consenting.push_back(receiver);
        Some((receiver, to, from))
    }

    fn go_on(&mut self, mut probe: Probe, now: Instant) {
        let still = |it: &Registration| it.link().remote() == probe.to;
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
        let Some(limits) = self.config.forge_limits() else { return };
        let Some(receiver) = self.registry.get(probe.receiver) else { return };
        if !self.meters.take(limits, &[(probe.to.ip(), 1)], now) {
            self.counters.rate_limited += 1;
            return;
        }
        let message = Message::new(probe.transaction, Body::Probed);
        let payload = message.with_nonce(probe.nonce.clone()).emit(Some(&receiver.key));
        self.counters.probes += 1;
        let (source, destination) = (probe.from, probe.to);
        match probe.performer {
            Performer::Own => self.commands.push_back(Command::InjectDatagram {
                source,
                destination,
                ttl: FORGED_TTL,
                payload,
            }),
            Performer::Forger(id) => {
                self.send_errand(id, (source, destination), Packet::Datagram(payload));
            }
        }
    }

    /// A peer says that a probe has arrived.
    pub(super) fn on_probed(&mut self, link: Link, received: &Received<'_>, now: Instant) {
        let Some(probe) = self.prober.probe.take() else {
            self.counters.unexpected += 1;
            return;
        };
        let message = &received.message;
        let receiver = self.registry.get(probe.receiver);
        let signed = receiver.is_some_and(|it| it.link() == link && Self::vouches(it, received));
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
        let Some(known) = self.prober.known(probe.performer, probe.family) else {
            return self.timers.set(Timer::Probe, now + FIRST_PAUSE);
        };
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
        self.events.push_back(match probe.performer {
            Performer::Own => Event::Probed { family: probe.family, spoofing },
            Performer::Forger(_) => Event::ForgerProbed { family: probe.family, spoofing },
        });
        let next = self.prober.rests().min();
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
