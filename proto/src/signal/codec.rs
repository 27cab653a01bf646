//! Messages to bytes and back: `parse(emit(x)) == x`.
//!
//! Every message ends with FINGERPRINT, which must be right: it tells signalling from other bytes on
//! a shared socket, and no damaged datagram gets further. Those of a registered peer and to it carry
//! MESSAGE-INTEGRITY-SHA256 before it, with the registration key.

mod composer;
mod reader;

use ntcp_stun::{Check, Class, Key, Message as StunMessage, Method, TransactionId};

use super::message::{Message, Refused};
use super::{RegistrationKey, SignalMethod};
use composer::Composer;
use reader::Reader;

/// Longest message, sent or taken: what fits into one IPv6 packet of the smallest MTU (1280, RFC
/// 8200 section 5) behind IPv6 and UDP headers.
pub const MAX_MESSAGE_BYTES: usize = 1232;

/// A checked view of received bytes, and the message they hold.
#[derive(Debug, Clone)]
pub struct Received<'a> {
    /// The message.
    pub message: Message,
    view: StunMessage<'a>,
    sealed: bool,
}

impl Received<'_> {
    /// The same, as it came out of an envelope.
    pub(crate) fn sealed(self) -> Self {
        Self { sealed: true, ..self }
    }

    /// Whether nobody else could read it.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Whether the message carries a MESSAGE-INTEGRITY-SHA256 made with `key`.
    pub fn is_signed_by(&self, key: &RegistrationKey) -> bool {
        self.view.integrity_sha256(&Key::short_term(&key.0)) == Check::Valid
    }
}

/// Why bytes are not a message of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not STUN, or longer than [`MAX_MESSAGE_BYTES`].
    #[error("not a STUN message")]
    NotStun,
    /// No FINGERPRINT, or a wrong one.
    #[error("FINGERPRINT is absent or wrong")]
    Damaged,
    /// STUN, but of another protocol's method, or of a class that the method does not have.
    #[error("{0} is not a method of this protocol, or not in this class")]
    Method(
        /// The method.
        Method,
    ),
    /// A message that cannot be understood; a request is answered with the refusal.
    #[error("{} refused: {}", refused.method, refused.code)]
    Refused {
        /// The class.
        class: Class,
        /// The transaction.
        transaction: TransactionId,
        /// What a request with this error is answered.
        refused: Refused,
    },
}

impl Message {
    /// The bytes of this message, signed with `key` if there is one.
    pub fn emit(&self, key: Option<&RegistrationKey>) -> Vec<u8> {
        let mut buffer = [0; MAX_MESSAGE_BYTES];
        match Composer::write(self, key, &mut buffer) {
            Ok(length) => buffer[..length].to_vec(),
            Err(error) => unreachable!("every part of a message is bounded by its type: {error}"),
        }
    }

    /// Reads one message.
    ///
    /// # Errors
    ///
    /// A [`ParseError`]; bytes never make it panic.
    pub fn parse(bytes: &[u8]) -> Result<Received<'_>, ParseError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(ParseError::NotStun);
        }
        let view = StunMessage::parse(bytes).map_err(|_| ParseError::NotStun)?;
        let method =
            SignalMethod::from_stun(view.method()).ok_or(ParseError::Method(view.method()))?;
        if view.fingerprint() != Check::Valid {
            return Err(ParseError::Damaged);
        }
        let class = view.class();
        let transaction = view.transaction_id();
        let refuse = |refused: Refused| ParseError::Refused { class, transaction, refused };
        let message = Reader::new(view, method).message().map_err(refuse)?;
        let message = message.ok_or(ParseError::Method(view.method()))?;
        Ok(Received { message, view, sealed: false })
    }
}
