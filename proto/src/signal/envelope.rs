//! A sealed message on the wire: which registration it belongs to, its counter, and the rest for
//! nobody else's eyes.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------------------------------------------------------+
//! |     STUN header: Indication Sealed, the transaction inside    |
//! +-------------------------------+-------------------------------+
//! |            SEALED             |            length             |
//! +-------------------------------+-------------------------------+
//! |                   REGISTRATION, 8 bytes                       |
//! +---------------------------------------------------------------+
//! |                      counter, 8 bytes                         |
//! +---------------------------------------------------------------+
//! |     a whole message of this protocol, sealed, and 16 bytes    |
//! +---------------------------------------------------------------+
//! |                        FINGERPRINT                            |
//! +---------------------------------------------------------------+
//! ```
//!
//! The transaction id stands outside too, so that a broker which does not know the registration can
//! say so in an answer that its peer recognises. It is sealed along with the registration: neither
//! can be changed.

use ntcp_stun::{Check, Class, Message as StunMessage, TransactionId, Writer};

use super::attribute::SEALED;
use super::codec::MAX_MESSAGE_BYTES;
use super::message::Nonce;
use super::{RegistrationId, SignalMethod};
use crate::secrecy::{Channel, OVERHEAD, Unsealed};

/// Bytes of REGISTRATION and counter.
const ROUTING: usize = 16;

/// What the two sides of a handshake with a broker have in common besides the NONCE.
const PURPOSE: &[u8] = b"ntcp broker 1";

/// The prologue of a handshake with a broker: it is good only with this NONCE, which is good only
/// at one address for a minute.
pub fn prologue(nonce: &Nonce) -> Vec<u8> {
    [PURPOSE, nonce.as_bytes()].concat()
}

/// A sealed message, before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The transaction of the message inside.
    pub transaction: TransactionId,
    /// Whose it is.
    pub registration: RegistrationId,
    /// Its place among the messages of its direction.
    pub counter: u64,
    /// The message.
    sealed: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Reads an envelope; `None` for anything else.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let view = StunMessage::parse(bytes).ok().filter(|_| bytes.len() <= MAX_MESSAGE_BYTES)?;
        let is_ours = view.method() == SignalMethod::Sealed.to_stun()
            && view.class() == Class::Indication
            && view.fingerprint() == Check::Valid;
        let value =
            view.raw_attribute(SEALED).filter(|it| is_ours && it.len() >= ROUTING + OVERHEAD)?;
        let (registration, rest) = value.split_first_chunk()?;
        let (counter, sealed) = rest.split_first_chunk()?;
        Some(Self {
            transaction: view.transaction_id(),
            registration: RegistrationId(*registration),
            counter: u64::from_be_bytes(*counter),
            sealed,
        })
    }

    /// The message inside.
    ///
    /// # Errors
    ///
    /// It came before, or it was not sealed for this channel.
    pub fn open(&self, channel: &mut Channel) -> Result<Vec<u8>, Unsealed> {
        let context = context(self.registration, self.transaction);
        channel.open(self.counter, &context, self.sealed)
    }

    /// The bytes of an envelope around `message`, which are those of a message in `transaction`.
    pub fn seal(
        channel: &mut Channel,
        registration: RegistrationId,
        transaction: TransactionId,
        mut message: Vec<u8>,
    ) -> Vec<u8> {
        let counter = channel.seal(&context(registration, transaction), &mut message);
        let mut value = Vec::with_capacity(ROUTING + message.len());
        value.extend_from_slice(&registration.0);
        value.extend_from_slice(&counter.to_be_bytes());
        value.append(&mut message);
        let mut buffer = [0; MAX_MESSAGE_BYTES];
        let method = SignalMethod::Sealed.to_stun();
        let written = Writer::new(&mut buffer, Class::Indication, method, transaction);
        let written = written.and_then(|mut writer| {
            writer.raw_attribute(SEALED, &value)?;
            writer.fingerprint()?;
            Ok(writer.finish())
        });
        match written {
            Ok(length) => buffer[..length].to_vec(),
            Err(error) => unreachable!("the longest message fits into an envelope: {error}"),
        }
    }
}

/// What is not sealed but must not be changed.
fn context(registration: RegistrationId, transaction: TransactionId) -> [u8; 20] {
    let mut context = [0; 20];
    context[..8].copy_from_slice(&registration.0);
    context[8..].copy_from_slice(transaction.as_bytes());
    context
}
