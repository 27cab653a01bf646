//! Who sends the forged packets: this broker, or another public node that offers itself.
//!
//! ```text
//!   forger                     broker                      A, B
//!     │── Register, offer ───────▶│                          │
//!     │◀─ Errand: Probe, P*→Q* ───┤   P and Q consent        │
//!     ├── P*→Q* ─────────────────────────▶ Q ── echo ──▶ broker: it can
//!     ┊                           │◀══ Forge, from both ═════╡   as [`forging`](mod@super::forging)
//!     │◀─ Errand: B*→A* SYN-ACK ──┤                          │   asks for it
//!     ├── B*→A* SYN-ACK ────────────────────────────────────▶│
//! ```
//!
//! This is the well-known machine of the first NTCP: any node that a spoof test has found able. It
//! forges only where the broker may not, or where the broker's own network lets nothing forged out.
//! Peers ask the broker as ever and prove to it what they prove to a broker that forges; it counts and
//! limits what others send for it as its own. An errand is one packet, sent once: there are three of
//! each, and what is lost is not made up for. It is signed with the forger's key and numbered.
//!
//! A forger has no NAT, was seen to get forged sources out ([`probing`](super::probing)) with peers at
//! other sites than its own, and takes no part in the meeting.

use std::net::SocketAddr;
use std::time::Instant;

use ntcp_stun::TransactionId;

use super::forging::Forging;
use super::probing::{FIRST_PAUSE, Known};
use super::{Broker, Registration, Registry};
use crate::address::Family;
use crate::address::site;
use crate::signal::message::{Body, Message};
use crate::signal::{Capabilities, Errand, Packet, RegistrationId, Spoofing};

/// Forgers that are remembered; a further offer is not taken up.
const MAX_FORGERS: usize = 16;

/// Who sends a forged packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Performer {
    /// This broker.
    Own,
    /// A peer that offered it.
    Forger(RegistrationId),
}

/// The peers that offer to forge.
#[derive(Debug, Default)]
pub(super) struct Forgers(Vec<Forger>);

#[derive(Debug)]
struct Forger {
    id: RegistrationId,
    /// Errands so far.
    serial: u32,
    /// Of its network, in the family of its link.
    known: Known,
}

impl Forgers {
    pub(super) fn known(&mut self, id: RegistrationId) -> Option<&mut Known> {
        self.0.iter_mut().find(|it| it.id == id).map(|it| &mut it.known)
    }

    pub(super) fn all_known(&self) -> impl Iterator<Item = &Known> {
        self.0.iter().map(|it| &it.known)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RegistrationId, &Known)> {
        self.0.iter().map(|it| (it.id, &it.known))
    }

    pub(super) fn retain(&mut self, is_there: impl Fn(RegistrationId) -> bool) {
        self.0.retain(|it| is_there(it.id));
    }
}

/// Whether nothing is known that speaks against a peer as a forger.
pub(super) fn may_be_public(registration: &Registration) -> bool {
    registration.nat().nat != Some(true)
}

impl<R: Registry> Broker<R> {
    /// A peer has registered that offers to forge.
    pub(super) fn note_offer(&mut self, id: RegistrationId, now: Instant) {
        let registry = &self.registry;
        let Some(offering) = registry.get(id).filter(|it| may_be_public(it)) else { return };
        let own_site = site(offering.link().remote().ip());
        let is_there =
            |it: &Registration| may_be_public(it) && site(it.link().remote().ip()) != own_site;
        let Forgers(forgers) = self.prober.forgers_mut();
        // One for each site: nobody takes all places.
        forgers.retain(|it| registry.get(it.id).is_some_and(is_there));
        if self.config.forgers.is_none() || forgers.len() >= MAX_FORGERS {
            return;
        }
        forgers.push(Forger { id, serial: 0, known: Known::due(now + FIRST_PAUSE) });
        self.probe_soon(now);
    }

    /// Who forges between these two peers in this family, if anybody may.
    pub(super) fn performer(
        &self,
        family: Family,
        peers: [RegistrationId; 2],
    ) -> Option<Performer> {
        let own = matches!(self.config.forging, Forging::Within(_)).then_some(Performer::Own);
        let is_open = !self.prober.own(family).is_filtered();
        own.filter(|_| is_open).or_else(|| self.able(family, peers)).or(own)
    }

    /// A forger that is able to and takes no part itself.
    fn able(&self, family: Family, peers: [RegistrationId; 2]) -> Option<Performer> {
        let is_there = |id: RegistrationId| {
            let forger = self.registry.get(id).filter(|it| it.nat().nat == Some(false));
            forger.is_some_and(|it| Family::of(it.link().remote().ip()) == family)
        };
        let forgers = self.prober.forgers().iter().filter(|(_, known)| known.is_possible());
        let mut forgers = forgers.filter(|(id, _)| is_there(*id) && !peers.contains(id));
        forgers.next().map(|(id, _)| Performer::Forger(id))
    }

    /// Sends a forger on an errand.
    pub(super) fn send_errand(
        &mut self,
        forger: RegistrationId,
        (source, destination): (SocketAddr, SocketAddr),
        packet: Packet,
    ) {
        let Forgers(forgers) = self.prober.forgers_mut();
        let Some(known) = forgers.iter_mut().find(|it| it.id == forger) else { return };
        known.serial += 1;
        let errand = Errand { serial: known.serial, source, destination, packet };
        let transaction = TransactionId::new(self.entropy.bytes());
        self.counters.errands += 1;
        self.send(forger, &Message::new(transaction, Body::Errand(errand)));
    }

    /// What peers are told of this broker.
    pub(super) fn capabilities(&self, now: Instant) -> Option<Capabilities> {
        self.config.forge_limits()?;
        let forges = matches!(self.config.forging, Forging::Within(_));
        let spoofing = |family| {
            let own = self.prober.own(family);
            let able = self.able(family, [RegistrationId([0; 8]); 2]);
            match able {
                Some(Performer::Forger(id)) if !forges || own.is_filtered() => {
                    let known = self.prober.forgers().iter().find(|(other, _)| *other == id);
                    known.map(|(_, known)| known.spoofing(now)).unwrap_or_default()
                }
                Some(_) | None if forges => own.spoofing(now),
                // Nobody is there to do it.
                Some(_) | None => Spoofing::Filtered { age: std::time::Duration::ZERO },
            }
        };
        let (v4, v6) = (spoofing(Family::V4), spoofing(Family::V6));
        let is_possible = |it| matches!(it, Spoofing::Possible { .. });
        Some(Capabilities { forges: forges || is_possible(v4) || is_possible(v6), v4, v6 })
    }
}
