//! What all parts of the client share: names, randomness, sockets, the way out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;

use super::config::{BrokerIdentity, Secrecy, Trust};
use super::{Config, Event, Link};
use crate::address::Family;
use crate::candidate::Candidate;
use crate::command::{CommandId, Names};
use crate::entropy::{Entropy, Seed};
use crate::secrecy::{Channel, PublicKey};
use crate::signal::envelope::Envelope;
use crate::signal::message::{Body, Message, Nonce, Register, TransmitCount};
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

/// Keys of a broker that are remembered: it changes them one at a time.
const MAX_PINNED: usize = 8;

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
    /// What the registration has agreed on with the broker, if it has shaken hands.
    pub(super) channel: Option<Channel>,
    pub(super) broker: BrokerIdentity,
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
            channel: None,
            broker: BrokerIdentity::Unknown,
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

    /// A Register that shows `profile`, and what lets us in to the owner of the key `meant_for`.
    pub(super) fn register(&self, profile: &Profile, meant_for: Option<PublicKey>) -> Register {
        let account = self.config.credentials.as_ref().map(|it| it.account.clone());
        Register {
            name: self.config.name.clone(),
            candidates: profile.candidates.clone(),
            nat: profile.nat,
            fingerprint: self.config.fingerprint,
            lease: self.config.lease,
            rtt: self.rtt,
            consents: self.config.consents,
            bare: self.config.bare,
            offers_to_forge: self.config.offers_to_forge,
            meant_for: meant_for.filter(|_| account.is_some()),
            account,
        }
    }

    /// Whether the broker is spoken to behind a handshake.
    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.config.secrecy, Secrecy::Sealed { .. })
    }

    /// Our key, if we have one.
    pub(super) fn own_key(&self) -> Option<PublicKey> {
        match &self.config.secrecy {
            Secrecy::Plain => None,
            Secrecy::Sealed { identity, .. } => Some(identity.public()),
        }
    }

    /// The Register that asks for a nonce, and for the broker's key.
    pub(super) fn first_register(&self) -> Body {
        match self.config.secrecy {
            Secrecy::Plain => Body::Register(self.register(&self.profile, None)),
            Secrecy::Sealed { .. } => Body::Hello,
        }
    }

    /// The broker's key to shake hands with, when it shows one and `tried` have been refused.
    pub(super) fn broker_key(&self, shown: Option<PublicKey>, tried: usize) -> Option<PublicKey> {
        match &self.config.secrecy {
            Secrecy::Plain => None,
            Secrecy::Sealed { trust: Trust::FirstUse, .. } => shown.filter(|_| tried == 0),
            Secrecy::Sealed { trust: Trust::Pinned(keys), .. } => {
                let likely = keys.iter().filter(|it| Some(**it) == shown);
                let others = keys.iter().filter(|it| Some(**it) != shown);
                likely.chain(others).nth(tried).copied()
            }
        }
    }

    /// Takes nobody else for the broker any more, as long as we live.
    pub(super) fn pin(&mut self, proven: [PublicKey; 2]) {
        let Secrecy::Sealed { trust, .. } = &mut self.config.secrecy else { return };
        let mut keys = match trust {
            Trust::FirstUse => Vec::new(),
            Trust::Pinned(keys) => std::mem::take(keys),
        };
        keys.retain(|it| !proven.contains(it));
        keys.splice(0..0, proven);
        keys.dedup();
        keys.truncate(MAX_PINNED);
        *trust = Trust::Pinned(keys);
    }

    /// The bytes of a Register, signed with what lets us in, if anything has to.
    pub(super) fn signed_register(&self, message: &Message) -> Vec<u8> {
        message.emit(self.config.credentials.as_ref().map(|it| &it.key))
    }

    /// Sends a message that nobody has a key for yet.
    pub(super) fn send_unsigned(&mut self, way: Way, message: &Message) -> CommandId {
        self.send_bytes(way, message.emit(None))
    }

    /// Sends a signed message.
    pub(super) fn send(&mut self, standing: &Standing, message: &Message) -> CommandId {
        let bytes = self.protected(standing, message);
        self.send_bytes(standing.way, bytes)
    }

    /// Sends a signed message twice back to back where one could get lost: at the moments on which
    /// the set-up time stands, a lost datagram costs a whole repeat, and a second one a few hundred
    /// bytes.
    pub(super) fn send_surely(&mut self, standing: &Standing, message: &Message) {
        let bytes = self.protected(standing, message);
        if standing.way.link == Link::Udp {
            self.send_bytes(standing.way, bytes.clone());
        }
        self.send_bytes(standing.way, bytes);
    }

    /// The bytes of a signed message, sealed if we have shaken hands.
    pub(super) fn protected(&mut self, standing: &Standing, message: &Message) -> Vec<u8> {
        let bytes = message.emit(Some(&standing.key));
        match &mut self.channel {
            Some(channel) => {
                Envelope::seal(channel, standing.registration, message.transaction, bytes)
            }
            None => bytes,
        }
    }

    pub(super) fn send_bytes(&mut self, way: Way, payload: Vec<u8>) -> CommandId {
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

    /// Closes a stream with what has not been sent yet.
    pub(super) fn abort(&mut self, way: Way) {
        match way.link {
            Link::Udp => {}
            Link::Tcp => {
                let id = self.names.command();
                self.commands.push_back(Command::Abort { id, socket: way.socket });
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
