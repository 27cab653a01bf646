//! [`Writer`]: builds a message in the caller's buffer.

use super::header::{HEADER_LENGTH, MAGIC_COOKIE, message_type};
use super::{Class, Message, Method, TransactionId, padded};
use crate::attribute::{Attribute, AttributeError, AttributeType};
use crate::integrity::{self, Key};

/// The greatest length of all attributes together: what the length field holds, on a 32-bit boundary.
const MAX_BODY: usize = 0xFFFC;

/// Builds one message from front to back: header, attributes, integrity, fingerprint.
///
/// Nothing is allocated and nothing is moved. After an error the buffer holds no message worth sending.
///
/// ```
/// use ntcp_stun::{Class, Key, Message, Method, TransactionId, Writer, Check};
/// use ntcp_stun::attribute::Username;
///
/// let key = Key::short_term(b"VOkJxbRl1RmTxUk/WvJxBt");
/// let mut buffer = [0; 96];
/// let mut writer =
///     Writer::new(&mut buffer, Class::Request, Method::BINDING, TransactionId::new([1; 12]))?;
/// writer.attribute(&Username::new("evtj:h6vY")?)?;
/// writer.integrity(&key)?;
/// writer.fingerprint()?;
/// let length = writer.finish();
/// assert_eq!(length, 20 + 16 + 24 + 8);
/// assert_eq!(Message::parse(&buffer[..length])?.integrity(&key), Check::Valid);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    length: usize,
    transaction_id: TransactionId,
    stage: Stage,
}

/// What has been written; a later stage bars the attributes of the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Attributes,
    Integrity,
    IntegritySha256,
    Fingerprint,
}

/// Why a message could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The buffer ends too early.
    #[error("the message needs {needed} bytes so far, the buffer has {available}")]
    BufferTooSmall {
        /// Length of the message with what was to be added.
        needed: usize,
        /// Length of the buffer.
        available: usize,
    },
    /// The message would be longer than its length field can say.
    #[error("attribute {attribute} makes the message too long")]
    TooLong {
        /// The attribute that was to be added.
        attribute: AttributeType,
    },
    /// MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT end a message, in this order.
    #[error("attribute {attribute} may not follow what has been written")]
    OutOfOrder {
        /// The attribute that was to be added.
        attribute: AttributeType,
    },
    /// The value is not one that this attribute may have.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
}

impl<'b> Writer<'b> {
    /// Starts a message.
    ///
    /// # Errors
    ///
    /// [`WriteError::BufferTooSmall`] for less than 20 bytes.
    pub fn new(
        buffer: &'b mut [u8],
        class: Class,
        method: Method,
        transaction_id: TransactionId,
    ) -> Result<Self, WriteError> {
        Self::new_classic(buffer, class, method, MAGIC_COOKIE, transaction_id)
    }

    /// Starts a message of RFC 3489, whose transaction id is `cookie` and `transaction_id` together.
    ///
    /// # Errors
    ///
    /// [`WriteError::BufferTooSmall`] for less than 20 bytes.
    pub fn new_classic(
        buffer: &'b mut [u8],
        class: Class,
        method: Method,
        cookie: [u8; 4],
        transaction_id: TransactionId,
    ) -> Result<Self, WriteError> {
        let available = buffer.len();
        let Some(header) = buffer.first_chunk_mut::<HEADER_LENGTH>() else {
            return Err(WriteError::BufferTooSmall { needed: HEADER_LENGTH, available });
        };
        header[0..2].copy_from_slice(&message_type(class, method).to_be_bytes());
        header[2..4].fill(0);
        header[4..8].copy_from_slice(&cookie);
        header[8..20].copy_from_slice(transaction_id.as_bytes());
        Ok(Self { buffer, length: HEADER_LENGTH, transaction_id, stage: Stage::Attributes })
    }

    /// Starts the response of this class to `request`: same method, same transaction id, same dialect.
    ///
    /// # Errors
    ///
    /// [`WriteError::BufferTooSmall`] for less than 20 bytes.
    pub fn reply(
        buffer: &'b mut [u8],
        class: Class,
        request: &Message<'_>,
    ) -> Result<Self, WriteError> {
        let id = request.transaction_id();
        Self::new_classic(buffer, class, request.method(), request.cookie(), id)
    }

    /// Adds an attribute.
    ///
    /// # Errors
    ///
    /// Any [`WriteError`].
    pub fn attribute<'v, A: Attribute<'v>>(&mut self, attribute: &A) -> Result<(), WriteError> {
        let transaction_id = self.transaction_id;
        let value = self.append(A::TYPE, attribute.encoded_len(), Stage::Attributes)?;
        attribute.encode(value, transaction_id);
        Ok(())
    }

    /// Adds an attribute of any type with this value.
    ///
    /// # Errors
    ///
    /// Any [`WriteError`].
    pub fn raw_attribute(
        &mut self,
        attribute_type: AttributeType,
        value: &[u8],
    ) -> Result<(), WriteError> {
        self.append(attribute_type, value.len(), Stage::Attributes)?.copy_from_slice(value);
        Ok(())
    }

    /// Adds MESSAGE-INTEGRITY, the HMAC-SHA1 over all before it (RFC 8489, section 14.5).
    ///
    /// # Errors
    ///
    /// Any [`WriteError`].
    pub fn integrity(&mut self, key: &Key) -> Result<(), WriteError> {
        let covered = self.length;
        self.append(AttributeType::MESSAGE_INTEGRITY, integrity::SHA1_LENGTH, Stage::Integrity)?;
        let value = key.sha1(&self.buffer[..covered], integrity::SHA1_LENGTH);
        self.fill(&value);
        Ok(())
    }

    /// Adds MESSAGE-INTEGRITY-SHA256, the HMAC-SHA256 over all before it, untruncated (RFC 8489, section 14.6).
    ///
    /// # Errors
    ///
    /// Any [`WriteError`].
    pub fn integrity_sha256(&mut self, key: &Key) -> Result<(), WriteError> {
        let covered = self.length;
        let length = integrity::SHA256_LENGTH;
        let stage = Stage::IntegritySha256;
        self.append(AttributeType::MESSAGE_INTEGRITY_SHA256, length, stage)?;
        let value = key.sha256(&self.buffer[..covered], length);
        self.fill(&value);
        Ok(())
    }

    /// Adds FINGERPRINT, the CRC-32 over all before it (RFC 8489, section 14.7).
    ///
    /// # Errors
    ///
    /// Any [`WriteError`].
    pub fn fingerprint(&mut self) -> Result<(), WriteError> {
        let covered = self.length;
        let length = integrity::FINGERPRINT_LENGTH;
        self.append(AttributeType::FINGERPRINT, length, Stage::Fingerprint)?;
        let value = integrity::fingerprint(&self.buffer[..covered]);
        self.fill(&value);
        Ok(())
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Never: there is always a header.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Ends the message and returns its length in the buffer.
    pub fn finish(self) -> usize {
        self.length
    }

    /// Adds an attribute's header and padding, and returns the place of its value.
    fn append(
        &mut self,
        attribute_type: AttributeType,
        value_length: usize,
        stage: Stage,
    ) -> Result<&mut [u8], WriteError> {
        if self.stage > stage || (self.stage == stage && stage != Stage::Attributes) {
            return Err(WriteError::OutOfOrder { attribute: attribute_type });
        }
        let start = self.length;
        let end = start + 4 + padded(value_length);
        let (Ok(body), Ok(stated)) =
            (u16::try_from(end - HEADER_LENGTH), u16::try_from(value_length))
        else {
            return Err(WriteError::TooLong { attribute: attribute_type });
        };
        debug_assert!(usize::from(body) <= MAX_BODY);
        let available = self.buffer.len();
        let Some(place) = self.buffer.get_mut(start..end) else {
            return Err(WriteError::BufferTooSmall { needed: end, available });
        };
        place[0..2].copy_from_slice(&attribute_type.number().to_be_bytes());
        place[2..4].copy_from_slice(&stated.to_be_bytes());
        place[4 + value_length..].fill(0);
        self.buffer[2..4].copy_from_slice(&body.to_be_bytes());
        self.length = end;
        self.stage = stage;
        Ok(&mut self.buffer[start + 4..start + 4 + value_length])
    }

    /// Writes the value of the attribute that has just been appended and needs no padding.
    fn fill(&mut self, value: &[u8]) {
        let end = self.length;
        self.buffer[end - value.len()..end].copy_from_slice(value);
    }
}
