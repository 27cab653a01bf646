//! Addresses as attributes carry them, plain and obscured (RFC 8489, sections 14.1 and 14.2).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |       0       | family 1 or 2 |             port              |
//! +---------------+---------------+-------------------------------+
//! |            address: 32 bits of IPv4 or 128 of IPv6            |
//! +---------------------------------------------------------------+
//! ```
//!
//! The XOR form combines the port with the upper half of the magic cookie and the address with the cookie and
//! the transaction id, so that middleboxes that rewrite addresses in payloads do not find it. Attributes of one's
//! own use the same functions.

use super::Problem;
use crate::TransactionId;
use crate::message::MAGIC_COOKIE;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const FAMILY_IPV4: u8 = 1;
const FAMILY_IPV6: u8 = 2;
/// Length of a value with an IPv4 address.
const IPV4_LENGTH: usize = 8;
/// Length of a value with an IPv6 address.
const IPV6_LENGTH: usize = 20;

/// Reads an address as it stands.
///
/// # Errors
///
/// [`Problem::Family`] or [`Problem::Length`].
#[inline]
pub fn decode(value: &[u8]) -> Result<SocketAddr, Problem> {
    decode_masked(value, 0)
}

/// Reads an address in the XOR form.
///
/// # Errors
///
/// [`Problem::Family`] or [`Problem::Length`].
#[inline]
pub fn decode_xor(value: &[u8], transaction_id: TransactionId) -> Result<SocketAddr, Problem> {
    decode_masked(value, mask(transaction_id))
}

/// Length of the value with this address: 8 or 20 bytes.
pub fn encoded_len(address: SocketAddr) -> usize {
    match address {
        SocketAddr::V4(_) => IPV4_LENGTH,
        SocketAddr::V6(_) => IPV6_LENGTH,
    }
}

/// Writes an address as it is into a `value` of [`encoded_len`] bytes. Scope and flow of IPv6 are not carried.
///
/// # Panics
///
/// If `value` has another length.
pub fn encode(address: SocketAddr, value: &mut [u8]) {
    encode_masked(address, value, 0);
}

/// Writes an address in the XOR form into a `value` of [`encoded_len`] bytes.
///
/// # Panics
///
/// If `value` has another length.
pub fn encode_xor(address: SocketAddr, value: &mut [u8], transaction_id: TransactionId) {
    encode_masked(address, value, mask(transaction_id));
}

/// The cookie and the transaction id, what an IPv6 address is combined with; an IPv4 address takes the upper
/// 32 bits of it, a port the upper 16.
#[inline]
fn mask(transaction_id: TransactionId) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE);
    mask[4..].copy_from_slice(transaction_id.as_bytes());
    u128::from_be_bytes(mask)
}

#[inline]
fn decode_masked(value: &[u8], mask: u128) -> Result<SocketAddr, Problem> {
    let Some((&[_, family, high, low], address)) = value.split_first_chunk() else {
        return Err(Problem::Length(value.len()));
    };
    let port = u16::from_be_bytes([high, low]) ^ (mask >> 112) as u16;
    match (family, <[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        (FAMILY_IPV4, Ok(bytes), _) => {
            let bits = u32::from_be_bytes(bytes) ^ (mask >> 96) as u32;
            Ok((Ipv4Addr::from_bits(bits), port).into())
        }
        (FAMILY_IPV6, _, Ok(bytes)) => {
            let bits = u128::from_be_bytes(bytes) ^ mask;
            Ok((Ipv6Addr::from_bits(bits), port).into())
        }
        (FAMILY_IPV4 | FAMILY_IPV6, _, _) => Err(Problem::Length(value.len())),
        _ => Err(Problem::Family(family)),
    }
}

fn encode_masked(address: SocketAddr, value: &mut [u8], mask: u128) {
    let port = (address.port() ^ (mask >> 112) as u16).to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => {
            value[..4].copy_from_slice(&[0, FAMILY_IPV4, port[0], port[1]]);
            value[4..].copy_from_slice(&(ip.to_bits() ^ (mask >> 96) as u32).to_be_bytes());
        }
        IpAddr::V6(ip) => {
            value[..4].copy_from_slice(&[0, FAMILY_IPV6, port[0], port[1]]);
            value[4..].copy_from_slice(&(ip.to_bits() ^ mask).to_be_bytes());
        }
    }
}

/// Defines an attribute that is one address.
macro_rules! address_attribute {
    ($(#[$doc:meta])* $name:ident, $constant:ident, plain) => {
        address_attribute!(@ $(#[$doc])* $name, $constant,
            |value, _| crate::attribute::address::decode(value),
            |address, value, _| crate::attribute::address::encode(address, value));
    };
    ($(#[$doc:meta])* $name:ident, $constant:ident, xor) => {
        address_attribute!(@ $(#[$doc])* $name, $constant,
            |value, id| crate::attribute::address::decode_xor(value, id),
            |address, value, id| crate::attribute::address::encode_xor(address, value, id));
    };
    (@ $(#[$doc:meta])* $name:ident, $constant:ident,
        |$dv:ident, $di:pat_param| $decode:expr, |$ea:ident, $ev:ident, $ei:pat_param| $encode:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub std::net::SocketAddr);

        impl crate::Attribute<'_> for $name {
            const TYPE: crate::AttributeType = crate::AttributeType::$constant;

            #[inline]
            fn decode(
                $dv: &[u8],
                $di: crate::TransactionId,
            ) -> Result<Self, crate::AttributeError> {
                $decode.map(Self).map_err(|problem| Self::TYPE.error(problem))
            }

            fn encoded_len(&self) -> usize {
                crate::attribute::address::encoded_len(self.0)
            }

            fn encode(&self, $ev: &mut [u8], $ei: crate::TransactionId) {
                let $ea = self.0;
                $encode;
            }
        }
    };
}
pub(super) use address_attribute;
