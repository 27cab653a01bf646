//! The three check values that end a message: MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256, FINGERPRINT.
//!
//! Each covers everything before it, with the header's length field set as if the check value were the end of
//! the message (RFC 8489, sections 14.5 to 14.7). The HMACs prove who sent a message; FINGERPRINT only tells
//! STUN from other protocols on one port and proves nothing.

use crate::message::padded;
use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;

/// Length of MESSAGE-INTEGRITY's value (RFC 8489, section 14.5).
pub(crate) const SHA1_LENGTH: usize = 20;
/// Length of an untruncated MESSAGE-INTEGRITY-SHA256 (RFC 8489, section 14.6).
pub(crate) const SHA256_LENGTH: usize = 32;
/// The shortest that MESSAGE-INTEGRITY-SHA256 may be truncated to (RFC 8489, section 14.6).
const SHA256_MIN_LENGTH: usize = 16;
/// Length of FINGERPRINT's value (RFC 8489, section 14.7).
pub(crate) const FINGERPRINT_LENGTH: usize = 4;
/// What FINGERPRINT's CRC-32 is combined with, so that it differs from a protocol's own CRC ("STUN").
const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// The secret behind an integrity attribute, ready to sign and to verify.
///
/// Making one costs four hash blocks; keep it for as long as the credential lives. It does not hold the password.
#[derive(Clone)]
pub struct Key {
    sha1: Hmac<Sha1>,
    sha256: Hmac<Sha256>,
}

impl Key {
    /// The key of the short-term credential mechanism: the password itself (RFC 8489, section 9.1.1).
    pub fn short_term(password: &[u8]) -> Self {
        let sha1 = Hmac::new_from_slice(password);
        let sha256 = Hmac::new_from_slice(password);
        let (Ok(sha1), Ok(sha256)) = (sha1, sha256) else {
            unreachable!("HMAC takes keys of any length (RFC 2104, section 2)");
        };
        Self { sha1, sha256 }
    }

    /// The long-term key by MD5(username ":" realm ":" password) (RFC 8489, section 18.5.1.1).
    pub fn long_term_md5(username: &str, realm: &str, password: &str) -> Self {
        Self::short_term(&digest::<Md5>(&[username, realm, password]))
    }

    /// The long-term key by SHA-256(username ":" realm ":" password) (RFC 8489, section 18.5.1.2).
    pub fn long_term_sha256(username: &str, realm: &str, password: &str) -> Self {
        Self::short_term(&digest::<Sha256>(&[username, realm, password]))
    }

    /// The HMAC-SHA1 over `covered`, which ends where the attribute of `value_length` bytes starts.
    pub(crate) fn sha1(&self, covered: &[u8], value_length: usize) -> [u8; SHA1_LENGTH] {
        mac(self.sha1.clone(), covered, value_length).into()
    }

    /// The HMAC-SHA256 over `covered`, which ends where the attribute of `value_length` bytes starts.
    pub(crate) fn sha256(&self, covered: &[u8], value_length: usize) -> [u8; SHA256_LENGTH] {
        mac(self.sha256.clone(), covered, value_length).into()
    }

    /// The HMAC-SHA256 over bytes that are no message.
    pub(crate) fn mac_of(&self, bytes: &[u8]) -> [u8; SHA256_LENGTH] {
        let mut mac = self.sha256.clone();
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    /// Whether `value` is the MESSAGE-INTEGRITY of `covered`, in constant time.
    pub(crate) fn verifies_sha1(&self, covered: &[u8], value: &[u8]) -> bool {
        value.len() == SHA1_LENGTH && bool::from(self.sha1(covered, value.len()).ct_eq(value))
    }

    /// Whether `value` is the possibly truncated MESSAGE-INTEGRITY-SHA256 of `covered`, in constant time.
    pub(crate) fn verifies_sha256(&self, covered: &[u8], value: &[u8]) -> bool {
        let length = value.len();
        (SHA256_MIN_LENGTH..=SHA256_LENGTH).contains(&length)
            && length.is_multiple_of(4)
            && bool::from(self.sha256(covered, length)[..length].ct_eq(value))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The digest of `parts` joined by colons.
pub(crate) fn digest<D: Digest>(parts: &[&str]) -> md5::digest::Output<D> {
    let mut digest = D::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            digest.update(b":");
        }
        digest.update(part.as_bytes());
    }
    digest.finalize()
}

fn mac<M: Mac>(mut mac: M, covered: &[u8], value_length: usize) -> md5::digest::Output<M> {
    let (head, length, rest) = stated_length(covered, value_length);
    mac.update(head);
    mac.update(&length);
    mac.update(rest);
    mac.finalize().into_bytes()
}

/// FINGERPRINT's value for the `covered` bytes before it.
///
/// The length field is already the one it must cover, since FINGERPRINT is always the last attribute: the view
/// refuses messages where it is not, and the writer has counted it in. One pass over one slice is what makes this cheap.
pub(crate) fn fingerprint(covered: &[u8]) -> [u8; FINGERPRINT_LENGTH] {
    (crc32fast::hash(covered) ^ FINGERPRINT_XOR).to_be_bytes()
}

/// Whether `value` is the FINGERPRINT of `covered`.
pub(crate) fn fingerprint_matches(covered: &[u8], value: &[u8]) -> bool {
    <&[u8; FINGERPRINT_LENGTH]>::try_from(value).is_ok_and(|value| *value == fingerprint(covered))
}

/// `covered` in three pieces, with the length field replaced by the one that ends the message with the check value.
fn stated_length(covered: &[u8], value_length: usize) -> (&[u8], [u8; 2], &[u8]) {
    let (head, rest) = covered.split_at(2);
    let body = covered.len() - crate::message::HEADER_LENGTH + 4 + padded(value_length);
    // `covered` lies in a message whose own length fits, so nothing is cut off here.
    (head, (body as u16).to_be_bytes(), &rest[2..])
}
