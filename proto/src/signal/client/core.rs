//! What all parts of the client share: names, randomness, sockets, the way out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::{Config, Event, Link};
use crate::address::Family;
use crate::candidate::Candidate;
use crate::command::{CommandId, Names};
use crate::entropy::{Entropy, Seed};
use crate::signal::message::{Message, Nonce, Register, TransmitCount};
use crate::signal::{Capabilities, Ladder, NatSummary, Pace, RegistrationId, RegistrationKey};
use crate::{Command, SocketId};

/// One way to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) link: Link,
    pub(super) socket: SocketId,
    pub(super) remote: SocketAddr,
}

impl Way {
    /// When to repeat a request on this way.
    pub(super) fn ladder(&self, rtt: Option<Duration>) -> Ladder {
        match self.link {
            Link::Udp => Ladder::repeating(Pace::of(rtt)),
            Link::Tcp => Ladder::repeating(Pace::STREAM),
        }
    }
}

/// What a standing registration lets us say.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) way: Way,
    pub(super) registration: RegistrationId,
    pub(super) key: RegistrationKey,
    /// Only there when the broker has just asked for one, since our address changed.
    pub(super) nonce: Option<Nonce>,
}

impl Standing {
    /// A request of ours, ready to be signed.
    pub(super) fn request(&self, message: Message, transmit: TransmitCount) -> Message {
        Message {
            transmit: Some(transmit),
            registration: Some(self.registration),
            nonce: self.nonce.clone(),
            ..message
        }
    }
}

/// What peers see of us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) candidates: Vec<Candidate>,
    pub(super) nat: NatSummary,
}

/// How the round-trip time is smoothed: a shorter one counts at once, since delay in queues only
/// adds; a longer one by an eighth (the gain of RFC 6298 section 2).
const LONGER_GAIN: u32 = 8;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: Config,
    pub(super) names: Names,
    pub(super) entropy: Entropy,
    pub(super) sockets: BTreeMap<Family, SocketId>,
    pub(super) profile: Profile,
    pub(super) rtt: Option<Duration>,
    /// What the broker can do, as it said last.
    pub(super) capabilities: Capabilities,
    pub(super) commands: VecDeque<Command>,
    pub(super) events: VecDeque<Event>,
}

impl Core {
    pub(super) fn new(config: Config, names: Names, seed: Seed) -> Self {
        Self {
            config,
            names,
            entropy: Entropy::new(seed),
            sockets: BTreeMap::new(),
            profile: Profile::default(),
            rtt: None,
            capabilities: Capabilities::default(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// A transaction id nobody can guess.
    pub(super) fn transaction(&mut self) -> TransactionId {
        TransactionId::new(self.entropy.bytes())
    }

    /// Takes a measured round-trip time into account.
    pub(super) fn note_round_trip(&mut self, sample: Option<Duration>) {
        let Some(sample) = sample else { return };
        self.rtt = Some(match self.rtt {
            Some(rtt) if rtt < sample => rtt + (sample - rtt) / LONGER_GAIN,
            Some(_) | None => sample,
        });
    }

    /// A Register that shows `profile`.
    pub(super) fn register(&self, profile: &Profile) -> Register {
        Register {
            name: self.config.name.clone(),
            candidates: profile.candidates.clone(),
            nat: profile.nat,
            fingerprint: self.config.fingerprint,
            lease: self.config.lease,
            rtt: self.rtt,
            consents: self.config.consents,
            offers_to_forge: self.config.offers_to_forge,
        }
    }

    /// Sends a message that nobody has a key for yet.
    pub(super) fn send_unsigned(&mut self, way: Way, message: &Message) -> CommandId {
        self.send_bytes(way, message.emit(None))
    }

    /// Sends a signed message.
    pub(super) fn send(&mut self, standing: &Standing, message: &Message) -> CommandId {
        self.send_bytes(standing.way, message.emit(Some(&standing.key)))
    }

    /// Sends a signed message twice back to back where one could get lost: at the moments on which
    /// the set-up time stands, a lost datagram costs a whole repeat, and a second one a few hundred
    /// bytes.
    pub(super) fn send_surely(&mut self, standing: &Standing, message: &Message) {
        let bytes = message.emit(Some(&standing.key));
        if standing.way.link == Link::Udp {
            self.send_bytes(standing.way, bytes.clone());
        }
        self.send_bytes(standing.way, bytes);
    }

    fn send_bytes(&mut self, way: Way, payload: Vec<u8>) -> CommandId {
        let id = self.names.command();
        let Way { link, socket, remote } = way;
        self.commands.push_back(match link {
            Link::Udp => Command::SendUdp { id, socket, remote, ttl: None, payload },
            Link::Tcp => Command::SendTcp { id, socket, payload },
        });
        id
    }

    /// Closes a stream of ours; sockets of the owner are the owner's to close.
    pub(super) fn close(&mut self, way: Way) {
        match way.link {
            Link::Udp => {}
            Link::Tcp => {
                let id = self.names.command();
                self.commands.push_back(Command::Close { id, socket: way.socket });
            }
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }
}

/// The earlier of two instants that may not exist.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
