//! Key pairs, and how they are written down.

use std::fmt;
use std::str::FromStr;

use curve25519_dalek::edwards::CompressedEdwardsY;
use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};

/// Whose it is: an X25519 public key (RFC 7748), written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// What proves it: an X25519 private key, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey([u8; 32]);

/// Text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a key: write its 64 hexadecimal digits")]
pub struct KeyError {
    /// What stood there.
    pub value: String,
}

impl PublicKey {
    /// The key of whoever signs with this Ed25519 key (RFC 8032): the same point on the other form of
    /// the curve (RFC 7748 section 4.1). `None` if it is no point, or one that anybody could sign
    /// for.
    pub fn of_signer(signer: &[u8; 32]) -> Option<Self> {
        let point = CompressedEdwardsY(*signer).decompress()?;
        (!point.is_small_order()).then(|| Self(point.to_montgomery().to_bytes()))
    }

    /// The first eight bytes, by which an owner of several keys finds the one that is meant.
    pub fn hint(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse_hex(text).map(Self).ok_or_else(|| KeyError { value: text.into() })
    }
}

impl SecretKey {
    /// The key with these bytes; any 32 are one (RFC 7748 section 5).
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored where nobody else reads.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The half that may be known.
    pub fn public(&self) -> PublicKey {
        let Some(mut curve) = DefaultResolver.resolve_dh(&DHChoice::Curve25519) else {
            unreachable!("snow is built with Curve25519")
        };
        curve.set(&self.0);
        match curve.pubkey().try_into() {
            Ok(bytes) => PublicKey(bytes),
            Err(_) => unreachable!("a key of Curve25519 is 32 bytes"),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// 32 bytes from 64 hexadecimal digits.
pub(crate) fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let digit =
        |at: usize| char::from(digits[at]).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(2 * place)? << 4 | digit(2 * place + 1)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_half_belongs_to_the_private_one_as_in_the_vectors_of_cacophony() {
        let secret = "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893";
        let public = "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62";
        let secret = SecretKey::from_bytes(parse_hex(secret).unwrap());
        assert_eq!(secret.public().to_string(), public);
        assert_eq!(public.parse(), Ok(secret.public()));
    }

    /// RFC 8032 section 7.1, test 1; the scalar is the first half of the SHA-512 of the private key.
    #[test]
    fn who_signs_with_a_key_shakes_hands_with_it_too() {
        use sha2::Digest;
        let private = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let scalar = sha2::Sha512::digest(parse_hex(private).unwrap());
        let secret = SecretKey::from_bytes(scalar[..32].try_into().unwrap());
        assert_eq!(PublicKey::of_signer(&parse_hex(public).unwrap()), Some(secret.public()));
        assert_eq!(PublicKey::of_signer(&[0; 32]), None, "a point that anybody could sign for");
    }

    #[test]
    fn text_that_is_no_key_is_refused_and_a_secret_never_shown() {
        let odd = "3".repeat(63);
        let foreign = format!("{}g", "3".repeat(63));
        for text in ["", "31e0", &odd, &foreign, &"é".repeat(32)] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
        assert_eq!(format!("{:?}", SecretKey::from_bytes([7; 32])), "SecretKey(…)");
    }
}
