//! What two hosts with one address each say to each other, so that together they are one server of RFC 5780.
//!
//! ```text
//! client                       first host                                     second host
//!   │                              │── request 0x0E2: are you there? ──────────────▶│   each second
//!   │                              │◀─ success, EPOCH: this run of mine, and what ──│
//!   │                              │   I have had of you                            │
//!   │── Binding, CHANGE-REQUEST ──▶│                                                │
//!   │                              │── indication 0x0E2, EPOCH, CLIENT, ASKED, ────▶│
//!   │                              │   FORWARDED: that request                      │
//!   │◀─ Binding success ────────────────────────────────────────────────────────────│   from the port asked for
//! ```
//!
//! All messages go between the two STUN ports that are each host's first, over UDP, and end with a
//! MESSAGE-INTEGRITY-SHA256 under a key that only the two have. Nothing else protects them, since nothing in them is secret:
//! a client's address and its request have crossed the network in clear already.
//!
//! # Why nobody can aim it
//!
//! - Without the key nothing is answered and nothing is sent.
//! - SENDER says whose message it is, under the integrity: no message works in the other direction or for another pair.
//! - The request's transaction id is fresh, so an old success is worth nothing; EPOCH names the run of the receiver and
//!   counts, so an old indication is worth nothing either ([`crate::server::Link`]).
//! - What is forwarded is the *request*, not a reply: the second host writes the reply itself, by its own rules and
//!   within a budget of its own. Even who has the key can have it send nothing but Binding successes.
//!
//! The method lies beside those of [`crate::probe`] and [`crate::spoof`].

use crate::attribute::{Attribute, AttributeError, AttributeType, Problem, address};
use crate::{Check, Class, Key, Message, Method, TransactionId, WriteError, Writer};
use std::net::SocketAddr;

/// The method of all messages here: 0x0E2.
pub const METHOD: Method = match Method::new(0x0E2) {
    Some(method) => method,
    None => unreachable!(),
};

/// The version of the link that is spoken here. Whoever changes what a message means raises it.
pub const VERSION: u32 = 1;

/// What a message of the link adds to the request in it, at most: header, six attributes, integrity.
pub const OVERHEAD: usize = 20 + 8 + 24 + 20 + 24 + 24 + 7 + 36;

/// The version of the link that the sender speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub u32);

impl Attribute<'_> for Version {
    const TYPE: AttributeType = AttributeType::new(0x4C01);

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        let bytes = value.try_into().map_err(|_| Self::TYPE.error(Problem::Length(value.len())))?;
        Ok(Self(u32::from_be_bytes(bytes)))
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        value.copy_from_slice(&self.0.to_be_bytes());
    }
}

/// Defines an address that is obscured as XOR-MAPPED-ADDRESS is.
macro_rules! xor_address {
    ($(#[$doc:meta])* $name:ident, $number:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub SocketAddr);

        impl Attribute<'_> for $name {
            const TYPE: AttributeType = AttributeType::new($number);

            fn decode(value: &[u8], id: TransactionId) -> Result<Self, AttributeError> {
                address::decode_xor(value, id).map(Self).map_err(|problem| Self::TYPE.error(problem))
            }

            fn encoded_len(&self) -> usize {
                address::encoded_len(self.0)
            }

            fn encode(&self, value: &mut [u8], id: TransactionId) {
                address::encode_xor(self.0, value, id);
            }
        }
    };
}

xor_address! {
    /// The sender's own first address, as it is configured on both hosts.
    Sender, 0x4C02
}

xor_address! {
    /// Whom the forwarded request came from.
    Client, 0x4C04
}

xor_address! {
    /// The sender's address that the client asked.
    Asked, 0x4C05
}

/// A run of a host and a place in the other's count of messages to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    /// Drawn by the receiver of the forwarded requests when it started.
    pub run: u64,
    /// In a success the highest count that has arrived, in an indication its own count.
    pub count: u64,
}

impl Attribute<'_> for Epoch {
    const TYPE: AttributeType = AttributeType::new(0x4C03);

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        let (Some(run), Some(count), 16) = (value.first_chunk(), value.last_chunk(), value.len())
        else {
            return Err(Self::TYPE.error(Problem::Length(value.len())));
        };
        Ok(Self { run: u64::from_be_bytes(*run), count: u64::from_be_bytes(*count) })
    }

    fn encoded_len(&self) -> usize {
        16
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        value[..8].copy_from_slice(&self.run.to_be_bytes());
        value[8..].copy_from_slice(&self.count.to_be_bytes());
    }
}

/// The forwarded request, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded<'a>(pub &'a [u8]);

impl<'a> Attribute<'a> for Forwarded<'a> {
    const TYPE: AttributeType = AttributeType::new(0x4C06);

    fn decode(value: &'a [u8], _: TransactionId) -> Result<Self, AttributeError> {
        Ok(Self(value))
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        value.copy_from_slice(self.0);
    }
}

/// A message of the link, read and found to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// The other host asks whether this one is there.
    AreYouThere {
        /// What the other host speaks.
        version: u32,
    },
    /// The other host is there.
    Here {
        /// What the other host speaks.
        version: u32,
        /// Its run, and what it has had of this host.
        epoch: Epoch,
    },
    /// A request is to be answered.
    Forward {
        /// This host's run as the other one knows it, and the message's count.
        epoch: Epoch,
        /// Whom the request came from.
        client: SocketAddr,
        /// The other host's address that was asked.
        asked: SocketAddr,
        /// The request.
        request: &'a [u8],
    },
}

/// Reads a message of the link that `sender` has signed with `key`; `None` for anything else.
pub fn read<'a>(message: &Message<'a>, sender: SocketAddr, key: &Key) -> Option<Said<'a>> {
    if message.method() != METHOD || message.integrity_sha256(key) != Check::Valid {
        return None;
    }
    if message.attribute::<Sender>().ok()?? != Sender(sender) {
        return None;
    }
    // Whatever else a version changes, where it stands it does not.
    let Version(version) = message.attribute().ok()??;
    match message.class() {
        Class::Request => Some(Said::AreYouThere { version }),
        Class::Success if version != VERSION => {
            Some(Said::Here { version, epoch: Epoch::default() })
        }
        Class::Success => Some(Said::Here { version, epoch: message.attribute().ok()?? }),
        Class::Indication if version == VERSION => Some(Said::Forward {
            epoch: message.attribute().ok()??,
            client: message.attribute::<Client>().ok()??.0,
            asked: message.attribute::<Asked>().ok()??.0,
            request: message.attribute::<Forwarded<'_>>().ok()??.0,
        }),
        Class::Indication | Class::Error => None,
    }
}

/// Writes a message of the link, from `sender`, and returns its length.
///
/// # Errors
///
/// The buffer is too short, or the forwarded request too long: [`OVERHEAD`] bytes are added to it.
pub fn write(
    buffer: &mut [u8],
    said: &Said<'_>,
    id: TransactionId,
    (sender, key): (SocketAddr, &Key),
) -> Result<usize, WriteError> {
    let (class, version) = match *said {
        Said::AreYouThere { version } => (Class::Request, version),
        Said::Here { version, .. } => (Class::Success, version),
        Said::Forward { .. } => (Class::Indication, VERSION),
    };
    let mut writer = Writer::new(buffer, class, METHOD, id)?;
    writer.attribute(&Version(version))?;
    writer.attribute(&Sender(sender))?;
    match *said {
        Said::AreYouThere { .. } => {}
        Said::Here { epoch, .. } => writer.attribute(&epoch)?,
        Said::Forward { epoch, client, asked, request } => {
            writer.attribute(&epoch)?;
            writer.attribute(&Client(client))?;
            writer.attribute(&Asked(asked))?;
            writer.attribute(&Forwarded(request))?;
        }
    }
    writer.integrity_sha256(key)?;
    Ok(writer.finish())
}
