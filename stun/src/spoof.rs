//! Does a network let packets out whose source is forged? A client and a consenting server find out.
//!
//! ```text
//! client                                                     server
//!   │── request 0x0E1, NONCE of zeros ──────────────────────────▶│   from the client's own address
//!   │◀─ success, NONCE: a token for that address ────────────────│
//!   │── indication 0x0E1, PROVEN-ADDRESS, NONCE ────────────────▶│   from a forged source, if the network lets it out
//!   │◀─ indication, XOR-MAPPED-ADDRESS: the source that was seen │   to the proven address, never to the forged one
//! ```
//!
//! The server keeps nothing: the token is a MAC over the address that it was sent to, so the report can only go to who asked for
//! it. No message of the server's is longer than the one that provoked it. The method lies beside that of [`crate::probe`],
//! where no standard has any.

use crate::attribute::{
    Attribute, AttributeError, AttributeType, Nonce, XorMappedAddress, address,
};
use crate::{Class, Message, Method, TransactionId, WriteError, Writer};
use std::net::SocketAddr;

/// The method of all messages here: 0x0E1.
pub const METHOD: Method = match Method::new(0x0E1) {
    Some(method) => method,
    None => unreachable!(),
};

/// Where the report goes, obscured as XOR-MAPPED-ADDRESS is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvenAddress(pub SocketAddr);

impl Attribute<'_> for ProvenAddress {
    const TYPE: AttributeType = AttributeType::new(0x4C00);

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

/// Writes the request for a token, and returns its length.
///
/// # Errors
///
/// [`WriteError::BufferTooSmall`] for less than 36 bytes.
pub fn write_request(buffer: &mut [u8], id: TransactionId) -> Result<usize, WriteError> {
    let mut writer = Writer::new(buffer, Class::Request, METHOD, id)?;
    writer.attribute(&Nonce::new(&[0; crate::server::TOKEN_LENGTH])?)?;
    Ok(writer.finish())
}

/// The token in the server's reply to that request, and the address that the client has for the server.
pub fn read_token<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    let is_reply = message.method() == METHOD && message.class() == Class::Success;
    let nonce = message.attribute::<Nonce<'_>>().ok().flatten().filter(|_| is_reply)?;
    Some(nonce.as_bytes())
}

/// Writes what is sent from a forged source, and returns its length. `proven` is the client's address as the server sees
/// it, which a Binding request from the same socket tells.
///
/// # Errors
///
/// [`WriteError::BufferTooSmall`] for less than 60 bytes.
pub fn write_forged(
    buffer: &mut [u8],
    id: TransactionId,
    proven: SocketAddr,
    token: &[u8],
) -> Result<usize, WriteError> {
    let mut writer = Writer::new(buffer, Class::Indication, METHOD, id)?;
    writer.attribute(&ProvenAddress(proven))?;
    writer.attribute(&Nonce::new(token)?)?;
    Ok(writer.finish())
}

/// The forged source in the server's report.
pub fn read_report(message: &Message<'_>) -> Option<SocketAddr> {
    let is_report = message.method() == METHOD && message.class() == Class::Indication;
    let seen = message.attribute::<XorMappedAddress>().ok().flatten().filter(|_| is_report)?;
    Some(seen.0)
}
